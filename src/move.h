/*-------------------------------------------------------------------------
 *
 * move.h
 *	  An update that moves a row to another partition.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_MOVE_H
#define WEBHOOK_MOVE_H

#include "commands/trigger.h"

/* Did this DELETE event come from a row's move to another partition of the module? */
extern bool webhook_move_is_departure(Oid module, TriggerData *trigdata);

/* Remember the row that left, until its other half arrives. */
extern void webhook_move_remember(int32 workflow_id, TriggerData *trigdata);

/* Has any row left whose other half may still arrive? */
extern bool webhook_move_is_under_way(void);

/* Is the INSERT event at hand the arrival of a row that was remembered? */
extern bool webhook_move_is_arrival(int32 workflow_id, TriggerData *trigdata);

/*
 * The arrival is over: returns the row that left, in the form of the partition
 * it has come to, and whether the workflow's criteria for updates hold.  NULL:
 * nothing was remembered.
 */
extern HeapTuple webhook_move_take(int32 workflow_id, TriggerData *trigdata,
								   bool *matches);

#endif							/* WEBHOOK_MOVE_H */

/*-------------------------------------------------------------------------
 *
 * queue.h
 *	  The queue as a whole.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_QUEUE_H
#define WEBHOOK_QUEUE_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* The actions (integers) that have something in the queue. */
extern List *webhook_queue_actions(void);

/* When the action's next delivery behind "after" falls due; DT_NOEND: none. */
extern TimestampTz webhook_queue_next_due(int32 action_id, TimestampTz after);

/*
 * Actions that have something to send: calls found for each with the moment
 * at which its first delivery falls due.
 */
typedef void (*WebhookActionFound) (int32 action_id, TimestampTz due, void *arg);
extern void webhook_queue_survey(WebhookActionFound found, void *arg);

/* The clock was turned back: what was due before, but for retries, is due now. */
extern void webhook_queue_turn_back(TimestampTz now, TimestampTz before);

/* An action that is no more: what is still queued for it fails. */
extern void webhook_queue_drop_action(int32 action_id);

/* A receiver is gone for good (410): disable the action; false: it was. */
extern bool webhook_queue_disable_action(int32 action_id);

#endif							/* WEBHOOK_QUEUE_H */

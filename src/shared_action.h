/*-------------------------------------------------------------------------
 *
 * shared_action.h
 *	  Shared memory: what the workers of a database must count together of an
 *	  action.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SHARED_ACTION_H
#define WEBHOOK_SHARED_ACTION_H

#include "datatype/timestamp.h"

/* For shared.c, as it asks for shared memory and finds its own. */
extern void webhook_shared_action_request(void);
extern void webhook_shared_action_attach(void);

/*
 * Permission for one more request of an action, at most "limit" at a time and
 * "rate" a second (0: any) over all of the database's workers.  False: not now,
 * but at *moment, or if that is DT_NOEND when one is given back, which wakes the
 * worker.
 */
extern bool webhook_shared_action_acquire(int32 action_id, int limit, int rate,
										  TimestampTz now, TimestampTz *moment);
extern void webhook_shared_action_release(int32 action_id);

/* Before when none is given for the rate's sake; it may have passed. */
extern TimestampTz webhook_shared_action_moment(int32 action_id, int rate, TimestampTz now);

/* How many requests of an action are under way, over all workers. */
extern int	webhook_shared_action_in_flight(int32 action_id);

/*
 * An action's receiver is failing, or is not; true: that is news, and no
 * other worker has said so.
 */
extern bool webhook_shared_action_set_failing(int32 action_id, bool is_failing);

#endif							/* WEBHOOK_SHARED_ACTION_H */

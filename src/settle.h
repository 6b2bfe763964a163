/*-------------------------------------------------------------------------
 *
 * settle.h
 *	  What has ended, until the log knows it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SETTLE_H
#define WEBHOOK_SETTLE_H

#include "lane.h"

/* A flight that has ended; its result is settled in one of the next turns. */
extern void webhook_settle_add(WebhookFlight *flight);

/*
 * In a turn's transaction: record what has ended.  Returns the flights that
 * are settled once it has committed; webhook_settle_forget is for then.
 */
extern List *webhook_settle_all(void);
extern void webhook_settle_forget(List *settled);

/* The turn has failed: settle one by one. */
extern void webhook_settle_beware(void);

/* Results wait no longer: the next turn takes them all. */
extern void webhook_settle_hurry(void);

/*
 * Is it time to settle?  is_quiet: nothing is under way whose result would
 * be worth waiting for.
 */
extern bool webhook_settle_is_due(TimestampTz now, bool is_quiet);

/* When it is time at the latest; DT_NOEND: nothing waits. */
extern TimestampTz webhook_settle_next(void);

/* Results that are not settled, and those of them that could not be. */
extern int	webhook_settle_count(void);
extern int	webhook_settle_stuck(void);

/* Has the last turn left some, as their bodies were large? */
extern bool webhook_settle_is_behind(void);

/* Are there some that could not be, because of an error? */
extern bool webhook_settle_is_failing(void);

/* Is a delivery one of them? */
extern bool webhook_settle_holds(int64 log_id);

/* Attempts settled since the worker started. */
extern int64 webhook_settle_attempts(void);

#endif							/* WEBHOOK_SETTLE_H */

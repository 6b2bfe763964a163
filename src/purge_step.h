/*-------------------------------------------------------------------------
 *
 * purge_step.h
 *	  Some of what is old in the log is deleted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_PURGE_STEP_H
#define WEBHOOK_PURGE_STEP_H

#include "datatype/timestamp.h"

/* A step of a purge. */
typedef struct WebhookPurgeStep
{
	TimestampTz before;			/* what ended before is old */
	int64		behind;			/* log_ids up to here are done with */
	bool		is_more;		/* there may be more that is old */
	bool		all_gone;		/* of what was passed nothing is left */
	TimestampTz young_at;		/* since then the first one that is not old has
								 * been young; 0: there is none */
} WebhookPurgeStep;

/*
 * Look at up to limit deliveries with a log_id behind step->behind, which moves
 * on, and delete those that ended before step->before, with their attempts.
 */
extern void webhook_purge_step_take(WebhookPurgeStep *step, int limit);

#endif							/* WEBHOOK_PURGE_STEP_H */

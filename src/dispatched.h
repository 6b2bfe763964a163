/*-------------------------------------------------------------------------
 *
 * dispatched.h
 *	  The deliveries that are Dispatched, wherever they lie in the queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_DISPATCHED_H
#define WEBHOOK_DISPATCHED_H

#include "log_row.h"
#include "nodes/pg_list.h"

/* A delivery that is Dispatched. */
typedef struct WebhookDispatched
{
	int64		log_id;
	int			worker;			/* -1: none */
	TimestampTz dispatched_at;	/* DT_NOBEGIN: unknown */
} WebhookDispatched;

/*
 * Look at the next deliveries of an action, up to limit, behind the cursor,
 * which moves on.  Returns a list of WebhookDispatched * in the current memory
 * context.
 */
extern List *webhook_dispatched_look(int32 action_id, WebhookCursor *cursor,
									 int limit, bool *exhausted);

/* The same of deliveries by their log_ids (int64 *). */
extern List *webhook_dispatched_find(List *log_ids);

/*
 * Queue these (WebhookDispatched *) again, but what somebody has locked, or
 * claimed since they were looked at.  Returns a list of WebhookHint * of what was.
 */
extern List *webhook_dispatched_recover(List *dispatched);

#endif							/* WEBHOOK_DISPATCHED_H */

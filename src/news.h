/*-------------------------------------------------------------------------
 *
 * news.h
 *	  What commits tell the workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_NEWS_H
#define WEBHOOK_NEWS_H

#include "datatype/timestamp.h"

/*
 * What a commit told the worker: where new work begins.  WEBHOOK_ANY_ACTION
 * stands for one that nobody knows.
 */
typedef struct WebhookHint
{
	int32		action_id;
	TimestampTz retry_at;
} WebhookHint;

#define WEBHOOK_MAX_HINTS 64
#define WEBHOOK_ANY_ACTION 0

typedef struct WebhookNews
{
	bool		rescan;			/* look at everything anew: configuration, log */
	int			n_hints;
	WebhookHint hints[WEBHOOK_MAX_HINTS];
} WebhookNews;

/* ---- sessions ---- */

/* Add a hint to the news; where there is no room for it, of any action. */
extern void webhook_news_add_hint(WebhookNews *news, int32 action_id,
								  TimestampTz retry_at);

/* Wake a database's workers and tell them. */
extern void webhook_news_tell(Oid database, const WebhookNews *news);

/* Let them look at everything anew. */
extern void webhook_news_rescan(Oid database);

/* ---- worker ---- */

/* Have commits told something since it was last taken? */
extern bool webhook_news_is_told(void);

/* Take what commits have told; true: look at everything anew. */
extern bool webhook_news_take(WebhookHint *hints, int *n);

/* Wake the database's workers but this one. */
extern void webhook_news_wake_others(void);

#endif							/* WEBHOOK_NEWS_H */

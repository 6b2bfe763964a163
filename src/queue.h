/*-------------------------------------------------------------------------
 *
 * queue.h
 *	  All SQL of the worker on webhook_log and webhook_attempt.
 *
 * Everything here runs in a worker's transaction, with the rights of the
 * bootstrap superuser, and knows nothing of HTTP.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_QUEUE_H
#define WEBHOOK_QUEUE_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "shared.h"
#include "storage/itemptr.h"
#include "utils/jsonb.h"

/* Where the last claim of an action ended. */
typedef struct WebhookCursor
{
	TimestampTz retry_at;
	int64		log_id;
} WebhookCursor;

/* A claimed delivery. */
typedef struct WebhookDelivery
{
	int64		log_id;
	int32		action_id;
	bool		ordered;
	char	   *webhook_id;
	char	   *operation;
	char	   *record_id;
	Jsonb	   *record;
	Jsonb	   *old_record;
	Jsonb	   *computed;
	int			attempts;		/* made before */
	int			retries;		/* steps of the retry schedule used */
	TimestampTz queued_at;
	TransactionId writer;		/* of the row as it was claimed */
	ItemPointerData tid;		/* of the row since */
} WebhookDelivery;

/* What became of a delivery. */
typedef enum WebhookVerdict
{
	WEBHOOK_SUCCEEDED,
	WEBHOOK_FAILED,				/* after a request; retry_at tells */
	WEBHOOK_UNSENDABLE,			/* no request could be made of it: failed */
	WEBHOOK_RELEASED			/* not tried: queued again, at retry_at */
} WebhookVerdict;

typedef struct WebhookResult
{
	WebhookVerdict verdict;
	int64		log_id;
	ItemPointerData tid;		/* where its row was when it was claimed */
	int32		action_id;
	bool		ordered;
	char	   *record_id;
	int			attempts;		/* including this one */
	int			resent;			/* of them, those before it on a kept connection
								 * that ended without an answer */
	int			retries;
	TimestampTz retry_at;		/* 0: never again */
	TimestampTz started_at;
	int64		duration;		/* microseconds */
	int			http_status;	/* 0: none */
	char	   *error;			/* server's encoding, as the two below */
	char	   *request_body;
	char	   *response_body;
} WebhookResult;

/* A row of webhook_attempt. */
typedef struct WebhookAttempt
{
	int64		log_id;
	int			attempt;
	TimestampTz started_at;
	int64		duration;		/* microseconds */
	int			http_status;	/* 0: none */
	const char *error;
	const char *request_body;
	const char *response_body;
} WebhookAttempt;

/* A purge waits so long for what is old to end, and passes it then. */
#define WEBHOOK_PURGE_PATIENCE_US (60 * USECS_PER_SEC)

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
 * Claim up to limit due deliveries of an action, in order, from behind the
 * cursor, which moves on.  They are Dispatched once the transaction commits.
 * Returns a list of WebhookDelivery * in the current memory context.
 * *exhausted tells that nothing more is due behind the cursor.
 */
extern List *webhook_queue_claim(int32 action_id, bool ordered, int worker,
								 WebhookCursor *cursor, TimestampTz now,
								 int limit, bool *exhausted);

/* Claim single deliveries of an ordered action, where they may go now. */
extern List *webhook_queue_claim_successors(List *log_ids, int worker,
											TimestampTz now);

/*
 * Record results (WebhookResult *) with their attempt rows.  "by_statement" is
 * the slower way, which takes rows as they come: an attempt that is there
 * already stays.  Returns the log_ids (int64 *) of what may follow in ordered
 * actions.
 */
extern List *webhook_queue_settle(List *results, bool by_statement);

/*
 * Record a single result without waiting for a lock on its row; false: the
 * row is locked by somebody.
 */
extern bool webhook_queue_try_lock(int64 log_id);

/* A delivery that is Dispatched. */
typedef struct WebhookDispatched
{
	int64		log_id;
	int			worker;			/* -1: none */
} WebhookDispatched;

/* The actions (integers) that have something in the queue. */
extern List *webhook_queue_actions(void);

/*
 * Look at the next deliveries of an action, up to limit, behind the cursor,
 * which moves on.  Returns a list of WebhookDispatched * in the current memory
 * context.
 */
extern List *webhook_queue_look(int32 action_id, WebhookCursor *cursor,
								int limit, bool *exhausted);

/* The same of deliveries by their log_ids (int64 *). */
extern List *webhook_queue_find_dispatched(List *log_ids);

/*
 * Queue again what is Dispatched of these (int64 *), but what somebody has
 * locked.  Returns a list of WebhookHint * of what was.
 */
extern List *webhook_queue_recover(List *log_ids);

/* When the action's next delivery behind "after" falls due; 0: none. */
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

/*
 * Look at up to limit deliveries with a log_id behind step->behind, which moves
 * on, and delete those that ended before step->before, with their attempts.
 */
extern void webhook_queue_purge(WebhookPurgeStep *step, int limit);

#endif							/* WEBHOOK_QUEUE_H */

/*-------------------------------------------------------------------------
 *
 * log_table.h
 *	  Rows of webhook_log and webhook_attempt written without a statement.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LOG_TABLE_H
#define WEBHOOK_LOG_TABLE_H

#include "queue.h"
#include "utils/relcache.h"

/* Columns of webhook.webhook_log, counted from zero. */
enum
{
	LOG_LOG_ID,
	LOG_WEBHOOK_ID,
	LOG_WORKFLOW_ID,
	LOG_ACTION_ID,
	LOG_MODULE,
	LOG_OPERATION,
	LOG_RECORD_ID,
	LOG_RECORD,
	LOG_OLD_RECORD,
	LOG_COMPUTED,
	LOG_STATUS,
	LOG_ATTEMPTS,
	LOG_RETRY_AT,
	LOG_QUEUED_AT,
	LOG_DISPATCHED_AT,
	LOG_COMPLETED_AT,
	LOG_HTTP_STATUS,
	LOG_ERROR,
	LOG_OWNER,
	LOG_ORDERED,
	LOG_RETRIES,
	LOG_INTERRUPTED,
	LOG_WORKER,
	LOG_NATTS
};

/* OID of a label of webhook.status. */
extern Oid	webhook_log_status(const char *label);

/*
 * Claim as webhook_queue_claim does, for an action that is not ordered.  False:
 * it takes a statement, because of what has been done to the table.
 */
extern bool webhook_log_claim(int32 action_id, int worker, WebhookCursor *cursor,
							  TimestampTz now, int limit, List **claimed,
							  bool *exhausted);

/*
 * Record what became of deliveries.  Returns those of the results for which it
 * takes a statement, because the row has been changed since it was claimed, or
 * the table is not as it was made.
 */
extern List *webhook_log_settle(List *results);

/*
 * Store attempts.  False, and nothing is stored: it takes a statement.  Raises
 * ERRCODE_UNIQUE_VIOLATION if one is there already.
 */
extern bool webhook_log_add_attempts(const WebhookAttempt *attempts, int n);

#endif							/* WEBHOOK_LOG_TABLE_H */

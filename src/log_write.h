/*-------------------------------------------------------------------------
 *
 * log_write.h
 *	  Deliveries claimed and settled, and attempts stored, without a statement.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LOG_WRITE_H
#define WEBHOOK_LOG_WRITE_H

#include "log_row.h"
#include "nodes/pg_list.h"

/*
 * Claim as webhook_claim_due does, for an action that is not ordered.  False:
 * it takes a statement, because of what has been done to the table.
 */
extern bool webhook_log_claim(int32 action_id, WebhookCursor *cursor,
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

#endif							/* WEBHOOK_LOG_WRITE_H */

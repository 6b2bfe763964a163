/*-------------------------------------------------------------------------
 *
 * claim.h
 *	  Due deliveries are claimed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_CLAIM_H
#define WEBHOOK_CLAIM_H

#include "log_row.h"
#include "nodes/pg_list.h"

/*
 * SQL: no unfinished delivery of the same record comes before q.  It is looked
 * for from here backwards: where many wait for one that is under way, the next
 * one tells, while from the first one on all that have ended are walked over as
 * long as somebody holds a snapshot.
 */
#define WEBHOOK_IS_FIRST_OF_RECORD(criterion) \
	" (NOT q.ordered OR (SELECT p.log_id FROM webhook.webhook_log p" \
	" WHERE p.ordered AND p.retry_at IS NOT NULL" \
	" AND p.action_id = q.action_id AND p.record_id = q.record_id" \
	" AND p.log_id < q.log_id" criterion \
	" ORDER BY p.log_id DESC LIMIT 1) IS NULL)"

/*
 * Claim up to limit due deliveries of an action, in order, from behind the
 * cursor, which moves on.  They are Dispatched once the transaction commits.
 * Returns a list of WebhookDelivery * in the current memory context.
 * *exhausted tells that nothing more is due behind the cursor.
 */
extern List *webhook_claim_due(int32 action_id, bool ordered,
							   WebhookCursor *cursor, TimestampTz now,
							   int limit, bool *exhausted);

/* Claim those (WebhookSuccessor *) that may go now. */
extern List *webhook_claim_successors(List *successors, TimestampTz now);

#endif							/* WEBHOOK_CLAIM_H */

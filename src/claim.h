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

/*-------------------------------------------------------------------------
 *
 * recompute.h
 *	  Related and computed values that a delivery in the log lacks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RECOMPUTE_H
#define WEBHOOK_RECOMPUTE_H

#include "compat.h"

/* A delivery l lacks something that its action a asks for. */
#define WEBHOOK_LACKS_VALUES \
	"(a.computed IS NOT NULL AND NOT coalesce(l.computed, '{}') ?&" \
	" ARRAY(SELECT jsonb_object_keys(a.computed)))"

/*
 * The deliveries l that retry_failed is about, of a range of log_ids: $1 is
 * action_id, $2 since, both perhaps NULL, $3 the caller, to whom the policy on the
 * log shows the same rows, $4 and $5 the range.
 */
#define WEBHOOK_IS_RETRIED \
	"(l.status = 'Failed' AND ($1 IS NULL OR l.action_id = $1)" \
	" AND ($2 IS NULL OR coalesce(l.completed_at, l.dispatched_at, l.queued_at) >= $2)" \
	" AND l.error IS DISTINCT FROM 'canceled'" \
	" AND " WEBHOOK_MAY_ACT_AS("$3", "l.owner::oid") \
	" AND l.record IS NOT NULL AND l.log_id BETWEEN $4 AND $5)"
#define WEBHOOK_N_RETRIED 5

/*
 * Compute what a delivery lacks, from the logged record, with the rights of
 * the workflow's owner, and store it.  Raises ERRCODE_DATA_EXCEPTION where one
 * fails.  Needs the rights of the extension's owner.
 */
extern void webhook_recompute_one(int64 log_id);

/* Does any action ask for such values (action_id 0), or this one? */
extern bool webhook_recompute_is_wanted(int32 action_id);

/*
 * The same as webhook_recompute_one for those that WEBHOOK_IS_RETRIED, with its
 * parameters.  Where it fails, the reason becomes the delivery's.
 */
extern void webhook_recompute_failed(Oid *types, const Datum *values,
									 const char *nulls);

#endif							/* WEBHOOK_RECOMPUTE_H */

/*-------------------------------------------------------------------------
 *
 * recompute.h
 *	  Related and computed values that a delivery in the log lacks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RECOMPUTE_H
#define WEBHOOK_RECOMPUTE_H

#include "datatype/timestamp.h"

/* A delivery l lacks something that its action a asks for. */
#define WEBHOOK_LACKS_VALUES \
	"(a.computed IS NOT NULL AND NOT coalesce(l.computed, '{}') ?&" \
	" ARRAY(SELECT jsonb_object_keys(a.computed)))"

/*
 * Compute what a delivery lacks, from the logged record, with the rights of
 * the workflow's owner, and store it.  Raises ERRCODE_DATA_EXCEPTION where one
 * fails.  Needs the rights of the extension's owner.
 */
extern void webhook_recompute_one(int64 log_id);

/* Does any action ask for such values (action_id 0), or this one? */
extern bool webhook_recompute_is_wanted(int32 action_id);

/*
 * The same as webhook_recompute_one for the Failed deliveries from one log_id
 * to another that retry_failed is about; action_id 0 and since 0: no limit.
 * Where it fails, the reason becomes the delivery's.
 */
extern void webhook_recompute_failed(int32 action_id, TimestampTz since, Oid role,
									 int64 from, int64 to);

#endif							/* WEBHOOK_RECOMPUTE_H */

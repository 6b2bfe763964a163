/*-------------------------------------------------------------------------
 *
 * result.h
 *	  What became of deliveries is written down in the log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RESULT_H
#define WEBHOOK_RESULT_H

#include "log_row.h"
#include "nodes/pg_list.h"

/*
 * Record results (WebhookResult *) with their attempt rows.  "by_statement" is
 * the slower way, which takes rows as they come: an attempt that is there
 * already stays.  Returns what may follow in ordered actions (WebhookSuccessor *).
 */
extern List *webhook_result_record(List *results, bool by_statement);

/*
 * Lock a delivery's row without waiting; false: somebody has.  One that is gone
 * keeps nobody waiting.
 */
extern bool webhook_result_try_lock(int64 log_id);

#endif							/* WEBHOOK_RESULT_H */

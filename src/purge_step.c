/*-------------------------------------------------------------------------
 *
 * purge_step.c
 *	  Some of what is old in the log is deleted.
 *
 * Attempts go with their deliveries, and so do those whose delivery somebody
 * has deleted by hand.  A row that somebody has locked stays until the next
 * time: nobody is waited for.
 *
 * It takes statements only where log_table.c says so.
 *
 * Runs in the first worker of a database.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "log_table.h"
#include "miscadmin.h"
#include "purge_step.h"
#include "statement.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* What is old but not ended is waited for so long, and passed then. */
#define PATIENCE_US (60 * USECS_PER_SEC)

/* A delivery that was looked at. */
typedef struct Passed
{
	int64		log_id;
	bool		is_gone;		/* now */
} Passed;

/* ---------------------------------------------------------------------
 * Without a statement
 * ---------------------------------------------------------------------
 */

static Relation
find_primary_key(const WebhookLogTarget *target, int n)
{
	static const AttrNumber columns[] = {1, 2};

	for (int i = 0; i < target->rri->ri_NumIndices; i++)
	{
		Relation	index = target->rri->ri_IndexRelationDescs[i];

		if (index->rd_index->indisprimary &&
			webhook_log_is_index(index, target->rel, columns, n))
			return index;
	}
	return NULL;
}

/* Rows of a table with a log_id behind one, up to another, in order. */
static IndexScanDesc
begin_scan(const WebhookLogTarget *target, Relation index, int64 behind,
		   int64 last)
{
	ScanKeyData keys[2];
	IndexScanDesc scan;

	ScanKeyInit(&keys[0], 1, BTGreaterStrategyNumber, F_INT8GT,
				Int64GetDatum(behind));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE,
				Int64GetDatum(last));
	scan = webhook_index_beginscan(target->rel, index, GetActiveSnapshot(),
								   lengthof(keys));
	index_rescan(scan, keys, lengthof(keys), NULL, 0);
	return scan;
}

/* False: somebody has locked or changed it. */
static bool
delete_row(const WebhookLogTarget *target)
{
	TM_FailureData failure;

	return table_tuple_delete(target->rel, &target->slot->tts_tid,
							  GetCurrentCommandId(true), GetActiveSnapshot(),
							  InvalidSnapshot, false, &failure,
							  false) == TM_Ok;
}

/*
 * Since when a delivery has been young; 0: it is not.  What is old by the moment
 * at which it was queued, but only just, and ends in these very moments, is
 * waited for: to pass it would be to come back for it.
 */
static TimestampTz
find_young_at(TimestampTz before, TimestampTz queued_at, TimestampTz ended_at)
{
	if (queued_at >= before)
		return queued_at;
	if (queued_at < before - PATIENCE_US || ended_at < before)
		return 0;
	return ended_at == PG_INT64_MAX ? before : ended_at;
}

/*
 * Delete what of the log is old.  Returns how many there were, and in passed
 * all that were looked at, in the order of log_id.
 */
static int
delete_deliveries(WebhookLogTarget *log, Relation index, WebhookPurgeStep *step,
				  int limit, Passed *passed, int *n_passed)
{
	IndexScanDesc scan = begin_scan(log, index, step->behind, PG_INT64_MAX);
	int			n_gone = 0;
	int			n = 0;

	while (n < limit &&
		   index_getnext_slot(scan, ForwardScanDirection, log->slot))
	{
		Datum	   *values = log->slot->tts_values;
		bool	   *nulls = log->slot->tts_isnull;
		int64		log_id;
		TimestampTz ended_at;

		CHECK_FOR_INTERRUPTS();
		slot_getsomeattrs(log->slot, LOG_COMPLETED_AT + 1);
		log_id = DatumGetInt64(values[LOG_LOG_ID]);
		ended_at = nulls[LOG_RETRY_AT] && !nulls[LOG_COMPLETED_AT] ?
			DatumGetTimestampTz(values[LOG_COMPLETED_AT]) : PG_INT64_MAX;
		step->young_at = find_young_at(step->before,
									   DatumGetTimestampTz(values[LOG_QUEUED_AT]),
									   ended_at);
		if (step->young_at != 0)
		{
			/* In the order of log_id: behind the first young one all are. */
			step->behind = Max(step->behind, log_id - 1);
			break;
		}
		passed[n].log_id = step->behind = log_id;
		passed[n].is_gone = ended_at < step->before && delete_row(log);
		if (passed[n++].is_gone)
			n_gone++;
	}
	index_endscan(scan);
	step->is_more = n == limit;
	step->all_gone = n_gone == n;
	*n_passed = n;
	return n_gone;
}

/* Delete the attempts of what is gone, and old ones of what was so before. */
static void
delete_attempts(WebhookLogTarget *attempts, Relation index, int64 behind,
				int64 last, TimestampTz before, const Passed *passed,
				int n_passed)
{
	IndexScanDesc scan = begin_scan(attempts, index, behind, last);
	int			i = 0;

	while (index_getnext_slot(scan, ForwardScanDirection, attempts->slot))
	{
		Datum	   *values = attempts->slot->tts_values;
		int64		log_id;

		CHECK_FOR_INTERRUPTS();
		slot_getsomeattrs(attempts->slot, ATTEMPT_STARTED_AT + 1);
		log_id = DatumGetInt64(values[ATTEMPT_LOG_ID]);
		while (i < n_passed && passed[i].log_id < log_id)
			i++;
		if (i < n_passed && passed[i].log_id == log_id ? passed[i].is_gone :
			DatumGetTimestampTz(values[ATTEMPT_STARTED_AT]) < before)
			(void) delete_row(attempts);
	}
	index_endscan(scan);
}

/* False, and nothing is done: it takes statements. */
static bool
delete_directly(WebhookPurgeStep *step, int limit)
{
	WebhookLogTarget log;
	WebhookLogTarget attempts;
	Relation	log_key;
	Relation	attempts_key;
	bool		is_direct;

	if (!webhook_log_open(&log, webhook_catalog_relation(WEBHOOK_REL_LOG),
						  LOG_NATTS, CMD_DELETE))
		return false;
	if (!webhook_log_open(&attempts, webhook_catalog_relation(WEBHOOK_REL_ATTEMPT),
						  ATTEMPT_NATTS, CMD_DELETE))
	{
		webhook_log_close(&log);
		return false;
	}
	log_key = find_primary_key(&log, 1);
	attempts_key = find_primary_key(&attempts, 2);
	is_direct = log_key != NULL && attempts_key != NULL;
	if (is_direct)
	{
		int64		behind = step->behind;
		Passed	   *passed = palloc(limit * sizeof(Passed));
		int			n_passed;

		PushCopiedSnapshot(GetActiveSnapshot());
		UpdateActiveSnapshotCommandId();
		if (delete_deliveries(&log, log_key, step, limit, passed, &n_passed) > 0)
			delete_attempts(&attempts, attempts_key, behind, step->behind,
							step->before, passed, n_passed);
		PopActiveSnapshot();
	}
	webhook_log_close(&attempts);
	webhook_log_close(&log);
	return is_direct;
}

/* ---------------------------------------------------------------------
 * By statement
 * ---------------------------------------------------------------------
 */

static const char *const look_sql =
	"SELECT log_id, CASE WHEN queued_at >= $1 THEN queued_at"
	" WHEN queued_at < $2 THEN NULL WHEN retry_at IS NOT NULL THEN $1"
	" WHEN completed_at >= $1 THEN completed_at END,"
	" retry_at IS NULL AND completed_at < $1 FROM webhook.webhook_log"
	" WHERE log_id > $3 ORDER BY log_id LIMIT $4";

/* What somebody has locked stays until the next time: nobody is waited for. */
static const char *const delete_sql =
	"DELETE FROM webhook.webhook_log l USING (SELECT q.log_id"
	" FROM webhook.webhook_log q WHERE q.log_id = ANY ($1) AND q.retry_at IS NULL"
	" FOR UPDATE SKIP LOCKED) old WHERE l.log_id = old.log_id"
	" RETURNING l.log_id";

/* Of what is gone now, and of what somebody has deleted by hand. */
static const char *const delete_attempts_sql =
	"DELETE FROM webhook.webhook_attempt t USING (SELECT q.log_id, q.attempt"
	" FROM webhook.webhook_attempt q WHERE q.log_id > $1 AND q.log_id <= $2"
	" AND (q.log_id = ANY ($3) OR (q.started_at < $4 AND NOT EXISTS ("
	" SELECT FROM webhook.webhook_log l WHERE l.log_id = q.log_id)))"
	" FOR UPDATE SKIP LOCKED) old"
	" WHERE t.log_id = old.log_id AND t.attempt = old.attempt";

static void
delete_by_statement(WebhookPurgeStep *step, int limit)
{
	static SPIPlanPtr look_plan = NULL;
	static SPIPlanPtr purge_plan = NULL;
	static SPIPlanPtr attempts_plan = NULL;
	Oid			look_types[4] = {TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID};
	Oid			delete_types[1] = {INT8ARRAYOID};
	Oid			attempts_types[4] = {INT8OID, INT8OID, INT8ARRAYOID, TIMESTAMPTZOID};
	Datum		values[4];
	int64		behind = step->behind;
	Datum	   *log_ids = palloc(limit * sizeof(Datum));
	int			n_old = 0;
	int			n_passed = 0;
	int			n_gone = 0;
	bool		isnull;

	values[0] = TimestampTzGetDatum(step->before);
	values[1] = TimestampTzGetDatum(step->before - PATIENCE_US);
	values[2] = Int64GetDatum(step->behind);
	values[3] = Int64GetDatum(limit);
	SPI_connect();
	webhook_statement_run(&look_plan, look_sql, 4, look_types, values, NULL);

	/* In the order of log_id: behind the first young one all are young. */
	step->is_more = SPI_processed == limit;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum		log_id = webhook_statement_value(i, 1, &isnull);
		Datum		is_old = webhook_statement_value(i, 3, &isnull);
		Datum		young_at = webhook_statement_value(i, 2, &isnull);

		if (!isnull)
		{
			step->is_more = false;
			step->young_at = DatumGetTimestampTz(young_at);
			step->behind = Max(step->behind, DatumGetInt64(log_id) - 1);
			break;
		}
		if (DatumGetBool(is_old))
			log_ids[n_old++] = log_id;
		step->behind = DatumGetInt64(log_id);
		n_passed++;
	}
	if (n_old > 0)
	{
		values[0] = webhook_statement_array(log_ids, NULL, n_old, INT8OID);
		webhook_statement_run(&purge_plan, delete_sql, 1, delete_types, values, NULL);
		n_gone = SPI_processed;
		for (int i = 0; i < n_gone; i++)
			log_ids[i] = webhook_statement_value(i, 1, &isnull);
	}
	if (n_gone > 0)
	{
		values[0] = Int64GetDatum(behind);
		values[1] = Int64GetDatum(step->behind);
		values[2] = webhook_statement_array(log_ids, NULL, n_gone, INT8OID);
		values[3] = TimestampTzGetDatum(step->before);
		webhook_statement_run(&attempts_plan, delete_attempts_sql, 4,
							  attempts_types, values, NULL);
	}
	SPI_finish();
	step->all_gone = n_gone == n_passed;
}

void
webhook_purge_step_take(WebhookPurgeStep *step, int limit)
{
	if (!delete_directly(step, limit))
		delete_by_statement(step, limit);
}

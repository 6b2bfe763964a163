/*-------------------------------------------------------------------------
 *
 * claim.c
 *	  Due deliveries are claimed.
 *
 * The log is the queue.  A claim starts behind the row at which the last one
 * of its action ended, so that row versions which are dead but can't be
 * removed yet, because of somebody's old snapshot, are never walked over
 * again.  It changes no indexed column, so that the new row version can stay
 * on its page and needs no index entries.
 *
 * Here is what takes a statement: ordered actions, and tables that log_write.c
 * leaves alone.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "claim.h"
#include "executor/spi.h"
#include "log_table.h"
#include "log_write.h"
#include "slot.h"
#include "statement.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define N_SAMPLE 8				/* deliveries that tell how large the others are */

/* Columns that are none of the row's, and those that are as log_table.h has them. */
#define N_OTHERS 2
#define CLAIMED \
	" l.ctid, due.writer, l.log_id, l.webhook_id, l.workflow_id, l.action_id," \
	" l.module, l.operation, l.record_id, l.record, l.old_record, l.computed," \
	" l.status, l.attempts, l.retry_at, l.queued_at, l.dispatched_at," \
	" l.completed_at, l.http_status, l.error, l.owner, l.ordered, l.retries"

/* Somebody's table that inherits the log may have another row at the same place. */
#define CLAIM(criterion) \
	"WITH due AS MATERIALIZED (" \
	" SELECT q.tableoid AS rel, q.ctid AS tid, q.xmin AS writer FROM webhook.webhook_log q" \
	" WHERE q.action_id = $1 AND q.retry_at <= $2" \
	" AND (q.retry_at, q.log_id) > ($3, $4)" \
	" AND q.status <> 'Dispatched'" criterion \
	" ORDER BY q.retry_at, q.log_id LIMIT $5" \
	" FOR NO KEY UPDATE SKIP LOCKED)" \
	" UPDATE webhook.webhook_log l SET status = 'Dispatched'," \
	" dispatched_at = pg_catalog.clock_timestamp(), worker = $6" \
	" FROM due WHERE l.ctid = due.tid AND l.tableoid = due.rel RETURNING" CLAIMED

/*
 * No later one of the same record is under way.  What had ended has been queued
 * again meanwhile, which its retry_at tells: any of them may be.  What a run has
 * queued, which locks no record, comes late where it was committed after those of a
 * writer: then it is the next one that may be.
 */
#define LATER_OF_RECORD \
	" FROM webhook.webhook_log f WHERE f.ordered AND f.retry_at IS NOT NULL" \
	" AND f.action_id = q.action_id AND f.record_id = q.record_id" \
	" AND f.log_id > q.log_id"
#define IS_ALONE \
	" CASE WHEN NOT q.ordered THEN true" \
	" WHEN q.retry_at <= q.queued_at THEN (SELECT f.status" LATER_OF_RECORD \
	" ORDER BY f.log_id LIMIT 1) IS DISTINCT FROM 'Dispatched'" \
	" ELSE NOT EXISTS (SELECT" LATER_OF_RECORD " AND f.status = 'Dispatched') END"

/* Of a record's many, the first one is asked whether it is alone. */
static const char *const claim_sql = CLAIM("");
static const char *const claim_ordered_sql =
	CLAIM(" AND CASE WHEN" WEBHOOK_IS_FIRST_OF_RECORD("") " THEN" IS_ALONE " END");

/*
 * What a claim has passed over, and nothing will tell of: it is locked, or its
 * record is under way.
 */
static const char *const passed_over_sql =
	"SELECT q.retry_at FROM webhook.webhook_log q"
	" WHERE q.action_id = $1 AND q.retry_at <= $2"
	" AND (q.retry_at, q.log_id) > ($3, $4)"
	" AND q.status <> 'Dispatched' AND" WEBHOOK_IS_FIRST_OF_RECORD("")
	" ORDER BY q.retry_at, q.log_id LIMIT 1";

/*
 * What came before the one that has ended had ended before: it is not walked over
 * once more.
 *
 * Rows that are named are looked up by their name: CASE hides from the planner
 * that the index of what is due has them, too.  With statistics of an empty queue
 * it takes that for the cheaper one, and walks through all of a long one.
 */
static const char *const claim_successors_sql =
	"WITH due AS MATERIALIZED ("
	" SELECT q.tableoid AS rel, q.ctid AS tid, q.xmin AS writer"
	" FROM unnest($1, $2) AS s (log_id, after)"
	" JOIN webhook.webhook_log q ON q.log_id = s.log_id"
	" WHERE CASE WHEN q.retry_at IS NULL THEN false"
	" ELSE q.retry_at <= $3 AND q.status <> 'Dispatched' END"
	" AND" WEBHOOK_IS_FIRST_OF_RECORD(" AND p.log_id > s.after")
	" ORDER BY q.log_id FOR NO KEY UPDATE OF q SKIP LOCKED)"
	" UPDATE webhook.webhook_log l SET status = 'Dispatched',"
	" dispatched_at = pg_catalog.clock_timestamp(), worker = $4"
	" FROM due WHERE l.ctid = due.tid AND l.tableoid = due.rel RETURNING" CLAIMED;

/*
 * A claim sees what was committed when the turn began and no more, for durable.c
 * has noted where the WAL ended then; and what the turn itself has changed.
 */
static void
execute_claim(SPIPlanPtr plan, Datum *values)
{
	int			rc = SPI_execute_snapshot(plan, values, NULL, GetActiveSnapshot(),
										  InvalidSnapshot, false, true, 0);

	if (rc < 0)
		elog(ERROR, "could not claim: %s", SPI_result_code_string(rc));
}

/* All rows of the last statement; moves the cursor behind the last. */
static List *
read_deliveries(MemoryContext context, WebhookCursor *cursor)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	List	   *result = NIL;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum		values[N_OTHERS + LOG_NATTS];
		bool		nulls[N_OTHERS + LOG_NATTS];
		WebhookDelivery *delivery;
		TimestampTz retry_at;

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, nulls);
		delivery = webhook_log_read_delivery(values + N_OTHERS, nulls + N_OTHERS);
		delivery->tid = *(ItemPointer) DatumGetPointer(values[0]);
		delivery->writer = DatumGetTransactionId(values[1]);
		retry_at = DatumGetTimestampTz(values[N_OTHERS + LOG_RETRY_AT]);
		result = lappend(result, delivery);
		if (cursor != NULL &&
			(retry_at > cursor->retry_at ||
			 (retry_at == cursor->retry_at &&
			  delivery->log_id > cursor->log_id)))
		{
			cursor->retry_at = retry_at;
			cursor->log_id = delivery->log_id;
		}
	}
	MemoryContextSwitchTo(old);
	return result;
}

static Size
get_size(List *deliveries)
{
	Size		size = 0;
	ListCell   *lc;

	foreach(lc, deliveries)
		size += webhook_delivery_size(lfirst(lc));
	return size;
}

/* Since the cursor was where it is told to have been. */
static TimestampTz
find_passed_over(int32 action_id, const WebhookCursor *before, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[4] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID};
	Datum		values[4];
	TimestampTz result = DT_NOEND;

	values[0] = Int32GetDatum(action_id);
	values[1] = TimestampTzGetDatum(now);
	values[2] = TimestampTzGetDatum(before->retry_at);
	values[3] = Int64GetDatum(before->log_id);
	SPI_connect();
	execute_claim(webhook_statement_prepare(&plan, passed_over_sql, 4, types), values);
	if (SPI_processed > 0)
	{
		bool		isnull;

		result = DatumGetTimestampTz(webhook_statement_value(0, 1, &isnull));
	}
	SPI_finish();
	return result;
}

List *
webhook_claim_due(int32 action_id, bool ordered, WebhookCursor *cursor,
				  TimestampTz now, int limit, bool *exhausted)
{
	static SPIPlanPtr plans[2] = {NULL, NULL};
	Oid			types[6] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID,
	INT8OID, INT2OID};
	MemoryContext context = CurrentMemoryContext;
	WebhookCursor before = *cursor;
	List	   *result;
	int			wanted = Min(limit, N_SAMPLE);

	if (!ordered &&
		webhook_log_claim(action_id, cursor, now, limit, &result, exhausted))
		return result;

	/* A statement can't stop at a size: a few first, and then what has room. */
	result = NIL;
	*exhausted = false;
	while (wanted > 0 && !*exhausted)
	{
		Datum		values[6];
		List	   *claimed;
		Size		size;
		MemoryContext old;

		SPI_connect();
		values[0] = Int32GetDatum(action_id);
		values[1] = TimestampTzGetDatum(now);
		values[2] = TimestampTzGetDatum(cursor->retry_at);
		values[3] = Int64GetDatum(cursor->log_id);
		values[4] = Int64GetDatum(wanted);
		values[5] = Int16GetDatum(webhook_slot_number());
		execute_claim(webhook_statement_prepare(&plans[ordered],
												ordered ? claim_ordered_sql : claim_sql,
												6, types), values);
		claimed = read_deliveries(context, cursor);
		SPI_finish();
		*exhausted = list_length(claimed) < wanted;
		old = MemoryContextSwitchTo(context);
		result = list_concat(result, claimed);
		MemoryContextSwitchTo(old);
		wanted = limit - list_length(result);
		size = get_size(result);
		if (size >= WEBHOOK_MAX_CLAIM_SIZE)
			break;
		if (size > 0)
			wanted = Min(wanted, (WEBHOOK_MAX_CLAIM_SIZE - size) /
						 (size / list_length(result) + 1));
	}

	if (*exhausted)
	{
		TimestampTz passed_over = find_passed_over(action_id, &before, now);

		cursor->passed_over = Min(cursor->passed_over, passed_over);
	}

	/*
	 * What waits for another delivery of its record is claimed when that has
	 * ended: not to be looked at again whenever something new comes.
	 */
	if (ordered && *exhausted && cursor->retry_at < now)
	{
		cursor->retry_at = now;
		cursor->log_id = PG_INT64_MAX;
	}
	return result;
}

List *
webhook_claim_successors(List *successors, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[4] = {INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID, INT2OID};
	MemoryContext context = CurrentMemoryContext;
	Datum	   *log_ids = palloc(list_length(successors) * sizeof(Datum));
	Datum	   *afters = palloc(list_length(successors) * sizeof(Datum));
	Datum		values[4];
	List	   *result;
	ListCell   *lc;
	int			n = 0;

	foreach(lc, successors)
	{
		WebhookSuccessor *successor = lfirst(lc);

		log_ids[n] = Int64GetDatum(successor->log_id);
		afters[n++] = Int64GetDatum(successor->after);
	}
	values[0] = webhook_statement_array(log_ids, NULL, n, INT8OID);
	values[1] = webhook_statement_array(afters, NULL, n, INT8OID);
	values[2] = TimestampTzGetDatum(now);
	values[3] = Int16GetDatum(webhook_slot_number());
	SPI_connect();
	execute_claim(webhook_statement_prepare(&plan, claim_successors_sql, 4, types),
				  values);
	result = read_deliveries(context, NULL);
	SPI_finish();
	return result;
}

/*-------------------------------------------------------------------------
 *
 * dispatched.c
 *	  The deliveries that are Dispatched, wherever they lie in the queue.
 *
 * No index knows of them: the queue is walked through, a piece at a time.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "dispatched.h"
#include "executor/spi.h"
#include "news.h"
#include "statement.h"
#include "utils/timestamp.h"

static const char *const look_sql =
	"SELECT log_id, worker, dispatched_at, status = 'Dispatched', retry_at"
	" FROM webhook.webhook_log WHERE action_id = $1 AND retry_at IS NOT NULL"
	" AND (retry_at, log_id) > ($2, $3) ORDER BY retry_at, log_id LIMIT $4";

/* CASE: see claim.c. */
static const char *const find_dispatched_sql =
	"SELECT log_id, worker, dispatched_at FROM webhook.webhook_log"
	" WHERE log_id = ANY ($1)"
	" AND CASE WHEN retry_at IS NULL THEN false ELSE status = 'Dispatched' END";

/*
 * What was under way when a worker ended is sent again, at once the first
 * time, whatever the clock says now; after that with growing pauses, lest it be
 * what ends the worker.  A claim is told by who made it and when: another worker may
 * have found the left-over as well, and claimed it by now.
 */
static const char *const recover_sql =
	"WITH left_over AS MATERIALIZED (SELECT q.log_id"
	" FROM unnest($1, $2, $3) d (log_id, worker, dispatched_at),"
	" webhook.webhook_log q"
	" WHERE q.log_id = d.log_id AND q.worker IS NOT DISTINCT FROM d.worker"
	" AND q.dispatched_at IS NOT DISTINCT FROM d.dispatched_at"
	" AND CASE WHEN q.retry_at IS NULL THEN false ELSE q.status = 'Dispatched' END"
	" FOR NO KEY UPDATE OF q SKIP LOCKED)"
	" UPDATE webhook.webhook_log l SET status = 'Queued', worker = NULL,"
	" interrupted = LEAST(l.interrupted + 1, 1000),"
	" retry_at = CASE WHEN l.interrupted = 0"
	" THEN LEAST(l.retry_at, pg_catalog.clock_timestamp())"
	" ELSE pg_catalog.clock_timestamp() + LEAST(l.interrupted * l.interrupted, 60)"
	" * interval '1 s' END"
	" FROM left_over o WHERE l.log_id = o.log_id"
	" RETURNING l.action_id, l.retry_at";

/* The log_id, worker and dispatched_at of the last statement's i-th row. */
static WebhookDispatched *
read_dispatched(uint64 i, MemoryContext context)
{
	WebhookDispatched *dispatched = MemoryContextAlloc(context,
													   sizeof(WebhookDispatched));
	bool		isnull;
	Datum		worker;
	Datum		dispatched_at;

	dispatched->log_id = DatumGetInt64(webhook_statement_value(i, 1, &isnull));
	worker = webhook_statement_value(i, 2, &isnull);
	dispatched->worker = isnull ? -1 : DatumGetInt16(worker);
	dispatched_at = webhook_statement_value(i, 3, &isnull);
	dispatched->dispatched_at = isnull ? DT_NOBEGIN :
		DatumGetTimestampTz(dispatched_at);
	return dispatched;
}

static List *
append(List *list, void *element, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);

	list = lappend(list, element);
	MemoryContextSwitchTo(old);
	return list;
}

List *
webhook_dispatched_look(int32 action_id, WebhookCursor *cursor, int limit,
						bool *exhausted)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[4] = {INT4OID, TIMESTAMPTZOID, INT8OID, INT8OID};
	MemoryContext context = CurrentMemoryContext;
	Datum		values[4];
	List	   *result = NIL;

	values[0] = Int32GetDatum(action_id);
	values[1] = TimestampTzGetDatum(cursor->retry_at);
	values[2] = Int64GetDatum(cursor->log_id);
	values[3] = Int64GetDatum(limit);
	SPI_connect();
	webhook_statement_run(&plan, look_sql, 4, types, values, NULL);
	*exhausted = SPI_processed < limit;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		if (DatumGetBool(webhook_statement_value(i, 4, &isnull)))
			result = append(result, read_dispatched(i, context), context);
		if (i == SPI_processed - 1)
		{
			cursor->log_id = DatumGetInt64(webhook_statement_value(i, 1, &isnull));
			cursor->retry_at =
				DatumGetTimestampTz(webhook_statement_value(i, 5, &isnull));
		}
	}
	SPI_finish();
	return result;
}

List *
webhook_dispatched_find(List *log_ids)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT8ARRAYOID};
	MemoryContext context = CurrentMemoryContext;
	Datum		values[1];
	List	   *result = NIL;

	values[0] = webhook_statement_ids(log_ids);
	SPI_connect();
	webhook_statement_run(&plan, find_dispatched_sql, 1, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
		result = append(result, read_dispatched(i, context), context);
	SPI_finish();
	return result;
}

/* Arrays of what a claim is told by. */
static void
make_arrays(List *dispatched, Datum *arrays)
{
	int			n = list_length(dispatched);
	Datum	   *log_ids = palloc(n * sizeof(Datum));
	Datum	   *workers = palloc(n * sizeof(Datum));
	Datum	   *moments = palloc(n * sizeof(Datum));
	bool	   *has_no_worker = palloc(n * sizeof(bool));
	bool	   *has_no_moment = palloc(n * sizeof(bool));

	for (int i = 0; i < n; i++)
	{
		const WebhookDispatched *d = list_nth(dispatched, i);

		log_ids[i] = Int64GetDatum(d->log_id);
		workers[i] = Int16GetDatum(d->worker);
		has_no_worker[i] = d->worker < 0;
		moments[i] = TimestampTzGetDatum(d->dispatched_at);
		has_no_moment[i] = TIMESTAMP_IS_NOBEGIN(d->dispatched_at);
	}
	arrays[0] = webhook_statement_array(log_ids, NULL, n, INT8OID);
	arrays[1] = webhook_statement_array(workers, has_no_worker, n, INT2OID);
	arrays[2] = webhook_statement_array(moments, has_no_moment, n, TIMESTAMPTZOID);
}

List *
webhook_dispatched_recover(List *dispatched)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {INT8ARRAYOID, INT2ARRAYOID, TIMESTAMPTZARRAYOID};
	MemoryContext context = CurrentMemoryContext;
	Datum		values[3];
	List	   *hints = NIL;

	make_arrays(dispatched, values);
	SPI_connect();
	webhook_statement_run(&plan, recover_sql, 3, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		WebhookHint *hint = MemoryContextAlloc(context, sizeof(WebhookHint));
		bool		isnull;

		hint->action_id = DatumGetInt32(webhook_statement_value(i, 1, &isnull));
		hint->retry_at = DatumGetTimestampTz(webhook_statement_value(i, 2, &isnull));
		hints = append(hints, hint, context);
	}
	SPI_finish();
	return hints;
}

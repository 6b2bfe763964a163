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
#include "shared.h"
#include "statement.h"
#include "utils/timestamp.h"

static const char *const look_sql =
	"SELECT log_id, worker, status = 'Dispatched', retry_at"
	" FROM webhook.webhook_log WHERE action_id = $1 AND retry_at IS NOT NULL"
	" AND (retry_at, log_id) > ($2, $3) ORDER BY retry_at, log_id LIMIT $4";

static const char *const find_dispatched_sql =
	"SELECT log_id, worker FROM webhook.webhook_log"
	" WHERE log_id = ANY ($1) AND retry_at IS NOT NULL AND status = 'Dispatched'";

/*
 * What was under way when a worker ended is sent again, at once the first
 * time, whatever the clock says now; after that with growing pauses, lest it be
 * what ends the worker.
 */
static const char *const recover_sql =
	"WITH left_over AS MATERIALIZED (SELECT q.log_id FROM webhook.webhook_log q"
	" WHERE q.log_id = ANY ($1) AND q.retry_at IS NOT NULL"
	" AND q.status = 'Dispatched' FOR NO KEY UPDATE SKIP LOCKED)"
	" UPDATE webhook.webhook_log l SET status = 'Queued', worker = NULL,"
	" interrupted = LEAST(l.interrupted + 1, 1000),"
	" retry_at = CASE WHEN l.interrupted = 0"
	" THEN LEAST(l.retry_at, pg_catalog.clock_timestamp())"
	" ELSE pg_catalog.clock_timestamp() + LEAST(l.interrupted * l.interrupted, 60)"
	" * interval '1 s' END"
	" FROM left_over o WHERE l.log_id = o.log_id"
	" RETURNING l.action_id, l.retry_at";

/* The log_id and worker of the last statement's i-th row. */
static WebhookDispatched *
read_dispatched(uint64 i, MemoryContext context)
{
	WebhookDispatched *dispatched = MemoryContextAlloc(context,
													   sizeof(WebhookDispatched));
	bool		isnull;
	Datum		worker;

	dispatched->log_id = DatumGetInt64(webhook_statement_value(i, 1, &isnull));
	worker = webhook_statement_value(i, 2, &isnull);
	dispatched->worker = isnull ? -1 : DatumGetInt16(worker);
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

		if (DatumGetBool(webhook_statement_value(i, 3, &isnull)))
			result = append(result, read_dispatched(i, context), context);
		if (i == SPI_processed - 1)
		{
			cursor->log_id = DatumGetInt64(webhook_statement_value(i, 1, &isnull));
			cursor->retry_at =
				DatumGetTimestampTz(webhook_statement_value(i, 4, &isnull));
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

List *
webhook_dispatched_recover(List *log_ids)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT8ARRAYOID};
	MemoryContext context = CurrentMemoryContext;
	Datum		values[1];
	List	   *hints = NIL;

	values[0] = webhook_statement_ids(log_ids);
	SPI_connect();
	webhook_statement_run(&plan, recover_sql, 1, types, values, NULL);
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

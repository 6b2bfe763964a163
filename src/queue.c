/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  All SQL of the worker on webhook_log and webhook_attempt: claim, settle,
 *	  recover, purge.
 *
 * The log is the queue.  A claim starts behind the row at which the last one
 * of its action ended, so that row versions which are dead but can't be
 * removed yet, because of somebody's old snapshot, are never walked over
 * again.  It changes no indexed column, so that the new row version can stay
 * on its page and needs no index entries.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "log_write.h"
#include "queue.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#define DELIVERY_COLUMNS \
	" l.log_id, l.action_id, l.ordered, l.webhook_id, l.operation," \
	" l.record_id, l.record, l.old_record, l.computed, l.attempts," \
	" l.retries, l.queued_at, l.retry_at, due.writer, l.ctid"

/* No unfinished delivery of the same record comes before this one. */
#define IS_FIRST_OF_RECORD \
	" (NOT q.ordered OR NOT EXISTS (SELECT FROM webhook.webhook_log p" \
	" WHERE p.ordered AND p.retry_at IS NOT NULL" \
	" AND p.action_id = q.action_id AND p.record_id = q.record_id" \
	" AND p.log_id < q.log_id))"

#define CLAIM(criterion) \
	"WITH due AS MATERIALIZED (" \
	" SELECT q.ctid AS tid, q.xmin AS writer FROM webhook.webhook_log q" \
	" WHERE q.action_id = $1 AND q.retry_at <= $2" \
	" AND (q.retry_at, q.log_id) > ($3, $4)" \
	" AND q.status <> 'Dispatched'" criterion \
	" ORDER BY q.retry_at, q.log_id LIMIT $5" \
	" FOR NO KEY UPDATE SKIP LOCKED)" \
	" UPDATE webhook.webhook_log l SET status = 'Dispatched'," \
	" dispatched_at = pg_catalog.clock_timestamp(), worker = $6" \
	" FROM due WHERE l.ctid = due.tid RETURNING" DELIVERY_COLUMNS

static const char *const claim_sql = CLAIM("");
static const char *const claim_ordered_sql = CLAIM(" AND" IS_FIRST_OF_RECORD);

static const char *const claim_successors_sql =
	"WITH due AS MATERIALIZED ("
	" SELECT q.ctid AS tid, q.xmin AS writer FROM webhook.webhook_log q"
	" WHERE q.log_id = ANY ($1) AND q.retry_at <= $2"
	" AND q.status <> 'Dispatched' AND" IS_FIRST_OF_RECORD
	" ORDER BY q.log_id FOR NO KEY UPDATE SKIP LOCKED)"
	" UPDATE webhook.webhook_log l SET status = 'Dispatched',"
	" dispatched_at = pg_catalog.clock_timestamp(), worker = $3"
	" FROM due WHERE l.ctid = due.tid RETURNING" DELIVERY_COLUMNS;

/* One row a statement: whatever the table is like, the plan can't be wrong. */
static const char *const settle_sql =
	"UPDATE webhook.webhook_log l SET status = CASE $2"
	" WHEN 0 THEN 'Success'::webhook.status"
	" WHEN 3 THEN 'Queued'::webhook.status"
	" ELSE 'Failed'::webhook.status END,"
	" attempts = $3, retries = $4, retry_at = $5,"
	" completed_at = CASE WHEN $5 IS NULL THEN pg_catalog.clock_timestamp() END,"
	" http_status = CASE WHEN $2 = 3 THEN l.http_status ELSE $6 END,"
	" error = $7, interrupted = 0, worker = NULL"
	" WHERE l.log_id = $1 AND l.status = 'Dispatched'";

static const char *const attempt_sql =
	"INSERT INTO webhook.webhook_attempt (log_id, attempt, started_at, duration,"
	" http_status, error, request_body, response_body)"
	" VALUES ($1, $2, $3, pg_catalog.make_interval(secs => $4 / 1000000.0),"
	" $5, $6, $7, $8) ON CONFLICT DO NOTHING";

static const char *const successors_sql =
	"SELECT n.log_id FROM unnest($1::integer[], $2::text[])"
	" AS r (action_id, record_id), LATERAL ("
	" SELECT q.log_id FROM webhook.webhook_log q"
	" WHERE q.ordered AND q.retry_at IS NOT NULL"
	" AND q.action_id = r.action_id AND q.record_id = r.record_id"
	" ORDER BY q.log_id LIMIT 1) n";

static const char *const try_lock_sql =
	"SELECT 1 FROM webhook.webhook_log WHERE log_id = $1"
	" FOR NO KEY UPDATE SKIP LOCKED";

static const char *const exists_sql =
	"SELECT 1 FROM webhook.webhook_log WHERE log_id = $1";

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

/* A loose index scan, as below. */
static const char *const actions_sql =
	"WITH RECURSIVE found AS ("
	" (SELECT action_id FROM webhook.webhook_log WHERE retry_at IS NOT NULL"
	" ORDER BY action_id LIMIT 1)"
	" UNION ALL"
	" SELECT n.action_id FROM found f, LATERAL ("
	" SELECT l.action_id FROM webhook.webhook_log l"
	" WHERE l.retry_at IS NOT NULL AND l.action_id > f.action_id"
	" ORDER BY l.action_id LIMIT 1) n)"
	" SELECT action_id FROM found";

static const char *const look_sql =
	"SELECT log_id, worker, status = 'Dispatched', retry_at"
	" FROM webhook.webhook_log WHERE action_id = $1 AND retry_at IS NOT NULL"
	" AND (retry_at, log_id) > ($2, $3) ORDER BY retry_at, log_id LIMIT $4";

static const char *const find_dispatched_sql =
	"SELECT log_id, worker FROM webhook.webhook_log"
	" WHERE log_id = ANY ($1) AND retry_at IS NOT NULL AND status = 'Dispatched'";

static const char *const next_due_sql =
	"SELECT retry_at FROM webhook.webhook_log"
	" WHERE action_id = $1 AND retry_at > $2 ORDER BY retry_at LIMIT 1";

/* A loose index scan: one probe an action, however long the queue. */
static const char *const survey_sql =
	"WITH RECURSIVE found AS ("
	" (SELECT action_id FROM webhook.webhook_log WHERE retry_at IS NOT NULL"
	" ORDER BY action_id LIMIT 1)"
	" UNION ALL"
	" SELECT n.action_id FROM found f, LATERAL ("
	" SELECT l.action_id FROM webhook.webhook_log l"
	" WHERE l.retry_at IS NOT NULL AND l.action_id > f.action_id"
	" ORDER BY l.action_id LIMIT 1) n)"
	" SELECT f.action_id, d.retry_at FROM found f, LATERAL ("
	" SELECT l.retry_at FROM webhook.webhook_log l"
	" WHERE l.action_id = f.action_id AND l.retry_at IS NOT NULL"
	" AND l.status <> 'Dispatched' ORDER BY l.retry_at LIMIT 1) d";

static const char *const turn_back_sql =
"WITH late AS MATERIALIZED (SELECT q.ctid AS tid FROM webhook.webhook_log q"
" WHERE q.retry_at > $1 AND q.retry_at <= $2 AND q.status = 'Queued'"
" FOR NO KEY UPDATE SKIP LOCKED)"
" UPDATE webhook.webhook_log l SET retry_at = $1 FROM late WHERE l.ctid = late.tid";

static const char *const drop_action_sql =
	"UPDATE webhook.webhook_log SET status = 'Failed', retry_at = NULL,"
	" completed_at = pg_catalog.clock_timestamp(), error = 'action was dropped'"
	" WHERE action_id = $1 AND retry_at IS NOT NULL AND status <> 'Dispatched'"
	" AND NOT EXISTS (SELECT FROM webhook.action a WHERE a.action_id = $1)";

static const char *const disable_action_sql =
	"UPDATE webhook.action SET enabled = false WHERE action_id = $1 AND enabled";

static const char *const purge_look_sql =
	"SELECT log_id, CASE WHEN queued_at >= $1 THEN queued_at"
	" WHEN queued_at < $2 THEN NULL WHEN retry_at IS NOT NULL THEN $1"
	" WHEN completed_at >= $1 THEN completed_at END,"
	" retry_at IS NULL AND completed_at < $1 FROM webhook.webhook_log"
	" WHERE log_id > $3 ORDER BY log_id LIMIT $4";

/* What somebody has locked stays until the next time: nobody is waited for. */
static const char *const purge_sql =
	"DELETE FROM webhook.webhook_log l USING (SELECT q.log_id"
	" FROM webhook.webhook_log q WHERE q.log_id = ANY ($1) AND q.retry_at IS NULL"
	" FOR UPDATE SKIP LOCKED) old WHERE l.log_id = old.log_id"
	" RETURNING l.log_id";

static const char *const purge_attempts_sql =
	"DELETE FROM webhook.webhook_attempt t USING (SELECT q.log_id, q.attempt"
	" FROM webhook.webhook_attempt q WHERE q.log_id = ANY ($1)"
	" FOR UPDATE SKIP LOCKED) old"
	" WHERE t.log_id = old.log_id AND t.attempt = old.attempt";

/* Prepare a statement once, for the life of the worker. */
static SPIPlanPtr
get_plan(SPIPlanPtr *plan, const char *sql, int nargs, Oid *types)
{
	if (*plan == NULL)
	{
		SPIPlanPtr	prepared = SPI_prepare(sql, nargs, types);

		if (prepared == NULL || SPI_keepplan(prepared) != 0)
			elog(ERROR, "could not prepare: %s", sql);
		*plan = prepared;
	}
	return *plan;
}

static void
execute(SPIPlanPtr plan, Datum *values, const char *nulls)
{
	int			rc = SPI_execute_plan(plan, values, nulls, false, 0);

	if (rc < 0)
		elog(ERROR, "could not execute a statement of the queue: %s",
			 SPI_result_code_string(rc));
}

/*
 * A claim sees what was committed when the turn began and no more: durable.c
 * has noted where the WAL ended then.
 */
static void
execute_claim(SPIPlanPtr plan, Datum *values)
{
	int			rc = SPI_execute_snapshot(plan, values, NULL, GetActiveSnapshot(),
										  InvalidSnapshot, false, true, 0);

	if (rc < 0)
		elog(ERROR, "could not claim: %s", SPI_result_code_string(rc));
}

static char *
copy_text(Datum value, bool isnull)
{
	return isnull ? NULL : TextDatumGetCString(value);
}

static Jsonb *
copy_jsonb(Datum value, bool isnull)
{
	return isnull ? NULL : DatumGetJsonbPCopy(value);
}

/* A row of DELIVERY_COLUMNS; the caller's memory context is current. */
static WebhookDelivery *
read_delivery(HeapTuple tuple, TupleDesc desc, TimestampTz *retry_at)
{
	WebhookDelivery *delivery = palloc0(sizeof(WebhookDelivery));
	Datum		values[15];
	bool		nulls[15];

	heap_deform_tuple(tuple, desc, values, nulls);
	delivery->log_id = DatumGetInt64(values[0]);
	delivery->action_id = DatumGetInt32(values[1]);
	delivery->ordered = DatumGetBool(values[2]);
	delivery->webhook_id = DatumGetCString(DirectFunctionCall1(uuid_out, values[3]));
	delivery->operation = copy_text(values[4], nulls[4]);
	delivery->record_id = copy_text(values[5], nulls[5]);
	delivery->record = copy_jsonb(values[6], nulls[6]);
	delivery->old_record = copy_jsonb(values[7], nulls[7]);
	delivery->computed = copy_jsonb(values[8], nulls[8]);
	delivery->attempts = DatumGetInt16(values[9]);
	delivery->retries = DatumGetInt16(values[10]);
	delivery->queued_at = DatumGetTimestampTz(values[11]);
	*retry_at = DatumGetTimestampTz(values[12]);
	delivery->writer = DatumGetTransactionId(values[13]);
	delivery->tid = *(ItemPointer) DatumGetPointer(values[14]);
	return delivery;
}

/* All rows of the last statement; moves the cursor behind the last. */
static List *
read_deliveries(MemoryContext context, WebhookCursor *cursor)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	List	   *result = NIL;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		TimestampTz retry_at;
		WebhookDelivery *delivery = read_delivery(SPI_tuptable->vals[i],
												  SPI_tuptable->tupdesc,
												  &retry_at);

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

List *
webhook_queue_claim(int32 action_id, bool ordered, int worker,
					WebhookCursor *cursor, TimestampTz now, int limit,
					bool *exhausted)
{
	static SPIPlanPtr plans[2] = {NULL, NULL};
	Oid			types[6] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID,
	INT8OID, INT2OID};
	MemoryContext context = CurrentMemoryContext;
	Datum		values[6];
	List	   *result;

	if (!ordered &&
		webhook_log_claim(action_id, worker, cursor, now, limit, &result, exhausted))
		return result;
	SPI_connect();
	values[0] = Int32GetDatum(action_id);
	values[1] = TimestampTzGetDatum(now);
	values[2] = TimestampTzGetDatum(cursor->retry_at);
	values[3] = Int64GetDatum(cursor->log_id);
	values[4] = Int64GetDatum(limit);
	values[5] = Int16GetDatum(worker);
	execute_claim(get_plan(&plans[ordered], ordered ? claim_ordered_sql : claim_sql,
						   6, types), values);
	result = read_deliveries(context, cursor);
	*exhausted = list_length(result) < limit;
	SPI_finish();
	return result;
}

List *
webhook_queue_claim_successors(List *log_ids, int worker, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {INT8ARRAYOID, TIMESTAMPTZOID, INT2OID};
	MemoryContext context = CurrentMemoryContext;
	Datum		values[3];
	Datum	   *ids = palloc(list_length(log_ids) * sizeof(Datum));
	List	   *result;
	ListCell   *lc;
	int			n = 0;

	foreach(lc, log_ids)
		ids[n++] = Int64GetDatum(*(int64 *) lfirst(lc));
	values[0] = PointerGetDatum(construct_array(ids, n, INT8OID, 8,
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[1] = TimestampTzGetDatum(now);
	values[2] = Int16GetDatum(worker);
	SPI_connect();
	execute_claim(get_plan(&plan, claim_successors_sql, 3, types), values);
	result = read_deliveries(context, NULL);
	SPI_finish();
	return result;
}

/* ---------------------------------------------------------------------
 * Settling
 * ---------------------------------------------------------------------
 */

typedef struct ArrayColumn
{
	Datum	   *values;
	bool	   *nulls;
	int			n;
} ArrayColumn;

static void
start_column(ArrayColumn *column, int size)
{
	column->values = palloc(size * sizeof(Datum));
	column->nulls = palloc(size * sizeof(bool));
	column->n = 0;
}

static void
add_value(ArrayColumn *column, Datum value, bool isnull)
{
	column->values[column->n] = value;
	column->nulls[column->n] = isnull;
	column->n++;
}

static void
add_text(ArrayColumn *column, const char *value)
{
	add_value(column, value ? CStringGetTextDatum(value) : (Datum) 0,
			  value == NULL);
}

static Datum
finish_column(ArrayColumn *column, Oid type)
{
	int16		typlen;
	bool		typbyval;
	char		typalign;
	int			dims[1];
	int			lbs[1] = {1};

	dims[0] = column->n;
	get_typlenbyvalalign(type, &typlen, &typbyval, &typalign);
	return PointerGetDatum(construct_md_array(column->values, column->nulls, 1,
											  dims, lbs, type, typlen,
											  typbyval, typalign));
}

static void
set_text(Datum *values, char *nulls, int i, const char *value)
{
	nulls[i] = value == NULL ? 'n' : ' ';
	values[i] = value == NULL ? (Datum) 0 : CStringGetTextDatum(value);
}

static void
settle_log(List *results)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[7] = {INT8OID, INT2OID, INT2OID, INT2OID, TIMESTAMPTZOID,
	INT2OID, TEXTOID};
	ListCell   *lc;

	get_plan(&plan, settle_sql, 7, types);
	foreach(lc, results)
	{
		WebhookResult *r = lfirst(lc);
		Datum		values[7];
		char		nulls[8] = "       ";

		values[0] = Int64GetDatum(r->log_id);
		values[1] = Int16GetDatum(r->verdict);
		values[2] = Int16GetDatum(Min(r->attempts, PG_INT16_MAX));
		values[3] = Int16GetDatum(Min(r->retries, PG_INT16_MAX));
		values[4] = TimestampTzGetDatum(r->retry_at);
		nulls[4] = r->retry_at == 0 ? 'n' : ' ';
		values[5] = Int16GetDatum(r->http_status);
		nulls[5] = r->http_status == 0 ? 'n' : ' ';
		set_text(values, nulls, 6, r->error);
		execute(plan, values, nulls);
	}
}

static void
insert_attempts(const WebhookAttempt *attempts, int n)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[8] = {INT8OID, INT2OID, TIMESTAMPTZOID, INT8OID, INT2OID,
	TEXTOID, TEXTOID, TEXTOID};

	get_plan(&plan, attempt_sql, 8, types);
	for (int i = 0; i < n; i++)
	{
		const WebhookAttempt *a = &attempts[i];
		Datum		values[8];
		char		nulls[9] = "        ";

		values[0] = Int64GetDatum(a->log_id);
		values[1] = Int16GetDatum(Min(a->attempt, PG_INT16_MAX));
		values[2] = TimestampTzGetDatum(a->started_at);
		values[3] = Int64GetDatum(a->duration);
		values[4] = Int16GetDatum(a->http_status);
		nulls[4] = a->http_status == 0 ? 'n' : ' ';
		set_text(values, nulls, 5, a->error);
		set_text(values, nulls, 6, a->request_body);
		set_text(values, nulls, 7, a->response_body);
		execute(plan, values, nulls);
	}
}

static WebhookAttempt *
start_attempt(WebhookAttempt *attempt, const WebhookResult *result, int number)
{
	attempt->log_id = result->log_id;
	attempt->attempt = number;
	attempt->started_at = result->started_at;
	attempt->request_body = result->request_body;
	return attempt;
}

/* The attempts that results are the last of; returns how many. */
static int
make_attempts(List *results, WebhookAttempt **attempts)
{
	ListCell   *lc;
	int			n = 0;

	foreach(lc, results)
		n += 1 + ((WebhookResult *) lfirst(lc))->resent;
	*attempts = palloc0(n * sizeof(WebhookAttempt));
	n = 0;
	foreach(lc, results)
	{
		WebhookResult *r = lfirst(lc);
		WebhookAttempt *a;

		if (r->verdict != WEBHOOK_SUCCEEDED && r->verdict != WEBHOOK_FAILED)
			continue;			/* there was no request */
		for (int i = r->resent; i > 0; i--)
		{
			a = start_attempt(&(*attempts)[n++], r, r->attempts - i);
			a->error = "receiver closed a kept connection without an answer; sent again at once";
		}
		a = start_attempt(&(*attempts)[n++], r, r->attempts);
		a->duration = r->duration;
		a->http_status = r->http_status;
		a->error = r->error;
		a->response_body = r->response_body;
	}
	return n;
}

/* The deliveries that the ended ones of ordered actions held up. */
static List *
find_successors(List *results, MemoryContext context)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4ARRAYOID, TEXTARRAYOID};
	ArrayColumn columns[2];
	Datum		values[2];
	List	   *successors = NIL;
	ListCell   *lc;

	start_column(&columns[0], list_length(results));
	start_column(&columns[1], list_length(results));
	foreach(lc, results)
	{
		WebhookResult *r = lfirst(lc);

		if (!r->ordered || r->record_id == NULL || r->retry_at != 0)
			continue;
		add_value(&columns[0], Int32GetDatum(r->action_id), false);
		add_text(&columns[1], r->record_id);
	}
	if (columns[0].n == 0)
		return NIL;

	values[0] = finish_column(&columns[0], INT4OID);
	values[1] = finish_column(&columns[1], TEXTOID);
	execute(get_plan(&plan, successors_sql, 2, types), values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		int64	   *log_id = palloc(sizeof(int64));
		bool		isnull;

		*log_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i],
											  SPI_tuptable->tupdesc, 1,
											  &isnull));
		successors = lappend(successors, log_id);
		MemoryContextSwitchTo(old);
	}
	return successors;
}

List *
webhook_queue_settle(List *results, bool by_statement)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *rest = by_statement ? results : webhook_log_settle(results);
	WebhookAttempt *attempts;
	int			n = make_attempts(results, &attempts);
	bool		is_stored = n == 0 ||
		(!by_statement && webhook_log_add_attempts(attempts, n));
	List	   *successors;

	SPI_connect();
	if (rest != NIL)
		settle_log(rest);
	if (!is_stored)
		insert_attempts(attempts, n);
	successors = find_successors(results, context);
	SPI_finish();
	return successors;
}

bool
webhook_queue_try_lock(int64 log_id)
{
	static SPIPlanPtr lock_plan = NULL;
	static SPIPlanPtr exists_plan = NULL;
	Oid			types[1] = {INT8OID};
	Datum		values[1];
	bool		is_locked;

	values[0] = Int64GetDatum(log_id);
	SPI_connect();
	execute(get_plan(&lock_plan, try_lock_sql, 1, types), values, NULL);
	is_locked = SPI_processed > 0;
	if (!is_locked)
	{
		/* A row that is gone can't be waited for. */
		execute(get_plan(&exists_plan, exists_sql, 1, types), values, NULL);
		is_locked = SPI_processed == 0;
	}
	SPI_finish();
	return is_locked;
}

/* ---------------------------------------------------------------------
 * The rest
 * ---------------------------------------------------------------------
 */

/* Of a list of int64 *. */
static Datum
make_id_array(List *log_ids)
{
	Datum	   *ids = palloc(list_length(log_ids) * sizeof(Datum));
	ListCell   *lc;
	int			n = 0;

	foreach(lc, log_ids)
		ids[n++] = Int64GetDatum(*(int64 *) lfirst(lc));
	return PointerGetDatum(construct_array(ids, n, INT8OID, 8,
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

List *
webhook_queue_actions(void)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	List	   *actions = NIL;

	SPI_connect();
	execute(get_plan(&plan, actions_sql, 0, NULL), NULL, NULL);
	old = MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		actions = lappend_int(actions,
							  DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i],
														  SPI_tuptable->tupdesc, 1,
														  &isnull)));
	}
	MemoryContextSwitchTo(old);
	SPI_finish();
	return actions;
}

/* The log_id and worker of the last statement's i-th row. */
static WebhookDispatched *
read_dispatched(uint64 i, MemoryContext context)
{
	WebhookDispatched *dispatched = MemoryContextAlloc(context, sizeof(WebhookDispatched));
	HeapTuple	tuple = SPI_tuptable->vals[i];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	bool		isnull;
	Datum		worker;

	dispatched->log_id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
	worker = SPI_getbinval(tuple, desc, 2, &isnull);
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
webhook_queue_look(int32 action_id, WebhookCursor *cursor, int limit,
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
	execute(get_plan(&plan, look_sql, 4, types), values, NULL);
	*exhausted = SPI_processed < limit;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		if (DatumGetBool(SPI_getbinval(tuple, desc, 3, &isnull)))
			result = append(result, read_dispatched(i, context), context);
		if (i == SPI_processed - 1)
		{
			cursor->log_id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
			cursor->retry_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 4, &isnull));
		}
	}
	SPI_finish();
	return result;
}

List *
webhook_queue_find_dispatched(List *log_ids)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT8ARRAYOID};
	MemoryContext context = CurrentMemoryContext;
	Datum		values[1];
	List	   *result = NIL;

	values[0] = make_id_array(log_ids);
	SPI_connect();
	execute(get_plan(&plan, find_dispatched_sql, 1, types), values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
		result = append(result, read_dispatched(i, context), context);
	SPI_finish();
	return result;
}

List *
webhook_queue_recover(List *log_ids)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT8ARRAYOID};
	MemoryContext context = CurrentMemoryContext;
	Datum		values[1];
	List	   *hints = NIL;

	values[0] = make_id_array(log_ids);
	SPI_connect();
	execute(get_plan(&plan, recover_sql, 1, types), values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		WebhookHint *hint = MemoryContextAlloc(context, sizeof(WebhookHint));
		bool		isnull;

		hint->action_id = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
		hint->retry_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 2, &isnull));
		hints = append(hints, hint, context);
	}
	SPI_finish();
	return hints;
}

TimestampTz
webhook_queue_next_due(int32 action_id, TimestampTz after)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, TIMESTAMPTZOID};
	Datum		values[2];
	TimestampTz result = 0;

	values[0] = Int32GetDatum(action_id);
	values[1] = TimestampTzGetDatum(after);
	SPI_connect();
	execute(get_plan(&plan, next_due_sql, 2, types), values, NULL);
	if (SPI_processed > 0)
	{
		bool		isnull;

		result = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0],
												   SPI_tuptable->tupdesc, 1,
												   &isnull));
	}
	SPI_finish();
	return result;
}

void
webhook_queue_survey(WebhookActionFound found, void *arg)
{
	static SPIPlanPtr plan = NULL;

	SPI_connect();
	execute(get_plan(&plan, survey_sql, 0, NULL), NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		Datum		action_id = SPI_getbinval(tuple, desc, 1, &isnull);
		Datum		due = SPI_getbinval(tuple, desc, 2, &isnull);

		found(DatumGetInt32(action_id), DatumGetTimestampTz(due), arg);
	}
	SPI_finish();
}

void
webhook_queue_turn_back(TimestampTz now, TimestampTz before)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[2];

	values[0] = TimestampTzGetDatum(now);
	values[1] = TimestampTzGetDatum(before);
	SPI_connect();
	execute(get_plan(&plan, turn_back_sql, 2, types), values, NULL);
	SPI_finish();
}

/* Was there anything to change? */
static bool
execute_for_action(SPIPlanPtr *plan, const char *sql, int32 action_id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1];
	bool		is_changed;

	values[0] = Int32GetDatum(action_id);
	SPI_connect();
	execute(get_plan(plan, sql, 1, types), values, NULL);
	is_changed = SPI_processed > 0;
	SPI_finish();
	return is_changed;
}

void
webhook_queue_drop_action(int32 action_id)
{
	static SPIPlanPtr plan = NULL;

	(void) execute_for_action(&plan, drop_action_sql, action_id);
}

bool
webhook_queue_disable_action(int32 action_id)
{
	static SPIPlanPtr plan = NULL;

	return execute_for_action(&plan, disable_action_sql, action_id);
}

void
webhook_queue_purge(WebhookPurgeStep *step, int limit)
{
	static SPIPlanPtr look_plan = NULL;
	static SPIPlanPtr purge_plan = NULL;
	static SPIPlanPtr attempts_plan = NULL;
	Oid			look_types[4] = {TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID};
	Oid			delete_types[1] = {INT8ARRAYOID};
	Datum		values[4];
	ArrayColumn old;
	ArrayColumn gone;
	uint64		n_passed = 0;
	uint64		n_gone = 0;

	values[0] = TimestampTzGetDatum(step->before);
	values[1] = TimestampTzGetDatum(step->before - WEBHOOK_PURGE_PATIENCE_US);
	values[2] = Int64GetDatum(step->behind);
	values[3] = Int64GetDatum(limit);
	SPI_connect();
	execute(get_plan(&look_plan, purge_look_sql, 4, look_types), values, NULL);

	/* In the order of log_id: behind the first young one all are young. */
	step->is_more = SPI_processed == limit;
	start_column(&old, SPI_processed);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		Datum		log_id = SPI_getbinval(tuple, desc, 1, &isnull);
		Datum		is_old = SPI_getbinval(tuple, desc, 3, &isnull);
		Datum		young_at = SPI_getbinval(tuple, desc, 2, &isnull);

		if (!isnull)
		{
			step->is_more = false;
			step->young_at = DatumGetTimestampTz(young_at);
			step->behind = Max(step->behind, DatumGetInt64(log_id) - 1);
			break;
		}
		if (DatumGetBool(is_old))
			add_value(&old, log_id, false);
		step->behind = DatumGetInt64(log_id);
		n_passed++;
	}
	if (old.n > 0)
	{
		values[0] = finish_column(&old, INT8OID);
		execute(get_plan(&purge_plan, purge_sql, 1, delete_types), values, NULL);
		n_gone = SPI_processed;
		start_column(&gone, n_gone);
		for (uint64 i = 0; i < n_gone; i++)
		{
			bool		isnull;

			add_value(&gone, SPI_getbinval(SPI_tuptable->vals[i],
										   SPI_tuptable->tupdesc, 1, &isnull), false);
		}
	}
	if (n_gone > 0)
	{
		values[0] = finish_column(&gone, INT8OID);
		execute(get_plan(&attempts_plan, purge_attempts_sql, 1, delete_types),
				values, NULL);
	}
	SPI_finish();
	step->all_gone = n_gone == n_passed;
}

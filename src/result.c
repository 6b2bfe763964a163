/*-------------------------------------------------------------------------
 *
 * result.c
 *	  What became of deliveries is written down in the log.
 *
 * Here is what takes a statement: rows that have been changed since they were
 * claimed, and tables that log_write.c leaves alone.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "log_write.h"
#include "result.h"
#include "statement.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

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

/* What came before has ended, or is held up with it: it is not walked over again. */
static const char *const successors_sql =
	"SELECT n.log_id, r.action_id, r.log_id FROM unnest($1::integer[], $2::text[], $3::bigint[])"
	" AS r (action_id, record_id, log_id), LATERAL ("
	" SELECT q.log_id FROM webhook.webhook_log q"
	" WHERE q.ordered AND q.retry_at IS NOT NULL"
	" AND q.action_id = r.action_id AND q.record_id = r.record_id"
	" AND q.log_id > r.log_id ORDER BY q.log_id LIMIT 1) n";

static const char *const try_lock_sql =
	"SELECT 1 FROM webhook.webhook_log WHERE log_id = $1"
	" FOR NO KEY UPDATE SKIP LOCKED";

static const char *const exists_sql =
	"SELECT 1 FROM webhook.webhook_log WHERE log_id = $1";

static void
set_text(Datum *values, char *nulls, int i, const char *value)
{
	nulls[i] = value == NULL ? 'n' : ' ';
	values[i] = value == NULL ? (Datum) 0 : CStringGetTextDatum(value);
}

static void
update_rows(List *results)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[7] = {INT8OID, INT2OID, INT2OID, INT2OID, TIMESTAMPTZOID,
	INT2OID, TEXTOID};
	ListCell   *lc;

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
		webhook_statement_run(&plan, settle_sql, 7, types, values, nulls);
	}
}

static void
insert_attempts(const WebhookAttempt *attempts, int n)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[8] = {INT8OID, INT2OID, TIMESTAMPTZOID, INT8OID, INT2OID,
	TEXTOID, TEXTOID, TEXTOID};

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
		webhook_statement_run(&plan, attempt_sql, 8, types, values, nulls);
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
	Oid			types[3] = {INT4ARRAYOID, TEXTARRAYOID, INT8ARRAYOID};
	Datum		values[3];
	Datum	   *action_ids = palloc(list_length(results) * sizeof(Datum));
	Datum	   *record_ids = palloc(list_length(results) * sizeof(Datum));
	Datum	   *log_ids = palloc(list_length(results) * sizeof(Datum));
	List	   *successors = NIL;
	ListCell   *lc;
	int			n = 0;

	foreach(lc, results)
	{
		WebhookResult *r = lfirst(lc);

		if (!r->ordered || r->record_id == NULL || r->retry_at != 0)
			continue;
		action_ids[n] = Int32GetDatum(r->action_id);
		log_ids[n] = Int64GetDatum(r->log_id);
		record_ids[n++] = CStringGetTextDatum(r->record_id);
	}
	if (n == 0)
		return NIL;

	values[0] = webhook_statement_array(action_ids, NULL, n, INT4OID);
	values[1] = webhook_statement_array(record_ids, NULL, n, TEXTOID);
	values[2] = webhook_statement_array(log_ids, NULL, n, INT8OID);
	webhook_statement_run(&plan, successors_sql, 3, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		WebhookSuccessor *successor = palloc(sizeof(WebhookSuccessor));
		bool		isnull;

		successor->log_id = DatumGetInt64(webhook_statement_value(i, 1, &isnull));
		successor->action_id = DatumGetInt32(webhook_statement_value(i, 2, &isnull));
		successor->after = DatumGetInt64(webhook_statement_value(i, 3, &isnull));
		successors = lappend(successors, successor);
		MemoryContextSwitchTo(old);
	}
	return successors;
}

List *
webhook_result_record(List *results, bool by_statement)
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
		update_rows(rest);
	if (!is_stored)
		insert_attempts(attempts, n);
	successors = find_successors(results, context);
	SPI_finish();
	return successors;
}

bool
webhook_result_try_lock(int64 log_id)
{
	static SPIPlanPtr lock_plan = NULL;
	static SPIPlanPtr exists_plan = NULL;
	Oid			types[1] = {INT8OID};
	Datum		values[1];
	bool		is_locked;

	values[0] = Int64GetDatum(log_id);
	SPI_connect();
	webhook_statement_run(&lock_plan, try_lock_sql, 1, types, values, NULL);
	is_locked = SPI_processed > 0;
	if (!is_locked)
	{
		/* A row that is gone can't be waited for. */
		webhook_statement_run(&exists_plan, exists_sql, 1, types, values, NULL);
		is_locked = SPI_processed == 0;
	}
	SPI_finish();
	return is_locked;
}

/*-------------------------------------------------------------------------
 *
 * stats_store.c
 *	  The rows of the tables webhook.action_stats and webhook.action_latency.
 *
 * An action and worker have one row of counts, and twelve of durations: each
 * for five minutes, after an hour for another five.  Only differences are
 * added, so that stat_reset needs no word with the worker, and nobody's lock is
 * waited for.
 *
 * Rows are found by the place at which they were written last.  While somebody
 * holds an old snapshot, the dead versions that a look-up by key would walk
 * over grow by one a second.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "shared_action.h"
#include "slot.h"
#include "statement.h"
#include "stats_store.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define SLOTS 12				/* an hour */

/* Parameters of the statements: $1 ctid, $2 action, $3 worker, then values. */
#define MINE(table, criterion) \
	"WITH mine AS MATERIALIZED (SELECT s.ctid AS tid FROM " table " s WHERE " \
	criterion " FOR NO KEY UPDATE SKIP LOCKED) UPDATE " table " s SET "
#define BY_TID \
	"s.ctid = $1 AND s.action_id = $2 AND s.worker = $3"
#define BY_KEY \
	"$1 IS NOT NULL AND s.action_id = $2 AND s.worker = $3"
#define FROM_MINE \
	" FROM mine WHERE s.ctid = mine.tid RETURNING s.ctid"

#define STATS_CHANGES \
	"succeeded = s.succeeded + $4, failed = s.failed + $5," \
	" attempts = s.attempts + $6," \
	" last_success_at = coalesce($7, s.last_success_at)," \
	" last_failure_at = coalesce($8, s.last_failure_at)," \
	" last_error = coalesce($9, s.last_error)," \
	" failures = $10, failing_since = $11"
#define LATENCY_CHANGES \
	"started_at = $5, buckets = CASE WHEN s.started_at = $5 THEN" \
	" ARRAY(SELECT u.a + u.b FROM unnest(s.buckets, $6) AS u (a, b))" \
	" ELSE $6 END"

/* The ways to a row, from the quickest on. */
typedef struct RowStatements
{
	const char *by_tid;
	const char *by_key;
	const char *exists;			/* for others: somebody has locked it */
	const char *insert;
	int			n;
	Oid			types[11];
	SPIPlanPtr	plans[4];
} RowStatements;

static RowStatements stats_statements = {
	MINE("webhook.action_stats", BY_TID) STATS_CHANGES FROM_MINE,
	MINE("webhook.action_stats", BY_KEY) STATS_CHANGES FROM_MINE,
	"SELECT s.ctid FROM webhook.action_stats s WHERE " BY_KEY,
	"INSERT INTO webhook.action_stats AS s (action_id, worker, succeeded, failed,"
	" attempts, last_success_at, last_failure_at, last_error, failures,"
	" failing_since) SELECT $2, $3, $4, $5, $6, $7, $8, $9, $10, $11"
	" WHERE $1 IS NOT NULL AND EXISTS (SELECT FROM webhook.action a"
	" WHERE a.action_id = $2) RETURNING s.ctid",
	11,
	{TIDOID, INT4OID, INT2OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, TEXTOID, INT4OID, TIMESTAMPTZOID}
};

static RowStatements latency_statements = {
	MINE("webhook.action_latency", BY_TID " AND s.slot = $4") LATENCY_CHANGES FROM_MINE,
	MINE("webhook.action_latency", BY_KEY " AND s.slot = $4") LATENCY_CHANGES FROM_MINE,
	"SELECT s.ctid FROM webhook.action_latency s WHERE " BY_KEY " AND s.slot = $4",
	"INSERT INTO webhook.action_latency AS s (action_id, worker, slot, started_at,"
	" buckets) SELECT $2, $3, $4, $5, $6"
	" WHERE $1 IS NOT NULL AND EXISTS (SELECT FROM webhook.action a"
	" WHERE a.action_id = $2) RETURNING s.ctid",
	6,
	{TIDOID, INT4OID, INT2OID, INT2OID, TIMESTAMPTZOID, INT4ARRAYOID}
};

void
webhook_stats_store_read(WebhookStatsEntry *entry)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, INT2OID};
	Datum		values[2];

	values[0] = Int32GetDatum(entry->action_id);
	values[1] = Int16GetDatum(webhook_slot_number());
	webhook_statement_prepare(&plan, "SELECT s.failures, s.failing_since"
							  " FROM webhook.action_stats s"
							  " WHERE s.action_id = $1 AND s.worker = $2",
							  2, types);
	if (SPI_execute_plan(plan, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read an action's statistics");
	if (SPI_processed > 0 && entry->failures == 0)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		Datum		since;

		entry->failures = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
		since = SPI_getbinval(tuple, desc, 2, &isnull);
		entry->failing_since = isnull ? 0 : DatumGetTimestampTz(since);
		entry->is_failing = entry->failures >= WEBHOOK_FAILING_AFTER;
		if (entry->is_failing)
			(void) webhook_shared_action_set_failing(entry->action_id, true);
	}
	SPI_freetuptable(SPI_tuptable);
	entry->is_known = true;
}

/* Execute one of the statements; true if it gave a row, whose ctid is kept. */
static bool
try_statement(RowStatements *statements, int which, const char *sql,
			  Datum *values, const char *nulls, ItemPointer tid)
{
	bool		found;

	webhook_statement_run(&statements->plans[which], sql, statements->n,
						  statements->types, values, nulls);
	found = SPI_processed > 0;
	if (found && tid != NULL)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0],
										  SPI_tuptable->tupdesc, 1, &isnull);

		*tid = *(ItemPointer) DatumGetPointer(value);
	}
	SPI_freetuptable(SPI_tuptable);
	return found;
}

/*
 * Add to a row; false: somebody has locked it.  Of an action that is no more
 * there is nothing to add to.
 */
static bool
add_to_row(RowStatements *statements, ItemPointer tid, Datum *values,
		   const char *nulls)
{
	ItemPointerData old = *tid;

	values[0] = PointerGetDatum(&old);
	if (ItemPointerIsValid(&old) &&
		try_statement(statements, 0, statements->by_tid, values, nulls, tid))
		return true;
	if (try_statement(statements, 1, statements->by_key, values, nulls, tid))
		return true;
	if (try_statement(statements, 2, statements->exists, values, nulls, NULL))
		return false;
	(void) try_statement(statements, 3, statements->insert, values, nulls, tid);
	return true;
}

static Datum
get_moment(TimestampTz time, char *null)
{
	*null = time == 0 ? 'n' : ' ';
	return TimestampTzGetDatum(time);
}

void
webhook_stats_store_add(WebhookStatsEntry *entry)
{
	Datum		values[11];
	Datum		buckets[WEBHOOK_LATENCY_BUCKETS];
	char		nulls[11];

	memset(nulls, ' ', sizeof(nulls));
	values[1] = Int32GetDatum(entry->action_id);
	values[2] = Int16GetDatum(webhook_slot_number());
	values[3] = Int64GetDatum(entry->succeeded);
	values[4] = Int64GetDatum(entry->failed);
	values[5] = Int64GetDatum(entry->attempts);
	values[6] = get_moment(entry->last_success_at, &nulls[6]);
	values[7] = get_moment(entry->last_failure_at, &nulls[7]);
	values[8] = CStringGetTextDatum(entry->last_error);
	nulls[8] = entry->last_failure_at == 0 || entry->last_error[0] == '\0' ? 'n' : ' ';
	values[9] = Int32GetDatum(entry->failures);
	values[10] = get_moment(entry->failing_since, &nulls[10]);
	entry->is_stats_stored = add_to_row(&stats_statements, &entry->stats_tid,
										values, nulls);

	for (int i = 0; i < WEBHOOK_LATENCY_BUCKETS; i++)
		buckets[i] = Int32GetDatum(entry->latencies[i]);
	memset(nulls, ' ', sizeof(nulls));
	values[3] = Int16GetDatum(entry->slot / WEBHOOK_STATS_SLOT_US % SLOTS);
	values[4] = TimestampTzGetDatum(entry->slot);
	values[5] = PointerGetDatum(construct_array(buckets, WEBHOOK_LATENCY_BUCKETS,
												INT4OID, 4, true, TYPALIGN_INT));
	entry->is_latency_stored = add_to_row(&latency_statements,
										  &entry->latency_tid, values, nulls);
}

void
webhook_stats_store_tidy(void)
{
	SPI_execute("DELETE FROM webhook.action_stats s WHERE NOT EXISTS"
				" (SELECT FROM webhook.action a WHERE a.action_id = s.action_id)",
				false, 0);
	SPI_execute("DELETE FROM webhook.action_latency s WHERE NOT EXISTS"
				" (SELECT FROM webhook.action a WHERE a.action_id = s.action_id)",
				false, 0);
}

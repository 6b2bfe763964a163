/*-------------------------------------------------------------------------
 *
 * recompute.c
 *	  Related and computed values that a delivery in the log lacks.
 *
 * Runs in sessions, when somebody sends a delivery again: a value may have
 * failed when the event was queued, or not yet have been asked for.  The worker
 * evaluates nothing that a user wrote, so it is made up for here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "computed.h"
#include "executor/spi.h"
#include "guard.h"
#include "name.h"
#include "recompute.h"
#include "statement.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define BATCH_SIZE 100

/* What is needed of a delivery. */
typedef struct Lacking
{
	Oid			module;
	Oid			owner;
	Jsonb	   *record;
	Jsonb	   *old_record;		/* of a delete the record as well */
	Jsonb	   *known;
	Jsonb	   *compiled;
} Lacking;

/* False: it lacks nothing. */
static bool
read_lacking(int64 log_id, Lacking *lacking)
{
	MemoryContext context = CurrentMemoryContext;
	Oid			types[1] = {INT8OID};
	Datum		values[1];
	bool		isnull;
	bool		found;

	values[0] = Int64GetDatum(log_id);
	SPI_connect();
	webhook_statement_execute("SELECT w.module::oid, w.owner::oid, l.record,"
							  " CASE l.operation WHEN 'DELETE' THEN l.record ELSE l.old_record END,"
							  " l.computed, a.computed"
							  " FROM webhook.webhook_log l"
							  " JOIN webhook.action a ON a.action_id = l.action_id"
							  " JOIN webhook.workflow w ON w.workflow_id = a.workflow_id"
							  " WHERE l.log_id = $1 AND l.record IS NOT NULL"
							  " AND " WEBHOOK_LACKS_VALUES,
							  1, types, values, NULL);
	found = SPI_processed > 0;
	if (found)
	{
		lacking->module = DatumGetObjectId(webhook_statement_value(0, 1, &isnull));
		lacking->owner = DatumGetObjectId(webhook_statement_value(0, 2, &isnull));
		lacking->record = webhook_statement_copy_jsonb(0, 3, context);
		lacking->old_record = webhook_statement_copy_jsonb(0, 4, context);
		lacking->known = webhook_statement_copy_jsonb(0, 5, context);
		lacking->compiled = webhook_statement_copy_jsonb(0, 6, context);
	}
	SPI_finish();
	return found;
}

/* The logged record as a row of the module as it is now. */
static HeapTuple
make_tuple(Jsonb *record, Relation module)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	Oid			types[1] = {JSONBOID};
	Datum		values[1];
	HeapTupleData tuple;
	HeapTuple	result;
	bool		isnull;
	char	   *sql;

	if (record == NULL)
		return NULL;
	sql = psprintf("SELECT pg_catalog.jsonb_populate_record(NULL::%s, $1)",
				   webhook_name_relation(module));
	values[0] = JsonbPGetDatum(record);
	SPI_connect();
	if (SPI_execute_with_args(sql, 1, types, values, NULL, true, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not make a row of a logged record");
	tuple.t_data = DatumGetHeapTupleHeader(SPI_getbinval(SPI_tuptable->vals[0],
														 SPI_tuptable->tupdesc, 1, &isnull));
	tuple.t_len = HeapTupleHeaderGetDatumLength(tuple.t_data);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = RelationGetRelid(module);
	old = MemoryContextSwitchTo(context);
	result = heap_copytuple(&tuple);
	MemoryContextSwitchTo(old);
	SPI_finish();
	return result;
}

static void
store(int64 log_id, const char *sql, Oid type, Datum value)
{
	Oid			types[2] = {INT8OID, type};
	Datum		values[2];

	values[0] = Int64GetDatum(log_id);
	values[1] = value;
	SPI_connect();
	webhook_statement_execute(sql, 2, types, values, NULL);
	SPI_finish();
}

void
webhook_recompute_one(int64 log_id)
{
	Lacking		lacking;
	Relation	module;
	HeapTuple	tuple;
	HeapTuple	old_tuple;
	Jsonb	   *computed;
	WebhookScope scope;

	if (!read_lacking(log_id, &lacking))
		return;
	module = table_open(lacking.module, AccessShareLock);
	webhook_scope_enter(&scope, lacking.owner);
	tuple = make_tuple(lacking.record, module);
	old_tuple = make_tuple(lacking.old_record, module);
	webhook_scope_leave(&scope);
	computed = webhook_computed_once(lacking.compiled, lacking.known, lacking.owner,
									 module, tuple, old_tuple);
	table_close(module, NoLock);
	store(log_id, "UPDATE webhook.webhook_log SET computed = $2 WHERE log_id = $1",
		  JSONBOID, JsonbPGetDatum(computed));
}

static void
recompute_guarded(void *arg)
{
	webhook_recompute_one(*(int64 *) arg);
}

/* The first deliveries of a range that lack something; returns how many. */
static int
read_batch(Oid *types, Datum *values, const char *nulls, int64 *log_ids)
{
	int			n;

	SPI_connect();
	if (SPI_execute_with_args("SELECT l.log_id FROM webhook.webhook_log l"
							  " JOIN webhook.action a ON a.action_id = l.action_id"
							  " WHERE " WEBHOOK_IS_RETRIED " AND " WEBHOOK_LACKS_VALUES
							  " ORDER BY l.log_id LIMIT " CppAsString2(BATCH_SIZE),
							  WEBHOOK_N_RETRIED, types, values, nulls, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read failed deliveries");
	n = (int) SPI_processed;
	for (int i = 0; i < n; i++)
	{
		bool		isnull;

		log_ids[i] = DatumGetInt64(webhook_statement_value(i, 1, &isnull));
	}
	SPI_finish();
	return n;
}

bool
webhook_recompute_is_wanted(int32 action_id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1];
	bool		is_wanted;

	values[0] = Int32GetDatum(action_id);
	SPI_connect();
	if (SPI_execute_with_args("SELECT FROM webhook.action a WHERE a.computed IS NOT NULL"
							  " AND ($1 = 0 OR a.action_id = $1)",
							  1, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the actions");
	is_wanted = SPI_processed > 0;
	SPI_finish();
	return is_wanted;
}

void
webhook_recompute_failed(Oid *types, const Datum *values, const char *nulls)
{
	Datum		rest[WEBHOOK_N_RETRIED];
	int64		log_ids[BATCH_SIZE];
	MemoryContext context;
	MemoryContext old;
	int			n;

	memcpy(rest, values, sizeof(rest));
	context = AllocSetContextCreate(CurrentMemoryContext, "webhook recompute",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	while ((n = read_batch(types, rest, nulls, log_ids)) > 0)
	{
		for (int i = 0; i < n; i++)
		{
			char	   *problem = webhook_guard_call(recompute_guarded, &log_ids[i]);

			if (problem != NULL)
				store(log_ids[i], "UPDATE webhook.webhook_log SET error = $2 WHERE log_id = $1",
					  TEXTOID, CStringGetTextDatum(problem));
		}
		rest[3] = Int64GetDatum(log_ids[n - 1] + 1);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/*-------------------------------------------------------------------------
 *
 * stat_action.c
 *	  The view webhook.stat_action: how each action is, and stat_reset.
 *
 * It may be asked for every few seconds, however large the log: the counts
 * are the few rows that the workers keep (stats.c), and the queue is looked at
 * through its partial index, up to a bound for each action.  The index is
 * scanned from here, not by a statement, so that no plan can go wrong when a
 * queue grows faster than its statistics.
 *
 * Runs in sessions.  The tables of counts can be read with the rights of the
 * extension's owner only; whose actions a caller sees is decided here, as the
 * policies on webhook.action and webhook.webhook_log do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "log_table.h"
#include "miscadmin.h"
#include "shared_action.h"
#include "stats.h"
#include "stats_store.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/*
 * Deliveries of an action that are counted.  Where many actions have long
 * queues they share what may be counted at all: first a little of each, and then
 * more of those that have more.
 */
#define MAX_COUNT 10000
#define FIRST_COUNT 1000
#define MIN_COUNT 100
#define MAX_FIRST_TOTAL 300000
#define MAX_TOTAL 50000

/*
 * Deliveries that are due and looked at whether they wait for another one of
 * their record; any more are taken for ones that don't.
 */
#define MAX_LOOKS 20000

#define COLUMNS 19
#define IS_ORDERED COLUMNS		/* one more, for us */

PG_FUNCTION_INFO_V1(stat_action);
PG_FUNCTION_INFO_V1(stat_reset);

/*
 * Columns as they are returned, but for those that are filled in by
 * fill_queue and fill_latency, which are NULL here.
 */
static const char *const actions_sql =
"SELECT a.action_id, w.name, a.title, a.enabled,"
" NULL::bigint AS queued, NULL::integer AS in_flight, NULL::bigint AS retrying,"
" NULL::timestamptz AS oldest_due,"
" coalesce(s.succeeded, 0), coalesce(s.failed, 0), coalesce(s.attempts, 0),"
" NULL::interval AS p50, NULL::interval AS p95, NULL::interval AS p99,"
" s.last_success_at, s.last_failure_at, s.last_error,"
/* One of several workers may have met a success since. */
" CASE WHEN s.last_success_at > s.failing_since THEN NULL"
" ELSE s.failing_since END, s.reset_at, a.ordered"
" FROM webhook.action a JOIN webhook.workflow w USING (workflow_id)"
" LEFT JOIN (SELECT t.action_id, sum(t.succeeded)::bigint AS succeeded,"
" sum(t.failed)::bigint AS failed, sum(t.attempts)::bigint AS attempts,"
" max(t.last_success_at) AS last_success_at,"
" max(t.last_failure_at) AS last_failure_at,"
" (array_agg(t.last_error ORDER BY t.last_failure_at DESC NULLS LAST))[1] AS last_error,"
" min(t.failing_since) FILTER (WHERE t.failures >= $2) AS failing_since,"
" max(t.reset_at) AS reset_at"
" FROM webhook.action_stats t GROUP BY t.action_id) s USING (action_id)"
" WHERE pg_has_role($1, w.owner::oid, 'MEMBER') ORDER BY a.action_id";

static const char *const latencies_sql =
"SELECT l.action_id, l.buckets FROM webhook.action_latency l"
" WHERE l.started_at > statement_timestamp() - interval '1 hour'"
" ORDER BY l.action_id";

/* ---------------------------------------------------------------------
 * The queue
 * ---------------------------------------------------------------------
 */

typedef struct QueueScan
{
	Relation	log;
	Relation	index;
	Relation	ordered_index;	/* NULL: not there, or not wanted yet */
	TupleTableSlot *slot;
	TupleTableSlot *other_slot;
	Oid			queued;			/* of the enum */
	Oid			dispatched;
	TimestampTz now;
	int			looks;			/* see MAX_LOOKS */
} QueueScan;

/* False: the index is missing, which webhook.health says, or is another one. */
static bool
begin_queue(QueueScan *scan)
{
	static const AttrNumber due[] = {
		LOG_ACTION_ID + 1, LOG_RETRY_AT + 1, LOG_LOG_ID + 1
	};
	static const AttrNumber ordered[] = {
		LOG_ACTION_ID + 1, LOG_RECORD_ID + 1, LOG_LOG_ID + 1
	};

	scan->log = table_open(webhook_catalog_relation(WEBHOOK_REL_LOG), AccessShareLock);
	scan->index = webhook_log_open_index(scan->log, "webhook_log_due_idx",
										 due, lengthof(due));
	if (scan->index == NULL)
	{
		table_close(scan->log, AccessShareLock);
		return false;
	}
	scan->ordered_index = webhook_log_open_index(scan->log, "webhook_log_ordered_idx",
												 ordered, lengthof(ordered));
	scan->slot = table_slot_create(scan->log, NULL);
	scan->other_slot = table_slot_create(scan->log, NULL);
	scan->queued = webhook_log_status("Queued");
	scan->dispatched = webhook_log_status("Dispatched");
	scan->now = GetCurrentTimestamp();
	return true;
}

static void
end_queue(QueueScan *scan)
{
	ExecDropSingleTupleTableSlot(scan->slot);
	ExecDropSingleTupleTableSlot(scan->other_slot);
	if (scan->ordered_index != NULL)
		index_close(scan->ordered_index, AccessShareLock);
	index_close(scan->index, AccessShareLock);
	table_close(scan->log, AccessShareLock);
}

/*
 * Does the delivery in the slot, of an action that is ordered, wait until an
 * earlier one of its record has ended?
 */
static bool
is_held(QueueScan *queue, int32 action_id)
{
	IndexScanDesc scan;
	ScanKeyData keys[3];
	bool		isnull;
	Datum		record_id = slot_getattr(queue->slot, LOG_RECORD_ID + 1, &isnull);
	bool		is_found;

	if (isnull || queue->ordered_index == NULL || queue->looks >= MAX_LOOKS ||
		!DatumGetBool(slot_getattr(queue->slot, LOG_ORDERED + 1, &isnull)))
		return false;
	queue->looks++;
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(action_id));
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid,
						   queue->ordered_index->rd_indcollation[1], F_TEXTEQ,
						   record_id);
	ScanKeyInit(&keys[2], 3, BTLessStrategyNumber, F_INT8LT,
				slot_getattr(queue->slot, LOG_LOG_ID + 1, &isnull));
	scan = webhook_index_beginscan(queue->log, queue->ordered_index,
								   GetActiveSnapshot(), 3);
	index_rescan(scan, keys, 3, NULL, 0);
	is_found = index_getnext_slot(scan, BackwardScanDirection, queue->other_slot);
	index_endscan(scan);
	ExecClearTuple(queue->other_slot);
	return is_found;
}

/*
 * Columns queued, in_flight, retrying, oldest_due; true: there are more
 * deliveries than were to be counted.
 */
static bool
fill_queue(QueueScan *queue, int32 action_id, bool ordered, int most,
		   Datum *values, bool *nulls)
{
	IndexScanDesc scan;
	ScanKeyData key;
	int64		queued = 0;
	int64		dispatched = 0;
	int64		retrying = 0;
	int			in_flight = webhook_shared_action_in_flight(action_id);
	TimestampTz oldest_due = 0;
	TimestampTz held = 0;		/* the last one that is */
	bool		is_cut;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(action_id));
	scan = webhook_index_beginscan(queue->log, queue->index,
								   GetActiveSnapshot(), 1);
	index_rescan(scan, &key, 1, NULL, 0);
	while (!(is_cut = queued + dispatched + retrying >= most) &&
		   index_getnext_slot(scan, ForwardScanDirection, queue->slot))
	{
		bool		isnull;
		Oid			status = DatumGetObjectId(slot_getattr(queue->slot,
														   LOG_STATUS + 1, &isnull));
		Datum		due = slot_getattr(queue->slot, LOG_RETRY_AT + 1, &isnull);

		CHECK_FOR_INTERRUPTS();
		if (status == queue->dispatched)
		{
			dispatched++;
			continue;
		}
		if (status == queue->queued)
			queued++;
		else
			retrying++;
		if (oldest_due != 0 || DatumGetTimestampTz(due) > queue->now)
			continue;
		if (ordered && is_held(queue, action_id))
			held = DatumGetTimestampTz(due);
		else
			oldest_due = DatumGetTimestampTz(due);
	}
	index_endscan(scan);
	ExecClearTuple(queue->slot);

	/* What was not looked at may be. */
	if (is_cut && oldest_due == 0)
		oldest_due = held;

	/* What is claimed and not yet sent waits still. */
	values[0] = Int64GetDatum(queued + Max(dispatched - in_flight, 0));
	values[1] = Int32GetDatum(in_flight);
	values[2] = Int64GetDatum(retrying);
	values[3] = TimestampTzGetDatum(oldest_due);
	nulls[0] = nulls[1] = nulls[2] = false;
	nulls[3] = oldest_due == 0;
	return is_cut;
}

/* All actions' queues: first a little of each, then more of the long ones. */
static void
fill_queues(int n, Datum (*values)[COLUMNS + 1], bool (*nulls)[COLUMNS + 1])
{
	QueueScan	queue = {0};
	int		   *cut = palloc((n + 1) * sizeof(int));
	int			n_cut = 0;
	int			first = Max(Min(FIRST_COUNT, MAX_FIRST_TOTAL / Max(n, 1)), MIN_COUNT);
	int			most;

	if (!begin_queue(&queue))
		return;
	for (int i = 0; i < n; i++)
	{
		if (fill_queue(&queue, DatumGetInt32(values[i][0]),
					   DatumGetBool(values[i][IS_ORDERED]), first,
					   &values[i][4], &nulls[i][4]))
			cut[n_cut++] = i;
	}
	most = n_cut == 0 ? 0 : Min(MAX_COUNT, MAX_TOTAL / n_cut);
	for (int i = 0; i < n_cut && most > first; i++)
		(void) fill_queue(&queue, DatumGetInt32(values[cut[i]][0]),
						  DatumGetBool(values[cut[i]][IS_ORDERED]), most,
						  &values[cut[i]][4], &nulls[cut[i]][4]);
	end_queue(&queue);
}

/* ---------------------------------------------------------------------
 * Latency
 * ---------------------------------------------------------------------
 */

/* Counts of one action by bucket, summed over an hour and all workers. */
typedef struct Latency
{
	int32		action_id;
	int64		total;
	int64		buckets[WEBHOOK_LATENCY_BUCKETS];
} Latency;

static void
add_buckets(Latency *latency, ArrayType *array)
{
	int32	   *counts = (int32 *) ARR_DATA_PTR(array);

	if (ARR_NDIM(array) != 1 || ARR_HASNULL(array) ||
		ARR_ELEMTYPE(array) != INT4OID ||
		ARR_DIMS(array)[0] != WEBHOOK_LATENCY_BUCKETS)
		return;
	for (int i = 0; i < WEBHOOK_LATENCY_BUCKETS; i++)
	{
		latency->buckets[i] += counts[i];
		latency->total += counts[i];
	}
}

/* In the order of action_id, in the given memory context. */
static Latency *
read_latencies(MemoryContext context, int *n)
{
	Latency    *latencies;

	if (SPI_execute(latencies_sql, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the actions' latencies");
	latencies = MemoryContextAllocZero(context,
									   (SPI_processed + 1) * sizeof(Latency));
	*n = 0;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		int32		action_id = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
		Datum		buckets = SPI_getbinval(tuple, desc, 2, &isnull);

		if (*n == 0 || latencies[*n - 1].action_id != action_id)
			latencies[(*n)++].action_id = action_id;
		add_buckets(&latencies[*n - 1], DatumGetArrayTypeP(buckets));
	}
	SPI_freetuptable(SPI_tuptable);
	return latencies;
}

/* The duration that a share of all stayed below, in microseconds. */
static double
get_percentile(const Latency *latency, double share)
{
	double		wanted = share * latency->total;
	double		below = 0;

	for (int i = 0; i < WEBHOOK_LATENCY_BUCKETS - 1; i++)
	{
		double		lower = i == 0 ? 0 : webhook_stats_bound(i - 1);

		if (latency->buckets[i] > 0 && below + latency->buckets[i] >= wanted)
			return lower + (webhook_stats_bound(i) - lower) *
				(wanted - below) / latency->buckets[i];
		below += latency->buckets[i];
	}
	return webhook_stats_bound(WEBHOOK_LATENCY_BUCKETS - 2);
}

static Datum
make_microseconds(double microseconds)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = (int64) microseconds;
	return IntervalPGetDatum(interval);
}

/* Columns p50, p95, p99. */
static void
fill_latency(const Latency *latency, Datum *values, bool *nulls)
{
	static const double shares[3] = {0.50, 0.95, 0.99};

	if (latency == NULL || latency->total == 0)
		return;
	for (int i = 0; i < 3; i++)
	{
		values[i] = make_microseconds(get_percentile(latency, shares[i]));
		nulls[i] = false;
	}
}

/* ---------------------------------------------------------------------
 * SQL functions
 * ---------------------------------------------------------------------
 */

/*
 * webhook.stat_action()
 *		One row for each action that the caller may see.
 */
Datum
stat_action(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext context = CurrentMemoryContext;
	Oid			types[2] = {OIDOID, INT4OID};
	Datum		args[2];
	WebhookScope scope;
	Datum		(*values)[COLUMNS + 1];
	bool		(*nulls)[COLUMNS + 1];
	int			n;
	Latency    *latencies;
	int			n_latencies;
	int			next = 0;

	InitMaterializedSRF(fcinfo, 0);
	args[0] = ObjectIdGetDatum(GetUserId());
	args[1] = Int32GetDatum(WEBHOOK_FAILING_AFTER);

	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	latencies = read_latencies(context, &n_latencies);
	if (SPI_execute_with_args(actions_sql, 2, types, args, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the actions' statistics");
	n = (int) SPI_processed;
	values = palloc((n + 1) * sizeof(*values));
	nulls = palloc((n + 1) * sizeof(*nulls));
	for (int i = 0; i < n; i++)
		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
						  values[i], nulls[i]);
	fill_queues(n, values, nulls);
	for (int i = 0; i < n; i++)
	{
		int32		action_id = DatumGetInt32(values[i][0]);

		while (next < n_latencies && latencies[next].action_id < action_id)
			next++;
		if (next < n_latencies && latencies[next].action_id == action_id)
			fill_latency(&latencies[next], &values[i][11], &nulls[i][11]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values[i], nulls[i]);
	}
	SPI_finish();
	webhook_scope_leave(&scope);
	return (Datum) 0;
}

static uint64
execute_reset(const char *sql, Datum *values, const char *nulls)
{
	Oid			types[2] = {INT4OID, OIDOID};

	if (SPI_execute_with_args(sql, 2, types, values, nulls, false, 0) < 0)
		elog(ERROR, "could not execute: %s", sql);
	return SPI_processed;
}

#define OF_ACTION \
	" s.action_id IN (SELECT a.action_id FROM webhook.action a" \
	" JOIN webhook.workflow w USING (workflow_id)" \
	" WHERE ($1 IS NULL OR a.action_id = $1)" \
	" AND " WEBHOOK_MAY_ACT_AS("$2", "w.owner::oid") ")"

/*
 * webhook.stat_reset(action_id) returns void
 *		Start counting anew; whether a receiver is failing stays known.
 */
Datum
stat_reset(PG_FUNCTION_ARGS)
{
	Datum		values[2] = {0};
	char		nulls[2] = {' ', ' '};
	WebhookScope scope;

	if (PG_ARGISNULL(0))
		nulls[0] = 'n';
	else
		values[0] = PG_GETARG_DATUM(0);
	values[1] = ObjectIdGetDatum(GetUserId());

	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	if (!PG_ARGISNULL(0) &&
		execute_reset("SELECT FROM webhook.action s WHERE" OF_ACTION,
					  values, nulls) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("webhook action %d does not exist", PG_GETARG_INT32(0)),
				 errhint("The view webhook.stat_action shows the actions of the roles that you are a member of.")));
	execute_reset("UPDATE webhook.action_stats s SET succeeded = 0, failed = 0,"
				  " attempts = 0, last_success_at = NULL, last_failure_at = NULL,"
				  " last_error = NULL, reset_at = statement_timestamp() WHERE" OF_ACTION,
				  values, nulls);
	execute_reset("DELETE FROM webhook.action_latency s WHERE" OF_ACTION,
				  values, nulls);
	SPI_finish();
	webhook_scope_leave(&scope);
	PG_RETURN_VOID();
}

/*-------------------------------------------------------------------------
 *
 * stats.c
 *	  What a worker counts of each action.
 *
 * Whoever watches asks every few seconds, and the log may have millions of
 * rows; so what came of deliveries is counted as they are settled.  Counts
 * gather in memory and are added, at most once a second, to a few small rows:
 * one for each action and worker, and twelve of the durations of an hour.  That
 * is done in the transaction that settles, so that a count and the log agree;
 * a crash loses what was settled in the last second before it and not yet
 * added (of the counts, not of the log).
 *
 * Only differences are added, so that stat_reset needs no word with the
 * worker.  A row that somebody has locked waits for the next time: statistics
 * hold up no delivery, and what fails here fails alone.
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

#include <math.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lane.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "shared.h"
#include "stats.h"
#include "storage/itemptr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#define FLUSH_INTERVAL_US USECS_PER_SEC
#define FLUSH_SHARE 100			/* actions for which an interval is enough */
#define PAUSE_US (60 * USECS_PER_SEC)	/* after an error */
#define TIDY_INTERVAL_US (3600 * USECS_PER_SEC)
#define SLOT_US (300 * USECS_PER_SEC)
#define SLOTS 12				/* an hour */
#define ANNOUNCE_PAUSE_US (300 * USECS_PER_SEC)
#define ERROR_SIZE 256

typedef enum Announcement
{
	NOTHING,
	IS_FAILING,
	IS_BACK
} Announcement;

typedef struct StatsEntry
{
	int32		action_id;		/* hash key */
	uint64		saved_in;		/* turn in which it was last saved for undo */
	bool		is_known;		/* the stored state has been read */
	bool		is_dirty;
	char		title[NAMEDATALEN];

	/* Since it was last stored. */
	int64		succeeded;
	int64		failed;
	int64		attempts;
	TimestampTz slot;			/* the five minutes that latencies is about */
	int32		latencies[WEBHOOK_LATENCY_BUCKETS];
	TimestampTz last_success_at;	/* 0: none */
	TimestampTz last_failure_at;
	char		last_error[ERROR_SIZE];

	/* State. */
	int			failures;		/* attempts in a row */
	TimestampTz failing_since;	/* the first of them */
	bool		is_failing;		/* the server log has been told */
	TimestampTz quiet_until;	/* nothing more of failing in the log */
	Announcement announcement;
	TimestampTz announced_since;

	/* What of it the flush under way has stored, and where it lies. */
	bool		is_stats_stored;
	bool		is_latency_stored;
	ItemPointerData stats_tid;
	ItemPointerData latency_tid;
} StatsEntry;

static int	my_number;
static HTAB *entries = NULL;
static int	n_dirty = 0;
static bool has_announcements = false;
static uint64 turn = 1;
static List *saved = NIL;		/* of StatsEntry *, as before this transaction */
static int	saved_dirty;
static TimestampTz last_flush_at = 0;
static TimestampTz paused_until = 0;
static TimestampTz next_tidy_at = 0;
static bool is_hurried = false;

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

/* ---------------------------------------------------------------------
 * Undo
 * ---------------------------------------------------------------------
 */

/* Remember an entry as it was before this transaction touched it. */
static void
save_entry(StatsEntry *entry)
{
	MemoryContext old;
	StatsEntry *copy;

	if (entry->saved_in == turn)
		return;
	old = MemoryContextSwitchTo(TopTransactionContext);
	if (saved == NIL)
		saved_dirty = n_dirty;
	entry->saved_in = turn;
	copy = palloc(sizeof(StatsEntry));
	*copy = *entry;
	saved = lappend(saved, copy);
	MemoryContextSwitchTo(old);
}

static void
restore_entries(void)
{
	ListCell   *lc;

	foreach(lc, saved)
	{
		StatsEntry *copy = lfirst(lc);
		StatsEntry *entry = hash_search(entries, &copy->action_id, HASH_FIND, NULL);

		if (entry != NULL)
			*entry = *copy;
	}
	if (saved != NIL)
		n_dirty = saved_dirty;
}

static void
on_xact_event(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		restore_entries();
	else if (event != XACT_EVENT_COMMIT)
		return;
	saved = NIL;				/* the memory goes with the transaction */
	turn++;
}

void
webhook_stats_init(int number)
{
	HASHCTL		info = {0};

	my_number = number;
	info.keysize = sizeof(int32);
	info.entrysize = sizeof(StatsEntry);
	info.hcxt = TopMemoryContext;
	entries = hash_create("webhook statistics", 64, &info,
						  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	RegisterXactCallback(on_xact_event, NULL);
}

/* ---------------------------------------------------------------------
 * Counting
 * ---------------------------------------------------------------------
 */

double
webhook_stats_bound(int bucket)
{
	return 100.0 * pow(2.0, bucket / 2.0);
}

static int
get_bucket(int64 duration)
{
	int			bucket = 0;

	while (bucket < WEBHOOK_LATENCY_BUCKETS - 1 &&
		   duration > webhook_stats_bound(bucket))
		bucket++;
	return bucket;
}

static StatsEntry *
find_entry(const WebhookLane *lane)
{
	bool		found;
	int32		action_id = lane->action_id;
	StatsEntry *entry = hash_search(entries, &action_id, HASH_ENTER, &found);

	if (!found)
	{
		memset(entry, 0, sizeof(StatsEntry));
		entry->action_id = action_id;
	}
	save_entry(entry);
	if (lane->action != NULL && lane->action->title != NULL)
		strlcpy(entry->title, lane->action->title,
				pg_mbcliplen(lane->action->title, strlen(lane->action->title),
							 NAMEDATALEN - 1) + 1);
	return entry;
}

/* What the worker before this one knew of the receiver. */
static void
read_state(StatsEntry *entry)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, INT2OID};
	Datum		values[2];

	values[0] = Int32GetDatum(entry->action_id);
	values[1] = Int16GetDatum(my_number);
	if (plan == NULL)
	{
		plan = SPI_prepare("SELECT s.failures, s.failing_since"
						   " FROM webhook.action_stats s"
						   " WHERE s.action_id = $1 AND s.worker = $2",
						   2, types);
		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare the look at an action's statistics");
	}
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
			(void) webhook_shared_set_failing(entry->action_id, true);
	}
	SPI_freetuptable(SPI_tuptable);
	entry->is_known = true;
}

static void
read_states(List *settled, TimestampTz now)
{
	ListCell   *lc;

	foreach(lc, settled)
	{
		WebhookFlight *flight = lfirst(lc);
		StatsEntry *entry = find_entry(flight->lane);

		if (!entry->is_known)
			read_state(entry);
	}
}

static void
note_success(StatsEntry *entry, TimestampTz now)
{
	if (entry->is_failing)
	{
		entry->announcement = entry->announcement == NOTHING ? IS_BACK : NOTHING;
		entry->announced_since = entry->failing_since;
		entry->quiet_until = now + ANNOUNCE_PAUSE_US;
		entry->is_failing = false;
	}
	entry->failures = 0;
	entry->failing_since = 0;
	entry->last_success_at = now;
	entry->succeeded++;
}

static void
note_failure(StatsEntry *entry, const WebhookResult *result, TimestampTz now)
{
	if (result->error != NULL)
		strlcpy(entry->last_error, result->error,
				pg_mbcliplen(result->error, strlen(result->error),
							 ERROR_SIZE - 1) + 1);
	entry->last_failure_at = now;
	if (result->retry_at == 0)
		entry->failed++;
	if (result->verdict != WEBHOOK_FAILED)
		return;					/* the receiver was not asked */

	if (entry->failures < PG_INT32_MAX)
		entry->failures++;
	if (entry->failing_since == 0)
		entry->failing_since = now;
	if (!entry->is_failing && entry->failures >= WEBHOOK_FAILING_AFTER &&
		now >= entry->quiet_until)
	{
		entry->is_failing = true;
		entry->announcement = IS_FAILING;
		entry->announced_since = entry->failing_since;
	}
}

static void
note(const WebhookFlight *flight, TimestampTz now)
{
	const WebhookResult *result = &flight->result;
	StatsEntry *entry;

	if (result->verdict == WEBHOOK_RELEASED)
		return;
	entry = find_entry(flight->lane);
	if (!entry->is_dirty)
	{
		entry->is_dirty = true;
		entry->slot = now - now % SLOT_US;
		n_dirty++;
	}
	if (result->verdict == WEBHOOK_SUCCEEDED)
		note_success(entry, now);
	else
		note_failure(entry, result, now);
	if (result->verdict != WEBHOOK_UNSENDABLE)
	{
		entry->attempts++;
		entry->latencies[get_bucket(result->duration)]++;
	}
	has_announcements |= entry->announcement != NOTHING;
}

/* ---------------------------------------------------------------------
 * Storing
 * ---------------------------------------------------------------------
 */

/* Execute one of the statements; true if it gave a row, whose ctid is kept. */
static bool
try_statement(RowStatements *statements, int which, const char *sql,
			  Datum *values, const char *nulls, ItemPointer tid)
{
	bool		found;

	if (statements->plans[which] == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(sql, statements->n, statements->types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare: %s", sql);
		statements->plans[which] = plan;
	}
	if (SPI_execute_plan(statements->plans[which], values, nulls, false, 0) < 0)
		elog(ERROR, "could not execute: %s", sql);
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

static void
store_entry(StatsEntry *entry)
{
	Datum		values[11];
	Datum		buckets[WEBHOOK_LATENCY_BUCKETS];
	char		nulls[11];

	memset(nulls, ' ', sizeof(nulls));
	values[1] = Int32GetDatum(entry->action_id);
	values[2] = Int16GetDatum(my_number);
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
	values[3] = Int16GetDatum(entry->slot / SLOT_US % SLOTS);
	values[4] = TimestampTzGetDatum(entry->slot);
	values[5] = PointerGetDatum(construct_array(buckets, WEBHOOK_LATENCY_BUCKETS,
												INT4OID, 4, true, TYPALIGN_INT));
	entry->is_latency_stored = add_to_row(&latency_statements,
										  &entry->latency_tid, values, nulls);
}

/* The flush has succeeded: what it stored is not to be added again. */
static void
forget_stored(void)
{
	HASH_SEQ_STATUS scan;
	StatsEntry *entry;

	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->is_stats_stored)
		{
			entry->succeeded = entry->failed = entry->attempts = 0;
			entry->last_success_at = entry->last_failure_at = 0;
		}
		if (entry->is_latency_stored)
			memset(entry->latencies, 0, sizeof(entry->latencies));
		if (entry->is_stats_stored && entry->is_latency_stored)
		{
			entry->is_dirty = false;
			n_dirty--;
		}
		entry->is_stats_stored = entry->is_latency_stored = false;
	}
}

/* Actions that are no more leave no statistics. */
static void
tidy(void)
{
	SPI_execute("DELETE FROM webhook.action_stats s WHERE NOT EXISTS"
				" (SELECT FROM webhook.action a WHERE a.action_id = s.action_id)",
				false, 0);
	SPI_execute("DELETE FROM webhook.action_latency s WHERE NOT EXISTS"
				" (SELECT FROM webhook.action a WHERE a.action_id = s.action_id)",
				false, 0);
}

static void
store(List *settled, TimestampTz now)
{
	HASH_SEQ_STATUS scan;
	StatsEntry *entry;

	if (my_number == 0 && now >= next_tidy_at)
	{
		tidy();
		next_tidy_at = now + TIDY_INTERVAL_US;
	}
	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		entry->is_stats_stored = entry->is_latency_stored = false;
		if (!entry->is_dirty)
			continue;
		save_entry(entry);
		store_entry(entry);
	}
}

/*
 * Do something in a subtransaction: an error here must not stop deliveries.
 * After one, statistics leave the tables alone for a while.
 */
static bool
do_guarded(void (*callback) (List *settled, TimestampTz now), List *settled,
		   TimestampTz now)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool is_done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		SPI_connect();
		callback(settled, now);
		SPI_finish();
		ReleaseCurrentSubTransaction();
		is_done = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		EmitErrorReport();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		paused_until = now + PAUSE_US;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return is_done;
}

TimestampTz
webhook_stats_next(void)
{
	if (n_dirty == 0)
		return 0;
	if (is_hurried)
		return Max(last_flush_at, 1);

	/* A second for each hundred actions, lest storing takes a large share. */
	return Max(last_flush_at + FLUSH_INTERVAL_US * (1 + n_dirty / FLUSH_SHARE),
			   paused_until);
}

void
webhook_stats_hurry(void)
{
	is_hurried = true;
}

/* Has the stored state of one of the actions not been read yet? */
static bool
has_unknown(List *settled)
{
	ListCell   *lc;

	foreach(lc, settled)
	{
		WebhookFlight *flight = lfirst(lc);

		if (!find_entry(flight->lane)->is_known)
			return true;
	}
	return false;
}

void
webhook_stats_settle(List *settled, TimestampTz now)
{
	ListCell   *lc;

	if (has_unknown(settled) && now >= paused_until)
		(void) do_guarded(read_states, settled, now);
	foreach(lc, settled)
		note(lfirst(lc), now);
	if (n_dirty > 0 && now >= webhook_stats_next())
	{
		if (do_guarded(store, NIL, now))
			forget_stored();
		last_flush_at = now;
	}
}

/* ---------------------------------------------------------------------
 * The server log
 * ---------------------------------------------------------------------
 */

static void
announce(StatsEntry *entry)
{
	bool		is_failing = entry->announcement == IS_FAILING;
	char	   *since = pstrdup(timestamptz_to_str(entry->announced_since));

	entry->announcement = NOTHING;

	/* One of several workers says it for all. */
	if (!webhook_shared_set_failing(entry->action_id, is_failing))
		return;
	if (is_failing)
		ereport(WARNING,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("receiver of webhook action %d (\"%s\") has been failing since %s",
						entry->action_id, entry->title, since),
				 errdetail("%d attempts in a row have failed, the last with: %s",
						   entry->failures, entry->last_error[0] != '\0' ?
						   entry->last_error : "no message"),
				 errhint("See webhook.stat_action and webhook.webhook_attempt; deliveries are tried again as the retry schedule says.")));
	else
		ereport(LOG,
				(errcode(ERRCODE_SUCCESSFUL_COMPLETION),
				 errmsg("receiver of webhook action %d (\"%s\") is back; it had been failing since %s",
						entry->action_id, entry->title, since)));
	pfree(since);
}

void
webhook_stats_report(void)
{
	HASH_SEQ_STATUS scan;
	StatsEntry *entry;

	if (!has_announcements)
		return;
	has_announcements = false;
	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->announcement != NOTHING)
			announce(entry);
	}
}

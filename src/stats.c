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
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "complaint.h"
#include "executor/spi.h"
#include "lane.h"
#include "mb/pg_wchar.h"
#include "shared_action.h"
#include "slot.h"
#include "stats.h"
#include "stats_store.h"
#include "subtransaction.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define FLUSH_INTERVAL_US USECS_PER_SEC
#define FLUSH_SHARE 100			/* actions for which an interval is enough */
#define PAUSE_US (60 * USECS_PER_SEC)	/* after an error */
#define TIDY_INTERVAL_US (3600 * USECS_PER_SEC)
#define ANNOUNCE_PAUSE_US (300 * USECS_PER_SEC)

static HTAB *entries = NULL;
static int	n_dirty = 0;
static bool has_announcements = false;
static uint64 turn = 1;
static List *saved = NIL;		/* of WebhookStatsEntry *, as before this transaction */
static int	saved_dirty;
static TimestampTz last_flush_at = 0;
static TimestampTz paused_until = 0;
static TimestampTz next_tidy_at = 0;
static bool is_hurried = false;

/* ---------------------------------------------------------------------
 * Undo
 * ---------------------------------------------------------------------
 */

/* Remember an entry as it was before this transaction touched it. */
static void
save_entry(WebhookStatsEntry *entry)
{
	MemoryContext old;
	WebhookStatsEntry *copy;

	if (entry->saved_in == turn)
		return;
	old = MemoryContextSwitchTo(TopTransactionContext);
	if (saved == NIL)
		saved_dirty = n_dirty;
	entry->saved_in = turn;
	copy = palloc(sizeof(WebhookStatsEntry));
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
		WebhookStatsEntry *copy = lfirst(lc);
		WebhookStatsEntry *entry = hash_search(entries, &copy->action_id, HASH_FIND, NULL);

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
webhook_stats_init(void)
{
	HASHCTL		info = {0};

	info.keysize = sizeof(int32);
	info.entrysize = sizeof(WebhookStatsEntry);
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
	static double bounds[WEBHOOK_LATENCY_BUCKETS];
	int			bucket = 0;

	if (bounds[0] == 0)
	{
		for (int i = 0; i < WEBHOOK_LATENCY_BUCKETS; i++)
			bounds[i] = webhook_stats_bound(i);
	}
	while (bucket < WEBHOOK_LATENCY_BUCKETS - 1 && duration > bounds[bucket])
		bucket++;
	return bucket;
}

static WebhookStatsEntry *
find_entry(const WebhookLane *lane)
{
	bool		found;
	int32		action_id = lane->action_id;
	WebhookStatsEntry *entry = hash_search(entries, &action_id, HASH_ENTER, &found);

	if (!found)
	{
		memset(entry, 0, sizeof(WebhookStatsEntry));
		entry->action_id = action_id;
	}
	save_entry(entry);
	if (lane->action != NULL && lane->action->title != NULL)
		strlcpy(entry->title, lane->action->title,
				pg_mbcliplen(lane->action->title, strlen(lane->action->title),
							 NAMEDATALEN - 1) + 1);
	return entry;
}

static void
read_states(void *arg)
{
	List	   *settled = arg;
	ListCell   *lc;

	SPI_connect();
	foreach(lc, settled)
	{
		WebhookFlight *flight = lfirst(lc);
		WebhookStatsEntry *entry = find_entry(flight->lane);

		if (!entry->is_known)
			webhook_stats_store_read(entry);
	}
	SPI_finish();
}

static void
note_success(WebhookStatsEntry *entry, TimestampTz now)
{
	if (entry->is_failing)
	{
		entry->announcement = entry->announcement == WEBHOOK_TOLD ? WEBHOOK_IS_BACK : WEBHOOK_TOLD;
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
note_failure(WebhookStatsEntry *entry, const WebhookResult *result, TimestampTz now)
{
	if (result->error != NULL)
		strlcpy(entry->last_error, result->error,
				pg_mbcliplen(result->error, strlen(result->error),
							 WEBHOOK_STATS_ERROR_SIZE - 1) + 1);
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
		entry->announcement = WEBHOOK_IS_FAILING;
		entry->announced_since = entry->failing_since;
	}
}

static void
note(const WebhookFlight *flight, TimestampTz now)
{
	const WebhookResult *result = &flight->result;
	WebhookStatsEntry *entry;

	if (result->verdict == WEBHOOK_RELEASED)
		return;
	entry = find_entry(flight->lane);
	if (!entry->is_dirty)
	{
		entry->is_dirty = true;
		entry->slot = now - now % WEBHOOK_STATS_SLOT_US;
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
	has_announcements |= entry->announcement != WEBHOOK_TOLD;
}

/* ---------------------------------------------------------------------
 * Storing
 * ---------------------------------------------------------------------
 */

/* The flush has succeeded: what it stored is not to be added again. */
static void
forget_stored(void)
{
	HASH_SEQ_STATUS scan;
	WebhookStatsEntry *entry;

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

static void
store(void *arg)
{
	TimestampTz now = *(TimestampTz *) arg;
	HASH_SEQ_STATUS scan;
	WebhookStatsEntry *entry;

	SPI_connect();
	if (webhook_slot_number() == 0 && now >= next_tidy_at)
	{
		webhook_stats_store_tidy();
		next_tidy_at = now + TIDY_INTERVAL_US;
	}
	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		entry->is_stats_stored = entry->is_latency_stored = false;
		if (!entry->is_dirty)
			continue;
		save_entry(entry);
		webhook_stats_store_add(entry);
	}
	SPI_finish();
}

/*
 * Do something in a subtransaction: an error here must not stop deliveries.
 * After one, statistics leave the tables alone for a while.
 */
static bool
do_guarded(void (*function) (void *), void *arg, TimestampTz now)
{
	ErrorData  *error = webhook_subtransaction_call(function, arg,
													webhook_complaint_emit);

	if (error == NULL)
		return true;
	FreeErrorData(error);
	paused_until = now + PAUSE_US;
	return false;
}

TimestampTz
webhook_stats_next(void)
{
	if (n_dirty == 0)
		return DT_NOEND;
	if (is_hurried)
		return last_flush_at;

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
	if (now >= webhook_stats_next())
	{
		if (do_guarded(store, &now, now))
			forget_stored();
		last_flush_at = now;
	}
}

/* ---------------------------------------------------------------------
 * The server log
 * ---------------------------------------------------------------------
 */

static void
announce(WebhookStatsEntry *entry)
{
	bool		is_failing = entry->announcement == WEBHOOK_IS_FAILING;
	char	   *since = pstrdup(timestamptz_to_str(entry->announced_since));

	entry->announcement = WEBHOOK_TOLD;

	/* One of several workers says it for all. */
	if (!webhook_shared_action_set_failing(entry->action_id, is_failing))
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
	WebhookStatsEntry *entry;

	if (!has_announcements)
		return;
	has_announcements = false;
	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->announcement != WEBHOOK_TOLD)
			announce(entry);
	}
}

/*-------------------------------------------------------------------------
 *
 * turn.c
 *	  A worker's turn at the database: record what was answered, claim what is
 *	  to be sent.
 *
 * A turn is one transaction.  Between the turns there is none, and so no
 * snapshot and no lock, however long the network takes.  Turns take place
 * when there is something to do: at once on an idle system, and on a busy one
 * with pauses that let results and wake-ups gather, since a turn for a
 * hundred rows costs little more than one for a single row.  Where thousands of
 * small transactions a second keep coming, and nothing waits for the worker but
 * what they bring, the pauses are longer: its turns take from the writers.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog.h"
#include "catalog/pg_class.h"
#include "commands/dbcommands.h"
#include "durable.h"
#include "mail.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "news.h"
#include "origin.h"
#include "pgstat.h"
#include "places.h"
#include "purge.h"
#include "queue.h"
#include "recovery.h"
#include "runner.h"
#include "settings.h"
#include "settle.h"
#include "share.h"
#include "shared.h"
#include "slot.h"
#include "stats.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "survey.h"
#include "transaction.h"
#include "trouble.h"
#include "turn.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#define TURN_PAUSE_US 1000		/* between turns on a busy system */
#define LONG_PAUSE_US 3000		/* ... where much comes in singly */
#define MUCH 2					/* deliveries in a turn, and results as well */
#define CLAIM_PAUSE_US 3000		/* ... that are only to claim more */
#define MIN_BACKOFF_US (100 * INT64CONST(1000))
#define LONG_BACKOFF_US (5 * USECS_PER_SEC)	/* worth a line when it ends */
#define MAX_BACKOFF_US (30 * USECS_PER_SEC)
#define PROBE_PAUSE_US (100 * INT64CONST(1000))	/* between looks at a locked log */
#define LOCKED_WAIT_US (10 * USECS_PER_SEC)	/* between waits for it */

static MemoryContext turn_context;

static WebhookOrigin origin = WEBHOOK_ORIGIN_NONE;
static bool is_paused = false;	/* and it has been told */
static bool is_open = false;	/* committed, but not yet remembered */
static TimestampTz last_turn_at = 0;
static int64 turn_pause = TURN_PAUSE_US;
static TimestampTz backoff_until = 0;
static int64 backoff = 0;
static TimestampTz probe_at = DT_NOEND; /* is the log still locked? */
static bool is_first_probe = false;
static uint64 seen_generation = 0;

bool
webhook_turn_is_silent(void)
{
	return origin != WEBHOOK_ORIGIN_OWN;
}

WebhookWorkerState
webhook_turn_state(void)
{
	if (is_paused)
		return WEBHOOK_STATE_PAUSED;
	if (backoff != 0 || webhook_settle_is_failing())
		return WEBHOOK_STATE_BACKOFF;
	if (!webhook_enabled)
		return WEBHOOK_STATE_DISABLED;
	return webhook_trouble_is_lasting() ? WEBHOOK_STATE_BACKOFF : WEBHOOK_STATE_RUNNING;
}

/* ---------------------------------------------------------------------
 * What has changed
 * ---------------------------------------------------------------------
 */

/* Nothing is begun; what is under way is given back. */
static void
release_lanes(void)
{
	List	   *released = webhook_lane_release(false);
	ListCell   *lc;

	foreach(lc, released)
		webhook_settle_add(lfirst(lc));
}

/* Where the sequence of log_id is stored: elsewhere once it begins anew. */
static Oid
find_numbers(void)
{
	Oid			sequence = webhook_catalog_relation(WEBHOOK_REL_LOG_SEQUENCE);
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(sequence));
	Oid			result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", sequence);
	result = ((Form_pg_class) GETSTRUCT(tuple))->relfilenode;
	ReleaseSysCache(tuple);
	return result;
}

/*
 * The extension may have been dropped, and created anew, or the log truncated
 * with RESTART IDENTITY.  The numbers of what is under way are then those of other
 * deliveries.  Only a new worker gets it right.
 */
static void
check_log(void)
{
	static Oid	my_numbers = InvalidOid;
	Oid			numbers;

	/* Whoever is dropping it is waited for here, and here only. */
	if (webhook_catalog_is_known())
		LockRelationOid(webhook_catalog_relation(WEBHOOK_REL_LOG), AccessShareLock);
	if ((webhook_survey_is_asked() || !webhook_catalog_is_known()) &&
		!webhook_catalog_exists())
	{
		webhook_slot_set_state(WEBHOOK_STATE_ABSENT);
		proc_exit(0);
	}
	numbers = find_numbers();
	if (!OidIsValid(my_numbers))
		my_numbers = numbers;
	if (numbers == my_numbers)
		return;
	webhook_slot_set_state(WEBHOOK_STATE_STOPPED);
	ereport(LOG,
			(errcode(ERRCODE_SUCCESSFUL_COMPLETION),
			 errmsg("webhook worker %d of database \"%s\" starts anew: the numbers of deliveries begin again",
					webhook_slot_number(), get_database_name(MyDatabaseId)),
			 errdetail("The extension was created again, or the log was truncated with RESTART IDENTITY.")));
	proc_exit(0);
}

/* A copy of a database sends nothing until webhook.resume. */
static void
check_origin(void)
{
	bool		was_paused = is_paused;

	origin = webhook_origin_find();
	is_paused = origin == WEBHOOK_ORIGIN_COPY;
	if (is_paused == was_paused)
		return;
	webhook_slot_set_state(webhook_turn_state());
	if (is_paused)
	{
		release_lanes();
		ereport(LOG,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("webhook worker %d of database \"%s\" is paused: this database is a copy of another one",
						webhook_slot_number(), get_database_name(MyDatabaseId)),
				 errdetail("It was restored from a dump, made from a template, or belongs to a cluster with another system identifier. Its webhooks are not sent."),
				 errhint("To let it send, call webhook.resume(), or webhook.resume(true) to discard what is queued so far.")));
	}
	else
		ereport(LOG,
				(errcode(ERRCODE_SUCCESSFUL_COMPLETION),
				 errmsg("webhook worker %d of database \"%s\" is sending: it was told to resume",
						webhook_slot_number(), get_database_name(MyDatabaseId))));
}

/*
 * What was queued before the clock was turned back is due now.  Until it shows
 * that time again there may come more: of a transaction that began before, and is
 * committed after.
 */
static void
catch_up(TimestampTz now, const WebhookHint *hints, int n)
{
	bool		is_time = now >= webhook_survey_next();
	TimestampTz clock_was;

	for (int i = 0; i < n && !is_time; i++)
		is_time = hints[i].retry_at > now;
	if (!is_time)
		return;
	clock_was = webhook_shared_clock_was();
	if (clock_was <= now)
		return;
	webhook_queue_turn_back(now, clock_was);

	/* What is due now is in front of the lanes' cursors. */
	webhook_survey_ask();
}

/* Take up what commits have told, and what has fallen due. */
static void
look_around(TimestampTz now, bool is_rescan, const WebhookHint *hints, int n)
{
	if (is_rescan)
	{
		/*
		 * The configuration may have changed.  Its invalidation message is
		 * sent later in the commit than the wake-up, so don't wait for it.
		 */
		webhook_lane_forget_actions();
		webhook_mail_survey();
		webhook_runner_survey();
		webhook_survey_ask();
	}
	check_log();
	if (webhook_catalog_generation() != seen_generation)
	{
		/* What is not yet sent is made anew from the action as it is now. */
		release_lanes();
		seen_generation = webhook_catalog_generation();
		webhook_lane_forget_actions();
	}
	if (origin != WEBHOOK_ORIGIN_OWN || now >= webhook_survey_next())
		check_origin();
	if (webhook_turn_is_silent())
	{
		webhook_survey_skip(now);
		return;
	}
	catch_up(now, hints, n);
	webhook_recovery_step(now);
	webhook_survey_take(hints, n, now);
}

/* ---------------------------------------------------------------------
 * The turn
 * ---------------------------------------------------------------------
 */

static void
render_claimed(List *claimed)
{
	ListCell   *lc;
	bool		needs_transaction = GetDatabaseEncoding() != PG_UTF8;

	if (claimed == NIL)
		return;
	webhook_durable_require();
	if (needs_transaction)
		webhook_transaction_begin("rendering webhooks");
	foreach(lc, claimed)
	{
		WebhookDelivery *delivery = lfirst(lc);
		WebhookFlight *flight;

		flight = webhook_lane_add(webhook_lane_find(delivery->action_id), delivery);
		if (flight != NULL)
			webhook_settle_add(flight);
	}
	if (needs_transaction)
		webhook_transaction_commit();
}

static void
take_turn(void)
{
	WebhookHint hints[WEBHOOK_MAX_HINTS];
	TimestampTz now;
	bool		is_rescan;
	bool		is_much;
	int			n;
	List	   *settled;
	List	   *claimed;
	ListCell   *lc;
	dlist_iter	iter;
	MemoryContext old;

	/*
	 * Before the clock is read, and before the snapshot: what is told of is then
	 * due and visible, and what comes later is told of again.
	 */
	is_rescan = webhook_news_take(hints, &n);
	now = GetCurrentTimestamp();
	webhook_survey_take_any(hints, &n, now);
	dlist_foreach(iter, webhook_lane_all())
		webhook_lane_adapt(dlist_container(WebhookLane, node, iter.cur),
						   now - last_turn_at);

	webhook_transaction_begin("delivering webhooks");
	webhook_durable_begin();
	MemoryContextSwitchTo(turn_context);
	look_around(now, is_rescan, hints, n);
	settled = webhook_settle_all();
	if (settled != NIL)
		CommandCounterIncrement();
	webhook_stats_settle(settled, now);
	claimed = webhook_turn_is_silent() ? NIL : webhook_share_claim(now);
	is_much = Min(list_length(claimed), list_length(settled)) >= MUCH;
	foreach(lc, claimed)
	{
		WebhookDelivery *delivery = lfirst(lc);

		webhook_durable_add(delivery->writer);
		if (delivery->ordered)
			is_much = false;	/* the next one may wait for this one's end */
	}
	webhook_purge_take(now);
	webhook_transaction_end();

	/* Committed: what was settled is forgotten, what was claimed is ours. */
	is_open = claimed != NIL || settled != NIL;
	webhook_transaction_report();
	webhook_purge_commit();
	webhook_recovery_commit();
	old = MemoryContextSwitchTo(TopMemoryContext);
	webhook_settle_forget(settled);
	webhook_stats_report();
	MemoryContextSwitchTo(turn_context);
	render_claimed(claimed);
	is_open = false;
	MemoryContextSwitchTo(old);
	if (webhook_turn_is_silent())
		webhook_share_forget();
	else
		webhook_share_plan();
	last_turn_at = GetCurrentTimestamp();
	turn_pause = is_much && !webhook_share_has_backlog() ? LONG_PAUSE_US : TURN_PAUSE_US;
	webhook_survey_commit(now, last_turn_at);
	MemoryContextReset(turn_context);
}

/*
 * The last turn has waited for a lock in vain.  If it is the log that somebody
 * has locked, the next ones don't wait, but look whether it is free: requests
 * are sent and answers received meanwhile.  Now and then it is waited for, lest
 * others always come first.
 */
static bool
is_locked_out(void)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		is_free;

	if (probe_at == DT_NOEND)
		return false;
	webhook_transaction_begin("delivering webhooks");
	is_free = webhook_catalog_lock_if_free(WEBHOOK_REL_LOG);
	webhook_transaction_commit();
	if (is_first_probe)
	{
		is_first_probe = false;
		if (is_free)
		{
			probe_at = DT_NOEND;
			return now < backoff_until;
		}
		backoff_until = Max(backoff_until, now + LOCKED_WAIT_US);
	}
	if (is_free || now >= backoff_until)
		return false;
	probe_at = now + PROBE_PAUSE_US;
	return true;
}

static void
take_turn_unless_locked_out(void)
{
	if (!is_locked_out())
	{
		take_turn();
		if (backoff >= LONG_BACKOFF_US)
			ereport(LOG,
					(errcode(ERRCODE_SUCCESSFUL_COMPLETION),
					 errmsg("webhook worker %d goes on after an error", webhook_slot_number())));
		backoff = 0;
		backoff_until = 0;
		probe_at = DT_NOEND;
	}
	webhook_slot_set_state(webhook_turn_state());
}

/* A turn, and what to do when it fails: wait, and start from the beginning. */
void
webhook_turn_take(void)
{
	ErrorData  *error = webhook_transaction_call(take_turn_unless_locked_out);

	if (error == NULL)
		return;

	/* The log knows what we don't: only a new worker gets it right. */
	if (is_open)
		proc_exit(1);
	pgstat_report_activity(STATE_IDLE, NULL);
	webhook_slot_set_error(error->message);
	webhook_slot_set_state(WEBHOOK_STATE_BACKOFF);
	backoff = backoff == 0 ? MIN_BACKOFF_US : Min(backoff * 2, MAX_BACKOFF_US);
	last_turn_at = GetCurrentTimestamp();
	backoff_until = last_turn_at + backoff;
	probe_at = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ? last_turn_at : DT_NOEND;
	is_first_probe = true;
	FreeErrorData(error);
	webhook_settle_beware();
	webhook_purge_abort();
	webhook_recovery_restart();
	webhook_survey_ask();
	MemoryContextReset(turn_context);
}

/* Nothing comes in any more: results have nothing to wait for but a long pause. */
static bool
is_quiet(void)
{
	return webhook_sender_in_flight() == 0 && webhook_places_total_ready() == 0;
}

/* Is there something to do, and is it time? */
bool
webhook_turn_is_due(TimestampTz now, bool is_told)
{
	bool		is_busy = webhook_sender_in_flight() > 0;
	bool		is_pause;

	if (now < backoff_until)
		return now >= probe_at;
	is_pause = now < last_turn_at + turn_pause;
	if (webhook_settle_is_due(now, is_quiet() &&
							  (!is_pause || turn_pause < LONG_PAUSE_US)))
		return true;
	if (is_pause)
		return false;
	return is_told || now >= webhook_survey_next() ||
		((!is_busy || now >= last_turn_at + CLAIM_PAUSE_US) &&
		 now >= webhook_share_hungry_at(now)) ||
		(now >= webhook_share_next_due() && webhook_durable_is_reached()) ||
		now >= webhook_stats_next() ||
		(now >= webhook_recovery_next() && !webhook_turn_is_silent()) ||
		now >= webhook_purge_next();
}

/* ---------------------------------------------------------------------
 * For the loop
 * ---------------------------------------------------------------------
 */

void
webhook_turn_init(void)
{
	turn_context = AllocSetContextCreate(TopMemoryContext, "webhook turn",
										 ALLOCSET_DEFAULT_SIZES);
	webhook_stats_init();
	webhook_recovery_init();
}

TimestampTz
webhook_turn_next(TimestampTz now, bool is_told)
{
	TimestampTz next = webhook_survey_next();
	TimestampTz hungry_at = webhook_share_hungry_at(now);

	if (is_told)
		next = last_turn_at;
	if (!webhook_durable_is_reached())
		next = Min(next, now + WEBHOOK_DURABLE_POLL_US);
	else
		next = Min(next, webhook_share_next_due());
	next = Min(next, Max(hungry_at, last_turn_at + CLAIM_PAUSE_US));
	next = Min(next, webhook_purge_next());
	next = Min(next, webhook_stats_next());
	if (!webhook_turn_is_silent())
		next = Min(next, webhook_recovery_next());
	next = Max(next, last_turn_at + turn_pause);
	next = Min(next, webhook_settle_next());
	if (is_quiet() && webhook_settle_is_due(now, true))
		next = Min(next, last_turn_at + turn_pause);
	next = Max(next, backoff_until);
	return Min(next, probe_at);
}

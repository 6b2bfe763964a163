/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The loop.
 *
 * One wait covers the latch, the postmaster's death, libcurl's sockets and
 * all timers; what is to be done with the database is a turn (turn.c).
 *
 * Runs in the worker, one process a database by default, with the rights of
 * the bootstrap superuser.  It evaluates nothing that a user wrote.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "commands/dbcommands.h"
#include "compat.h"
#include "durable.h"
#include "fmgr.h"
#include "lane.h"
#include "launch.h"
#include "mail.h"
#include "miscadmin.h"
#include "news.h"
#include "pgstat.h"
#include "places.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "process.h"
#include "recovery.h"
#include "runner.h"
#include "sender.h"
#include "settings.h"
#include "settle.h"
#include "shared.h"
#include "slot.h"
#include "stats.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "survey.h"
#include "transaction.h"
#include "turn.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
#include "worker.h"

#define MEASURE_INTERVAL_US USECS_PER_SEC
#define RELOAD_PAUSE_US (5 * USECS_PER_SEC)	/* after one that has failed */
#define CLOCK_STEP_US USECS_PER_SEC	/* back by so much is a step */

static char my_database_name[NAMEDATALEN];
static TimestampTz reload_at = DT_NOEND;	/* the settings, once more */

/* Settings of users' sessions must not stop the worker. */
static void
set_session_options(void)
{
	static const char *const options[][2] = {
		{"lock_timeout", "500ms"},
		{"row_security", "off"},
		{"temp_file_limit", "-1"},
		{"jit", "off"},
		{"bytea_output", "hex"},
		{"datestyle", "ISO"},
		{"intervalstyle", "postgres"},
		{"max_parallel_workers_per_gather", "0"},
		/* Plans are kept: they must be right for a log of any size. */
		{"plan_cache_mode", "force_generic_plan"},
		{"enable_seqscan", "off"},
		{"enable_bitmapscan", "off"},
		{"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"},
	};

	webhook_process_set_common();
	for (int i = 0; i < lengthof(options); i++)
		webhook_process_set(options[i][0], options[i][1]);

	/* Not overridden for good: what it is for others can still be asked. */
	SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION);
}

/* In pg_stat_activity. */
static void
name_myself(void)
{
	char		name[NAMEDATALEN];

	snprintf(name, sizeof(name), "webhook worker %d", webhook_slot_number());
	SetConfigOption("application_name", name, PGC_USERSET, PGC_S_OVERRIDE);
}

/* Milliseconds until something is to be done without being woken. */
static long
plan_wait(TimestampTz next_send, bool is_told)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = webhook_turn_next(now, is_told);
	long		timeout = webhook_sender_timeout();
	long		until;

	next = Min(next, Min(next_send, reload_at));
	if (webhook_slot_number() == 0 && !webhook_turn_is_silent())
		next = Min(next, Min(webhook_mail_next(), webhook_runner_next()));
	until = next <= now ? 0 : (long) ((next - now + 999) / 1000);
	return timeout < 0 ? until : Min(timeout, until);
}

/* Give claimed deliveries back to the queue. */
static void
release(bool also_in_flight)
{
	List	   *released = webhook_lane_release(also_in_flight);
	ListCell   *lc;

	foreach(lc, released)
		webhook_settle_add(lfirst(lc));
	list_free(released);
	webhook_settle_hurry();
}

/* The server log has a line for each change of the worker's state. */
static void
report_state(void)
{
	if (webhook_enabled)
		ereport(LOG,
				(errcode(ERRCODE_SUCCESSFUL_COMPLETION),
				 errmsg("webhook worker %d of database \"%s\" is sending",
						webhook_slot_number(), my_database_name)));
	else
		ereport(LOG,
				(errcode(ERRCODE_SUCCESSFUL_COMPLETION),
				 errmsg("webhook worker %d of database \"%s\" is paused: webhook.enabled is off",
						webhook_slot_number(), my_database_name),
				 errdetail("Deliveries are queued, and wait.")));
}

static void
read_settings(void)
{
	bool		was_enabled = webhook_enabled;
	int			n_workers = webhook_workers_per_database;
	char	   *database;

	ProcessConfigFile(PGC_SIGHUP);
	webhook_durable_reload();
	webhook_survey_ask();
	webhook_mail_survey();
	webhook_runner_survey();
	if (webhook_workers_per_database < n_workers)
		webhook_recovery_again();
	if (was_enabled && !webhook_enabled)
		release(false);
	webhook_slot_set_state(webhook_turn_state());
	if (was_enabled != webhook_enabled)
		report_state();

	/* What may fail comes last, and may be done again. */
	webhook_sender_reload();
	webhook_transaction_begin("reading settings");
	database = get_database_name(MyDatabaseId);
	if (webhook_slot_number() >= webhook_workers_per_database ||
		database == NULL || !webhook_settings_has_database(database))
		ShutdownRequestPending = true;
	webhook_transaction_commit();
}

/* What can't be read now, as where somebody has locked a catalog, is read later. */
static void
reload_settings(void)
{
	ErrorData  *error = webhook_transaction_call(read_settings);

	reload_at = DT_NOEND;
	if (error == NULL)
		return;
	webhook_slot_set_error(error->message);
	FreeErrorData(error);
	reload_at = GetCurrentTimestamp() + RELOAD_PAUSE_US;
}

/*
 * All that is planned is planned by the clock.  Where that is turned back, a
 * new worker takes over, whose plans know nothing of the time that was: this one
 * would wait until it comes again.  What is in the queue is seen to in its turns.
 */
static void
check_clock(void)
{
	static TimestampTz last = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (now + CLOCK_STEP_US < last)
	{
		/* What was queued since this worker last saw it counts, too. */
		webhook_shared_set_clock_was(last + USECS_PER_MINUTE);
		ShutdownRequestPending = true;
		ereport(LOG,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("webhook worker %d of database \"%s\" starts anew: the clock was turned back by " INT64_FORMAT " seconds",
						webhook_slot_number(), my_database_name,
						(int64) ((last - now) / USECS_PER_SEC)),
				 errdetail("What was due by the clock as it was is due now.")));
	}
	last = now;
}

/* Give back what is under way; what can't be is found by the next worker. */
static void
shut_down(void)
{
	release(true);
	webhook_enabled = false;	/* claim no more */
	webhook_stats_hurry();
	if (webhook_settle_count() > 0 || webhook_stats_next() != DT_NOEND)
		webhook_turn_take();
	webhook_slot_set_state(WEBHOOK_STATE_STOPPED);
	ereport(LOG,
			(errcode(ERRCODE_SUCCESSFUL_COMPLETION),
			 errmsg("webhook worker %d of database \"%s\" stopped",
					webhook_slot_number(), my_database_name)));
	proc_exit(0);
}

/* For those who watch: how the worker is. */
static void
tell_progress(void)
{
	static TimestampTz measured_at = 0;
	static Size memory = 0;
	TimestampTz now = GetCurrentTimestamp();

	/* Adding up all contexts takes a while when much is under way. */
	if (now >= measured_at + MEASURE_INTERVAL_US)
	{
		memory = MemoryContextMemAllocated(TopMemoryContext, true);
		measured_at = now;
	}
	webhook_slot_set_turn(now, memory, webhook_sender_capacity());
}

static void
run_loop(void)
{
	WaitEventSet *events = webhook_create_wait_events(3);
	bool		is_told = true;
	uint32		idle_event = webhook_wait_event_new("WebhookWorkerMain");
	uint32		network_event = webhook_wait_event_new("WebhookReceivers");

	AddWaitEventToSet(events, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(events, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(events, WL_SOCKET_READABLE, webhook_sender_socket(), NULL, NULL);

	for (;;)
	{
		WaitEvent	occurred[3];
		WebhookFlight *flight;
		TimestampTz next_send;
		int			max_in_flight = Min(webhook_max_in_flight,
										webhook_sender_capacity());
		int			n;

		webhook_sender_progress();
		while ((flight = webhook_lane_finish()) != NULL)
			webhook_settle_add(flight);
		next_send = webhook_lane_dispatch(max_in_flight);
		if (webhook_turn_is_due(GetCurrentTimestamp(), is_told))
		{
			/* Let requests leave before the database keeps us. */
			webhook_sender_progress();
			is_told = false;
			webhook_turn_take();
			tell_progress();
			next_send = webhook_lane_dispatch(max_in_flight);
			/* A wait for a lock takes the latch's news, too. */
			is_told = webhook_news_is_told();
		}
		if (webhook_slot_number() == 0)
		{
			webhook_mail_collect();
			if (!webhook_turn_is_silent() && webhook_mail_is_due(GetCurrentTimestamp()))
				webhook_mail_take_turn();
			webhook_runner_collect();
			if (!webhook_turn_is_silent() && GetCurrentTimestamp() >= webhook_runner_next())
				webhook_runner_look();
			/* As above, but nobody has asked for a turn. */
			is_told |= webhook_news_is_told();
		}
		webhook_slot_set_progress(webhook_sender_in_flight(),
								  webhook_places_total_ready(),
								  webhook_settle_count(),
								  webhook_settle_attempts());

		n = WaitEventSetWait(events, plan_wait(next_send, is_told),
							 occurred, lengthof(occurred),
							 webhook_sender_in_flight() > 0 ?
							 network_event : idle_event);
		for (int i = 0; i < n; i++)
		{
			if (occurred[i].events & WL_LATCH_SET)
			{
				ResetLatch(MyLatch);
				is_told = true;
			}
		}
		/* pg_cancel_backend ends a turn; here there is nothing to cancel. */
		QueryCancelPending = false;
		CHECK_FOR_INTERRUPTS();
		check_clock();
		if (ConfigReloadPending || GetCurrentTimestamp() >= reload_at)
		{
			ConfigReloadPending = false;
			reload_settings();
		}
		if (ShutdownRequestPending)
			shut_down();
	}
}

void
webhook_worker_main(Datum arg)
{
	Oid			my_database = webhook_slot_attach(DatumGetInt32(arg));

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(my_database, InvalidOid, 0);
	/* A reload while this process was being started has passed it by. */
	ProcessConfigFile(PGC_SIGHUP);
	set_session_options();
	webhook_durable_reload();

	name_myself();

	webhook_transaction_begin("looking for the extension");
	if (!webhook_catalog_exists())
	{
		webhook_slot_set_state(WEBHOOK_STATE_ABSENT);
		proc_exit(0);
	}
	strlcpy(my_database_name, get_database_name(MyDatabaseId), NAMEDATALEN);
	webhook_transaction_commit();

	webhook_turn_init();
	webhook_sender_start();
	webhook_lane_init();
	webhook_mail_init();
	webhook_slot_set_state(webhook_turn_state());
	webhook_launch_started();
	ereport(LOG,
			(errcode(ERRCODE_SUCCESSFUL_COMPLETION),
			 errmsg("webhook worker %d of database \"%s\" started",
					webhook_slot_number(), my_database_name)));
	if (!webhook_enabled)
		report_state();
	run_loop();
}

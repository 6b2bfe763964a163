/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  Which databases have a worker.
 *
 * One process of the cluster, connected to no database.  It can't look into a
 * database to see whether the extension is there; so it starts a worker in
 * each, and one that finds no extension ends at once and isn't started again
 * until CREATE EXTENSION asks for it.  A worker that ended by an error is
 * started again with growing pauses.
 *
 * It starts once recovery has ended: no worker runs on a standby, and one
 * that is promoted goes on by itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commit.h"
#include "compat.h"
#include "fmgr.h"
#include "launch.h"
#include "launcher.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "process.h"
#include "settings.h"
#include "shared.h"
#include "slot.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define LOOK_INTERVAL_MS 60000	/* between looks for new databases */
#define MAX_STARTING 4			/* workers that have yet to look around */
#define MIN_PAUSE_MS 1000		/* before a failed worker is started again */
#define MAX_PAUSE_MS 60000
#define ADOPT_PAUSE_MS 10000	/* for an adopted worker to begin */

/* A worker to be, or that is. */
typedef struct Charge
{
	struct
	{
		Oid			database;
		int			number;
	}			key;
	bool		is_listed;		/* the database is still there */
	NameData	name;			/* its name, for messages */
	bool		is_absent;		/* no extension there */
	bool		is_asked;		/* to look again, while its worker was there */
	int			slot;			/* -1: not started */
	BackgroundWorkerHandle *handle; /* NULL: a launcher before this one's */
	int			failures;		/* in a row */
	TimestampTz start_at;		/* not before */
} Charge;

static HTAB *charges = NULL;
static bool is_short_of_workers = false;
static char *checked_databases = NULL;	/* webhook.databases as it was told of */

PG_FUNCTION_INFO_V1(start_worker);

void
webhook_launcher_init(void)
{
	BackgroundWorker launcher;

	if (!process_shared_preload_libraries_in_progress)
		return;
	webhook_process_describe(&launcher, "webhook launcher", "webhook_launcher_main");
	launcher.bgw_restart_time = 5;
	RegisterBackgroundWorker(&launcher);
}

static Charge *
find_charge(Oid database, int number)
{
	Charge		key = {0};
	Charge	   *charge;
	bool		found;

	key.key.database = database;
	key.key.number = number;
	charge = hash_search(charges, &key.key, HASH_ENTER, &found);
	if (!found)
	{
		memset((char *) charge + sizeof(charge->key), 0,
			   sizeof(Charge) - sizeof(charge->key));
		charge->slot = -1;
	}
	return charge;
}

/* Note a database's workers; all of the cluster's are gone through. */
static void
list_database(Oid database, const char *name)
{
	for (int number = 0; number < webhook_workers_per_database; number++)
	{
		Charge	   *charge = find_charge(database, number);

		charge->is_listed = true;
		namestrcpy(&charge->name, name);
	}
}

/*
 * The server log is told of a name in webhook.databases that no database bears,
 * once.  names: those that have not been met; freed here.
 */
static void
report_names(List *names)
{
	ListCell   *lc;

	if (checked_databases == NULL || strcmp(checked_databases, webhook_databases) != 0)
	{
		foreach(lc, names)
			ereport(WARNING,
					(errcode(ERRCODE_UNDEFINED_DATABASE),
					 errmsg("webhook.databases names database \"%s\", which does not exist",
							(char *) lfirst(lc)),
					 errhint("Names are folded to lower case unless they are in double quotes.")));
		if (checked_databases != NULL)
			pfree(checked_databases);
		checked_databases = MemoryContextStrdup(TopMemoryContext, webhook_databases);
	}
	list_free_deep(names);
}

static List *
remove_name(List *names, const char *name)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		if (strcmp(lfirst(lc), name) == 0)
		{
			pfree(lfirst(lc));
			names = foreach_delete_current(names, lc);
		}
	}
	return names;
}

static void
list_databases(void)
{
	HASH_SEQ_STATUS scan;
	Charge	   *charge;
	Relation	rel;
	TableScanDesc table_scan;
	HeapTuple	tuple;
	List	   *names;

	hash_seq_init(&scan, charges);
	while ((charge = hash_seq_search(&scan)) != NULL)
		charge->is_listed = false;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	names = remove_name(webhook_settings_databases(), "*");
	rel = table_open(DatabaseRelationId, AccessShareLock);
	table_scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(table_scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		names = remove_name(names, NameStr(form->datname));
		if (form->datallowconn && form->datconnlimit != -2 &&
			webhook_settings_has_database(NameStr(form->datname)))
			list_database(form->oid, NameStr(form->datname));
	}
	table_endscan(table_scan);
	table_close(rel, AccessShareLock);
	report_names(names);
	CommitTransactionCommand();
}

/*
 * This launcher may not be the first: somebody has terminated the one before.
 * The workers that it started are still there.
 */
static void
adopt_workers(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < webhook_slot_count(); i++)
	{
		WebhookSlotInfo info = webhook_slot_read(i);
		Charge	   *charge;

		if (!info.used || info.number >= WEBHOOK_FIRST_RUN)
			continue;
		charge = find_charge(info.database, info.number);
		charge->slot = i;
		charge->start_at = now;
	}
}

/* Has a worker ended?  Of an adopted one its slot tells. */
static bool
has_ended(const Charge *charge, const WebhookSlotInfo *info, TimestampTz now)
{
	pid_t		pid;

	if (charge->handle != NULL)
		return GetBackgroundWorkerPid(charge->handle, &pid) == BGWH_STOPPED;
	return info->pid == 0 &&
		(info->state != WEBHOOK_STATE_STARTING ||
		 TimestampDifferenceExceeds(charge->start_at, now, ADOPT_PAUSE_MS));
}

/* See what became of a started worker. */
static void
check_worker(Charge *charge, TimestampTz now)
{
	WebhookSlotInfo info = webhook_slot_read(charge->slot);

	if (!has_ended(charge, &info, now))
		return;

	/* As it was left. */
	info = webhook_slot_read(charge->slot);
	webhook_slot_free(charge->slot);
	if (charge->handle != NULL)
		pfree(charge->handle);
	charge->handle = NULL;
	charge->slot = -1;
	charge->is_absent = info.state == WEBHOOK_STATE_ABSENT && !charge->is_asked;
	charge->is_asked = false;
	charge->start_at = now;
	if (info.state == WEBHOOK_STATE_STOPPED || info.state == WEBHOOK_STATE_ABSENT)
		charge->failures = 0;
	else
	{
		int			pause = MIN_PAUSE_MS;

		/* One that ran well for a while starts anew. */
		if (info.started_at != 0 &&
			TimestampDifferenceExceeds(info.started_at, now, MAX_PAUSE_MS))
			charge->failures = 0;
		for (int i = 0; i < charge->failures && pause < MAX_PAUSE_MS; i++)
			pause *= 2;
		charge->failures++;
		charge->start_at = TimestampTzPlusMilliseconds(now,
													   Min(pause, MAX_PAUSE_MS));
	}
}

static void
start_charge(Charge *charge, TimestampTz now)
{
	BackgroundWorker worker;

	charge->slot = webhook_slot_reserve(charge->key.database,
										charge->key.number);
	if (charge->slot >= 0)
	{
		webhook_process_describe(&worker, "webhook worker", "webhook_worker_main");
		if (webhook_process_start(&worker, charge->slot, &charge->handle))
		{
			is_short_of_workers = false;
			return;
		}
		webhook_slot_free(charge->slot);
		charge->slot = -1;
	}

	charge->start_at = TimestampTzPlusMilliseconds(now, MAX_PAUSE_MS / 4);
	if (!is_short_of_workers)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start a webhook worker: too many background workers"),
				 errdetail("Whether database \"%s\" has webhooks can't be seen; deliveries wait in each database without a worker.",
						   NameStr(charge->name)),
				 errhint("Increase max_worker_processes, or name fewer databases in webhook.databases.")));
	is_short_of_workers = true;
}

/* Start what is to be started; returns ms until there is more to do. */
static long
tend_workers(void)
{
	HASH_SEQ_STATUS scan;
	Charge	   *charge;
	TimestampTz now = GetCurrentTimestamp();
	long		timeout = LOOK_INTERVAL_MS;
	int			n_starting = 0;

	hash_seq_init(&scan, charges);
	while ((charge = hash_seq_search(&scan)) != NULL)
	{
		if (charge->slot >= 0)
			check_worker(charge, now);
		if (charge->slot >= 0 &&
			webhook_slot_read(charge->slot).state == WEBHOOK_STATE_STARTING)
			n_starting++;
	}

	hash_seq_init(&scan, charges);
	while ((charge = hash_seq_search(&scan)) != NULL)
	{
		if (charge->slot >= 0)
			continue;
		if (!charge->is_listed)
		{
			hash_search(charges, &charge->key, HASH_REMOVE, NULL);
			continue;
		}
		if (charge->is_absent || webhook_launch_is_blocked(charge->key.database))
			continue;
		/* Not so long, but the clock was turned back. */
		if (charge->start_at > now + MAX_PAUSE_MS * INT64CONST(1000))
			charge->start_at = now;
		if (charge->start_at > now)
		{
			timeout = Min(timeout,
						  TimestampDifferenceMilliseconds(now, charge->start_at) + 1);
			continue;
		}
		if (n_starting >= MAX_STARTING)
			continue;			/* one of them will wake us */
		start_charge(charge, now);
		n_starting++;
	}
	return timeout;
}

/* Databases where CREATE EXTENSION asked for a worker. */
static void
take_requests(void)
{
	Oid			databases[WEBHOOK_MAX_REQUESTS];
	int			n;
	bool		any = webhook_launch_take_requests(databases, &n);
	HASH_SEQ_STATUS scan;
	Charge	   *charge;

	if (!any && n == 0)
		return;
	hash_seq_init(&scan, charges);
	while ((charge = hash_seq_search(&scan)) != NULL)
	{
		bool		is_asked = any;

		for (int i = 0; i < n; i++)
			is_asked |= charge->key.database == databases[i];
		if (is_asked)
		{
			charge->is_absent = false;
			/* The worker that is there may have looked before. */
			charge->is_asked = charge->slot >= 0;
			charge->start_at = 0;
		}
	}
}

void
webhook_launcher_main(Datum arg)
{
	HASHCTL		info = {0};
	uint32		wait_event;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	/* A reload while this process was being started has passed it by. */
	ProcessConfigFile(PGC_SIGHUP);
	webhook_launch_attach();
	wait_event = webhook_wait_event_new("WebhookLauncherMain");
	SetConfigOption("application_name", "webhook launcher", PGC_USERSET,
					PGC_S_OVERRIDE);
	/* A catalog that somebody has locked for long is waited for, say. */
	webhook_process_set_common();
	pgstat_report_activity(STATE_RUNNING,
						   "starting a worker in each database that has webhooks");

	info.keysize = sizeof(((Charge *) NULL)->key);
	info.entrysize = sizeof(Charge);
	charges = hash_create("webhook workers", 64, &info, HASH_ELEM | HASH_BLOBS);
	adopt_workers();

	while (!ShutdownRequestPending)
	{
		long		timeout;

		list_databases();
		take_requests();
		timeout = tend_workers();
		pgstat_report_activity(STATE_IDLE, NULL);

		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 timeout, wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}

	/* Terminated by somebody, it is started again; 0 would be for good. */
	proc_exit(1);
}

/*
 * webhook.start_worker() returns void
 *		Ask the launcher for a worker in this database, after the commit.
 */
Datum
start_worker(PG_FUNCTION_ARGS)
{
	if (webhook_shared_is_loaded())
		webhook_commit_launch();
	else
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("webhook is not loaded: deliveries are queued, but not sent"),
				 errhint("Add webhook to shared_preload_libraries and restart the server.")));
	PG_RETURN_VOID();
}

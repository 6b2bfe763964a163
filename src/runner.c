/*-------------------------------------------------------------------------
 *
 * runner.c
 *	  Starts the processes of scheduled runs.
 *
 * A run may take long, and evaluates what users wrote: it has a process of its
 * own, and delays no delivery.  The worker only looks which workflow is next.
 *
 * Runs in the worker that is number 0.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "launch.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "process.h"
#include "run.h"
#include "runner.h"
#include "schedule.h"
#include "settings.h"
#include "slot.h"
#include "statement.h"
#include "transaction.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MAX_RUNS 2				/* at a time, in a database */
#define LOOK_US (60 * USECS_PER_SEC)	/* for what nobody told of */
#define BUSY_US (USECS_PER_SEC) /* while a run that is due has no process */
#define ERROR_US (10 * USECS_PER_SEC)
#define AGAIN_US (10 * USECS_PER_SEC)	/* a run that came to nothing */

typedef struct Run
{
	int32		workflow_id;	/* 0: none */
	TimestampTz planned_at;
	int			slot;
	int			number;
	BackgroundWorkerHandle *handle;
} Run;

/*
 * A run that has ended and is still due has moved nothing on: it was ended by
 * somebody, or could not even plan the next one.
 */
typedef struct Ended
{
	int32		workflow_id;
	TimestampTz planned_at;
	TimestampTz ended_at;
} Ended;

static Run	runs[MAX_RUNS];
static List *ended = NIL;		/* of Ended *, of the last AGAIN_US */
static int	last_number = WEBHOOK_FIRST_RUN;
static TimestampTz next_look = 0;
static bool is_short_of_workers = false;
static char zone_name[TZ_STRLEN_MAX + 1];
static bool is_planned = false; /* by this clock, and in that zone */

static const char *const due_sql =
"SELECT workflow_id, next_run_at FROM webhook.workflow"
" WHERE trigger = 'schedule' AND enabled AND next_run_at <= $1"
" ORDER BY next_run_at";

static const char *const next_sql =
"SELECT min(next_run_at) FROM webhook.workflow"
" WHERE trigger = 'schedule' AND enabled AND next_run_at > $1";

static const char *const plans_sql =
"SELECT workflow_id, next_run_at, schedule, counts_from FROM webhook.workflow"
" WHERE trigger = 'schedule' AND enabled AND next_run_at > $1";

/* What a run, or somebody, has locked is looked at again. */
static const char *const move_sql =
"UPDATE webhook.workflow SET next_run_at = $3 WHERE workflow_id ="
" (SELECT workflow_id FROM webhook.workflow"
" WHERE workflow_id = $1 AND next_run_at = $2 FOR UPDATE SKIP LOCKED)";

/* ---------------------------------------------------------------------
 * Processes
 * ---------------------------------------------------------------------
 */

static void
note_ended(const Run *run)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	Ended	   *it = palloc(sizeof(Ended));

	it->workflow_id = run->workflow_id;
	it->planned_at = run->planned_at;
	it->ended_at = GetCurrentTimestamp();
	ended = lappend(ended, it);
	MemoryContextSwitchTo(old);
}

static void
forget_ended(TimestampTz now)
{
	while (ended != NIL && ((Ended *) linitial(ended))->ended_at + AGAIN_US <= now)
	{
		pfree(linitial(ended));
		ended = list_delete_first(ended);
	}
}

/* When may this be tried again?  0: at once. */
static TimestampTz
get_pause(int32 workflow_id, TimestampTz planned_at)
{
	ListCell   *lc;

	foreach(lc, ended)
	{
		Ended	   *it = lfirst(lc);

		if (it->workflow_id == workflow_id && it->planned_at == planned_at)
			return it->ended_at + AGAIN_US;
	}
	return 0;
}

static bool
has_ended(const Run *run)
{
	pid_t		pid;

	return run->workflow_id != 0 &&
		GetBackgroundWorkerPid(run->handle, &pid) == BGWH_STOPPED;
}

/* Forget runs that have ended. */
static void
check_runs(void)
{
	for (int i = 0; i < MAX_RUNS; i++)
	{
		if (!has_ended(&runs[i]))
			continue;
		note_ended(&runs[i]);
		webhook_slot_free_run(runs[i].slot, runs[i].number);
		pfree(runs[i].handle);
		memset(&runs[i], 0, sizeof(Run));
	}
}

static bool
is_running(int32 workflow_id)
{
	for (int i = 0; i < MAX_RUNS; i++)
	{
		if (runs[i].workflow_id == workflow_id)
			return true;
	}
	return false;
}

static Run *
find_free(void)
{
	for (int i = 0; i < MAX_RUNS; i++)
	{
		if (runs[i].workflow_id == 0)
			return &runs[i];
	}
	return NULL;
}

/* False: there is no process for it now. */
static bool
start_run(int32 workflow_id, TimestampTz planned_at)
{
	Run		   *run = find_free();
	WebhookRunOrder order = {workflow_id, planned_at};
	BackgroundWorker process;

	if (run == NULL || webhook_launch_is_blocked(MyDatabaseId))
		return false;
	run->number = ++last_number;
	run->slot = webhook_slot_reserve(MyDatabaseId, run->number);
	if (run->slot < 0)
		return false;
	webhook_process_describe(&process, "webhook run", "webhook_run_main");
	memcpy(process.bgw_extra, &order, sizeof(order));
	if (webhook_process_start(&process, run->slot, &run->handle))
	{
		run->workflow_id = workflow_id;
		run->planned_at = planned_at;
		is_short_of_workers = false;
		return true;
	}
	webhook_slot_free_run(run->slot, run->number);
	if (!is_short_of_workers)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start a scheduled run: too many background workers"),
				 errdetail("Workflow %d waits for one to end.", workflow_id),
				 errhint("Increase max_worker_processes.")));
	is_short_of_workers = true;
	return false;
}

/* ---------------------------------------------------------------------
 * Looking
 * ---------------------------------------------------------------------
 */

typedef struct Due
{
	int32		workflow_id;
	TimestampTz at;
} Due;

static void
execute(const char *sql, TimestampTz now)
{
	Oid			types[1] = {TIMESTAMPTZOID};
	Datum		values[1];

	values[0] = TimestampTzGetDatum(now);
	webhook_statement_execute(sql, 1, types, values, NULL);
}

/* Start what is due; returns the moment of what is next. */
static TimestampTz
start_due(TimestampTz now)
{
	TimestampTz next = now + LOOK_US;
	Due		   *due;
	uint64		n;
	bool		isnull;
	Datum		value;

	execute(due_sql, now);
	n = SPI_processed;
	due = palloc((n + 1) * sizeof(Due));
	for (uint64 i = 0; i < n; i++)
	{
		due[i].workflow_id = DatumGetInt32(webhook_statement_value(i, 1, &isnull));
		due[i].at = DatumGetTimestampTz(webhook_statement_value(i, 2, &isnull));
	}
	for (uint64 i = 0; i < n; i++)
	{
		TimestampTz pause;

		if (is_running(due[i].workflow_id))
			continue;
		pause = get_pause(due[i].workflow_id, due[i].at);
		if (pause != 0)
			next = Min(next, pause);
		else if (!start_run(due[i].workflow_id, due[i].at))
		{
			/* Others would fare no better. */
			next = Min(next, now + BUSY_US);
			break;
		}
	}
	execute(next_sql, now);
	value = webhook_statement_value(0, 1, &isnull);
	return isnull ? next : Min(next, DatumGetTimestampTz(value));
}

/*
 * What is planned may be so by another clock, or in another zone.  What is due
 * stays due.  False: some of it is locked.
 */
static bool
plan_anew(TimestampTz now, pg_tz *zone)
{
	Oid			types[3] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	SPITupleTable *table;
	uint64		n;
	bool		is_whole = true;

	execute(plans_sql, now);
	table = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
	{
		Datum		values[3];
		bool		isnull;
		WebhookPlan *plan = webhook_schedule_parse(SPI_getvalue(table->vals[i],
																table->tupdesc, 3));
		Datum		start;
		TimestampTz planned;
		TimestampTz next;

		start = SPI_getbinval(table->vals[i], table->tupdesc, 4, &isnull);
		values[0] = SPI_getbinval(table->vals[i], table->tupdesc, 1, &isnull);
		values[1] = SPI_getbinval(table->vals[i], table->tupdesc, 2, &isnull);
		planned = DatumGetTimestampTz(values[1]);
		next = webhook_schedule_correct(plan, DatumGetTimestampTz(start), planned, now, zone);
		if (next == planned)
			continue;
		values[2] = TimestampTzGetDatum(next);
		webhook_statement_execute(move_sql, 3, types, values, NULL);
		if (SPI_processed == 0)
			is_whole = false;
	}
	return is_whole;
}

static void
look(void)
{
	TimestampTz now = GetCurrentTimestamp();
	pg_tz	   *zone = webhook_schedule_zone();
	const char *name = pg_get_timezone_name(zone);
	bool		is_right;

	check_runs();
	forget_ended(now);
	if (strcmp(zone_name, name) != 0)
	{
		is_planned = false;
		strlcpy(zone_name, name, sizeof(zone_name));
		webhook_slot_set_timezone(zone_name);
	}
	webhook_transaction_begin("delivering webhooks");
	SPI_connect();
	is_right = is_planned || plan_anew(now, zone);
	next_look = webhook_enabled ? start_due(now) : now + LOOK_US;
	SPI_finish();
	webhook_transaction_commit();
	is_planned = is_right;
	for (int i = 0; i < MAX_RUNS; i++)
	{
		/* Its end may let another begin. */
		if (runs[i].workflow_id != 0)
			next_look = Min(next_look, now + BUSY_US);
	}
}

void
webhook_runner_look(void)
{
	ErrorData  *error = webhook_transaction_call(look);

	if (error == NULL)
		return;
	FreeErrorData(error);
	next_look = GetCurrentTimestamp() + ERROR_US;
}

void
webhook_runner_survey(void)
{
	next_look = 0;

	/* A session may have planned by settings of before. */
	is_planned = false;
}

void
webhook_runner_collect(void)
{
	for (int i = 0; i < MAX_RUNS; i++)
	{
		if (has_ended(&runs[i]))
			next_look = 0;
	}
}

TimestampTz
webhook_runner_next(void)
{
	return next_look;
}

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

#include "access/xact.h"
#include "complaint.h"
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
#include "transaction.h"
#include "utils/timestamp.h"

#define MAX_RUNS 2				/* at a time, in a database */
#define LOOK_US (60 * USECS_PER_SEC)	/* for what nobody told of */
#define BUSY_US (USECS_PER_SEC) /* while a run that is due has no process */
#define ERROR_US (10 * USECS_PER_SEC)

typedef struct Run
{
	int32		workflow_id;	/* 0: none */
	int			slot;
	int			number;
	BackgroundWorkerHandle *handle;
} Run;

static Run	runs[MAX_RUNS];
static int	last_number = WEBHOOK_FIRST_RUN;
static TimestampTz next_look = 0;
static bool is_short_of_workers = false;
static char zone_name[TZ_STRLEN_MAX + 1];

static const char *const due_sql =
"SELECT workflow_id, next_run_at FROM webhook.workflow"
" WHERE trigger = 'schedule' AND enabled AND next_run_at IS NOT NULL"
" ORDER BY next_run_at";

static const char *const plan_sql =
"SELECT workflow_id, schedule FROM webhook.workflow"
" WHERE trigger = 'schedule' AND enabled";

/* ---------------------------------------------------------------------
 * Processes
 * ---------------------------------------------------------------------
 */

/* Forget runs that have ended. */
static void
check_runs(void)
{
	for (int i = 0; i < MAX_RUNS; i++)
	{
		pid_t		pid;

		if (runs[i].workflow_id == 0 ||
			GetBackgroundWorkerPid(runs[i].handle, &pid) != BGWH_STOPPED)
			continue;
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

/* Start what is due; returns the moment of what is next. */
static TimestampTz
start_due(TimestampTz now)
{
	TimestampTz next = now + LOOK_US;
	Due		   *due;
	uint64		n;

	if (SPI_execute(due_sql, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the schedules");
	n = SPI_processed;
	due = palloc((n + 1) * sizeof(Due));
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		due[i].workflow_id = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i],
														 SPI_tuptable->tupdesc, 1, &isnull));
		due[i].at = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[i],
													  SPI_tuptable->tupdesc, 2, &isnull));
	}
	for (uint64 i = 0; i < n; i++)
	{
		if (due[i].at > now)
			return Min(next, due[i].at);
		if (!is_running(due[i].workflow_id) &&
			!start_run(due[i].workflow_id, due[i].at))
			next = now + BUSY_US;
	}
	return next;
}

/* Schedules are in another zone now. */
static void
plan_anew(TimestampTz now, pg_tz *zone)
{
	uint64		n;
	SPITupleTable *table;

	if (SPI_execute(plan_sql, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the schedules");
	table = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		WebhookPlan *plan;

		plan = webhook_schedule_parse(SPI_getvalue(table->vals[i], table->tupdesc, 2));
		webhook_workflow_table_set_next(DatumGetInt32(SPI_getbinval(table->vals[i],
																	table->tupdesc, 1, &isnull)),
										webhook_schedule_next(plan, 0, now, zone));
	}
}

static void
look(void)
{
	TimestampTz now = GetCurrentTimestamp();
	pg_tz	   *zone = webhook_schedule_zone();
	const char *name = pg_get_timezone_name(zone);

	check_runs();
	webhook_transaction_begin("delivering webhooks");
	SPI_connect();
	if (zone_name[0] != '\0' && strcmp(zone_name, name) != 0)
		plan_anew(now, zone);
	next_look = webhook_enabled ? start_due(now) : now + LOOK_US;
	SPI_finish();
	webhook_transaction_commit();
	for (int i = 0; i < MAX_RUNS; i++)
	{
		/* Its end may let another begin. */
		if (runs[i].workflow_id != 0)
			next_look = Min(next_look, now + BUSY_US);
	}
	strlcpy(zone_name, name, sizeof(zone_name));
}

void
webhook_runner_look(void)
{
	MemoryContext old = CurrentMemoryContext;

	PG_TRY();
	{
		look();
		MemoryContextSwitchTo(old);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(old);
		webhook_complaint_emit();
		AbortCurrentTransaction();
		FlushErrorState();
		MemoryContextSwitchTo(old);
		next_look = GetCurrentTimestamp() + ERROR_US;
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
}

void
webhook_runner_survey(void)
{
	next_look = 0;
}

TimestampTz
webhook_runner_next(void)
{
	return next_look;
}

/*-------------------------------------------------------------------------
 *
 * progress.c
 *	  How far long work is, for the view webhook.stat_progress.
 *
 * PostgreSQL's own progress reporting knows the commands of PostgreSQL only.
 * So there are a few slots in shared memory, each written by the process that
 * took it.  Where the library isn't preloaded there are none; where all are
 * taken, somebody's progress is not shown.
 *
 * Runs in every process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "progress.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#define MAX_SLOTS 64

typedef struct ProgressSlot
{
	int			pid;			/* 0: free */
	Oid			database;
	NameData	command;
	int32		workflow_id;
	int32		action_id;
	TimestampTz started_at;
	pg_atomic_uint64 done;		/* written without the lock */
	pg_atomic_uint64 total;
} ProgressSlot;

typedef struct ProgressState
{
	LWLock	   *lock;
	ProgressSlot slots[MAX_SLOTS];
} ProgressState;

static ProgressState *progress = NULL;
static ProgressSlot *my_slot = NULL;
static bool is_kept = false;	/* beyond the transaction */
static bool is_registered = false;

PG_FUNCTION_INFO_V1(stat_progress);

void
webhook_progress_request(void)
{
	RequestAddinShmemSpace(sizeof(ProgressState));
	RequestNamedLWLockTranche("webhook progress", 1);
}

void
webhook_progress_attach(void)
{
	bool		found;

	progress = ShmemInitStruct("webhook progress", sizeof(ProgressState), &found);
	if (found)
		return;
	memset(progress, 0, sizeof(ProgressState));
	progress->lock = &(GetNamedLWLockTranche("webhook progress"))->lock;
	for (int i = 0; i < MAX_SLOTS; i++)
	{
		pg_atomic_init_u64(&progress->slots[i].done, 0);
		pg_atomic_init_u64(&progress->slots[i].total, 0);
	}
}

/* ---------------------------------------------------------------------
 * Reporting
 * ---------------------------------------------------------------------
 */

void
webhook_progress_end(void)
{
	if (my_slot == NULL)
		return;
	LWLockAcquire(progress->lock, LW_EXCLUSIVE);
	my_slot->pid = 0;
	LWLockRelease(progress->lock);
	my_slot = NULL;
	is_kept = false;
}

static void
on_exit_process(int code, Datum arg)
{
	webhook_progress_end();
}

/* Whatever ends the transaction, an error too, ends the work. */
static void
on_xact_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			if (!is_kept)
				webhook_progress_end();
			break;
		default:
			break;
	}
}

void
webhook_progress_start(const char *command, int32 workflow_id, int32 action_id)
{
	webhook_progress_end();
	if (progress == NULL)
		return;
	if (!is_registered)
	{
		RegisterXactCallback(on_xact_event, NULL);
		before_shmem_exit(on_exit_process, (Datum) 0);
		is_registered = true;
	}
	LWLockAcquire(progress->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_SLOTS && my_slot == NULL; i++)
	{
		ProgressSlot *slot = &progress->slots[i];

		if (slot->pid != 0)
			continue;
		slot->pid = MyProcPid;
		slot->database = MyDatabaseId;
		namestrcpy(&slot->command, command);
		slot->workflow_id = workflow_id;
		slot->action_id = action_id;
		slot->started_at = GetCurrentTimestamp();
		pg_atomic_write_u64(&slot->done, 0);
		pg_atomic_write_u64(&slot->total, 0);
		my_slot = slot;
	}
	LWLockRelease(progress->lock);
}

void
webhook_progress_update(int64 done, int64 total)
{
	if (my_slot == NULL)
		return;
	pg_atomic_write_u64(&my_slot->done, (uint64) done);
	pg_atomic_write_u64(&my_slot->total, (uint64) total);
}

void
webhook_progress_keep(void)
{
	is_kept = my_slot != NULL;
}

/*
 * webhook.stat_progress()
 *		One row for each process that does something long.
 */
Datum
stat_progress(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ProgressSlot slots[MAX_SLOTS];

	InitMaterializedSRF(fcinfo, 0);
	if (progress == NULL)
		return (Datum) 0;
	LWLockAcquire(progress->lock, LW_SHARED);
	memcpy(slots, progress->slots, sizeof(slots));
	LWLockRelease(progress->lock);

	for (int i = 0; i < MAX_SLOTS; i++)
	{
		ProgressSlot *slot = &slots[i];
		Datum		values[8] = {0};
		bool		nulls[8] = {0};
		char	   *database;
		NameData	name = {{0}};

		if (slot->pid == 0)
			continue;
		database = get_database_name(slot->database);
		if (database != NULL)
			namestrcpy(&name, database);
		values[0] = Int32GetDatum(slot->pid);
		values[1] = NameGetDatum(&name);
		nulls[1] = database == NULL;
		values[2] = CStringGetTextDatum(NameStr(slot->command));
		values[3] = Int32GetDatum(slot->workflow_id);
		nulls[3] = slot->workflow_id == 0;
		values[4] = Int32GetDatum(slot->action_id);
		nulls[4] = slot->action_id == 0;
		values[5] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->done));
		values[6] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->total));
		nulls[6] = values[6] == Int64GetDatum(0);
		values[7] = TimestampTzGetDatum(slot->started_at);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

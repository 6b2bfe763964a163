/*-------------------------------------------------------------------------
 *
 * shared.c
 *	  Shared memory: a slot for each worker.
 *
 * In its slot a worker says how it is, and there it is told what there is to do
 * and that it has to end.
 *
 * Runs in every process.  Where the library isn't preloaded there is no
 * shared memory, and all of this does nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "shared.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#define MAX_REQUESTS 64
#define MAX_BLOCKED 16
#define BLOCK_TIMEOUT_MS 5000

typedef struct WorkerSlot
{
	WebhookSlotInfo info;
	Latch	   *latch;			/* NULL: nobody attached */
	WebhookNews news;			/* not yet taken */
	uint32		started;		/* others that have since it was last taken */
} WorkerSlot;

typedef struct SharedState
{
	LWLock	   *lock;
	Latch	   *launcher_latch;
	TimestampTz clock_was;		/* before it was turned back; 0: it was not */
	bool		any_request;	/* more requests than fit */
	int			n_requests;
	Oid			requests[MAX_REQUESTS];
	int			n_blocked;
	struct
	{
		Oid			database;
		int			pid;		/* of who blocks it */
	}			blocked[MAX_BLOCKED];
	int			n_slots;
	WorkerSlot	slots[FLEXIBLE_ARRAY_MEMBER];
} SharedState;

static SharedState *shared = NULL;
static WorkerSlot *my_slot = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static Size
shared_size(void)
{
	return add_size(offsetof(SharedState, slots),
					mul_size(sizeof(WorkerSlot), max_worker_processes));
}

static void
request_shmem(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("webhook", 1);
}

static void
startup_shmem(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("webhook", shared_size(), &found);
	if (!found)
	{
		memset(shared, 0, shared_size());
		shared->lock = &(GetNamedLWLockTranche("webhook"))->lock;
		shared->n_slots = max_worker_processes;
	}
	LWLockRelease(AddinShmemInitLock);
}

void
webhook_shared_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;

	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

bool
webhook_shared_is_loaded(void)
{
	return shared != NULL;
}

/* ---------------------------------------------------------------------
 * Sessions
 * ---------------------------------------------------------------------
 */

void
webhook_shared_add_hint(WebhookNews *news, int32 action_id, TimestampTz retry_at)
{
	WebhookHint *hint;

	for (int i = 0; i < news->n_hints; i++)
	{
		hint = &news->hints[i];
		if (hint->action_id == action_id)
		{
			hint->retry_at = Min(hint->retry_at, retry_at);
			return;
		}
	}
	if (news->n_hints == WEBHOOK_MAX_HINTS)
	{
		news->rescan = true;
		return;
	}
	hint = &news->hints[news->n_hints++];
	hint->action_id = action_id;
	hint->retry_at = retry_at;
}

static bool
is_told(const WorkerSlot *slot)
{
	return slot->news.rescan || slot->news.n_hints > 0;
}

void
webhook_shared_tell(Oid database, const WebhookNews *news)
{
	if (shared == NULL)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->n_slots; i++)
	{
		WorkerSlot *slot = &shared->slots[i];
		bool		was_told = is_told(slot);

		if (slot->latch == NULL || slot->info.database != database)
			continue;
		if (news->rescan)
			slot->news.rescan = true;
		for (int j = 0; j < news->n_hints && !slot->news.rescan; j++)
			webhook_shared_add_hint(&slot->news, news->hints[j].action_id,
									news->hints[j].retry_at);

		/* Told and not yet listened: its latch is set already. */
		if (!was_told)
			SetLatch(slot->latch);
	}
	LWLockRelease(shared->lock);
}

void
webhook_shared_rescan(Oid database)
{
	const WebhookNews news = {.rescan = true};

	webhook_shared_tell(database, &news);
}

static void
wake_launcher(void)
{
	LWLockAcquire(shared->lock, LW_SHARED);
	if (shared->launcher_latch != NULL)
		SetLatch(shared->launcher_latch);
	LWLockRelease(shared->lock);
}

void
webhook_shared_request_worker(Oid database)
{
	if (shared == NULL)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (shared->n_requests < MAX_REQUESTS)
		shared->requests[shared->n_requests++] = database;
	else
		shared->any_request = true;
	LWLockRelease(shared->lock);
	wake_launcher();
}

bool
webhook_shared_is_busy(void)
{
	bool		is_busy = false;

	if (shared == NULL)
		return false;
	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->n_slots; i++)
	{
		WorkerSlot *slot = &shared->slots[i];

		if (slot->latch != NULL && slot->info.database == MyDatabaseId &&
			(slot->info.is_recovering ||
			 slot->info.in_flight + slot->info.claimed + slot->info.unsettled > 0))
			is_busy = true;
	}
	LWLockRelease(shared->lock);
	return is_busy;
}

/* Send SIGTERM to a database's workers; returns how many there are. */
static int
terminate_workers(Oid database)
{
	int			n = 0;

	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->n_slots; i++)
	{
		WorkerSlot *slot = &shared->slots[i];

		if (slot->latch != NULL && slot->info.database == database)
		{
			kill(slot->info.pid, SIGTERM);
			n++;
		}
	}
	LWLockRelease(shared->lock);
	return n;
}

void
webhook_shared_block(Oid database)
{
	TimestampTz deadline;
	uint32		wait_event;

	if (shared == NULL)
		return;

	wait_event = webhook_wait_event_new("WebhookWorkerEnd");
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (shared->n_blocked < MAX_BLOCKED)
	{
		shared->blocked[shared->n_blocked].database = database;
		shared->blocked[shared->n_blocked].pid = MyProcPid;
		shared->n_blocked++;
	}
	LWLockRelease(shared->lock);

	deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
										   BLOCK_TIMEOUT_MS);
	while (terminate_workers(database) > 0 &&
		   GetCurrentTimestamp() < deadline)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 5, wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
webhook_shared_unblock(Oid database)
{
	if (shared == NULL)
		return;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->n_blocked; i++)
	{
		if (shared->blocked[i].database == database &&
			shared->blocked[i].pid == MyProcPid)
		{
			shared->blocked[i] = shared->blocked[--shared->n_blocked];
			break;
		}
	}
	LWLockRelease(shared->lock);
	wake_launcher();
}

/* ---------------------------------------------------------------------
 * Launcher
 * ---------------------------------------------------------------------
 */

static void
detach_launcher(int code, Datum arg)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->launcher_latch = NULL;
	LWLockRelease(shared->lock);
}

void
webhook_shared_attach_launcher(void)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->launcher_latch = MyLatch;
	LWLockRelease(shared->lock);
	before_shmem_exit(detach_launcher, (Datum) 0);
}

int
webhook_shared_slots(void)
{
	return shared != NULL ? shared->n_slots : 0;
}

WebhookSlotInfo
webhook_shared_slot(int index)
{
	WebhookSlotInfo info;

	LWLockAcquire(shared->lock, LW_SHARED);
	info = shared->slots[index].info;
	LWLockRelease(shared->lock);
	return info;
}

int
webhook_shared_reserve(Oid database, int number)
{
	int			result = -1;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->n_slots; i++)
	{
		WorkerSlot *slot = &shared->slots[i];

		if (!slot->info.used)
		{
			memset(slot, 0, sizeof(WorkerSlot));
			slot->info.used = true;
			slot->info.database = database;
			slot->info.number = number;
			slot->info.state = WEBHOOK_STATE_STARTING;
			result = i;
			break;
		}
	}
	LWLockRelease(shared->lock);
	return result;
}

void
webhook_shared_free(int index)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->slots[index].info.used = false;
	LWLockRelease(shared->lock);
}

bool
webhook_shared_is_blocked(Oid database)
{
	bool		result = false;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->n_blocked;)
	{
		/* One that died forgot to unblock. */
		if (BackendPidGetProc(shared->blocked[i].pid) == NULL)
		{
			shared->blocked[i] = shared->blocked[--shared->n_blocked];
			continue;
		}
		if (shared->blocked[i].database == database)
			result = true;
		i++;
	}
	LWLockRelease(shared->lock);
	return result;
}

bool
webhook_shared_take_requests(Oid *databases, int max, int *n)
{
	bool		any;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	any = shared->any_request || shared->n_requests > max;
	*n = Min(shared->n_requests, max);
	memcpy(databases, shared->requests, *n * sizeof(Oid));
	shared->n_requests = 0;
	shared->any_request = false;
	LWLockRelease(shared->lock);
	return any;
}

/* ---------------------------------------------------------------------
 * Worker
 * ---------------------------------------------------------------------
 */

bool
webhook_shared_is_worker(void)
{
	return my_slot != NULL;
}

bool
webhook_shared_has_worker(int number)
{
	bool		is_there = false;

	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->n_slots; i++)
	{
		WorkerSlot *slot = &shared->slots[i];

		if (slot->latch != NULL && slot->info.database == MyDatabaseId &&
			slot->info.number == number)
			is_there = true;
	}
	LWLockRelease(shared->lock);
	return is_there;
}

uint32
webhook_shared_take_started(void)
{
	uint32		started;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	started = my_slot->started;
	my_slot->started = 0;
	LWLockRelease(shared->lock);
	return started;
}

/* The lock is held. */
static void
tell_others_of_start(void)
{
	for (int i = 0; i < shared->n_slots; i++)
	{
		WorkerSlot *slot = &shared->slots[i];

		if (slot->latch != NULL && slot != my_slot &&
			slot->info.database == my_slot->info.database)
			slot->started |= (uint32) 1 << my_slot->info.number;
	}
}

static void
detach_worker(int code, Datum arg)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	my_slot->latch = NULL;
	my_slot->info.pid = 0;
	my_slot->info.in_flight = 0;
	my_slot->info.claimed = 0;
	my_slot->info.unsettled = 0;
	my_slot->info.is_recovering = false;
	if (my_slot->info.state < WEBHOOK_STATE_STOPPED)
		my_slot->info.state = WEBHOOK_STATE_FAILED;
	/* Of an end the postmaster tells the launcher that started it, and no other. */
	if (shared->launcher_latch != NULL)
		SetLatch(shared->launcher_latch);
	LWLockRelease(shared->lock);
}

void
webhook_shared_attach_worker(int index, Oid *database, int *number)
{
	my_slot = &shared->slots[index];

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	my_slot->latch = MyLatch;
	my_slot->info.pid = MyProcPid;
	my_slot->info.started_at = GetCurrentTimestamp();
	*database = my_slot->info.database;
	*number = my_slot->info.number;
	tell_others_of_start();
	LWLockRelease(shared->lock);
	before_shmem_exit(detach_worker, (Datum) 0);
}

/* A run's slot goes with it: the worker that started it may be gone. */
static void
detach_run(int code, Datum arg)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	my_slot->latch = NULL;
	my_slot->info.used = false;
	LWLockRelease(shared->lock);
}

Oid
webhook_shared_attach_run(int index)
{
	Oid			database;

	my_slot = &shared->slots[index];
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	my_slot->latch = MyLatch;
	my_slot->info.pid = MyProcPid;
	my_slot->info.started_at = GetCurrentTimestamp();
	my_slot->info.state = WEBHOOK_STATE_RUN;
	database = my_slot->info.database;
	LWLockRelease(shared->lock);
	before_shmem_exit(detach_run, (Datum) 0);
	return database;
}

void
webhook_shared_free_run(int index, int number)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	/* It may be another's by now. */
	if (shared->slots[index].info.number == number)
		shared->slots[index].info.used = false;
	LWLockRelease(shared->lock);
}

void
webhook_shared_report(Oid database, const char *message)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->n_slots; i++)
	{
		WebhookSlotInfo *info = &shared->slots[i].info;

		if (info->used && info->database == database && info->number == 0)
		{
			strlcpy(info->last_error, message, WEBHOOK_ERROR_SIZE);
			info->last_error_at = GetCurrentTimestamp();
		}
	}
	LWLockRelease(shared->lock);
}

void
webhook_shared_set_state(WebhookWorkerState state)
{
	my_slot->info.state = state;
}

void
webhook_shared_set_progress(int in_flight, int claimed, int unsettled,
							int64 attempts)
{
	my_slot->info.in_flight = in_flight;
	my_slot->info.claimed = claimed;
	my_slot->info.unsettled = unsettled;
	my_slot->info.attempts = attempts;
}

void
webhook_shared_set_recovering(bool is_recovering)
{
	my_slot->info.is_recovering = is_recovering;
}

void
webhook_shared_set_turn(TimestampTz now, Size memory, int capacity)
{
	my_slot->info.last_turn_at = now;
	my_slot->info.memory = memory;
	my_slot->info.capacity = capacity;
}

void
webhook_shared_set_log_start(int64 log_id)
{
	my_slot->info.log_start = log_id;
}

void
webhook_shared_set_error(const char *message)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	strlcpy(my_slot->info.last_error, message, WEBHOOK_ERROR_SIZE);
	my_slot->info.last_error_at = GetCurrentTimestamp();
	LWLockRelease(shared->lock);
}

void
webhook_shared_set_clock_was(TimestampTz clock_was)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->clock_was = Max(shared->clock_was, clock_was);
	LWLockRelease(shared->lock);
}

TimestampTz
webhook_shared_clock_was(void)
{
	TimestampTz clock_was;

	LWLockAcquire(shared->lock, LW_SHARED);
	clock_was = shared->clock_was;
	LWLockRelease(shared->lock);
	return clock_was;
}

bool
webhook_shared_is_told(void)
{
	return is_told(my_slot);
}

bool
webhook_shared_take_hints(WebhookHint *hints, int *n)
{
	bool		rescan;

	/* Unlocked look first: most turns find nothing. */
	*n = 0;
	if (!webhook_shared_is_told())
		return false;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	rescan = my_slot->news.rescan;
	*n = my_slot->news.n_hints;
	memcpy(hints, my_slot->news.hints, *n * sizeof(WebhookHint));
	my_slot->news.rescan = false;
	my_slot->news.n_hints = 0;
	LWLockRelease(shared->lock);
	return rescan;
}

void
webhook_shared_wake_others(void)
{
	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->n_slots; i++)
	{
		WorkerSlot *slot = &shared->slots[i];

		if (slot->latch != NULL && slot != my_slot &&
			slot->info.database == MyDatabaseId)
			SetLatch(slot->latch);
	}
	LWLockRelease(shared->lock);
}

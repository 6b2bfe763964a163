/*-------------------------------------------------------------------------
 *
 * shared.c
 *	  Shared memory: a slot for each worker, wake-up at commit, and what the
 *	  workers of a database must count together.
 *
 * A transaction that enqueued tells the workers of its database, after its
 * commit, which action has new work and from which retry_at on; so a worker
 * finds the rows by one index probe and never walks over what it has already
 * dealt with.  No NOTIFY: its lock serialises commits.  What is lost with a
 * wake-up (a prepared transaction, a crash) is found by the worker's slow
 * survey.
 *
 * Logical replication writes rows of the log without anybody being asked: it
 * fires no statement's triggers.  Its processes tell that there is something, not
 * what.
 *
 * Runs in every process.  Where the library isn't preloaded there is no
 * shared memory, and all of this does nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/logicalworker.h"
#include "shared.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#define MAX_REQUESTS 64
#define MAX_BLOCKED 16
#define MAX_CATCH_UP_US 10000	/* of an action's rate */
#define MAX_ACTIONS 4096
#define BLOCK_TIMEOUT_MS 5000

typedef struct WorkerSlot
{
	WebhookSlotInfo info;
	Latch	   *latch;			/* NULL: nobody attached */
	bool		rescan;
	int			n_hints;
	WebhookHint hints[WEBHOOK_MAX_HINTS];
} WorkerSlot;

typedef struct ActionKey
{
	Oid			database;
	int32		action_id;
} ActionKey;

typedef struct ActionEntry
{
	ActionKey	key;
	int			in_flight;
	bool		awaited;		/* somebody was refused */
	bool		is_failing;		/* the server log has been told */
	TimestampTz next_moment;	/* for a rate limit */
} ActionEntry;

typedef struct SharedState
{
	LWLock	   *lock;
	Latch	   *launcher_latch;
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
static HTAB *action_hash = NULL;
static WorkerSlot *my_slot = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* What this transaction will tell after its commit. */
static bool pending_rescan = false;
static bool pending_launch = false;
static int	n_pending = 0;
static WebhookHint pending[WEBHOOK_MAX_HINTS];

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

	RequestAddinShmemSpace(add_size(shared_size(),
									hash_estimate_size(MAX_ACTIONS,
													   sizeof(ActionEntry))));
	RequestNamedLWLockTranche("webhook", 1);
}

static void
startup_shmem(void)
{
	bool		found;
	HASHCTL		info = {0};

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
	info.keysize = sizeof(ActionKey);
	info.entrysize = sizeof(ActionEntry);
	action_hash = ShmemInitHash("webhook actions", MAX_ACTIONS, MAX_ACTIONS,
								&info, HASH_ELEM | HASH_BLOBS);
	LWLockRelease(AddinShmemInitLock);
}

/* Add a hint to a list of WEBHOOK_MAX_HINTS; false: no room. */
static bool
add_hint(WebhookHint *hints, int *n, int32 action_id, TimestampTz retry_at)
{
	for (int i = 0; i < *n; i++)
	{
		if (hints[i].action_id == action_id)
		{
			hints[i].retry_at = Min(hints[i].retry_at, retry_at);
			return true;
		}
	}
	if (*n == WEBHOOK_MAX_HINTS)
		return false;
	hints[*n].action_id = action_id;
	hints[*n].retry_at = retry_at;
	(*n)++;
	return true;
}

/* Tell all workers of a database; the lock must not be held. */
static void
tell_workers(Oid database, bool rescan, const WebhookHint *hints, int n)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->n_slots; i++)
	{
		WorkerSlot *slot = &shared->slots[i];
		bool		told = slot->rescan || slot->n_hints > 0;

		if (slot->latch == NULL || slot->info.database != database)
			continue;
		if (rescan)
			slot->rescan = true;
		for (int j = 0; j < n && !slot->rescan; j++)
		{
			if (!add_hint(slot->hints, &slot->n_hints,
						  hints[j].action_id, hints[j].retry_at))
				slot->rescan = true;
		}

		/* Told and not yet listened: its latch is set already. */
		if (!told)
			SetLatch(slot->latch);
	}
	LWLockRelease(shared->lock);
}

static void
on_xact_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			/* In a session this is all that is done. */
			if (IsLogicalWorker() && shared != NULL && webhook_catalog_is_log_written())
				webhook_shared_wake_at_commit(WEBHOOK_ANY_ACTION, 0);
			return;
		case XACT_EVENT_COMMIT:
			if (shared != NULL && (pending_rescan || n_pending > 0))
				tell_workers(MyDatabaseId, pending_rescan, pending, n_pending);
			if (shared != NULL && pending_launch)
			{
				LWLockAcquire(shared->lock, LW_EXCLUSIVE);
				if (shared->n_requests < MAX_REQUESTS)
					shared->requests[shared->n_requests++] = MyDatabaseId;
				else
					shared->any_request = true;
				LWLockRelease(shared->lock);
				webhook_shared_wake_launcher();
			}
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			break;
		default:
			return;
	}
	pending_rescan = false;
	pending_launch = false;
	n_pending = 0;
}

void
webhook_shared_init(void)
{
	RegisterXactCallback(on_xact_event, NULL);

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
webhook_shared_wake_at_commit(int32 action_id, TimestampTz retry_at)
{
	if (!add_hint(pending, &n_pending, action_id, retry_at))
		pending_rescan = true;
}

void
webhook_shared_rescan_at_commit(void)
{
	pending_rescan = true;
}

void
webhook_shared_rescan(Oid database)
{
	if (shared != NULL)
		tell_workers(database, true, NULL, 0);
}

void
webhook_shared_launch_at_commit(void)
{
	pending_launch = true;
}

void
webhook_shared_wake_launcher(void)
{
	if (shared == NULL)
		return;
	LWLockAcquire(shared->lock, LW_SHARED);
	if (shared->launcher_latch != NULL)
		SetLatch(shared->launcher_latch);
	LWLockRelease(shared->lock);
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
	webhook_shared_wake_launcher();
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

WebhookWorkerState
webhook_shared_get_state(void)
{
	return my_slot->info.state;
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

bool
webhook_shared_is_told(void)
{
	return my_slot->rescan || my_slot->n_hints > 0;
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
	rescan = my_slot->rescan;
	*n = my_slot->n_hints;
	memcpy(hints, my_slot->hints, *n * sizeof(WebhookHint));
	my_slot->rescan = false;
	my_slot->n_hints = 0;
	LWLockRelease(shared->lock);
	return rescan;
}

/* The entry of an action of this database; NULL if the table is full. */
static ActionEntry *
find_action(int32 action_id)
{
	ActionKey	key = {0};
	ActionEntry *entry;
	bool		found;

	key.database = MyDatabaseId;
	key.action_id = action_id;
	entry = hash_search(action_hash, &key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry;

	if (hash_get_num_entries(action_hash) >= MAX_ACTIONS)
	{
		/* Forget those that say nothing. */
		HASH_SEQ_STATUS scan;
		TimestampTz now = GetCurrentTimestamp();

		hash_seq_init(&scan, action_hash);
		while ((entry = hash_seq_search(&scan)) != NULL)
		{
			if (entry->in_flight == 0 && !entry->is_failing &&
				entry->next_moment < now)
				hash_search(action_hash, &entry->key, HASH_REMOVE, NULL);
		}
	}
	entry = hash_search(action_hash, &key, HASH_ENTER_NULL, &found);
	if (entry != NULL && !found)
	{
		entry->in_flight = 0;
		entry->awaited = false;
		entry->is_failing = false;
		entry->next_moment = 0;
	}
	return entry;
}

/*
 * Requests of a limited action keep a distance from each other, so that no
 * second has more of them than it may.  A fast one may catch up a little on
 * what a worker that was busy has missed, and its distance makes up for that.
 */
static bool
is_time(ActionEntry *entry, int rate, TimestampTz now, TimestampTz *moment)
{
	int			slack = rate > 100 ? MAX_CATCH_UP_US : 0;
	int64		distance = (USECS_PER_SEC + slack + rate - 1) / rate;

	if (entry->next_moment > now + distance)
		entry->next_moment = now;	/* the clock was put back */
	*moment = entry->next_moment;
	if (now < entry->next_moment)
		return false;
	entry->next_moment = Max(entry->next_moment, now - slack) + distance;
	return true;
}

bool
webhook_shared_acquire(int32 action_id, int limit, int rate,
					   TimestampTz now, TimestampTz *moment)
{
	ActionEntry *entry;
	bool		granted = false;

	*moment = 0;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	entry = find_action(action_id);
	if (entry != NULL)
	{
		if (entry->in_flight >= limit)
			entry->awaited = true;
		else
			granted = rate == 0 || is_time(entry, rate, now, moment);
		if (granted)
			entry->in_flight++;
	}
	LWLockRelease(shared->lock);
	return granted;
}

void
webhook_shared_release(int32 action_id)
{
	ActionEntry *entry;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	entry = find_action(action_id);
	if (entry != NULL && entry->in_flight > 0)
	{
		entry->in_flight--;
		if (entry->awaited)
		{
			entry->awaited = false;
			for (int i = 0; i < shared->n_slots; i++)
			{
				WorkerSlot *slot = &shared->slots[i];

				if (slot->latch != NULL && slot != my_slot &&
					slot->info.database == MyDatabaseId)
					SetLatch(slot->latch);
			}
		}
	}
	LWLockRelease(shared->lock);
}

int
webhook_shared_in_flight(int32 action_id)
{
	ActionKey	key = {0};
	ActionEntry *entry;
	int			in_flight = 0;

	if (shared == NULL)
		return 0;
	key.database = MyDatabaseId;
	key.action_id = action_id;
	LWLockAcquire(shared->lock, LW_SHARED);
	entry = hash_search(action_hash, &key, HASH_FIND, NULL);
	if (entry != NULL)
		in_flight = entry->in_flight;
	LWLockRelease(shared->lock);
	return in_flight;
}

bool
webhook_shared_set_failing(int32 action_id, bool is_failing)
{
	ActionEntry *entry;
	bool		is_news = true;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	entry = find_action(action_id);
	if (entry != NULL)
	{
		is_news = entry->is_failing != is_failing;
		entry->is_failing = is_failing;
	}
	LWLockRelease(shared->lock);
	return is_news;
}

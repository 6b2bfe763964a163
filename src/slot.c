/*-------------------------------------------------------------------------
 *
 * slot.c
 *	  A slot for each worker, in which it says how it is.
 *
 * The launcher reserves one and starts a worker for it; the worker attaches,
 * and lets others see what it does.  So does a process that carries out a
 * workflow's run.
 *
 * Runs in every process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "shared.h"
#include "slot.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

bool
webhook_slot_is_busy(void)
{
	bool		is_busy = false;

	if (webhook_shared == NULL)
		return false;
	LWLockAcquire(webhook_shared->lock, LW_SHARED);
	for (int i = 0; i < webhook_shared->n_slots; i++)
	{
		WebhookSharedSlot *slot = &webhook_shared->slots[i];

		if (slot->latch != NULL && slot->info.database == MyDatabaseId &&
			(slot->info.is_recovering ||
			 slot->info.in_flight + slot->info.claimed + slot->info.unsettled > 0))
			is_busy = true;
	}
	LWLockRelease(webhook_shared->lock);
	return is_busy;
}

bool
webhook_slot_get_timezone(char timezone[TZ_STRLEN_MAX + 1])
{
	bool		is_known = false;

	if (webhook_shared == NULL)
		return false;
	LWLockAcquire(webhook_shared->lock, LW_SHARED);
	for (int i = 0; i < webhook_shared->n_slots; i++)
	{
		WebhookSlotInfo *info = &webhook_shared->slots[i].info;

		if (info->used && info->database == MyDatabaseId && info->timezone[0] != '\0')
		{
			strlcpy(timezone, info->timezone, TZ_STRLEN_MAX + 1);
			is_known = true;
		}
	}
	LWLockRelease(webhook_shared->lock);
	return is_known;
}

int
webhook_slot_count(void)
{
	return webhook_shared != NULL ? webhook_shared->n_slots : 0;
}

WebhookSlotInfo
webhook_slot_read(int index)
{
	WebhookSlotInfo info;

	LWLockAcquire(webhook_shared->lock, LW_SHARED);
	info = webhook_shared->slots[index].info;
	LWLockRelease(webhook_shared->lock);
	return info;
}

int
webhook_slot_reserve(Oid database, int number)
{
	int			result = -1;

	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < webhook_shared->n_slots; i++)
	{
		WebhookSharedSlot *slot = &webhook_shared->slots[i];

		if (!slot->info.used)
		{
			memset(slot, 0, sizeof(WebhookSharedSlot));
			slot->info.used = true;
			slot->info.database = database;
			slot->info.number = number;
			slot->info.state = WEBHOOK_STATE_STARTING;
			result = i;
			break;
		}
	}
	LWLockRelease(webhook_shared->lock);
	return result;
}

void
webhook_slot_free(int index)
{
	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	webhook_shared->slots[index].info.used = false;
	LWLockRelease(webhook_shared->lock);
}

bool
webhook_slot_is_worker(void)
{
	return webhook_shared_mine != NULL;
}

int
webhook_slot_number(void)
{
	return webhook_shared_mine->info.number;
}

bool
webhook_slot_has_worker(int number)
{
	bool		is_there = false;

	LWLockAcquire(webhook_shared->lock, LW_SHARED);
	for (int i = 0; i < webhook_shared->n_slots; i++)
	{
		WebhookSharedSlot *slot = &webhook_shared->slots[i];

		if (slot->latch != NULL && slot->info.database == MyDatabaseId &&
			slot->info.number == number)
			is_there = true;
	}
	LWLockRelease(webhook_shared->lock);
	return is_there;
}

uint32
webhook_slot_take_started(void)
{
	uint32		started;

	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	started = webhook_shared_mine->started;
	webhook_shared_mine->started = 0;
	LWLockRelease(webhook_shared->lock);
	return started;
}

/* The lock is held. */
static void
tell_others_of_start(void)
{
	for (int i = 0; i < webhook_shared->n_slots; i++)
	{
		WebhookSharedSlot *slot = &webhook_shared->slots[i];

		if (slot->latch != NULL && slot != webhook_shared_mine &&
			slot->info.database == webhook_shared_mine->info.database)
			slot->started |= (uint32) 1 << webhook_shared_mine->info.number;
	}
}

static void
detach_worker(int code, Datum arg)
{
	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	webhook_shared_mine->latch = NULL;
	webhook_shared_mine->info.pid = 0;
	webhook_shared_mine->info.in_flight = 0;
	webhook_shared_mine->info.claimed = 0;
	webhook_shared_mine->info.unsettled = 0;
	webhook_shared_mine->info.is_recovering = false;
	if (webhook_shared_mine->info.state < WEBHOOK_STATE_STOPPED)
		webhook_shared_mine->info.state = WEBHOOK_STATE_FAILED;
	/* Of an end the postmaster tells the launcher that started it, and no other. */
	if (webhook_shared->launcher_latch != NULL)
		SetLatch(webhook_shared->launcher_latch);
	LWLockRelease(webhook_shared->lock);
}

/* A run's slot goes with it: the worker that started it may be gone. */
static void
detach_run(int code, Datum arg)
{
	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	webhook_shared_mine->latch = NULL;
	webhook_shared_mine->info.used = false;
	LWLockRelease(webhook_shared->lock);
}

Oid
webhook_slot_attach(int index)
{
	Oid			database;
	bool		is_run;

	webhook_shared_mine = &webhook_shared->slots[index];

	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	webhook_shared_mine->latch = MyLatch;
	webhook_shared_mine->info.pid = MyProcPid;
	webhook_shared_mine->info.started_at = GetCurrentTimestamp();
	database = webhook_shared_mine->info.database;
	is_run = webhook_shared_mine->info.number >= WEBHOOK_FIRST_RUN;
	if (is_run)
		webhook_shared_mine->info.state = WEBHOOK_STATE_RUN;
	else
		tell_others_of_start();
	LWLockRelease(webhook_shared->lock);
	before_shmem_exit(is_run ? detach_run : detach_worker, (Datum) 0);
	return database;
}

void
webhook_slot_free_run(int index, int number)
{
	WebhookSlotInfo *info = &webhook_shared->slots[index].info;

	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	/* It may be another's by now, which has the same number in its database. */
	if (info->database == MyDatabaseId && info->number == number)
		info->used = false;
	LWLockRelease(webhook_shared->lock);
}

void
webhook_slot_report(Oid database, const char *message)
{
	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < webhook_shared->n_slots; i++)
	{
		WebhookSlotInfo *info = &webhook_shared->slots[i].info;

		if (info->used && info->database == database && info->number == 0)
		{
			strlcpy(info->last_error, message, WEBHOOK_ERROR_SIZE);
			info->last_error_at = GetCurrentTimestamp();
		}
	}
	LWLockRelease(webhook_shared->lock);
}

void
webhook_slot_set_state(WebhookWorkerState state)
{
	webhook_shared_mine->info.state = state;
}

void
webhook_slot_set_progress(int in_flight, int claimed, int unsettled,
						  int64 attempts)
{
	webhook_shared_mine->info.in_flight = in_flight;
	webhook_shared_mine->info.claimed = claimed;
	webhook_shared_mine->info.unsettled = unsettled;
	webhook_shared_mine->info.attempts = attempts;
}

void
webhook_slot_set_trouble(TimestampTz since)
{
	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	webhook_shared_mine->info.trouble_since = since;
	LWLockRelease(webhook_shared->lock);
}

TimestampTz
webhook_slot_find_trouble(char reason[WEBHOOK_ERROR_SIZE])
{
	TimestampTz since = 0;

	LWLockAcquire(webhook_shared->lock, LW_SHARED);
	for (int i = 0; i < webhook_shared->n_slots; i++)
	{
		WebhookSlotInfo *info = &webhook_shared->slots[i].info;

		if (!info->used || info->database != MyDatabaseId || info->trouble_since == 0 ||
			(since != 0 && since <= info->trouble_since))
			continue;
		since = info->trouble_since;
		strlcpy(reason, info->last_error, WEBHOOK_ERROR_SIZE);
	}
	LWLockRelease(webhook_shared->lock);
	return since;
}

void
webhook_slot_set_timezone(const char *timezone)
{
	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	strlcpy(webhook_shared_mine->info.timezone, timezone, TZ_STRLEN_MAX + 1);
	LWLockRelease(webhook_shared->lock);
}

void
webhook_slot_set_recovering(bool is_recovering)
{
	webhook_shared_mine->info.is_recovering = is_recovering;
}

void
webhook_slot_set_turn(TimestampTz now, Size memory, int capacity)
{
	webhook_shared_mine->info.last_turn_at = now;
	webhook_shared_mine->info.memory = memory;
	webhook_shared_mine->info.capacity = capacity;
}

void
webhook_slot_set_log_start(int64 log_id)
{
	webhook_shared_mine->info.log_start = log_id;
}

void
webhook_slot_set_error(const char *message)
{
	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	strlcpy(webhook_shared_mine->info.last_error, message, WEBHOOK_ERROR_SIZE);
	webhook_shared_mine->info.last_error_at = GetCurrentTimestamp();
	LWLockRelease(webhook_shared->lock);
}

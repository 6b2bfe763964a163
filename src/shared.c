/*-------------------------------------------------------------------------
 *
 * shared.c
 *	  Shared memory.
 *
 * It has a slot for each worker (slot.c), in which commits tell the worker of
 * news (news.c), and what sessions want of the launcher (launch.c); pieces of
 * their own are the actions (shared_action.c) and what is under way (progress.c).
 * Where the library isn't preloaded there is none, and all of these do nothing.
 *
 * Runs in every process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "progress.h"
#include "shared.h"
#include "shared_action.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

WebhookShared *webhook_shared = NULL;
WebhookSharedSlot *webhook_shared_mine = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static Size
shared_size(void)
{
	return add_size(offsetof(WebhookShared, slots),
					mul_size(sizeof(WebhookSharedSlot), max_worker_processes));
}

static void
request_shmem(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("webhook", 1);
	webhook_shared_action_request();
	webhook_progress_request();
}

static void
startup_shmem(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	webhook_shared = ShmemInitStruct("webhook", shared_size(), &found);
	if (!found)
	{
		memset(webhook_shared, 0, shared_size());
		webhook_shared->lock = &(GetNamedLWLockTranche("webhook"))->lock;
		webhook_shared->n_slots = max_worker_processes;
	}
	webhook_shared_action_attach();
	webhook_progress_attach();
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
	return webhook_shared != NULL;
}

void
webhook_shared_set_clock_was(TimestampTz clock_was)
{
	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	webhook_shared->clock_was = Max(webhook_shared->clock_was, clock_was);
	LWLockRelease(webhook_shared->lock);
}

TimestampTz
webhook_shared_clock_was(void)
{
	TimestampTz clock_was;

	LWLockAcquire(webhook_shared->lock, LW_SHARED);
	clock_was = webhook_shared->clock_was;
	LWLockRelease(webhook_shared->lock);
	return clock_was;
}

/*-------------------------------------------------------------------------
 *
 * launch.c
 *	  What others want of the launcher.
 *
 * That it looks at a database: there may be one more to serve.  Or that a
 * database's workers end and none is started, while somebody drops it, say.
 *
 * Runs in every process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "compat.h"
#include "launch.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "shared.h"
#include "storage/ipc.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"

#define BLOCK_TIMEOUT_MS 5000

/* ---------------------------------------------------------------------
 * Sessions and workers
 * ---------------------------------------------------------------------
 */

static void
wake_launcher(void)
{
	LWLockAcquire(webhook_shared->lock, LW_SHARED);
	if (webhook_shared->launcher_latch != NULL)
		SetLatch(webhook_shared->launcher_latch);
	LWLockRelease(webhook_shared->lock);
}

void
webhook_launch_request(Oid database)
{
	if (webhook_shared == NULL)
		return;
	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	if (webhook_shared->n_requests < WEBHOOK_MAX_REQUESTS)
		webhook_shared->requests[webhook_shared->n_requests++] = database;
	else
		webhook_shared->any_request = true;
	LWLockRelease(webhook_shared->lock);
	wake_launcher();
}

void
webhook_launch_started(void)
{
	wake_launcher();
}

/* Send SIGTERM to a database's workers; returns how many there are. */
static int
terminate_workers(Oid database)
{
	int			n = 0;

	LWLockAcquire(webhook_shared->lock, LW_SHARED);
	for (int i = 0; i < webhook_shared->n_slots; i++)
	{
		WebhookSharedSlot *slot = &webhook_shared->slots[i];

		if (slot->latch != NULL && slot->info.database == database)
		{
			kill(slot->info.pid, SIGTERM);
			n++;
		}
	}
	LWLockRelease(webhook_shared->lock);
	return n;
}

void
webhook_launch_unblock(void)
{
	bool		is_found = false;

	if (webhook_shared == NULL)
		return;

	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < webhook_shared->n_blocked && !is_found; i++)
	{
		if (webhook_shared->blocked[i].pid == MyProcPid)
		{
			webhook_shared->blocked[i] = webhook_shared->blocked[--webhook_shared->n_blocked];
			is_found = true;
		}
	}
	LWLockRelease(webhook_shared->lock);
	if (is_found)
		wake_launcher();
}

/* However the session ends, what it blocked is blocked no longer. */
static void
on_exit_session(int code, Datum arg)
{
	webhook_launch_unblock();
}

void
webhook_launch_block(Oid database)
{
	static bool is_registered = false;
	TimestampTz deadline;
	uint32		wait_event;

	if (webhook_shared == NULL)
		return;

	if (!is_registered)
		on_shmem_exit(on_exit_session, (Datum) 0);
	is_registered = true;
	wait_event = webhook_wait_event_new("WebhookWorkerEnd");
	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	if (webhook_shared->n_blocked < WEBHOOK_MAX_BLOCKED)
	{
		webhook_shared->blocked[webhook_shared->n_blocked].database = database;
		webhook_shared->blocked[webhook_shared->n_blocked].pid = MyProcPid;
		webhook_shared->n_blocked++;
	}
	LWLockRelease(webhook_shared->lock);

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

/* ---------------------------------------------------------------------
 * Launcher
 * ---------------------------------------------------------------------
 */

static void
detach_launcher(int code, Datum arg)
{
	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	webhook_shared->launcher_latch = NULL;
	LWLockRelease(webhook_shared->lock);
}

void
webhook_launch_attach(void)
{
	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	webhook_shared->launcher_latch = MyLatch;
	LWLockRelease(webhook_shared->lock);
	before_shmem_exit(detach_launcher, (Datum) 0);
}

bool
webhook_launch_is_blocked(Oid database)
{
	bool		result = false;

	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < webhook_shared->n_blocked;)
	{
		/* One that died forgot to unblock. */
		if (BackendPidGetProc(webhook_shared->blocked[i].pid) == NULL)
		{
			webhook_shared->blocked[i] = webhook_shared->blocked[--webhook_shared->n_blocked];
			continue;
		}
		if (webhook_shared->blocked[i].database == database)
			result = true;
		i++;
	}
	LWLockRelease(webhook_shared->lock);
	return result;
}

bool
webhook_launch_take_requests(Oid *databases, int *n)
{
	bool		any;

	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	any = webhook_shared->any_request;
	*n = webhook_shared->n_requests;
	memcpy(databases, webhook_shared->requests, *n * sizeof(Oid));
	webhook_shared->n_requests = 0;
	webhook_shared->any_request = false;
	LWLockRelease(webhook_shared->lock);
	return any;
}

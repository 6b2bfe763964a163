/*-------------------------------------------------------------------------
 *
 * process.c
 *	  What the extension's background processes have in common.
 *
 * Each is at home in a database and starts where the server is no standby.  But
 * for the launcher, none is started again by the postmaster: who started it
 * sees that it has ended, and knows what to do.
 *
 * Runs in the postmaster, the launcher and workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "process.h"
#include "utils/guc.h"
#include "utils/memutils.h"

void
webhook_process_describe(BackgroundWorker *process, const char *name,
						 const char *function)
{
	memset(process, 0, sizeof(BackgroundWorker));
	process->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	process->bgw_start_time = BgWorkerStart_RecoveryFinished;
	process->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(process->bgw_library_name, "webhook", BGW_MAXLEN);
	strlcpy(process->bgw_function_name, function, BGW_MAXLEN);
	strlcpy(process->bgw_name, name, BGW_MAXLEN);
	strlcpy(process->bgw_type, name, BGW_MAXLEN);
}

bool
webhook_process_start(BackgroundWorker *process, int slot,
					  BackgroundWorkerHandle **handle)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	bool		is_started;

	process->bgw_main_arg = Int32GetDatum(slot);
	process->bgw_notify_pid = MyProcPid;
	is_started = RegisterDynamicBackgroundWorker(process, handle);
	MemoryContextSwitchTo(old);
	return is_started;
}

void
webhook_process_be_superuser(void)
{
	SetSessionAuthorization(BOOTSTRAP_SUPERUSERID, true);
	SetConfigOption("role", "none", PGC_SUSET, PGC_S_OVERRIDE);
}

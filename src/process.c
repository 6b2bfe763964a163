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

void
webhook_process_set(const char *name, const char *value)
{
	if (GetConfigOption(name, true, false) != NULL)
		SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
}

void
webhook_process_set_common(void)
{
	SetSessionAuthorization(BOOTSTRAP_SUPERUSERID, true);
	webhook_process_set("role", "none");
	webhook_process_set("exit_on_error", "off");
	webhook_process_set("search_path", "pg_catalog, pg_temp");
	webhook_process_set("default_transaction_read_only", "off");
	webhook_process_set("default_transaction_isolation", "read committed");
	webhook_process_set("default_transaction_deferrable", "off");
	webhook_process_set("session_replication_role", "origin");
	webhook_process_set("statement_timeout", "0");
	webhook_process_set("lock_timeout", "0");
	webhook_process_set("idle_in_transaction_session_timeout", "0");
	webhook_process_set("idle_session_timeout", "0");
	webhook_process_set("transaction_timeout", "0");	/* PostgreSQL 17 */
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

/*-------------------------------------------------------------------------
 *
 * process.h
 *	  What the extension's background processes have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_PROCESS_H
#define WEBHOOK_PROCESS_H

#include "postmaster/bgworker.h"

/*
 * Describe a process: its name in pg_stat_activity, and the function of ours
 * that it begins with.
 */
extern void webhook_process_describe(BackgroundWorker *process, const char *name,
									 const char *function);

/* In the process: a setting, if this version of PostgreSQL has it. */
extern void webhook_process_set(const char *name, const char *value);

/*
 * Those that are meant for users' sessions, and must not stop the process.  Nor
 * must it be who the database would have its sessions be: by ALTER DATABASE, the
 * settings role and session_authorization.
 */
extern void webhook_process_set_common(void);

/*
 * Start it on a slot of shared memory.  The handle lives until it is pfree'd.
 * False: there are too many background workers.
 */
extern bool webhook_process_start(BackgroundWorker *process, int slot,
								  BackgroundWorkerHandle **handle);

#endif							/* WEBHOOK_PROCESS_H */

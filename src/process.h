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

/*
 * Start it on a slot of shared memory.  The handle lives until it is pfree'd.
 * False: there are too many background workers.
 */
extern bool webhook_process_start(BackgroundWorker *process, int slot,
								  BackgroundWorkerHandle **handle);

#endif							/* WEBHOOK_PROCESS_H */

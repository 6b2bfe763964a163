/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  The loop: the only place where queue, request and sender meet.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_WORKER_H
#define WEBHOOK_WORKER_H

/* Started by the launcher; arg: index of its slot in shared memory. */
extern PGDLLEXPORT void webhook_worker_main(Datum arg);

#endif							/* WEBHOOK_WORKER_H */

/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  Which databases have a worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LAUNCHER_H
#define WEBHOOK_LAUNCHER_H

/* Register the launcher; called by _PG_init. */
extern void webhook_launcher_init(void);

extern PGDLLEXPORT void webhook_launcher_main(Datum arg);

#endif							/* WEBHOOK_LAUNCHER_H */

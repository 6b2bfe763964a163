/*-------------------------------------------------------------------------
 *
 * launch.h
 *	  What others want of the launcher.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LAUNCH_H
#define WEBHOOK_LAUNCH_H

/* ---- sessions ---- */

/* Let the launcher look at a database. */
extern void webhook_launch_request(Oid database);

/*
 * End a database's workers and let none start until unblocked; waits for
 * them at most five seconds.  A session blocks one database at a time.
 */
extern void webhook_launch_block(Oid database);
extern void webhook_launch_unblock(void);

/* ---- workers ---- */

/* One has looked around: the next one may. */
extern void webhook_launch_started(void);

/* ---- launcher ---- */

extern void webhook_launch_attach(void);
extern bool webhook_launch_is_blocked(Oid database);

/* Take the databases (up to WEBHOOK_MAX_REQUESTS) that asked for a worker; true: any may have. */
extern bool webhook_launch_take_requests(Oid *databases, int *n);

#endif							/* WEBHOOK_LAUNCH_H */

/*-------------------------------------------------------------------------
 *
 * durable.h
 *	  Nothing is sent that a crash or a failover could still undo.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_DURABLE_H
#define WEBHOOK_DURABLE_H

#include "datatype/timestamp.h"

/* How long to wait before looking again whether a standby has caught up. */
#define WEBHOOK_DURABLE_POLL_US 10000

/*
 * The synchronous_commit of the server and the database says for what writers
 * wait, and so what is waited for here: to be called once the worker has set its
 * own, and when settings were reloaded.
 */
extern void webhook_durable_reload(void);

/* Note where the WAL ends of what the active snapshot sees. */
extern void webhook_durable_begin(void);

/*
 * What this transaction wrote, and the snapshot of webhook_durable_begin saw, is
 * to be sent.  Call it before the worker's own commit: the commit log can't tell
 * apart the commits of transactions with neighbouring numbers.
 */
extern void webhook_durable_add(TransactionId writer);

/*
 * Out of a transaction: make what was added durable on this server, and from now on wait for its
 * synchronous standbys.
 */
extern void webhook_durable_require(void);

/* Is nothing waited for? */
extern bool webhook_durable_is_reached(void);

#endif							/* WEBHOOK_DURABLE_H */

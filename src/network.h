/*-------------------------------------------------------------------------
 *
 * network.h
 *	  The connections that curl keeps, and what happens on them.  The sender's
 *	  own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_NETWORK_H
#define WEBHOOK_NETWORK_H

#include <locale.h>
#include <signal.h>

#include "transfer.h"

/* What is set aside while curl runs. */
typedef struct WebhookCurlScope
{
	sigset_t	signals;
	locale_t	locale;
} WebhookCurlScope;

/*
 * Set up libcurl in this process; raises ERRCODE_SYSTEM_ERROR.  Called once,
 * after the fork.
 */
extern void webhook_network_start(void);

/* None of the others raises an error. */

/* Requests in flight that the descriptors of this process are enough for. */
extern int	webhook_network_capacity(void);

/*
 * Whoever calls curl has entered it.  That takes system calls: it is done once
 * for many requests.
 */
extern void webhook_network_enter(WebhookCurlScope *scope);
extern void webhook_network_leave(const WebhookCurlScope *scope);

/* ---- curl has been entered ---- */

/*
 * From here on new transfers share no connection with those of before.
 * False: no memory.
 */
extern bool webhook_network_open(void);

/* Free the networks of before that have nothing left to do. */
extern void webhook_network_drop_drained(void);

/* Give a transfer to curl; false: no memory. */
extern bool webhook_network_add(WebhookTransfer *transfer);

/* The same for one that was taken, and is tried again. */
extern bool webhook_network_add_again(WebhookTransfer *transfer);

/*
 * Take a transfer that has ended, with curl's result, and the microseconds
 * since it was added; NULL: none.  A mail's is still curl's as long as its
 * connection is needed.
 */
extern WebhookTransfer *webhook_network_take(CURLcode *result, int64 *elapsed);

extern void webhook_network_remove(WebhookTransfer *transfer);

/* Do what is to be done without waiting; returns the number of events seen. */
extern int	webhook_network_progress(void);

/* ---- anywhere ---- */

/* Microseconds, by a clock that nobody turns. */
extern int64 webhook_network_clock(void);

/* Which network new transfers go to. */
extern uint32 webhook_network_number(void);

/* How long to wait at most for the descriptor of watch.c: ms, -1 = no limit. */
extern long webhook_network_timeout(void);

#endif							/* WEBHOOK_NETWORK_H */

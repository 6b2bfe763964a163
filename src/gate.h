/*-------------------------------------------------------------------------
 *
 * gate.h
 *	  A few look-ups of a host name at a time.  The sender's own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_GATE_H
#define WEBHOOK_GATE_H

#include "send.h"

typedef struct WebhookGate WebhookGate;

/* Called once in a worker; raises ERRCODE_OUT_OF_MEMORY. */
extern void webhook_gate_init(void);

/* None of the others raises an error. */

/*
 * May a request to this URL go ahead?  Then *gate is what it looks its host up
 * behind, or NULL where nothing is looked up; else it waits in the gate.
 * "network" is whose name cache counts; "proxy" is looked up instead, unless
 * it is NULL.
 */
extern bool webhook_gate_enter(WebhookSend *send, const char *proxy,
							   uint32 network, WebhookGate **gate);

/* One request behind the gate needs no look-up any more; NULL is no gate. */
extern void webhook_gate_leave(WebhookGate *gate, bool is_found);

/* A request that waited and may go ahead now; NULL: none. */
extern WebhookSend *webhook_gate_next(WebhookGate **gate);

/* How long a request waits for a look-up, in ms. */
extern int64 webhook_gate_patience(const WebhookSend *send);

/*
 * A request that waits in this gate and has no more patience than that, which
 * is taken out of it; NULL: none.
 */
extern WebhookSend *webhook_gate_take(WebhookGate *gate, int64 patience);

#endif							/* WEBHOOK_GATE_H */

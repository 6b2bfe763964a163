/*-------------------------------------------------------------------------
 *
 * connecting.h
 *	  Transfers that are being connected, from address to address.  The sender's
 *	  own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_CONNECTING_H
#define WEBHOOK_CONNECTING_H

#include "transfer.h"

/* None of these raises an error. */

/* curl may have given up an address of the transfer, if it isn't connected. */
extern void webhook_connecting_gave_up(WebhookTransfer *transfer);

/* The transfer is connected, or has ended. */
extern void webhook_connecting_end(WebhookTransfer *transfer);

/* See that curl goes on with the next addresses; it has been entered. */
extern void webhook_connecting_go_on(void);

#endif							/* WEBHOOK_CONNECTING_H */

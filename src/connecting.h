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

/* curl is about to try an address for the transfer. */
extern void webhook_connecting_begin(WebhookTransfer *transfer);

/* It has given one up, unless the transfer is connected. */
extern void webhook_connecting_gave_up(WebhookTransfer *transfer);

/* A socket of a transfer's, by its handle, need be watched no longer. */
extern void webhook_connecting_left(CURL *easy);

/* The transfer is connected, or has ended. */
extern void webhook_connecting_end(WebhookTransfer *transfer);

/* See that curl goes on with the next addresses; it has been entered. */
extern void webhook_connecting_go_on(void);

#endif							/* WEBHOOK_CONNECTING_H */

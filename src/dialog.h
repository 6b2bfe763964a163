/*-------------------------------------------------------------------------
 *
 * dialog.h
 *	  One mail told to a mail server that has let us in.  The sender's own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_DIALOG_H
#define WEBHOOK_DIALOG_H

#include "transfer.h"

/* None of these raises an error; curl has been entered. */

/* Begin, on the connection that curl has made; true as below. */
extern bool webhook_dialog_start(WebhookTransfer *transfer);

/* Do what is to be done without waiting; true: the mail has its answer. */
extern bool webhook_dialog_progress(WebhookTransfer *transfer);

/* ---- anywhere ---- */

/* Has the server had the mail for longer than any other answer may take? */
extern bool webhook_dialog_is_long(const WebhookTransfer *transfer);

/* How long to wait at most: ms. */
extern long webhook_dialog_timeout(const WebhookTransfer *transfer);

#endif							/* WEBHOOK_DIALOG_H */

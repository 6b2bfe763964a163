/*-------------------------------------------------------------------------
 *
 * smtp.h
 *	  One mail on a curl easy handle.  The sender's own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SMTP_H
#define WEBHOOK_SMTP_H

#include "transfer.h"

/* None of these raises an error. */

/* A handle made ready for the mail; NULL: no memory. */
extern WebhookTransfer *webhook_smtp_take(WebhookMail *mail);

/* Fill in what curl's result makes of the mail. */
extern void webhook_smtp_judge(WebhookTransfer *transfer, CURLcode result);

extern void webhook_smtp_release(WebhookTransfer *transfer);

#endif							/* WEBHOOK_SMTP_H */

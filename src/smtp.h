/*-------------------------------------------------------------------------
 *
 * smtp.h
 *	  A connection to the mail server, for one mail.  The sender's own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SMTP_H
#define WEBHOOK_SMTP_H

#include "transfer.h"

/* None of these raises an error. */

/* A handle made ready for the mail; NULL: no memory. */
extern WebhookTransfer *webhook_smtp_take(WebhookMail *mail);

/* Fill in why curl has found no way to the server. */
extern void webhook_smtp_judge(WebhookTransfer *transfer, CURLcode result);

/* A host name by IDNA, for curl_free; NULL: it has none. */
extern char *webhook_smtp_encode_host(const char *host);

/*
 * A line of a reply, perhaps with its end: its code where it is the last one, 0
 * where it is not; -1: it is none.
 */
extern int	webhook_smtp_note_reply(WebhookTransfer *transfer, const char *line,
									size_t len);

/* Keep credentials out of what the server has said. */
extern void webhook_smtp_hide(WebhookTransfer *transfer);

extern void webhook_smtp_release(WebhookTransfer *transfer);

#endif							/* WEBHOOK_SMTP_H */

/*-------------------------------------------------------------------------
 *
 * request.h
 *	  An action and a delivery made into a request: the one place for worker,
 *	  preview and test.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_REQUEST_H
#define WEBHOOK_REQUEST_H

#include "action.h"

typedef struct WebhookHeader
{
	char	   *name;
	char	   *value;			/* UTF-8 */
	bool		secret;			/* preview masks it */
} WebhookHeader;

typedef struct WebhookRequest
{
	const char *method;
	char	   *url;
	List	   *headers;		/* of WebhookHeader *; without Authorization by
								 * username, and without what is only known
								 * when it is sent */
	char	   *body;			/* UTF-8 */
	int			body_len;
} WebhookRequest;

/*
 * Render in the current memory context.  Raises
 * ERRCODE_PROGRAM_LIMIT_EXCEEDED if the body is larger than
 * webhook.max_payload_size, and what rendering raises.  In a database whose
 * encoding isn't UTF-8 it needs a transaction.
 */
extern WebhookRequest *webhook_request_render(const WebhookAction *action,
											  const WebhookEvent *event);

/*
 * Append the headers of one attempt at the time "now": webhook-id,
 * webhook-timestamp and, if the action signs, webhook-signature.  Needs no
 * transaction.
 */
extern void webhook_request_stamp(WebhookRequest *request,
								  const WebhookAction *action,
								  const char *webhook_id, TimestampTz now);

#endif							/* WEBHOOK_REQUEST_H */

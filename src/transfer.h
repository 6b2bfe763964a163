/*-------------------------------------------------------------------------
 *
 * transfer.h
 *	  One request on a curl easy handle.  The sender's own: nobody else
 *	  includes this, as nobody else includes curl.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TRANSFER_H
#define WEBHOOK_TRANSFER_H

#include <curl/curl.h>
#include <arpa/inet.h>

#include "sender.h"

/* An easy handle and what its callbacks note down. */
typedef struct WebhookTransfer
{
	CURL	   *easy;
	WebhookSend *send;
	void	   *network;		/* sender.c's own */
	int64		started;		/* sender.c's own */
	struct curl_slist *headers;
	uint32		generation;		/* of the settings it was made under */
	bool		has_proxy;

	char	   *body;			/* malloc'd; grows */
	size_t		body_size;
	size_t		body_len;
	uint64		received;		/* bytes of body, kept or not */
	size_t		head_len;		/* bytes of headers */
	int			status;			/* of the last status line; 0: none yet */
	bool		is_head_whole;	/* of that status line */
	bool		is_enough;		/* stopped reading on purpose */
	bool		is_address_refused;
	int			socket_errno;
	int			family;			/* of the address tried last */
	char		address[INET6_ADDRSTRLEN];
	char		curl_error[CURL_ERROR_SIZE];

	struct WebhookTransfer *next;	/* in the pool */
} WebhookTransfer;

/* None of these raises an error. */

/* A handle made ready for the request; NULL: no memory. */
extern WebhookTransfer *webhook_transfer_take(WebhookSend *send);

/* Fill in the request's answer, but for its duration. */
extern void webhook_transfer_judge(WebhookTransfer *transfer, CURLcode result);

extern void webhook_transfer_release(WebhookTransfer *transfer);

/* The settings were reloaded: use no handle of before. */
extern void webhook_transfer_reload(void);

#endif							/* WEBHOOK_TRANSFER_H */

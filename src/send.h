/*-------------------------------------------------------------------------
 *
 * send.h
 *	  A request, and a mail, on the way through the sender.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SEND_H
#define WEBHOOK_SEND_H

#include "datatype/timestamp.h"
#include "lib/ilist.h"

typedef enum WebhookOutcome
{
	WEBHOOK_ANSWERED,			/* the receiver answered; see http_status */
	WEBHOOK_UNANSWERED,			/* no, or no whole, answer; see error */
	WEBHOOK_LOCAL_FAILURE,		/* no request for a reason of ours (no
								 * descriptor, no memory): costs no attempt */
	WEBHOOK_PROXY_FAILURE,		/* the same, because of webhook.proxy */
	WEBHOOK_UNRESOLVED			/* no request, because no name server has said
								 * yet where to: costs no attempt for a while */
} WebhookOutcome;

/*
 * One request.  The caller allocates it (zeroed) and all that it points to in
 * "context" and keeps it until webhook_sender_done gives it back.
 */
typedef struct WebhookSend
{
	/* given */
	MemoryContext context;		/* what the answer is stored in */
	void	   *owner;			/* the caller's own */
	const char *method;			/* POST or PUT */
	const char *url;			/* UTF-8 or ASCII */
	const char **headers;		/* "Name: value", UTF-8; NULL-terminated */
	const char *username;		/* UTF-8; NULL: no authentication */
	const char *password;
	const char *client_certificate; /* path of a PEM file with certificate and
									 * key, or NULL */
	const char *body;
	size_t		body_len;
	int64		timeout;		/* ms, for the whole request */
	int64		connect_timeout;	/* ms */
	size_t		response_limit; /* bytes of the answer's body to keep */

	/* the answer */
	WebhookOutcome outcome;
	int			http_status;	/* 0: none */
	char	   *error;			/* plain words, server's encoding; NULL if the
								 * status is 2xx and the answer is whole */
	char	   *response;		/* raw bytes as received, not terminated */
	size_t		response_len;
	int64		retry_after;	/* seconds asked for by Retry-After; -1: none */
	TimestampTz started_at;
	int64		duration;		/* microseconds */
	int			resent;			/* times it was sent again at once, because a
								 * kept connection ended without an answer */
	int64		connect_time;	/* microseconds; 0: a connection was there */

	dlist_node	node;			/* sender's own */
} WebhookSend;

/* One mail by SMTP; allocated and kept as a request is. */
typedef struct WebhookMail
{
	/* given; all text is UTF-8 */
	MemoryContext context;
	int64		mail_id;
	int			attempts;		/* before this one */
	const char *url;			/* smtp:// or smtps:// */
	const char *username;		/* NULL: no authentication */
	const char *password;
	const char *secrets[3];		/* what the server must not be quoted with */
	const char *sender;			/* plain addresses */
	const char *recipient;
	const char *message;		/* header and body, lines end with CR LF */
	size_t		message_len;
	bool		needs_utf8;		/* an address is not ASCII */
	int64		timeout;		/* ms: to be let in, and for each answer */

	/* the answer */
	bool		is_sent;
	bool		is_refused;		/* not sent, and never will be */
	char	   *error;			/* server's encoding */

	struct WebhookMail *next;	/* sender's own */
} WebhookMail;

#endif							/* WEBHOOK_SEND_H */

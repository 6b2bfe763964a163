/*-------------------------------------------------------------------------
 *
 * sender.h
 *	  HTTP requests, and mails, in flight.  Knows nothing of tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SENDER_H
#define WEBHOOK_SENDER_H

#include "datatype/timestamp.h"

typedef enum WebhookOutcome
{
	WEBHOOK_ANSWERED,			/* the receiver answered; see http_status */
	WEBHOOK_UNANSWERED,			/* no, or no whole, answer; see error */
	WEBHOOK_LOCAL_FAILURE,		/* no request for a reason of ours (no
								 * descriptor, no memory): costs no attempt */
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

	struct WebhookTransfer *transfer;	/* sender's own */
	struct WebhookSend *next;	/* sender's own */
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
	const char *sender;			/* plain addresses */
	const char *recipient;
	const char *message;		/* header and body, lines end with CR LF */
	size_t		message_len;
	int64		timeout;		/* ms */

	/* the answer */
	bool		is_sent;
	bool		is_refused;		/* not sent, and never will be */
	char	   *error;			/* server's encoding */

	struct WebhookMail *next;	/* sender's own */
} WebhookMail;

/*
 * Set up libcurl in this process; raises ERRCODE_OUT_OF_MEMORY or
 * ERRCODE_SYSTEM_ERROR.  Called once, after the fork.
 */
extern void webhook_sender_start(void);

/* The settings were reloaded: open no request on a connection of before. */
extern void webhook_sender_reload(void);

/*
 * Hand a request to the network, to which it goes with the next
 * webhook_sender_start_all.  Never raises an error: what can't be sent comes
 * back from webhook_sender_done with its reason.
 */
extern void webhook_sender_send(WebhookSend *send);
extern void webhook_sender_start_all(void);

/* The descriptor to wait for (readable), and how long at most: ms, -1 = no limit. */
extern pgsocket webhook_sender_socket(void);
extern long webhook_sender_timeout(void);

/* Do what is to be done without waiting; returns the number of events seen. */
extern int	webhook_sender_progress(void);

/* The next finished request, or NULL. */
extern WebhookSend *webhook_sender_done(void);

/* How many are in flight. */
extern int	webhook_sender_in_flight(void);

/* The same for mails, which are not counted among the requests. */
extern void webhook_sender_send_mail(WebhookMail *mail);
extern WebhookMail *webhook_sender_done_mail(void);
extern int	webhook_sender_mails_in_flight(void);

/*
 * How many may be in flight with the descriptors that this process has, as far
 * as it knows: fewer for a while after one was missing.
 */
extern int	webhook_sender_capacity(void);

#endif							/* WEBHOOK_SENDER_H */

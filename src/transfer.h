/*-------------------------------------------------------------------------
 *
 * transfer.h
 *	  One request on a curl easy handle.  The sender's own: nobody else
 *	  includes this, as nobody but url.c includes curl.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TRANSFER_H
#define WEBHOOK_TRANSFER_H

#include <curl/curl.h>
#include <arpa/inet.h>

#include "compat.h"
#include "gate.h"
#include "lib/ilist.h"
#include "send.h"

#define WEBHOOK_MAX_HEAD (64 * 1024)	/* bytes of an answer's headers */

/* An easy handle and what its callbacks note down. */
typedef struct WebhookTransfer
{
	CURL	   *easy;
	WebhookSend *send;
	WebhookMail *mail;			/* smtp.c: instead of send */
	struct WebhookNetwork *network; /* network.c's own */
	WebhookGate *gate;			/* where the host is being looked up, if so */
	int64		started;		/* network.c's own */
	struct curl_slist *headers; /* an array, of the request's headers */
	int			n_headers;		/* room in it */
	struct curl_slist *empty_headers;	/* as curl wants those without a value */

	/* What the handle is set to, and need not be set to again. */
	char	   *url;
	const char *method;
	int64		timeout;
	int64		connect_timeout;
	bool		has_credentials;
	bool		has_certificate;
	long		http_version;

	uint32		generation;		/* of the settings it was made under */
	bool		has_proxy;
	bool		is_second_try;
	bool		is_downgraded;	/* that is by HTTP/1.1 */
	int			n_sent;			/* how often the request went out */

	char	   *body;			/* malloc'd; grows */
	size_t		body_size;
	size_t		body_len;
	uint64		received;		/* bytes of body, kept or not */
	size_t		head_len;		/* bytes of headers */
	int			status;			/* of the last status line; 0: none yet */
	bool		is_head_whole;	/* of that status line */
	bool		is_enough;		/* stopped reading on purpose */
	bool		is_address_refused; /* the one tried last */
	int			socket_errno;
	int			family;			/* of the address tried last */
	char		address[INET6_ADDRSTRLEN];
	char		curl_error[CURL_ERROR_SIZE];

	bool		is_connecting;	/* an address is being tried */
	bool		is_waiting;		/* connecting.c's own, and in its list */
	dlist_node	node;

	/* smtp.c, dialog.c */
	char		reply[512];		/* the last one that refused */
	int			reply_code;		/* of a reply that has further lines; 0: none */
	bool		has_utf8;		/* the mail server offers SMTPUTF8 */
	int			stage;
	curl_socket_t fd;
	int64		deadline;		/* by webhook_network_clock */
	const char *out;			/* to be sent */
	size_t		out_left;
	char		command[600];
	char		line[256];		/* of a reply; its end may be cut */
	size_t		line_len;
	size_t		reply_len;

	struct WebhookTransfer *next;	/* in the pool, or a mail in its dialog */
} WebhookTransfer;

/* In a function that has a WebhookTransfer "t", and tells by "ok" of a lack of memory. */
#define SET(option, value) \
	(ok = ok && curl_easy_setopt(t->easy, option, value) == CURLE_OK)

static inline bool
webhook_transfer_is_https(const WebhookSend *send)
{
	return pg_strncasecmp(send->url, "https:", 6) == 0;
}

/* None of these raises an error. */

/* A handle made ready for the request; NULL: no memory. */
extern WebhookTransfer *webhook_transfer_take(WebhookSend *send);

/*
 * Did all arrive that was announced, or wanted?  Then it does not matter what
 * curl says became of the connection.
 */
extern bool webhook_transfer_is_whole(WebhookTransfer *transfer);

/* How long a connection was made for it, in microseconds; 0: one was there. */
extern int64 webhook_transfer_connect_time(WebhookTransfer *transfer);

/*
 * Does curl's result call for another try at once?  Then the handle is ready
 * for it.  "elapsed" is in milliseconds.
 */
extern bool webhook_transfer_try_again(WebhookTransfer *transfer,
									   CURLcode result, int64 elapsed);

extern void webhook_transfer_release(WebhookTransfer *transfer);

/*
 * For CURLOPT_OPENSOCKETFUNCTION: a socket for an address, or none where it is
 * not allowed; the transfer notes down which.
 */
extern curl_socket_t webhook_transfer_open(WebhookTransfer *transfer,
										   const struct curl_sockaddr *address,
										   bool is_allowed);

/* transfer_notes.c: let the handle's callbacks note down what happens. */
extern bool webhook_transfer_take_notes(WebhookTransfer *transfer);
extern void webhook_transfer_forget_notes(WebhookTransfer *transfer);

/* Set what is the same for all that is sent: whose certificates count, above all. */
extern bool webhook_transfer_set_common(WebhookTransfer *transfer);

/* The settings were reloaded: use no handle of before. */
extern void webhook_transfer_reload(void);

#endif							/* WEBHOOK_TRANSFER_H */

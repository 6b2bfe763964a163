/*-------------------------------------------------------------------------
 *
 * sender.c
 *	  HTTP requests, and mails, in flight, on libcurl.
 *
 * One thread and any number of requests.  Each waits at the gate (gate.c) until
 * its host may be looked up, goes out as a transfer (transfer.c) on the
 * connections that curl keeps (network.c), and comes back with its answer
 * judged (answer.c).  A mail has a connection of its own (smtp.c), on which a mail
 * server is told of it (dialog.c).  None is ever lost: what can't be sent comes
 * back as well.
 *
 * Runs in workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "answer.h"
#include "common/string.h"
#include "dialog.h"
#include "gate.h"
#include "network.h"
#include "sender.h"
#include "settings.h"
#include "smtp.h"
#include "transfer.h"
#include "utils/timestamp.h"
#include "watch.h"

static int	allowed = 0;		/* in flight: less where descriptors are short */
static int	n_in_flight = 0;	/* sent and not yet given back */
static dlist_head fresh = DLIST_STATIC_INIT(fresh); /* to be given to curl */
static dlist_head done = DLIST_STATIC_INIT(done);
static int	n_mails = 0;			/* the same of mails */
static WebhookMail *done_mails = NULL;
static WebhookTransfer *dialogs = NULL; /* mails that a server is being told */

/* ---------------------------------------------------------------------
 * Requests
 * ---------------------------------------------------------------------
 */

static void
push_done(WebhookSend *send)
{
	/* What is short may be somebody else's: halve, and feel the way up again. */
	if (send->outcome == WEBHOOK_LOCAL_FAILURE)
		allowed = Max(Min(allowed, n_in_flight) / 2, 1);
	else if (allowed < webhook_network_capacity())
		allowed++;
	dlist_push_tail(&done, &send->node);
}

/* Why curl need not be asked at all; NULL: nothing wrong. */
static char *
find_fault(WebhookSend *send)
{
	if (pg_strncasecmp(send->url, "https://", 8) != 0)
	{
		if (pg_strncasecmp(send->url, "http://", 7) != 0)
			return webhook_answer_format(send->context,
										  "URL must begin with http:// or https://");
		if (!webhook_allow_http)
			return webhook_answer_format(send->context,
										  "http without TLS is not allowed by webhook.allow_http");
	}

	/* What came from a record could add headers, or a request. */
	for (const char **header = send->headers; header && *header; header++)
	{
		if (strpbrk(*header, "\r\n") != NULL)
			return webhook_answer_format(send->context,
										  "header \"%.*s\" contains a line break",
										  (int) strcspn(*header, ":\r\n"), *header);
	}
	return NULL;
}

/* Give the request to curl, which has been entered; false: no memory. */
static bool
start_transfer(WebhookSend *send, WebhookGate *gate)
{
	WebhookTransfer *t = webhook_transfer_take(send);

	if (t == NULL)
		return false;
	t->gate = gate;
	if (!webhook_network_add(t))
	{
		webhook_transfer_release(t);
		return false;
	}
	return true;
}

/* The next request that curl may be given; NULL: none. */
static WebhookSend *
take_waiting(WebhookGate **gate)
{
	const char *proxy = webhook_proxy != NULL && webhook_proxy[0] != '\0' ?
		webhook_proxy : NULL;

	while (!dlist_is_empty(&fresh))
	{
		WebhookSend *send = dlist_container(WebhookSend, node,
											dlist_pop_head_node(&fresh));

		if (webhook_gate_enter(send, proxy, webhook_network_number(), gate))
			return send;
	}

	/* Whose host is known by now, or whose turn it is to look it up. */
	return webhook_gate_next(gate);
}

void
webhook_sender_start_all(void)
{
	WebhookCurlScope scope;
	WebhookGate *gate;
	WebhookSend *send = take_waiting(&gate);

	if (send == NULL)
		return;
	webhook_network_enter(&scope);
	for (; send != NULL; send = take_waiting(&gate))
	{
		send->started_at = GetCurrentTimestamp();
		if (start_transfer(send, gate))
			continue;
		webhook_gate_leave(gate, false);
		send->outcome = WEBHOOK_LOCAL_FAILURE;
		send->error = webhook_answer_format(send->context,
											"could not send: out of memory");
		push_done(send);
	}
	webhook_network_leave(&scope);
}

/*
 * A look-up that failed answers for all that waited for it; one that took too
 * long, for those that would have waited no longer.
 */
static void
fail_waiting(const WebhookSend *failed, WebhookGate *gate, CURLcode result)
{
	int64		patience = result != CURLE_OPERATION_TIMEDOUT ? PG_INT64_MAX :
		webhook_gate_patience(failed);
	WebhookSend *send;

	while ((send = webhook_gate_take(gate, patience)) != NULL)
	{
		send->outcome = failed->outcome;
		send->error = webhook_answer_format(send->context, "%s", failed->error);
		send->started_at = failed->started_at;
		send->duration = failed->duration;
		push_done(send);
	}
}

void
webhook_sender_send(WebhookSend *send)
{
	send->outcome = WEBHOOK_UNANSWERED;
	send->http_status = 0;
	send->response = NULL;
	send->response_len = 0;
	send->retry_after = -1;
	send->started_at = GetCurrentTimestamp();
	send->duration = 0;
	send->resent = 0;
	send->connect_time = 0;
	n_in_flight++;

	send->error = find_fault(send);
	if (send->error == NULL && n_in_flight > webhook_network_capacity())
	{
		send->outcome = WEBHOOK_LOCAL_FAILURE;
		send->error = webhook_answer_format(send->context,
											"too few file descriptors for so many requests in flight");
	}
	if (send->error != NULL)
		push_done(send);
	else
		dlist_push_tail(&fresh, &send->node);
}

void
webhook_sender_send_mail(WebhookMail *mail)
{
	WebhookCurlScope scope;
	WebhookTransfer *t;
	bool		is_started = false;

	mail->is_sent = mail->is_refused = false;
	mail->error = NULL;
	n_mails++;
	webhook_network_enter(&scope);
	t = webhook_smtp_take(mail);
	if (t != NULL)
	{
		is_started = webhook_network_add(t);
		if (!is_started)
			webhook_smtp_release(t);
	}
	webhook_network_leave(&scope);
	if (!is_started)
	{
		mail->error = webhook_answer_format(mail->context,
											"could not send: out of memory");
		mail->next = done_mails;
		done_mails = mail;
	}
}

static void
finish_mail(WebhookTransfer *t)
{
	WebhookMail *mail = t->mail;

	webhook_smtp_release(t);
	mail->next = done_mails;
	done_mails = mail;
}

/* curl has made a connection, or has not. */
static void
begin_mail(WebhookTransfer *t, CURLcode result)
{
	if (result != CURLE_OK)
		webhook_smtp_judge(t, result);
	else if (webhook_dialog_start(t))
		webhook_network_remove(t);
	else
	{
		t->next = dialogs;
		dialogs = t;
		return;
	}
	finish_mail(t);
}

/* Mails are few: each is asked, whatever it was that happened. */
static void
progress_mails(void)
{
	WebhookTransfer **link = &dialogs;

	while (*link != NULL)
	{
		WebhookTransfer *t = *link;

		if (!webhook_dialog_progress(t))
		{
			link = &t->next;
			continue;
		}
		*link = t->next;
		webhook_watch_leave(t->fd);
		webhook_network_remove(t);
		finish_mail(t);
	}
}

static void
finish_send(WebhookTransfer *t, CURLcode result, int64 elapsed)
{
	WebhookSend *send = t->send;
	WebhookGate *gate;

	send->duration = elapsed;
	if (webhook_transfer_try_again(t, result, elapsed / 1000) &&
		webhook_network_add_again(t))
		return;
	send->resent = Max(t->n_sent - 1, 0);
	send->connect_time = webhook_transfer_connect_time(t);
	webhook_answer_judge(t, result);
	gate = t->gate;
	webhook_gate_leave(gate, false);
	webhook_transfer_release(t);
	push_done(send);
	if (gate != NULL && (result == CURLE_COULDNT_RESOLVE_HOST ||
						 result == CURLE_COULDNT_RESOLVE_PROXY ||
						 result == CURLE_OPERATION_TIMEDOUT))
		fail_waiting(send, gate, result);
}

int
webhook_sender_progress(void)
{
	WebhookCurlScope scope;
	WebhookTransfer *t;
	CURLcode	result;
	int64		elapsed;
	int			n_seen;

	webhook_network_enter(&scope);
	n_seen = webhook_network_progress();
	progress_mails();
	while ((t = webhook_network_take(&result, &elapsed)) != NULL)
	{
		if (t->mail != NULL)
			begin_mail(t, result);
		else
			finish_send(t, result, elapsed);
	}
	webhook_network_drop_drained();
	webhook_network_leave(&scope);
	webhook_sender_start_all();
	return n_seen;
}

WebhookSend *
webhook_sender_done(void)
{
	if (dlist_is_empty(&done))
		return NULL;
	n_in_flight--;
	return dlist_container(WebhookSend, node, dlist_pop_head_node(&done));
}

WebhookMail *
webhook_sender_done_mail(void)
{
	WebhookMail *mail = done_mails;

	if (mail != NULL)
	{
		done_mails = mail->next;
		n_mails--;
	}
	return mail;
}

int
webhook_sender_mails_in_flight(void)
{
	int			n = n_mails;

	for (WebhookTransfer *t = dialogs; t != NULL; t = t->next)
		n -= webhook_dialog_is_long(t);
	return n;
}

char *
webhook_sender_plain_address(const char *address)
{
	const char *at = strrchr(address, '@');
	WebhookCurlScope scope;
	char	   *host;
	char	   *result;
	size_t		size;

	if (at == NULL || pg_is_ascii(at))
		return pstrdup(address);
	webhook_network_enter(&scope);
	host = webhook_smtp_encode_host(at + 1);
	webhook_network_leave(&scope);
	if (host == NULL)
		return pstrdup(address);
	size = at - address + 1 + strlen(host) + 1;
	result = palloc_extended(size, MCXT_ALLOC_NO_OOM);	/* host is curl's */
	if (result != NULL)
		snprintf(result, size, "%.*s@%s", (int) (at - address), address, host);
	curl_free(host);
	return result != NULL && pg_is_ascii(result) ? result : pstrdup(address);
}

pgsocket
webhook_sender_socket(void)
{
	return webhook_watch_descriptor();
}

long
webhook_sender_timeout(void)
{
	long		timeout = webhook_network_timeout();

	if (!dlist_is_empty(&done) || done_mails != NULL)
		return 0;
	for (WebhookTransfer *t = dialogs; t != NULL; t = t->next)
	{
		long		left = webhook_dialog_timeout(t);

		timeout = timeout < 0 ? left : Min(timeout, left);
	}
	return timeout;
}

int
webhook_sender_in_flight(void)
{
	return n_in_flight;
}

int
webhook_sender_capacity(void)
{
	return allowed;
}

/* ---------------------------------------------------------------------
 * Start and reload
 * ---------------------------------------------------------------------
 */

void
webhook_sender_start(void)
{
	webhook_gate_init();
	webhook_network_start();
	allowed = webhook_network_capacity();
	webhook_sender_reload();
}

/*
 * A connection keeps what it was opened under: an address that was allowed, a
 * CA that was trusted, a proxy.  New requests get a network of their own; the
 * one before is dropped as soon as its requests have their answers.
 */
void
webhook_sender_reload(void)
{
	WebhookCurlScope scope;
	bool		is_open;

	webhook_network_enter(&scope);
	is_open = webhook_network_open();
	if (is_open)
	{
		webhook_transfer_reload();
		webhook_network_drop_drained();
	}
	webhook_network_leave(&scope);
	if (!is_open)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("Failed while initializing libcurl.")));
}

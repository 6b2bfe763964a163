/*-------------------------------------------------------------------------
 *
 * sender.c
 *	  HTTP requests, and mails, in flight, on libcurl.
 *
 * One thread, one curl multi handle, any number of requests.  curl's sockets
 * are watched by an epoll descriptor of our own (watch.c), which the worker's
 * WaitEventSet waits for as one more descriptor: sockets come and go with
 * every request, and a WaitEventSet can't forget any.
 *
 * libcurl resolves names in threads that it creates inside of its functions.
 * PostgreSQL's signal handlers must never run in them, so all signals are
 * blocked wherever curl is entered; a thread inherits that.  No error is
 * raised while curl is on the stack.
 *
 * Runs in workers; webhook_sender_check_url in sessions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "answer.h"
#include "gate.h"
#include "portability/instr_time.h"
#include "sender.h"
#include "settings.h"
#include "smtp.h"
#include "storage/fd.h"
#include "transfer.h"
#include "utils/timestamp.h"
#include "watch.h"

#define MAX_EVENTS 64			/* taken at once */
#define MAX_ROUNDS 16			/* of them in one webhook_sender_progress */
#define MAX_DESCRIPTORS 65536

/* A multi handle with its connections; all but the first are being drained. */
typedef struct Network
{
	CURLM	   *multi;
	uint32		number;
	int			n_transfers;
	int64		deadline;		/* curl's timer, by get_clock; -1: none */
	struct Network *next;
} Network;

/* What is set aside while curl runs. */
typedef struct CurlScope
{
	sigset_t	signals;
	locale_t	locale;
} CurlScope;

static Network *networks = NULL;	/* the first one is for new requests */
static int	capacity = 0;
static int	allowed = 0;		/* in flight: less where descriptors are short */
static int	n_in_flight = 0;	/* sent and not yet given back */
static WebhookSend *new_head = NULL;	/* to be given to curl */
static WebhookSend *new_tail = NULL;
static WebhookSend *done_head = NULL;
static WebhookSend *done_tail = NULL;
static int	n_mails = 0;			/* the same of mails */
static WebhookMail *done_mails = NULL;
static sigset_t blocked_signals;
static locale_t utf8_locale = (locale_t) 0;

static int64
get_clock(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/*
 * libidn2, below curl, reads host names in the locale's encoding; ours are
 * UTF-8 whatever the database's is.
 */
static void
enter_curl(CurlScope *scope)
{
	pthread_sigmask(SIG_SETMASK, &blocked_signals, &scope->signals);
	scope->locale = (locale_t) 0;
	if (utf8_locale != (locale_t) 0)
		scope->locale = uselocale(utf8_locale);
}

static void
leave_curl(const CurlScope *scope)
{
	if (scope->locale != (locale_t) 0)
		uselocale(scope->locale);
	pthread_sigmask(SIG_SETMASK, &scope->signals, NULL);
}

/* ---------------------------------------------------------------------
 * Callbacks.  They run inside of curl: no errors, no palloc.
 * ---------------------------------------------------------------------
 */

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	Network    *network = arg;

	if (what == CURL_POLL_REMOVE)
		webhook_watch_leave(fd);
	else
		webhook_watch_set(fd, network->number, (what & CURL_POLL_IN) != 0,
						  (what & CURL_POLL_OUT) != 0);
	return 0;
}

static int
on_timer(CURLM *multi, long timeout, void *arg)
{
	Network    *network = arg;

	network->deadline = timeout < 0 ? -1 : get_clock() + timeout * INT64CONST(1000);
	return 0;
}

/* ---------------------------------------------------------------------
 * Networks
 * ---------------------------------------------------------------------
 */

/* A multi handle with no connections; NULL: no memory. */
static Network *
create_network(void)
{
	static uint32 last_number = 0;
	Network    *network = calloc(1, sizeof(Network));

	if (network == NULL)
		return NULL;
	network->multi = curl_multi_init();
	if (network->multi == NULL)
	{
		free(network);
		return NULL;
	}
	network->number = ++last_number;
	network->deadline = -1;
	curl_multi_setopt(network->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(network->multi, CURLMOPT_SOCKETDATA, network);
	curl_multi_setopt(network->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(network->multi, CURLMOPT_TIMERDATA, network);
	curl_multi_setopt(network->multi, CURLMOPT_PIPELINING, (long) CURLPIPE_MULTIPLEX);
#ifdef HAVE_MULTI_QUICK_EXIT
	curl_multi_setopt(network->multi, CURLMOPT_QUICK_EXIT, 1L);
#endif

	/*
	 * Kept connections beyond it are closed, the one that was idle longest
	 * first.  Over HTTP/2 one is enough for all requests to a receiver, but
	 * those that come at the same time open one each.
	 */
	curl_multi_setopt(network->multi, CURLMOPT_MAXCONNECTS,
					  (long) Min(2 * webhook_max_in_flight, capacity));
	curl_multi_setopt(network->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) capacity);
	return network;
}

/* Free networks of before that have nothing left to do. */
static void
drop_drained_networks(void)
{
	Network   **link = &networks->next;

	while (*link != NULL)
	{
		Network    *network = *link;

		if (network->n_transfers > 0)
		{
			link = &network->next;
			continue;
		}
		*link = network->next;
		curl_multi_cleanup(network->multi);
		free(network);
	}
}

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
	else if (allowed < capacity)
		allowed++;
	send->transfer = NULL;
	send->next = NULL;
	if (done_tail == NULL)
		done_head = send;
	else
		done_tail->next = send;
	done_tail = send;
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
	if (curl_multi_add_handle(networks->multi, t->easy) != CURLM_OK)
	{
		webhook_transfer_release(t);
		return false;
	}
	t->network = networks;
	t->started = get_clock();
	networks->n_transfers++;
	send->transfer = t;
	return true;
}

/* The next request that curl may be given; NULL: none. */
static WebhookSend *
take_waiting(WebhookGate **gate)
{
	const char *proxy = webhook_proxy != NULL && webhook_proxy[0] != '\0' ?
		webhook_proxy : NULL;
	WebhookSend *send;

	while ((send = new_head) != NULL)
	{
		new_head = send->next;
		if (webhook_gate_enter(send, proxy, networks->number, gate))
			return send;
	}

	/* Whose host is known by now, or whose turn it is to look it up. */
	return webhook_gate_next(gate);
}

/* Entering curl takes system calls: it is done once for many requests. */
void
webhook_sender_start_all(void)
{
	CurlScope	scope;
	WebhookGate *gate;
	WebhookSend *send = take_waiting(&gate);
	WebhookSend *failed = NULL;

	if (send == NULL)
		return;
	enter_curl(&scope);
	for (; send != NULL; send = take_waiting(&gate))
	{
		send->next = NULL;
		send->started_at = GetCurrentTimestamp();
		if (start_transfer(send, gate))
			continue;
		webhook_gate_leave(gate, false);
		send->next = failed;
		failed = send;
	}
	leave_curl(&scope);
	while ((send = failed) != NULL)
	{
		failed = send->next;
		send->outcome = WEBHOOK_LOCAL_FAILURE;
		send->error = webhook_answer_format(send->context,
											"could not send: out of memory");
		push_done(send);
	}
}

/* A look-up that failed answers for all that waited for it. */
static void
fail_waiting(const WebhookSend *failed, WebhookGate *gate)
{
	WebhookSend *send;

	while ((send = webhook_gate_take(gate)) != NULL)
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
	send->transfer = NULL;
	n_in_flight++;

	send->error = find_fault(send);
	if (send->error != NULL)
	{
		push_done(send);
		return;
	}
	if (n_in_flight > capacity)
	{
		send->outcome = WEBHOOK_LOCAL_FAILURE;
		send->error = webhook_answer_format(send->context,
											 "too few file descriptors for so many requests in flight");
		push_done(send);
		return;
	}
	send->next = NULL;
	if (new_head == NULL)
		new_head = send;
	else
		new_tail->next = send;
	new_tail = send;
}

void
webhook_sender_send_mail(WebhookMail *mail)
{
	CurlScope	scope;
	WebhookTransfer *t;
	bool		is_started = false;

	mail->is_sent = mail->is_refused = false;
	mail->error = NULL;
	n_mails++;
	enter_curl(&scope);
	t = webhook_smtp_take(mail);
	if (t != NULL)
	{
		is_started = curl_multi_add_handle(networks->multi, t->easy) == CURLM_OK;
		if (is_started)
		{
			t->network = networks;
			networks->n_transfers++;
		}
		else
			webhook_smtp_release(t);
	}
	leave_curl(&scope);
	if (!is_started)
	{
		mail->error = webhook_answer_format(mail->context,
											"could not send: out of memory");
		mail->next = done_mails;
		done_mails = mail;
	}
}

static void
finish_mail(WebhookTransfer *t, CURLcode result)
{
	WebhookMail *mail = t->mail;

	webhook_smtp_judge(t, result);
	webhook_smtp_release(t);
	mail->next = done_mails;
	done_mails = mail;
}

/* Take from curl what it has finished. */
static void
collect(Network *network)
{
	CURLMsg    *message;
	int			n_left;

	while ((message = curl_multi_info_read(network->multi, &n_left)) != NULL)
	{
		CURL	   *easy = message->easy_handle;
		CURLcode	result = message->data.result;
		WebhookTransfer *t = NULL;
		WebhookSend *send;
		WebhookGate *gate;

		if (message->msg != CURLMSG_DONE)
			continue;
		(void) curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &t);
		curl_multi_remove_handle(network->multi, easy);
		if (t->mail != NULL)
		{
			network->n_transfers--;
			finish_mail(t, result);
			continue;
		}

		send = t->send;
		send->duration = get_clock() - t->started;
		if (webhook_transfer_try_again(t, result, send->duration / 1000) &&
			curl_multi_add_handle(network->multi, easy) == CURLM_OK)
			continue;
		network->n_transfers--;
		send->resent = Max(t->n_sent - 1, 0);
		webhook_answer_judge(t, result);
		gate = t->gate;
		webhook_gate_leave(gate, false);
		webhook_transfer_release(t);
		push_done(send);
		if (gate != NULL && (result == CURLE_COULDNT_RESOLVE_HOST ||
							 result == CURLE_COULDNT_RESOLVE_PROXY ||
							 result == CURLE_OPERATION_TIMEDOUT))
			fail_waiting(send, gate);
	}
}

/* Tell curl what happened to a socket. */
static void
pass_event(const WebhookWatchEvent *event)
{
	int			what = 0;
	int			n_running;

	if (event->is_readable)
		what |= CURL_CSELECT_IN;
	if (event->is_writable)
		what |= CURL_CSELECT_OUT;
	if (event->is_broken)
		what |= CURL_CSELECT_ERR;
	for (Network *network = networks; network != NULL; network = network->next)
	{
		if (network->number == event->network)
			curl_multi_socket_action(network->multi, event->fd, what, &n_running);
	}
}

int
webhook_sender_progress(void)
{
	WebhookWatchEvent events[MAX_EVENTS];
	CurlScope	scope;
	int			n_seen = 0;
	bool		is_busy = true;

	enter_curl(&scope);
	for (int round = 0; is_busy && round < MAX_ROUNDS; round++)
	{
		int			n = webhook_watch_take(events, MAX_EVENTS);

		is_busy = n == MAX_EVENTS;
		for (int i = 0; i < n; i++)
			pass_event(&events[i]);
		n_seen += n;

		for (Network *network = networks; network != NULL; network = network->next)
		{
			int			n_running;

			if (network->deadline < 0 || network->deadline > get_clock())
				continue;
			network->deadline = -1; /* it rings once */
			curl_multi_socket_action(network->multi, CURL_SOCKET_TIMEOUT, 0,
									 &n_running);
		}
	}
	for (Network *network = networks; network != NULL; network = network->next)
		collect(network);
	drop_drained_networks();
	leave_curl(&scope);
	webhook_sender_start_all();
	return n_seen;
}

WebhookSend *
webhook_sender_done(void)
{
	WebhookSend *send = done_head;

	if (send == NULL)
		return NULL;
	done_head = send->next;
	if (done_head == NULL)
		done_tail = NULL;
	send->next = NULL;
	n_in_flight--;
	return send;
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
	return n_mails;
}

pgsocket
webhook_sender_socket(void)
{
	return webhook_watch_descriptor();
}

long
webhook_sender_timeout(void)
{
	int64		deadline = -1;
	int64		left;

	if (done_head != NULL || done_mails != NULL)
		return 0;
	for (Network *network = networks; network != NULL; network = network->next)
	{
		if (network->deadline >= 0 &&
			(deadline < 0 || network->deadline < deadline))
			deadline = network->deadline;
	}
	if (deadline < 0)
		return -1;
	left = deadline - get_clock();
	return left <= 0 ? 0 : (long) ((left + 999) / 1000);
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

/*
 * The usual soft limit of 1024 descriptors is there for programs that use
 * select(); a request takes two of them while it looks up a name or tries
 * IPv4 and IPv6 at once.
 */
static void
count_descriptors(void)
{
	struct rlimit limit;
	int			n;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not read the limit of file descriptors: %m")));
	if (limit.rlim_cur < Min(limit.rlim_max, MAX_DESCRIPTORS))
	{
		rlim_t		before = limit.rlim_cur;

		limit.rlim_cur = Min(limit.rlim_max, MAX_DESCRIPTORS);
		if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
			limit.rlim_cur = before;
	}
	n = (int) Min(limit.rlim_cur, MAX_DESCRIPTORS);

	/*
	 * PostgreSQL may hold max_safe_fds files open.  Where the limit leaves
	 * nothing beyond them, a quarter does no harm: a worker has few tables
	 * open, and closes those that it can reopen.
	 */
	capacity = Max((n - max_safe_fds) / 2, n / 4);
}

void
webhook_sender_start(void)
{
	sigfillset(&blocked_signals);
	sigdelset(&blocked_signals, SIGSEGV);
	sigdelset(&blocked_signals, SIGBUS);
	sigdelset(&blocked_signals, SIGILL);
	sigdelset(&blocked_signals, SIGFPE);
	sigdelset(&blocked_signals, SIGABRT);
	sigdelset(&blocked_signals, SIGTRAP);
	utf8_locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t) 0);

	webhook_gate_init();
	count_descriptors();
	allowed = capacity;
	webhook_watch_start();
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not initialize libcurl")));
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
	CurlScope	scope;
	Network    *network;

	enter_curl(&scope);
	network = create_network();
	if (network != NULL)
	{
		webhook_transfer_reload();
		network->next = networks;
		networks = network;
		drop_drained_networks();
	}
	leave_curl(&scope);
	if (network == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("Failed while initializing libcurl.")));
}

/* ---------------------------------------------------------------------
 * URLs
 * ---------------------------------------------------------------------
 */

/* Is there such a part, and is it not empty? */
static bool
has_part(CURLU *url, CURLUPart which)
{
	char	   *part = NULL;
	bool		found = curl_url_get(url, which, &part, 0) == CURLUE_OK &&
		part[0] != '\0';

	curl_free(part);
	return found;
}

char *
webhook_sender_check_url(const char *url)
{
	int			len = strspn(url, "abcdefghijklmnopqrstuvwxyz"
							 "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");
	const char *message = NULL;
	CURLU	   *parsed;
	CURLUcode	result;

	if (len == 0 || strncmp(url + len, "://", 3) != 0)
		return pstrdup("URL must begin with http:// or https://");
	if (!(len == 4 && pg_strncasecmp(url, "http", 4) == 0) &&
		!(len == 5 && pg_strncasecmp(url, "https", 5) == 0))
		return psprintf("URL scheme \"%.*s\" is not supported", len, url);
	len += 3;
	if (url[len + strspn(url + len, "/")] == '\0')
		return pstrdup("URL has no host");

	parsed = curl_url();
	if (parsed == NULL)
		return pstrdup("URL could not be checked: out of memory");
	result = curl_url_set(parsed, CURLUPART_URL, url, 0);
	if (result == CURLUE_OUT_OF_MEMORY)
		message = "URL could not be checked: out of memory";
	else if (result == CURLUE_NO_HOST)
		message = "URL has no host";
	else if (result == CURLUE_BAD_PORT_NUMBER)
		message = "URL has a bad port number";
	else if (result != CURLUE_OK)
		message = "URL is malformed";
	else if (has_part(parsed, CURLUPART_USER) || has_part(parsed, CURLUPART_PASSWORD))
		message = "URL must not contain a user name or password";
	else if (!has_part(parsed, CURLUPART_HOST))
		message = "URL has no host";
	curl_url_cleanup(parsed);
	return message == NULL ? NULL : pstrdup(message);
}

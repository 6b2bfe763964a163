/*-------------------------------------------------------------------------
 *
 * network.c
 *	  The connections that curl keeps, and what happens on them.
 *
 * A network is a curl multi handle.  curl's sockets are watched by an epoll
 * descriptor of our own (watch.c), which the worker's WaitEventSet waits for as
 * one more descriptor: sockets come and go with every request, and a
 * WaitEventSet can't forget any.
 *
 * libcurl resolves names in threads that it creates inside of its functions.
 * PostgreSQL's signal handlers must never run in them, so all signals are
 * blocked wherever curl is entered; a thread inherits that.  No error is
 * raised while curl is on the stack.
 *
 * Runs in workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/resource.h>

#include "connecting.h"
#include "network.h"
#include "portability/instr_time.h"
#include "settings.h"
#include "storage/fd.h"
#include "watch.h"

#define MAX_EVENTS 64			/* taken at once */
#define MAX_ROUNDS 16			/* of them in one webhook_network_progress */
#define MAX_DESCRIPTORS 65536
#define SECOND_SHARE 8			/* of the descriptors, for second tries */

/* A multi handle with its connections; all but the first are being drained. */
typedef struct WebhookNetwork
{
	CURLM	   *multi;
	uint32		number;
	int			n_transfers;
	int64		deadline;		/* curl's timer, by webhook_network_clock; -1: none */
	struct WebhookNetwork *next;
} WebhookNetwork;

static WebhookNetwork *networks = NULL; /* the first one is for new requests */
static WebhookNetwork *second_network = NULL;	/* for second tries; NULL: none yet */
static int	capacity = 0;
static sigset_t blocked_signals;
static locale_t utf8_locale = (locale_t) 0;

int64
webhook_network_clock(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/*
 * libidn2, below curl, reads host names in the locale's encoding; ours are
 * UTF-8 whatever the database's is.
 */
void
webhook_network_enter(WebhookCurlScope *scope)
{
	pthread_sigmask(SIG_SETMASK, &blocked_signals, &scope->signals);
	scope->locale = (locale_t) 0;
	if (utf8_locale != (locale_t) 0)
		scope->locale = uselocale(utf8_locale);
}

void
webhook_network_leave(const WebhookCurlScope *scope)
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
	WebhookNetwork *network = arg;

	if (what == CURL_POLL_REMOVE)
	{
		webhook_connecting_left(easy);
		webhook_watch_leave(fd);
	}
	else
		webhook_watch_set(fd, network->number, (what & CURL_POLL_IN) != 0,
						  (what & CURL_POLL_OUT) != 0);
	return 0;
}

static int
on_timer(CURLM *multi, long timeout, void *arg)
{
	WebhookNetwork *network = arg;

	network->deadline = timeout < 0 ? -1 : webhook_network_clock() + timeout * INT64CONST(1000);
	return 0;
}

/* ---------------------------------------------------------------------
 * Networks
 * ---------------------------------------------------------------------
 */

/* A multi handle with no connections, and room for some; NULL: no memory. */
static WebhookNetwork *
create_network(int max_connections)
{
	static uint32 last_number = 0;
	WebhookNetwork *network = calloc(1, sizeof(WebhookNetwork));

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
					  (long) Min(2 * webhook_max_in_flight, max_connections));
	curl_multi_setopt(network->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS,
					  (long) max_connections);
	return network;
}

void
webhook_network_drop_drained(void)
{
	WebhookNetwork **link = &networks->next;

	while (*link != NULL)
	{
		WebhookNetwork *network = *link;

		if (network->n_transfers > 0 || network == second_network)
		{
			link = &network->next;
			continue;
		}
		*link = network->next;
		curl_multi_cleanup(network->multi);
		free(network);
	}
}

bool
webhook_network_open(void)
{
	WebhookNetwork *network = create_network(capacity);

	if (network == NULL)
		return false;
	network->next = networks;
	networks = network;
	second_network = NULL;
	return true;
}

uint32
webhook_network_number(void)
{
	return networks->number;
}

/* ---------------------------------------------------------------------
 * Transfers
 * ---------------------------------------------------------------------
 */

static bool
add_transfer(WebhookTransfer *t, WebhookNetwork *network)
{
	if (curl_multi_add_handle(network->multi, t->easy) != CURLM_OK)
		return false;
	t->network = network;
	network->n_transfers++;
	return true;
}

bool
webhook_network_add(WebhookTransfer *t)
{
	if (!add_transfer(t, networks))
		return false;
	t->started = webhook_network_clock();
	return true;
}

/*
 * Once curl has met HTTP/1.1 at a receiver, it no longer multiplexes there, and
 * opens a connection for each request that finds the others busy.  So what is
 * tried again by HTTP/1.1 is kept apart.
 */
bool
webhook_network_add_again(WebhookTransfer *t)
{
	/* What was begun under settings of before stays with them. */
	if (!t->is_downgraded || t->network != networks)
		return add_transfer(t, t->network);
	if (second_network == NULL)
	{
		WebhookNetwork *network = create_network(Max(capacity / SECOND_SHARE, 1));

		if (network == NULL)
			return false;
		network->next = networks->next;
		networks->next = network;
		second_network = network;
	}
	return add_transfer(t, second_network);
}

/* The next message that a transfer has ended; NULL: none. */
static CURLMsg *
read_message(void)
{
	for (WebhookNetwork *network = networks; network != NULL; network = network->next)
	{
		CURLMsg    *message;
		int			n_left;

		while ((message = curl_multi_info_read(network->multi, &n_left)) != NULL)
		{
			if (message->msg == CURLMSG_DONE)
				return message;
		}
	}
	return NULL;
}

WebhookTransfer *
webhook_network_take(CURLcode *result, int64 *elapsed)
{
	CURLMsg    *message = read_message();
	WebhookTransfer *t = NULL;

	if (message == NULL)
		return NULL;
	/* The message goes with its handle. */
	*result = message->data.result;
	(void) curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &t);
	webhook_connecting_end(t);
	if (t->mail == NULL || *result != CURLE_OK)
		webhook_network_remove(t);
	*elapsed = webhook_network_clock() - t->started;
	return t;
}

void
webhook_network_remove(WebhookTransfer *t)
{
	curl_multi_remove_handle(t->network->multi, t->easy);
	t->network->n_transfers--;
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
	for (WebhookNetwork *network = networks; network != NULL; network = network->next)
	{
		if (network->number == event->network)
			curl_multi_socket_action(network->multi, event->fd, what, &n_running);
	}
}

/* Tell curl that its time has come. */
static void
ring_timers(void)
{
	for (WebhookNetwork *network = networks; network != NULL; network = network->next)
	{
		int			n_running;

		if (network->deadline < 0 || network->deadline > webhook_network_clock())
			continue;
		network->deadline = -1; /* it rings once */
		curl_multi_socket_action(network->multi, CURL_SOCKET_TIMEOUT, 0,
								 &n_running);
	}
}

int
webhook_network_progress(void)
{
	WebhookWatchEvent events[MAX_EVENTS];
	int			n_seen = 0;
	bool		is_busy = true;

	for (int round = 0; is_busy && round < MAX_ROUNDS; round++)
	{
		int			n = webhook_watch_take(events, MAX_EVENTS);

		is_busy = n == MAX_EVENTS;
		for (int i = 0; i < n; i++)
			pass_event(&events[i]);
		n_seen += n;
		ring_timers();
		webhook_connecting_go_on();
	}
	return n_seen;
}

long
webhook_network_timeout(void)
{
	int64		deadline = -1;
	int64		left;

	for (WebhookNetwork *network = networks; network != NULL; network = network->next)
	{
		if (network->deadline >= 0 &&
			(deadline < 0 || network->deadline < deadline))
			deadline = network->deadline;
	}
	if (deadline < 0)
		return -1;
	left = deadline - webhook_network_clock();
	return left <= 0 ? 0 : (long) ((left + 999) / 1000);
}

/* ---------------------------------------------------------------------
 * Start
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

int
webhook_network_capacity(void)
{
	return capacity;
}

void
webhook_network_start(void)
{
	sigfillset(&blocked_signals);
	sigdelset(&blocked_signals, SIGSEGV);
	sigdelset(&blocked_signals, SIGBUS);
	sigdelset(&blocked_signals, SIGILL);
	sigdelset(&blocked_signals, SIGFPE);
	sigdelset(&blocked_signals, SIGABRT);
	sigdelset(&blocked_signals, SIGTRAP);
	utf8_locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t) 0);

	count_descriptors();
	webhook_watch_start();
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not initialize libcurl")));
}

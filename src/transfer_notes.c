/*-------------------------------------------------------------------------
 *
 * transfer_notes.c
 *	  What curl's callbacks note down of a request.
 *
 * They run inside of curl: no error is raised, and what they keep, they keep in
 * malloc'd memory.
 *
 * Runs in workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "connecting.h"
#include "settings.h"
#include "transfer.h"
#include "utils/memutils.h"
#include "watch.h"

#define MIN_READ (1024 * 1024)	/* bytes of the answer's body to let arrive */

static void
note_lookup(WebhookTransfer *t, bool is_found)
{
	webhook_gate_leave(t->gate, is_found);
	t->gate = NULL;
}

curl_socket_t
webhook_transfer_open(WebhookTransfer *t, const struct curl_sockaddr *address,
					  bool is_allowed)
{
	int			fd;

	t->family = address->family;
	if (address->family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *) &address->addr)->sin_addr,
				  t->address, sizeof(t->address));
	else if (address->family == AF_INET6)
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *) &address->addr)->sin6_addr,
				  t->address, sizeof(t->address));

	/* What curl had to say of a kept connection that it closed before. */
	t->curl_error[0] = '\0';

	webhook_connecting_begin(t);
	t->is_address_refused = !is_allowed;
	if (is_allowed)
	{
		fd = socket(address->family, address->socktype | SOCK_CLOEXEC,
					address->protocol);
		if (fd >= 0)
			return fd;
		t->socket_errno = errno;
	}
	webhook_connecting_gave_up(t);
	return CURL_SOCKET_BAD;
}

static curl_socket_t
on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	WebhookTransfer *t = arg;
	curl_socket_t fd;

	note_lookup(t, true);

	/* What is behind a proxy is the proxy's to judge. */
	fd = webhook_transfer_open(t, address,
							   t->has_proxy ?
							   webhook_address_listed(&address->addr, webhook_proxy_addresses) :
							   webhook_address_allowed(&address->addr, webhook_networks));
	if (fd != CURL_SOCKET_BAD)
		webhook_watch_opened(fd, !webhook_transfer_is_https(t->send));
	return fd;
}

/* The connection may outlive the transfer that it was opened for. */
static int
on_close_socket(void *arg, curl_socket_t fd)
{
	webhook_watch_closing(fd);
	return close(fd);
}

#ifdef HAVE_PREREQ
/*
 * The request is about to go out.  curl sends it again by itself if a connection
 * that it kept ends before any answer; the receiver may have seen it twice.
 */
static int
on_request(void *arg, char *remote_ip, char *local_ip, int remote_port,
		   int local_port)
{
	WebhookTransfer *t = arg;

	note_lookup(t, false);		/* on a connection that was kept */
	webhook_connecting_end(t);
	t->n_sent++;
	return CURL_PREREQFUNC_OK;
}
#endif

static size_t
on_header(char *data, size_t size, size_t n, void *arg)
{
	WebhookTransfer *t = arg;

	n *= size;
	t->head_len += n;
	if (t->head_len > WEBHOOK_MAX_HEAD)
		return 0;
	if (n > 5 && memcmp(data, "HTTP/", 5) == 0)
	{
		/* Interim answers (1xx) have heads of their own. */
		const char *space = memchr(data, ' ', n);

		t->status = space == NULL ? 0 : atoi(space + 1);
		t->is_head_whole = false;
	}
	else if (data[0] == '\r' || data[0] == '\n')
		t->is_head_whole = true;
	return n;
}

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	WebhookTransfer *t = arg;
	size_t		limit = Min(t->send->response_limit, MaxAllocSize);
	size_t		keep = Min(n, limit - t->body_len);

	if (t->body_len + keep > t->body_size)
	{
		size_t		new_size = Max(t->body_len + keep, 2 * t->body_size);
		char	   *new_body = realloc(t->body, new_size);

		if (new_body == NULL)
			keep = 0;
		else
		{
			t->body = new_body;
			t->body_size = new_size;
		}
	}
	if (keep > 0)
		memcpy(t->body + t->body_len, data, keep);
	t->body_len += keep;
	t->received += n;
	if (t->received > Max(limit, MIN_READ))
	{
		/* The status decides; nobody reads the rest. */
		t->is_enough = true;
		return 0;
	}
	return n;
}

bool
webhook_transfer_take_notes(WebhookTransfer *t)
{
	bool		ok = true;

	SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	SET(CURLOPT_OPENSOCKETDATA, t);
	SET(CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
#ifdef HAVE_PREREQ
	SET(CURLOPT_PREREQFUNCTION, on_request);
	SET(CURLOPT_PREREQDATA, t);
#endif
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, t);
	return ok;
}

void
webhook_transfer_forget_notes(WebhookTransfer *t)
{
	t->body_len = 0;
	t->received = 0;
	t->head_len = 0;
	t->status = 0;
	t->is_head_whole = false;
	t->is_enough = false;
	t->is_address_refused = false;
	t->socket_errno = 0;
	t->family = AF_UNSPEC;
	t->address[0] = '\0';
	t->curl_error[0] = '\0';
}

/*-------------------------------------------------------------------------
 *
 * transfer.c
 *	  One request on a curl easy handle: what is asked of curl, what its
 *	  callbacks note down, and what became of it.
 *
 * The handles are pooled, and only what varies from request to request is set
 * anew: setting everything costs more than sending.  While curl is on the
 * stack no error is raised: callbacks only take notes, and what they keep,
 * they keep in malloc'd memory.
 *
 * Runs in workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <netinet/in.h>
#include <unistd.h>

#include "address.h"
#include "failure.h"
#include "settings.h"
#include "transfer.h"
#include "utils/memutils.h"

/* What differs between the versions of libcurl. */
#if LIBCURL_VERSION_NUM < 0x074c00
#error "webhook needs libcurl 7.76 or later"
#endif

/* 7.85 names protocols by strings. */
#if LIBCURL_VERSION_NUM >= 0x075500
#define PROTOCOLS_OPTION CURLOPT_PROTOCOLS_STR
#define PROTOCOLS_ANY "http,https"
#define PROTOCOLS_HTTPS "https"
#else
#define PROTOCOLS_OPTION CURLOPT_PROTOCOLS
#define PROTOCOLS_ANY ((long) (CURLPROTO_HTTP | CURLPROTO_HTTPS))
#define PROTOCOLS_HTTPS ((long) CURLPROTO_HTTPS)
#endif

/* 7.87 can leave a resolver's thread alone that outlives its request. */
#if LIBCURL_VERSION_NUM >= 0x075700
#define HAVE_QUICK_EXIT
#endif

/* 7.80 can end connections by their age, so that moved names are noticed. */
#if LIBCURL_VERSION_NUM >= 0x075000
#define HAVE_MAXLIFETIME
#endif

#define MAX_HEAD (64 * 1024)	/* bytes of the answer's headers */
#define MIN_READ (1024 * 1024)	/* bytes of the answer's body to let arrive */
#define MAX_POOL 512			/* idle easy handles */
#define MAX_POOLED_BODY (64 * 1024) /* buffer kept with an idle handle */
#define CONNECTION_LIFETIME 300 /* seconds */

static WebhookTransfer *pool = NULL;
static int	n_pool = 0;
static uint32 generation = 0;	/* of the settings */

/* ---------------------------------------------------------------------
 * Callbacks.  They run inside of curl: no errors, no palloc.
 * ---------------------------------------------------------------------
 */

static curl_socket_t
on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	WebhookTransfer *t = arg;
	int			fd;

	t->family = address->family;
	if (address->family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *) &address->addr)->sin_addr,
				  t->address, sizeof(t->address));
	else if (address->family == AF_INET6)
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *) &address->addr)->sin6_addr,
				  t->address, sizeof(t->address));

	/* Behind a proxy, it is the proxy's to judge. */
	if (!t->has_proxy &&
		!webhook_address_allowed(&address->addr, webhook_networks))
	{
		t->is_address_refused = true;
		return CURL_SOCKET_BAD;
	}
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC,
				address->protocol);
	if (fd < 0)
	{
		t->socket_errno = errno;
		return CURL_SOCKET_BAD;
	}
	return fd;
}

static size_t
on_header(char *data, size_t size, size_t n, void *arg)
{
	WebhookTransfer *t = arg;

	n *= size;
	t->head_len += n;
	if (t->head_len > MAX_HEAD)
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

/* ---------------------------------------------------------------------
 * Handles
 * ---------------------------------------------------------------------
 */

#define SET(option, value) \
	(ok = ok && curl_easy_setopt(t->easy, option, value) == CURLE_OK)

/* What is the same for all requests, as long as the settings are. */
static bool
set_constants(WebhookTransfer *t)
{
	bool		ok = true;

	t->generation = generation;
	t->has_proxy = webhook_proxy != NULL && webhook_proxy[0] != '\0';

	SET(CURLOPT_PRIVATE, t);
	SET(CURLOPT_ERRORBUFFER, t->curl_error);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	SET(CURLOPT_OPENSOCKETDATA, t);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, t);

	if (webhook_allow_http)
		SET(PROTOCOLS_OPTION, PROTOCOLS_ANY);
	else
		SET(PROTOCOLS_OPTION, PROTOCOLS_HTTPS);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_HTTPAUTH, (long) CURLAUTH_BASIC);

	/* An empty string, unlike NULL, also hides the environment's. */
	SET(CURLOPT_PROXY, t->has_proxy ? webhook_proxy : "");
	SET(CURLOPT_NOPROXY, "");
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);

	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	if (webhook_ca_file != NULL && webhook_ca_file[0] != '\0')
	{
		SET(CURLOPT_CAINFO, webhook_ca_file);
		SET(CURLOPT_CAPATH, NULL);
	}

	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_UPLOAD_BUFFERSIZE, 16384L);
#ifdef HAVE_QUICK_EXIT
	SET(CURLOPT_QUICK_EXIT, 1L);
#endif
#ifdef HAVE_MAXLIFETIME
	SET(CURLOPT_MAXLIFETIME_CONN, (long) CONNECTION_LIFETIME);
#endif
	return ok;
}

static void
free_transfer(WebhookTransfer *t)
{
	curl_easy_cleanup(t->easy);
	free(t->body);
	free(t);
}

/* An easy handle of the pool, or a new one; NULL: no memory. */
static WebhookTransfer *
get_handle(void)
{
	WebhookTransfer *t = pool;

	if (t != NULL)
	{
		pool = t->next;
		n_pool--;
		return t;
	}
	t = calloc(1, sizeof(WebhookTransfer));
	if (t == NULL)
		return NULL;
	t->easy = curl_easy_init();
	if (t->easy == NULL || !set_constants(t))
	{
		free_transfer(t);
		return NULL;
	}
	return t;
}

void
webhook_transfer_release(WebhookTransfer *t)
{
	curl_slist_free_all(t->headers);
	t->headers = NULL;
	t->send = NULL;
	if (t->generation != generation || n_pool >= MAX_POOL)
	{
		free_transfer(t);
		return;
	}
	if (t->body_size > MAX_POOLED_BODY)
	{
		free(t->body);
		t->body = NULL;
		t->body_size = 0;
	}
	t->next = pool;
	pool = t;
	n_pool++;
}

void
webhook_transfer_reload(void)
{
	generation++;
	while (pool != NULL)
	{
		WebhookTransfer *next = pool->next;

		free_transfer(pool);
		pool = next;
	}
	n_pool = 0;
}

static bool
append_header(WebhookTransfer *t, const char *header)
{
	struct curl_slist *list;
	const char *colon = strchr(header, ':');

	if (colon != NULL && colon[1 + strspn(colon + 1, " \t")] == '\0')
	{
		/* For curl "Name:" takes a header away; "Name;" sends it empty. */
		char	   *empty = strdup(header);

		if (empty == NULL)
			return false;
		strcpy(empty + (colon - header), ";");
		list = curl_slist_append(t->headers, empty);
		free(empty);
	}
	else
		list = curl_slist_append(t->headers, header);
	if (list != NULL)
		t->headers = list;
	return list != NULL;
}

/* What varies from request to request; false: no memory. */
static bool
prepare_transfer(WebhookTransfer *t, WebhookSend *send)
{
	bool		is_https = pg_strncasecmp(send->url, "https:", 6) == 0;
	bool		ok = true;
	struct curl_slist *expect;

	t->send = send;
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

	for (const char **header = send->headers; ok && header && *header; header++)
		ok = append_header(t, *header);

	/* Or else curl waits a second for leave to send a large body. */
	expect = ok ? curl_slist_append(t->headers, "Expect:") : NULL;
	if (expect == NULL)
		return false;
	t->headers = expect;

	SET(CURLOPT_URL, send->url);
	SET(CURLOPT_HTTPHEADER, t->headers);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) send->body_len);
	SET(CURLOPT_POSTFIELDS, send->body_len > 0 ? send->body : "");
	SET(CURLOPT_CUSTOMREQUEST,
		strcmp(send->method, "POST") == 0 ? NULL : send->method);
	SET(CURLOPT_USERNAME, send->username);
	SET(CURLOPT_PASSWORD, send->username == NULL ? NULL :
		send->password == NULL ? "" : send->password);
	SET(CURLOPT_SSLCERT, send->client_certificate);
	SET(CURLOPT_SSLKEY, send->client_certificate);
	SET(CURLOPT_TIMEOUT_MS, (long) Min(Max(send->timeout, 1), INT_MAX));
	SET(CURLOPT_CONNECTTIMEOUT_MS,
		(long) Min(Max(send->connect_timeout, 1), INT_MAX));
	if (!ok)
		return false;

	/*
	 * A libcurl without HTTP/2 refuses it: then there is none.  Requests are
	 * not made to wait for a first connection to see whether it can be shared
	 * (CURLOPT_PIPEWAIT): libcurl before 8 forgets the timeouts of those that
	 * wait, and wakes one receiver's when another's connection is ready.
	 */
	(void) curl_easy_setopt(t->easy, CURLOPT_HTTP_VERSION,
							is_https ? (long) CURL_HTTP_VERSION_2TLS :
							(long) CURL_HTTP_VERSION_1_1);
	return true;
}

WebhookTransfer *
webhook_transfer_take(WebhookSend *send)
{
	WebhookTransfer *t = get_handle();

	if (t != NULL && !prepare_transfer(t, send))
	{
		webhook_transfer_release(t);
		return NULL;
	}
	return t;
}

/* ---------------------------------------------------------------------
 * What became of it
 * ---------------------------------------------------------------------
 */

/* A part of the request's URL into the buffer. */
static const char *
get_url_part(const WebhookSend *send, CURLUPart which, char *buffer, size_t size)
{
	CURLU	   *url = curl_url();
	char	   *part = NULL;

	buffer[0] = '\0';
	if (url != NULL &&
		curl_url_set(url, CURLUPART_URL, send->url, 0) == CURLUE_OK &&
		curl_url_get(url, which, &part, CURLU_DEFAULT_PORT) == CURLUE_OK)
		strlcpy(buffer, part, size);
	curl_free(part);
	curl_url_cleanup(url);
	return buffer;
}

/* Is it a want of this machine, not the receiver's doing? */
static bool
is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS ||
		error == ENOMEM;
}

static bool
has_descriptor_left(void)
{
	int			fd = dup(STDERR_FILENO);

	if (fd < 0)
		return !is_shortage(errno);
	close(fd);
	return true;
}

#define FAIL(...) \
	(send->error = webhook_failure_format(send->context, __VA_ARGS__))

static void
describe_unresolved(WebhookTransfer *t, bool is_proxy)
{
	WebhookSend *send = t->send;
	char		host[256];

	/* The resolver needs descriptors and a thread, and does not say so. */
	if (!has_descriptor_left() || strstr(t->curl_error, "failed to start"))
	{
		send->outcome = WEBHOOK_LOCAL_FAILURE;
		FAIL("could not look up a host name: out of file descriptors or threads");
	}
	else if (is_proxy)
		FAIL("could not resolve the host name of the proxy, see webhook.proxy");
	else
		FAIL("could not resolve host name \"%s\"",
			 get_url_part(send, CURLUPART_HOST, host, sizeof(host)));
}

static void
describe_unconnected(WebhookTransfer *t)
{
	WebhookSend *send = t->send;
	char		port[16];
	long		error = 0;

	(void) curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &error);
	if (is_shortage(t->socket_errno))
	{
		send->outcome = WEBHOOK_LOCAL_FAILURE;
		FAIL("could not open a socket: %s", strerror(t->socket_errno));
	}
	else if (t->is_address_refused)
		FAIL("address %s is not public; add it to webhook.allowed_networks if this receiver is meant to be inside",
			 t->address);
	else
	{
		/* With IPv4, there is no free local port. */
		if (error == EADDRNOTAVAIL && t->family == AF_INET)
			send->outcome = WEBHOOK_LOCAL_FAILURE;
		if (error == 0)
			error = t->socket_errno;
		FAIL("could not connect to %s%s%s%s: %s",
			 t->has_proxy ? "proxy " : "", t->address,
			 t->has_proxy ? "" : " port ",
			 t->has_proxy ? "" :
			 get_url_part(send, CURLUPART_PORT, port, sizeof(port)),
			 error != 0 ? strerror(error) : t->curl_error);
	}
}

/* How far did it come? */
static void
describe_timeout(WebhookTransfer *t)
{
	WebhookSend *send = t->send;
	curl_off_t	resolved = 0;
	curl_off_t	connected = 0;
	curl_off_t	ready = 0;
	char		whole[WEBHOOK_DURATION_SIZE];
	char		connect[WEBHOOK_DURATION_SIZE];
	char		part[256];

	(void) curl_easy_getinfo(t->easy, CURLINFO_NAMELOOKUP_TIME_T, &resolved);
	(void) curl_easy_getinfo(t->easy, CURLINFO_CONNECT_TIME_T, &connected);
	(void) curl_easy_getinfo(t->easy, CURLINFO_PRETRANSFER_TIME_T, &ready);
	webhook_failure_duration(whole, send->timeout);
	webhook_failure_duration(connect, Min(send->timeout, send->connect_timeout));

	if (send->http_status != 0)
		FAIL("receiver did not finish its answer within %s", whole);
	else if (ready > 0)
		FAIL("no answer within %s", whole);
	else if (connected > 0)
		FAIL("no TLS connection to %s port %s within %s", t->address,
			 get_url_part(send, CURLUPART_PORT, part, sizeof(part)), connect);
	else if (resolved > 0 || t->address[0] != '\0')
		FAIL("could not connect within %s (%s%s%s)", connect, t->address,
			 t->has_proxy ? "" : " port ",
			 t->has_proxy ? ", the proxy" :
			 get_url_part(send, CURLUPART_PORT, part, sizeof(part)));
	else
		FAIL("could not resolve host name \"%s\" within %s",
			 get_url_part(send, CURLUPART_HOST, part, sizeof(part)), connect);
}

static void
describe_untrusted(WebhookTransfer *t)
{
	WebhookSend *send = t->send;
	const char *detail = t->curl_error;
	const char *prefix = "SSL certificate problem: ";
	char		host[256];

	if (strstr(detail, "subject name") != NULL)
	{
		FAIL("TLS certificate of the receiver is not for \"%s\"",
			 get_url_part(send, CURLUPART_HOST, host, sizeof(host)));
		return;
	}
	if (strncmp(detail, prefix, strlen(prefix)) == 0)
		detail += strlen(prefix);
	FAIL("TLS certificate of the receiver is not trusted: %s; see webhook.ca_file",
		 detail);
}

/* The connection came to its end before the answer did. */
static void
describe_broken(WebhookTransfer *t)
{
	WebhookSend *send = t->send;

	if (t->head_len > MAX_HEAD)
		FAIL("receiver sent more than %d kB of headers", MAX_HEAD / 1024);
	else if (t->head_len > 0)
		FAIL("receiver closed the connection in the middle of its answer");
	else
		FAIL("receiver closed the connection without an answer");
}

static void
describe_failure(WebhookTransfer *t, CURLcode result)
{
	WebhookSend *send = t->send;
	const char *detail = t->curl_error[0] != '\0' ? t->curl_error :
		curl_easy_strerror(result);
	long		proxy_status = 0;

	(void) curl_easy_getinfo(t->easy, CURLINFO_HTTP_CONNECTCODE, &proxy_status);
	if (proxy_status >= 300 && t->head_len == 0)
	{
		FAIL("proxy answered %ld, see webhook.proxy", proxy_status);
		return;
	}
	switch (result)
	{
		case CURLE_OUT_OF_MEMORY:
		case CURLE_FAILED_INIT:
			send->outcome = WEBHOOK_LOCAL_FAILURE;
			FAIL("could not send: %s", curl_easy_strerror(result));
			break;
		case CURLE_URL_MALFORMAT:
			FAIL("URL is malformed: %s", detail);
			break;
		case CURLE_LOGIN_DENIED:
			FAIL("URL must not contain a user name or password");
			break;
		case CURLE_COULDNT_RESOLVE_HOST:
		case CURLE_COULDNT_RESOLVE_PROXY:
			describe_unresolved(t, result == CURLE_COULDNT_RESOLVE_PROXY);
			break;
		case CURLE_COULDNT_CONNECT:
			describe_unconnected(t);
			break;
		case CURLE_OPERATION_TIMEDOUT:
			describe_timeout(t);
			break;
		case CURLE_UNSUPPORTED_PROTOCOL:
		case CURLE_WEIRD_SERVER_REPLY:
			FAIL("receiver does not speak HTTP");
			break;
		case CURLE_PEER_FAILED_VERIFICATION:
			describe_untrusted(t);
			break;
		case CURLE_SSL_CACERT_BADFILE:
			FAIL("could not read the certificates of webhook.ca_file \"%s\"",
				 webhook_ca_file);
			break;
		case CURLE_SSL_CERTPROBLEM:
			FAIL("could not use client certificate \"%s\": %s",
				 send->client_certificate ? send->client_certificate : "", detail);
			break;
		case CURLE_SSL_CONNECT_ERROR:
			if (strstr(detail, "wrong version number") != NULL)
				FAIL("receiver does not speak TLS");
			else
				FAIL("could not agree on a TLS connection: %s", detail);
			break;
		case CURLE_SEND_ERROR:
		case CURLE_RECV_ERROR:
		case CURLE_GOT_NOTHING:
		case CURLE_PARTIAL_FILE:
		case CURLE_WRITE_ERROR:
		case CURLE_OK:
			describe_broken(t);
			break;
		default:
			FAIL("could not get an answer: %s", detail);
			break;
	}
}

static void
keep_body(WebhookTransfer *t)
{
	WebhookSend *send = t->send;

	if (t->body_len == 0)
		return;
	send->response = MemoryContextAllocExtended(send->context, t->body_len,
												MCXT_ALLOC_NO_OOM);
	if (send->response == NULL)
		return;
	memcpy(send->response, t->body, t->body_len);
	send->response_len = t->body_len;
}

void
webhook_transfer_judge(WebhookTransfer *t, CURLcode result)
{
	WebhookSend *send = t->send;
	curl_off_t	retry_after = 0;

	/* An interim answer is none, unless it was meant to be the last. */
	if (t->status >= 200 || result == CURLE_OK)
		send->http_status = t->status;
	keep_body(t);
	if (t->is_enough)
		result = CURLE_OK;		/* stopped by on_body */

	/* A connection that ends within the headers is no error for curl. */
	if (result != CURLE_OK || !t->is_head_whole || t->status == 0)
	{
		send->outcome = WEBHOOK_UNANSWERED;
		describe_failure(t, result);
		return;
	}

	send->outcome = WEBHOOK_ANSWERED;
	if (t->status < 200 || t->status > 299)
		send->error = webhook_failure_of_status(send->context, t->status);
	if ((t->status == 429 || t->status == 503) &&
		curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &retry_after) == CURLE_OK &&
		retry_after > 0)
		send->retry_after = retry_after;
}

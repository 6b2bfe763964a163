/*-------------------------------------------------------------------------
 *
 * transfer.c
 *	  One request on a curl easy handle: what is asked of curl.
 *
 * They are pooled, with their handles where a handle can be used again, and
 * then only what varies from request to request is set anew.
 *
 * Runs in workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "settings.h"
#include "transfer.h"

#define MAX_POOL 512			/* idle easy handles */
#define MAX_POOLED_BODY (64 * 1024) /* buffer kept with an idle handle */
#define CONNECTION_LIFETIME 300 /* seconds */

/*
 * libcurl's buffer for an answer.  Most are short, and by HTTP/1.1 16 kB a request
 * would be a cache of them lost.  By HTTP/2 libcurl 7.88 waits for ever where the
 * head of an answer and what came with it are larger than the buffer: there is
 * room for the largest head and what is read at once.
 */
#define PLAIN_BUFFER 4096
#define TLS_BUFFER (WEBHOOK_MAX_HEAD + 32 * 1024)

static WebhookTransfer *pool = NULL;
static int	n_pool = 0;
static uint32 generation = 0;	/* of the settings */

/* ---------------------------------------------------------------------
 * Handles
 * ---------------------------------------------------------------------
 */

bool
webhook_transfer_set_common(WebhookTransfer *t)
{
	bool		ok = true;

	SET(CURLOPT_PRIVATE, t);
	SET(CURLOPT_ERRORBUFFER, t->curl_error);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	if (webhook_ca_file != NULL && webhook_ca_file[0] != '\0')
	{
		SET(CURLOPT_CAINFO, webhook_ca_file);
		SET(CURLOPT_CAPATH, NULL);
	}
	return ok;
}

/* What is the same for all requests, as long as the settings are. */
static bool
set_constants(WebhookTransfer *t)
{
	bool		ok = webhook_transfer_set_common(t) && webhook_transfer_take_notes(t);

	t->generation = generation;
	t->has_proxy = webhook_proxy != NULL && webhook_proxy[0] != '\0';

	if (webhook_allow_http)
		SET(PROTOCOLS_OPTION, PROTOCOLS_ANY);
	else
		SET(PROTOCOLS_OPTION, PROTOCOLS_HTTPS);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(CURLOPT_HTTPAUTH, (long) CURLAUTH_BASIC);

	/* An empty string, unlike NULL, also hides the environment's. */
	SET(CURLOPT_PROXY, t->has_proxy ? webhook_proxy : "");
	SET(CURLOPT_NOPROXY, "");
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);

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

/* A new handle is set to nothing yet. */
static bool
make_handle(WebhookTransfer *t)
{
	free(t->url);
	t->url = NULL;
	t->method = NULL;
	t->timeout = 0;
	t->connect_timeout = 0;
	t->has_credentials = false;
	t->has_certificate = false;
	t->http_version = 0;
	t->easy = curl_easy_init();
	return t->easy != NULL && set_constants(t);
}

static void
free_transfer(WebhookTransfer *t)
{
	curl_easy_cleanup(t->easy);
	free(t->headers);
	free(t->url);
	free(t->body);
	free(t);
}

/* A transfer of the pool, or a new one; is its handle new?  NULL: no memory. */
static WebhookTransfer *
get_transfer(bool *is_new)
{
	WebhookTransfer *t = pool;

	*is_new = false;
	if (t != NULL)
	{
		pool = t->next;
		n_pool--;
		if (t->easy != NULL)
			return t;
	}
	else
		t = calloc(1, sizeof(WebhookTransfer));
	*is_new = true;
	if (t == NULL)
		return NULL;
	if (!make_handle(t))
	{
		free_transfer(t);
		return NULL;
	}
	return t;
}

void
webhook_transfer_release(WebhookTransfer *t)
{
	curl_slist_free_all(t->empty_headers);
	t->empty_headers = NULL;
	t->send = NULL;

	/* libcurl counts, for each handle, how often it has sent again, and stops at five. */
	if (t->generation != generation || n_pool >= MAX_POOL ||
		t->is_second_try || t->n_sent > 1)
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
#ifdef NEEDS_FRESH_HANDLES
	curl_easy_cleanup(t->easy);
	t->easy = NULL;
#endif
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

/* For curl "Name:" takes a header away; "Name;" sends it empty. */
static char *
make_empty_header(WebhookTransfer *t, const char *header)
{
	struct curl_slist *list = curl_slist_append(t->empty_headers, header);

	if (list == NULL)
		return NULL;
	t->empty_headers = list;
	while (list->next != NULL)
		list = list->next;
	strcpy(strchr(list->data, ':'), ";");
	return list->data;
}

/*
 * The request's headers as curl takes them, without a copy: they stay with the
 * request until it ends.  False: no memory.
 */
static bool
list_headers(WebhookTransfer *t, const char **headers)
{
	int			n = 0;

	while (headers != NULL && headers[n] != NULL)
		n++;
	if (n + 1 > t->n_headers)
	{
		free(t->headers);
		t->headers = calloc(n + 1, sizeof(struct curl_slist));
		t->n_headers = t->headers == NULL ? 0 : n + 1;
		if (t->headers == NULL)
			return false;
	}
	for (int i = 0; i < n; i++)
	{
		const char *colon = strchr(headers[i], ':');

		t->headers[i].data = unconstify(char *, headers[i]);
		t->headers[i].next = &t->headers[i + 1];
		if (colon != NULL && colon[1 + strspn(colon + 1, " \t")] == '\0')
			t->headers[i].data = make_empty_header(t, headers[i]);
		if (t->headers[i].data == NULL)
			return false;
	}

	/* Or else curl waits a second for leave to send a large body. */
	t->headers[n].data = "Expect:";
	t->headers[n].next = NULL;
	return true;
}

/*
 * What varies from request to request; false: no memory.  What varies seldom is
 * set only when it does: a string that is set is copied.
 */
static bool
prepare_transfer(WebhookTransfer *t, WebhookSend *send)
{
	bool		is_https = webhook_transfer_is_https(send);
	long		http_version = is_https ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1;
	bool		ok = true;

	t->send = send;
	t->is_second_try = false;
	t->is_downgraded = false;
	t->n_sent = 0;
	webhook_transfer_forget_notes(t);

	if (!list_headers(t, send->headers))
		return false;
	SET(CURLOPT_HTTPHEADER, t->headers);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) send->body_len);
	SET(CURLOPT_POSTFIELDS, send->body_len > 0 ? send->body : "");

	if (t->url == NULL || strcmp(t->url, send->url) != 0)
	{
		free(t->url);
		t->url = strdup(send->url);
		SET(CURLOPT_URL, send->url);
		ok = ok && t->url != NULL;
	}
	if (t->method == NULL || strcmp(t->method, send->method) != 0)
	{
		/* A constant: it outlives the request. */
		t->method = strcmp(send->method, "POST") == 0 ? "POST" : "PUT";
		SET(CURLOPT_CUSTOMREQUEST,
			strcmp(t->method, "POST") == 0 ? NULL : t->method);
	}
	if (send->username != NULL || t->has_credentials)
	{
		SET(CURLOPT_USERNAME, send->username);
		SET(CURLOPT_PASSWORD, send->username == NULL ? NULL :
			send->password == NULL ? "" : send->password);
		t->has_credentials = send->username != NULL;
	}
	if (send->client_certificate != NULL || t->has_certificate)
	{
		SET(CURLOPT_SSLCERT, send->client_certificate);
		SET(CURLOPT_SSLKEY, send->client_certificate);
		/* Or else OpenSSL asks the terminal that the server was started from, and waits. */
		SET(CURLOPT_KEYPASSWD, send->client_certificate == NULL ? NULL : "");
		t->has_certificate = send->client_certificate != NULL;
	}
	if (t->timeout != send->timeout)
		SET(CURLOPT_TIMEOUT_MS, (long) Min(Max(send->timeout, 1), INT_MAX));
	t->timeout = send->timeout;
	if (t->connect_timeout != send->connect_timeout)
		SET(CURLOPT_CONNECTTIMEOUT_MS,
			(long) Min(Max(send->connect_timeout, 1), INT_MAX));
	t->connect_timeout = send->connect_timeout;

	/*
	 * A libcurl without HTTP/2 refuses it: then there is none.  Requests are
	 * not made to wait for a first connection to see whether it can be shared
	 * (CURLOPT_PIPEWAIT): libcurl before 8 forgets the timeouts of those that
	 * wait, and wakes one receiver's when another's connection is ready.
	 */
	if (t->http_version != http_version)
	{
		(void) curl_easy_setopt(t->easy, CURLOPT_HTTP_VERSION, http_version);
		SET(CURLOPT_BUFFERSIZE, (long) (is_https ? TLS_BUFFER : PLAIN_BUFFER));
	}
	t->http_version = http_version;
	return ok;
}

/*
 * A handle of the pool may not be fit for this request: libcurl 7.88 refuses
 * another size for a buffer that the handle still has, as it does after a name
 * that could not be resolved.  Only what a new one refuses is for want of memory.
 */
WebhookTransfer *
webhook_transfer_take(WebhookSend *send)
{
	WebhookTransfer *t;
	bool		is_new;

	do
	{
		t = get_transfer(&is_new);
		if (t == NULL || prepare_transfer(t, send))
			return t;

		/* What a handle that failed half way is set to, nobody knows. */
		t->generation = generation - 1;
		webhook_transfer_release(t);
	} while (!is_new);
	return NULL;
}

bool
webhook_transfer_is_whole(WebhookTransfer *t)
{
	curl_off_t	length = -1;

	if (t->is_enough)
		return true;
	(void) curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	return t->is_head_whole && t->status >= 200 && length >= 0 &&
		(uint64) length == t->received;
}

int64
webhook_transfer_connect_time(WebhookTransfer *t)
{
	long		n_connections = 1;
	curl_off_t	resolved = 0;
	curl_off_t	connected = 0;

	(void) curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &n_connections);
	if (n_connections == 0)
		return 0;
	(void) curl_easy_getinfo(t->easy, CURLINFO_NAMELOOKUP_TIME_T, &resolved);
	(void) curl_easy_getinfo(t->easy, CURLINFO_CONNECT_TIME_T, &connected);
	return Max(connected - resolved, 1);
}

/*
 * A receiver that answers before it has read the request, as a proxy does to
 * refuse one, ends the HTTP/2 stream early; libcurl 7.88 then loses the
 * answer and gives no reason.  HTTP/1.1 is free of that.
 */
static bool
is_answer_lost(WebhookTransfer *t, CURLcode result)
{
	return result == CURLE_HTTP2_STREAM && t->curl_error[0] == '\0' &&
		!webhook_transfer_is_whole(t);
}

/*
 * Did a connection that was kept end without a byte of an answer?  The receiver
 * ended it when it had been idle, or goes away for a moment.  libcurl tries again
 * by itself, but on the next connection that it has kept, which may have come to
 * the same end, and five times at most; and not by HTTP/2, nor while it sends.
 */
static bool
is_connection_stale(WebhookTransfer *t, CURLcode result)
{
	switch (result)
	{
		case CURLE_SEND_ERROR:
		case CURLE_RECV_ERROR:
		case CURLE_GOT_NOTHING:
		case CURLE_PARTIAL_FILE:
		case CURLE_HTTP2:
			return t->head_len == 0 && webhook_transfer_connect_time(t) == 0;
		default:
			return false;
	}
}

#ifdef NEEDS_FRESH_HANDLES
/* A new handle for the same request; false: no memory. */
static bool
renew_handle(WebhookTransfer *t)
{
	CURL	   *old = t->easy;
	int			n_sent = t->n_sent;

	if (!make_handle(t) || !prepare_transfer(t, t->send))
	{
		curl_easy_cleanup(t->easy);
		t->easy = old;
		t->generation = generation - 1;
		return false;
	}
	curl_easy_cleanup(old);
	t->n_sent = n_sent;
	return true;
}
#endif

bool
webhook_transfer_try_again(WebhookTransfer *t, CURLcode result, int64 elapsed)
{
	bool		ok = true;

	if (result == CURLE_OK || t->is_second_try || elapsed >= t->send->timeout)
		return false;
	if (is_answer_lost(t, result))
	{
#ifdef NEEDS_FRESH_HANDLES
		/* There may have been headers. */
		if (!renew_handle(t))
			return false;
#endif
		t->is_downgraded = true;
		t->http_version = CURL_HTTP_VERSION_1_1;
		SET(CURLOPT_HTTP_VERSION, t->http_version);
	}
	else if (is_connection_stale(t, result))
		SET(CURLOPT_FRESH_CONNECT, 1L);
	else
		return false;

	t->timeout = t->send->timeout - elapsed;
	SET(CURLOPT_TIMEOUT_MS, (long) Min(t->timeout, INT_MAX));
	if (ok)
	{
		t->is_second_try = true;
		webhook_transfer_forget_notes(t);
	}
	return ok;
}

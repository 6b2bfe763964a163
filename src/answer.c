/*-------------------------------------------------------------------------
 *
 * answer.c
 *	  What became of a request: answered or not, and why not, in plain words.
 *
 * What goes into webhook_log.error is read by DBAs and queried by reports:
 * one line, valid in the server's encoding, whatever a receiver, a resolver
 * or a TLS library had to say.  Runs in workers, outside of transactions, so
 * that there is no catalog to find a conversion in.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "answer.h"
#include "mb/pg_wchar.h"
#include "resolver.h"
#include "retry_after.h"
#include "settings.h"
#include "utils/memutils.h"

#define MAX_TEXT 1024
#define DURATION_SIZE 32		/* of a text like "30 s" */

/* The text of a status is ours, not the receiver's. */
static const struct
{
	int			status;
	const char *words;
}			known_statuses[] =
{
	{101, "Switching Protocols"},
	{300, "Multiple Choices"},
	{301, "Moved Permanently"},
	{302, "Found"},
	{303, "See Other"},
	{304, "Not Modified"},
	{305, "Use Proxy"},
	{307, "Temporary Redirect"},
	{308, "Permanent Redirect"},
	{400, "Bad Request"},
	{401, "Unauthorized"},
	{402, "Payment Required"},
	{403, "Forbidden"},
	{404, "Not Found"},
	{405, "Method Not Allowed"},
	{406, "Not Acceptable"},
	{407, "Proxy Authentication Required"},
	{408, "Request Timeout"},
	{409, "Conflict"},
	{410, "Gone"},
	{411, "Length Required"},
	{412, "Precondition Failed"},
	{413, "Content Too Large"},
	{414, "URI Too Long"},
	{415, "Unsupported Media Type"},
	{416, "Range Not Satisfiable"},
	{417, "Expectation Failed"},
	{418, "I'm a teapot"},
	{421, "Misdirected Request"},
	{422, "Unprocessable Content"},
	{423, "Locked"},
	{424, "Failed Dependency"},
	{425, "Too Early"},
	{426, "Upgrade Required"},
	{428, "Precondition Required"},
	{429, "Too Many Requests"},
	{431, "Request Header Fields Too Large"},
	{451, "Unavailable For Legal Reasons"},
	{500, "Internal Server Error"},
	{501, "Not Implemented"},
	{502, "Bad Gateway"},
	{503, "Service Unavailable"},
	{504, "Gateway Timeout"},
	{505, "HTTP Version Not Supported"},
	{507, "Insufficient Storage"},
	{508, "Loop Detected"},
	{511, "Network Authentication Required"},
};

/* The error where there is no memory for another. */
static char out_of_memory[] = "out of memory";

/* Make the text fit for a column; no longer than it was. */
static void
clean_text(char *text)
{
	unsigned char *from = (unsigned char *) text;
	unsigned char *to = (unsigned char *) text;
	unsigned char *end = from + strlen(text);

	while (from < end)
	{
		int			len = 1;

		if (*from < 0x20 || *from == 0x7f)
			*to++ = ' ';
		else if (*from < 0x80)
			*to++ = *from;
		else
		{
			/* What comes in is UTF-8 or nothing. */
			len = pg_utf_mblen(from);
			if (from + len > end || !pg_utf8_islegal(from, len))
			{
				len = 1;
				*to++ = '?';
			}
			else if (GetDatabaseEncoding() != PG_UTF8)
				*to++ = '?';
			else
			{
				memmove(to, from, len);
				to += len;
			}
		}
		from += len;
	}
	while (to > (unsigned char *) text && to[-1] == ' ')
		to--;
	*to = '\0';
}

char *
webhook_answer_format(MemoryContext context, const char *format,...)
{
	char		text[MAX_TEXT];
	char	   *result;
	va_list		args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	clean_text(text);
	result = MemoryContextAllocExtended(context, strlen(text) + 1,
										MCXT_ALLOC_NO_OOM);
	return result == NULL ? out_of_memory : strcpy(result, text);
}

static char *
format_status(MemoryContext context, int status)
{
	const char *space = "";
	const char *words = "";
	const char *more = "";

	for (int i = 0; i < lengthof(known_statuses); i++)
	{
		if (known_statuses[i].status == status)
		{
			space = " ";
			words = known_statuses[i].words;
		}
	}
	if (status >= 300 && status <= 399 && status != 304)
		more = ", and redirects are not followed";
	return webhook_answer_format(context, "receiver answered %d%s%s%s",
								  status, space, words, more);
}

static const char *
format_duration(char *buffer, int64 ms)
{
	if (ms < 1000)
		snprintf(buffer, DURATION_SIZE, INT64_FORMAT " ms", ms);
	else
		snprintf(buffer, DURATION_SIZE, "%g s", ms / 1000.0);
	return buffer;
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
	int			fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return !is_shortage(errno);
	close(fd);
	return true;
}

#define FAIL(...) \
	(send->error = webhook_answer_format(send->context, __VA_ARGS__))

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
	{
		send->outcome = WEBHOOK_PROXY_FAILURE;
		FAIL("could not resolve the host name of the proxy, see webhook.proxy");
	}
	else
	{
		get_url_part(send, CURLUPART_HOST, host, sizeof(host));
		switch (webhook_resolver_explain(host))
		{
			case WEBHOOK_LOOKUP_UNKNOWN:
			case WEBHOOK_LOOKUP_FOUND:
				send->outcome = WEBHOOK_UNRESOLVED;
				FAIL("could not resolve host name \"%s\" so far", host);
				break;
			case WEBHOOK_LOOKUP_UNAVAILABLE:
				send->outcome = WEBHOOK_UNRESOLVED;
				FAIL("could not resolve host name \"%s\": no name server answers",
					 host);
				break;
			case WEBHOOK_LOOKUP_ABSENT:
				FAIL("could not resolve host name \"%s\"", host);
				break;
		}
	}
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
	else if (t->is_address_refused && t->has_proxy)
	{
		send->outcome = WEBHOOK_PROXY_FAILURE;
		FAIL("address %s of the proxy is not in webhook.proxy_networks", t->address);
	}
	else if (t->is_address_refused)
		FAIL("address %s is not public; add it to webhook.allowed_networks if this receiver is meant to be inside",
			 t->address);
	else
	{
		/* With IPv4, there is no free local port.  A proxy is ours, too. */
		if (error == EADDRNOTAVAIL && t->family == AF_INET)
			send->outcome = WEBHOOK_LOCAL_FAILURE;
		else if (t->has_proxy)
			send->outcome = WEBHOOK_PROXY_FAILURE;
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
	long		local_port = 0;
	bool		has_sent;
	char		whole[DURATION_SIZE];
	char		connect[DURATION_SIZE];
	char		part[256];

	(void) curl_easy_getinfo(t->easy, CURLINFO_NAMELOOKUP_TIME_T, &resolved);
	(void) curl_easy_getinfo(t->easy, CURLINFO_CONNECT_TIME_T, &connected);

	/* There is one once TCP has its connection; TLS may not be done yet. */
	(void) curl_easy_getinfo(t->easy, CURLINFO_LOCAL_PORT, &local_port);
#ifdef HAVE_PREREQ
	has_sent = t->n_sent > 0;
#else
	{
		curl_off_t	ready = 0;

		(void) curl_easy_getinfo(t->easy, CURLINFO_PRETRANSFER_TIME_T, &ready);
		has_sent = ready > 0;
	}
#endif
	format_duration(whole, send->timeout);
	format_duration(connect, Min(send->timeout, send->connect_timeout));

	if (send->http_status != 0)
		FAIL("receiver did not finish its answer within %s", whole);
	else if (has_sent)
		FAIL("no answer within %s", whole);
	else if (t->has_proxy && t->address[0] != '\0' && connected == 0)
	{
		send->outcome = WEBHOOK_PROXY_FAILURE;
		FAIL("could not connect to proxy %s within %s", t->address, connect);
	}
	else if (local_port != 0 && !t->has_proxy)
		FAIL("receiver did not finish the TLS handshake within %s (%s port %s)",
			 connect, t->address,
			 get_url_part(send, CURLUPART_PORT, part, sizeof(part)));
	else if (resolved > 0 || t->address[0] != '\0')
		FAIL("could not connect within %s (%s%s%s)", connect, t->address,
			 t->has_proxy ? "" : " port ",
			 t->has_proxy ? ", the proxy" :
			 get_url_part(send, CURLUPART_PORT, part, sizeof(part)));
	else
	{
		send->outcome = WEBHOOK_UNRESOLVED;
		FAIL("could not resolve host name \"%s\" within %s: no name server answers",
			 get_url_part(send, CURLUPART_HOST, part, sizeof(part)), connect);
	}
}

static void
describe_untrusted(WebhookTransfer *t, const char *detail)
{
	WebhookSend *send = t->send;
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
	FAIL("TLS certificate of the receiver is not trusted: %s%s", detail,
		 strstr(detail, "issuer") != NULL || strstr(detail, "self-signed") != NULL ||
		 strstr(detail, "self signed") != NULL ? "; see webhook.ca_file" : "");
}

static void
describe_client_certificate(WebhookSend *send, const char *detail)
{
	FAIL("could not use client certificate \"%s\", which must hold a certificate and its key, not encrypted: %s",
		 send->client_certificate ? send->client_certificate : "", detail);
}

/* What OpenSSL says, without its version and numbers. */
static const char *
get_tls_reason(const char *detail)
{
	const char *reason = strstr(detail, "routines::");

	return reason == NULL ? detail : reason + strlen("routines::");
}

static void
describe_tls(WebhookTransfer *t, const char *detail)
{
	WebhookSend *send = t->send;

	if (strstr(detail, "wrong version number") != NULL)
		FAIL("receiver does not speak TLS");
	else if (strstr(detail, "alert protocol version") != NULL ||
			 strstr(detail, "unsupported protocol") != NULL)
		FAIL("could not agree on a TLS connection: receiver does not speak TLS 1.2 or later");
	else if (strstr(detail, "SSL_ERROR_SYSCALL") != NULL)
		FAIL("could not agree on a TLS connection: receiver closed it");
	else
		FAIL("could not agree on a TLS connection: %s", get_tls_reason(detail));
}

/* The connection came to its end before the answer did. */
static void
describe_broken(WebhookTransfer *t)
{
	WebhookSend *send = t->send;

	if (t->head_len > WEBHOOK_MAX_HEAD)
		FAIL("receiver sent more than %d kB of headers", WEBHOOK_MAX_HEAD / 1024);
	else if (strstr(t->curl_error, "chunk") != NULL)
		FAIL("receiver's answer is malformed: %s", t->curl_error);
	else if (strstr(t->curl_error, "alert certificate required") != NULL)
		FAIL("receiver requires a client certificate");
	else if (strstr(t->curl_error, " alert ") != NULL)
		FAIL("receiver ended the TLS connection: %s", get_tls_reason(t->curl_error));
	else if (t->head_len > 0)
		FAIL("receiver closed the connection in the middle of its answer");
	else
		FAIL("%s closed the connection without an answer",
			 t->has_proxy ? "proxy, or receiver behind it," : "receiver");
}

static void
describe_failure(WebhookTransfer *t, CURLcode result)
{
	WebhookSend *send = t->send;
	const char *detail = t->curl_error[0] != '\0' ? t->curl_error :
		curl_easy_strerror(result);
	long		proxy_status = 0;
	long		request_size = 0;

	(void) curl_easy_getinfo(t->easy, CURLINFO_HTTP_CONNECTCODE, &proxy_status);
	if (proxy_status >= 300 && t->head_len == 0)
	{
		/* Who we are for the proxy has nothing to do with the receiver. */
		if (proxy_status == 407)
			send->outcome = WEBHOOK_PROXY_FAILURE;
		FAIL("proxy answered %ld, see webhook.proxy", proxy_status);
		return;
	}
	switch (result)
	{
		case CURLE_OUT_OF_MEMORY:
		case CURLE_FAILED_INIT:
			(void) curl_easy_getinfo(t->easy, CURLINFO_REQUEST_SIZE, &request_size);

			/* An endless header line is "out of memory" to curl, too. */
			if (request_size > 0)
				FAIL("receiver sent a header that is too long, or memory ran out");
			else
			{
				send->outcome = WEBHOOK_LOCAL_FAILURE;
				FAIL("could not send: %s", curl_easy_strerror(result));
			}
			break;
		case CURLE_URL_MALFORMAT:
			FAIL("URL is malformed%s%s", t->curl_error[0] != '\0' ? ": " : "",
				 t->curl_error);
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
			if (t->head_len > 0)
				FAIL("receiver's answer is malformed: %s", detail);
			else
				FAIL("receiver does not speak HTTP");
			break;
		case CURLE_PEER_FAILED_VERIFICATION:
			describe_untrusted(t, detail);
			break;
		case CURLE_SSL_CACERT_BADFILE:
			FAIL("could not read the certificates of webhook.ca_file \"%s\"",
				 webhook_ca_file);
			break;
		case CURLE_SSL_CERTPROBLEM:
			describe_client_certificate(send, detail);
			break;
		case CURLE_SSL_CONNECT_ERROR:
			describe_tls(t, detail);
			break;
		case CURLE_BAD_FUNCTION_ARGUMENT:
			/* The argument is one of curl's own: a line that continues no header, say. */
			if (t->head_len > 0)
				FAIL("receiver's answer is malformed: one of its headers is none");
			else
				FAIL("could not get an answer: %s", detail);
			break;
		case CURLE_SEND_ERROR:
		case CURLE_RECV_ERROR:
		case CURLE_GOT_NOTHING:
		case CURLE_PARTIAL_FILE:
		case CURLE_WRITE_ERROR:
		case CURLE_HTTP2:
		case CURLE_OK:
			describe_broken(t);
			break;
		default:
			/* What it says of a key that is encrypted depends on its version. */
			if (send->client_certificate != NULL && strstr(detail, "private key") != NULL)
				describe_client_certificate(send, detail);
			else
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
webhook_answer_judge(WebhookTransfer *t, CURLcode result)
{
	WebhookSend *send = t->send;

	/* An interim answer is none, unless it was meant to be the last. */
	if (t->status >= 200 || result == CURLE_OK)
		send->http_status = t->status;
	keep_body(t);
	if (result != CURLE_OK && webhook_transfer_is_whole(t))
		result = CURLE_OK;

	/* A connection that ends within the headers is no error for curl. */
	if (result != CURLE_OK || !t->is_head_whole || t->status == 0)
	{
		send->outcome = WEBHOOK_UNANSWERED;
		describe_failure(t, result);
		return;
	}

	if (t->status == 407 && t->has_proxy)
	{
		send->outcome = WEBHOOK_PROXY_FAILURE;
		send->error = webhook_answer_format(send->context,
											"proxy answered 407, see webhook.proxy");
		return;
	}

	send->outcome = WEBHOOK_ANSWERED;
	if (t->status < 200 || t->status > 299)
		send->error = format_status(send->context, t->status);
	if (t->status == 429 || t->status == 503)
		send->retry_after = webhook_retry_after_get(t);
}

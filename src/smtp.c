/*-------------------------------------------------------------------------
 *
 * smtp.c
 *	  A connection to the mail server, for one mail.
 *
 * curl connects, begins TLS and logs in; what is said then is dialog.c's.  Mails
 * are few: each gets a handle and a connection of its own.  As in transfer.c, no
 * error is raised while curl is on the stack.
 *
 * The mail server is named by a superuser's setting and usually stands inside,
 * so webhook.allowed_networks does not apply to it, but webhook.smtp_networks
 * does.  Its certificate is checked as receivers' are.  With a user name TLS is
 * required; without one it is used where the server offers it.
 *
 * Runs in workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "answer.h"
#include "settings.h"
#include "smtp.h"
#include "text.h"

#define CONNECT_TIMEOUT_MS 15000

/*
 * When curl gives up on a server it says QUIT and waits for an answer, within one
 * call and at most as long as it would have waited for any other.
 */
#define ANSWER_TIMEOUT_S 30		/* a server that is slow on purpose */
#define QUIT_TIMEOUT_S 1		/* one that has refused */

/* ---------------------------------------------------------------------
 * Callbacks.  They run inside of curl: no errors, no palloc.
 * ---------------------------------------------------------------------
 */

static curl_socket_t
on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	return webhook_transfer_open(arg, address,
								 webhook_address_listed(&address->addr,
														webhook_smtp_addresses));
}

/* Each line of the server's comes by here. */
static size_t
on_reply(char *data, size_t size, size_t n, void *arg)
{
	WebhookTransfer *t = arg;
	int			code = webhook_smtp_note_reply(t, data, n * size);

	/* Who does not know EHLO (500, 502) is greeted with HELO. */
	(void) curl_easy_setopt(t->easy, CURLOPT_SERVER_RESPONSE_TIMEOUT,
							(long) (code >= 400 && code / 10 != 50 ?
									QUIT_TIMEOUT_S : ANSWER_TIMEOUT_S));
	return n * size;
}

static size_t
on_data(char *data, size_t size, size_t n, void *arg)
{
	return size * n;			/* SMTP has none */
}

/* ---------------------------------------------------------------------
 * Hosts
 * ---------------------------------------------------------------------
 */

char *
webhook_smtp_encode_host(const char *host)
{
	char	   *encoded = NULL;
#ifdef HAVE_PUNYCODE
	CURLU	   *url = curl_url();

	if (url == NULL)
		return NULL;
	if (curl_url_set(url, CURLUPART_SCHEME, "smtp", 0) != CURLUE_OK ||
		curl_url_set(url, CURLUPART_HOST, host, 0) != CURLUE_OK ||
		curl_url_get(url, CURLUPART_HOST, &encoded, CURLU_PUNYCODE) != CURLUE_OK)
		encoded = NULL;
	curl_url_cleanup(url);
#endif
	return encoded;
}

/* ---------------------------------------------------------------------
 * Replies
 * ---------------------------------------------------------------------
 */

/* Add text to the reply that is kept. */
static void
append(WebhookTransfer *t, const char *text, size_t len)
{
	size_t		have = strlen(t->reply);
	size_t		n = Min(len, sizeof(t->reply) - 1 - have);

	for (size_t i = 0; i < n; i++)
		t->reply[have + i] = text[i] == '\0' ? '?' : text[i];
	t->reply[have + n] = '\0';
}

/*
 * The last reply that refuses is kept, its lines put together: what is worth
 * knowing may be in any of them.
 */
int
webhook_smtp_note_reply(WebhookTransfer *t, const char *line, size_t len)
{
	int			code = 0;
	bool		is_last;

	while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == '\n'))
		len--;
	for (size_t i = 0; i < 3; i++)
	{
		if (i >= len || line[i] < '0' || line[i] > '9')
			return -1;
		code = code * 10 + line[i] - '0';
	}
	is_last = len == 3 || line[3] != '-';
	if (code >= 400)
	{
		if (t->reply_code != code)
		{
			t->reply[0] = '\0';
			append(t, line, 3);
		}
		if (len > 4)
		{
			append(t, " ", 1);
			append(t, line + 4, len - 4);
		}
	}
	t->reply_code = is_last ? 0 : code;

	/* What was offered before TLS counts no more (RFC 3207). */
	if (code == 220)
		t->has_utf8 = false;
	if (code == 250 && len == 12 && pg_strncasecmp(line + 4, "SMTPUTF8", 8) == 0)
		t->has_utf8 = true;
	return is_last ? code : 0;
}

void
webhook_smtp_hide(WebhookTransfer *t)
{
	for (int i = 0; i < lengthof(t->mail->secrets); i++)
	{
		if (t->mail->secrets[i] != NULL)
			webhook_text_hide(t->reply, strlen(t->reply), t->mail->secrets[i]);
	}
}

/* ---------------------------------------------------------------------
 * Handles
 * ---------------------------------------------------------------------
 */

static bool
set_options(WebhookTransfer *t, WebhookMail *mail)
{
	bool		ok = webhook_transfer_set_common(t);

	SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	SET(CURLOPT_OPENSOCKETDATA, t);
	SET(CURLOPT_URL, mail->url);
	SET(PROTOCOLS_OPTION, PROTOCOLS_MAIL);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NOPROXY, "");
	SET(CURLOPT_USERNAME, mail->username);
	SET(CURLOPT_PASSWORD, mail->username == NULL ? NULL :
		mail->password == NULL ? "" : mail->password);
	SET(CURLOPT_USE_SSL, (long) (mail->username == NULL ? CURLUSESSL_TRY : CURLUSESSL_ALL));
	SET(CURLOPT_CONNECT_ONLY, 1L);
	SET(CURLOPT_HEADERFUNCTION, on_reply);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_WRITEFUNCTION, on_data);
	SET(CURLOPT_FRESH_CONNECT, 1L);
	SET(CURLOPT_TIMEOUT_MS, (long) mail->timeout);
	SET(CURLOPT_SERVER_RESPONSE_TIMEOUT, (long) ANSWER_TIMEOUT_S);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) CONNECT_TIMEOUT_MS);
#ifdef HAVE_QUICK_EXIT
	SET(CURLOPT_QUICK_EXIT, 1L);
#endif
	return ok;
}

WebhookTransfer *
webhook_smtp_take(WebhookMail *mail)
{
	WebhookTransfer *t = calloc(1, sizeof(WebhookTransfer));

	if (t == NULL)
		return NULL;
	t->mail = mail;
	t->easy = curl_easy_init();
	if (t->easy == NULL || !set_options(t, mail))
	{
		webhook_smtp_release(t);
		return NULL;
	}
	return t;
}

void
webhook_smtp_release(WebhookTransfer *t)
{
	curl_easy_cleanup(t->easy);
	free(t);
}

#define FAIL(...) \
	(mail->error = webhook_answer_format(mail->context, __VA_ARGS__))

void
webhook_smtp_judge(WebhookTransfer *t, CURLcode result)
{
	WebhookMail *mail = t->mail;
	const char *text = t->curl_error[0] != '\0' ? t->curl_error : curl_easy_strerror(result);

	webhook_smtp_hide(t);
	switch (result)
	{
		case CURLE_LOGIN_DENIED:
			if (t->reply[0] == '\0')
				FAIL("mail server offers no way to log in that is known here");
			else
				FAIL("mail server refused the user name or password: %s", t->reply);
			break;
		case CURLE_USE_SSL_FAILED:
			FAIL("mail server offers no TLS, which a user name requires%s%s",
				 t->reply[0] != '\0' ? ": " : "", t->reply);
			break;
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CONNECT_ERROR:
			FAIL("TLS connection to the mail server failed: %s", text);
			break;
		case CURLE_URL_MALFORMAT:
			FAIL("webhook.smtp_url is no URL of a mail server: %s", text);
			break;
		case CURLE_OPERATION_TIMEDOUT:
			FAIL("mail server did not answer in time");
			break;
		case CURLE_COULDNT_RESOLVE_HOST:
		case CURLE_COULDNT_CONNECT:
			if (t->is_address_refused)
				FAIL("address %s of the mail server is not in webhook.smtp_networks",
					 t->address);
			else
				FAIL("no connection to the mail server: %s", text);
			break;
		case CURLE_RECV_ERROR:
		case CURLE_GOT_NOTHING:
			if (t->reply[0] == '\0')
			{
				FAIL("mail server closed the connection");
				break;
			}
			/* FALLTHROUGH */
		default:
			FAIL("mail server: %s", t->reply[0] != '\0' ? t->reply : text);
	}
}

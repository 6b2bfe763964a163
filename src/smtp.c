/*-------------------------------------------------------------------------
 *
 * smtp.c
 *	  One mail on a curl easy handle.
 *
 * Mails are few: each gets a handle and a connection of its own.  As in
 * transfer.c, no error is raised while curl is on the stack.
 *
 * The mail server is named by a superuser's setting and usually stands inside,
 * so webhook.allowed_networks does not apply to it, but webhook.smtp_networks
 * does.  Its certificate is checked
 * as receivers' are.  With a user name TLS is required; without one it is used
 * where the server offers it.
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

#define CONNECT_TIMEOUT_MS 15000

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

static size_t
on_read(char *buffer, size_t size, size_t n, void *arg)
{
	WebhookTransfer *t = arg;
	size_t		left = t->mail->message_len - t->body_len;

	n = Min(size * n, left);
	memcpy(buffer, t->mail->message + t->body_len, n);
	t->body_len += n;			/* what has been sent of it */
	return n;
}

/* Each line of the server's comes by here: keep the last that refuses. */
static size_t
on_reply(char *data, size_t size, size_t n, void *arg)
{
	WebhookTransfer *t = arg;

	n *= size;
	if (n >= 3 && data[0] >= '4' && data[0] <= '5')
	{
		size_t		len = Min(n, sizeof(t->reply) - 1);

		while (len > 0 && (data[len - 1] == '\r' || data[len - 1] == '\n'))
			len--;
		memcpy(t->reply, data, len);
		t->reply[len] = '\0';
	}
	return n;
}

static size_t
on_data(char *data, size_t size, size_t n, void *arg)
{
	return size * n;			/* SMTP has none */
}

/* ---------------------------------------------------------------------
 * Handles
 * ---------------------------------------------------------------------
 */

#define SET(option, value) \
	(ok = ok && curl_easy_setopt(t->easy, option, value) == CURLE_OK)

static bool
set_options(WebhookTransfer *t, WebhookMail *mail)
{
	bool		ok = webhook_transfer_set_common(t);

	t->recipients = curl_slist_append(NULL, mail->recipient);
	if (t->recipients == NULL)
		return false;
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	SET(CURLOPT_OPENSOCKETDATA, t);
	SET(CURLOPT_URL, mail->url);
	SET(PROTOCOLS_OPTION, PROTOCOLS_MAIL);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NOPROXY, "");
	SET(CURLOPT_MAIL_FROM, mail->sender);
	SET(CURLOPT_MAIL_RCPT, t->recipients);
	SET(CURLOPT_USERNAME, mail->username);
	SET(CURLOPT_PASSWORD, mail->username == NULL ? NULL :
		mail->password == NULL ? "" : mail->password);
	SET(CURLOPT_USE_SSL, (long) (mail->username == NULL ? CURLUSESSL_TRY : CURLUSESSL_ALL));
	SET(CURLOPT_UPLOAD, 1L);
	SET(CURLOPT_READFUNCTION, on_read);
	SET(CURLOPT_READDATA, t);
	SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t) mail->message_len);
	SET(CURLOPT_HEADERFUNCTION, on_reply);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_WRITEFUNCTION, on_data);
	SET(CURLOPT_FRESH_CONNECT, 1L);
	SET(CURLOPT_FORBID_REUSE, 1L);
	SET(CURLOPT_TIMEOUT_MS, (long) mail->timeout);
	SET(CURLOPT_SERVER_RESPONSE_TIMEOUT, (long) Max(mail->timeout / 1000, 1));
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
	curl_slist_free_all(t->recipients);
	free(t);
}

void
webhook_smtp_judge(WebhookTransfer *t, CURLcode result)
{
	WebhookMail *mail = t->mail;
	const char *text;

	mail->is_sent = result == CURLE_OK;
	if (mail->is_sent)
		return;
	text = t->curl_error[0] != '\0' ? t->curl_error : curl_easy_strerror(result);

	/* An address that the server will never take; anything else may change. */
	mail->is_refused = t->reply[0] == '5' && strncmp(text, "RCPT", 4) == 0;
	switch (result)
	{
		case CURLE_LOGIN_DENIED:
			mail->error = webhook_answer_format(mail->context,
												"mail server refused the user name or password: %s",
												t->reply[0] != '\0' ? t->reply : text);
			break;
		case CURLE_USE_SSL_FAILED:
			mail->error = webhook_answer_format(mail->context,
												"mail server offers no TLS, which a user name requires");
			break;
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CONNECT_ERROR:
			mail->error = webhook_answer_format(mail->context,
												"TLS connection to the mail server failed: %s", text);
			break;
		case CURLE_OPERATION_TIMEDOUT:
			mail->error = webhook_answer_format(mail->context,
												"mail server did not answer in time");
			break;
		case CURLE_COULDNT_RESOLVE_HOST:
		case CURLE_COULDNT_CONNECT:
			if (t->is_address_refused)
				mail->error = webhook_answer_format(mail->context,
													"address %s of the mail server is not in webhook.smtp_networks",
													t->address);
			else
				mail->error = webhook_answer_format(mail->context,
													"no connection to the mail server: %s", text);
			break;
		case CURLE_RECV_ERROR:
		case CURLE_GOT_NOTHING:
			if (t->reply[0] == '\0')
			{
				mail->error = webhook_answer_format(mail->context,
													"mail server closed the connection");
				break;
			}
			/* FALLTHROUGH */
		default:
			mail->error = webhook_answer_format(mail->context, "mail server: %s",
												t->reply[0] != '\0' ? t->reply : text);
	}
}

/*-------------------------------------------------------------------------
 *
 * dialog.c
 *	  One mail told to a mail server that has let us in.
 *
 * curl connects, begins TLS and logs in (smtp.c).  The rest of RFC 5321 is done
 * here, because curl waits for the answer to a mail, and to QUIT, within one
 * call: while a mail server looks for viruses no webhook would be sent, and no
 * signal obeyed.
 *
 * A mail's lines end with CR LF and never begin with a dot (mail_text.c), so
 * that it goes out as it is.
 *
 * Runs in workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "answer.h"
#include "dialog.h"
#include "network.h"
#include "smtp.h"
#include "watch.h"

#define MAX_REPLY 65536			/* bytes of one, with all its lines */

/*
 * A server that has the whole mail may deliver it even if we no longer listen,
 * and it would be sent again: RFC 5321 has clients wait for ten minutes.
 */
#define END_TIMEOUT_US (10 * INT64CONST(60000000))

/* What the next reply answers. */
enum
{
	TO_SENDER,
	TO_RECIPIENT,
	TO_DATA,
	TO_MESSAGE,
	TO_END						/* the dot has been sent, too */
};

static void
say(WebhookTransfer *t, int stage, const char *text, size_t len)
{
	t->stage = stage;
	t->out = text;
	t->out_left = len;
	t->reply_len = 0;
	t->deadline = webhook_network_clock() + t->mail->timeout * INT64CONST(1000);
}

static bool
fail(WebhookTransfer *t, const char *reason)
{
	WebhookMail *mail = t->mail;

	mail->error = webhook_answer_format(mail->context, "%s", reason);
	return true;
}

static bool
fail_with_reply(WebhookTransfer *t)
{
	WebhookMail *mail = t->mail;

	/* An address that the server will never take; anything else may change. */
	mail->is_refused = t->stage == TO_RECIPIENT && t->reply[0] == '5';
	webhook_smtp_hide(t);
	mail->error = webhook_answer_format(mail->context, "mail server: %s", t->reply);
	return true;
}

/* The server has answered; true: that was the last thing to be said. */
static bool
take_reply(WebhookTransfer *t, int code)
{
	WebhookMail *mail = t->mail;
	size_t		n_sent;

	/* Whatever it says yes to before it has heard all is not what was said. */
	if (code >= 400)
		return fail_with_reply(t);
	if (code / 100 != (t->stage == TO_DATA ? 3 : 2) || t->out_left > 0)
		return fail(t, "mail server does not speak SMTP");
	switch (t->stage)
	{
		case TO_SENDER:
			snprintf(t->command, sizeof(t->command), "RCPT TO:<%s>\r\n", mail->recipient);
			say(t, TO_RECIPIENT, t->command, strlen(t->command));
			return false;
		case TO_RECIPIENT:
			say(t, TO_DATA, "DATA\r\n", 6);
			return false;
		case TO_DATA:
			say(t, TO_MESSAGE, mail->message, mail->message_len);
			return false;
		default:
			/* It need not be waited for. */
			mail->is_sent = true;
			(void) curl_easy_send(t->easy, "QUIT\r\n", 6, &n_sent);
			return true;
	}
}

/* False: the connection is broken, but its last words may say why. */
static bool
send_some(WebhookTransfer *t)
{
	while (t->out_left > 0)
	{
		size_t		n = 0;
		CURLcode	result = curl_easy_send(t->easy, t->out, t->out_left, &n);

		if (result != CURLE_OK)
			return result == CURLE_AGAIN;
		t->out += n;
		t->out_left -= n;
		if (t->out_left == 0 && t->stage == TO_MESSAGE)
		{
			say(t, TO_END, ".\r\n", 3);
			t->deadline = webhook_network_clock() + END_TIMEOUT_US;
		}
	}
	return true;
}

static bool
take_line(WebhookTransfer *t)
{
	int			code = webhook_smtp_note_reply(t, t->line, t->line_len);

	t->line_len = 0;
	if (code < 0)
		return fail(t, "mail server does not speak SMTP");
	return code > 0 && take_reply(t, code);
}

static bool
receive_some(WebhookTransfer *t)
{
	for (;;)
	{
		char		data[1024];
		size_t		n = 0;
		CURLcode	result = curl_easy_recv(t->easy, data, sizeof(data), &n);

		if (result == CURLE_AGAIN)
			return false;
		if (result != CURLE_OK || n == 0)
			return fail(t, t->stage == TO_END ?
						"mail server closed the connection without saying whether it has taken the mail" :
						"mail server closed the connection");
		t->reply_len += n;
		if (t->reply_len > MAX_REPLY)
			return fail(t, "mail server's answer does not end");
		for (size_t i = 0; i < n; i++)
		{
			if (t->line_len < sizeof(t->line))
				t->line[t->line_len++] = data[i];
			if (data[i] == '\n' && take_line(t))
				return true;
		}
	}
}

bool
webhook_dialog_progress(WebhookTransfer *t)
{
	int			stage;

	do
	{
		bool		is_whole = send_some(t);

		stage = t->stage;
		if (receive_some(t))
			return true;
		if (!is_whole)
			return fail(t, "mail server closed the connection");
	} while (t->stage != stage);
	if (webhook_network_clock() >= t->deadline)
		return fail(t, t->stage == TO_END ?
					"mail server did not say in time whether it has taken the mail" :
					"mail server did not answer in time");
	webhook_watch_set(t->fd, 0, true, t->out_left > 0);
	return false;
}

bool
webhook_dialog_start(WebhookTransfer *t)
{
	WebhookMail *mail = t->mail;

	if (mail->needs_utf8 && !t->has_utf8)
	{
		mail->is_refused = true;
		return fail(t, "mail server takes no address with other letters than those of ASCII (it lacks SMTPUTF8)");
	}
	(void) curl_easy_getinfo(t->easy, CURLINFO_ACTIVESOCKET, &t->fd);
	t->line_len = 0;
	snprintf(t->command, sizeof(t->command), "MAIL FROM:<%s>%s\r\n", mail->sender,
			 mail->needs_utf8 ? " SMTPUTF8" : "");
	say(t, TO_SENDER, t->command, strlen(t->command));
	return webhook_dialog_progress(t);
}

bool
webhook_dialog_is_long(const WebhookTransfer *t)
{
	return t->stage == TO_END && t->deadline - webhook_network_clock() <
		END_TIMEOUT_US - t->mail->timeout * INT64CONST(1000);
}

long
webhook_dialog_timeout(const WebhookTransfer *t)
{
	int64		left = t->deadline - webhook_network_clock();

	return left <= 0 ? 0 : (long) ((left + 999) / 1000);
}

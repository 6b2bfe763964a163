/*-------------------------------------------------------------------------
 *
 * mail.c
 *	  Who is told of failures by mail, and the mails' own queue.
 *
 * Three steps, each committed before the next:
 *
 *	note	a failure is noted by the transaction that settles it (mail_note.c)
 *	digest	the notes get the addresses that they are for; what gathers for
 *			one action and one address becomes one row of webhook.mail_log,
 *			and a second one not before webhook.mail_interval is over
 *			(mail_digest.c)
 *	send	rows that are due are Dispatched, handed to the mail server, and
 *			settled when it has answered
 *
 * So nothing is lost with a worker, and a mail server that hangs keeps nobody
 * waiting but its mails: they are sent beside the webhooks, in the same wait.
 *
 * Runs in the worker that is number 0.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/string.h"
#include "executor/spi.h"
#include "mail.h"
#include "mail_digest.h"
#include "mail_note.h"
#include "mail_text.h"
#include "miscadmin.h"
#include "sender.h"
#include "settings.h"
#include "statement.h"
#include "text.h"
#include "transaction.h"
#include "trouble.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define TURN_PAUSE_US (100 * INT64CONST(1000))	/* webhooks go first */
#define POLL_US (60 * USECS_PER_SEC)	/* for notes that nobody told of */
#define SHARED_POLL_US (5 * USECS_PER_SEC)	/* other workers note, too */
#define MIN_BACKOFF_US USECS_PER_SEC
#define MAX_BACKOFF_US (5 * USECS_PER_MINUTE)
#define MAX_IN_FLIGHT 4
#define FAILING_AFTER 2			/* mails in a row */
#define MAIL_TIMEOUT_MS 60000

/* When a mail is tried again; after the last one it is given up. */
static const int retry_minutes[] = {
	1, 5, 15, 30, 60, 120, 240, 240, 480, 480, 720, 720, 1440
};

static MemoryContext mail_context;
static List *finished = NIL;	/* of WebhookMail *: answered, not recorded */
static bool is_recovered = false;
static TimestampTz next_turn = 0;
static TimestampTz last_turn = 0;
static TimestampTz backoff_until = 0;
static int64 backoff = 0;

/* What is known of the mail server. */
static int	failures = 0;		/* mails in a row that it did not take */
static TimestampTz failing_since = 0;

static const char *const recover_sql =
"UPDATE webhook.mail_log SET status = 'Queued', retry_at = clock_timestamp()"
" WHERE status = 'Dispatched' AND retry_at IS NOT NULL";

static const char *const claim_sql =
"UPDATE webhook.mail_log m SET status = 'Dispatched' FROM"
" (SELECT mail_id FROM webhook.mail_log WHERE retry_at <= $1"
" AND status <> 'Dispatched' ORDER BY retry_at LIMIT $2"
" FOR UPDATE SKIP LOCKED) c WHERE m.mail_id = c.mail_id"
" RETURNING m.mail_id, m.recipient, m.subject, m.body, m.attempts";

static const char *const settle_sql =
"UPDATE webhook.mail_log SET status = CASE WHEN $2 THEN 'Success' ELSE 'Failed' END::webhook.status,"
" attempts = attempts + 1, retry_at = $3, error = $4,"
" completed_at = CASE WHEN $3 IS NULL THEN clock_timestamp() END"
" WHERE mail_id = $1";

static const char *const next_mail_sql =
"SELECT min(retry_at) FROM webhook.mail_log"
" WHERE retry_at IS NOT NULL AND status <> 'Dispatched'";

/*
 * Finished mails go with the deliveries of their time, but not before another
 * mail to the same recipient may be written.
 */
static const char *const purge_sql =
"DELETE FROM webhook.mail_log WHERE mail_id IN"
" (SELECT mail_id FROM webhook.mail_log WHERE completed_at < $1 LIMIT 1000)";

/* ---------------------------------------------------------------------
 * Sending
 * ---------------------------------------------------------------------
 */

static void
settle_mails(TimestampTz now)
{
	Oid			types[4] = {INT8OID, BOOLOID, TIMESTAMPTZOID, TEXTOID};
	ListCell   *lc;

	foreach(lc, finished)
	{
		WebhookMail *mail = lfirst(lc);
		Datum		values[4];
		char		nulls[4] = {' ', ' ', 'n', 'n'};

		values[0] = Int64GetDatum(mail->mail_id);
		values[1] = BoolGetDatum(mail->is_sent);
		if (!mail->is_sent)
		{
			values[3] = CStringGetTextDatum(mail->error);
			nulls[3] = ' ';
			if (!mail->is_refused && mail->attempts < lengthof(retry_minutes))
			{
				values[2] = TimestampTzGetDatum(now + retry_minutes[mail->attempts] *
												USECS_PER_MINUTE);
				nulls[2] = ' ';
			}
		}
		webhook_statement_execute(settle_sql, 4, types, values, nulls);
	}
}

/* The server log has a line when mails begin to fail, and when they no longer do. */
static void
report_server(TimestampTz now)
{
	ListCell   *lc;

	foreach(lc, finished)
	{
		WebhookMail *mail = lfirst(lc);

		if (!mail->is_sent && !mail->is_refused)
		{
			if (failures++ == 0)
				failing_since = now;
			if (failures == FAILING_AFTER)
				ereport(WARNING,
						(errcode(ERRCODE_CONNECTION_FAILURE),
						 errmsg("mails that tell of failed webhooks can't be sent since %s",
								timestamptz_to_str(failing_since)),
						 errdetail("%d mails in a row were not taken, the last with: %s",
								   failures, mail->error),
						 errhint("See webhook.mail_log and the settings webhook.smtp_*; mails are tried again for four days.")));
			continue;
		}

		/* A mail that is refused for its address was answered, too. */
		if (failures >= FAILING_AFTER)
			ereport(LOG,
					(errcode(ERRCODE_SUCCESSFUL_COMPLETION),
					 errmsg("mails that tell of failed webhooks are sent again; they could not be since %s",
							timestamptz_to_str(failing_since))));
		failures = 0;
	}
}

/* As they are said to the server (RFC 4616, and LOGIN), which may say them again. */
static void
set_credentials(WebhookMail *mail, const char *username, const char *password)
{
	char	   *plain = psprintf("%c%s%c%s", '\1', username, '\1', password);
	int			len = strlen(plain);

	mail->username = pstrdup(username);
	mail->password = pstrdup(password);
	plain[0] = plain[strlen(username) + 1] = '\0';
	mail->secrets[0] = mail->password;
	mail->secrets[1] = webhook_text_base64(password, strlen(password));
	mail->secrets[2] = webhook_text_base64(plain, len);
}

static char *
copy_utf8(const char *text)
{
	char	   *utf8 = webhook_utf8(text, strlen(text));

	return utf8 == text ? pstrdup(text) : utf8;
}

/*
 * A mail that is to be sent, in a memory context of its own, which outlives the
 * turn once it has committed.
 */
static WebhookMail *
make_mail(uint64 row)
{
	MemoryContext context = AllocSetContextCreate(mail_context, "webhook mail",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	WebhookMail *mail = palloc0(sizeof(WebhookMail));
	const char *from = webhook_smtp_from[0] != '\0' ? webhook_smtp_from :
		psprintf("webhook@%s", webhook_mail_text_host_name());
	char	   *message_id;
	char	   *body;
	bool		isnull;

	mail->context = context;
	mail->mail_id = DatumGetInt64(webhook_statement_value(row, 1, &isnull));
	mail->attempts = DatumGetInt16(webhook_statement_value(row, 5, &isnull));
	mail->url = pstrdup(webhook_smtp_url);
	if (webhook_smtp_username[0] != '\0')
		set_credentials(mail, webhook_smtp_username, webhook_smtp_password);
	mail->sender = webhook_sender_plain_address(copy_utf8(webhook_mail_text_plain_address(from)));
	mail->recipient = webhook_sender_plain_address(copy_utf8(webhook_statement_text(row, 2)));

	/* The same whenever it is sent. */
	message_id = psprintf("webhook." UINT64_FORMAT ".%u." INT64_FORMAT "@%s",
						  GetSystemIdentifier(), MyDatabaseId, mail->mail_id,
						  strrchr(mail->sender, '@') != NULL ?
						  strrchr(mail->sender, '@') + 1 : "localhost");
	body = webhook_statement_text(row, 4);
	mail->message = webhook_mail_text_format(copy_utf8(from), mail->sender, mail->recipient,
											 webhook_statement_text(row, 3), body != NULL ? body : "", message_id);
	mail->message_len = strlen(mail->message);
	mail->needs_utf8 = !pg_is_ascii(mail->sender) || !pg_is_ascii(mail->recipient);
	mail->timeout = MAIL_TIMEOUT_MS;
	MemoryContextSwitchTo(old);
	return mail;
}

/* Returns the mails that are Dispatched once this transaction has committed. */
static List *
claim_mails(TimestampTz now)
{
	Oid			types[2] = {TIMESTAMPTZOID, INT4OID};
	Datum		values[2];
	int			limit = MAX_IN_FLIGHT - webhook_sender_mails_in_flight();
	List	   *mails = NIL;

	if (limit <= 0)
		return NIL;
	values[0] = TimestampTzGetDatum(now);
	values[1] = Int32GetDatum(limit);
	webhook_statement_execute(claim_sql, 2, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		WebhookMail *mail = make_mail(i);
		MemoryContext old = MemoryContextSwitchTo(mail_context);

		mails = lappend(mails, mail);
		MemoryContextSwitchTo(old);
	}
	return mails;
}

static TimestampTz
find_next_mail(void)
{
	Datum		value;
	bool		isnull;

	if (webhook_sender_mails_in_flight() >= MAX_IN_FLIGHT)
		return DT_NOEND;		/* the next answer calls for a turn */
	webhook_statement_execute(next_mail_sql, 0, NULL, NULL, NULL);
	value = webhook_statement_value(0, 1, &isnull);
	return isnull ? DT_NOEND : DatumGetTimestampTz(value);
}

/* ---------------------------------------------------------------------
 * The turn
 * ---------------------------------------------------------------------
 */

static void
purge(TimestampTz now)
{
	static TimestampTz next_purge = 0;
	Oid			types[1] = {TIMESTAMPTZOID};
	Datum		values[1];

	if (webhook_log_retention == 0 || now < next_purge)
		return;
	values[0] = TimestampTzGetDatum(now - Max(webhook_log_retention, webhook_mail_interval) *
									 USECS_PER_SEC);
	webhook_statement_execute(purge_sql, 1, types, values, NULL);
	next_purge = now + (SPI_processed > 0 ? POLL_US : 10 * POLL_US);
}

static void
forget_finished(void)
{
	ListCell   *lc;

	foreach(lc, finished)
		MemoryContextDelete(((WebhookMail *) lfirst(lc))->context);
	list_free(finished);
	finished = NIL;
}

static void
take_turn(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = now + (webhook_workers_per_database > 1 ? SHARED_POLL_US : POLL_US);
	TimestampTz digest_at;
	TimestampTz mail_at;
	List	   *mails = NIL;
	ListCell   *lc;

	webhook_transaction_begin("telling of failures by mail");
	MemoryContextSwitchTo(mail_context);
	SPI_connect();
	if (!is_recovered)
		webhook_statement_execute(recover_sql, 0, NULL, NULL, NULL);
	settle_mails(now);
	purge(now);
	if (webhook_mail_note_is_wanted())
	{
		webhook_trouble_tell();
		if (webhook_mail_digest_gather())
			next = now;
		digest_at = webhook_mail_digest_write(now);
		mails = claim_mails(GetCurrentTimestamp());
		mail_at = find_next_mail();
		next = Min(next, Min(digest_at, mail_at));
	}
	SPI_finish();
	webhook_transaction_commit();

	is_recovered = true;
	report_server(now);
	forget_finished();
	foreach(lc, mails)
	{
		WebhookMail *mail = lfirst(lc);

		MemoryContextSetParent(mail->context, TopMemoryContext);
		webhook_sender_send_mail(mail);
	}
	next_turn = next;
	last_turn = GetCurrentTimestamp();
	MemoryContextReset(mail_context);
}

void
webhook_mail_take_turn(void)
{
	ErrorData  *error = webhook_transaction_call(take_turn);

	if (error == NULL)
	{
		backoff = 0;
		backoff_until = 0;
		return;
	}
	FreeErrorData(error);
	backoff = backoff == 0 ? MIN_BACKOFF_US : Min(backoff * 2, MAX_BACKOFF_US);
	backoff_until = GetCurrentTimestamp() + backoff;
	MemoryContextReset(mail_context);
}

void
webhook_mail_init(void)
{
	mail_context = AllocSetContextCreate(TopMemoryContext, "webhook mail turn",
										 ALLOCSET_DEFAULT_SIZES);
}

void
webhook_mail_survey(void)
{
	next_turn = 0;
}

void
webhook_mail_collect(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	WebhookMail *mail;

	while ((mail = webhook_sender_done_mail()) != NULL)
	{
		finished = lappend(finished, mail);
		next_turn = 0;
	}
	MemoryContextSwitchTo(old);
}

TimestampTz
webhook_mail_next(void)
{
	/* Without a mail server there is nothing to do; a reload looks again. */
	if (!webhook_mail_note_is_wanted() && finished == NIL)
		return DT_NOEND;
	return Max(Max(next_turn, backoff_until), last_turn + TURN_PAUSE_US);
}

bool
webhook_mail_is_due(TimestampTz now)
{
	return now >= webhook_mail_next();
}

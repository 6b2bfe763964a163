/*-------------------------------------------------------------------------
 *
 * trouble.c
 *	  What keeps all requests from going out, and who is told of it.
 *
 * A proxy that is down, or a shortage of descriptors, is no receiver's failure:
 * deliveries stay Queued and cost no attempt, so that nobody would be told.  Once
 * nothing but that has happened for a while, the worker's state says so, the
 * server log has a line, and all active admins get a mail.
 *
 * Runs in workers.  Mails are written by the one that is number 0; what others
 * meet is in their slots.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "mail_digest.h"
#include "mail_text.h"
#include "miscadmin.h"
#include "settings.h"
#include "slot.h"
#include "statement.h"
#include "trouble.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define LASTING_US (5 * USECS_PER_SEC)
#define STALE_US (150 * USECS_PER_SEC)	/* more than between two tries */
#define MAX_COUNTED 10000

static TimestampTz since = 0;	/* the first failure; 0: none */
static TimestampTz failed_at = 0;	/* the last one */
static bool is_told = false;	/* in the server log and the slot */

static const char *const count_sql =
"SELECT count(*) FROM (SELECT FROM webhook.webhook_log"
" WHERE retry_at <= clock_timestamp() + interval '2 minutes' AND status = 'Queued'"
" LIMIT " CppAsString2(MAX_COUNTED) ") q";

/*
 * Those who have not been told of this trouble, nor of another one a short while
 * ago.  Of one address in two spellings, one.
 */
static const char *const recipients_sql =
"SELECT DISTINCT ON (lower(a.email)) a.email FROM webhook.admin a WHERE a.active"
" AND NOT EXISTS (SELECT FROM webhook.mail_log m WHERE m.action_id = 0"
" AND lower(m.recipient) = lower(a.email)"
" AND m.created_at > least($2, clock_timestamp() - make_interval(secs => $1)))"
" ORDER BY lower(a.email)";

/* ---------------------------------------------------------------------
 * What happens
 * ---------------------------------------------------------------------
 */

/* What was to be sent may have been canceled, or sent by another worker. */
static void
forget_stale(TimestampTz now)
{
	if (since == 0 || now - failed_at < STALE_US)
		return;
	if (is_told)
		webhook_slot_set_trouble(0);
	since = 0;
	is_told = false;
}

bool
webhook_trouble_is_lasting(void)
{
	forget_stale(GetCurrentTimestamp());
	return since != 0 && failed_at - since >= LASTING_US;
}

void
webhook_trouble_note(const char *reason)
{
	TimestampTz now = GetCurrentTimestamp();

	forget_stale(now);
	if (since == 0)
		since = now;
	failed_at = now;
	if (is_told || failed_at - since < LASTING_US)
		return;
	is_told = true;
	webhook_slot_set_error(reason);
	webhook_slot_set_trouble(since);
	ereport(WARNING,
			(errcode(ERRCODE_SYSTEM_ERROR),
			 errmsg("webhooks can't be sent since %s: %s", timestamptz_to_str(since), reason),
			 errhint("Deliveries wait, and go out once that is mended.")));
}

void
webhook_trouble_end(void)
{
	if (since == 0)
		return;
	if (is_told)
	{
		webhook_slot_set_trouble(0);
		ereport(LOG,
				(errcode(ERRCODE_SUCCESSFUL_COMPLETION),
				 errmsg("webhooks are sent again; they could not be since %s",
						timestamptz_to_str(since))));
	}
	since = 0;
	is_told = false;
}

/* ---------------------------------------------------------------------
 * Mails
 * ---------------------------------------------------------------------
 */

static char *
write_body(TimestampTz begin, const char *reason)
{
	char	   *database = get_database_name(MyDatabaseId);
	int64		n;
	bool		isnull;

	webhook_statement_execute(count_sql, 0, NULL, NULL, NULL);
	n = DatumGetInt64(webhook_statement_value(0, 1, &isnull));
	return psprintf("No webhook could be sent since %s, for a reason that is not a receiver's:\n"
					"  %s\n\n"
					"Database: %s on %s\n"
					"Waiting:  " INT64_FORMAT "%s deliveries\n\n"
					"They stay queued, which costs them no attempt, and go out by themselves once that\n"
					"is mended.\n\n"
					"To look further:\n"
					"  SELECT * FROM webhook.stat_worker;\n"
					"  SELECT error, count(*) FROM webhook.webhook_log WHERE status = 'Queued' GROUP BY error;\n",
					timestamptz_to_str(begin), reason,
					database != NULL ? database : "?", webhook_mail_text_host_name(),
					n, n == MAX_COUNTED ? " or more" : "");
}

void
webhook_trouble_tell(void)
{
	Oid			types[2] = {FLOAT8OID, TIMESTAMPTZOID};
	Datum		values[2];
	char		reason[WEBHOOK_ERROR_SIZE];
	TimestampTz begin = webhook_slot_find_trouble(reason);
	SPITupleTable *table;
	uint64		n;
	char	   *body;

	if (begin == 0 || webhook_mail_on == 0)
		return;
	values[0] = Float8GetDatum(webhook_mail_interval);
	values[1] = TimestampTzGetDatum(begin);
	webhook_statement_execute(recipients_sql, 2, types, values, NULL);
	table = SPI_tuptable;
	n = SPI_processed;
	if (n == 0)
		return;
	body = write_body(begin, reason);
	for (uint64 i = 0; i < n; i++)
		webhook_mail_digest_queue(0, webhook_catalog_owner(),
								  SPI_getvalue(table->vals[i], table->tupdesc, 1),
								  "[webhook] no webhook can be sent", body);
}

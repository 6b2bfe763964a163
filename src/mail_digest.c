/*-------------------------------------------------------------------------
 *
 * mail_digest.c
 *	  Who is told of which failures.
 *
 * What was noted (mail_note.c) is given the addresses that it is for, a batch at
 * a time, and gathers in one digest for each action and address: how many there
 * are, and the first of them as items.  So however many fail, little is kept,
 * and little is read again.  A digest that is due becomes a row of
 * webhook.mail_log.
 *
 * Runs in the worker that is number 0.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "complaint.h"
#include "executor/spi.h"
#include "guard.h"
#include "mail_digest.h"
#include "mail_note.h"
#include "mail_text.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "settings.h"
#include "statement.h"
#include "template.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#define GATHER_US (5 * USECS_PER_SEC)	/* failures come in company */
#define NOTE_BATCH 500			/* notes a turn, */
#define MIN_NOTE_BATCH 25		/* ... fewer where many admins get each */
#define MAIL_BATCH 50			/* mails a turn */
#define MAX_LISTED 50			/* deliveries in a mail */
#define MAX_ERROR 500			/* bytes of an error in a mail */

/* ---------------------------------------------------------------------
 * Statements
 * ---------------------------------------------------------------------
 */

static const char *const read_notes_sql =
"SELECT n.note_id, w.owner_email, l.operation, l.module::oid, l.record_id,"
" l.record, l.old_record, l.computed, l.webhook_id::text, l.attempts, l.queued_at, w.name"
" FROM webhook.mail_note n"
" LEFT JOIN webhook.webhook_log l ON l.log_id = n.log_id"
" LEFT JOIN webhook.workflow w ON w.workflow_id = l.workflow_id"
" ORDER BY n.note_id LIMIT (SELECT greatest(least(" CppAsString2(NOTE_BATCH) ", 4 * "
CppAsString2(NOTE_BATCH) " / greatest(count(*), 1)), " CppAsString2(MIN_NOTE_BATCH) ")"
" FROM webhook.admin WHERE active)";

/*
 * Ann@example.com is ann@example.com to every mail server that is known.  So an
 * address gets a note once, and has one digest, however often and in whatever
 * case it is given.
 *
 * No more of mail_note is looked at than the batch, however much is there, and
 * whatever the statistics say: it is empty most of the time.
 */
static const char *const gather_sql =
"WITH r AS (SELECT DISTINCT ON (x.note_id, lower(x.address)) x.*"
" FROM (SELECT n.*, a.email AS address FROM webhook.mail_note n, webhook.admin a"
" WHERE n.note_id = ANY ($1) AND a.active"
" UNION ALL SELECT n.*, o.address FROM unnest($2, $3) AS o (note_id, address),"
" LATERAL (SELECT * FROM webhook.mail_note q WHERE q.note_id = o.note_id OFFSET 0) n) x"
" ORDER BY x.note_id, lower(x.address), x.address),"
" numbered AS (SELECT r.*, coalesce(d.recipient, first_value(r.address) OVER w) AS recipient,"
" coalesce(d.n, 0) + row_number() OVER w AS nth"
" FROM r LEFT JOIN LATERAL (SELECT g.recipient, g.n FROM webhook.mail_digest g"
" WHERE g.action_id = r.action_id AND lower(g.recipient) = lower(r.address)"
" ORDER BY g.recipient LIMIT 1) d ON true"
" WINDOW w AS (PARTITION BY r.action_id, lower(r.address) ORDER BY r.note_id)),"
" items AS (INSERT INTO webhook.mail_digest_item (action_id, recipient, nth,"
" log_id, record_id, kind, error, retry_at)"
" SELECT action_id, recipient, nth, log_id, record_id, kind, error, retry_at"
" FROM numbered WHERE nth <= " CppAsString2(MAX_LISTED) "),"
" digests AS (INSERT INTO webhook.mail_digest AS d (action_id, recipient, n, first_at)"
" SELECT action_id, recipient, count(*), min(noted_at) FROM numbered GROUP BY 1, 2"
" ON CONFLICT (action_id, recipient) DO UPDATE SET n = d.n + excluded.n)"
" DELETE FROM webhook.mail_note WHERE note_id = ANY ($1)";

/* When each digest may be sent. */
static const char *const digests_sql =
"SELECT d.action_id, d.recipient, d.n, greatest(d.first_at + $1, s.last_at + $2) AS due_at"
" FROM webhook.mail_digest d"
" LEFT JOIN LATERAL (SELECT max(m.created_at) AS last_at FROM webhook.mail_log m"
" WHERE m.action_id = d.action_id AND lower(m.recipient) = lower(d.recipient)) s ON true"
" ORDER BY due_at LIMIT " CppAsString2(MAIL_BATCH);

static const char *const action_sql =
"SELECT a.title, w.name, w.module::text, w.owner::oid, a.enabled,"
" substring(a.url FROM '^[^:]+://([^/?#]+)'), w.module::oid"
" FROM webhook.action a JOIN webhook.workflow w ON w.workflow_id = a.workflow_id"
" WHERE a.action_id = $1";

/* As in the log, whichever failed first of what was under way at once. */
static const char *const items_sql =
"SELECT log_id, record_id, kind, error, retry_at FROM webhook.mail_digest_item"
" WHERE action_id = $1 AND recipient = $2 ORDER BY log_id, nth";

static const char *const write_mail_sql =
"INSERT INTO webhook.mail_log (action_id, owner, recipient, subject, body, status,"
" retry_at, error, completed_at)"
" VALUES ($1, $2, $3, $4, $5,"
" CASE WHEN $6 IS NULL THEN 'Queued' ELSE 'Failed' END::webhook.status,"
" CASE WHEN $6 IS NULL THEN clock_timestamp() END, $6,"
" CASE WHEN $6 IS NOT NULL THEN clock_timestamp() END)";

static const char *const drop_digest_sql =
"WITH items AS (DELETE FROM webhook.mail_digest_item"
" WHERE action_id = $1 AND recipient = $2)"
" DELETE FROM webhook.mail_digest WHERE action_id = $1 AND recipient = $2";

/* ---------------------------------------------------------------------
 * Addresses
 * ---------------------------------------------------------------------
 */

typedef struct OwnerFill
{
	const char *owner_email;
	WebhookEvent event;
	char	   *text;
} OwnerFill;

static void
fill_owner(void *arg)
{
	OwnerFill  *fill = arg;
	StringInfoData out;

	initStringInfo(&out);
	webhook_template_fill(webhook_template_parse(fill->owner_email, "owner_email"),
						  &fill->event, NULL, &out);
	fill->text = out.data;
}

/* Owners' addresses of a batch of notes. */
typedef struct Owners
{
	int			n;
	int			size;
	Datum	   *notes;
	Datum	   *addresses;
} Owners;

static void
add_owner(Owners *owners, int64 note_id, const char *address)
{
	if (owners->n == owners->size)
	{
		owners->size = Max(owners->size * 2, 64);
		owners->notes = owners->notes == NULL ? palloc(owners->size * sizeof(Datum)) :
			repalloc(owners->notes, owners->size * sizeof(Datum));
		owners->addresses = owners->addresses == NULL ? palloc(owners->size * sizeof(Datum)) :
			repalloc(owners->addresses, owners->size * sizeof(Datum));
	}
	owners->notes[owners->n] = Int64GetDatum(note_id);
	owners->addresses[owners->n++] = CStringGetTextDatum(address);
}

/* What kept the template from being filled: when the event was queued, or now. */
static const char *
find_reason(Jsonb *computed, const char *problem)
{
	JsonbValue	value;

	if (computed == NULL ||
		getKeyJsonValueFromContainer(&computed->root, WEBHOOK_OWNER_PROBLEM,
									 strlen(WEBHOOK_OWNER_PROBLEM), &value) == NULL)
		return problem;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* Whom the workflow's template names as the record's owner. */
static void
find_owners(Owners *owners, int64 note_id, uint64 row)
{
	OwnerFill	fill = {webhook_statement_text(row, 2)};
	bool		isnull;
	char	   *problem;
	const char *list;
	char	   *address;

	if (fill.owner_email == NULL)
		return;
	fill.event.operation = webhook_statement_text(row, 3);
	fill.event.module = get_rel_name(DatumGetObjectId(webhook_statement_value(row, 4, &isnull)));
	if (fill.event.module == NULL)
		fill.event.module = "record";
	fill.event.record_id = webhook_statement_text(row, 5);
	fill.event.record = webhook_statement_copy_jsonb(row, 6, CurrentMemoryContext);
	fill.event.old_record = webhook_statement_copy_jsonb(row, 7, CurrentMemoryContext);
	fill.event.computed = webhook_statement_copy_jsonb(row, 8, CurrentMemoryContext);
	fill.event.webhook_id = webhook_statement_text(row, 9);
	fill.event.attempt = DatumGetInt16(webhook_statement_value(row, 10, &isnull));
	fill.event.timestamp = DatumGetTimestampTz(webhook_statement_value(row, 11, &isnull));
	problem = webhook_guard_call(fill_owner, &fill);
	if (problem != NULL)
	{
		char	   *message = psprintf("owners of records can't be told of failures by workflow \"%s\": %s",
									   webhook_statement_text(row, 12),
									   find_reason(fill.event.computed, problem));

		if (webhook_complaint_is_new(ERRCODE_DATA_EXCEPTION, message))
			ereport(WARNING,
					(errcode(ERRCODE_DATA_EXCEPTION),
					 errmsg_internal("%s", message),
					 errdetail("Met with record \"%s\".",
							   fill.event.record_id != NULL ? fill.event.record_id : ""),
					 errhint("Correct owner_email with webhook.alter_workflow.")));
		return;
	}
	list = fill.text;
	while ((address = webhook_mail_text_next_address(&list)) != NULL)
		add_owner(owners, note_id, address);
}

bool
webhook_mail_digest_gather(void)
{
	Oid			types[3] = {INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID};
	Datum		values[3];
	Owners		owners = {0};
	Datum	   *notes;
	uint64		n;

	webhook_statement_execute(read_notes_sql, 0, NULL, NULL, NULL);
	n = SPI_processed;
	if (n == 0)
		return false;
	notes = palloc(n * sizeof(Datum));
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		int64		note_id = DatumGetInt64(webhook_statement_value(i, 1, &isnull));

		notes[i] = Int64GetDatum(note_id);
		find_owners(&owners, note_id, i);
	}
	values[0] = webhook_statement_array(notes, NULL, n, INT8OID);
	values[1] = webhook_statement_array(owners.notes, NULL, owners.n, INT8OID);
	values[2] = webhook_statement_array(owners.addresses, NULL, owners.n, TEXTOID);
	webhook_statement_execute(gather_sql, 3, types, values, NULL);
	return true;
}

/* ---------------------------------------------------------------------
 * Mails
 * ---------------------------------------------------------------------
 */

typedef struct Digest
{
	int32		action_id;
	char	   *recipient;
	int64		n;
	TimestampTz due_at;
} Digest;

/* An action as a mail speaks of it. */
typedef struct ActionInfo
{
	char	   *title;
	char	   *workflow;
	char	   *module;			/* with its schema */
	char	   *record;			/* without */
	Oid			owner;
	bool		enabled;
	char	   *host;
} ActionInfo;

/*
 * Text that a user or a record has written, with a space for each control
 * character: a key of several lines would pass for lines of the mail's own, with
 * statements that the reader is to run.
 */
static char *
as_line(char *text)
{
	for (char *p = text; p != NULL && *p != '\0'; p++)
	{
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			*p = ' ';
	}
	return text;
}

static void
read_action(int32 action_id, ActionInfo *info)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1];
	bool		isnull;

	memset(info, 0, sizeof(ActionInfo));
	values[0] = Int32GetDatum(action_id);
	webhook_statement_execute(action_sql, 1, types, values, NULL);
	if (SPI_processed == 0)
	{
		/* It was dropped meanwhile. */
		info->title = psprintf("action %d", action_id);
		info->workflow = info->module = info->host = "?";
		info->record = "record";
		info->owner = webhook_catalog_owner();
		info->enabled = true;
		return;
	}
	info->title = as_line(webhook_statement_text(0, 1));
	info->workflow = as_line(webhook_statement_text(0, 2));
	info->module = as_line(webhook_statement_text(0, 3));
	info->owner = DatumGetObjectId(webhook_statement_value(0, 4, &isnull));
	info->enabled = DatumGetBool(webhook_statement_value(0, 5, &isnull));
	info->host = webhook_statement_text(0, 6);
	if (info->host == NULL)
		info->host = "?";
	info->record = get_rel_name(DatumGetObjectId(webhook_statement_value(0, 7, &isnull)));
	if (info->record == NULL)
		info->record = info->module;
	as_line(info->record);
}

static void
append_delivery(StringInfo body, uint64 row)
{
	char	   *record_id = as_line(webhook_statement_text(row, 2));
	char	   *kind = webhook_statement_text(row, 3);
	char	   *error = as_line(webhook_statement_text(row, 4));
	char	   *retry_at = webhook_statement_text(row, 5);

	appendStringInfo(body, "  record %s (delivery %s)\n    %.*s\n    %s%s\n",
					 record_id != NULL ? record_id : "without key", webhook_statement_text(row, 1),
					 pg_mbcliplen(error, strlen(error), MAX_ERROR), error,
					 retry_at != NULL ? "is tried again at " :
					 strcmp(kind, "gone") == 0 ?
					 "is given up: the receiver says that it is gone for good" :
					 "is given up", retry_at != NULL ? retry_at : "");
}

static char *
write_body(const Digest *digest, const ActionInfo *info, char **subject)
{
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2];
	StringInfoData body;
	char	   *database = get_database_name(MyDatabaseId);
	char	   *first_log;
	char	   *first_record;
	bool		is_final = true;

	values[0] = Int32GetDatum(digest->action_id);
	values[1] = CStringGetTextDatum(digest->recipient);
	webhook_statement_execute(items_sql, 2, types, values, NULL);
	if (SPI_processed == 0)
		elog(ERROR, "a mail to \"%s\" has nothing to tell of", digest->recipient);
	first_log = webhook_statement_text(0, 1);
	first_record = as_line(webhook_statement_text(0, 2));
	for (uint64 i = 0; i < SPI_processed; i++)
		is_final = is_final && webhook_statement_text(i, 5) == NULL;

	if (digest->n == 1)
		*subject = psprintf("[webhook] \"%s\" %s for %s %s", info->title,
							is_final ? "was given up" : "failed", info->record,
							first_record != NULL ? first_record : "record");
	else
		*subject = psprintf("[webhook] \"%s\" %s for " INT64_FORMAT " records of %s",
							info->title, is_final ? "was given up" : "failed",
							digest->n, info->record);

	initStringInfo(&body);
	appendStringInfo(&body,
					 "The webhook \"%s\" of workflow \"%s\" on %s could not be delivered.\n"
					 "Receiver: %s\n"
					 "Database: %s on %s\n\n",
					 info->title, info->workflow, info->module, info->host,
					 database != NULL ? database : "?", webhook_mail_text_host_name());
	if (!info->enabled)
		appendStringInfo(&body,
						 "The action is disabled: it queues nothing new, and what is queued waits. When\n"
						 "its URL is right again:\n"
						 "  SELECT webhook.enable_action(%d);\n\n", digest->action_id);
	for (uint64 i = 0; i < SPI_processed; i++)
		append_delivery(&body, i);
	if (digest->n > (int64) SPI_processed)
		appendStringInfo(&body, "  and " INT64_FORMAT " more\n",
						 digest->n - (int64) SPI_processed);
	if (is_final)
		appendStringInfoString(&body, "\nNothing more is done by itself.");
	else
		appendStringInfoString(&body, "\nWhat has a time above is tried again by itself.");
	appendStringInfoString(&body, " To look further, in the database:\n");
	if (digest->n == 1)
		appendStringInfo(&body,
						 "  SELECT * FROM webhook.webhook_log WHERE log_id = %s;\n"
						 "  SELECT * FROM webhook.webhook_attempt WHERE log_id = %s;\n"
						 "To send it again at once, when the receiver is right again:\n"
						 "  SELECT webhook.retry(%s);\n", first_log, first_log, first_log);
	else
		appendStringInfo(&body,
						 "  SELECT * FROM webhook.webhook_log WHERE action_id = %d AND status = 'Failed';\n"
						 "To send all that failed again at once, when the receiver is right again:\n"
						 "  SELECT webhook.retry_failed(%d);\n",
						 digest->action_id, digest->action_id);
	return body.data;
}

void
webhook_mail_digest_queue(int32 action_id, Oid owner, const char *recipient,
						  const char *subject, const char *body)
{
	Oid			types[6] = {INT4OID, OIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[6];
	char		nulls[6] = {' ', ' ', ' ', ' ', ' ', ' '};

	values[0] = Int32GetDatum(action_id);
	values[1] = ObjectIdGetDatum(owner);
	values[2] = CStringGetTextDatum(recipient);
	values[3] = CStringGetTextDatum(subject);
	values[4] = CStringGetTextDatum(body);
	if (webhook_mail_text_is_address(recipient))
		nulls[5] = 'n';
	else
		values[5] = CStringGetTextDatum("this can't be a mail address; nothing was sent");
	webhook_statement_execute(write_mail_sql, 6, types, values, nulls);
}

/* One mail, and its digest is done with. */
static void
write_mail(const Digest *digest)
{
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2];
	ActionInfo	info;
	char	   *subject;
	char	   *body;

	read_action(digest->action_id, &info);
	body = write_body(digest, &info, &subject);
	webhook_mail_digest_queue(digest->action_id, info.owner, digest->recipient, subject, body);
	values[0] = Int32GetDatum(digest->action_id);
	values[1] = CStringGetTextDatum(digest->recipient);
	webhook_statement_execute(drop_digest_sql, 2, types, values, NULL);
}

static Datum
to_interval(int64 usecs)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = usecs;
	return IntervalPGetDatum(interval);
}

TimestampTz
webhook_mail_digest_write(TimestampTz now)
{
	Oid			types[2] = {INTERVALOID, INTERVALOID};
	Datum		values[2];
	int64		interval = webhook_mail_interval * USECS_PER_SEC;
	Digest	   *digests;
	uint64		n;
	TimestampTz next = DT_NOEND;

	values[0] = to_interval(Min(interval, GATHER_US));
	values[1] = to_interval(interval);
	webhook_statement_execute(digests_sql, 2, types, values, NULL);
	n = SPI_processed;
	digests = palloc((n + 1) * sizeof(Digest));
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		digests[i].action_id = DatumGetInt32(webhook_statement_value(i, 1, &isnull));
		digests[i].recipient = webhook_statement_text(i, 2);
		digests[i].n = DatumGetInt64(webhook_statement_value(i, 3, &isnull));
		digests[i].due_at = DatumGetTimestampTz(webhook_statement_value(i, 4, &isnull));
	}
	for (uint64 i = 0; i < n; i++)
	{
		if (digests[i].due_at > now)
			return digests[i].due_at;
		write_mail(&digests[i]);
		next = i == MAIL_BATCH - 1 ? now : DT_NOEND;
	}
	return next;
}

/*-------------------------------------------------------------------------
 *
 * mail_note.c
 *	  The failures that somebody is to be told of are noted.
 *
 * A failure is noted by the transaction that settles it, or that queues what
 * can't be sent, with no more than a row: whom to tell, and when, is found out
 * later (mail_digest.c).  What nobody would be told of is not noted at all.
 *
 * Runs in every worker; webhook_mail_note_queued in sessions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "catalog/pg_type.h"
#include "commit.h"
#include "executor/spi.h"
#include "log_row.h"
#include "mail_note.h"
#include "settings.h"
#include "statement.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static const char *const note_sql =
"INSERT INTO webhook.mail_note (action_id, log_id, record_id, kind, error, retry_at)"
" SELECT n.action_id, n.log_id, n.record_id, n.kind, n.error, n.retry_at"
" FROM unnest($1, $2, $3, $4, $5, $6)"
" AS n (action_id, log_id, record_id, kind, error, retry_at)"
" WHERE EXISTS (SELECT FROM webhook.admin WHERE active)"
" OR EXISTS (SELECT FROM webhook.action a JOIN webhook.workflow w"
" ON w.workflow_id = a.workflow_id"
" WHERE a.action_id = n.action_id AND w.owner_email IS NOT NULL)";

bool
webhook_mail_note_is_wanted(void)
{
	return webhook_smtp_url != NULL && webhook_smtp_url[0] != '\0';
}

/* What is to be told of a result; NULL: nothing. */
static const char *
get_kind(const WebhookResult *result)
{
	if (result->verdict != WEBHOOK_FAILED && result->verdict != WEBHOOK_UNSENDABLE)
		return NULL;
	if (result->http_status == 410)
		return "gone";
	if (result->retry_at == 0)
		return (webhook_mail_on & WEBHOOK_MAIL_FINAL) != 0 ||
			((webhook_mail_on & WEBHOOK_MAIL_FIRST) != 0 && result->retries <= 1) ||
			(webhook_mail_on & WEBHOOK_MAIL_EVERY) != 0 ? "final" : NULL;
	if ((webhook_mail_on & WEBHOOK_MAIL_EVERY) != 0 ||
		((webhook_mail_on & WEBHOOK_MAIL_FIRST) != 0 && result->retries == 1))
		return "failed";
	return NULL;
}

bool
webhook_mail_note_results(List *results)
{
	static const Oid element_types[6] = {
		INT4OID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID
	};
	Oid			types[6] = {
		INT4ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
		TIMESTAMPTZARRAYOID
	};
	Datum	   *columns[6];
	bool	   *nulls[6];
	Datum		values[6];
	ListCell   *lc;
	int			n = 0;
	bool		is_noted;

	if (!webhook_mail_note_is_wanted())
		return false;
	foreach(lc, results)
	{
		if (get_kind(lfirst(lc)) != NULL)
			n++;
	}
	if (n == 0)
		return false;
	for (int i = 0; i < lengthof(columns); i++)
	{
		columns[i] = palloc0(n * sizeof(Datum));
		nulls[i] = palloc0(n * sizeof(bool));
	}
	n = 0;
	foreach(lc, results)
	{
		WebhookResult *result = lfirst(lc);
		const char *kind = get_kind(result);

		if (kind == NULL)
			continue;
		columns[0][n] = Int32GetDatum(result->action_id);
		columns[1][n] = Int64GetDatum(result->log_id);
		nulls[2][n] = result->record_id == NULL;
		if (result->record_id != NULL)
			columns[2][n] = CStringGetTextDatum(result->record_id);
		columns[3][n] = CStringGetTextDatum(kind);
		columns[4][n] = CStringGetTextDatum(result->error != NULL ? result->error : "");
		nulls[5][n] = result->retry_at == 0;
		columns[5][n] = TimestampTzGetDatum(result->retry_at);
		n++;
	}
	for (int i = 0; i < lengthof(columns); i++)
		values[i] = webhook_statement_array(columns[i], nulls[i], n, element_types[i]);
	SPI_connect();
	webhook_statement_execute(note_sql, 6, types, values, NULL);
	is_noted = SPI_processed > 0;
	SPI_finish();
	return is_noted;
}

void
webhook_mail_note_queued(int64 log_id, int32 action_id, const char *record_id,
						 const char *error)
{
	WebhookResult result = {0};
	WebhookScope scope;

	if (!webhook_mail_note_is_wanted())
		return;
	result.verdict = WEBHOOK_UNSENDABLE;
	result.log_id = log_id;
	result.action_id = action_id;
	result.record_id = unconstify(char *, record_id);
	result.error = unconstify(char *, error);
	webhook_scope_enter(&scope, webhook_catalog_owner());
	(void) webhook_mail_note_results(list_make1(&result));
	webhook_scope_leave(&scope);
	webhook_commit_rescan();
}

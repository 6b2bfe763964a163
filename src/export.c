/*-------------------------------------------------------------------------
 *
 * export.c
 *	  Workflows as a document: webhook.export.
 *
 * Runs in sessions.  What is exported is what the caller may see, without
 * secrets, as JSON that is fit for version control: names in a fixed order, a
 * line each, what has its default left out.  document.c reads it; a name that is
 * new here has to be known there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "record.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(export);

/* What is null has its default and is left out. */
static const char *const export_sql =
"SELECT E'{\\n  \"format\": 1,\\n  \"workflows\": ['"
" || coalesce(string_agg(w.text, ',' ORDER BY w.name COLLATE \"C\") || E'\\n  ', '')"
" || E']\\n}'"
" FROM (SELECT w.name, E'\\n    {' || (SELECT string_agg(E'\\n      '"
"   || to_json(p.key)::text || ': ' || p.value, ',' ORDER BY p.n)"
"  FROM (VALUES (1, 'name', to_json(w.name)::text),"
"   (2, 'module', to_json(quote_ident(n.nspname) || '.' || quote_ident(c.relname))::text),"
"   (3, 'trigger', to_json(w.trigger)::text),"
"   (4, 'condition', to_json(w.condition)::text),"
"   (5, 'recurrence', to_json(nullif(w.recurrence, 'every'))::text),"
"   (6, 'schedule', to_json(w.schedule)::text),"
"   (7, 'owner_email', to_json(w.owner_email)::text),"
"   (8, 'description', to_json(w.description)::text),"
"   (9, 'enabled', CASE WHEN NOT w.enabled THEN 'false' END),"
"   (10, 'actions', '[' || (SELECT string_agg(a.text, ',' ORDER BY a.action_id)"
"     || E'\\n      '"
"    FROM (SELECT a.action_id, E'\\n        {' || (SELECT string_agg(E'\\n          '"
"       || to_json(q.key)::text || ': ' || q.value, ',' ORDER BY q.n)"
"      FROM (VALUES (1, 'title', to_json(a.title)::text),"
"       (2, 'description', to_json(a.description)::text),"
"       (3, 'url', to_json(a.url)::text),"
"       (4, 'method', to_json(a.method)::text),"
"       (5, 'content_type', to_json(a.content_type)::text),"
"       (6, 'parameters', a.parameters::text),"
"       (7, 'headers', a.headers::text),"
"       (8, 'username', to_json(a.username)::text),"
"       (9, 'signed', CASE WHEN s.signing_secret IS NOT NULL THEN 'true' END),"
"       (10, 'client_certificate', to_json(a.client_certificate)::text),"
"       (11, 'timeout', to_json(a.timeout::text)::text),"
"       (12, 'retry_schedule', to_json(a.retry_schedule::text[])::text),"
"       (13, 'ordered', CASE WHEN a.ordered THEN 'true' END),"
"       (14, 'max_in_flight', a.max_in_flight::text),"
"       (15, 'rate_limit', a.rate_limit::text),"
"       (16, 'enabled', CASE WHEN NOT a.enabled THEN 'false' END)"
"      ) q (n, key, value) WHERE q.value IS NOT NULL) || E'\\n        }' AS text"
"     FROM webhook.action a LEFT JOIN webhook.action_secret s"
"      ON s.action_id = a.action_id"
"     WHERE a.workflow_id = w.workflow_id) a) || ']')"
"  ) p (n, key, value) WHERE p.value IS NOT NULL) || E'\\n    }' AS text"
"  FROM webhook.workflow w JOIN pg_class c ON c.oid = w.module::oid"
"  JOIN pg_namespace n ON n.oid = c.relnamespace"
"  WHERE pg_has_role($1, w.owner::oid, 'MEMBER')) w";

/*
 * webhook.export() returns json
 *		All workflows and actions that the caller may see; no secrets.
 */
Datum
export(PG_FUNCTION_ARGS)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1];
	MemoryContext context = CurrentMemoryContext;
	int			level = webhook_record_enter_output();
	char	   *text;
	WebhookScope scope;

	values[0] = ObjectIdGetDatum(GetUserId());
	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	if (SPI_execute_with_args(export_sql, 1, types, values, NULL, true, 0) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not read the workflows");
	text = MemoryContextStrdup(context, SPI_getvalue(SPI_tuptable->vals[0],
													 SPI_tuptable->tupdesc, 1));
	SPI_finish();
	webhook_scope_leave(&scope);
	webhook_record_leave_output(level);
	PG_RETURN_DATUM(CStringGetTextDatum(text));
}

/*-------------------------------------------------------------------------
 *
 * document.c
 *	  A document that is imported, read beside what there is already.
 *
 * Documents are those of export.c, or written by hand: names that are misspelt
 * and values of the wrong type are found before anything is changed.
 *
 * Runs in sessions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "document.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "statement.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* Names that are none of ours; a name that is misspelt must not be ignored. */
static const char *const unknown_sql =
"SELECT format('\"%s\" of %s', k.key, k.place), k.known FROM ("
" SELECT 'the document' AS place, json_object_keys($1) AS key,"
"  ARRAY['format', 'workflows'] AS known"
" UNION ALL"
" SELECT format('workflow \"%s\"', w->>'name'), json_object_keys(w),"
"  ARRAY['name', 'module', 'trigger', 'condition', 'recurrence', 'schedule',"
"  'owner_email', 'description', 'enabled', 'actions']"
" FROM json_array_elements($1->'workflows') w"
" UNION ALL"
" SELECT format('action \"%s\" of workflow \"%s\"', a->>'title', w->>'name'),"
"  json_object_keys(a),"
"  ARRAY['title', 'description', 'url', 'method', 'content_type', 'parameters',"
"  'headers', 'username', 'signed', 'client_certificate', 'timeout',"
"  'retry_schedule', 'ordered', 'max_in_flight', 'rate_limit', 'enabled']"
" FROM json_array_elements($1->'workflows') w,"
"  json_array_elements(w->'actions') a) k"
" WHERE k.key <> ALL (k.known) LIMIT 1";

/* Values that must be of another type than text, before that is asked of them. */
static const char *const values_sql =
"SELECT format('workflow \"%s\"', w->>'name'), 'boolean', w->>'enabled'"
" FROM json_array_elements($1->'workflows') w"
" UNION ALL "
"SELECT format('action \"%s\" of workflow \"%s\"', a->>'title', w->>'name'), v.type, v.value"
" FROM json_array_elements($1->'workflows') w, json_array_elements(w->'actions') a,"
" LATERAL (VALUES ('boolean', a->>'signed'), ('boolean', a->>'ordered'),"
"  ('boolean', a->>'enabled'), ('interval', a->>'timeout'),"
"  ('integer', a->>'max_in_flight'), ('integer', a->>'rate_limit')) v (type, value)"
" UNION ALL "
"SELECT format('action \"%s\" of workflow \"%s\"', a->>'title', w->>'name'), 'interval', r"
" FROM json_array_elements($1->'workflows') w, json_array_elements(w->'actions') a,"
" json_array_elements_text(a->'retry_schedule') r";

static const char *const workflows_sql =
"SELECT d.name, d.module, d.trigger, d.condition, d.recurrence, d.schedule,"
" d.owner_email, d.description, d.enabled::text, d.actions, w.workflow_id::text,"
" w.module::oid::text, w.enabled::text,"
" (d.trigger, d.condition, d.recurrence, d.schedule, d.owner_email, d.description)"
" IS NOT DISTINCT FROM"
" (w.trigger, w.condition, w.recurrence, w.schedule, w.owner_email, w.description)"
" FROM (SELECT n, w->>'name' AS name, w->>'module' AS module,"
"  lower(coalesce(w->>'trigger', 'save')) AS trigger,"
"  nullif(w->>'condition', '') AS condition,"
"  lower(coalesce(w->>'recurrence', 'every')) AS recurrence,"
"  nullif(w->>'schedule', '') AS schedule,"
"  nullif(w->>'owner_email', '') AS owner_email,"
"  nullif(w->>'description', '') AS description,"
"  coalesce((w->>'enabled')::boolean, true) AS enabled,"
"  (w->'actions')::text AS actions"
"  FROM json_array_elements($1->'workflows') WITH ORDINALITY e (w, n)) d"
" LEFT JOIN webhook.workflow w ON w.name = d.name"
" AND " WEBHOOK_MAY_ACT_AS("$2", "w.owner::oid")
" ORDER BY d.n";

/*
 * What an action is but for its title and whether it is enabled.  JSON is
 * compared with the order of its names, which is the order of the body, but not
 * with its white space.
 */
#define ACTION_CONTENT \
" ROW(description, url, method, content_type, parameters::jsonb," \
"  ARRAY(SELECT json_object_keys(CASE WHEN json_typeof(parameters) = 'object'" \
"   THEN parameters END)), headers::jsonb, username, client_certificate," \
"  timeout, retry_schedule, ordered, max_in_flight, rate_limit) AS content"

/*
 * Actions are known by their titles, several of one title by their order; and
 * one that is new has the place of one that is missing, if nothing but the title
 * tells them apart.
 */
static const char *const actions_sql =
"WITH v AS (SELECT n, a->>'title' AS title, nullif(a->>'description', '') AS description,"
"  a->>'url' AS url, upper(coalesce(a->>'method', 'POST')) AS method,"
"  upper(coalesce(a->>'content_type', 'JSON')) AS content_type,"
"  CASE WHEN json_typeof(a->'parameters') <> 'null' THEN a->'parameters' END AS parameters,"
"  CASE WHEN json_typeof(a->'headers') <> 'null' THEN a->'headers' END AS headers,"
"  nullif(a->>'username', '') AS username, coalesce((a->>'signed')::boolean, false) AS signed,"
"  nullif(a->>'client_certificate', '') AS client_certificate,"
"  (a->>'timeout')::interval AS timeout,"
"  CASE WHEN json_typeof(a->'retry_schedule') = 'array' THEN"
"   ARRAY(SELECT json_array_elements_text(a->'retry_schedule')::interval) END AS retry_schedule,"
"  coalesce((a->>'ordered')::boolean, false) AS ordered,"
"  (a->>'max_in_flight')::integer AS max_in_flight,"
"  (a->>'rate_limit')::integer AS rate_limit,"
"  coalesce((a->>'enabled')::boolean, true) AS enabled,"
"  row_number() OVER (PARTITION BY a->>'title' ORDER BY n) AS nth"
"  FROM json_array_elements($1) WITH ORDINALITY e (a, n)),"
" d AS (SELECT v.*," ACTION_CONTENT " FROM v),"
" o AS (SELECT a.*, row_number() OVER (PARTITION BY title ORDER BY action_id) AS nth,"
 ACTION_CONTENT " FROM webhook.action a WHERE workflow_id = $2),"
" same AS (SELECT d.n, o.action_id FROM d JOIN o ON o.title = d.title AND o.nth = d.nth),"
" created AS (SELECT n, content, row_number() OVER (PARTITION BY content ORDER BY n) AS nth"
"  FROM d WHERE n NOT IN (SELECT n FROM same)),"
" missing AS (SELECT action_id, content, row_number() OVER (PARTITION BY content"
"  ORDER BY enabled DESC, action_id) AS nth"
"  FROM o WHERE action_id NOT IN (SELECT action_id FROM same)),"
" p AS (SELECT * FROM same UNION ALL SELECT c.n, m.action_id FROM created c JOIN missing m"
"  ON m.content IS NOT DISTINCT FROM c.content AND m.nth = c.nth) "
"SELECT coalesce(d.title, o.title), d.description, d.url, d.method, d.content_type,"
" d.parameters::text, d.headers::text, d.username, d.signed::text, d.client_certificate,"
" d.timeout::text, d.retry_schedule::text, d.ordered::text, d.max_in_flight::text,"
" d.rate_limit::text, d.enabled::text, o.action_id::text, o.enabled::text,"
" d.title = o.title AND d.content IS NOT DISTINCT FROM o.content,"
" (d.n IS NOT NULL)::text,"
" EXISTS (SELECT FROM webhook.webhook_log l WHERE l.action_id = o.action_id"
"  AND l.retry_at IS NOT NULL)"
" FROM d LEFT JOIN p ON p.n = d.n FULL JOIN o ON o.action_id = p.action_id"
" ORDER BY d.n, o.enabled, o.action_id";

/* Rows (char **) of a query on a document, in the current memory context. */
static List *
read_rows(const char *sql, int n_args, Oid *types, Datum *values, int n_columns)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *rows = NIL;
	WebhookScope scope;

	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	webhook_statement_execute(sql, n_args, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	  **row = MemoryContextAllocZero(context, n_columns * sizeof(char *));
		MemoryContext old;

		for (int j = 0; j < n_columns; j++)
			row[j] = webhook_statement_copy_text(i, j + 1, context);
		old = MemoryContextSwitchTo(context);
		rows = lappend(rows, row);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	webhook_scope_leave(&scope);
	return rows;
}

static void
on_value_error(void *arg)
{
	errcontext("%s", (char *) arg);
}

static void
check_values(Datum document)
{
	Oid			types[1] = {JSONOID};
	ListCell   *lc;

	foreach(lc, read_rows(values_sql, 1, types, &document, 3))
	{
		char	  **row = lfirst(lc);
		ErrorContextCallback callback;
		Oid			input;
		Oid			param;

		if (row[2] == NULL)
			continue;
		callback.callback = on_value_error;
		callback.arg = row[0];
		callback.previous = error_context_stack;
		error_context_stack = &callback;
		getTypeInputInfo(row[1][0] == 'b' ? BOOLOID :
						 strcmp(row[1], "interval") == 0 ? INTERVALOID : INT4OID,
						 &input, &param);
		(void) OidInputFunctionCall(input, row[2], param, -1);
		error_context_stack = callback.previous;
	}
}

void
webhook_document_check(Datum document)
{
	Oid			types[1] = {JSONOID};
	List	   *rows;
	char	  **row;

	rows = read_rows("SELECT json_typeof($1), $1->>'format',"
					 " json_typeof($1->'workflows')", 1, types, &document, 3);
	row = linitial(rows);
	if (strcmp(row[0], "object") != 0 ||
		row[2] == NULL || strcmp(row[2], "array") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the document is not one of webhook.export"),
				 errhint("It is an object with an array \"workflows\".")));
	if (row[1] != NULL && strcmp(row[1], "1") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("documents of format %s are not known to this version",
						row[1])));
	if (read_rows("SELECT 1 FROM json_array_elements($1->'workflows') w"
				  " WHERE json_typeof(w) <> 'object'"
				  " OR json_typeof(w->'actions') <> 'array' LIMIT 1",
				  1, types, &document, 1) != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a workflow of the document is not one of webhook.export"),
				 errhint("It is an object, and its \"actions\" are an array.")));
	if (read_rows("SELECT 1 FROM json_array_elements($1->'workflows') w,"
				  " json_array_elements(w->'actions') a"
				  " WHERE json_typeof(a) <> 'object'"
				  " OR json_typeof(a->'retry_schedule') <> 'array' LIMIT 1",
				  1, types, &document, 1) != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an action of the document is not one of webhook.export"),
				 errhint("It is an object, and its \"retry_schedule\", if it has one, is an array.")));
	rows = read_rows(unknown_sql, 1, types, &document, 2);
	if (rows != NIL)
	{
		row = linitial(rows);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown name in the document: %s", row[0]),
				 errdetail("There are %s.", row[1]),
				 errhint("Secrets are not part of a document: set them with webhook.alter_action.")));
	}
	check_values(document);
	rows = read_rows("SELECT w->>'name' FROM json_array_elements($1->'workflows') w"
					 " GROUP BY 1 HAVING count(*) > 1", 1, types, &document, 1);
	if (rows != NIL)
	{
		row = linitial(rows);
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("workflow \"%s\" is in the document more than once",
						row[0] != NULL ? row[0] : "")));
	}
	rows = read_rows("SELECT w->>'name', k FROM json_array_elements($1->'workflows') w,"
					 " json_array_elements(w->'actions') a, unnest(ARRAY['title', 'url']) k"
					 " WHERE a->>k IS NULL LIMIT 1", 1, types, &document, 2);
	if (rows != NIL)
	{
		row = linitial(rows);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an action of workflow \"%s\" of the document has no \"%s\"",
						row[0] != NULL ? row[0] : "", row[1])));
	}
}

List *
webhook_document_workflows(Datum document)
{
	Oid			types[2] = {JSONOID, OIDOID};
	Datum		values[2];

	values[0] = document;
	values[1] = ObjectIdGetDatum(GetUserId());
	return read_rows(workflows_sql, 2, types, values, W_COUNT);
}

List *
webhook_document_actions(const char *actions, int32 workflow_id)
{
	Oid			types[2] = {JSONOID, INT4OID};
	Datum		values[2];

	values[0] = CStringGetTextDatum(actions == NULL ? "[]" : actions);
	values[1] = Int32GetDatum(workflow_id);
	return read_rows(actions_sql, 2, types, values, A_COUNT);
}

/*-------------------------------------------------------------------------
 *
 * import.c
 *	  Workflows are made as a document says: webhook.import.
 *
 * Runs in sessions.  An import goes through the same functions as a DBA's own
 * calls, with the caller's rights and search path, and so through all their
 * checks.  What is as the document says is left alone.  Documents are those of
 * export.c, or written by hand.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "settings.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(import);

extern Datum create_workflow(PG_FUNCTION_ARGS);
extern Datum alter_workflow(PG_FUNCTION_ARGS);
extern Datum enable_workflow(PG_FUNCTION_ARGS);
extern Datum create_action(PG_FUNCTION_ARGS);
extern Datum alter_action(PG_FUNCTION_ARGS);
extern Datum drop_action(PG_FUNCTION_ARGS);
extern Datum enable_action(PG_FUNCTION_ARGS);

/* ---------------------------------------------------------------------
 * Reading and checking
 * ---------------------------------------------------------------------
 */

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

/* A workflow of the document, and what there is of that name. */
enum
{
	W_NAME,
	W_MODULE,
	W_TRIGGER,
	W_CONDITION,
	W_RECURRENCE,
	W_SCHEDULE,
	W_OWNER_EMAIL,
	W_DESCRIPTION,
	W_ENABLED,
	W_ACTIONS,
	W_WORKFLOW_ID,				/* NULL: there is none */
	W_OLD_MODULE,
	W_OLD_ENABLED,
	W_IS_SAME,					/* but for module and enabled */
	W_COUNT
};

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
" AND pg_has_role($2, w.owner::oid, 'MEMBER')"
" ORDER BY d.n";

/* An action of the document, and the one of the same title there is. */
enum
{
	A_TITLE,
	A_DESCRIPTION,
	A_URL,
	A_METHOD,
	A_CONTENT_TYPE,
	A_PARAMETERS,
	A_HEADERS,
	A_USERNAME,
	A_SIGNED,
	A_CLIENT_CERTIFICATE,
	A_TIMEOUT,
	A_RETRY_SCHEDULE,
	A_ORDERED,
	A_MAX_IN_FLIGHT,
	A_RATE_LIMIT,
	A_ENABLED,
	A_ACTION_ID,				/* NULL: there is none */
	A_OLD_ENABLED,
	A_IS_SAME,					/* but for enabled */
	A_IN_DOCUMENT,
	A_IS_QUEUED,				/* it has something to send */
	A_COUNT
};

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

typedef char **Row;				/* values as text; NULL: null */

/* Rows (Row) of a query on the document, in the current memory context. */
static List *
read_rows(const char *sql, int n_args, Oid *types, Datum *values,
		  const char *nulls, int n_columns)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *rows = NIL;
	WebhookScope scope;

	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	if (SPI_execute_with_args(sql, n_args, types, values, nulls, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the document");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Row			row = MemoryContextAllocZero(context, n_columns * sizeof(char *));
		MemoryContext old;

		for (int j = 0; j < n_columns; j++)
		{
			char	   *value = SPI_getvalue(SPI_tuptable->vals[i],
											 SPI_tuptable->tupdesc, j + 1);

			row[j] = value == NULL ? NULL : MemoryContextStrdup(context, value);
		}
		old = MemoryContextSwitchTo(context);
		rows = lappend(rows, row);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	webhook_scope_leave(&scope);
	return rows;
}

static bool
is_true(const char *value)
{
	return value != NULL && value[0] == 't';
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

	foreach(lc, read_rows(values_sql, 1, types, &document, NULL, 3))
	{
		Row			row = lfirst(lc);
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

static void
check_document(Datum document)
{
	Oid			types[1] = {JSONOID};
	List	   *rows;

	rows = read_rows("SELECT json_typeof($1), $1->>'format',"
					 " json_typeof($1->'workflows')", 1, types, &document, NULL, 3);
	if (strcmp(((Row) linitial(rows))[0], "object") != 0 ||
		((Row) linitial(rows))[2] == NULL ||
		strcmp(((Row) linitial(rows))[2], "array") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the document is not one of webhook.export"),
				 errhint("It is an object with an array \"workflows\".")));
	if (((Row) linitial(rows))[1] != NULL &&
		strcmp(((Row) linitial(rows))[1], "1") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("documents of format %s are not known to this version",
						((Row) linitial(rows))[1])));
	if (read_rows("SELECT 1 FROM json_array_elements($1->'workflows') w"
				  " WHERE json_typeof(w) <> 'object'"
				  " OR json_typeof(w->'actions') <> 'array' LIMIT 1",
				  1, types, &document, NULL, 1) != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a workflow of the document is not one of webhook.export"),
				 errhint("It is an object, and its \"actions\" are an array.")));
	rows = read_rows(unknown_sql, 1, types, &document, NULL, 2);
	if (rows != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown name in the document: %s", ((Row) linitial(rows))[0]),
				 errdetail("There are %s.", ((Row) linitial(rows))[1]),
				 errhint("Secrets are not part of a document: set them with webhook.alter_action.")));
	check_values(document);
}

/* ---------------------------------------------------------------------
 * Carrying out
 * ---------------------------------------------------------------------
 */

/* Arguments of a function that is called as from SQL. */
typedef struct Call
{
	int			n;
	union
	{
		FunctionCallInfoBaseData fcinfo;
		char		space[SizeForFunctionCallInfo(FUNC_MAX_ARGS)];
	}			u;
} Call;

static void
add_datum(Call *call, Datum value, bool isnull)
{
	call->u.fcinfo.args[call->n].value = value;
	call->u.fcinfo.args[call->n++].isnull = isnull;
}

/* A text; in an alter_ function an empty one clears. */
static void
add_text(Call *call, const char *text, bool is_alter)
{
	if (text == NULL && is_alter)
		text = "";
	add_datum(call, text == NULL ? (Datum) 0 : CStringGetTextDatum(text), text == NULL);
}

static void
add_json(Call *call, const char *json, bool is_alter)
{
	add_text(call, json == NULL && is_alter ? "{}" : json, false);
}

/* A value of another type by its text; "empty" clears in an alter_ function. */
static void
add_value(Call *call, const char *text, Oid type, const char *empty, bool is_alter)
{
	Oid			input;
	Oid			param;

	if (text == NULL && is_alter)
		text = empty;
	if (text == NULL)
	{
		add_datum(call, (Datum) 0, true);
		return;
	}
	getTypeInputInfo(type, &input, &param);
	add_datum(call, OidInputFunctionCall(input, unconstify(char *, text), param, -1), false);
}

static Datum
finish_call(Call *call, PGFunction function)
{
	InitFunctionCallInfoData(call->u.fcinfo, NULL, call->n, InvalidOid, NULL, NULL);
	CommandCounterIncrement();
	return function(&call->u.fcinfo);
}

static void
report(ReturnSetInfo *result, const char *kind, const char *name, const char *done)
{
	Datum		values[3];
	bool		nulls[3] = {false};

	values[0] = CStringGetTextDatum(kind);
	values[1] = CStringGetTextDatum(name);
	values[2] = CStringGetTextDatum(done);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static int32
import_workflow(Row row, ReturnSetInfo *result)
{
	bool		is_alter = row[W_WORKFLOW_ID] != NULL;
	const char *done = "unchanged";
	Call		call = {0};
	int32		workflow_id;
	Datum		module;

	if (row[W_NAME] == NULL || row[W_MODULE] == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a workflow of the document has no %s",
						row[W_NAME] == NULL ? "\"name\"" : "\"module\"")));
	module = DirectFunctionCall1(regclassin, CStringGetDatum(row[W_MODULE]));
	workflow_id = is_alter ? pg_strtoint32(row[W_WORKFLOW_ID]) : 0;
	if (!is_alter || !is_true(row[W_IS_SAME]) ||
		DatumGetObjectId(module) != (Oid) strtoul(row[W_OLD_MODULE], NULL, 10))
	{
		Datum		value;

		add_text(&call, row[W_NAME], false);
		add_datum(&call, module, false);
		add_text(&call, row[W_TRIGGER], false);
		add_text(&call, row[W_CONDITION], is_alter);
		add_text(&call, row[W_RECURRENCE], false);
		add_text(&call, row[W_SCHEDULE], is_alter);
		add_text(&call, row[W_OWNER_EMAIL], is_alter);
		add_text(&call, row[W_DESCRIPTION], is_alter);
		value = finish_call(&call, is_alter ? alter_workflow : create_workflow);
		if (!is_alter)
			workflow_id = DatumGetInt32(value);
		done = is_alter ? "changed" : "created";
	}
	if (is_true(row[W_ENABLED]) != (is_alter ? is_true(row[W_OLD_ENABLED]) : true))
	{
		memset(&call, 0, sizeof(call));
		add_text(&call, row[W_NAME], false);
		add_datum(&call, BoolGetDatum(is_true(row[W_ENABLED])), false);
		(void) finish_call(&call, enable_workflow);
		if (is_alter)
			done = "changed";
	}
	report(result, "workflow", row[W_NAME], done);
	return workflow_id;
}

static void
set_action_enabled(int32 action_id, bool enabled)
{
	Call		call = {0};

	add_datum(&call, Int32GetDatum(action_id), false);
	add_datum(&call, BoolGetDatum(enabled), false);
	(void) finish_call(&call, enable_action);
}

/* Creates or alters it; returns action_id. */
static int32
write_action(Row row, const char *workflow)
{
	bool		is_alter = row[A_ACTION_ID] != NULL;
	Call		call = {0};
	Datum		value;

	if (is_alter)
		add_datum(&call, Int32GetDatum(pg_strtoint32(row[A_ACTION_ID])), false);
	else
		add_text(&call, workflow, false);
	add_text(&call, row[A_TITLE], false);
	add_text(&call, row[A_URL], false);
	add_text(&call, row[A_METHOD], false);
	add_text(&call, row[A_CONTENT_TYPE], false);
	add_json(&call, row[A_PARAMETERS], is_alter);
	add_text(&call, row[A_USERNAME], is_alter);
	add_datum(&call, (Datum) 0, true);	/* password */
	add_json(&call, row[A_HEADERS], is_alter);
	add_datum(&call, (Datum) 0, true);	/* signing secret */
	add_text(&call, row[A_CLIENT_CERTIFICATE], is_alter);
	add_text(&call, row[A_DESCRIPTION], is_alter);
	add_value(&call, row[A_TIMEOUT], INTERVALOID, "0", is_alter);
	add_value(&call, row[A_RETRY_SCHEDULE], INTERVALARRAYOID, "{}", is_alter);
	add_datum(&call, BoolGetDatum(is_true(row[A_ORDERED])), false);
	add_value(&call, row[A_MAX_IN_FLIGHT], INT4OID, "0", is_alter);
	add_value(&call, row[A_RATE_LIMIT], INT4OID, "0", is_alter);
	value = finish_call(&call, is_alter ? alter_action : create_action);
	return is_alter ? pg_strtoint32(row[A_ACTION_ID]) : DatumGetInt32(value);
}

static void
import_action(Row row, const char *workflow, ReturnSetInfo *result)
{
	char	   *name = psprintf("%s / %s", workflow, row[A_TITLE]);
	bool		is_alter = row[A_ACTION_ID] != NULL;
	bool		enabled = is_true(row[A_ENABLED]);
	const char *done = "unchanged";
	int32		action_id = is_alter ? pg_strtoint32(row[A_ACTION_ID]) : 0;

	if (!is_true(row[A_IN_DOCUMENT]))
	{
		/* Not dropped, for the sake of what it has queued: it waits. */
		enabled = false;
		ereport(NOTICE,
				(errmsg("webhook action %d (\"%s\") is not in the document and is disabled",
						action_id, name),
				 errhint("To drop it with what it has queued, call webhook.drop_action(%d).",
						 action_id)));
	}
	else if (!is_alter || !is_true(row[A_IS_SAME]))
	{
		action_id = write_action(row, workflow);
		done = is_alter ? "changed" : "created";
		if (!is_alter && (row[A_USERNAME] != NULL || is_true(row[A_SIGNED])))
			ereport(NOTICE,
					(errmsg("webhook action %d (\"%s\") lacks its %s", action_id, name,
							!is_true(row[A_SIGNED]) ? "password" :
							row[A_USERNAME] == NULL ? "signing secret" :
							"password and signing secret"),
					 errhint("A document holds no secrets: set them with webhook.alter_action.")));
	}
	if (enabled != (is_alter ? is_true(row[A_OLD_ENABLED]) : true))
	{
		set_action_enabled(action_id, enabled);
		if (is_alter)
			done = "changed";
	}
	report(result, "action", name, done);
}

/* How many of the actions that the document does not name are in others' way? */
static int
count_in_the_way(List *rows)
{
	int			n_there = 0;
	int			n_missing = 0;
	int			n_new = 0;
	ListCell   *lc;

	foreach(lc, rows)
	{
		Row			row = lfirst(lc);

		if (row[A_ACTION_ID] == NULL)
			n_new++;
		else
			n_there++;
		if (!is_true(row[A_IN_DOCUMENT]))
			n_missing++;
	}
	if (n_new == 0)
		return 0;
	return Min(Max(n_there + n_new - webhook_max_actions_per_workflow, 0), n_missing);
}

/* There is nothing of it to be sent. */
static void
drop_missing(Row row, const char *workflow, ReturnSetInfo *result)
{
	Call		call = {0};
	char	   *name = psprintf("%s / %s", workflow, row[A_TITLE]);

	add_datum(&call, Int32GetDatum(pg_strtoint32(row[A_ACTION_ID])), false);
	(void) finish_call(&call, drop_action);
	ereport(NOTICE,
			(errmsg("webhook action %s (\"%s\") is not in the document and is dropped",
					row[A_ACTION_ID], name),
			 errdetail("A workflow has room for %d actions, and all of its deliveries have ended.",
					   webhook_max_actions_per_workflow)));
	report(result, "action", name, "changed");
}

/*
 * The actions that the document does not name: disabled, or dropped where they
 * are in others' way.
 */
static void
import_missing(List *rows, const char *workflow, ReturnSetInfo *result)
{
	int			n_to_drop = count_in_the_way(rows);
	List	   *rest = NIL;
	ListCell   *lc;

	foreach(lc, rows)
	{
		Row			row = lfirst(lc);

		if (is_true(row[A_IN_DOCUMENT]))
			continue;
		if (n_to_drop > 0 && !is_true(row[A_IS_QUEUED]))
		{
			drop_missing(row, workflow, result);
			n_to_drop--;
		}
		else
			rest = lappend(rest, row);
	}
	foreach(lc, rest)
	{
		Row			row = lfirst(lc);

		if (n_to_drop > 0)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("workflow \"%s\" has no room for all actions of the document",
							workflow),
					 errdetail("Action %s (\"%s\") is not in the document, but has deliveries that have not ended.",
							   row[A_ACTION_ID], row[A_TITLE]),
					 errhint("Call webhook.drop_action(%s) to drop it with what it has queued, import the document once that is sent, or raise webhook.max_actions_per_workflow.",
							 row[A_ACTION_ID])));
		import_action(row, workflow, result);
	}
}

static void
import_actions(const char *actions, const char *workflow, int32 workflow_id,
			   ReturnSetInfo *result)
{
	Oid			types[2] = {JSONOID, INT4OID};
	Datum		values[2];
	List	   *rows;
	ListCell   *lc;

	values[0] = CStringGetTextDatum(actions == NULL ? "[]" : actions);
	values[1] = Int32GetDatum(workflow_id);
	rows = read_rows(actions_sql, 2, types, values, NULL, A_COUNT);

	/* Those that are to go make room first. */
	import_missing(rows, workflow, result);
	foreach(lc, rows)
	{
		if (is_true(((Row) lfirst(lc))[A_IN_DOCUMENT]))
			import_action(lfirst(lc), workflow, result);
	}
}

/*
 * webhook.import(document) returns table (kind, name, done)
 *		Create or change workflows and actions to be as a document of
 *		webhook.export says.
 */
Datum
import(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			types[2] = {JSONOID, OIDOID};
	Datum		values[2];
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, 0);
	values[0] = PG_GETARG_DATUM(0);
	values[1] = ObjectIdGetDatum(GetUserId());
	check_document(values[0]);
	foreach(lc, read_rows(workflows_sql, 2, types, values, NULL, W_COUNT))
	{
		Row			row = lfirst(lc);
		int32		workflow_id = import_workflow(row, result);

		CommandCounterIncrement();
		import_actions(row[W_ACTIONS], row[W_NAME], workflow_id, result);
	}
	return (Datum) 0;
}

/*-------------------------------------------------------------------------
 *
 * import.c
 *	  Workflows are made as a document says: webhook.import.
 *
 * Runs in sessions.  An import goes through the same functions as a DBA's own
 * calls, with the caller's rights and search path, and so through all their
 * checks.  What is as the document says is left alone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "action.h"
#include "argument.h"
#include "catalog/pg_type.h"
#include "document.h"
#include "fmgr.h"
#include "funcapi.h"
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
extern Datum drop_action(PG_FUNCTION_ARGS);
extern Datum enable_action(PG_FUNCTION_ARGS);

typedef char **Row;				/* of document.h */

/* What an error is about. */
static void
on_error(void *arg)
{
	errcontext("import of %s", (char *) arg);
}

static void
push_context(ErrorContextCallback *callback, char *what)
{
	callback->callback = on_error;
	callback->arg = what;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

static bool
is_true(const char *value)
{
	return value != NULL && value[0] == 't';
}

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

/* A text; in alter_workflow an empty one clears. */
static void
add_text(Call *call, const char *text, bool is_alter)
{
	if (text == NULL && is_alter)
		text = "";
	add_datum(call, text == NULL ? (Datum) 0 : CStringGetTextDatum(text), text == NULL);
}

/* A value of another type by its text. */
static void
add_value(Call *call, const char *text, Oid type)
{
	Oid			input;
	Oid			param;

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
	ErrorContextCallback callback;

	if (row[W_NAME] == NULL || row[W_MODULE] == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a workflow of the document has no %s",
						row[W_NAME] == NULL ? "\"name\"" : "\"module\"")));
	push_context(&callback, psprintf("workflow \"%s\"", row[W_NAME]));
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
	error_context_stack = callback.previous;
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

/* Creates or replaces it; returns action_id. */
static int32
write_action(Row row, const char *workflow)
{
	bool		is_there = row[A_ACTION_ID] != NULL;
	Call		call = {0};
	Datum		value;

	if (is_there)
		add_datum(&call, Int32GetDatum(pg_strtoint32(row[A_ACTION_ID])), false);
	else
		add_text(&call, workflow, false);
	add_text(&call, row[A_TITLE], false);
	add_text(&call, row[A_URL], false);
	add_text(&call, row[A_METHOD], false);
	add_text(&call, row[A_CONTENT_TYPE], false);
	add_text(&call, row[A_PARAMETERS], false);
	add_text(&call, row[A_USERNAME], false);
	add_datum(&call, (Datum) 0, true);	/* password */
	add_text(&call, row[A_HEADERS], false);
	add_datum(&call, (Datum) 0, true);	/* signing secret */
	add_text(&call, row[A_CLIENT_CERTIFICATE], false);
	add_text(&call, row[A_DESCRIPTION], false);
	add_value(&call, row[A_TIMEOUT], INTERVALOID);
	add_value(&call, row[A_RETRY_SCHEDULE], INTERVALARRAYOID);
	add_datum(&call, BoolGetDatum(is_true(row[A_ORDERED])), false);
	add_value(&call, row[A_MAX_IN_FLIGHT], INT4OID);
	add_value(&call, row[A_RATE_LIMIT], INT4OID);
	value = finish_call(&call, is_there ? webhook_action_replace : create_action);
	return is_there ? pg_strtoint32(row[A_ACTION_ID]) : DatumGetInt32(value);
}

static void
import_action(Row row, const char *workflow, ReturnSetInfo *result)
{
	char	   *name = psprintf("%s / %s", workflow, row[A_TITLE]);
	bool		is_alter = row[A_ACTION_ID] != NULL;
	bool		enabled = is_true(row[A_ENABLED]);
	const char *done = "unchanged";
	int32		action_id = is_alter ? pg_strtoint32(row[A_ACTION_ID]) : 0;
	ErrorContextCallback callback;

	push_context(&callback, psprintf("action \"%s\"", name));
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
	error_context_stack = callback.previous;
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
	List	   *rows = webhook_document_actions(actions, workflow_id);
	ListCell   *lc;

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
	ListCell   *lc;

	webhook_argument_require(fcinfo, 0, "document");
	InitMaterializedSRF(fcinfo, 0);
	webhook_document_check(PG_GETARG_DATUM(0));
	foreach(lc, webhook_document_workflows(PG_GETARG_DATUM(0)))
	{
		Row			row = lfirst(lc);
		int32		workflow_id = import_workflow(row, result);

		CommandCounterIncrement();
		import_actions(row[W_ACTIONS], row[W_NAME], workflow_id, result);
	}
	return (Datum) 0;
}

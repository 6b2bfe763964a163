/*-------------------------------------------------------------------------
 *
 * workflow_table.c
 *	  The rows of webhook.workflow, and what hangs on them.
 *
 * Runs in sessions.  Everything is read and written with the rights of the
 * extension's owner; who may see or change a row is asked by the row's owner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "statement.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "workflow_table.h"

static void
execute_sql(const char *sql, int n, const Oid *types, const Datum *values,
			const char *nulls)
{
	WebhookScope scope;

	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	webhook_statement_execute(sql, n, types, values, nulls);
	SPI_finish();
	webhook_scope_leave(&scope);
}

/* 0: null */
static TimestampTz
read_time(uint64 row, int column)
{
	bool		isnull;
	Datum		value = webhook_statement_value(row, column, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}

static WebhookWorkflow *
copy_workflow(uint64 row, MemoryContext context)
{
	WebhookWorkflow *workflow = MemoryContextAllocZero(context,
													   sizeof(WebhookWorkflow));
	bool		isnull;

	workflow->workflow_id = DatumGetInt32(webhook_statement_value(row, 1, &isnull));
	workflow->name = webhook_statement_copy_text(row, 2, context);
	workflow->module = DatumGetObjectId(webhook_statement_value(row, 3, &isnull));
	workflow->trigger = webhook_statement_copy_text(row, 4, context);
	workflow->condition = webhook_statement_copy_text(row, 5, context);
	workflow->recurrence = webhook_statement_copy_text(row, 6, context);
	workflow->owner_email = webhook_statement_copy_text(row, 7, context);
	workflow->owner = DatumGetObjectId(webhook_statement_value(row, 8, &isnull));
	workflow->enabled = DatumGetBool(webhook_statement_value(row, 9, &isnull));
	workflow->description = webhook_statement_copy_text(row, 10, context);
	workflow->computed = webhook_statement_copy_jsonb(row, 11, context);
	workflow->schedule = webhook_statement_copy_text(row, 12, context);
	workflow->condition_sql = webhook_statement_copy_text(row, 13, context);
	workflow->next_run_at = read_time(row, 14);
	workflow->counts_from = read_time(row, 15);
	return workflow;
}

#define SELECT_WORKFLOW \
	"SELECT workflow_id, name, module::oid, trigger, condition, recurrence," \
	" owner_email, owner::oid, enabled, description, computed," \
	" schedule, condition_sql, next_run_at, counts_from FROM webhook.workflow"

static List *
read_workflows(const char *sql, int n, Oid *types, Datum *values)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *result = NIL;
	WebhookScope scope;

	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	webhook_statement_execute(sql, n, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		result = lappend(result, copy_workflow(i, context));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	webhook_scope_leave(&scope);
	return result;
}

WebhookWorkflow *
webhook_workflow_table_lock(const char *name)
{
	Oid			types[2] = {TEXTOID, OIDOID};
	Datum		values[2];
	List	   *found;

	values[0] = CStringGetTextDatum(name);
	values[1] = ObjectIdGetDatum(GetUserId());
	found = read_workflows(SELECT_WORKFLOW
						   " WHERE name = $1 AND " WEBHOOK_MAY_ACT_AS("$2", "owner::oid")
						   " FOR UPDATE", 2, types, values);
	if (found == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("workflow \"%s\" does not exist", name),
				 errhint("The table webhook.workflow shows the workflows of the roles that you are a member of.")));
	return linitial(found);
}

WebhookWorkflow *
webhook_workflow_table_lock_due(int32 workflow_id, TimestampTz planned_at)
{
	Oid			types[2] = {INT4OID, TIMESTAMPTZOID};
	Datum		values[2];
	List	   *found;

	values[0] = Int32GetDatum(workflow_id);
	values[1] = TimestampTzGetDatum(planned_at);
	found = read_workflows(SELECT_WORKFLOW
						   " WHERE workflow_id = $1 AND next_run_at = $2"
						   " AND enabled AND trigger = 'schedule' FOR UPDATE",
						   2, types, values);
	return found == NIL ? NULL : linitial(found);
}

List *
webhook_workflow_table_find_computing(void)
{
	return read_workflows(SELECT_WORKFLOW
						  " w WHERE computed IS NOT NULL OR trigger = 'schedule'"
						  " OR condition_sql IS NOT NULL OR EXISTS"
						  " (SELECT FROM webhook.action a"
						  " WHERE a.workflow_id = w.workflow_id"
						  " AND a.computed IS NOT NULL) ORDER BY workflow_id",
						  0, NULL, NULL);
}

List *
webhook_workflow_table_find(List *modules)
{
	Oid			types[1] = {OIDARRAYOID};
	Datum		values[1];
	Datum	   *elements = palloc(list_length(modules) * sizeof(Datum));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, modules)
		elements[n++] = ObjectIdGetDatum(lfirst_oid(lc));
	values[0] = PointerGetDatum(construct_array(elements, n, OIDOID,
												sizeof(Oid), true,
												TYPALIGN_INT));
	return read_workflows(SELECT_WORKFLOW
						  " WHERE module::oid = ANY ($1) ORDER BY workflow_id",
						  1, types, values);
}

List *
webhook_workflow_table_find_owned(Oid role)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1];

	values[0] = ObjectIdGetDatum(role);
	return read_workflows(SELECT_WORKFLOW
						  " WHERE owner::oid = $1 ORDER BY workflow_id FOR UPDATE",
						  1, types, values);
}

/* A statement with one parameter, the workflow. */
static void
execute_for(const char *sql, int32 workflow_id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1];

	values[0] = Int32GetDatum(workflow_id);
	execute_sql(sql, 1, types, values, NULL);
}

void
webhook_workflow_table_clear_seen(int32 workflow_id)
{
	execute_for("DELETE FROM webhook.seen WHERE workflow_id = $1", workflow_id);
}

void
webhook_workflow_table_give_up(int32 workflow_id)
{
	/* What is under way ends by itself.  By action: that is what has an index. */
	execute_for("UPDATE webhook.webhook_log SET status = 'Failed', retry_at = NULL,"
				" completed_at = clock_timestamp(), error = 'workflow was dropped'"
				" WHERE action_id = ANY (ARRAY(SELECT a.action_id"
				" FROM webhook.action a WHERE a.workflow_id = $1))"
				" AND retry_at IS NOT NULL AND status <> 'Dispatched'", workflow_id);
}

void
webhook_workflow_table_delete(int32 workflow_id)
{
	webhook_workflow_table_clear_seen(workflow_id);
	execute_for("DELETE FROM webhook.action_secret s USING webhook.action a"
				" WHERE a.action_id = s.action_id AND a.workflow_id = $1",
				workflow_id);
	execute_for("DELETE FROM webhook.action WHERE workflow_id = $1",
				workflow_id);
	execute_for("DELETE FROM webhook.workflow WHERE workflow_id = $1",
				workflow_id);
}

/* The row as parameters: $1 is workflow_id, $2 the name, and so on. */
#define N_COLUMNS 14

static const Oid column_types[N_COLUMNS] = {
	INT4OID, TEXTOID, OIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, OIDOID,
	TEXTOID, JSONBOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID
};

static void
set_text(const char *text, Datum *value, char *null)
{
	if (text == NULL)
		*null = 'n';
	else
		*value = CStringGetTextDatum(text);
}

static void
set_time(TimestampTz time, Datum *value, char *null)
{
	if (time == 0)
		*null = 'n';
	else
		*value = TimestampTzGetDatum(time);
}

static void
fill_columns(const WebhookWorkflow *workflow, Datum *values, char *nulls)
{
	memset(nulls, ' ', N_COLUMNS);
	values[0] = Int32GetDatum(workflow->workflow_id);
	set_text(workflow->name, &values[1], &nulls[1]);
	values[2] = ObjectIdGetDatum(workflow->module);
	set_text(workflow->trigger, &values[3], &nulls[3]);
	set_text(workflow->condition, &values[4], &nulls[4]);
	set_text(workflow->recurrence, &values[5], &nulls[5]);
	set_text(workflow->owner_email, &values[6], &nulls[6]);
	values[7] = ObjectIdGetDatum(workflow->owner);
	set_text(workflow->description, &values[8], &nulls[8]);
	if (workflow->computed == NULL)
		nulls[9] = 'n';
	else
		values[9] = JsonbPGetDatum(workflow->computed);
	set_text(workflow->schedule, &values[10], &nulls[10]);
	set_text(workflow->condition_sql, &values[11], &nulls[11]);
	set_time(workflow->next_run_at, &values[12], &nulls[12]);
	set_time(workflow->counts_from, &values[13], &nulls[13]);
}

int32
webhook_workflow_table_insert(const WebhookWorkflow *workflow)
{
	Datum		values[N_COLUMNS] = {0};
	char		nulls[N_COLUMNS];
	int32		workflow_id = 0;
	bool		isnull;
	WebhookScope scope;

	fill_columns(workflow, values, nulls);
	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	webhook_statement_execute("INSERT INTO webhook.workflow (name, module,"
							  " trigger, condition, recurrence, owner_email,"
							  " owner, description, computed, schedule,"
							  " condition_sql, next_run_at, counts_from)"
							  " VALUES ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11,"
							  " $12, $13, $14)"
							  " ON CONFLICT (name) DO NOTHING"
							  " RETURNING workflow_id",
							  N_COLUMNS, column_types, values, nulls);
	if (SPI_processed == 1)
		workflow_id = DatumGetInt32(webhook_statement_value(0, 1, &isnull));
	SPI_finish();
	webhook_scope_leave(&scope);
	return workflow_id;
}

void
webhook_workflow_table_update(const WebhookWorkflow *workflow)
{
	Datum		values[N_COLUMNS] = {0};
	char		nulls[N_COLUMNS];

	fill_columns(workflow, values, nulls);
	execute_sql("UPDATE webhook.workflow SET module = $3, trigger = $4,"
				" condition = $5, recurrence = $6, owner_email = $7,"
				" description = $9, computed = $10, schedule = $11,"
				" condition_sql = $12, next_run_at = $13, counts_from = $14"
				" WHERE workflow_id = $1",
				N_COLUMNS, column_types, values, nulls);
}

void
webhook_workflow_table_set_compiled(const WebhookWorkflow *workflow)
{
	Oid			types[3] = {INT4OID, JSONBOID, TEXTOID};
	Datum		values[3];
	char		nulls[3] = {' ', ' ', ' '};

	values[0] = Int32GetDatum(workflow->workflow_id);
	values[1] = JsonbPGetDatum(workflow->computed);
	nulls[1] = workflow->computed == NULL ? 'n' : ' ';
	set_text(workflow->condition_sql, &values[2], &nulls[2]);
	execute_sql("UPDATE webhook.workflow SET computed = $2, condition_sql = $3"
				" WHERE workflow_id = $1", 3, types, values, nulls);
}

void
webhook_workflow_table_set_next(const WebhookWorkflow *workflow)
{
	Oid			types[3] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[3];
	char		nulls[3] = {' ', ' ', ' '};

	values[0] = Int32GetDatum(workflow->workflow_id);
	set_time(workflow->next_run_at, &values[1], &nulls[1]);
	set_time(workflow->counts_from, &values[2], &nulls[2]);
	execute_sql("UPDATE webhook.workflow SET next_run_at = $2, counts_from = $3"
				" WHERE workflow_id = $1", 3, types, values, nulls);
}

void
webhook_workflow_table_set_enabled(const WebhookWorkflow *workflow)
{
	Oid			types[2] = {INT4OID, BOOLOID};
	Datum		values[2];

	values[0] = Int32GetDatum(workflow->workflow_id);
	values[1] = BoolGetDatum(workflow->enabled);
	execute_sql("UPDATE webhook.workflow SET enabled = $2 WHERE workflow_id = $1",
				2, types, values, NULL);
	webhook_workflow_table_set_next(workflow);
}

/*-------------------------------------------------------------------------
 *
 * action_table.c
 *	  The rows of webhook.action and webhook.action_secret.
 *
 * Runs in sessions, and in the worker, which reads them.  Secrets are in a
 * table of their own, which nobody but superusers can read; they travel as
 * parameters only, never in a statement's text.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "action_table.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "signature.h"
#include "statement.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static const char *const read_sql =
	"SELECT a.action_id, a.workflow_id, w.module::oid, w.owner::oid,"
	" a.title, a.description, a.url, a.method, a.content_type, a.parameters,"
	" a.username, a.headers, a.client_certificate, a.timeout,"
	" a.retry_schedule, a.ordered, a.max_in_flight, a.rate_limit, a.enabled,"
	" s.password, s.signing_secret, s.previous_secrets, s.previous_until,"
	" a.computed"
	" FROM webhook.action a"
	" JOIN webhook.workflow w ON w.workflow_id = a.workflow_id"
	" LEFT JOIN webhook.action_secret s ON s.action_id = a.action_id"
	" WHERE a.action_id = $1";

#define N_COLUMNS 17

static const Oid column_types[N_COLUMNS] = {
	INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONOID,
	TEXTOID, JSONOID, TEXTOID, INTERVALOID, INTERVALARRAYOID, BOOLOID,
	INT4OID, INT4OID, JSONBOID
};

static const char *const insert_sql =
	"INSERT INTO webhook.action (workflow_id, title, description, url, method,"
	" content_type, parameters, username, headers, client_certificate,"
	" timeout, retry_schedule, ordered, max_in_flight, rate_limit, computed)"
	" VALUES ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"
	" RETURNING action_id";

static const char *const update_sql =
	"UPDATE webhook.action SET title = $3, description = $4, url = $5,"
	" method = $6, content_type = $7, parameters = $8, username = $9,"
	" headers = $10, client_certificate = $11, timeout = $12,"
	" retry_schedule = $13, ordered = $14, max_in_flight = $15,"
	" rate_limit = $16, computed = $17, enabled = $2 WHERE action_id = $1";

/* ---------------------------------------------------------------------
 * Reading
 * ---------------------------------------------------------------------
 */

/* A value by value; 0 for NULL. */
static Datum
read_plain(int column)
{
	bool		isnull;
	Datum		value = webhook_statement_value(0, column, &isnull);

	return isnull ? (Datum) 0 : value;
}

/* A value by reference, copied; NULL for NULL. */
static void *
read_copy(int column, int typlen, MemoryContext context)
{
	bool		isnull;
	Datum		value = webhook_statement_value(0, column, &isnull);
	MemoryContext old;

	if (isnull)
		return NULL;
	old = MemoryContextSwitchTo(context);
	if (typlen == -1)
		value = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	else
		value = datumCopy(value, false, typlen);
	MemoryContextSwitchTo(old);
	return DatumGetPointer(value);
}

static List *
read_old_secrets(int secrets_column, int until_column, MemoryContext context)
{
	ArrayType  *secrets = read_copy(secrets_column, -1, context);
	ArrayType  *until = read_copy(until_column, -1, context);
	MemoryContext old;
	Datum	   *texts;
	Datum	   *times;
	bool	   *text_nulls;
	bool	   *time_nulls;
	int			n_texts;
	int			n_times;
	List	   *result = NIL;

	if (secrets == NULL || until == NULL)
		return NIL;
	old = MemoryContextSwitchTo(context);
	deconstruct_array(secrets, TEXTOID, -1, false, TYPALIGN_INT,
					  &texts, &text_nulls, &n_texts);
	deconstruct_array(until, TIMESTAMPTZOID, sizeof(TimestampTz), true,
					  TYPALIGN_DOUBLE, &times, &time_nulls, &n_times);
	for (int i = 0; i < Min(n_texts, n_times); i++)
	{
		WebhookOldSecret *it;

		if (text_nulls[i] || time_nulls[i])
			continue;
		it = palloc(sizeof(WebhookOldSecret));
		it->secret = TextDatumGetCString(texts[i]);
		it->until = DatumGetTimestampTz(times[i]);
		result = lappend(result, it);
	}
	MemoryContextSwitchTo(old);
	return result;
}

static WebhookActionRow *
read_row(MemoryContext context)
{
	WebhookActionRow *row = MemoryContextAllocZero(context, sizeof(WebhookActionRow));

	row->action_id = DatumGetInt32(read_plain(1));
	row->workflow_id = DatumGetInt32(read_plain(2));
	row->module = DatumGetObjectId(read_plain(3));
	row->owner = DatumGetObjectId(read_plain(4));
	row->title = webhook_statement_copy_text(0, 5, context);
	row->description = webhook_statement_copy_text(0, 6, context);
	row->url = webhook_statement_copy_text(0, 7, context);
	row->method = webhook_statement_copy_text(0, 8, context);
	row->content_type = webhook_statement_copy_text(0, 9, context);
	row->parameters = webhook_statement_copy_text(0, 10, context);
	row->username = webhook_statement_copy_text(0, 11, context);
	row->headers = webhook_statement_copy_text(0, 12, context);
	row->client_certificate = webhook_statement_copy_text(0, 13, context);
	row->timeout = read_copy(14, sizeof(Interval), context);
	row->retry_schedule = read_copy(15, -1, context);
	row->ordered = DatumGetBool(read_plain(16));
	row->max_in_flight = DatumGetInt32(read_plain(17));
	row->rate_limit = DatumGetInt32(read_plain(18));
	row->enabled = DatumGetBool(read_plain(19));
	row->password = webhook_statement_copy_text(0, 20, context);
	row->signing_secret = webhook_statement_copy_text(0, 21, context);
	row->old_secrets = read_old_secrets(22, 23, context);
	row->computed = webhook_statement_copy_jsonb(0, 24, context);
	return row;
}

WebhookActionRow *
webhook_action_table_read(int32 action_id, bool for_update)
{
	static SPIPlanPtr lock_plan = NULL;
	static SPIPlanPtr plan = NULL;
	MemoryContext context = CurrentMemoryContext;
	WebhookActionRow *row = NULL;
	Oid			types[1] = {INT4OID};
	Datum		values[1];
	WebhookScope scope;

	values[0] = Int32GetDatum(action_id);
	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	/* By a statement of its own: what was waited for has other secrets, too. */
	if (for_update)
		webhook_statement_run(&lock_plan,
							  "SELECT FROM webhook.action WHERE action_id = $1 FOR UPDATE",
							  1, types, values, NULL);
	webhook_statement_run(&plan, read_sql, 1, types, values, NULL);
	if (SPI_processed > 0)
		row = read_row(context);
	SPI_finish();
	webhook_scope_leave(&scope);
	return row;
}

List *
webhook_action_table_list(int32 workflow_id, bool only_computing)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext context = CurrentMemoryContext;
	List	   *actions;
	Oid			types[2] = {INT4OID, BOOLOID};
	Datum		values[2];
	WebhookScope scope;

	values[0] = Int32GetDatum(workflow_id);
	values[1] = BoolGetDatum(only_computing);
	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	webhook_statement_run(&plan, "SELECT action_id FROM webhook.action"
						  " WHERE workflow_id = $1 AND (computed IS NOT NULL OR NOT $2)"
						  " ORDER BY action_id", 2, types, values, NULL);
	actions = webhook_statement_ints(context);
	SPI_finish();
	webhook_scope_leave(&scope);
	return actions;
}

int
webhook_action_table_count(int32 workflow_id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1];
	SPIPlanPtr	plan;
	WebhookScope scope;
	int			n;

	values[0] = Int32GetDatum(workflow_id);
	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	plan = SPI_prepare("SELECT FROM webhook.action WHERE workflow_id = $1", 1, types);
	if (plan == NULL ||
		SPI_execute_snapshot(plan, values, NULL, GetLatestSnapshot(),
							 InvalidSnapshot, true, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not count the actions of workflow %d", workflow_id);
	n = (int) SPI_processed;
	SPI_finish();
	webhook_scope_leave(&scope);
	return n;
}

/* ---------------------------------------------------------------------
 * Writing
 * ---------------------------------------------------------------------
 */

static void
set_text(const char *text, Datum *value, char *null)
{
	*null = text == NULL ? 'n' : ' ';
	*value = text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

static void
set_pointer(const void *pointer, Datum *value, char *null)
{
	*null = pointer == NULL ? 'n' : ' ';
	*value = PointerGetDatum(pointer);
}

static void
set_int(int32 number, Datum *value, char *null)
{
	*null = number == 0 ? 'n' : ' ';
	*value = Int32GetDatum(number);
}

/* Parameters $3 to $17: what insert and update have in common. */
static void
fill_columns(const WebhookActionRow *row, Datum *values, char *nulls)
{
	memset(nulls, ' ', N_COLUMNS);
	set_text(row->title, &values[2], &nulls[2]);
	set_text(row->description, &values[3], &nulls[3]);
	set_text(row->url, &values[4], &nulls[4]);
	set_text(row->method, &values[5], &nulls[5]);
	set_text(row->content_type, &values[6], &nulls[6]);
	set_text(row->parameters, &values[7], &nulls[7]);
	set_text(row->username, &values[8], &nulls[8]);
	set_text(row->headers, &values[9], &nulls[9]);
	set_text(row->client_certificate, &values[10], &nulls[10]);
	set_pointer(row->timeout, &values[11], &nulls[11]);
	set_pointer(row->retry_schedule, &values[12], &nulls[12]);
	values[13] = BoolGetDatum(row->ordered);
	set_int(row->max_in_flight, &values[14], &nulls[14]);
	set_int(row->rate_limit, &values[15], &nulls[15]);
	set_pointer(row->computed, &values[16], &nulls[16]);
}

static void
set_secret(TupleTableSlot *slot, int column, const char *secret)
{
	slot->tts_isnull[column] = secret == NULL;
	if (secret != NULL)
		slot->tts_values[column] = CStringGetTextDatum(secret);
}

static void
set_old_secrets(TupleTableSlot *slot, int secrets_column, int until_column,
				List *old_secrets)
{
	int			n = 0;
	Datum	   *secrets = palloc(list_length(old_secrets) * sizeof(Datum));
	Datum	   *until = palloc(list_length(old_secrets) * sizeof(Datum));
	ListCell   *lc;

	foreach(lc, old_secrets)
	{
		WebhookOldSecret *it = lfirst(lc);

		secrets[n] = CStringGetTextDatum(it->secret);
		until[n++] = TimestampTzGetDatum(it->until);
	}
	slot->tts_isnull[secrets_column] = slot->tts_isnull[until_column] = false;
	slot->tts_values[secrets_column] = webhook_statement_array(secrets, NULL, n, TEXTOID);
	slot->tts_values[until_column] = webhook_statement_array(until, NULL, n, TIMESTAMPTZOID);
}

/*
 * Straight into the table, with no query in between: as parameters of one, the
 * secrets would be in the log of pgaudit, or of auto_explain.
 */
static void
write_secrets(int32 action_id, const WebhookActionRow *row)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1];
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *rri;
	TupleTableSlot *slot;

	values[0] = Int32GetDatum(action_id);
	webhook_statement_execute("DELETE FROM webhook.action_secret WHERE action_id = $1",
							  1, types, values, NULL);

	rel = table_open(webhook_catalog_relation(WEBHOOK_REL_SECRET), RowExclusiveLock);
	estate = CreateExecutorState();
	rri = makeNode(ResultRelInfo);
	slot = table_slot_create(rel, NULL);
	InitResultRelInfo(rri, rel, 1, NULL, 0);
	ExecOpenIndices(rri, false);
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts * sizeof(bool));
	slot->tts_isnull[0] = false;
	slot->tts_values[0] = Int32GetDatum(action_id);
	set_secret(slot, 1, row->password);
	set_secret(slot, 2, row->signing_secret);
	if (row->old_secrets != NIL)
		set_old_secrets(slot, 3, 4, row->old_secrets);
	ExecStoreVirtualTuple(slot);
	simple_table_tuple_insert(rel, slot);
	(void) webhook_insert_index_tuples(rri, slot, estate);
	ExecCloseIndices(rri);
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

int32
webhook_action_table_insert(const WebhookActionRow *row)
{
	Datum		values[N_COLUMNS] = {0};
	char		nulls[N_COLUMNS];
	WebhookScope scope;
	int32		action_id;

	fill_columns(row, values, nulls);
	values[1] = Int32GetDatum(row->workflow_id);
	nulls[0] = 'n';
	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	webhook_statement_execute(insert_sql, N_COLUMNS, column_types, values, nulls);
	action_id = DatumGetInt32(read_plain(1));
	write_secrets(action_id, row);
	SPI_finish();
	webhook_scope_leave(&scope);
	return action_id;
}

void
webhook_action_table_update(const WebhookActionRow *row)
{
	Datum		values[N_COLUMNS] = {0};
	char		nulls[N_COLUMNS];
	Oid			types[N_COLUMNS];
	WebhookScope scope;

	fill_columns(row, values, nulls);
	memcpy(types, column_types, sizeof(types));
	types[1] = BOOLOID;
	values[0] = Int32GetDatum(row->action_id);
	values[1] = BoolGetDatum(row->enabled);
	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	webhook_statement_execute(update_sql, N_COLUMNS, types, values, nulls);
	write_secrets(row->action_id, row);
	SPI_finish();
	webhook_scope_leave(&scope);
}

void
webhook_action_table_set_computed(int32 action_id, Jsonb *computed)
{
	Oid			types[2] = {INT4OID, JSONBOID};
	Datum		values[2];
	char		nulls[2] = {' ', ' '};
	WebhookScope scope;

	values[0] = Int32GetDatum(action_id);
	set_pointer(computed, &values[1], &nulls[1]);
	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	webhook_statement_execute("UPDATE webhook.action SET computed = $2 WHERE action_id = $1",
							  2, types, values, nulls);
	SPI_finish();
	webhook_scope_leave(&scope);
}

void
webhook_action_table_delete(int32 action_id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1];
	WebhookScope scope;

	values[0] = Int32GetDatum(action_id);
	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	/* What is under way ends by itself. */
	webhook_statement_execute("UPDATE webhook.webhook_log SET status = 'Failed', retry_at = NULL,"
							  " completed_at = pg_catalog.clock_timestamp(), error = 'action was dropped'"
							  " WHERE action_id = $1 AND retry_at IS NOT NULL"
							  " AND status <> 'Dispatched'", 1, types, values, NULL);
	webhook_statement_execute("DELETE FROM webhook.action_secret WHERE action_id = $1",
							  1, types, values, NULL);
	webhook_statement_execute("DELETE FROM webhook.action WHERE action_id = $1",
							  1, types, values, NULL);
	SPI_finish();
	webhook_scope_leave(&scope);
}

/*-------------------------------------------------------------------------
 *
 * delivery.c
 *	  What people do with single deliveries: retry, cancel, preview, test,
 *	  wait.
 *
 * Runs in sessions.  Which rows a caller may touch is decided by the row-level
 * security of the log, under which they are looked up with the caller's
 * rights; they are changed with those of the extension's owner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "action.h"
#include "argument.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "claim.h"
#include "commit.h"
#include "compat.h"
#include "computed.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lookup.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "progress.h"
#include "recompute.h"
#include "record.h"
#include "request.h"
#include "slot.h"
#include "statement.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define WAIT_INTERVAL_MS 5
#define RETRY_STEP INT64CONST(10000)	/* log_ids a statement */
#define MAX_RETRY_STEPS 1000
#define MASK "********"

/* With its whole retry schedule, now. */
#define QUEUED_AGAIN \
	"status = 'Queued', retry_at = clock_timestamp(), completed_at = NULL," \
	" http_status = NULL, error = NULL, retries = 0, interrupted = 0"

PG_FUNCTION_INFO_V1(retry);
PG_FUNCTION_INFO_V1(retry_failed);
PG_FUNCTION_INFO_V1(cancel);
PG_FUNCTION_INFO_V1(preview);
PG_FUNCTION_INFO_V1(test);
PG_FUNCTION_INFO_V1(wait);

/* ---------------------------------------------------------------------
 * Retry and cancel
 * ---------------------------------------------------------------------
 */

/* Run a statement; returns the number of rows, and the first value as text. */
static uint64
execute(const char *sql, int n, Oid *types, Datum *values, const char *nulls,
		char **first)
{
	MemoryContext context = CurrentMemoryContext;
	uint64		processed;

	SPI_connect();
	webhook_statement_execute(sql, n, types, values, nulls);
	processed = SPI_processed;
	if (first != NULL && processed > 0)
		*first = webhook_statement_copy_text(0, 1, context);
	SPI_finish();
	return processed;
}

/* May the caller change the delivery?  If not, it does not exist. */
static void
check_rights(int64 log_id)
{
	Oid			types[1] = {INT8OID};
	Datum		values[1];
	WebhookScope scope;
	uint64		n;

	/* With the caller's rights, but PostgreSQL's operators. */
	values[0] = Int64GetDatum(log_id);
	webhook_scope_enter(&scope, GetUserId());
	n = execute("SELECT FROM webhook.webhook_log WHERE log_id = $1"
				" AND " WEBHOOK_MAY_ACT_AS("current_user", "owner::oid"),
				1, types, values, NULL, NULL);
	webhook_scope_leave(&scope);
	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("delivery " INT64_FORMAT " does not exist", log_id)));
}

/*
 * Change a delivery by a statement that does so if its state allows; returns
 * NULL, or the state that does not.
 */
static char *
change_delivery(int64 log_id, const char *sql)
{
	Oid			types[1] = {INT8OID};
	Datum		values[1];
	WebhookScope scope;
	char	   *state = NULL;

	values[0] = Int64GetDatum(log_id);
	webhook_scope_enter(&scope, webhook_catalog_owner());
	if (execute(sql, 1, types, values, NULL, NULL) == 0 &&
		execute("SELECT CASE WHEN NOT EXISTS (SELECT FROM webhook.action a"
				" WHERE a.action_id = l.action_id) THEN 'without action'"
				" WHEN l.record IS NULL THEN 'without record'"
				" ELSE l.status::text END"
				" FROM webhook.webhook_log l WHERE l.log_id = $1",
				1, types, values, NULL, &state) == 0)
		state = "gone";
	webhook_scope_leave(&scope);
	return state;
}

/*
 * webhook.retry(log_id) returns void
 *		Queue a finished delivery again, now, with its whole retry schedule.
 */
Datum
retry(PG_FUNCTION_ARGS)
{
	int64		log_id = PG_GETARG_INT64(0);
	char	   *state;
	WebhookScope scope;

	webhook_argument_require(fcinfo, 0, "log_id");
	check_rights(log_id);
	webhook_scope_enter(&scope, webhook_catalog_owner());
	webhook_recompute_one(log_id);
	webhook_scope_leave(&scope);
	state = change_delivery(log_id,
							"UPDATE webhook.webhook_log l SET " QUEUED_AGAIN
							" WHERE log_id = $1 AND status IN ('Success', 'Failed')"
							" AND record IS NOT NULL"
							" AND EXISTS (SELECT FROM webhook.action a"
							" WHERE a.action_id = l.action_id)");
	if (state != NULL && strcmp(state, "without action") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the action of delivery " INT64_FORMAT " does not exist any more", log_id),
				 errhint("What it would have sent is in the columns record and old_record.")));
	if (state != NULL && strcmp(state, "without record") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("delivery " INT64_FORMAT " has no record to send", log_id),
				 errhint("Its column error says why the record could not be queued; webhook.test sends the record as it is now.")));
	if (state != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("delivery " INT64_FORMAT " has not ended: it is %s", log_id, state),
				 errhint("It is sent without being asked for.")));
	PG_RETURN_VOID();
}

/*
 * webhook.cancel(log_id) returns void
 *		A delivery that is not being sent becomes Failed for good.
 */
Datum
cancel(PG_FUNCTION_ARGS)
{
	int64		log_id = PG_GETARG_INT64(0);
	char	   *state;

	webhook_argument_require(fcinfo, 0, "log_id");
	check_rights(log_id);
	/* CASE: see claim.c. */
	state = change_delivery(log_id,
							"UPDATE webhook.webhook_log SET status = 'Failed',"
							" retry_at = NULL, completed_at = clock_timestamp(),"
							" error = 'canceled' WHERE log_id = $1"
							" AND CASE WHEN retry_at IS NULL THEN false"
							" ELSE status <> 'Dispatched' END");
	if (state != NULL && strcmp(state, "Dispatched") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("delivery " INT64_FORMAT " is being sent", log_id),
				 errhint("Once it has failed, further attempts can be canceled.")));
	if (state != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("delivery " INT64_FORMAT " has ended already", log_id)));
	PG_RETURN_VOID();
}

/* The first and the last log_id; false: the log is empty. */
static bool
find_range(int64 *first, int64 *last)
{
	char	   *from = NULL;
	char	   *to = NULL;

	execute("SELECT min(log_id) FROM webhook.webhook_log", 0, NULL, NULL, NULL, &from);
	execute("SELECT max(log_id) FROM webhook.webhook_log", 0, NULL, NULL, NULL, &to);
	if (from == NULL || to == NULL)
		return false;
	*first = strtoi64(from, NULL, 10);
	*last = strtoi64(to, NULL, 10);
	return true;
}

/*
 * webhook.retry_failed(action_id, since) returns bigint
 *		Queue all Failed deliveries again, but canceled ones; how many.
 *
 * The log is gone through piece by piece, so that webhook.stat_progress can
 * tell how far it is.
 */
Datum
retry_failed(PG_FUNCTION_ARGS)
{
	Oid			types[WEBHOOK_N_RETRIED] = {INT4OID, TIMESTAMPTZOID, OIDOID, INT8OID, INT8OID};
	Datum		values[WEBHOOK_N_RETRIED];
	char		nulls[WEBHOOK_N_RETRIED] = {' ', ' ', ' ', ' ', ' '};
	int32		action_id = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0);
	WebhookScope scope;
	uint64		n = 0;
	int64		first;
	int64		last;
	bool		is_computed;

	nulls[0] = PG_ARGISNULL(0) ? 'n' : ' ';
	values[0] = Int32GetDatum(action_id);
	nulls[1] = PG_ARGISNULL(1) ? 'n' : ' ';
	values[1] = PG_GETARG_DATUM(1);
	values[2] = ObjectIdGetDatum(GetUserId());

	webhook_scope_enter(&scope, webhook_catalog_owner());
	webhook_progress_start("retry_failed", 0, action_id);
	is_computed = webhook_recompute_is_wanted(action_id);
	if (find_range(&first, &last))
	{
		int64		step = Max(RETRY_STEP, (last - first) / MAX_RETRY_STEPS);

		for (int64 from = first;; from += step)
		{
			int64		to = last - from < step ? last : from + step - 1;

			webhook_progress_update(from - first, last - first + 1);
			values[3] = Int64GetDatum(from);
			values[4] = Int64GetDatum(to);
			if (is_computed)
				webhook_recompute_failed(types, values, nulls);
			n += execute("UPDATE webhook.webhook_log l SET " QUEUED_AGAIN
						 " WHERE " WEBHOOK_IS_RETRIED
						 " AND EXISTS (SELECT FROM webhook.action a WHERE a.action_id = l.action_id"
						 " AND NOT " WEBHOOK_LACKS_VALUES ")",
						 WEBHOOK_N_RETRIED, types, values, nulls, NULL);
			if (to == last)
				break;
		}
	}
	webhook_progress_end();
	webhook_scope_leave(&scope);
	PG_RETURN_INT64((int64) n);
}

/* ---------------------------------------------------------------------
 * Preview and test
 * ---------------------------------------------------------------------
 */

/* The action, if the caller may use it. */
static WebhookAction *
load_action(int32 action_id)
{
	WebhookAction *action = webhook_action_load(action_id);

	if (action == NULL || !webhook_may_act_as(GetUserId(), action->owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("webhook action %d does not exist", action_id),
				 errhint("The table webhook.action shows the actions of the roles that you are a member of.")));
	return action;
}

/*
 * A record of an action's module as it is now, with the related and computed
 * values that the action asks for.  The module's types may call functions of
 * their owners': the caller's rights are no business of theirs.
 */
static void
look_up_record(const WebhookAction *action, const char *record_id,
			   WebhookRecord *record, Jsonb **computed)
{
	Relation	module = table_open(action->module, AccessShareLock);
	HeapTuple	tuple = webhook_lookup_record(module, action->owner, record_id);
	WebhookScope scope;

	webhook_scope_enter(&scope, action->owner);
	webhook_record_read(record, module, tuple, NULL);
	webhook_scope_leave(&scope);
	if (record->error != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("%s", record->error)));
	*computed = webhook_computed_once(action->computed, NULL, action->owner,
									  module, tuple, NULL);
	table_close(module, NoLock);
}

static void
append_header(StringInfo out, const char *name, const char *value)
{
	char	   *text = pg_any_to_server(value, strlen(value), PG_UTF8);

	appendStringInfoString(out, out->len > 0 ? ", " : "{");
	escape_json(out, name);
	appendStringInfoString(out, ": ");
	escape_json(out, text);
}

static char *
format_headers(const WebhookRequest *request, const WebhookAction *action)
{
	StringInfoData out;
	ListCell   *lc;

	initStringInfo(&out);
	if (action->username != NULL)
		append_header(&out, "Authorization", "Basic " MASK);
	foreach(lc, request->headers)
	{
		WebhookHeader *header = lfirst(lc);

		append_header(&out, header->name, header->secret ? MASK : header->value);
	}
	appendStringInfoChar(&out, '}');
	return out.data;
}

/*
 * webhook.preview(action_id, record_id)
 *		What would be sent for a record as it is now, secrets masked.
 */
Datum
preview(PG_FUNCTION_ARGS)
{
	WebhookAction *action;
	WebhookEvent event = {0};
	WebhookRecord record;
	WebhookRequest *request;
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {false};

	webhook_argument_require(fcinfo, 0, "action_id");
	webhook_argument_require(fcinfo, 1, "record_id");
	action = load_action(PG_GETARG_INT32(0));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	look_up_record(action, text_to_cstring(PG_GETARG_TEXT_PP(1)), &record, &event.computed);
	event.record = record.record;
	event.record_id = record.record_id;
	event.webhook_id = DatumGetCString(DirectFunctionCall1(uuid_out,
														   DirectFunctionCall1(gen_random_uuid, (Datum) 0)));
	event.operation = "MANUAL";
	event.module = action->module_name;
	event.attempt = 1;
	event.timestamp = GetCurrentTimestamp();
	request = webhook_request_render(action, &event);
	webhook_request_stamp(request, action, event.webhook_id, event.timestamp);

	values[0] = CStringGetTextDatum(request->method);
	values[1] = CStringGetTextDatum(pg_any_to_server(request->url,
													 strlen(request->url), PG_UTF8));
	values[2] = CStringGetTextDatum(format_headers(request, action));
	values[3] = CStringGetTextDatum(pg_any_to_server(request->body,
													 request->body_len, PG_UTF8));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/*
 * webhook.test(action_id, record_id) returns bigint
 *		Send an action for a record as it is now; returns its log_id.
 */
Datum
test(PG_FUNCTION_ARGS)
{
	WebhookAction *action;
	Oid			types[8] = {INT4OID, INT4OID, OIDOID, TEXTOID, JSONBOID, OIDOID,
	BOOLOID, JSONBOID};
	Datum		values[8];
	char		nulls[8];
	WebhookRecord record;
	Jsonb	   *computed;
	WebhookScope scope;
	char	   *log_id = NULL;

	webhook_argument_require(fcinfo, 0, "action_id");
	webhook_argument_require(fcinfo, 1, "record_id");
	action = load_action(PG_GETARG_INT32(0));
	if (!action->enabled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("webhook action %d is disabled", action->action_id),
				 errhint("Call webhook.enable_action, or webhook.preview to see what would be sent.")));
	look_up_record(action, text_to_cstring(PG_GETARG_TEXT_PP(1)), &record, &computed);
	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int32GetDatum(action->workflow_id);
	values[1] = Int32GetDatum(action->action_id);
	values[2] = ObjectIdGetDatum(action->module);
	values[3] = CStringGetTextDatum(record.record_id);
	values[4] = JsonbPGetDatum(record.record);
	values[5] = ObjectIdGetDatum(action->owner);
	values[6] = BoolGetDatum(action->ordered);
	values[7] = JsonbPGetDatum(computed);
	nulls[7] = computed == NULL ? 'n' : ' ';
	webhook_scope_enter(&scope, webhook_catalog_owner());
	execute("INSERT INTO webhook.webhook_log (workflow_id, action_id, module,"
			" operation, record_id, record, retry_at, owner, ordered, computed)"
			" VALUES ($1, $2, $3, 'MANUAL', $4, $5, clock_timestamp(), $6, $7, $8)"
			" RETURNING log_id", 8, types, values, nulls, &log_id);
	webhook_scope_leave(&scope);
	if (log_id == NULL)
		PG_RETURN_NULL();		/* a trigger of somebody's has made away with it */
	PG_RETURN_INT64(strtoi64(log_id, NULL, 10));
}

/* ---------------------------------------------------------------------
 * Wait
 * ---------------------------------------------------------------------
 */

/*
 * One probe an action, as a rule: of an ordered one, what waits for an earlier
 * delivery of its record is not due.  After a thousand of these enough is
 * looked at: the next one is taken for due.
 */
static const char *const due_sql =
"SELECT FROM webhook.action a, LATERAL (SELECT FROM ("
" SELECT q.*, row_number() OVER () AS nth FROM ("
"  SELECT q.action_id, q.record_id, q.log_id, q.ordered FROM webhook.webhook_log q"
"  WHERE q.action_id = a.action_id AND q.retry_at <= $1"
"  ORDER BY q.retry_at LIMIT 1000) q) q"
" WHERE NOT a.ordered OR q.nth = 1000 OR" WEBHOOK_IS_FIRST_OF_RECORD("") " LIMIT 1) q"
" WHERE a.enabled";

/*
 * Is something due or in flight?  As of now, whatever the transaction's
 * snapshot.
 *
 * What is Dispatched was due, and still is as far as the log knows; so the
 * queue is looked at by time alone.  What is under way for an action that was
 * disabled or dropped meanwhile is known to the workers.
 */
static bool
is_busy(SPIPlanPtr plan)
{
	Datum		now = TimestampTzGetDatum(GetCurrentTimestamp());
	bool		busy;

	if (webhook_slot_is_busy())
		return true;
	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_execute_snapshot(plan, &now, NULL, GetActiveSnapshot(),
							 InvalidSnapshot, true, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look at the queue");
	busy = SPI_processed > 0;
	SPI_freetuptable(SPI_tuptable);
	PopActiveSnapshot();
	return busy;
}

/*
 * webhook.wait(timeout) returns boolean
 *		Wait until nothing is due or in flight; false if that took longer.
 *
 * Warns where it may be in vain: before the transaction itself has committed what
 * it has queued.
 */
Datum
wait(PG_FUNCTION_ARGS)
{
	Datum		deadline;
	TimestampTz until;
	SPIPlanPtr	plan;
	WebhookScope scope;
	bool		busy;
	uint32		wait_event = webhook_wait_event_new("WebhookWait");
	Oid			types[1] = {TIMESTAMPTZOID};

	webhook_argument_require(fcinfo, 0, "timeout");
	deadline = DirectFunctionCall2(timestamptz_pl_interval,
								   TimestampTzGetDatum(GetCurrentTimestamp()),
								   PG_GETARG_DATUM(0));
	until = DatumGetTimestampTz(deadline);

	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	plan = SPI_prepare(due_sql, 1, types);
	if (plan == NULL)
		elog(ERROR, "could not prepare the look at the queue");
	busy = is_busy(plan);
	if (busy && webhook_commit_has_news())
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("webhooks that this transaction has queued are sent only after it has committed"),
				 errhint("Commit first, and call webhook.wait() in a transaction of its own.")));
	while (busy && GetCurrentTimestamp() < until)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 WAIT_INTERVAL_MS, wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		busy = is_busy(plan);
	}
	SPI_finish();
	webhook_scope_leave(&scope);
	PG_RETURN_BOOL(!busy);
}

/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  The queue as a whole: which actions have something in it, when that falls
 *	  due, and what befalls all that an action has in it.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "queue.h"
#include "statement.h"
#include "utils/timestamp.h"

/* A loose index scan: one probe an action, however long the queue. */
#define WITH_FOUND \
	"WITH RECURSIVE found AS (" \
	" (SELECT action_id FROM webhook.webhook_log WHERE retry_at IS NOT NULL" \
	" ORDER BY action_id LIMIT 1)" \
	" UNION ALL" \
	" SELECT n.action_id FROM found f, LATERAL (" \
	" SELECT l.action_id FROM webhook.webhook_log l" \
	" WHERE l.retry_at IS NOT NULL AND l.action_id > f.action_id" \
	" ORDER BY l.action_id LIMIT 1) n)"

static const char *const actions_sql =
	WITH_FOUND " SELECT action_id FROM found";

static const char *const next_due_sql =
	"SELECT retry_at FROM webhook.webhook_log"
	" WHERE action_id = $1 AND retry_at > $2 ORDER BY retry_at LIMIT 1";

/* Each action's first, by one walk over what lies in front of it. */
#define FIRST_TO_SEND \
	"SELECT l.action_id, l.retry_at FROM webhook.webhook_log l" \
	" WHERE l.retry_at IS NOT NULL AND l.status <> 'Dispatched'"
#define FIRST " ORDER BY l.action_id, l.retry_at LIMIT 1"

static const char *const survey_sql =
	"WITH RECURSIVE found AS (("
	FIRST_TO_SEND FIRST ")"
	" UNION ALL"
	" SELECT n.action_id, n.retry_at FROM found f, LATERAL ("
	FIRST_TO_SEND " AND l.action_id > f.action_id" FIRST ") n)"
	" SELECT action_id, retry_at FROM found";

static const char *const turn_back_sql =
	"WITH late AS MATERIALIZED (SELECT q.tableoid AS rel, q.ctid AS tid"
	" FROM webhook.webhook_log q"
	" WHERE q.retry_at > $1 AND q.retry_at <= $2 AND q.status = 'Queued'"
	" FOR NO KEY UPDATE SKIP LOCKED)"
	" UPDATE webhook.webhook_log l SET retry_at = $1"
	" FROM late WHERE l.ctid = late.tid AND l.tableoid = late.rel";

static const char *const drop_action_sql =
	"UPDATE webhook.webhook_log SET status = 'Failed', retry_at = NULL,"
	" completed_at = pg_catalog.clock_timestamp(), error = 'action was dropped'"
	" WHERE action_id = $1 AND retry_at IS NOT NULL AND status <> 'Dispatched'"
	" AND NOT EXISTS (SELECT FROM webhook.action a WHERE a.action_id = $1)";

static const char *const disable_action_sql =
	"UPDATE webhook.action SET enabled = false WHERE action_id = $1 AND enabled";

List *
webhook_queue_actions(void)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext context = CurrentMemoryContext;
	List	   *actions;

	SPI_connect();
	webhook_statement_run(&plan, actions_sql, 0, NULL, NULL, NULL);
	actions = webhook_statement_ints(context);
	SPI_finish();
	return actions;
}

TimestampTz
webhook_queue_next_due(int32 action_id, TimestampTz after)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, TIMESTAMPTZOID};
	Datum		values[2];
	TimestampTz result = DT_NOEND;

	values[0] = Int32GetDatum(action_id);
	values[1] = TimestampTzGetDatum(after);
	SPI_connect();
	webhook_statement_run(&plan, next_due_sql, 2, types, values, NULL);
	if (SPI_processed > 0)
	{
		bool		isnull;

		result = DatumGetTimestampTz(webhook_statement_value(0, 1, &isnull));
	}
	SPI_finish();
	return result;
}

void
webhook_queue_survey(WebhookActionFound found, void *arg)
{
	static SPIPlanPtr plan = NULL;

	SPI_connect();
	webhook_statement_run(&plan, survey_sql, 0, NULL, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		action_id = webhook_statement_value(i, 1, &isnull);
		Datum		due = webhook_statement_value(i, 2, &isnull);

		found(DatumGetInt32(action_id), DatumGetTimestampTz(due), arg);
	}
	SPI_finish();
}

void
webhook_queue_turn_back(TimestampTz now, TimestampTz before)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[2];

	values[0] = TimestampTzGetDatum(now);
	values[1] = TimestampTzGetDatum(before);
	SPI_connect();
	webhook_statement_run(&plan, turn_back_sql, 2, types, values, NULL);
	SPI_finish();
}

/* Was there anything to change? */
static bool
execute_for_action(SPIPlanPtr *plan, const char *sql, int32 action_id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1];
	bool		is_changed;

	values[0] = Int32GetDatum(action_id);
	SPI_connect();
	webhook_statement_run(plan, sql, 1, types, values, NULL);
	is_changed = SPI_processed > 0;
	SPI_finish();
	return is_changed;
}

void
webhook_queue_drop_action(int32 action_id)
{
	static SPIPlanPtr plan = NULL;

	(void) execute_for_action(&plan, drop_action_sql, action_id);
}

bool
webhook_queue_disable_action(int32 action_id)
{
	static SPIPlanPtr plan = NULL;

	return execute_for_action(&plan, disable_action_sql, action_id);
}

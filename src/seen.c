/*-------------------------------------------------------------------------
 *
 * seen.c
 *	  Records that a workflow of recurrence "first" has met.
 *
 * Runs in sessions, with the rights of the extension's owner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "seen.h"
#include "statement.h"
#include "utils/builtins.h"

/*
 * A statement on webhook.seen with up to three parameters; rows changed.  It is
 * prepared once for the life of the process: to plan it took longer than to
 * execute it, for each record that is written.
 */
static uint64
change_seen(SPIPlanPtr *plan, const char *sql, int32 workflow_id,
			const char *record_id, const char *new_id)
{
	WebhookScope scope;
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3];
	int			n = 1;
	uint64		changed;

	values[0] = Int32GetDatum(workflow_id);
	if (record_id != NULL)
		values[n++] = CStringGetTextDatum(record_id);
	if (new_id != NULL)
		values[n++] = CStringGetTextDatum(new_id);
	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	webhook_statement_run(plan, sql, n, types, values, NULL);
	changed = SPI_processed;
	SPI_finish();
	webhook_scope_leave(&scope);
	return changed;
}

bool
webhook_seen_note(int32 workflow_id, const char *record_id)
{
	static SPIPlanPtr plan = NULL;

	return change_seen(&plan,
					   "INSERT INTO webhook.seen (workflow_id, record_id)"
					   " VALUES ($1, $2) ON CONFLICT DO NOTHING",
					   workflow_id, record_id, NULL) > 0;
}

void
webhook_seen_rename(int32 workflow_id, const char *old_id, const char *new_id)
{
	static SPIPlanPtr plan = NULL;

	if (old_id == NULL || new_id == NULL)
		return;					/* the key was dropped */
	(void) change_seen(&plan,
					   "WITH gone AS (DELETE FROM webhook.seen"
					   " WHERE workflow_id = $1 AND record_id = $2 RETURNING 1)"
					   " INSERT INTO webhook.seen (workflow_id, record_id)"
					   " SELECT $1, $3 FROM gone ON CONFLICT DO NOTHING",
					   workflow_id, old_id, new_id);
}

void
webhook_seen_forget(int32 workflow_id, const char *record_id)
{
	static SPIPlanPtr plan = NULL;

	(void) change_seen(&plan,
					   "DELETE FROM webhook.seen"
					   " WHERE workflow_id = $1 AND record_id = $2",
					   workflow_id, record_id, NULL);
}

void
webhook_seen_forget_all(int32 workflow_id)
{
	static SPIPlanPtr plan = NULL;

	(void) change_seen(&plan, "DELETE FROM webhook.seen WHERE workflow_id = $1",
					   workflow_id, NULL, NULL);
}

/*-------------------------------------------------------------------------
 *
 * origin.c
 *	  Is this the database whose webhooks were configured and queued, or a
 *	  copy of it?
 *
 * A copy must not send again what the original sends.  webhook.origin names
 * the database that the configuration is of: by the cluster's system
 * identifier, the database's OID and the extension's.  A dump carries the row, a
 * copied database or data directory has it too, and none of them is what it
 * says; a standby that is promoted is.
 *
 * The row is written by the first create_workflow, never by CREATE EXTENSION
 * or by the worker: while a dump is being restored there is none, and without
 * one nothing is sent, until the dumped one has come.
 *
 * Runs in sessions and in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "argument.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "origin.h"
#include "owner.h"
#include "statement.h"

PG_FUNCTION_INFO_V1(resume);

/* Run a statement on who we are ($1 to $3); returns the number of rows. */
static uint64
execute(const char *sql)
{
	Oid			types[3] = {INT8OID, OIDOID, OIDOID};
	Datum		values[3];

	values[0] = Int64GetDatum((int64) GetSystemIdentifier());
	values[1] = ObjectIdGetDatum(MyDatabaseId);
	values[2] = ObjectIdGetDatum(get_extension_oid("webhook", false));
	webhook_statement_execute(sql, 3, types, values, NULL);
	return SPI_processed;
}

#define IS_OURS "(system_identifier, database, extension) = ($1, $2, $3)"

static WebhookOrigin
find(void)
{
	if (execute("SELECT FROM webhook.origin WHERE NOT (" IS_OURS ") LIMIT 1") > 0)
		return WEBHOOK_ORIGIN_COPY;
	if (execute("SELECT FROM webhook.origin WHERE " IS_OURS) > 0)
		return WEBHOOK_ORIGIN_OWN;
	/* What is there without an origin has been restored. */
	return execute("SELECT FROM webhook.workflow LIMIT 1") > 0 ?
		WEBHOOK_ORIGIN_COPY : WEBHOOK_ORIGIN_NONE;
}

WebhookOrigin
webhook_origin_find(void)
{
	WebhookOrigin origin;

	SPI_connect();
	origin = find();
	SPI_finish();
	return origin;
}

void
webhook_origin_note(void)
{
	WebhookScope scope;

	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	execute("INSERT INTO webhook.origin (system_identifier, database, extension)"
			" SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT FROM webhook.origin)"
			" AND NOT EXISTS (SELECT FROM webhook.workflow)"
			" AND NOT EXISTS (SELECT FROM webhook.webhook_log WHERE retry_at IS NOT NULL)"
			" ON CONFLICT DO NOTHING");
	SPI_finish();
	webhook_scope_leave(&scope);
}

/* Whatever is queued ends here: what was inherited can't be told from the rest. */
static void
discard(void)
{
	execute("UPDATE webhook.webhook_log SET status = 'Failed', retry_at = NULL,"
			" completed_at = clock_timestamp(),"
			" error = 'discarded: it was inherited from the database that this one is a copy of, or queued before webhook.resume'"
			" WHERE retry_at IS NOT NULL");
	execute("UPDATE webhook.mail_log SET status = 'Failed', retry_at = NULL,"
			" completed_at = clock_timestamp(),"
			" error = 'discarded: it was inherited from the database that this one is a copy of, or queued before webhook.resume'"
			" WHERE retry_at IS NOT NULL");
	execute("DELETE FROM webhook.mail_note");
	execute("DELETE FROM webhook.mail_digest");
	execute("DELETE FROM webhook.mail_digest_item");
}

/* Logical replication brings rows, but not how far their sequences were. */
static void
advance_sequences(void)
{
#define ADVANCE(table, column) \
	execute("SELECT setval('webhook." table "_" column "_seq', t.last)" \
			" FROM (SELECT max(" column ") AS last FROM webhook." table ") t" \
			" WHERE t.last > (SELECT last_value FROM webhook." table "_" column "_seq)")
	ADVANCE("workflow", "workflow_id");
	ADVANCE("action", "action_id");
	ADVANCE("webhook_log", "log_id");
	ADVANCE("mail_note", "note_id");
	ADVANCE("mail_log", "mail_id");
#undef ADVANCE
}

/*
 * webhook.resume(discard_queue) returns void
 *		Let a copy send; discard_queue: but not what is queued so far.
 */
Datum
resume(PG_FUNCTION_ARGS)
{
	WebhookScope scope;

	webhook_argument_require(fcinfo, 0, "discard_queue");
	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	execute("LOCK TABLE webhook.origin IN SHARE ROW EXCLUSIVE MODE");
	if (find() == WEBHOOK_ORIGIN_OWN)
		ereport(NOTICE,
				(errmsg("this database is no copy: nothing is paused"),
				 errdetail("Nothing was changed.")));
	else
	{
		advance_sequences();
		if (PG_GETARG_BOOL(0))
			discard();
		execute("DELETE FROM webhook.origin");
		execute("INSERT INTO webhook.origin (system_identifier, database, extension)"
				" VALUES ($1, $2, $3)");
		/* pg_upgrade copies tables without firing triggers. */
		webhook_owner_note();
	}
	SPI_finish();
	webhook_scope_leave(&scope);
	PG_RETURN_VOID();
}

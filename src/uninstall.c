/*-------------------------------------------------------------------------
 *
 * uninstall.c
 *	  DROP EXTENSION beside those who write.
 *
 * Runs in the session that drops it.  Whoever writes has locked a module, and
 * then the log.  DROP EXTENSION alone would lock the log first, then the modules
 * of which it drops the triggers, and be in a deadlock with every writer: so
 * the modules are locked before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "catalog/pg_extension.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "compat.h"
#include "ddl.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "statement.h"
#include "storage/lmgr.h"
#include "utils/acl.h"

PG_FUNCTION_INFO_V1(before_drop);

/* Is it "DROP EXTENSION webhook", of somebody who may? */
static bool
drops_extension(Node *parsetree)
{
	Oid			extension = get_extension_oid("webhook", true);
	ListCell   *lc;

	if (!IsA(parsetree, DropStmt) || !OidIsValid(extension) ||
		!webhook_extension_ownercheck(extension, GetUserId()))
		return false;
	foreach(lc, ((DropStmt *) parsetree)->objects)
	{
		if (strcmp(strVal(lfirst(lc)), "webhook") == 0)
			return true;
	}
	return false;
}

/* The tables (OIDs) with triggers of ours: parents before their partitions. */
static List *
find_modules(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *result;
	WebhookScope scope;

	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	webhook_statement_execute("SELECT t.tgrelid FROM pg_trigger t"
							  " JOIN pg_proc p ON p.oid = t.tgfoid"
							  " JOIN pg_class c ON c.oid = t.tgrelid"
							  " WHERE p.pronamespace = 'webhook'::regnamespace"
							  " AND c.relnamespace <> p.pronamespace"
							  " GROUP BY 1 ORDER BY max(t.tgparentid) <> 0, 1",
							  0, NULL, NULL, NULL);
	result = webhook_statement_oids(context);
	SPI_finish();
	webhook_scope_leave(&scope);
	return result;
}

/*
 * webhook.before_drop() returns event_trigger
 *		The extension is to be dropped, with the triggers on modules.
 */
Datum
before_drop(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = webhook_ddl_event(fcinfo, "before_drop");
	ListCell   *lc;

	if (!drops_extension(event->parsetree) || !webhook_ddl_is_installed())
		PG_RETURN_VOID();
	foreach(lc, find_modules())
		LockRelationOid(lfirst_oid(lc), AccessExclusiveLock);
	PG_RETURN_VOID();
}

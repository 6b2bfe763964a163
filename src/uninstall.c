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
 * Called by a hook, for an event trigger would call a function of a library that
 * may be gone, or another one, by then: to drop the extension is what helps.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "compat.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "statement.h"
#include "storage/lmgr.h"
#include "uninstall.h"
#include "utils/acl.h"

/* Is it "DROP EXTENSION webhook", of somebody who may? */
static bool
drops_extension(const DropStmt *command)
{
	Oid			extension;
	ListCell   *lc;

	if (command->removeType != OBJECT_EXTENSION || XactReadOnly)
		return false;
	foreach(lc, command->objects)
	{
		if (strcmp(strVal(lfirst(lc)), "webhook") != 0)
			continue;
		extension = get_extension_oid("webhook", true);
		return OidIsValid(extension) &&
			webhook_extension_ownercheck(extension, GetUserId());
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

	webhook_scope_enter(&scope, GetUserId());
	SPI_connect();
	webhook_statement_execute("SELECT t.tgrelid FROM pg_trigger t"
							  " JOIN pg_proc p ON p.oid = t.tgfoid"
							  " JOIN pg_namespace n ON n.oid = p.pronamespace"
							  " JOIN pg_class c ON c.oid = t.tgrelid"
							  " WHERE n.nspname = 'webhook'"
							  " AND c.relnamespace <> n.oid"
							  " GROUP BY 1 ORDER BY max(t.tgparentid) <> 0, 1",
							  0, NULL, NULL, NULL);
	result = webhook_statement_oids(context);
	SPI_finish();
	webhook_scope_leave(&scope);
	return result;
}

void
webhook_uninstall_begin(const DropStmt *command)
{
	ListCell   *lc;

	if (!drops_extension(command))
		return;
	foreach(lc, find_modules())
		LockRelationOid(lfirst_oid(lc), AccessExclusiveLock);
}

/*-------------------------------------------------------------------------
 *
 * hooks.c
 *	  Commands that the workers must know of, and the end of a statement.
 *
 * Runs in sessions.  A worker is a session of its database: it has to go
 * before the database can be dropped, renamed, moved or copied, and comes
 * back afterwards.  COMMIT PREPARED commits what another session queued, and
 * DROP EXTENSION ends a worker's reason to be, once it has waited for those who
 * write.  ALTER EXTENSION UPDATE may make objects that the loaded library is too
 * old for.  REASSIGN OWNED gives workflows away.  The triggers of a statement are
 * fired in ExecutorFinish, or in COPY: what they queue is written at its end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "batch.h"
#include "catalog.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/user.h"
#include "commit.h"
#include "compat.h"
#include "executor/executor.h"
#include "hooks.h"
#include "launch.h"
#include "miscadmin.h"
#include "news.h"
#include "owner.h"
#include "slot.h"
#include "tcop/utility.h"
#include "uninstall.h"
#include "utils/acl.h"
#include "utils/syscache.h"

static ProcessUtility_hook_type prev_process_utility = NULL;
static ExecutorFinish_hook_type prev_executor_finish = NULL;
static object_access_hook_type prev_object_access = NULL;

/* The database that a command needs for itself; InvalidOid: none. */
static Oid
find_claimed_database(Node *command)
{
	const char *name = NULL;
	ListCell   *lc;

	switch (nodeTag(command))
	{
		case T_DropdbStmt:
			name = ((DropdbStmt *) command)->dbname;
			break;
		case T_CreatedbStmt:
			name = "template1";
			foreach(lc, ((CreatedbStmt *) command)->options)
			{
				DefElem    *option = lfirst_node(DefElem, lc);

				if (strcmp(option->defname, "template") == 0 && option->arg)
					name = defGetString(option);
			}
			break;
		case T_RenameStmt:
			if (((RenameStmt *) command)->renameType == OBJECT_DATABASE)
				name = ((RenameStmt *) command)->subname;
			break;
		case T_AlterDatabaseStmt:
			foreach(lc, ((AlterDatabaseStmt *) command)->options)
			{
				DefElem    *option = lfirst_node(DefElem, lc);

				if (strcmp(option->defname, "tablespace") == 0)
					name = ((AlterDatabaseStmt *) command)->dbname;
			}
			break;
		default:
			break;
	}
	return name != NULL ? get_database_oid(name, true) : InvalidOid;
}

/*
 * May the user do so?  PostgreSQL asks when it is about to, and whoever may not
 * must not end the workers by asking for it.
 */
static bool
may_claim(Node *command, Oid database)
{
	HeapTuple	tuple;
	bool		is_allowed = webhook_database_ownercheck(database, GetUserId());

	if (is_allowed || !IsA(command, CreatedbStmt))
		return is_allowed;
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (HeapTupleIsValid(tuple))
	{
		is_allowed = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	if (!is_allowed)
		return false;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (HeapTupleIsValid(tuple))
	{
		is_allowed = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return is_allowed;
}

/* Is it CREATE EXTENSION webhook, or ALTER EXTENSION webhook UPDATE? */
static bool
makes_version(Node *command)
{
	const char *name = NULL;

	if (IsA(command, CreateExtensionStmt))
		name = ((CreateExtensionStmt *) command)->extname;
	else if (IsA(command, AlterExtensionStmt))
		name = ((AlterExtensionStmt *) command)->extname;
	return name != NULL && strcmp(name, "webhook") == 0;
}

/* A command, as the hook was given it. */
typedef struct Utility
{
	PlannedStmt *pstmt;
	const char *query_string;
	bool		read_only_tree;
	ProcessUtilityContext context;
	ParamListInfo params;
	QueryEnvironment *query_env;
	DestReceiver *dest;
	QueryCompletion *qc;
} Utility;

static void
call_process_utility(void *arg)
{
	Utility    *u = arg;
	ProcessUtility_hook_type function = prev_process_utility ?
		prev_process_utility : standard_ProcessUtility;

	function(u->pstmt, u->query_string, u->read_only_tree, u->context,
			 u->params, u->query_env, u->dest, u->qc);
}

/*
 * What another session has prepared is committed: there may be new deliveries,
 * or the extension itself may be new.
 */
static void
tell_of_prepared(void)
{
	webhook_news_rescan(MyDatabaseId);
	if (!webhook_slot_has_worker(0) && webhook_catalog_exists())
		webhook_launch_request(MyDatabaseId);
}

/* A role's workflows go where its other objects went. */
static void
reassign_workflows(ReassignOwnedStmt *command)
{
	Oid			new_role = get_rolespec_oid(command->newrole, false);
	ListCell   *lc;

	CommandCounterIncrement();
	foreach(lc, roleSpecsToIds(command->roles))
		webhook_owner_reassign(lfirst_oid(lc), new_role);
}

static void
process_utility(PlannedStmt *pstmt, const char *query_string,
				bool read_only_tree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *query_env,
				DestReceiver *dest, QueryCompletion *qc)
{
	Utility		utility = {
		pstmt, query_string, read_only_tree, context, params, query_env, dest, qc
	};
	Node	   *command = pstmt->utilityStmt;
	const Oid	database = find_claimed_database(command);

	if (OidIsValid(database) && may_claim(command, database))
	{
		PG_TRY();
		{
			/* A wait that may be canceled. */
			webhook_launch_block(database);
			call_process_utility(&utility);
		}
		PG_FINALLY();
		{
			webhook_launch_unblock();
		}
		PG_END_TRY();
		return;
	}

	/* The triggers of COPY are fired here, and not by the executor. */
	if (IsA(command, CopyStmt) && ((CopyStmt *) command)->is_from)
	{
		webhook_batch_call(call_process_utility, &utility);
		return;
	}

	if (IsA(command, DropStmt))
		webhook_uninstall_begin((DropStmt *) command);
	call_process_utility(&utility);
	if (IsA(command, ReassignOwnedStmt) && webhook_catalog_exists())
		reassign_workflows((ReassignOwnedStmt *) command);
	if (IsA(command, TransactionStmt) &&
		((TransactionStmt *) command)->kind == TRANS_STMT_COMMIT_PREPARED)
		tell_of_prepared();
	else if (IsA(command, AlterDatabaseStmt))
		webhook_commit_launch();	/* it may be open to connections again */
	else if (makes_version(command))
		webhook_catalog_recheck();
}

static void
call_executor_finish(void *arg)
{
	QueryDesc  *query = arg;

	if (prev_executor_finish)
		prev_executor_finish(query);
	else
		standard_ExecutorFinish(query);
}

static void
executor_finish(QueryDesc *query)
{
	if (query->operation == CMD_SELECT && !query->plannedstmt->hasModifyingCTE)
		call_executor_finish(query);
	else
		webhook_batch_call(call_executor_finish, query);
}

static void
on_object_access(ObjectAccessType access, Oid class_id, Oid object_id,
				 int sub_id, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, class_id, object_id, sub_id, arg);

	if (access == OAT_DROP && class_id == ExtensionRelationId)
		webhook_commit_rescan();
}

void
webhook_hooks_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	prev_executor_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = executor_finish;
	prev_object_access = object_access_hook;
	object_access_hook = on_object_access;
}

/*-------------------------------------------------------------------------
 *
 * owner.c
 *	  Roles that workflows belong to, as PostgreSQL knows of them.
 *
 * Runs in sessions.  A value of type regrole is no dependency: left alone, a
 * role could be dropped, from any database, while its workflows go on.  So each
 * owner is noted in pg_shdepend, the way a privilege on the column
 * webhook.workflow.owner would be: DROP ROLE is then refused and names that
 * column.  What REASSIGN OWNED and DROP OWNED do to other objects of a role is
 * done to its workflows by hooks.c and ddl.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog.h"
#include "catalog/dependency.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_shdepend.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "module.h"
#include "owner.h"
#include "statement.h"
#include "storage/lmgr.h"
#include "triggers.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "wanted.h"
#include "workflow_table.h"

/* ---------------------------------------------------------------------
 * What PostgreSQL knows
 * ---------------------------------------------------------------------
 */

/* The column that stands for the workflows of a role. */
static AttrNumber
get_column(void)
{
	return get_attnum(webhook_catalog_relation(WEBHOOK_REL_WORKFLOW), "owner");
}

/* The roles (OIDs) that are noted. */
static List *
read_noted(void)
{
	Relation	catalog = table_open(SharedDependRelationId, AccessShareLock);
	ScanKeyData keys[4];
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *result = NIL;

	ScanKeyInit(&keys[0], Anum_pg_shdepend_dbid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(MyDatabaseId));
	ScanKeyInit(&keys[1], Anum_pg_shdepend_classid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&keys[2], Anum_pg_shdepend_objid, BTEqualStrategyNumber,
				F_OIDEQ,
				ObjectIdGetDatum(webhook_catalog_relation(WEBHOOK_REL_WORKFLOW)));
	ScanKeyInit(&keys[3], Anum_pg_shdepend_objsubid, BTEqualStrategyNumber,
				F_INT4EQ, Int32GetDatum(get_column()));
	scan = systable_beginscan(catalog, SharedDependDependerIndexId, true,
							  NULL, 4, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_shdepend form = (Form_pg_shdepend) GETSTRUCT(tuple);

		if (form->refclassid == AuthIdRelationId &&
			form->deptype == SHARED_DEPENDENCY_ACL)
			result = list_append_unique_oid(result, form->refobjid);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return result;
}

/* The roles (OIDs) that have workflows, as of now. */
static List *
read_owners(void)
{
	MemoryContext context = CurrentMemoryContext;
	SPIPlanPtr	plan;
	List	   *result;
	WebhookScope scope;

	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	plan = SPI_prepare("SELECT DISTINCT owner::oid FROM webhook.workflow", 0, NULL);
	PushActiveSnapshot(GetLatestSnapshot());
	if (plan == NULL ||
		SPI_execute_snapshot(plan, NULL, NULL, GetActiveSnapshot(),
							 InvalidSnapshot, true, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the owners of workflows");
	result = webhook_statement_oids(context);
	PopActiveSnapshot();
	SPI_finish();
	webhook_scope_leave(&scope);
	return result;
}

/* updateAclDependencies() frees the arrays that it gets. */
static void
note_role(Oid role, bool is_owner)
{
	Oid		   *roles = palloc(sizeof(Oid));

	*roles = role;
	updateAclDependencies(RelationRelationId,
						  webhook_catalog_relation(WEBHOOK_REL_WORKFLOW),
						  get_column(), InvalidOid,
						  is_owner ? 0 : 1, is_owner ? NULL : roles,
						  is_owner ? 1 : 0, is_owner ? roles : NULL);
}

/*
 * Whoever makes a workflow has its owner locked, so that he is not forgotten
 * for another one that is dropped meanwhile.
 */
void
webhook_owner_note(void)
{
	List	   *owners;
	List	   *noted;
	ListCell   *lc;

	CommandCounterIncrement();	/* see what this very statement did */
	owners = read_owners();
	foreach(lc, owners)
		LockSharedObject(AuthIdRelationId, lfirst_oid(lc), 0, AccessShareLock);
	noted = read_noted();
	foreach(lc, list_difference_oid(owners, noted))
		note_role(lfirst_oid(lc), true);
	foreach(lc, list_difference_oid(noted, owners))
	{
		LockSharedObject(AuthIdRelationId, lfirst_oid(lc), 0, AccessExclusiveLock);
		if (!list_member_oid(read_owners(), lfirst_oid(lc)))
			note_role(lfirst_oid(lc), false);
	}
	CommandCounterIncrement();
}

/* ---------------------------------------------------------------------
 * DROP OWNED and REASSIGN OWNED
 * ---------------------------------------------------------------------
 */

/* What the workflow or its actions compute (Jsonb *), as configured. */
static List *
read_computed(int32 workflow_id)
{
	MemoryContext context = CurrentMemoryContext;
	Oid			types[1] = {INT4OID};
	Datum		values[1];
	List	   *result = NIL;

	values[0] = Int32GetDatum(workflow_id);
	SPI_connect();
	if (SPI_execute_with_args("SELECT computed FROM webhook.workflow"
							  " WHERE workflow_id = $1 AND computed IS NOT NULL"
							  " UNION ALL "
							  "SELECT computed FROM webhook.action"
							  " WHERE workflow_id = $1 AND computed IS NOT NULL",
							  1, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read what workflow %d computes", workflow_id);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		result = lappend(result, webhook_statement_copy_jsonb(i, 1, context));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return result;
}

static void
execute_for_roles(const char *sql, Oid old_role, Oid new_role)
{
	Oid			types[2] = {OIDOID, OIDOID};
	Datum		values[2];

	values[0] = ObjectIdGetDatum(old_role);
	values[1] = ObjectIdGetDatum(new_role);
	SPI_connect();
	webhook_statement_execute(sql, 2, types, values, NULL);
	SPI_finish();
}

static void
add_workflow_context(void *arg)
{
	const WebhookWorkflow *workflow = arg;

	errcontext("workflow \"%s\", which goes to another owner", workflow->name);
}

/* He must be able to read all that it reads. */
static void
check_new_owner(WebhookWorkflow *workflow, Oid role)
{
	ErrorContextCallback callback;
	Relation	module;
	ListCell   *lc;

	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(workflow->module)))
		return;					/* only drop_workflow can be done with it */
	callback.callback = add_workflow_context;
	callback.arg = workflow;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	module = webhook_module_open(workflow->module, role, AccessShareLock);
	foreach(lc, read_computed(workflow->workflow_id))
		webhook_wanted_check(lfirst(lc), module, role);
	relation_close(module, NoLock);
	error_context_stack = callback.previous;
}

/* What is in the log belongs to whom the workflow belongs to. */
void
webhook_owner_reassign(Oid old_role, Oid new_role)
{
	List	   *workflows = webhook_workflow_table_find_owned(old_role);
	ListCell   *lc;
	WebhookScope scope;

	/* Looking for what is left of dropped ones would read the whole log. */
	if (workflows == NIL)
		return;
	webhook_scope_enter(&scope, webhook_catalog_owner());
	foreach(lc, workflows)
		check_new_owner(lfirst(lc), new_role);
	execute_for_roles("UPDATE webhook.workflow SET owner = $2 WHERE owner = $1",
					  old_role, new_role);
	execute_for_roles("UPDATE webhook.webhook_log SET owner = $2 WHERE owner = $1",
					  old_role, new_role);
	execute_for_roles("UPDATE webhook.mail_log SET owner = $2 WHERE owner = $1",
					  old_role, new_role);
	webhook_scope_leave(&scope);
}

/* Returns what was dropped. */
List *
webhook_owner_drop(Oid role)
{
	List	   *workflows = webhook_workflow_table_find_owned(role);
	ListCell   *lc;

	foreach(lc, workflows)
	{
		WebhookWorkflow *workflow = lfirst(lc);

		webhook_workflow_table_give_up(workflow->workflow_id);
		webhook_triggers_drop(workflow->module, workflow->workflow_id);
		webhook_workflow_table_delete(workflow->workflow_id);
	}
	return workflows;
}

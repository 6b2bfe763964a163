/*-------------------------------------------------------------------------
 *
 * column_change.c
 *	  Event trigger: a module's column is to be dropped, or to get another type.
 *
 * Runs in the session that changes the schema, before it does.  PostgreSQL
 * refuses to change a column that a trigger's WHEN clause uses, without a word
 * on what to do: that is said here.  The trigger that follows a record's key is
 * our own affair, and makes way.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "ddl.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "parser/parse_type.h"
#include "storage/lmgr.h"
#include "triggers.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "workflow_table.h"

PG_FUNCTION_INFO_V1(before_alter);

/* Types whose values are written the same. */
static bool
is_written_alike(Oid from, Oid to)
{
	bool		to_text = to == TEXTOID || to == VARCHAROID;

	switch (from)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
			return to == INT2OID || to == INT4OID || to == INT8OID || to_text;
		case TEXTOID:
		case VARCHAROID:
			return to_text;
		case UUIDOID:
			return to == UUIDOID || to_text;
		default:
			return false;
	}
}

static bool
is_written_like(Oid from, const TypeName *name)
{
	Type		to = LookupTypeName(NULL, name, NULL, true);
	bool		result = to != NULL && is_written_alike(from, typeTypeId(to));

	if (to != NULL)
		ReleaseSysCache(to);
	return result;
}

/*
 * Does a record keep its record_id when a column of the key gets this type?
 * USING may but cast the column.
 */
static bool
is_key_kept(AlterTableCmd *cmd, Oid type)
{
	ColumnDef  *def = castNode(ColumnDef, cmd->def);
	Node	   *using = def->raw_default;

	while (using != NULL && IsA(using, TypeCast))
	{
		if (!is_written_like(type, ((TypeCast *) using)->typeName))
			return false;
		using = ((TypeCast *) using)->arg;
	}
	if (using != NULL &&
		(!IsA(using, ColumnRef) ||
		 !equal(((ColumnRef *) using)->fields, list_make1(makeString(cmd->name)))))
		return false;
	return is_written_like(type, def->typeName);
}

/* The columns (AlterTableCmd *) that a command drops or gives another type. */
static List *
get_column_changes(Node *parsetree)
{
	List	   *result = NIL;
	ListCell   *lc;

	if (!IsA(parsetree, AlterTableStmt) ||
		((AlterTableStmt *) parsetree)->objtype != OBJECT_TABLE)
		return NIL;
	foreach(lc, ((AlterTableStmt *) parsetree)->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		if (cmd->subtype == AT_DropColumn || cmd->subtype == AT_AlterColumnType)
			result = lappend(result, cmd);
	}
	return result;
}

static void
refuse_column_change(const WebhookWorkflow *workflow, Relation module,
					 AlterTableCmd *cmd, const char *use, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
			 cmd->subtype == AT_DropColumn ?
			 errmsg("cannot drop column \"%s\" of table \"%s\"",
					cmd->name, RelationGetRelationName(module)) :
			 errmsg("cannot alter type of column \"%s\" of table \"%s\"",
					cmd->name, RelationGetRelationName(module)),
			 errdetail("Workflow \"%s\" %s.", workflow->name, use),
			 errhint("%s", hint)));
}

/*
 * What triggers on the module make of a change of its columns.  PostgreSQL
 * would refuse, without a word on what to do.  The trigger that follows the key
 * can make way, and is made anew by on_alter.
 */
static void
prepare_column_changes(const WebhookWorkflow *workflow, Oid altered,
					   List *changes)
{
	Relation	module = try_relation_open(workflow->module, AccessExclusiveLock);
	bool		is_released = false;
	ListCell   *lc;

	if (module == NULL)
		return;
	foreach(lc, changes)
	{
		AlterTableCmd *cmd = lfirst(lc);
		AttrNumber	column = get_attnum(workflow->module, cmd->name);

		/* A child that merely inherits may keep the column. */
		if (column <= 0 ||
			(cmd->subtype == AT_DropColumn && workflow->module != altered &&
			 !module->rd_rel->relispartition))
			continue;
		if (webhook_triggers_use_column(module, workflow->workflow_id, column))
			refuse_column_change(workflow, module, cmd,
								 "uses it in its criteria", WEBHOOK_CHANGE_HINT);
		if (!webhook_triggers_watch_column(module, workflow->workflow_id, column))
			continue;
		if (cmd->subtype == AT_DropColumn ||
			!is_key_kept(cmd, get_atttype(workflow->module, column)))
			refuse_column_change(workflow, module, cmd,
								 "knows by it which records it has met", WEBHOOK_KEY_HINT);
		is_released = true;
	}
	if (is_released)
		webhook_triggers_release_key(module, workflow->workflow_id);
	relation_close(module, NoLock);
}

/*
 * webhook.before_alter() returns event_trigger
 *		A column that triggers of workflows use is to be dropped, or to get
 *		another type.
 */
Datum
before_alter(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = webhook_ddl_event(fcinfo, "before_alter");
	List	   *changes = get_column_changes(event->parsetree);
	List	   *workflows;
	RangeVar   *name;
	Oid			relid;
	ListCell   *lc;

	if (changes == NIL || !webhook_ddl_is_installed())
		PG_RETURN_VOID();
	name = ((AlterTableStmt *) event->parsetree)->relation;
	relid = RangeVarGetRelid(name, NoLock, true);
	/* What PostgreSQL will refuse is none of ours. */
	if (!OidIsValid(relid) || !webhook_class_ownercheck(relid, GetUserId()))
		PG_RETURN_VOID();
	workflows = webhook_workflow_table_find(name->inh ? webhook_ddl_descendants(list_make1_oid(relid)) :
											list_make1_oid(relid));
	if (workflows == NIL)
		PG_RETURN_VOID();
	/* First the parent, as ALTER TABLE does it. */
	LockRelationOid(relid, AccessExclusiveLock);
	foreach(lc, workflows)
		prepare_column_changes(lfirst(lc), relid, changes);
	PG_RETURN_VOID();
}

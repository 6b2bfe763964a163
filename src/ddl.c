/*-------------------------------------------------------------------------
 *
 * ddl.c
 *	  Event triggers: what other people's DDL means for workflows.
 *
 * Runs in the session that changes the schema.  A dropped module takes its
 * workflows along; a change of a module that a workflow or an action could not
 * survive is refused while it can be; and who is given USAGE on schema webhook
 * is given what goes with it.  DDL that has nothing to do with a module must
 * neither fail nor become slow, and a dump must restore, whatever the order of
 * its commands: so only commands that can take away a column or the key are
 * looked at.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "commands/user.h"
#include "ddl.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "module.h"
#include "nodes/parsenodes.h"
#include "owner.h"
#include "statement.h"
#include "storage/lmgr.h"
#include "subtransaction.h"
#include "triggers.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "workflow.h"

PG_FUNCTION_INFO_V1(on_drop);
PG_FUNCTION_INFO_V1(on_alter);
PG_FUNCTION_INFO_V1(on_owned);
PG_FUNCTION_INFO_V1(before_grant);
PG_FUNCTION_INFO_V1(on_grant);

EventTriggerData *
webhook_ddl_event(FunctionCallInfo fcinfo, const char *function)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"webhook.%s\" must be called as an event trigger",
						function)));
	return (EventTriggerData *) fcinfo->context;
}

bool
webhook_ddl_is_installed(void)
{
	Oid			extension = get_extension_oid("webhook", true);
	Oid			schema = get_namespace_oid("webhook", true);

	return OidIsValid(extension) && OidIsValid(schema) &&
		!(creating_extension && CurrentExtensionObject == extension) &&
		OidIsValid(get_relname_relid("workflow", schema)) &&
		OidIsValid(get_relname_relid("webhook_log", schema));
}

/* The relations (OIDs) that a query on the event gives. */
static List *
read_relations(const char *sql)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *result;
	WebhookScope scope;

	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	if (SPI_execute(sql, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not execute: %s", sql);
	result = webhook_statement_oids(context);
	SPI_finish();
	webhook_scope_leave(&scope);
	return result;
}

/* ---------------------------------------------------------------------
 * Changed modules
 * ---------------------------------------------------------------------
 */

/* Can the command take a column, the primary key or a name away? */
static bool
is_breaking(Node *parsetree)
{
	ListCell   *lc;

	if (IsA(parsetree, RenameStmt) || IsA(parsetree, AlterObjectSchemaStmt))
		return true;
	if (IsA(parsetree, AlterEnumStmt))
		return ((AlterEnumStmt *) parsetree)->oldVal != NULL;
	if (!IsA(parsetree, AlterTableStmt))
		return false;
	foreach(lc, ((AlterTableStmt *) parsetree)->cmds)
	{
		switch (lfirst_node(AlterTableCmd, lc)->subtype)
		{
			case AT_DropColumn:
			case AT_DropConstraint:
			case AT_AlterColumnType:
				return true;
			default:
				break;
		}
	}
	return false;
}

List *
webhook_ddl_descendants(List *relations)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, relations)
	{
		Oid			relid = lfirst_oid(lc);

		if (has_subclass(relid))
			result = list_concat_unique_oid(result,
											find_all_inheritors(relid, NoLock, NULL));
		else
			result = list_append_unique_oid(result, relid);
	}
	return result;
}

/*
 * Is the workflow just being restored, or taken down, by a dump's script?  It has no
 * triggers then.  A schedule's never has any; but a script drops keys before tables,
 * one piece after the other.
 */
static bool
is_incomplete(const WebhookWorkflow *workflow, Relation module, bool is_piece)
{
	if (strcmp(workflow->trigger, "schedule") == 0)
		return is_piece && webhook_module_key(module) == NULL;
	return !webhook_triggers_exist(module, workflow->workflow_id);
}

typedef struct Fit
{
	WebhookWorkflow *workflow;
	Relation	module;
	bool		is_piece;
	bool		is_changed;
} Fit;

/*
 * The keys, actions and owner_email of one that is don't matter.  Where its own
 * module has not changed, only what names other objects can have become a
 * misfit.
 */
static void
check_fit(void *arg)
{
	Fit		   *fit = arg;
	WebhookWorkflow *workflow = fit->workflow;
	Relation	module = fit->module;
	bool		is_whole = !is_incomplete(workflow, module, fit->is_piece);

	webhook_workflow_fit_columns(workflow, module, is_whole);
	if (!is_whole)
		return;
	if (!webhook_triggers_match_key(module, workflow->workflow_id))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("recurrence \"first\" needs the primary key as it was"),
				 errhint(WEBHOOK_KEY_HINT)));
	webhook_workflow_fit_actions(workflow->workflow_id, workflow->module,
								 !fit->is_changed);
}

/* Is it what a check says, and not a matter of locks, memory or the like? */
static bool
is_misfit(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case MAKE_SQLSTATE('0', 'A', '0', '0', '0'):
		case MAKE_SQLSTATE('2', '2', '0', '0', '0'):
		case MAKE_SQLSTATE('3', 'F', '0', '0', '0'):
		case MAKE_SQLSTATE('4', '2', '0', '0', '0'):
			return true;
		default:
			return sqlerrcode == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
	}
}

/* The first line of an error's context: which action it is about. */
static char *
get_place(const char *context)
{
	return pnstrdup(context, strcspn(context, "\n"));
}

/*
 * That the workflow's owner lacks a privilege is not this change's doing, and
 * would refuse every other one, too.
 */
static void
refuse_misfit(WebhookWorkflow *workflow, bool is_piece, bool is_changed)
{
	Relation	module = try_relation_open(workflow->module, AccessShareLock);
	Fit			fit = {workflow, module, is_piece, is_changed};
	ErrorData  *error;

	if (module == NULL)
		return;
	error = webhook_subtransaction_call(check_fit, &fit, NULL);
	if (error != NULL && !is_misfit(error->sqlerrcode))
		ReThrowError(error);
	if (error != NULL && error->sqlerrcode != ERRCODE_INSUFFICIENT_PRIVILEGE)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot change what workflow \"%s\" on table \"%s\" needs: %s",
						workflow->name, RelationGetRelationName(module),
						error->message),
				 error->context != NULL ? errdetail_internal("%s", get_place(error->context)) : 0,
				 errhint("%s", error->sqlerrcode == ERRCODE_INVALID_OBJECT_DEFINITION &&
						 error->hint != NULL ? error->hint : WEBHOOK_CHANGE_HINT)));
	relation_close(module, NoLock);
}

/*
 * Refuse what a workflow with related or computed values, or whose condition
 * names it, could not survive.
 */
static void
refuse_computing_misfits(bool is_piece)
{
	ListCell   *lc;
	WebhookScope scope;

	webhook_scope_enter(&scope, webhook_catalog_owner());
	foreach(lc, webhook_workflow_table_find_computing())
		refuse_misfit(lfirst(lc), is_piece, false);
	webhook_scope_leave(&scope);
}

/* A column went with its type, say: refuse what its workflows could not survive. */
static void
refuse_cascades_to_modules(bool is_piece)
{
	List	   *changed = read_relations("SELECT DISTINCT objid"
										" FROM pg_event_trigger_dropped_objects()"
										" WHERE NOT is_temporary"
										" AND object_type = 'table column'");
	ListCell   *lc;
	WebhookScope scope;

	if (changed == NIL)
		return;
	webhook_scope_enter(&scope, webhook_catalog_owner());
	foreach(lc, webhook_workflow_table_find(webhook_ddl_descendants(changed)))
		refuse_misfit(lfirst(lc), is_piece, true);
	webhook_scope_leave(&scope);
}

/* As DROP ... CASCADE tells of what goes along. */
static void
tell_dropped(List *workflows)
{
	StringInfoData names;
	ListCell   *lc;

	if (list_length(workflows) == 1)
		ereport(NOTICE,
				(errmsg("drop cascades to workflow \"%s\"",
						((WebhookWorkflow *) linitial(workflows))->name)));
	if (list_length(workflows) <= 1)
		return;
	initStringInfo(&names);
	foreach(lc, workflows)
		appendStringInfo(&names, "%sdrop cascades to workflow \"%s\"",
						 names.len > 0 ? "\n" : "",
						 ((WebhookWorkflow *) lfirst(lc))->name);
	ereport(NOTICE,
			(errmsg("drop cascades to %d workflows", list_length(workflows)),
			 errdetail_internal("%s", names.data)));
}

/* May it be a piece that a dump's script drops?  A table goes with its indexes. */
static bool
is_piece(void)
{
	return read_relations("SELECT objid FROM pg_event_trigger_dropped_objects()"
					   " WHERE object_type = 'index'"
					   " AND schema_name <> 'pg_toast'") == NIL;
}

/*
 * webhook.on_drop() returns event_trigger
 *		Drop the workflows of dropped modules; refuse to drop what related and
 *		computed values of others need.
 */
Datum
on_drop(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = webhook_ddl_event(fcinfo, "on_drop");
	List	   *dropped;
	List	   *workflows;
	ListCell   *lc;
	bool		may_be_piece;

	if (!webhook_ddl_is_installed())
		PG_RETURN_VOID();
	dropped = read_relations("SELECT CASE WHEN classid = 'pg_class'::regclass"
							 " AND objsubid = 0 THEN objid ELSE 0 END"
							 " FROM pg_event_trigger_dropped_objects()"
							 " WHERE NOT is_temporary AND object_type IN"
							 " ('table', 'view', 'materialized view', 'foreign table',"
							 " 'table column', 'view column', 'materialized view column',"
							 " 'foreign table column', 'function', 'aggregate',"
							 " 'operator', 'type', 'schema', 'collation', 'sequence',"
							 " 'text search configuration')");
	if (dropped == NIL)
		PG_RETURN_VOID();
	workflows = webhook_workflow_table_find(dropped);
	foreach(lc, workflows)
	{
		int32		workflow_id = ((WebhookWorkflow *) lfirst(lc))->workflow_id;

		webhook_workflow_table_give_up(workflow_id);
		webhook_workflow_table_delete(workflow_id);
	}
	tell_dropped(workflows);
	/* What ALTER TABLE drops is breaking, and looked at by on_alter. */
	if (event->tag == CMDTAG_ALTER_TABLE)
		PG_RETURN_VOID();
	may_be_piece = is_piece();
	refuse_cascades_to_modules(may_be_piece);
	refuse_computing_misfits(may_be_piece);
	PG_RETURN_VOID();
}

/* The trigger that made way for a key's new type. */
static void
restore_key(const WebhookWorkflow *workflow)
{
	Relation	module;

	if (strcmp(workflow->recurrence, "first") != 0)
		return;
	module = try_relation_open(workflow->module, ShareRowExclusiveLock);
	if (module == NULL)
		return;
	webhook_triggers_restore_key(module, workflow->workflow_id, workflow->name);
	relation_close(module, NoLock);
}

/* All that is ours is found by the schema's name: every write would fail. */
static void
refuse_rename_of_schema(Node *parsetree)
{
	RenameStmt *command = (RenameStmt *) parsetree;

	if (IsA(parsetree, RenameStmt) && command->renameType == OBJECT_SCHEMA &&
		strcmp(command->subname, "webhook") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("schema \"%s\" can't be renamed", command->subname),
				 errdetail("It is the schema of extension \"%s\".", "webhook")));
}

/*
 * webhook.on_alter() returns event_trigger
 *		Refuse a change that breaks a workflow or an action.
 */
Datum
on_alter(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = webhook_ddl_event(fcinfo, "on_alter");
	List	   *altered;
	ListCell   *lc;
	WebhookScope scope;

	refuse_rename_of_schema(event->parsetree);
	if (!is_breaking(event->parsetree) || !webhook_ddl_is_installed())
		PG_RETURN_VOID();
	altered = read_relations("SELECT DISTINCT objid"
							 " FROM pg_event_trigger_ddl_commands()"
							 " WHERE classid = 'pg_class'::regclass");
	webhook_scope_enter(&scope, webhook_catalog_owner());
	foreach(lc, webhook_workflow_table_find(webhook_ddl_descendants(altered)))
	{
		restore_key(lfirst(lc));
		refuse_misfit(lfirst(lc), false, true);
	}
	webhook_scope_leave(&scope);
	refuse_computing_misfits(false);
	PG_RETURN_VOID();
}

/*
 * webhook.on_owned() returns event_trigger
 *		A role's workflows go with its other objects.  PostgreSQL has checked
 *		that whoever says so may.
 */
Datum
on_owned(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = webhook_ddl_event(fcinfo, "on_owned");
	List	   *dropped = NIL;
	ListCell   *lc;

	if (!IsA(event->parsetree, DropOwnedStmt) || !webhook_ddl_is_installed())
		PG_RETURN_VOID();
	foreach(lc, roleSpecsToIds(((DropOwnedStmt *) event->parsetree)->roles))
		dropped = list_concat(dropped, webhook_owner_drop(lfirst_oid(lc)));
	tell_dropped(dropped);
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------------
 * Who may use the extension
 * ---------------------------------------------------------------------
 */

/* The schema that an object of a GRANT names; NULL: none, or not our kind. */
static const char *
get_named_schema(Node *object)
{
	if (IsA(object, String))
		return strVal(object);
	if (IsA(object, RangeVar))
		return ((RangeVar *) object)->schemaname;
	if (IsA(object, ObjectWithArgs) &&
		list_length(((ObjectWithArgs *) object)->objname) > 1)
		return strVal(linitial(((ObjectWithArgs *) object)->objname));
	return NULL;
}

/* Is it about privileges on our schema, or (!only_schema) on what is in it? */
static bool
is_our_grant(Node *parsetree, bool only_schema)
{
	GrantStmt  *stmt = (GrantStmt *) parsetree;
	ListCell   *lc;

	if (!IsA(stmt, GrantStmt) ||
		(only_schema && stmt->objtype != OBJECT_SCHEMA))
		return false;
	foreach(lc, stmt->objects)
	{
		const char *schema = get_named_schema(lfirst(lc));

		if (schema != NULL && strcmp(schema, "webhook") == 0)
			return true;
	}
	return false;
}

/*
 * webhook.before_grant() returns event_trigger
 *		One after the other.  PostgreSQL locks nothing for a GRANT, and two at a
 *		time on one object fail with "tuple concurrently updated": a parallel
 *		restore's own GRANTs met those of on_grant.
 */
Datum
before_grant(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = webhook_ddl_event(fcinfo, "before_grant");

	if (is_our_grant(event->parsetree, false) && webhook_ddl_is_installed())
		LockDatabaseObject(ExtensionRelationId,
						   get_extension_oid("webhook", false), 0,
						   ShareUpdateExclusiveLock);
	PG_RETURN_VOID();
}

/*
 * What is missing and what is too much, as statements.  A view's functions are
 * called with the rights of whoever reads it, so the stat_* functions go with
 * their views, internal as they are.  To let a copy send is for superusers, and
 * for whom they grant it by name.  A view of the log needs its column's type.
 */
static const char *const grants_sql =
"WITH wanted AS ("
" SELECT DISTINCT a.grantee"
" FROM pg_namespace n, aclexplode(n.nspacl) a"
" WHERE n.nspname = 'webhook' AND a.privilege_type = 'USAGE'"
" AND a.grantee <> n.nspowner), "
"member AS ("
" SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e"
" ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid"
" WHERE d.deptype = 'e' AND e.extname = 'webhook'), "
"object AS ("
" SELECT 'EXECUTE ON FUNCTION' AS what, 'EXECUTE' AS privilege,"
" p.oid::regprocedure::text AS name, p.proowner AS owner,"
" coalesce(p.proacl, acldefault('f', p.proowner)) AS acl"
" FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid"
" WHERE p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)"
" AND p.proname <> 'resume'"
" AND (p.proname LIKE 'stat\\_%'"
" OR coalesce(obj_description(p.oid, 'pg_proc'), '') NOT LIKE 'internal: %')"
" UNION ALL"
" SELECT 'SELECT ON TABLE', 'SELECT', c.oid::regclass::text, c.relowner,"
" coalesce(c.relacl, acldefault('r', c.relowner))"
" FROM pg_class c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid"
" WHERE c.relkind = 'r' AND c.relname IN"
" ('workflow', 'action', 'webhook_log', 'webhook_attempt', 'mail_log')"
" OR c.relkind = 'v' AND c.relname LIKE 'stat\\_%'"
" UNION ALL"
" SELECT 'USAGE ON TYPE', 'USAGE', t.oid::regtype::text, t.typowner,"
" coalesce(t.typacl, acldefault('T', t.typowner))"
" FROM pg_type t JOIN member m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid"
" WHERE t.typtype = 'e'), "
"held AS ("
" SELECT o.what, o.name, a.grantee, o.owner"
" FROM object o, aclexplode(o.acl) a"
" WHERE a.privilege_type = o.privilege AND a.grantee <> o.owner), "
"change AS ("
" SELECT 'GRANT %s %s TO %s' AS statement, what, name, grantee"
" FROM (SELECT o.what, o.name, w.grantee FROM object o, wanted w"
" WHERE w.grantee <> o.owner"
" EXCEPT SELECT what, name, grantee FROM held) missing"
" UNION ALL"
" SELECT 'REVOKE %s %s FROM %s', what, name, grantee"
" FROM (SELECT what, name, grantee FROM held"
" WHERE grantee NOT IN (SELECT grantee FROM wanted)) lost) "
"SELECT format(c.statement, c.what, string_agg(c.name, ', ' ORDER BY c.name),"
" CASE c.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END)"
" FROM change c LEFT JOIN pg_roles r ON r.oid = c.grantee"
" WHERE c.grantee = 0 OR r.oid IS NOT NULL"
" GROUP BY c.statement, c.what, c.grantee, r.rolname"
" ORDER BY c.statement, c.what, r.rolname";

/*
 * webhook.on_grant() returns event_trigger
 *		Let privileges on functions, tables and the type follow USAGE on the
 *		schema.  The statements that this takes fire the event trigger again; they
 *		are not about the schema.
 */
Datum
on_grant(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = webhook_ddl_event(fcinfo, "on_grant");
	SPITupleTable *statements;
	uint64		n;
	WebhookScope scope;

	if (!is_our_grant(event->parsetree, true) || !webhook_ddl_is_installed())
		PG_RETURN_VOID();

	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	if (SPI_execute(grants_sql, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the privileges in schema webhook");
	statements = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
	{
		char	   *statement = SPI_getvalue(statements->vals[i],
											 statements->tupdesc, 1);

		if (SPI_execute(statement, false, 0) != SPI_OK_UTILITY)
			elog(ERROR, "could not execute: %s", statement);
	}
	SPI_finish();
	webhook_scope_leave(&scope);
	PG_RETURN_VOID();
}

/*-------------------------------------------------------------------------
 *
 * triggers.c
 *	  A workflow's triggers on its module.
 *
 * Runs in sessions.  A workflow is one to three row triggers that call
 * webhook.enqueue(), with the criteria as their WHEN clauses.  On a
 * partitioned module two more follow a row from partition to partition, and
 * recurrence "first" has three that call webhook.forget() when a record's key
 * changes or it goes.
 *
 * CreateTriggerFiringOn() is called directly with an analyzed WHEN clause: a CREATE
 * TRIGGER statement would analyze it under the search path of the caller, in
 * the extension owner's name, and so would everything run that other people's
 * event triggers do.  Triggers are found again by their function and first
 * argument, because anybody may rename them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "module.h"
#include "name.h"
#include "optimizer/optimizer.h"
#include "triggers.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

typedef enum TriggerPurpose
{
	TRIGGER_ENQUEUE,
	TRIGGER_MOVE,
	TRIGGER_FORGET
} TriggerPurpose;

/* A trigger to be made. */
typedef struct TriggerPlan
{
	const char *suffix;
	TriggerPurpose purpose;
	int16		event;
	Node	   *when;
	List	   *range_table;
} TriggerPlan;

#define MAX_TRIGGERS 8

/* By a look-up that asks for no rights on the schema. */
static Oid
find_function(const char *name)
{
	Oid			oid = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
									  CStringGetDatum(name),
									  PointerGetDatum(buildoidvector(NULL, 0)),
									  ObjectIdGetDatum(get_namespace_oid("webhook", false)));

	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function webhook.%s() does not exist", name),
				 errhint("Is the extension \"webhook\" installed in this database?")));
	return oid;
}

/* ---------------------------------------------------------------------
 * Which triggers
 * ---------------------------------------------------------------------
 */

static void
add_plan(TriggerPlan *plans, int *n, const char *suffix, TriggerPurpose purpose,
		 int16 event, Node *when, List *range_table)
{
	Assert(*n < MAX_TRIGGERS);
	plans[(*n)++] = (TriggerPlan) {suffix, purpose, event, when, range_table};
}

static void
plan_enqueue(TriggerPlan *plans, int *n, const char *trigger, bool is_change,
			 const WebhookCriteria *criteria)
{
	static const struct
	{
		const char *suffix;
		WebhookRowEvent event;
		int16		tgtype;
		const char *trigger;
	}			events[] = {
		{"insert", WEBHOOK_ROW_INSERT, TRIGGER_TYPE_INSERT, "create"},
		{"update", WEBHOOK_ROW_UPDATE, TRIGGER_TYPE_UPDATE, "update"},
		{"delete", WEBHOOK_ROW_DELETE, TRIGGER_TYPE_DELETE, "delete"},
	};
	bool		is_save = strcmp(trigger, "save") == 0;

	for (int i = 0; i < lengthof(events); i++)
	{
		Node	   *when = NULL;

		if (strcmp(trigger, events[i].trigger) != 0 &&
			!(is_save && events[i].event != WEBHOOK_ROW_DELETE))
			continue;
		if (criteria != NULL)
			when = webhook_criteria_when(criteria, events[i].event, is_change);
		add_plan(plans, n, events[i].suffix, TRIGGER_ENQUEUE, events[i].tgtype,
				 when, criteria == NULL ? NIL : criteria->range_table);
	}
}

/*
 * How a key's column is compared.  What counts is the record_id, a text: where
 * values of a type can be equal and yet written differently (1.0 and 1.00),
 * the texts are compared.
 */
static const char *
get_key_format(Oid type, Oid collation)
{
	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case UUIDOID:
		case DATEOID:
			return "old.%1$s IS DISTINCT FROM new.%1$s";
		case TEXTOID:
		case VARCHAROID:
			if (get_collation_isdeterministic(collation))
				return "old.%1$s IS DISTINCT FROM new.%1$s";
			break;
		default:
			break;
	}
	return "old.%1$s::text COLLATE \"C\" IS DISTINCT FROM new.%1$s::text COLLATE \"C\"";
}

/* The WHEN clause: the primary key has changed. */
static WebhookCriteria *
compile_key_change(Relation module, const char *workflow)
{
	TupleDesc	desc = RelationGetDescr(module);
	StringInfoData condition;
	Bitmapset  *key = webhook_module_key(module);
	int			member = -1;

	initStringInfo(&condition);
	while ((member = bms_next_member(key, member)) >= 0)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc,
													member + FirstLowInvalidHeapAttributeNumber - 1);

		if (condition.len > 0)
			appendStringInfoString(&condition, " OR ");
		appendStringInfo(&condition, get_key_format(attribute->atttypid,
													attribute->attcollation),
						 quote_identifier(NameStr(attribute->attname)));
	}
	return webhook_criteria_compile(workflow, condition.data, module, false);
}

static void
plan_forget(TriggerPlan *plans, int *n, Relation module, const char *workflow)
{
	WebhookCriteria *change = compile_key_change(module, workflow);

	add_plan(plans, n, "forget_delete", TRIGGER_FORGET, TRIGGER_TYPE_DELETE,
			 NULL, NIL);
	add_plan(plans, n, "forget_update", TRIGGER_FORGET, TRIGGER_TYPE_UPDATE,
			 change->expression, change->range_table);
	add_plan(plans, n, "forget_truncate", TRIGGER_FORGET,
			 TRIGGER_TYPE_TRUNCATE, NULL, NIL);
}

/* ---------------------------------------------------------------------
 * What they are called
 * ---------------------------------------------------------------------
 */

static bool
is_name_taken(List *relations, const char *name)
{
	ListCell   *lc;

	foreach(lc, relations)
	{
		if (OidIsValid(get_trigger_oid(lfirst_oid(lc), name, true)))
			return true;
	}
	return false;
}

/* Is webhook_<base>_<suffix> too long, or there already, for any of them? */
static bool
is_base_usable(const TriggerPlan *plans, int n, List *relations,
			   const char *base)
{
	for (int i = 0; i < n; i++)
	{
		char	   *name = psprintf("webhook_%s_%s", base, plans[i].suffix);

		if (strlen(name) >= NAMEDATALEN || is_name_taken(relations, name))
			return false;
	}
	return true;
}

/*
 * What stands between "webhook_" and the suffixes: the same for all triggers
 * of a workflow, because PostgreSQL fires triggers in the order of their
 * names.  delete must come before forget_delete, insert before move_insert.
 */
static char *
choose_base(const TriggerPlan *plans, int n, Relation module,
			const char *workflow, int32 workflow_id)
{
	List	   *relations = list_make1_oid(RelationGetRelid(module));
	char	   *id;
	int			longest = 0;
	int			room;

	if (module->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		relations = find_all_inheritors(RelationGetRelid(module),
										ShareRowExclusiveLock, NULL);
	if (is_base_usable(plans, n, relations, workflow))
		return pstrdup(workflow);

	for (int i = 0; i < n; i++)
		longest = Max(longest, (int) strlen(plans[i].suffix));
	id = psprintf("_%d", workflow_id);
	for (int i = 2;; i++)
	{
		char	   *base;

		room = NAMEDATALEN - 1 - strlen("webhook_") - strlen(id) - 1 - longest;
		base = psprintf("%.*s%s", pg_mbcliplen(workflow, strlen(workflow), room),
						workflow, id);
		/* Another workflow may be called just so. */
		if (is_base_usable(plans, n, relations, base))
			return base;
		id = psprintf("_%d_%d", workflow_id, i);
	}
}

/* ---------------------------------------------------------------------
 * Made, found, dropped
 * ---------------------------------------------------------------------
 */

static void
create_trigger(Relation module, int32 workflow_id, const char *base,
			   TriggerPlan *plan, char fires)
{
	CreateTrigStmt *stmt = makeNode(CreateTrigStmt);
	ObjectAddress address;

	stmt->trigname = psprintf("webhook_%s_%s", base, plan->suffix);
	stmt->args = list_make1(makeString(psprintf("%d", workflow_id)));
	if (plan->purpose == TRIGGER_MOVE)
		stmt->args = lappend(stmt->args, makeString(pstrdup("move")));
	stmt->row = plan->event != TRIGGER_TYPE_TRUNCATE;
	stmt->timing = TRIGGER_TYPE_AFTER;
	stmt->events = plan->event;

	address = CreateTriggerFiringOn(stmt, NULL, RelationGetRelid(module),
									InvalidOid, InvalidOid, InvalidOid,
									find_function(plan->purpose == TRIGGER_FORGET ?
												  "forget" : "enqueue"),
									InvalidOid, copyObject(plan->when), false,
									false, fires);

	/* CreateTriggerFiringOn() leaves it to whoever analyzed the clause. */
	if (plan->when != NULL)
		recordDependencyOnExpr(&address, plan->when, plan->range_table,
							   DEPENDENCY_NORMAL);
	CommandCounterIncrement();
}

void
webhook_triggers_create(Relation module, const WebhookWorkflow *workflow,
						const WebhookCriteria *criteria, char fires)
{
	TriggerPlan plans[MAX_TRIGGERS];
	bool		is_scheduled = strcmp(workflow->trigger, "schedule") == 0;
	int			n = 0;
	char	   *base;
	WebhookScope scope;

	webhook_scope_enter(&scope, webhook_catalog_owner());
	if (!is_scheduled)
		plan_enqueue(plans, &n, workflow->trigger,
					 strcmp(workflow->recurrence, "change") == 0, criteria);
	if (strcmp(workflow->recurrence, "first") == 0)
		plan_forget(plans, &n, module, workflow->name);
	/* A delete workflow tells such a delete by the row itself. */
	if (module->rd_rel->relkind == RELKIND_PARTITIONED_TABLE &&
		strcmp(workflow->trigger, "delete") != 0 && !is_scheduled)
	{
		add_plan(plans, &n, "move_delete", TRIGGER_MOVE, TRIGGER_TYPE_DELETE,
				 NULL, NIL);
		add_plan(plans, &n, "move_insert", TRIGGER_MOVE, TRIGGER_TYPE_INSERT,
				 NULL, NIL);
	}

	base = choose_base(plans, n, module, workflow->name, workflow->workflow_id);
	for (int i = 0; i < n; i++)
		create_trigger(module, workflow->workflow_id, base, &plans[i], fires);
	webhook_scope_leave(&scope);
}

/*
 * The workflow's triggers on the module itself (Trigger *).  They are copies: the
 * relation cache may read its own anew at each look-up in a catalog.
 */
static List *
find_triggers(Relation module, int32 workflow_id, bool enqueue, bool forget)
{
	TriggerDesc *desc = CopyTriggerDesc(module->trigdesc);
	Oid			enqueue_oid = enqueue ? find_function("enqueue") : InvalidOid;
	Oid			forget_oid = forget ? find_function("forget") : InvalidOid;
	List	   *result = NIL;

	if (desc == NULL)
		return NIL;
	for (int i = 0; i < desc->numtriggers; i++)
	{
		Trigger    *trigger = &desc->triggers[i];

		if (trigger->tgisinternal || trigger->tgisclone ||
			trigger->tgnargs < 1 ||
			(trigger->tgfoid != enqueue_oid && trigger->tgfoid != forget_oid) ||
			strcmp(trigger->tgargs[0], psprintf("%d", workflow_id)) != 0)
			continue;
		result = lappend(result, trigger);
	}
	return result;
}

static void
drop_triggers(List *triggers)
{
	ObjectAddresses *addresses = new_object_addresses();
	ListCell   *lc;

	foreach(lc, triggers)
	{
		ObjectAddress address;

		ObjectAddressSet(address, TriggerRelationId,
						 ((Trigger *) lfirst(lc))->tgoid);
		add_exact_object_address(&address, addresses);
	}
	performMultipleDeletions(addresses, DROP_RESTRICT,
							 PERFORM_DELETION_INTERNAL);
	free_object_addresses(addresses);
	CommandCounterIncrement();
}

void
webhook_triggers_drop(Oid module, int32 workflow_id)
{
	Relation	rel = try_relation_open(module, AccessExclusiveLock);
	List	   *triggers;

	if (rel == NULL)
		return;					/* the triggers went with it */
	triggers = find_triggers(rel, workflow_id, true, true);
	relation_close(rel, NoLock);
	drop_triggers(triggers);
}

void
webhook_triggers_enable(Oid module, int32 workflow_id, bool enabled)
{
	Relation	rel = try_relation_open(module, ShareRowExclusiveLock);
	StringInfoData sql;
	ListCell   *lc;
	WebhookScope scope;

	if (rel == NULL)
		return;					/* the triggers went with it */
	initStringInfo(&sql);
	foreach(lc, find_triggers(rel, workflow_id, true, false))
	{
		/* One that somebody let fire on a replica, too, stays so: see enqueue(). */
		if (((Trigger *) lfirst(lc))->tgenabled !=
			(enabled ? TRIGGER_DISABLED : TRIGGER_FIRES_ON_ORIGIN))
			continue;
		if (sql.len == 0)
			appendStringInfo(&sql, "ALTER TABLE %s", webhook_name_relation(rel));
		else
			appendStringInfoChar(&sql, ',');
		appendStringInfo(&sql, " %s TRIGGER %s", enabled ? "ENABLE" : "DISABLE",
						 quote_identifier(((Trigger *) lfirst(lc))->tgname));
	}
	relation_close(rel, NoLock);	/* else it would count as in use */
	if (sql.len == 0)
		return;

	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	if (SPI_execute(sql.data, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not alter the triggers of workflow %d", workflow_id);
	SPI_finish();
	webhook_scope_leave(&scope);
}

bool
webhook_triggers_exist(Relation module, int32 workflow_id)
{
	return find_triggers(module, workflow_id, true, false) != NIL;
}

char
webhook_triggers_fire(Oid module, int32 workflow_id)
{
	Relation	rel = try_relation_open(module, AccessShareLock);
	char		result = '\0';
	ListCell   *lc;

	if (rel == NULL)
		return TRIGGER_FIRES_ON_ORIGIN;
	foreach(lc, find_triggers(rel, workflow_id, true, false))
	{
		char		fires = ((Trigger *) lfirst(lc))->tgenabled;

		result = result == '\0' || result == fires ? fires : TRIGGER_FIRES_ON_ORIGIN;
	}
	relation_close(rel, NoLock);
	return result == TRIGGER_FIRES_ALWAYS || result == TRIGGER_FIRES_ON_REPLICA ?
		result : TRIGGER_FIRES_ON_ORIGIN;
}

/*
 * The clause is as webhook_criteria_when() made it, and PostgreSQL has followed
 * whatever was renamed since.
 */
Node *
webhook_triggers_condition(Relation module, int32 workflow_id, bool is_change)
{
	WebhookCriteria criteria = {0};
	bool		is_delete = false;
	ListCell   *lc;

	foreach(lc, find_triggers(module, workflow_id, true, false))
	{
		Trigger    *trigger = lfirst(lc);

		/* An update's clause asks for more where the recurrence is "change". */
		if (trigger->tgqual == NULL ||
			(criteria.expression != NULL && TRIGGER_FOR_UPDATE(trigger->tgtype)))
			continue;
		criteria.expression = stringToNode(trigger->tgqual);
		is_delete = TRIGGER_FOR_DELETE(trigger->tgtype);
		if (TRIGGER_FOR_UPDATE(trigger->tgtype) && is_change)
			criteria.expression = linitial(castNode(BoolExpr, criteria.expression)->args);
	}
	return criteria.expression == NULL ? NULL :
		webhook_criteria_row(&criteria, is_delete);
}

/* ---------------------------------------------------------------------
 * Columns that they use
 * ---------------------------------------------------------------------
 */

static bool
is_using(Trigger *trigger, AttrNumber column)
{
	Bitmapset  *used = NULL;
	Node	   *when;

	if (trigger->tgqual == NULL)
		return false;
	when = stringToNode(trigger->tgqual);
	pull_varattnos(when, PRS2_OLD_VARNO, &used);
	pull_varattnos(when, PRS2_NEW_VARNO, &used);
	return bms_is_member(column - FirstLowInvalidHeapAttributeNumber, used);
}

static Trigger *
find_using(Relation module, int32 workflow_id, bool enqueue, AttrNumber column)
{
	ListCell   *lc;

	foreach(lc, find_triggers(module, workflow_id, enqueue, !enqueue))
	{
		if (is_using(lfirst(lc), column))
			return lfirst(lc);
	}
	return NULL;
}

bool
webhook_triggers_use_column(Relation module, int32 workflow_id,
							AttrNumber column)
{
	return find_using(module, workflow_id, true, column) != NULL;
}

bool
webhook_triggers_watch_column(Relation module, int32 workflow_id,
							  AttrNumber column)
{
	return find_using(module, workflow_id, false, column) != NULL;
}

void
webhook_triggers_release_key(Relation module, int32 workflow_id)
{
	List	   *triggers = NIL;
	ListCell   *lc;

	foreach(lc, find_triggers(module, workflow_id, false, true))
	{
		if (((Trigger *) lfirst(lc))->tgqual != NULL)
			triggers = lappend(triggers, lfirst(lc));
	}
	drop_triggers(triggers);
}

void
webhook_triggers_restore_key(Relation module, int32 workflow_id,
							 const char *workflow)
{
	TriggerPlan plan = {"forget_update", TRIGGER_FORGET, TRIGGER_TYPE_UPDATE, NULL, NIL};
	char		fires = '\0';
	ListCell   *lc;
	WebhookCriteria *change;
	WebhookScope scope;

	foreach(lc, find_triggers(module, workflow_id, false, true))
	{
		if (((Trigger *) lfirst(lc))->tgqual != NULL)
			return;				/* it is there */
		fires = ((Trigger *) lfirst(lc))->tgenabled;
	}
	if (fires == '\0' || webhook_module_key(module) == NULL)
		return;					/* the recurrence is another, or the key gone */
	webhook_scope_enter(&scope, webhook_catalog_owner());
	change = compile_key_change(module, workflow);
	plan.when = change->expression;
	plan.range_table = change->range_table;
	create_trigger(module, workflow_id,
				   choose_base(&plan, 1, module, workflow, workflow_id),
				   &plan, fires);
	webhook_scope_leave(&scope);
}

bool
webhook_triggers_match_key(Relation module, int32 workflow_id)
{
	ListCell   *lc;

	foreach(lc, find_triggers(module, workflow_id, false, true))
	{
		Trigger    *trigger = lfirst(lc);
		Bitmapset  *watched = NULL;

		if (trigger->tgqual == NULL)
			continue;
		pull_varattnos(stringToNode(trigger->tgqual), PRS2_NEW_VARNO, &watched);
		if (!bms_equal(watched, webhook_module_key(module)))
			return false;
	}
	return true;
}

/*-------------------------------------------------------------------------
 *
 * workflow.c
 *	  Workflows: created, altered, dropped, enabled.
 *
 * Runs in sessions.  The functions have their caller's rights and check them
 * by themselves: a workflow is changed by members of the role that it belongs
 * to.  What is written is then written with the rights of the extension's
 * owner (workflow_table.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "action_check.h"
#include "action_table.h"
#include "argument.h"
#include "catalog.h"
#include "commands/trigger.h"
#include "criteria.h"
#include "expression.h"
#include "fmgr.h"
#include "mail_text.h"
#include "miscadmin.h"
#include "module.h"
#include "origin.h"
#include "run.h"
#include "schedule.h"
#include "template.h"
#include "triggers.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "wanted.h"
#include "workflow.h"

PG_FUNCTION_INFO_V1(create_workflow);
PG_FUNCTION_INFO_V1(alter_workflow);
PG_FUNCTION_INFO_V1(drop_workflow);
PG_FUNCTION_INFO_V1(enable_workflow);

/* Positions of the arguments of create_workflow and alter_workflow. */
enum
{
	ARG_NAME,
	ARG_MODULE,
	ARG_TRIGGER,
	ARG_CONDITION,
	ARG_RECURRENCE,
	ARG_SCHEDULE,
	ARG_OWNER_EMAIL,
	ARG_DESCRIPTION
};

/* ---------------------------------------------------------------------
 * What is right
 * ---------------------------------------------------------------------
 */

/* The word as it is stored. */
static char *
check_word(const char *word, const char *what, const char *const *words,
		   const char *hint)
{
	for (; *words != NULL; words++)
	{
		if (pg_strcasecmp(word, *words) == 0)
			return pstrdup(*words);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid %s of a workflow: \"%s\"", what, word),
			 errhint("%s", hint)));
	return NULL;				/* keep compiler quiet */
}

static char *
check_trigger(const char *word)
{
	static const char *const words[] = {"create", "update", "save", "delete", "schedule", NULL};

	return check_word(word, "trigger", words,
					  "Use \"create\", \"update\", \"save\" (create or update), \"delete\" or \"schedule\".");
}

static char *
check_recurrence(const char *word)
{
	static const char *const words[] = {"every", "change", "first", NULL};

	return check_word(word, "recurrence", words,
					  "Use \"every\" (each time the criteria hold), \"change\" (each time they become true) or \"first\" (once in a record's life).");
}

static bool
is_same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool
is_scheduled(const WebhookWorkflow *workflow)
{
	return strcmp(workflow->trigger, "schedule") == 0;
}

/* Fills next_run_at and counts_from of a new schedule. */
static void
check_schedule(WebhookWorkflow *workflow)
{
	workflow->next_run_at = 0;
	workflow->counts_from = 0;
	if (!is_scheduled(workflow))
	{
		if (workflow->schedule != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("only a workflow with trigger \"schedule\" has a schedule"),
					 errhint("Leave out the argument \"schedule\", or let it be an empty string.")));
		return;
	}
	if (workflow->schedule == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a workflow with trigger \"schedule\" needs a schedule"),
				 errhint("Give an interval, such as '15 minutes', or a cron line, such as '0 9 * * 1-5'.")));
	if (strcmp(workflow->recurrence, "change") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("recurrence \"change\" does not go with trigger \"schedule\""),
				 errhint("A scheduled run sees no change: use \"every\" or \"first\".")));
	if (workflow->enabled)
	{
		workflow->counts_from = GetCurrentTimestamp();
		workflow->next_run_at =
			webhook_schedule_next(webhook_schedule_parse(workflow->schedule),
								  workflow->counts_from, workflow->counts_from,
								  webhook_schedule_zone());
	}
}

/* Addresses that are written out: a placeholder's braces are soon forgotten. */
static void
check_addresses(const char *list)
{
	const char *next = list;
	char	   *address = webhook_mail_text_next_address(&next);

	do
	{
		if (address == NULL || !webhook_mail_text_is_address(address))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("owner_email: \"%s\" is not a mail address",
							address != NULL ? address : list),
					 errhint("Write an address, or a template such as ${owner_id.email}.")));
	} while ((address = webhook_mail_text_next_address(&next)) != NULL);
}

/* Compiles what it wants of related and computed values, too. */
static void
check_owner_email(WebhookWorkflow *workflow, Relation module, bool is_new)
{
	static const char *const what = "owner_email";
	WebhookTemplate *tmpl;
	List	   *wanted;

	if (workflow->owner_email == NULL)
	{
		workflow->computed = NULL;
		return;
	}
	tmpl = webhook_template_parse(workflow->owner_email, what);
	webhook_template_check(tmpl, RelationGetRelid(module), what);
	if (is_new && webhook_template_is_constant(tmpl))
		check_addresses(workflow->owner_email);
	wanted = webhook_wanted_collect(NIL, tmpl, what);
	workflow->computed = webhook_wanted_compile(wanted, workflow->computed,
												module, workflow->owner, is_new);
}

/* Returns the criteria; NULL: none. */
static WebhookCriteria *
check_workflow(WebhookWorkflow *workflow, Relation module)
{
	bool		is_delete = strcmp(workflow->trigger, "delete") == 0;
	bool		is_change = strcmp(workflow->recurrence, "change") == 0;
	WebhookCriteria *criteria = NULL;

	/* A record is created and deleted once: there "change" is "every". */
	if (is_delete || strcmp(workflow->trigger, "create") == 0)
		is_change = false;

	if (strcmp(workflow->recurrence, "first") == 0 &&
		webhook_module_key(module) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("recurrence \"first\" of workflow \"%s\" needs a primary key on table \"%s\"",
						workflow->name, RelationGetRelationName(module)),
				 errhint("Add a primary key to the table, or use recurrence \"every\" or \"change\".")));
	if (is_change && workflow->condition == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("recurrence \"change\" of workflow \"%s\" needs a condition",
						workflow->name),
				 errhint("Without a condition there is nothing that could become true: give one, or use recurrence \"every\".")));

	if (workflow->condition != NULL)
	{
		WebhookScope scope;

		webhook_scope_enter_to_parse(&scope, workflow->owner);
		criteria = webhook_criteria_compile(workflow->name, workflow->condition,
											module, is_delete);
		webhook_scope_leave(&scope);
		webhook_criteria_check_rows(criteria, workflow->name,
									workflow->condition, workflow->trigger,
									is_change);
	}
	workflow->condition_sql = criteria == NULL ? NULL :
		webhook_expression_write(webhook_criteria_row(criteria, is_delete), module);
	check_owner_email(workflow, module, true);
	return criteria;
}

void
webhook_workflow_fit_columns(WebhookWorkflow *workflow, Relation module,
							 bool with_owner_email)
{
	Jsonb	   *computed = workflow->computed;
	Node	   *condition = NULL;

	if (workflow->condition != NULL)
		webhook_criteria_check_columns(workflow->name, workflow->condition,
									   module,
									   strcmp(workflow->trigger, "delete") == 0);
	if (with_owner_email)
		check_owner_email(workflow, module, false);
	if (!webhook_wanted_is_same(workflow->computed, computed))
		webhook_workflow_table_set_compiled(workflow);

	/* The triggers follow what is renamed: so does what a run asks. */
	if (!is_scheduled(workflow))
		condition = webhook_triggers_condition(module, workflow->workflow_id,
											   strcmp(workflow->recurrence, "change") == 0);
	if (condition != NULL)
	{
		char	   *sql = webhook_expression_write(condition, module);

		if (is_same_text(sql, workflow->condition_sql))
			return;
		workflow->condition_sql = sql;
		webhook_workflow_table_set_compiled(workflow);
	}
	else if (is_scheduled(workflow) || workflow->condition_sql != NULL)
		webhook_run_check(workflow);
}

void
webhook_workflow_fit_actions(int32 workflow_id, Oid module, bool only_computing)
{
	List	   *actions = webhook_action_table_list(workflow_id, only_computing);
	ListCell   *lc;
	WebhookScope scope;

	webhook_scope_enter(&scope, webhook_catalog_owner());
	foreach(lc, actions)
		webhook_action_fit(lfirst_int(lc), module);
	webhook_scope_leave(&scope);
}

/* ---------------------------------------------------------------------
 * SQL-callable
 * ---------------------------------------------------------------------
 */

/* An argument's text; NULL if it is null. */
static char *
get_text(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/* Null keeps what was, an empty text clears it. */
static char *
merge_text(FunctionCallInfo fcinfo, int arg, char *old)
{
	char	   *text = get_text(fcinfo, arg);

	if (text == NULL)
		return old;
	return text[0] == '\0' ? NULL : text;
}

/*
 * webhook.create_workflow(name, module, trigger, condition, recurrence,
 *		schedule, owner_email, description) returns integer
 *		Null stands for an argument's default; name and module have none.
 */
Datum
create_workflow(PG_FUNCTION_ARGS)
{
	WebhookWorkflow workflow = {0};
	WebhookCriteria *criteria;
	Relation	module;

	webhook_argument_require(fcinfo, ARG_NAME, "name");
	webhook_argument_require(fcinfo, ARG_MODULE, "module");
	workflow.name = get_text(fcinfo, ARG_NAME);
	workflow.module = PG_GETARG_OID(ARG_MODULE);
	workflow.trigger = PG_ARGISNULL(ARG_TRIGGER) ? "save" :
		check_trigger(get_text(fcinfo, ARG_TRIGGER));
	workflow.condition = merge_text(fcinfo, ARG_CONDITION, NULL);
	workflow.recurrence = PG_ARGISNULL(ARG_RECURRENCE) ? "every" :
		check_recurrence(get_text(fcinfo, ARG_RECURRENCE));
	workflow.schedule = merge_text(fcinfo, ARG_SCHEDULE, NULL);
	workflow.enabled = true;
	check_schedule(&workflow);
	workflow.owner_email = merge_text(fcinfo, ARG_OWNER_EMAIL, NULL);
	workflow.owner = GetUserId();
	workflow.description = merge_text(fcinfo, ARG_DESCRIPTION, NULL);
	if (workflow.name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("name of a workflow must not be empty")));

	module = webhook_module_open(workflow.module, workflow.owner, ShareRowExclusiveLock);
	criteria = check_workflow(&workflow, module);
	webhook_origin_note();
	workflow.workflow_id = webhook_workflow_table_insert(&workflow);
	if (workflow.workflow_id == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("workflow \"%s\" already exists", workflow.name),
				 errhint("Choose another name, or change the workflow with webhook.alter_workflow.")));
	webhook_triggers_create(module, &workflow, criteria, TRIGGER_FIRES_ON_ORIGIN);
	relation_close(module, NoLock);
	PG_RETURN_INT32(workflow.workflow_id);
}

/* Replace the triggers, and forget what went with the old ones. */
static void
rebuild_triggers(const WebhookWorkflow *old, const WebhookWorkflow *new,
				 const WebhookCriteria *criteria)
{
	char		fires = webhook_triggers_fire(old->module, old->workflow_id);
	Relation	module;

	webhook_triggers_drop(old->module, old->workflow_id);
	module = relation_open(new->module, ShareRowExclusiveLock);
	webhook_triggers_create(module, new, criteria, fires);
	relation_close(module, NoLock);
	if (!new->enabled)
		webhook_triggers_enable(new->module, new->workflow_id, false);

	if (strcmp(old->recurrence, "first") == 0 &&
		(old->module != new->module || strcmp(new->recurrence, "first") != 0))
		webhook_workflow_table_clear_seen(new->workflow_id);
}

/*
 * webhook.alter_workflow(name, module, trigger, condition, recurrence,
 *		schedule, owner_email, description) returns void
 */
Datum
alter_workflow(PG_FUNCTION_ARGS)
{
	WebhookWorkflow *old;
	WebhookWorkflow new;
	WebhookCriteria *criteria = NULL;
	bool		is_rebuilt;

	webhook_argument_require(fcinfo, ARG_NAME, "name");
	old = webhook_workflow_table_lock(get_text(fcinfo, ARG_NAME));
	new = *old;
	if (!PG_ARGISNULL(ARG_MODULE))
		new.module = PG_GETARG_OID(ARG_MODULE);
	if (new.module != old->module)
		new.computed = NULL;
	if (!PG_ARGISNULL(ARG_TRIGGER))
		new.trigger = check_trigger(get_text(fcinfo, ARG_TRIGGER));
	if (!PG_ARGISNULL(ARG_RECURRENCE))
		new.recurrence = check_recurrence(get_text(fcinfo, ARG_RECURRENCE));
	new.condition = merge_text(fcinfo, ARG_CONDITION, old->condition);
	new.schedule = merge_text(fcinfo, ARG_SCHEDULE, old->schedule);
	/* What only goes with a schedule goes with it. */
	if (PG_ARGISNULL(ARG_SCHEDULE) && !is_scheduled(&new))
		new.schedule = NULL;
	if (!is_same_text(new.schedule, old->schedule) ||
		!is_same_text(new.trigger, old->trigger) ||
		!is_same_text(new.recurrence, old->recurrence))
		check_schedule(&new);
	new.owner_email = merge_text(fcinfo, ARG_OWNER_EMAIL, old->owner_email);
	new.description = merge_text(fcinfo, ARG_DESCRIPTION, old->description);

	is_rebuilt = new.module != old->module ||
		!is_same_text(new.trigger, old->trigger) ||
		!is_same_text(new.condition, old->condition) ||
		!is_same_text(new.recurrence, old->recurrence);
	if (is_rebuilt || !is_same_text(new.owner_email, old->owner_email))
	{
		/* Triggers are dropped under the strongest lock: take it at once. */
		Relation	module = webhook_module_open(new.module, new.owner,
										 !is_rebuilt ? AccessShareLock :
										 new.module == old->module ?
										 AccessExclusiveLock : ShareRowExclusiveLock);

		criteria = check_workflow(&new, module);
		relation_close(module, NoLock);
	}
	if (new.module != old->module)
		webhook_workflow_fit_actions(new.workflow_id, new.module, false);

	webhook_workflow_table_update(&new);
	if (is_rebuilt)
		rebuild_triggers(old, &new, criteria);
	PG_RETURN_VOID();
}

/*
 * webhook.drop_workflow(name) returns void
 */
Datum
drop_workflow(PG_FUNCTION_ARGS)
{
	WebhookWorkflow *workflow;

	webhook_argument_require(fcinfo, ARG_NAME, "name");
	workflow = webhook_workflow_table_lock(get_text(fcinfo, ARG_NAME));
	/* Writers wait for the rest only. */
	webhook_workflow_table_give_up(workflow->workflow_id);
	webhook_triggers_drop(workflow->module, workflow->workflow_id);
	webhook_workflow_table_delete(workflow->workflow_id);
	PG_RETURN_VOID();
}

/*
 * webhook.enable_workflow(name, enabled) returns void
 */
Datum
enable_workflow(PG_FUNCTION_ARGS)
{
	WebhookWorkflow *workflow;

	webhook_argument_require(fcinfo, 0, "name");
	webhook_argument_require(fcinfo, 1, "enabled");
	workflow = webhook_workflow_table_lock(get_text(fcinfo, 0));
	/* What it missed while it was disabled is not made up for. */
	if (workflow->enabled != PG_GETARG_BOOL(1))
	{
		workflow->enabled = PG_GETARG_BOOL(1);
		check_schedule(workflow);
	}
	webhook_workflow_table_set_enabled(workflow);
	webhook_triggers_enable(workflow->module, workflow->workflow_id,
							PG_GETARG_BOOL(1));
	PG_RETURN_VOID();
}

/*-------------------------------------------------------------------------
 *
 * enqueue.c
 *	  The trigger functions: what happened to a row of a module.
 *
 * Runs in the writer's session and transaction.  The criteria have been
 * checked by PostgreSQL (the trigger's WHEN clause) before this is called.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "commands/trigger.h"
#include "commit.h"
#include "event.h"
#include "fmgr.h"
#include "move.h"
#include "owner.h"
#include "record.h"
#include "record_source.h"
#include "seen.h"
#include "slot.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(enqueue);
PG_FUNCTION_INFO_V1(forget);
PG_FUNCTION_INFO_V1(config_changed);
PG_FUNCTION_INFO_V1(log_changed);

static int32
read_workflow_argument(TriggerData *trigdata)
{
	if (trigdata->tg_trigger->tgnargs < 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" was not made by webhook.create_workflow",
						trigdata->tg_trigger->tgname),
				 errhint("Drop the trigger.")));
	return pg_strtoint32(trigdata->tg_trigger->tgargs[0]);
}

/*
 * What happened to which row: fills *operation, *tuple and *old_tuple.  False:
 * nothing that the workflow is about.
 */
static bool
read_event(TriggerData *trigdata, const WebhookEventWorkflow *workflow,
		   const char **operation, HeapTuple *tuple, HeapTuple *old_tuple)
{
	int32		workflow_id = workflow->workflow_id;
	bool		is_move = trigdata->tg_trigger->tgnargs > 1;

	*tuple = trigdata->tg_trigtuple;
	*old_tuple = NULL;
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
	{
		*operation = "UPDATE";
		*old_tuple = trigdata->tg_trigtuple;
		*tuple = trigdata->tg_newtuple;
		return true;
	}
	if (TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
	{
		bool		is_departure = webhook_move_is_departure(workflow->module, trigdata);

		if (is_move && is_departure)
			webhook_move_remember(workflow_id, trigdata);
		*operation = "DELETE";
		return !is_move && !is_departure;
	}
	if (is_move)
	{
		bool		matches;

		*old_tuple = webhook_move_take(workflow_id, trigdata, &matches);
		*operation = "UPDATE";
		if (*old_tuple != NULL && workflow->first)
			webhook_seen_rename(workflow_id,
						webhook_record_id(trigdata->tg_relation, *old_tuple),
						webhook_record_id(trigdata->tg_relation, *tuple));
		return *old_tuple != NULL && matches;
	}
	*operation = "INSERT";
	return !webhook_move_is_arrival(workflow_id, trigdata);
}

/*
 * webhook.enqueue() returns trigger
 *		Row trigger of a workflow: queue a delivery for each of its actions.
 *		Arguments: workflow_id; "move" on the triggers that follow a row from
 *		partition to partition.
 */
Datum
enqueue(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	WebhookEventWorkflow *workflow;
	const char *operation;
	HeapTuple	tuple;
	HeapTuple	old_tuple;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be called as an AFTER ROW trigger",
						"webhook.enqueue")));

	/* Every row that comes into a partition may have left another one. */
	if (trigdata->tg_trigger->tgnargs > 1 &&
		TRIGGER_FIRED_BY_INSERT(trigdata->tg_event) &&
		!webhook_move_is_under_way())
		return PointerGetDatum(NULL);

	workflow = webhook_event_workflow(read_workflow_argument(trigdata));
	if (!workflow->enabled || workflow->n_actions == 0)
		return PointerGetDatum(NULL);
	if (!webhook_record_source_is_of(trigdata->tg_relation, workflow->module))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" on table \"%s\" belongs to a workflow on another table",
						trigdata->tg_trigger->tgname,
						RelationGetRelationName(trigdata->tg_relation)),
				 errhint("Drop the trigger.")));

	if (read_event(trigdata, workflow, &operation, &tuple, &old_tuple))
		(void) webhook_event_queue(workflow, operation, trigdata->tg_relation,
								   tuple, old_tuple);
	return PointerGetDatum(NULL);
}

/*
 * webhook.forget() returns trigger
 *		On a module of a workflow of recurrence "first": a record that is gone
 *		may come again, one whose key changed is the same record still.
 *		Argument: workflow_id.
 */
Datum
forget(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	int32		workflow_id;
	char	   *record_id;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be called as a trigger",
						"webhook.forget")));
	workflow_id = read_workflow_argument(trigdata);
	if (TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
	{
		webhook_seen_forget_all(workflow_id);
		return PointerGetDatum(NULL);
	}

	/* A record that moves to another partition is not gone. */
	if (TRIGGER_FIRED_BY_DELETE(trigdata->tg_event) &&
		webhook_move_is_departure(webhook_event_workflow(workflow_id)->module, trigdata))
		return PointerGetDatum(NULL);

	record_id = webhook_record_id(trigdata->tg_relation, trigdata->tg_trigtuple);
	if (record_id == NULL)
		return PointerGetDatum(NULL);	/* the key was dropped */
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		webhook_seen_rename(workflow_id, record_id,
					webhook_record_id(trigdata->tg_relation,
									  trigdata->tg_newtuple));
	else
		webhook_seen_forget(workflow_id, record_id);
	return PointerGetDatum(NULL);
}

/*
 * webhook.config_changed() returns trigger
 *		Make every session and the worker read the configuration anew, once
 *		this transaction commits.
 */
Datum
config_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	CacheInvalidateRelcacheByRelid(webhook_catalog_relation(WEBHOOK_REL_ACTION));
	webhook_commit_rescan();
	if (CALLED_AS_TRIGGER(fcinfo) &&
		RelationGetRelid(trigdata->tg_relation) ==
		webhook_catalog_relation(WEBHOOK_REL_WORKFLOW))
		webhook_owner_note();
	return PointerGetDatum(NULL);
}

/*
 * webhook.log_changed() returns trigger
 *		The log was changed by a statement of somebody's: once it is
 *		committed, the worker must look at it anew.  The worker's own changes
 *		tell it nothing.
 */
Datum
log_changed(PG_FUNCTION_ARGS)
{
	if (!webhook_slot_is_worker())
		webhook_commit_rescan();
	return PointerGetDatum(NULL);
}

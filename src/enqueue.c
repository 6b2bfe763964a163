/*-------------------------------------------------------------------------
 *
 * enqueue.c
 *	  The trigger functions: an event becomes rows of the log.
 *
 * Runs in the writer's session and transaction.  The criteria have been
 * checked by PostgreSQL (the trigger's WHEN clause) before this is called.
 * The log is written straight through the table access method, with no query
 * in between: the writer needs no right on it, no search path matters, and a
 * row costs as little as it can.  A record that can't be made into jsonb is
 * queued as Failed, with the reason.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "compat.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "move.h"
#include "record.h"
#include "shared.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* Columns of webhook.webhook_log, as the install script creates them. */
enum
{
	LOG_LOG_ID,
	LOG_WEBHOOK_ID,
	LOG_WORKFLOW_ID,
	LOG_ACTION_ID,
	LOG_MODULE,
	LOG_OPERATION,
	LOG_RECORD_ID,
	LOG_RECORD,
	LOG_OLD_RECORD,
	LOG_COMPUTED,
	LOG_STATUS,
	LOG_ATTEMPTS,
	LOG_RETRY_AT,
	LOG_QUEUED_AT,
	LOG_DISPATCHED_AT,
	LOG_COMPLETED_AT,
	LOG_HTTP_STATUS,
	LOG_ERROR,
	LOG_OWNER,
	LOG_ORDERED,
	LOG_RETRIES,
	LOG_INTERRUPTED,
	LOG_WORKER,
	LOG_NATTS
};

typedef struct QueuedAction
{
	int32		action_id;
	bool		ordered;
} QueuedAction;

/* A workflow as the trigger needs it. */
typedef struct QueuedWorkflow
{
	int32		workflow_id;	/* hash key */
	bool		is_valid;
	bool		enabled;
	bool		first;
	Oid			module;
	Oid			owner;
	int			n_actions;
	QueuedAction *actions;
	MemoryContext context;
} QueuedWorkflow;

static HTAB *workflow_cache = NULL;
static uint64 cached_generation = 0;
static Oid	status_type = InvalidOid;
static Oid	status_queued;
static Oid	status_failed;

PG_FUNCTION_INFO_V1(enqueue);
PG_FUNCTION_INFO_V1(forget);
PG_FUNCTION_INFO_V1(config_changed);
PG_FUNCTION_INFO_V1(log_changed);

/* ---------------------------------------------------------------------
 * What is kept from event to event
 * ---------------------------------------------------------------------
 */

static void
create_cache(void)
{
	HASHCTL		info = {0};

	info.keysize = sizeof(int32);
	info.entrysize = sizeof(QueuedWorkflow);
	workflow_cache = hash_create("webhook workflows", 16, &info,
								 HASH_ELEM | HASH_BLOBS);
}

/* Forget all workflows; called where none is in use. */
static void
reset_workflows(void)
{
	HASH_SEQ_STATUS scan;
	QueuedWorkflow *workflow;

	hash_seq_init(&scan, workflow_cache);
	while ((workflow = hash_seq_search(&scan)) != NULL)
	{
		if (workflow->context != NULL)
			MemoryContextDelete(workflow->context);
		workflow->context = NULL;
		workflow->is_valid = false;
	}
	status_type = InvalidOid;
}

static void
load_status_type(void)
{
	Oid			type;

	type = get_atttype(webhook_catalog_relation(WEBHOOK_REL_LOG),
					   LOG_STATUS + 1);
	status_queued = DatumGetObjectId(DirectFunctionCall2(enum_in,
														 CStringGetDatum("Queued"),
														 ObjectIdGetDatum(type)));
	status_failed = DatumGetObjectId(DirectFunctionCall2(enum_in,
														 CStringGetDatum("Failed"),
														 ObjectIdGetDatum(type)));
	status_type = type;
}

/*
 * Read a workflow with its enabled actions.  The snapshot is a fresh one: the
 * trigger is there as of now, even for a transaction whose snapshot is older
 * than the workflow.
 */
static void
load_workflow(QueuedWorkflow *workflow)
{
	static SPIPlanPtr plan = NULL;
	WebhookScope scope;
	Datum		values[1];
	MemoryContext context;

	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	if (plan == NULL)
	{
		Oid			types[1] = {INT4OID};
		SPIPlanPtr	prepared;

		prepared = SPI_prepare("SELECT w.module::oid, w.owner::oid, w.enabled,"
							   " w.recurrence = 'first', a.action_id, a.ordered"
							   " FROM webhook.workflow w LEFT JOIN webhook.action a"
							   " ON a.workflow_id = w.workflow_id AND a.enabled"
							   " WHERE w.workflow_id = $1 ORDER BY a.action_id",
							   1, types);
		if (prepared == NULL || SPI_keepplan(prepared) != 0)
			elog(ERROR, "could not prepare the look-up of a workflow");
		plan = prepared;
	}
	values[0] = Int32GetDatum(workflow->workflow_id);
	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_execute_snapshot(plan, values, NULL, GetActiveSnapshot(),
							 InvalidSnapshot, true, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look up workflow %d", workflow->workflow_id);

	context = AllocSetContextCreate(CacheMemoryContext, "webhook workflow",
									ALLOCSET_SMALL_SIZES);
	workflow->n_actions = 0;
	workflow->enabled = false;
	workflow->actions = MemoryContextAlloc(context, sizeof(QueuedAction) *
										   Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		Datum		action_id;

		workflow->module = DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull));
		workflow->owner = DatumGetObjectId(SPI_getbinval(tuple, desc, 2, &isnull));
		workflow->enabled = DatumGetBool(SPI_getbinval(tuple, desc, 3, &isnull));
		workflow->first = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull));
		action_id = SPI_getbinval(tuple, desc, 5, &isnull);
		if (isnull)
			continue;
		workflow->actions[workflow->n_actions].action_id = DatumGetInt32(action_id);
		workflow->actions[workflow->n_actions].ordered =
			DatumGetBool(SPI_getbinval(tuple, desc, 6, &isnull));
		workflow->n_actions++;
	}
	PopActiveSnapshot();
	SPI_finish();
	webhook_scope_leave(&scope);

	workflow->context = context;
	workflow->is_valid = true;
}

static QueuedWorkflow *
find_workflow(int32 workflow_id)
{
	QueuedWorkflow *workflow;
	bool		found;
	uint64		generation = webhook_catalog_generation();

	if (generation != cached_generation)
	{
		reset_workflows();
		cached_generation = generation;
	}
	workflow = hash_search(workflow_cache, &workflow_id, HASH_ENTER, &found);
	if (!found)
	{
		workflow->is_valid = false;
		workflow->context = NULL;
	}
	if (!workflow->is_valid)
		load_workflow(workflow);
	if (!OidIsValid(status_type))
		load_status_type();
	return workflow;
}

static QueuedWorkflow *
copy_workflow(const QueuedWorkflow *workflow)
{
	QueuedWorkflow *copy = palloc(sizeof(QueuedWorkflow));
	Size		size = workflow->n_actions * sizeof(QueuedAction);

	*copy = *workflow;
	copy->actions = memcpy(palloc(size), workflow->actions, size);
	return copy;
}

/* ---------------------------------------------------------------------
 * The event
 * ---------------------------------------------------------------------
 */

/* A statement on webhook.seen with up to three parameters; rows changed. */
static uint64
change_seen(const char *sql, int32 workflow_id, const char *record_id,
			const char *new_id)
{
	WebhookScope scope;
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3];
	int			n = 1;
	uint64		changed;

	values[0] = Int32GetDatum(workflow_id);
	if (record_id != NULL)
		values[n++] = CStringGetTextDatum(record_id);
	if (new_id != NULL)
		values[n++] = CStringGetTextDatum(new_id);
	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	if (SPI_execute_with_args(sql, n, types, values, NULL, false, 0) < 0)
		elog(ERROR, "could not execute: %s", sql);
	changed = SPI_processed;
	SPI_finish();
	webhook_scope_leave(&scope);
	return changed;
}

/* Has this workflow never met the record?  Notes it down. */
static bool
note_first(int32 workflow_id, const char *record_id)
{
	return change_seen("INSERT INTO webhook.seen (workflow_id, record_id)"
					   " VALUES ($1, $2) ON CONFLICT DO NOTHING",
					   workflow_id, record_id, NULL) > 0;
}

/* A record that the workflow may have met has another key now. */
static void
rename_seen(int32 workflow_id, const char *old_id, const char *new_id)
{
	if (old_id == NULL || new_id == NULL)
		return;					/* the key was dropped */
	(void) change_seen("WITH gone AS (DELETE FROM webhook.seen"
					   " WHERE workflow_id = $1 AND record_id = $2 RETURNING 1)"
					   " INSERT INTO webhook.seen (workflow_id, record_id)"
					   " SELECT $1, $3 FROM gone ON CONFLICT DO NOTHING",
					   workflow_id, old_id, new_id);
}

static void
insert_deliveries(const QueuedWorkflow *workflow, const char *operation,
				  const WebhookRecord *record)
{
	Relation	log = table_open(webhook_catalog_relation(WEBHOOK_REL_LOG),
								 RowExclusiveLock);
	Oid			sequence = webhook_catalog_relation(WEBHOOK_REL_LOG_SEQUENCE);
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *rri = makeNode(ResultRelInfo);
	TupleTableSlot *slot = table_slot_create(log, NULL);
	TimestampTz now = GetCurrentTimestamp();
	bool		failed = record->error != NULL;

	InitResultRelInfo(rri, log, 1, NULL, 0);
	ExecOpenIndices(rri, false);

	for (int i = 0; i < workflow->n_actions; i++)
	{
		Datum	   *values = slot->tts_values;
		bool	   *nulls = slot->tts_isnull;
		pg_uuid_t	webhook_id;

		if (!pg_strong_random(&webhook_id, sizeof(webhook_id)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		/* RFC 9562: version 4, variant 1. */
		webhook_id.data[6] = (webhook_id.data[6] & 0x0f) | 0x40;
		webhook_id.data[8] = (webhook_id.data[8] & 0x3f) | 0x80;

		ExecClearTuple(slot);
		memset(nulls, true, slot->tts_tupleDescriptor->natts * sizeof(bool));

#define SET(column, datum) \
		(values[column] = (datum), nulls[column] = false)
		SET(LOG_LOG_ID, Int64GetDatum(nextval_internal(sequence, false)));
		SET(LOG_WEBHOOK_ID, UUIDPGetDatum(&webhook_id));
		SET(LOG_WORKFLOW_ID, Int32GetDatum(workflow->workflow_id));
		SET(LOG_ACTION_ID, Int32GetDatum(workflow->actions[i].action_id));
		SET(LOG_MODULE, ObjectIdGetDatum(workflow->module));
		SET(LOG_OPERATION, CStringGetTextDatum(operation));
		if (record->record_id != NULL)
			SET(LOG_RECORD_ID, CStringGetTextDatum(record->record_id));
		if (record->record != NULL)
			SET(LOG_RECORD, JsonbPGetDatum(record->record));
		if (record->old_record != NULL)
			SET(LOG_OLD_RECORD, JsonbPGetDatum(record->old_record));
		SET(LOG_STATUS, ObjectIdGetDatum(failed ? status_failed : status_queued));
		SET(LOG_ATTEMPTS, Int16GetDatum(0));
		if (failed)
		{
			SET(LOG_COMPLETED_AT, TimestampTzGetDatum(now));
			SET(LOG_ERROR, CStringGetTextDatum(record->error));
		}
		else
			SET(LOG_RETRY_AT, TimestampTzGetDatum(now));
		SET(LOG_QUEUED_AT, TimestampTzGetDatum(now));
		SET(LOG_OWNER, ObjectIdGetDatum(workflow->owner));
		SET(LOG_ORDERED, BoolGetDatum(workflow->actions[i].ordered));
		SET(LOG_RETRIES, Int16GetDatum(0));
		SET(LOG_INTERRUPTED, Int16GetDatum(0));
#undef SET
		ExecStoreVirtualTuple(slot);

		simple_table_tuple_insert(log, slot);
		(void) webhook_insert_index_tuples(rri, slot, estate);
		if (!failed)
			webhook_shared_wake_at_commit(workflow->actions[i].action_id, now);
	}

	ExecCloseIndices(rri);
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
	table_close(log, NoLock);
}

/* ---------------------------------------------------------------------
 * SQL-callable
 * ---------------------------------------------------------------------
 */

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

/* Is rel the module, or a partition of it? */
static bool
is_module(Relation rel, Oid module)
{
	List	   *ancestors;
	bool		result;

	if (RelationGetRelid(rel) == module)
		return true;
	if (!rel->rd_rel->relispartition)
		return false;
	ancestors = get_partition_ancestors(RelationGetRelid(rel));
	result = list_member_oid(ancestors, module);
	list_free(ancestors);
	return result;
}

/*
 * What happened to which row: fills *operation, *tuple and *old_tuple.  False:
 * nothing that the workflow is about.
 */
static bool
read_event(TriggerData *trigdata, const QueuedWorkflow *workflow,
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
		bool		is_departure = webhook_move_is_departure(trigdata);

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
			rename_seen(workflow_id,
						webhook_record_id(trigdata->tg_relation, *old_tuple),
						webhook_record_id(trigdata->tg_relation, *tuple));
		return *old_tuple != NULL && matches;
	}
	*operation = "INSERT";
	return !webhook_move_is_arrival(workflow_id);
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
	QueuedWorkflow *workflow;
	WebhookRecord record;
	const char *operation;
	HeapTuple	tuple;
	HeapTuple	old_tuple;
	MemoryContext context;
	MemoryContext old_context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be called as an AFTER ROW trigger",
						"webhook.enqueue")));

	if (workflow_cache == NULL)
		create_cache();
	workflow = find_workflow(read_workflow_argument(trigdata));
	if (!workflow->enabled || workflow->n_actions == 0)
		return PointerGetDatum(NULL);
	if (!is_module(trigdata->tg_relation, workflow->module))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" on table \"%s\" belongs to a workflow on another table",
						trigdata->tg_trigger->tgname,
						RelationGetRelationName(trigdata->tg_relation)),
				 errhint("Drop the trigger.")));

	context = AllocSetContextCreate(CurrentMemoryContext, "webhook event",
									ALLOCSET_DEFAULT_SIZES);
	old_context = MemoryContextSwitchTo(context);

	/* A copy: what a type's cast function does may reset the cache. */
	workflow = copy_workflow(workflow);
	if (read_event(trigdata, workflow, &operation, &tuple, &old_tuple))
	{
		webhook_record_read(&record, trigdata->tg_relation, tuple, old_tuple);
		if (!workflow->first || record.record_id == NULL ||
			note_first(workflow->workflow_id, record.record_id))
			insert_deliveries(workflow, operation, &record);
	}

	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(context);
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
		change_seen("DELETE FROM webhook.seen WHERE workflow_id = $1",
					workflow_id, NULL, NULL);
		return PointerGetDatum(NULL);
	}

	/* A record that moves to another partition is not gone. */
	if (TRIGGER_FIRED_BY_DELETE(trigdata->tg_event) &&
		webhook_move_is_departure(trigdata))
		return PointerGetDatum(NULL);

	record_id = webhook_record_id(trigdata->tg_relation, trigdata->tg_trigtuple);
	if (record_id == NULL)
		return PointerGetDatum(NULL);	/* the key was dropped */
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		rename_seen(workflow_id, record_id,
					webhook_record_id(trigdata->tg_relation,
									  trigdata->tg_newtuple));
	else
		change_seen("DELETE FROM webhook.seen"
					" WHERE workflow_id = $1 AND record_id = $2",
					workflow_id, record_id, NULL);
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
	CacheInvalidateRelcacheByRelid(webhook_catalog_relation(WEBHOOK_REL_ACTION));
	webhook_shared_rescan_at_commit();
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
	if (!webhook_shared_is_worker())
		webhook_shared_rescan_at_commit();
	return PointerGetDatum(NULL);
}

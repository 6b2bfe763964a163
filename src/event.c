/*-------------------------------------------------------------------------
 *
 * event.c
 *	  An event becomes rows of the log.
 *
 * Runs in the writer's session and transaction.  The log is written straight
 * through the table access method, with no query in between: the writer
 * needs no right on it, no search path matters, and a row costs as little as
 * it can.  A record that can't be made into jsonb is queued as Failed, with
 * the reason.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/table.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "compat.h"
#include "event.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "record.h"
#include "seen.h"
#include "shared.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
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

static HTAB *workflow_cache = NULL;
static uint64 cached_generation = 0;
static Oid	status_type = InvalidOid;
static Oid	status_queued;
static Oid	status_failed;

/* ---------------------------------------------------------------------
 * What is kept from event to event
 * ---------------------------------------------------------------------
 */

static void
create_cache(void)
{
	HASHCTL		info = {0};

	info.keysize = sizeof(int32);
	info.entrysize = sizeof(WebhookEventWorkflow);
	workflow_cache = hash_create("webhook workflows", 16, &info,
								 HASH_ELEM | HASH_BLOBS);
}

/* Forget all workflows; called where none is in use. */
static void
reset_workflows(void)
{
	HASH_SEQ_STATUS scan;
	WebhookEventWorkflow *workflow;

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
load_workflow(WebhookEventWorkflow *workflow)
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
	workflow->actions = MemoryContextAlloc(context, sizeof(WebhookEventAction) *
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

WebhookEventWorkflow *
webhook_event_workflow(int32 workflow_id)
{
	WebhookEventWorkflow *workflow;
	WebhookEventWorkflow *copy;
	Size		size;
	bool		found;
	uint64		generation = webhook_catalog_generation();

	if (workflow_cache == NULL)
		create_cache();
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

	/* A copy: what code of users' does later may reset the cache. */
	copy = palloc(sizeof(WebhookEventWorkflow));
	*copy = *workflow;
	size = workflow->n_actions * sizeof(WebhookEventAction);
	copy->actions = memcpy(palloc(size), workflow->actions, size);
	return copy;
}

static void
insert_deliveries(const WebhookEventWorkflow *workflow, const char *operation,
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

bool
webhook_event_queue(const WebhookEventWorkflow *workflow, const char *operation,
					Relation rel, HeapTuple tuple, HeapTuple old_tuple)
{
	WebhookRecord record;
	MemoryContext context;
	MemoryContext old_context;
	bool		is_queued = false;

	context = AllocSetContextCreate(CurrentMemoryContext, "webhook event",
									ALLOCSET_DEFAULT_SIZES);
	old_context = MemoryContextSwitchTo(context);
	webhook_record_read(&record, rel, tuple, old_tuple);
	if (!workflow->first || record.record_id == NULL ||
		webhook_seen_note(workflow->workflow_id, record.record_id))
	{
		insert_deliveries(workflow, operation, &record);
		is_queued = true;
	}
	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(context);
	return is_queued;
}

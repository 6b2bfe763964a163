/*-------------------------------------------------------------------------
 *
 * enqueue.c
 *	  The trigger functions: an event becomes rows of the log.
 *
 * Runs in the writer's session and transaction.  The criteria have been
 * checked by PostgreSQL (the trigger's WHEN clause) before this is called.
 * The log is written straight through the table access method, with no query
 * in between: the writer needs no right on it, no search path matters, and a
 * row costs as little as it can.  What can go wrong with the data of one
 * record (a json value that jsonb can't hold) must not fail the writer: such
 * a delivery is queued as Failed, with the reason.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "compat.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "shared.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
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

/* A table, or partition, that a workflow's trigger fires on. */
typedef struct QueuedRelation
{
	Oid			relid;			/* hash key */
	bool		is_valid;
	bool		is_guarded;		/* its rows may fail to become jsonb */
	int			n_key;
	AttrNumber *key;			/* primary key's columns in key order */
	FmgrInfo   *key_output;		/* of the column, if there is just one */
	TupleDesc	key_desc;		/* of the row they make, if there are more */
	FmgrInfo	to_jsonb;
	MemoryContext context;
} QueuedRelation;

/* One event: what all of its deliveries have in common. */
typedef struct QueuedEvent
{
	const char *operation;
	char	   *record_id;
	Jsonb	   *record;
	Jsonb	   *old_record;
	char	   *error;
} QueuedEvent;

static HTAB *workflow_cache = NULL;
static HTAB *relation_cache = NULL;
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
on_relcache_inval(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	QueuedRelation *rel;

	if (relid != InvalidOid)
	{
		rel = hash_search(relation_cache, &relid, HASH_FIND, NULL);
		if (rel != NULL)
			rel->is_valid = false;
		return;
	}
	hash_seq_init(&scan, relation_cache);
	while ((rel = hash_seq_search(&scan)) != NULL)
		rel->is_valid = false;
}

static void
create_caches(void)
{
	HASHCTL		info = {0};

	info.keysize = sizeof(int32);
	info.entrysize = sizeof(QueuedWorkflow);
	workflow_cache = hash_create("webhook workflows", 16, &info,
								 HASH_ELEM | HASH_BLOBS);
	info.keysize = sizeof(Oid);
	info.entrysize = sizeof(QueuedRelation);
	relation_cache = hash_create("webhook modules", 16, &info,
								 HASH_ELEM | HASH_BLOBS);
	CacheRegisterRelcacheCallback(on_relcache_inval, (Datum) 0);
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

/* Can a value of this type always become jsonb? */
static bool
is_safe_type(Oid type)
{
	Oid			element = get_element_type(type);

	if (OidIsValid(element))
		type = element;
	switch (getBaseType(type))
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case NAMEOID:
		case CHAROID:
		case BYTEAOID:
		case DATEOID:
		case TIMEOID:
		case TIMETZOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
		case INTERVALOID:
		case UUIDOID:
		case JSONBOID:
		case INETOID:
		case CIDROID:
			return true;
		default:
			return type_is_enum(type);
	}
}

/* The columns of the primary key; the caller's context. */
static int
find_primary_key(Relation rel, AttrNumber **key)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;
	int			n = 0;

	*key = NULL;
	foreach(lc, indexes)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID,
											ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_index index;

		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for index %u", lfirst_oid(lc));
		index = (Form_pg_index) GETSTRUCT(tuple);
		if (index->indisprimary)
		{
			n = index->indnkeyatts;
			*key = palloc(n * sizeof(AttrNumber));
			for (int i = 0; i < n; i++)
				(*key)[i] = index->indkey.values[i];
		}
		ReleaseSysCache(tuple);
		if (n > 0)
			break;
	}
	list_free(indexes);
	return n;
}

static void
load_relation(QueuedRelation *entry, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	MemoryContext context;
	MemoryContext old;

	context = AllocSetContextCreate(CacheMemoryContext, "webhook module",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);

	entry->is_guarded = false;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (!attr->attisdropped && !is_safe_type(attr->atttypid))
			entry->is_guarded = true;
	}

	entry->key_output = NULL;
	entry->key_desc = NULL;
	entry->n_key = find_primary_key(rel, &entry->key);
	if (entry->n_key == 1)
	{
		Oid			function;
		bool		is_varlena;

		getTypeOutputInfo(TupleDescAttr(desc, entry->key[0] - 1)->atttypid,
						  &function, &is_varlena);
		entry->key_output = palloc(sizeof(FmgrInfo));
		fmgr_info_cxt(function, entry->key_output, context);
	}
	else if (entry->n_key > 1)
	{
		entry->key_desc = CreateTemplateTupleDesc(entry->n_key);
		for (int i = 0; i < entry->n_key; i++)
			TupleDescCopyEntry(entry->key_desc, i + 1, desc, entry->key[i]);
		entry->key_desc = BlessTupleDesc(entry->key_desc);
	}

	fmgr_info_cxt(F_TO_JSONB, &entry->to_jsonb, context);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID,
											 list_make1(makeNullConst(rel->rd_rel->reltype,
																	  -1, InvalidOid)),
											 InvalidOid, InvalidOid,
											 COERCE_EXPLICIT_CALL),
					   &entry->to_jsonb);

	MemoryContextSwitchTo(old);
	entry->context = context;
	entry->is_valid = true;
}

static QueuedRelation *
find_relation(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	QueuedRelation *entry;
	bool		found;

	entry = hash_search(relation_cache, &relid, HASH_ENTER, &found);
	if (!found)
	{
		entry->is_valid = false;
		entry->context = NULL;
	}
	if (!entry->is_valid)
	{
		if (entry->context != NULL)
			MemoryContextDelete(entry->context);
		entry->context = NULL;
		load_relation(entry, rel);
	}
	return entry;
}

/* ---------------------------------------------------------------------
 * The event
 * ---------------------------------------------------------------------
 */

/*
 * Text forms must not depend on the writer's session: bytea is hex, floats
 * are shortest-precise, dates in ranges are ISO.  Returns a GUC nest level to
 * be ended, or 0 where the session has all of them already.
 */
static int
enter_canonical_output(void)
{
	int			level;

	if (bytea_output == BYTEA_OUTPUT_HEX && extra_float_digits >= 1 &&
		DateStyle == USE_ISO_DATES && IntervalStyle == INTSTYLE_POSTGRES)
		return 0;

	level = NewGUCNestLevel();
	(void) set_config_option("bytea_output", "hex", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("extra_float_digits", "1", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("datestyle", "ISO", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("intervalstyle", "postgres", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

/* The record's primary key as text; NULL if the module has none. */
static char *
format_record_id(QueuedRelation *entry, HeapTuple tuple, TupleDesc desc)
{
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	HeapTuple	key;

	if (entry->n_key == 0)
		return NULL;
	for (int i = 0; i < entry->n_key; i++)
		values[i] = heap_getattr(tuple, entry->key[i], desc, &nulls[i]);
	if (entry->n_key == 1)
		return nulls[0] ? NULL : OutputFunctionCall(entry->key_output, values[0]);

	key = heap_form_tuple(entry->key_desc, values, nulls);
	return OidOutputFunctionCall(F_RECORD_OUT, HeapTupleGetDatum(key));
}

static Jsonb *
convert_tuple(QueuedRelation *entry, HeapTuple tuple, TupleDesc desc)
{
	Datum		row = heap_copy_tuple_as_datum(tuple, desc);

	return DatumGetJsonbP(FunctionCall1(&entry->to_jsonb, row));
}

static void
fill_event(QueuedEvent *event, QueuedRelation *entry, TupleDesc desc,
		   HeapTuple tuple, HeapTuple old_tuple)
{
	event->record_id = format_record_id(entry, tuple, desc);
	event->record = convert_tuple(entry, tuple, desc);
	event->old_record = old_tuple ? convert_tuple(entry, old_tuple, desc) : NULL;
}

/* The same, for rows that may fail to become jsonb: the writer's save goes on. */
static void
fill_guarded_event(QueuedEvent *event, QueuedRelation *entry, TupleDesc desc,
				   HeapTuple tuple, HeapTuple old_tuple)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		fill_event(event, entry, desc, tuple, old_tuple);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;

		/* A cancel or a termination is the session's, not the record's. */
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			ERRCODE_TO_CATEGORY(error->sqlerrcode) ==
			ERRCODE_TO_CATEGORY(ERRCODE_ADMIN_SHUTDOWN))
			ReThrowError(error);
		event->record = NULL;
		event->old_record = NULL;
		event->error = psprintf("the record could not be made into JSON: %s",
								error->message);
	}
	PG_END_TRY();
}

/* Has this workflow never met the record?  Notes it down. */
static bool
note_first(int32 workflow_id, const char *record_id)
{
	WebhookScope scope;
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2];
	bool		is_first;

	values[0] = Int32GetDatum(workflow_id);
	values[1] = CStringGetTextDatum(record_id);
	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	SPI_execute_with_args("INSERT INTO webhook.seen (workflow_id, record_id)"
						  " VALUES ($1, $2) ON CONFLICT DO NOTHING",
						  2, types, values, NULL, false, 0);
	is_first = SPI_processed > 0;
	SPI_finish();
	webhook_scope_leave(&scope);
	return is_first;
}

static void
insert_deliveries(const QueuedWorkflow *workflow, const QueuedEvent *event)
{
	Relation	log = table_open(webhook_catalog_relation(WEBHOOK_REL_LOG),
								 RowExclusiveLock);
	Oid			sequence = webhook_catalog_relation(WEBHOOK_REL_LOG_SEQUENCE);
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *rri = makeNode(ResultRelInfo);
	TupleTableSlot *slot = table_slot_create(log, NULL);
	TimestampTz now = GetCurrentTimestamp();
	bool		failed = event->error != NULL;

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
		SET(LOG_OPERATION, CStringGetTextDatum(event->operation));
		if (event->record_id != NULL)
			SET(LOG_RECORD_ID, CStringGetTextDatum(event->record_id));
		if (event->record != NULL)
			SET(LOG_RECORD, JsonbPGetDatum(event->record));
		if (event->old_record != NULL)
			SET(LOG_OLD_RECORD, JsonbPGetDatum(event->old_record));
		SET(LOG_STATUS, ObjectIdGetDatum(failed ? status_failed : status_queued));
		SET(LOG_ATTEMPTS, Int16GetDatum(0));
		if (failed)
		{
			SET(LOG_COMPLETED_AT, TimestampTzGetDatum(now));
			SET(LOG_ERROR, CStringGetTextDatum(event->error));
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
	if (trigdata->tg_trigger->tgnargs != 1)
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
 * webhook.enqueue() returns trigger
 *		Row trigger of a workflow: queue a delivery for each of its actions.
 *		Argument: workflow_id.
 */
Datum
enqueue(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	QueuedWorkflow *workflow;
	QueuedRelation *entry;
	QueuedEvent event = {0};
	HeapTuple	tuple;
	HeapTuple	old_tuple = NULL;
	TupleDesc	desc;
	MemoryContext context;
	MemoryContext old_context;
	int			level;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be called as an AFTER ROW trigger",
						"webhook.enqueue")));

	if (workflow_cache == NULL)
		create_caches();
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

	tuple = trigdata->tg_trigtuple;
	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
		event.operation = "INSERT";
	else if (TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
		event.operation = "DELETE";
	else
	{
		event.operation = "UPDATE";
		old_tuple = tuple;
		tuple = trigdata->tg_newtuple;
	}

	context = AllocSetContextCreate(CurrentMemoryContext, "webhook event",
									ALLOCSET_DEFAULT_SIZES);
	old_context = MemoryContextSwitchTo(context);

	/* A copy: what a type's cast function does may reset the cache. */
	workflow = copy_workflow(workflow);
	entry = find_relation(trigdata->tg_relation);
	desc = RelationGetDescr(trigdata->tg_relation);
	level = enter_canonical_output();
	if (entry->is_guarded)
	{
		event.record_id = format_record_id(entry, tuple, desc);
		fill_guarded_event(&event, entry, desc, tuple, old_tuple);
	}
	else
		fill_event(&event, entry, desc, tuple, old_tuple);
	if (level != 0)
		AtEOXact_GUC(false, level);

	if (!workflow->first || event.record_id == NULL ||
		note_first(workflow->workflow_id, event.record_id))
		insert_deliveries(workflow, &event);

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
	QueuedRelation *entry;
	TupleDesc	desc;
	WebhookScope scope;
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3];
	const char *sql;
	int			n = 1;
	char	   *record_id;
	int			level;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be called as a trigger",
						"webhook.forget")));
	if (workflow_cache == NULL)
		create_caches();
	values[0] = Int32GetDatum(read_workflow_argument(trigdata));

	if (TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
		sql = "DELETE FROM webhook.seen WHERE workflow_id = $1";
	else
	{
		entry = find_relation(trigdata->tg_relation);
		desc = RelationGetDescr(trigdata->tg_relation);
		level = enter_canonical_output();
		record_id = format_record_id(entry, trigdata->tg_trigtuple, desc);
		if (record_id == NULL)
			record_id = "";		/* the key was dropped: matches nothing */
		values[1] = CStringGetTextDatum(record_id);
		n = 2;
		sql = "DELETE FROM webhook.seen WHERE workflow_id = $1 AND record_id = $2";
		if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		{
			record_id = format_record_id(entry, trigdata->tg_newtuple, desc);
			if (record_id != NULL)
			{
				values[2] = CStringGetTextDatum(record_id);
				n = 3;
				sql = "WITH gone AS (DELETE FROM webhook.seen"
					" WHERE workflow_id = $1 AND record_id = $2 RETURNING 1)"
					" INSERT INTO webhook.seen (workflow_id, record_id)"
					" SELECT $1, $3 FROM gone ON CONFLICT DO NOTHING";
			}
		}
		if (level != 0)
			AtEOXact_GUC(false, level);
	}

	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	SPI_execute_with_args(sql, n, types, values, NULL, false, 0);
	SPI_finish();
	webhook_scope_leave(&scope);
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

/*-------------------------------------------------------------------------
 *
 * move.c
 *	  An update that moves a row to another partition.
 *
 * PostgreSQL carries such an update out as a delete from one partition and an
 * insert into another, and fires the row triggers of these two: the update
 * triggers don't fire.  To the CRM it is an update all the same.  So each
 * workflow on a partitioned module has two more triggers, one that remembers
 * the row which leaves and one that meets it where it arrives; there the
 * criteria of the workflow's update trigger, which the partition has too, are
 * evaluated the way the trigger machinery would.
 *
 * The two events follow one another directly; only a trigger in between could
 * cause others, and these have a greater trigger depth.  Both are of the same
 * command: a row that somebody's BEFORE trigger keeps from arriving is not met
 * in one that is inserted later.
 *
 * Runs in the writer's session.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupconvert.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "compat.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "move.h"
#include "nodes/makefuncs.h"
#include "nodes/primnodes.h"
#include "rewrite/prs2lock.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rewriteManip.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"

typedef struct Departure
{
	int32		workflow_id;
	int			depth;
	SubTransactionId subxact;
	CommandId	command;
	HeapTuple	tuple;
	TupleDesc	desc;
	MemoryContext context;
} Departure;

/* In the transaction's memory; forgotten with it. */
static List *departures = NIL;
static bool is_callback_set = false;

static void
forget_departures(void *arg)
{
	departures = NIL;
	is_callback_set = false;
}

static int
get_trigger_depth(void)
{
	return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0));
}

/* The command that deleted or inserted a row of this transaction's. */
static CommandId
get_command(TriggerData *trigdata)
{
	HeapTupleHeader header = trigdata->tg_trigtuple->t_data;

	return TRIGGER_FIRED_BY_DELETE(trigdata->tg_event) ?
		HeapTupleHeaderGetCmax(header) : HeapTupleHeaderGetCmin(header);
}

/*
 * A row that is older than a column has no value of it, which only the table knows
 * then: the one that it leaves, not the one that it comes to.
 */
static HeapTuple
copy_whole(HeapTuple tuple, TupleDesc desc)
{
	if (HeapTupleHeaderGetNatts(tuple->t_data) < desc->natts)
		return heap_expand_tuple(tuple, desc);
	return heap_copytuple(tuple);
}

static Departure *
find_departure(int32 workflow_id)
{
	ListCell   *lc;

	foreach(lc, departures)
	{
		Departure  *departure = lfirst(lc);

		if (departure->workflow_id == workflow_id &&
			departure->depth == get_trigger_depth() &&
			departure->subxact == GetCurrentSubTransactionId())
			return departure;
	}
	return NULL;
}

/* What has arrived with this INSERT event; NULL: nothing was remembered. */
static Departure *
find_arrived(int32 workflow_id, TriggerData *trigdata)
{
	Departure  *departure = departures != NIL ? find_departure(workflow_id) : NULL;

	return departure != NULL && departure->command == get_command(trigdata) ?
		departure : NULL;
}

static void
remove_departure(Departure *departure)
{
	departures = list_delete_ptr(departures, departure);
	MemoryContextDelete(departure->context);
}

/* What leaves a module that is a partition itself is gone from it. */
bool
webhook_move_is_departure(Oid module, TriggerData *trigdata)
{
	return RelationGetRelid(trigdata->tg_relation) != module &&
		HeapTupleHeaderIndicatesMovedPartitions(trigdata->tg_trigtuple->t_data);
}

void
webhook_move_remember(int32 workflow_id, TriggerData *trigdata)
{
	static MemoryContextCallback callback = {.func = forget_departures};
	Departure  *departure = find_departure(workflow_id);
	MemoryContext context;
	MemoryContext old;

	if (departure != NULL)
		remove_departure(departure);
	if (!is_callback_set)
		MemoryContextRegisterResetCallback(TopTransactionContext, &callback);
	is_callback_set = true;

	context = AllocSetContextCreate(TopTransactionContext, "webhook departure",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	departure = palloc(sizeof(Departure));
	departure->workflow_id = workflow_id;
	departure->depth = get_trigger_depth();
	departure->subxact = GetCurrentSubTransactionId();
	departure->command = get_command(trigdata);
	departure->tuple = copy_whole(trigdata->tg_trigtuple,
								  RelationGetDescr(trigdata->tg_relation));
	departure->desc = CreateTupleDescCopy(RelationGetDescr(trigdata->tg_relation));
	departure->context = context;
	MemoryContextSwitchTo(TopTransactionContext);
	departures = lappend(departures, departure);
	MemoryContextSwitchTo(old);
}

bool
webhook_move_is_under_way(void)
{
	return departures != NIL;
}

bool
webhook_move_is_arrival(int32 workflow_id, TriggerData *trigdata)
{
	return find_arrived(workflow_id, trigdata) != NULL;
}

/* As TriggerEnabled in trigger.c decides it. */
static bool
is_firing(Trigger *trigger)
{
	if (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
		return trigger->tgenabled == TRIGGER_FIRES_ALWAYS ||
			trigger->tgenabled == TRIGGER_FIRES_ON_REPLICA;
	return trigger->tgenabled == TRIGGER_FIRES_ALWAYS ||
		trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN;
}

/* The workflow's update trigger on the partition; NULL: it has none. */
static Trigger *
find_update_trigger(TriggerData *trigdata)
{
	TriggerDesc *triggers = trigdata->tg_relation->trigdesc;
	Trigger    *self = trigdata->tg_trigger;

	for (int i = 0; i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (trigger->tgfoid == self->tgfoid &&
			TRIGGER_FOR_UPDATE(trigger->tgtype) &&
			trigger->tgnargs == 1 &&
			strcmp(trigger->tgargs[0], self->tgargs[0]) == 0 &&
			is_firing(trigger))
			return trigger;
	}
	return NULL;
}

/* Evaluate a trigger's WHEN clause as TriggerEnabled in trigger.c does. */
static bool
check_criteria(Trigger *trigger, Relation rel, HeapTuple old_tuple,
			   HeapTuple new_tuple)
{
	TupleDesc	desc = RelationGetDescr(rel);
	EState	   *estate;
	ExprContext *econtext;
	Node	   *qual;
	bool		result;

	if (trigger->tgqual == NULL)
		return true;

	estate = CreateExecutorState();
	econtext = GetPerTupleExprContext(estate);
	qual = stringToNode(trigger->tgqual);
	qual = webhook_expand_generated(qual, rel, PRS2_OLD_VARNO);
	qual = webhook_expand_generated(qual, rel, PRS2_NEW_VARNO);
	ChangeVarNodes(qual, PRS2_OLD_VARNO, INNER_VAR, 0);
	ChangeVarNodes(qual, PRS2_NEW_VARNO, OUTER_VAR, 0);
	econtext->ecxt_innertuple = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);
	econtext->ecxt_outertuple = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);
	ExecStoreHeapTuple(old_tuple, econtext->ecxt_innertuple, false);
	ExecStoreHeapTuple(new_tuple, econtext->ecxt_outertuple, false);
	result = ExecQual(ExecPrepareQual(make_ands_implicit((Expr *) qual), estate),
					  econtext);
	ExecDropSingleTupleTableSlot(econtext->ecxt_innertuple);
	ExecDropSingleTupleTableSlot(econtext->ecxt_outertuple);
	FreeExecutorState(estate);
	return result;
}

HeapTuple
webhook_move_take(int32 workflow_id, TriggerData *trigdata, bool *matches)
{
	Departure  *departure;
	TupleDesc	desc = RelationGetDescr(trigdata->tg_relation);
	TupleConversionMap *map;
	HeapTuple	old_tuple;
	Trigger    *trigger;

	*matches = false;
	departure = find_arrived(workflow_id, trigdata);
	if (departure == NULL)
		return NULL;

	map = convert_tuples_by_name(departure->desc, desc);
	old_tuple = map == NULL ? heap_copytuple(departure->tuple) :
		execute_attr_map_tuple(departure->tuple, map);
	remove_departure(departure);

	trigger = find_update_trigger(trigdata);
	if (trigger != NULL)
		*matches = check_criteria(trigger, trigdata->tg_relation, old_tuple,
								  trigdata->tg_trigtuple);
	return old_tuple;
}

/*-------------------------------------------------------------------------
 *
 * log_table.c
 *	  webhook_log and webhook_attempt, opened to be written without a statement.
 *
 * A backlog is nothing but rows that are claimed, settled, logged and one day
 * deleted.  By way of the executor each of these costs a multiple of what it
 * costs to find the row and to write it.  Where somebody has given the tables
 * triggers, constraints or rules of his own, or has changed an index,
 * statements do it.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog.h"
#include "catalog/pg_am.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "log_table.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/*
 * No trigger but our own, which tells the worker of others' changes only.
 * of_insert: those count that rows which are added would fire.
 */
static bool
has_foreign_triggers(const TriggerDesc *triggers, bool of_insert)
{
	if (triggers == NULL)
		return false;
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (of_insert && !TRIGGER_FOR_INSERT(trigger->tgtype))
			continue;
		if (TRIGGER_FOR_ROW(trigger->tgtype) ||
			strcmp(trigger->tgname, "log_changed") != 0)
			return true;
	}
	return false;
}

/* Is there nothing that only the executor would heed? */
static bool
is_plain(Relation rel, bool of_insert)
{
	TupleConstr *constr = rel->rd_att->constr;

	return rel->rd_rel->relkind == RELKIND_RELATION &&
		!rel->rd_rel->relispartition && rel->rd_rules == NULL &&
		!has_foreign_triggers(rel->trigdesc, of_insert) &&
		(constr == NULL ||
		 (constr->num_check == 0 && !constr->has_generated_stored));
}

/* A column that somebody has added: may it just be NULL? */
static bool
may_be_null(Form_pg_attribute attr)
{
	return attr->attisdropped ||
		(!attr->attnotnull && !attr->atthasdef &&
		 get_typtype(attr->atttypid) != TYPTYPE_DOMAIN);
}

bool
webhook_log_takes_rows(Relation log)
{
	TupleDesc	desc = RelationGetDescr(log);

	if (!is_plain(log, true))
		return false;
	for (int i = LOG_NATTS; i < desc->natts; i++)
	{
		if (!may_be_null(TupleDescAttr(desc, i)))
			return false;
	}
	return true;
}

bool
webhook_log_open(WebhookLogTarget *target, Oid relid, int natts, CmdType command)
{
	Relation	rel = relation_open(relid, RowExclusiveLock);

	if (!is_plain(rel, false) || rel->rd_rel->relhassubclass ||
		rel->rd_rel->relam != HEAP_TABLE_AM_OID ||
		RelationGetNumberOfAttributes(rel) != natts)
	{
		relation_close(rel, NoLock);
		return false;
	}
	CheckCmdReplicaIdentity(rel, command);
	target->rel = rel;
	target->estate = CreateExecutorState();
	target->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(target->rri, rel, 1, NULL, 0);
	ExecOpenIndices(target->rri, false);
	target->slot = table_slot_create(rel, NULL);
	target->new_slot = table_slot_create(rel, NULL);
	target->lock_slot = table_slot_create(rel, NULL);
	return true;
}

void
webhook_log_close(WebhookLogTarget *target)
{
	ExecDropSingleTupleTableSlot(target->slot);
	ExecDropSingleTupleTableSlot(target->new_slot);
	ExecDropSingleTupleTableSlot(target->lock_slot);
	ExecCloseIndices(target->rri);
	FreeExecutorState(target->estate);
	relation_close(target->rel, NoLock);
}

Oid
webhook_log_status(const char *label)
{
	Oid			type = get_atttype(webhook_catalog_relation(WEBHOOK_REL_LOG),
								   LOG_STATUS + 1);

	return DatumGetObjectId(DirectFunctionCall2(enum_in, CStringGetDatum(label),
												ObjectIdGetDatum(type)));
}

static char *
copy_text(Datum value, bool isnull)
{
	return isnull ? NULL : TextDatumGetCString(value);
}

static Jsonb *
copy_jsonb(Datum value, bool isnull)
{
	return isnull ? NULL : DatumGetJsonbPCopy(value);
}

WebhookDelivery *
webhook_log_read_delivery(const Datum *values, const bool *nulls)
{
	WebhookDelivery *delivery = palloc0(sizeof(WebhookDelivery));

	delivery->log_id = DatumGetInt64(values[LOG_LOG_ID]);
	delivery->action_id = DatumGetInt32(values[LOG_ACTION_ID]);
	delivery->ordered = DatumGetBool(values[LOG_ORDERED]);
	delivery->webhook_id =
		DatumGetCString(DirectFunctionCall1(uuid_out, values[LOG_WEBHOOK_ID]));
	delivery->operation = copy_text(values[LOG_OPERATION], nulls[LOG_OPERATION]);
	delivery->record_id = copy_text(values[LOG_RECORD_ID], nulls[LOG_RECORD_ID]);
	delivery->record = copy_jsonb(values[LOG_RECORD], nulls[LOG_RECORD]);
	delivery->old_record = copy_jsonb(values[LOG_OLD_RECORD], nulls[LOG_OLD_RECORD]);
	delivery->computed = copy_jsonb(values[LOG_COMPUTED], nulls[LOG_COMPUTED]);
	delivery->attempts = DatumGetInt16(values[LOG_ATTEMPTS]);
	delivery->retries = DatumGetInt16(values[LOG_RETRIES]);
	delivery->queued_at = DatumGetTimestampTz(values[LOG_QUEUED_AT]);
	return delivery;
}

/*
 * Is it a btree over these columns, in their order, that knows every row which
 * our snapshot sees?  A predicate is the caller's business.
 */
bool
webhook_log_is_index(Relation index, Relation rel, const AttrNumber *columns,
					 int n)
{
	if (index->rd_index->indrelid != RelationGetRelid(rel) ||
		!index->rd_index->indisvalid ||
		index->rd_rel->relam != BTREE_AM_OID ||
		index->rd_index->indnkeyatts != n)
		return false;
	for (int i = 0; i < n; i++)
	{
		if (index->rd_index->indkey.values[i] != columns[i] ||
			index->rd_indoption[i] != 0)
			return false;
	}

	/* Made over rows of which our snapshot may see an older version? */
	return !index->rd_index->indcheckxmin ||
		TransactionIdPrecedes(HeapTupleHeaderGetXmin(index->rd_indextuple->t_data),
							  TransactionXmin);
}

Relation
webhook_log_open_index(Relation rel, const char *name, const AttrNumber *columns,
					   int n)
{
	Oid			oid = get_relname_relid(name, RelationGetNamespace(rel));
	Relation	index;

	if (!OidIsValid(oid) || get_rel_relkind(oid) != RELKIND_INDEX)
		return NULL;
	index = index_open(oid, AccessShareLock);
	if (webhook_log_is_index(index, rel, columns, n))
		return index;
	index_close(index, AccessShareLock);
	return NULL;
}

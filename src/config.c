/*-------------------------------------------------------------------------
 *
 * config.c
 *	  What a workflow and its actions are, as far as it takes to queue.
 *
 * The rows are read straight from their tables, as PostgreSQL reads a catalog.  A
 * statement would have to be planned first, and a session that makes but one event
 * would take longer for that than for all else; and the writer needs no right on
 * the tables.
 *
 * Runs in the writer's session.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "config.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* Columns, as the install script creates them. */
enum
{
	WORKFLOW_WORKFLOW_ID = 1,
	WORKFLOW_MODULE = 3,
	WORKFLOW_RECURRENCE = 6,
	WORKFLOW_OWNER = 10,
	WORKFLOW_ENABLED = 11,
	WORKFLOW_COMPUTED = 13
};

enum
{
	ACTION_ACTION_ID = 1,
	ACTION_WORKFLOW_ID = 2,
	ACTION_ORDERED = 15,
	ACTION_ENABLED = 18,
	ACTION_COMPUTED = 19
};

static bool
is_btree(Oid oid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(oid));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_class) GETSTRUCT(tuple))->relam == BTREE_AM_OID;
	ReleaseSysCache(tuple);
	return result;
}

/* Does an index find every row by this column? */
static bool
is_index_of(Oid oid, AttrNumber column)
{
	HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(oid));
	Form_pg_index form;
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_index) GETSTRUCT(tuple);
	result = form->indisvalid && !form->indcheckxmin &&
		form->indkey.values[0] == column &&
		heap_attisnull(tuple, Anum_pg_index_indpred, NULL) &&
		is_btree(oid);
	ReleaseSysCache(tuple);
	return result;
}

static Oid
find_index(Relation rel, AttrNumber column)
{
	List	   *indexes = RelationGetIndexList(rel);
	Oid			result = InvalidOid;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		if (is_index_of(lfirst_oid(lc), column))
		{
			result = lfirst_oid(lc);
			break;
		}
	}
	list_free(indexes);
	return result;
}

/* The rows with this workflow_id; without an index, all are gone through. */
static SysScanDesc
begin_scan(Relation rel, AttrNumber column, int32 workflow_id, Snapshot snapshot)
{
	Oid			index = find_index(rel, column);
	ScanKeyData key;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(workflow_id));
	return systable_beginscan(rel, index, OidIsValid(index), snapshot, 1, &key);
}

/* A value of a column that is NOT NULL. */
static Datum
get_value(HeapTuple tuple, AttrNumber column, Relation rel)
{
	bool		isnull;

	return heap_getattr(tuple, column, RelationGetDescr(rel), &isnull);
}

static Jsonb *
copy_jsonb(HeapTuple tuple, AttrNumber column, Relation rel)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, column, RelationGetDescr(rel), &isnull);

	return isnull ? NULL : DatumGetJsonbPCopy(value);
}

static bool
read_workflow(int32 workflow_id, Snapshot snapshot, WebhookConfig *config)
{
	Relation	rel = table_open(webhook_catalog_relation(WEBHOOK_REL_WORKFLOW),
								 AccessShareLock);
	SysScanDesc scan = begin_scan(rel, WORKFLOW_WORKFLOW_ID, workflow_id, snapshot);
	HeapTuple	tuple = systable_getnext(scan);
	bool		is_found = HeapTupleIsValid(tuple);

	if (is_found)
	{
		config->module = DatumGetObjectId(get_value(tuple, WORKFLOW_MODULE, rel));
		config->owner = DatumGetObjectId(get_value(tuple, WORKFLOW_OWNER, rel));
		config->enabled = DatumGetBool(get_value(tuple, WORKFLOW_ENABLED, rel));
		config->first = strcmp(TextDatumGetCString(get_value(tuple, WORKFLOW_RECURRENCE, rel)),
							   "first") == 0;
		config->computed = copy_jsonb(tuple, WORKFLOW_COMPUTED, rel);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return is_found;
}

static int
compare_actions(const ListCell *a, const ListCell *b)
{
	int32		id_a = ((WebhookConfigAction *) lfirst(a))->action_id;
	int32		id_b = ((WebhookConfigAction *) lfirst(b))->action_id;

	return id_a < id_b ? -1 : id_a > id_b;
}

static List *
read_actions(int32 workflow_id, Snapshot snapshot)
{
	Relation	rel = table_open(webhook_catalog_relation(WEBHOOK_REL_ACTION),
								 AccessShareLock);
	SysScanDesc scan = begin_scan(rel, ACTION_WORKFLOW_ID, workflow_id, snapshot);
	HeapTuple	tuple;
	List	   *result = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		WebhookConfigAction *action;

		if (!DatumGetBool(get_value(tuple, ACTION_ENABLED, rel)))
			continue;
		action = palloc(sizeof(WebhookConfigAction));
		action->action_id = DatumGetInt32(get_value(tuple, ACTION_ACTION_ID, rel));
		action->ordered = DatumGetBool(get_value(tuple, ACTION_ORDERED, rel));
		action->computed = copy_jsonb(tuple, ACTION_COMPUTED, rel);
		result = lappend(result, action);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	list_sort(result, compare_actions);
	return result;
}

bool
webhook_config_read(int32 workflow_id, WebhookConfig *config)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		is_found;

	memset(config, 0, sizeof(WebhookConfig));
	is_found = read_workflow(workflow_id, snapshot, config);
	if (is_found)
		config->actions = read_actions(workflow_id, snapshot);
	UnregisterSnapshot(snapshot);
	return is_found;
}

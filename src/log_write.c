/*-------------------------------------------------------------------------
 *
 * log_write.c
 *	  Deliveries claimed and settled, and attempts stored, without a statement.
 *
 * See log_table.c for when, and claim.c and result.c for the statements that
 * do it otherwise.  A row that is locked is passed over, never waited for.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/executor.h"
#include "log_table.h"
#include "log_write.h"
#include "miscadmin.h"
#include "nodes/primnodes.h"
#include "slot.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define N_BUFFERED 64			/* rows of webhook_attempt inserted at once */

/* ---------------------------------------------------------------------
 * Rows of the log
 * ---------------------------------------------------------------------
 */

/* The new version begins as a copy of the one that is there. */
static void
start_version(WebhookLogTarget *target)
{
	int			natts = RelationGetNumberOfAttributes(target->rel);

	slot_getallattrs(target->slot);
	ExecClearTuple(target->new_slot);
	memcpy(target->new_slot->tts_values, target->slot->tts_values,
		   natts * sizeof(Datum));
	memcpy(target->new_slot->tts_isnull, target->slot->tts_isnull,
		   natts * sizeof(bool));
}

static void
set_value(WebhookLogTarget *target, int column, Datum value)
{
	target->new_slot->tts_values[column] = value;
	target->new_slot->tts_isnull[column] = false;
}

static void
set_null(WebhookLogTarget *target, int column)
{
	target->new_slot->tts_values[column] = (Datum) 0;
	target->new_slot->tts_isnull[column] = true;
}

/*
 * Has somebody locked or changed the row, be it in a transaction that is over?
 * This is a look without a lock: it may be too late by a moment.
 */
static bool
is_marked(TupleTableSlot *slot)
{
#ifdef USE_ASSERT_CHECKING
	return true;				/* heap_update asserts that nobody is */
#else
	HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, NULL);

	return (tuple->t_data->t_infomask & HEAP_XMAX_INVALID) == 0;
#endif
}

/*
 * Write the new version; false: somebody has locked or changed the row.
 *
 * An update that is not to wait is refused for the sake of any lock, even one
 * that is not in its way (FOR KEY SHARE): a row that bears a mark is locked
 * first, and then there is nothing left to be waited for.
 */
static bool
finish_version(WebhookLogTarget *target)
{
	CommandId	cid = GetCurrentCommandId(true);
	bool		is_locked = is_marked(target->slot);
	TM_FailureData failure;
	LockTupleMode lock_mode;
	WebhookUpdateIndexes indexes;

	ExecStoreVirtualTuple(target->new_slot);
	if (is_locked &&
		table_tuple_lock(target->rel, &target->slot->tts_tid,
						 GetActiveSnapshot(), target->lock_slot, cid,
						 LockTupleNoKeyExclusive, LockWaitSkip, 0,
						 &failure) != TM_Ok)
		return false;
	if (table_tuple_update(target->rel, &target->slot->tts_tid,
						   target->new_slot, cid, GetActiveSnapshot(),
						   InvalidSnapshot, is_locked, &failure, &lock_mode,
						   &indexes) != TM_Ok)
		return false;
	if (webhook_has_to_index(indexes))
		(void) webhook_update_index_tuples(target->rri, target->new_slot,
										   target->estate, indexes);
	ResetPerTupleExprContext(target->estate);
	return true;
}

/* ---------------------------------------------------------------------
 * Claiming
 * ---------------------------------------------------------------------
 */

/* Does it know every row that is due? */
static bool
knows_due_rows(Relation index)
{
	List	   *predicate = RelationGetIndexPredicate(index);
	NullTest   *test;

	if (list_length(predicate) != 1 || !IsA(linitial(predicate), NullTest))
		return predicate == NIL;
	test = linitial_node(NullTest, predicate);
	return test->nulltesttype == IS_NOT_NULL && IsA(test->arg, Var) &&
		((Var *) test->arg)->varattno == LOG_RETRY_AT + 1;
}

/* webhook_log_due_idx as it was made; NULL: not so any more. */
static Relation
open_due_index(Relation log)
{
	static const AttrNumber columns[] = {
		LOG_ACTION_ID + 1, LOG_RETRY_AT + 1, LOG_LOG_ID + 1
	};
	Relation	index = webhook_log_open_index(log, "webhook_log_due_idx",
											   columns, lengthof(columns));

	if (index == NULL || knows_due_rows(index))
		return index;
	index_close(index, AccessShareLock);
	return NULL;
}

/* action_id = ... AND (retry_at, log_id) > (...) AND retry_at <= ... */
static void
make_keys(ScanKey keys, ScanKey members, int32 action_id,
		  const WebhookCursor *cursor, TimestampTz now)
{
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(action_id));

	ScanKeyEntryInitialize(&members[0], SK_ROW_MEMBER, 2,
						   BTGreaterStrategyNumber, TIMESTAMPTZOID, InvalidOid,
						   F_TIMESTAMPTZ_CMP,
						   TimestampTzGetDatum(cursor->retry_at));
	ScanKeyEntryInitialize(&members[1], SK_ROW_MEMBER | SK_ROW_END, 3,
						   BTGreaterStrategyNumber, INT8OID, InvalidOid,
						   F_BTINT8CMP, Int64GetDatum(cursor->log_id));
	memset(&keys[1], 0, sizeof(ScanKeyData));
	keys[1].sk_flags = SK_ROW_HEADER;
	keys[1].sk_attno = members[0].sk_attno;
	keys[1].sk_strategy = BTGreaterStrategyNumber;
	keys[1].sk_argument = PointerGetDatum(members);

	ScanKeyInit(&keys[2], 2, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
				TimestampTzGetDatum(now));
}

/* Claim the row in the slot; NULL: it is Dispatched, or somebody has locked it. */
static WebhookDelivery *
claim_row(WebhookLogTarget *target, Oid dispatched, WebhookCursor *cursor)
{
	Datum	   *values = target->slot->tts_values;
	WebhookDelivery *delivery;
	TransactionId writer;
	TimestampTz retry_at;
	bool		isnull;

	start_version(target);
	if (target->slot->tts_isnull[LOG_RETRY_AT] ||
		DatumGetObjectId(values[LOG_STATUS]) == dispatched)
		return NULL;
	retry_at = DatumGetTimestampTz(values[LOG_RETRY_AT]);
	writer = DatumGetTransactionId(slot_getsysattr(target->slot,
												   MinTransactionIdAttributeNumber,
												   &isnull));
	set_value(target, LOG_STATUS, ObjectIdGetDatum(dispatched));
	set_value(target, LOG_DISPATCHED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
	set_value(target, LOG_WORKER, Int16GetDatum(webhook_slot_number()));
	if (!finish_version(target))
	{
		cursor->passed_over = Min(cursor->passed_over, retry_at);
		return NULL;
	}
	delivery = webhook_log_read_delivery(values, target->slot->tts_isnull);
	delivery->writer = writer;
	delivery->tid = target->new_slot->tts_tid;
	cursor->retry_at = retry_at;
	cursor->log_id = delivery->log_id;
	return delivery;
}

bool
webhook_log_claim(int32 action_id, WebhookCursor *cursor, TimestampTz now,
				  int limit, List **claimed, bool *exhausted)
{
	Oid			dispatched = webhook_log_status("Dispatched");
	Relation	index;
	ScanKeyData keys[3];
	ScanKeyData members[2];
	IndexScanDesc scan;
	WebhookLogTarget target;
	Size		size = 0;

	/* The table comes first, as for whoever drops or rebuilds its indexes. */
	if (!webhook_log_open(&target, webhook_catalog_relation(WEBHOOK_REL_LOG),
						  LOG_NATTS, CMD_UPDATE))
		return false;
	index = open_due_index(target.rel);
	if (index == NULL)
	{
		webhook_log_close(&target);
		return false;
	}

	/* What the turn itself has changed is seen, as by a statement. */
	PushCopiedSnapshot(GetActiveSnapshot());
	UpdateActiveSnapshotCommandId();
	make_keys(keys, members, action_id, cursor, now);
	scan = webhook_index_beginscan(target.rel, index, GetActiveSnapshot(),
								   lengthof(keys));
	index_rescan(scan, keys, lengthof(keys), NULL, 0);

	*claimed = NIL;
	while (list_length(*claimed) < limit && size < WEBHOOK_MAX_CLAIM_SIZE &&
		   index_getnext_slot(scan, ForwardScanDirection, target.slot))
	{
		WebhookDelivery *delivery;

		CHECK_FOR_INTERRUPTS();
		delivery = claim_row(&target, dispatched, cursor);
		if (delivery == NULL)
			continue;
		*claimed = lappend(*claimed, delivery);
		size += webhook_delivery_size(delivery);
	}
	*exhausted = list_length(*claimed) < limit && size < WEBHOOK_MAX_CLAIM_SIZE;
	index_endscan(scan);
	PopActiveSnapshot();
	index_close(index, AccessShareLock);
	webhook_log_close(&target);
	return true;
}

/* ---------------------------------------------------------------------
 * Settling
 * ---------------------------------------------------------------------
 */

static void
set_result(WebhookLogTarget *target, const WebhookResult *r, Oid status)
{
	set_value(target, LOG_STATUS, ObjectIdGetDatum(status));
	set_value(target, LOG_ATTEMPTS, Int16GetDatum(Min(r->attempts, PG_INT16_MAX)));
	set_value(target, LOG_RETRIES, Int16GetDatum(Min(r->retries, PG_INT16_MAX)));
	if (r->retry_at != 0)
	{
		set_value(target, LOG_RETRY_AT, TimestampTzGetDatum(r->retry_at));
		set_null(target, LOG_COMPLETED_AT);
	}
	else
	{
		set_null(target, LOG_RETRY_AT);
		set_value(target, LOG_COMPLETED_AT,
				  TimestampTzGetDatum(GetCurrentTimestamp()));
	}
	if (r->verdict != WEBHOOK_RELEASED)
	{
		if (r->http_status != 0)
			set_value(target, LOG_HTTP_STATUS, Int16GetDatum(r->http_status));
		else
			set_null(target, LOG_HTTP_STATUS);
	}
	if (r->error != NULL)
		set_value(target, LOG_ERROR, CStringGetTextDatum(r->error));
	else
		set_null(target, LOG_ERROR);
	set_value(target, LOG_INTERRUPTED, Int16GetDatum(0));
	set_null(target, LOG_WORKER);
}

/*
 * Make room on a row's page: what was there before the claim is dead by now.
 * Index scans do so as they come by, but none does.
 */
static void
prune_page(Relation rel, BlockNumber block)
{
	Buffer		buffer = ReadBuffer(rel, block);

	heap_page_prune_opt(rel, buffer);
	ReleaseBuffer(buffer);
}

List *
webhook_log_settle(List *results)
{
	Oid			dispatched = webhook_log_status("Dispatched");
	Oid			statuses[] = {
		[WEBHOOK_SUCCEEDED] = webhook_log_status("Success"),
		[WEBHOOK_FAILED] = webhook_log_status("Failed"),
		[WEBHOOK_UNSENDABLE] = webhook_log_status("Failed"),
		[WEBHOOK_RELEASED] = webhook_log_status("Queued")
	};
	BlockNumber n_blocks;
	BlockNumber pruned = InvalidBlockNumber;
	List	   *rest = NIL;
	ListCell   *lc;
	WebhookLogTarget target;

	if (!webhook_log_open(&target, webhook_catalog_relation(WEBHOOK_REL_LOG),
						  LOG_NATTS, CMD_UPDATE))
		return results;

	/* The table may have been rewritten since, and be shorter now. */
	n_blocks = RelationGetNumberOfBlocks(target.rel);
	foreach(lc, results)
	{
		WebhookResult *r = lfirst(lc);
		bool		is_settled = false;

		CHECK_FOR_INTERRUPTS();
		if (ItemPointerIsValid(&r->tid) &&
			ItemPointerGetBlockNumber(&r->tid) < n_blocks &&
			pruned != ItemPointerGetBlockNumber(&r->tid))
		{
			pruned = ItemPointerGetBlockNumber(&r->tid);
			prune_page(target.rel, pruned);
		}
		if (ItemPointerIsValid(&r->tid) &&
			ItemPointerGetBlockNumber(&r->tid) < n_blocks &&
			table_tuple_fetch_row_version(target.rel, &r->tid,
										  GetActiveSnapshot(), target.slot))
		{
			start_version(&target);
			if (DatumGetInt64(target.slot->tts_values[LOG_LOG_ID]) == r->log_id &&
				DatumGetObjectId(target.slot->tts_values[LOG_STATUS]) == dispatched)
			{
				set_result(&target, r, statuses[r->verdict]);
				is_settled = finish_version(&target);
			}
		}
		if (!is_settled)
			rest = lappend(rest, r);
	}
	webhook_log_close(&target);
	return rest;
}

/* ---------------------------------------------------------------------
 * Attempts
 * ---------------------------------------------------------------------
 */

static void
set_text(TupleTableSlot *slot, int column, const char *value)
{
	slot->tts_isnull[column] = value == NULL;
	slot->tts_values[column] = value == NULL ? (Datum) 0 :
		CStringGetTextDatum(value);
}

static void
fill_attempt(TupleTableSlot *slot, const WebhookAttempt *attempt)
{
	Interval   *duration = palloc0(sizeof(Interval));

	duration->time = attempt->duration;
	ExecClearTuple(slot);
	memset(slot->tts_isnull, false, ATTEMPT_NATTS * sizeof(bool));
	slot->tts_values[ATTEMPT_LOG_ID] = Int64GetDatum(attempt->log_id);
	slot->tts_values[ATTEMPT_ATTEMPT] =
		Int16GetDatum(Min(attempt->attempt, PG_INT16_MAX));
	slot->tts_values[ATTEMPT_STARTED_AT] = TimestampTzGetDatum(attempt->started_at);
	slot->tts_values[ATTEMPT_DURATION] = IntervalPGetDatum(duration);
	slot->tts_values[ATTEMPT_HTTP_STATUS] = Int16GetDatum(attempt->http_status);
	slot->tts_isnull[ATTEMPT_HTTP_STATUS] = attempt->http_status == 0;
	set_text(slot, ATTEMPT_ERROR, attempt->error);
	set_text(slot, ATTEMPT_REQUEST_BODY, attempt->request_body);
	set_text(slot, ATTEMPT_RESPONSE_BODY, attempt->response_body);
	ExecStoreVirtualTuple(slot);
}

bool
webhook_log_add_attempts(const WebhookAttempt *attempts, int n)
{
	TupleTableSlot *slots[N_BUFFERED] = {NULL};
	WebhookLogTarget target;

	if (!webhook_log_open(&target, webhook_catalog_relation(WEBHOOK_REL_ATTEMPT),
						  ATTEMPT_NATTS, CMD_INSERT))
		return false;
	for (int i = 0; i < n; i += N_BUFFERED)
	{
		int			n_slots = Min(N_BUFFERED, n - i);

		for (int j = 0; j < n_slots; j++)
		{
			if (slots[j] == NULL)
				slots[j] = table_slot_create(target.rel, NULL);
			fill_attempt(slots[j], &attempts[i + j]);
		}
		table_multi_insert(target.rel, slots, n_slots, GetCurrentCommandId(true),
						   0, NULL);
		for (int j = 0; j < n_slots; j++)
		{
			(void) webhook_insert_index_tuples(target.rri, slots[j], target.estate);
			ResetPerTupleExprContext(target.estate);
		}
	}
	for (int j = 0; j < N_BUFFERED && slots[j] != NULL; j++)
		ExecDropSingleTupleTableSlot(slots[j]);
	webhook_log_close(&target);
	return true;
}

/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  New rows of the log, written many at a time.
 *
 * A statement that changes a thousand records fires a thousand triggers one
 * after the other.  To open the log and its indexes, and to find a page with
 * room, for each of them anew would cost more than the rows themselves; so
 * the rows wait until the statement's triggers have all been fired, or until
 * there are enough of them, and are written together.
 *
 * Nobody can tell: the next statement of the transaction sees them, and an
 * error takes them along.  Rows belong to the subtransaction that added them,
 * as a trigger of somebody's may begin one in between: those of an outer one
 * wait until it is current again.  Where no hook says when a statement ends,
 * because the library is not preloaded, each row is written at once.
 *
 * The log is written straight through the table access method, with no query
 * in between: the writer needs no right on it, no search path matters, and a
 * row costs as little as it can.  Where somebody has given it triggers, rules,
 * constraints or defaults of his own, which only a statement heeds, each row is
 * inserted by one, with the rights of the log's owner.
 *
 * Runs in the writer's session and transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "batch.h"
#include "catalog.h"
#include "compat.h"
#include "executor/executor.h"
#include "lib/stringinfo.h"
#include "log_table.h"
#include "statement.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#define MAX_ROWS 200
#define MAX_BYTES (256 * 1024)

/* Rows that one subtransaction has added. */
typedef struct Batch
{
	SubTransactionId subid;
	MemoryContext context;		/* of all of it */
	MemoryContext row_context;	/* of the rows */
	TupleDesc	desc;
	int			n;
	Size		size;
	TupleTableSlot *slots[MAX_ROWS];	/* made as they are needed */
	struct Batch *outer;
} Batch;

static Batch *innermost = NULL;
static int	depth = 0;			/* of webhook_batch_call */
static uint64 n_added = 0;		/* rows, ever */

/* A column that somebody has added to the log, without a default, stays NULL. */
static HeapTuple
form_row(TupleDesc desc, const Datum *values, const bool *nulls)
{
	Datum		all_values[MaxHeapAttributeNumber];
	bool		all_nulls[MaxHeapAttributeNumber];

	if (desc->natts == LOG_NATTS)
		return heap_form_tuple(desc, unconstify(Datum *, values),
							   unconstify(bool *, nulls));
	memset(all_nulls, true, sizeof(all_nulls));
	memcpy(all_values, values, LOG_NATTS * sizeof(Datum));
	memcpy(all_nulls, nulls, LOG_NATTS * sizeof(bool));
	return heap_form_tuple(desc, all_values, all_nulls);
}

/* Write rows, and their index entries. */
static void
write_rows(Relation log, TupleTableSlot **slots, int n)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *rri = makeNode(ResultRelInfo);

	InitResultRelInfo(rri, log, 1, NULL, 0);
	ExecOpenIndices(rri, false);
	if (n == 1)
		simple_table_tuple_insert(log, slots[0]);
	else
		table_multi_insert(log, slots, n, GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < n; i++)
	{
		(void) webhook_insert_index_tuples(rri, slots[i], estate);
		ResetPerTupleExprContext(estate);
		ExecClearTuple(slots[i]);
	}
	ExecCloseIndices(rri);
	FreeExecutorState(estate);
}

static void
drop_innermost(void)
{
	Batch	   *batch = innermost;

	innermost = batch->outer;
	MemoryContextDelete(batch->context);
}

/* Write what the current subtransaction has added.  is_more: it adds more. */
static void
flush(bool is_more)
{
	Batch	   *batch = innermost;
	MemoryContext old;
	Relation	log;

	if (batch == NULL || batch->subid != GetCurrentSubTransactionId())
		return;
	log = table_open(webhook_catalog_relation(WEBHOOK_REL_LOG), RowExclusiveLock);
	old = MemoryContextSwitchTo(batch->row_context);
	write_rows(log, batch->slots, batch->n);
	MemoryContextSwitchTo(old);
	table_close(log, NoLock);
	if (!is_more)
	{
		drop_innermost();
		return;
	}
	MemoryContextReset(batch->row_context);
	batch->n = 0;
	batch->size = 0;
}

/* A batch for the current subtransaction. */
static Batch *
create_batch(Relation log)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	MemoryContext context;
	MemoryContext old;
	Batch	   *batch;

	context = AllocSetContextCreate(TopTransactionContext, "webhook batch",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	batch = palloc0(sizeof(Batch));
	batch->subid = subid;
	batch->context = context;
	batch->row_context = AllocSetContextCreate(context, "webhook batch rows",
											   ALLOCSET_DEFAULT_SIZES);
	batch->desc = CreateTupleDescCopy(RelationGetDescr(log));
	batch->outer = innermost;
	innermost = batch;
	MemoryContextSwitchTo(old);
	return batch;
}

/* Write a row that can't wait. */
static void
write_row(Relation log, const Datum *values, const bool *nulls)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(log),
													&TTSOpsHeapTuple);

	ExecStoreHeapTuple(form_row(RelationGetDescr(log), values, nulls), slot, true);
	write_rows(log, &slot, 1);
	ExecDropSingleTupleTableSlot(slot);
}

/* Insert a row in a way that heeds whatever has been done to the log. */
static void
insert_row(Relation log, const Datum *values, const bool *nulls)
{
	static SPIPlanPtr plan = NULL;
	static Oid	plan_for = InvalidOid;
	Oid			types[LOG_NATTS];
	char		null_marks[LOG_NATTS];
	StringInfoData sql = {0};
	WebhookScope scope;

	if (plan != NULL && plan_for != RelationGetRelid(log))
	{
		SPI_freeplan(plan);
		plan = NULL;
	}
	if (plan == NULL)
	{
		plan_for = RelationGetRelid(log);
		initStringInfo(&sql);
		for (int i = 0; i < LOG_NATTS; i++)
		{
			types[i] = TupleDescAttr(RelationGetDescr(log), i)->atttypid;
			appendStringInfo(&sql, "%s$%d", i == 0 ?
							 "INSERT INTO webhook.webhook_log VALUES (" : ", ", i + 1);
		}
		appendStringInfoChar(&sql, ')');
	}
	for (int i = 0; i < LOG_NATTS; i++)
		null_marks[i] = nulls[i] ? 'n' : ' ';
	webhook_scope_enter(&scope, webhook_catalog_owner());
	SPI_connect();
	webhook_statement_run(&plan, sql.data, LOG_NATTS, types,
						  unconstify(Datum *, values), null_marks);
	SPI_finish();
	webhook_scope_leave(&scope);
}

void
webhook_batch_add(const Datum *values, const bool *nulls)
{
	Batch	   *batch = innermost;
	HeapTuple	tuple;
	MemoryContext old;

	if (depth == 0 || batch == NULL || batch->subid != GetCurrentSubTransactionId())
	{
		/* The lock stays, and with it the columns. */
		Relation	log = table_open(webhook_catalog_relation(WEBHOOK_REL_LOG),
									 RowExclusiveLock);
		bool		takes_rows = webhook_log_takes_rows(log);

		if (!takes_rows)
			insert_row(log, values, nulls);
		else if (depth == 0)
			write_row(log, values, nulls);
		else
			batch = create_batch(log);
		table_close(log, NoLock);
		if (!takes_rows || depth == 0)
			return;
	}

	if (batch->slots[batch->n] == NULL)
	{
		old = MemoryContextSwitchTo(batch->context);
		batch->slots[batch->n] = MakeSingleTupleTableSlot(batch->desc,
														  &TTSOpsHeapTuple);
		MemoryContextSwitchTo(old);
	}
	old = MemoryContextSwitchTo(batch->row_context);
	tuple = form_row(batch->desc, values, nulls);
	MemoryContextSwitchTo(old);
	ExecStoreHeapTuple(tuple, batch->slots[batch->n++], false);
	n_added++;
	batch->size += tuple->t_len;
	if (batch->n == MAX_ROWS || batch->size >= MAX_BYTES)
		flush(true);
}

static void
leave(bool is_to_flush)
{
	depth--;
	if (is_to_flush && innermost != NULL)
		flush(false);
}

/*
 * A statement within another one's trigger, that has added nothing itself, leaves
 * what waits: else a module with an audit trigger had each of its rows written
 * singly.
 */
void
webhook_batch_call(void (*function) (void *), void *arg)
{
	const uint64 n_before = n_added;

	depth++;
	PG_TRY();
	{
		function(arg);
	}
	PG_CATCH();
	{
		leave(false);
		PG_RE_THROW();
	}
	PG_END_TRY();
	leave(n_added != n_before);
}

/*
 * Nothing waits when a transaction ends: should anything do so all the same,
 * it must not be lost.
 */
static void
on_xact_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			flush(false);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			innermost = NULL;	/* its memory was the transaction's */
			break;
		default:
			break;
	}
}

static void
on_subxact_event(SubXactEvent event, SubTransactionId subid,
				 SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_PRE_COMMIT_SUB)
		flush(false);
	else if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (innermost != NULL && innermost->subid == subid)
			drop_innermost();
	}
}

void
webhook_batch_init(void)
{
	RegisterXactCallback(on_xact_event, NULL);
	RegisterSubXactCallback(on_subxact_event, NULL);
}

/*-------------------------------------------------------------------------
 *
 * run.c
 *	  One run of a workflow: every record that meets its condition now.
 *
 * Runs in sessions (webhook.run_workflow), and in processes of their own that
 * the worker starts for schedules.  The module is read through a cursor, with
 * the rights of the workflow's owner in a security-restricted context; what is
 * in memory at a time is one batch of rows.  A run is one transaction: it
 * queues all of its records or none, and moves next_run_at on with them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "argument.h"
#include "batch.h"
#include "catalog.h"
#include "catalog/pg_class.h"
#include "event.h"
#include "executor/spi.h"
#include "expression.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "name.h"
#include "pgstat.h"
#include "process.h"
#include "progress.h"
#include "run.h"
#include "schedule.h"
#include "slot.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "transaction.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#define BATCH_SIZE 1000

/* What this process runs, for messages. */
static char *run_name = NULL;

PG_FUNCTION_INFO_V1(run_workflow);

/* ---------------------------------------------------------------------
 * The run
 * ---------------------------------------------------------------------
 */

/* Rows of children that merely inherit are not the module's. */
static SPIPlanPtr
prepare_query(const WebhookWorkflow *workflow, Relation module)
{
	SPIPrepareOptions options = {0};
	char	   *name = webhook_name_relation(module);
	char	   *sql = psprintf("SELECT new.*::%s FROM %s %s new WHERE %s", name,
							   module->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ? "" : "ONLY",
							   name, workflow->condition_sql != NULL ? workflow->condition_sql : "true");
	SPIPlanPtr	plan = webhook_expression_prepare_query(sql, &options);

	if (plan == NULL)
		elog(ERROR, "could not prepare a run");
	return plan;
}

void
webhook_run_check(const WebhookWorkflow *workflow)
{
	Relation	module = table_open(workflow->module, AccessShareLock);
	WebhookScope scope;

	webhook_scope_enter(&scope, workflow->owner);
	SPI_connect();
	(void) prepare_query(workflow, module);
	SPI_finish();
	webhook_scope_leave(&scope);
	table_close(module, NoLock);
}

/* What is to be queued. */
typedef struct Run
{
	const WebhookWorkflow *workflow;
	const WebhookEventWorkflow *event;
	const char *operation;
	int64		queued;			/* so many records were */
} Run;

static void
queue_row(Run *run, Relation module, SPITupleTable *table, uint64 row)
{
	HeapTupleData tuple;
	bool		isnull;
	HeapTupleHeader header;

	header = DatumGetHeapTupleHeader(SPI_getbinval(table->vals[row],
												   table->tupdesc, 1, &isnull));
	if (isnull)
		return;
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = RelationGetRelid(module);
	tuple.t_data = header;
	if (webhook_event_queue(run->event, run->operation, module, &tuple, NULL))
		run->queued++;
}

static void
queue_all(void *arg)
{
	Run		   *run = arg;
	const WebhookWorkflow *workflow = run->workflow;
	Relation	module;
	MemoryContext context;
	Portal		portal;
	int64		seen = 0;
	WebhookScope scope;

	module = table_open(workflow->module, AccessShareLock);
	context = AllocSetContextCreate(CurrentMemoryContext, "webhook run",
									ALLOCSET_DEFAULT_SIZES);
	webhook_progress_start("run_workflow", workflow->workflow_id, 0);
	webhook_scope_enter(&scope, workflow->owner);
	SPI_connect();
	portal = SPI_cursor_open(NULL, prepare_query(workflow, module), NULL, NULL, false);
	for (;;)
	{
		SPITupleTable *table;
		uint64		n;

		SPI_cursor_fetch(portal, true, BATCH_SIZE);
		table = SPI_tuptable;
		n = SPI_processed;
		if (n == 0)
			break;
		for (uint64 i = 0; i < n; i++)
		{
			MemoryContext old = MemoryContextSwitchTo(context);

			CHECK_FOR_INTERRUPTS();
			queue_row(run, module, table, i);
			MemoryContextSwitchTo(old);
			MemoryContextReset(context);
		}
		SPI_freetuptable(table);
		seen += n;
		webhook_progress_update(seen, 0);
	}
	SPI_cursor_close(portal);
	SPI_finish();
	webhook_scope_leave(&scope);
	webhook_progress_end();
	table_close(module, NoLock);
}

/* Queue what meets the condition; returns how many records. */
static int64
run(const WebhookWorkflow *workflow, const char *operation)
{
	Run			this_run = {workflow, webhook_event_workflow(workflow->workflow_id), operation};

	if (!this_run.event->enabled || this_run.event->n_actions == 0)
		return 0;
	webhook_batch_call(queue_all, &this_run);
	return this_run.queued;
}

/*
 * webhook.run_workflow(name) returns bigint
 *		Queue every record that meets the condition now; returns how many.
 */
Datum
run_workflow(PG_FUNCTION_ARGS)
{
	WebhookWorkflow *workflow;

	webhook_argument_require(fcinfo, 0, "name");
	workflow = webhook_workflow_table_lock(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	if (!workflow->enabled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("workflow \"%s\" is disabled", workflow->name),
				 errhint("Call webhook.enable_workflow.")));
	PG_RETURN_INT64(run(workflow, "MANUAL"));
}

/* ---------------------------------------------------------------------
 * The process
 * ---------------------------------------------------------------------
 */

static void
plan_next(WebhookWorkflow *workflow)
{
	WebhookPlan *plan = webhook_schedule_parse(workflow->schedule);
	pg_tz	   *zone = webhook_schedule_zone();

	workflow->counts_from = webhook_schedule_start(plan, workflow->counts_from,
												   workflow->next_run_at, zone);
	workflow->next_run_at = webhook_schedule_next(plan, workflow->counts_from,
												  GetCurrentTimestamp(), zone);
	webhook_workflow_table_set_next(workflow);
}

static void
carry_out(const WebhookRunOrder *order)
{
	WebhookWorkflow *workflow;

	webhook_transaction_begin("running a workflow");
	workflow = webhook_workflow_table_lock_due(order->workflow_id, order->planned_at);
	if (workflow != NULL)
	{
		run_name = MemoryContextStrdup(TopMemoryContext, workflow->name);
		pgstat_report_activity(STATE_RUNNING,
							   psprintf("running workflow \"%s\"", workflow->name));
		(void) run(workflow, "SCHEDULE");
		plan_next(workflow);
	}
	webhook_transaction_commit();
}

/* The next run is not to suffer from this one. */
static void
skip(const WebhookRunOrder *order)
{
	WebhookWorkflow *workflow;

	webhook_transaction_begin("planning the next run of a workflow");
	workflow = webhook_workflow_table_lock_due(order->workflow_id, order->planned_at);
	if (workflow != NULL)
		plan_next(workflow);
	webhook_transaction_commit();
}

static void
carry_out_guarded(Oid database, const WebhookRunOrder *order)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "webhook run process",
												  ALLOCSET_DEFAULT_SIZES);

	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		carry_out(order);
	}
	PG_CATCH();
	{
		ErrorData  *error;
		char	   *what;

		HOLD_INTERRUPTS();
		/* Out of the context that FlushErrorState will reset. */
		MemoryContextSwitchTo(context);
		what = run_name != NULL ? psprintf("workflow \"%s\"", run_name) :
			psprintf("workflow %d", order->workflow_id);
		error = CopyErrorData();
		errcontext("scheduled run of %s", what);
		EmitErrorReport();
		AbortCurrentTransaction();
		FlushErrorState();
		webhook_slot_report(database, psprintf("scheduled run of %s failed: %s",
											   what, error->message));
		RESUME_INTERRUPTS();

		/* Ended by a shutdown, it is made up for. */
		if (error->sqlerrcode != ERRCODE_ADMIN_SHUTDOWN)
			skip(order);
	}
	PG_END_TRY();
}

void
webhook_run_main(Datum arg)
{
	WebhookRunOrder order;
	Oid			database;

	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(order));
	database = webhook_slot_attach(DatumGetInt32(arg));
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	webhook_process_set_common();
	pgstat_report_appname("webhook run");
	carry_out_guarded(database, &order);
	proc_exit(0);
}

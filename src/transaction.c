/*-------------------------------------------------------------------------
 *
 * transaction.c
 *	  The transactions of a background process.
 *
 * Every transaction of a worker, and of a scheduled run, goes through this one
 * pair, so that each has a snapshot and its own time, and is seen in
 * pg_stat_activity and by autovacuum.  What a worker does with them, it does
 * behind one error boundary.
 *
 * Runs in the worker, and in run processes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "complaint.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "transaction.h"
#include "utils/snapmgr.h"

void
webhook_transaction_begin(const char *activity)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, activity);
}

void
webhook_transaction_end(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

void
webhook_transaction_report(void)
{
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
webhook_transaction_commit(void)
{
	webhook_transaction_end();
	webhook_transaction_report();
}

ErrorData *
webhook_transaction_call(void (*function) (void))
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		function();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		webhook_complaint_emit();
		AbortCurrentTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return error;
}

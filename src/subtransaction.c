/*-------------------------------------------------------------------------
 *
 * subtransaction.c
 *	  What may fail without failing the transaction.
 *
 * Runs in the writer's session, and in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "subtransaction.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

ErrorData *
webhook_subtransaction_call(void (*function) (void *), void *arg,
							void (*on_error) (void))
{
	const bool	in_transaction = IsTransactionState();
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	if (in_transaction)
		BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		function(arg);
		if (in_transaction)
			ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (on_error != NULL)
			on_error();
		FlushErrorState();
		if (in_transaction)
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

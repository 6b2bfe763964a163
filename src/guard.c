/*-------------------------------------------------------------------------
 *
 * guard.c
 *	  What can go wrong with one record's data must not fail its writer.
 *
 * Runs in the writer's session.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard.h"
#include "subtransaction.h"

/* Is it the session's or the transaction's trouble, not the record's? */
static bool
is_general(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_QUERY_CANCELED ||
		sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		ERRCODE_TO_CATEGORY(sqlerrcode) ==
		ERRCODE_TO_CATEGORY(ERRCODE_ADMIN_SHUTDOWN);
}

/*
 * What a function of the user's does not find it may name without a schema: the
 * search path is not the user's here (webhook_scope_enter).  Not so a setting, which
 * PostgreSQL calls an object, too.
 */
static bool
is_lost(const ErrorData *error)
{
	return error->context != NULL &&
		(error->sqlerrcode == ERRCODE_UNDEFINED_TABLE ||
		 error->sqlerrcode == ERRCODE_UNDEFINED_FUNCTION ||
		 (error->sqlerrcode == ERRCODE_UNDEFINED_OBJECT &&
		  (error->filename == NULL || strcmp(error->filename, "guc.c") != 0)));
}

char *
webhook_guard_call(WebhookGuarded function, void *arg)
{
	ErrorData  *error = webhook_subtransaction_call(function, arg, NULL);

	if (error == NULL)
		return NULL;
	if (is_general(error->sqlerrcode))
		ReThrowError(error);
	return !is_lost(error) ? error->message :
		psprintf("%s; a function that is called here needs a search_path of its own (ALTER FUNCTION ... SET search_path), or schemas in its names",
				 error->message);
}

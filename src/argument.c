/*-------------------------------------------------------------------------
 *
 * argument.c
 *	  Arguments of functions that are called from SQL.
 *
 * Runs in sessions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "argument.h"

void
webhook_argument_require(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
}

/*-------------------------------------------------------------------------
 *
 * statement.c
 *	  What statements on the extension's own tables have in common.
 *
 * Runs in sessions and workers; SPI must be connected.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "statement.h"
#include "utils/array.h"
#include "utils/lsyscache.h"

void
webhook_statement_execute(const char *sql, int n, const Oid *types,
						  const Datum *values, const char *nulls)
{
	if (SPI_execute_with_args(sql, n, unconstify(Oid *, types),
							  unconstify(Datum *, values), nulls, false, 0) < 0)
		elog(ERROR, "could not execute: %s", sql);
}

SPIPlanPtr
webhook_statement_prepare(SPIPlanPtr *plan, const char *sql, int n, Oid *types)
{
	if (*plan == NULL)
	{
		SPIPlanPtr	prepared = SPI_prepare(sql, n, types);

		if (prepared == NULL || SPI_keepplan(prepared) != 0)
			elog(ERROR, "could not prepare: %s", sql);
		*plan = prepared;
	}
	return *plan;
}

void
webhook_statement_run(SPIPlanPtr *plan, const char *sql, int n, Oid *types,
					  Datum *values, const char *nulls)
{
	int			rc = SPI_execute_plan(webhook_statement_prepare(plan, sql, n, types),
									  values, nulls, false, 0);

	if (rc < 0)
		elog(ERROR, "could not execute: %s: %s", sql, SPI_result_code_string(rc));
}

char *
webhook_statement_text(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

Datum
webhook_statement_value(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 column, isnull);
}

char *
webhook_statement_copy_text(uint64 row, int column, MemoryContext context)
{
	char	   *value = webhook_statement_text(row, column);

	return value == NULL ? NULL : MemoryContextStrdup(context, value);
}

Jsonb *
webhook_statement_copy_jsonb(uint64 row, int column, MemoryContext context)
{
	bool		isnull;
	Datum		value = webhook_statement_value(row, column, &isnull);
	MemoryContext old = MemoryContextSwitchTo(context);
	Jsonb	   *result = isnull ? NULL : DatumGetJsonbPCopy(value);

	MemoryContextSwitchTo(old);
	return result;
}

List *
webhook_statement_oids(MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	List	   *result = NIL;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		result = lappend_oid(result,
							 DatumGetObjectId(webhook_statement_value(i, 1, &isnull)));
	}
	MemoryContextSwitchTo(old);
	return result;
}

List *
webhook_statement_ints(MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	List	   *result = NIL;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		result = lappend_int(result,
							 DatumGetInt32(webhook_statement_value(i, 1, &isnull)));
	}
	MemoryContextSwitchTo(old);
	return result;
}

Datum
webhook_statement_array(Datum *values, bool *nulls, int n, Oid type)
{
	int16		len;
	bool		byval;
	char		align;
	int			dims[1] = {n};
	int			lbs[1] = {1};

	get_typlenbyvalalign(type, &len, &byval, &align);
	return PointerGetDatum(construct_md_array(values, nulls, 1, dims, lbs, type,
											  len, byval, align));
}

Datum
webhook_statement_ids(List *ids)
{
	Datum	   *values = palloc(list_length(ids) * sizeof(Datum));
	ListCell   *lc;
	int			n = 0;

	foreach(lc, ids)
		values[n++] = Int64GetDatum(*(int64 *) lfirst(lc));
	return webhook_statement_array(values, NULL, n, INT8OID);
}

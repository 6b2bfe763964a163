/*-------------------------------------------------------------------------
 *
 * statement.h
 *	  What statements on the extension's own tables have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_STATEMENT_H
#define WEBHOOK_STATEMENT_H

#include "executor/spi.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

/* Execute a statement; what can't be executed raises an error. */
extern void webhook_statement_execute(const char *sql, int n, const Oid *types,
									  const Datum *values, const char *nulls);

/*
 * Prepare a statement, once for the life of the process: the plan is kept in
 * *plan, and returned.
 */
extern SPIPlanPtr webhook_statement_prepare(SPIPlanPtr *plan, const char *sql,
											int n, Oid *types);

/* Execute a statement that is prepared so. */
extern void webhook_statement_run(SPIPlanPtr *plan, const char *sql, int n,
								  Oid *types, Datum *values, const char *nulls);

/* A value of a row that the last statement gave; columns count from 1. */
extern char *webhook_statement_text(uint64 row, int column);
extern Datum webhook_statement_value(uint64 row, int column, bool *isnull);

/* The same, copied into a memory context that outlives SPI; NULL: it is null. */
extern char *webhook_statement_copy_text(uint64 row, int column, MemoryContext context);
extern Jsonb *webhook_statement_copy_jsonb(uint64 row, int column, MemoryContext context);

/* The OIDs, or integers, in the first column of all its rows; the list is made in context. */
extern List *webhook_statement_oids(MemoryContext context);
extern List *webhook_statement_ints(MemoryContext context);

/* An array of n values; "nulls" may be NULL. */
extern Datum webhook_statement_array(Datum *values, bool *nulls, int n, Oid type);

/* The same of a list of int64 *. */
extern Datum webhook_statement_ids(List *ids);

#endif							/* WEBHOOK_STATEMENT_H */

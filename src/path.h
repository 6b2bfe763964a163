/*-------------------------------------------------------------------------
 *
 * path.h
 *	  Values of related records: foreign keys followed from a module.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_PATH_H
#define WEBHOOK_PATH_H

#include "nodes/pg_list.h"
#include "utils/relcache.h"

/*
 * The value at the end of a path as an expression in the form that
 * webhook_expression_compile writes.  All steps (char *) but the last are
 * columns of foreign keys, the last is a column of the record that they lead
 * to; exacts are the steps as they were written, or NULL.  is_old: from the
 * old row.  "what" is for messages.  Raises ERRCODE_UNDEFINED_COLUMN,
 * ERRCODE_INVALID_FOREIGN_KEY, ERRCODE_AMBIGUOUS_COLUMN.
 */
extern char *webhook_path_compile(List *steps, List *exacts, bool is_old,
								  Relation module, const char *what);

#endif							/* WEBHOOK_PATH_H */

/*-------------------------------------------------------------------------
 *
 * expression.h
 *	  SQL expressions over the rows of an event.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_EXPRESSION_H
#define WEBHOOK_EXPRESSION_H

#include "executor/spi.h"
#include "parser/parse_node.h"
#include "utils/relcache.h"

/* What is parsed, for messages. */
typedef struct WebhookExpressionSource
{
	const char *text;
	const char *what;			/* the place where it is written */
	const char *subject;		/* of "names columns of table ..." */
	const char *module;
} WebhookExpressionSource;

/*
 * Let errors say what is parsed, until error_context_stack is callback->previous
 * again.
 */
extern void webhook_expression_push_context(ErrorContextCallback *callback,
											WebhookExpressionSource *source);

/*
 * Parse one expression and nothing else, unanalyzed; NULL: the text is
 * something else.  Raises what PostgreSQL's parser does.
 */
extern Node *webhook_expression_parse(const char *text);

/*
 * A parser that knows a module's rows "old" and "new", as CREATE TRIGGER has
 * it; a bare name means a column of the old one where bare_is_old.
 */
extern ParseState *webhook_expression_parser(WebhookExpressionSource *source,
											 Relation module, bool bare_is_old);

/*
 * Analyze an expression under the caller's search path, and write it down so
 * that it means the same under any: all names qualified, columns of the rows
 * as new.column and old.column.  "what" is for messages.  Raises
 * ERRCODE_SYNTAX_ERROR, ERRCODE_UNDEFINED_COLUMN, ERRCODE_GROUPING_ERROR,
 * ERRCODE_FEATURE_NOT_SUPPORTED, and whatever PostgreSQL's parser does.
 */
extern char *webhook_expression_compile(const char *text, Relation module,
										const char *what);

/*
 * Write down an analyzed expression over the rows of webhook_expression_parser, so
 * that it means the same whatever the settings of the session that prepares it.
 */
extern char *webhook_expression_write(Node *expression, Relation module);

/* SPI_prepare_extended for a query of which webhook_expression_write wrote a part. */
extern SPIPlanPtr webhook_expression_prepare_query(const char *sql,
												   const SPIPrepareOptions *options);

/*
 * Plan what webhook_expression_compile wrote; its value is jsonb.  The plan
 * wants the list that webhook_expression_params makes.  SPI must be connected,
 * and the rights and search path be those to be run with.  *module must stay
 * where it is as long as the plan lives.
 */
extern SPIPlanPtr webhook_expression_prepare(const char *compiled,
											 const Oid *module);

/* The columns of an event's rows as parameters; old_tuple may be NULL. */
extern ParamListInfo webhook_expression_params(TupleDesc desc, HeapTuple tuple,
											   HeapTuple old_tuple);

#endif							/* WEBHOOK_EXPRESSION_H */

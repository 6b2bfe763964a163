/*-------------------------------------------------------------------------
 *
 * wanted.h
 *	  Related and computed values that templates want: their SQL, found and
 *	  checked at configuration.
 *
 * What is configured is a jsonb object: for each placeholder ${path} and
 * ${= expression} its text between the braces, with the SQL that computes it
 * (see expression.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_WANTED_H
#define WEBHOOK_WANTED_H

#include "template.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"

/* A placeholder that is neither a column nor known of the delivery. */
typedef struct WebhookWanted
{
	const WebhookPlaceholder *placeholder;
	const char *what;			/* the place where it is written, for messages */
} WebhookWanted;

/* Append what a template wants (WebhookWanted *) to a list. */
extern List *webhook_wanted_collect(List *wanted, const WebhookTemplate *tmpl,
									const char *what);

/*
 * The SQL of all that is wanted; NULL: nothing is.  What "known" (may be NULL)
 * has is kept as long as all that it names exists; a path to what was renamed
 * is found anew.  is_new: the configuration is being changed, and the owner of
 * the workflow must be able to read all that is read.  Raises what
 * webhook_path_compile, webhook_expression_compile and PostgreSQL's planner
 * do.
 */
extern Jsonb *webhook_wanted_compile(List *wanted, Jsonb *known,
									 Relation module, Oid owner, bool is_new);

/* Raise an error unless the role can read all that is read. */
extern void webhook_wanted_check(Jsonb *compiled, Relation module, Oid role);

extern bool webhook_wanted_is_same(Jsonb *a, Jsonb *b);

/* Push a string, as a key or a value of such an object. */
extern void webhook_wanted_push(JsonbParseState **state, JsonbIteratorToken token,
								const char *text);

#endif							/* WEBHOOK_WANTED_H */

/*-------------------------------------------------------------------------
 *
 * computed.h
 *	  Related and computed values: checked at configuration, read once for an
 *	  event.
 *
 * What is configured is a jsonb object: for each placeholder ${path} and
 * ${= expression} its text between the braces, with the SQL that computes it
 * (see expression.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_COMPUTED_H
#define WEBHOOK_COMPUTED_H

#include "access/htup.h"
#include "template.h"
#include "utils/rel.h"

/* A placeholder that is neither a column nor known of the delivery. */
typedef struct WebhookWanted
{
	const WebhookPlaceholder *placeholder;
	const char *what;			/* the place where it is written, for messages */
} WebhookWanted;

/* Append what a template wants (WebhookWanted *) to a list. */
extern List *webhook_computed_collect(List *wanted, const WebhookTemplate *tmpl,
									  const char *what);

/*
 * The SQL of all that is wanted; NULL: nothing is.  What "known" (may be NULL)
 * has is kept as long as all that it names exists; a path to what was renamed
 * is found anew.  is_new: the configuration is being changed, and the owner of
 * the workflow must be able to read all that is read.  Raises what
 * webhook_path_compile, webhook_expression_compile and PostgreSQL's planner
 * do.
 */
extern Jsonb *webhook_computed_compile(List *wanted, Jsonb *known,
									   Relation module, Oid owner, bool is_new);

/* Raise an error unless the role can read all that is read. */
extern void webhook_computed_check(Jsonb *compiled, Relation module, Oid role);

extern bool webhook_computed_is_same(Jsonb *a, Jsonb *b);

/* ---- for events: what a workflow's actions want, kept from event to event ---- */

typedef struct WebhookComputed WebhookComputed;

extern WebhookComputed *webhook_computed_create(Oid module, Oid owner);

/*
 * Add what an action (or owner_email) wants; returns the positions among the
 * workflow's distinct values, and the placeholders' texts, side by side, in
 * the current memory context.
 */
extern int	webhook_computed_add(WebhookComputed *computed, Jsonb *compiled,
								 int **positions, char ***names);

/* How many distinct values there are. */
extern int	webhook_computed_count(const WebhookComputed *computed);

/*
 * Compute all values for a row of the module or of a partition of it, with the
 * rights of the workflow's owner.  values[i] is NULL where errors[i] says why;
 * an error in one spoils no other.
 */
extern void webhook_computed_evaluate(WebhookComputed *computed, Relation rel,
									  HeapTuple tuple, HeapTuple old_tuple,
									  Jsonb **values, char **errors);

/* It is needed no longer. */
extern void webhook_computed_release(WebhookComputed *computed);

/*
 * Push those at positions into an object that is being built.  Returns NULL, or
 * the reason why the first of those that are left out could not be computed.
 */
extern char *webhook_computed_push(JsonbParseState **state, int n,
								   const int *positions, char **names,
								   Jsonb **values, char **errors);

/*
 * Compute once: what "compiled" (may be NULL) wants and "known" (may be NULL)
 * doesn't have.  Returns both together; raises an error where one fails.
 */
extern Jsonb *webhook_computed_once(Jsonb *compiled, Jsonb *known, Oid owner,
									Relation rel, HeapTuple tuple,
									HeapTuple old_tuple);

#endif							/* WEBHOOK_COMPUTED_H */

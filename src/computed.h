/*-------------------------------------------------------------------------
 *
 * computed.h
 *	  Related and computed values, read once for an event.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_COMPUTED_H
#define WEBHOOK_COMPUTED_H

#include "access/htup.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"

/* What a workflow's actions want, kept from event to event. */
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

/* Those of "compiled" (may be NULL) that "known" (may be NULL) doesn't have; NULL: none. */
extern Jsonb *webhook_computed_subtract(Jsonb *compiled, Jsonb *known);

/*
 * Compute once: what "compiled" (may be NULL) wants and "known" (may be NULL)
 * doesn't have.  Returns both together; raises an error where one fails.
 */
extern Jsonb *webhook_computed_once(Jsonb *compiled, Jsonb *known, Oid owner,
									Relation rel, HeapTuple tuple,
									HeapTuple old_tuple);

#endif							/* WEBHOOK_COMPUTED_H */

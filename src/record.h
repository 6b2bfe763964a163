/*-------------------------------------------------------------------------
 *
 * record.h
 *	  A row of a module as the log holds it: as jsonb, and by its primary key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RECORD_H
#define WEBHOOK_RECORD_H

#include "access/htup.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

typedef struct WebhookRecord
{
	char	   *record_id;		/* NULL: the module has no primary key */
	Jsonb	   *record;
	Jsonb	   *old_record;		/* NULL: there was none */
	char	   *error;			/* why record could not be made; or NULL */
} WebhookRecord;

/*
 * Read a tuple of rel, and the one before it (NULL: none), in the current
 * memory context.
 */
extern void webhook_record_read(WebhookRecord *record, Relation rel,
								HeapTuple tuple, HeapTuple old_tuple);

/*
 * A tuple with what is in none: the virtual generated columns of PostgreSQL 18.
 * Returns the tuple itself where there are none; raises what computing them does.
 */
extern HeapTuple webhook_record_complete(Relation rel, HeapTuple tuple);

/* Just the key as text; NULL: the module has no primary key. */
extern char *webhook_record_id(Relation rel, HeapTuple tuple);

/*
 * Text forms must not depend on the writer's session: bytea is hex, floats
 * are shortest-precise, dates in ranges are ISO.  Returns what to end it with.
 */
extern int	webhook_record_enter_output(void);
extern void webhook_record_leave_output(int level);

/* The same for a key, whose text names things as it does in no user's session. */
extern int	webhook_record_enter_key(void);

#endif							/* WEBHOOK_RECORD_H */

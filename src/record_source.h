/*-------------------------------------------------------------------------
 *
 * record_source.h
 *	  What is known of a table whose rows become records.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RECORD_SOURCE_H
#define WEBHOOK_RECORD_SOURCE_H

#include "fmgr.h"
#include "nodes/execnodes.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

/* How a column's values become jsonb. */
typedef enum WebhookColumnKind
{
	WEBHOOK_COLUMN_BOOLEAN,
	WEBHOOK_COLUMN_INT2,
	WEBHOOK_COLUMN_INT4,
	WEBHOOK_COLUMN_INT8,
	WEBHOOK_COLUMN_NUMERIC,
	WEBHOOK_COLUMN_TEXT,
	WEBHOOK_COLUMN_DATETIME,
	WEBHOOK_COLUMN_OTHER		/* as to_jsonb says */
} WebhookColumnKind;

typedef struct WebhookColumn
{
	int			index;			/* in the table, from zero */
	Oid			type;			/* below a domain */
	WebhookColumnKind kind;
	FmgrInfo	to_jsonb;		/* of other kinds */
	JsonbValue	name;
} WebhookColumn;

/* A table, or partition, that a workflow's trigger fires on. */
typedef struct WebhookRecordSource
{
	Oid			relid;			/* hash key */
	bool		is_valid;
	List	   *ancestors;		/* what it is a partition of, of however many */
	bool		is_guarded;		/* its rows may fail to become jsonb */
	int			n_key;
	AttrNumber *key;			/* primary key's columns in key order */
	bool		is_key_zoned;	/* its text depends on the time zone */
	bool		is_key_varied;	/* ... or on other settings of the session */
	FmgrInfo   *key_output;		/* of the column, if there is just one */
	TupleDesc	key_desc;		/* of the row they make, if there are more */
	int			n_columns;
	WebhookColumn *columns;		/* in the order in which jsonb keeps them */
	ExprState **generated;		/* of columns that are in no tuple, by their
								 * index; NULL: there are none */
	ExprContext *econtext;		/* to compute them in */
	TupleTableSlot *slot;		/* ... from what is in the tuple */
	MemoryContext context;
} WebhookRecordSource;

/* Of a table, or partition, that is open; valid until caches are invalidated. */
extern WebhookRecordSource *webhook_record_source_find(Relation rel);

/* Is a table that is open the module, or a partition of it? */
extern bool webhook_record_source_is_of(Relation rel, Oid module);

/* The columns of the primary key, in its order; returns how many. */
extern int	webhook_record_source_key(Relation rel, AttrNumber **key);

#endif							/* WEBHOOK_RECORD_SOURCE_H */

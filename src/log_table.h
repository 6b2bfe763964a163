/*-------------------------------------------------------------------------
 *
 * log_table.h
 *	  webhook_log and webhook_attempt, opened to be written without a statement.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LOG_TABLE_H
#define WEBHOOK_LOG_TABLE_H

#include "access/attnum.h"
#include "log_row.h"
#include "nodes/execnodes.h"

/* Columns of webhook.webhook_log, counted from zero. */
enum
{
	LOG_LOG_ID,
	LOG_WEBHOOK_ID,
	LOG_WORKFLOW_ID,
	LOG_ACTION_ID,
	LOG_MODULE,
	LOG_OPERATION,
	LOG_RECORD_ID,
	LOG_RECORD,
	LOG_OLD_RECORD,
	LOG_COMPUTED,
	LOG_STATUS,
	LOG_ATTEMPTS,
	LOG_RETRY_AT,
	LOG_QUEUED_AT,
	LOG_DISPATCHED_AT,
	LOG_COMPLETED_AT,
	LOG_HTTP_STATUS,
	LOG_ERROR,
	LOG_OWNER,
	LOG_ORDERED,
	LOG_RETRIES,
	LOG_INTERRUPTED,
	LOG_WORKER,
	LOG_NATTS
};

/* Columns of webhook.webhook_attempt, counted from zero. */
enum
{
	ATTEMPT_LOG_ID,
	ATTEMPT_ATTEMPT,
	ATTEMPT_STARTED_AT,
	ATTEMPT_DURATION,
	ATTEMPT_HTTP_STATUS,
	ATTEMPT_ERROR,
	ATTEMPT_REQUEST_BODY,
	ATTEMPT_RESPONSE_BODY,
	ATTEMPT_NATTS
};

/* A table opened to be written. */
typedef struct WebhookLogTarget
{
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *rri;
	TupleTableSlot *slot;		/* what is there */
	TupleTableSlot *new_slot;	/* what is to be there */
	TupleTableSlot *lock_slot;	/* what is there, once it is locked */
} WebhookLogTarget;

/* OID of a label of webhook.status. */
extern Oid	webhook_log_status(const char *label);

/*
 * A delivery by its row, in the current memory context, but for what is not in the
 * columns: the writer, and where the row is.
 */
extern WebhookDelivery *webhook_log_read_delivery(const Datum *values,
												  const bool *nulls);

/* May rows be added to the log without a statement? */
extern bool webhook_log_takes_rows(Relation log);

/*
 * Open a table that has natts columns, for a command.  False, and it is not
 * open: only statements heed what has been done to it.
 */
extern bool webhook_log_open(WebhookLogTarget *target, Oid relid, int natts,
							 CmdType command);

/* Close it; the lock stays until the transaction ends. */
extern void webhook_log_close(WebhookLogTarget *target);

/*
 * Is it a btree over these columns, in their order, that knows every row which
 * our snapshot sees?  A predicate is the caller's business.
 */
extern bool webhook_log_is_index(Relation index, Relation rel,
								 const AttrNumber *columns, int n);

/* Open an index of that name if it is such a one, to be read; NULL: it is not. */
extern Relation webhook_log_open_index(Relation rel, const char *name,
									   const AttrNumber *columns, int n);

#endif							/* WEBHOOK_LOG_TABLE_H */

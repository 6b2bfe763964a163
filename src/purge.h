/*-------------------------------------------------------------------------
 *
 * purge.h
 *	  What ended longer than webhook.log_retention ago is deleted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_PURGE_H
#define WEBHOOK_PURGE_H

#include "datatype/timestamp.h"

/* The moment at which a step is due; DT_NOEND: never. */
extern TimestampTz webhook_purge_next(void);

/*
 * Take a step if one is due, in the worker's transaction.  What it has found
 * out counts once that is committed.
 */
extern void webhook_purge_take(TimestampTz now);
extern void webhook_purge_commit(void);
extern void webhook_purge_abort(void);

#endif							/* WEBHOOK_PURGE_H */

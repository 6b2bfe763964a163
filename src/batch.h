/*-------------------------------------------------------------------------
 *
 * batch.h
 *	  New rows of the log, written many at a time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_BATCH_H
#define WEBHOOK_BATCH_H

/*
 * Call a function.  While it runs, rows that are added may wait for others: the
 * end of a statement's triggers, or of a run.  Calls nest.  When one returns that
 * has added something, unless by an error, all is written that was added in the
 * current subtransaction.
 */
extern void webhook_batch_call(void (*function) (void *), void *arg);

/*
 * Add a row of webhook_log: at once, or together with others.  The arrays have
 * an element for each column that the install script creates.
 */
extern void webhook_batch_add(const Datum *values, const bool *nulls);

extern void webhook_batch_init(void);

#endif							/* WEBHOOK_BATCH_H */

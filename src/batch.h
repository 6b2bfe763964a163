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
 * Between these two, rows that are added may wait for others: the end of a
 * statement's triggers, or of a run.  They nest.  webhook_batch_leave writes
 * what was added in the current subtransaction, unless an error is under way.
 */
extern void webhook_batch_enter(void);
extern void webhook_batch_leave(bool is_error);

/* Call a function between the two. */
extern void webhook_batch_call(void (*function) (void *), void *arg);

/*
 * Add a row of webhook_log: at once, or together with others.  The arrays have
 * an element for each column that the install script creates.
 */
extern void webhook_batch_add(const Datum *values, const bool *nulls);

extern void webhook_batch_init(void);

#endif							/* WEBHOOK_BATCH_H */

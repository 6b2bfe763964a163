/*-------------------------------------------------------------------------
 *
 * transaction.h
 *	  The transactions of a background process.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TRANSACTION_H
#define WEBHOOK_TRANSACTION_H

/* Begin one; activity is what pg_stat_activity shows meanwhile. */
extern void webhook_transaction_begin(const char *activity);

/* Commit it, and tell the statistics; or first the one and then the other. */
extern void webhook_transaction_commit(void);
extern void webhook_transaction_end(void);
extern void webhook_transaction_report(void);

/*
 * Call a function that begins and ends transactions of its own.  Returns NULL, or
 * the error that it raised, in the current memory context: the server log has been
 * told, and the transaction is aborted.
 */
extern ErrorData *webhook_transaction_call(void (*function) (void));

#endif							/* WEBHOOK_TRANSACTION_H */

/*-------------------------------------------------------------------------
 *
 * transaction.h
 *	  The transactions of a worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TRANSACTION_H
#define WEBHOOK_TRANSACTION_H

/* Begin one; activity is what pg_stat_activity shows meanwhile. */
extern void webhook_transaction_begin(const char *activity);

extern void webhook_transaction_commit(void);

#endif							/* WEBHOOK_TRANSACTION_H */

/*-------------------------------------------------------------------------
 *
 * subtransaction.h
 *	  What may fail without failing the transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SUBTRANSACTION_H
#define WEBHOOK_SUBTRANSACTION_H

/*
 * Call a function in a subtransaction of its own, in the current memory
 * context.  Returns NULL, or the error that it raised, copied into that
 * context, all that it did being undone.  on_error, which may be NULL, is
 * called while the error is still the current one: to report it, say.  What needs
 * no transaction may be called without one, and is not in a subtransaction then.
 */
extern ErrorData *webhook_subtransaction_call(void (*function) (void *), void *arg,
											  void (*on_error) (void));

#endif							/* WEBHOOK_SUBTRANSACTION_H */

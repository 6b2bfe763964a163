/*-------------------------------------------------------------------------
 *
 * guard.h
 *	  What can go wrong with one record's data must not fail its writer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_GUARD_H
#define WEBHOOK_GUARD_H

typedef void (*WebhookGuarded) (void *arg);

/*
 * Call a function in a subtransaction of its own.  Returns NULL, or the
 * message of the error that it raised, in the current memory context, all that
 * it did being undone.  A cancel, a termination and a serialization failure
 * are the session's, and are raised on.
 */
extern char *webhook_guard_call(WebhookGuarded function, void *arg);

#endif							/* WEBHOOK_GUARD_H */

/*-------------------------------------------------------------------------
 *
 * failure.h
 *	  Why a request failed, in plain words.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_FAILURE_H
#define WEBHOOK_FAILURE_H

/* None of these raises an error. */

/*
 * The text as one line in the server's encoding, allocated in the context: no
 * control characters, and what isn't valid becomes a question mark.
 */
extern char *webhook_failure_format(MemoryContext context,
									const char *format,...) pg_attribute_printf(2, 3);

/* "receiver answered 503 Service Unavailable" */
extern char *webhook_failure_of_status(MemoryContext context, int status);

/* "30 s" or "250 ms", into the buffer, which is given back. */
#define WEBHOOK_DURATION_SIZE 32
extern const char *webhook_failure_duration(char *buffer, int64 ms);

#endif							/* WEBHOOK_FAILURE_H */

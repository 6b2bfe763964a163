/*-------------------------------------------------------------------------
 *
 * answer.h
 *	  What became of a request, and why, in plain words.  The sender's own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_ANSWER_H
#define WEBHOOK_ANSWER_H

#include "transfer.h"

/* Neither raises an error. */

/*
 * Seconds that the value of a Retry-After header asks for, a number or a date
 * (RFC 9110, 10.2.3); now is a Unix time.  -1: neither, or gone by.
 */
extern int64 webhook_answer_parse_retry_after(const char *value, int64 now);

/* Fill in what curl's result makes of the request, but for its duration. */
extern void webhook_answer_judge(WebhookTransfer *transfer, CURLcode result);

/*
 * The text as one line in the server's encoding, allocated in the context: no
 * control characters, and what isn't valid becomes a question mark.
 */
extern char *webhook_answer_format(MemoryContext context,
								   const char *format,...) pg_attribute_printf(2, 3);

#endif							/* WEBHOOK_ANSWER_H */

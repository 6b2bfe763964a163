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

/* Fill in what curl's result makes of the request, but for its duration. */
extern void webhook_answer_judge(WebhookTransfer *transfer, CURLcode result);

/*
 * The text as one line in the server's encoding, allocated in the context: no
 * control characters, and what isn't valid becomes a question mark.
 */
extern char *webhook_answer_format(MemoryContext context,
								   const char *format,...) pg_attribute_printf(2, 3);

#endif							/* WEBHOOK_ANSWER_H */

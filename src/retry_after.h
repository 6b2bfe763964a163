/*-------------------------------------------------------------------------
 *
 * retry_after.h
 *	  How long a receiver asks to be left alone.  The sender's own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RETRY_AFTER_H
#define WEBHOOK_RETRY_AFTER_H

#include "transfer.h"

/* Neither raises an error. */

/*
 * Seconds that the value of a Retry-After header asks for, a number or a date;
 * now is a Unix time.  -1: neither, or gone by.
 */
extern int64 webhook_retry_after_parse(const char *value, int64 now);

/* The same of the answer to a request; -1: there is no such header. */
extern int64 webhook_retry_after_get(WebhookTransfer *transfer);

#endif							/* WEBHOOK_RETRY_AFTER_H */

/*-------------------------------------------------------------------------
 *
 * mail_digest.h
 *	  Who is told of which failures: steps of a mail turn.
 *
 * SPI must be connected.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_MAIL_DIGEST_H
#define WEBHOOK_MAIL_DIGEST_H

#include "datatype/timestamp.h"

/* Give a batch of notes their addresses; true: there may be more. */
extern bool webhook_mail_digest_gather(void);

/*
 * Make mails of the digests that are due.  Returns the moment at which the next
 * one is; DT_NOEND: there is none.
 */
extern TimestampTz webhook_mail_digest_write(TimestampTz now);

/* Queue one mail; action_id 0: it tells of no action. */
extern void webhook_mail_digest_queue(int32 action_id, Oid owner, const char *recipient,
									  const char *subject, const char *body);

#endif							/* WEBHOOK_MAIL_DIGEST_H */

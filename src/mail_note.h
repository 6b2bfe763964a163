/*-------------------------------------------------------------------------
 *
 * mail_note.h
 *	  The failures that somebody is to be told of are noted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_MAIL_NOTE_H
#define WEBHOOK_MAIL_NOTE_H

#include "nodes/pg_list.h"

/* Is there a mail server? */
extern bool webhook_mail_note_is_wanted(void);

/*
 * Among a delivery's computed values: why owner_email could not be computed.  No
 * placeholder of one is called so.
 */
#define WEBHOOK_OWNER_PROBLEM "owner_email"

/*
 * In the transaction that settles results (WebhookResult *): note the failures
 * that somebody is to be told of; true: there were some.
 */
extern bool webhook_mail_note_results(List *results);

/*
 * In a writer's transaction: note a delivery that failed when it was queued.
 * Needs no right.
 */
extern void webhook_mail_note_queued(int64 log_id, int32 action_id,
									 const char *record_id, const char *error);

#endif							/* WEBHOOK_MAIL_NOTE_H */

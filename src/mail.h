/*-------------------------------------------------------------------------
 *
 * mail.h
 *	  Who is told of failures by mail, and the mails' own queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_MAIL_H
#define WEBHOOK_MAIL_H

#include "datatype/timestamp.h"

extern void webhook_mail_init(void);

/* Look for notes of others in the next turn. */
extern void webhook_mail_survey(void);

/* Take what the mail server has answered; it is recorded in the next turn. */
extern void webhook_mail_collect(void);

extern bool webhook_mail_is_due(TimestampTz now);

/* The moment at which a turn is due. */
extern TimestampTz webhook_mail_next(void);

/*
 * Record what was answered, make mails of what was noted, and send what is
 * due.  An error is reported and followed by a pause.
 */
extern void webhook_mail_take_turn(void);

#endif							/* WEBHOOK_MAIL_H */

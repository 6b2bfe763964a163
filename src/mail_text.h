/*-------------------------------------------------------------------------
 *
 * mail_text.h
 *	  Addresses, and mails as they go over the wire.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_MAIL_TEXT_H
#define WEBHOOK_MAIL_TEXT_H

/*
 * Can it be a plain address?  RFC 5321 allows 254 bytes.  What looks right may
 * still be refused by a server.
 */
extern bool webhook_mail_text_is_address(const char *text);

/* The next address of a list, as it is written between the commas; NULL: no more. */
extern char *webhook_mail_text_next_address(const char **list);

/* The plain address of "Name <address>", or the text itself. */
extern char *webhook_mail_text_plain_address(const char *text);

/*
 * The mail as RFC 5322 has it, in UTF-8: a plain text, encoded so that no line
 * of it can be anything else.  "from" may name the sender, whose plain address
 * is given as well; these and the recipient are UTF-8, subject and body in the
 * server's encoding, so that it needs a transaction.  message_id stays the same
 * when a mail is sent again.
 */
extern char *webhook_mail_text_format(const char *from, const char *sender,
									  const char *recipient, const char *subject,
									  const char *body, const char *message_id);

/* What this machine calls itself. */
extern char *webhook_mail_text_host_name(void);

#endif							/* WEBHOOK_MAIL_TEXT_H */

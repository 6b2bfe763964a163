/*-------------------------------------------------------------------------
 *
 * sender.h
 *	  HTTP requests, and mails, in flight.  Knows nothing of tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SENDER_H
#define WEBHOOK_SENDER_H

#include "send.h"

/*
 * Set up libcurl in this process; raises ERRCODE_OUT_OF_MEMORY or
 * ERRCODE_SYSTEM_ERROR.  Called once, after the fork.
 */
extern void webhook_sender_start(void);

/* The settings were reloaded: open no request on a connection of before. */
extern void webhook_sender_reload(void);

/*
 * Hand a request to the network, to which it goes with the next
 * webhook_sender_start_all.  Never raises an error: what can't be sent comes
 * back from webhook_sender_done with its reason.
 */
extern void webhook_sender_send(WebhookSend *send);
extern void webhook_sender_start_all(void);

/* The descriptor to wait for (readable), and how long at most: ms, -1 = no limit. */
extern pgsocket webhook_sender_socket(void);
extern long webhook_sender_timeout(void);

/* Do what is to be done without waiting; returns the number of events seen. */
extern int	webhook_sender_progress(void);

/* The next finished request, or NULL. */
extern WebhookSend *webhook_sender_done(void);

/* How many are in flight. */
extern int	webhook_sender_in_flight(void);

/*
 * The same for mails, which are not counted among the requests.  One that a
 * server takes its time to say yes to is not counted at all.
 */
extern void webhook_sender_send_mail(WebhookMail *mail);
extern WebhookMail *webhook_sender_done_mail(void);
extern int	webhook_sender_mails_in_flight(void);

/*
 * An address with its host by IDNA, so that any mail server takes it, palloc'd.
 * Where that can't be, the address as it is, and it needs a server that offers
 * SMTPUTF8.
 */
extern char *webhook_sender_plain_address(const char *address);

/*
 * How many may be in flight with the descriptors that this process has, as far
 * as it knows: fewer for a while after one was missing.
 */
extern int	webhook_sender_capacity(void);

#endif							/* WEBHOOK_SENDER_H */

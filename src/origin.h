/*-------------------------------------------------------------------------
 *
 * origin.h
 *	  Is this the database whose webhooks were configured and queued, or a
 *	  copy of it?
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_ORIGIN_H
#define WEBHOOK_ORIGIN_H

typedef enum WebhookOrigin
{
	WEBHOOK_ORIGIN_NONE,		/* nothing is configured here */
	WEBHOOK_ORIGIN_OWN,
	WEBHOOK_ORIGIN_COPY
} WebhookOrigin;

/* Runs SQL: needs a transaction and the rights of the extension's owner. */
extern WebhookOrigin webhook_origin_find(void);

/*
 * A workflow is about to be created.  Where nothing is there yet, what will
 * be is of this database.
 */
extern void webhook_origin_note(void);

#endif							/* WEBHOOK_ORIGIN_H */

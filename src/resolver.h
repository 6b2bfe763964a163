/*-------------------------------------------------------------------------
 *
 * resolver.h
 *	  Why a host name could not be resolved.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RESOLVER_H
#define WEBHOOK_RESOLVER_H

typedef enum WebhookLookup
{
	WEBHOOK_LOOKUP_UNKNOWN,		/* it is being asked; ask again */
	WEBHOOK_LOOKUP_ABSENT,		/* there is no such name, or no address */
	WEBHOOK_LOOKUP_UNAVAILABLE, /* no name server could say */
	WEBHOOK_LOOKUP_FOUND		/* by now it resolves */
} WebhookLookup;

/*
 * Ask why a host name has just failed to resolve.  Never waits: the first
 * call begins a look-up in the background, later ones tell what it gave, for
 * half a minute.  Never raises an error.
 */
extern WebhookLookup webhook_resolver_explain(const char *host);

#endif							/* WEBHOOK_RESOLVER_H */

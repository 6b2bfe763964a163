/*-------------------------------------------------------------------------
 *
 * address.h
 *	  Which addresses may be connected to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_ADDRESS_H
#define WEBHOOK_ADDRESS_H

#include <sys/socket.h>

/*
 * Parse webhook.allowed_networks and its like, comma-separated lists of CIDR
 * blocks or single addresses.  Returns a malloc'd list (guc_malloc: a check hook's
 * "extra"), or NULL with *problem set to the culprit.  Never raises an error.
 */
typedef struct WebhookNetworks WebhookNetworks;
extern WebhookNetworks *webhook_address_parse_networks(const char *list,
													   const char **problem);

/*
 * May this address be connected to?  Public addresses always; private,
 * loopback, link-local, multicast and reserved ones (IPv4, IPv6, IPv4 inside
 * IPv6) if they are in networks, which may be NULL.  Never raises an error.
 */
extern bool webhook_address_allowed(const struct sockaddr *address,
									const WebhookNetworks *networks);

/*
 * Is it one of networks, public or not?  IPv4 inside IPv6 is IPv4.  What is no
 * address of a network (a socket's file) always is.  Never raises an error.
 */
extern bool webhook_address_listed(const struct sockaddr *address,
								   const WebhookNetworks *networks);

#endif							/* WEBHOOK_ADDRESS_H */

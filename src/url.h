/*-------------------------------------------------------------------------
 *
 * url.h
 *	  URLs of actions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_URL_H
#define WEBHOOK_URL_H

#include "template.h"

/*
 * At configuration: raise an error with a hint for a URL template that can't
 * be right, whatever its placeholders are filled with.
 */
extern void webhook_url_check(const char *url);

/*
 * At a delivery: raise an error for a URL in which what was filled in makes a
 * step "." or "..".  Encoding can't keep those from being taken for what they
 * mean, by libcurl or by the receiver, so that a record could choose where its
 * data, and the credentials, go.
 */
extern void webhook_url_check_filled(const WebhookTemplate *tmpl, const char *url);

#endif							/* WEBHOOK_URL_H */

/*-------------------------------------------------------------------------
 *
 * url.h
 *	  URLs, as libcurl reads them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_URL_H
#define WEBHOOK_URL_H

/*
 * Check a URL by libcurl's URL parser: returns NULL if it is http or https with
 * a host and without user information, else a message (palloc'd; no trailing
 * period).
 */
extern char *webhook_url_check(const char *url);

#endif							/* WEBHOOK_URL_H */

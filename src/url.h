/*-------------------------------------------------------------------------
 *
 * url.h
 *	  URLs of actions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_URL_H
#define WEBHOOK_URL_H

/*
 * At configuration: raise an error with a hint for a URL template that can't
 * be right, whatever its placeholders are filled with.
 */
extern void webhook_url_check(const char *url);

#endif							/* WEBHOOK_URL_H */

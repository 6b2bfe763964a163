/*-------------------------------------------------------------------------
 *
 * retry_after.c
 *	  How long a receiver asks to be left alone.
 *
 * The header Retry-After is a number of seconds, or a date (RFC 9110, section
 * 10.2.3).
 *
 * Runs in workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "retry_after.h"

int64
webhook_retry_after_parse(const char *value, int64 now)
{
	char	   *end;
	int64		seconds = strtol(value, &end, 10);
	time_t		date;

	if (end != value && end[strspn(end, " \t")] == '\0')
		return Max(seconds, -1);
	date = curl_getdate(value, NULL);
	return date < 0 ? -1 : Max((int64) date - now, -1);
}

/* Newer libcurls give no more than six hours for it themselves. */
int64
webhook_retry_after_get(WebhookTransfer *t)
{
#ifdef HAVE_HEADERS
	struct curl_header *header;

	if (curl_easy_header(t->easy, "Retry-After", 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
		return -1;
	return webhook_retry_after_parse(header->value, time(NULL));
#else
	curl_off_t	seconds = 0;

	return curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &seconds) == CURLE_OK &&
		seconds > 0 ? seconds : -1;
#endif
}

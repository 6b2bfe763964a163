/*-------------------------------------------------------------------------
 *
 * url.c
 *	  URLs, as libcurl reads them.
 *
 * Runs in sessions that configure an action; no network is touched.  What a
 * session refuses the worker's libcurl would refuse as well, but hours later.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <curl/curl.h>

#include "url.h"

/* Is there such a part, and is it not empty? */
static bool
has_part(CURLU *url, CURLUPart which)
{
	char	   *part = NULL;
	bool		found = curl_url_get(url, which, &part, 0) == CURLUE_OK &&
		part[0] != '\0';

	curl_free(part);
	return found;
}

char *
webhook_url_check(const char *url)
{
	int			len = strspn(url, "abcdefghijklmnopqrstuvwxyz"
							 "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");
	const char *message = NULL;
	CURLU	   *parsed;
	CURLUcode	result;

	if (len == 0 || strncmp(url + len, "://", 3) != 0)
		return pstrdup("URL must begin with http:// or https://");
	if (!(len == 4 && pg_strncasecmp(url, "http", 4) == 0) &&
		!(len == 5 && pg_strncasecmp(url, "https", 5) == 0))
		return psprintf("URL scheme \"%.*s\" is not supported", len, url);
	len += 3;
	if (url[len + strspn(url + len, "/")] == '\0')
		return pstrdup("URL has no host");

	parsed = curl_url();
	if (parsed == NULL)
		return pstrdup("URL could not be checked: out of memory");
	result = curl_url_set(parsed, CURLUPART_URL, url, 0);
	if (result == CURLUE_OUT_OF_MEMORY)
		message = "URL could not be checked: out of memory";
	else if (result == CURLUE_NO_HOST)
		message = "URL has no host";
	else if (result == CURLUE_BAD_PORT_NUMBER)
		message = "URL has a bad port number";
	else if (result != CURLUE_OK)
		message = "URL is malformed";
	else if (has_part(parsed, CURLUPART_USER) || has_part(parsed, CURLUPART_PASSWORD))
		message = "URL must not contain a user name or password";
	else if (!has_part(parsed, CURLUPART_HOST))
		message = "URL has no host";
	curl_url_cleanup(parsed);
	return message == NULL ? NULL : pstrdup(message);
}

/*-------------------------------------------------------------------------
 *
 * url.c
 *	  URLs of actions: what can be wrong with one, whatever its placeholders
 *	  are filled with.
 *
 * libcurl, which will read the URL in the end, judges it here as well: what a
 * session refuses would fail in the worker, but hours later.
 *
 * Runs in sessions that configure an action, and at a delivery, for what was filled
 * in; no network is touched.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <curl/curl.h>

#include "settings.h"
#include "text.h"
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

/*
 * Is it http or https with a host and without user information?  Returns NULL,
 * or a message without a period.
 */
static char *
find_fault(const char *url)
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

/* Does the text hold scheme, host and port completely? */
static bool
has_whole_authority(const char *prefix)
{
	const char *authority = strstr(prefix, "://");

	return authority != NULL && strpbrk(authority + 3, "/?#") != NULL;
}

/* A placeholder's stand-in while the URL is judged. */
static void
append_stand_in(StringInfo out, const char *value, int len)
{
	appendStringInfoChar(out, 'x');
}

/* How many steps of the path mean this step or the one above it (RFC 3986, section 3.3)? */
static int
count_dot_steps(const char *url)
{
	const char *p = strstr(url, "://");
	int			count = 0;

	p = p == NULL ? url : p + 3;
	p += strcspn(p, "/?#");
	while (*p == '/')
	{
		int			dots = 0;

		for (p++; *p == '.' || pg_strncasecmp(p, "%2e", 3) == 0; dots++)
			p += *p == '.' ? 1 : 3;
		if ((dots == 1 || dots == 2) && strchr("/?#", *p) != NULL)
			count++;
		p += strcspn(p, "/?#");
	}
	return count;
}

void
webhook_url_check_filled(const WebhookTemplate *tmpl, const char *url)
{
	int			count = count_dot_steps(url);
	StringInfoData sample;

	if (count == 0)
		return;
	initStringInfo(&sample);
	webhook_template_outline(tmpl, append_stand_in, &sample);
	if (count > count_dot_steps(sample.data))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("a value makes \".\" or \"..\" a step of the URL's path, which leads elsewhere"),
				 errhint("Put the value into the query of the URL, behind \"?\", or take one that is never so.")));
}

void
webhook_url_check(const char *url)
{
	WebhookTemplate *tmpl = webhook_template_parse(url, "URL");
	StringInfoData sample;
	char	   *authority;
	char	   *problem;

	for (const char *p = url; *p != '\0'; p++)
	{
		if ((unsigned char) *p < 0x20 || *p == 0x7f)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("URL contains a control character")));
	}
	if (!webhook_template_is_constant(tmpl) &&
		!has_whole_authority(webhook_template_prefix(tmpl)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("URL has a placeholder in front of its path"),
				 errhint("Scheme, host and port must be written out: https://example.com/${id}.")));

	initStringInfo(&sample);
	webhook_template_outline(tmpl, append_stand_in, &sample);
	authority = strstr(sample.data, "://");
	if (strchr(sample.data, ' ') != NULL)
		problem = "URL contains a space";
	else if (authority != NULL && strcspn(authority + 3, "/?#\\") == 0)
		problem = "URL has no host";	/* libcurl would skip the slashes */
	else
		problem = find_fault(webhook_utf8(sample.data, sample.len));
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s", problem),
				 errdetail("The URL is \"%s\".",
						   strchr(url, '@') != NULL ? "..." : url),
				 errhint("Write it as https://host/path; for Basic authentication give username and password.")));
	if (!webhook_allow_http && pg_strncasecmp(url, "https:", 6) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("URL scheme \"http\" is not allowed"),
				 errhint("Use https, or set webhook.allow_http.")));
}

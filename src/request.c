/*-------------------------------------------------------------------------
 *
 * request.c
 *	  An action and a delivery made into a request.
 *
 * The one place where method, URL, headers and body are made: for the worker,
 * for preview and for test.  Runs in sessions and in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/string.h"
#include "header.h"
#include "request.h"
#include "settings.h"
#include "signature.h"
#include "text.h"
#include "url.h"
#include "utils/formatting.h"

#define USER_AGENT "webhook/" WEBHOOK_VERSION " (PostgreSQL)"

/*
 * URL, headers and credentials together.  libcurl has room for a megabyte, and
 * takes the want of more for a want of memory, which would seem to pass.
 */
#define MAX_HEAD (512 * 1024)

/* What a URL's literal parts keep as it is, beside letters and digits. */
#define ASCII_SIGNS	"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

/* Parts of names of headers whose values are nobody's business. */
static const char *const secret_words[] = {
	"authorization", "cookie", "token", "secret", "password", "api-key",
	"apikey", "x-auth", "signature", "credential"
};

/* RFC 3986, section 2.3: all but unreserved characters are encoded. */
static void
encode_for_url(StringInfo out, const char *value, int len)
{
	webhook_text_percent(out, value, len, "-._~", 0);
}

/*
 * RFC 3987, section 3.1: letters beyond ASCII go over the wire percent-encoded,
 * and many a receiver refuses them otherwise.  Those of the host are libcurl's to
 * translate, by IDNA.
 */
static char *
encode_letters(char *url)
{
	StringInfoData result;
	const char *path;

	if (pg_is_ascii(url))
		return url;
	path = strstr(url, "://");
	path = path == NULL ? url : path + 3;
	path += strcspn(path, "/?#");
	initStringInfo(&result);
	appendBinaryStringInfo(&result, url, path - url);
	webhook_text_percent(&result, path, strlen(path), ASCII_SIGNS, 0);
	return webhook_utf8(result.data, result.len);
}

static bool
is_secret(const char *name)
{
	char	   *lower = asc_tolower(name, strlen(name));

	for (int i = 0; i < lengthof(secret_words); i++)
	{
		if (strstr(lower, secret_words[i]) != NULL)
			return true;
	}
	return false;
}

static void
add_header(WebhookRequest *request, const char *name, const char *value,
		   bool secret)
{
	WebhookHeader *header = palloc(sizeof(WebhookHeader));

	header->name = pstrdup(name);
	header->value = pstrdup(value);
	header->secret = secret;
	request->headers = lappend(request->headers, header);
}

static bool
has_header(const WebhookRequest *request, const char *name)
{
	ListCell   *lc;

	foreach(lc, request->headers)
	{
		if (pg_strcasecmp(((WebhookHeader *) lfirst(lc))->name, name) == 0)
			return true;
	}
	return false;
}

/* RFC 9110, section 5.5: a line break in a value becomes a space. */
static void
add_filled_header(WebhookRequest *request, const char *name,
				  const WebhookTemplate *tmpl, const WebhookEvent *event)
{
	StringInfoData value;

	initStringInfo(&value);
	webhook_template_fill(tmpl, event, NULL, &value);
	for (int i = 0; i < value.len; i++)
	{
		if (webhook_header_is_control(value.data[i]))
			value.data[i] = ' ';
	}
	add_header(request, name, webhook_utf8(value.data, value.len), is_secret(name));
}

static void
check_head(const WebhookRequest *request, const WebhookAction *action)
{
	Size		size = strlen(request->url);
	ListCell   *lc;

	foreach(lc, request->headers)
	{
		WebhookHeader *header = lfirst(lc);

		size += strlen(header->name) + strlen(header->value);
	}
	if (action->username != NULL)
		size += strlen(action->username);
	if (action->password != NULL)
		size += strlen(action->password);
	if (size > MAX_HEAD)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("URL and headers of %zu bytes exceed the limit of %d bytes",
						size, MAX_HEAD),
				 errhint("Send large values in the body: with parameters.")));
}

WebhookRequest *
webhook_request_render(const WebhookAction *action, const WebhookEvent *event)
{
	WebhookRequest *request = palloc0(sizeof(WebhookRequest));
	StringInfoData text;
	ListCell   *lc;
	ListCell   *lc2;

	request->method = strcmp(action->method, "PUT") == 0 ? "PUT" : "POST";

	initStringInfo(&text);
	webhook_template_fill(action->url_template, event, encode_for_url, &text);
	request->url = encode_letters(text.data);
	webhook_url_check_filled(action->url_template, request->url);

	forboth(lc, action->header_names, lc2, action->header_templates)
		add_filled_header(request, lfirst(lc), lfirst(lc2), event);
	if (!has_header(request, "Content-Type"))
		add_header(request, "Content-Type",
				   webhook_content_type_header(action->payload->content_type), false);
	if (!has_header(request, "Accept"))
		add_header(request, "Accept", "*/*", false);
	if (!has_header(request, "User-Agent"))
		add_header(request, "User-Agent", USER_AGENT, false);
	check_head(request, action);

	initStringInfo(&text);
	webhook_payload_render(action->payload, event, action->module_name, &text);
	if (text.len > webhook_max_payload_size)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("body of %d bytes exceeds webhook.max_payload_size (%d bytes)",
						text.len, webhook_max_payload_size)));
	request->body = text.data;
	request->body_len = text.len;
	return request;
}

void
webhook_request_stamp(WebhookRequest *request, const WebhookAction *action,
					  const char *webhook_id, TimestampTz now)
{
	int64		seconds = now / USECS_PER_SEC +
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64) SECS_PER_DAY;
	char		stamp[32];
	StringInfoData signature;
	ListCell   *lc;

	snprintf(stamp, sizeof(stamp), INT64_FORMAT, seconds);
	add_header(request, "webhook-id", webhook_id, false);
	add_header(request, "webhook-timestamp", stamp, false);
	if (action->signing_secret == NULL)
		return;

	initStringInfo(&signature);
	webhook_signature_append(&signature, action->signing_secret, webhook_id,
							 seconds, request->body, request->body_len);
	foreach(lc, action->old_secrets)
	{
		WebhookOldSecret *old = lfirst(lc);

		if (old->until > now)
			webhook_signature_append(&signature, old->secret, webhook_id,
									 seconds, request->body, request->body_len);
	}
	add_header(request, "webhook-signature", signature.data, false);
}

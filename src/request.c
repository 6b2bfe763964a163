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

#include "common/jsonapi.h"
#include "compat.h"
#include "request.h"
#include "settings.h"
#include "signature.h"
#include "url.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/jsonfuncs.h"

#define USER_AGENT "webhook/" WEBHOOK_VERSION " (PostgreSQL)"

/* Headers that are the sender's own (RFC 9110, RFC 9112). */
static const char *const refused_headers[] = {
	"Host", "Content-Length", "Transfer-Encoding", "Connection", "Expect",
	"Upgrade", "TE", "Trailer", "Keep-Alive", "Proxy-Connection"
};

/* Parts of names of headers whose values are nobody's business. */
static const char *const secret_words[] = {
	"authorization", "cookie", "token", "secret", "password", "api-key",
	"apikey", "x-auth", "signature", "credential"
};

typedef struct HeaderState
{
	List	  **names;
	List	  **templates;
	int			depth;
	char	   *name;
} HeaderState;

/* ---------------------------------------------------------------------
 * Headers as they are configured
 * ---------------------------------------------------------------------
 */

/* RFC 9110, section 5.6.2: token */
static bool
is_token(const char *name)
{
	if (name[0] == '\0')
		return false;
	for (const char *p = name; *p != '\0'; p++)
	{
		if (IS_HIGHBIT_SET(*p) ||
			(!isalnum((unsigned char) *p) && strchr("!#$%&'*+-.^_`|~", *p) == NULL))
			return false;
	}
	return true;
}

static bool
is_control(unsigned char c)
{
	return (c < 0x20 && c != '\t') || c == 0x7f;
}

static void
check_header_name(const char *name, const List *known)
{
	ListCell   *lc;

	if (!is_token(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not the name of a header", name),
				 errhint("A header's name consists of letters, digits and hyphens.")));
	for (int i = 0; i < lengthof(refused_headers); i++)
	{
		if (pg_strcasecmp(name, refused_headers[i]) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("header \"%s\" can't be set", name),
					 errhint("It follows from the URL, the body and the connection.")));
	}
	if (pg_strncasecmp(name, "webhook-", 8) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("header \"%s\" can't be set", name),
				 errhint("Headers that begin with \"webhook-\" identify and sign the delivery.")));
	foreach(lc, known)
	{
		if (pg_strcasecmp(name, lfirst(lc)) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("header \"%s\" is there twice", name)));
	}
}

static void
fail_headers(const char *name)
{
	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("headers are not a JSON object"),
				 errhint("Write them as {\"name\": \"value\", ...}.")));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the value of header \"%s\" is not a text", name)));
}

static WEBHOOK_JSON_ACTION
on_start(void *arg)
{
	HeaderState *state = arg;

	if (state->depth++ > 0)
		fail_headers(state->name);
	WEBHOOK_JSON_OK;
}

static WEBHOOK_JSON_ACTION
on_array_start(void *arg)
{
	HeaderState *state = arg;

	fail_headers(state->depth > 0 ? state->name : NULL);
	WEBHOOK_JSON_OK;
}

static WEBHOOK_JSON_ACTION
on_field(void *arg, char *name, bool isnull)
{
	HeaderState *state = arg;

	state->name = name;
	WEBHOOK_JSON_OK;
}

static WEBHOOK_JSON_ACTION
on_scalar(void *arg, char *token, JsonTokenType type)
{
	HeaderState *state = arg;

	if (state->depth == 0)
		fail_headers(NULL);
	if (type == JSON_TOKEN_NULL)
		fail_headers(state->name);
	check_header_name(state->name, *state->names);
	for (const char *p = token; *p != '\0'; p++)
	{
		if (is_control(*p))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the value of header \"%s\" contains a control character",
							state->name),
					 errhint("A header is a single line.")));
	}
	*state->names = lappend(*state->names, pstrdup(state->name));
	*state->templates = lappend(*state->templates,
								webhook_template_parse(token,
													   psprintf("header \"%s\"",
																state->name)));
	WEBHOOK_JSON_OK;
}

void
webhook_request_parse_headers(const char *headers, List **names,
							  List **templates)
{
	HeaderState state = {0};
	JsonSemAction actions = {0};

	*names = NIL;
	*templates = NIL;
	if (headers == NULL)
		return;
	state.names = names;
	state.templates = templates;
	actions.semstate = &state;
	actions.object_start = on_start;
	actions.array_start = on_array_start;
	actions.object_field_start = on_field;
	actions.scalar = on_scalar;
	pg_parse_json_or_ereport(webhook_make_json_lexer(cstring_to_text(headers), true),
							 &actions);
}

/* ---------------------------------------------------------------------
 * URLs
 * ---------------------------------------------------------------------
 */

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

void
webhook_request_check_url(const char *url)
{
	WebhookTemplate *tmpl = webhook_template_parse(url, "URL");
	StringInfoData sample;
	char	   *authority;
	char	   *problem;

	for (const char *p = url; *p != '\0'; p++)
	{
		if (is_control(*p) || *p == '\t')
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
		problem = webhook_url_check(webhook_utf8(sample.data, sample.len));
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

/* RFC 3986, section 2.3: all but unreserved characters are encoded. */
static void
encode_for_url(StringInfo out, const char *value, int len)
{
	char	   *utf8 = webhook_utf8(value, len);
	int			n = utf8 == value ? len : strlen(utf8);

	for (int i = 0; i < n; i++)
	{
		unsigned char c = utf8[i];

		if (c < 128 && (isalnum(c) || strchr("-._~", c) != NULL))
			appendStringInfoChar(out, c);
		else
			appendStringInfo(out, "%%%02X", c);
	}
}

/* ---------------------------------------------------------------------
 * Requests
 * ---------------------------------------------------------------------
 */

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
		if (is_control(value.data[i]))
			value.data[i] = ' ';
	}
	add_header(request, name, webhook_utf8(value.data, value.len), is_secret(name));
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
	request->url = webhook_utf8(text.data, text.len);

	forboth(lc, action->header_names, lc2, action->header_templates)
		add_filled_header(request, lfirst(lc), lfirst(lc2), event);
	if (!has_header(request, "Content-Type"))
		add_header(request, "Content-Type",
				   webhook_content_type_header(action->payload->content_type), false);
	if (!has_header(request, "Accept"))
		add_header(request, "Accept", "*/*", false);
	if (!has_header(request, "User-Agent"))
		add_header(request, "User-Agent", USER_AGENT, false);

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

	snprintf(stamp, sizeof(stamp), INT64_FORMAT, seconds);
	add_header(request, "webhook-id", webhook_id, false);
	add_header(request, "webhook-timestamp", stamp, false);
	if (action->signing_secret == NULL)
		return;

	initStringInfo(&signature);
	webhook_signature_append(&signature, action->signing_secret, webhook_id,
							 seconds, request->body, request->body_len);
	if (action->previous_secret != NULL && action->previous_until > now)
		webhook_signature_append(&signature, action->previous_secret, webhook_id,
								 seconds, request->body, request->body_len);
	add_header(request, "webhook-signature", signature.data, false);
}

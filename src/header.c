/*-------------------------------------------------------------------------
 *
 * header.c
 *	  Headers of requests, as an action has them.
 *
 * Names are taken as they are written, values are templates.  What a value may
 * be filled with is not known here: request.c sees to it that it stays one
 * line.
 *
 * Runs in sessions and in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/jsonapi.h"
#include "compat.h"
#include "header.h"
#include "template.h"
#include "utils/builtins.h"
#include "utils/jsonfuncs.h"

/* Headers that are the sender's own (RFC 9110, RFC 9112). */
static const char *const refused_headers[] = {
	"Host", "Content-Length", "Transfer-Encoding", "Connection", "Expect",
	"Upgrade", "TE", "Trailer", "Keep-Alive", "Proxy-Connection"
};

typedef struct HeaderState
{
	List	  **names;
	List	  **templates;
	int			depth;
	char	   *name;
} HeaderState;

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

bool
webhook_header_is_control(unsigned char c)
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
		if (webhook_header_is_control(*p))
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
webhook_header_parse(const char *headers, List **names, List **templates)
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

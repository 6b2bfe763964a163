/*-------------------------------------------------------------------------
 *
 * payload_form.c
 *	  Bodies of content type FORM: name=value&client[name]=value&...
 *
 * The encoding is application/x-www-form-urlencoded of the URL Standard
 * (https://url.spec.whatwg.org/#application/x-www-form-urlencoded); the
 * brackets that nest are written as they are, as PHP, Rails and qs read them.
 *
 * Runs in the worker and in preview.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "payload.h"
#include "utils/builtins.h"

static void write_jsonb(const char *name, const JsonbValue *value, StringInfo out);

static void
encode(StringInfo out, const char *text, int len)
{
	char	   *utf8 = webhook_utf8(text, len);
	int			n = utf8 == text ? len : strlen(utf8);

	for (int i = 0; i < n; i++)
	{
		unsigned char c = utf8[i];

		if (c < 128 && (isalnum(c) || strchr("*-._", c) != NULL))
			appendStringInfoChar(out, c);
		else if (c == ' ')
			appendStringInfoChar(out, '+');
		else
			appendStringInfo(out, "%%%02X", c);
	}
}

/* name, or name below parent: both in the form they are sent in. */
static char *
make_name(const char *parent, const char *name, int len)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoString(&out, parent);
	if (parent[0] != '\0')
		appendStringInfoChar(&out, '[');
	encode(&out, name, len);
	if (parent[0] != '\0')
		appendStringInfoChar(&out, ']');
	return out.data;
}

static char *
make_index(const char *parent, int index)
{
	return psprintf("%s[%d]", parent, index);
}

static void
write_pair(const char *name, const char *value, int len, StringInfo out)
{
	if (out->len > 0)
		appendStringInfoChar(out, '&');
	appendStringInfoString(out, name);
	appendStringInfoChar(out, '=');
	encode(out, value, len);
}

/* The members of an object or array from the record. */
static void
write_container(const char *name, JsonbContainer *container, StringInfo out)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbValue	value;
	JsonbIteratorToken token;
	char	   *child = NULL;
	int			i = 0;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			child = make_name(name, value.val.string.val, value.val.string.len);
		else if (token == WJB_ELEM)
			write_jsonb(make_index(name, i++), &value, out);
		else if (token == WJB_VALUE)
			write_jsonb(child, &value, out);
	}
}

static void
write_jsonb(const char *name, const JsonbValue *value, StringInfo out)
{
	StringInfoData text;

	if (value->type == jbvBinary)
	{
		write_container(name, value->val.binary.data, out);
		return;
	}
	initStringInfo(&text);
	webhook_value_text(value, &text);
	write_pair(name, text.data, text.len, out);
}

static void
write_node(const char *name, const WebhookNode *node, const WebhookEvent *event,
		   StringInfo out)
{
	JsonbValue	value;
	ListCell   *lc;
	int			i = 0;

	switch (node->kind)
	{
		case WEBHOOK_NODE_CONSTANT:
			if (strcmp(node->constant, "null") == 0)
				write_pair(name, "", 0, out);
			else
				write_pair(name, node->constant, strlen(node->constant), out);
			return;
		case WEBHOOK_NODE_TEMPLATE:
		case WEBHOOK_NODE_ATTRIBUTE:
			webhook_template_value(node->tmpl, event, &value);
			write_jsonb(name, &value, out);
			return;
		default:
			break;
	}
	foreach(lc, node->children)
	{
		WebhookNode *child = lfirst(lc);

		write_node(node->kind == WEBHOOK_NODE_ARRAY ? make_index(name, i++) :
				   make_name(name, child->name, strlen(child->name)),
				   child, event, out);
	}
}

void
webhook_payload_form(const WebhookPayload *payload, const WebhookEvent *event,
					 StringInfo body)
{
	if (payload->root != NULL)
		write_node("", payload->root, event, body);
	else if (event->record != NULL)
		write_container("", &event->record->root, body);
}

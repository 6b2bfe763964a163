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

#include "miscadmin.h"
#include "payload.h"
#include "text.h"

static void write_jsonb(StringInfo name, const JsonbValue *value, StringInfo out);

static void
encode(StringInfo out, const char *text, int len)
{
	webhook_text_percent(out, text, len, "*-._", '+');
}

/*
 * Names are in the form they are sent in.  One buffer has that of the place which
 * is being written: a step is added on the way down, and taken away on the way up.
 */
static void
add_step(StringInfo name, const char *step, int len)
{
	bool		is_below = name->len > 0;

	if (is_below)
		appendStringInfoChar(name, '[');
	encode(name, step, len);
	if (is_below)
		appendStringInfoChar(name, ']');
}

static void
take_away(StringInfo name, int len)
{
	name->len = len;
	name->data[len] = '\0';
}

static void
write_pair(StringInfo name, const char *value, int len, StringInfo out)
{
	if (out->len > 0)
		appendStringInfoChar(out, '&');
	appendBinaryStringInfo(out, name->data, name->len);
	appendStringInfoChar(out, '=');
	encode(out, value, len);
	webhook_template_check_size(out->len);
}

/* The members of an object or array from the record. */
static void
write_container(StringInfo name, JsonbContainer *container, StringInfo out)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbValue	value;
	JsonbIteratorToken token;
	int			len = name->len;
	int			i = 0;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			add_step(name, value.val.string.val, value.val.string.len);
		else if (token == WJB_ELEM)
			appendStringInfo(name, "[%d]", i++);
		if (token == WJB_ELEM || token == WJB_VALUE)
		{
			write_jsonb(name, &value, out);
			take_away(name, len);
		}
	}
}

static void
write_jsonb(StringInfo name, const JsonbValue *value, StringInfo out)
{
	StringInfoData text;

	check_stack_depth();
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
write_node(StringInfo name, const WebhookNode *node, const WebhookEvent *event,
		   StringInfo out)
{
	JsonbValue	value;
	ListCell   *lc;
	int			len = name->len;
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

		if (node->kind == WEBHOOK_NODE_ARRAY)
			appendStringInfo(name, "[%d]", i++);
		else
			add_step(name, child->name, strlen(child->name));
		write_node(name, child, event, out);
		take_away(name, len);
	}
}

void
webhook_payload_form(const WebhookPayload *payload, const WebhookEvent *event,
					 StringInfo body)
{
	StringInfoData name;

	initStringInfo(&name);
	if (payload->root != NULL)
		write_node(&name, payload->root, event, body);
	else if (event->record != NULL)
		write_container(&name, &event->record->root, body);
}

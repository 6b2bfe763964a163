/*-------------------------------------------------------------------------
 *
 * payload_json.c
 *	  Bodies of content type JSON and JSONARRAY.
 *
 * Runs in the worker and in preview.  What is JSON's own (escaping, numbers,
 * nested values) is written by PostgreSQL's functions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "payload.h"
#include "text.h"
#include "utils/json.h"

static void
write_value(const JsonbValue *value, StringInfo out)
{
	switch (value->type)
	{
		case jbvNull:
			appendStringInfoString(out, "null");
			break;
		case jbvString:
			escape_json(out, pnstrdup(value->val.string.val, value->val.string.len));
			break;
		default:
			webhook_value_text(value, out);
			break;
	}
}

static void
write_node(const WebhookNode *node, const WebhookEvent *event, StringInfo out)
{
	JsonbValue	value;
	ListCell   *lc;
	bool		is_object = node->kind == WEBHOOK_NODE_OBJECT;

	switch (node->kind)
	{
		case WEBHOOK_NODE_CONSTANT:
			appendStringInfoString(out, node->constant);
			return;
		case WEBHOOK_NODE_TEMPLATE:
		case WEBHOOK_NODE_ATTRIBUTE:
			webhook_template_value(node->tmpl, event, &value);
			write_value(&value, out);
			return;
		default:
			break;
	}
	appendStringInfoChar(out, is_object ? '{' : '[');
	foreach(lc, node->children)
	{
		WebhookNode *child = lfirst(lc);

		if (lc != list_head(node->children))
			appendStringInfoString(out, ", ");
		if (is_object)
		{
			escape_json(out, child->name);
			appendStringInfoString(out, ": ");
		}
		write_node(child, event, out);
		webhook_template_check_size(out->len);
	}
	appendStringInfoChar(out, is_object ? '}' : ']');
}

void
webhook_payload_json(const WebhookPayload *payload, const WebhookEvent *event,
					 StringInfo body)
{
	StringInfoData text;
	char	   *utf8;
	bool		is_wrapped;

	initStringInfo(&text);
	is_wrapped = payload->content_type == WEBHOOK_JSONARRAY &&
		(payload->root == NULL || payload->root->kind == WEBHOOK_NODE_OBJECT);
	if (is_wrapped)
		appendStringInfoChar(&text, '[');
	if (payload->root != NULL)
		write_node(payload->root, event, &text);
	else if (event->record != NULL)
		(void) JsonbToCString(&text, &event->record->root, VARSIZE(event->record));
	else
		appendStringInfoString(&text, "{}");
	if (is_wrapped)
		appendStringInfoChar(&text, ']');

	utf8 = webhook_utf8(text.data, text.len);
	appendStringInfoString(body, utf8);
}

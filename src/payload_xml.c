/*-------------------------------------------------------------------------
 *
 * payload_xml.c
 *	  Bodies of content type XML.
 *
 * Written by libxml2's writer.  Its objects are freed on both ways out, and
 * no PostgreSQL error passes through it: it calls nothing of ours.
 *
 * Runs in the worker and in preview.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <libxml/chvalid.h>
#include <libxml/xmlwriter.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "payload.h"
#include "text.h"

#define REPLACEMENT "\357\277\275"	/* U+FFFD in UTF-8 */

static void write_jsonb(xmlTextWriterPtr writer, const char *name, const JsonbValue *value);

static Size written;			/* bytes of the body that is being made */

static void
check(int rc)
{
	if (rc < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not write XML")));
	written += rc;
	webhook_template_check_size(written);
}

/* May a character be in an XML 1.0 document?  (Production 2, Char) */
static bool
is_xml_char(pg_wchar c)
{
	return c == 0x9 || c == 0xa || c == 0xd || (c >= 0x20 && c <= 0xd7ff) ||
		(c >= 0xe000 && c <= 0xfffd) || (c >= 0x10000 && c <= 0x10ffff);
}

/* UTF-8 that XML can carry. */
static char *
clean_text(const char *text, int len)
{
	char	   *utf8 = webhook_utf8(text, len);
	int			n = utf8 == text ? len : strlen(utf8);
	StringInfoData out;

	initStringInfo(&out);
	for (int i = 0; i < n;)
	{
		const unsigned char *p = (const unsigned char *) utf8 + i;
		int			l = pg_utf_mblen(p);

		if (is_xml_char(utf8_to_unicode(p)))
			appendBinaryStringInfo(&out, (const char *) p, l);
		else
			appendStringInfoString(&out, REPLACEMENT);
		i += l;
	}
	return out.data;
}

char *
webhook_xml_name(const char *text)
{
	char	   *utf8 = webhook_utf8(text, strlen(text));
	StringInfoData out;

	initStringInfo(&out);
	for (const unsigned char *p = (const unsigned char *) utf8; *p != '\0';)
	{
		int			l = pg_utf_mblen(p);
		pg_wchar	c = utf8_to_unicode(p);
		bool		is_start = c == '_' || xmlIsBaseCharQ(c) || xmlIsIdeographicQ(c);
		bool		is_other = c == '-' || c == '.' || xmlIsDigitQ(c) ||
			xmlIsCombiningQ(c) || xmlIsExtenderQ(c);

		if (is_other && out.len == 0)
			appendStringInfoChar(&out, '_');
		if (is_start || is_other)
			appendBinaryStringInfo(&out, (const char *) p, l);
		else
			appendStringInfoChar(&out, '_');
		p += l;
	}
	if (out.len == 0)
		appendStringInfoChar(&out, '_');
	return out.data;
}

/*
 * Text of an element.  A carriage return, which a parser would take for a
 * line's end, is written as a reference.
 */
static void
write_text(xmlTextWriterPtr writer, const char *text, int len)
{
	char	   *clean = clean_text(text, len);
	char	   *start = clean;
	char	   *cr;

	while ((cr = strchr(start, '\r')) != NULL)
	{
		*cr = '\0';
		check(xmlTextWriterWriteString(writer, BAD_CAST start));
		check(xmlTextWriterWriteRaw(writer, BAD_CAST "&#13;"));
		start = cr + 1;
	}
	check(xmlTextWriterWriteString(writer, BAD_CAST start));
}

static void
write_element(xmlTextWriterPtr writer, const char *name, const char *text, int len)
{
	check(xmlTextWriterStartElement(writer, BAD_CAST webhook_xml_name(name)));
	if (len > 0)
		write_text(writer, text, len);
	check(xmlTextWriterEndElement(writer));
}

/* The members of an object or array from the record. */
static void
write_container(xmlTextWriterPtr writer, const char *name,
				JsonbContainer *container)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbValue	value;
	JsonbIteratorToken token;
	char	   *key = NULL;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			key = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_ELEM)
			write_jsonb(writer, name, &value);
		else if (token == WJB_VALUE)
			write_jsonb(writer, key, &value);
	}
}

static void
write_jsonb(xmlTextWriterPtr writer, const char *name, const JsonbValue *value)
{
	StringInfoData text;

	check_stack_depth();
	if (value->type == jbvBinary &&
		JsonContainerIsArray(value->val.binary.data))
		write_container(writer, name, value->val.binary.data);
	else if (value->type == jbvBinary)
	{
		check(xmlTextWriterStartElement(writer, BAD_CAST webhook_xml_name(name)));
		write_container(writer, name, value->val.binary.data);
		check(xmlTextWriterEndElement(writer));
	}
	else
	{
		initStringInfo(&text);
		webhook_value_text(value, &text);
		write_element(writer, name, text.data, text.len);
	}
}

/* Attributes come before anything else in an element. */
static void
write_attributes(xmlTextWriterPtr writer, const WebhookNode *node,
				 const WebhookEvent *event)
{
	ListCell   *lc;

	foreach(lc, node->children)
	{
		WebhookNode *child = lfirst(lc);
		StringInfoData text;

		if (child->kind != WEBHOOK_NODE_ATTRIBUTE)
			continue;
		initStringInfo(&text);
		if (child->tmpl != NULL)
			webhook_template_fill(child->tmpl, event, NULL, &text);
		else if (strcmp(child->constant, "null") != 0)
			appendStringInfoString(&text, child->constant);
		check(xmlTextWriterWriteAttribute(writer,
										  BAD_CAST child->name + 1,
										  BAD_CAST clean_text(text.data, text.len)));
	}
}

static void
write_node(xmlTextWriterPtr writer, const char *name, const WebhookNode *node,
		   const WebhookEvent *event)
{
	JsonbValue	value;
	ListCell   *lc;

	switch (node->kind)
	{
		case WEBHOOK_NODE_ATTRIBUTE:
			break;				/* written already */
		case WEBHOOK_NODE_CONSTANT:
			if (strcmp(node->constant, "null") == 0)
				write_element(writer, name, "", 0);
			else
				write_element(writer, name, node->constant, strlen(node->constant));
			break;
		case WEBHOOK_NODE_TEMPLATE:
			webhook_template_value(node->tmpl, event, &value);
			write_jsonb(writer, name, &value);
			break;
		case WEBHOOK_NODE_ARRAY:
			foreach(lc, node->children)
				write_node(writer, name, lfirst(lc), event);
			break;
		case WEBHOOK_NODE_OBJECT:
			check(xmlTextWriterStartElement(writer, BAD_CAST webhook_xml_name(name)));
			write_attributes(writer, node, event);
			foreach(lc, node->children)
			{
				WebhookNode *child = lfirst(lc);

				write_node(writer, child->name, child, event);
			}
			check(xmlTextWriterEndElement(writer));
			break;
	}
}

static void
write_document(xmlTextWriterPtr writer, const WebhookPayload *payload,
			   const WebhookEvent *event, const char *root_name)
{
	check(xmlTextWriterStartDocument(writer, "1.0", "UTF-8", NULL));
	if (payload->root != NULL)
		write_node(writer, root_name, payload->root, event);
	else
	{
		check(xmlTextWriterStartElement(writer, BAD_CAST webhook_xml_name(root_name)));
		if (event->record != NULL)
			write_container(writer, root_name, &event->record->root);
		check(xmlTextWriterEndElement(writer));
	}
	check(xmlTextWriterEndDocument(writer));
}

static void
free_writer(xmlTextWriterPtr writer, xmlBufferPtr buffer)
{
	if (writer != NULL)
		xmlFreeTextWriter(writer);
	if (buffer != NULL)
		xmlBufferFree(buffer);
}

void
webhook_payload_xml(const WebhookPayload *payload, const WebhookEvent *event,
					const char *root_name, StringInfo body)
{
	volatile xmlBufferPtr buffer = NULL;
	volatile xmlTextWriterPtr writer = NULL;

	written = 0;
	PG_TRY();
	{
		buffer = xmlBufferCreate();
		if (buffer != NULL)
			writer = xmlNewTextWriterMemory(buffer, 0);
		check(writer != NULL ? 0 : -1);
		write_document(writer, payload, event, root_name);
		check(xmlTextWriterFlush(writer));
		appendBinaryStringInfo(body, (const char *) xmlBufferContent(buffer),
							   xmlBufferLength(buffer));
	}
	PG_CATCH();
	{
		free_writer(writer, buffer);
		PG_RE_THROW();
	}
	PG_END_TRY();
	free_writer(writer, buffer);
}

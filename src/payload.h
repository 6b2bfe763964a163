/*-------------------------------------------------------------------------
 *
 * payload.h
 *	  Parameters with dotted names, made into a tree once and rendered as the
 *	  body of a request often.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_PAYLOAD_H
#define WEBHOOK_PAYLOAD_H

#include "template.h"

typedef enum WebhookContentType
{
	WEBHOOK_JSON,
	WEBHOOK_JSONARRAY,
	WEBHOOK_XML,
	WEBHOOK_FORM
} WebhookContentType;

typedef enum WebhookNodeKind
{
	WEBHOOK_NODE_OBJECT,
	WEBHOOK_NODE_ARRAY,
	WEBHOOK_NODE_ATTRIBUTE,		/* XML only: "@name" with a plain value */
	WEBHOOK_NODE_TEMPLATE,		/* a string with or without placeholders */
	WEBHOOK_NODE_CONSTANT		/* number, true, false or null: its JSON text */
} WebhookNodeKind;

typedef struct WebhookNode
{
	WebhookNodeKind kind;
	bool		is_value;		/* of one parameter, whose name ends here */
	char	   *name;			/* member's name in an object, else NULL */
	List	   *children;		/* of WebhookNode *, in order */
	WebhookTemplate *tmpl;
	char	   *constant;
} WebhookNode;

typedef struct WebhookPayload
{
	WebhookContentType content_type;
	WebhookNode *root;			/* NULL: the whole record */
} WebhookPayload;

/* 'JSON' and its like, case-insensitively; ERRCODE_INVALID_PARAMETER_VALUE. */
extern WebhookContentType webhook_content_type(const char *name);

/* The Content-Type header's value. */
extern const char *webhook_content_type_header(WebhookContentType type);

/*
 * Compile parameters (JSON text in the server's encoding; NULL: the whole
 * record).  Raises ERRCODE_INVALID_PARAMETER_VALUE, ERRCODE_DUPLICATE_OBJECT
 * or ERRCODE_SYNTAX_ERROR, naming the parameter.  Allocates in the current
 * memory context.
 */
extern WebhookPayload *webhook_payload_compile(const char *parameters,
											   WebhookContentType type);

/* All templates (WebhookTemplate *) with the parameter they belong to. */
typedef void (*WebhookTemplateVisitor) (const WebhookTemplate *tmpl,
										const char *what, void *arg);
extern void webhook_payload_visit(const WebhookPayload *payload,
								  WebhookTemplateVisitor visit, void *arg);

/*
 * Append the body, in UTF-8 whatever the server's encoding.  root_name is
 * the module's name (XML).  May raise an error; the caller guards one row.
 * In a database whose encoding isn't UTF-8 it needs a transaction.
 */
extern void webhook_payload_render(const WebhookPayload *payload,
								   const WebhookEvent *event,
								   const char *root_name, StringInfo body);

/* One each content type; called by webhook_payload_render only. */
extern void webhook_payload_json(const WebhookPayload *payload,
								 const WebhookEvent *event, StringInfo body);
extern void webhook_payload_xml(const WebhookPayload *payload,
								const WebhookEvent *event,
								const char *root_name, StringInfo body);
extern void webhook_payload_form(const WebhookPayload *payload,
								 const WebhookEvent *event, StringInfo body);

/*
 * An XML element's or attribute's name, in UTF-8: what can't be in one becomes
 * an underscore.  (XML 1.0, production 4 of the first four editions, which many
 * parsers, expat for one, still go by; the fifth allows more.  Without the colon,
 * which would mean a namespace.)
 */
extern char *webhook_xml_name(const char *text);

#endif							/* WEBHOOK_PAYLOAD_H */

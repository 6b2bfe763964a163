/*-------------------------------------------------------------------------
 *
 * template.h
 *	  Text with ${...} placeholders: parsed and checked once, filled often.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TEMPLATE_H
#define WEBHOOK_TEMPLATE_H

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

/* What a template can be filled from: one delivery, at one attempt. */
typedef struct WebhookEvent
{
	Jsonb	   *record;			/* NULL: none */
	Jsonb	   *old_record;		/* NULL: none */
	Jsonb	   *computed;		/* related and computed values, by placeholder
								 * text as written between ${ and } */
	const char *webhook_id;		/* uuid as text */
	const char *operation;
	const char *module;			/* name of the module without its schema */
	const char *record_id;		/* NULL: the module has no primary key */
	int			attempt;		/* 1, 2, ... */
	TimestampTz timestamp;		/* when the event was queued */
} WebhookEvent;

typedef enum WebhookPlaceholderKind
{
	WEBHOOK_PLACEHOLDER_COLUMN, /* ${column}, ${new.column} */
	WEBHOOK_PLACEHOLDER_OLD_COLUMN, /* ${old.column} */
	WEBHOOK_PLACEHOLDER_DELIVERY,	/* ${webhook.id} and its like */
	WEBHOOK_PLACEHOLDER_PATH,	/* ${fk_column.column} */
	WEBHOOK_PLACEHOLDER_EXPRESSION	/* ${= expression} */
} WebhookPlaceholderKind;

typedef struct WebhookPlaceholder
{
	WebhookPlaceholderKind kind;
	char	   *text;			/* as written between ${ and }, trimmed: the key
								 * in "computed" */
	List	   *steps;			/* of char *: the column's name; the steps of a
								 * path; the name after "webhook." */
	List	   *exacts;			/* the steps as written, without folding; NULL:
								 * it was quoted */
	bool		is_old;			/* a path from the old row */
	char	   *expression;		/* SQL text of ${= ...} */
} WebhookPlaceholder;

typedef struct WebhookTemplate WebhookTemplate;

/* How a filled value is written into surrounding text; appends to out. */
typedef void (*WebhookEscape) (StringInfo out, const char *value, int len);

/*
 * Parse text.  "what" names the place for messages, such as: parameter
 * "client.name".  Raises ERRCODE_SYNTAX_ERROR.  Allocates in the current
 * memory context.
 */
extern WebhookTemplate *webhook_template_parse(const char *text,
											   const char *what);

/* All placeholders (WebhookPlaceholder *), in order. */
extern List *webhook_template_placeholders(const WebhookTemplate *tmpl);

/* Does the template consist of literal text only? */
extern bool webhook_template_is_constant(const WebhookTemplate *tmpl);

/* The literal text in front of the first placeholder ("" if none). */
extern const char *webhook_template_prefix(const WebhookTemplate *tmpl);

/*
 * Fill with text: strings as they are, numbers with all their digits, NULL
 * as the empty string, booleans as true and false, objects and arrays as
 * JSON text.  Each filled value, not the literal text, goes through escape
 * if that is not NULL.  In the server's encoding.
 */
extern void webhook_template_fill(const WebhookTemplate *tmpl,
								  const WebhookEvent *event,
								  WebhookEscape escape, StringInfo out);

/* The literal text, and what escape, here not NULL, makes of nothing for each placeholder. */
extern void webhook_template_outline(const WebhookTemplate *tmpl,
									 WebhookEscape escape, StringInfo out);

/*
 * Fill with a value: a template that is one placeholder and nothing else
 * keeps its type; any other gives a string.  *value may point into the event
 * or be allocated in the current memory context.
 */
extern void webhook_template_value(const WebhookTemplate *tmpl,
								   const WebhookEvent *event,
								   JsonbValue *value);

/* A JSON value as text, by the rules of webhook_template_fill. */
extern void webhook_value_text(const JsonbValue *value, StringInfo out);

/*
 * Raise ERRCODE_UNDEFINED_COLUMN, with a hint, if a placeholder names a
 * column that the module does not have, or a webhook.* name that does not
 * exist.  Paths and expressions are checked where they are compiled.
 */
extern void webhook_template_check(const WebhookTemplate *tmpl, Oid module,
								   const char *what);

/*
 * Raise ERRCODE_PROGRAM_LIMIT_EXCEEDED where what is being written is already so
 * long that it can't be sent: a record of a megabyte can be made to say one of
 * its names a million times.
 */
extern void webhook_template_check_size(Size size);

#endif							/* WEBHOOK_TEMPLATE_H */

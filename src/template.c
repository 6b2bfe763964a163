/*-------------------------------------------------------------------------
 *
 * template.c
 *	  Text with ${...} placeholders: parsed and checked once, filled often.
 *
 * Runs in sessions (checks, preview) and in the worker (filling).  Filling
 * reads nothing but the event it is given.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "parser/scansup.h"
#include "settings.h"
#include "template.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#define SIZE_SLACK (16 * 1024 * 1024)	/* what may be made in vain */

/* A piece of text, or a placeholder. */
typedef struct Piece
{
	char	   *literal;		/* NULL: a placeholder */
	WebhookPlaceholder *placeholder;
} Piece;

struct WebhookTemplate
{
	List	   *pieces;
};

static const char *const delivery_names[] = {
	"id", "timestamp", "operation", "module", "record_id", "attempt"
};

/* ---------------------------------------------------------------------
 * Parsing
 * ---------------------------------------------------------------------
 */

static void
fail_syntax(const char *what, const char *problem, const char *near)
{
	int			len = pg_mbcliplen(near, strlen(near), 40);

	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("%s: %s at \"%.*s\"", what, problem, len, near),
			 errhint("A placeholder is written ${column}; $${ is a plain ${.")));
}

/* Can it be in a name, or in the tag of a dollar quote? */
static bool
is_name_char(char c)
{
	return isalnum((unsigned char) c) || c == '_' || IS_HIGHBIT_SET(c);
}

/*
 * The end of a quoted piece of SQL that begins at p; NULL: it has none.  With
 * has_escapes a backslash takes its next character along.
 */
static const char *
skip_quoted(const char *p, bool has_escapes)
{
	char		quote = *p++;

	for (; *p != '\0'; p++)
	{
		if (*p == quote)
		{
			if (p[1] != quote)
				return p + 1;
			p++;
		}
		else if (has_escapes && *p == '\\' && p[1] != '\0')
			p++;
	}
	return NULL;
}

/* The same of what is quoted by dollars; p: it is not. */
static const char *
skip_dollar_quoted(const char *p)
{
	const char *body = p + 1;
	const char *end;

	while (is_name_char(*body))
		body++;
	if (*body++ != '$')
		return p;
	for (end = body; *end != '\0'; end++)
	{
		if (strncmp(end, p, body - p) == 0)
			return end + (body - p);
	}
	return NULL;
}

/* The closing brace of a placeholder whose content begins at start. */
static const char *
find_end(const char *start)
{
	const char *p = start;
	int			depth = 0;

	while (*p != '\0')
	{
		const char *past = p;

		if (*p == '\'' || *p == '"')
			past = skip_quoted(p, *p == '\'' && p > start && (p[-1] == 'E' || p[-1] == 'e') &&
							   (p - 1 == start || !is_name_char(p[-2])));
		else if (*p == '$' && (p == start || (!is_name_char(p[-1]) && p[-1] != '$')))
			past = skip_dollar_quoted(p);
		if (past == NULL)
			return NULL;
		if (past > p)
		{
			p = past;
			continue;
		}
		if (*p == '{')
			depth++;
		if (*p == '}' && depth-- == 0)
			return p;
		p++;
	}
	return NULL;
}

static char *
copy_trimmed(const char *start, const char *end)
{
	while (start < end && isspace((unsigned char) *start))
		start++;
	while (end > start && isspace((unsigned char) end[-1]))
		end--;
	return pnstrdup(start, end - start);
}

/*
 * One step of a dotted name, as SQL reads identifiers; moves *p behind it.
 * Within the braces even a name that SQL would want quoted is unmistakable, so
 * *exact is set to an unquoted one as it is written.
 */
static char *
parse_step(const char **p, const char *text, const char *what, char **exact)
{
	const char *start = *p;
	StringInfoData name;

	if (*start == '"')
	{
		const char *end = skip_quoted(start, false);

		if (end == NULL || end == start + 2)
			fail_syntax(what, "wrong placeholder", text);
		initStringInfo(&name);
		for (const char *q = start + 1; q < end - 1; q++)
		{
			appendStringInfoChar(&name, *q);
			if (*q == '"')
				q++;
		}
		*p = end;
		*exact = NULL;
		return name.data;
	}
	while (**p != '\0' && **p != '.' && **p != '"')
		(*p)++;
	if (*p == start)
		fail_syntax(what, "wrong placeholder", text);
	*exact = pnstrdup(start, *p - start);
	return downcase_identifier(start, *p - start, false, false);
}

static void
parse_steps(WebhookPlaceholder *placeholder, const char *what)
{
	const char *p = placeholder->text;

	for (;;)
	{
		char	   *exact;

		placeholder->steps = lappend(placeholder->steps,
									 parse_step(&p, placeholder->text, what,
												&exact));
		placeholder->exacts = lappend(placeholder->exacts, exact);
		if (*p == '\0')
			return;
		if (*p != '.')
			fail_syntax(what, "wrong placeholder", placeholder->text);
		p++;
	}
}

static void
classify(WebhookPlaceholder *placeholder, const char *what)
{
	const char *first;

	if (placeholder->text[0] == '\0')
		fail_syntax(what, "empty placeholder", "${}");
	if (placeholder->text[0] == '=')
	{
		const char *end = placeholder->text + strlen(placeholder->text);

		placeholder->kind = WEBHOOK_PLACEHOLDER_EXPRESSION;
		placeholder->expression = copy_trimmed(placeholder->text + 1, end);
		if (placeholder->expression[0] == '\0')
			fail_syntax(what, "empty expression", "${=}");
		return;
	}
	parse_steps(placeholder, what);
	first = linitial(placeholder->steps);
	placeholder->kind = WEBHOOK_PLACEHOLDER_COLUMN;
	if (list_length(placeholder->steps) == 1)
		return;
	if (strcmp(first, "webhook") == 0)
		placeholder->kind = WEBHOOK_PLACEHOLDER_DELIVERY;
	else if (strcmp(first, "old") == 0)
		placeholder->kind = WEBHOOK_PLACEHOLDER_OLD_COLUMN;
	else if (strcmp(first, "new") != 0)
	{
		placeholder->kind = WEBHOOK_PLACEHOLDER_PATH;
		return;
	}
	placeholder->steps = list_delete_first(placeholder->steps);
	placeholder->exacts = list_delete_first(placeholder->exacts);
	if (list_length(placeholder->steps) > 1)
	{
		if (placeholder->kind == WEBHOOK_PLACEHOLDER_DELIVERY)
			fail_syntax(what, "wrong placeholder", placeholder->text);
		placeholder->is_old = placeholder->kind == WEBHOOK_PLACEHOLDER_OLD_COLUMN;
		placeholder->kind = WEBHOOK_PLACEHOLDER_PATH;
	}
}

static void
add_literal(WebhookTemplate *tmpl, StringInfo literal)
{
	Piece	   *piece;

	if (literal->len == 0)
		return;
	piece = palloc0(sizeof(Piece));
	piece->literal = pstrdup(literal->data);
	tmpl->pieces = lappend(tmpl->pieces, piece);
	resetStringInfo(literal);
}

WebhookTemplate *
webhook_template_parse(const char *text, const char *what)
{
	WebhookTemplate *tmpl = palloc0(sizeof(WebhookTemplate));
	StringInfoData literal;

	initStringInfo(&literal);
	while (*text != '\0')
	{
		const char *end;
		Piece	   *piece;

		if (strncmp(text, "$${", 3) == 0)
		{
			appendStringInfoString(&literal, "${");
			text += 3;
			continue;
		}
		if (strncmp(text, "${", 2) != 0)
		{
			appendStringInfoChar(&literal, *text++);
			continue;
		}
		end = find_end(text + 2);
		if (end == NULL)
			fail_syntax(what, "unterminated placeholder", text);
		add_literal(tmpl, &literal);
		piece = palloc0(sizeof(Piece));
		piece->placeholder = palloc0(sizeof(WebhookPlaceholder));
		piece->placeholder->text = copy_trimmed(text + 2, end);
		classify(piece->placeholder, what);
		tmpl->pieces = lappend(tmpl->pieces, piece);
		text = end + 1;
	}
	add_literal(tmpl, &literal);
	return tmpl;
}

List *
webhook_template_placeholders(const WebhookTemplate *tmpl)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, tmpl->pieces)
	{
		Piece	   *piece = lfirst(lc);

		if (piece->placeholder != NULL)
			result = lappend(result, piece->placeholder);
	}
	return result;
}

bool
webhook_template_is_constant(const WebhookTemplate *tmpl)
{
	return webhook_template_placeholders(tmpl) == NIL;
}

const char *
webhook_template_prefix(const WebhookTemplate *tmpl)
{
	Piece	   *piece;

	if (tmpl->pieces == NIL)
		return "";
	piece = linitial(tmpl->pieces);
	return piece->literal != NULL ? piece->literal : "";
}

/* ---------------------------------------------------------------------
 * Checking
 * ---------------------------------------------------------------------
 */

static void
check_column(const WebhookPlaceholder *placeholder, Oid module,
			 const char *what)
{
	const char *name = linitial(placeholder->steps);
	const char *exact = linitial(placeholder->exacts);

	if (get_attnum(module, name) > 0 ||
		(exact != NULL && get_attnum(module, exact) > 0))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("%s: column \"%s\" of table \"%s\" does not exist",
					what, name, get_rel_name(module)),
			 errhint("A name within ${} is a column's, or old. and a column's, or webhook. and id, timestamp, operation, module, record_id or attempt.")));
}

static void
check_delivery(const WebhookPlaceholder *placeholder, const char *what)
{
	const char *name = linitial(placeholder->steps);

	for (int i = 0; i < lengthof(delivery_names); i++)
	{
		if (strcmp(name, delivery_names[i]) == 0)
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("%s: \"${webhook.%s}\" does not exist", what, name),
			 errhint("There are webhook.id, webhook.timestamp, webhook.operation, webhook.module, webhook.record_id and webhook.attempt.")));
}

void
webhook_template_check(const WebhookTemplate *tmpl, Oid module,
					   const char *what)
{
	ListCell   *lc;

	foreach(lc, webhook_template_placeholders(tmpl))
	{
		WebhookPlaceholder *placeholder = lfirst(lc);

		switch (placeholder->kind)
		{
			case WEBHOOK_PLACEHOLDER_COLUMN:
			case WEBHOOK_PLACEHOLDER_OLD_COLUMN:
				check_column(placeholder, module, what);
				break;
			case WEBHOOK_PLACEHOLDER_DELIVERY:
				check_delivery(placeholder, what);
				break;
			case WEBHOOK_PLACEHOLDER_PATH:
			case WEBHOOK_PLACEHOLDER_EXPRESSION:
				break;			/* see webhook_wanted_compile */
		}
	}
}

/* ---------------------------------------------------------------------
 * Filling
 * ---------------------------------------------------------------------
 */

static void
set_text(JsonbValue *value, const char *text)
{
	if (text == NULL)
	{
		value->type = jbvNull;
		return;
	}
	value->type = jbvString;
	value->val.string.val = unconstify(char *, text);
	value->val.string.len = strlen(text);
}

/* key, or else exact, if that is not NULL; false: there is neither */
static bool
look_up(Jsonb *jsonb, const char *key, const char *exact, JsonbValue *value)
{
	value->type = jbvNull;
	if (jsonb == NULL || !JB_ROOT_IS_OBJECT(jsonb))
		return false;
	if (getKeyJsonValueFromContainer(&jsonb->root, key, strlen(key), value) != NULL)
		return true;
	return exact != NULL &&
		getKeyJsonValueFromContainer(&jsonb->root, exact, strlen(exact), value) != NULL;
}

/* ISO 8601, in UTC. */
static char *
format_timestamp(TimestampTz timestamp)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(timestamp, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return psprintf("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year, tm.tm_mon,
					tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int) fsec);
}

static void
fill_delivery(const char *name, const WebhookEvent *event, JsonbValue *value)
{
	if (strcmp(name, "id") == 0)
		set_text(value, event->webhook_id);
	else if (strcmp(name, "timestamp") == 0)
		set_text(value, format_timestamp(event->timestamp));
	else if (strcmp(name, "operation") == 0)
		set_text(value, event->operation);
	else if (strcmp(name, "module") == 0)
		set_text(value, event->module);
	else if (strcmp(name, "record_id") == 0)
		set_text(value, event->record_id);
	else
	{
		value->type = jbvNumeric;
		value->val.numeric = int64_to_numeric(event->attempt);
	}
}

static void
fill_placeholder(const WebhookPlaceholder *placeholder,
				 const WebhookEvent *event, JsonbValue *value)
{
	switch (placeholder->kind)
	{
		case WEBHOOK_PLACEHOLDER_COLUMN:
			(void) look_up(event->record, linitial(placeholder->steps),
						   linitial(placeholder->exacts), value);
			break;
		case WEBHOOK_PLACEHOLDER_OLD_COLUMN:
			/* On a delete the record is the old row. */
			(void) look_up(strcmp(event->operation, "DELETE") == 0 ?
						   event->record : event->old_record,
						   linitial(placeholder->steps),
						   linitial(placeholder->exacts), value);
			break;
		case WEBHOOK_PLACEHOLDER_DELIVERY:
			fill_delivery(linitial(placeholder->steps), event, value);
			break;
		case WEBHOOK_PLACEHOLDER_PATH:
		case WEBHOOK_PLACEHOLDER_EXPRESSION:
			if (!look_up(event->computed, placeholder->text, NULL, value))
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("\"${%s}\" was not asked for when the event was queued; webhook.retry computes it",
								placeholder->text)));
			break;
	}
}

void
webhook_value_text(const JsonbValue *value, StringInfo out)
{
	switch (value->type)
	{
		case jbvNull:
			break;
		case jbvString:
			appendBinaryStringInfo(out, value->val.string.val,
								   value->val.string.len);
			break;
		case jbvNumeric:
			appendStringInfoString(out,
								   DatumGetCString(DirectFunctionCall1(numeric_out,
																	   NumericGetDatum(value->val.numeric))));
			break;
		case jbvBool:
			appendStringInfoString(out, value->val.boolean ? "true" : "false");
			break;
		case jbvBinary:
			(void) JsonbToCString(out, value->val.binary.data,
								  value->val.binary.len);
			break;
		default:
			elog(ERROR, "unexpected jsonb value type %d", (int) value->type);
	}
}

void
webhook_template_check_size(Size size)
{
	if (size > (Size) webhook_max_payload_size + SIZE_SLACK)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("body exceeds webhook.max_payload_size (%d bytes) by more than %d bytes",
						webhook_max_payload_size, SIZE_SLACK)));
}

void
webhook_template_fill(const WebhookTemplate *tmpl, const WebhookEvent *event,
					  WebhookEscape escape, StringInfo out)
{
	ListCell   *lc;

	foreach(lc, tmpl->pieces)
	{
		Piece	   *piece = lfirst(lc);
		JsonbValue	value;

		if (piece->literal != NULL)
		{
			appendStringInfoString(out, piece->literal);
			continue;
		}
		fill_placeholder(piece->placeholder, event, &value);
		if (escape == NULL)
			webhook_value_text(&value, out);
		else
		{
			StringInfoData text;

			initStringInfo(&text);
			webhook_value_text(&value, &text);
			escape(out, text.data, text.len);
			pfree(text.data);
		}
		webhook_template_check_size(out->len);
	}
}

void
webhook_template_outline(const WebhookTemplate *tmpl, WebhookEscape escape,
						 StringInfo out)
{
	ListCell   *lc;

	foreach(lc, tmpl->pieces)
	{
		Piece	   *piece = lfirst(lc);

		if (piece->literal != NULL)
			appendStringInfoString(out, piece->literal);
		else
			escape(out, "", 0);
	}
}

void
webhook_template_value(const WebhookTemplate *tmpl, const WebhookEvent *event,
					   JsonbValue *value)
{
	StringInfoData text;

	if (list_length(tmpl->pieces) == 1)
	{
		Piece	   *piece = linitial(tmpl->pieces);

		if (piece->placeholder != NULL)
			fill_placeholder(piece->placeholder, event, value);
		else
			set_text(value, piece->literal);
		return;
	}
	initStringInfo(&text);
	webhook_template_fill(tmpl, event, NULL, &text);
	set_text(value, text.data);
}

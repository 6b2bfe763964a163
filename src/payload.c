/*-------------------------------------------------------------------------
 *
 * payload.c
 *	  Parameters with dotted names, made into a tree.
 *
 * Runs in sessions (checks, preview) and in the worker.  The parameters are
 * read by PostgreSQL's JSON parser, in their order, and with the digits of
 * numbers as they are written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/jsonapi.h"
#include "compat.h"
#include "mb/pg_wchar.h"
#include "payload.h"
#include "utils/builtins.h"
#include "utils/jsonfuncs.h"

#define MAX_DEPTH 100			/* of parameters */

/* While parameters are parsed. */
typedef struct ParseState
{
	WebhookContentType type;
	WebhookNode *root;
	List	   *stack;			/* of WebhookNode *: open objects and arrays */
	char	   *parameter;		/* name of the parameter at hand */
	char	   *field;			/* name of the member at hand, or NULL */
} ParseState;

static const char *const type_names[] = {
	[WEBHOOK_JSON] = "JSON",
	[WEBHOOK_JSONARRAY] = "JSONARRAY",
	[WEBHOOK_XML] = "XML",
	[WEBHOOK_FORM] = "FORM",
};

WebhookContentType
webhook_content_type(const char *name)
{
	for (int i = 0; i < lengthof(type_names); i++)
	{
		if (pg_strcasecmp(name, type_names[i]) == 0)
			return i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("content type \"%s\" is not known", name),
			 errhint("Content types are JSON, JSONARRAY, XML and FORM.")));
	return 0;					/* keep compiler quiet */
}

const char *
webhook_content_type_header(WebhookContentType type)
{
	switch (type)
	{
		case WEBHOOK_XML:
			return "application/xml; charset=utf-8";
		case WEBHOOK_FORM:
			return "application/x-www-form-urlencoded";
		default:
			return "application/json";
	}
}

/* ---------------------------------------------------------------------
 * Dotted names
 * ---------------------------------------------------------------------
 */

static void
fail_depth(const char *parameter)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("parameter \"%.*s\" nests deeper than %d levels",
					pg_mbcliplen(parameter, strlen(parameter), NAMEDATALEN - 1),
					parameter, MAX_DEPTH)));
}

/* The steps of a dotted name; "\." and "\\" stand for themselves. */
static List *
split_name(const char *name)
{
	List	   *steps = NIL;
	StringInfoData step;

	initStringInfo(&step);
	for (const char *p = name;; p++)
	{
		if (*p == '\\' && (p[1] == '.' || p[1] == '\\'))
			appendStringInfoChar(&step, *++p);
		else if (*p == '.' || *p == '\0')
		{
			if (step.len == 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("parameter \"%s\" has an empty step in its name", name),
						 errhint("Dots nest; a dot that belongs to the name is written \\.")));
			steps = lappend(steps, pstrdup(step.data));
			resetStringInfo(&step);
			if (list_length(steps) > MAX_DEPTH)
				fail_depth(name);
			if (*p == '\0')
				return steps;
		}
		else
			appendStringInfoChar(&step, *p);
	}
}

/* A whole number without leading zeros, that an array can have: or -1. */
static int
get_index(const char *step)
{
	size_t		len = strlen(step);

	if (len > 6 || strspn(step, "0123456789") != len ||
		(len > 1 && step[0] == '0'))
		return -1;
	return atoi(step);
}

static WebhookNode *
make_node(WebhookNodeKind kind, const char *name)
{
	WebhookNode *node = palloc0(sizeof(WebhookNode));

	node->kind = kind;
	node->name = name != NULL ? pstrdup(name) : NULL;
	return node;
}

static void
fail_conflict(const char *parameter, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("parameter \"%s\" conflicts with another one", parameter),
			 errdetail("%s", detail)));
}

static bool
is_container(WebhookNodeKind kind)
{
	return kind == WEBHOOK_NODE_OBJECT || kind == WEBHOOK_NODE_ARRAY;
}

static WebhookNode *
find_member(const WebhookNode *object, const char *name)
{
	ListCell   *lc;

	foreach(lc, object->children)
	{
		WebhookNode *child = lfirst(lc);

		if (strcmp(child->name, name) == 0)
			return child;
	}
	return NULL;
}

/*
 * The node below parent that a step leads to, made if there is none: a
 * container that names share, or the place of a value, which none shares.
 * Array elements are named by their index until the tree is complete.
 */
static WebhookNode *
take_step(WebhookNode *parent, const char *step, WebhookNodeKind kind,
		  bool is_value, const char *parameter)
{
	WebhookNode *child = find_member(parent, step);

	if (child == NULL)
	{
		child = make_node(kind, step);
		child->is_value = is_value;
		parent->children = lappend(parent->children, child);
		return child;
	}
	if (is_value && child->is_value)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("parameter \"%s\" is there twice", parameter),
				 child->kind != WEBHOOK_NODE_ATTRIBUTE ? 0 :
				 errdetail("What can't be in a name of XML becomes an underscore, and an element has each attribute once.")));
	if (is_value)
		fail_conflict(parameter, "It is a value here, and has parts elsewhere.");
	if (child->is_value)
		fail_conflict(parameter, "It has parts here, and is a value elsewhere.");
	if (child->kind != kind)
		fail_conflict(parameter,
					  "A whole-number step makes an array, any other an object; there can't be both.");
	return child;
}

static WebhookNodeKind
get_container_kind(const char *step)
{
	return get_index(step) >= 0 ? WEBHOOK_NODE_ARRAY : WEBHOOK_NODE_OBJECT;
}

/* Put a value where its parameter's name says. */
static void
place_value(ParseState *state, WebhookNode *value)
{
	List	   *steps = split_name(state->parameter);
	const char *first = linitial(steps);
	const char *last = llast(steps);
	WebhookNode *node = state->root;
	bool		is_attribute = state->type == WEBHOOK_XML && last[0] == '@';
	WebhookNode *place;
	int			i;

	if (get_index(first) >= 0 && state->type != WEBHOOK_JSONARRAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameter \"%s\" begins with a whole number", state->parameter),
				 errhint("Only content type JSONARRAY has an array at the top.")));
	if (state->type == WEBHOOK_JSONARRAY)
	{
		/* Names without a leading number make one element. */
		WebhookNodeKind kind = get_container_kind(first);

		if (node->children != NIL && node->kind != kind)
			fail_conflict(state->parameter,
						  "Either all names begin with a whole number, or none does.");
		node->kind = kind;
		if (kind == WEBHOOK_NODE_ARRAY && list_length(steps) == 1 &&
			value->kind != WEBHOOK_NODE_OBJECT)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("parameter \"%s\" is not an object", state->parameter),
					 errhint("Elements of a JSONARRAY are objects: 0.name, 1.name.")));
	}

	for (i = 0; i < list_length(steps) - 1; i++)
	{
		const char *next = list_nth(steps, i + 1);
		WebhookNodeKind kind = get_container_kind(next);

		if (is_attribute && i == list_length(steps) - 2)
			kind = WEBHOOK_NODE_OBJECT;
		node = take_step(node, list_nth(steps, i), kind, false, state->parameter);
	}
	if (is_attribute)
	{
		if (last[1] == '\0' || is_container(value->kind))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("parameter \"%s\" can't be an attribute", state->parameter),
					 errhint("An attribute has a name and a plain value.")));
		/* By the name that it will have, which is there once. */
		last = psprintf("@%s", webhook_xml_name(last + 1));
	}
	place = take_step(node, last, value->kind, true, state->parameter);
	place->kind = is_attribute ? WEBHOOK_NODE_ATTRIBUTE : value->kind;
	place->children = value->children;
	place->tmpl = value->tmpl;
	place->constant = value->constant;
}

static int
compare_indexes(const ListCell *a, const ListCell *b)
{
	return get_index(((WebhookNode *) lfirst(a))->name) -
		get_index(((WebhookNode *) lfirst(b))->name);
}

/* Arrays in the order of their indexes, without holes; elements lose names. */
static void
complete_arrays(WebhookNode *node, const char *path)
{
	ListCell   *lc;
	int			i = 0;

	if (node->kind == WEBHOOK_NODE_ARRAY && node->children != NIL &&
		((WebhookNode *) linitial(node->children))->name != NULL)
		list_sort(node->children, compare_indexes);
	foreach(lc, node->children)
	{
		WebhookNode *child = lfirst(lc);
		char	   *child_path = path[0] == '\0' ?
			pstrdup(child->name != NULL ? child->name : "") :
			psprintf("%s.%s", path, child->name != NULL ? child->name : "");

		if (node->kind == WEBHOOK_NODE_ARRAY && child->name != NULL)
		{
			if (get_index(child->name) != i)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("parameter \"%s\" leaves a hole in its array", child_path),
						 errdetail("Element %d is missing.", i)));
			child->name = NULL;
		}
		complete_arrays(child, child_path);
		i++;
	}
}

/* ---------------------------------------------------------------------
 * Parsing
 * ---------------------------------------------------------------------
 */

/* A value is complete: into its parent, or where its name says. */
static void
add_value(ParseState *state, WebhookNode *value, char *field)
{
	if (list_length(state->stack) == 1)
		place_value(state, value);
	else
	{
		WebhookNode *parent = llast(state->stack);

		if (parent->kind == WEBHOOK_NODE_OBJECT)
		{
			if (find_member(parent, field) != NULL)
				ereport(ERROR,
						(errcode(ERRCODE_DUPLICATE_OBJECT),
						 errmsg("parameter \"%s\" has member \"%s\" twice",
								state->parameter, field)));
			value->name = pstrdup(field);
		}
		parent->children = lappend(parent->children, value);
	}
}

static void
open_container(ParseState *state, WebhookNodeKind kind)
{
	WebhookNode *node;

	if (state->stack == NIL)
	{
		if (kind != WEBHOOK_NODE_OBJECT)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("parameters are not a JSON object"),
					 errhint("Write them as {\"name\": \"value\", ...}.")));
		state->stack = list_make1(state->root);
		return;
	}
	if (list_length(state->stack) > MAX_DEPTH)
		fail_depth(state->parameter);
	node = make_node(kind, NULL);
	node->constant = state->field;	/* kept here while it is open */
	state->stack = lappend(state->stack, node);
}

static void
close_container(ParseState *state)
{
	WebhookNode *node = llast(state->stack);
	char	   *field = node->constant;

	state->stack = list_delete_last(state->stack);
	if (state->stack == NIL)
		return;
	node->constant = NULL;
	add_value(state, node, field);
}

static WEBHOOK_JSON_ACTION
on_object_start(void *arg)
{
	open_container(arg, WEBHOOK_NODE_OBJECT);
	WEBHOOK_JSON_OK;
}

static WEBHOOK_JSON_ACTION
on_array_start(void *arg)
{
	open_container(arg, WEBHOOK_NODE_ARRAY);
	WEBHOOK_JSON_OK;
}

static WEBHOOK_JSON_ACTION
on_container_end(void *arg)
{
	close_container(arg);
	WEBHOOK_JSON_OK;
}

static WEBHOOK_JSON_ACTION
on_field(void *arg, char *name, bool isnull)
{
	ParseState *state = arg;

	if (list_length(state->stack) == 1)
		state->parameter = name;
	state->field = name;
	WEBHOOK_JSON_OK;
}

static WEBHOOK_JSON_ACTION
on_scalar(void *arg, char *token, JsonTokenType type)
{
	ParseState *state = arg;
	WebhookNode *node;

	if (state->stack == NIL)
		open_container(state, WEBHOOK_NODE_ARRAY);	/* raises the error */
	if (type == JSON_TOKEN_STRING)
	{
		char	   *what = psprintf("parameter \"%s\"", state->parameter);

		node = make_node(WEBHOOK_NODE_TEMPLATE, NULL);
		node->tmpl = webhook_template_parse(token, what);
	}
	else
	{
		node = make_node(WEBHOOK_NODE_CONSTANT, NULL);
		node->constant = pstrdup(token);
	}
	add_value(state, node, state->field);
	WEBHOOK_JSON_OK;
}

WebhookPayload *
webhook_payload_compile(const char *parameters, WebhookContentType type)
{
	WebhookPayload *payload = palloc0(sizeof(WebhookPayload));
	ParseState	state = {0};
	JsonSemAction actions = {0};

	payload->content_type = type;
	if (parameters == NULL)
		return payload;

	state.type = type;
	state.root = make_node(WEBHOOK_NODE_OBJECT, NULL);
	actions.semstate = &state;
	actions.object_start = on_object_start;
	actions.object_end = on_container_end;
	actions.array_start = on_array_start;
	actions.array_end = on_container_end;
	actions.object_field_start = on_field;
	actions.scalar = on_scalar;
	pg_parse_json_or_ereport(webhook_make_json_lexer(cstring_to_text(parameters), true),
							 &actions);

	complete_arrays(state.root, "");
	payload->root = state.root;
	return payload;
}

static void
visit_node(const WebhookNode *node, const char *path,
		   WebhookTemplateVisitor visit, void *arg)
{
	ListCell   *lc;
	int			i = 0;

	if (node->tmpl != NULL)
		visit(node->tmpl, psprintf("parameter \"%s\"", path), arg);
	foreach(lc, node->children)
	{
		WebhookNode *child = lfirst(lc);
		char	   *step = child->name != NULL ? child->name : psprintf("%d", i);

		visit_node(child, path[0] == '\0' ? step : psprintf("%s.%s", path, step),
				   visit, arg);
		i++;
	}
}

void
webhook_payload_visit(const WebhookPayload *payload,
					  WebhookTemplateVisitor visit, void *arg)
{
	if (payload->root != NULL)
		visit_node(payload->root, "", visit, arg);
}

/* ---------------------------------------------------------------------
 * Rendering
 * ---------------------------------------------------------------------
 */

void
webhook_payload_render(const WebhookPayload *payload, const WebhookEvent *event,
					   const char *root_name, StringInfo body)
{
	switch (payload->content_type)
	{
		case WEBHOOK_JSON:
		case WEBHOOK_JSONARRAY:
			webhook_payload_json(payload, event, body);
			break;
		case WEBHOOK_XML:
			webhook_payload_xml(payload, event, root_name, body);
			break;
		case WEBHOOK_FORM:
			webhook_payload_form(payload, event, body);
			break;
	}
}

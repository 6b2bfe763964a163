/*-------------------------------------------------------------------------
 *
 * wanted.c
 *	  Related and computed values that templates want: their SQL, found and
 *	  checked at configuration.
 *
 * Runs in sessions that configure, or change a schema.  All is looked up, and
 * every privilege checked, with the rights of the workflow's owner, in a
 * security-restricted context; nothing is computed (computed.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "executor/spi.h"
#include "expression.h"
#include "guard.h"
#include "miscadmin.h"
#include "path.h"
#include "wanted.h"

List *
webhook_wanted_collect(List *wanted, const WebhookTemplate *tmpl,
					   const char *what)
{
	ListCell   *lc;

	foreach(lc, webhook_template_placeholders(tmpl))
	{
		WebhookPlaceholder *placeholder = lfirst(lc);
		WebhookWanted *want;

		if (placeholder->kind != WEBHOOK_PLACEHOLDER_PATH &&
			placeholder->kind != WEBHOOK_PLACEHOLDER_EXPRESSION)
			continue;
		want = palloc(sizeof(WebhookWanted));
		want->placeholder = placeholder;
		want->what = pstrdup(what);
		wanted = lappend(wanted, want);
	}
	return wanted;
}

typedef struct CheckArguments
{
	const char *compiled;
	Relation	module;
	Oid			owner;
	bool		with_rights;
} CheckArguments;

/*
 * Prepare it, which looks up every name; to check every privilege also start
 * it, without fetching anything: nothing is computed.
 */
static void
check_compiled(void *arg)
{
	CheckArguments *args = arg;
	Oid			relid = RelationGetRelid(args->module);
	SPIPlanPtr	plan;
	WebhookScope scope;

	webhook_scope_enter(&scope, args->owner);
	SPI_connect();
	plan = webhook_expression_prepare(args->compiled, &relid);
	if (args->with_rights)
	{
		ParamListInfo params;

		params = webhook_expression_params(RelationGetDescr(args->module), NULL, NULL);
		SPI_cursor_close(SPI_cursor_open_with_paramlist(NULL, plan, params, false));
	}
	SPI_finish();
	webhook_scope_leave(&scope);
}

typedef struct CheckContext
{
	const WebhookWanted *want;
	Oid			owner;
} CheckContext;

static void
on_error(void *arg)
{
	const CheckContext *context = arg;
	char	   *owner = GetUserNameFromId(context->owner, true);

	errcontext("%s: \"${%s}\", with the rights of the workflow's owner \"%s\"",
			   context->want->what, context->want->placeholder->text,
			   owner != NULL ? owner : "?");
}

static char *
find_text(Jsonb *object, const char *name)
{
	JsonbValue	value;

	if (object == NULL ||
		getKeyJsonValueFromContainer(&object->root, name, strlen(name), &value) == NULL)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

static char *
compile(const WebhookWanted *want, Relation module, Oid owner)
{
	const WebhookPlaceholder *placeholder = want->placeholder;
	WebhookScope scope;
	char	   *compiled;

	if (placeholder->kind == WEBHOOK_PLACEHOLDER_PATH)
		return webhook_path_compile(placeholder->steps, placeholder->exacts,
									placeholder->is_old, module, want->what);
	webhook_scope_enter_to_parse(&scope, owner);
	compiled = webhook_expression_compile(placeholder->expression, module,
										  want->what);
	webhook_scope_leave(&scope);
	return compiled;
}

void
webhook_wanted_push(JsonbParseState **state, JsonbIteratorToken token, const char *text)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, text);
	value.val.string.len = strlen(text);
	pushJsonbValue(state, token, &value);
}

/* The SQL of one placeholder: as it is known, where that is still right. */
static char *
find_compiled(const WebhookWanted *want, Jsonb *known, Relation module,
			  Oid owner, bool is_new)
{
	CheckArguments args = {find_text(known, want->placeholder->text), module, owner, is_new};
	CheckContext context = {want, owner};
	ErrorContextCallback callback;

	/* A path may lead on, by the same foreign keys, to what was renamed. */
	if (args.compiled != NULL && !is_new &&
		want->placeholder->kind == WEBHOOK_PLACEHOLDER_PATH &&
		webhook_guard_call(check_compiled, &args) != NULL)
		args.compiled = NULL;
	if (args.compiled == NULL)
		args.compiled = compile(want, module, owner);
	callback.callback = on_error;
	callback.arg = &context;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	check_compiled(&args);
	error_context_stack = callback.previous;
	return unconstify(char *, args.compiled);
}

Jsonb *
webhook_wanted_compile(List *wanted, Jsonb *known, Relation module, Oid owner,
					   bool is_new)
{
	JsonbParseState *state = NULL;
	ListCell   *lc;

	if (wanted == NIL)
		return NULL;
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	foreach(lc, wanted)
	{
		WebhookWanted *want = lfirst(lc);

		webhook_wanted_push(&state, WJB_KEY, want->placeholder->text);
		webhook_wanted_push(&state, WJB_VALUE,
					find_compiled(want, known, module, owner, is_new));
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static void
on_role_error(void *arg)
{
	const char *role = arg;

	errcontext("a value that is read with the rights of role \"%s\"", role);
	errhint("Grant the role \"%s\" what it lacks, or drop the workflow first.", role);
}

void
webhook_wanted_check(Jsonb *compiled, Relation module, Oid role)
{
	ErrorContextCallback callback;
	JsonbIterator *it = JsonbIteratorInit(&compiled->root);
	JsonbValue	value;
	JsonbIteratorToken token;

	callback.callback = on_role_error;
	callback.arg = GetUserNameFromId(role, false);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		CheckArguments args = {NULL, module, role, true};

		if (token != WJB_VALUE)
			continue;
		args.compiled = pnstrdup(value.val.string.val, value.val.string.len);
		check_compiled(&args);
	}
	error_context_stack = callback.previous;
}

bool
webhook_wanted_is_same(Jsonb *a, Jsonb *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return compareJsonbContainers(&a->root, &b->root) == 0;
}

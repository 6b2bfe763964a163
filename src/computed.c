/*-------------------------------------------------------------------------
 *
 * computed.c
 *	  Related and computed values, read once for an event.
 *
 * Runs in sessions.  Values are read in the transaction that queues, with the
 * rights of the workflow's owner, in a security-restricted context.  An error
 * in one must not fail the writer: it becomes the delivery's.  What SQL computes
 * them was found when they were configured (wanted.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tupconvert.h"
#include "catalog.h"
#include "computed.h"
#include "executor/spi.h"
#include "expression.h"
#include "guard.h"
#include "lib/ilist.h"
#include "record.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "wanted.h"

/* One distinct value. */
typedef struct ComputedValue
{
	char	   *compiled;
	SPIPlanPtr	plan;			/* NULL: not yet prepared, or no longer right */
} ComputedValue;

struct WebhookComputed
{
	dlist_node	node;
	Oid			module;
	Oid			owner;
	int			n;
	ComputedValue *values;
	int			users;			/* who needs it, evaluations under way included */
	bool		is_running;
	bool		is_stale;		/* the module has changed */
	MemoryContext context;
};

static dlist_head all = DLIST_STATIC_INIT(all);
static bool is_registered = false;

/* ---------------------------------------------------------------------
 * What is kept from event to event
 * ---------------------------------------------------------------------
 */

static void
on_relcache_inval(Datum arg, Oid relid)
{
	dlist_iter	iter;

	dlist_foreach(iter, &all)
	{
		WebhookComputed *computed = dlist_container(WebhookComputed, node, iter.cur);

		if (relid == InvalidOid || relid == computed->module)
			computed->is_stale = true;
	}
}

WebhookComputed *
webhook_computed_create(Oid module, Oid owner)
{
	MemoryContext context = AllocSetContextCreate(CacheMemoryContext,
												  "webhook computed values",
												  ALLOCSET_SMALL_SIZES);
	WebhookComputed *computed = MemoryContextAllocZero(context, sizeof(WebhookComputed));

	if (!is_registered)
	{
		CacheRegisterRelcacheCallback(on_relcache_inval, (Datum) 0);
		is_registered = true;
	}
	computed->context = context;
	computed->module = module;
	computed->owner = owner;
	computed->users = 1;
	dlist_push_tail(&all, &computed->node);
	return computed;
}

static int
add_value(WebhookComputed *computed, const char *compiled)
{
	MemoryContext old;

	for (int i = 0; i < computed->n; i++)
	{
		if (strcmp(computed->values[i].compiled, compiled) == 0)
			return i;
	}
	old = MemoryContextSwitchTo(computed->context);
	computed->values = computed->values == NULL ?
		palloc(sizeof(ComputedValue)) :
		repalloc(computed->values, (computed->n + 1) * sizeof(ComputedValue));
	computed->values[computed->n].compiled = pstrdup(compiled);
	computed->values[computed->n].plan = NULL;
	MemoryContextSwitchTo(old);
	return computed->n++;
}

int
webhook_computed_add(WebhookComputed *computed, Jsonb *compiled,
					 int **positions, char ***names)
{
	JsonbIterator *it;
	JsonbValue	value;
	JsonbIteratorToken token;
	int			n = JB_ROOT_COUNT(compiled);
	int			i = 0;

	*positions = palloc(Max(n, 1) * sizeof(int));
	*names = palloc(Max(n, 1) * sizeof(char *));
	it = JsonbIteratorInit(&compiled->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		char	   *text;

		if (token != WJB_KEY && token != WJB_VALUE)
			continue;
		text = pnstrdup(value.val.string.val, value.val.string.len);
		if (token == WJB_KEY)
			(*names)[i] = text;
		else
			(*positions)[i++] = add_value(computed, text);
	}
	return i;
}

int
webhook_computed_count(const WebhookComputed *computed)
{
	return computed->n;
}

static void
free_plans(WebhookComputed *computed)
{
	for (int i = 0; i < computed->n; i++)
	{
		if (computed->values[i].plan != NULL)
			SPI_freeplan(computed->values[i].plan);
		computed->values[i].plan = NULL;
	}
}

void
webhook_computed_release(WebhookComputed *computed)
{
	if (--computed->users > 0)
		return;
	free_plans(computed);
	dlist_delete(&computed->node);
	MemoryContextDelete(computed->context);
}

/* ---------------------------------------------------------------------
 * Events
 * ---------------------------------------------------------------------
 */

typedef struct Evaluation
{
	WebhookComputed *computed;
	Relation	module;
	Relation	rel;			/* the module, or a partition of it */
	HeapTuple	tuple;			/* of rel */
	HeapTuple	old_tuple;		/* NULL: none */
	ParamListInfo params;		/* NULL: not yet made */
	Jsonb	  **values;
	int			next;			/* being computed */
	MemoryContext context;		/* for the values */
} Evaluation;

static Jsonb *
evaluate_value(Evaluation *evaluation, ComputedValue *value)
{
	Jsonb	   *result = NULL;
	Datum		datum;
	bool		isnull;

	if (value->plan == NULL)
	{
		SPIPlanPtr	plan = webhook_expression_prepare(value->compiled,
													  &evaluation->computed->module);

		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "could not keep a plan");
		value->plan = plan;
	}
	if (SPI_execute_plan_with_paramlist(value->plan, evaluation->params,
										false, 2) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not compute: %s", value->compiled);
	datum = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
	{
		MemoryContext old = MemoryContextSwitchTo(evaluation->context);

		result = DatumGetJsonbPCopy(datum);
		MemoryContextSwitchTo(old);
	}
	SPI_freetuptable(SPI_tuptable);
	return result;
}

/*
 * The row as the module has it: the columns of a partition may be in another
 * order.
 */
static HeapTuple
convert_tuple(HeapTuple tuple, Relation rel, Relation module)
{
	TupleConversionMap *map;

	if (tuple == NULL)
		return NULL;
	tuple = webhook_record_complete(rel, tuple);
	if (rel == module)
		return tuple;
	map = convert_tuples_by_name(RelationGetDescr(rel), RelationGetDescr(module));
	return map == NULL ? tuple : execute_attr_map_tuple(tuple, map);
}

/* They last as long as the values do. */
static void
make_params(Evaluation *evaluation)
{
	Relation	rel = evaluation->rel;
	Relation	module = evaluation->module;
	MemoryContext old = MemoryContextSwitchTo(evaluation->context);

	evaluation->params =
		webhook_expression_params(RelationGetDescr(module),
								  convert_tuple(evaluation->tuple, rel, module),
								  convert_tuple(evaluation->old_tuple, rel, module));
	MemoryContextSwitchTo(old);
}

/* All that are left; an error leaves "next" at the one that raised it. */
static void
evaluate_rest(void *arg)
{
	Evaluation *evaluation = arg;
	WebhookComputed *computed = evaluation->computed;
	WebhookScope scope;

	webhook_scope_enter(&scope, computed->owner);
	if (evaluation->params == NULL)
		make_params(evaluation);
	SPI_connect();
	for (; evaluation->next < computed->n; evaluation->next++)
		evaluation->values[evaluation->next] =
			evaluate_value(evaluation, &computed->values[evaluation->next]);
	SPI_finish();
	webhook_scope_leave(&scope);
}

static void
evaluate_all(Evaluation *evaluation, char **errors)
{
	WebhookComputed *computed = evaluation->computed;

	while (evaluation->next < computed->n)
	{
		char	   *problem = webhook_guard_call(evaluate_rest, evaluation);

		if (problem == NULL)
			break;
		evaluation->values[evaluation->next] = NULL;
		errors[evaluation->next++] = problem;
	}
}

void
webhook_computed_evaluate(WebhookComputed *computed, Relation rel,
						  HeapTuple tuple, HeapTuple old_tuple,
						  Jsonb **values, char **errors)
{
	Evaluation	evaluation = {computed};
	bool		was_running = computed->is_running;
	int			level = webhook_record_enter_output();

	evaluation.module = table_open(computed->module, AccessShareLock);
	evaluation.rel = rel;
	evaluation.tuple = tuple;
	evaluation.old_tuple = old_tuple;
	evaluation.values = values;
	evaluation.context = CurrentMemoryContext;
	memset(errors, 0, computed->n * sizeof(char *));

	/* What it calls may queue events of its own, and reset what is kept. */
	if (computed->is_stale && !was_running)
	{
		free_plans(computed);
		computed->is_stale = false;
	}
	computed->users++;
	computed->is_running = true;
	PG_TRY();
	{
		evaluate_all(&evaluation, errors);
	}
	PG_FINALLY();
	{
		computed->is_running = was_running;
		webhook_computed_release(computed);
	}
	PG_END_TRY();
	webhook_record_leave_output(level);
	table_close(evaluation.module, NoLock);
}

/* SQL NULL is JSON's null. */
static void
push_value(JsonbParseState **state, const char *name, Jsonb *jsonb)
{
	JsonbValue	value;

	webhook_wanted_push(state, WJB_KEY, name);
	if (jsonb == NULL)
		value.type = jbvNull;
	else
		JsonbToJsonbValue(jsonb, &value);
	pushJsonbValue(state, WJB_VALUE, &value);
}

char *
webhook_computed_push(JsonbParseState **state, int n, const int *positions,
					  char **names, Jsonb **values, char **errors)
{
	char	   *problem = NULL;

	for (int i = 0; i < n; i++)
	{
		if (errors[positions[i]] == NULL)
			push_value(state, names[i], values[positions[i]]);
		else if (problem == NULL)
			problem = psprintf("\"${%s}\" could not be computed: %s", names[i],
							   errors[positions[i]]);
	}
	return problem;
}

static Jsonb *
merge(Jsonb *a, Jsonb *b)
{
	if (a == NULL)
		return b;
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(a),
											  JsonbPGetDatum(b)));
}

Jsonb *
webhook_computed_subtract(Jsonb *compiled, Jsonb *known)
{
	Datum		rest = JsonbPGetDatum(compiled);
	JsonbIterator *it;
	JsonbValue	value;
	JsonbIteratorToken token;

	if (compiled == NULL || known == NULL)
		return compiled;
	it = JsonbIteratorInit(&known->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			rest = DirectFunctionCall2(jsonb_delete, rest,
									   PointerGetDatum(cstring_to_text_with_len(value.val.string.val,
																				value.val.string.len)));
	}
	return JB_ROOT_COUNT(DatumGetJsonbP(rest)) == 0 ? NULL : DatumGetJsonbP(rest);
}

Jsonb *
webhook_computed_once(Jsonb *compiled, Jsonb *known, Oid owner, Relation rel,
					  HeapTuple tuple, HeapTuple old_tuple)
{
	WebhookComputed *computed;
	int		   *positions;
	char	  **names;
	Jsonb	  **values;
	char	  **errors;
	JsonbParseState *state = NULL;
	char	   *problem;
	int			n;

	compiled = webhook_computed_subtract(compiled, known);
	if (compiled == NULL)
		return known;

	computed = webhook_computed_create(RelationGetRelid(rel), owner);
	n = webhook_computed_add(computed, compiled, &positions, &names);
	values = palloc0(n * sizeof(Jsonb *));
	errors = palloc0(n * sizeof(char *));
	PG_TRY();
	{
		webhook_computed_evaluate(computed, rel, tuple, old_tuple, values, errors);
	}
	PG_FINALLY();
	{
		webhook_computed_release(computed);
	}
	PG_END_TRY();
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	problem = webhook_computed_push(&state, n, positions, names, values, errors);
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("%s", problem)));
	return merge(known, JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

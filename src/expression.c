/*-------------------------------------------------------------------------
 *
 * expression.c
 *	  SQL expressions over the rows of an event.
 *
 * Runs in sessions.  An expression is read once, when it is configured, with
 * the search path of whoever configures it; what is kept is its text with all
 * names qualified, as a view's definition is dumped.  So it means the same
 * whoever's event computes it, and still does after a dump and restore.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "expression.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "record.h"
#include "rewrite/prs2lock.h"
#include "storage/lockdefs.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

/* ---------------------------------------------------------------------
 * Parsing
 * ---------------------------------------------------------------------
 */

Node *
webhook_expression_parse(const char *text)
{
	List	   *statements = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = NULL;
	ResTarget  *target;

	if (list_length(statements) == 1)
		select = (SelectStmt *) linitial_node(RawStmt, statements)->stmt;
	if (select == NULL || !IsA(select, SelectStmt) ||
		list_length(select->targetList) != 1 ||
		select->distinctClause != NIL || select->intoClause != NULL ||
		select->fromClause != NIL || select->whereClause != NULL ||
		select->groupClause != NIL || select->havingClause != NULL ||
		select->windowClause != NIL || select->valuesLists != NIL ||
		select->sortClause != NIL || select->limitOffset != NULL ||
		select->limitCount != NULL || select->lockingClause != NIL ||
		select->withClause != NULL || select->op != SETOP_NONE)
		return NULL;
	target = linitial_node(ResTarget, select->targetList);
	if (target->name != NULL || target->indirection != NIL ||
		(IsA(target->val, ColumnRef) &&
		 IsA(llast(((ColumnRef *) target->val)->fields), A_Star)))
		return NULL;
	return target->val;
}

/* p_post_columnref_hook: what nothing in the parser could make sense of. */
static Node *
on_column_reference(ParseState *pstate, ColumnRef *reference, Node *found)
{
	const WebhookExpressionSource *source = pstate->p_ref_hook_state;

	if (found == NULL && pstate->parentParseState == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" does not exist",
						NameListToString(reference->fields)),
				 errhint("%s columns of table \"%s\", bare or as new.column or old.column.",
						 source->subject, source->module),
				 parser_errposition(pstate, reference->location)));
	return NULL;
}

ParseState *
webhook_expression_parser(WebhookExpressionSource *source, Relation module,
						  bool bare_is_old)
{
	ParseState *pstate = make_parsestate(NULL);
	ParseNamespaceItem *item;

	pstate->p_sourcetext = source->text;
	pstate->p_post_columnref_hook = on_column_reference;
	pstate->p_ref_hook_state = source;
	item = addRangeTableEntryForRelation(pstate, module, AccessShareLock,
										 makeAlias("old", NIL), false, false);
	addNSItemToQuery(pstate, item, false, true, bare_is_old);
	item = addRangeTableEntryForRelation(pstate, module, AccessShareLock,
										 makeAlias("new", NIL), false, false);
	addNSItemToQuery(pstate, item, false, true, !bare_is_old);
	return pstate;
}

/*
 * The parser's positions are those in the expression, not in the statement that
 * the client sent: show them with it.
 */
static void
on_error(void *arg)
{
	const WebhookExpressionSource *source = arg;
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(source->text);
	}
	errcontext("%s", source->what);
}

void
webhook_expression_push_context(ErrorContextCallback *callback,
								WebhookExpressionSource *source)
{
	callback->callback = on_error;
	callback->arg = source;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

/* ---------------------------------------------------------------------
 * Checking and writing down
 * ---------------------------------------------------------------------
 */

/* What a value for each event can't be. */
static void
check_kind(ParseState *pstate, Node *expression, const WebhookExpressionSource *source)
{
	if (pstate->p_hasAggs || pstate->p_hasWindowFuncs)
		ereport(ERROR,
				(errcode(ERRCODE_GROUPING_ERROR),
				 errmsg("%s: an expression must not aggregate", source->what),
				 errhint("Put the aggregate into a subquery: ${= (SELECT sum(...) FROM ...)}.")));
	if (expression_returns_set(expression))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s: an expression must not return a set", source->what),
				 errhint("Make an array of it: ${= ARRAY(SELECT ...)}.")));
}

/*
 * Rows for the deparser, which knows one relation a level: "new" on the
 * expression's own level, "old" on the one around it.
 */
static Node *
place_rows(Node *node, void *context)
{
	int		   *depth = context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) copyObject(node);

		if (var->varlevelsup == *depth)
		{
			if (var->varno == PRS2_OLD_VARNO)
				var->varlevelsup++;
			var->varno = 1;
			var->varnosyn = 0;
			var->varattnosyn = 0;
		}
		return (Node *) var;
	}
	if (IsA(node, Query))
	{
		Query	   *result;

		++*depth;
		result = query_tree_mutator((Query *) node, place_rows, context, 0);
		--*depth;
		return (Node *) result;
	}
	return expression_tree_mutator(node, place_rows, context);
}

/* What other sessions don't have. */
static bool
refuse_temporary(Node *node, void *context)
{
	const WebhookExpressionSource *source = context;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, refuse_temporary, context,
								 QTW_EXAMINE_RTES_BEFORE);
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION &&
			get_rel_persistence(rte->relid) == RELPERSISTENCE_TEMP)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					 errmsg("%s: \"%s\" is a temporary table", source->what,
							get_rel_name(rte->relid)),
					 errhint("Other sessions' events must be able to read it.")));
		return false;
	}
	return expression_tree_walker(node, refuse_temporary, context);
}

/* A backslash in a string is one, whatever the session makes of it. */
static int
enter_standard_strings(void)
{
	int			level = NewGUCNestLevel();

	if (!standard_conforming_strings)
		webhook_scope_set("standard_conforming_strings", "on");
	return level;
}

/*
 * Constants are written in forms that every session reads alike, not in those of
 * whoever configures: 03/02/2026 is a day of March to one, of February to another.
 */
char *
webhook_expression_write(Node *expression, Relation module)
{
	List	   *context;
	int			depth = 0;
	char	   *result;
	int			level;
	WebhookScope scope;

	context = list_concat(deparse_context_for("new", RelationGetRelid(module)),
						  deparse_context_for("old", RelationGetRelid(module)));
	webhook_scope_enter(&scope, GetUserId());
	level = enter_standard_strings();
	(void) webhook_record_enter_output();
	result = deparse_expression(place_rows(expression, &depth), context,
								true, false);
	AtEOXact_GUC(false, level);
	webhook_scope_leave(&scope);
	return result;
}

char *
webhook_expression_compile(const char *text, Relation module, const char *what)
{
	WebhookExpressionSource source = {text, what, "An expression names",
	RelationGetRelationName(module)};
	ErrorContextCallback callback;
	ParseState *pstate;
	Node	   *expression;
	char	   *result;

	webhook_expression_push_context(&callback, &source);
	expression = webhook_expression_parse(text);
	if (expression == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("%s: \"%s\" is not a single expression", what, text),
				 errhint("Put a query into parentheses: ${= (SELECT ...)}.")));
	pstate = webhook_expression_parser(&source, module, false);
	expression = transformExpr(pstate, expression, EXPR_KIND_OTHER);
	check_kind(pstate, expression, &source);
	if (exprType(expression) == UNKNOWNOID)
		expression = coerce_type(pstate, expression, UNKNOWNOID, TEXTOID, -1,
								 COERCION_IMPLICIT, COERCE_IMPLICIT_CAST, -1);
	if (get_typtype(exprType(expression)) == TYPTYPE_PSEUDO &&
		exprType(expression) != RECORDOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("%s: an expression must not be of type %s", what,
						format_type_be(exprType(expression)))));
	assign_expr_collations(pstate, expression);
	(void) refuse_temporary(expression, &source);
	result = webhook_expression_write(expression, module);
	error_context_stack = callback.previous;
	return result;
}

/* ---------------------------------------------------------------------
 * Planning
 * ---------------------------------------------------------------------
 */

/* A row's column, or (attnum 0) the whole row. */
static Node *
make_param(Relation module, bool is_old, AttrNumber attnum, int location)
{
	int			natts = RelationGetDescr(module)->natts;
	Param	   *param = makeNode(Param);

	param->paramkind = PARAM_EXTERN;
	param->paramid = (is_old ? natts + 1 : 0) + attnum + 1;
	if (attnum == 0)
	{
		param->paramtype = module->rd_rel->reltype;
		param->paramtypmod = -1;
		param->paramcollid = InvalidOid;
	}
	else
	{
		Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(module), attnum - 1);

		param->paramtype = attr->atttypid;
		param->paramtypmod = attr->atttypmod;
		param->paramcollid = attr->attcollation;
	}
	param->location = location;
	return (Node *) param;
}

/* p_post_columnref_hook: new.column, old.column, new.* and old.* */
static Node *
on_row_reference(ParseState *pstate, ColumnRef *reference, Node *found)
{
	Oid			relid = *(Oid *) pstate->p_ref_hook_state;
	Node	   *first = linitial(reference->fields);
	Node	   *second;
	Relation	module;
	AttrNumber	attnum = InvalidAttrNumber;
	bool		is_old;
	Node	   *param = NULL;

	if (found != NULL || list_length(reference->fields) != 2 ||
		!IsA(first, String))
		return NULL;
	is_old = strcmp(strVal(first), "old") == 0;
	if (!is_old && strcmp(strVal(first), "new") != 0)
		return NULL;

	second = lsecond(reference->fields);
	if (IsA(second, String))
	{
		attnum = get_attnum(relid, strVal(second));
		if (attnum <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table \"%s\" does not exist",
							strVal(second), get_rel_name(relid))));
	}
	module = table_open(relid, AccessShareLock);
	param = make_param(module, is_old, attnum, reference->location);
	table_close(module, NoLock);
	return param;
}

static void
set_up_parser(ParseState *pstate, void *arg)
{
	pstate->p_post_columnref_hook = on_row_reference;
	pstate->p_ref_hook_state = arg;
}

SPIPlanPtr
webhook_expression_prepare_query(const char *sql, const SPIPrepareOptions *options)
{
	int			level = enter_standard_strings();
	SPIPlanPtr	plan = SPI_prepare_extended(sql, options);

	AtEOXact_GUC(false, level);
	return plan;
}

SPIPlanPtr
webhook_expression_prepare(const char *compiled, const Oid *module)
{
	SPIPrepareOptions options = {0};
	SPIPlanPtr	plan;

	options.parserSetup = set_up_parser;
	options.parserSetupArg = unconstify(Oid *, module);
	options.parseMode = RAW_PARSE_DEFAULT;
	/* An event is like another: no planning for the values of each. */
	options.cursorOptions = CURSOR_OPT_GENERIC_PLAN;
	plan = webhook_expression_prepare_query(psprintf("SELECT pg_catalog.to_jsonb(%s)", compiled),
											&options);
	if (plan == NULL)
		elog(ERROR, "could not prepare a computed value: %s",
			 SPI_result_code_string(SPI_result));
	return plan;
}

static void
fill_params(ParamListInfo params, int first, TupleDesc desc, HeapTuple tuple)
{
	for (int i = 0; i <= desc->natts; i++)
	{
		ParamExternData *param = &params->params[first + i];

		param->isnull = true;
		param->value = (Datum) 0;
		param->pflags = 0;
		if (i == 0)
		{
			param->ptype = desc->tdtypeid;
			if (tuple != NULL)
			{
				param->value = heap_copy_tuple_as_datum(tuple, desc);
				param->isnull = false;
			}
			continue;
		}
		param->ptype = TupleDescAttr(desc, i - 1)->atttypid;
		if (tuple != NULL && !TupleDescAttr(desc, i - 1)->attisdropped)
			param->value = heap_getattr(tuple, i, desc, &param->isnull);
	}
}

ParamListInfo
webhook_expression_params(TupleDesc desc, HeapTuple tuple, HeapTuple old_tuple)
{
	ParamListInfo params = makeParamList(2 * (desc->natts + 1));

	fill_params(params, 0, desc, tuple);
	fill_params(params, desc->natts + 1, desc, old_tuple);
	return params;
}

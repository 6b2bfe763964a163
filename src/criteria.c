/*-------------------------------------------------------------------------
 *
 * criteria.c
 *	  A workflow's entry criteria, made into WHEN clauses of triggers.
 *
 * Runs in sessions.  The condition is read by PostgreSQL's parser and
 * analyzed as CREATE TRIGGER does it, with the caller's rights and search
 * path.  What the triggers for insert, update and delete need is then made
 * from the analyzed expression: to ask for the old row instead of the new one
 * means to change a number in a column reference.  No SQL text is put
 * together, so no text of a user's can be anything but an expression, and a
 * name means the same in every trigger.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "criteria.h"
#include "expression.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_node.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/rel.h"

static WebhookExpressionSource
make_source(const char *workflow, const char *condition, Relation module)
{
	return (WebhookExpressionSource) {
		condition, psprintf("criteria of workflow \"%s\"", workflow),
		"Criteria name", module == NULL ? NULL : RelationGetRelationName(module)
	};
}

/* One expression and nothing else, unanalyzed. */
static Node *
parse_condition(const WebhookExpressionSource *source)
{
	Node	   *expression = webhook_expression_parse(source->text);

	if (expression == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("%s are not a single expression", source->what),
				 errhint("Write what could stand in the WHEN clause of a trigger, such as: stage = 'Closed Won' AND amount > 1000")));
	return expression;
}

static bool
refuse_subquery(Node *node, void *context)
{
	const ParseState *pstate = context;

	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s contain a subquery",
						((WebhookExpressionSource *) pstate->p_ref_hook_state)->what),
				 errhint("Keep what the criteria need in a column, or put the query into a function and call that."),
				 parser_errposition((ParseState *) pstate,
									((SubLink *) node)->location)));
	return raw_expression_tree_walker(node, refuse_subquery, context);
}

static Node *
coerce_condition(ParseState *pstate, Node *expression)
{
	const WebhookExpressionSource *source = pstate->p_ref_hook_state;
	Oid			type = exprType(expression);
	Oid			boolean = BOOLOID;

	if (!can_coerce_type(1, &type, &boolean, COERCION_ASSIGNMENT))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("%s must be type boolean, not type %s",
						source->what, format_type_be(type)),
				 errhint("Compare the value with another, such as: amount > 1000"),
				 parser_errposition(pstate, exprLocation(expression))));
	return coerce_to_boolean(pstate, expression, "WHEN");
}

/* Note where the rows are asked for. */
static bool
find_rows(Node *node, void *context)
{
	WebhookCriteria *criteria = context;

	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varno == PRS2_OLD_VARNO)
			criteria->old_location = Max(var->location, 0);
		else
			criteria->new_location = Max(var->location, 0);
		return false;
	}
	return expression_tree_walker(node, find_rows, context);
}

WebhookCriteria *
webhook_criteria_compile(const char *workflow, const char *condition,
						 Relation module, bool is_delete)
{
	WebhookExpressionSource source = make_source(workflow, condition, module);
	ErrorContextCallback callback;
	WebhookCriteria *criteria = palloc0(sizeof(WebhookCriteria));
	ParseState *pstate;
	Node	   *expression;

	webhook_expression_push_context(&callback, &source);
	pstate = webhook_expression_parser(&source, module, is_delete);
	expression = parse_condition(&source);
	(void) refuse_subquery(expression, pstate);
	expression = transformExpr(pstate, expression, EXPR_KIND_TRIGGER_WHEN);
	expression = coerce_condition(pstate, expression);
	assign_expr_collations(pstate, expression);
	error_context_stack = callback.previous;

	criteria->expression = expression;
	criteria->range_table = pstate->p_rtable;
	criteria->old_location = criteria->new_location = -1;
	(void) find_rows(expression, criteria);
	return criteria;
}

static void
refuse_row(WebhookExpressionSource *source, const char *message,
		   const char *hint, int location)
{
	ErrorContextCallback callback;

	webhook_expression_push_context(&callback, source);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg(message, source->what),
			 errhint("%s", hint),
			 errposition(pg_mbstrlen_with_len(source->text, location) + 1)));
}

void
webhook_criteria_check_rows(const WebhookCriteria *criteria,
							const char *workflow, const char *condition,
							const char *trigger, bool is_change)
{
	WebhookExpressionSource source = make_source(workflow, condition, NULL);

	if (strcmp(trigger, "delete") == 0)
	{
		if (criteria->new_location >= 0)
			refuse_row(&source,
					   "%s ask for the new row, and a delete has none",
					   "On a delete a bare name is the old row's column.",
					   criteria->new_location);
	}
	else if (criteria->old_location < 0)
		return;
	else if (strcmp(trigger, "schedule") == 0)
		refuse_row(&source,
				   "%s ask for the old row, and a schedule has none",
				   "Leave out \"old\".",
				   criteria->old_location);
	else if (is_change)
		refuse_row(&source,
				   "%s ask for the old row, and its recurrence is \"change\"",
				   "Recurrence \"change\" checks the criteria on both rows by itself: leave out \"old\", or use recurrence \"every\".",
				   criteria->old_location);
}

/* An insert has no old row: every column of it is NULL. */
static Node *
replace_old_row(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == PRS2_OLD_VARNO)
	{
		Var		   *var = (Var *) node;

		return (Node *) makeNullConst(var->vartype, var->vartypmod,
									  var->varcollid);
	}
	return expression_tree_mutator(node, replace_old_row, context);
}

Node *
webhook_criteria_when(const WebhookCriteria *criteria, WebhookRowEvent event,
					  bool is_change)
{
	Node	   *expression = copyObject(criteria->expression);
	BooleanTest *before;

	if (event == WEBHOOK_ROW_INSERT)
		return replace_old_row(expression, NULL);
	if (event == WEBHOOK_ROW_DELETE || !is_change)
		return expression;

	before = makeNode(BooleanTest);
	before->arg = copyObject((Expr *) expression);
	ChangeVarNodes((Node *) before->arg, PRS2_NEW_VARNO, PRS2_OLD_VARNO, 0);
	before->booltesttype = IS_NOT_TRUE;
	before->location = -1;
	return (Node *) makeBoolExpr(AND_EXPR, list_make2(expression, before), -1);
}

Node *
webhook_criteria_row(const WebhookCriteria *criteria, bool is_delete)
{
	Node	   *expression = copyObject(criteria->expression);

	/* On a delete the row that goes is the old one. */
	if (is_delete)
	{
		ChangeVarNodes(expression, PRS2_OLD_VARNO, PRS2_NEW_VARNO, 0);
		return expression;
	}
	return replace_old_row(expression, NULL);
}

static bool
check_column(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, ColumnRef))
	{
		(void) transformExpr(context, node, EXPR_KIND_TRIGGER_WHEN);
		return false;
	}
	return raw_expression_tree_walker(node, check_column, context);
}

/*
 * Only the columns: functions and operators were found under the search path
 * of whoever configured the workflow, which needn't be the present one.
 */
void
webhook_criteria_check_columns(const char *workflow, const char *condition,
							   Relation module, bool is_delete)
{
	WebhookExpressionSource source = make_source(workflow, condition, module);
	ErrorContextCallback callback;

	webhook_expression_push_context(&callback, &source);
	(void) check_column(parse_condition(&source),
						webhook_expression_parser(&source, module, is_delete));
	error_context_stack = callback.previous;
}

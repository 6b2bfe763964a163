/*-------------------------------------------------------------------------
 *
 * criteria.h
 *	  A workflow's entry criteria, made into WHEN clauses of triggers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_CRITERIA_H
#define WEBHOOK_CRITERIA_H

#include "nodes/parsenodes.h"
#include "utils/relcache.h"

/* What can happen to a row. */
typedef enum WebhookRowEvent
{
	WEBHOOK_ROW_INSERT,
	WEBHOOK_ROW_UPDATE,
	WEBHOOK_ROW_DELETE
} WebhookRowEvent;

typedef struct WebhookCriteria
{
	Node	   *expression;		/* over PRS2_OLD_VARNO and PRS2_NEW_VARNO */
	List	   *range_table;	/* what these stand for */
	int			old_location;	/* of a reference to the old row; -1: none */
	int			new_location;	/* of a written reference to the new row, on
								 * a delete; -1: none */
} WebhookCriteria;

/*
 * Analyze a condition as the WHEN clause of a trigger on the module, under
 * the caller's search path.  A bare name is the new row's column, or the old
 * row's where is_delete.  Raises, naming the workflow: ERRCODE_SYNTAX_ERROR,
 * ERRCODE_UNDEFINED_COLUMN, ERRCODE_DATATYPE_MISMATCH,
 * ERRCODE_FEATURE_NOT_SUPPORTED (a subquery), and whatever PostgreSQL's
 * parser does.  Allocates in the current memory context.
 */
extern WebhookCriteria *webhook_criteria_compile(const char *workflow,
												 const char *condition,
												 Relation module,
												 bool is_delete);

/*
 * Raise ERRCODE_INVALID_PARAMETER_VALUE where the trigger and recurrence of
 * the workflow don't go with the row that the condition asks for.
 */
extern void webhook_criteria_check_rows(const WebhookCriteria *criteria,
										const char *workflow,
										const char *condition,
										const char *trigger, bool is_change);

/*
 * The WHEN clause for an event; is_change: the criteria must have become
 * true.
 */
extern Node *webhook_criteria_when(const WebhookCriteria *criteria,
								   WebhookRowEvent event, bool is_change);

/*
 * The criteria of a row that is there, over PRS2_NEW_VARNO: on a delete those of
 * the row that would go, else those of a row without an old one.
 */
extern Node *webhook_criteria_row(const WebhookCriteria *criteria, bool is_delete);

/* Raise ERRCODE_UNDEFINED_COLUMN if the condition names a column that isn't. */
extern void webhook_criteria_check_columns(const char *workflow,
										   const char *condition,
										   Relation module, bool is_delete);

#endif							/* WEBHOOK_CRITERIA_H */

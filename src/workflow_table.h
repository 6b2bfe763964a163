/*-------------------------------------------------------------------------
 *
 * workflow_table.h
 *	  The rows of the table webhook.workflow.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_WORKFLOW_TABLE_H
#define WEBHOOK_WORKFLOW_TABLE_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

typedef struct WebhookWorkflow
{
	int32		workflow_id;
	char	   *name;
	Oid			module;
	char	   *trigger;
	char	   *condition;		/* NULL: always */
	char	   *condition_sql;	/* the same over the row "new" of a query, all
								 * names qualified */
	char	   *recurrence;
	char	   *schedule;		/* NULL: none */
	TimestampTz next_run_at;	/* 0: none */
	TimestampTz counts_from;	/* 0: not known; see schedule.h */
	char	   *owner_email;	/* NULL: none */
	Oid			owner;
	bool		enabled;
	char	   *description;	/* NULL: none */
	Jsonb	   *computed;		/* what owner_email wants; see wanted.h */
} WebhookWorkflow;

/*
 * Find a workflow that the current user may change, and lock its row.
 * Raises ERRCODE_UNDEFINED_OBJECT where there is none, and in the same words
 * where it is somebody else's.
 */
extern WebhookWorkflow *webhook_workflow_table_lock(const char *name);

/* A scheduled workflow, locked, if it is still planned for that moment. */
extern WebhookWorkflow *webhook_workflow_table_lock_due(int32 workflow_id,
														TimestampTz planned_at);

/*
 * Plan its next run: next_run_at, counts_from.  It does not write enabled, which
 * would have every session read the configuration anew.
 */
extern void webhook_workflow_table_set_next(const WebhookWorkflow *workflow);

/* All workflows (WebhookWorkflow *) on any of these relations (OIDs). */
extern List *webhook_workflow_table_find(List *modules);

/* All that belong to a role. */
extern List *webhook_workflow_table_find_owned(Oid role);

/* All that have related or computed values, a condition or a schedule. */
extern List *webhook_workflow_table_find_computing(void);

/* Returns workflow_id; 0 where the name is taken. */
extern int32 webhook_workflow_table_insert(const WebhookWorkflow *workflow);

/* Everything but owner and enabled, of a row that has been locked. */
extern void webhook_workflow_table_update(const WebhookWorkflow *workflow);

/* What was compiled anew; whatever else others are changing stays. */
extern void webhook_workflow_table_set_compiled(const WebhookWorkflow *workflow);

/* The same, and whether it is enabled. */
extern void webhook_workflow_table_set_enabled(const WebhookWorkflow *workflow);

/* Forget which records a workflow of recurrence "first" has met. */
extern void webhook_workflow_table_clear_seen(int32 workflow_id);

/*
 * Give up all that is left to do for a workflow: as long as it takes, it wants no
 * lock on the module.  The worker gives up what comes after.  What the workflow has
 * met stays: a writer who meets it waits for whoever deletes it.
 */
extern void webhook_workflow_table_give_up(int32 workflow_id);

/* Then delete it, with its actions and what it has met.  Its triggers are not touched. */
extern void webhook_workflow_table_delete(int32 workflow_id);

#endif							/* WEBHOOK_WORKFLOW_TABLE_H */

/*-------------------------------------------------------------------------
 *
 * workflow.h
 *	  Workflows as they are configured.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_WORKFLOW_H
#define WEBHOOK_WORKFLOW_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"

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
extern WebhookWorkflow *webhook_workflow_lock(const char *name);

/* A scheduled workflow, locked, if it is still planned for that moment. */
extern WebhookWorkflow *webhook_workflow_lock_due(int32 workflow_id,
												  TimestampTz planned_at);

/* Plan its next run. */
extern void webhook_workflow_set_next(int32 workflow_id, TimestampTz next_run_at);

/* webhook_workflow_lock, for its workflow_id; module and owner may be NULL. */
extern int32 webhook_workflow_lookup(const char *name, Oid *module, Oid *owner);

/* All workflows (WebhookWorkflow *) on any of these relations (OIDs). */
extern List *webhook_workflow_find(List *modules);

/* All that belong to a role. */
extern List *webhook_workflow_find_owned(Oid role);

/* All that have related or computed values, a condition or a schedule. */
extern List *webhook_workflow_find_computing(void);

/* Returns workflow_id; 0 where the name is taken. */
extern int32 webhook_workflow_insert(const WebhookWorkflow *workflow);

/* Everything but owner and enabled. */
extern void webhook_workflow_update(const WebhookWorkflow *workflow);
extern void webhook_workflow_set_enabled(int32 workflow_id, bool enabled,
										 TimestampTz next_run_at);

/* Forget which records a workflow of recurrence "first" has met. */
extern void webhook_workflow_clear_seen(int32 workflow_id);

/*
 * Raise ERRCODE_UNDEFINED_COLUMN if the criteria or owner_email name a column
 * that the module doesn't have.  What has to be found anew is stored.
 */
extern void webhook_workflow_fit_columns(WebhookWorkflow *workflow,
										   Relation module);

/* Raise an error, naming the action, if one doesn't fit the module. */
extern void webhook_workflow_fit_actions(int32 workflow_id, Oid module);

/*
 * Delete a workflow with its actions and all that is left to do for it.  Its
 * triggers are not touched.
 */
extern void webhook_workflow_delete(int32 workflow_id);

#endif							/* WEBHOOK_WORKFLOW_H */

/*-------------------------------------------------------------------------
 *
 * event.h
 *	  An event becomes rows of the log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_EVENT_H
#define WEBHOOK_EVENT_H

#include "access/htup.h"
#include "computed.h"
#include "utils/rel.h"

/* Related and computed values: which of the workflow's, and what they are for. */
typedef struct WebhookEventComputed
{
	int			n;
	int		   *positions;
	char	  **names;			/* placeholders */
} WebhookEventComputed;

typedef struct WebhookEventAction
{
	int32		action_id;
	bool		ordered;
	WebhookEventComputed computed[2];	/* the action's, owner_email's */
} WebhookEventAction;

/* A workflow as it is needed to queue: kept from event to event. */
typedef struct WebhookEventWorkflow
{
	int32		workflow_id;	/* hash key */
	bool		is_valid;
	bool		enabled;
	bool		first;
	Oid			module;
	Oid			owner;
	int			n_actions;		/* enabled ones */
	WebhookEventAction *actions;
	WebhookComputed *computed;	/* NULL: none */
	MemoryContext context;
} WebhookEventWorkflow;

/*
 * Find a workflow, as committed or changed by this transaction; one that does
 * not exist is not enabled.  Allocated in the current memory context.
 */
extern WebhookEventWorkflow *webhook_event_workflow(int32 workflow_id);

/*
 * Queue a delivery for each enabled action of a workflow.  old_tuple may be
 * NULL.  False: a workflow of recurrence "first" has met the record before.
 */
extern bool webhook_event_queue(const WebhookEventWorkflow *workflow,
								const char *operation, Relation rel,
								HeapTuple tuple, HeapTuple old_tuple);

#endif							/* WEBHOOK_EVENT_H */

/*-------------------------------------------------------------------------
 *
 * run.h
 *	  One run of a workflow: every record that meets its condition now.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RUN_H
#define WEBHOOK_RUN_H

#include "postmaster/bgworker.h"
#include "workflow_table.h"

/*
 * Raise what PostgreSQL's parser does if something that a workflow's run needs
 * isn't there any more.
 */
extern void webhook_run_check(const WebhookWorkflow *workflow);

/* What a run's process is told in bgw_extra. */
typedef struct WebhookRunOrder
{
	int32		workflow_id;
	TimestampTz planned_at;		/* its next_run_at */
} WebhookRunOrder;

/* Main function of a run's process; its slot is the argument. */
extern PGDLLEXPORT void webhook_run_main(Datum arg);

#endif							/* WEBHOOK_RUN_H */

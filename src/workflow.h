/*-------------------------------------------------------------------------
 *
 * workflow.h
 *	  Workflows as they are configured.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_WORKFLOW_H
#define WEBHOOK_WORKFLOW_H

#include "utils/relcache.h"
#include "workflow_table.h"

/*
 * Raise ERRCODE_UNDEFINED_COLUMN if the criteria or owner_email name a column
 * that the module doesn't have.  What has to be found anew is stored.
 */
extern void webhook_workflow_fit_columns(WebhookWorkflow *workflow,
										 Relation module,
										 bool with_owner_email);

/*
 * Raise an error, naming the action, if one doesn't fit the module;
 * only_computing: looks at those with related or computed values.
 */
extern void webhook_workflow_fit_actions(int32 workflow_id, Oid module,
										 bool only_computing);

#endif							/* WEBHOOK_WORKFLOW_H */

/*-------------------------------------------------------------------------
 *
 * config.h
 *	  What a workflow and its actions are, as far as it takes to queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_CONFIG_H
#define WEBHOOK_CONFIG_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

typedef struct WebhookConfigAction
{
	int32		action_id;
	bool		ordered;
	Jsonb	   *computed;		/* what it wants; NULL: nothing */
} WebhookConfigAction;

typedef struct WebhookConfig
{
	Oid			module;
	Oid			owner;
	bool		enabled;
	bool		first;
	Jsonb	   *computed;		/* what owner_email wants; NULL: nothing */
	List	   *actions;		/* of WebhookConfigAction *: enabled ones, by
								 * action_id */
} WebhookConfig;

/*
 * Read a workflow as it is now, even if the transaction's snapshot is older, in
 * the current memory context.  False: there is none.
 */
extern bool webhook_config_read(int32 workflow_id, WebhookConfig *config);

#endif							/* WEBHOOK_CONFIG_H */

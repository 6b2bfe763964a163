/*-------------------------------------------------------------------------
 *
 * action_table.h
 *	  The rows of webhook.action and webhook.action_secret.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_ACTION_TABLE_H
#define WEBHOOK_ACTION_TABLE_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/jsonb.h"

/* An action as it is stored; NULL and 0: not given. */
typedef struct WebhookActionRow
{
	int32		action_id;
	int32		workflow_id;
	Oid			module;			/* the workflow's ... */
	Oid			owner;			/* ... and its owner */
	char	   *title;
	char	   *description;
	char	   *url;
	char	   *method;
	char	   *content_type;
	char	   *parameters;
	char	   *username;
	char	   *headers;
	char	   *client_certificate;
	Interval   *timeout;
	ArrayType  *retry_schedule;
	bool		ordered;
	int32		max_in_flight;
	int32		rate_limit;
	bool		enabled;
	Jsonb	   *computed;		/* see wanted.h */
	char	   *password;
	char	   *signing_secret;
	List	   *old_secrets;	/* of WebhookOldSecret *, the last one first */
} WebhookActionRow;

/*
 * All of them work with the rights of the extension's owner, and leave the
 * caller's rights to the caller.  SPI must not be connected.
 */

/* NULL: there is none.  In the current memory context. */
extern WebhookActionRow *webhook_action_table_read(int32 action_id,
												   bool for_update);

/* How many a workflow has, as of now whatever the transaction's snapshot. */
extern int	webhook_action_table_count(int32 workflow_id);

/*
 * The action_ids of a workflow, in their order (integers); only_computing: of
 * those with related or computed values.
 */
extern List *webhook_action_table_list(int32 workflow_id, bool only_computing);

/* Returns action_id. */
extern int32 webhook_action_table_insert(const WebhookActionRow *row);

/* The row has been read to be updated. */
extern void webhook_action_table_update(const WebhookActionRow *row);

/* What was compiled anew; whatever else others are changing stays. */
extern void webhook_action_table_set_computed(int32 action_id, Jsonb *computed);

/* What is still to be sent fails. */
extern void webhook_action_table_delete(int32 action_id);

#endif							/* WEBHOOK_ACTION_TABLE_H */

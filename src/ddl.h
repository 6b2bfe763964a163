/*-------------------------------------------------------------------------
 *
 * ddl.h
 *	  What the event triggers on other people's DDL have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_DDL_H
#define WEBHOOK_DDL_H

#include "commands/event_trigger.h"
#include "fmgr.h"
#include "nodes/pg_list.h"

#define WEBHOOK_CHANGE_HINT \
	"In one transaction, change the workflow (webhook.alter_workflow) or its action (webhook.alter_action) so that it does without, make the change, and change it back."
#define WEBHOOK_KEY_HINT \
	"In one transaction, give the workflow another recurrence (webhook.alter_workflow), make the change, and let it be \"first\" again. It then has met no record yet."

/* The event that a function (for messages) was called for. */
extern EventTriggerData *webhook_ddl_event(FunctionCallInfo fcinfo,
										   const char *function);

/* Is the extension whole: neither being created or updated nor on its way out? */
extern bool webhook_ddl_is_installed(void);

/* Relations (OIDs) with all that inherits from them. */
extern List *webhook_ddl_descendants(List *relations);

#endif							/* WEBHOOK_DDL_H */

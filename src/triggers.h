/*-------------------------------------------------------------------------
 *
 * triggers.h
 *	  A workflow's triggers on its module.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TRIGGERS_H
#define WEBHOOK_TRIGGERS_H

#include "criteria.h"
#include "workflow_table.h"

/*
 * Create the triggers of a workflow.  The module is locked (at least
 * ShareRowExclusiveLock) and the caller's rights have been checked.
 * criteria: NULL for none.  fires: as pg_trigger.tgenabled.
 */
extern void webhook_triggers_create(Relation module,
									const WebhookWorkflow *workflow,
									const WebhookCriteria *criteria,
									char fires);

/*
 * Drop them, whatever their names are.  Locks the module exclusively; the
 * caller doesn't have it open.
 */
extern void webhook_triggers_drop(Oid module, int32 workflow_id);

/*
 * Let those that queue fire, or not; those that were made to fire always, or on
 * replicas, are left to.  Locks the module against writers; the caller doesn't
 * have it open.
 */
extern void webhook_triggers_enable(Oid module, int32 workflow_id,
									bool enabled);

/* Has the module any of the workflow's triggers that queue? */
extern bool webhook_triggers_exist(Relation module, int32 workflow_id);

/*
 * When those that queue fire, as pg_trigger.tgenabled, but for disabled ones:
 * that is lost with them.
 */
extern char webhook_triggers_fire(Oid module, int32 workflow_id);

/*
 * The condition of the workflow over the row "new", from the WHEN clauses of
 * those that queue; NULL: there are none.
 */
extern Node *webhook_triggers_condition(Relation module, int32 workflow_id,
										bool is_change);

/* Do the WHEN clauses of those that queue ask for the column? */
extern bool webhook_triggers_use_column(Relation module, int32 workflow_id,
										AttrNumber column);

/* Does the trigger that follows changes of the primary key? */
extern bool webhook_triggers_watch_column(Relation module, int32 workflow_id,
										  AttrNumber column);

/*
 * Drop that trigger, so that the key can get another type, and make it anew
 * (if it is not there, and one like it should be).  The module is locked
 * exclusively.
 */
extern void webhook_triggers_release_key(Relation module, int32 workflow_id);
extern void webhook_triggers_restore_key(Relation module, int32 workflow_id,
										 const char *workflow);

/*
 * Does the trigger that follows changes of the primary key watch just the
 * columns which the key has?  True too where there is no such trigger.
 */
extern bool webhook_triggers_match_key(Relation module, int32 workflow_id);

#endif							/* WEBHOOK_TRIGGERS_H */

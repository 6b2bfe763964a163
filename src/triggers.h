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

/*
 * Create the triggers of a workflow.  The module is locked (at least
 * ShareRowExclusiveLock) and the caller's rights have been checked.
 * criteria: NULL for none.
 */
extern void webhook_triggers_create(Relation module, int32 workflow_id,
									const char *workflow, const char *trigger,
									const char *recurrence,
									const WebhookCriteria *criteria);

/*
 * Drop them, whatever their names are.  Locks the module exclusively; the
 * caller doesn't have it open.
 */
extern void webhook_triggers_drop(Oid module, int32 workflow_id);

/*
 * Let those that queue fire, or not.  Locks the module against writers; the
 * caller doesn't have it open.
 */
extern void webhook_triggers_enable(Oid module, int32 workflow_id,
									bool enabled);

/* Has the module any of the workflow's triggers that queue? */
extern bool webhook_triggers_exist(Relation module, int32 workflow_id);

/*
 * Does the trigger that follows changes of the primary key watch just the
 * columns which the key has?  True too where there is no such trigger.
 */
extern bool webhook_triggers_match_key(Relation module, int32 workflow_id);

#endif							/* WEBHOOK_TRIGGERS_H */

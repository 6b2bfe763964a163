/*-------------------------------------------------------------------------
 *
 * action_check.h
 *	  What an action may be.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_ACTION_CHECK_H
#define WEBHOOK_ACTION_CHECK_H

#include "action_table.h"

/*
 * Raise an error for what is wrong with an action as it is to be.  What it wants
 * of related and computed values is compiled into the row, and some of its words
 * are written there as they are stored.
 */
extern void webhook_action_check(WebhookActionRow *row);

/* The same, but only of what refers neither to its module nor to a template. */
extern void webhook_action_check_values(const WebhookActionRow *row);

/* The same, of a signing secret. */
extern void webhook_action_check_secret(const char *secret);

/*
 * Raise an error, with the action in its context, if what the action says does
 * not fit the module: a column that it does not have, or no primary key for an
 * ordered action.  Related and computed values that have to be found anew are
 * stored.
 */
extern void webhook_action_fit(int32 action_id, Oid module);

/* Raise ERRCODE_INVALID_PARAMETER_VALUE; the hint may be NULL. */
extern void webhook_action_refuse(const char *message, const char *hint);

#endif							/* WEBHOOK_ACTION_CHECK_H */

/*-------------------------------------------------------------------------
 *
 * owner.h
 *	  Roles that workflows belong to, as PostgreSQL knows of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_OWNER_H
#define WEBHOOK_OWNER_H

#include "nodes/pg_list.h"

/* Workflows were made, dropped or given away: let DROP ROLE know. */
extern void webhook_owner_note(void);

/*
 * Give all workflows of a role, and their deliveries, to another one.  Raises
 * ERRCODE_INSUFFICIENT_PRIVILEGE where that one may not read what they send.
 */
extern void webhook_owner_reassign(Oid old_role, Oid new_role);

/* Drop all workflows of a role. */
extern List *webhook_owner_drop(Oid role);

#endif							/* WEBHOOK_OWNER_H */

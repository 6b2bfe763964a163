/*-------------------------------------------------------------------------
 *
 * catalog.h
 *	  The extension's own relations, and the rights they are touched with.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_CATALOG_H
#define WEBHOOK_CATALOG_H

typedef enum WebhookRelation
{
	WEBHOOK_REL_WORKFLOW,
	WEBHOOK_REL_ACTION,
	WEBHOOK_REL_SECRET,
	WEBHOOK_REL_LOG,
	WEBHOOK_REL_ATTEMPT,
	WEBHOOK_REL_LOG_SEQUENCE,
	WEBHOOK_REL_COUNT
} WebhookRelation;

/* What has to be put back when the extension owner's rights are given up. */
typedef struct WebhookScope
{
	Oid			user;
	int			sec_context;
	int			guc_level;
} WebhookScope;

/* Is the extension there, as a catalog look-up finds it now? */
extern bool webhook_catalog_exists(void);

/* Is nothing known that could have changed that since the log was last found? */
extern bool webhook_catalog_is_known(void);

/* Does this library serve the extension's version, which is returned as well? */
extern bool webhook_catalog_fits(char **version);

/*
 * The extension was created or updated: raises
 * ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE where its version is one that this
 * library does not serve.  Others look again, too.
 */
extern void webhook_catalog_recheck(void);

/*
 * OID of one of the extension's relations; cached, and looked up again after
 * an invalidation.  Raises ERRCODE_UNDEFINED_TABLE, and
 * ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE where the extension's version is
 * one that this library does not serve.
 */
extern Oid	webhook_catalog_relation(WebhookRelation which);

/* Lock it to be written, for the transaction; false: somebody is in the way. */
extern bool webhook_catalog_lock_if_free(WebhookRelation which);

/* Has this transaction written to the log?  Raises nothing if there is none. */
extern bool webhook_catalog_is_log_written(void);

/* The role that owns the extension's tables. */
extern Oid	webhook_catalog_owner(void);

/*
 * Go on with the rights of a role (the extension's owner, a workflow's
 * owner) in a security-restricted context under the search path pg_catalog,
 * pg_temp; and back.  An error in between is put right by the end of the
 * (sub)transaction.
 */
extern void webhook_scope_enter(WebhookScope *scope, Oid role);
extern void webhook_scope_leave(const WebhookScope *scope);

/*
 * The same under the caller's search path, to read what somebody wrote: a
 * constant of a type of his may call a function of his.
 */
extern void webhook_scope_enter_to_parse(WebhookScope *scope, Oid role);

/* A setting, until what was entered, or a GUC nest level, is left. */
extern void webhook_scope_set(const char *name, const char *value);

/*
 * A number that changes whenever workflows or actions may have: compare it
 * with the one remembered.
 */
extern uint64 webhook_catalog_generation(void);

#endif							/* WEBHOOK_CATALOG_H */

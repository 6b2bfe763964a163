/*-------------------------------------------------------------------------
 *
 * action.h
 *	  The webhook actions as they are configured.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_ACTION_H
#define WEBHOOK_ACTION_H

#include "fmgr.h"
#include "payload.h"

typedef struct WebhookAction
{
	int32		action_id;
	int32		workflow_id;
	char	   *title;
	Oid			module;
	char	   *module_name;	/* without its schema */
	Oid			owner;			/* of the workflow */
	bool		enabled;
	char	   *method;			/* POST or PUT */
	WebhookTemplate *url_template;
	WebhookPayload *payload;
	List	   *header_names;	/* of char * */
	List	   *header_templates;	/* of WebhookTemplate *, side by side */
	char	   *username;		/* NULL: no authentication */
	char	   *password;
	char	   *signing_secret; /* NULL: not signed */
	List	   *old_secrets;	/* of WebhookOldSecret *: these sign, too */
	char	   *client_certificate;
	int64		timeout;		/* ms; 0: webhook.timeout */
	int			n_retries;		/* -1: webhook.retry_schedule */
	int64	   *retry_delays;	/* microseconds */
	bool		ordered;
	int			max_in_flight;	/* 0: webhook.max_in_flight_per_action */
	int			rate_limit;		/* requests a second; 0: none */
	Jsonb	   *computed;		/* see wanted.h; NULL: nothing */
} WebhookAction;

/*
 * The action with everything compiled, in the current memory context; NULL
 * if there is none.  Runs SQL: needs a transaction, and SPI not connected.  What
 * is stored has been checked when it was configured; if it can't be compiled
 * nonetheless, it raises the compiler's error.
 */
extern WebhookAction *webhook_action_load(int32 action_id);

/*
 * The action as it is stored, locked.  Raises ERRCODE_UNDEFINED_OBJECT where
 * there is none, or none that the caller may change.
 */
extern struct WebhookActionRow *webhook_action_lock(int32 action_id);

/*
 * Called with the arguments of alter_action: everything becomes as it is given,
 * as in create_action, but for secrets.
 */
extern Datum webhook_action_replace(PG_FUNCTION_ARGS);

#endif							/* WEBHOOK_ACTION_H */

/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  The webhook.* settings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SETTINGS_H
#define WEBHOOK_SETTINGS_H

#include "address.h"
#include "nodes/pg_list.h"

/* Parsed form of webhook.retry_schedule. */
typedef struct WebhookSchedule
{
	int			n_delays;
	int64		delays[FLEXIBLE_ARRAY_MEMBER];	/* microseconds */
} WebhookSchedule;

/* Parsed form of webhook.mail_on: what is told. */
#define WEBHOOK_MAIL_FIRST 1
#define WEBHOOK_MAIL_EVERY 2
#define WEBHOOK_MAIL_FINAL 4

/* At most, for one database; slot.c has a bit for each. */
#define WEBHOOK_MAX_WORKERS 32

extern bool webhook_enabled;
extern int	webhook_workers_per_database;
extern int	webhook_timeout;	/* ms */
extern int	webhook_connect_timeout;	/* ms */
extern int	webhook_max_in_flight;
extern int	webhook_max_in_flight_per_action;
extern int	webhook_max_actions_per_workflow;
extern int	webhook_log_retention;	/* seconds; 0: kept for ever */
extern int	webhook_log_response_size;	/* bytes */
extern int	webhook_max_payload_size;	/* bytes */
extern bool webhook_allow_http;
extern char *webhook_ca_file;
extern char *webhook_proxy;
extern char *webhook_certificate_directory;
extern char *webhook_databases;
extern char *webhook_timezone;
extern char *webhook_smtp_url;
extern char *webhook_smtp_username;
extern const char *webhook_smtp_password;
extern char *webhook_smtp_from;
extern int	webhook_mail_on;	/* WEBHOOK_MAIL_* */
extern int	webhook_mail_interval;	/* seconds */

/* What the check hooks made of the strings; never NULL after start. */
extern const WebhookSchedule *webhook_default_schedule;
extern const WebhookNetworks *webhook_networks;
extern const WebhookNetworks *webhook_proxy_addresses;
extern const WebhookNetworks *webhook_smtp_addresses;

/* Define the settings; called by _PG_init. */
extern void webhook_settings_init(void);

/* The names in webhook.databases, with "*" for all; the list is the caller's. */
extern List *webhook_settings_databases(void);

/* Is this database one of webhook.databases? */
extern bool webhook_settings_has_database(const char *name);

#endif							/* WEBHOOK_SETTINGS_H */

/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The webhook.* settings.
 *
 * Runs in every process.  A check hook runs in the postmaster too, where an
 * error would be the end of the server: hooks only refuse, with a reason.
 * What a hook has parsed is kept as the setting's "extra" and is what the
 * rest of the code uses.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "datatype/timestamp.h"
#include "duration.h"
#include "mail_text.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "settings.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#define MAX_DELAYS 100
#define MAX_PAYLOAD (256 * 1024 * 1024)
#define MAX_RESPONSE (64 * 1024 * 1024)
#define DAY_MS (24 * 60 * 60 * 1000)
#define ANY_ADDRESS "0.0.0.0/0, ::/0"

bool		webhook_enabled;
int			webhook_workers_per_database;
int			webhook_timeout;
int			webhook_connect_timeout;
int			webhook_max_in_flight;
int			webhook_max_in_flight_per_action;
int			webhook_max_actions_per_workflow;
int			webhook_log_retention;
int			webhook_log_response_size;
int			webhook_max_payload_size;
bool		webhook_allow_http;
char	   *webhook_ca_file;
char	   *webhook_proxy;
char	   *webhook_certificate_directory;
char	   *webhook_databases;
char	   *webhook_timezone;
char	   *webhook_smtp_url;
char	   *webhook_smtp_username;
const char *webhook_smtp_password;
char	   *webhook_smtp_from;
int			webhook_mail_on;
int			webhook_mail_interval;

const WebhookSchedule *webhook_default_schedule;
const WebhookNetworks *webhook_networks;
const WebhookNetworks *webhook_proxy_addresses;
const WebhookNetworks *webhook_smtp_addresses;

/* Their parsed forms count. */
static char *retry_schedule_text;
static char *allowed_networks_text;
static char *proxy_networks_text;
static char *smtp_networks_text;
static char *log_retention_text;
static char *mail_on_text;
static char *smtp_password_text;	/* always empty */

static void
hint_duration(const char *more)
{
	GUC_check_errhint("Write durations like \"500ms\", \"90s\", \"30 min\", \"1h\" or \"1 day\", of 10 years at most%s.",
					  more);
}

/* ---------------------------------------------------------------------
 * Hooks
 * ---------------------------------------------------------------------
 */

static bool
check_retry_schedule(char **newval, void **extra, GucSource source)
{
	const char *text = *newval + strspn(*newval, " \t\r\n");
	WebhookSchedule *schedule;
	int			n = 1;

	for (const char *p = text; *p; p++)
	{
		if (*p == ',')
			n++;
	}
	if (*text == '\0')
		n = 0;
	if (n > MAX_DELAYS)
	{
		GUC_check_errdetail("There are more than %d retries.", MAX_DELAYS);
		return false;
	}
	schedule = webhook_guc_malloc(offsetof(WebhookSchedule, delays) +
								  n * sizeof(int64));
	if (schedule == NULL)
		return false;
	schedule->n_delays = n;
	for (int i = 0; i < n; i++)
	{
		if (!webhook_duration_parse(&text, &schedule->delays[i]))
		{
			GUC_check_errdetail("Retry %d has no valid duration.", i + 1);
			hint_duration(", with commas between them");
			webhook_guc_free(schedule);
			return false;
		}
		if (*text == ',')
			text++;
	}
	*extra = schedule;
	return true;
}

static void
assign_retry_schedule(const char *newval, void *extra)
{
	webhook_default_schedule = extra;
}

static bool
check_networks(char **newval, void **extra, GucSource source)
{
	const char *problem = NULL;

	*extra = webhook_address_parse_networks(*newval, &problem);
	if (*extra == NULL)
		GUC_check_errdetail("%s", problem);
	return *extra != NULL;
}

static void
assign_allowed_networks(const char *newval, void *extra)
{
	webhook_networks = extra;
}

static void
assign_proxy_networks(const char *newval, void *extra)
{
	webhook_proxy_addresses = extra;
}

static void
assign_smtp_networks(const char *newval, void *extra)
{
	webhook_smtp_addresses = extra;
}

/* A string, because integer settings don't know the word "days". */
static bool
check_log_retention(char **newval, void **extra, GucSource source)
{
	const char *text = *newval;
	int64		usecs;
	int		   *seconds;

	if (!webhook_duration_parse(&text, &usecs) || *text != '\0')
	{
		GUC_check_errdetail("The value is no valid duration.");
		hint_duration("");
		return false;
	}
	seconds = webhook_guc_malloc(sizeof(int));
	if (seconds == NULL)
		return false;

	/* Less than a second must not become "for ever". */
	*seconds = (int) ((usecs + USECS_PER_SEC - 1) / USECS_PER_SEC);
	*extra = seconds;
	return true;
}

static void
assign_log_retention(const char *newval, void *extra)
{
	webhook_log_retention = *(int *) extra;
}

/* The words of a list; false: not a list. */
static bool
split_list(const char *list, List **names, char **copy)
{
	*copy = pstrdup(list);
	return SplitIdentifierString(*copy, ',', names);
}

static bool
check_databases(char **newval, void **extra, GucSource source)
{
	List	   *names = NIL;
	char	   *copy;
	bool		is_list = split_list(*newval, &names, &copy);

	if (!is_list)
	{
		GUC_check_errdetail("List syntax is invalid.");
		GUC_check_errhint("Write names separated by commas, as in SQL, or * for all databases.");
	}
	list_free(names);
	pfree(copy);
	return is_list;
}

List *
webhook_settings_databases(void)
{
	List	   *names = NIL;
	List	   *result = NIL;
	char	   *copy;
	ListCell   *lc;

	if (split_list(webhook_databases, &names, &copy))
	{
		foreach(lc, names)
			result = lappend(result, pstrdup(lfirst(lc)));
	}
	list_free(names);
	pfree(copy);
	return result;
}

bool
webhook_settings_has_database(const char *name)
{
	List	   *names = webhook_settings_databases();
	bool		found = false;
	ListCell   *lc;

	foreach(lc, names)
	{
		const char *item = lfirst(lc);

		if (strcmp(item, "*") == 0 || strcmp(item, name) == 0)
			found = true;
	}
	list_free_deep(names);
	return found;
}

static bool
check_timezone(char **newval, void **extra, GucSource source)
{
	if ((*newval)[0] == '\0' || pg_tzset(*newval) != NULL)
		return true;
	GUC_check_errdetail("There is no time zone of this name.");
	GUC_check_errhint("See pg_timezone_names.");
	return false;
}

static bool
check_mail_on(char **newval, void **extra, GucSource source)
{
	static const struct
	{
		const char *word;
		int			flag;
	}			words[] = {
		{"first", WEBHOOK_MAIL_FIRST},
		{"every", WEBHOOK_MAIL_EVERY},
		{"final", WEBHOOK_MAIL_FINAL},
	};
	List	   *names = NIL;
	char	   *copy;
	bool		ok = split_list(*newval, &names, &copy);
	int		   *flags = webhook_guc_malloc(sizeof(int));
	ListCell   *lc;

	if (flags == NULL)
		return false;
	*flags = 0;
	foreach(lc, names)
	{
		int			found = 0;

		for (int i = 0; i < lengthof(words); i++)
		{
			if (strcmp(lfirst(lc), words[i].word) == 0)
				found = words[i].flag;
		}
		ok = ok && found != 0;
		*flags |= found;
	}
	list_free(names);
	pfree(copy);
	if (!ok)
	{
		GUC_check_errdetail("The value is not a list of the words \"first\", \"every\" and \"final\".");
		webhook_guc_free(flags);
		return false;
	}
	*extra = flags;
	return true;
}

static void
assign_mail_on(const char *newval, void *extra)
{
	webhook_mail_on = *(int *) extra;
}

/* Is this what stands behind the scheme of a URL: a host, and a port if any? */
static bool
is_host(const char *text)
{
	const char *end = text + strcspn(text, *text == '[' ? "]/" : "/?#:");

	if (end == text || (*text == '[' && *end++ != ']'))
		return false;
	if (*end == ':')
	{
		size_t		len = strspn(end + 1, "0123456789");
		int			port = len > 0 && len < 6 ? atoi(end + 1) : 0;

		if (len > 0 && (port < 1 || port > 65535))
			return false;
		end += len + 1;
	}
	return *end == '\0' || strchr("/?#", *end) != NULL;
}

static bool
check_proxy(char **newval, void **extra, GucSource source)
{
	static const char *const schemes[] = {"http", "https", "socks4", "socks4a",
	"socks5", "socks5h"};
	const char *host = strstr(*newval, "://");
	const char *at;
	bool		is_known = host == NULL;

	/* When the server starts, no proxy at all would take the place of a wrong one. */
	if ((*newval)[0] == '\0' || process_shared_preload_libraries_in_progress)
		return true;
	for (int i = 0; i < lengthof(schemes) && !is_known; i++)
		is_known = strlen(schemes[i]) == host - *newval &&
			pg_strncasecmp(*newval, schemes[i], host - *newval) == 0;
	host = host == NULL ? *newval : host + 3;
	/* Behind a user name and a password, in which anything may stand. */
	at = strrchr(host, '@');
	if (!is_known || !is_host(at == NULL ? host : at + 1) ||
		strpbrk(*newval, " \t\r\n") != NULL)
	{
		GUC_check_errdetail("The value is no URL of a proxy.");
		GUC_check_errhint("Write http://host:port, https://host:port or socks5h://host:port, with user:password@ in front of the host if it asks for them.");
		return false;
	}
	return true;
}

static bool
check_smtp_url(char **newval, void **extra, GucSource source)
{
	const char *host = strstr(*newval, "://");

	if ((*newval)[0] == '\0')
		return true;
	if (host == NULL ||
		(pg_strncasecmp(*newval, "smtp://", 7) != 0 &&
		 pg_strncasecmp(*newval, "smtps://", 8) != 0) ||
		!is_host(host + 3) || strpbrk(*newval, " \t\r\n@") != NULL)
	{
		GUC_check_errdetail("The value is no URL of a mail server.");
		GUC_check_errhint("Write smtp://host:port (STARTTLS) or smtps://host:port (TLS); the user name is webhook.smtp_username.");
		return false;
	}
	return true;
}

/*
 * A reload writes into the server log what a setting is changed to.  So the
 * password is none as far as that can see, and stands apart.
 */
static bool
check_smtp_password(char **newval, void **extra, GucSource source)
{
	size_t		size = strlen(*newval) + 1;
	char	   *password = webhook_guc_malloc(size);

	if (password == NULL)
		return false;
	memcpy(password, *newval, size);
	(*newval)[0] = '\0';
	*extra = password;
	return true;
}

static void
assign_smtp_password(const char *newval, void *extra)
{
	webhook_smtp_password = extra;
}

static const char *
show_smtp_password(void)
{
	return webhook_smtp_password;
}

static bool
check_smtp_from(char **newval, void **extra, GucSource source)
{
	if ((*newval)[0] != '\0' &&
		(strpbrk(*newval, "\r\n") != NULL ||
		 !webhook_mail_text_is_address(webhook_mail_text_plain_address(*newval))))
	{
		GUC_check_errdetail("The value is no mail address.");
		GUC_check_errhint("Write crm@example.com, or CRM <crm@example.com>.");
		return false;
	}
	return true;
}

/* ---------------------------------------------------------------------
 * Definitions
 * ---------------------------------------------------------------------
 */

static void
define_bool(const char *name, const char *text, const char *more,
			bool *variable, bool value)
{
	DefineCustomBoolVariable(name, text, more, variable, value,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
}

static void
define_int(const char *name, const char *text, const char *more,
		   int *variable, int value, int min, int max, int flags)
{
	DefineCustomIntVariable(name, text, more, variable, value, min, max,
							PGC_SIGHUP, flags, NULL, NULL, NULL);
}

static void
define_string(const char *name, const char *text, const char *more,
			  char **variable, const char *value, int flags,
			  GucStringCheckHook check, GucStringAssignHook assign)
{
	DefineCustomStringVariable(name, text, more, variable, value,
							   PGC_SIGHUP, flags, check, assign, NULL);
}

static void
define_deliveries(void)
{
	define_bool("webhook.enabled",
				"Sends webhooks.",
				"When off, events are still queued, and go out once it is on.",
				&webhook_enabled, true);
	define_string("webhook.databases",
				  "Lists the databases whose webhooks are sent.",
				  "\"*\" stands for all databases that have the extension.",
				  &webhook_databases, "*", GUC_LIST_INPUT, check_databases, NULL);
	define_int("webhook.workers_per_database",
			   "Sets the number of processes that send webhooks of one database.",
			   "They count towards max_worker_processes.",
			   &webhook_workers_per_database, 1, 1, WEBHOOK_MAX_WORKERS, 0);
	define_int("webhook.max_in_flight",
			   "Sets the maximum number of requests that one worker has under way.",
			   "Each takes a file descriptor or two.",
			   &webhook_max_in_flight, 200, 1, 10000, 0);
	define_int("webhook.max_in_flight_per_action",
			   "Sets the maximum number of requests under way for one action.",
			   "An action can set its own; so a slow receiver does not hold up others.",
			   &webhook_max_in_flight_per_action, 50, 1, 10000, 0);
	define_string("webhook.retry_schedule",
				  "Sets how long after each failed attempt the next one is made.",
				  "A list of durations; empty means no retries. An action can set its own.",
				  &retry_schedule_text, "1h, 2h, 4h", GUC_LIST_INPUT,
				  check_retry_schedule, assign_retry_schedule);
	define_string("webhook.timezone",
				  "Sets the time zone of schedules.",
				  "Empty means the server's.",
				  &webhook_timezone, "", 0, check_timezone, NULL);
	define_int("webhook.max_actions_per_workflow",
			   "Sets the maximum number of actions of a workflow.", NULL,
			   &webhook_max_actions_per_workflow, 3, 1, 100, 0);
	define_int("webhook.max_payload_size",
			   "Sets the maximum size of a request's body.",
			   "A delivery with a larger one fails without being sent.",
			   &webhook_max_payload_size, 1024 * 1024, 1024, MAX_PAYLOAD,
			   GUC_UNIT_BYTE);
	define_string("webhook.log_retention",
				  "Sets how long finished deliveries stay in the log.",
				  "A duration such as \"30 days\"; without a unit it is taken as seconds. 0 keeps them all.",
				  &log_retention_text, "30 days", 0,
				  check_log_retention, assign_log_retention);
	define_int("webhook.log_response_size",
			   "Sets how much of each answer's body is kept in the log.", NULL,
			   &webhook_log_response_size, 4096, 0, MAX_RESPONSE, GUC_UNIT_BYTE);
}

static void
define_network(void)
{
	define_int("webhook.timeout",
			   "Sets the maximum time for a whole request, from the look-up of the name to the end of the answer.",
			   "An action can set its own.",
			   &webhook_timeout, 30000, 1, DAY_MS, GUC_UNIT_MS);
	define_int("webhook.connect_timeout",
			   "Sets the maximum time to wait for a connection to a receiver.", NULL,
			   &webhook_connect_timeout, 10000, 1, DAY_MS, GUC_UNIT_MS);
	define_string("webhook.allowed_networks",
				  "Lists the networks that are not public and may be sent to nonetheless.",
				  "A list of CIDR blocks and addresses. Private, loopback, link-local, multicast and reserved addresses are refused otherwise.",
				  &allowed_networks_text, "", GUC_LIST_INPUT,
				  check_networks, assign_allowed_networks);
	define_bool("webhook.allow_http",
				"Allows URLs that begin with http://, which are not encrypted.", NULL,
				&webhook_allow_http, true);
	define_string("webhook.ca_file",
				  "Names the file of certificate authorities that receivers' certificates are checked against.",
				  "Empty means the system's.",
				  &webhook_ca_file, "", 0, NULL, NULL);
	define_string("webhook.certificate_directory",
				  "Names the directory of the client certificates that actions can use.",
				  "Empty means that there are none.",
				  &webhook_certificate_directory, "", 0, NULL, NULL);
	define_string("webhook.proxy",
				  "Sets the URL of the proxy that requests go through.",
				  "Empty means none; the server's environment is ignored. Behind a proxy, webhook.allowed_networks does not apply.",
				  &webhook_proxy, "", GUC_SUPERUSER_ONLY, check_proxy, NULL);
	define_string("webhook.proxy_networks",
				  "Lists the networks in which the proxy may stand.",
				  "A list of CIDR blocks and addresses; by default any address.",
				  &proxy_networks_text, ANY_ADDRESS, GUC_LIST_INPUT,
				  check_networks, assign_proxy_networks);
}

static void
define_mail(void)
{
	define_string("webhook.smtp_url",
				  "Sets the mail server that tells of failures.",
				  "smtp://host:port, with STARTTLS, or smtps://host:port. Empty means that nobody is told. webhook.allowed_networks does not apply.",
				  &webhook_smtp_url, "", 0, check_smtp_url, NULL);
	define_string("webhook.smtp_username",
				  "Sets the user name for the mail server.",
				  "Empty means no authentication; with a user name TLS is required.",
				  &webhook_smtp_username, "", GUC_SUPERUSER_ONLY, NULL, NULL);
	DefineCustomStringVariable("webhook.smtp_password",
							   "Sets the password for the mail server.", NULL,
							   &smtp_password_text, "", PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY, check_smtp_password,
							   assign_smtp_password, show_smtp_password);
	define_string("webhook.smtp_from",
				  "Sets the sender of mails.",
				  "An address, or a name and an address in angle brackets. Empty means webhook@ and the host's name.",
				  &webhook_smtp_from, "", 0, check_smtp_from, NULL);
	define_string("webhook.smtp_networks",
				  "Lists the networks in which the mail server may stand.",
				  "A list of CIDR blocks and addresses; by default any address.",
				  &smtp_networks_text, ANY_ADDRESS, GUC_LIST_INPUT,
				  check_networks, assign_smtp_networks);
	define_string("webhook.mail_on",
				  "Sets which failures of a delivery are told by mail.",
				  "A list of \"first\" (the first failed attempt), \"every\" and \"final\" (it is given up).",
				  &mail_on_text, "first, final", GUC_LIST_INPUT,
				  check_mail_on, assign_mail_on);
	define_int("webhook.mail_interval",
			   "Sets the minimum time between two mails about one action to the same recipient.",
			   "What fails in between is told together.",
			   &webhook_mail_interval, 15 * 60, 0, 30 * 24 * 3600, GUC_UNIT_S);
}

void
webhook_settings_init(void)
{
	define_deliveries();
	define_network();
	define_mail();
	MarkGUCPrefixReserved("webhook");
}

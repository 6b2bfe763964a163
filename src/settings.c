/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The webhook.* settings.
 *
 * Runs in every process that loads the library.  All settings follow a
 * reload; a value that can't be right is refused by its check hook, so that
 * the server keeps the one before and says so in its log.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>

#include "settings.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#define MAX_DELAYS 100

bool		webhook_enabled = true;
int			webhook_workers_per_database = 1;
int			webhook_timeout = 30000;
int			webhook_connect_timeout = 10000;
char	   *webhook_retry_schedule = NULL;
int			webhook_max_in_flight = 200;
int			webhook_max_in_flight_per_action = 50;
int			webhook_max_actions_per_workflow = 3;
int			webhook_log_retention = 30 * SECS_PER_DAY;
int			webhook_log_response_size = 4096;
int			webhook_max_payload_size = 1024 * 1024;
char	   *webhook_allowed_networks = NULL;
bool		webhook_allow_http = true;
char	   *webhook_ca_file = NULL;
char	   *webhook_proxy = NULL;
char	   *webhook_certificate_directory = NULL;
char	   *webhook_databases = NULL;

const WebhookSchedule *webhook_default_schedule = NULL;
const WebhookNetworks *webhook_networks = NULL;

static char *log_retention = NULL;

/*
 * Read "90 s", "1 hour", "1h30min" from *text on: one or more numbers with a
 * unit.  Returns microseconds, or -1.
 */
static int64
parse_duration(const char *text, size_t len)
{
	static const struct
	{
		const char *name;
		double		seconds;
	}			units[] =

	{
		{"us", 1e-6}, {"ms", 1e-3},
		{"s", 1}, {"sec", 1}, {"second", 1}, {"seconds", 1},
		{"min", 60}, {"minute", 60}, {"minutes", 60},
		{"h", 3600}, {"hour", 3600}, {"hours", 3600},
		{"d", 86400}, {"day", 86400}, {"days", 86400},
	};
	const char *end = text + len;
	double		total = 0;
	bool		found = false;

	for (;;)
	{
		char	   *after;
		const char *unit;
		double		number;
		int			i;

		while (text < end && isspace((unsigned char) *text))
			text++;
		if (text == end)
			break;
		if (!isdigit((unsigned char) *text) && *text != '.')
			return -1;
		number = strtod(text, &after);
		text = after;
		if (text > end)
			return -1;
		while (text < end && isspace((unsigned char) *text))
			text++;
		unit = text;
		while (text < end && isalpha((unsigned char) *text))
			text++;
		for (i = 0; i < lengthof(units); i++)
		{
			if (strlen(units[i].name) == text - unit &&
				pg_strncasecmp(units[i].name, unit, text - unit) == 0)
				break;
		}
		if (i == lengthof(units))
			return -1;
		total += number * units[i].seconds;
		found = true;
	}

	/* A hundred years are more than anybody waits. */
	if (!found || isnan(total) || total > 100.0 * 366 * 86400)
		return -1;
	return (int64) (total * USECS_PER_SEC);
}

static bool
check_retry_schedule(char **newval, void **extra, GucSource source)
{
	WebhookSchedule *schedule;
	const char *p = *newval;

	schedule = malloc(offsetof(WebhookSchedule, delays) +
					  MAX_DELAYS * sizeof(int64));
	if (schedule == NULL)
		return false;
	schedule->n_delays = 0;
	while (p[strspn(p, " \t")] != '\0')
	{
		size_t		len = strcspn(p, ",");
		int64		delay = parse_duration(p, len);

		if (delay < 0 || schedule->n_delays == MAX_DELAYS)
		{
			GUC_check_errdetail("\"%.*s\" is not a duration such as \"90 s\", \"30 min\", \"1h\" or \"1 day\", or there are more than %d.",
								(int) len, p, MAX_DELAYS);
			free(schedule);
			return false;
		}
		schedule->delays[schedule->n_delays++] = delay;
		p += len;
		if (*p == ',')
			p++;
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
check_log_retention(char **newval, void **extra, GucSource source)
{
	int64		retention = 0;
	int		   *seconds;

	if (strcmp(*newval, "0") != 0)
		retention = parse_duration(*newval, strlen(*newval));
	if (retention < 0 || retention / USECS_PER_SEC > INT_MAX)
	{
		GUC_check_errdetail("It must be a duration such as \"30 days\" or \"12h\", or 0.");
		return false;
	}
	seconds = malloc(sizeof(int));
	if (seconds == NULL)
		return false;
	*seconds = (int) (retention / USECS_PER_SEC);
	*extra = seconds;
	return true;
}

static void
assign_log_retention(const char *newval, void *extra)
{
	webhook_log_retention = *(int *) extra;
}

static bool
check_allowed_networks(char **newval, void **extra, GucSource source)
{
	const char *problem = NULL;

	*extra = webhook_address_parse_networks(*newval, &problem);
	if (*extra == NULL)
	{
		GUC_check_errdetail("\"%s\" is not an address or CIDR block, or has bits set to the right of its mask.",
							problem);
		return false;
	}
	return true;
}

static void
assign_allowed_networks(const char *newval, void *extra)
{
	webhook_networks = extra;
}

static bool
check_databases(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	List	   *names = NIL;
	bool		is_right = strcmp(copy, "*") == 0 ||
	SplitIdentifierString(copy, ',', &names);

	if (!is_right)
		GUC_check_errdetail("It must be * or a list of database names, separated by commas.");
	list_free(names);
	pfree(copy);
	return is_right;
}

bool
webhook_settings_has_database(const char *name)
{
	char	   *copy;
	List	   *names = NIL;
	ListCell   *lc;
	bool		result = false;

	if (strcmp(webhook_databases, "*") == 0)
		return true;
	copy = pstrdup(webhook_databases);
	if (SplitIdentifierString(copy, ',', &names))
	{
		foreach(lc, names)
			result |= strcmp(lfirst(lc), name) == 0;
	}
	list_free(names);
	pfree(copy);
	return result;
}

static void
define_limits(void)
{
	DefineCustomIntVariable("webhook.workers_per_database",
							"Sets the number of workers that each database has.",
							"More than one pays where TLS or large payloads keep a processor busy.",
							&webhook_workers_per_database, 1, 1, 32,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("webhook.timeout",
							"Sets the time that a request may take as a whole.",
							"An action may have a timeout of its own.",
							&webhook_timeout, 30000, 1, 60 * 60 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("webhook.connect_timeout",
							"Sets the time that connecting to a receiver may take.",
							NULL,
							&webhook_connect_timeout, 10000, 1, 60 * 60 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("webhook.max_in_flight",
							"Sets how many requests a worker may have under way.",
							NULL,
							&webhook_max_in_flight, 200, 1, 10000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("webhook.max_in_flight_per_action",
							"Sets how many requests of one action may be under way.",
							"An action may have a limit of its own.",
							&webhook_max_in_flight_per_action, 50, 1, 10000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("webhook.max_actions_per_workflow",
							"Sets how many webhook actions a workflow may have.",
							NULL,
							&webhook_max_actions_per_workflow, 3, 1, 100,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("webhook.log_response_size",
							"Sets how much of a receiver's answer is kept in webhook.webhook_attempt.",
							NULL,
							&webhook_log_response_size, 4096, 0, 1024 * 1024,
							PGC_SIGHUP, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("webhook.max_payload_size",
							"Sets how large the body of a request may be.",
							"A delivery with a larger one fails without being sent.",
							&webhook_max_payload_size, 1024 * 1024, 1, 256 * 1024 * 1024,
							PGC_SIGHUP, GUC_UNIT_BYTE, NULL, NULL, NULL);
}

static void
define_network(void)
{
	DefineCustomStringVariable("webhook.allowed_networks",
							   "Lists addresses and CIDR blocks that may be connected to although they are not public.",
							   "Loopback, private, link-local, multicast and reserved addresses are refused unless they are listed.",
							   &webhook_allowed_networks, "",
							   PGC_SIGHUP, GUC_LIST_INPUT,
							   check_allowed_networks, assign_allowed_networks, NULL);
	DefineCustomBoolVariable("webhook.allow_http",
							 "Allows URLs with http, without encryption.",
							 NULL,
							 &webhook_allow_http, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("webhook.ca_file",
							   "Sets the file of certification authorities that receivers' certificates are checked against.",
							   "Empty: the system's.",
							   &webhook_ca_file, "",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("webhook.proxy",
							   "Sets the URL of a proxy that all requests go through.",
							   "Empty: none; the server's environment does not count.",
							   &webhook_proxy, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("webhook.certificate_directory",
							   "Sets the directory of client certificates that actions may name.",
							   NULL,
							   &webhook_certificate_directory, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
}

void
webhook_settings_init(void)
{
	DefineCustomBoolVariable("webhook.enabled",
							 "Lets the workers send.",
							 "While it is off, deliveries are queued and wait.",
							 &webhook_enabled, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("webhook.databases",
							   "Lists the databases that have workers; * for all that have the extension.",
							   NULL,
							   &webhook_databases, "*",
							   PGC_SIGHUP, GUC_LIST_INPUT, check_databases, NULL, NULL);
	DefineCustomStringVariable("webhook.retry_schedule",
							   "Sets the pauses before the second, third and further attempts of a delivery.",
							   "An action may have a schedule of its own. Empty: no second attempt.",
							   &webhook_retry_schedule, "1h, 2h, 4h",
							   PGC_SIGHUP, GUC_LIST_INPUT,
							   check_retry_schedule, assign_retry_schedule, NULL);
	DefineCustomStringVariable("webhook.log_retention",
							   "Sets how long deliveries that have ended stay in the log.",
							   "0 keeps them for ever.",
							   &log_retention, "30 days",
							   PGC_SIGHUP, 0,
							   check_log_retention, assign_log_retention, NULL);
	define_limits();
	define_network();
	MarkGUCPrefixReserved("webhook");
}

/*-------------------------------------------------------------------------
 *
 * action_check.c
 *	  What an action may be.
 *
 * All that an action says is checked when it is configured, not when it is sent;
 * what refers to its module, once more when that is changed.
 *
 * Runs in sessions; webhook_action_check_values in the worker as well.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "action_check.h"
#include "catalog/pg_type.h"
#include "duration.h"
#include "header.h"
#include "module.h"
#include "payload.h"
#include "signature.h"
#include "template.h"
#include "url.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "wanted.h"

#define MAX_RETRIES 100
#define MAX_TIMEOUT_MS (60 * 60 * 1000)

void
webhook_action_refuse(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", message),
			 hint != NULL ? errhint("%s", hint) : 0));
}

static void
check_credentials(const WebhookActionRow *row)
{
	if (row->username == NULL)
	{
		if (row->password != NULL)
			webhook_action_refuse("password without a user name",
								  "Give username as well; it makes Basic authentication.");
		return;
	}
	if (strchr(row->username, ':') != NULL)
		webhook_action_refuse("user name contains a colon",
							  "Basic authentication (RFC 7617) allows none.");
	for (const char *p = row->username; *p != '\0'; p++)
	{
		if ((unsigned char) *p < 0x20 || *p == 0x7f)
			webhook_action_refuse("user name contains a control character", NULL);
	}
	for (const char *p = row->password; p != NULL && *p != '\0'; p++)
	{
		if ((unsigned char) *p < 0x20 || *p == 0x7f)
			webhook_action_refuse("password contains a control character", NULL);
	}
}

static void
check_certificate(const char *name)
{
	if (name == NULL)
		return;
	if (name[0] == '.' || strpbrk(name, "/\\") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("client certificate \"%s\" is not a plain file name", name),
				 errhint("It is the name of a file in webhook.certificate_directory.")));
}

static void
check_schedule(ArrayType *schedule)
{
	Datum	   *delays;
	bool	   *nulls;
	int			n;

	if (schedule == NULL)
		return;
	if (ARR_NDIM(schedule) > 1)
		webhook_action_refuse("retry schedule has more than one dimension", NULL);
	deconstruct_array(schedule, INTERVALOID, sizeof(Interval), false,
					  TYPALIGN_DOUBLE, &delays, &nulls, &n);
	if (n > MAX_RETRIES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("retry schedule has more than %d elements", MAX_RETRIES)));
	for (int i = 0; i < n; i++)
	{
		int64		delay;

		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("retry schedule contains a null value")));
		delay = webhook_duration_microseconds(DatumGetIntervalP(delays[i]));
		if (delay < 0)
			webhook_action_refuse("retry schedule contains a negative interval", NULL);
		if (delay > WEBHOOK_MAX_DURATION)
			webhook_action_refuse("retry schedule contains an interval of more than 10 years", NULL);
	}
}

static void
check_limits(const WebhookActionRow *row)
{
	if (row->timeout != NULL)
	{
		int64		timeout = webhook_duration_microseconds(row->timeout);

		if (timeout < 1000 || timeout > MAX_TIMEOUT_MS * INT64CONST(1000))
			webhook_action_refuse("timeout is not between 1 ms and 1 hour", NULL);
	}
	if (row->max_in_flight < 0)
		webhook_action_refuse("max_in_flight is less than 1", NULL);
	if (row->rate_limit < 0 || row->rate_limit > USECS_PER_SEC)
		webhook_action_refuse("rate_limit is not between 1 and 1000000", NULL);
	check_schedule(row->retry_schedule);
}

void
webhook_action_check_secret(const char *secret)
{
	const char *problem = webhook_signature_check_secret(secret);

	if (problem != NULL)
		webhook_action_refuse("signing secret is not one of Standard Webhooks", problem);
}

void
webhook_action_check_values(const WebhookActionRow *row)
{
	check_credentials(row);
	check_certificate(row->client_certificate);
	check_limits(row);
}

typedef struct FitContext
{
	Oid			module;
	List	   *wanted;			/* of WebhookWanted * */
} FitContext;

static void
check_template(const WebhookTemplate *tmpl, const char *what, void *arg)
{
	FitContext *context = arg;

	webhook_template_check(tmpl, context->module, what);
	context->wanted = webhook_wanted_collect(context->wanted, tmpl, what);
}

static void
check_key(Oid module)
{
	Relation	rel = table_open(module, AccessShareLock);
	bool		has_key = webhook_module_key(rel) != NULL;

	table_close(rel, NoLock);
	if (!has_key)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("an ordered action needs a primary key, which table \"%s\" does not have",
						get_rel_name(module)),
				 errhint("Add a primary key, or don't ask for order.")));
}

/*
 * What refers to the module.  What is known of related and computed values is
 * checked again; what is new is compiled.
 */
static void
check_fit(WebhookActionRow *row, Oid module, bool is_new)
{
	FitContext	context = {module, NIL};
	WebhookPayload *payload;
	List	   *names;
	List	   *templates;
	ListCell   *lc;
	Relation	rel;

	webhook_url_check(row->url);
	check_template(webhook_template_parse(row->url, "URL"), "URL", &context);
	webhook_header_parse(row->headers, &names, &templates);
	foreach(lc, templates)
		check_template(lfirst(lc),
					   psprintf("header \"%s\"",
								(char *) list_nth(names, foreach_current_index(lc))),
					   &context);
	payload = webhook_payload_compile(row->parameters,
									  webhook_content_type(row->content_type));
	webhook_payload_visit(payload, check_template, &context);
	if (row->ordered)
		check_key(module);
	if (context.wanted == NIL)
	{
		row->computed = NULL;
		return;
	}
	rel = table_open(module, AccessShareLock);
	row->computed = webhook_wanted_compile(context.wanted,
										   module == row->module ? row->computed : NULL,
										   rel, row->owner, is_new);
	table_close(rel, NoLock);
}

static void
check_authorization(const WebhookActionRow *row)
{
	List	   *names;
	List	   *templates;
	ListCell   *lc;

	if (row->username == NULL)
		return;
	webhook_header_parse(row->headers, &names, &templates);
	foreach(lc, names)
	{
		if (pg_strcasecmp(lfirst(lc), "Authorization") == 0)
			webhook_action_refuse("both username and a header \"Authorization\" are given",
								  "Basic authentication makes that header.");
	}
}

void
webhook_action_check(WebhookActionRow *row)
{
	if (row->title == NULL || row->title[0] == '\0')
		webhook_action_refuse("an action needs a title", NULL);
	if (row->url == NULL || row->url[0] == '\0')
		webhook_action_refuse("an action needs a URL", "Write it as https://host/path.");
	if (row->method == NULL ||
		(pg_strcasecmp(row->method, "POST") != 0 &&
		 pg_strcasecmp(row->method, "PUT") != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("method \"%s\" is not supported",
						row->method != NULL ? row->method : ""),
				 errhint("Methods are POST and PUT.")));
	row->method = pg_strcasecmp(row->method, "PUT") == 0 ? "PUT" : "POST";
	if (row->content_type == NULL)
		webhook_action_refuse("an action needs a content type", "Content types are JSON, JSONARRAY, XML and FORM.");
	row->content_type = asc_toupper(row->content_type, strlen(row->content_type));

	check_fit(row, row->module, true);
	webhook_action_check_values(row);
	check_authorization(row);
	if (row->signing_secret != NULL)
		webhook_action_check_secret(row->signing_secret);
}

static void
add_action_context(void *arg)
{
	const WebhookActionRow *row = arg;

	errcontext("webhook action %d (\"%s\")", row->action_id, row->title);
}

void
webhook_action_fit(int32 action_id, Oid module)
{
	WebhookActionRow *row = webhook_action_table_read(action_id, false);
	ErrorContextCallback context;
	Jsonb	   *computed;

	if (row == NULL)
		return;
	computed = row->computed;
	context.callback = add_action_context;
	context.arg = row;
	context.previous = error_context_stack;
	error_context_stack = &context;
	check_fit(row, module, row->module != module);
	error_context_stack = context.previous;
	if (!webhook_wanted_is_same(row->computed, computed))
		webhook_action_table_set_computed(action_id, row->computed);
}

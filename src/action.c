/*-------------------------------------------------------------------------
 *
 * action.c
 *	  The webhook actions: configured by SQL functions, and compiled for those
 *	  who carry them out.
 *
 * Runs in sessions; webhook_action_load in the worker as well.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "action.h"
#include "action_check.h"
#include "action_table.h"
#include "argument.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "duration.h"
#include "fmgr.h"
#include "header.h"
#include "miscadmin.h"
#include "settings.h"
#include "signature.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "workflow_table.h"

PG_FUNCTION_INFO_V1(create_action);
PG_FUNCTION_INFO_V1(alter_action);
PG_FUNCTION_INFO_V1(drop_action);
PG_FUNCTION_INFO_V1(enable_action);

/* Arguments of create_action and alter_action, behind the first. */
enum
{
	ARG_TITLE = 1,
	ARG_URL,
	ARG_METHOD,
	ARG_CONTENT_TYPE,
	ARG_PARAMETERS,
	ARG_USERNAME,
	ARG_PASSWORD,
	ARG_HEADERS,
	ARG_SIGNING_SECRET,
	ARG_CLIENT_CERTIFICATE,
	ARG_DESCRIPTION,
	ARG_TIMEOUT,
	ARG_RETRY_SCHEDULE,
	ARG_ORDERED,
	ARG_MAX_IN_FLIGHT,
	ARG_RATE_LIMIT
};

/* ---------------------------------------------------------------------
 * Arguments
 * ---------------------------------------------------------------------
 */

/* A text argument: given ones replace, empty ones clear. */
static void
take_text(FunctionCallInfo fcinfo, int arg, char **value)
{
	if (PG_ARGISNULL(arg))
		return;
	*value = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	if ((*value)[0] == '\0')
		*value = NULL;
}

/* A json argument; in alter_action an empty object clears. */
static void
take_json(FunctionCallInfo fcinfo, int arg, char **value, bool is_alter)
{
	char	   *json;
	const char *p;

	if (PG_ARGISNULL(arg))
		return;
	json = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	*value = json;
	p = json + strspn(json, " \t\r\n");
	if (is_alter && *p == '{' && p[1 + strspn(p + 1, " \t\r\n")] == '}')
		*value = NULL;
}

static void
take_int(FunctionCallInfo fcinfo, int arg, int32 *value, bool is_alter)
{
	if (PG_ARGISNULL(arg))
		return;
	*value = PG_GETARG_INT32(arg);
	if (*value == 0 && !is_alter)
		*value = -1;			/* refused by the check */
}

static void
take_arguments(FunctionCallInfo fcinfo, WebhookActionRow *row, bool is_alter)
{
	take_text(fcinfo, ARG_TITLE, &row->title);
	take_text(fcinfo, ARG_URL, &row->url);
	take_text(fcinfo, ARG_METHOD, &row->method);
	take_text(fcinfo, ARG_CONTENT_TYPE, &row->content_type);
	take_json(fcinfo, ARG_PARAMETERS, &row->parameters, is_alter);
	take_text(fcinfo, ARG_USERNAME, &row->username);
	if (!PG_ARGISNULL(ARG_USERNAME) && row->username == NULL)
		row->password = NULL;
	take_text(fcinfo, ARG_PASSWORD, &row->password);
	take_json(fcinfo, ARG_HEADERS, &row->headers, is_alter);
	take_text(fcinfo, ARG_SIGNING_SECRET, &row->signing_secret);
	if (!PG_ARGISNULL(ARG_SIGNING_SECRET))
		row->old_secrets = NIL;
	take_text(fcinfo, ARG_CLIENT_CERTIFICATE, &row->client_certificate);
	take_text(fcinfo, ARG_DESCRIPTION, &row->description);
	if (!PG_ARGISNULL(ARG_TIMEOUT))
	{
		row->timeout = PG_GETARG_INTERVAL_P(ARG_TIMEOUT);
		if (is_alter && webhook_duration_microseconds(row->timeout) == 0)
			row->timeout = NULL;
	}
	if (!PG_ARGISNULL(ARG_RETRY_SCHEDULE))
	{
		row->retry_schedule = PG_GETARG_ARRAYTYPE_P(ARG_RETRY_SCHEDULE);
		if (is_alter && ARR_NDIM(row->retry_schedule) == 0)
			row->retry_schedule = NULL;
	}
	if (!PG_ARGISNULL(ARG_ORDERED))
		row->ordered = PG_GETARG_BOOL(ARG_ORDERED);
	take_int(fcinfo, ARG_MAX_IN_FLIGHT, &row->max_in_flight, is_alter);
	take_int(fcinfo, ARG_RATE_LIMIT, &row->rate_limit, is_alter);
}

WebhookActionRow *
webhook_action_lock(int32 action_id)
{
	WebhookActionRow *row = webhook_action_table_read(action_id, true);

	if (row == NULL || !webhook_may_act_as(GetUserId(), row->owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("webhook action %d does not exist", action_id),
				 errhint("The table webhook.action shows the actions of the roles that you are a member of.")));
	return row;
}

/* ---------------------------------------------------------------------
 * SQL-callable
 * ---------------------------------------------------------------------
 */

/*
 * webhook.create_action(workflow, title, url, ...) returns integer
 *		Add an action to a workflow; returns action_id.
 */
Datum
create_action(PG_FUNCTION_ARGS)
{
	WebhookActionRow row = {0};
	WebhookWorkflow *workflow;

	webhook_argument_require(fcinfo, 0, "workflow");
	workflow = webhook_workflow_table_lock(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	row.workflow_id = workflow->workflow_id;
	row.module = workflow->module;
	row.owner = workflow->owner;
	row.method = "POST";
	row.content_type = "JSON";
	take_arguments(fcinfo, &row, false);
	webhook_action_check(&row);

	/* The workflow's row is locked: nobody else adds one meanwhile. */
	if (webhook_action_table_count(row.workflow_id) >= webhook_max_actions_per_workflow)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg_plural("workflow \"%s\" already has %d action",
							   "workflow \"%s\" already has %d actions",
							   webhook_max_actions_per_workflow, workflow->name,
							   webhook_max_actions_per_workflow),
				 errhint("Make another workflow, or raise webhook.max_actions_per_workflow.")));
	PG_RETURN_INT32(webhook_action_table_insert(&row));
}

/*
 * webhook.alter_action(action_id, ...) returns void
 *		Change what is given and not null.
 */
Datum
alter_action(PG_FUNCTION_ARGS)
{
	WebhookActionRow *row;

	webhook_argument_require(fcinfo, 0, "action_id");
	row = webhook_action_lock(PG_GETARG_INT32(0));
	take_arguments(fcinfo, row, true);
	webhook_action_check(row);
	webhook_action_table_update(row);
	PG_RETURN_VOID();
}

Datum
webhook_action_replace(PG_FUNCTION_ARGS)
{
	WebhookActionRow *row = webhook_action_lock(PG_GETARG_INT32(0));

	row->description = NULL;
	row->parameters = NULL;
	row->headers = NULL;
	row->client_certificate = NULL;
	row->timeout = NULL;
	row->retry_schedule = NULL;
	row->max_in_flight = 0;
	row->rate_limit = 0;
	if (PG_ARGISNULL(ARG_USERNAME))
		row->username = row->password = NULL;
	take_arguments(fcinfo, row, false);
	webhook_action_check(row);
	webhook_action_table_update(row);
	PG_RETURN_VOID();
}

/* webhook.drop_action(action_id) returns void */
Datum
drop_action(PG_FUNCTION_ARGS)
{
	webhook_argument_require(fcinfo, 0, "action_id");
	webhook_action_table_delete(webhook_action_lock(PG_GETARG_INT32(0))->action_id);
	PG_RETURN_VOID();
}

/* webhook.enable_action(action_id, enabled) returns void */
Datum
enable_action(PG_FUNCTION_ARGS)
{
	WebhookActionRow *row;

	webhook_argument_require(fcinfo, 0, "action_id");
	webhook_argument_require(fcinfo, 1, "enabled");
	row = webhook_action_lock(PG_GETARG_INT32(0));
	row->enabled = PG_GETARG_BOOL(1);
	webhook_action_table_update(row);
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------------
 * For those who carry it out
 * ---------------------------------------------------------------------
 */

static void
compile_schedule(WebhookAction *action, ArrayType *schedule)
{
	Datum	   *delays;
	bool	   *nulls;

	action->n_retries = -1;
	if (schedule == NULL)
		return;
	deconstruct_array(schedule, INTERVALOID, sizeof(Interval), false,
					  TYPALIGN_DOUBLE, &delays, &nulls, &action->n_retries);
	action->retry_delays = palloc(Max(action->n_retries, 1) * sizeof(int64));
	for (int i = 0; i < action->n_retries; i++)
		action->retry_delays[i] = webhook_duration_microseconds(DatumGetIntervalP(delays[i]));
}

WebhookAction *
webhook_action_load(int32 action_id)
{
	WebhookActionRow *row = webhook_action_table_read(action_id, false);
	WebhookAction *action;

	if (row == NULL)
		return NULL;
	action = palloc0(sizeof(WebhookAction));
	action->action_id = row->action_id;
	action->workflow_id = row->workflow_id;
	action->title = row->title;
	action->module = row->module;
	action->module_name = get_rel_name(row->module);
	if (action->module_name == NULL)
		action->module_name = pstrdup("record");	/* it has just been dropped */
	action->owner = row->owner;
	action->enabled = row->enabled;
	action->method = row->method;
	/* A superuser may have written into the table what would be refused here. */
	webhook_action_check_values(row);
	action->url_template = webhook_template_parse(row->url, "URL");
	action->payload = webhook_payload_compile(row->parameters,
											  webhook_content_type(row->content_type));
	webhook_header_parse(row->headers, &action->header_names,
						 &action->header_templates);
	action->username = row->username;
	action->password = row->password;
	action->signing_secret = row->signing_secret;
	action->old_secrets = row->old_secrets;
	action->client_certificate = row->client_certificate;
	if (row->timeout != NULL)
		action->timeout = webhook_duration_microseconds(row->timeout) / 1000;
	compile_schedule(action, row->retry_schedule);
	action->ordered = row->ordered;
	action->max_in_flight = row->max_in_flight;
	action->rate_limit = row->rate_limit;
	action->computed = row->computed;
	return action;
}

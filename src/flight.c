/*-------------------------------------------------------------------------
 *
 * flight.c
 *	  One claimed delivery, until it is settled: a request is made of it and
 *	  sent, and what the answer makes of the delivery is noted.
 *
 * A flight has a memory context of its own, so that all of it goes at once
 * when the log has been told, in whatever order flights end.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "flight.h"
#include "settings.h"
#include "subtransaction.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#define MAX_RETRY_AFTER (24 * 60 * 60)	/* seconds */

static ResourceOwner sending_owner = NULL;	/* signing needs one */

void
webhook_flight_init(void)
{
	sending_owner = ResourceOwnerCreate(NULL, "webhook sender");
}

WebhookFlight *
webhook_flight_make(int32 action_id, const WebhookDelivery *delivery)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "webhook flight",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	WebhookFlight *flight = palloc0(sizeof(WebhookFlight));

	flight->context = context;
	flight->webhook_id = pstrdup(delivery->webhook_id);
	flight->result.action_id = action_id;
	flight->result.log_id = delivery->log_id;
	flight->result.tid = delivery->tid;
	flight->result.ordered = delivery->ordered;
	flight->result.record_id = delivery->record_id ? pstrdup(delivery->record_id) : NULL;
	flight->result.attempts = delivery->attempts;
	flight->result.retries = delivery->retries;
	MemoryContextSwitchTo(old);
	return flight;
}

typedef struct RenderArguments
{
	WebhookFlight *flight;
	WebhookAction *action;
	const WebhookDelivery *delivery;
} RenderArguments;

static void
render(void *arg)
{
	RenderArguments *args = arg;
	const WebhookDelivery *delivery = args->delivery;
	WebhookEvent event;

	event.record = delivery->record;
	event.old_record = delivery->old_record;
	event.computed = delivery->computed;
	event.webhook_id = delivery->webhook_id;
	event.operation = delivery->operation;
	event.module = args->action->module_name;
	event.record_id = delivery->record_id;
	event.attempt = delivery->attempts + 1;
	event.timestamp = delivery->queued_at;
	args->flight->request = webhook_request_render(args->action, &event);
}

/*
 * Where the server's encoding is UTF-8 rendering touches no catalog and is done
 * outside any transaction; else there is one, and the row has a subtransaction of
 * its own.
 */
ErrorData *
webhook_flight_render(WebhookFlight *flight, WebhookAction *action,
					  const WebhookDelivery *delivery)
{
	RenderArguments args = {flight, action, delivery};
	MemoryContext old = MemoryContextSwitchTo(flight->context);
	ErrorData  *error = webhook_subtransaction_call(render, &args, NULL);

	MemoryContextSwitchTo(old);
	return error;
}

/* The path of an action's client certificate; NULL: none. */
static char *
get_certificate_path(const WebhookAction *action)
{
	if (action->client_certificate == NULL)
		return NULL;
	return psprintf("%s/%s", webhook_certificate_directory,
					action->client_certificate);
}

void
webhook_flight_send(WebhookFlight *flight, WebhookAction *action, TimestampTz now)
{
	WebhookRequest *request = flight->request;
	WebhookSend *send = &flight->send;
	MemoryContext old = MemoryContextSwitchTo(flight->context);
	ResourceOwner old_owner = CurrentResourceOwner;
	ListCell   *lc;
	int			n = 0;

	/* No transaction is open, and PostgreSQL's HMAC asks for an owner. */
	CurrentResourceOwner = sending_owner;
	webhook_request_stamp(request, action, flight->webhook_id, now);
	CurrentResourceOwner = old_owner;

	send->context = flight->context;
	send->owner = flight;
	send->method = request->method;
	send->url = request->url;
	send->headers = palloc((list_length(request->headers) + 1) * sizeof(char *));
	foreach(lc, request->headers)
	{
		WebhookHeader *header = lfirst(lc);

		send->headers[n++] = psprintf("%s: %s", header->name, header->value);
	}
	send->headers[n] = NULL;
	/* The action may be loaded anew before the answer is there. */
	if (action->username != NULL)
	{
		send->username = pstrdup(action->username);
		send->password = pstrdup(action->password == NULL ? "" : action->password);
	}
	send->client_certificate = get_certificate_path(action);
	send->body = request->body;
	send->body_len = request->body_len;
	send->timeout = action->timeout > 0 ? action->timeout : webhook_timeout;
	send->connect_timeout = webhook_connect_timeout;
	send->response_limit = webhook_log_response_size;
	MemoryContextSwitchTo(old);

	webhook_sender_send(send);
}

void
webhook_flight_end(WebhookFlight *flight, WebhookVerdict verdict, char *error)
{
	flight->result.verdict = verdict;
	flight->result.retry_at = 0;
	flight->result.error = error;
}

/* When a failed delivery is tried again; 0: never. */
static TimestampTz
schedule_retry(const WebhookFlight *flight, const WebhookAction *action,
			   TimestampTz now)
{
	int			n = webhook_default_schedule->n_delays;
	const int64 *delays = webhook_default_schedule->delays;
	TimestampTz retry_at;

	if (flight->send.http_status == 410)
		return 0;				/* Standard Webhooks: gone for good */
	if (action != NULL && action->n_retries >= 0)
	{
		n = action->n_retries;
		delays = action->retry_delays;
	}
	if (flight->result.retries >= n)
		return 0;
	retry_at = now + delays[flight->result.retries];
	if (flight->send.retry_after > 0)
		retry_at = Max(retry_at, now + USECS_PER_SEC *
					   Min(flight->send.retry_after, MAX_RETRY_AFTER));
	return retry_at;
}

void
webhook_flight_judge(WebhookFlight *flight, const WebhookAction *action,
					 TimestampTz now)
{
	const WebhookSend *send = &flight->send;
	WebhookResult *result = &flight->result;

	webhook_flight_end(flight, send->error == NULL ? WEBHOOK_SUCCEEDED : WEBHOOK_FAILED,
					   send->error);
	result->resent = send->resent;
	result->attempts += send->resent + 1;
	result->started_at = send->started_at;
	result->duration = send->duration;
	result->http_status = send->http_status;
	if (result->verdict == WEBHOOK_FAILED)
	{
		result->retry_at = schedule_retry(flight, action, now);
		result->retries++;
	}
}

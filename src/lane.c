/*-------------------------------------------------------------------------
 *
 * lane.c
 *	  What a worker holds of each action: where in the queue it is, what it
 *	  has claimed, and what is in flight.
 *
 * Each action has a lane of its own, so that a receiver which hangs takes its
 * own share only.  A lane claims what may be in flight, and beyond that just
 * as much as its receiver takes in a few milliseconds: enough for the network
 * not to wait for the database, and little enough for a delivery to be sent
 * soon after it is claimed.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "durable.h"
#include "lane.h"
#include "settings.h"
#include "shared.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#define MAX_PREFETCH 1000
#define PREFETCH_US 25000		/* claim what is completed in this time */
#define MAX_CLAIM_BYTES (8 * 1024 * 1024)
#define MAX_RETRY_AFTER (24 * 60 * 60)	/* seconds */
#define MAX_LOCAL_PAUSE 60		/* seconds */
#define FEW 2					/* in flight: may go whatever others do */
#define MAX_UNRESOLVED_US USECS_PER_HOUR	/* then it is the receiver's failure */

static HTAB *lanes = NULL;
static dlist_head all_lanes = DLIST_STATIC_INIT(all_lanes);
static ResourceOwner sending_owner = NULL;	/* signing needs one */
static int	total_ready = 0;

void
webhook_lane_init(void)
{
	HASHCTL		info = {0};

	info.keysize = sizeof(int32);
	info.entrysize = sizeof(WebhookLane);
	info.hcxt = TopMemoryContext;
	lanes = hash_create("webhook lanes", 64, &info,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	sending_owner = ResourceOwnerCreate(NULL, "webhook sender");
}

WebhookLane *
webhook_lane_find(int32 action_id)
{
	bool		found;
	WebhookLane *lane = hash_search(lanes, &action_id, HASH_ENTER, &found);

	if (!found)
	{
		memset(lane, 0, sizeof(WebhookLane));
		lane->action_id = action_id;
		lane->cursor.retry_at = DT_NOBEGIN;
		dlist_init(&lane->ready);
		dlist_init(&lane->flying);
		dlist_push_tail(&all_lanes, &lane->node);
	}
	return lane;
}

dlist_head *
webhook_lane_all(void)
{
	return &all_lanes;
}

int
webhook_lane_total_ready(void)
{
	return total_ready;
}

static bool
has_flight(dlist_head *flights, int64 log_id)
{
	dlist_iter	iter;

	dlist_foreach(iter, flights)
	{
		if (dlist_container(WebhookFlight, node, iter.cur)->log_id == log_id)
			return true;
	}
	return false;
}

bool
webhook_lane_holds(int64 log_id)
{
	dlist_iter	iter;

	dlist_foreach(iter, &all_lanes)
	{
		WebhookLane *lane = dlist_container(WebhookLane, node, iter.cur);

		if (has_flight(&lane->ready, log_id) || has_flight(&lane->flying, log_id))
			return true;
	}
	return false;
}

void
webhook_lane_forget_actions(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &all_lanes)
	{
		WebhookLane *lane = dlist_container(WebhookLane, node, iter.cur);

		lane->is_loaded = false;
	}
}

void
webhook_lane_rescan(WebhookLane *lane)
{
	lane->cursor.retry_at = DT_NOBEGIN;
	lane->cursor.log_id = 0;
	lane->has_backlog = true;
	lane->has_future = true;
	list_free_deep(lane->successors);
	lane->successors = NIL;
}

/* Compile the action; what is wrong with it is its own problem only. */
static void
load_action(WebhookLane *lane)
{
	MemoryContext old = MemoryContextSwitchTo(lane->context);
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		WebhookAction *action = webhook_action_load(lane->action_id);

		if (action != NULL && action->username != NULL)
			action->username = webhook_utf8(action->username,
											strlen(action->username));
		if (action != NULL && action->password != NULL)
			action->password = webhook_utf8(action->password,
											strlen(action->password));
		lane->action = action;
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		lane->action = NULL;
		lane->problem = psprintf("the action can't be carried out: %s",
								 error->message);
	}
	PG_END_TRY();
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(old);
}

bool
webhook_lane_load(WebhookLane *lane)
{
	if (!lane->is_loaded)
	{
		if (lane->context == NULL)
			lane->context = AllocSetContextCreate(TopMemoryContext,
												  "webhook action",
												  ALLOCSET_SMALL_SIZES);
		MemoryContextReset(lane->context);
		lane->action = NULL;
		lane->problem = NULL;
		load_action(lane);
		lane->is_loaded = true;
	}
	return lane->problem != NULL ||
		(lane->action != NULL && lane->action->enabled);
}

static int
get_limit(const WebhookLane *lane)
{
	if (lane->action != NULL && lane->action->max_in_flight > 0)
		return lane->action->max_in_flight;
	return webhook_max_in_flight_per_action;
}

int
webhook_lane_appetite(WebhookLane *lane, int budget)
{
	int			prefetch = lane->prefetch;
	int			appetite;

	if (!lane->has_backlog)
		return 0;

	/* Claim seldom and much rather than often and little. */
	if (lane->n_ready > prefetch / 2)
		return 0;
	if (lane->action != NULL && lane->action->rate_limit > 0)
		prefetch = Min(prefetch, lane->action->rate_limit / 40 + 1);
	appetite = Max(get_limit(lane) - lane->in_flight, 0) + prefetch - lane->n_ready;
	if (lane->action != NULL && lane->action->rate_limit > 0)
		appetite = Min(appetite, prefetch + 1 - lane->n_ready);
	if (lane->average_size > 0)
		appetite = Min(appetite,
					   Max((int) (MAX_CLAIM_BYTES / lane->average_size) -
						   lane->n_ready, 0));
	return Max(Min(appetite, budget), 0);
}

void
webhook_lane_adapt(WebhookLane *lane, int64 elapsed_us)
{
	int64		pace = (int64) lane->completed * PREFETCH_US / Max(elapsed_us, 1000);

	/* Up at once, down slowly. */
	if (pace > lane->prefetch)
		lane->prefetch = Min(pace, MAX_PREFETCH);
	else
		lane->prefetch = (lane->prefetch * 3 + pace) / 4;
	lane->completed = 0;
}

/* ---------------------------------------------------------------------
 * From a delivery to a request
 * ---------------------------------------------------------------------
 */

static void
render(WebhookFlight *flight, const WebhookDelivery *delivery)
{
	WebhookLane *lane = flight->lane;
	WebhookEvent event;

	event.record = delivery->record;
	event.old_record = delivery->old_record;
	event.computed = delivery->computed;
	event.webhook_id = delivery->webhook_id;
	event.operation = delivery->operation;
	event.module = lane->action->module_name;
	event.record_id = delivery->record_id;
	event.attempt = delivery->attempts + 1;
	event.timestamp = delivery->queued_at;
	flight->request = webhook_request_render(lane->action, &event);
}

/*
 * Render, and turn an error into text.  Where the server's encoding is UTF-8
 * rendering touches no catalog and is done outside any transaction; else
 * there is one, and the row has a subtransaction of its own.
 */
static char *
render_guarded(WebhookFlight *flight, const WebhookDelivery *delivery)
{
	bool		in_transaction = IsTransactionState();
	ResourceOwner owner = CurrentResourceOwner;
	char	   *volatile problem = NULL;

	if (in_transaction)
		BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(flight->context);
	PG_TRY();
	{
		render(flight, delivery);
		if (in_transaction)
			ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(flight->context);
		error = CopyErrorData();
		FlushErrorState();
		if (in_transaction)
			RollbackAndReleaseCurrentSubTransaction();
		problem = error->message;
		flight->request = NULL;
	}
	PG_END_TRY();
	CurrentResourceOwner = owner;
	return problem;
}

static void
fill_result(WebhookFlight *flight, WebhookVerdict verdict, char *error)
{
	WebhookResult *result = &flight->result;

	result->verdict = verdict;
	result->log_id = flight->log_id;
	result->tid = flight->tid;
	result->action_id = flight->lane->action_id;
	result->ordered = flight->ordered;
	result->record_id = flight->record_id;
	result->attempts = flight->attempts;
	result->retries = flight->retries;
	result->retry_at = 0;
	result->error = error;
}

WebhookFlight *
webhook_lane_add(WebhookLane *lane, const WebhookDelivery *delivery)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext context;
	WebhookFlight *flight;
	char	   *problem = lane->problem;
	Size		size = 64;

	context = AllocSetContextCreate(TopMemoryContext, "webhook flight",
									ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(context);
	flight = palloc0(sizeof(WebhookFlight));
	flight->context = context;
	flight->lane = lane;
	flight->log_id = delivery->log_id;
	flight->tid = delivery->tid;
	flight->ordered = delivery->ordered;
	flight->webhook_id = pstrdup(delivery->webhook_id);
	flight->record_id = delivery->record_id ? pstrdup(delivery->record_id) : NULL;
	flight->attempts = delivery->attempts;
	flight->retries = delivery->retries;

	if (delivery->record != NULL)
		size += VARSIZE(delivery->record);
	if (delivery->old_record != NULL)
		size += VARSIZE(delivery->old_record);
	lane->average_size = lane->average_size == 0 ? size :
		(lane->average_size * 7 + size) / 8;

	if (problem == NULL)
		problem = render_guarded(flight, delivery);
	MemoryContextSwitchTo(old);
	if (problem != NULL)
	{
		fill_result(flight, WEBHOOK_UNSENDABLE, problem);
		return flight;
	}
	dlist_push_tail(&lane->ready, &flight->node);
	lane->n_ready++;
	total_ready++;
	return NULL;
}

/* ---------------------------------------------------------------------
 * Sending
 * ---------------------------------------------------------------------
 */

/* The path of an action's client certificate; NULL: none. */
static char *
get_certificate_path(const WebhookAction *action)
{
	if (action->client_certificate == NULL)
		return NULL;
	return psprintf("%s/%s", webhook_certificate_directory,
					action->client_certificate);
}

static void
send_flight(WebhookFlight *flight, TimestampTz now)
{
	WebhookLane *lane = flight->lane;
	WebhookAction *action = lane->action;
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
	if (action->username != NULL)
	{
		send->username = action->username;
		send->password = action->password == NULL ? "" : action->password;
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

/*
 * May a lane have one more in flight, with what others may come to need?  What
 * hangs holds its place until it times out, and many receivers can hang at
 * once.  So lanes leave an eighth to those that have next to nothing in flight,
 * and half if theirs has just timed out.  One that is alone may have all.
 */
static bool
has_share(const WebhookLane *lane, int max_in_flight)
{
	int			in_flight = webhook_sender_in_flight();

	if (lane->in_flight >= FEW && lane->in_flight < in_flight)
		max_in_flight -= max_in_flight / (lane->is_suspect ? 2 : 8);
	return in_flight < max_in_flight;
}

/* Send the first ready delivery of a lane if it may go now. */
static bool
dispatch_one(WebhookLane *lane, TimestampTz now, TimestampTz *next)
{
	WebhookFlight *flight;
	TimestampTz moment;

	if (lane->n_ready == 0 || lane->action == NULL)
		return false;
	if (!webhook_shared_acquire(lane->action_id, get_limit(lane),
								lane->action->rate_limit, now, &moment))
	{
		if (moment != 0 && (*next == 0 || moment < *next))
			*next = moment;
		return false;
	}

	flight = dlist_head_element(WebhookFlight, node, &lane->ready);
	dlist_delete(&flight->node);
	lane->n_ready--;
	total_ready--;
	lane->in_flight++;
	dlist_push_tail(&lane->flying, &flight->node);
	send_flight(flight, now);
	return true;
}

static TimestampTz
dispatch(int max_in_flight)
{
	TimestampTz next = 0;
	TimestampTz now = GetCurrentTimestamp();
	bool		is_moving = true;

	/* One of each lane in turn, so that none waits for another. */
	while (is_moving && total_ready > 0)
	{
		dlist_iter	iter;

		is_moving = false;
		dlist_foreach(iter, &all_lanes)
		{
			WebhookLane *lane = dlist_container(WebhookLane, node, iter.cur);

			if (has_share(lane, max_in_flight) &&
				dispatch_one(lane, now, &next))
				is_moving = true;
		}
	}
	return next;
}

TimestampTz
webhook_lane_dispatch(int max_in_flight)
{
	TimestampTz next;

	if (total_ready == 0 || !webhook_durable_is_reached())
		return 0;
	next = dispatch(max_in_flight);
	webhook_sender_start_all();
	return next;
}

/* ---------------------------------------------------------------------
 * Answers
 * ---------------------------------------------------------------------
 */

/* When a failed delivery is tried again; 0: never. */
static TimestampTz
schedule_retry(const WebhookFlight *flight, TimestampTz now)
{
	const WebhookAction *action = flight->lane->action;
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
	if (flight->retries >= n)
		return 0;
	retry_at = now + delays[flight->retries];
	if (flight->send.retry_after > 0)
		retry_at = Max(retry_at, now + USECS_PER_SEC *
					   Min(flight->send.retry_after, MAX_RETRY_AFTER));
	return retry_at;
}

/* It was not the receiver's failure: no attempt, and soon again. */
static void
release_after_local_failure(WebhookFlight *flight)
{
	WebhookLane *lane = flight->lane;
	TimestampTz now = GetCurrentTimestamp();
	int			pause = 1;

	if (lane->local_failures == 0)
		lane->local_failure_since = now;

	/* What fails in one go is one failure. */
	if (now >= lane->local_failure_at + USECS_PER_SEC / 2)
		lane->local_failures++;
	lane->local_failure_at = now;
	for (int i = 1; i < lane->local_failures && pause < MAX_LOCAL_PAUSE; i++)
		pause *= 2;
	fill_result(flight, WEBHOOK_RELEASED, flight->send.error);
	flight->result.retry_at = now +
		Min(pause, MAX_LOCAL_PAUSE) * USECS_PER_SEC;
}

WebhookFlight *
webhook_lane_finish(void)
{
	WebhookSend *send = webhook_sender_done();
	WebhookFlight *flight;
	WebhookResult *result;
	TimestampTz now;

	if (send == NULL)
		return NULL;
	flight = send->owner;
	dlist_delete(&flight->node);
	flight->lane->in_flight--;
	flight->lane->completed++;
	webhook_shared_release(flight->lane->action_id);

	flight->lane->is_suspect = send->outcome == WEBHOOK_UNANSWERED &&
		send->duration >= send->timeout * INT64CONST(1000);

	now = GetCurrentTimestamp();
	if (send->outcome == WEBHOOK_LOCAL_FAILURE ||
		(send->outcome == WEBHOOK_UNRESOLVED &&
		 (flight->lane->local_failures == 0 ||
		  now < flight->lane->local_failure_since + MAX_UNRESOLVED_US)))
	{
		release_after_local_failure(flight);
		return flight;
	}
	if (send->outcome != WEBHOOK_UNRESOLVED)
		flight->lane->local_failures = 0;
	fill_result(flight, send->error == NULL ? WEBHOOK_SUCCEEDED : WEBHOOK_FAILED,
				send->error);
	result = &flight->result;
	result->resent = send->resent;
	result->attempts = flight->attempts + send->resent + 1;
	result->started_at = send->started_at;
	result->duration = send->duration;
	result->http_status = send->http_status;
	if (result->verdict == WEBHOOK_FAILED)
	{
		result->retry_at = schedule_retry(flight, now);
		result->retries = flight->retries + 1;
	}
	return flight;
}

static List *
release_flights(dlist_head *flights, List *released)
{
	TimestampTz now = GetCurrentTimestamp();
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, flights)
	{
		WebhookFlight *flight = dlist_container(WebhookFlight, node, iter.cur);

		dlist_delete(&flight->node);
		fill_result(flight, WEBHOOK_RELEASED, NULL);
		flight->result.retry_at = now;
		released = lappend(released, flight);
	}
	return released;
}

List *
webhook_lane_release(bool also_in_flight)
{
	List	   *released = NIL;
	dlist_iter	iter;

	dlist_foreach(iter, &all_lanes)
	{
		WebhookLane *lane = dlist_container(WebhookLane, node, iter.cur);

		released = release_flights(&lane->ready, released);
		total_ready -= lane->n_ready;
		lane->n_ready = 0;
		if (also_in_flight)
		{
			for (int i = 0; i < lane->in_flight; i++)
				webhook_shared_release(lane->action_id);
			lane->in_flight = 0;
			released = release_flights(&lane->flying, released);
		}
	}
	return released;
}

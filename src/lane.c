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

#include "durable.h"
#include "lane.h"
#include "pace.h"
#include "places.h"
#include "settings.h"
#include "shared_action.h"
#include "slot.h"
#include "storage/ipc.h"
#include "subtransaction.h"
#include "text.h"
#include "trouble.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MAX_PREFETCH 1000
#define PREFETCH_US INT64CONST(25000)	/* claim what is completed in this time */
#define MAX_LOCAL_PAUSE 60		/* seconds */
#define MAX_UNRESOLVED_US USECS_PER_HOUR	/* then it is the receiver's failure */

static HTAB *lanes = NULL;
static dlist_head all_lanes = DLIST_STATIC_INIT(all_lanes);

/* However the worker ends, what it had in flight takes no others' places. */
static void
on_exit_process(int code, Datum arg)
{
	dlist_iter	iter;

	dlist_foreach(iter, &all_lanes)
	{
		WebhookLane *lane = dlist_container(WebhookLane, node, iter.cur);

		for (; lane->in_flight > 0; lane->in_flight--)
			webhook_shared_action_release(lane->action_id);
	}
}

void
webhook_lane_init(void)
{
	HASHCTL		info = {0};

	info.keysize = sizeof(int32);
	info.entrysize = sizeof(WebhookLane);
	info.hcxt = TopMemoryContext;
	lanes = hash_create("webhook lanes", 64, &info,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	webhook_flight_init();
	before_shmem_exit(on_exit_process, (Datum) 0);
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
		lane->cursor.passed_over = DT_NOEND;
		lane->next_due = DT_NOEND;
		lane->look_again_at = DT_NOEND;
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

static bool
has_flight(dlist_head *flights, int64 log_id)
{
	dlist_iter	iter;

	dlist_foreach(iter, flights)
	{
		if (dlist_container(WebhookFlight, node, iter.cur)->result.log_id == log_id)
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

/*
 * Actions by the thousand may have sent something some time.  What a lane knows
 * of a receiver that has answered is out of date after a while; of one that has
 * hung it is worth keeping.
 */
bool
webhook_lane_is_idle(const WebhookLane *lane, TimestampTz now)
{
	return lane->n_flights == 0 && lane->successors == NIL &&
		lane->held == NIL && !lane->has_backlog && !lane->has_future &&
		lane->look_again_at == DT_NOEND && webhook_places_is_forgotten(lane, now);
}

void
webhook_lane_drop(WebhookLane *lane)
{
	if (lane->n_flights > 0 || lane->has_backlog)
		return;
	list_free_deep(lane->successors);
	list_free_deep(lane->held);
	if (lane->context != NULL)
		MemoryContextDelete(lane->context);
	dlist_delete(&lane->node);
	(void) hash_search(lanes, &lane->action_id, HASH_REMOVE, NULL);
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

/* Just in front of what is due then. */
static void
place_cursor(WebhookCursor *cursor, TimestampTz retry_at)
{
	bool		is_first = TIMESTAMP_IS_NOBEGIN(retry_at);

	cursor->retry_at = is_first ? retry_at : retry_at - 1;
	cursor->log_id = is_first ? 0 : PG_INT64_MAX;
}

void
webhook_lane_restart(WebhookLane *lane, TimestampTz first)
{
	place_cursor(&lane->cursor, first);
	lane->has_backlog = true;
	lane->has_future = true;
	list_free_deep(lane->successors);
	lane->successors = NIL;
}

void
webhook_lane_look_at(WebhookLane *lane, TimestampTz retry_at)
{
	if (retry_at <= lane->cursor.retry_at)
		place_cursor(&lane->cursor, retry_at);
	lane->has_backlog = true;
}

/*
 * Does an error say nothing of the action, or of the delivery, but that a table is
 * locked, or memory short?
 */
static bool
is_passing(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_TRANSACTION_ROLLBACK:
			return true;
		default:
			return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	}
}

static void
compile_action(void *arg)
{
	WebhookLane *lane = arg;
	WebhookAction *action = webhook_action_load(lane->action_id);

	if (action != NULL && action->username != NULL)
		action->username = webhook_utf8(action->username,
										strlen(action->username));
	if (action != NULL && action->password != NULL)
		action->password = webhook_utf8(action->password,
										strlen(action->password));
	lane->action = action;
}

/*
 * Compile the action; what is wrong with it is its own problem only.  What is
 * wrong with the moment must fail no delivery: the turn is taken again.
 */
static void
load_action(WebhookLane *lane)
{
	MemoryContext old = MemoryContextSwitchTo(lane->context);
	ErrorData  *error = webhook_subtransaction_call(compile_action, lane, NULL);

	if (error != NULL)
	{
		if (is_passing(error))
			ReThrowError(error);
		lane->action = NULL;
		lane->problem = psprintf("the action can't be carried out: %s",
								 error->message);
	}
	MemoryContextSwitchTo(old);
}

/* Is there an action, which is enabled, be it one that can't be compiled? */
static bool
may_send(const WebhookLane *lane)
{
	return lane->is_loaded &&
		(lane->problem != NULL || (lane->action != NULL && lane->action->enabled));
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
	return may_send(lane);
}

static int
get_limit(const WebhookLane *lane)
{
	if (lane->action != NULL && lane->action->max_in_flight > 0)
		return lane->action->max_in_flight;
	return webhook_max_in_flight_per_action;
}

/*
 * What waits for its turn can be canceled as long as it is not claimed.  Of several
 * workers, the next one claims only where the one before has not sent.
 */
TimestampTz
webhook_lane_claim_at(const WebhookLane *lane, TimestampTz now)
{
	int			rate = lane->action == NULL ? 0 : lane->action->rate_limit;

	if (rate == 0 || rate * PREFETCH_US >= USECS_PER_SEC)
		return now;
	return webhook_shared_action_moment(lane->action_id, rate, now) +
		(2 * webhook_slot_number() - 1) * PREFETCH_US;
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
		prefetch = Min(prefetch, (int) (lane->action->rate_limit * PREFETCH_US / USECS_PER_SEC));
	appetite = Max(get_limit(lane) - lane->in_flight, 0) + prefetch - lane->n_ready;
	if (lane->action != NULL && lane->action->rate_limit > 0)
		appetite = Min(appetite, prefetch + 1 - lane->n_ready);
	/* However large records are, they go one by one. */
	if (lane->average_size > 0)
		appetite = Min(appetite,
					   Max((int) (WEBHOOK_MAX_CLAIM_SIZE / lane->average_size), 1) -
					   lane->n_ready);
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

void
webhook_lane_free(WebhookFlight *flight)
{
	flight->lane->n_flights--;
	MemoryContextDelete(flight->context);
}

/* It was not the receiver's failure: no attempt, and soon again. */
static void
release_after_local_failure(WebhookFlight *flight, char *error)
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
	webhook_flight_end(flight, WEBHOOK_RELEASED, error);
	flight->result.retry_at = now +
		Min(pause, MAX_LOCAL_PAUSE) * USECS_PER_SEC;
}

WebhookFlight *
webhook_lane_add(WebhookLane *lane, const WebhookDelivery *delivery)
{
	WebhookFlight *flight = webhook_flight_make(lane->action_id, delivery);
	ErrorData  *error;
	Size		size = 64 + webhook_delivery_size(delivery);

	flight->lane = lane;
	lane->n_flights++;
	lane->average_size = lane->average_size == 0 ? size :
		(lane->average_size * 7 + size) / 8;

	/* Somebody has made it another action's since it was looked for: that one claims it. */
	if (!may_send(lane))
	{
		webhook_flight_end(flight, WEBHOOK_RELEASED, NULL);
		flight->result.retry_at = GetCurrentTimestamp();
		return flight;
	}

	/* The action may be loaded anew before the log has been told. */
	if (lane->problem != NULL)
	{
		webhook_flight_end(flight, WEBHOOK_UNSENDABLE,
						   MemoryContextStrdup(flight->context, lane->problem));
		return flight;
	}
	error = webhook_flight_render(flight, lane->action, delivery);
	if (error != NULL && is_passing(error))
	{
		webhook_trouble_note(error->message);
		release_after_local_failure(flight, error->message);
		return flight;
	}
	if (error != NULL)
	{
		webhook_flight_end(flight, WEBHOOK_UNSENDABLE, error->message);
		return flight;
	}
	dlist_push_tail(&lane->ready, &flight->node);
	webhook_places_count_ready(lane, 1);
	return NULL;
}

/* ---------------------------------------------------------------------
 * Sending
 * ---------------------------------------------------------------------
 */

/* Send the first ready delivery of a lane if it may go now. */
static bool
dispatch_one(WebhookLane *lane, TimestampTz now, TimestampTz *next)
{
	WebhookFlight *flight;
	TimestampTz moment;

	if (lane->action == NULL)
		return false;
	if (!webhook_shared_action_acquire(lane->action_id, get_limit(lane),
									   lane->action->rate_limit, now, &moment))
	{
		*next = Min(*next, moment);
		return false;
	}

	flight = dlist_head_element(WebhookFlight, node, &lane->ready);
	dlist_delete(&flight->node);
	webhook_places_count_ready(lane, -1);
	webhook_places_count(lane, 1);
	dlist_push_tail(&lane->flying, &flight->node);
	webhook_flight_send(flight, lane->action, now);
	return true;
}

static TimestampTz
dispatch(int max_in_flight)
{
	TimestampTz next = DT_NOEND;
	TimestampTz now = GetCurrentTimestamp();
	bool		is_moving = true;
	dlist_iter	iter;

	/* One of each lane in turn, so that none waits for another. */
	while (is_moving && webhook_places_total_ready() > 0)
	{
		is_moving = false;
		dlist_foreach(iter, &all_lanes)
		{
			WebhookLane *lane = dlist_container(WebhookLane, node, iter.cur);

			if (lane->n_ready > 0 && webhook_places_has(lane, max_in_flight) &&
				webhook_pace_allows(lane, now, &next) &&
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

	if (webhook_places_total_ready() == 0 || !webhook_durable_is_reached())
		return DT_NOEND;
	next = dispatch(max_in_flight);
	webhook_sender_start_all();
	return next;
}

/* ---------------------------------------------------------------------
 * Answers
 * ---------------------------------------------------------------------
 */

/* Has its receiver held a place for nothing, be it that it can't be reached? */
static bool
has_hung(const WebhookSend *send)
{
	return (send->outcome == WEBHOOK_UNANSWERED ||
			send->outcome == WEBHOOK_UNRESOLVED) &&
		send->duration >= Min(send->timeout, send->connect_timeout) * INT64CONST(1000);
}

WebhookFlight *
webhook_lane_finish(void)
{
	WebhookSend *send = webhook_sender_done();
	WebhookFlight *flight;
	TimestampTz now;

	if (send == NULL)
		return NULL;
	flight = send->owner;
	dlist_delete(&flight->node);
	webhook_places_count(flight->lane, -1);
	flight->lane->completed++;
	webhook_shared_action_release(flight->lane->action_id);

	now = GetCurrentTimestamp();
	webhook_pace_note(flight->lane, send, now);
	webhook_places_note(flight->lane, has_hung(send), now);
	if (send->outcome == WEBHOOK_LOCAL_FAILURE || send->outcome == WEBHOOK_PROXY_FAILURE)
		webhook_trouble_note(send->error);
	else if (send->outcome != WEBHOOK_UNRESOLVED)
		webhook_trouble_end();
	if (send->outcome == WEBHOOK_LOCAL_FAILURE || send->outcome == WEBHOOK_PROXY_FAILURE ||
		(send->outcome == WEBHOOK_UNRESOLVED &&
		 (flight->lane->local_failures == 0 ||
		  now < flight->lane->local_failure_since + MAX_UNRESOLVED_US)))
	{
		release_after_local_failure(flight, send->error);
		return flight;
	}
	if (send->outcome != WEBHOOK_UNRESOLVED)
		flight->lane->local_failures = 0;
	webhook_flight_judge(flight, flight->lane->action, now);
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
		webhook_flight_end(flight, WEBHOOK_RELEASED, NULL);
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
		webhook_places_count_ready(lane, -lane->n_ready);
		if (also_in_flight)
		{
			for (int i = 0; i < lane->in_flight; i++)
				webhook_shared_action_release(lane->action_id);
			webhook_places_count(lane, -lane->in_flight);
			released = release_flights(&lane->flying, released);
		}
	}
	return released;
}

/*-------------------------------------------------------------------------
 *
 * pace.c
 *	  How soon a lane has as many requests in flight as it may.
 *
 * A receiver has a queue of connections that it has yet to accept, and that of many
 * a program is for five.  What finds it full is tried again by TCP after a second,
 * then two more, four more: a burst that meets such a receiver with all at once
 * waits for seconds, and some of it times out.  So a lane begins with few, and
 * widens, as TCP itself does, by what its receiver shows that it takes, one more in
 * two milliseconds:
 *
 *		by half with every round of requests that went by connections which were
 *		there already, for those have been accepted, or that took hardly longer than
 *		the best one lately, for those waited for no others;
 *		by one with every four rounds of others;
 *		and steadily where nothing is answered for a while: a receiver that takes its
 *		time.
 *
 * Where a queue was full it becomes half as wide, and is kept below what it was for
 * some seconds.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "pace.h"

#define FEW 2					/* three actions with one receiver: six */
#define STEP_US 2000			/* from one more to the next */
#define IDLE_US USECS_PER_SEC	/* after which connections may have gone */
#define SLOW_US (USECS_PER_SEC / 10)	/* without an answer: a slow receiver */
#define FULL_US USECS_PER_SEC	/* TCP's wait for a queue that was full */
#define LATELY_US (10 * USECS_PER_SEC)
#define SLOW_ROUNDS 4

/* What one more costs of the receiver's credit. */
static int
get_price(const WebhookLane *lane)
{
	return SLOW_ROUNDS * lane->width;
}

/* May it be made wider by what was answered? */
static bool
has_credit(const WebhookLane *lane, TimestampTz now)
{
	return lane->in_flight == lane->width && lane->credit >= get_price(lane) &&
		(lane->width + 1 < lane->full_width || now >= lane->full_at + LATELY_US);
}

bool
webhook_pace_allows(WebhookLane *lane, TimestampTz now, TimestampTz *next)
{
	TimestampTz moment;

	if (lane->in_flight == 0 && now >= lane->ended_at + IDLE_US)
	{
		lane->width = FEW;
		lane->credit = 0;
	}
	if (lane->in_flight < lane->width)
		return true;

	/* The clock may have been turned back. */
	lane->widened_at = Min(lane->widened_at, now);
	lane->full_at = Min(lane->full_at, now);
	moment = lane->widened_at + STEP_US;
	if (has_credit(lane, now))
	{
		if (now >= moment)
			lane->credit -= get_price(lane);
	}
	else
	{
		WebhookFlight *oldest = dlist_head_element(WebhookFlight, node, &lane->flying);
		TimestampTz silent_since = Max(lane->ended_at, oldest->send.started_at);

		moment = Max(moment, silent_since + SLOW_US);
	}
	if (now < moment)
	{
		*next = Min(*next, moment);
		return false;
	}
	lane->width = lane->in_flight + 1;
	lane->widened_at = now;
	return true;
}

/* What took the time of a connection of its own: was it hardly more than need be? */
static bool
is_prompt(WebhookLane *lane, int64 duration, TimestampTz now)
{
	if (lane->best_duration == 0 || duration < lane->best_duration ||
		now >= lane->best_at + LATELY_US)
	{
		lane->best_duration = Max(duration, 1);
		lane->best_at = now;
	}
	return duration < lane->best_duration * 3 / 2;
}

/* The receiver's queue was full; so are several requests told that met it. */
static void
narrow(WebhookLane *lane, TimestampTz now)
{
	if (now >= lane->full_at + FULL_US)
	{
		lane->full_width = lane->width;
		lane->width = Max(lane->width / 2, FEW);
	}
	lane->full_at = now;
	lane->credit = 0;
}

void
webhook_pace_note(WebhookLane *lane, const WebhookSend *send, TimestampTz now)
{
	int			most = get_price(lane) * lane->width / 2;

	if (send->outcome != WEBHOOK_ANSWERED)
		return;
	if (send->connect_time >= FULL_US)
	{
		narrow(lane, now);
		return;
	}
	if (send->connect_time == 0 || is_prompt(lane, send->duration, now))
		lane->credit += get_price(lane) / 2;
	else
		lane->credit++;
	lane->credit = Min(lane->credit, most);
}

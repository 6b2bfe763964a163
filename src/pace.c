/*-------------------------------------------------------------------------
 *
 * pace.c
 *	  How soon a lane has as many requests in flight as it may.
 *
 * A receiver has a queue of connections that it has yet to accept, and that of many
 * a program is for five.  What finds it full is tried again by TCP after a second,
 * then two more, four more: a burst that meets such a receiver with all at once
 * waits for seconds, and some of it times out.  So a lane begins with few, and
 * widens by one
 *
 *		with every few requests that went by connections which were there already:
 *		those have been accepted;
 *		with every two rounds of requests which had connections of their own and
 *		did not wait for others: took hardly longer than the best one lately;
 *		slowly with such as did, or may have;
 *		and steadily where a receiver takes its time to answer any.
 *
 * Where a queue was full, it begins anew.  That is ten round trips for a receiver which keeps connections, and some 0.2 s
 * for one that is slow.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "pace.h"

#define FEW 5					/* that no receiver's queue is too short for */
#define IDLE_US USECS_PER_SEC	/* after which connections may have gone */
#define SLOW_US (USECS_PER_SEC / 10)	/* without an answer: a slow receiver */
#define STEP_US 2000			/* until one more of a slow one's */
#define FULL_US USECS_PER_SEC	/* TCP's wait for a queue that was full */
#define KEPT_PER_STEP 4
#define PROMPT_CREDIT 8			/* of one that waited for others: 1 */
#define LATELY_US (10 * USECS_PER_SEC)

bool
webhook_pace_allows(WebhookLane *lane, TimestampTz now, TimestampTz *next)
{
	WebhookFlight *oldest;
	TimestampTz moment;

	if (lane->in_flight == 0 && now >= lane->ended_at + IDLE_US)
		lane->width = FEW;
	lane->is_held = lane->in_flight >= lane->width;
	if (!lane->is_held)
		return true;

	oldest = dlist_head_element(WebhookFlight, node, &lane->flying);
	moment = Max(Max(lane->ended_at, oldest->send.started_at) + SLOW_US,
				 lane->sent_at + STEP_US);
	if (now >= moment)
	{
		lane->width = lane->in_flight + 1;
		return true;
	}
	*next = Min(*next, moment);
	return false;
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

void
webhook_pace_note(WebhookLane *lane, const WebhookSend *send, TimestampTz now)
{
	int			step = 2 * PROMPT_CREDIT * lane->width;

	if (send->outcome != WEBHOOK_ANSWERED)
		return;
	if (send->connect_time >= FULL_US)
	{
		lane->width = FEW;
		lane->credit = 0;
		return;
	}
	if (send->connect_time == 0)
		lane->credit += step / KEPT_PER_STEP;
	else
		lane->credit += is_prompt(lane, send->duration, now) ? PROMPT_CREDIT : 1;
	if (lane->credit < step)
		return;
	lane->credit = 0;
	if (lane->is_held)
		lane->width++;
}

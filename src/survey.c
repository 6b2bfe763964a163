/*-------------------------------------------------------------------------
 *
 * survey.c
 *	  Where in the queue there is something to send.
 *
 * Commits tell of what they bring, and lanes know when the next delivery falls
 * due.  A survey looks at the queue of every action, from the beginning: when
 * the worker starts, or the configuration changes, when something has come of
 * which nobody knows where it lies, and every half a minute, for what had no
 * commit that tells; less often where it takes long, because somebody holds an
 * old snapshot and what has been sent since can't be removed.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lane.h"
#include "queue.h"
#include "survey.h"

#define INTERVAL_US (30 * USECS_PER_SEC)
#define PAUSE_US (20 * INT64CONST(1000)) /* between those that replication asks for */
#define SHARE 10				/* of the worker's time, a tenth */
#define REGULAR_SHARE 50		/* and of those that nobody asks for, a fiftieth */
#define MAX_PAUSE_US (60 * USECS_PER_SEC)	/* however long one has taken: the clock */
#define MAX_INTERVAL_US (600 * USECS_PER_SEC)	/* may have been set meanwhile */

static bool is_wanted = true;
static TimestampTz last_at = 0;
static TimestampTz looked_at = 0;	/* when it was last asked what there is */
static TimestampTz asked_at = DT_NOEND;	/* of something, nobody knows where */
static int64 pause = PAUSE_US;
static int64 interval = INTERVAL_US;

void
webhook_survey_ask(void)
{
	is_wanted = true;
}

bool
webhook_survey_is_asked(void)
{
	return is_wanted;
}

static TimestampTz
next_survey(void)
{
	if (is_wanted)
		return 0;
	return Min(asked_at, last_at + interval);
}

TimestampTz
webhook_survey_next(void)
{
	return Min(next_survey(), looked_at + INTERVAL_US);
}

/*
 * What came by replication may lie anywhere.  A survey begins at the front of
 * every queue, which may take long while somebody holds an old snapshot: it is
 * not made for every commit.
 */
void
webhook_survey_take_any(WebhookHint *hints, int *n, TimestampTz now)
{
	for (int i = 0; i < *n; i++)
	{
		if (hints[i].action_id == WEBHOOK_ANY_ACTION)
		{
			hints[i] = hints[--(*n)];
			if (asked_at == DT_NOEND)
				asked_at = Max(now, last_at + pause);
			break;
		}
	}
	if (now >= asked_at)
		is_wanted = true;
}

static void
on_action_found(int32 action_id, TimestampTz due, void *arg)
{
	WebhookLane *lane = webhook_lane_find(action_id);

	webhook_lane_restart(lane, due);
	lane->next_due = due;
}

/* What is in the queue of an action that is no more is given up. */
static void
drop_if_gone(WebhookLane *lane)
{
	if (webhook_lane_load(lane) || lane->action != NULL)
		return;
	if (lane->has_backlog || lane->has_future)
		webhook_queue_drop_action(lane->action_id);
	lane->has_backlog = lane->has_future = false;
	lane->next_due = DT_NOEND;
	webhook_lane_drop(lane);
}

/* Look at the queue of every action, from the beginning. */
static void
look_at_all(TimestampTz now)
{
	dlist_mutable_iter iter;

	webhook_queue_survey(on_action_found, NULL);
	dlist_foreach_modify(iter, webhook_lane_all())
	{
		WebhookLane *lane = dlist_container(WebhookLane, node, iter.cur);

		if (lane->next_due != DT_NOEND && lane->next_due > now)
			lane->has_backlog = false;
		/* To know of many thousands whether they are there would take long. */
		if (webhook_lane_is_idle(lane, now))
			webhook_lane_drop(lane);
		else if (lane->has_backlog || lane->has_future ||
				 lane->trust == WEBHOOK_SUSPECT)
			drop_if_gone(lane);
	}
	last_at = now;
}

/* What has fallen due. */
static void
look_at_due(TimestampTz now)
{
	dlist_iter	iter;

	dlist_foreach(iter, webhook_lane_all())
	{
		WebhookLane *lane = dlist_container(WebhookLane, node, iter.cur);

		if (lane->next_due <= now)
		{
			webhook_lane_look_at(lane, lane->next_due);
			lane->has_future = true;
			lane->next_due = DT_NOEND;
		}

		/* Who held its lock, or its record, may have let it go without a change. */
		if (lane->look_again_at <= now)
		{
			webhook_lane_look_at(lane, lane->cursor.passed_over);
			lane->cursor.passed_over = DT_NOEND;
			lane->look_again_at = DT_NOEND;
		}
	}
}

void
webhook_survey_take(const WebhookHint *hints, int n, TimestampTz now)
{
	if (now >= next_survey())
		look_at_all(now);
	is_wanted = false;
	looked_at = now;
	for (int i = 0; i < n; i++)
	{
		WebhookLane *lane = webhook_lane_find(hints[i].action_id);

		webhook_lane_look_at(lane, hints[i].retry_at);
		/* A transaction that began before may end after the action was dropped. */
		drop_if_gone(lane);
	}
	look_at_due(now);
}

void
webhook_survey_skip(TimestampTz now)
{
	last_at = looked_at = now;
	is_wanted = false;
}

void
webhook_survey_commit(TimestampTz now, TimestampTz ended_at)
{
	if (last_at != now)
		return;
	asked_at = DT_NOEND;
	pause = Max(PAUSE_US, (ended_at - now) * (SHARE - 1));
	pause = Min(pause, MAX_PAUSE_US);
	interval = Max(INTERVAL_US, (ended_at - now) * (REGULAR_SHARE - 1));
	interval = Min(interval, MAX_INTERVAL_US);
}

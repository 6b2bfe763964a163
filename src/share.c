/*-------------------------------------------------------------------------
 *
 * share.c
 *	  What a turn claims: of each action its share.
 *
 * What is claimed and not yet sent is bounded, over all lanes.  Of what is free
 * each that wants some gets an equal part, and one that is alone half: others
 * may come.  Where there is not enough for all, those that got nothing come first
 * the next time.
 *
 * What is claimed for a receiver that hangs stays.  So receivers that have not
 * answered lately have no more together than may be in flight, and those whose
 * last request has timed out half of that: be they ever so many, there is room
 * for those at work.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "claim.h"
#include "durable.h"
#include "lane.h"
#include "places.h"
#include "queue.h"
#include "settings.h"
#include "settle.h"
#include "share.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MAX_READY 2000			/* claimed and not yet sent, over all lanes */
#define LARGE 16384				/* bytes of a record, on the average */
#define LOCKED_PAUSE_US USECS_PER_SEC	/* before what was locked is looked at again */
#define MAX_HELD_LOOKS 30		/* then they are left to the survey */

static bool has_backlog = false;	/* some lane may have more to claim */
static TimestampTz next_due_at = DT_NOEND;

/*
 * How many may be claimed now, of all lanes and of those of which so much is
 * known: what can't be settled must not grow.
 */
static int
get_budget(void)
{
	return MAX_READY - webhook_places_total_ready() - webhook_settle_stuck();
}

static int
get_budget_of(WebhookTrust trust)
{
	switch (trust)
	{
		case WEBHOOK_SUSPECT:
			return Max(webhook_max_in_flight / 2, 1) - webhook_places_ready(trust);
		case WEBHOOK_UNPROVEN:
			return webhook_max_in_flight - webhook_places_ready(trust);
		default:
			return MAX_READY;
	}
}

/* Of what is large no more comes while it is settled more slowly than it ends. */
static int
get_appetite(WebhookLane *lane, int budget)
{
	if (lane->average_size >= LARGE && webhook_settle_is_behind())
		return 0;
	return webhook_lane_appetite(lane, budget);
}

static bool
has_held(const WebhookLane *lane)
{
	return lane->held != NIL && lane->held_at <= GetCurrentTimestamp();
}

static bool
has_successors(const WebhookLane *lane)
{
	return lane->successors != NIL || has_held(lane);
}

/* Those that were locked are asked for again. */
static void
take_held(WebhookLane *lane)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	ListCell   *lc;

	foreach(lc, lane->held)
		lane->successors = lappend(lane->successors, lfirst(lc));
	list_free(lane->held);
	lane->held = NIL;
	lane->n_held_looks++;
	MemoryContextSwitchTo(old);
}

static bool
is_among(const List *deliveries, int64 log_id)
{
	ListCell   *lc;

	foreach(lc, deliveries)
	{
		if (((WebhookDelivery *) lfirst(lc))->log_id == log_id)
			return true;
	}
	return false;
}

/* Those that were not claimed are locked, or another worker's by now. */
static void
hold_others(WebhookLane *lane, const List *claimed, TimestampTz now)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	ListCell   *lc;

	if (lane->held == NIL)
		lane->held_at = now + LOCKED_PAUSE_US;
	foreach(lc, lane->successors)
	{
		if (is_among(claimed, ((WebhookSuccessor *) lfirst(lc))->log_id))
			continue;
		lane->held = lappend(lane->held, lfirst(lc));
		lane->successors = foreach_delete_current(lane->successors, lc);
	}
	MemoryContextSwitchTo(old);
}

static List *
claim_successors(WebhookLane *lane, TimestampTz now)
{
	List	   *claimed;

	if (has_held(lane))
		take_held(lane);
	claimed = webhook_claim_successors(lane->successors, now);
	if (list_length(claimed) < list_length(lane->successors) &&
		lane->n_held_looks < MAX_HELD_LOOKS)
		hold_others(lane, claimed, now);
	if (lane->held == NIL)
		lane->n_held_looks = 0;
	list_free_deep(lane->successors);
	lane->successors = NIL;
	return claimed;
}

static bool
is_hungry(const WebhookLane *lane)
{
	return lane->has_backlog || has_successors(lane);
}

static bool
may_claim(const WebhookLane *lane, TimestampTz now)
{
	return is_hungry(lane) && webhook_lane_claim_at(lane, now) <= now;
}

/* One lane's share; its deliveries are appended to claimed. */
static void
claim_lane(WebhookLane *lane, TimestampTz now, int budget, List **claimed)
{
	int			appetite;
	bool		exhausted = false;
	List	   *deliveries = NIL;
	ListCell   *lc;

	if (has_successors(lane) && budget > 0 && webhook_lane_load(lane))
	{
		deliveries = claim_successors(lane, now);
		CommandCounterIncrement();
	}
	appetite = get_appetite(lane, budget - list_length(deliveries));
	if (appetite > 0 && webhook_lane_load(lane))
	{
		deliveries = list_concat(deliveries,
								 webhook_claim_due(lane->action_id,
												   lane->action != NULL &&
												   lane->action->ordered,
												   &lane->cursor, now, appetite,
												   &exhausted));
		CommandCounterIncrement();
	}
	if (lane->cursor.passed_over != DT_NOEND && lane->look_again_at == DT_NOEND)
		lane->look_again_at = now + LOCKED_PAUSE_US;
	if (exhausted)
	{
		lane->has_backlog = false;

		/*
		 * What this turn has recorded may be due already, and lie in front of the
		 * cursor: the next one looks there.
		 */
		if (lane->has_future && lane->next_due > now)
		{
			lane->next_due = webhook_queue_next_due(lane->action_id, now);
			lane->has_future = lane->next_due != DT_NOEND;
		}
	}
	foreach(lc, deliveries)
		*claimed = lappend(*claimed, lfirst(lc));
}

/* Those that got something come last the next time. */
static void
move_served_back(dlist_head *lanes)
{
	dlist_head	served;
	dlist_mutable_iter iter;

	dlist_init(&served);
	dlist_foreach_modify(iter, lanes)
	{
		WebhookLane *lane = dlist_container(WebhookLane, node, iter.cur);

		if (lane->is_served)
		{
			dlist_delete(&lane->node);
			dlist_push_tail(&served, &lane->node);
		}
	}
	while (!dlist_is_empty(&served))
		dlist_push_tail(lanes, dlist_pop_head_node(&served));
}

List *
webhook_share_claim(TimestampTz now)
{
	List	   *claimed = NIL;
	dlist_head *lanes = webhook_lane_all();
	dlist_iter	iter;
	int			n_hungry[WEBHOOK_N_TRUST] = {0};
	int			budgets[WEBHOOK_N_TRUST];

	if (!webhook_enabled || !webhook_durable_is_reached())
		return NIL;
	for (int i = 0; i < WEBHOOK_N_TRUST; i++)
		budgets[i] = get_budget_of(i);
	dlist_foreach(iter, lanes)
	{
		WebhookLane *lane = dlist_container(WebhookLane, node, iter.cur);

		lane->is_served = false;
		webhook_places_review(lane, now);
		if (may_claim(lane, now))
			n_hungry[lane->trust]++;
	}
	dlist_foreach(iter, lanes)
	{
		WebhookLane *lane = dlist_container(WebhookLane, node, iter.cur);
		int			n_before = list_length(claimed);
		int			budget = Min(get_budget() - n_before, budgets[lane->trust]);

		if (!may_claim(lane, now))
			continue;
		if (budget > 0)
			claim_lane(lane, now,
					   Max(budget / Max(n_hungry[lane->trust], 2), 1), &claimed);
		n_hungry[lane->trust]--;
		budgets[lane->trust] -= list_length(claimed) - n_before;
		lane->is_served = list_length(claimed) > n_before;
	}
	move_served_back(lanes);
	return claimed;
}

/* What is due for a disabled action waits for a change of it. */
static bool
is_disabled(const WebhookLane *lane)
{
	return lane->is_loaded && lane->problem == NULL &&
		(lane->action == NULL || !lane->action->enabled);
}

/* When the next thing falls due, and whether somebody could claim more. */
void
webhook_share_plan(void)
{
	dlist_iter	iter;

	next_due_at = DT_NOEND;
	has_backlog = false;
	dlist_foreach(iter, webhook_lane_all())
	{
		WebhookLane *lane = dlist_container(WebhookLane, node, iter.cur);

		if (is_disabled(lane))
			continue;
		if (is_hungry(lane))
			has_backlog = true;
		if (lane->held != NIL && !has_held(lane))
			next_due_at = Min(next_due_at, lane->held_at);
		next_due_at = Min(next_due_at, lane->next_due);
		next_due_at = Min(next_due_at, lane->look_again_at);
	}
}

void
webhook_share_forget(void)
{
	next_due_at = DT_NOEND;
	has_backlog = false;
}

TimestampTz
webhook_share_hungry_at(TimestampTz now)
{
	dlist_iter	iter;
	int			budget = get_budget();
	int			budgets[WEBHOOK_N_TRUST];
	TimestampTz first = DT_NOEND;

	if (!has_backlog || !webhook_enabled || !webhook_durable_is_reached())
		return DT_NOEND;
	for (int i = 0; i < WEBHOOK_N_TRUST; i++)
		budgets[i] = Min(budget, get_budget_of(i));
	dlist_foreach(iter, webhook_lane_all())
	{
		WebhookLane *lane = dlist_container(WebhookLane, node, iter.cur);

		if (is_disabled(lane))
			continue;
		if ((has_successors(lane) && budgets[lane->trust] > 0) ||
			get_appetite(lane, budgets[lane->trust]) > 0)
		{
			TimestampTz claim_at = webhook_lane_claim_at(lane, now);

			first = Min(first, claim_at);
		}
		if (first <= now)
			break;
	}
	return first;
}

bool
webhook_share_has_backlog(void)
{
	return has_backlog;
}

TimestampTz
webhook_share_next_due(void)
{
	return next_due_at;
}

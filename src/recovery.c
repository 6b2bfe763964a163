/*-------------------------------------------------------------------------
 *
 * recovery.c
 *	  What was under way when a worker ended is sent again.
 *
 * It is Dispatched in the log, and no index knows of that: one that did would
 * cost every claim.  So the next worker looks through the whole queue, but a
 * piece at a time, and delivers meanwhile.  A worker claims from the beginning
 * of each action's queue; there the look begins, and there it finds nearly all
 * there is to find.
 *
 * A delivery is a left-over if it is Dispatched by a worker of this number
 * and this process does not hold it, or, which the first one sees to, by one
 * that is no more and has no successor, or none that could start.  So the first one
 * looks again when there are to be fewer of them, and when one is missed.  Whether
 * it is a left-over no clock is asked.  Until it is found it is due and unfinished:
 * webhook.wait waits for it, and later ones of the same record don't overtake
 * it in an ordered action.
 *
 * A worker that is missed may start at any moment, and look for the same.  But it
 * claims nothing before others can see that it is there, so that what was
 * Dispatched before it was seen not to be there is a left-over; and whoever is
 * the first queues it again, which undoes that claim, and no later one.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "absence.h"
#include "access/xact.h"
#include "commands/dbcommands.h"
#include "dispatched.h"
#include "lane.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "news.h"
#include "queue.h"
#include "recovery.h"
#include "settings.h"
#include "settle.h"
#include "slot.h"
#include "survey.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define STEP_SIZE 4000			/* deliveries looked at in a turn */
#define STEP_US (10 * INT64CONST(1000))	/* ... where they are in memory, or fewer */
#define PIECE_SIZE 250			/* ... of one action, before the others' turn */
#define PROBE_SIZE 25			/* a look costs as much as so many */
#define STEP_SHARE 4			/* of the worker's time, a fourth */
#define HELD_PAUSE_US (200 * INT64CONST(1000))	/* until those that are held are tried again */

/* What is left to be looked at of an action's queue. */
typedef struct Part
{
	dlist_node	node;
	int32		action_id;
	WebhookCursor cursor;
} Part;

static char *database_name = NULL;
static MemoryContext part_context;	/* of the parts */
static MemoryContext held_context;	/* of the list of those that are held */
static dlist_head parts = DLIST_STATIC_INIT(parts);
static List *held = NIL;		/* of int64 *: found, but locked by somebody */
static bool is_begun = false;
static bool is_done = false;
static TimestampTz next_step_at = 0;
static int	n_steps = 0;
static int64 n_recovered = 0;

/* Of a turn that isn't over. */
static bool is_stepping = false;
static List *stepping_held = NIL;
static int64 n_stepping = 0;

void
webhook_recovery_init(void)
{
	part_context = AllocSetContextCreate(TopMemoryContext, "webhook recovery",
										 ALLOCSET_SMALL_SIZES);
	held_context = AllocSetContextCreate(TopMemoryContext, "webhook left-overs",
										 ALLOCSET_SMALL_SIZES);
}

TimestampTz
webhook_recovery_next(void)
{
	return is_begun && !is_done ? next_step_at : DT_NOEND;
}

/* Will anybody record what becomes of it? */
static bool
is_known(const WebhookDispatched *d)
{
	if (d->worker == webhook_slot_number())
		return webhook_lane_holds(d->log_id) || webhook_settle_holds(d->log_id);

	/* What has no worker is the first one's business. */
	if (!webhook_absence_is_first())
		return true;
	if (d->worker < 0)
		return false;
	/* One that there is to be finds its own when it starts. */
	if (d->worker < webhook_workers_per_database &&
		!webhook_absence_is_missed(d->worker))
		return true;
	return webhook_slot_has_worker(d->worker);
}

/* By a worker that is about to end, and has no successor? */
static bool
is_ending(const WebhookDispatched *d)
{
	return d->worker != webhook_slot_number() && d->worker >= webhook_workers_per_database;
}

/* Let the lane look where it lies. */
static void
tell_lane(const WebhookHint *hint)
{
	WebhookLane *lane = webhook_lane_find(hint->action_id);

	webhook_lane_look_at(lane, hint->retry_at);
	lane->has_future = true;
}

/* Of deliveries that are Dispatched, queue the left-overs. */
static void
recover(List *dispatched)
{
	List	   *left_over = NIL;
	List	   *hints;
	ListCell   *lc;

	foreach(lc, dispatched)
	{
		WebhookDispatched *d = lfirst(lc);

		if (!is_known(d))
			left_over = lappend(left_over, d);
		else if (is_ending(d))
			stepping_held = lappend(stepping_held, &d->log_id);
	}
	if (left_over == NIL)
		return;
	hints = webhook_dispatched_recover(left_over);
	n_stepping += list_length(hints);
	foreach(lc, hints)
		tell_lane(lfirst(lc));

	/* What somebody has locked is not waited for, but come back to. */
	if (list_length(hints) == list_length(left_over))
		return;
	foreach(lc, left_over)
		stepping_held = lappend(stepping_held,
								&((WebhookDispatched *) lfirst(lc))->log_id);
}

static void
begin(void)
{
	ListCell   *lc;

	MemoryContextReset(part_context);
	MemoryContextReset(held_context);
	dlist_init(&parts);
	held = NIL;
	if (database_name == NULL)
		database_name = MemoryContextStrdup(TopMemoryContext,
											get_database_name(MyDatabaseId));
	foreach(lc, webhook_queue_actions())
	{
		Part	   *part = MemoryContextAllocZero(part_context, sizeof(Part));

		part->action_id = lfirst_int(lc);
		part->cursor.retry_at = DT_NOBEGIN;
		part->cursor.log_id = PG_INT64_MIN;
		dlist_push_tail(&parts, &part->node);
	}
	is_begun = true;
}

void
webhook_recovery_step(TimestampTz now)
{
	TimestampTz started_at = GetCurrentTimestamp();
	int			budget = STEP_SIZE;

	if (webhook_absence_look(now))
		webhook_recovery_again();
	is_stepping = !is_done && (!is_begun || now >= next_step_at);
	if (!is_stepping)
		return;
	stepping_held = NIL;
	n_stepping = 0;
	if (!is_begun)
		begin();
	if (held != NIL)
		recover(webhook_dispatched_find(held));
	while (!dlist_is_empty(&parts) && budget > 0)
	{
		Part	   *part = dlist_container(Part, node, dlist_pop_head_node(&parts));
		bool		exhausted;

		recover(webhook_dispatched_look(part->action_id, &part->cursor,
										PIECE_SIZE, &exhausted));
		if (!exhausted)
			dlist_push_tail(&parts, &part->node);
		budget -= exhausted ? PROBE_SIZE : PIECE_SIZE;
		if (GetCurrentTimestamp() >= started_at + STEP_US)
			break;
	}
	CommandCounterIncrement();
	now = GetCurrentTimestamp();
	next_step_at = now + (now - started_at) * (STEP_SHARE - 1);
	if (dlist_is_empty(&parts))
		next_step_at = Max(next_step_at, now + HELD_PAUSE_US);
}

static void
keep_held(void)
{
	MemoryContext old;
	ListCell   *lc;

	MemoryContextReset(held_context);
	old = MemoryContextSwitchTo(held_context);
	held = NIL;
	foreach(lc, stepping_held)
	{
		int64	   *copy = palloc(sizeof(int64));

		*copy = *(int64 *) lfirst(lc);
		held = lappend(held, copy);
	}
	MemoryContextSwitchTo(old);
	stepping_held = NIL;
}

void
webhook_recovery_commit(void)
{
	if (!is_stepping)
		return;
	is_stepping = false;
	keep_held();
	n_recovered += n_stepping;
	n_steps++;
	is_done = dlist_is_empty(&parts) && held == NIL;
	webhook_slot_set_recovering(!is_done);
	if (!is_done)
		return;

	/* An action that is no more has nobody but the survey to see to it. */
	if (n_steps > 1)
		webhook_survey_ask();
	if (n_recovered > 0)
		ereport(LOG,
				(errcode(ERRCODE_SUCCESSFUL_COMPLETION),
				 errmsg("webhook worker %d of database \"%s\" sends " INT64_FORMAT " deliveries again that were under way when the one before it ended",
						webhook_slot_number(), database_name, n_recovered)));
}

void
webhook_recovery_again(void)
{
	if (!webhook_absence_is_first())
		return;
	/* One that is not through begins anew: it has seen some of it already. */
	if (is_done)
	{
		n_steps = 0;
		n_recovered = 0;
	}
	is_begun = is_done = false;
	next_step_at = 0;
	webhook_slot_set_recovering(true);
	webhook_survey_ask();
}

void
webhook_recovery_restart(void)
{
	is_stepping = false;
	if (!is_done)
		is_begun = false;
}

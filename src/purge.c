/*-------------------------------------------------------------------------
 *
 * purge.c
 *	  What ended longer than webhook.log_retention ago is deleted.
 *
 * In the order of log_id, which is the order in which the rows lie in their
 * tables and indexes, so that whole pages become free next to each other; a
 * few hundred at a time, each time in a transaction that is over at once, and
 * with no more than a share of the worker's time.
 *
 * Runs in the first worker of a database.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "complaint.h"
#include "progress.h"
#include "purge.h"
#include "purge_step.h"
#include "settings.h"
#include "slot.h"
#include "subtransaction.h"
#include "utils/timestamp.h"

#define STEP_SIZE 250			/* rows: a few milliseconds */
#define SHARE 5					/* of the worker's time, a fifth */
#define MIN_PAUSE_US (5 * INT64CONST(1000)) /* between steps */
#define MIN_WAIT_US USECS_PER_SEC	/* for rows to grow old */
#define ROUND_INTERVAL_US (60 * USECS_PER_SEC)
#define START_INTERVAL_US (3600 * USECS_PER_SEC)

/* What is known of the log. */
typedef struct Knowledge
{
	int64		position;		/* looked at up to here in this round; -1: the
								 * round is to begin */
	int64		start;			/* nothing is there up to this log_id */
	bool		is_clean;		/* nor from there to the position */
	TimestampTz next_start_at;	/* start is not taken for granted any longer */
} Knowledge;

static Knowledge known = {.position = -1};
static Knowledge learned;		/* in this transaction */
static bool is_learned = false;
static bool is_waiting = true;	/* for rows to grow old */
static int	seen_retention = 0; /* the setting, as it was in the last step */
static TimestampTz next_step_at = 0;
static TimestampTz next_round_at = 0;

TimestampTz
webhook_purge_next(void)
{
	if (webhook_slot_number() != 0 || webhook_log_retention <= 0)
		return DT_NOEND;
	return webhook_log_retention == seen_retention ? next_step_at : 0;
}

/* Show a purge that takes more than a step as one piece of work. */
static void
tell_progress(bool is_more)
{
	static int64 done = 0;

	if (!is_more)
	{
		if (done > 0)
			webhook_progress_end();
		done = 0;
		return;
	}
	if (done == 0)
	{
		webhook_progress_start("purge", 0, 0);
		webhook_progress_keep();
	}
	done += STEP_SIZE;
	webhook_progress_update(done, 0);
}

/*
 * A round goes on where the last one found the first row that was too young,
 * and now and then, for what was not yet to be deleted, begins anew: where
 * something is left, since while somebody holds an old snapshot what was
 * deleted is walked over again; and once in an hour, for what committed late,
 * at the very beginning.
 */
static void
begin_round(TimestampTz now)
{
	if (now >= learned.next_start_at)
	{
		learned.start = 0;
		learned.next_start_at = now + START_INTERVAL_US;
	}
	learned.position = learned.start;
	learned.is_clean = true;
	next_round_at = now + ROUND_INTERVAL_US;
}

static void
take_step(void *arg)
{
	WebhookPurgeStep *step = arg;

	webhook_purge_step_take(step, STEP_SIZE);
	learned.position = step->behind;
	learned.is_clean = learned.is_clean && step->all_gone;
	if (learned.is_clean)
		learned.start = learned.position;
	is_learned = true;
	is_waiting = !step->is_more;
}

/*
 * A step in a subtransaction of its own: somebody's trigger or foreign key may
 * forbid it, which is no reason for the turn to fail.  Nor is a table that is
 * locked.  False: it is put off, to next_step_at.
 */
static bool
try_step(TimestampTz now, WebhookPurgeStep *step)
{
	ErrorData  *error;

	if (!webhook_catalog_lock_if_free(WEBHOOK_REL_LOG) ||
		!webhook_catalog_lock_if_free(WEBHOOK_REL_ATTEMPT))
	{
		next_step_at = now + MIN_WAIT_US;
		return false;
	}

	learned = known;
	if (learned.position < 0 || (is_waiting && now >= next_round_at))
		begin_round(now);
	memset(step, 0, sizeof(WebhookPurgeStep));
	step->before = now - webhook_log_retention * USECS_PER_SEC;
	step->behind = learned.position;
	error = webhook_subtransaction_call(take_step, step, webhook_complaint_emit);
	if (error == NULL)
		return true;
	webhook_slot_set_error(error->message);
	FreeErrorData(error);
	is_learned = false;
	return false;
}

void
webhook_purge_take(TimestampTz now)
{
	WebhookPurgeStep step;
	TimestampTz started_at;
	TimestampTz ended_at;

	if (webhook_slot_number() != 0)
		return;
	if (webhook_log_retention <= 0)
	{
		seen_retention = 0;
		tell_progress(false);
		return;
	}
	if (now < webhook_purge_next())
		return;
	if (webhook_log_retention != seen_retention)
	{
		/* At once, and from the very beginning. */
		known.position = -1;
		known.next_start_at = 0;
		seen_retention = webhook_log_retention;
	}

	/* Should it fail, as where a trigger of somebody's does, others go on. */
	next_step_at = now + ROUND_INTERVAL_US;
	started_at = GetCurrentTimestamp();
	if (!try_step(now, &step))
	{
		tell_progress(false);
		return;
	}
	ended_at = GetCurrentTimestamp();

	/* However much is old, it is deliveries that the worker is for. */
	if (step.is_more)
		next_step_at = ended_at +
			Max(MIN_PAUSE_US, (ended_at - started_at) * (SHARE - 1));
	else
	{
		/* What comes now is young for as long as a retention. */
		next_step_at = Min(next_step_at,
						   (step.young_at != 0 ? step.young_at : now) +
						   webhook_log_retention * USECS_PER_SEC);
		next_step_at = Max(next_step_at, now + MIN_WAIT_US);
	}
	tell_progress(step.is_more);
}

void
webhook_purge_commit(void)
{
	if (!is_learned)
		return;
	known = learned;
	is_learned = false;
	webhook_slot_set_log_start(known.start);
}

void
webhook_purge_abort(void)
{
	/* It may have been what failed: a constraint of somebody's can be deferred. */
	if (is_learned)
		next_step_at = GetCurrentTimestamp() + ROUND_INTERVAL_US;
	is_learned = false;
}

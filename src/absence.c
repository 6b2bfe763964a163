/*-------------------------------------------------------------------------
 *
 * absence.c
 *	  Which of a database's workers are not there, and have not been for long.
 *
 * A worker that has ended is followed by another, which sees to what it left
 * behind.  Where max_worker_processes leaves no room for it, others have to.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "absence.h"
#include "settings.h"
#include "slot.h"

#define LOOK_PAUSE_US USECS_PER_SEC
#define ABSENCE_US (60 * USECS_PER_SEC)	/* then it is missed */

static TimestampTz next_look_at = 0;
static TimestampTz absent_since[WEBHOOK_MAX_WORKERS];	/* 0: it is there */
static bool is_missed[WEBHOOK_MAX_WORKERS];

/* Note whether a worker is there; true: it is missed since this look. */
static bool
look_for(int number, bool was_there, TimestampTz now)
{
	bool		is_there = webhook_slot_has_worker(number);

	if (is_there || was_there)
	{
		absent_since[number] = is_there ? 0 : now;
		is_missed[number] = false;
		return false;
	}
	if (absent_since[number] == 0)
		absent_since[number] = now;
	if (is_missed[number] || now < absent_since[number] + ABSENCE_US)
		return false;
	is_missed[number] = true;
	return true;
}

bool
webhook_absence_look(TimestampTz now)
{
	bool		is_news = false;
	uint32		started;

	if (now < next_look_at)
		return false;
	next_look_at = now + LOOK_PAUSE_US;

	/* One that came and went between two looks has left something, too. */
	started = webhook_slot_take_started();
	for (int number = 0; number < WEBHOOK_MAX_WORKERS; number++)
	{
		if (number == webhook_slot_number() || number >= webhook_workers_per_database)
		{
			absent_since[number] = 0;
			is_missed[number] = false;
		}
		else
			is_news |= look_for(number, (started & ((uint32) 1 << number)) != 0, now);
	}
	return is_news;
}

bool
webhook_absence_is_missed(int number)
{
	return is_missed[number];
}

bool
webhook_absence_is_first(void)
{
	for (int number = 0; number < webhook_slot_number(); number++)
	{
		if (!is_missed[number])
			return false;
	}
	return true;
}

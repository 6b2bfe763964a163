/*-------------------------------------------------------------------------
 *
 * shared_action.c
 *	  Shared memory: what the workers of a database must count together of an
 *	  action, for its limits, and to say but once that its receiver is failing.
 *
 * A worker asks before it sends a request and gives the permission back when
 * the answer is there; one that was refused is woken then.  An action has an
 * entry as long as it says something, and a lock of its own keeps those who
 * count from those who commit (shared.c).
 *
 * Runs in workers; sessions only look, for webhook.stat_action.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "news.h"
#include "shared_action.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#define MAX_CATCH_UP_US 10000	/* of an action's rate */
#define MAX_ACTIONS 4096

typedef struct ActionKey
{
	Oid			database;
	int32		action_id;
} ActionKey;

typedef struct ActionEntry
{
	ActionKey	key;
	int			in_flight;
	bool		awaited;		/* somebody was refused */
	bool		is_failing;		/* the server log has been told */
	TimestampTz next_moment;	/* for a rate limit */
} ActionEntry;

static HTAB *actions = NULL;
static LWLock *lock = NULL;

void
webhook_shared_action_request(void)
{
	RequestAddinShmemSpace(hash_estimate_size(MAX_ACTIONS, sizeof(ActionEntry)));
	RequestNamedLWLockTranche("webhook actions", 1);
}

void
webhook_shared_action_attach(void)
{
	HASHCTL		info = {0};

	info.keysize = sizeof(ActionKey);
	info.entrysize = sizeof(ActionEntry);
	actions = ShmemInitHash("webhook actions", MAX_ACTIONS, MAX_ACTIONS,
							&info, HASH_ELEM | HASH_BLOBS);
	lock = &(GetNamedLWLockTranche("webhook actions"))->lock;
}

/*
 * Make room for another action.  Those that say nothing are forgotten; where
 * that is not enough so are those whose receiver is failing, lest they take more
 * and more of the memory that all of the server shares: that is told once more
 * then.  Nothing tells of an action that was dropped, or of its database.
 */
static void
make_room(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < 2 && hash_get_num_entries(actions) >= MAX_ACTIONS; i++)
	{
		HASH_SEQ_STATUS scan;
		ActionEntry *entry;

		hash_seq_init(&scan, actions);
		while ((entry = hash_seq_search(&scan)) != NULL)
		{
			if (entry->in_flight == 0 && entry->next_moment < now &&
				(!entry->is_failing || i > 0))
				hash_search(actions, &entry->key, HASH_REMOVE, NULL);
		}
	}
}

/* The entry of an action of this database; NULL if there is no room. */
static ActionEntry *
find_action(int32 action_id)
{
	ActionKey	key = {0};
	ActionEntry *entry;
	bool		found;

	key.database = MyDatabaseId;
	key.action_id = action_id;
	entry = hash_search(actions, &key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry;

	make_room();
	entry = hash_search(actions, &key, HASH_ENTER_NULL, &found);
	if (entry != NULL && !found)
	{
		entry->in_flight = 0;
		entry->awaited = false;
		entry->is_failing = false;
		entry->next_moment = 0;
	}
	return entry;
}

/*
 * Requests of a limited action keep a distance from each other, so that no
 * second has more of them than it may.  A fast one may catch up a little on
 * what a worker that was busy has missed, and its distance makes up for that.
 */
static int
get_slack(int rate)
{
	return rate > 100 ? MAX_CATCH_UP_US : 0;
}

static int64
get_distance(int rate)
{
	return (USECS_PER_SEC + get_slack(rate) + rate - 1) / rate;
}

static bool
is_time(ActionEntry *entry, int rate, TimestampTz now, TimestampTz *moment)
{
	int64		distance = get_distance(rate);

	if (entry->next_moment > now + distance)
		entry->next_moment = now;	/* the clock was put back */
	*moment = entry->next_moment;
	if (now < entry->next_moment)
		return false;
	entry->next_moment = Max(entry->next_moment, now - get_slack(rate)) + distance;
	return true;
}

bool
webhook_shared_action_acquire(int32 action_id, int limit, int rate,
							  TimestampTz now, TimestampTz *moment)
{
	ActionEntry *entry;
	bool		granted = false;

	*moment = DT_NOEND;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_action(action_id);
	if (entry != NULL)
	{
		if (entry->in_flight >= limit)
			entry->awaited = true;
		else
			granted = rate == 0 || is_time(entry, rate, now, moment);
		if (granted)
			entry->in_flight++;
	}
	LWLockRelease(lock);
	return granted;
}

void
webhook_shared_action_release(int32 action_id)
{
	ActionEntry *entry;
	bool		is_awaited = false;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_action(action_id);
	if (entry != NULL && entry->in_flight > 0)
	{
		entry->in_flight--;
		is_awaited = entry->awaited;
		entry->awaited = false;
	}
	LWLockRelease(lock);
	if (is_awaited)
		webhook_news_wake_others();
}

/* All zero where there is none. */
static ActionEntry
read_action(int32 action_id)
{
	ActionEntry result = {0};
	ActionEntry *entry;

	result.key.database = MyDatabaseId;
	result.key.action_id = action_id;
	LWLockAcquire(lock, LW_SHARED);
	entry = hash_search(actions, &result.key, HASH_FIND, NULL);
	if (entry != NULL)
		result = *entry;
	LWLockRelease(lock);
	return result;
}

int
webhook_shared_action_in_flight(int32 action_id)
{
	return actions == NULL ? 0 : read_action(action_id).in_flight;
}

TimestampTz
webhook_shared_action_moment(int32 action_id, int rate, TimestampTz now)
{
	TimestampTz moment = read_action(action_id).next_moment;

	return moment > now + get_distance(rate) ? now : moment;	/* see is_time */
}

bool
webhook_shared_action_set_failing(int32 action_id, bool is_failing)
{
	ActionEntry *entry;
	bool		is_news = true;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_action(action_id);
	if (entry != NULL)
	{
		is_news = entry->is_failing != is_failing;
		entry->is_failing = is_failing;
	}
	LWLockRelease(lock);
	return is_news;
}

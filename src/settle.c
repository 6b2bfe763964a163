/*-------------------------------------------------------------------------
 *
 * settle.c
 *	  What has ended, until the log knows it.
 *
 * Results wait a moment for others, since a turn for a hundred rows costs little
 * more than one for a single row.  After a group has failed its
 * results are recorded one by one, so that a row that is locked, or that can't
 * be stored, holds up only itself: it is held, and tried again later, while
 * others are recorded as ever.  Where nothing can be stored for the time being
 * what comes is held as well.
 *
 * Bodies are compressed as they are stored, some 25 ms a megabyte: no more than a
 * few of the large ones are recorded in a turn, as others wait for it.
 *
 * Nobody's lock is waited for twice in a turn, and that of a table seldom: there
 * are requests to be sent and answers to be received meanwhile.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "complaint.h"
#include "mail.h"
#include "mail_note.h"
#include "mb/pg_wchar.h"
#include "queue.h"
#include "result.h"
#include "settle.h"
#include "slot.h"
#include "subtransaction.h"
#include "text.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define SETTLE_SIZE 128			/* results that are worth a turn */
#define MAX_SETTLE 500			/* results recorded at once */
#define MAX_SETTLE_SIZE (2 * 1024 * 1024)	/* bytes of bodies recorded in a turn */
#define SETTLE_DELAY_US 3000	/* a result waits no longer for others */
#define LOCKED_DELAY_US 200000	/* until what somebody has locked is tried again */
#define MAX_DELAY_US (30 * USECS_PER_SEC)	/* ... or what can't be stored */
#define TABLE_WAIT_US (10 * USECS_PER_SEC)	/* between waits for a table */

static List *finished = NIL;	/* of WebhookFlight *: to be settled */
static TimestampTz settle_at;	/* they wait for others no longer */
static bool is_hurried = false; /* they are all recorded in the next turn */
static bool is_behind = false;	/* the last turn has left some */
static bool is_careful = false; /* settle them one by one: a group has failed */

static List *held = NIL;		/* of WebhookFlight *: could not be settled */
static TimestampTz held_at;		/* they are tried again */
static int64 held_pause = LOCKED_DELAY_US;
static bool is_prevented = false;	/* nothing can be stored: others wait with them */
static bool is_failing = false; /* some of them met an error */
static TimestampTz table_wait_at = 0;	/* a locked table is waited for; 0: none is */

/* What a turn that isn't over has tried. */
typedef struct Trial
{
	bool		is_made;
	int			n_taken;		/* of the finished ones */
	bool		has_held;		/* the held ones were among them */
	List	   *kept;			/* could not be settled */
	int			n_settled;
	bool		is_prevented;
	bool		is_failing;
	bool		is_table_locked;
} Trial;

static Trial trial;
static bool is_timed_out = false;	/* a lock was waited for, in vain */
static int64 attempts_made = 0;

void
webhook_settle_add(WebhookFlight *flight)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	if (finished == NIL)
		settle_at = GetCurrentTimestamp() + SETTLE_DELAY_US;
	finished = lappend(finished, flight);
	MemoryContextSwitchTo(old);
}

/*
 * A receiver may say again what it was told; the log keeps no credentials.
 * (Basic authentication: RFC 7617.)
 */
static void
hide_credentials(WebhookSend *send)
{
	char	   *plain;

	if (send->username == NULL)
		return;
	plain = psprintf("%s:%s", send->username, send->password);
	webhook_text_hide(send->response, send->response_len,
					  webhook_text_base64(plain, strlen(plain)));
	webhook_text_hide(send->response, send->response_len, send->password);
}

/* What was sent and answered, as text of this database. */
static void
fill_bodies(WebhookFlight *flight)
{
	WebhookResult *result = &flight->result;

	if (flight->request != NULL)
		result->request_body = GetDatabaseEncoding() == PG_UTF8 ?
			flight->request->body :
			webhook_text_from_bytes(flight->request->body,
									flight->request->body_len);
	if (flight->send.response != NULL)
	{
		hide_credentials(&flight->send);
		result->response_body =
			webhook_text_from_bytes(flight->send.response,
									flight->send.response_len);
	}
}

/* What a settled result means for its lane. */
static void
note_settled(const WebhookFlight *flight)
{
	WebhookLane *lane = flight->lane;
	TimestampTz retry_at = flight->result.retry_at;

	if (retry_at != 0)
	{
		lane->has_future = true;
		lane->next_due = Min(lane->next_due, retry_at);
	}
	if (flight->result.verdict == WEBHOOK_FAILED &&
		flight->send.http_status == 410)
	{
		if (lane->action != NULL)
			lane->action->enabled = false;
		/* Of many that were under way, the first is told. */
		if (webhook_queue_disable_action(lane->action_id))
			ereport(WARNING,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("webhook action %d (\"%s\") is disabled: its receiver answered 410 Gone",
							lane->action_id,
							lane->action != NULL ? lane->action->title : ""),
					 errhint("Correct its URL with webhook.alter_action, and call webhook.enable_action.")));
	}
}

/* Each is asked for in its own lane: another's may be disabled, or this one. */
static void
note_successors(List *successors)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	ListCell   *lc;

	foreach(lc, successors)
	{
		WebhookSuccessor *successor = lfirst(lc);
		WebhookLane *lane = webhook_lane_find(successor->action_id);
		WebhookSuccessor *copy = palloc(sizeof(WebhookSuccessor));

		*copy = *successor;
		lane->successors = lappend(lane->successors, copy);
	}
	MemoryContextSwitchTo(old);
}

static void
settle_group(List *flights)
{
	List	   *results = NIL;
	List	   *successors;
	ListCell   *lc;

	foreach(lc, flights)
	{
		WebhookFlight *flight = lfirst(lc);

		fill_bodies(flight);
		results = lappend(results, &flight->result);
	}
	successors = webhook_result_record(results, is_careful);
	if (webhook_mail_note_results(results))
		webhook_mail_survey();
	foreach(lc, flights)
		note_settled(lfirst(lc));
	note_successors(successors);
}

typedef enum SettleOutcome
{
	SETTLED,
	IS_LOCKED,					/* by somebody: wait for a later turn */
	IS_PREVENTED,				/* nothing can be stored for the time being */
	IS_BROKEN					/* this one can't be stored */
} SettleOutcome;

/* Does an error say nothing of the row, but that there is no room, say? */
static bool
is_passing(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
		case ERRCODE_TRANSACTION_ROLLBACK:
			return true;
		default:
			/* A limit of the size of files has no SQLSTATE of its own. */
			return error->saved_errno == EFBIG;
	}
}

typedef struct Single
{
	WebhookFlight *flight;
	SettleOutcome outcome;
} Single;

static void
settle_single(void *arg)
{
	Single	   *single = arg;

	if (webhook_result_try_lock(single->flight->result.log_id))
	{
		settle_group(list_make1(single->flight));
		single->outcome = SETTLED;
	}
}

/* Settle one result in a subtransaction of its own. */
static SettleOutcome
settle_one(WebhookFlight *flight)
{
	Single		single = {flight, IS_LOCKED};
	ErrorData  *error = webhook_subtransaction_call(settle_single, &single,
													webhook_complaint_emit);

	if (error != NULL)
	{
		single.outcome = is_passing(error) ? IS_PREVENTED : IS_BROKEN;
		if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
			is_timed_out = true;
		webhook_slot_set_error(error->message);
		FreeErrorData(error);
	}
	return single.outcome;
}

/*
 * The same; what can't be stored even so is stored without its bodies, lest
 * it be sent for ever.
 */
static SettleOutcome
settle_one_somehow(WebhookFlight *flight)
{
	SettleOutcome outcome = settle_one(flight);

	if (outcome == IS_BROKEN)
	{
		flight->request = NULL;
		flight->send.response = NULL;
		flight->result.request_body = NULL;
		flight->result.response_body = NULL;
		outcome = settle_one(flight);
	}
	return outcome;
}

/* May rows be written, without a wait? */
static bool
are_tables_free(void)
{
	return webhook_catalog_lock_if_free(WEBHOOK_REL_LOG) &&
		webhook_catalog_lock_if_free(WEBHOOK_REL_ATTEMPT);
}

static void
keep(WebhookFlight *flight)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	trial.kept = lappend(trial.kept, flight);
	MemoryContextSwitchTo(old);
}

/*
 * Is a table locked by somebody?  Then it is looked at again and again, which
 * costs nothing; now and then it is waited for, lest others always come first.
 */
static bool
is_table_locked(TimestampTz now)
{
	if (are_tables_free())
	{
		table_wait_at = 0;
		return false;
	}
	if (table_wait_at == 0)
		table_wait_at = now + TABLE_WAIT_US;
	return now < table_wait_at;
}

/* Settle results one by one; returns those that are. */
static List *
settle_singly(List *flights)
{
	List	   *settled = NIL;
	ListCell   *lc;
	int			guc_level = 0;

	trial.is_table_locked = is_table_locked(GetCurrentTimestamp());
	is_timed_out = false;
	foreach(lc, flights)
	{
		WebhookFlight *flight = lfirst(lc);
		SettleOutcome outcome = trial.is_table_locked ? IS_PREVENTED :
			settle_one_somehow(flight);

		/* That was one wait for a lock: enough for a turn. */
		if (is_timed_out && guc_level == 0)
		{
			guc_level = NewGUCNestLevel();
			webhook_scope_set("lock_timeout", "1");
			if (!are_tables_free())
			{
				trial.is_table_locked = true;
				table_wait_at = GetCurrentTimestamp() + TABLE_WAIT_US;
			}
		}
		if (is_timed_out && !trial.is_table_locked)
			outcome = IS_LOCKED;
		if (!trial.is_table_locked)
			is_timed_out = false;

		if (outcome == SETTLED)
			settled = lappend(settled, flight);
		else
			keep(flight);
		trial.is_prevented |= outcome == IS_PREVENTED;
		trial.is_failing |= outcome == IS_PREVENTED || outcome == IS_BROKEN;
	}
	if (guc_level != 0)
		AtEOXact_GUC(false, guc_level);
	trial.n_settled = list_length(settled);
	return settled;
}

/* The finished ones that this turn takes: all, if their bodies are not too large. */
static List *
take_finished(void)
{
	Size		size = 0;
	int			n = 0;

	while (n < list_length(finished) &&
		   (size < MAX_SETTLE_SIZE || is_hurried))
	{
		WebhookFlight *flight = list_nth(finished, n++);

		if (flight->request != NULL)
			size += flight->request->body_len;
		size += flight->send.response_len;
	}
	return list_truncate(list_copy(finished), n);
}

List *
webhook_settle_all(void)
{
	List	   *settled = NIL;
	List	   *single = NIL;
	List	   *taken;

	memset(&trial, 0, sizeof(trial));
	trial.has_held = held != NIL && GetCurrentTimestamp() >= held_at;
	if (is_prevented && !trial.has_held)
		return NIL;
	trial.is_made = true;
	taken = take_finished();
	trial.n_taken = list_length(taken);
	if (trial.has_held)
		single = list_copy(held);
	if (is_careful || is_prevented)
		single = list_concat(single, taken);
	else
	{
		for (int i = 0; i < list_length(taken); i += MAX_SETTLE)
		{
			List	   *group = NIL;

			for (int j = i; j < Min(i + MAX_SETTLE, list_length(taken)); j++)
				group = lappend(group, list_nth(taken, j));
			settle_group(group);
		}
		settled = taken;
	}
	if (single != NIL)
		settled = list_concat(settled, settle_singly(single));
	return settled;
}

/* What could not be settled is held; how long, says how it went. */
static void
note_trial(void)
{
	if (trial.has_held)
	{
		list_free(held);
		held = NIL;
	}
	held = list_concat(held, trial.kept);
	if (trial.has_held || trial.kept != NIL)
	{
		bool		is_in_vain = trial.is_failing && trial.n_settled == 0 &&
			!trial.is_table_locked;

		held_pause = is_in_vain ? Min(held_pause * 2, MAX_DELAY_US) : LOCKED_DELAY_US;
		held_at = GetCurrentTimestamp() + held_pause;
		is_prevented = trial.is_prevented;
		is_failing = trial.is_failing || (is_failing && !trial.has_held);
	}
	list_free(trial.kept);
	trial.kept = NIL;
	finished = list_delete_first_n(finished, trial.n_taken);
	is_behind = finished != NIL;
	is_careful = false;
	is_hurried = false;
}

void
webhook_settle_forget(List *settled)
{
	ListCell   *lc;

	foreach(lc, settled)
	{
		WebhookFlight *flight = lfirst(lc);

		if (flight->result.verdict <= WEBHOOK_FAILED)
			attempts_made++;
		webhook_lane_free(flight);
	}
	if (trial.is_made)
		note_trial();
	trial.is_made = false;
}

void
webhook_settle_beware(void)
{
	is_careful = true;
	list_free(trial.kept);
	memset(&trial, 0, sizeof(trial));
}

void
webhook_settle_hurry(void)
{
	is_hurried = true;
	settle_at = 0;
	held_at = 0;
}

bool
webhook_settle_is_due(TimestampTz now, bool is_quiet)
{
	if (held != NIL && now >= held_at)
		return true;
	return finished != NIL && !is_prevented &&
		(now >= settle_at ||
		 (!is_careful && (is_quiet || list_length(finished) >= SETTLE_SIZE)));
}

TimestampTz
webhook_settle_next(void)
{
	if (finished == NIL || is_prevented)
		return held == NIL ? DT_NOEND : held_at;
	return held == NIL ? settle_at : Min(settle_at, held_at);
}

bool
webhook_settle_is_behind(void)
{
	return is_behind;
}

bool
webhook_settle_is_failing(void)
{
	return is_failing;
}

int
webhook_settle_count(void)
{
	return list_length(finished) + list_length(held);
}

int
webhook_settle_stuck(void)
{
	return list_length(held) +
		(is_careful || is_prevented ? list_length(finished) : 0);
}

static bool
has_flight(List *flights, int64 log_id)
{
	ListCell   *lc;

	foreach(lc, flights)
	{
		if (((WebhookFlight *) lfirst(lc))->result.log_id == log_id)
			return true;
	}
	return false;
}

bool
webhook_settle_holds(int64 log_id)
{
	return has_flight(finished, log_id) || has_flight(held, log_id);
}

int64
webhook_settle_attempts(void)
{
	return attempts_made;
}

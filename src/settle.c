/*-------------------------------------------------------------------------
 *
 * settle.c
 *	  What has ended, until the log knows it.
 *
 * Results wait a moment for others, since a turn for a hundred rows costs little
 * more than one for a single row.  After a group has failed its
 * results are recorded one by one, so that a row that is locked, or that can't
 * be stored, holds up only itself.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/base64.h"
#include "compat.h"
#include "complaint.h"
#include "mail.h"
#include "mb/pg_wchar.h"
#include "settle.h"
#include "text.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#define SETTLE_SIZE 128			/* results that are worth a turn */
#define MAX_SETTLE 500			/* results recorded at once */
#define SETTLE_DELAY_US 3000	/* a result waits no longer for others */
#define LOCKED_DELAY_US 200000	/* ... unless its row is locked by somebody */
#define MAX_DELAY_US (30 * USECS_PER_SEC)

static List *finished = NIL;	/* of WebhookFlight *: to be settled */
static TimestampTz settle_at;	/* they wait for others no longer */
static bool is_careful = false; /* settle one by one: a group has failed */
static int64 unsettled_pause = LOCKED_DELAY_US;
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
	char	   *encoded;
	int			len;

	if (send->username == NULL)
		return;
	plain = psprintf("%s:%s", send->username, send->password);
	len = pg_b64_enc_len(strlen(plain));
	encoded = palloc(len + 1);
	encoded[webhook_b64_encode(plain, strlen(plain), encoded, len)] = '\0';
	webhook_text_hide(send->response, send->response_len, encoded);
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
		if (lane->next_due == 0 || retry_at < lane->next_due)
			lane->next_due = retry_at;
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

static void
note_successors(List *successors, List *flights)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	ListCell   *lc;

	/* All of one settlement are asked for in the first ordered lane. */
	foreach(lc, flights)
	{
		WebhookFlight *flight = lfirst(lc);

		if (flight->ordered)
		{
			ListCell   *lc2;

			foreach(lc2, successors)
			{
				int64	   *copy = palloc(sizeof(int64));

				*copy = *(int64 *) lfirst(lc2);
				flight->lane->successors = lappend(flight->lane->successors, copy);
			}
			break;
		}
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
	successors = webhook_queue_settle(results, is_careful);
	webhook_mail_note(results);
	foreach(lc, flights)
		note_settled(lfirst(lc));
	note_successors(successors, flights);
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

/* Settle one result in a subtransaction of its own. */
static SettleOutcome
settle_one(WebhookFlight *flight)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile SettleOutcome outcome = IS_LOCKED;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		if (webhook_queue_try_lock(flight->log_id))
		{
			settle_group(list_make1(flight));
			outcome = SETTLED;
		}
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		outcome = is_passing(error) ? IS_PREVENTED : IS_BROKEN;
		FreeErrorData(error);
		webhook_complaint_emit();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return outcome;
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

List *
webhook_settle_all(void)
{
	List	   *settled = NIL;
	ListCell   *lc;

	if (is_careful)
	{
		bool		is_stuck = false;

		foreach(lc, finished)
		{
			SettleOutcome outcome = settle_one_somehow(lfirst(lc));

			if (outcome == SETTLED)
				settled = lappend(settled, lfirst(lc));
			is_stuck |= outcome == IS_PREVENTED || outcome == IS_BROKEN;
		}
		unsettled_pause = is_stuck ?
			Min(unsettled_pause * 2, MAX_DELAY_US) : LOCKED_DELAY_US;
		return settled;
	}
	for (int i = 0; i < list_length(finished); i += MAX_SETTLE)
	{
		List	   *group = NIL;

		for (int j = i; j < Min(i + MAX_SETTLE, list_length(finished)); j++)
			group = lappend(group, list_nth(finished, j));
		settle_group(group);
	}
	return list_copy(finished);
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
		if (is_careful)
			finished = list_delete_ptr(finished, flight);
		MemoryContextDelete(flight->context);
	}
	if (!is_careful)
	{
		list_free(finished);
		finished = NIL;
	}
	is_careful = finished != NIL;
	settle_at = GetCurrentTimestamp() + unsettled_pause;
}

void
webhook_settle_beware(void)
{
	is_careful = true;
}

void
webhook_settle_hurry(void)
{
	settle_at = 0;
}

bool
webhook_settle_is_due(TimestampTz now, bool is_quiet)
{
	return finished != NIL &&
		(now >= settle_at ||
		 (!is_careful && (is_quiet || list_length(finished) >= SETTLE_SIZE)));
}

TimestampTz
webhook_settle_next(void)
{
	return finished == NIL ? 0 : settle_at;
}

int
webhook_settle_count(void)
{
	return list_length(finished);
}

int
webhook_settle_stuck(void)
{
	return is_careful ? list_length(finished) : 0;
}

bool
webhook_settle_holds(int64 log_id)
{
	ListCell   *lc;

	foreach(lc, finished)
	{
		if (((WebhookFlight *) lfirst(lc))->log_id == log_id)
			return true;
	}
	return false;
}

int64
webhook_settle_attempts(void)
{
	return attempts_made;
}

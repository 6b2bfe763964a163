/*-------------------------------------------------------------------------
 *
 * commit.c
 *	  What a transaction tells the workers once it has committed.
 *
 * A transaction that enqueued tells the workers of its database, after its
 * commit, which action has new work and from which retry_at on; so a worker
 * finds the rows by one index probe and never walks over what it has already
 * dealt with.  No NOTIFY: its lock serialises commits.  What is lost with a
 * wake-up, by a crash, is found by the worker's slow survey; of a prepared
 * transaction COMMIT PREPARED tells (hooks.c).
 *
 * Logical replication writes rows of the log without anybody being asked: it
 * fires no statement's triggers.  Its processes tell that there is something, not
 * what.  Nor do they say COMMIT PREPARED, and what it commits may have been written
 * by a process before this one: any such commit is told of.
 *
 * Runs in sessions, and in processes that apply what is replicated.  Where the
 * library isn't preloaded there is nobody to tell.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog.h"
#include "commit.h"
#include "launch.h"
#include "miscadmin.h"
#include "news.h"
#include "replication/logicalworker.h"

/* What this transaction will tell. */
static WebhookNews news;
static bool is_launch = false;

/*
 * Has a prepared transaction been committed in this one?  Then something was
 * written to the WAL, but nothing by this one, which has no id.  (Or a page was
 * tidied up, which is rare.)
 */
static bool
is_prepared_committed(void)
{
	return max_prepared_xacts > 0 && XactLastRecEnd != InvalidXLogRecPtr &&
		!TransactionIdIsValid(GetTopTransactionIdIfAny());
}

static void
on_xact_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			/* In a session this is all that is done. */
			if (IsLogicalWorker() &&
				(webhook_catalog_is_log_written() || is_prepared_committed()))
				webhook_commit_wake(WEBHOOK_ANY_ACTION, 0);
			return;
		case XACT_EVENT_COMMIT:
			if (webhook_commit_has_news())
				webhook_news_tell(MyDatabaseId, &news);
			if (is_launch)
				webhook_launch_request(MyDatabaseId);
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			break;
		default:
			return;
	}
	news.rescan = false;
	news.n_hints = 0;
	is_launch = false;
}

void
webhook_commit_init(void)
{
	RegisterXactCallback(on_xact_event, NULL);
}

void
webhook_commit_wake(int32 action_id, TimestampTz retry_at)
{
	webhook_news_add_hint(&news, action_id, retry_at);
}

bool
webhook_commit_has_news(void)
{
	return news.rescan || news.n_hints > 0;
}

void
webhook_commit_rescan(void)
{
	news.rescan = true;
}

void
webhook_commit_launch(void)
{
	is_launch = true;
}

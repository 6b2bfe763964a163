/*-------------------------------------------------------------------------
 *
 * news.c
 *	  What commits tell the workers.
 *
 * Where new work begins is told by its commit, in every slot of the database's
 * workers: a worker need not look for it.
 *
 * Runs in every process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "news.h"
#include "shared.h"

void
webhook_news_add_hint(WebhookNews *news, int32 action_id, TimestampTz retry_at)
{
	WebhookHint *hint;
	bool		has_any = false;

	for (int i = 0; i < news->n_hints; i++)
	{
		hint = &news->hints[i];
		if (hint->action_id == action_id)
		{
			hint->retry_at = Min(hint->retry_at, retry_at);
			return;
		}
		if (hint->action_id == WEBHOOK_ANY_ACTION)
			has_any = true;
	}
	if (news->n_hints == WEBHOOK_MAX_HINTS)
	{
		if (has_any)
			return;
		action_id = WEBHOOK_ANY_ACTION;
		news->n_hints--;
	}
	hint = &news->hints[news->n_hints++];
	hint->action_id = action_id;
	hint->retry_at = retry_at;
}

static bool
is_told(const WebhookSharedSlot *slot)
{
	return slot->news.rescan || slot->news.n_hints > 0;
}

void
webhook_news_tell(Oid database, const WebhookNews *news)
{
	if (webhook_shared == NULL)
		return;
	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < webhook_shared->n_slots; i++)
	{
		WebhookSharedSlot *slot = &webhook_shared->slots[i];
		bool		was_told = is_told(slot);

		if (slot->latch == NULL || slot->info.database != database)
			continue;
		if (news->rescan)
			slot->news.rescan = true;
		for (int j = 0; j < news->n_hints && !slot->news.rescan; j++)
			webhook_news_add_hint(&slot->news, news->hints[j].action_id,
								  news->hints[j].retry_at);

		/* Told and not yet listened: its latch is set already. */
		if (!was_told)
			SetLatch(slot->latch);
	}
	LWLockRelease(webhook_shared->lock);
}

void
webhook_news_rescan(Oid database)
{
	const WebhookNews news = {.rescan = true};

	webhook_news_tell(database, &news);
}

bool
webhook_news_is_told(void)
{
	return is_told(webhook_shared_mine);
}

bool
webhook_news_take(WebhookHint *hints, int *n)
{
	bool		rescan;

	/* Unlocked look first: most turns find nothing. */
	*n = 0;
	if (!webhook_news_is_told())
		return false;

	LWLockAcquire(webhook_shared->lock, LW_EXCLUSIVE);
	rescan = webhook_shared_mine->news.rescan;
	*n = webhook_shared_mine->news.n_hints;
	memcpy(hints, webhook_shared_mine->news.hints, *n * sizeof(WebhookHint));
	webhook_shared_mine->news.rescan = false;
	webhook_shared_mine->news.n_hints = 0;
	LWLockRelease(webhook_shared->lock);
	return rescan;
}

void
webhook_news_wake_others(void)
{
	LWLockAcquire(webhook_shared->lock, LW_SHARED);
	for (int i = 0; i < webhook_shared->n_slots; i++)
	{
		WebhookSharedSlot *slot = &webhook_shared->slots[i];

		if (slot->latch != NULL && slot != webhook_shared_mine &&
			slot->info.database == MyDatabaseId)
			SetLatch(slot->latch);
	}
	LWLockRelease(webhook_shared->lock);
}

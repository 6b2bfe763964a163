/*-------------------------------------------------------------------------
 *
 * rotation.c
 *	  A signing secret is replaced, and its receivers need not know at once.
 *
 * Runs in sessions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "action.h"
#include "action_check.h"
#include "action_table.h"
#include "argument.h"
#include "duration.h"
#include "fmgr.h"
#include "signature.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define MAX_OLD_SECRETS 10

PG_FUNCTION_INFO_V1(rotate_secret);

/*
 * What signs still once there is a new secret: the one before, and those before
 * that whose own overlap is not over.
 */
static void
keep_secrets(WebhookActionRow *row, const char *secret, int64 overlap)
{
	TimestampTz now = GetCurrentTimestamp();
	WebhookOldSecret *last;
	ListCell   *lc;

	foreach(lc, row->old_secrets)
	{
		WebhookOldSecret *it = lfirst(lc);

		if (it->until <= now || strcmp(it->secret, secret) == 0)
			row->old_secrets = foreach_delete_current(row->old_secrets, lc);
	}
	if (row->signing_secret == NULL || overlap == 0 ||
		strcmp(row->signing_secret, secret) == 0)
		return;
	if (list_length(row->old_secrets) >= MAX_OLD_SECRETS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("webhook action %d signs with %d secrets that were rotated before",
						row->action_id, list_length(row->old_secrets)),
				 errhint("Wait until the overlap of one of them is over, or make the new secret the only one with webhook.alter_action.")));
	last = palloc(sizeof(WebhookOldSecret));
	last->secret = row->signing_secret;
	last->until = now + overlap;
	row->old_secrets = lcons(last, row->old_secrets);
}

/*
 * webhook.rotate_secret(action_id, new_secret, overlap) returns void
 *		Sign with a new secret; for the time of the overlap with the one
 *		before as well.
 */
Datum
rotate_secret(PG_FUNCTION_ARGS)
{
	WebhookActionRow *row;
	char	   *secret;
	Interval   *overlap;

	webhook_argument_require(fcinfo, 0, "action_id");
	webhook_argument_require(fcinfo, 1, "new_secret");
	webhook_argument_require(fcinfo, 2, "overlap");
	row = webhook_action_lock(PG_GETARG_INT32(0));
	secret = text_to_cstring(PG_GETARG_TEXT_PP(1));
	overlap = PG_GETARG_INTERVAL_P(2);
	webhook_action_check_secret(secret);
	if (webhook_duration_microseconds(overlap) < 0)
		webhook_action_refuse("overlap is negative", NULL);
	keep_secrets(row, secret, webhook_duration_microseconds(overlap));
	row->signing_secret = secret;
	webhook_action_table_update(row);
	PG_RETURN_VOID();
}

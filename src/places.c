/*-------------------------------------------------------------------------
 *
 * places.c
 *	  Who may have how much of what a worker may have claimed and in flight.
 *
 * What hangs holds its place until it times out, and many receivers can hang at
 * once, even such as have just answered.  So lanes leave an eighth to those that
 * have next to nothing in flight, and the last of that to those that have
 * answered lately and have nothing in flight.  Those that have not, since the last
 * time-out or for a while, have no more than half together beyond next to nothing
 * of each; where a time-out was the last thing, no more than half at all, be they
 * ever so many.  One that is alone may have all.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "places.h"
#include "utils/timestamp.h"

#define FEW 2					/* in flight: next to nothing */
#define PROOF_US USECS_PER_MINUTE	/* for which an answer speaks for a receiver */
#define SILENCE_US (5 * USECS_PER_SEC)	/* ... of which nothing comes that is asked for */

static int	in_flight_by_trust[WEBHOOK_N_TRUST];
static int	ready_by_trust[WEBHOOK_N_TRUST];

void
webhook_places_count(WebhookLane *lane, int change)
{
	lane->in_flight += change;
	in_flight_by_trust[lane->trust] += change;
}

void
webhook_places_count_ready(WebhookLane *lane, int change)
{
	lane->n_ready += change;
	ready_by_trust[lane->trust] += change;
}

int
webhook_places_total_ready(void)
{
	int			total = 0;

	for (int i = 0; i < WEBHOOK_N_TRUST; i++)
		total += ready_by_trust[i];
	return total;
}

int
webhook_places_ready(WebhookTrust trust)
{
	return ready_by_trust[trust];
}

static void
set_trust(WebhookLane *lane, WebhookTrust trust)
{
	in_flight_by_trust[lane->trust] -= lane->in_flight;
	in_flight_by_trust[trust] += lane->in_flight;
	ready_by_trust[lane->trust] -= lane->n_ready;
	ready_by_trust[trust] += lane->n_ready;
	lane->trust = trust;
}

void
webhook_places_note(WebhookLane *lane, bool has_hung, TimestampTz now)
{
	set_trust(lane, has_hung ? WEBHOOK_SUSPECT : WEBHOOK_PROVEN);
	lane->ended_at = now;
}

/*
 * That a receiver has answered speaks for it for a while: not for so long where
 * it has something to answer.
 */
void
webhook_places_review(WebhookLane *lane, TimestampTz now)
{
	TimestampTz doubtful_at = lane->ended_at + PROOF_US;

	if (lane->trust != WEBHOOK_PROVEN)
		return;
	if (lane->in_flight > 0)
	{
		WebhookFlight *oldest = dlist_head_element(WebhookFlight, node, &lane->flying);

		doubtful_at = Max(lane->ended_at, oldest->send.started_at) + SILENCE_US;
	}
	if (now >= doubtful_at)
		set_trust(lane, WEBHOOK_UNPROVEN);
}

bool
webhook_places_is_forgotten(const WebhookLane *lane, TimestampTz now)
{
	return lane->trust != WEBHOOK_SUSPECT && now >= lane->ended_at + PROOF_US;
}

bool
webhook_places_has(const WebhookLane *lane, int max_in_flight)
{
	int			in_flight = webhook_sender_in_flight();
	int			half = max_in_flight / 2;
	int			suspects = in_flight_by_trust[WEBHOOK_SUSPECT];
	int			unproven = in_flight_by_trust[WEBHOOK_UNPROVEN];
	bool		has_few = lane->in_flight < FEW;
	int			left = 0;		/* to others */

	if (lane->in_flight < in_flight)
	{
		if (lane->trust == WEBHOOK_SUSPECT && suspects >= half)
			return false;
		if (lane->trust == WEBHOOK_UNPROVEN && !has_few &&
			suspects + unproven >= half)
			return false;
		if (!has_few)
			left = lane->trust == WEBHOOK_SUSPECT ? half : max_in_flight / 8;
		else if (lane->trust != WEBHOOK_PROVEN || lane->in_flight > 0)
			left = max_in_flight / 16;
	}
	return in_flight < max_in_flight - left;
}

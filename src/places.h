/*-------------------------------------------------------------------------
 *
 * places.h
 *	  Who may have how much of what a worker may have claimed and in flight.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_PLACES_H
#define WEBHOOK_PLACES_H

#include "lane.h"

/* A lane has so many more in flight, or claimed and not yet sent. */
extern void webhook_places_count(WebhookLane *lane, int change);
extern void webhook_places_count_ready(WebhookLane *lane, int change);

/* How many are claimed and not yet sent: in all lanes; of whom so much is known. */
extern int	webhook_places_total_ready(void);
extern int	webhook_places_ready(WebhookTrust trust);

/* A request of the lane's has ended; has_hung: and held its place for nothing. */
extern void webhook_places_note(WebhookLane *lane, bool has_hung, TimestampTz now);

/* What is known of a lane's receiver is worth less as time goes by. */
extern void webhook_places_review(WebhookLane *lane, TimestampTz now);

/* Is it so long ago that a request of the lane's ended that it tells nothing? */
extern bool webhook_places_is_forgotten(const WebhookLane *lane, TimestampTz now);

/* May a lane have one more in flight, with what others may come to need? */
extern bool webhook_places_has(const WebhookLane *lane, int max_in_flight);

#endif							/* WEBHOOK_PLACES_H */

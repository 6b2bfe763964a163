/*-------------------------------------------------------------------------
 *
 * pace.h
 *	  How soon a lane has as many requests in flight as it may.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_PACE_H
#define WEBHOOK_PACE_H

#include "lane.h"

/*
 * May a lane have one more in flight by now?  If not, "next" is made no later
 * than the moment at which it may even if no request of its ends.
 */
extern bool webhook_pace_allows(WebhookLane *lane, TimestampTz now, TimestampTz *next);

/* A request of the lane's has ended. */
extern void webhook_pace_note(WebhookLane *lane, const WebhookSend *send, TimestampTz now);

#endif							/* WEBHOOK_PACE_H */

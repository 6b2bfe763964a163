/*-------------------------------------------------------------------------
 *
 * flight.h
 *	  One claimed delivery, until it is settled.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_FLIGHT_H
#define WEBHOOK_FLIGHT_H

#include "action.h"
#include "lib/ilist.h"
#include "log_row.h"
#include "request.h"
#include "sender.h"

typedef struct WebhookFlight
{
	dlist_node	node;
	MemoryContext context;		/* of all below */
	struct WebhookLane *lane;	/* whose it is */
	char	   *webhook_id;
	WebhookRequest *request;	/* NULL: can't be rendered */
	WebhookSend send;
	WebhookResult result;		/* until it ends: the delivery as it was claimed */
} WebhookFlight;

/* Called once in a worker. */
extern void webhook_flight_init(void);

/* A flight in a memory context of its own; deleting that is its end. */
extern WebhookFlight *webhook_flight_make(int32 action_id,
										  const WebhookDelivery *delivery);

/* Make the request.  Returns NULL, or why there is none, in the flight's context. */
extern ErrorData *webhook_flight_render(WebhookFlight *flight, WebhookAction *action,
										const WebhookDelivery *delivery);

/* Hand it to the sender, with its time and signature. */
extern void webhook_flight_send(WebhookFlight *flight, WebhookAction *action,
								TimestampTz now);

/* Fill the result by the answer; the action may be gone (NULL) by then. */
extern void webhook_flight_judge(WebhookFlight *flight,
								 const WebhookAction *action, TimestampTz now);

/* Fill the result of a flight that has no answer to be judged by. */
extern void webhook_flight_end(WebhookFlight *flight, WebhookVerdict verdict,
							   char *error);

#endif							/* WEBHOOK_FLIGHT_H */

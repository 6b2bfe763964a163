/*-------------------------------------------------------------------------
 *
 * lane.h
 *	  What a worker holds of each action: where in the queue it is, what it
 *	  has claimed, and what is in flight.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LANE_H
#define WEBHOOK_LANE_H

#include "flight.h"

/* What is known of an action's receiver. */
typedef enum WebhookTrust
{
	WEBHOOK_UNPROVEN,			/* nothing has ended lately */
	WEBHOOK_PROVEN,				/* the last request that ended had not hung */
	WEBHOOK_SUSPECT				/* it had */
} WebhookTrust;

#define WEBHOOK_N_TRUST (WEBHOOK_SUSPECT + 1)

/* One action; there while it has something to do, and a while beyond. */
typedef struct WebhookLane
{
	int32		action_id;		/* hash key */
	dlist_node	node;
	WebhookAction *action;		/* NULL: there is no such action */
	MemoryContext context;		/* of action */
	char	   *problem;		/* why the action can't be compiled, or NULL */
	bool		is_loaded;

	WebhookCursor cursor;		/* behind the last claimed delivery */
	bool		has_backlog;	/* something may be due behind the cursor */
	bool		has_future;		/* something may fall due later */
	TimestampTz next_due;		/* DT_NOEND: nothing known */
	TimestampTz look_again_at;	/* at what was passed over; DT_NOEND: nothing
								 * was */
	List	   *successors;		/* WebhookSuccessor *: may go now */
	List	   *held;			/* the same, but they were locked */
	TimestampTz held_at;		/* when to look at them again */
	int			n_held_looks;	/* how often that was in vain */

	bool		is_served;		/* has got something in this turn */

	int			n_flights;		/* claimed and not yet settled */
	dlist_head	ready;			/* claimed, not yet sent */
	int			n_ready;
	dlist_head	flying;			/* sent, not yet answered */
	int			in_flight;
	int			width;			/* pace.c: may be in flight by now */
	int			credit;			/* of the receiver's, until it is made wider */
	int			full_width;		/* at which the receiver's queue was full */
	TimestampTz full_at;		/* when that was noticed last */
	TimestampTz widened_at;
	int64		best_duration;	/* of a request with a connection of its own,
								 * microseconds; 0: not known */
	TimestampTz best_at;		/* since when */
	WebhookTrust trust;
	TimestampTz ended_at;		/* the last request that did */
	int			prefetch;		/* to claim beyond what may be in flight */
	int			completed;		/* since the last turn */
	Size		average_size;	/* of a delivery's record, bytes */
	int			local_failures; /* in a row */
	TimestampTz local_failure_at;	/* the last one */
	TimestampTz local_failure_since;	/* the first one */
} WebhookLane;

extern void webhook_lane_init(void);

/* The lane of an action; made if there is none. */
extern WebhookLane *webhook_lane_find(int32 action_id);

/* All lanes, for dlist_foreach over "node". */
extern dlist_head *webhook_lane_all(void);

/* Has it nothing to do, and had nothing for so long that it can be made anew? */
extern bool webhook_lane_is_idle(const WebhookLane *lane, TimestampTz now);

/* Free the lane of an action, unless it still holds something. */
extern void webhook_lane_drop(WebhookLane *lane);

/* Forget how actions are configured: all are loaded anew when needed. */
extern void webhook_lane_forget_actions(void);

/* Start from the beginning of the queue: nothing to send comes before "first". */
extern void webhook_lane_restart(WebhookLane *lane, TimestampTz first);

/* Something is due, or will be, at that moment: the next claim is to see it. */
extern void webhook_lane_look_at(WebhookLane *lane, TimestampTz retry_at);

/*
 * Load the action if it isn't; in a transaction.  False: there is no such
 * action, or it is disabled.
 */
extern bool webhook_lane_load(WebhookLane *lane);

/*
 * From when on it claims: that of an action with a low rate limit not long
 * before its next request may go.
 */
extern TimestampTz webhook_lane_claim_at(const WebhookLane *lane, TimestampTz now);

/* How many deliveries to claim then; 0: none. */
extern int	webhook_lane_appetite(WebhookLane *lane, int budget);

/* Set the prefetch by what was completed in the time since the last turn. */
extern void webhook_lane_adapt(WebhookLane *lane, int64 elapsed_us);

/* A flight of webhook_lane_add is settled. */
extern void webhook_lane_free(WebhookFlight *flight);

/*
 * Make a claimed delivery ready to be sent; if no request can be made of it,
 * returns it as a flight that has ended, else NULL.  Raises no error but for
 * lack of memory.
 */
extern WebhookFlight *webhook_lane_add(WebhookLane *lane,
									   const WebhookDelivery *delivery);

/* Send what may be sent; returns the moment at which more may (DT_NOEND: none). */
extern TimestampTz webhook_lane_dispatch(int max_in_flight);

/* The next flight that the sender has finished, its result filled; NULL: none. */
extern WebhookFlight *webhook_lane_finish(void);

/*
 * Give back what is ready, and what is in flight as well if the worker is
 * about to end: flights with results of verdict RELEASED.
 */
extern List *webhook_lane_release(bool also_in_flight);

/* Is a delivery claimed and not yet answered? */
extern bool webhook_lane_holds(int64 log_id);

#endif							/* WEBHOOK_LANE_H */

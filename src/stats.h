/*-------------------------------------------------------------------------
 *
 * stats.h
 *	  What a worker counts of each action.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_STATS_H
#define WEBHOOK_STATS_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* The upper bound of a bucket, in microseconds. */
extern double webhook_stats_bound(int bucket);

extern void webhook_stats_init(void);

/*
 * In a turn's transaction: count what has been settled (WebhookFlight *), and
 * store what has been counted if it is time to.  An abort undoes both.
 */
extern void webhook_stats_settle(List *settled, TimestampTz now);

/* After the commit: tell the server log of receivers that fail or are back. */
extern void webhook_stats_report(void);

/* When a turn is to be taken to store what has been counted; DT_NOEND: nothing. */
extern TimestampTz webhook_stats_next(void);

/* Store it in the next turn. */
extern void webhook_stats_hurry(void);

#endif							/* WEBHOOK_STATS_H */

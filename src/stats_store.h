/*-------------------------------------------------------------------------
 *
 * stats_store.h
 *	  What a worker has counted of an action, and its rows in the tables
 *	  webhook.action_stats and webhook.action_latency.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_STATS_STORE_H
#define WEBHOOK_STATS_STORE_H

#include "datatype/timestamp.h"
#include "storage/itemptr.h"

/*
 * Durations are counted in buckets whose bounds grow by the square root of
 * two: 0.1 ms, 0.14 ms, 0.2 ms, ... 52 s; the last has no upper bound.
 */
#define WEBHOOK_LATENCY_BUCKETS 40

/* So many failed attempts in a row mean that the receiver is failing. */
#define WEBHOOK_FAILING_AFTER 3

#define WEBHOOK_STATS_SLOT_US (300 * USECS_PER_SEC)
#define WEBHOOK_STATS_ERROR_SIZE 256

typedef enum WebhookAnnouncement
{
	WEBHOOK_TOLD,
	WEBHOOK_IS_FAILING,
	WEBHOOK_IS_BACK
} WebhookAnnouncement;

typedef struct WebhookStatsEntry
{
	int32		action_id;		/* hash key */
	uint64		saved_in;		/* turn in which it was last saved for undo */
	bool		is_known;		/* the stored state has been read */
	bool		is_dirty;
	char		title[NAMEDATALEN];

	/* Since it was last stored. */
	int64		succeeded;
	int64		failed;
	int64		attempts;
	TimestampTz slot;			/* the five minutes that latencies is about */
	int32		latencies[WEBHOOK_LATENCY_BUCKETS];
	TimestampTz last_success_at;	/* 0: none */
	TimestampTz last_failure_at;
	char		last_error[WEBHOOK_STATS_ERROR_SIZE];

	/* State. */
	int			failures;		/* attempts in a row */
	TimestampTz failing_since;	/* the first of them */
	bool		is_failing;		/* the server log has been told */
	TimestampTz quiet_until;	/* nothing more of failing in the log */
	WebhookAnnouncement announcement;
	TimestampTz announced_since;

	/* What of it the flush under way has stored, and where it lies. */
	bool		is_stats_stored;
	bool		is_latency_stored;
	ItemPointerData stats_tid;
	ItemPointerData latency_tid;
} WebhookStatsEntry;

/*
 * All of these run SQL: they need a transaction, an active snapshot, and SPI
 * connected.
 */

/* What the worker before this one knew of the receiver. */
extern void webhook_stats_store_read(WebhookStatsEntry *entry);

/*
 * Add what has been counted to the entry's rows; the entry tells of which that
 * could be done.  A row that somebody has locked is left alone.
 */
extern void webhook_stats_store_add(WebhookStatsEntry *entry);

/* Actions that are no more leave no statistics. */
extern void webhook_stats_store_tidy(void);

#endif							/* WEBHOOK_STATS_STORE_H */

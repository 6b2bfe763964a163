/*-------------------------------------------------------------------------
 *
 * shared.h
 *	  Shared memory, for those who keep something in it: news, slots, requests.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SHARED_H
#define WEBHOOK_SHARED_H

#include "news.h"
#include "slot.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#define WEBHOOK_MAX_REQUESTS 64
#define WEBHOOK_MAX_BLOCKED 16

typedef struct WebhookSharedSlot
{
	WebhookSlotInfo info;
	Latch	   *latch;			/* NULL: nobody attached */
	WebhookNews news;			/* not yet taken */
	uint32		started;		/* others that have since it was last taken */
} WebhookSharedSlot;

typedef struct WebhookShared
{
	LWLock	   *lock;
	Latch	   *launcher_latch;
	TimestampTz clock_was;		/* before it was turned back; 0: it was not */
	bool		any_request;	/* more requests than fit */
	int			n_requests;
	Oid			requests[WEBHOOK_MAX_REQUESTS];
	int			n_blocked;
	struct
	{
		Oid			database;
		int			pid;		/* of who blocks it */
	}			blocked[WEBHOOK_MAX_BLOCKED];
	int			n_slots;
	WebhookSharedSlot slots[FLEXIBLE_ARRAY_MEMBER];
} WebhookShared;

/* NULL where the library isn't preloaded. */
extern WebhookShared *webhook_shared;

/* This process' slot; NULL: it is no worker. */
extern WebhookSharedSlot *webhook_shared_mine;

extern void webhook_shared_init(void);
extern bool webhook_shared_is_loaded(void);

/*
 * The clock was turned back, and showed this time before; the latest such time.
 * 0: no worker has seen that happen.
 */
extern void webhook_shared_set_clock_was(TimestampTz clock_was);
extern TimestampTz webhook_shared_clock_was(void);

#endif							/* WEBHOOK_SHARED_H */

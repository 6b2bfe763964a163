/*-------------------------------------------------------------------------
 *
 * share.h
 *	  What a turn claims: of each action its share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SHARE_H
#define WEBHOOK_SHARE_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/*
 * In a turn's transaction: claim what may be claimed.  Returns a list of
 * WebhookDelivery *.
 */
extern List *webhook_share_claim(TimestampTz now);

/*
 * At the end of a turn: find out what the lanes may claim next.
 * webhook_share_forget is for when nothing is to be sent.
 */
extern void webhook_share_plan(void);
extern void webhook_share_forget(void);

/* May some lane have more to claim?  And when could it?  DT_NOEND: not yet. */
extern bool webhook_share_has_backlog(void);
extern TimestampTz webhook_share_hungry_at(TimestampTz now);

/* When the next delivery falls due; DT_NOEND: nothing is known to. */
extern TimestampTz webhook_share_next_due(void);

#endif							/* WEBHOOK_SHARE_H */

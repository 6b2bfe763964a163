/*-------------------------------------------------------------------------
 *
 * turn.h
 *	  A worker's turn at the database: record what was answered, claim what is
 *	  to be sent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TURN_H
#define WEBHOOK_TURN_H

#include "datatype/timestamp.h"
#include "slot.h"

extern void webhook_turn_init(void);

/*
 * Is nothing to be sent, because the database is a copy, or has nothing
 * configured?
 */
extern bool webhook_turn_is_silent(void);

/* What the worker does, but for its beginning and its end. */
extern WebhookWorkerState webhook_turn_state(void);

/* Is there something to do, and is it time?  is_told: the latch was set. */
extern bool webhook_turn_is_due(TimestampTz now, bool is_told);

/* Take a turn; an error in it is reported and followed by a pause. */
extern void webhook_turn_take(void);

/*
 * The moment at which a turn is due; for a worker that was told of something,
 * that at which it may take one.
 */
extern TimestampTz webhook_turn_next(TimestampTz now, bool is_told);

#endif							/* WEBHOOK_TURN_H */

/*-------------------------------------------------------------------------
 *
 * recovery.h
 *	  What was under way when a worker ended is sent again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RECOVERY_H
#define WEBHOOK_RECOVERY_H

#include "datatype/timestamp.h"

extern void webhook_recovery_init(void);

/*
 * In a turn's transaction, if it is time: queue again what is found in a piece
 * of the queue.  webhook_recovery_commit is for when it has committed,
 * webhook_recovery_restart for when it has failed.
 */
extern void webhook_recovery_step(TimestampTz now);
extern void webhook_recovery_commit(void);
extern void webhook_recovery_restart(void);

/*
 * There are to be fewer workers, or one is missed: what it has left behind is looked
 * for by the first one.
 */
extern void webhook_recovery_again(void);

/* When the next step is due; DT_NOEND: there is none that is waited for. */
extern TimestampTz webhook_recovery_next(void);

#endif							/* WEBHOOK_RECOVERY_H */

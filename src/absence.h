/*-------------------------------------------------------------------------
 *
 * absence.h
 *	  Which of a database's workers are not there, and have not been for long.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_ABSENCE_H
#define WEBHOOK_ABSENCE_H

#include "datatype/timestamp.h"

/*
 * Look who is there, unless that was done a moment ago.  True: there is one more
 * that is missed.
 */
extern bool webhook_absence_look(TimestampTz now);

/* There is to be a worker of that number, but it isn't waited for any longer. */
extern bool webhook_absence_is_missed(int number);

/* Is this worker the first one, but for such that are missed? */
extern bool webhook_absence_is_first(void);

#endif							/* WEBHOOK_ABSENCE_H */

/*-------------------------------------------------------------------------
 *
 * duration.h
 *	  Durations in settings, and of actions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_DURATION_H
#define WEBHOOK_DURATION_H

#include "datatype/timestamp.h"

#define WEBHOOK_MAX_DURATION (INT64CONST(10) * 366 * USECS_PER_DAY)

/*
 * Parse a duration such as "90s", "30 min" or "1 hour 30 minutes" up to a
 * comma or the end; *text is moved there.  A number alone counts seconds.
 * Raises no error.
 */
extern bool webhook_duration_parse(const char **text, int64 *usecs);

/*
 * Microseconds of an interval.  Added to a moment they still give one: what is
 * longer, or infinite, is cut.
 */
extern int64 webhook_duration_of_interval(const Interval *interval);

#endif							/* WEBHOOK_DURATION_H */

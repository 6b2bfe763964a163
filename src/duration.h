/*-------------------------------------------------------------------------
 *
 * duration.h
 *	  Durations: in settings, and as intervals.
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
 * An interval in microseconds.  Added to a moment it still gives one: what is
 * longer than a thousand years, or infinite, is cut.
 */
extern int64 webhook_duration_microseconds(const Interval *interval);

#endif							/* WEBHOOK_DURATION_H */

/*-------------------------------------------------------------------------
 *
 * schedule.h
 *	  When a scheduled workflow runs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SCHEDULE_H
#define WEBHOOK_SCHEDULE_H

#include "datatype/timestamp.h"
#include "pgtime.h"

typedef struct WebhookPlan WebhookPlan;

/*
 * Parse an interval ('15 minutes') or a cron line ('0 9 * * 1-5', '@daily'), in
 * the current memory context.  Raises ERRCODE_INVALID_PARAMETER_VALUE, naming
 * the part that is wrong.
 */
extern WebhookPlan *webhook_schedule_parse(const char *schedule);

/*
 * The first moment strictly after "after".  An interval counts from "start" (0,
 * or one after "after": from there).  Raises ERRCODE_INVALID_PARAMETER_VALUE
 * for a day that never comes.
 */
extern TimestampTz webhook_schedule_next(const WebhookPlan *plan,
										 TimestampTz start, TimestampTz after,
										 pg_tz *zone);

/*
 * From where an interval counts whose run was planned for a moment: from
 * "start", if that leads there; else, as where somebody has moved the run, from
 * that moment.
 */
extern TimestampTz webhook_schedule_start(const WebhookPlan *plan,
										  TimestampTz start, TimestampTz planned,
										  pg_tz *zone);

/*
 * When a run comes that is planned for a moment after "now", perhaps by another
 * clock or in another zone.
 */
extern TimestampTz webhook_schedule_correct(const WebhookPlan *plan,
											TimestampTz start, TimestampTz planned,
											TimestampTz now, pg_tz *zone);

/* The zone of webhook.timezone, or else the server's. */
extern pg_tz *webhook_schedule_zone(void);

#endif							/* WEBHOOK_SCHEDULE_H */

/*-------------------------------------------------------------------------
 *
 * survey.h
 *	  Where in the queue there is something to send.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SURVEY_H
#define WEBHOOK_SURVEY_H

#include "datatype/timestamp.h"
#include "news.h"

/* Look at everything anew in the next turn. */
extern void webhook_survey_ask(void);
extern bool webhook_survey_is_asked(void);

/* When to take a turn at the latest: within half a minute of the last. */
extern TimestampTz webhook_survey_next(void);

/* Take the hint of something that may lie anywhere out of the hints. */
extern void webhook_survey_take_any(WebhookHint *hints, int *n, TimestampTz now);

/*
 * In a turn's transaction: let the lanes know of what commits have told of and
 * of what has fallen due, and look at everything if that is due.
 */
extern void webhook_survey_take(const WebhookHint *hints, int n, TimestampTz now);

/* ... where nothing is to be sent. */
extern void webhook_survey_skip(TimestampTz now);

/* The turn that began at "now" has committed, and ends. */
extern void webhook_survey_commit(TimestampTz now, TimestampTz ended_at);

#endif							/* WEBHOOK_SURVEY_H */

/*-------------------------------------------------------------------------
 *
 * runner.h
 *	  Starts the processes of scheduled runs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RUNNER_H
#define WEBHOOK_RUNNER_H

#include "datatype/timestamp.h"

/* For the worker that is number 0. */

/* Workflows or settings have changed what is next. */
extern void webhook_runner_survey(void);

/* Has a run ended?  Then another may begin. */
extern void webhook_runner_collect(void);

/* The moment at which a look is due. */
extern TimestampTz webhook_runner_next(void);

/*
 * Start the runs that are due.  An error is reported and followed by a pause.
 */
extern void webhook_runner_look(void);

#endif							/* WEBHOOK_RUNNER_H */

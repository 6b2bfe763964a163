/*-------------------------------------------------------------------------
 *
 * progress.h
 *	  How far long work is, for the view webhook.stat_progress.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_PROGRESS_H
#define WEBHOOK_PROGRESS_H

/* For shared.c, as it asks for shared memory and finds its own. */
extern void webhook_progress_request(void);
extern void webhook_progress_attach(void);

/*
 * This process begins something long, of which it does one at a time: a
 * command as users know it ("retry_failed"), and what it is about (0: not one
 * workflow, or action).  It ends by webhook_progress_end, or with the
 * transaction in which it was begun.
 */
extern void webhook_progress_start(const char *command, int32 workflow_id,
								   int32 action_id);

/* done of total; 0: how much there is is not known. */
extern void webhook_progress_update(int64 done, int64 total);
extern void webhook_progress_end(void);

/* The same for work that takes many transactions. */
extern void webhook_progress_keep(void);

#endif							/* WEBHOOK_PROGRESS_H */

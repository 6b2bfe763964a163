/*-------------------------------------------------------------------------
 *
 * commit.h
 *	  What a transaction tells the workers once it has committed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_COMMIT_H
#define WEBHOOK_COMMIT_H

#include "datatype/timestamp.h"

extern void webhook_commit_init(void);

/* After commit, wake the database's workers: an action has new work. */
extern void webhook_commit_wake(int32 action_id, TimestampTz retry_at);

/* Has this transaction work for them, that they see after its commit? */
extern bool webhook_commit_has_news(void);

/* After commit, let them look at everything anew (configuration, log). */
extern void webhook_commit_rescan(void);

/* After commit, let the launcher look at this database. */
extern void webhook_commit_launch(void);

#endif							/* WEBHOOK_COMMIT_H */

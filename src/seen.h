/*-------------------------------------------------------------------------
 *
 * seen.h
 *	  Records that a workflow of recurrence "first" has met.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SEEN_H
#define WEBHOOK_SEEN_H

/*
 * Note a record down; true: the workflow had never met it.  Waits for a
 * transaction that has noted it and is still open.
 */
extern bool webhook_seen_note(int32 workflow_id, const char *record_id);

/* A record has another key now; NULL: the module has none. */
extern void webhook_seen_rename(int32 workflow_id, const char *old_id,
								const char *new_id);

/* A record is gone, or all are: they may come again. */
extern void webhook_seen_forget(int32 workflow_id, const char *record_id);
extern void webhook_seen_forget_all(int32 workflow_id);

#endif							/* WEBHOOK_SEEN_H */

/*-------------------------------------------------------------------------
 *
 * shared.h
 *	  Shared memory: a slot for each worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SHARED_H
#define WEBHOOK_SHARED_H

#include "datatype/timestamp.h"

typedef enum WebhookWorkerState
{
	WEBHOOK_STATE_STARTING,
	WEBHOOK_STATE_RUNNING,
	WEBHOOK_STATE_DISABLED,		/* webhook.enabled is off */
	WEBHOOK_STATE_PAUSED,		/* the database is a copy */
	WEBHOOK_STATE_BACKOFF,		/* waits after an error of its own */
	WEBHOOK_STATE_RUN,			/* a process that carries out a workflow's run */
	WEBHOOK_STATE_STOPPED,		/* ended when asked to */
	WEBHOOK_STATE_FAILED,		/* ended by an error */
	WEBHOOK_STATE_ABSENT		/* found no extension in its database */
} WebhookWorkerState;

#define WEBHOOK_ERROR_SIZE 256

/* A copy of a slot, for views and the launcher. */
typedef struct WebhookSlotInfo
{
	bool		used;
	Oid			database;
	int			number;			/* 0, 1, ... among the database's workers */
	int			pid;			/* 0: not running */
	WebhookWorkerState state;
	TimestampTz started_at;
	int			in_flight;
	int			claimed;		/* and not yet sent */
	int			unsettled;		/* answered, and the log not yet told */
	bool		is_recovering;	/* looks for what an earlier one had under way */
	int64		attempts;
	Size		memory;			/* bytes, of all its memory contexts */
	int			capacity;		/* requests that its descriptors allow */
	int64		log_start;		/* nothing in the log is numbered up to it */
	TimestampTz last_turn_at;
	char		last_error[WEBHOOK_ERROR_SIZE];
	TimestampTz last_error_at;
} WebhookSlotInfo;

/*
 * What a commit told the worker: where new work begins.  WEBHOOK_ANY_ACTION
 * stands for one that nobody knows.
 */
typedef struct WebhookHint
{
	int32		action_id;
	TimestampTz retry_at;
} WebhookHint;

#define WEBHOOK_MAX_HINTS 64
#define WEBHOOK_ANY_ACTION 0

typedef struct WebhookNews
{
	bool		rescan;			/* look at everything anew: configuration, log */
	int			n_hints;
	WebhookHint hints[WEBHOOK_MAX_HINTS];
} WebhookNews;

/* A slot's number from here on is that of a run's process. */
#define WEBHOOK_FIRST_RUN 1000

extern void webhook_shared_init(void);
extern bool webhook_shared_is_loaded(void);

/* ---- sessions ---- */

/* Add a hint to the news; where there is no room for it, that is a rescan. */
extern void webhook_shared_add_hint(WebhookNews *news, int32 action_id,
									TimestampTz retry_at);

/* Wake a database's workers and tell them. */
extern void webhook_shared_tell(Oid database, const WebhookNews *news);

/* Let them look at everything anew. */
extern void webhook_shared_rescan(Oid database);

/* Let the launcher look at a database. */
extern void webhook_shared_request_worker(Oid database);

/*
 * Has a worker of this database anything claimed, under way or to record, or
 * may it still find what an earlier one had?
 */
extern bool webhook_shared_is_busy(void);

/*
 * End a database's workers and let none start until unblocked; waits for
 * them at most five seconds.
 */
extern void webhook_shared_block(Oid database);
extern void webhook_shared_unblock(Oid database);

/* ---- launcher ---- */

extern void webhook_shared_attach_launcher(void);
extern int	webhook_shared_slots(void);
extern WebhookSlotInfo webhook_shared_slot(int index);

/* Reserve a slot for a worker about to be started; -1: none is free. */
extern int	webhook_shared_reserve(Oid database, int number);
extern void webhook_shared_free(int index);
extern bool webhook_shared_is_blocked(Oid database);

/* Take the databases that asked for a worker; true: any may have. */
extern bool webhook_shared_take_requests(Oid *databases, int max, int *n);

/* ---- worker ---- */

/* Is this process a worker? */
extern bool webhook_shared_is_worker(void);

/* Is a worker of this number there, for this database? */
extern bool webhook_shared_has_worker(int number);

/* Which others of this database have started since it was last taken: a bit each. */
extern uint32 webhook_shared_take_started(void);

extern void webhook_shared_attach_worker(int index, Oid *database, int *number);
/* The same for a run's process: returns its database. */
extern Oid	webhook_shared_attach_run(int index);

/* A run that has ended, or was never begun. */
extern void webhook_shared_free_run(int index, int number);

/* For others to see as the last error of a database's worker. */
extern void webhook_shared_report(Oid database, const char *message);

extern void webhook_shared_set_state(WebhookWorkerState state);
extern void webhook_shared_set_progress(int in_flight, int claimed,
										int unsettled, int64 attempts);
extern void webhook_shared_set_recovering(bool is_recovering);
extern void webhook_shared_set_turn(TimestampTz now, Size memory, int capacity);
extern void webhook_shared_set_log_start(int64 log_id);
extern void webhook_shared_set_error(const char *message);

/* Have commits told something since it was last taken? */
extern bool webhook_shared_is_told(void);

/*
 * The clock was turned back, and showed this time before; the latest such time.
 * 0: no worker has seen that happen.
 */
extern void webhook_shared_set_clock_was(TimestampTz clock_was);
extern TimestampTz webhook_shared_clock_was(void);

/* Take what commits have told; true: look at everything anew. */
extern bool webhook_shared_take_hints(WebhookHint *hints, int *n);

/* Wake the database's workers but this one. */
extern void webhook_shared_wake_others(void);

#endif							/* WEBHOOK_SHARED_H */

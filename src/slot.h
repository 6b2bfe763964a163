/*-------------------------------------------------------------------------
 *
 * slot.h
 *	  A slot for each worker, in which it says how it is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SLOT_H
#define WEBHOOK_SLOT_H

#include "datatype/timestamp.h"
#include "pgtime.h"

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
	char		timezone[TZ_STRLEN_MAX + 1];	/* of schedules; empty: not known yet */
	char		last_error[WEBHOOK_ERROR_SIZE];
	TimestampTz last_error_at;
	TimestampTz trouble_since;	/* nothing can be sent, for last_error; 0: all is well */
} WebhookSlotInfo;

/* A slot's number from here on is that of a run's process. */
#define WEBHOOK_FIRST_RUN 1000

/* ---- sessions ---- */

/*
 * Has a worker of this database anything claimed, under way or to record, or
 * may it still find what an earlier one had?
 */
extern bool webhook_slot_is_busy(void);

/*
 * The time zone that a worker of this database plans schedules in; false: none
 * has said so.
 */
extern bool webhook_slot_get_timezone(char timezone[TZ_STRLEN_MAX + 1]);

/* ---- launcher ---- */

extern int	webhook_slot_count(void);
extern WebhookSlotInfo webhook_slot_read(int index);

/* Reserve a slot for a worker about to be started; -1: none is free. */
extern int	webhook_slot_reserve(Oid database, int number);
extern void webhook_slot_free(int index);

/* ---- worker ---- */

/* Is this process a worker? */
extern bool webhook_slot_is_worker(void);

/* Its number among those of its database. */
extern int	webhook_slot_number(void);

/* Is a worker of this number there, for this database? */
extern bool webhook_slot_has_worker(int number);

/* Which others of this database have started since it was last taken: a bit each. */
extern uint32 webhook_slot_take_started(void);

/* A worker, or a run's process, takes its slot; returns its database. */
extern Oid	webhook_slot_attach(int index);

/* A run of this database that has ended, or was never begun. */
extern void webhook_slot_free_run(int index, int number);

/* For others to see as the last error of a database's worker. */
extern void webhook_slot_report(Oid database, const char *message);

extern void webhook_slot_set_state(WebhookWorkerState state);
extern void webhook_slot_set_progress(int in_flight, int claimed,
									  int unsettled, int64 attempts);
extern void webhook_slot_set_trouble(TimestampTz since);

/* Since when a worker of this database can't send anything; 0: all can. */
extern TimestampTz webhook_slot_find_trouble(char reason[WEBHOOK_ERROR_SIZE]);
extern void webhook_slot_set_timezone(const char *timezone);
extern void webhook_slot_set_recovering(bool is_recovering);
extern void webhook_slot_set_turn(TimestampTz now, Size memory, int capacity);
extern void webhook_slot_set_log_start(int64 log_id);
extern void webhook_slot_set_error(const char *message);

#endif							/* WEBHOOK_SLOT_H */

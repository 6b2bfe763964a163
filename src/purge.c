/*-------------------------------------------------------------------------
 *
 * purge.c
 *	  What ended longer than webhook.log_retention ago is deleted.
 *
 * In the order of log_id, which is the order in which the rows lie in their
 * tables and indexes, so that whole pages become free next to each other; a
 * few hundred at a time, each time in a transaction that is over at once, and
 * with no more than a share of the worker's time.  A row that somebody has
 * locked stays until the next time: nobody is waited for.
 *
 * Attempts go with their deliveries, and so do those whose delivery somebody
 * has deleted by hand.
 *
 * Runs in the first worker of a database.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog.h"
#include "compat.h"
#include "complaint.h"
#include "log_table.h"
#include "miscadmin.h"
#include "progress.h"
#include "purge.h"
#include "queue.h"
#include "settings.h"
#include "shared.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define STEP_SIZE 250			/* rows: a few milliseconds */
#define SHARE 5					/* of the worker's time, a fifth */
#define MIN_PAUSE_US (5 * INT64CONST(1000)) /* between steps */
#define MIN_WAIT_US USECS_PER_SEC	/* for rows to grow old */
#define ROUND_INTERVAL_US (60 * USECS_PER_SEC)
#define START_INTERVAL_US (3600 * USECS_PER_SEC)

/* A delivery that was looked at. */
typedef struct Passed
{
	int64		log_id;
	bool		is_gone;		/* now */
} Passed;

/* What is known of the log. */
typedef struct Knowledge
{
	int64		position;		/* looked at up to here in this round; -1: the
								 * round is to begin */
	int64		start;			/* nothing is there up to this log_id */
	bool		is_clean;		/* nor from there to the position */
	TimestampTz next_start_at;	/* start is not taken for granted any longer */
} Knowledge;

static bool is_ours = false;
static Knowledge known = {.position = -1};
static Knowledge learned;		/* in this transaction */
static bool is_learned = false;
static bool is_waiting = true;	/* for rows to grow old */
static int	seen_retention = 0; /* the setting, as it was in the last step */
static TimestampTz next_step_at = 0;
static TimestampTz next_round_at = 0;

void
webhook_purge_init(int number)
{
	is_ours = number == 0;
}

TimestampTz
webhook_purge_next(void)
{
	if (!is_ours || webhook_log_retention <= 0)
		return 0;
	return webhook_log_retention == seen_retention ? next_step_at : 1;
}

/* ---------------------------------------------------------------------
 * Without a statement
 * ---------------------------------------------------------------------
 */

static Relation
find_primary_key(const WebhookLogTarget *target, int n)
{
	static const AttrNumber columns[] = {1, 2};

	for (int i = 0; i < target->rri->ri_NumIndices; i++)
	{
		Relation	index = target->rri->ri_IndexRelationDescs[i];

		if (index->rd_index->indisprimary &&
			webhook_log_is_index(index, target->rel, columns, n))
			return index;
	}
	return NULL;
}

/* Rows of a table with a log_id behind one, up to another, in order. */
static IndexScanDesc
begin_scan(const WebhookLogTarget *target, Relation index, int64 behind,
		   int64 last)
{
	ScanKeyData keys[2];
	IndexScanDesc scan;

	ScanKeyInit(&keys[0], 1, BTGreaterStrategyNumber, F_INT8GT,
				Int64GetDatum(behind));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE,
				Int64GetDatum(last));
	scan = webhook_index_beginscan(target->rel, index, GetActiveSnapshot(),
								   lengthof(keys));
	index_rescan(scan, keys, lengthof(keys), NULL, 0);
	return scan;
}

/* False: somebody has locked or changed it. */
static bool
delete_row(const WebhookLogTarget *target)
{
	TM_FailureData failure;

	return table_tuple_delete(target->rel, &target->slot->tts_tid,
							  GetCurrentCommandId(true), GetActiveSnapshot(),
							  InvalidSnapshot, false, &failure,
							  false) == TM_Ok;
}

/*
 * Since when a delivery has been young; 0: it is not.  What is old by the moment
 * at which it was queued, but only just, and ends in these very moments, is
 * waited for: to pass it would be to come back for it.
 */
static TimestampTz
find_young_at(TimestampTz before, TimestampTz queued_at, TimestampTz ended_at)
{
	if (queued_at >= before)
		return queued_at;
	if (queued_at < before - WEBHOOK_PURGE_PATIENCE_US || ended_at < before)
		return 0;
	return ended_at == PG_INT64_MAX ? before : ended_at;
}

/*
 * Delete what of the log is old.  Returns how many there were, and in passed
 * all that were looked at, in the order of log_id.
 */
static int
delete_deliveries(WebhookLogTarget *log, Relation index, WebhookPurgeStep *step,
				  int limit, Passed *passed, int *n_passed)
{
	IndexScanDesc scan = begin_scan(log, index, step->behind, PG_INT64_MAX);
	int			n_gone = 0;
	int			n = 0;

	while (n < limit &&
		   index_getnext_slot(scan, ForwardScanDirection, log->slot))
	{
		Datum	   *values = log->slot->tts_values;
		bool	   *nulls = log->slot->tts_isnull;
		int64		log_id;
		TimestampTz ended_at;

		CHECK_FOR_INTERRUPTS();
		slot_getsomeattrs(log->slot, LOG_COMPLETED_AT + 1);
		log_id = DatumGetInt64(values[LOG_LOG_ID]);
		ended_at = nulls[LOG_RETRY_AT] && !nulls[LOG_COMPLETED_AT] ?
			DatumGetTimestampTz(values[LOG_COMPLETED_AT]) : PG_INT64_MAX;
		step->young_at = find_young_at(step->before,
									   DatumGetTimestampTz(values[LOG_QUEUED_AT]),
									   ended_at);
		if (step->young_at != 0)
		{
			/* In the order of log_id: behind the first young one all are. */
			step->behind = Max(step->behind, log_id - 1);
			break;
		}
		passed[n].log_id = step->behind = log_id;
		passed[n].is_gone = ended_at < step->before && delete_row(log);
		if (passed[n++].is_gone)
			n_gone++;
	}
	index_endscan(scan);
	step->is_more = n == limit;
	step->all_gone = n_gone == n;
	*n_passed = n;
	return n_gone;
}

/* Delete the attempts of what is gone, and old ones of what was so before. */
static void
delete_attempts(WebhookLogTarget *attempts, Relation index, int64 behind,
				int64 last, TimestampTz before, const Passed *passed,
				int n_passed)
{
	IndexScanDesc scan = begin_scan(attempts, index, behind, last);
	int			i = 0;

	while (index_getnext_slot(scan, ForwardScanDirection, attempts->slot))
	{
		Datum	   *values = attempts->slot->tts_values;
		int64		log_id;

		CHECK_FOR_INTERRUPTS();
		slot_getsomeattrs(attempts->slot, ATTEMPT_STARTED_AT + 1);
		log_id = DatumGetInt64(values[ATTEMPT_LOG_ID]);
		while (i < n_passed && passed[i].log_id < log_id)
			i++;
		if (i < n_passed && passed[i].log_id == log_id ? passed[i].is_gone :
			DatumGetTimestampTz(values[ATTEMPT_STARTED_AT]) < before)
			(void) delete_row(attempts);
	}
	index_endscan(scan);
}

/* False, and nothing is done: it takes statements. */
static bool
delete_directly(WebhookPurgeStep *step, int limit)
{
	WebhookLogTarget log;
	WebhookLogTarget attempts;
	Relation	log_key;
	Relation	attempts_key;
	bool		is_direct;

	if (!webhook_log_open(&log, webhook_catalog_relation(WEBHOOK_REL_LOG),
						  LOG_NATTS, CMD_DELETE))
		return false;
	if (!webhook_log_open(&attempts, webhook_catalog_relation(WEBHOOK_REL_ATTEMPT),
						  ATTEMPT_NATTS, CMD_DELETE))
	{
		webhook_log_close(&log);
		return false;
	}
	log_key = find_primary_key(&log, 1);
	attempts_key = find_primary_key(&attempts, 2);
	is_direct = log_key != NULL && attempts_key != NULL;
	if (is_direct)
	{
		int64		behind = step->behind;
		Passed	   *passed = palloc(limit * sizeof(Passed));
		int			n_passed;

		PushCopiedSnapshot(GetActiveSnapshot());
		UpdateActiveSnapshotCommandId();
		if (delete_deliveries(&log, log_key, step, limit, passed, &n_passed) > 0)
			delete_attempts(&attempts, attempts_key, behind, step->behind,
							step->before, passed, n_passed);
		PopActiveSnapshot();
	}
	webhook_log_close(&attempts);
	webhook_log_close(&log);
	return is_direct;
}

/* ---------------------------------------------------------------------
 * Steps and rounds
 * ---------------------------------------------------------------------
 */

/* Show a purge that takes more than a step as one piece of work. */
static void
tell_progress(bool is_more)
{
	static int64 done = 0;

	if (!is_more)
	{
		if (done > 0)
			webhook_progress_end();
		done = 0;
		return;
	}
	if (done == 0)
	{
		webhook_progress_start("purge", 0, 0);
		webhook_progress_keep();
	}
	done += STEP_SIZE;
	webhook_progress_update(done, 0);
}

/*
 * A round goes on where the last one found the first row that was too young,
 * and now and then, for what was not yet to be deleted, begins anew: where
 * something is left, since while somebody holds an old snapshot what was
 * deleted is walked over again; and once in an hour, for what committed late,
 * at the very beginning.
 */
static void
begin_round(TimestampTz now)
{
	if (now >= learned.next_start_at)
	{
		learned.start = 0;
		learned.next_start_at = now + START_INTERVAL_US;
	}
	learned.position = learned.start;
	learned.is_clean = true;
	next_round_at = now + ROUND_INTERVAL_US;
}

static void
take_step(TimestampTz now, WebhookPurgeStep *step)
{
	learned = known;
	if (learned.position < 0 || (is_waiting && now >= next_round_at))
		begin_round(now);

	memset(step, 0, sizeof(WebhookPurgeStep));
	step->before = now - webhook_log_retention * USECS_PER_SEC;
	step->behind = learned.position;
	if (!delete_directly(step, STEP_SIZE))
		webhook_queue_purge(step, STEP_SIZE);
	learned.position = step->behind;
	learned.is_clean = learned.is_clean && step->all_gone;
	if (learned.is_clean)
		learned.start = learned.position;
	is_learned = true;
	is_waiting = !step->is_more;
}

/*
 * A step in a subtransaction of its own: somebody's trigger or foreign key may
 * forbid it, which is no reason for the turn to fail.  Nor is a table that is
 * locked.  False: it is put off.
 */
static bool
try_step(TimestampTz now, WebhookPurgeStep *step)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool is_taken = false;

	if (!webhook_catalog_lock_if_free(WEBHOOK_REL_LOG) ||
		!webhook_catalog_lock_if_free(WEBHOOK_REL_ATTEMPT))
	{
		next_step_at = now + MIN_WAIT_US;
		return false;
	}
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		take_step(now, step);
		ReleaseCurrentSubTransaction();
		is_taken = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		webhook_shared_set_error(error->message);
		FreeErrorData(error);
		webhook_complaint_emit();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		is_learned = false;
		next_step_at = now + ROUND_INTERVAL_US;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return is_taken;
}

void
webhook_purge_take(TimestampTz now)
{
	WebhookPurgeStep step;
	TimestampTz started_at;
	TimestampTz ended_at;

	if (!is_ours)
		return;
	if (webhook_log_retention <= 0)
	{
		seen_retention = 0;
		tell_progress(false);
		return;
	}
	if (now < webhook_purge_next())
		return;
	seen_retention = webhook_log_retention;
	started_at = GetCurrentTimestamp();
	if (!try_step(now, &step))
	{
		tell_progress(false);
		return;
	}
	ended_at = GetCurrentTimestamp();

	/* However much is old, it is deliveries that the worker is for. */
	if (step.is_more)
		next_step_at = ended_at +
			Max(MIN_PAUSE_US, (ended_at - started_at) * (SHARE - 1));
	else
	{
		next_step_at = now + ROUND_INTERVAL_US;
		if (step.young_at != 0)
			next_step_at = Min(next_step_at,
							   step.young_at + webhook_log_retention * USECS_PER_SEC);
		next_step_at = Max(next_step_at, now + MIN_WAIT_US);
	}
	tell_progress(step.is_more);
}

void
webhook_purge_commit(void)
{
	if (!is_learned)
		return;
	known = learned;
	is_learned = false;
	webhook_shared_set_log_start(known.start);
}

void
webhook_purge_abort(void)
{
	/* It may have been what failed: a constraint of somebody's can be deferred. */
	if (is_learned)
		next_step_at = GetCurrentTimestamp() + ROUND_INTERVAL_US;
	is_learned = false;
}

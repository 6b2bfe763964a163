/*-------------------------------------------------------------------------
 *
 * durable.c
 *	  Nothing is sent that a crash or a failover could still undo.
 *
 * A commit can be seen before it is safe: with synchronous_commit = off, and,
 * where there are synchronous standbys, when the wait for them was canceled or
 * a crash has ended it.  A receiver must not hear of a deal that is gone when
 * the server is back.  So the worker, before it sends what it has claimed,
 * flushes the WAL up to where its writers committed, and waits until the
 * synchronous standbys have it.  In the usual case the writer has just done
 * both, and nothing is left to do.
 *
 * Where a transaction committed is known as far as it matters: of those that
 * did not flush their commit themselves, the commit log remembers it until it
 * is on disk (hint bits need that, too).  To flush up to where the WAL ends
 * would always find something of somebody's, and make the writers queue behind
 * flushes that nobody needs.  For which commits the standbys were not waited
 * for is remembered nowhere: there it is the end of the WAL as it was seen.
 *
 * What was written by a transaction that was over when the WAL had last been
 * found to be safe needs no look.
 *
 * The wait blocks nothing: requests that are under way go on.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "durable.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/lwlock.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define LONG_WAIT_MS 10000		/* worth a line in the server's log */

static int	wait_mode = SYNC_REP_NO_WAIT;

/* Of the turn's snapshot. */
static XLogRecPtr seen_lsn = InvalidXLogRecPtr;

/* Transactions before candidate_xid are safe once candidate_lsn is. */
static TransactionId safe_xid = InvalidTransactionId;	/* none is known */
static TransactionId candidate_xid = InvalidTransactionId;
static XLogRecPtr candidate_lsn = InvalidXLogRecPtr;

/* What is to be sent was committed up to here. */
static XLogRecPtr required_lsn = InvalidXLogRecPtr;

/* What the standbys are waited for with; invalid: nothing. */
static XLogRecPtr awaited_lsn = InvalidXLogRecPtr;
static TimestampTz awaited_since;
static bool is_wait_told;

/*
 * Where the last record ends.  At a page's begin the insert position is behind
 * the page's header, which nobody has written yet.
 */
static XLogRecPtr
get_wal_end(void)
{
	XLogRecPtr	lsn = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(lsn, wal_segment_size) == SizeOfXLogLongPHD)
		return lsn - SizeOfXLogLongPHD;
	if (lsn % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		return lsn - SizeOfXLogShortPHD;
	return lsn;
}

static bool
is_standby_wanted(void)
{
	return wait_mode != SYNC_REP_NO_WAIT && max_wal_senders > 0 &&
		SyncRepStandbyNames != NULL && SyncRepStandbyNames[0] != '\0';
}

static bool
have_standbys(XLogRecPtr lsn)
{
	XLogRecPtr	confirmed;

	if (!is_standby_wanted())
		return true;
	LWLockAcquire(SyncRepLock, LW_SHARED);
	confirmed = WalSndCtl->lsn[wait_mode];
	LWLockRelease(SyncRepLock);
	return confirmed >= lsn;
}

/* The worker has set synchronous_commit for itself; others' is what it resets to. */
void
webhook_durable_reload(void)
{
	const char *others = GetConfigOptionResetString("synchronous_commit");

	if (strcmp(others, "remote_write") == 0)
		wait_mode = SYNC_REP_WAIT_WRITE;
	else if (strcmp(others, "on") == 0)
		wait_mode = SYNC_REP_WAIT_FLUSH;
	else if (strcmp(others, "remote_apply") == 0)
		wait_mode = SYNC_REP_WAIT_APPLY;
	else
		wait_mode = SYNC_REP_NO_WAIT;
}

void
webhook_durable_begin(void)
{
	Snapshot	snapshot = GetActiveSnapshot();

	seen_lsn = get_wal_end();
	if (TransactionIdIsValid(candidate_xid) &&
		(GetFlushRecPtr(NULL) < candidate_lsn || !have_standbys(candidate_lsn)))
		return;
	if (TransactionIdIsValid(candidate_xid))
		safe_xid = candidate_xid;
	candidate_xid = snapshot->xmin;
	candidate_lsn = seen_lsn;
}

/* Where a transaction whose rows we see committed; invalid: it is flushed. */
static XLogRecPtr
find_commit(TransactionId xid)
{
	if (!TransactionIdIsNormal(xid) ||
		(TransactionIdIsValid(safe_xid) && TransactionIdPrecedes(xid, safe_xid)))
		return InvalidXLogRecPtr;
	if (!TransactionIdIsValid(safe_xid) || is_standby_wanted())
		return seen_lsn;

	/* One from before a wraparound looks like one that is yet to come. */
	if (!TransactionIdPrecedes(xid, ReadNextTransactionId()))
		return InvalidXLogRecPtr;
	return TransactionIdGetCommitLSN(xid);
}

void
webhook_durable_add(TransactionId writer)
{
	required_lsn = Max(required_lsn, find_commit(writer));
}

void
webhook_durable_require(void)
{
	XLogRecPtr	lsn = required_lsn;

	required_lsn = InvalidXLogRecPtr;
	if (GetFlushRecPtr(NULL) < lsn)
		XLogFlush(lsn);
	if (have_standbys(lsn))
		return;
	awaited_lsn = lsn;
	awaited_since = GetCurrentTimestamp();
	is_wait_told = false;
}

bool
webhook_durable_is_reached(void)
{
	if (XLogRecPtrIsInvalid(awaited_lsn))
		return true;
	if (have_standbys(awaited_lsn))
	{
		awaited_lsn = InvalidXLogRecPtr;
		if (is_wait_told)
			ereport(LOG,
					(errcode(ERRCODE_SUCCESSFUL_COMPLETION),
					 errmsg("webhooks are sent again: a synchronous standby has caught up")));
		return true;
	}
	if (!is_wait_told &&
		TimestampDifferenceExceeds(awaited_since, GetCurrentTimestamp(), LONG_WAIT_MS))
	{
		is_wait_told = true;
		ereport(LOG,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("webhooks wait for a synchronous standby"),
				 errdetail("What they tell of is not yet on the standbys of synchronous_standby_names."),
				 errhint("See pg_stat_replication.")));
	}
	return false;
}

/*-------------------------------------------------------------------------
 *
 * stat_worker.c
 *	  The view webhook.stat_worker: how the workers are.
 *
 * Runs in sessions, and reads shared memory only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "settings.h"
#include "shared.h"
#include "slot.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define COLUMNS 14

PG_FUNCTION_INFO_V1(stat_worker);
PG_FUNCTION_INFO_V1(fits);
PG_FUNCTION_INFO_V1(is_loaded);
PG_FUNCTION_INFO_V1(is_served);
PG_FUNCTION_INFO_V1(unknown_databases);
PG_FUNCTION_INFO_V1(log_start);

static const char *const states[] = {
	[WEBHOOK_STATE_STARTING] = "starting",
	[WEBHOOK_STATE_RUNNING] = "running",
	[WEBHOOK_STATE_DISABLED] = "disabled",
	[WEBHOOK_STATE_PAUSED] = "paused: copy",
	[WEBHOOK_STATE_BACKOFF] = "backoff",
	[WEBHOOK_STATE_RUN] = "running a workflow",
	[WEBHOOK_STATE_STOPPED] = "stopped",
	[WEBHOOK_STATE_FAILED] = "failed",
	[WEBHOOK_STATE_ABSENT] = "absent",
};

/* May the caller read messages that can quote anybody's data? */
static bool
may_read_errors(void)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS) ||
		is_member_of_role(GetUserId(), webhook_catalog_owner());
}

static void
set_time(Datum *value, bool *isnull, TimestampTz time)
{
	*value = TimestampTzGetDatum(time);
	*isnull = time == 0;
}

/*
 * webhook.stat_worker()
 *		One row a worker process of the cluster.
 */
Datum
stat_worker(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		shows_errors = may_read_errors();

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < webhook_slot_count(); i++)
	{
		WebhookSlotInfo info = webhook_slot_read(i);
		Datum		values[COLUMNS] = {0};
		bool		nulls[COLUMNS] = {0};
		char	   *database;
		NameData	name = {{0}};

		if (!info.used || info.state == WEBHOOK_STATE_ABSENT)
			continue;
		database = get_database_name(info.database);
		if (database != NULL)
			namestrcpy(&name, database);
		values[0] = Int32GetDatum(info.pid);
		nulls[0] = info.pid == 0;
		values[1] = NameGetDatum(&name);
		nulls[1] = database == NULL;
		values[2] = Int32GetDatum(info.number);
		values[3] = CStringGetTextDatum(states[info.state]);
		set_time(&values[4], &nulls[4], info.started_at);
		values[5] = Int32GetDatum(info.in_flight);
		values[6] = Int64GetDatum(info.attempts);
		values[7] = CStringGetTextDatum(shows_errors ? info.last_error :
										"<insufficient privilege>");
		nulls[7] = info.last_error[0] == '\0';
		set_time(&values[8], &nulls[8], info.last_error_at);
		values[9] = Int32GetDatum(info.claimed);
		values[10] = Int32GetDatum(info.unsettled);
		set_time(&values[11], &nulls[11], info.last_turn_at);
		values[12] = Int64GetDatum((int64) info.memory);
		nulls[12] = info.memory == 0;
		values[13] = Int32GetDatum(info.capacity);
		nulls[13] = info.capacity == 0;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * webhook.fits() returns boolean
 *		Does the library serve the extension's version?
 */
Datum
fits(PG_FUNCTION_ARGS)
{
	char	   *version;

	PG_RETURN_BOOL(webhook_catalog_fits(&version));
}

/*
 * webhook.is_loaded() returns boolean
 *		Is the library preloaded, so that there are workers?
 */
Datum
is_loaded(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(webhook_shared_is_loaded());
}

/*
 * webhook.is_served() returns boolean
 *		Does webhook.databases name this database?
 */
Datum
is_served(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(webhook_settings_has_database(get_database_name(MyDatabaseId)));
}

/*
 * webhook.unknown_databases() returns text[]
 *		Names in webhook.databases that no database bears.
 */
Datum
unknown_databases(PG_FUNCTION_ARGS)
{
	List	   *names = webhook_settings_databases();
	Datum	   *unknown = palloc((list_length(names) + 1) * sizeof(Datum));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, names)
	{
		const char *name = lfirst(lc);

		if (strcmp(name, "*") != 0 && !OidIsValid(get_database_oid(name, true)))
			unknown[n++] = CStringGetTextDatum(name);
	}
	PG_RETURN_ARRAYTYPE_P(construct_array(unknown, n, TEXTOID, -1, false,
										  TYPALIGN_INT));
}

/*
 * webhook.log_start() returns bigint
 *		Up to which log_id the worker has found that nothing is left.
 */
Datum
log_start(PG_FUNCTION_ARGS)
{
	int64		result = 0;

	for (int i = 0; i < webhook_slot_count(); i++)
	{
		WebhookSlotInfo info = webhook_slot_read(i);

		if (info.used && info.database == MyDatabaseId)
			result = Max(result, info.log_start);
	}
	PG_RETURN_INT64(result);
}

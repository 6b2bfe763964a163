/*-------------------------------------------------------------------------
 *
 * catalog.c
 *	  The extension's own relations, and the rights they are touched with.
 *
 * Runs in sessions and workers.  A CRM user needs no right on the log: what
 * is done to the extension's tables is done with the rights of their owner,
 * and of nobody else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"

/*
 * The version of the SQL objects that this library was made with: the control
 * file's.  Those of an earlier minor version it serves as well, so that nothing
 * stands still from the restart with a new library until ALTER EXTENSION
 * UPDATE; those of a later one it doesn't know.
 */
#define LIBRARY_VERSION WEBHOOK_VERSION	/* by Makefile */

static const char *const relation_names[WEBHOOK_REL_COUNT] = {
	[WEBHOOK_REL_WORKFLOW] = "workflow",
	[WEBHOOK_REL_ACTION] = "action",
	[WEBHOOK_REL_SECRET] = "action_secret",
	[WEBHOOK_REL_LOG] = "webhook_log",
	[WEBHOOK_REL_ATTEMPT] = "webhook_attempt",
	[WEBHOOK_REL_LOG_SEQUENCE] = "webhook_log_log_id_seq",
};

static Oid	relation_oids[WEBHOOK_REL_COUNT];
static Oid	owner_oid = InvalidOid;
static uint64 generation = 1;
static bool is_registered = false;

static void
on_relcache_inval(Datum arg, Oid relid)
{
	if (relid == InvalidOid)
	{
		memset(relation_oids, 0, sizeof(relation_oids));
		owner_oid = InvalidOid;
		generation++;
		return;
	}
	for (int i = 0; i < WEBHOOK_REL_COUNT; i++)
	{
		if (relation_oids[i] == relid)
		{
			relation_oids[i] = InvalidOid;
			owner_oid = InvalidOid;
			if (i == WEBHOOK_REL_WORKFLOW || i == WEBHOOK_REL_ACTION)
				generation++;
		}
	}
}

bool
webhook_catalog_exists(void)
{
	return OidIsValid(get_extension_oid("webhook", true));
}

/* Two numbers of "major.minor", whatever follows. */
static void
parse_version(const char *version, long *major, long *minor)
{
	char	   *end;

	*major = strtol(version, &end, 10);
	*minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
}

bool
webhook_catalog_fits(char **version)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	long		major;
	long		minor;
	long		library_major;
	long		library_minor;

	*version = pstrdup(LIBRARY_VERSION);
	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("webhook"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		datum = heap_getattr(tuple, Anum_pg_extension_extversion,
										 RelationGetDescr(rel), &isnull);

		*version = TextDatumGetCString(datum);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	parse_version(*version, &major, &minor);
	parse_version(LIBRARY_VERSION, &library_major, &library_minor);
	return major == library_major && minor <= library_minor;
}

/* The extension's objects may have been made for another library. */
static void
check_version(void)
{
	char	   *version;

	if (!webhook_catalog_fits(&version))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"webhook\" has version %s here, but the library that is loaded has version %s",
						version, LIBRARY_VERSION),
				 errhint("Run ALTER EXTENSION webhook UPDATE, or restart the server if its library is the older one.")));
	pfree(version);
}

void
webhook_catalog_recheck(void)
{
	if (!webhook_catalog_exists())
		return;
	CommandCounterIncrement();
	check_version();
	CacheInvalidateRelcacheByRelid(webhook_catalog_relation(WEBHOOK_REL_LOG));
}

Oid
webhook_catalog_relation(WebhookRelation which)
{
	if (!is_registered)
	{
		CacheRegisterRelcacheCallback(on_relcache_inval, (Datum) 0);
		is_registered = true;
	}
	if (!OidIsValid(relation_oids[which]))
	{
		Oid			nspoid;
		Oid			relid = InvalidOid;

		/* First: no invalidation may come between the look-up and its note. */
		check_version();
		nspoid = get_namespace_oid("webhook", true);
		if (OidIsValid(nspoid))
			relid = get_relname_relid(relation_names[which], nspoid);
		if (!OidIsValid(relid))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE),
					 errmsg("relation \"webhook.%s\" does not exist",
							relation_names[which]),
					 errhint("Is the extension \"webhook\" installed in this database?")));
		relation_oids[which] = relid;
	}
	return relation_oids[which];
}

bool
webhook_catalog_is_known(void)
{
	AcceptInvalidationMessages();
	return OidIsValid(relation_oids[WEBHOOK_REL_LOG]);
}

bool
webhook_catalog_lock_if_free(WebhookRelation which)
{
	return ConditionalLockRelationOid(webhook_catalog_relation(which),
									  RowExclusiveLock);
}

/*
 * Its statistics say so, which a relation has while a transaction that changed
 * its rows is not over.  Where nothing is counted, any may have.
 */
bool
webhook_catalog_is_log_written(void)
{
	Oid			nspoid;
	Oid			relid;
	Relation	rel;
	bool		is_written;

	if (!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return false;
	nspoid = get_namespace_oid("webhook", true);
	relid = OidIsValid(nspoid) ?
		get_relname_relid(relation_names[WEBHOOK_REL_LOG], nspoid) : InvalidOid;
	if (!OidIsValid(relid) || get_rel_relkind(relid) != RELKIND_RELATION)
		return false;
	if (!pgstat_track_counts)
		return true;
	rel = RelationIdGetRelation(relid);
	if (!RelationIsValid(rel))
		return false;
	is_written = pgstat_should_count_relation(rel) && rel->pgstat_info->trans != NULL;
	RelationClose(rel);
	return is_written;
}

Oid
webhook_catalog_owner(void)
{
	Oid			relid = webhook_catalog_relation(WEBHOOK_REL_LOG);

	if (!OidIsValid(owner_oid))
	{
		HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));

		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for relation %u", relid);
		owner_oid = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner_oid;
}

void
webhook_scope_enter_to_parse(WebhookScope *scope, Oid role)
{
	GetUserIdAndSecContext(&scope->user, &scope->sec_context);
	SetUserIdAndSecContext(role, scope->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	scope->guc_level = NewGUCNestLevel();
}

void
webhook_scope_set(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

void
webhook_scope_enter(WebhookScope *scope, Oid role)
{
	webhook_scope_enter_to_parse(scope, role);
	webhook_scope_set("search_path", "pg_catalog, pg_temp");
	/* Off, as dumps set it, it makes an error of what a policy would hide. */
	if (!row_security)
		webhook_scope_set("row_security", "on");
}

void
webhook_scope_leave(const WebhookScope *scope)
{
	AtEOXact_GUC(false, scope->guc_level);
	SetUserIdAndSecContext(scope->user, scope->sec_context);
}

uint64
webhook_catalog_generation(void)
{
	/* Both must be known for an invalidation to be noticed. */
	(void) webhook_catalog_relation(WEBHOOK_REL_WORKFLOW);
	(void) webhook_catalog_relation(WEBHOOK_REL_ACTION);
	return generation;
}

/*-------------------------------------------------------------------------
 *
 * module.c
 *	  Which tables can be modules, and for whom.
 *
 * Runs in sessions.  The owner of a workflow needs TRIGGER and SELECT on the
 * module, because a workflow sends the module's data out.  A module is locked
 * before it is judged, so that it stays what it was found to be.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "module.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static void
check_rights(Oid module, Oid owner)
{
	if (pg_class_aclcheck(module, owner, ACL_TRIGGER) == ACLCHECK_OK &&
		pg_class_aclcheck(module, owner, ACL_SELECT) == ACLCHECK_OK)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for table \"%s\"", get_rel_name(module)),
			 errdetail("The owner of a workflow, here role \"%s\", needs the privileges TRIGGER and SELECT on its module.",
					   GetUserNameFromId(owner, false)),
			 errhint("Use GRANT TRIGGER, SELECT ON TABLE %s TO %s.",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(module)),
												get_rel_name(module)),
					 quote_identifier(GetUserNameFromId(owner, false)))));
}

static void
check_kind(Relation module)
{
	const char *name = RelationGetRelationName(module);

	if (module->rd_rel->relkind != RELKIND_RELATION &&
		module->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" can't be the module of a workflow", name),
				 errdetail_relkind_not_supported(module->rd_rel->relkind),
				 errhint("A module is an ordinary or a partitioned table. For a view, take the table that it shows.")));
	if (module->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("temporary table \"%s\" can't be the module of a workflow", name),
				 errhint("A module is a permanent table.")));
	if (RelationGetRelid(module) < FirstNormalObjectId)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("system table \"%s\" can't be the module of a workflow", name),
				 errhint("A module is a table of yours.")));
	if (getExtensionOfObject(RelationRelationId, RelationGetRelid(module)) ==
		get_extension_oid("webhook", false))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" of the extension \"webhook\" can't be the module of a workflow", name),
				 errhint("A module is a table of yours.")));
}

/* Rights are checked before the lock too: without any, nobody waits for it. */
Relation
webhook_module_open(Oid module, Oid owner, LOCKMODE lockmode)
{
	Relation	rel;

	check_rights(module, owner);
	rel = try_relation_open(module, lockmode);
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", module),
				 errhint("It has just been dropped.")));
	check_rights(module, owner);
	check_kind(rel);
	return rel;
}

Bitmapset *
webhook_module_key(Relation module)
{
	Oid			constraint;

	return get_primary_key_attnos(RelationGetRelid(module), true, &constraint);
}

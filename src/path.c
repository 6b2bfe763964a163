/*-------------------------------------------------------------------------
 *
 * path.c
 *	  Values of related records: foreign keys followed from a module.
 *
 * Runs in sessions, at configuration.  A path becomes a query on the referenced
 * tables, joined by the foreign keys' own operators; an empty reference gives
 * no row, and so NULL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_constraint.h"
#include "lib/stringinfo.h"
#include "name.h"
#include "path.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

typedef struct ForeignKey
{
	Oid			oid;
	Oid			relation;		/* that it leads to */
	int			n;
	AttrNumber	columns[INDEX_MAX_KEYS];
	AttrNumber	referenced[INDEX_MAX_KEYS];
	Oid			operators[INDEX_MAX_KEYS];	/* referenced = referencing */
} ForeignKey;

/* ---------------------------------------------------------------------
 * Foreign keys
 * ---------------------------------------------------------------------
 */

/*
 * A key that leads to a partitioned table has a clone for each of that table's
 * partitions: its parent is a constraint of the same table.
 */
static bool
is_clone(Form_pg_constraint form)
{
	HeapTuple	tuple;
	bool		result;

	if (!OidIsValid(form->conparentid))
		return false;
	tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(form->conparentid));
	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_constraint) GETSTRUCT(tuple))->conrelid == form->conrelid;
	ReleaseSysCache(tuple);
	return result;
}

static bool
has_column(const ForeignKey *key, AttrNumber column)
{
	for (int i = 0; i < key->n; i++)
	{
		if (key->columns[i] == column)
			return true;
	}
	return false;
}

/*
 * The foreign key that a column belongs to; of several the one with the
 * fewest columns.  False: there is none.
 */
static bool
find_key(Relation rel, AttrNumber column, ForeignKey *key, bool *is_ambiguous)
{
	Relation	catalog = table_open(ConstraintRelationId, AccessShareLock);
	ScanKeyData skey;
	SysScanDesc scan;
	HeapTuple	tuple;

	key->n = 0;
	*is_ambiguous = false;
	ScanKeyInit(&skey, Anum_pg_constraint_conrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(RelationGetRelid(rel)));
	scan = systable_beginscan(catalog, ConstraintRelidTypidNameIndexId, true,
							  NULL, 1, &skey);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
		ForeignKey	found;

		if (form->contype != CONSTRAINT_FOREIGN || is_clone(form))
			continue;
		found.oid = form->oid;
		found.relation = form->confrelid;
		DeconstructFkConstraintRow(tuple, &found.n, found.columns, found.referenced,
								   found.operators, NULL, NULL, NULL, NULL);
		if (!has_column(&found, column))
			continue;
		if (key->n == 0 || found.n < key->n)
		{
			*key = found;
			*is_ambiguous = false;
		}
		else if (found.n == key->n && found.relation != key->relation)
			*is_ambiguous = true;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return key->n > 0;
}

/* ---------------------------------------------------------------------
 * The query
 * ---------------------------------------------------------------------
 */

static AttrNumber
find_column(Relation rel, const char *name, const char *exact, const char *what)
{
	AttrNumber	attnum = get_attnum(RelationGetRelid(rel), name);

	if (attnum <= 0 && exact != NULL)
		attnum = get_attnum(RelationGetRelid(rel), exact);
	if (attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("%s: column \"%s\" of table \"%s\" does not exist",
						what, name, RelationGetRelationName(rel))));
	return attnum;
}

static const char *
quote_column(Relation rel, AttrNumber attnum)
{
	return quote_identifier(NameStr(TupleDescAttr(RelationGetDescr(rel),
												  attnum - 1)->attname));
}

/* r2.id = r1.organization_id, for all columns of the key */
static void
append_join(StringInfo out, const ForeignKey *key, Relation from,
			const char *from_name, Relation to, int number)
{
	for (int i = 0; i < key->n; i++)
		appendStringInfo(out, "%sr%d.%s %s %s.%s", i > 0 ? " AND " : "",
						 number, quote_column(to, key->referenced[i]),
						 webhook_name_operator(key->operators[i]), from_name,
						 quote_column(from, key->columns[i]));
}

char *
webhook_path_compile(List *steps, List *exacts, bool is_old,
					 Relation module, const char *what)
{
	StringInfoData from;
	StringInfoData where;
	Relation	rel = module;
	char	   *name = is_old ? "old" : "new";
	char	   *result;
	AttrNumber	last;
	int			number = 0;

	initStringInfo(&from);
	initStringInfo(&where);
	for (int i = 0; i < list_length(steps) - 1; i++)
	{
		const char *step = list_nth(steps, i);
		AttrNumber	column = find_column(rel, step, list_nth(exacts, i), what);
		ForeignKey	key;
		bool		is_ambiguous;
		Relation	next;

		if (!find_key(rel, column, &key, &is_ambiguous))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_FOREIGN_KEY),
					 errmsg("%s: column \"%s\" of table \"%s\" has no foreign key",
							what, step, RelationGetRelationName(rel)),
					 errhint("Give it one, or write the query: ${= (SELECT ... FROM ... WHERE ... = new.%s)}.",
							 quote_identifier(step))));
		if (is_ambiguous)
			ereport(ERROR,
					(errcode(ERRCODE_AMBIGUOUS_COLUMN),
					 errmsg("%s: column \"%s\" of table \"%s\" belongs to more than one foreign key",
							what, step, RelationGetRelationName(rel)),
					 errhint("Write the query: ${= (SELECT ... FROM ... WHERE ... = new.%s)}.",
							 quote_identifier(step))));

		next = table_open(key.relation, AccessShareLock);
		number++;
		appendStringInfo(&from, "%s%s r%d", number > 1 ? " JOIN " : "",
						 webhook_name_relation(next), number);
		if (number == 1)
			append_join(&where, &key, rel, name, next, number);
		else
		{
			appendStringInfoString(&from, " ON ");
			append_join(&from, &key, rel, name, next, number);
		}
		if (rel != module)
			table_close(rel, NoLock);
		rel = next;
		name = psprintf("r%d", number);
	}
	last = find_column(rel, llast(steps), llast(exacts), what);
	result = psprintf("(SELECT %s.%s FROM %s WHERE %s)", name,
					  quote_column(rel, last), from.data, where.data);
	if (rel != module)
		table_close(rel, NoLock);
	return result;
}

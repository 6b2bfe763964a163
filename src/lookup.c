/*-------------------------------------------------------------------------
 *
 * lookup.c
 *	  A record found by the text of its key.
 *
 * Runs in sessions, for preview and test.  The module is read with the rights
 * of the workflow's owner, whose data an action sends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog.h"
#include "catalog/pg_class.h"
#include "executor/spi.h"
#include "lookup.h"
#include "name.h"
#include "record.h"
#include "record_source.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/typcache.h"

/*
 * One column's text of a row literal such as (1,"a b"), as record_in reads
 * them; *p moves behind it and its comma.  NULL: the literal is malformed.
 */
static char *
parse_column(const char **p)
{
	StringInfoData out;
	bool		in_quote = false;

	initStringInfo(&out);
	for (;; (*p)++)
	{
		char		c = **p;

		if (c == '\0')
			return NULL;
		if (c == '\\')
		{
			if (*++(*p) == '\0')
				return NULL;
			appendStringInfoChar(&out, **p);
		}
		else if (c == '"')
		{
			if (in_quote && (*p)[1] == '"')
				appendStringInfoChar(&out, *++(*p));
			else
				in_quote = !in_quote;
		}
		else if (!in_quote && (c == ',' || c == ')'))
		{
			(*p)++;
			return out.data;
		}
		else
			appendStringInfoChar(&out, c);
	}
}

static void
split_key(const char *record_id, int n, char **columns)
{
	const char *p = record_id;
	bool		ok = true;

	if (n == 1)
	{
		columns[0] = pstrdup(record_id);
		return;
	}
	ok = *p++ == '(';
	for (int i = 0; ok && i < n; i++)
	{
		columns[i] = parse_column(&p);
		ok = columns[i] != NULL && p[-1] == (i < n - 1 ? ',' : ')');
	}
	if (!ok || *p != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("\"%s\" is not a key of %d columns", record_id, n),
				 errhint("Write it as a row, like record_id in webhook.webhook_log: (1,2).")));
}

/* The type's own equality, wherever its schema is. */
static char *
get_equality(Oid type)
{
	return webhook_name_operator(lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr);
}

HeapTuple
webhook_lookup_record(Relation rel, Oid role, const char *record_id)
{
	MemoryContext context = CurrentMemoryContext;
	AttrNumber *key;
	int			n = webhook_record_source_key(rel, &key);
	char	   *columns[INDEX_MAX_KEYS];
	Oid			types[INDEX_MAX_KEYS];
	Datum		values[INDEX_MAX_KEYS];
	StringInfoData sql;
	WebhookScope scope;
	HeapTuple	result = NULL;
	char	   *name;
	int			level;

	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no primary key", RelationGetRelationName(rel)),
				 errhint("Its records can't be told apart.")));
	split_key(record_id, n, columns);

	webhook_scope_enter(&scope, role);
	initStringInfo(&sql);
	name = webhook_name_relation(rel);
	/* Rows of children that merely inherit are not the module's. */
	appendStringInfo(&sql, "SELECT t.*::%s FROM %s %s t WHERE ", name,
					 rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ? "" : "ONLY",
					 name);
	level = webhook_record_enter_key();
	for (int i = 0; i < n; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel), key[i] - 1);
		Oid			input;
		Oid			param;

		getTypeInputInfo(attr->atttypid, &input, &param);
		types[i] = attr->atttypid;
		values[i] = OidInputFunctionCall(input, columns[i], param, attr->atttypmod);
		appendStringInfo(&sql, "%st.%s %s $%d", i > 0 ? " AND " : "",
						 quote_identifier(NameStr(attr->attname)),
						 get_equality(attr->atttypid), i + 1);
	}
	webhook_record_leave_output(level);

	SPI_connect();
	if (SPI_execute_with_args(sql.data, n, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look up a record");
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("record \"%s\" of table \"%s\" does not exist",
						record_id, RelationGetRelationName(rel))));
	else
	{
		bool		isnull;
		HeapTupleHeader row = DatumGetHeapTupleHeader(SPI_getbinval(SPI_tuptable->vals[0],
																   SPI_tuptable->tupdesc,
																   1, &isnull));
		HeapTupleData tuple;
		MemoryContext old;

		tuple.t_len = HeapTupleHeaderGetDatumLength(row);
		ItemPointerSetInvalid(&tuple.t_self);
		tuple.t_tableOid = RelationGetRelid(rel);
		tuple.t_data = row;
		old = MemoryContextSwitchTo(context);
		result = heap_copytuple(&tuple);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	webhook_scope_leave(&scope);
	return result;
}

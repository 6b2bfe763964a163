/*-------------------------------------------------------------------------
 *
 * record_source.c
 *	  What is known of a table whose rows become records.
 *
 * It is looked up once, and kept until the relation cache says that the table
 * has changed: its columns, the functions that make them jsonb, its primary
 * key, the expressions of what is generated, and what it is a partition of.
 *
 * Runs in the writer's session.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/partition.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "record_source.h"
#include "rewrite/rewriteHandler.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

static HTAB *sources = NULL;

static void
on_relcache_inval(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	WebhookRecordSource *rel;

	if (relid != InvalidOid)
	{
		rel = hash_search(sources, &relid, HASH_FIND, NULL);
		if (rel != NULL)
			rel->is_valid = false;
		return;
	}
	hash_seq_init(&scan, sources);
	while ((rel = hash_seq_search(&scan)) != NULL)
		rel->is_valid = false;
}

static void
on_cast_inval(Datum arg, int cacheid, uint32 hashvalue)
{
	on_relcache_inval(arg, InvalidOid);
}

/* Can a value of this type always become jsonb? */
static bool
is_safe_type(Oid type)
{
	Oid			element = get_element_type(type);
	Oid			function;

	if (OidIsValid(element))
		type = element;
	switch (getBaseType(type))
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case NAMEOID:
		case CHAROID:
		case BYTEAOID:
		case DATEOID:
		case TIMEOID:
		case TIMETZOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
		case INTERVALOID:
		case UUIDOID:
		case JSONBOID:
		case INETOID:
		case CIDROID:
			return true;
		default:
			/* Somebody's cast to json would be called, whatever it does. */
			return type_is_enum(type) &&
				find_coercion_pathway(JSONOID, getBaseType(type),
									  COERCION_EXPLICIT, &function) != COERCION_PATH_FUNC;
	}
}

int
webhook_record_source_key(Relation rel, AttrNumber **key)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;
	int			n = 0;

	*key = NULL;
	foreach(lc, indexes)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID,
											ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_index index;

		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for index %u", lfirst_oid(lc));
		index = (Form_pg_index) GETSTRUCT(tuple);
		if (index->indisprimary)
		{
			n = index->indnkeyatts;
			*key = palloc(n * sizeof(AttrNumber));
			for (int i = 0; i < n; i++)
				(*key)[i] = index->indkey.values[i];
		}
		ReleaseSysCache(tuple);
		if (n > 0)
			break;
	}
	list_free(indexes);
	return n;
}

static WebhookColumnKind
get_kind(Oid type)
{
	switch (type)
	{
		case BOOLOID:
			return WEBHOOK_COLUMN_BOOLEAN;
		case INT2OID:
			return WEBHOOK_COLUMN_INT2;
		case INT4OID:
			return WEBHOOK_COLUMN_INT4;
		case INT8OID:
			return WEBHOOK_COLUMN_INT8;
		case NUMERICOID:
			return WEBHOOK_COLUMN_NUMERIC;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			return WEBHOOK_COLUMN_TEXT;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return WEBHOOK_COLUMN_DATETIME;
		default:
			return WEBHOOK_COLUMN_OTHER;
	}
}

/* May the text of such a value depend on the time zone? */
static bool
is_zoned(Oid type)
{
	type = getBaseType(type);
	return type == TIMESTAMPTZOID ||
		(get_kind(type) == WEBHOOK_COLUMN_OTHER && type != UUIDOID);
}

/* May it depend on the session's search path, or its currency? */
static bool
is_varied(Oid type)
{
	Oid			element = get_element_type(getBaseType(type));

	type = getBaseType(OidIsValid(element) ? element : type);
	switch (type)
	{
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGCOLLATIONOID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case MONEYOID:
			return true;
		default:
			return get_typtype(type) == TYPTYPE_COMPOSITE;
	}
}

/* jsonb keeps an object's keys by length, then by their bytes. */
static int
compare_names(const void *a, const void *b)
{
	const JsonbValue *name_a = &((const WebhookColumn *) a)->name;
	const JsonbValue *name_b = &((const WebhookColumn *) b)->name;

	if (name_a->val.string.len != name_b->val.string.len)
		return name_a->val.string.len > name_b->val.string.len ? 1 : -1;
	return memcmp(name_a->val.string.val, name_b->val.string.val,
				  name_a->val.string.len);
}

static void
load_columns(WebhookRecordSource *source, TupleDesc desc)
{
	source->columns = palloc0(Max(desc->natts, 1) * sizeof(WebhookColumn));
	source->n_columns = 0;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);
		WebhookColumn *column = &source->columns[source->n_columns];

		if (attr->attisdropped)
			continue;
		source->n_columns++;
		column->index = i;
		column->type = getBaseType(attr->atttypid);
		column->kind = get_kind(column->type);
		column->name.type = jbvString;
		column->name.val.string.val = pstrdup(NameStr(attr->attname));
		column->name.val.string.len = strlen(NameStr(attr->attname));
		if (column->kind != WEBHOOK_COLUMN_OTHER)
			continue;
		fmgr_info(F_TO_JSONB, &column->to_jsonb);
		fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID,
												 list_make1(makeNullConst(attr->atttypid, -1,
																		  InvalidOid)),
												 InvalidOid, InvalidOid,
												 COERCE_EXPLICIT_CALL),
						   &column->to_jsonb);
	}
	qsort(source->columns, source->n_columns, sizeof(WebhookColumn), compare_names);
}

static void
load_generated(WebhookRecordSource *source, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);

	source->generated = NULL;
	for (int i = 0; i < desc->natts; i++)
	{
		Node	   *expression;

		if (!webhook_is_virtual(TupleDescAttr(desc, i)))
			continue;
		if (source->generated == NULL)
		{
			source->generated = palloc0(desc->natts * sizeof(ExprState *));
			source->econtext = CreateStandaloneExprContext();
			source->slot = MakeSingleTupleTableSlot(CreateTupleDescCopyConstr(desc),
													&TTSOpsHeapTuple);
		}
		expression = webhook_generation_expression(rel, i + 1);
		source->generated[i] =
			ExecInitExpr(expression_planner((Expr *) expression), NULL);

		/* It may fail, as a division by zero. */
		source->is_guarded = true;
	}
}

/*
 * What it is a partition of.  One that is being detached (CONCURRENTLY) is one as
 * long as it has the triggers, for those who still see it as such write to it.
 */
static List *
find_ancestors(Oid relid)
{
	List	   *result = NIL;

	while (get_rel_relispartition(relid))
	{
		relid = get_partition_parent(relid, true);
		result = lappend_oid(result, relid);
	}
	return result;
}

static void
load_source(WebhookRecordSource *source, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	MemoryContext context;
	MemoryContext old;

	context = AllocSetContextCreate(CacheMemoryContext, "webhook module",
									ALLOCSET_SMALL_SIZES);
	source->context = context;	/* whatever becomes of this */
	old = MemoryContextSwitchTo(context);

	source->ancestors = find_ancestors(RelationGetRelid(rel));

	source->is_guarded = false;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (!attr->attisdropped && !is_safe_type(attr->atttypid))
			source->is_guarded = true;
	}

	source->is_key_zoned = false;
	source->is_key_varied = false;
	source->key_output = NULL;
	source->key_desc = NULL;
	source->n_key = webhook_record_source_key(rel, &source->key);
	for (int i = 0; i < source->n_key; i++)
	{
		Oid			type = TupleDescAttr(desc, source->key[i] - 1)->atttypid;

		source->is_key_zoned |= is_zoned(type);
		source->is_key_varied |= is_varied(type);
	}
	if (source->n_key == 1)
	{
		Oid			function;
		bool		is_varlena;

		getTypeOutputInfo(TupleDescAttr(desc, source->key[0] - 1)->atttypid,
						  &function, &is_varlena);
		source->key_output = palloc(sizeof(FmgrInfo));
		fmgr_info_cxt(function, source->key_output, context);
	}
	else if (source->n_key > 1)
	{
		source->key_desc = CreateTemplateTupleDesc(source->n_key);
		for (int i = 0; i < source->n_key; i++)
			TupleDescCopyEntry(source->key_desc, i + 1, desc, source->key[i]);
		source->key_desc = BlessTupleDesc(source->key_desc);
	}

	load_columns(source, desc);
	load_generated(source, rel);
	MemoryContextSwitchTo(old);
	source->is_valid = true;
}

WebhookRecordSource *
webhook_record_source_find(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	WebhookRecordSource *source;
	bool		found;

	if (sources == NULL)
	{
		HASHCTL		info = {0};

		info.keysize = sizeof(Oid);
		info.entrysize = sizeof(WebhookRecordSource);
		sources = hash_create("webhook record sources", 16, &info,
							  HASH_ELEM | HASH_BLOBS);
		CacheRegisterRelcacheCallback(on_relcache_inval, (Datum) 0);
		CacheRegisterSyscacheCallback(CASTSOURCETARGET, on_cast_inval, (Datum) 0);
	}
	source = hash_search(sources, &relid, HASH_ENTER, &found);
	if (!found)
	{
		source->is_valid = false;
		source->context = NULL;
	}
	if (!source->is_valid)
	{
		/*
		 * Somebody's cast that is called for a column may have changed the same
		 * table: what the caller's caller holds lasts as long as the transaction.
		 */
		if (source->context != NULL)
			MemoryContextSetParent(source->context, TopTransactionContext);
		source->context = NULL;
		load_source(source, rel);
	}
	return source;
}

bool
webhook_record_source_is_of(Relation rel, Oid module)
{
	return RelationGetRelid(rel) == module ||
		(rel->rd_rel->relispartition &&
		 list_member_oid(webhook_record_source_find(rel)->ancestors, module));
}

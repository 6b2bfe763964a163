/*-------------------------------------------------------------------------
 *
 * record.c
 *	  A row of a module as the log holds it: as jsonb, and by its primary key.
 *
 * Runs in the writer's session.  What is needed of a table is looked up once
 * and kept until the relation cache says that it changed.  What can go wrong
 * with the data of one record (a json value that jsonb can't hold) is told,
 * not raised: it must not fail the writer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "guard.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_coerce.h"
#include "record.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/* A table, or partition, that a workflow's trigger fires on. */
typedef struct RecordSource
{
	Oid			relid;			/* hash key */
	bool		is_valid;
	bool		is_guarded;		/* its rows may fail to become jsonb */
	int			n_key;
	AttrNumber *key;			/* primary key's columns in key order */
	FmgrInfo   *key_output;		/* of the column, if there is just one */
	TupleDesc	key_desc;		/* of the row they make, if there are more */
	FmgrInfo	to_jsonb;
	MemoryContext context;
} RecordSource;

static HTAB *sources = NULL;

static void
on_relcache_inval(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	RecordSource *rel;

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
webhook_record_key(Relation rel, AttrNumber **key)
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

static void
load_source(RecordSource *source, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	MemoryContext context;
	MemoryContext old;

	context = AllocSetContextCreate(CacheMemoryContext, "webhook module",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);

	source->is_guarded = false;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (!attr->attisdropped && !is_safe_type(attr->atttypid))
			source->is_guarded = true;
	}

	source->key_output = NULL;
	source->key_desc = NULL;
	source->n_key = webhook_record_key(rel, &source->key);
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

	fmgr_info_cxt(F_TO_JSONB, &source->to_jsonb, context);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID,
											 list_make1(makeNullConst(rel->rd_rel->reltype,
																	  -1, InvalidOid)),
											 InvalidOid, InvalidOid,
											 COERCE_EXPLICIT_CALL),
					   &source->to_jsonb);

	MemoryContextSwitchTo(old);
	source->context = context;
	source->is_valid = true;
}

static RecordSource *
find_source(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	RecordSource *source;
	bool		found;

	if (sources == NULL)
	{
		HASHCTL		info = {0};

		info.keysize = sizeof(Oid);
		info.entrysize = sizeof(RecordSource);
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
		if (source->context != NULL)
			MemoryContextDelete(source->context);
		source->context = NULL;
		load_source(source, rel);
	}
	return source;
}

int
webhook_record_enter_output(void)
{
	int			level;

	if (bytea_output == BYTEA_OUTPUT_HEX && extra_float_digits >= 1 &&
		DateStyle == USE_ISO_DATES && IntervalStyle == INTSTYLE_POSTGRES)
		return 0;

	level = NewGUCNestLevel();
	(void) set_config_option("bytea_output", "hex", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("extra_float_digits", "1", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("datestyle", "ISO", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("intervalstyle", "postgres", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

void
webhook_record_leave_output(int level)
{
	if (level != 0)
		AtEOXact_GUC(false, level);
}

/* The record's primary key as text; NULL if the module has none. */
static char *
format_record_id(RecordSource *source, HeapTuple tuple, TupleDesc desc)
{
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	HeapTuple	key;

	if (source->n_key == 0)
		return NULL;
	for (int i = 0; i < source->n_key; i++)
		values[i] = heap_getattr(tuple, source->key[i], desc, &nulls[i]);
	if (source->n_key == 1)
		return nulls[0] ? NULL : OutputFunctionCall(source->key_output, values[0]);

	key = heap_form_tuple(source->key_desc, values, nulls);
	return OidOutputFunctionCall(F_RECORD_OUT, HeapTupleGetDatum(key));
}

static Jsonb *
convert_tuple(RecordSource *source, HeapTuple tuple, TupleDesc desc)
{
	Datum		row = heap_copy_tuple_as_datum(tuple, desc);

	return DatumGetJsonbP(FunctionCall1(&source->to_jsonb, row));
}

typedef struct FillArguments
{
	WebhookRecord *record;
	RecordSource *source;
	TupleDesc	desc;
	HeapTuple	tuple;
	HeapTuple	old_tuple;
} FillArguments;

static void
fill(void *arg)
{
	FillArguments *args = arg;
	WebhookRecord *record = args->record;

	record->record = convert_tuple(args->source, args->tuple, args->desc);
	if (args->old_tuple != NULL)
		record->old_record = convert_tuple(args->source, args->old_tuple, args->desc);
}

void
webhook_record_read(WebhookRecord *record, Relation rel, HeapTuple tuple,
					HeapTuple old_tuple)
{
	RecordSource *source = find_source(rel);
	TupleDesc	desc = RelationGetDescr(rel);
	FillArguments args = {record, source, desc, tuple, old_tuple};
	int			level = webhook_record_enter_output();

	memset(record, 0, sizeof(WebhookRecord));
	record->record_id = format_record_id(source, tuple, desc);
	if (source->is_guarded)
	{
		char	   *problem = webhook_guard_call(fill, &args);

		if (problem != NULL)
		{
			record->record = NULL;
			record->old_record = NULL;
			record->error = psprintf("the record could not be made into JSON: %s",
									 problem);
		}
	}
	else
		fill(&args);
	webhook_record_leave_output(level);
}

char *
webhook_record_id(Relation rel, HeapTuple tuple)
{
	int			level = webhook_record_enter_output();
	char	   *record_id = format_record_id(find_source(rel), tuple,
											 RelationGetDescr(rel));

	webhook_record_leave_output(level);
	return record_id;
}

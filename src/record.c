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

#include "access/detoast.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "guard.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "pgtime.h"
#include "record.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/datetime.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/* How a column's values become jsonb. */
typedef enum ColumnKind
{
	COLUMN_BOOLEAN,
	COLUMN_INT2,
	COLUMN_INT4,
	COLUMN_INT8,
	COLUMN_NUMERIC,
	COLUMN_TEXT,
	COLUMN_DATETIME,
	COLUMN_OTHER				/* as to_jsonb says */
} ColumnKind;

typedef struct Column
{
	int			index;			/* in the table, from zero */
	Oid			type;			/* below a domain */
	ColumnKind	kind;
	FmgrInfo	to_jsonb;		/* of other kinds */
	JsonbValue	name;
} Column;

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
	int			n_columns;
	Column	   *columns;		/* in the order in which jsonb keeps them */
	ExprState **generated;		/* of columns that are in no tuple, by their
								 * index; NULL: there are none */
	ExprContext *econtext;		/* to compute them in */
	TupleTableSlot *slot;		/* ... from what is in the tuple */
	MemoryContext context;
} RecordSource;

/*
 * A row of this size may be too large for jsonb (256 MB), whatever its types.
 * One of which less is on the page itself, compressed or not, is no such row.
 */
#define LARGE_RECORD (16 * 1024 * 1024)
#define LARGE_TUPLE (64 * 1024)

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

static ColumnKind
get_kind(Oid type)
{
	switch (type)
	{
		case BOOLOID:
			return COLUMN_BOOLEAN;
		case INT2OID:
			return COLUMN_INT2;
		case INT4OID:
			return COLUMN_INT4;
		case INT8OID:
			return COLUMN_INT8;
		case NUMERICOID:
			return COLUMN_NUMERIC;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			return COLUMN_TEXT;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return COLUMN_DATETIME;
		default:
			return COLUMN_OTHER;
	}
}

/* jsonb keeps an object's keys by length, then by their bytes. */
static int
compare_names(const void *a, const void *b)
{
	const JsonbValue *name_a = &((const Column *) a)->name;
	const JsonbValue *name_b = &((const Column *) b)->name;

	if (name_a->val.string.len != name_b->val.string.len)
		return name_a->val.string.len > name_b->val.string.len ? 1 : -1;
	return memcmp(name_a->val.string.val, name_b->val.string.val,
				  name_a->val.string.len);
}

static void
load_columns(RecordSource *source, TupleDesc desc)
{
	source->columns = palloc0(Max(desc->natts, 1) * sizeof(Column));
	source->n_columns = 0;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);
		Column	   *column = &source->columns[source->n_columns];

		if (attr->attisdropped)
			continue;
		source->n_columns++;
		column->index = i;
		column->type = getBaseType(attr->atttypid);
		column->kind = get_kind(column->type);
		column->name.type = jbvString;
		column->name.val.string.val = pstrdup(NameStr(attr->attname));
		column->name.val.string.len = strlen(NameStr(attr->attname));
		if (column->kind != COLUMN_OTHER)
			continue;
		fmgr_info(F_TO_JSONB, &column->to_jsonb);
		fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID,
												 list_make1(makeNullConst(attr->atttypid, -1,
																		  InvalidOid)),
												 InvalidOid, InvalidOid,
												 COERCE_EXPLICIT_CALL),
						   &column->to_jsonb);
	}
	qsort(source->columns, source->n_columns, sizeof(Column), compare_names);
}

static void
load_generated(RecordSource *source, Relation rel)
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
			source->slot = MakeSingleTupleTableSlot(CreateTupleDescCopy(desc),
													&TTSOpsHeapTuple);
		}
		expression = webhook_generation_expression(rel, i + 1);
		source->generated[i] =
			ExecInitExpr(expression_planner((Expr *) expression), NULL);

		/* It may fail, as a division by zero. */
		source->is_guarded = true;
	}
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

	load_columns(source, desc);
	load_generated(source, rel);
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

static char *
format_key(RecordSource *source, HeapTuple tuple, TupleDesc desc)
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

/*
 * The record's primary key as text; NULL if the module has none.  Whoever writes
 * the record, it is the same record: a timestamptz in its key is given in UTC.
 */
static char *
format_record_id(RecordSource *source, HeapTuple tuple, TupleDesc desc)
{
	static pg_tz *utc = NULL;
	pg_tz	   *session = session_timezone;
	char	   *record_id;

	if (utc == NULL)
		utc = pg_tzset("GMT");
	session_timezone = utc;
	PG_TRY();
	{
		record_id = format_key(source, tuple, desc);
	}
	PG_FINALLY();
	{
		session_timezone = session;
	}
	PG_END_TRY();
	return record_id;
}

static void
set_string(JsonbValue *result, char *value, int len)
{
	result->type = jbvString;
	result->val.string.val = value;
	result->val.string.len = len;
}

/* NaN and the infinities are strings in JSON. */
static void
set_numeric(JsonbValue *result, Numeric value)
{
	if (numeric_is_nan(value) || numeric_is_inf(value))
	{
		char	   *text = DatumGetCString(DirectFunctionCall1(numeric_out,
															   NumericGetDatum(value)));

		set_string(result, text, strlen(text));
		return;
	}
	result->type = jbvNumeric;
	result->val.numeric = value;
}

static void
set_jsonb(JsonbValue *result, Jsonb *value)
{
	if (JB_ROOT_IS_SCALAR(value))
	{
		(void) JsonbExtractScalar(&value->root, result);
		return;
	}
	result->type = jbvBinary;
	result->val.binary.data = &value->root;
	result->val.binary.len = VARSIZE(value) - VARHDRSZ;
}

/* The same as to_jsonb makes of it. */
static void
convert_value(JsonbValue *result, Column *column, Datum value)
{
	switch (column->kind)
	{
		case COLUMN_BOOLEAN:
			result->type = jbvBool;
			result->val.boolean = DatumGetBool(value);
			break;
		case COLUMN_INT2:
			set_numeric(result, int64_to_numeric(DatumGetInt16(value)));
			break;
		case COLUMN_INT4:
			set_numeric(result, int64_to_numeric(DatumGetInt32(value)));
			break;
		case COLUMN_INT8:
			set_numeric(result, int64_to_numeric(DatumGetInt64(value)));
			break;
		case COLUMN_NUMERIC:
			set_numeric(result, DatumGetNumeric(value));
			break;
		case COLUMN_TEXT:
			{
				text	   *string = DatumGetTextPP(value);

				set_string(result, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
				break;
			}
		case COLUMN_DATETIME:
			{
				char	   *text = JsonEncodeDateTime(palloc(MAXDATELEN + 1), value,
													  column->type, NULL);

				set_string(result, text, strlen(text));
				break;
			}
		case COLUMN_OTHER:
			set_jsonb(result, DatumGetJsonbP(FunctionCall1(&column->to_jsonb, value)));
			break;
	}
}

/* Compute the columns that are in no tuple. */
static void
fill_generated(RecordSource *source, HeapTuple tuple, Datum *values, bool *nulls)
{
	ResetExprContext(source->econtext);
	ExecStoreHeapTuple(tuple, source->slot, false);
	source->econtext->ecxt_scantuple = source->slot;
	for (int i = 0; i < source->slot->tts_tupleDescriptor->natts; i++)
	{
		if (source->generated[i] != NULL)
			values[i] = ExecEvalExprSwitchContext(source->generated[i],
												  source->econtext, &nulls[i]);
	}
	ExecClearTuple(source->slot);
}

/*
 * The same as to_jsonb makes of the row, which would look up each column's type
 * for each row.
 */
static Jsonb *
convert_tuple(RecordSource *source, HeapTuple tuple, TupleDesc desc)
{
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));
	JsonbParseState *state = NULL;

	heap_deform_tuple(tuple, desc, values, nulls);
	if (source->generated != NULL)
		fill_generated(source, tuple, values, nulls);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < source->n_columns; i++)
	{
		Column	   *column = &source->columns[i];
		JsonbValue	value;

		pushJsonbValue(&state, WJB_KEY, &column->name);
		if (nulls[column->index])
			value.type = jbvNull;
		else
			convert_value(&value, column, values[column->index]);
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static bool
is_large(HeapTuple tuple, TupleDesc desc)
{
	Size		size = 0;

	if (tuple == NULL ||
		(!HeapTupleHasExternal(tuple) && tuple->t_len < LARGE_TUPLE))
		return false;
	for (int i = 0; i < desc->natts; i++)
	{
		bool		isnull;
		Datum		value;

		if (TupleDescAttr(desc, i)->attlen != -1 ||
			TupleDescAttr(desc, i)->attisdropped)
			continue;
		value = heap_getattr(tuple, i + 1, desc, &isnull);
		if (!isnull)
			size += toast_raw_datum_size(value);
	}
	return size > LARGE_RECORD;
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
	if (source->is_guarded || is_large(tuple, desc) || is_large(old_tuple, desc))
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

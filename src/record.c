/*-------------------------------------------------------------------------
 *
 * record.c
 *	  A row of a module as the log holds it: as jsonb, and by its primary key.
 *
 * Runs in the writer's session.  What can go wrong with the data of one record
 * (a json value that jsonb can't hold) is told, not raised: it must not fail the
 * writer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "guard.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "record.h"
#include "record_source.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/datetime.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/numeric.h"

/*
 * A row of this size may be too large for jsonb (256 MB), whatever its types.
 * One of which less is on the page itself, compressed or not, is no such row.
 */
#define LARGE_RECORD (16 * 1024 * 1024)
#define LARGE_TUPLE (64 * 1024)

int
webhook_record_enter_output(void)
{
	int			level;

	if (bytea_output == BYTEA_OUTPUT_HEX && extra_float_digits >= 1 &&
		DateStyle == USE_ISO_DATES && IntervalStyle == INTSTYLE_POSTGRES)
		return 0;

	level = NewGUCNestLevel();
	webhook_scope_set("bytea_output", "hex");
	webhook_scope_set("extra_float_digits", "1");
	webhook_scope_set("datestyle", "ISO");
	webhook_scope_set("intervalstyle", "postgres");
	return level;
}

int
webhook_record_enter_key(void)
{
	int			level = NewGUCNestLevel();

	webhook_scope_set("search_path", "pg_catalog, pg_temp");
	webhook_scope_set("quote_all_identifiers", "off");
	webhook_scope_set("lc_monetary", "C");
	return level;
}

void
webhook_record_leave_output(int level)
{
	if (level != 0)
		AtEOXact_GUC(false, level);
}

static char *
format_key(WebhookRecordSource *source, HeapTuple tuple, TupleDesc desc)
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
 * the record, it is the same record: a timestamptz in its key is given in UTC, a
 * regclass with its schema.
 */
static char *
format_record_id(WebhookRecordSource *source, HeapTuple tuple, TupleDesc desc)
{
	pg_tz	   *session = session_timezone;
	char	   *record_id;
	volatile int level;

	if (!source->is_key_zoned)
		return format_key(source, tuple, desc);
	level = source->is_key_varied ? webhook_record_enter_key() : 0;
	session_timezone = pg_tzset("GMT");
	PG_TRY();
	{
		record_id = format_key(source, tuple, desc);
	}
	PG_FINALLY();
	{
		session_timezone = session;
	}
	PG_END_TRY();
	webhook_record_leave_output(level);
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

/* The same as to_jsonb makes of it. */
static void
convert_value(JsonbValue *result, WebhookColumn *column, Datum value)
{
	switch (column->kind)
	{
		case WEBHOOK_COLUMN_BOOLEAN:
			result->type = jbvBool;
			result->val.boolean = DatumGetBool(value);
			break;
		case WEBHOOK_COLUMN_INT2:
			set_numeric(result, int64_to_numeric(DatumGetInt16(value)));
			break;
		case WEBHOOK_COLUMN_INT4:
			set_numeric(result, int64_to_numeric(DatumGetInt32(value)));
			break;
		case WEBHOOK_COLUMN_INT8:
			set_numeric(result, int64_to_numeric(DatumGetInt64(value)));
			break;
		case WEBHOOK_COLUMN_NUMERIC:
			set_numeric(result, DatumGetNumeric(value));
			break;
		case WEBHOOK_COLUMN_TEXT:
			{
				text	   *string = DatumGetTextPP(value);

				set_string(result, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
				break;
			}
		case WEBHOOK_COLUMN_DATETIME:
			{
				char	   *text = JsonEncodeDateTime(palloc(MAXDATELEN + 1), value,
													  column->type, NULL);

				set_string(result, text, strlen(text));
				break;
			}
		case WEBHOOK_COLUMN_OTHER:
			JsonbToJsonbValue(DatumGetJsonbP(FunctionCall1(&column->to_jsonb, value)),
							  result);
			break;
	}
}

/*
 * Compute the columns that are in no tuple.  The values are not the expression
 * context's, which is used again when a cast that is called for one of them
 * changes the same table.
 */
static void
fill_generated(WebhookRecordSource *source, HeapTuple tuple, Datum *values,
			   bool *nulls)
{
	ResetExprContext(source->econtext);
	ExecStoreHeapTuple(tuple, source->slot, false);
	source->econtext->ecxt_scantuple = source->slot;
	for (int i = 0; i < source->slot->tts_tupleDescriptor->natts; i++)
	{
		if (source->generated[i] != NULL)
			values[i] = ExecEvalExpr(source->generated[i], source->econtext,
									 &nulls[i]);
	}
	ExecClearTuple(source->slot);
}

static void
read_columns(WebhookRecordSource *source, HeapTuple tuple, TupleDesc desc,
			 Datum *values, bool *nulls)
{
	heap_deform_tuple(tuple, desc, values, nulls);
	if (source->generated != NULL)
		fill_generated(source, tuple, values, nulls);
}

HeapTuple
webhook_record_complete(Relation rel, HeapTuple tuple)
{
	WebhookRecordSource *source = webhook_record_source_find(rel);
	TupleDesc	desc = RelationGetDescr(rel);
	Datum	   *values;
	bool	   *nulls;

	if (source->generated == NULL)
		return tuple;
	values = palloc(desc->natts * sizeof(Datum));
	nulls = palloc(desc->natts * sizeof(bool));
	read_columns(source, tuple, desc, values, nulls);
	return heap_form_tuple(desc, values, nulls);
}

/*
 * The same as to_jsonb makes of the row, which would look up each column's type
 * for each row.
 */
static Jsonb *
convert_tuple(WebhookRecordSource *source, HeapTuple tuple, TupleDesc desc)
{
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));
	JsonbParseState *state = NULL;

	read_columns(source, tuple, desc, values, nulls);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < source->n_columns; i++)
	{
		WebhookColumn *column = &source->columns[i];
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
	WebhookRecordSource *source;
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
	WebhookRecordSource *source = webhook_record_source_find(rel);
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
	char	   *record_id = format_record_id(webhook_record_source_find(rel), tuple,
											 RelationGetDescr(rel));

	webhook_record_leave_output(level);
	return record_id;
}

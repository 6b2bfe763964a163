/*-------------------------------------------------------------------------
 *
 * fuzz.c
 *	  libFuzzer's entry points, inside a backend.
 *
 * What is parsed needs a server around it (memory contexts, error handling,
 * encodings), so the fuzzer is run by one: webhook_fuzz(target, arguments) is a
 * function of a library that is built with libFuzzer's instrumentation.  Each
 * input is tried in a memory context of its own; an ERROR is a good answer,
 * a crash, a hang or a broken promise is not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <libxml/parser.h>

#include "access/xact.h"
#include "address.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "payload.h"
#include "retry_after.h"
#include "schedule.h"
#include "template.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

extern int	LLVMFuzzerRunDriver(int *argc, char ***argv,
								int (*callback) (const uint8 *data, size_t size));

PG_FUNCTION_INFO_V1(webhook_fuzz);

typedef void (*Target) (const char *text);

/* A broken promise. */
#define PROMISE(condition) \
	do { if (!(condition)) { fprintf(stderr, "broken: %s\n", #condition); abort(); } } while (0)

static void
append_nothing(StringInfo out, const char *text, int len)
{
}

static void
fuzz_template(const char *text)
{
	WebhookTemplate *tmpl = webhook_template_parse(text, "fuzz");
	StringInfoData out;

	initStringInfo(&out);
	webhook_template_outline(tmpl, append_nothing, &out);
	PROMISE(out.len <= strlen(text));
	PROMISE(webhook_template_is_constant(tmpl) ==
			(webhook_template_placeholders(tmpl) == NIL));
}

/* {"name": value, ...}: each line a name, and behind a tab its value, in JSON. */
static char *
name_parameters(const char *text)
{
	StringInfoData json;
	const char *separator = "";

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	for (const char *line = text; *line != '\0';)
	{
		int			len = strcspn(line, "\n");
		int			name_len = strcspn(line, "\t\n");

		appendStringInfoString(&json, separator);
		escape_json(&json, pnstrdup(line, name_len));
		appendStringInfo(&json, ": %s", name_len == len ? "\"x\"" :
						 pnstrdup(line + name_len, len - name_len));
		separator = ", ";
		line += len + (line[len] != '\0');
	}
	appendStringInfoChar(&json, '}');
	return json.data;
}

static void
check_xml(const char *body, int len)
{
	xmlDocPtr	document = xmlReadMemory(body, len, "fuzz.xml", NULL,
										 XML_PARSE_NONET | XML_PARSE_NOERROR |
										 XML_PARSE_NOWARNING | XML_PARSE_HUGE);

	PROMISE(document != NULL);
	xmlFreeDoc(document);
}

static void
fuzz_names(const char *text)
{
	char	   *parameters = name_parameters(text);
	WebhookEvent event = {0};

	event.record = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	for (WebhookContentType type = WEBHOOK_JSON; type <= WEBHOOK_FORM; type++)
	{
		WebhookPayload *payload = webhook_payload_compile(parameters, type);
		StringInfoData body;

		initStringInfo(&body);
		webhook_payload_render(payload, &event, "record", &body);
		PROMISE(pg_verify_mbstr(PG_UTF8, body.data, body.len, true));
		if (type == WEBHOOK_JSON || type == WEBHOOK_JSONARRAY)
			(void) DirectFunctionCall1(json_in, CStringGetDatum(body.data));
		else if (type == WEBHOOK_XML)
			check_xml(body.data, body.len);
	}
}

static void
fuzz_cron(const char *text)
{
	WebhookPlan *plan = webhook_schedule_parse(text);
	static const char *const zones[] = {"UTC", "Europe/Berlin", "Australia/Lord_Howe"};
	TimestampTz after = (TimestampTz) strlen(text) * 7654321 * USECS_PER_SEC;

	for (int i = 0; i < lengthof(zones); i++)
	{
		TimestampTz next = webhook_schedule_next(plan, 0, after, pg_tzset(zones[i]));

		PROMISE(next > after);
	}
}

static void
fuzz_networks(const char *text)
{
	const char *problem = NULL;
	WebhookNetworks *networks = webhook_address_parse_networks(text, &problem);
	struct sockaddr_in address = {.sin_family = AF_INET};

	PROMISE((networks == NULL) == (problem != NULL));
	for (int i = 0; networks != NULL && i < 4; i++)
	{
		address.sin_addr.s_addr = htonl(0x7f000001U + ((uint32) i << 24));
		(void) webhook_address_allowed((struct sockaddr *) &address, networks);
	}
	if (networks != NULL)
		webhook_guc_free(networks);
}

static void
fuzz_retry_after(const char *text)
{
	PROMISE(webhook_retry_after_parse(text, 1800000000) >= -1);
}

static void
fuzz_xml(const char *text)
{
	static const char parameters[] =
	"{\"a\": \"${x}\", \"b.@c\": \"p ${x} q\", \"b.d\": \"${r}\"}";
	StringInfoData json;
	StringInfoData body;
	WebhookEvent event = {0};

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"x\": ");
	escape_json(&json, text);
	appendStringInfoString(&json, ", \"r\": {");
	escape_json(&json, text);
	appendStringInfoString(&json, ": [1, null, ");
	escape_json(&json, text);
	appendStringInfoString(&json, "]}}");
	event.record = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
													  CStringGetDatum(json.data)));
	initStringInfo(&body);
	webhook_payload_render(webhook_payload_compile(parameters, WEBHOOK_XML),
						   &event, text, &body);
	check_xml(body.data, body.len);
	resetStringInfo(&body);
	webhook_payload_render(webhook_payload_compile(NULL, WEBHOOK_XML),
						   &event, text, &body);
	check_xml(body.data, body.len);
}

static const struct
{
	const char *name;
	Target		run;
}			targets[] =
{
	{"template", fuzz_template},
	{"names", fuzz_names},
	{"cron", fuzz_cron},
	{"networks", fuzz_networks},
	{"retry_after", fuzz_retry_after},
	{"xml", fuzz_xml},
};

static Target target = NULL;
static MemoryContext input_context = NULL;

static int
try_input(const uint8 *data, size_t size)
{
	MemoryContext old = MemoryContextSwitchTo(input_context);

	PG_TRY();
	{
		/* What comes from SQL has no NUL and is valid in its encoding. */
		char	   *text = pnstrdup((const char *) data, size);

		if (pg_verify_mbstr(PG_UTF8, text, strlen(text), true))
			target(text);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(input_context);
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	MemoryContextReset(input_context);
	return 0;
}

/*
 * webhook_fuzz(target, arguments) returns integer
 *		Run libFuzzer with arguments, the first its own name, on one of the targets.
 */
Datum
webhook_fuzz(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Datum	   *elements;
	int			n;
	char	  **argv;

	target = NULL;
	for (int i = 0; i < lengthof(targets); i++)
	{
		if (strcmp(targets[i].name, name) == 0)
			target = targets[i].run;
	}
	if (target == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("nothing to fuzz is called \"%s\"", name)));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, NULL, &n);
	argv = palloc0((n + 1) * sizeof(char *));
	for (int i = 0; i < n; i++)
		argv[i] = TextDatumGetCString(elements[i]);
	input_context = AllocSetContextCreate(TopMemoryContext, "fuzz input",
										  ALLOCSET_DEFAULT_SIZES);
	PG_RETURN_INT32(LLVMFuzzerRunDriver(&n, &argv, try_input));
}

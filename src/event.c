/*-------------------------------------------------------------------------
 *
 * event.c
 *	  An event becomes rows of the log.
 *
 * Runs in the writer's session and transaction.  A record that can't be made
 * into jsonb is queued as Failed, with the reason.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "batch.h"
#include "catalog.h"
#include "commands/sequence.h"
#include "commit.h"
#include "config.h"
#include "event.h"
#include "log_table.h"
#include "mail_note.h"
#include "miscadmin.h"
#include "record.h"
#include "seen.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "wanted.h"

/* Which of an action's computed values. */
enum
{
	OF_ACTION,					/* it needs them */
	OF_WORKFLOW					/* owner_email does */
};

static HTAB *workflow_cache = NULL;
static uint64 cached_generation = 0;
static Oid	status_queued = InvalidOid;
static Oid	status_failed;

/* ---------------------------------------------------------------------
 * What is kept from event to event
 * ---------------------------------------------------------------------
 */

static void
create_cache(void)
{
	HASHCTL		info = {0};

	info.keysize = sizeof(int32);
	info.entrysize = sizeof(WebhookEventWorkflow);
	workflow_cache = hash_create("webhook workflows", 16, &info,
								 HASH_ELEM | HASH_BLOBS);
}

static void
forget_workflow(WebhookEventWorkflow *workflow)
{
	if (workflow->computed != NULL)
		webhook_computed_release(workflow->computed);
	workflow->computed = NULL;
	if (workflow->context != NULL)
		MemoryContextDelete(workflow->context);
	workflow->context = NULL;
	workflow->is_valid = false;
}

/* Forget all workflows; called where none is in use. */
static void
reset_workflows(void)
{
	HASH_SEQ_STATUS scan;
	WebhookEventWorkflow *workflow;

	hash_seq_init(&scan, workflow_cache);
	while ((workflow = hash_seq_search(&scan)) != NULL)
		forget_workflow(workflow);
	status_queued = InvalidOid;
}

static void
load_statuses(void)
{
	status_queued = webhook_log_status("Queued");
	status_failed = webhook_log_status("Failed");
}

static void
add_computed(WebhookEventWorkflow *workflow, WebhookEventComputed *computed,
			 Jsonb *compiled)
{
	MemoryContext old = MemoryContextSwitchTo(workflow->context);

	if (workflow->computed == NULL)
		workflow->computed = webhook_computed_create(workflow->module,
													 workflow->owner);
	computed->n = webhook_computed_add(workflow->computed, compiled,
									   &computed->positions, &computed->names);
	MemoryContextSwitchTo(old);
}

/*
 * Read a workflow with its enabled actions: the trigger is there as of now, even for
 * a transaction whose snapshot is older than the workflow.
 */
static void
load_workflow(WebhookEventWorkflow *workflow)
{
	WebhookConfig config;
	ListCell   *lc;

	forget_workflow(workflow);
	workflow->enabled = webhook_config_read(workflow->workflow_id, &config) &&
		config.enabled;
	workflow->module = config.module;
	workflow->owner = config.owner;
	workflow->first = config.first;
	workflow->context = AllocSetContextCreate(CacheMemoryContext, "webhook workflow",
											  ALLOCSET_SMALL_SIZES);
	workflow->n_actions = 0;
	workflow->actions = MemoryContextAllocZero(workflow->context,
											   sizeof(WebhookEventAction) *
											   Max(list_length(config.actions), 1));
	foreach(lc, config.actions)
	{
		const WebhookConfigAction *from = lfirst(lc);
		WebhookEventAction *action = &workflow->actions[workflow->n_actions++];
		Jsonb	   *of_workflow;

		action->action_id = from->action_id;
		action->ordered = from->ordered;
		if (from->computed != NULL)
			add_computed(workflow, &action->computed[OF_ACTION], from->computed);
		of_workflow = webhook_computed_subtract(config.computed, from->computed);
		if (of_workflow != NULL)
			add_computed(workflow, &action->computed[OF_WORKFLOW], of_workflow);
	}
	workflow->is_valid = true;
}

WebhookEventWorkflow *
webhook_event_workflow(int32 workflow_id)
{
	WebhookEventWorkflow *workflow;
	WebhookEventWorkflow *copy;
	Size		size;
	bool		found;
	uint64		generation = webhook_catalog_generation();

	if (workflow_cache == NULL)
		create_cache();
	if (generation != cached_generation)
	{
		reset_workflows();
		cached_generation = generation;
	}
	workflow = hash_search(workflow_cache, &workflow_id, HASH_ENTER, &found);
	if (!found)
	{
		workflow->is_valid = false;
		workflow->computed = NULL;
		workflow->context = NULL;
	}
	if (!workflow->is_valid)
		load_workflow(workflow);
	if (!OidIsValid(status_queued))
		load_statuses();

	/* A copy: what code of users' does later may reset the cache. */
	copy = palloc(sizeof(WebhookEventWorkflow));
	*copy = *workflow;
	size = workflow->n_actions * sizeof(WebhookEventAction);
	copy->actions = memcpy(palloc(size), workflow->actions, size);
	return copy;
}

static void
copy_computed(WebhookEventComputed *computed)
{
	int		   *positions = palloc(computed->n * sizeof(int) + 1);
	char	  **names = palloc(computed->n * sizeof(char *) + 1);

	for (int i = 0; i < computed->n; i++)
	{
		positions[i] = computed->positions[i];
		names[i] = pstrdup(computed->names[i]);
	}
	computed->positions = positions;
	computed->names = names;
}

/* Values of one event. */
typedef struct Values
{
	Jsonb	  **values;
	char	  **errors;
} Values;

/*
 * Read the related and computed values.  The workflow is looked up again, since
 * code of users' may have been run since it was, and its plans be gone; what
 * is left of it when this returns is the copy's own.
 */
static WebhookEventWorkflow *
compute(int32 workflow_id, Relation rel, HeapTuple tuple, HeapTuple old_tuple,
		Values *values)
{
	WebhookEventWorkflow *workflow = webhook_event_workflow(workflow_id);
	int			n;

	if (workflow->computed == NULL)
		return workflow;
	for (int i = 0; i < workflow->n_actions; i++)
	{
		for (int j = 0; j < lengthof(workflow->actions[i].computed); j++)
			copy_computed(&workflow->actions[i].computed[j]);
	}
	n = webhook_computed_count(workflow->computed);
	values->values = palloc0(n * sizeof(Jsonb *));
	values->errors = palloc0(n * sizeof(char *));
	webhook_computed_evaluate(workflow->computed, rel, tuple, old_tuple,
							  values->values, values->errors);
	return workflow;
}

/* What an action needs of them; *error: why it can't be carried out. */
static Jsonb *
select_values(const WebhookEventAction *action, const Values *values,
			  char **error)
{
	JsonbParseState *state = NULL;

	if (action->computed[OF_ACTION].n + action->computed[OF_WORKFLOW].n == 0)
		return NULL;
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int j = 0; j < lengthof(action->computed); j++)
	{
		const WebhookEventComputed *computed = &action->computed[j];
		char	   *problem;

		problem = webhook_computed_push(&state, computed->n, computed->positions,
										computed->names, values->values,
										values->errors);
		/* Whom to tell of a failure must not make one. */
		if (j == OF_ACTION && *error == NULL)
			*error = problem;
		else if (j == OF_WORKFLOW && problem != NULL)
		{
			webhook_wanted_push(&state, WJB_KEY, WEBHOOK_OWNER_PROBLEM);
			webhook_wanted_push(&state, WJB_VALUE, problem);
		}
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Random values are had cheaper many at a time. */
static void
make_uuid(pg_uuid_t *uuid)
{
	static pg_uuid_t pool[32];
	static int	n_left = 0;

	if (n_left == 0)
	{
		if (!pg_strong_random(pool, sizeof(pool)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		n_left = lengthof(pool);
	}
	*uuid = pool[--n_left];

	/* RFC 9562: version 4, variant 1. */
	uuid->data[6] = (uuid->data[6] & 0x0f) | 0x40;
	uuid->data[8] = (uuid->data[8] & 0x3f) | 0x80;
}

static void
add_deliveries(const WebhookEventWorkflow *workflow, const char *operation,
			   const WebhookRecord *record, const Values *computed)
{
	Oid			sequence = webhook_catalog_relation(WEBHOOK_REL_LOG_SEQUENCE);
	TimestampTz now = GetCurrentTimestamp();
	Datum		values[LOG_NATTS];
	bool		nulls[LOG_NATTS];

	/* The table first, then its sequence, as everybody locks them: so does TRUNCATE. */
	LockRelationOid(webhook_catalog_relation(WEBHOOK_REL_LOG), RowExclusiveLock);

#define SET(column, datum) \
	(values[column] = (datum), nulls[column] = false)

	/* What all of the event's deliveries have in common. */
	memset(nulls, true, sizeof(nulls));
	SET(LOG_WORKFLOW_ID, Int32GetDatum(workflow->workflow_id));
	SET(LOG_MODULE, ObjectIdGetDatum(workflow->module));
	SET(LOG_OPERATION, CStringGetTextDatum(operation));
	if (record->record_id != NULL)
		SET(LOG_RECORD_ID, CStringGetTextDatum(record->record_id));
	if (record->record != NULL)
		SET(LOG_RECORD, JsonbPGetDatum(record->record));
	if (record->old_record != NULL)
		SET(LOG_OLD_RECORD, JsonbPGetDatum(record->old_record));
	SET(LOG_ATTEMPTS, Int16GetDatum(0));
	SET(LOG_QUEUED_AT, TimestampTzGetDatum(now));
	SET(LOG_OWNER, ObjectIdGetDatum(workflow->owner));
	SET(LOG_RETRIES, Int16GetDatum(0));
	SET(LOG_INTERRUPTED, Int16GetDatum(0));

	for (int i = 0; i < workflow->n_actions; i++)
	{
		const WebhookEventAction *action = &workflow->actions[i];
		char	   *error = record->error;
		Jsonb	   *object = NULL;
		int64		log_id = nextval_internal(sequence, false);
		pg_uuid_t	webhook_id;

		make_uuid(&webhook_id);
		if (computed->values != NULL)
			object = select_values(action, computed, &error);

		SET(LOG_LOG_ID, Int64GetDatum(log_id));
		SET(LOG_WEBHOOK_ID, UUIDPGetDatum(&webhook_id));
		SET(LOG_ACTION_ID, Int32GetDatum(action->action_id));
		SET(LOG_ORDERED, BoolGetDatum(action->ordered));
		SET(LOG_COMPUTED, JsonbPGetDatum(object));
		nulls[LOG_COMPUTED] = object == NULL;
		SET(LOG_STATUS, ObjectIdGetDatum(error != NULL ? status_failed : status_queued));
		SET(LOG_RETRY_AT, TimestampTzGetDatum(now));
		nulls[LOG_RETRY_AT] = error != NULL;
		SET(LOG_COMPLETED_AT, TimestampTzGetDatum(now));
		nulls[LOG_COMPLETED_AT] = error == NULL;
		nulls[LOG_ERROR] = error == NULL;
		if (error != NULL)
			SET(LOG_ERROR, CStringGetTextDatum(error));
		webhook_batch_add(values, nulls);

		if (error == NULL)
			webhook_commit_wake(action->action_id, now);
		else
			webhook_mail_note_queued(log_id, action->action_id,
									 record->record_id, error);
	}
#undef SET
}

/* What the owner may no longer read is not for him to send; NULL: he may. */
static char *
find_lack_of_rights(const WebhookEventWorkflow *workflow)
{
	char	   *owner;

	if (pg_class_aclcheck(workflow->module, workflow->owner, ACL_SELECT) == ACLCHECK_OK)
		return NULL;
	owner = GetUserNameFromId(workflow->owner, true);
	return psprintf("the workflow's owner \"%s\" may not read table \"%s\"",
					owner != NULL ? owner : "?", get_rel_name(workflow->module));
}

bool
webhook_event_queue(const WebhookEventWorkflow *workflow, const char *operation,
					Relation rel, HeapTuple tuple, HeapTuple old_tuple)
{
	WebhookRecord record;
	Values		values = {NULL, NULL};
	MemoryContext context;
	MemoryContext old_context;
	char	   *lack;
	bool		is_queued = false;

	context = AllocSetContextCreate(CurrentMemoryContext, "webhook event",
									ALLOCSET_DEFAULT_SIZES);
	old_context = MemoryContextSwitchTo(context);
	lack = find_lack_of_rights(workflow);
	if (lack == NULL)
		webhook_record_read(&record, rel, tuple, old_tuple);
	else
		record = (WebhookRecord) {.error = lack};

	/*
	 * A record that is inserted is new, whatever is known of one of its name:
	 * one that went with a partition went without a trigger.
	 */
	if (!workflow->first || record.record_id == NULL ||
		webhook_seen_note(workflow->workflow_id, record.record_id) ||
		strcmp(operation, "INSERT") == 0)
	{
		if (workflow->computed != NULL && lack == NULL)
			workflow = compute(workflow->workflow_id, rel, tuple,
							   strcmp(operation, "DELETE") == 0 ? tuple : old_tuple,
							   &values);
		add_deliveries(workflow, operation, &record, &values);
		is_queued = true;
	}
	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(context);
	return is_queued;
}

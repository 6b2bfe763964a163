/*-------------------------------------------------------------------------
 *
 * log_row.h
 *	  Deliveries and attempts, as the worker reads and writes them in the log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LOG_ROW_H
#define WEBHOOK_LOG_ROW_H

#include "datatype/timestamp.h"
#include "storage/itemptr.h"
#include "utils/jsonb.h"

/* Where the last claim of an action ended. */
typedef struct WebhookCursor
{
	TimestampTz retry_at;
	int64		log_id;
	TimestampTz passed_over;	/* the first one that nothing will tell of;
								 * DT_NOEND: none */
} WebhookCursor;

/* A claimed delivery. */
typedef struct WebhookDelivery
{
	int64		log_id;
	int32		action_id;
	bool		ordered;
	char	   *webhook_id;
	char	   *operation;
	char	   *record_id;
	Jsonb	   *record;
	Jsonb	   *old_record;
	Jsonb	   *computed;
	int			attempts;		/* made before */
	int			retries;		/* steps of the retry schedule used */
	TimestampTz queued_at;
	TransactionId writer;		/* of the row as it was claimed */
	ItemPointerData tid;		/* of the row since */
} WebhookDelivery;

/* So many bytes of records are claimed at once, however many are wanted. */
#define WEBHOOK_MAX_CLAIM_SIZE (8 * 1024 * 1024)

/* Bytes of what a delivery carries. */
static inline Size
webhook_delivery_size(const WebhookDelivery *delivery)
{
	const Jsonb *parts[] = {delivery->record, delivery->old_record, delivery->computed};
	Size		size = 0;

	for (int i = 0; i < lengthof(parts); i++)
	{
		if (parts[i] != NULL)
			size += VARSIZE(parts[i]);
	}
	return size;
}

/* What became of a delivery. */
typedef enum WebhookVerdict
{
	WEBHOOK_SUCCEEDED,
	WEBHOOK_FAILED,				/* after a request; retry_at tells */
	WEBHOOK_UNSENDABLE,			/* no request could be made of it: failed */
	WEBHOOK_RELEASED			/* not tried: queued again, at retry_at */
} WebhookVerdict;

typedef struct WebhookResult
{
	WebhookVerdict verdict;
	int64		log_id;
	ItemPointerData tid;		/* where its row was when it was claimed */
	int32		action_id;
	bool		ordered;
	char	   *record_id;
	int			attempts;		/* including this one */
	int			resent;			/* of them, those before it on a kept connection
								 * that ended without an answer */
	int			retries;
	TimestampTz retry_at;		/* 0: never again */
	TimestampTz started_at;
	int64		duration;		/* microseconds */
	int			http_status;	/* 0: none */
	char	   *error;			/* server's encoding, as the two below */
	char	   *request_body;
	char	   *response_body;
} WebhookResult;

/* A delivery of an ordered action that another one of its record held up. */
typedef struct WebhookSuccessor
{
	int64		log_id;
	int32		action_id;
	int64		after;			/* log_id of that other one: it was the first */
} WebhookSuccessor;

/* A row of webhook_attempt. */
typedef struct WebhookAttempt
{
	int64		log_id;
	int			attempt;
	TimestampTz started_at;
	int64		duration;		/* microseconds */
	int			http_status;	/* 0: none */
	const char *error;
	const char *request_body;
	const char *response_body;
} WebhookAttempt;

#endif							/* WEBHOOK_LOG_ROW_H */

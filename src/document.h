/*-------------------------------------------------------------------------
 *
 * document.h
 *	  A document that is imported, read beside what there is already.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_DOCUMENT_H
#define WEBHOOK_DOCUMENT_H

#include "nodes/pg_list.h"

/* A workflow of the document, and what there is of that name. */
enum
{
	W_NAME,
	W_MODULE,
	W_TRIGGER,
	W_CONDITION,
	W_RECURRENCE,
	W_SCHEDULE,
	W_OWNER_EMAIL,
	W_DESCRIPTION,
	W_ENABLED,
	W_ACTIONS,
	W_WORKFLOW_ID,				/* NULL: there is none */
	W_OLD_MODULE,
	W_OLD_ENABLED,
	W_IS_SAME,					/* but for module and enabled */
	W_COUNT
};

/* An action of the document, and the one of the same title there is. */
enum
{
	A_TITLE,
	A_DESCRIPTION,
	A_URL,
	A_METHOD,
	A_CONTENT_TYPE,
	A_PARAMETERS,
	A_HEADERS,
	A_USERNAME,
	A_SIGNED,
	A_CLIENT_CERTIFICATE,
	A_TIMEOUT,
	A_RETRY_SCHEDULE,
	A_ORDERED,
	A_MAX_IN_FLIGHT,
	A_RATE_LIMIT,
	A_ENABLED,
	A_ACTION_ID,				/* NULL: there is none */
	A_OLD_ENABLED,
	A_IS_SAME,					/* but for enabled */
	A_IN_DOCUMENT,
	A_IS_QUEUED,				/* it has something to send */
	A_COUNT
};

/* Raises an error unless it is one; a json Datum. */
extern void webhook_document_check(Datum document);

/*
 * Its workflows, and the actions of one: lists of char **, which have the values
 * of the enumerations above as text; NULL: null.
 */
extern List *webhook_document_workflows(Datum document);
extern List *webhook_document_actions(const char *actions, int32 workflow_id);

#endif							/* WEBHOOK_DOCUMENT_H */

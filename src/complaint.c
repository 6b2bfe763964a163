/*-------------------------------------------------------------------------
 *
 * complaint.c
 *	  Errors of the worker's own in the server log, once each.
 *
 * What fails is tried again, every 30 seconds at least, and one by one where a
 * group has failed.  The server log is told of the first of errors that are
 * alike, not of every delivery.
 *
 * Runs in the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "complaint.h"
#include "utils/timestamp.h"

#define MAX_COMPLAINTS 16
#define SILENCE_US (600 * USECS_PER_SEC)
#define MESSAGE_SIZE 128

typedef struct Complaint
{
	TimestampTz at;				/* 0: none */
	int			sqlerrcode;
	char		message[MESSAGE_SIZE];
} Complaint;

static Complaint complaints[MAX_COMPLAINTS];
static int	next_complaint = 0;

bool
webhook_complaint_is_new(int sqlerrcode, const char *message)
{
	TimestampTz now = GetCurrentTimestamp();
	Complaint  *complaint;
	char		start[MESSAGE_SIZE];

	strlcpy(start, message != NULL ? message : "", MESSAGE_SIZE);
	for (int i = 0; i < MAX_COMPLAINTS; i++)
	{
		complaint = &complaints[i];

		/* From before the clock was turned back is long ago. */
		if (complaint->at != 0 && now >= complaint->at &&
			now < complaint->at + SILENCE_US &&
			complaint->sqlerrcode == sqlerrcode &&
			strcmp(complaint->message, start) == 0)
			return false;
	}
	complaint = &complaints[next_complaint];
	next_complaint = (next_complaint + 1) % MAX_COMPLAINTS;
	complaint->at = now;
	complaint->sqlerrcode = sqlerrcode;
	strlcpy(complaint->message, start, MESSAGE_SIZE);
	return true;
}

void
webhook_complaint_emit(void)
{
	ErrorData  *error = CopyErrorData();
	bool		is_new = webhook_complaint_is_new(error->sqlerrcode, error->message);

	FreeErrorData(error);
	if (is_new)
		EmitErrorReport();
}

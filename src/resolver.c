/*-------------------------------------------------------------------------
 *
 * resolver.c
 *	  Why a host name could not be resolved.
 *
 * libcurl says that a name could not be resolved, but not whether there is no
 * such name, which is the receiver's failure, or no name server, which is not.
 * So the resolver is asked once more, by getaddrinfo_a, which doesn't wait.
 *
 * Runs in workers, outside of transactions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <netdb.h>

#include "resolver.h"
#include "utils/timestamp.h"

#define MAX_LOOKUPS 16			/* names that fail at a time */
#define MAX_AGE_US (30 * USECS_PER_SEC)

#ifdef GAI_NOWAIT

/* The resolver's threads write here until the look-up is over. */
typedef struct Lookup
{
	char		host[256];
	TimestampTz started_at;		/* 0: a free place */
	struct addrinfo hints;
	struct gaicb request;
} Lookup;

static Lookup lookups[MAX_LOOKUPS];

static WebhookLookup
judge(int error)
{
	switch (error)
	{
		case 0:
			return WEBHOOK_LOOKUP_FOUND;
		case EAI_INPROGRESS:
			return WEBHOOK_LOOKUP_UNKNOWN;
		case EAI_AGAIN:
		case EAI_MEMORY:
		case EAI_SYSTEM:
			return WEBHOOK_LOOKUP_UNAVAILABLE;
		default:
			return WEBHOOK_LOOKUP_ABSENT;
	}
}

static void
start(Lookup *lookup, const char *host)
{
	struct gaicb *list[1] = {&lookup->request};

	strlcpy(lookup->host, host, sizeof(lookup->host));
	memset(&lookup->hints, 0, sizeof(lookup->hints));
	lookup->hints.ai_socktype = SOCK_STREAM;
	memset(&lookup->request, 0, sizeof(lookup->request));
	lookup->request.ar_name = lookup->host;
	lookup->request.ar_request = &lookup->hints;
	lookup->started_at = GetCurrentTimestamp();
	if (getaddrinfo_a(GAI_NOWAIT, list, 1, NULL) != 0)
		lookup->started_at = 0;
}

/* Make a place free if nobody writes to it any more. */
static bool
clear(Lookup *lookup)
{
	if (lookup->started_at == 0)
		return true;
	if (gai_error(&lookup->request) == EAI_INPROGRESS)
		return false;
	if (lookup->request.ar_result != NULL)
		freeaddrinfo(lookup->request.ar_result);
	lookup->started_at = 0;
	return true;
}

WebhookLookup
webhook_resolver_explain(const char *host)
{
	TimestampTz now = GetCurrentTimestamp();
	Lookup	   *place = NULL;

	for (int i = 0; i < MAX_LOOKUPS; i++)
	{
		Lookup	   *lookup = &lookups[i];

		if (lookup->started_at != 0 && strcmp(lookup->host, host) == 0)
		{
			WebhookLookup result = judge(gai_error(&lookup->request));

			if (result == WEBHOOK_LOOKUP_UNKNOWN ||
				now < lookup->started_at + MAX_AGE_US)
				return result;
		}
		if ((lookup->started_at == 0 ||
			 now >= lookup->started_at + MAX_AGE_US) && clear(lookup))
			place = lookup;
	}
	if (place != NULL && strlen(host) < sizeof(place->host))
		start(place, host);
	return WEBHOOK_LOOKUP_UNKNOWN;
}

#else

/* Where nothing can be asked without waiting, it is the receiver's failure. */
WebhookLookup
webhook_resolver_explain(const char *host)
{
	return WEBHOOK_LOOKUP_ABSENT;
}

#endif

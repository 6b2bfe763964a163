/*-------------------------------------------------------------------------
 *
 * gate.c
 *	  A few look-ups of a host name at a time.
 *
 * libcurl looks a name up in a thread for each request that needs a new
 * connection.  A burst to one receiver would be a thread and a query each:
 * name servers drop what comes like that, and each loss costs five seconds.
 * So only a few requests go ahead as long as a name is not known; the others
 * wait for what those find out.  Once it is known, it is in libcurl's cache
 * for a minute.
 *
 * Runs in workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "gate.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MAX_LOOKUPS 3			/* of a name at a time; one may be lost */
#define KNOWN_US (60 * USECS_PER_SEC)	/* libcurl's cache by default */
#define MAX_IDLE 1000			/* names remembered that nobody waits for */
#define KEY_SIZE 300

struct WebhookGate
{
	char		key[KEY_SIZE];	/* host and port, or proxy */
	int			n_looking;
	TimestampTz known_until;
	uint32		network;		/* whose cache knows it */
	dlist_head	waiting;		/* of WebhookSend */
	dlist_node	node;			/* if any are: in waited_for */
};

static HTAB *gates = NULL;
static dlist_head waited_for = DLIST_STATIC_INIT(waited_for);

/* Forget the names that nobody asks for. */
static void
forget_idle(void)
{
	TimestampTz now = GetCurrentTimestamp();
	HASH_SEQ_STATUS scan;
	WebhookGate *gate;

	hash_seq_init(&scan, gates);
	while ((gate = hash_seq_search(&scan)) != NULL)
	{
		if (gate->n_looking == 0 && dlist_is_empty(&gate->waiting) && gate->known_until < now)
			(void) hash_search(gates, gate->key, HASH_REMOVE, NULL);
	}
}

/* A hash table with an allocator of its own may be asked without an error. */
static void *
allocate(Size size)
{
	return MemoryContextAllocExtended(TopMemoryContext, size, MCXT_ALLOC_NO_OOM);
}

void
webhook_gate_init(void)
{
	HASHCTL		info = {
		.keysize = KEY_SIZE,
		.entrysize = sizeof(WebhookGate),
		.hcxt = TopMemoryContext,
		.alloc = allocate
	};

	gates = hash_create("webhook gates", 64, &info,
						HASH_ELEM | HASH_STRINGS | HASH_CONTEXT | HASH_ALLOC);
}

/* NULL: no memory. */
static WebhookGate *
find_gate(const char *key)
{
	WebhookGate *gate;
	bool		found;

	if (hash_get_num_entries(gates) >= MAX_IDLE)
		forget_idle();
	gate = hash_search(gates, key, HASH_ENTER_NULL, &found);
	if (gate != NULL && !found)
		memset((char *) gate + KEY_SIZE, 0, sizeof(WebhookGate) - KEY_SIZE);
	return gate;
}

static bool
is_open(const WebhookGate *gate)
{
	return gate->n_looking < MAX_LOOKUPS ||
		gate->known_until > GetCurrentTimestamp();
}

bool
webhook_gate_enter(WebhookSend *send, const char *proxy, uint32 network,
				   WebhookGate **gate)
{
	char		key[KEY_SIZE];
	const char *host = strstr(send->url, "://");
	size_t		len;

	*gate = NULL;
	if (proxy != NULL)
		strlcpy(key, proxy, KEY_SIZE);
	else
	{
		host = host != NULL ? host + 3 : send->url;
		len = strcspn(host, "/?#");
		/* An address is not looked up; nor is what can't be a name. */
		if (host[0] == '[' || strspn(host, "0123456789.:") >= len || len >= KEY_SIZE)
			return true;
		memcpy(key, host, len);
		key[len] = '\0';
	}

	*gate = find_gate(key);
	if (*gate == NULL)
		return true;
	if ((*gate)->network != network)
	{
		(*gate)->network = network;
		(*gate)->known_until = 0;
	}
	if (is_open(*gate))
	{
		(*gate)->n_looking++;
		return true;
	}
	if (dlist_is_empty(&(*gate)->waiting))
		dlist_push_tail(&waited_for, &(*gate)->node);
	dlist_push_tail(&(*gate)->waiting, &send->node);
	return false;
}

void
webhook_gate_leave(WebhookGate *gate, bool is_found)
{
	TimestampTz now;

	if (gate == NULL)
		return;
	gate->n_looking--;
	now = GetCurrentTimestamp();

	/* libcurl's cache counts from the look-up, not from the last use. */
	if (is_found && gate->known_until <= now)
		gate->known_until = now + KNOWN_US;
}

int64
webhook_gate_patience(const WebhookSend *send)
{
	return Min(send->timeout, send->connect_timeout);
}

WebhookSend *
webhook_gate_take(WebhookGate *gate, int64 patience)
{
	dlist_iter	iter;

	dlist_foreach(iter, &gate->waiting)
	{
		WebhookSend *send = dlist_container(WebhookSend, node, iter.cur);

		if (webhook_gate_patience(send) > patience)
			continue;
		dlist_delete(&send->node);
		if (dlist_is_empty(&gate->waiting))
			dlist_delete(&gate->node);
		return send;
	}
	return NULL;
}

WebhookSend *
webhook_gate_next(WebhookGate **gate)
{
	dlist_iter	iter;

	dlist_foreach(iter, &waited_for)
	{
		*gate = dlist_container(WebhookGate, node, iter.cur);
		if (is_open(*gate))
		{
			(*gate)->n_looking++;
			return webhook_gate_take(*gate, PG_INT64_MAX);
		}
	}
	return NULL;
}

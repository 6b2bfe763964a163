/*-------------------------------------------------------------------------
 *
 * address.c
 *	  Which addresses may be connected to.
 *
 * A webhook's URL is written by an application's user, while the server that
 * sends it often stands inside: next to a metadata service, other databases,
 * its own loopback.  Host names and the many spellings of an address can't
 * be judged from the text; what is judged here is the address that is really
 * about to be connected to.
 *
 * The administrator's own servers, for mail and as a proxy, may stand anywhere;
 * for them there are lists of their own.
 *
 * Runs in workers (the judgement) and, as the check hook of
 * webhook.allowed_networks and the other lists, in every process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "address.h"
#include "compat.h"
#include "mb/pg_wchar.h"
#include "utils/guc.h"

/* The longest "address/bits" that can be meant, with room to spare. */
#define MAX_ITEM 64

/* An IPv4 address takes the first four bytes. */
typedef struct Network
{
	int			family;
	int			bits;
	uint8		address[16];
} Network;

struct WebhookNetworks
{
	int			n;
	Network		networks[FLEXIBLE_ARRAY_MEMBER];
};

/* IPv4 that is not public, by IANA's registry of special addresses. */
static const Network special_v4[] = {
	{AF_INET, 8, {0}},			/* this network */
	{AF_INET, 8, {10}},			/* private */
	{AF_INET, 10, {100, 64}},	/* shared by providers */
	{AF_INET, 8, {127}},		/* loopback */
	{AF_INET, 32, {168, 63, 129, 16}},	/* Azure's host agent */
	{AF_INET, 16, {169, 254}},	/* link-local, metadata services */
	{AF_INET, 12, {172, 16}},	/* private */
	{AF_INET, 24, {192, 0, 0}}, /* protocol assignments */
	{AF_INET, 24, {192, 0, 2}}, /* documentation */
	{AF_INET, 24, {192, 88, 99}},	/* 6to4 relays */
	{AF_INET, 16, {192, 168}},	/* private */
	{AF_INET, 15, {198, 18}},	/* benchmarks */
	{AF_INET, 24, {198, 51, 100}},	/* documentation */
	{AF_INET, 24, {203, 0, 113}},	/* documentation */
	{AF_INET, 4, {224}},		/* multicast */
	{AF_INET, 4, {240}},		/* reserved, broadcast */
};

/* The only part of IPv6 that is given out, and what isn't public in it. */
static const Network global_v6 = {AF_INET6, 3, {0x20}};
static const Network special_v6[] = {
	{AF_INET6, 23, {0x20, 0x01, 0x00}}, /* protocol assignments, Teredo */
	{AF_INET6, 32, {0x20, 0x01, 0x0d, 0xb8}},	/* documentation */
	{AF_INET6, 16, {0x20, 0x02}},	/* 6to4 */
	{AF_INET6, 20, {0x3f, 0xff, 0x00}}, /* documentation */
};

/* IPv6 that carries an IPv4 address, and at which byte. */
static const struct
{
	Network		network;
	int			offset;
}			carriers[] =
{
	{{AF_INET6, 96, {0}}, 12},	/* IPv4-compatible */
	{{AF_INET6, 96, {0x00, 0x64, 0xff, 0x9b}}, 12}, /* NAT64 */
	{{AF_INET6, 16, {0x20, 0x02}}, 2},	/* 6to4 */
};

static const uint8 mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool
is_within(const uint8 *address, const Network *network)
{
	int			whole = network->bits / 8;
	int			rest = network->bits % 8;

	if (memcmp(address, network->address, whole) != 0)
		return false;
	return rest == 0 ||
		((address[whole] ^ network->address[whole]) >> (8 - rest)) == 0;
}

static bool
is_allowed_by(int family, const uint8 *address, const WebhookNetworks *networks)
{
	for (int i = 0; networks != NULL && i < networks->n; i++)
	{
		if (networks->networks[i].family == family &&
			is_within(address, &networks->networks[i]))
			return true;
	}
	return false;
}

static bool
is_v4_allowed(const uint8 *address, const WebhookNetworks *networks)
{
	for (int i = 0; i < lengthof(special_v4); i++)
	{
		if (is_within(address, &special_v4[i]))
			return is_allowed_by(AF_INET, address, networks);
	}
	return true;
}

static bool
is_v6_public(const uint8 *address)
{
	if (!is_within(address, &global_v6))
		return false;
	for (int i = 0; i < lengthof(special_v6); i++)
	{
		if (is_within(address, &special_v6[i]))
			return false;
	}
	return true;
}

static bool
is_v6_allowed(const uint8 *address, const WebhookNetworks *networks)
{
	if (memcmp(address, mapped_prefix, sizeof(mapped_prefix)) == 0)
		return is_v4_allowed(address + sizeof(mapped_prefix), networks);

	if (!is_v6_public(address) && !is_allowed_by(AF_INET6, address, networks))
		return false;

	/* :: and ::1 lie where IPv4-compatible addresses do, but are none. */
	if (memcmp(address, &in6addr_any, 16) == 0 ||
		memcmp(address, &in6addr_loopback, 16) == 0)
		return true;

	/*
	 * Who allows a translator's prefix (64:ff9b::/96 on a network that has
	 * only IPv6) has not yet allowed every IPv4 address behind it.
	 */
	for (int i = 0; i < lengthof(carriers); i++)
	{
		if (is_within(address, &carriers[i].network))
			return is_v4_allowed(address + carriers[i].offset, networks);
	}
	return true;
}

bool
webhook_address_allowed(const struct sockaddr *address,
						const WebhookNetworks *networks)
{
	switch (address->sa_family)
	{
		case AF_INET:
			return is_v4_allowed((const uint8 *)
								 &((const struct sockaddr_in *) address)->sin_addr,
								 networks);
		case AF_INET6:
			return is_v6_allowed((const uint8 *)
								 &((const struct sockaddr_in6 *) address)->sin6_addr,
								 networks);
		default:
			return false;
	}
}

bool
webhook_address_listed(const struct sockaddr *address,
					   const WebhookNetworks *networks)
{
	const uint8 *bytes;

	switch (address->sa_family)
	{
		case AF_INET:
			bytes = (const uint8 *)
				&((const struct sockaddr_in *) address)->sin_addr;
			return is_allowed_by(AF_INET, bytes, networks);
		case AF_INET6:
			bytes = (const uint8 *)
				&((const struct sockaddr_in6 *) address)->sin6_addr;
			if (memcmp(bytes, mapped_prefix, sizeof(mapped_prefix)) == 0)
				return is_allowed_by(AF_INET, bytes + sizeof(mapped_prefix),
									 networks);
			return is_allowed_by(AF_INET6, bytes, networks);
		default:
			return true;
	}
}

/* Clear what is right of the mask; was there anything? */
static bool
clear_host_bits(Network *network, int size)
{
	bool		found = false;

	for (int i = network->bits / 8; i < size; i++)
	{
		uint8		mask = 0;

		if (i == network->bits / 8)
			mask = (uint8) (0xff00 >> (network->bits % 8));
		if (network->address[i] & ~mask)
			found = true;
		network->address[i] &= mask;
	}
	return found;
}

/*
 * Parse one address or block; *problem is then NULL or says what is wrong.
 * Host bits beyond the mask are refused, as the type cidr does: they are
 * more often a slip of the mask than meant.
 */
static void
parse_network(const char *item, int len, Network *network, const char **problem)
{
	static char message[256];
	char		text[MAX_ITEM];
	char		proper[INET6_ADDRSTRLEN];
	char	   *slash;
	int			size;

	*problem = message;
	if (len == 0)
	{
		*problem = "The list has an empty element.";
		return;
	}
	snprintf(message, sizeof(message),
			 "\"%.*s\" is not an IP address or CIDR block.",
			 pg_mbcliplen(item, len, MAX_ITEM), item);
	if (len >= sizeof(text))
		return;
	memcpy(text, item, len);
	text[len] = '\0';
	slash = strchr(text, '/');
	if (slash != NULL)
		*slash++ = '\0';

	memset(network, 0, sizeof(*network));
	if (inet_pton(AF_INET, text, network->address) == 1)
		network->family = AF_INET;
	else if (inet_pton(AF_INET6, text, network->address) == 1)
		network->family = AF_INET6;
	else
		return;

	size = network->family == AF_INET ? 4 : 16;
	network->bits = size * 8;
	if (slash != NULL)
	{
		if (*slash == '\0' || strlen(slash) > 3 ||
			strspn(slash, "0123456789") != strlen(slash))
			return;
		network->bits = atoi(slash);
		if (network->bits > size * 8)
		{
			snprintf(message, sizeof(message),
					 "The mask of \"%.*s\" has more than %d bits.",
					 len, item, size * 8);
			return;
		}
	}
	if (clear_host_bits(network, size))
	{
		inet_ntop(network->family, network->address, proper, sizeof(proper));
		snprintf(message, sizeof(message),
				 "\"%.*s\" has bits set to the right of the mask; the block is \"%s/%d\".",
				 len, item, proper, network->bits);
		return;
	}

	/* IPv4 in IPv6's clothes is IPv4. */
	if (network->family == AF_INET6 && network->bits >= 96 &&
		memcmp(network->address, mapped_prefix, sizeof(mapped_prefix)) == 0)
	{
		network->family = AF_INET;
		network->bits -= 96;
		memmove(network->address, network->address + 12, 4);
	}
	*problem = NULL;
}

WebhookNetworks *
webhook_address_parse_networks(const char *list, const char **problem)
{
	WebhookNetworks *networks;
	int			n = 1;

	for (const char *p = list; *p; p++)
	{
		if (*p == ',')
			n++;
	}
	networks = webhook_guc_malloc(offsetof(WebhookNetworks, networks) +
								  n * sizeof(Network));
	if (networks == NULL)
	{
		*problem = "Out of memory.";
		return NULL;
	}
	networks->n = 0;
	*problem = NULL;
	if (list[strspn(list, " \t\r\n")] == '\0')
		return networks;

	for (const char *item = list;;)
	{
		int			whole = strcspn(item, ",");
		int			start = strspn(item, " \t\r\n");
		int			end = whole;

		start = Min(start, whole);
		while (end > start && strchr(" \t\r\n", item[end - 1]) != NULL)
			end--;
		parse_network(item + start, end - start,
					  &networks->networks[networks->n], problem);
		if (*problem != NULL)
		{
			webhook_guc_free(networks);
			return NULL;
		}
		networks->n++;
		if (item[whole] == '\0')
			return networks;
		item += whole + 1;
	}
}

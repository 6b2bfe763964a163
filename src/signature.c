/*-------------------------------------------------------------------------
 *
 * signature.c
 *	  Standard Webhooks signatures.
 *
 * https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 *
 * Runs in the worker, and in sessions that check a secret or preview.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/base64.h"
#include "compat.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "signature.h"

#define PREFIX "whsec_"
#define MIN_KEY 24
#define MAX_KEY 64

/* Decode a secret into key; -1: it is none.  Missing padding is accepted. */
static int
decode_secret(const char *secret, uint8 *key)
{
	char		padded[MAX_KEY * 2 + 4];
	const char *encoded = secret + strlen(PREFIX);
	size_t		len;
	int			key_len;

	if (strncmp(secret, PREFIX, strlen(PREFIX)) != 0)
		return -1;
	len = strlen(encoded);
	if (len > MAX_KEY * 2)
		return -1;
	memcpy(padded, encoded, len);
	while (len % 4 != 0)
		padded[len++] = '=';
	key_len = webhook_b64_decode(padded, (int) len, key, MAX_KEY + 3);
	return key_len >= MIN_KEY && key_len <= MAX_KEY ? key_len : -1;
}

const char *
webhook_signature_check_secret(const char *secret)
{
	uint8		key[MAX_KEY + 3];

	if (strncmp(secret, PREFIX, strlen(PREFIX)) != 0)
		return "It must begin with \"whsec_\".";
	if (decode_secret(secret, key) < 0)
		return "Behind \"whsec_\" there must be base64 of 24 to 64 bytes.";
	return NULL;
}

void
webhook_signature_append(StringInfo out, const char *secret, const char *id,
						 int64 timestamp, const char *body, size_t body_len)
{
	uint8		key[MAX_KEY + 3];
	int			key_len = decode_secret(secret, key);
	uint8		mac[PG_SHA256_DIGEST_LENGTH];
	char		encoded[64];
	char		stamp[32];
	int			encoded_len;
	pg_hmac_ctx *context = pg_hmac_create(PG_SHA256);
	bool		ok;

	snprintf(stamp, sizeof(stamp), "." INT64_FORMAT ".", timestamp);
	ok = context != NULL && key_len > 0 &&
		pg_hmac_init(context, key, key_len) == 0 &&
		pg_hmac_update(context, (const uint8 *) id, strlen(id)) == 0 &&
		pg_hmac_update(context, (uint8 *) stamp, strlen(stamp)) == 0 &&
		pg_hmac_update(context, (const uint8 *) body, body_len) == 0 &&
		pg_hmac_final(context, mac, sizeof(mac)) == 0;
	pg_hmac_free(context);
	encoded_len = ok ? webhook_b64_encode(mac, sizeof(mac), encoded,
										  sizeof(encoded)) : -1;
	if (encoded_len < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not sign a request")));
	appendStringInfo(out, "%sv1,%.*s", out->len > 0 ? " " : "",
					 encoded_len, encoded);
}

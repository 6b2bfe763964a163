/*-------------------------------------------------------------------------
 *
 * signature.h
 *	  Standard Webhooks signatures.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SIGNATURE_H
#define WEBHOOK_SIGNATURE_H

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"

/* One that has been rotated, and signs still. */
typedef struct WebhookOldSecret
{
	char	   *secret;
	TimestampTz until;
} WebhookOldSecret;

/* NULL if secret is right (whsec_ + base64 of 24 to 64 bytes), else why not. */
extern const char *webhook_signature_check_secret(const char *secret);

/*
 * Append "v1,<base64>" over id.timestamp.body; with a space in front if out
 * isn't empty.  The secret has been checked.  Raises ERRCODE_INTERNAL_ERROR.
 */
extern void webhook_signature_append(StringInfo out, const char *secret,
									 const char *id, int64 timestamp,
									 const char *body, size_t body_len);

#endif							/* WEBHOOK_SIGNATURE_H */

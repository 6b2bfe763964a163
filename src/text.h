/*-------------------------------------------------------------------------
 *
 * text.h
 *	  Text on its way into the database and out of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TEXT_H
#define WEBHOOK_TEXT_H

#include "lib/stringinfo.h"

/*
 * Bytes that should be UTF-8 as text in the server's encoding, palloc'd.
 * NULs and what is no UTF-8 become U+FFFD, what the server's encoding can't
 * hold becomes a question mark; so it never fails but for lack of memory.
 * A character that the end of the bytes cuts is left out.  In a database
 * whose encoding isn't UTF-8 it needs a transaction.
 */
extern char *webhook_text_from_bytes(const char *bytes, size_t len);

/*
 * Text of the server's encoding as UTF-8; returns text itself if it is.  What is
 * no UTF-8, in a database that does not know its encoding, becomes U+FFFD.  In
 * one whose encoding isn't UTF-8 it needs a transaction.
 */
extern char *webhook_utf8(const char *text, int len);

/* Base64, palloc'd. */
extern char *webhook_text_base64(const char *bytes, int len);

/*
 * Append text of the server's encoding as UTF-8, percent-encoded: but letters and
 * digits of ASCII, the other characters that are plain, and a space where there is
 * something to write for it (0: nothing).
 */
extern void webhook_text_percent(StringInfo out, const char *text, int len,
								 const char *plain, char space);

/*
 * Overwrite a secret with asterisks wherever it is in the bytes, as it is or as
 * JSON or a URL spells it, and what the end of the bytes has left of it.  One of
 * less than four bytes is in much by chance, and is left.
 */
extern void webhook_text_hide(char *bytes, size_t len, const char *secret);

#endif							/* WEBHOOK_TEXT_H */

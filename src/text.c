/*-------------------------------------------------------------------------
 *
 * text.c
 *	  Text on its way into the database and out of it.
 *
 * Runs in the worker, and in sessions that configure or preview.  An answer that
 * could not be stored would make its delivery be sent again and again, and a mail
 * that could not be sent would hold up all others; so everything can be stored, and
 * sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "common/base64.h"
#include "compat.h"
#include "mb/pg_wchar.h"
#include "text.h"

#define MIN_SECRET 4			/* bytes */
#define REPLACEMENT "\357\277\275"	/* U+FFFD in UTF-8 */

/* Are these the first bytes of a character? */
static bool
begins_character(const unsigned char *bytes, size_t len)
{
	if (*bytes < 0xc2 || *bytes > 0xf4)
		return false;
	for (size_t i = 1; i < len; i++)
	{
		if ((bytes[i] & 0xc0) != 0x80)
			return false;
	}
	return true;
}

/* Valid UTF-8 made of any bytes; is_cut: but for a character that their end cuts. */
static void
repair_utf8(StringInfo out, const char *bytes, size_t len, bool is_cut)
{
	size_t		i = 0;

	while (i < len)
	{
		const unsigned char *p = (const unsigned char *) bytes + i;
		int			l;

		if (*p != 0 && *p < 0x80)
		{
			appendStringInfoCharMacro(out, *p);
			i++;
			continue;
		}
		l = pg_utf_mblen(p);
		if (is_cut && i + l > len && begins_character(p, len - i))
			break;
		if (*p != 0 && l > 1 && i + l <= len && pg_utf8_islegal(p, l))
		{
			appendBinaryStringInfo(out, (const char *) p, l);
			i += l;
		}
		else
		{
			appendStringInfoString(out, REPLACEMENT);
			i++;
		}
	}
}

/* UTF-8 in another encoding, with '?' for what that doesn't have. */
static char *
convert_to_server(const char *utf8, int len)
{
	Oid			proc = FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding());
	StringInfoData out;
	char		buffer[MAX_CONVERSION_GROWTH * 256 + 1];

	initStringInfo(&out);
	while (len > 0)
	{
		int			chunk = pg_encoding_mbcliplen(PG_UTF8, utf8, len,
												  Min(len, 256));
		int			done = 0;

		if (OidIsValid(proc))
			done = pg_do_encoding_conversion_buf(proc, PG_UTF8,
												 GetDatabaseEncoding(),
												 (unsigned char *) utf8, chunk,
												 (unsigned char *) buffer,
												 sizeof(buffer), true);
		if (done > 0)
			appendStringInfoString(&out, buffer);
		if (done < chunk)
		{
			appendStringInfoChar(&out, '?');
			done += pg_utf_mblen((const unsigned char *) utf8 + done);
		}
		utf8 += done;
		len -= done;
	}
	return out.data;
}

char *
webhook_text_from_bytes(const char *bytes, size_t len)
{
	StringInfoData utf8;

	initStringInfo(&utf8);
	repair_utf8(&utf8, bytes, len, true);
	if (GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII)
		return utf8.data;
	return convert_to_server(utf8.data, utf8.len);
}

char *
webhook_utf8(const char *text, int len)
{
	StringInfoData utf8;

	if (GetDatabaseEncoding() != PG_SQL_ASCII)
		return pg_server_to_any(text, len, PG_UTF8);
	initStringInfo(&utf8);
	repair_utf8(&utf8, text, len, false);
	return utf8.data;
}

char *
webhook_text_base64(const char *bytes, int len)
{
	int			size = pg_b64_enc_len(len);
	char	   *encoded = palloc(size + 1);
	int			n = webhook_b64_encode(bytes, len, encoded, size);

	if (n < 0)
		elog(ERROR, "could not encode a text");
	encoded[n] = '\0';
	return encoded;
}

void
webhook_text_percent(StringInfo out, const char *text, int len,
					 const char *plain, char space)
{
	char	   *utf8 = webhook_utf8(text, len);
	int			n = utf8 == text ? len : strlen(utf8);

	for (int i = 0; i < n; i++)
	{
		unsigned char c = utf8[i];

		if (c < 128 && (isalnum(c) || strchr(plain, c) != NULL))
			appendStringInfoChar(out, c);
		else if (c == ' ' && space != 0)
			appendStringInfoChar(out, space);
		else
			appendStringInfo(out, "%%%02X", c);
	}
}

void
webhook_text_hide(char *bytes, size_t len, const char *secret)
{
	size_t		secret_len = strlen(secret);

	if (secret_len < MIN_SECRET)
		return;
	for (size_t i = 0; i + MIN_SECRET <= len; i++)
	{
		size_t		n = Min(secret_len, len - i);

		if (memcmp(bytes + i, secret, n) == 0)
		{
			memset(bytes + i, '*', n);
			i += n - 1;
		}
	}
}

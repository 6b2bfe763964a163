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

/* The value of so many hexadecimal digits; -1: they are none. */
static int
read_hex(const char *text, int n)
{
	int			value = 0;

	for (int i = 0; i < n; i++)
	{
		char		c = pg_tolower((unsigned char) text[i]);

		if (c >= '0' && c <= '9')
			value = value * 16 + c - '0';
		else if (c >= 'a' && c <= 'f')
			value = value * 16 + c - 'a' + 10;
		else
			return -1;
	}
	return value;
}

/*
 * Does the text begin with the secret's first character, as JSON or a URL spells
 * it?  Returns how many bytes that takes of the text, and of the secret.
 */
static size_t
match_spelled(const char *text, size_t len, const char *secret, size_t *used)
{
	*used = 1;
	if (len >= 6 && text[0] == '\\' && text[1] == 'u')
	{
		unsigned char utf8[MAX_MULTIBYTE_CHAR_LEN + 1] = {0};
		int			code = read_hex(text + 2, 4);

		if (code > 0)
		{
			unicode_to_utf8(code, utf8);
			*used = pg_utf_mblen(utf8);
			if (strncmp(secret, (char *) utf8, *used) == 0)
				return 6;
		}
		*used = 1;
	}
	if (len >= 3 && text[0] == '%' && read_hex(text + 1, 2) == (unsigned char) secret[0])
		return 3;
	if (len >= 2 && text[0] == '\\' && text[1] == secret[0])
		return 2;
	return text[0] == secret[0] ? 1 : 0;
}

/* How much of the text is the secret, or all that its end has left of it? */
static size_t
match_secret(const char *text, size_t len, const char *secret, size_t secret_len)
{
	size_t		at = 0;
	size_t		found = 0;
	size_t		used;

	if (memcmp(text, secret, Min(secret_len, len)) == 0)
		return Min(secret_len, len);
	while (found < secret_len && at < len)
	{
		size_t		n = match_spelled(text + at, len - at, secret + found, &used);

		/* Cut off in the middle of a spelling. */
		if (n == 0 && len - at < 6 && (text[at] == '\\' || text[at] == '%'))
			n = len - at;
		if (n == 0)
			return 0;
		at += n;
		found += used;
	}
	return found >= Min(secret_len, MIN_SECRET) ? at : 0;
}

void
webhook_text_hide(char *bytes, size_t len, const char *secret)
{
	size_t		secret_len = strlen(secret);

	if (secret_len < MIN_SECRET)
		return;
	for (size_t i = 0; i + MIN_SECRET <= len; i++)
	{
		size_t		n = match_secret(bytes + i, len - i, secret, secret_len);

		if (n > 0)
		{
			memset(bytes + i, '*', n);
			i += n - 1;
		}
	}
}

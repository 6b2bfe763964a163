/*-------------------------------------------------------------------------
 *
 * mail_text.c
 *	  Addresses, and mails as they go over the wire.
 *
 * Runs in the worker.  Bodies and subjects are base64 (RFC 2045, RFC 2047), so
 * that neither a line break in a record nor a dot at a line's begin can mean
 * anything to a mail server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>
#include <unistd.h>

#include "lib/stringinfo.h"
#include "mail_text.h"
#include "mb/pg_wchar.h"
#include "text.h"

#define MAX_ADDRESS 254
#define LINE_BYTES 57			/* make 76 characters of base64 */
#define WORD_BYTES 45			/* make an encoded word of 75 at most */

bool
webhook_mail_text_is_address(const char *text)
{
	const char *at = strrchr(text, '@');

	if (at == NULL || at == text || at[1] == '\0' || strlen(text) > MAX_ADDRESS)
		return false;
	for (const char *p = text; *p != '\0'; p++)
	{
		if ((unsigned char) *p <= ' ' || *p == 0x7f || strchr("<>()[],;:\\\"", *p) != NULL ||
			(*p == '@' && p != at))
			return false;
	}
	return at[1] != '.' && at[1] != '-' && strstr(at, "..") == NULL;
}

char *
webhook_mail_text_next_address(const char **list)
{
	while (**list != '\0')
	{
		const char *start = *list;
		const char *end = start + strcspn(start, ",;");

		*list = *end == '\0' ? end : end + 1;
		while (start < end && strchr(" \t\r\n", *start) != NULL)
			start++;
		while (end > start && strchr(" \t\r\n", end[-1]) != NULL)
			end--;
		if (end > start)
			return pnstrdup(start, end - start);
	}
	return NULL;
}

char *
webhook_mail_text_plain_address(const char *text)
{
	const char *open = strrchr(text, '<');
	const char *close = open == NULL ? NULL : strchr(open, '>');

	if (close == NULL)
		return pstrdup(text);
	return pnstrdup(open + 1, close - open - 1);
}

static bool
is_plain(const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
	{
		if ((unsigned char) *p < ' ' || (unsigned char) *p > '~')
			return false;
	}
	return strstr(text, "=?") == NULL && strlen(text) < 900;
}

/* A header's text, UTF-8, as encoded words where it must be (RFC 2047). */
static void
append_words(StringInfo out, const char *text)
{
	int			left = strlen(text);

	if (is_plain(text))
	{
		appendStringInfoString(out, text);
		return;
	}
	for (bool is_first = true; left > 0; is_first = false)
	{
		int			n = pg_encoding_mbcliplen(PG_UTF8, text, left, WORD_BYTES);

		appendStringInfoString(out, is_first ? "=?UTF-8?B?" : "\r\n =?UTF-8?B?");
		appendStringInfoString(out, webhook_text_base64(text, n));
		appendStringInfoString(out, "?=");
		text += n;
		left -= n;
	}
}

/* The name in front of <address>; what is quoted without its quotes. */
static char *
get_name(const char *from)
{
	const char *end = strrchr(from, '<');
	char	   *name;
	char	   *out;

	from += strspn(from, " \t");
	while (end != NULL && end > from && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	if (end == NULL || end == from)
		return NULL;
	if (end - from < 2 || from[0] != '"' || end[-1] != '"')
		return pnstrdup(from, end - from);
	name = out = palloc(end - from);
	for (const char *p = from + 1; p < end - 1; p++)
	{
		if (*p == '\\' && p + 1 < end - 1)
			p++;
		*out++ = *p;
	}
	*out = '\0';
	return name;
}

/* Name <address>: the name as it is, quoted, or as encoded words. */
static void
append_mailbox(StringInfo out, const char *from, const char *address)
{
	char	   *name = get_name(from);

	if (name == NULL)
	{
		appendStringInfoString(out, address);
		return;
	}
	if (!is_plain(name) || strpbrk(name, "()<>[]:;@\\,.\"") == NULL)
		append_words(out, name);
	else
	{
		appendStringInfoChar(out, '"');
		for (const char *p = name; *p != '\0'; p++)
			appendStringInfo(out, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
		appendStringInfoChar(out, '"');
	}
	appendStringInfo(out, " <%s>", address);
}

static char *
to_utf8(const char *text)
{
	return webhook_utf8(text, strlen(text));
}

char *
webhook_mail_text_format(const char *from, const char *sender, const char *recipient,
						 const char *subject, const char *body, const char *message_id)
{
	StringInfoData out;
	StringInfoData lines;
	time_t		now = time(NULL);
	struct tm	utc;
	char		date[64];
	int			len;

	/* In the C locale, which the names of days and months are in. */
	gmtime_r(&now, &utc);
	strftime(date, sizeof(date), "%d %b %Y %H:%M:%S +0000", &utc);

	initStringInfo(&out);
	appendStringInfo(&out, "Date: %s\r\nFrom: ", date);
	append_mailbox(&out, from, sender);
	appendStringInfo(&out, "\r\nTo: %s\r\nSubject: ", recipient);
	append_words(&out, to_utf8(subject));
	appendStringInfo(&out, "\r\nMessage-ID: <%s>\r\n", message_id);
	appendStringInfoString(&out, "Auto-Submitted: auto-generated\r\n"
						   "MIME-Version: 1.0\r\n"
						   "Content-Type: text/plain; charset=utf-8\r\n"
						   "Content-Transfer-Encoding: base64\r\n\r\n");

	/* Lines of text end with CR LF within, too. */
	initStringInfo(&lines);
	for (const char *p = to_utf8(body); *p != '\0'; p++)
	{
		if (*p == '\n')
			appendStringInfoChar(&lines, '\r');
		appendStringInfoChar(&lines, *p);
	}
	len = lines.len;
	for (int i = 0; i < len; i += LINE_BYTES)
	{
		char	   *line = webhook_text_base64(lines.data + i, Min(LINE_BYTES, len - i));

		appendStringInfo(&out, "%s\r\n", line);
		pfree(line);
	}
	return out.data;
}

char *
webhook_mail_text_host_name(void)
{
	char		name[256] = "localhost";

	(void) gethostname(name, sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	return pstrdup(name);
}

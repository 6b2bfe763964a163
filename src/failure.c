/*-------------------------------------------------------------------------
 *
 * failure.c
 *	  Why a request failed, in plain words.
 *
 * What goes into webhook_log.error is read by DBAs and queried by reports:
 * one line, valid in the server's encoding, whatever a receiver, a resolver
 * or a TLS library had to say.  Runs in workers, outside of transactions, so
 * that there is no catalog to find a conversion in.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "failure.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#define MAX_TEXT 1024

/* The text of a status is ours, not the receiver's. */
static const struct
{
	int			status;
	const char *words;
}			known_statuses[] =
{
	{101, "Switching Protocols"},
	{300, "Multiple Choices"},
	{301, "Moved Permanently"},
	{302, "Found"},
	{303, "See Other"},
	{304, "Not Modified"},
	{305, "Use Proxy"},
	{307, "Temporary Redirect"},
	{308, "Permanent Redirect"},
	{400, "Bad Request"},
	{401, "Unauthorized"},
	{402, "Payment Required"},
	{403, "Forbidden"},
	{404, "Not Found"},
	{405, "Method Not Allowed"},
	{406, "Not Acceptable"},
	{407, "Proxy Authentication Required"},
	{408, "Request Timeout"},
	{409, "Conflict"},
	{410, "Gone"},
	{411, "Length Required"},
	{412, "Precondition Failed"},
	{413, "Content Too Large"},
	{414, "URI Too Long"},
	{415, "Unsupported Media Type"},
	{416, "Range Not Satisfiable"},
	{417, "Expectation Failed"},
	{418, "I'm a teapot"},
	{421, "Misdirected Request"},
	{422, "Unprocessable Content"},
	{423, "Locked"},
	{424, "Failed Dependency"},
	{425, "Too Early"},
	{426, "Upgrade Required"},
	{428, "Precondition Required"},
	{429, "Too Many Requests"},
	{431, "Request Header Fields Too Large"},
	{451, "Unavailable For Legal Reasons"},
	{500, "Internal Server Error"},
	{501, "Not Implemented"},
	{502, "Bad Gateway"},
	{503, "Service Unavailable"},
	{504, "Gateway Timeout"},
	{505, "HTTP Version Not Supported"},
	{507, "Insufficient Storage"},
	{508, "Loop Detected"},
	{511, "Network Authentication Required"},
};

/* The error where there is no memory for another. */
static char out_of_memory[] = "out of memory";

/* Make the text fit for a column; no longer than it was. */
static void
clean_text(char *text)
{
	unsigned char *from = (unsigned char *) text;
	unsigned char *to = (unsigned char *) text;
	unsigned char *end = from + strlen(text);

	while (from < end)
	{
		int			len = 1;

		if (*from < 0x20 || *from == 0x7f)
			*to++ = ' ';
		else if (*from < 0x80)
			*to++ = *from;
		else
		{
			/* What comes in is UTF-8 or nothing. */
			len = pg_utf_mblen(from);
			if (from + len > end || !pg_utf8_islegal(from, len))
			{
				len = 1;
				*to++ = '?';
			}
			else if (GetDatabaseEncoding() != PG_UTF8)
				*to++ = '?';
			else
			{
				memmove(to, from, len);
				to += len;
			}
		}
		from += len;
	}
	while (to > (unsigned char *) text && to[-1] == ' ')
		to--;
	*to = '\0';
}

char *
webhook_failure_format(MemoryContext context, const char *format,...)
{
	char		text[MAX_TEXT];
	char	   *result;
	va_list		args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	clean_text(text);
	result = MemoryContextAllocExtended(context, strlen(text) + 1,
										MCXT_ALLOC_NO_OOM);
	return result == NULL ? out_of_memory : strcpy(result, text);
}

char *
webhook_failure_of_status(MemoryContext context, int status)
{
	const char *space = "";
	const char *words = "";
	const char *more = "";

	for (int i = 0; i < lengthof(known_statuses); i++)
	{
		if (known_statuses[i].status == status)
		{
			space = " ";
			words = known_statuses[i].words;
		}
	}
	if (status >= 300 && status <= 399 && status != 304)
		more = ", and redirects are not followed";
	return webhook_failure_format(context, "receiver answered %d%s%s%s",
								  status, space, words, more);
}

const char *
webhook_failure_duration(char *buffer, int64 ms)
{
	if (ms < 1000)
		snprintf(buffer, WEBHOOK_DURATION_SIZE, INT64_FORMAT " ms", ms);
	else
		snprintf(buffer, WEBHOOK_DURATION_SIZE, "%g s", ms / 1000.0);
	return buffer;
}

/*-------------------------------------------------------------------------
 *
 * duration.c
 *	  Durations in settings, and of actions.
 *
 * Runs in every process; in the postmaster, too, so that no error is raised.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "duration.h"

#define FOREVER_US (INT64CONST(1000) * 366 * USECS_PER_DAY)

/* The words for units that PostgreSQL's settings and intervals know. */
static const struct
{
	const char *word;
	int64		usecs;
}			duration_units[] =
{
	{"us", 1},
	{"ms", 1000},
	{"millisecond", 1000},
	{"milliseconds", 1000},
	{"s", USECS_PER_SEC},
	{"sec", USECS_PER_SEC},
	{"secs", USECS_PER_SEC},
	{"second", USECS_PER_SEC},
	{"seconds", USECS_PER_SEC},
	{"m", USECS_PER_MINUTE},
	{"min", USECS_PER_MINUTE},
	{"mins", USECS_PER_MINUTE},
	{"minute", USECS_PER_MINUTE},
	{"minutes", USECS_PER_MINUTE},
	{"h", USECS_PER_HOUR},
	{"hr", USECS_PER_HOUR},
	{"hrs", USECS_PER_HOUR},
	{"hour", USECS_PER_HOUR},
	{"hours", USECS_PER_HOUR},
	{"d", USECS_PER_DAY},
	{"day", USECS_PER_DAY},
	{"days", USECS_PER_DAY},
	{"w", 7 * USECS_PER_DAY},
	{"week", 7 * USECS_PER_DAY},
	{"weeks", 7 * USECS_PER_DAY},
};

static const char *
skip_space(const char *text)
{
	return text + strspn(text, " \t\r\n");
}

/* The first word for the unit at *text, which is moved behind it; -1: none. */
static int
parse_unit(const char **text)
{
	size_t		len = 0;

	while (((*text)[len] >= 'a' && (*text)[len] <= 'z') ||
		   ((*text)[len] >= 'A' && (*text)[len] <= 'Z'))
		len++;
	for (int i = 0; i < lengthof(duration_units); i++)
	{
		if (strlen(duration_units[i].word) == len &&
			pg_strncasecmp(*text, duration_units[i].word, len) == 0)
		{
			*text += len;
			while (i > 0 && duration_units[i - 1].usecs == duration_units[i].usecs)
				i--;
			return i;
		}
	}
	return -1;
}

bool
webhook_duration_parse(const char **text, int64 *usecs)
{
	double		sum = 0;
	uint32		seen = 0;
	bool		is_first = true;

	for (;;)
	{
		char		number[32];
		size_t		len;
		int64		factor = USECS_PER_SEC;

		*text = skip_space(*text);
		if (!is_first && (**text == ',' || **text == '\0'))
			break;
		len = strspn(*text, "0123456789.");
		if (len == 0 || len >= sizeof(number) || strcspn(*text, ".") == len - 1 ||
			strcspn(*text, "0123456789") >= len)
			return false;
		memcpy(number, *text, len);
		number[len] = '\0';
		if (strchr(number, '.') != strrchr(number, '.'))
			return false;
		*text = skip_space(*text + len);

		if (!is_first || (**text != ',' && **text != '\0'))
		{
			int			unit = parse_unit(text);

			/* The same one twice is a list whose commas were forgotten. */
			if (unit < 0 || (seen & (1U << unit)) != 0)
				return false;
			seen |= 1U << unit;
			factor = duration_units[unit].usecs;
		}
		sum += strtod(number, NULL) * factor;
		if (sum > WEBHOOK_MAX_DURATION)
			return false;
		is_first = false;
	}
	*usecs = (int64) rint(sum);
	return true;
}

int64
webhook_duration_of_interval(const Interval *interval)
{
	double		usecs = interval->time +
		(interval->day + interval->month * (double) DAYS_PER_MONTH) * USECS_PER_DAY;

	return (int64) Max(Min(usecs, FOREVER_US), -FOREVER_US);
}

/*-------------------------------------------------------------------------
 *
 * schedule.c
 *	  When a scheduled workflow runs.
 *
 * Runs in sessions, and in the processes that run workflows.  An interval is
 * real time, but that days and months follow the calendar of the zone.  A cron
 * line is read as cron reads it: five fields, names of months and days, lists,
 * ranges and steps; where both days are restricted, either will do.
 *
 * Where clocks are changed, the rule is cron's (cron(8), Debian): a line whose
 * minutes or hours begin with "*" goes by the clock as it runs, and so runs in
 * both of two equal hours; any other runs at given times, each once a day: a
 * time that is skipped counts at the moment of the change, one that comes twice
 * counts the first time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "schedule.h"
#include "settings.h"
#include "slot.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#define MAX_DAYS (366 * 9)		/* February 29 comes within eight years */
#define MAX_STEPS 100000
#define DAY_SECONDS 86400

typedef struct Field
{
	const char *what;
	int			min;
	int			max;
	const char *const *names;	/* of min, min + 1, ...; NULL: none */
} Field;

enum
{
	IN_MINUTE,
	IN_HOUR,
	IN_DAY,
	IN_MONTH,
	IN_WEEKDAY,
	N_FIELDS
};

static const char *const month_names[] = {
	"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov",
	"dec", NULL
};

static const char *const weekday_names[] = {
	"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL
};

static const Field fields[N_FIELDS] = {
	[IN_MINUTE] = {"minute", 0, 59, NULL},
	[IN_HOUR] = {"hour", 0, 23, NULL},
	[IN_DAY] = {"day of the month", 1, 31, NULL},
	[IN_MONTH] = {"month", 1, 12, month_names},
	[IN_WEEKDAY] = {"day of the week", 0, 7, weekday_names},
};

static const struct
{
	const char *word;
	const char *line;
}			macros[] = {
	{"@yearly", "0 0 1 1 *"},
	{"@annually", "0 0 1 1 *"},
	{"@monthly", "0 0 1 * *"},
	{"@weekly", "0 0 * * 0"},
	{"@daily", "0 0 * * *"},
	{"@midnight", "0 0 * * *"},
	{"@hourly", "0 * * * *"},
};

struct WebhookPlan
{
	Interval   *interval;		/* NULL: a cron line */
	uint64		allowed[N_FIELDS];	/* bit n: n is allowed */
	bool		has_star[N_FIELDS]; /* begins with a star */
};

PG_FUNCTION_INFO_V1(next_run);

/* ---------------------------------------------------------------------
 * Parsing
 * ---------------------------------------------------------------------
 */

static int
hint_at_schedules(void)
{
	return errhint("Write an interval, such as '15 minutes', or a cron line of minute, hour, day of the month, month and day of the week, such as '0 9 * * 1-5'.");
}

static void
fail_schedule(const char *schedule, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid schedule: \"%s\"", schedule),
			 detail != NULL ? errdetail("%s", detail) : 0,
			 hint_at_schedules()));
}

/* A number or name of a field at *p, which is moved behind it; -1: neither. */
static int
parse_number(const char **p, const Field *field)
{
	int			value = 0;
	int			len = 0;

	while ((*p)[len] >= '0' && (*p)[len] <= '9' && len < 4)
		value = value * 10 + ((*p)[len++] - '0');
	if (len > 0)
	{
		*p += len;
		return value;
	}
	for (int i = 0; field->names != NULL && field->names[i] != NULL; i++)
	{
		if (pg_strncasecmp(*p, field->names[i], 3) == 0)
		{
			*p += 3;
			return field->min + i;
		}
	}
	return -1;
}

/* One element of a list: a star, a number or a range, perhaps with a step. */
static bool
parse_element(const char **p, const Field *field, uint64 *allowed)
{
	int			from = field->min;
	int			to = field->max;
	int			step = 1;
	bool		is_open = false;

	if (**p == '*')
	{
		(*p)++;
		is_open = true;
		if (field == &fields[IN_WEEKDAY])
			to = 6;
	}
	else
	{
		from = to = parse_number(p, field);
		if (**p == '-')
		{
			(*p)++;
			to = parse_number(p, field);
			is_open = true;
		}
	}
	if (from < field->min || to > field->max || to < from)
		return false;
	if (**p == '/')
	{
		(*p)++;
		if (**p < '0' || **p > '9')
			return false;
		step = parse_number(p, field);
		if (step < 1)
			return false;
		if (!is_open)
			to = field == &fields[IN_WEEKDAY] ? 6 : field->max;
	}
	for (int i = from; i <= to; i += step)
		*allowed |= UINT64CONST(1) << i;
	return true;
}

static void
parse_field(const char *schedule, const char **p, int n, WebhookPlan *plan)
{
	const Field *field = &fields[n];
	bool		ok;

	plan->has_star[n] = **p == '*';
	while ((ok = parse_element(p, field, &plan->allowed[n])) && **p == ',')
		(*p)++;
	if (!ok || (**p != '\0' && **p != ' ' && **p != '\t'))
		fail_schedule(schedule, psprintf("The %s is wrong.", field->what));
	*p += strspn(*p, " \t");
}

static void
parse_line(const char *schedule, const char *line, WebhookPlan *plan)
{
	const char *p = line;

	for (int i = 0; i < N_FIELDS; i++)
	{
		if (*p == '\0')
			fail_schedule(schedule, "A cron line has five fields.");
		parse_field(schedule, &p, i, plan);
	}
	if (*p != '\0')
		fail_schedule(schedule, "A cron line has five fields.");

	/* Sunday is 0 and 7. */
	if (plan->allowed[IN_WEEKDAY] & (1 << 7))
		plan->allowed[IN_WEEKDAY] |= 1;
}

/* Is it a cron line, as opposed to an interval? */
static bool
is_line(const char *schedule)
{
	int			n = 0;

	if (schedule[0] == '@' && isalpha((unsigned char) schedule[1]))
		return true;
	if (strchr(schedule, '*') != NULL)
		return true;
	for (const char *p = schedule; *p != '\0'; n++)
	{
		p += strcspn(p, " \t");
		p += strspn(p, " \t");
	}
	/* An interval of five words does not begin with three numbers. */
	if (n != N_FIELDS)
		return false;
	for (int i = 0; i < 3; i++)
	{
		size_t		len = strspn(schedule, "0123456789,-/");

		if (len == 0 || (schedule[len] != ' ' && schedule[len] != '\t'))
			return false;
		schedule += len;
		schedule += strspn(schedule, " \t");
	}
	return true;
}

static void
on_interval_error(void *arg)
{
	(void) hint_at_schedules();
}

static Interval *
parse_interval(const char *schedule)
{
	ErrorContextCallback context = {error_context_stack, on_interval_error, NULL};
	Interval   *interval;

	/* Raises an error of its own for what is no interval. */
	error_context_stack = &context;
	interval = DatumGetIntervalP(DirectFunctionCall3(interval_in,
													 CStringGetDatum(schedule),
													 ObjectIdGetDatum(InvalidOid),
													 Int32GetDatum(-1)));
	error_context_stack = context.previous;
	if (webhook_is_infinite(interval))
		fail_schedule(schedule, "An interval must end.");
	if (interval->month < 0 || interval->day < 0 || interval->time < 0 ||
		(interval->month == 0 && interval->day == 0 &&
		 interval->time < USECS_PER_SEC))
		fail_schedule(schedule, "An interval is a second at least.");
	return interval;
}

WebhookPlan *
webhook_schedule_parse(const char *schedule)
{
	WebhookPlan *plan = palloc0(sizeof(WebhookPlan));
	char	   *start = pstrdup(schedule + strspn(schedule, " \t"));
	const char *line = start;
	int			len = strlen(start);

	while (len > 0 && (start[len - 1] == ' ' || start[len - 1] == '\t'))
		start[--len] = '\0';

	if (!is_line(start))
	{
		plan->interval = parse_interval(start);
		return plan;
	}
	if (*start == '@')
	{
		line = NULL;
		for (int i = 0; i < lengthof(macros); i++)
		{
			if (pg_strcasecmp(start, macros[i].word) == 0)
				line = macros[i].line;
		}
		if (line == NULL)
			fail_schedule(schedule, "There are @hourly, @daily, @weekly, @monthly and @yearly.");
	}
	parse_line(schedule, line, plan);
	return plan;
}

/* ---------------------------------------------------------------------
 * Zones
 * ---------------------------------------------------------------------
 */

pg_tz *
webhook_schedule_zone(void)
{
	const char *name = webhook_timezone;
	char		workers[TZ_STRLEN_MAX + 1];
	pg_tz	   *zone;

	/*
	 * Not the session's, which is somebody's own: drivers have theirs from the
	 * start.  A worker has the server's.
	 */
	if (name == NULL || name[0] == '\0')
		name = MyBackendType != B_BG_WORKER && webhook_slot_get_timezone(workers) ? workers :
			GetConfigOptionResetString("TimeZone");
	zone = name == NULL ? NULL : pg_tzset(name);
	return zone != NULL ? zone : log_timezone;
}

/* Seconds east of Greenwich at a moment. */
static long
get_offset(pg_time_t time, pg_tz *zone)
{
	return pg_localtime(&time, zone)->tm_gmtoff;
}

/*
 * The moment of a time by the clock, given as if the clock showed UTC.  One
 * that comes twice: the first; one that is skipped: the change.
 */
static pg_time_t
find_moment(pg_time_t clock, pg_tz *zone)
{
	long		before = get_offset(clock - DAY_SECONDS, zone);
	long		after = get_offset(clock + DAY_SECONDS, zone);
	pg_time_t	early = clock - Max(before, after);
	pg_time_t	late = clock - Min(before, after);

	if (get_offset(early, zone) == Max(before, after))
		return early;
	if (get_offset(late, zone) == Min(before, after))
		return late;
	/* Skipped: the change is in between. */
	while (late - early > 1)
	{
		pg_time_t	middle = early + (late - early) / 2;

		if (get_offset(middle, zone) == before)
			early = middle;
		else
			late = middle;
	}
	return late;
}

/* ---------------------------------------------------------------------
 * The next moment
 * ---------------------------------------------------------------------
 */

static bool
is_allowed(const WebhookPlan *plan, int field, int value)
{
	return (plan->allowed[field] & (UINT64CONST(1) << value)) != 0;
}

/* Where both days are restricted, either will do: so does cron. */
static bool
is_day(const WebhookPlan *plan, const struct pg_tm *tm)
{
	bool		day = is_allowed(plan, IN_DAY, tm->tm_mday);
	bool		weekday = is_allowed(plan, IN_WEEKDAY, tm->tm_wday);

	if (!is_allowed(plan, IN_MONTH, tm->tm_mon + 1))
		return false;
	if (plan->has_star[IN_DAY] || plan->has_star[IN_WEEKDAY])
		return day && weekday;
	return day || weekday;
}

/* Given times, each once a day. */
static pg_time_t
find_given_time(const WebhookPlan *plan, pg_time_t after, pg_tz *zone)
{
	pg_time_t	day = after + get_offset(after, zone);

	/* A day earlier, for what was skipped there. */
	day -= day % DAY_SECONDS + DAY_SECONDS;
	for (int i = 0; i < MAX_DAYS; i++, day += DAY_SECONDS)
	{
		pg_time_t	first = 0;

		if (!is_day(plan, pg_gmtime(&day)))
			continue;
		for (int minute = 0; minute < 24 * 60; minute++)
		{
			pg_time_t	moment;

			if (!is_allowed(plan, IN_HOUR, minute / 60) ||
				!is_allowed(plan, IN_MINUTE, minute % 60))
				continue;
			moment = find_moment(day + minute * 60, zone);
			if (moment > after && (first == 0 || moment < first))
				first = moment;
		}
		if (first != 0)
			return first;
	}
	return 0;
}

/* By the clock as it runs, in steps of what does not match. */
static pg_time_t
find_by_clock(const WebhookPlan *plan, pg_time_t after, pg_tz *zone)
{
	pg_time_t	time = after - after % 60 + 60;

	for (int i = 0; i < MAX_STEPS; i++)
	{
		struct pg_tm *tm = pg_localtime(&time, zone);
		long		offset = tm->tm_gmtoff;

		/* Offsets of odd seconds are of the past. */
		if (!is_day(plan, tm) || !is_allowed(plan, IN_HOUR, tm->tm_hour))
		{
			int			left = (60 - tm->tm_min) * 60 - tm->tm_sec;

			/* Some clocks are changed in the middle of an hour. */
			time += get_offset(time + left, zone) == offset ? left : 60 - tm->tm_sec;
		}
		else if (!is_allowed(plan, IN_MINUTE, tm->tm_min) || tm->tm_sec != 0)
			time += 60 - tm->tm_sec;
		else
			return time;
	}
	return 0;
}

/* So many intervals after a moment. */
static TimestampTz
add_intervals(TimestampTz time, const Interval *interval, int64 n, pg_tz *zone)
{
	pg_tz	   *session = session_timezone;
	Interval	sum;
	TimestampTz result;

	sum.month = interval->month * n;
	sum.day = interval->day * n;
	sum.time = interval->time * n;
	/* Days and months are the zone's. */
	session_timezone = zone;
	PG_TRY();
	{
		result = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
														 TimestampTzGetDatum(time),
														 PointerGetDatum(&sum)));
	}
	PG_FINALLY();
	{
		session_timezone = session;
	}
	PG_END_TRY();
	return result;
}

/*
 * All of them count from the start: from one to the next, January 31 would make
 * all that follow the 28th, and a skipped hour would shift them for good.
 */
static TimestampTz
find_by_interval(const Interval *interval, TimestampTz start, TimestampTz after,
				 pg_tz *zone)
{
	TimestampTz next;
	double		longest;
	int64		n;

	if (start == 0 || start > after)
		return add_intervals(after, interval, 1, zone);
	/* No month has more days, and hardly a day more hours: rather too few. */
	longest = (interval->month * 31.0 + interval->day) *
		(USECS_PER_DAY + USECS_PER_HOUR) + interval->time;
	n = Max((int64) ((after - start) / longest) - 1, 0);
	do
		next = add_intervals(start, interval, ++n, zone);
	while (next <= after);
	return next;
}

TimestampTz
webhook_schedule_next(const WebhookPlan *plan, TimestampTz start,
					  TimestampTz after, pg_tz *zone)
{
	pg_time_t	time = timestamptz_to_time_t(after);
	pg_time_t	next;

	if (plan->interval != NULL)
		return find_by_interval(plan->interval, start, after, zone);
	if (plan->has_star[IN_MINUTE] || plan->has_star[IN_HOUR])
		next = find_by_clock(plan, time, zone);
	else
		next = find_given_time(plan, time, zone);
	if (next == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid schedule: it names a day that never comes")));
	return time_t_to_timestamptz(next);
}

TimestampTz
webhook_schedule_start(const WebhookPlan *plan, TimestampTz start,
					   TimestampTz planned, pg_tz *zone)
{
	if (plan->interval == NULL || start == 0 || start >= planned ||
		find_by_interval(plan->interval, start, planned - 1, zone) != planned)
		return planned;
	return start;
}

TimestampTz
webhook_schedule_correct(const WebhookPlan *plan, TimestampTz start,
						 TimestampTz planned, TimestampTz now, pg_tz *zone)
{
	TimestampTz next;

	start = webhook_schedule_start(plan, start, planned, zone);
	next = webhook_schedule_next(plan, start, now, zone);
	/* An interval stays as it was planned, but comes never later than it would. */
	return plan->interval != NULL ? Min(planned, next) : next;
}

/*
 * webhook.next_run(schedule, after, timezone) returns timestamptz
 *		When a schedule comes next after a moment; null for a null, and where
 *		the moment is infinite.
 */
Datum
next_run(PG_FUNCTION_ARGS)
{
	pg_tz	   *zone = webhook_schedule_zone();
	TimestampTz after;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	after = PG_GETARG_TIMESTAMPTZ(1);
	if (TIMESTAMP_NOT_FINITE(after))
		PG_RETURN_NULL();
	if (!PG_ARGISNULL(2))
	{
		char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(2));

		zone = pg_tzset(name);
		if (zone == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("time zone \"%s\" not recognized", name)));
	}
	PG_RETURN_TIMESTAMPTZ(webhook_schedule_next(webhook_schedule_parse(text_to_cstring(PG_GETARG_TEXT_PP(0))),
												0, after, zone));
}

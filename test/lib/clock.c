/*
 * clock.c
 *	  The hand of the clock: preloaded into a test's server.
 *
 * WEBHOOK_TEST_CLOCK names a file of eight bytes, a number of seconds that the
 * time of day is ahead.  Changing it turns the clock of all processes at once.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t
ahead(void)
{
	static volatile int64_t *seconds = NULL;

	if (seconds == NULL)
	{
		const char *path = getenv("WEBHOOK_TEST_CLOCK");
		int			file = path != NULL ? open(path, O_RDONLY) : -1;
		void	   *address = file < 0 ? MAP_FAILED :
			mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);

		if (file >= 0)
			close(file);
		if (address == MAP_FAILED)
			return 0;
		seconds = address;
	}
	return *seconds;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	static int	(*real) (struct timeval *restrict, void *restrict) = NULL;
	int			result;

	if (real == NULL)
		real = dlsym(RTLD_NEXT, "gettimeofday");
	result = real(tv, tz);
	if (result == 0 && tv != NULL)
		tv->tv_sec += ahead();
	return result;
}

time_t
time(time_t *where)
{
	struct timeval now;

	gettimeofday(&now, NULL);
	if (where != NULL)
		*where = now.tv_sec;
	return now.tv_sec;
}

/*
 * names.c
 *	  A name server that does as it is told: preloaded into a test's server.
 *
 * WEBHOOK_TEST_NAMES names a file of lines "name answer answer ...".  The first
 * look-up of a name in a process gets the first answer, the next one the next,
 * and the last one stays.  An answer is addresses joined by "+", or "again" (no
 * name server) or "none" (no such name); "@300" behind it makes it take 300 ms.
 * Other names go to the real resolver.  WEBHOOK_TEST_LOOKUPS names a file that
 * gets a line for each look-up of libcurl's: the name, and how many of it were
 * under way.
 *
 * From 8.20 libcurl asks for IPv4 and IPv6 addresses apart: that is one look-up,
 * and the half that asks for IPv6 is answered, but neither counted nor noted.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_NAMES 32

static struct
{
	char		name[64];
	int			n;
	int			running;
}			asked[MAX_NAMES];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* How often was it asked before?  Not by the other half of a look-up. */
static int
count(const char *name, int is_half)
{
	int			n = 0;

	pthread_mutex_lock(&mutex);
	for (int i = 0; i < MAX_NAMES; i++)
	{
		if (asked[i].name[0] == '\0' && !is_half)
			strncpy(asked[i].name, name, sizeof(asked[i].name) - 1);
		if (strcmp(asked[i].name, name) == 0)
		{
			n = is_half ? asked[i].n - 1 : asked[i].n++;
			break;
		}
	}
	pthread_mutex_unlock(&mutex);
	return n;
}

/* How many look-ups of the name are running, once there is one more or less? */
static int
note_running(const char *name, int change)
{
	int			n = 0;

	pthread_mutex_lock(&mutex);
	for (int i = 0; i < MAX_NAMES; i++)
	{
		if (strcmp(asked[i].name, name) == 0)
			n = asked[i].running += change;
	}
	pthread_mutex_unlock(&mutex);
	return n;
}

static void
write_down(const char *name, int n)
{
	const char *path = getenv("WEBHOOK_TEST_LOOKUPS");
	FILE	   *file = path != NULL ? fopen(path, "a") : NULL;

	if (file == NULL)
		return;
	fprintf(file, "%s %d\n", name, n);
	fclose(file);
}

/* The answer for a name into buffer; 0: not one of ours. */
static int
find_answer(const char *name, int is_half, char *buffer, size_t size)
{
	const char *path = getenv("WEBHOOK_TEST_NAMES");
	FILE	   *file = path != NULL && name != NULL ? fopen(path, "r") : NULL;
	char		line[512];
	int			found = 0;

	while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL)
	{
		char	   *rest = NULL;
		char	   *word = strtok_r(line, " \n", &rest);

		if (word == NULL || strcmp(word, name) != 0)
			continue;
		for (int left = count(name, is_half); left >= 0 || !found; left--)
		{
			word = strtok_r(NULL, " \n", &rest);
			if (word == NULL)
				break;
			snprintf(buffer, size, "%s", word);
			found = 1;
		}
	}
	if (file != NULL)
		fclose(file);
	return found;
}

int
getaddrinfo(const char *name, const char *service,
			const struct addrinfo *hints, struct addrinfo **result)
{
	int			(*real) (const char *, const char *, const struct addrinfo *,
						 struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
	struct addrinfo **next = result;
	char		answer[256];
	char	   *rest = NULL;
	int			is_half = hints != NULL && hints->ai_family == AF_INET6;

	if (!find_answer(name, is_half, answer, sizeof(answer)))
		return real(name, service, hints, result);
	if (!is_half)
		write_down(name, note_running(name, 1));
	if (strchr(answer, '@') != NULL)
	{
		usleep(atoi(strchr(answer, '@') + 1) * 1000);
		*strchr(answer, '@') = '\0';
	}
	if (!is_half)
		(void) note_running(name, -1);
	if (strcmp(answer, "again") == 0)
		return EAI_AGAIN;
	if (strcmp(answer, "none") == 0)
		return EAI_NONAME;
	for (char *word = strtok_r(answer, "+", &rest); word != NULL;
		 word = strtok_r(NULL, "+", &rest))
	{
		if (real(word, service, hints, next) == 0)
			next = &(*next)->ai_next;
	}
	return next == result ? EAI_NONAME : 0;
}

int
getaddrinfo_a(int mode, struct gaicb *list[], int n, struct sigevent *event)
{
	for (int i = 0; i < n; i++)
		list[i]->__return = getaddrinfo(list[i]->ar_name, list[i]->ar_service,
										list[i]->ar_request, &list[i]->ar_result);
	return 0;
}

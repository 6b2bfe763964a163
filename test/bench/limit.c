/*-------------------------------------------------------------------------
 *
 * limit.c
 *	  The limit: what libcurl alone can do, with one thread and no database.
 *
 * Usage: limit URL REQUESTS IN_FLIGHT BODY [CAFILE]
 *
 * Posts the text so many times, so many at once, on one multi handle driven by
 * curl_multi_poll, and prints requests a second and microseconds of CPU each.
 *
 *-------------------------------------------------------------------------
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static size_t
ignore(char *data, size_t size, size_t n, void *arg)
{
	(void) data;
	(void) arg;
	return size * n;
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int
main(int argc, char **argv)
{
	CURLM	   *multi;
	struct curl_slist *headers = NULL;
	struct rusage usage;
	int			total,
				in_flight,
				started = 0,
				done = 0;
	const char *body;
	double		begin,
				seconds,
				cpu;

	if (argc < 5)
	{
		fprintf(stderr, "usage: limit URL REQUESTS IN_FLIGHT BODY [CAFILE]\n");
		return 2;
	}
	total = atoi(argv[2]);
	in_flight = atoi(argv[3]);
	body = argv[4];

	curl_global_init(CURL_GLOBAL_ALL);
	multi = curl_multi_init();
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) in_flight);
	headers = curl_slist_append(headers, "Content-Type: application/json");
	headers = curl_slist_append(headers, "Expect:");

	begin = now();
	for (int i = 0; i < in_flight; i++)
	{
		CURL	   *easy = curl_easy_init();

		curl_easy_setopt(easy, CURLOPT_URL, argv[1]);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long) strlen(body));
		curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, ignore);
		curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
		if (argc > 5)
		{
			curl_easy_setopt(easy, CURLOPT_CAINFO, argv[5]);
			curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);
		}
		curl_multi_add_handle(multi, easy);
		started++;
	}
	while (done < total)
	{
		int			running;
		int			left;
		CURLMsg    *message;

		curl_multi_perform(multi, &running);
		while ((message = curl_multi_info_read(multi, &left)) != NULL)
		{
			CURL	   *easy = message->easy_handle;

			if (message->msg != CURLMSG_DONE)
				continue;
			if (message->data.result != CURLE_OK)
			{
				fprintf(stderr, "limit: %s\n",
						curl_easy_strerror(message->data.result));
				return 1;
			}
			done++;
			curl_multi_remove_handle(multi, easy);
			if (started < total)
			{
				curl_multi_add_handle(multi, easy);
				started++;
			}
		}
		if (done < total)
			curl_multi_poll(multi, NULL, 0, 1000, NULL);
	}
	seconds = now() - begin;
	getrusage(RUSAGE_SELF, &usage);
	cpu = usage.ru_utime.tv_sec + usage.ru_utime.tv_usec / 1e6 +
		usage.ru_stime.tv_sec + usage.ru_stime.tv_usec / 1e6;
	printf("%.0f %.1f\n", total / seconds, cpu * 1e6 / total);
	return 0;
}

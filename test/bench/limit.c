/*-------------------------------------------------------------------------
 *
 * limit.c
 *	  The limit: what libcurl alone can do, with one thread and no database.
 *
 * Usage: limit [-r RATE] URL REQUESTS IN_FLIGHT BODY [CAFILE]
 *
 * Posts the text so many times, at most so many at once, on one multi handle
 * driven by curl_multi_poll, and prints requests a second and microseconds of CPU
 * each.  With -r it begins no more than so many a second, every three
 * milliseconds those that have become due.
 *
 *-------------------------------------------------------------------------
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_MS 3				/* between beginnings, with a rate */

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

static CURL *
make_request(const char *url, const char *body, struct curl_slist *headers,
			 const char *ca_file)
{
	CURL	   *easy = curl_easy_init();

	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long) strlen(body));
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, ignore);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	if (ca_file != NULL)
	{
		curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
		curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);
	}
	return easy;
}

int
main(int argc, char **argv)
{
	CURLM	   *multi;
	CURL	  **idle;
	struct curl_slist *headers = NULL;
	struct rusage usage;
	int			option,
				total,
				in_flight,
				n_idle = 0,
				started = 0,
				done = 0;
	double		rate = 0,
				begin,
				next = 0,
				seconds,
				cpu;

	while ((option = getopt(argc, argv, "r:")) == 'r')
		rate = atof(optarg);
	argv += optind;
	argc -= optind;
	if (option != -1 || argc < 4)
	{
		fprintf(stderr, "usage: limit [-r RATE] URL REQUESTS IN_FLIGHT BODY [CAFILE]\n");
		return 2;
	}
	total = atoi(argv[1]);
	in_flight = atoi(argv[2]);
	idle = malloc(in_flight * sizeof(CURL *));

	curl_global_init(CURL_GLOBAL_ALL);
	multi = curl_multi_init();
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) in_flight);
	headers = curl_slist_append(headers, "Content-Type: application/json");
	headers = curl_slist_append(headers, "Expect:");
	while (n_idle < in_flight)
		idle[n_idle++] = make_request(argv[0], argv[3], headers, argc > 4 ? argv[4] : NULL);

	begin = now();
	while (done < total)
	{
		int			running;
		int			left;
		CURLMsg    *message;

		if (rate == 0 || now() >= next)
		{
			while (n_idle > 0 && started < total &&
				   (rate == 0 || started < (now() - begin) * rate))
			{
				curl_multi_add_handle(multi, idle[--n_idle]);
				started++;
			}
			next = now() + PAUSE_MS / 1e3;
		}
		curl_multi_poll(multi, NULL, 0, rate > 0 ? PAUSE_MS : 1000, NULL);
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
			idle[n_idle++] = easy;
		}
	}
	seconds = now() - begin;
	getrusage(RUSAGE_SELF, &usage);
	cpu = usage.ru_utime.tv_sec + usage.ru_utime.tv_usec / 1e6 +
		usage.ru_stime.tv_sec + usage.ru_stime.tv_usec / 1e6;
	printf("%.0f %.1f\n", total / seconds, cpu * 1e6 / total);
	return 0;
}

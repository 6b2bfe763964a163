/*-------------------------------------------------------------------------
 *
 * sink.c
 *	  An HTTP receiver that costs next to nothing: answers every request on
 *	  keep-alive connections with 200, and writes down when each arrived.
 *
 * Usage: sink PORTFILE TIMESFILE [hang]
 *
 * Listens on a free port of 127.0.0.1, which it writes to PORTFILE.  For each
 * request whose body holds "t":<number> it appends "<number> <microseconds>"
 * to TIMESFILE, the second being the time of arrival since the epoch.  With
 * "hang" it never answers.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_SIZE 65536
#define MAX_FDS 65536

typedef struct Connection
{
	int			len;
	char		buffer[BUFFER_SIZE + 1];
} Connection;

static const char answer[] =
	"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

static Connection *connections[MAX_FDS];
static FILE *times;
static int	is_hanging = 0;

static void
fail(const char *what)
{
	perror(what);
	exit(1);
}

static void
note_arrival(const char *body)
{
	const char *t = strstr(body, "\"t\"");
	struct timespec now;

	if (t == NULL)
		return;
	t = strpbrk(t + 3, "0123456789");
	if (t == NULL)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	fprintf(times, "%ld %lld\n", atol(t),
			(long long) now.tv_sec * 1000000 + now.tv_nsec / 1000);
	fflush(times);
}

/* Answer each whole request in the buffer; false: the peer is gone. */
static int
serve(int fd, Connection *connection)
{
	for (;;)
	{
		char	   *end;
		char	   *length;
		int			total;
		char		kept;

		connection->buffer[connection->len] = '\0';
		end = strstr(connection->buffer, "\r\n\r\n");
		if (end == NULL)
			return connection->len < BUFFER_SIZE;
		*end = '\0';
		length = strcasestr(connection->buffer, "\r\ncontent-length:");
		*end = '\r';
		total = (int) (end + 4 - connection->buffer) +
			(length == NULL ? 0 : atoi(length + 17));
		if (total > BUFFER_SIZE)
			return 0;
		if (connection->len < total)
			return 1;
		kept = connection->buffer[total];
		connection->buffer[total] = '\0';
		note_arrival(end + 4);
		connection->buffer[total] = kept;
		if (!is_hanging &&
			send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL) < 0)
			return 0;
		connection->len -= total;
		memmove(connection->buffer, connection->buffer + total, connection->len);
	}
}

static int
receive(int fd)
{
	Connection *connection = connections[fd];
	ssize_t		n = recv(fd, connection->buffer + connection->len,
						 BUFFER_SIZE - connection->len, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 1;
	if (n <= 0)
		return 0;
	connection->len += n;
	return serve(fd, connection);
}

int
main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t	address_len = sizeof(address);
	struct epoll_event event = {.events = EPOLLIN};
	int			listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int			epoll = epoll_create1(0);
	FILE	   *port;

	if (argc < 3)
	{
		fprintf(stderr, "usage: sink PORTFILE TIMESFILE [hang]\n");
		return 2;
	}
	is_hanging = argc > 3;
	times = fopen(argv[2], "a");
	if (times == NULL)
		fail(argv[2]);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		listen(listener, 1024) != 0 ||
		getsockname(listener, (struct sockaddr *) &address, &address_len) != 0)
		fail("listen");
	port = fopen(argv[1], "w");
	if (port == NULL)
		fail(argv[1]);
	fprintf(port, "%d\n", ntohs(address.sin_port));
	fclose(port);

	event.data.fd = listener;
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0)
		fail("epoll_ctl");
	for (;;)
	{
		struct epoll_event events[64];
		int			n = epoll_wait(epoll, events, 64, -1);

		for (int i = 0; i < n; i++)
		{
			int			fd = events[i].data.fd;

			if (fd == listener)
			{
				int			one = 1;
				int			peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK);

				if (peer < 0 || peer >= MAX_FDS)
					continue;
				setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
				connections[peer] = malloc(sizeof(Connection));
				connections[peer]->len = 0;
				event.data.fd = peer;
				epoll_ctl(epoll, EPOLL_CTL_ADD, peer, &event);
			}
			else if (!receive(fd))
			{
				free(connections[fd]);
				close(fd);
			}
		}
	}
}

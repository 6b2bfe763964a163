/*-------------------------------------------------------------------------
 *
 * watch.c
 *	  The sockets that epoll watches for curl.
 *
 * curl wants a socket watched while a request is under way on it and not
 * between two requests.  On a connection that is kept that would take two
 * system calls a request; so a socket that is left stays with epoll until it
 * is closed, or until something happens to it, as when the receiver ends the
 * connection.  This holds for sockets that curl opens and closes by our
 * callbacks.  Others, a resolver's, come and go without a word: they are
 * watched just as curl says.
 *
 * A connection that the receiver has ended while nothing was under way is of no
 * more use, but libcurl does not see that where the end comes behind a farewell,
 * as over TLS: it sends the next request there, and can't know whether that was
 * taken.  So what came is taken away, and libcurl finds the end.
 *
 * Its functions run inside of curl: no errors, no palloc.
 *
 * Runs in workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "storage/fd.h"
#include "watch.h"

#define MAX_EVENTS 64			/* taken from epoll at once */

/* What is known of a descriptor. */
typedef struct Watched
{
	bool		is_ours;		/* opened and closed by our callbacks */
	bool		is_wanted;		/* by curl */
	bool		is_plain;		/* nothing but answers may come */
	uint32		events;			/* that epoll has been told of; 0: none */
	uint32		network;
} Watched;

static int	epoll_fd = -1;
static Watched *watched = NULL; /* by descriptor; malloc'd */
static int	n_watched = 0;

void
webhook_watch_start(void)
{
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not create an epoll descriptor: %m")));
	ReserveExternalFD();
}

int
webhook_watch_descriptor(void)
{
	return epoll_fd;
}

/* NULL: not ours. */
static Watched *
find_ours(int fd)
{
	return fd >= 0 && fd < n_watched && watched[fd].is_ours ? &watched[fd] : NULL;
}

void
webhook_watch_opened(int fd, bool is_plain)
{
	if (fd >= n_watched)
	{
		int			n = Max(fd + 1, n_watched + 256);
		Watched    *bigger = realloc(watched, n * sizeof(Watched));

		if (bigger == NULL)
			return;				/* watched as others are */
		memset(bigger + n_watched, 0, (n - n_watched) * sizeof(Watched));
		watched = bigger;
		n_watched = n;
	}
	memset(&watched[fd], 0, sizeof(Watched));
	watched[fd].is_ours = true;
	watched[fd].is_plain = is_plain;
}

void
webhook_watch_closing(int fd)
{
	/* The kernel takes a closed descriptor out of epoll. */
	if (fd >= 0 && fd < n_watched)
		memset(&watched[fd], 0, sizeof(Watched));
}

static void
tell_epoll(int fd, uint32 network, uint32 events)
{
	struct epoll_event event = {0};

	event.events = events;
	event.data.u64 = ((uint64) network << 32) | (uint32) fd;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0 && errno == EEXIST)
		(void) epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event);
}

void
webhook_watch_set(int fd, uint32 network, bool read, bool write)
{
	uint32		events = (read ? EPOLLIN | EPOLLRDHUP : 0) | (write ? EPOLLOUT : 0);
	Watched    *ours = find_ours(fd);

	if (ours != NULL)
	{
		ours->is_wanted = true;
		if (ours->events == events && ours->network == network)
			return;
		ours->events = events;
		ours->network = network;
	}
	tell_epoll(fd, network, events);
}

void
webhook_watch_leave(int fd)
{
	Watched    *ours = find_ours(fd);

	if (ours != NULL)
		ours->is_wanted = false;
	else
		(void) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/*
 * Something happened to a connection on which nothing is under way.  What comes
 * over TLS without the end may concern the connection itself; but by plain HTTP it
 * would be taken for the answer to the next request.
 */
static void
see_idle(int fd, Watched *ours, uint32 events)
{
	if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0 ||
		(ours->is_plain && (events & EPOLLIN) != 0))
	{
		char		discarded[4096];

		/*
		 * curl looks for the end, in front of which there may be something.  Over
		 * TLS it says farewell when it closes, and would be told that it can't.
		 */
		(void) shutdown(fd, ours->is_plain ? SHUT_RDWR : SHUT_RD);
		while (recv(fd, discarded, sizeof(discarded), MSG_DONTWAIT) > 0)
			;
		(void) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		ours->events = 0;
		return;
	}

	/* Or else epoll would tell it again and again. */
	ours->events = EPOLLRDHUP | (ours->is_plain ? EPOLLIN : 0);
	tell_epoll(fd, ours->network, ours->events);
}

int
webhook_watch_take(WebhookWatchEvent *events, int max)
{
	struct epoll_event occurred[MAX_EVENTS];
	int			n = epoll_wait(epoll_fd, occurred, Min(max, MAX_EVENTS), 0);

	int			n_events = 0;

	for (int i = 0; i < n; i++)
	{
		int			fd = (int) (uint32) occurred[i].data.u64;
		Watched    *ours = find_ours(fd);
		WebhookWatchEvent *event = &events[n_events];

		if (ours != NULL && !ours->is_wanted)
		{
			see_idle(fd, ours, occurred[i].events);
			continue;
		}
		event->fd = fd;
		event->network = occurred[i].data.u64 >> 32;
		event->is_readable = (occurred[i].events & EPOLLIN) != 0;
		event->is_writable = (occurred[i].events & EPOLLOUT) != 0;
		event->is_broken = (occurred[i].events & (EPOLLERR | EPOLLHUP)) != 0;
		n_events++;
	}
	return n_events;
}

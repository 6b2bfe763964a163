/*-------------------------------------------------------------------------
 *
 * watch.h
 *	  The sockets that epoll watches for curl.  The sender's own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_WATCH_H
#define WEBHOOK_WATCH_H

/* Something happened to a socket of a network. */
typedef struct WebhookWatchEvent
{
	int			fd;
	uint32		network;
	bool		is_readable;
	bool		is_writable;
	bool		is_broken;
} WebhookWatchEvent;

/* Called once in a worker, after the fork; raises ERRCODE_SYSTEM_ERROR. */
extern void webhook_watch_start(void);

/* None of the others raises an error. */

/* Readable when any socket has something to tell. */
extern int	webhook_watch_descriptor(void);

/*
 * curl opened, or is about to close, a connection's socket.  "is_plain": for HTTP
 * without TLS.
 */
extern void webhook_watch_opened(int fd, bool is_plain);
extern void webhook_watch_closing(int fd);

/* Watch a socket, or change what for. */
extern void webhook_watch_set(int fd, uint32 network, bool read, bool write);

/* What happens to the socket is of no interest until it is set again. */
extern void webhook_watch_leave(int fd);

/* Take what has happened, without waiting; returns how many. */
extern int	webhook_watch_take(WebhookWatchEvent *events, int max);

#endif							/* WEBHOOK_WATCH_H */

/* SPDX-License-Identifier: MIT */
/*
 * Which connection goes when there are too many.
 *
 * Whoever may connect, which by TCP is every process of the machine, could hold all connections that there
 * may be and say nothing, or read nothing of what is answered; the kernel does not tell who it is. So
 * nobody is kept out: the one more makes the one go that has been idle the longest, or, when all are
 * asking, the one that asked first. A scraper asks at once and is answered at once, so what goes is what
 * waits for nothing.
 *
 * To make one go its socket is shut down: the library sees its end and closes it. Until then it counts no
 * more (`n`), and the library's limit has room for it.
 *
 * The list is in the order in which they did something last: O(n) to find an idle one among sixteen.
 */
#include "daemon/http_connections.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

struct http_connection {
	TAILQ_ENTRY(http_connection) link;
	int fd;
	bool asking; /* a request has begun and is not answered */
	bool going;
};

void http_connections_init(struct http_connections *all)
{
	TAILQ_INIT(&all->list);
	all->n = 0;
}

static struct http_connection *find(struct MHD_Connection *c)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

static void touch(struct http_connections *all, struct http_connection *h)
{
	TAILQ_REMOVE(&all->list, h, link);
	TAILQ_INSERT_TAIL(&all->list, h, link);
}

static struct http_connection *find_one_to_go(const struct http_connections *all)
{
	struct http_connection *h, *first = NULL;

	TAILQ_FOREACH(h, &all->list, link) {
		if (h->going)
			continue;
		if (!h->asking)
			return h;
		if (!first)
			first = h;
	}
	return first;
}

static void begin(struct http_connections *all, struct MHD_Connection *c, void **context)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct http_connection *h = info ? calloc(1, sizeof(*h)) : NULL;
	struct http_connection *old;

	*context = h;
	if (!h) /* it is served, and may stay as long as it is not silent for too long */
		return;
	h->fd = info->connect_fd;
	if (all->n == HTTP_CONNECTIONS_MAX) {
		old = find_one_to_go(all);
		old->going = true;
		shutdown(old->fd, SHUT_RDWR);
		all->n--;
	}
	TAILQ_INSERT_TAIL(&all->list, h, link);
	all->n++;
}

static void end(struct http_connections *all, struct http_connection *h)
{
	TAILQ_REMOVE(&all->list, h, link);
	all->n -= !h->going;
	free(h);
}

void http_connections_notify(void *ctx, struct MHD_Connection *c, void **context,
                             enum MHD_ConnectionNotificationCode code)
{
	struct http_connections *all = ctx;

	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		begin(all, c, context);
	else if (*context)
		end(all, *context);
}

void http_connections_asked(struct http_connections *all, struct MHD_Connection *c)
{
	struct http_connection *h = find(c);

	if (!h)
		return;
	h->asking = true;
	touch(all, h);
}

void http_connections_answered(void *ctx, struct MHD_Connection *c, void **state,
                               enum MHD_RequestTerminationCode code)
{
	struct http_connection *h = find(c);

	(void)state;
	(void)code;
	if (!h)
		return;
	h->asking = false;
	touch(ctx, h);
}

/* SPDX-License-Identifier: MIT */
/*
 * The connections of the HTTP listener, and which of them goes when there are too many. See
 * http_connections.c. All of it on the listener's thread, or when that has ended.
 */
#ifndef DAEMON_HTTP_CONNECTIONS_H
#define DAEMON_HTTP_CONNECTIONS_H

#include <microhttpd.h>
#include <stdint.h>
#include <sys/queue.h>

#define HTTP_CONNECTIONS_MAX 16u
/* What the library is told: with room for those that are on their way out. */
#define HTTP_CONNECTIONS_LIMIT (2 * HTTP_CONNECTIONS_MAX)

struct http_connection;

struct http_connections {
	TAILQ_HEAD(http_connection_list, http_connection) list; /* who did something last is last */
	uint32_t n;
};

void http_connections_init(struct http_connections *all);
/* A request has come: it is not idle until it is answered. */
void http_connections_asked(struct http_connections *all, struct MHD_Connection *c);

/* For MHD_OPTION_NOTIFY_CONNECTION and MHD_OPTION_NOTIFY_COMPLETED, with the struct as context. */
void http_connections_notify(void *all, struct MHD_Connection *c, void **context,
                             enum MHD_ConnectionNotificationCode code);
void http_connections_answered(void *all, struct MHD_Connection *c, void **state,
                               enum MHD_RequestTerminationCode code);

#endif

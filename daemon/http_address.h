/* SPDX-License-Identifier: MIT */
/*
 * Where metrics are served: [metrics] listen. See http_address.c.
 */
#ifndef DAEMON_HTTP_ADDRESS_H
#define DAEMON_HTTP_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "daemon/log.h"

struct options;

struct http_address {
	socklen_t length;
	union {
		struct sockaddr any;
		struct sockaddr_un un;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} at;
};

#define HTTP_ADDRESS_ALLOWED                                                                      \
	"127.0.0.1:PORT, [::1]:PORT, or the path of a socket, which begins with /; nothing: it is off"

/* -EINVAL, with *why, a static text: not an address that may be served at. */
int http_address_parse(struct http_address *a, const char *text, const char **why);
/* Whether that is a socket in the file system. */
bool http_address_is_path(const struct http_address *a);
/* A listening socket there; of a path with mode 0660 and the group of the daemon's. Reasons are logged
 * at that level. */
int http_address_listen(const struct http_address *a, const struct options *o, enum log_level level,
                        int *ret);

#endif

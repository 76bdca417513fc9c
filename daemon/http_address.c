/* SPDX-License-Identifier: MIT */
/*
 * Addresses for metrics.
 *
 *     127.0.0.1:9464     TCP, of this machine alone: any of 127.0.0.0/8
 *     [::1]:9464         the same by IPv6
 *     /run/kmmd/metrics  a Unix socket
 *
 * What is served says who has how much memory, to whoever connects, in plain text: so other machines get
 * it by way of a program that has a say on who may ask (doc/operator.md). Names are not looked up:
 * what "localhost" is depends on the resolver.
 */
#include "daemon/http_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/listener.h"
#include "daemon/log.h"

#define BACKLOG 16
#define SOCKET_MODE 0660

static bool parse_port(const char *text, in_port_t *ret)
{
	unsigned long n = 0;
	const char *c;

	for (c = text; *c >= '0' && *c <= '9' && n < 65536; c++)
		n = n * 10 + (unsigned long)(*c - '0');
	if (c == text || *c || n == 0 || n > 65535)
		return false;
	*ret = htons((in_port_t)n);
	return true;
}

static int parse_path(struct http_address *a, const char *text, const char **why)
{
	if (strlen(text) >= sizeof(a->at.un.sun_path)) {
		*why = "a socket's path has at most 107 bytes";
		return -EINVAL;
	}
	a->at.un.sun_family = AF_UNIX;
	strcpy(a->at.un.sun_path, text);
	a->length = sizeof(a->at.un);
	return 0;
}

int http_address_parse(struct http_address *a, const char *text, const char **why)
{
	const char *colon = strrchr(text, ':');
	bool six = text[0] == '[';
	char host[64];
	in_port_t port;
	size_t n;

	memset(a, 0, sizeof(*a));
	if (text[0] == '/')
		return parse_path(a, text, why);
	*why = "it takes " HTTP_ADDRESS_ALLOWED;
	n = colon ? (size_t)(colon - text) : 0;
	if (n == 0 || n >= sizeof(host) || (six && (n < 3 || text[n - 1] != ']')))
		return -EINVAL;
	memcpy(host, text + six, n - 2 * six);
	host[n - 2 * six] = '\0';
	if (!parse_port(colon + 1, &port)) {
		*why = "a port is a number from 1 to 65535";
		return -EINVAL;
	}
	if (six && inet_pton(AF_INET6, host, &a->at.in6.sin6_addr) == 1) {
		a->at.in6.sin6_family = AF_INET6;
		a->at.in6.sin6_port = port;
		a->length = sizeof(a->at.in6);
		if (IN6_IS_ADDR_LOOPBACK(&a->at.in6.sin6_addr))
			return 0;
	} else if (!six && inet_pton(AF_INET, host, &a->at.in.sin_addr) == 1) {
		a->at.in.sin_family = AF_INET;
		a->at.in.sin_port = port;
		a->length = sizeof(a->at.in);
		if (ntohl(a->at.in.sin_addr.s_addr) >> 24 == 127)
			return 0;
	} else {
		return -EINVAL;
	}
	*why = "other machines could connect there; it takes " HTTP_ADDRESS_ALLOWED;
	return -EINVAL;
}

bool http_address_is_path(const struct http_address *a)
{
	return a->at.any.sa_family == AF_UNIX;
}

int http_address_listen(const struct http_address *a, const struct options *o, enum log_level level,
                        int *ret)
{
	int fd, r, on = 1;

	if (http_address_is_path(a))
		return listener_bind_path(a->at.un.sun_path, o, SOCKET_MODE, BACKLOG, level, ret);
	fd = socket(a->at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* A daemon that comes back finds connections of the one before in their last minute. */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, &a->at.any, a->length) == 0 && listen(fd, BACKLOG) == 0) {
		*ret = fd;
		return 0;
	}
	r = -errno;
	close(fd);
	return r;
}

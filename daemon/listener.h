/* SPDX-License-Identifier: MIT */
/*
 * The listening socket: inherited from the fd store or from systemd, or made.
 */
#ifndef DAEMON_LISTENER_H
#define DAEMON_LISTENER_H

#include <stdbool.h>
#include <sys/types.h>

#include "daemon/log.h"

struct options;
struct fdstore;

struct listener {
	int fd;
	bool ours; /* its path is to be removed at the end */
	char path[108];
};

/* Before anything is made that costs: -EADDRINUSE, said, when another daemon listens where a socket would
 * have to be bound. 0: nobody does, or the socket is inherited. */
int listener_look(const struct options *o, const struct fdstore *store);
/* Refusals are logged. -EADDRINUSE: another daemon listens there. */
int listener_open(struct listener *l, const struct options *o, struct fdstore *store);
/* A listening Unix socket at the path, with that mode and the group that the options say: a new one, in
 * place of a file that nobody answers at. Refusals are logged at that level. */
int listener_bind_path(const char *path, const struct options *o, mode_t mode, int backlog,
                       enum log_level level, int *ret);
/* Mode and group of a socket of ours are as the options say; a service manager's are its own business. */
void listener_reload(const struct listener *l, const struct options *o);
void listener_close(struct listener *l);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The listening socket: inherited from the fd store or from systemd, or made.
 */
#ifndef DAEMON_LISTENER_H
#define DAEMON_LISTENER_H

#include <stdbool.h>

struct options;
struct fdstore;

struct listener {
	int fd;
	bool ours; /* its path is to be removed at the end */
	char path[108];
};

/* Refusals are logged. -EADDRINUSE: another daemon listens there. */
int listener_open(struct listener *l, const struct options *o, struct fdstore *store);
void listener_close(struct listener *l);

#endif

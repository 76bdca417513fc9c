/* SPDX-License-Identifier: MIT */
/*
 * The supervisor's side of the fd store protocol: a notify socket and the descriptors it keeps.
 * One thread.
 */
#ifndef DAEMON_SUPERVISE_STORE_H
#define DAEMON_SUPERVISE_STORE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define SUPERVISE_BATCH_ALL UINT_MAX

struct supervise_store {
	int socket;          /* bound; messages of the child arrive here */
	int anchor;          /* what names the socket for the child; -1: an abstract address does */
	char address[64];    /* NOTIFY_SOCKET when it is abstract */
	size_t nr, room;
	struct supervise_fd *kept; /* in the order in which they came */
	unsigned int batch;        /* messages read at a time: all */
};

struct supervise_fd {
	char *name;
	int fd;
};

/* What a batch of messages said besides fds. */
struct supervise_news {
	bool ready, stopping;
	char status[256]; /* empty: no news */
};

int supervise_store_init(struct supervise_store *s);
void supervise_store_fini(struct supervise_store *s);
/* Takes fd over, also on failure. A second descriptor of a file that is kept under that name is
 * closed. -ENOSPC, -EINVAL: the name. */
int supervise_store_keep(struct supervise_store *s, const char *name, int fd);
/* Reads all that has arrived, at most a batch; messages of other processes than `child` are dropped. */
void supervise_store_receive(struct supervise_store *s, pid_t child, struct supervise_news *news);

/* In the child between fork and exec: places the kept fds at 3 and up, and sets LISTEN_FDS,
 * LISTEN_FDNAMES, LISTEN_PID, NOTIFY_SOCKET and FDSTORE. */
int supervise_store_hand_over(const struct supervise_store *s);

#endif

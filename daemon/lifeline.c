/* SPDX-License-Identifier: MIT */
/*
 * The lifeline: a pipe that nobody writes to.
 *
 *     writing end    the daemon, and the service manager's fd store, with the memory     "life0"
 *     reading end    every session, beside the memfds of control memory
 *
 * A daemon that ends cannot know what becomes of the pool: to it `systemctl stop` and `systemctl
 * restart` are the same signal, and which of the two it was the manager decides afterwards, by what it
 * does with the descriptors. So it is not the daemon that says so. As long as anybody could serve the
 * pool again somebody has the writing end: the daemon, or the store that the next one is started with.
 * When the last of them closes it, by whatever way (stopped, out of its start limit, the supervisor
 * killed), the kernel ends the pipe, and each client sees the hang-up (client/keeper.c): LOST, at once
 * and for good. A restart never shows one, however long it takes.
 *
 * The store must have it before any client does, or a restart would look like an end: the push is
 * among those before the pool's commit, and where a pool that has none is given one (lifeline_add) the
 * store is asked first whether it has room. The superblock says whether there is one.
 *
 * The reading end is opened anew from the writing one, through /proc/self/fd, which belongs to the
 * daemon's user: no other user can make himself a writing end of what he is given.
 */
#include "daemon/lifeline.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/fdstore.h"
#include "daemon/log.h"
#include "daemon/pool.h"

int lifeline_new(struct pool *p)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	p->lifeline_view = ends[0];
	p->lifeline_fd = ends[1];
	return 0;
}

void lifeline_close(struct pool *p)
{
	if (p->lifeline_fd >= 0)
		close(p->lifeline_fd);
	if (p->lifeline_view >= 0)
		close(p->lifeline_view);
	p->lifeline_fd = p->lifeline_view = -1;
}

int lifeline_take(struct pool *p, int fd, const char **why)
{
	char path[32];
	struct stat st;

	p->lifeline_fd = fd;
	if (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode) ||
	    (fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY) {
		*why = "it is not the writing end of a pipe";
	} else {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		p->lifeline_view = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (p->lifeline_view >= 0)
			return 0;
		*why = "its reading end cannot be opened: does the daemon run as another user than the one "
		       "before?";
	}
	lifeline_close(p);
	return -EUCLEAN;
}

int lifeline_add(struct pool *p, struct fdstore *store)
{
	size_t room;
	int r = fdstore_room(store, 1, &room);

	if (r == 0 && room == 0) {
		log_warning("the service manager's fd store has no room for one descriptor more: clients "
		            "will not be told when the pool is given up, only find it gone; set "
		            "FileDescriptorStoreMax= higher");
		return 0;
	}
	if (r == 0)
		r = lifeline_new(p);
	if (r == 0)
		r = fdstore_push(store, LIFELINE_NAME, p->lifeline_fd);
	if (r == 0)
		r = fdstore_barrier(store);
	if (r < 0) {
		log_error("the pool cannot be given a lifeline: %s", strerror(-r));
		lifeline_close(p);
	}
	return r;
}

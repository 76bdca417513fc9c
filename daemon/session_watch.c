/* SPDX-License-Identifier: MIT */
/*
 * Processes of sessions: the proof that one is dead.
 *
 * A pidfd becomes readable when its process has ended, whatever happens to sockets that children
 * inherited; the main loop polls all of them. After a restart a pidfd is opened anew from the
 * recorded process number, and is that process's only if /proc says the same start time while the
 * pidfd is held.
 *
 * Watching and unwatching are items of the main loop's mailbox; they run in the order of posting,
 * and the second frees what the first made.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/session_private.h"

struct watch {
	uv_poll_t poll; /* first: it is what session.watch points to */
	int pidfd;
};

uint64_t session_start_time(pid_t pid)
{
	char path[32], text[1024], *p;
	unsigned int field;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	/* The second field is a name in parentheses and may hold anything. */
	p = strrchr(text, ')');
	for (field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	return p ? strtoull(p, NULL, 10) : 0;
}

int session_process_open(pid_t pid, uint64_t start_time)
{
	struct pollfd dead;
	int fd;

	if (pid <= 0)
		return -2;
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return errno == ESRCH ? -1 : -2;
	dead = (struct pollfd){ .fd = fd, .events = POLLIN };
	if ((start_time && session_start_time(pid) != start_time) || poll(&dead, 1, 0) > 0) {
		close(fd);
		return -1;
	}
	return fd;
}

int session_kill(struct session *s)
{
	int pidfd;

	lock_acquire(&s->table->lock);
	pidfd = s->pidfd; /* stays open while the session is entered */
	lock_release(&s->table->lock);
	if (pidfd < 0)
		return -ESRCH;
	if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0)
		return -errno;
	return 0;
}

/* ---- on the main loop ---- */

static void watch_closed(uv_handle_t *handle)
{
	struct watch *w = (struct watch *)handle;

	close(w->pidfd);
	free(w);
}

static void on_process_end(uv_poll_t *poll, int status, int events)
{
	struct session *s = poll->data;

	(void)status;
	(void)events;
	uv_poll_stop(poll);
	session_end(s);
}

void session_watch_run(struct reactor *r, struct reactor_work *work)
{
	struct session *s = (struct session *)((char *)work - offsetof(struct session, watch_work));
	struct watch *w = calloc(1, sizeof(*w));
	int e;

	if (!w) {
		log_error("session %u: no memory to watch its process; it is ended", s->id);
		session_end(s);
		return;
	}
	w->pidfd = s->pidfd;
	e = uv_poll_init(&r->loop, &w->poll, w->pidfd);
	if (e) {
		log_error("session %u: its process cannot be watched (%s); it is ended", s->id,
		          uv_strerror(e));
		free(w);
		session_end(s);
		return;
	}
	w->poll.data = s;
	s->watch = &w->poll;
	uv_poll_start(&w->poll, UV_READABLE, on_process_end);
}

void session_unwatch_run(struct reactor *r, struct reactor_work *work)
{
	struct session *s = (struct session *)((char *)work -
	                                       offsetof(struct session, unwatch_work));

	(void)r;
	if (s->watch) {
		uv_poll_stop(s->watch);
		uv_close((uv_handle_t *)s->watch, watch_closed);
	} else if (s->pidfd >= 0) {
		close(s->pidfd);
	}
	s->watch = NULL;
	s->pidfd = -1;
	/* release: what it was is over; pairs with session_release() */
	atomic_store_explicit(&s->state, SESSION_GONE, memory_order_release);
	session_release(s);
}

void session_watch_drop(struct session *s)
{
	if (s->watch)
		uv_close((uv_handle_t *)s->watch, watch_closed);
	else if (s->pidfd >= 0)
		close(s->pidfd);
	s->watch = NULL;
	s->pidfd = -1;
}

void session_watch(struct session *s)
{
	if (s->pidfd >= 0 && s->kmmd->main)
		reactor_post(s->kmmd->main, &s->watch_work);
}

void session_unwatch(struct session *s)
{
	if (s->kmmd->main)
		reactor_post(s->kmmd->main, &s->unwatch_work);
	else
		session_unwatch_run(NULL, &s->unwatch_work);
}

/* SPDX-License-Identifier: MIT */
/*
 * Processes of sessions: the proof that one is dead.
 *
 * A pidfd becomes readable when its process has ended, whatever happens to sockets that children
 * inherited; the main loop polls all of them. After a restart a pidfd is opened anew from the
 * recorded process number, and is another's if /proc says another start time while the pidfd is
 * held; a /proc that says nothing proves nothing.
 *
 * A pidfd that the loop cannot take (no memory, no room for the watch) is looked at once a second
 * until it can.
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

#include "daemon/log_about.h"
#include "daemon/session_private.h"

#define WATCH_RETRY_MS 1000

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

static bool process_ended(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

int session_process_open(pid_t pid, uint64_t start_time)
{
	uint64_t now;
	int fd;

	if (pid <= 0)
		return -2;
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return errno == ESRCH ? -1 : -2;
	now = session_start_time(pid);
	if ((start_time && now && now != start_time) || process_ended(fd)) {
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
	/* Nothing else would ever end one that is away. */
	if (pidfd < 0)
		return session_end_detached(s) ? 0 : -ESRCH;
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
	session_end_dead(s);
}

static int watch_try(uv_loop_t *loop, struct session *s)
{
	struct watch *w = calloc(1, sizeof(*w));
	int e;

	if (!w)
		return UV_ENOMEM;
	w->pidfd = s->pidfd;
	e = uv_poll_init(loop, &w->poll, w->pidfd);
	if (e) {
		free(w);
		return e;
	}
	w->poll.data = s;
	s->watch = &w->poll;
	uv_poll_start(&w->poll, UV_READABLE, on_process_end);
	return 0;
}

static void on_retry(uv_timer_t *timer)
{
	struct session_table *t = timer->data;
	uint32_t id, left = 0;

	for (id = 1; id < t->size; id++) {
		struct session *s = &t->session[id];

		if (!s->watch_retry)
			continue;
		if (process_ended(s->pidfd)) {
			s->watch_retry = false;
			session_end_dead(s);
		} else if (watch_try(timer->loop, s) == 0) {
			s->watch_retry = false;
		} else {
			left++;
		}
	}
	if (!left)
		uv_timer_stop(timer);
}

static void retry_later(uv_loop_t *loop, struct session *s)
{
	struct session_table *t = s->table;

	s->watch_retry = true;
	if (!t->retry_ready) {
		uv_timer_init(loop, &t->retry);
		t->retry.data = t;
		t->retry_ready = true;
	}
	if (!uv_is_active((uv_handle_t *)&t->retry))
		uv_timer_start(&t->retry, on_retry, WATCH_RETRY_MS, WATCH_RETRY_MS);
}

void session_watch_run(struct reactor *r, struct reactor_work *work)
{
	struct session *s = (struct session *)((char *)work - offsetof(struct session, watch_work));
	struct log_about about;
	int e;

	if (s->pidfd < 0)
		return; /* the daemon stops */
	e = watch_try(&r->loop, s);
	if (!e)
		return;
	about = log_about_session(LOG_PLAIN, s);
	log_event(LOG_LEVEL_ERROR, &about,
	          "its process cannot be watched (%s); it is looked at once a second",
	          uv_strerror(e));
	retry_later(&r->loop, s);
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
	s->watch_retry = false;
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
	s->watch_retry = false;
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

/* SPDX-License-Identifier: MIT */
/*
 * Accepting.
 *
 * A connection waits here (struct waiter) until the 24 bytes of its first frame's header are read;
 * they go with it to the reactor. At most WAITERS_MAX wait, each at most WAIT_MS; one more makes the
 * oldest go, so that connections that say nothing never keep out those that speak.
 *
 * Identity comes from the kernel: SO_PEERCRED (pid, uid, gid at connect) and a pidfd of the same
 * process (SO_PEERPIDFD; on kernels without it pidfd_open), and its supplementary groups
 * (SO_PEERGROUPS). Rights follow from user and groups alone (access.h); the pidfd tells when the
 * process ends. Who may not connect is handed on like everybody: the reactor tells it why, as the
 * answer to whatever it asks first, and closes.
 *
 * Shares. Each connection costs two descriptors, so half of those that are free at the start is what
 * all connections may have. A user may have no more than are left then for others: one alone gets
 * half, a second one half of the rest, and so on, so that none keeps out those who come later. The
 * counts live as long as the connections, which end on their reactors.
 *
 * When descriptors run out, the oldest that wait go. With none waiting a spare descriptor is given up
 * for a moment to accept the connection and close it: otherwise the level-triggered poll would call
 * back without end.
 *
 * Everything runs on the main thread until the hand-over, which is a mailbox item inside the waiter.
 */
#include "daemon/acceptor.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/access.h"
#include "daemon/channel.h"
#include "daemon/listener.h"
#include "daemon/log_about.h"
#include "daemon/options.h"
#include "daemon/reactor.h"
#include "proto/frame.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

#define PEER_GROUPS 16u /* room at first */
#define WAITERS_MAX 256u
#define WAIT_MS 5000u
#define ACCEPTS_AT_ONCE 64
#define SHARES_MAX 4096u /* users with connections */
#define EVICT_AT_ONCE 16
#define EMFILE_LOG_NS UINT64_C(10000000000)
#define FDS_RESERVED 64u /* for the daemon itself, beyond what is open at the start */

struct waiter {
	struct reactor_work work; /* the hand-over */
	uv_poll_t poll;
	struct acceptor *acceptor;
	TAILQ_ENTRY(waiter) link;
	uint64_t since_ms;
	int fd;
	struct peer peer;
	uint8_t head[FRAME_HEADER_SIZE];
	size_t n;
	struct reactor *target; /* NULL: it is dropped */
};

struct acceptor {
	struct kmmd *kmmd;
	uv_poll_t poll;
	uv_timer_t timer; /* once a second: who has waited too long */
	int fd, spare_fd;
	TAILQ_HEAD(, waiter) waiters; /* oldest first */
	uint32_t nr_waiters;
	bool polling, stopped;
	uint32_t budget; /* connections */
	uint64_t emfile_logged_ns;
};

static void acceptor_on_poll(uv_poll_t *poll, int status, int events);

/* ---- shares ---- */

struct share {
	uid_t uid;
	uint32_t n; /* 0: free for another user */
};

static pthread_mutex_t share_lock = PTHREAD_MUTEX_INITIALIZER;
static struct share share_table[SHARES_MAX]; /* guarded by it */
static uint32_t share_used, share_total;     /* places ever used; the sum of all */

/* NULL: it has none, or there is no place for one more. */
static struct share *share_find(uid_t uid, bool make)
{
	struct share *empty = NULL;

	for (uint32_t i = 0; i < share_used; i++) {
		if (share_table[i].n && share_table[i].uid == uid)
			return &share_table[i];
		if (!share_table[i].n && !empty)
			empty = &share_table[i];
	}
	if (!empty && make && share_used < SHARES_MAX)
		empty = &share_table[share_used++];
	if (!empty || !make)
		return NULL;
	empty->uid = uid;
	return empty;
}

bool acceptor_share_take(struct peer *peer, uint32_t budget, uint32_t *mine, uint32_t *all)
{
	struct share *s;
	bool may;

	pthread_mutex_lock(&share_lock);
	s = share_find(peer->uid, true);
	*mine = s ? s->n : 0;
	*all = share_total;
	may = s && share_total < budget && s->n < budget - share_total;
	if (may) {
		s->n++;
		share_total++;
		peer->counted = true;
	}
	pthread_mutex_unlock(&share_lock);
	return may;
}

void acceptor_peer_release(struct peer *peer)
{
	struct share *s;

	if (peer->pidfd >= 0)
		close(peer->pidfd);
	peer->pidfd = -1;
	free(peer->groups);
	peer->groups = NULL;
	peer->nr_groups = 0;
	if (!peer->counted)
		return;
	peer->counted = false;
	pthread_mutex_lock(&share_lock);
	s = share_find(peer->uid, false);
	if (s) {
		s->n--;
		share_total--;
	}
	pthread_mutex_unlock(&share_lock);
}

/* What the limit of open files leaves for connections. */
static uint32_t acceptor_budget(const struct acceptor *a)
{
	struct rlimit l;
	/* The lowest free number at the start: about as many are in use. */
	uint64_t used = FDS_RESERVED + (a->spare_fd > 0 ? (uint64_t)a->spare_fd : 0);

	if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur / 2 > UINT32_MAX)
		return UINT32_MAX;
	return l.rlim_cur > used + 2 ? (uint32_t)((l.rlim_cur - used) / 2) : 1;
}

static bool acceptor_admit_share(struct acceptor *a, struct peer *peer)
{
	struct log_about about = log_about_peer(LOG_CONNECTION, peer);
	uint32_t mine, all;

	if (acceptor_share_take(peer, a->budget, &mine, &all))
		return true;
	log_event(LOG_LEVEL_WARNING, &about,
	          "the connection is refused: the user has %u, all have %u, of %u that the limit of "
	          "open files allows; one may have no more than it leaves to others",
	          mine, all, a->budget);
	return false;
}

/* ---- who it is ---- */

/* 0, *ret -1 when there is none to be had; or the errno of a lack that passes: without its pidfd
 * the session would never end by itself. */
static int peer_pidfd(int fd, pid_t pid, int *ret)
{
	int pidfd = -1, e = 0;
	socklen_t n = sizeof(pidfd);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &n) < 0) {
		e = errno;
		pidfd = -1;
		if (e == ENOPROTOOPT && pid > 0) {
			pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
			e = pidfd < 0 ? errno : 0;
		}
	}
	if (e == EMFILE || e == ENFILE || e == ENOMEM)
		return -e;
	*ret = pidfd;
	return 0;
}

/* The supplementary groups that the process had when it connected. */
static int peer_groups(int fd, struct peer *peer)
{
	socklen_t n = PEER_GROUPS * sizeof(gid_t);
	gid_t *group = NULL, *more;

	for (;;) {
		more = realloc(group, n ? n : 1);
		if (!more)
			break;
		group = more;
		if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, group, &n) == 0) {
			peer->groups = group;
			peer->nr_groups = n / sizeof(gid_t);
			return 0;
		}
		if (errno == ERANGE) /* n says how much they take */
			continue;
		/* A kernel that tells none: by its group alone. */
		free(group);
		return errno == ENOPROTOOPT ? 0 : -errno;
	}
	free(group);
	return -ENOMEM;
}

static int peer_identify(const struct acceptor *a, int fd, struct peer *peer)
{
	struct ucred cred;
	socklen_t n = sizeof(cred);
	int pidfd = -1, r;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
		return -errno;
	r = peer_pidfd(fd, cred.pid, &pidfd);
	if (r < 0)
		return r;
	*peer = (struct peer){
	        .pid = cred.pid,
	        .uid = cred.uid,
	        .gid = cred.gid,
	        .pidfd = pidfd,
	};
	r = peer_groups(fd, peer);
	if (r < 0) {
		acceptor_peer_release(peer);
		return r;
	}
	access_refresh(a->kmmd->access, peer);
	peer->refused = !(peer->rights & ACCESS_CONNECT);
	return 0;
}

/* ---- waiting for the first header ---- */

static void waiter_run_handover(struct reactor *r, struct reactor_work *work)
{
	struct waiter *w = (struct waiter *)work;
	/* of plain values: channel_open() takes the peer over */
	struct log_about about = log_about_peer(LOG_CONNECTION, &w->peer);
	int e;

	if (r->stopping) {
		close(w->fd);
		acceptor_peer_release(&w->peer);
	} else {
		e = channel_open(r, w->fd, &w->peer, w->head, w->n);
		if (e)
			log_event(LOG_LEVEL_ERROR, &about, "the connection cannot be served: %s",
			          strerror(-e));
	}
	free(w);
}

static void waiter_on_closed(uv_handle_t *handle)
{
	struct waiter *w = handle->data;

	if (w->target) {
		w->work.run = waiter_run_handover;
		reactor_post(w->target, &w->work);
		return;
	}
	close(w->fd);
	acceptor_peer_release(&w->peer);
	free(w);
}

static void acceptor_resume(struct acceptor *a)
{
	if (a->stopped || a->polling)
		return;
	if (uv_poll_start(&a->poll, UV_READABLE, acceptor_on_poll) == 0)
		a->polling = true;
}

/* Ends the wait: the connection goes to its reactor, or (NULL) is closed. */
static void waiter_finish(struct waiter *w, struct reactor *target)
{
	struct acceptor *a = w->acceptor;

	TAILQ_REMOVE(&a->waiters, w, link);
	a->nr_waiters--;
	w->target = target;
	uv_close((uv_handle_t *)&w->poll, waiter_on_closed);
}

static void waiter_evict(struct waiter *w, const char *why)
{
	struct log_about about = log_about_peer(LOG_PROTOCOL, &w->peer);

	log_event(LOG_LEVEL_INFO, &about, "the connection is ended: %s", why);
	waiter_finish(w, NULL);
}

/* Reads what is missing of the header: true when the wait is over. */
static bool waiter_read(struct waiter *w)
{
	struct kmmd *k = w->acceptor->kmmd;
	struct frame f;
	const char *why;
	ssize_t n;

	while (w->n < sizeof(w->head)) {
		n = recv(w->fd, w->head + w->n, sizeof(w->head) - w->n, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return false;
		if (n <= 0) {
			waiter_finish(w, NULL);
			return true;
		}
		w->n += (size_t)n;
	}
	/* What is wrong with a header the channel will say. */
	if (frame_decode(&f, w->head, w->n, &why) < 0)
		f.cpu = 0;
	waiter_finish(w, k->reactors[f.cpu % k->nr_reactors]);
	return true;
}

static void waiter_on_poll(uv_poll_t *poll, int status, int events)
{
	struct waiter *w = poll->data;

	(void)events;
	if (!waiter_read(w) && status < 0)
		waiter_finish(w, NULL);
}

static void acceptor_on_timer(uv_timer_t *timer)
{
	struct acceptor *a = timer->data;
	uint64_t now = uv_now(timer->loop);
	struct waiter *w;

	while ((w = TAILQ_FIRST(&a->waiters)) && now - w->since_ms >= WAIT_MS)
		waiter_evict(w, "it said nothing for five seconds");
	acceptor_resume(a);
}

static void acceptor_admit(struct acceptor *a, int fd)
{
	static const struct log_about stranger = { .event = LOG_CONNECTION };
	struct waiter *w = calloc(1, sizeof(*w));
	int r = w ? peer_identify(a, fd, &w->peer) : -ENOMEM;

	if (r < 0) {
		log_event(LOG_LEVEL_ERROR, &stranger,
		          "a connection is refused: who it is cannot be learnt: %s", strerror(-r));
		free(w);
		close(fd);
		return;
	}
	if (!acceptor_admit_share(a, &w->peer)) {
		acceptor_peer_release(&w->peer);
		free(w);
		close(fd);
		return;
	}
	w->acceptor = a;
	w->fd = fd;
	w->since_ms = uv_now(&a->kmmd->main->loop);
	if (uv_poll_init(&a->kmmd->main->loop, &w->poll, fd)) {
		close(fd);
		acceptor_peer_release(&w->peer);
		free(w);
		return;
	}
	w->poll.data = w;
	if (a->nr_waiters == WAITERS_MAX)
		waiter_evict(TAILQ_FIRST(&a->waiters), "too many others have said nothing either");
	TAILQ_INSERT_TAIL(&a->waiters, w, link);
	a->nr_waiters++;
	/* A client that connects and asks at once is handed on without another turn of the loop. */
	if (!waiter_read(w))
		uv_poll_start(&w->poll, UV_READABLE, waiter_on_poll);
}

/* ---- accepting ---- */

static void acceptor_out_of_descriptors(struct acceptor *a)
{
	static const struct log_about about = { .event = LOG_CONNECTION };
	uint64_t now = uv_hrtime();
	int fd;

	if (!a->emfile_logged_ns || now - a->emfile_logged_ns >= EMFILE_LOG_NS) {
		a->emfile_logged_ns = now;
		log_event(LOG_LEVEL_ERROR, &about,
		          "no descriptors are left: connections are refused until some are closed");
	}
	/* Those that have said nothing so far go first; the new one is accepted in the next turn. */
	if (a->nr_waiters) {
		for (int i = 0; i < EVICT_AT_ONCE && a->nr_waiters; i++)
			waiter_evict(TAILQ_FIRST(&a->waiters), "no descriptors are left");
		return;
	}
	if (a->spare_fd < 0 && a->polling) {
		/* not even one to give up: the timer tries again */
		uv_poll_stop(&a->poll);
		a->polling = false;
	}
	if (a->spare_fd >= 0)
		close(a->spare_fd);
	fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		close(fd);
	a->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void acceptor_on_poll(uv_poll_t *poll, int status, int events)
{
	struct acceptor *a = poll->data;

	(void)events;
	if (status < 0) {
		log_error("the listening socket: %s", uv_strerror(status));
		return;
	}
	for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
		int fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			acceptor_admit(a, fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			acceptor_out_of_descriptors(a);
			return;
		}
		if (errno != EINTR && errno != ECONNABORTED)
			break;
	}
}

int acceptor_new(struct acceptor **ret, struct kmmd *kmmd, const struct listener *l)
{
	struct acceptor *a = calloc(1, sizeof(*a));
	uv_loop_t *loop = &kmmd->main->loop;
	int r;

	if (!a)
		return -ENOMEM;
	TAILQ_INIT(&a->waiters);
	a->kmmd = kmmd;
	a->fd = l->fd;
	r = uv_poll_init(loop, &a->poll, a->fd);
	if (r) {
		free(a);
		return r;
	}
	a->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	a->budget = acceptor_budget(a);
	uv_timer_init(loop, &a->timer);
	a->poll.data = a->timer.data = a;
	uv_timer_start(&a->timer, acceptor_on_timer, 1000, 1000);
	acceptor_resume(a);
	*ret = a;
	return 0;
}

void acceptor_stop(struct acceptor *a)
{
	if (a->stopped)
		return;
	a->stopped = true;
	while (!TAILQ_EMPTY(&a->waiters))
		waiter_finish(TAILQ_FIRST(&a->waiters), NULL);
	uv_close((uv_handle_t *)&a->poll, NULL);
	uv_close((uv_handle_t *)&a->timer, NULL);
}

struct acceptor *acceptor_free(struct acceptor *a)
{
	if (!a)
		return NULL;
	if (a->spare_fd >= 0)
		close(a->spare_fd);
	free(a);
	return NULL;
}

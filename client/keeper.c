/* SPDX-License-Identifier: MIT */
/*
 * The keeper: a session's own thread, with all signals blocked.
 *
 * It holds the control connection: it listens for the daemon's events, sends a ping when nothing
 * was heard for a while, and takes the daemon for dead when that is not answered either. When the
 * connection ends it tells everybody (DOWN), connects again with growing pauses, resumes the
 * session by its token, repeats what had not been told, and tells everybody again (UP). When the
 * daemon says that the session's pool is gone, or the lifeline does, the session is LOST, for good.
 *
 *     UP --connection ends--> DOWN --hello--> UP
 *                               |--hello refused, ENOTRECOVERABLE--> LOST
 *                               \--the lifeline hangs up-----------> LOST
 *
 * The lifeline is a pipe whose other end have those who keep the pool: the daemon, and the service
 * manager, from which the next one has it. While it lasts the daemon will be back; that it hangs up is
 * the one thing by which a stop differs from a restart.
 *
 * When somebody waits for memory, it takes what the process's idle threads cache of objects and gives
 * it back (blocks the daemon collects by itself). When the daemon asks for that (FLUSH: an operator
 * wants caches dropped, or a cache is to shrink or end) it does so, too, waits until the daemon has
 * all, and says so (Flushed).
 *
 * While the program has not called kmm_fd it also runs the callback for events, and shrinkers. These
 * may call the daemon; should that meet a dead one, the keeper reconnects from inside (call.c).
 */
#include "client/internal.h"
#include "client/probes.h"

#include <pb_decode.h>
#include <pb_encode.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAUSE_MIN_NS 1000000u
#define PAUSE_MAX_NS 100000000u
#define HELLO_NS 5000000000u
/* What the keeper does besides listening is over after that, done or not: events, and the end of the
 * connection, wait meanwhile. It is far less than a keepalive, so that nobody takes anybody for dead
 * over it; what is left undone is written in the words, and told later (session_untold). */
#define WORK_NS 1000000000u
#define KEEPALIVE_DEFAULT_MS 10000u

static void keeper_down(struct kmm *k, const char *why);

bool keeper_is_self(struct kmm *k)
{
	return pthread_equal(k->keeper, pthread_self());
}

void keeper_look(struct kmm *k)
{
	struct pollfd p = { .fd = k->control_fd.fd };

	if (session_state(k) == SESSION_UP && poll(&p, 1, 0) > 0 &&
	    (p.revents & (POLLHUP | POLLERR)))
		keeper_down(k, "the connection to the daemon ended");
}

static uint64_t keepalive_ns(struct kmm *k)
{
	return (k->keepalive_ms ? k->keepalive_ms : KEEPALIVE_DEFAULT_MS) * UINT64_C(1000000);
}

/* ---- the control connection ---- */

static int control_put(struct kmm *k, struct frame f, const pb_msgdesc_t *type,
                       const void *request)
{
	uint8_t buf[FRAME_HEADER_SIZE + CALL_REQUEST_MAX];
	pb_ostream_t out = pb_ostream_from_buffer(buf + FRAME_HEADER_SIZE, CALL_REQUEST_MAX);
	size_t size, at = 0;

	if (!pb_encode(&out, type, request))
		return -EPROTO;
	f.length = (uint32_t)out.bytes_written;
	frame_encode(buf, &f);
	size = FRAME_HEADER_SIZE + f.length;
	while (at < size) {
		ssize_t n = send(k->control_fd.fd, buf + at, size - at, MSG_NOSIGNAL);

		if (n > 0)
			at += (size_t)n;
		else if (errno != EINTR)
			return -ECONNRESET; /* a buffer full for so long is a dead daemon's */
	}
	return 0;
}

static int control_send(struct kmm *k, uint16_t method, const pb_msgdesc_t *type,
                        const void *request)
{
	struct frame f = { .code = method, .kind = FRAME_REQUEST };

	if (++k->control_call < 2)
		k->control_call = 2; /* 1 was the hello's */
	f.call = k->control_call;
	return control_put(k, f, type, request);
}

static int control_notify(struct kmm *k, uint16_t method, const pb_msgdesc_t *type,
                          const void *request)
{
	return control_put(k, (struct frame){ .code = method, .kind = FRAME_NOTIFY }, type, request);
}

/* Several become the last one, of all that any is of. */
static void control_flush(struct kmm *k, const kmm_v1_Event *e)
{
	k->flush_cache = k->flush && k->flush_cache != e->cache ? 0 : e->cache;
	k->flush = e->flush;
}

static void control_event(struct kmm *k, const uint8_t *body, size_t size)
{
	kmm_v1_Event e = kmm_v1_Event_init_zero;
	pb_istream_t in = pb_istream_from_buffer(body, size);

	if (!pb_decode(&in, kmm_v1_Event_fields, &e))
		return;
	if (e.kind == kmm_v1_Event_Kind_PRESSURE) {
		/* relaxed: this thread's own */
		atomic_store_explicit(&k->pressed, 1, memory_order_relaxed);
		event_push(k, KMM_EVENT_PRESSURE,
		           e.text[0] ? e.text : "a request of the domain waits for memory");
		if (shrinker_press(k, e.gfp, e.priority))
			event_wake(k);
	} else if (e.kind == kmm_v1_Event_Kind_FLUSH)
		control_flush(k, &e);
	else if (e.kind == kmm_v1_Event_Kind_BAD_FREE)
		event_push(k, KMM_EVENT_BAD_FREE, e.text[0] ? e.text : "a double free was found");
}

/* Reads once what has come and takes it in. *status: of the reply to `call`, if it was among it. */
static int control_read(struct kmm *k, uint32_t call, int *status)
{
	int fds[FRAME_FDS_MAX];
	size_t nfds = FRAME_FDS_MAX, at = 0, i;
	ssize_t n = fdpass_receive(k->control_fd.fd, k->control_in + k->control_used,
	                           FRAME_MAX - k->control_used, fds, &nfds, 0);

	if (n == -EAGAIN)
		return 0;
	if (n <= 0)
		return -ECONNRESET;
	for (i = 0; i < nfds; i++)
		close(fds[i]); /* none are asked for here */
	k->control_used += (size_t)n;
	k->heard = process_now();
	for (;;) {
		const char *why;
		struct frame f;
		int r = frame_decode(&f, k->control_in + at, k->control_used - at, &why);

		if (r < 0 && r != -EAGAIN)
			return -EPROTO;
		if (r < 0 || f.length > k->control_used - at - FRAME_HEADER_SIZE)
			break;
		if (f.kind == FRAME_ITEM)
			control_event(k, k->control_in + at + FRAME_HEADER_SIZE, f.length);
		else if (f.kind == FRAME_REPLY && f.call == call && status)
			*status = f.code;
		at += FRAME_HEADER_SIZE + f.length;
	}
	k->control_used -= at;
	memmove(k->control_in, k->control_in + at, k->control_used);
	return 0;
}

int keeper_call(struct kmm *k, uint16_t method, const pb_msgdesc_t *type, const void *request,
                uint64_t deadline)
{
	int status = -1;
	int r = control_send(k, method, type, request);

	while (r == 0 && status < 0) {
		r = control_read(k, k->control_call, &status);
		if (r == 0 && status < 0 && process_now() >= deadline)
			r = -ETIMEDOUT;
	}
	return r < 0 ? r : status;
}

/* ---- coming back ---- */

static void control_pause(struct kmm *k, uint64_t *pause, uint64_t deadline)
{
	/* acquire: pairs with the increments; a close or a cancel ends the pause */
	uint32_t seen = atomic_load_explicit(&k->changes, memory_order_acquire);
	uint64_t end = process_now() + *pause;

	futex_wait(&k->changes, seen, end < deadline ? end : deadline);
	*pause = *pause * 2 < PAUSE_MAX_NS ? *pause * 2 : PAUSE_MAX_NS;
}

int keeper_events(struct kmm *k)
{
	kmm_v1_EventsRequest q = kmm_v1_EventsRequest_init_zero;

	k->heard = k->pinged = process_now();
	if (control_send(k, kmm_v1_Method_ALLOCATOR_EVENTS, kmm_v1_EventsRequest_fields, &q) < 0)
		return error_set(ECONNREFUSED, "the daemon ended the connection");
	return 0;
}

static int control_connect(struct kmm *k, uint64_t deadline)
{
	kmm_v1_HelloReply reply;
	uint64_t end = process_now() + HELLO_NS;
	int fds[3], r;

	end = end < deadline ? end : deadline;
	process_fd_close(&k->control_fd);
	k->control_used = 0;
	k->flush = 0; /* who asked is gone, or asks again */
	r = connect_socket(&k->control_fd, k->address, end);
	if (r == 0)
		r = connect_hello(k, k->control_fd.fd, true, 0, end, &reply, fds);
	if (r < 0)
		return r;
	close(fds[0]); /* the control memory is mapped since kmm_open and stays the same */
	close(fds[1]);
	/* the same pipe as before, which others may be looking at; or the first one: the daemon before may
	 * not have had any */
	if (fds[2] >= 0 && process_fd_get(&k->lifeline_fd) < 0)
		process_fd_take(&k->lifeline_fd, fds[2]);
	else if (fds[2] >= 0)
		close(fds[2]);
	if (reply.session != k->id || memcmp(reply.uuid, k->uuid, sizeof(k->uuid)) != 0)
		return error_set(ENOTRECOVERABLE, "the daemon came back with another pool");
	k->keepalive_ms = reply.keepalive_ms;
	return keeper_events(k);
}

int keeper_resume(struct kmm *k, uint64_t deadline)
{
	uint64_t pause = PAUSE_MIN_NS, began = process_now();
	enum session_state before = session_state(k);

	for (;;) {
		int r = connect_lifeline(k);

		if (r == 0)
			r = control_connect(k, deadline);
		if (r == 0) {
			if (session_set_state(k, SESSION_DOWN, SESSION_UP)) {
				probe_reconnect(k->id, process_now() - began);
				event_push(k, KMM_EVENT_UP,
				           "the daemon is back, with everything as before");
			}
			return 0;
		}
		if (r == -ENOTRECOVERABLE) {
			session_lost(k, kmm_error_text());
			return r;
		}
		if (process_now() >= deadline || session_state(k) != before)
			return r;
		control_pause(k, &pause, deadline);
	}
}

static void keeper_down(struct kmm *k, const char *why)
{
	process_fd_close(&k->control_fd);
	if (session_set_state(k, SESSION_UP, SESSION_DOWN)) {
		probe_disconnect(k->id, why);
		event_push(k, KMM_EVENT_DOWN, why);
	}
	session_break_channels(k, -ECONNRESET);
}

/* ---- the thread ---- */

/* Calls of the keeper's own between these two end in time; those of callbacks do not lie there. */
static bool work_begin(struct kmm *k)
{
	if (session_enter(k) < 0)
		return false;
	k->keeper_until = process_now() + WORK_NS;
	return true;
}

static void work_end(struct kmm *k)
{
	k->keeper_until = 0;
	session_leave(k);
}

/* What words say and the daemon was not told: it looks for itself. */
static void keeper_catch_up(struct kmm *k)
{
	kmm_v1_CollectRequest q = kmm_v1_CollectRequest_init_zero;
	kmm_v1_CollectReply p = kmm_v1_CollectReply_init_zero;
	struct call_how how;
	bool untold, told;

	if (!work_begin(k))
		return;
	how = call_begin(k, CALL_NOWAIT);
	/* acquire: pairs with the release in session_untold */
	untold = atomic_exchange_explicit(&k->untold, 0, memory_order_acquire) != 0;
	told = exchange_repeat(k, &how);
	told = hold_repeat(k) && told;
	if (untold && CALL(k, &how, ALLOCATOR_COLLECT, Collect, &q, &p) < 0)
		told = false;
	if (!told) /* again after a pause: nobody is woken */
		atomic_store_explicit(&k->untold, 1, memory_order_release);
	work_end(k);
}

/* Somebody waits for memory: what idle threads cache goes back. */
static void keeper_give_back(struct kmm *k)
{
	if (!atomic_exchange_explicit(&k->pressed, 0, memory_order_relaxed) || !work_begin(k))
		return;
	seize_objects(k, NULL, false);
	vmalloc_purge(k, false);
	work_end(k);
}

/* The daemon asks for what idle threads cache, and is told when it has it. */
static void keeper_flush(struct kmm *k)
{
	kmm_v1_FlushedRequest q = { .flush = k->flush };

	if (!q.flush || session_state(k) != SESSION_UP || !work_begin(k))
		return;
	seize_idle(k, k->flush_cache);
	if (!k->flush_cache)
		vmalloc_purge(k, true);
	work_end(k);
	/* It is 0 when the connection was lost and made again: nobody waits for this answer. */
	if (k->flush != q.flush || session_state(k) != SESSION_UP)
		return;
	k->flush = 0;
	if (control_notify(k, kmm_v1_Method_ALLOCATOR_FLUSHED, kmm_v1_FlushedRequest_fields, &q) < 0)
		keeper_down(k, "the connection to the daemon ended");
}

static void keeper_ping(struct kmm *k, uint64_t now)
{
	kmm_v1_CheckRequest q = kmm_v1_CheckRequest_init_zero;
	uint64_t every = keepalive_ns(k);

	if (now - k->heard >= 3 * every) {
		keeper_down(k, "the daemon does not answer");
		return;
	}
	if (now - k->heard >= every && now - k->pinged >= every) {
		k->pinged = now;
		if (control_send(k, kmm_v1_Method_HEALTH_CHECK, kmm_v1_CheckRequest_fields, &q) < 0)
			keeper_down(k, "the connection to the daemon ended");
	}
}

/* One round while UP: events, pings, the end of the connection. */
static void keeper_listen(struct kmm *k)
{
	struct pollfd p[2] = {
		{ .fd = k->control_fd.fd, .events = POLLIN },
		{ .fd = k->wake_fd.fd, .events = POLLIN },
	};
	uint64_t count, pause = keepalive_ns(k);

	/* relaxed: who sets it while this sleeps wakes it */
	if (atomic_load_explicit(&k->untold, memory_order_relaxed) && pause > PAUSE_MAX_NS)
		pause = PAUSE_MAX_NS;
	if (poll(p, 2, (int)(pause / 1000000u)) > 0) {
		if (p[1].revents && read(k->wake_fd.fd, &count, sizeof(count)) < 0)
			count = 0; /* EAGAIN: another round has read it */
		if (p[0].revents && control_read(k, 0, NULL) < 0) {
			keeper_down(k, "the connection to the daemon ended");
			return;
		}
	}
	keeper_ping(k, process_now());
}

static void keeper_idle(struct kmm *k)
{
	struct pollfd p = { .fd = k->wake_fd.fd, .events = POLLIN };
	uint64_t count;

	if (poll(&p, 1, -1) > 0 && read(k->wake_fd.fd, &count, sizeof(count)) < 0)
		count = 0;
}

static void *keeper_main(void *arg)
{
	struct kmm *k = arg;

	pthread_setname_np(pthread_self(), "kmm-keeper");
	for (;;) {
		event_deliver(k);
		switch (session_state(k)) {
		case SESSION_UP:
			keeper_listen(k);
			keeper_give_back(k);
			keeper_flush(k);
			/* relaxed: looked at again below and in the next round */
			if (atomic_load_explicit(&k->untold, memory_order_relaxed) &&
			    session_state(k) == SESSION_UP)
				keeper_catch_up(k);
			break;
		case SESSION_DOWN:
			if (keeper_resume(k, DEADLINE_NONE) == 0)
				keeper_catch_up(k);
			break;
		case SESSION_LOST:
			keeper_idle(k);
			break;
		case SESSION_CLOSING:
			return NULL;
		}
	}
}

int keeper_start(struct kmm *k)
{
	sigset_t all, before;
	int r;

	r = process_fd_open(&k->wake_fd, PROCESS_EVENTFD);
	if (r < 0)
		return r;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&k->keeper, NULL, keeper_main, k);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r ? error_set(r, "the session's thread could not be started") : 0;
}

void keeper_stop(struct kmm *k)
{
	uint64_t one = 1;

	if (write(k->wake_fd.fd, &one, sizeof(one)) < 0)
		one = 0; /* EAGAIN: it is awake already */
	pthread_join(k->keeper, NULL);
}

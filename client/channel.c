/* SPDX-License-Identifier: MIT */
/*
 * A connection that many threads use at once: leader and followers.
 *
 * Calls are told apart by their id. Whoever waits for an answer while nobody reads becomes the
 * leader: it reads for all, hands each reply to its call, and when its own has come makes one of
 * the others the leader. So a lone thread sends, receives and is done: two system calls, no other
 * thread. A call that waits in the daemon holds nothing here: other calls pass it.
 *
 * Sending combines in the same way. Whoever sends while nobody else does sends for all: frames that
 * come meanwhile are appended to a buffer that leaves in one more send.
 *
 * The lock guards everything except the input buffer, which is the leader's, and the buffer being
 * sent, which is the sender's. It is never held over a system call that waits.
 *
 * A connection breaks once, by whoever sees it first: the end of file, a frame that makes no sense,
 * a call whose answer is overdue. Then every queued call is lost (done, with an error) and its
 * caller repeats it elsewhere; the daemon withdraws what it had offered through this connection.
 * The socket is shut down at once and closed with the last reference, so that no thread can meet a
 * reused descriptor.
 */
#include "client/internal.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define OUT_SIZE 8192u
#define FDS_MAX 64u
#define IN_SIZE (2 * FRAME_MAX)
/* How long after its deadline a call still waits for the daemon's word on it. */
#define OVERDUE_NS 250000000u
/* How long a notification waits for room in the socket. */
#define NOTIFY_WAIT_MS 20
/* How long who has no call of its own sends for others to a daemon that does not read. */
#define SEND_NS 1000000000u
#define ROOM_NS 100000000u

struct channel {
	pthread_mutex_t lock;
	pthread_cond_t room; /* in `out`, or broken */
	_Atomic uint32_t refs;
	struct process_fd socket;
	_Atomic bool broken;
	bool reading, sending;
	bool notified; /* something was sent that nobody waits for */
	struct kmm *k;
	int error;
	uint32_t last_id;
	struct call *calls; /* unanswered */
	size_t out_used;
	uint8_t *out, *out_spare; /* filled by all; being sent by one */
	size_t in_used;           /* the leader's, as are: */
	size_t nfds;
	int fds[FDS_MAX];
	uint8_t in[IN_SIZE];
	uint8_t buffers[2][OUT_SIZE];
};

int channel_open(struct channel **ret, struct kmm *k, uint32_t cpu, uint64_t deadline)
{
	struct channel *c = malloc(sizeof(*c));
	kmm_v1_HelloReply reply;
	int r;

	if (!c)
		return error_set(ENOMEM, "no memory for a connection");
	memset(c, 0, offsetof(struct channel, in));
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->room, NULL);
	atomic_init(&c->refs, 1);
	c->socket.fd = -1;
	c->k = k;
	c->out = c->buffers[0];
	c->out_spare = c->buffers[1];
	c->last_id = 1; /* the hello's */
	r = connect_socket(&c->socket, k->address, deadline);
	if (r == 0)
		r = connect_hello(k, c->socket.fd, false, cpu, deadline, &reply, NULL);
	if (r < 0) {
		channel_put(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct channel *channel_get(struct channel *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void channel_put(struct channel *c)
{
	size_t i;

	/* acq_rel: what others did with it is done before it is freed */
	if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	process_fd_close(&c->socket);
	for (i = 0; i < c->nfds; i++)
		close(c->fds[i]);
	pthread_cond_destroy(&c->room);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

bool channel_broken(struct channel *c)
{
	/* acquire: pairs with the release in break_locked */
	return atomic_load_explicit(&c->broken, memory_order_acquire);
}

enum { CALL_IDLE, CALL_WOKEN, CALL_ASLEEP };

/* The lock is held, so that the call outlives this. */
static void call_wake(struct call *call)
{
	/* acq_rel: pairs with the exchanges in call_sleep */
	if (atomic_exchange_explicit(&call->wake, CALL_WOKEN, memory_order_acq_rel) == CALL_ASLEEP)
		futex_wake_one(&call->wake);
}

/* Until call_wake or the deadline; the lock is held and released meanwhile. */
static void call_sleep(struct channel *c, struct call *call, uint64_t deadline)
{
	uint32_t idle = CALL_IDLE;

	if (atomic_compare_exchange_strong_explicit(&call->wake, &idle, CALL_ASLEEP,
	                                            memory_order_acq_rel, memory_order_acquire)) {
		pthread_mutex_unlock(&c->lock);
		futex_wait(&call->wake, CALL_ASLEEP, deadline);
		pthread_mutex_lock(&c->lock);
	}
	atomic_store_explicit(&call->wake, CALL_IDLE, memory_order_release);
}

static void break_locked(struct channel *c, int error)
{
	struct call *call;

	if (channel_broken(c))
		return;
	c->error = error;
	atomic_store_explicit(&c->broken, true, memory_order_release);
	if (c->notified)
		session_untold(c->k);
	shutdown(c->socket.fd, SHUT_RDWR);
	while ((call = c->calls)) {
		c->calls = call->next;
		call->done = true;
		call->error = error;
		call_wake(call);
	}
	pthread_cond_broadcast(&c->room);
}

void channel_break(struct channel *c, int error)
{
	pthread_mutex_lock(&c->lock);
	break_locked(c, error);
	pthread_mutex_unlock(&c->lock);
}

/* ---- sending ---- */

/* Until when the daemon's word on a call is waited for. */
static uint64_t call_end(const struct call *call)
{
	return call->deadline > DEADLINE_NONE - OVERDUE_NS ? DEADLINE_NONE
	                                                   : call->deadline + OVERDUE_NS;
}

/* Who sends, and how long it may take. */
struct sender {
	const struct call *call; /* NULL: none; the lock: a cancel moves its deadline */
	uint64_t end;            /* without a call */
	bool once;               /* gives up what does not fit the socket now */
};

/* The lock is held. */
static bool sender_is_late(const struct sender *s)
{
	return process_now() > (s->call ? call_end(s->call) : s->end);
}

/* -ENOBUFS: nothing was sent, by a sender that tries once. */
static int send_whole(struct channel *c, const struct sender *s, const uint8_t *buf, size_t size)
{
	bool once = s->once;

	while (size > 0) {
		ssize_t n = send(c->socket.fd, buf, size, MSG_NOSIGNAL | (once ? MSG_DONTWAIT : 0));
		bool late;

		if (n > 0) {
			buf += n;
			size -= (size_t)n;
			once = false; /* a frame that was begun is sent */
			continue;
		}
		if ((errno != EAGAIN && errno != EINTR) || channel_broken(c))
			return -ECONNRESET;
		if (once && errno == EAGAIN)
			return -ENOBUFS;
		pthread_mutex_lock(&c->lock);
		late = sender_is_late(s);
		pthread_mutex_unlock(&c->lock);
		if (late)
			return -ETIMEDOUT;
	}
	return 0;
}

/* Sends `frame` and then all that others append meanwhile; the lock is held. -ENOBUFS: all but
 * `frame`. */
static int send_as_one(struct channel *c, struct sender s, const uint8_t *frame, size_t size)
{
	int r, refused = 0;

	c->sending = true;
	do {
		pthread_mutex_unlock(&c->lock);
		r = send_whole(c, &s, frame, size);
		pthread_mutex_lock(&c->lock);
		if (r == -ENOBUFS) {
			refused = r;
		} else if (r < 0) {
			break_locked(c, r);
			break;
		}
		s.once = false;
		size = c->out_used;
		if (size > 0) {
			uint8_t *full = c->out;

			c->out = c->out_spare;
			c->out_spare = full;
			c->out_used = 0;
			frame = full;
			pthread_cond_broadcast(&c->room);
		}
	} while (size > 0);
	c->sending = false;
	return refused;
}

/* Until there may be room in `out`; the lock is held. A sender that is late breaks the channel. */
static void room_wait(struct channel *c, const struct sender *s)
{
	uint64_t at = process_now() + ROOM_NS;
	struct timespec t = { .tv_sec = (time_t)(at / 1000000000u),
		              .tv_nsec = (long)(at % 1000000000u) };

	pthread_cond_clockwait(&c->room, &c->lock, CLOCK_MONOTONIC, &t);
	if (sender_is_late(s))
		break_locked(c, -ETIMEDOUT);
}

/* The lock is held. -ENOBUFS: a sender that tries once found no room. */
static int send_frame(struct channel *c, struct sender s, const uint8_t *frame, size_t size)
{
	while (c->sending && !channel_broken(c) && OUT_SIZE - c->out_used < size) {
		if (s.once)
			return -ENOBUFS;
		room_wait(c, &s);
	}
	if (channel_broken(c))
		return c->error;
	if (!c->sending)
		return send_as_one(c, s, frame, size);
	memcpy(c->out + c->out_used, frame, size);
	c->out_used += size;
	return 0;
}

int channel_submit(struct channel *c, struct call *call, uint8_t *frame, size_t body_size,
                   uint16_t method, uint64_t timeout_us)
{
	struct frame f = {
		.length = (uint32_t)body_size,
		.code = method,
		.kind = FRAME_REQUEST,
		.timeout_us = timeout_us,
	};
	int r = 0;

	call->done = false;
	call->error = 0;
	call->nfds = 0;
	atomic_init(&call->wake, CALL_IDLE);
	pthread_mutex_lock(&c->lock);
	if (channel_broken(c)) {
		r = c->error;
	} else {
		if (++c->last_id == 0)
			c->last_id = 2;
		f.call = call->id = c->last_id;
		frame_encode(frame, &f);
		call->next = c->calls;
		c->calls = call;
		send_frame(c, (struct sender){ .call = call }, frame,
		           FRAME_HEADER_SIZE + body_size);
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

int channel_notify(struct channel *c, uint8_t *frame, size_t body_size, uint16_t method)
{
	struct frame f = { .length = (uint32_t)body_size, .code = method, .kind = FRAME_NOTIFY };
	size_t size = FRAME_HEADER_SIZE + body_size;
	struct sender s = { .end = process_now() + SEND_NS, .once = true };
	struct pollfd p = { .fd = c->socket.fd, .events = POLLOUT };
	bool again;
	int r;

	frame_encode(frame, &f);
	do {
		pthread_mutex_lock(&c->lock);
		c->notified = true;
		r = send_frame(c, s, frame, size);
		if (channel_broken(c))
			r = c->error;
		pthread_mutex_unlock(&c->lock);
		again = r == -ENOBUFS && p.revents == 0 && poll(&p, 1, NOTIFY_WAIT_MS) > 0;
	} while (again);
	return r;
}

void channel_cancel(struct channel *c, struct call *only)
{
	uint64_t now = process_now();
	struct call *call;
	uint32_t id[64];
	size_t n = 0, i;

	pthread_mutex_lock(&c->lock);
	for (call = c->calls; call; call = call->next) {
		if (!call->cancellable || (only && call != only))
			continue;
		call->cancellable = false;
		call->deadline = now; /* a daemon that does not answer is not waited for */
		call_wake(call);
		if (n == sizeof(id) / sizeof(id[0])) {
			break_locked(c, -ECANCELED); /* all at once is as good */
			break;
		}
		id[n++] = call->id;
	}
	for (i = 0; i < n && !channel_broken(c); i++) {
		struct frame f = { .call = id[i], .kind = FRAME_CANCEL };
		uint8_t frame[FRAME_HEADER_SIZE];

		frame_encode(frame, &f);
		send_frame(c, (struct sender){ .end = now + OVERDUE_NS }, frame, sizeof(frame));
	}
	pthread_mutex_unlock(&c->lock);
}

/* ---- receiving ---- */

void call_close_fds(struct call *call)
{
	uint16_t i;

	for (i = 0; i < call->nfds; i++)
		close(call->fd[i]);
	call->nfds = 0;
}

/* Hands a frame's descriptors, the oldest received, to its call, or closes them. */
static int take_fds(struct channel *c, struct call *call, uint8_t n)
{
	uint8_t i;

	if (n > c->nfds || n > FRAME_FDS_MAX)
		return -EPROTO;
	for (i = 0; i < n; i++) {
		if (call)
			call->fd[i] = c->fds[i];
		else
			close(c->fds[i]);
	}
	if (call)
		call->nfds = n;
	c->nfds -= n;
	memmove(c->fds, c->fds + n, c->nfds * sizeof(c->fds[0]));
	return 0;
}

/* A whole frame has come; the lock is held. */
static int deliver(struct channel *c, const struct frame *f, const uint8_t *body)
{
	struct call **p, *call;
	int r;

	if (f->kind != FRAME_REPLY)
		return -EPROTO;
	for (p = &c->calls; (call = *p); p = &call->next)
		if (call->id == f->call)
			break;
	r = take_fds(c, call, f->nfds);
	if (r < 0)
		return r;
	if (!call) /* no call is ever given up while its connection lives */
		return -EPROTO;
	*p = call->next;
	call->done = true;
	call->status = f->code;
	call->reply_size = f->length;
	if (f->length > CALL_REPLY_MAX) { /* no answer to any request of this library */
		call->status = STATUS_INTERNAL;
		call->reply_size = 0;
	} else {
		memcpy(call->reply, body, f->length);
	}
	call_wake(call);
	return 0;
}

/* Cuts what was read into frames; the lock is held. */
static int parse(struct channel *c)
{
	size_t at = 0;
	int r = 0;

	for (;;) {
		struct frame f;
		const char *why;

		r = frame_decode(&f, c->in + at, c->in_used - at, &why);
		if (r < 0 || f.length > c->in_used - at - FRAME_HEADER_SIZE)
			break;
		r = deliver(c, &f, c->in + at + FRAME_HEADER_SIZE);
		if (r < 0)
			return r;
		at += FRAME_HEADER_SIZE + f.length;
	}
	c->in_used -= at;
	if (at > 0)
		memmove(c->in, c->in + at, c->in_used);
	return r == 0 || r == -EAGAIN ? 0 : -EPROTO;
}

/* One read as the leader; the lock is held and released meanwhile. */
static void lead(struct channel *c)
{
	size_t room = FDS_MAX - c->nfds;
	ssize_t n;
	int r;

	c->reading = true;
	pthread_mutex_unlock(&c->lock);
	n = fdpass_receive(c->socket.fd, c->in + c->in_used, IN_SIZE - c->in_used, c->fds + c->nfds,
	                   &room, 0);
	pthread_mutex_lock(&c->lock);
	c->reading = false;
	if (n > 0) {
		c->in_used += (size_t)n;
		c->nfds += room;
		r = parse(c);
		if (r < 0)
			break_locked(c, r);
	} else if (n != -EAGAIN) {
		break_locked(c, -ECONNRESET);
	}
}

/* Somebody else shall read from now on; the lock is held. */
static void pass_lead(struct channel *c)
{
	if (!c->reading && c->calls)
		call_wake(c->calls);
}

int channel_wait(struct channel *c, struct call *call)
{
	bool overdue = false;

	pthread_mutex_lock(&c->lock);
	while (!call->done) {
		uint64_t end = call_end(call); /* a cancel moves it */

		if (!c->reading)
			lead(c);
		else
			call_sleep(c, call, end);
		if (!call->done && end != DEADLINE_NONE && process_now() > end) {
			overdue = true;
			break_locked(c, -ETIMEDOUT);
		}
	}
	pass_lead(c);
	pthread_mutex_unlock(&c->lock);
	return overdue ? -ETIMEDOUT : call->error;
}

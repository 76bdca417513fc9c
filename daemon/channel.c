/* SPDX-License-Identifier: MIT */
/*
 * A channel's life and its input.
 *
 * Input. All channels of a reactor read into the reactor's one input block; what a read brings is
 * served frame by frame where it lies. Only what cannot be served yet, an unfinished frame or, while
 * the output is full, whole frames, is put aside in a stash of the channel's own, and comes first at
 * the next read. So an idle channel holds no buffer.
 *
 *     readable -> recv -> frames -> dispatch -> (output full: pause) -> send -> (drained: go on)
 *
 * Streams pause in the same way (rpc_pending.c): what is drained asks them for more.
 *
 * Events. The poll asks for READABLE all the time; for WRITABLE only while the socket refuses what
 * is queued; for nothing while descriptors wait for the peer to read (the timer tries again then).
 * libuv stops the poll by itself and says UV_EBADF when the peer died with unread data in its queue,
 * although the socket still holds its last bytes: those are read and served, then the channel ends.
 *
 * Life. `refs` counts: being open, the two libuv handles, each pending call, being on the dirty
 * list, being served. The last one frees it. After channel_close() nothing is read or sent any more;
 * pending calls are told, and those whose answer is on its way find out when it comes.
 */
#include "daemon/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/acceptor.h"
#include "daemon/channel_private.h"
#include "daemon/log_about.h"
#include "daemon/metrics.h"
#include "daemon/rpc.h"
#include "daemon/session.h"
#include "proto/kmm.pb-c.h"

#define READ_RETRIES 4           /* past ECONNRESET */
#define DRAIN_MAX (16u << 16)    /* input thrown away at a protocol error */

static void channel_on_poll(uv_poll_t *poll, int status, int events);

void channel_ref(struct channel *c)
{
	c->refs++;
}

void channel_unref(struct channel *c)
{
	if (--c->refs == 0)
		free(c);
}

/* Closes it for what its client does, or does not do. */
static void channel_evict(struct channel *c, const char *why)
{
	struct log_about about;

	if (c->closed)
		return;
	about = log_about_request(LOG_PROTOCOL, c->session, &c->peer, NULL);
	log_event(LOG_LEVEL_INFO, &about, "the connection is ended: %s", why);
	channel_close(c, why);
}

/* It has neither joined a session nor asked for anything else. */
static bool channel_is_silent(const struct channel *c)
{
	return !c->session && !c->spoken;
}

/* Polls for what matters now. */
static void channel_update_events(struct channel *c)
{
	int events = 0;

	if (c->closed)
		return;
	if (!c->paused && !c->ending)
		events |= UV_READABLE;
	if (c->blocked)
		events |= UV_WRITABLE;
	if (c->stalled_ns)
		channel_arm(c, c->stalled_ns + CHANNEL_STALL_NS);
	if (c->fd_blocked) {
		if (!c->fd_retry_ms)
			c->fd_retry_ms = CHANNEL_FD_RETRY_MS;
		channel_arm(c, uv_hrtime() + c->fd_retry_ms * UINT64_C(1000000));
	}
	if (channel_is_silent(c))
		channel_arm(c, c->hello_by_ns);
	if (events == c->events)
		return;
	c->events = events;
	if (events)
		uv_poll_start(&c->poll, events, channel_on_poll);
	else
		uv_poll_stop(&c->poll);
}

static void channel_set_stash(struct channel *c, const uint8_t *data, size_t n)
{
	uint8_t *stash = NULL;

	if (n) {
		stash = malloc(n);
		if (!stash) {
			channel_close(c, "out of memory");
			return;
		}
		memcpy(stash, data, n);
	}
	free(c->stash);
	c->stash = stash;
	c->stash_size = n;
}

/* Serves the frames in data[0..n) and puts the rest aside. */
static void channel_consume(struct channel *c, const uint8_t *data, size_t n)
{
	size_t at = 0;

	while (!c->closed && !c->ending) {
		const char *why;
		struct frame f;
		int r;

		if (channel_output_full(c)) {
			c->paused = true;
			c->paused_ns = c->reactor->read_ns;
			break;
		}
		r = frame_decode(&f, data + at, n - at, &why);
		if (r == -EAGAIN)
			break;
		if (r < 0) {
			channel_protocol_error(c, -r, why);
			break;
		}
		if (n - at < FRAME_HEADER_SIZE + f.length)
			break;
		if (f.kind == FRAME_REQUEST && f.code != KMM__V1__METHOD__ALLOCATOR_HELLO &&
		    rpc_method_find(f.code))
			c->spoken = true;
		rpc_dispatch(c, &f, data + at + FRAME_HEADER_SIZE);
		at += FRAME_HEADER_SIZE + f.length;
	}
	metrics_batch(c->reactor->metrics, c->reactor->read_ns);
	if (!c->closed && !c->ending)
		channel_set_stash(c, data + at, n - at);
}

/* Reads once and serves it: 1 there may be more, 0 nothing there now, -EPIPE the peer's end. */
static int channel_read(struct channel *c)
{
	uint8_t *input = c->reactor->buffers->input;
	size_t have = c->stash_size;
	ssize_t n = -1;

	for (int i = 0; i < READ_RETRIES; i++) {
		n = recv(c->fd, input + have, CHANNEL_INPUT_SIZE - have, MSG_DONTWAIT);
		/* A reset comes before the peer's last bytes. */
		if (n >= 0 || (errno != EINTR && errno != ECONNRESET))
			break;
	}
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -EPIPE;
	if (n == 0)
		return -EPIPE;
	if (have)
		memcpy(input, c->stash, have);
	c->reactor->read_ns = uv_hrtime();
	channel_consume(c, input, have + (size_t)n);
	return 1;
}

/* Input that was put aside because the output was full. */
static void channel_serve_stash(struct channel *c)
{
	uint8_t *input = c->reactor->buffers->input;
	size_t n = c->stash_size;

	memcpy(input, c->stash, n);
	c->reactor->read_ns = c->paused_ns;
	channel_consume(c, input, n);
}

/* Sends, and goes on with input that had to wait for room. */
static void channel_settle(struct channel *c)
{
	while (!c->closed) {
		if (channel_output_send(c) < 0) {
			channel_close(c, "the client has gone");
			return;
		}
		if (!c->paused || channel_output_full(c))
			break;
		c->paused = false;
		if (!c->ending && c->stash_size)
			channel_serve_stash(c);
	}
	if (c->closed)
		return;
	if (c->ending && channel_output_empty(c)) {
		channel_close(c, c->peer.refused ? "it may not connect" : "protocol error");
		return;
	}
	if (c->streams_wait && !channel_output_full(c))
		rpc_channel_room(c);
	channel_update_events(c);
}

static void channel_serve_begin(struct channel *c)
{
	channel_ref(c);
	c->serving = true;
}

static void channel_serve_end(struct channel *c)
{
	channel_settle(c);
	c->serving = false;
	channel_unref(c);
}

/* The peer's end: what it had sent is served, what it can still read is sent. */
static void channel_read_last(struct channel *c)
{
	while (!c->closed && !c->ending && !c->paused && channel_read(c) > 0)
		if (channel_output_send(c) < 0)
			break;
	if (c->closed)
		return;
	if (!c->ending)
		channel_output_send(c);
	channel_close(c, c->stash_size ? "the client ended inside a frame" : "the client has gone");
}

static void channel_on_poll(uv_poll_t *poll, int status, int events)
{
	struct channel *c = poll->data;

	channel_serve_begin(c);
	if (status < 0) {
		c->events = 0; /* libuv has stopped the poll */
		channel_read_last(c);
	} else if ((events & UV_READABLE) && !c->paused && !c->ending) {
		if (channel_read(c) < 0)
			channel_read_last(c);
	}
	channel_serve_end(c);
}

/* ---- the timer: deadlines of calls, output without progress, descriptors that wait ---- */

static void channel_on_timer(uv_timer_t *timer)
{
	struct channel *c = timer->data;
	uint64_t now = uv_hrtime(), next;

	c->timer_ns = 0;
	channel_serve_begin(c);
	next = rpc_channel_expire(c, now);
	if (next && !c->closed)
		channel_arm(c, next);
	if (!c->closed && c->stalled_ns && now - c->stalled_ns >= CHANNEL_STALL_NS)
		channel_evict(c, "the client does not read its replies");
	if (!c->closed && channel_is_silent(c) && now >= c->hello_by_ns)
		channel_evict(c, "it asked for nothing");
	if (c->fd_retry_ms && c->fd_retry_ms < CHANNEL_FD_RETRY_MAX_MS)
		c->fd_retry_ms *= 2;
	channel_serve_end(c);
}

void channel_arm(struct channel *c, uint64_t at_ns)
{
	uint64_t at_ms = at_ns / 1000000 + 1, now_ms = uv_now(&c->reactor->loop);

	if (c->closed || (c->timer_ns && c->timer_ns <= at_ns))
		return;
	c->timer_ns = at_ns;
	uv_timer_start(&c->timer, channel_on_timer, at_ms > now_ms ? at_ms - now_ms : 0, 0);
}

/* ---- the reactor's side ---- */

void channel_flush_dirty(struct reactor *r)
{
	while (r->dirty) {
		struct channel *c = r->dirty;

		r->dirty = c->next_dirty;
		c->dirty = false;
		channel_serve_begin(c);
		channel_unref(c); /* of the list */
		channel_serve_end(c);
	}
}

void channel_tick(struct reactor *r)
{
	uint64_t now = uv_hrtime();
	struct channel *next;

	for (struct channel *c = r->channels; c; c = next) {
		next = c->next;
		channel_output_note_read(c);
		if (c->out.fds_unread && now - c->out.fds_since_ns >= CHANNEL_STALL_NS)
			channel_evict(c, "the client does not take the descriptors that it was sent");
	}
}

void channel_close_all(struct reactor *r, const char *why)
{
	channel_flush_dirty(r);
	while (r->channels)
		channel_close(r->channels, why);
}

/* ---- life ---- */

static void channel_on_closed(uv_handle_t *handle)
{
	channel_unref(handle->data);
}

int channel_open(struct reactor *r, int fd, const struct peer *peer, const uint8_t *head, size_t n)
{
	struct channel *c = calloc(1, sizeof(*c));
	struct peer p = *peer;
	int e = -ENOMEM;

	if (!c)
		goto failed;
	c->reactor = r;
	c->fd = fd;
	c->peer = p;
	c->hello_by_ns = uv_hrtime() + CHANNEL_HELLO_NS;
	e = uv_poll_init(&r->loop, &c->poll, fd);
	if (e)
		goto failed;
	uv_timer_init(&r->loop, &c->timer);
	c->poll.data = c->timer.data = c;
	c->refs = 3;
	c->next = r->channels;
	if (c->next)
		c->next->prev = &c->next;
	c->prev = &r->channels;
	r->channels = c;
	metrics_channels(r->metrics, 1);
	channel_serve_begin(c);
	r->read_ns = uv_hrtime();
	channel_consume(c, head, n);
	if (!c->closed && channel_read(c) < 0)
		channel_read_last(c);
	channel_serve_end(c);
	return 0;
failed:
	free(c);
	close(fd);
	acceptor_peer_release(&p);
	return e;
}

/* Input left unread would make the peer see a reset instead of the last replies. */
static void channel_discard_input(struct channel *c)
{
	uint8_t *input = c->reactor->buffers->input;

	for (size_t n = 0; n < DRAIN_MAX; n += CHANNEL_INPUT_SIZE)
		if (recv(c->fd, input, CHANNEL_INPUT_SIZE, MSG_DONTWAIT) <= 0)
			return;
}

void channel_close(struct channel *c, const char *why)
{
	struct session *s = c->session;

	if (c->closed)
		return;
	c->closed = true;
	log_debug("connection of process %d, user %u ends: %s", (int)c->peer.pid, c->peer.uid, why);
	metrics_channels(c->reactor->metrics, -1);
	*c->prev = c->next;
	if (c->next)
		c->next->prev = c->prev;
	if (c->ending)
		channel_discard_input(c);
	/* the poll first: a closed descriptor in it would end the process */
	uv_close((uv_handle_t *)&c->poll, channel_on_closed);
	uv_close((uv_handle_t *)&c->timer, channel_on_closed);
	close(c->fd);
	c->fd = -1;
	channel_output_drop(c);
	free(c->stash);
	c->stash = NULL;
	c->stash_size = 0;
	acceptor_peer_release(&c->peer);
	rpc_channel_closed(c);
	c->session = NULL;
	if (s)
		session_channel_closed(s, c->control);
	channel_unref(c); /* of being open */
}

void channel_protocol_error(struct channel *c, int errno_value, const char *text)
{
	struct log_about about;

	if (c->closed || c->ending)
		return;
	about = log_about_request(LOG_PROTOCOL, c->session, &c->peer, NULL);
	log_event(LOG_LEVEL_INFO, &about, "the connection is ended: %s", text);
	rpc_refuse_stream(c, errno_value, text);
	c->ending = true;
}

void channel_end(struct channel *c)
{
	c->ending = true;
}

const struct peer *channel_peer(const struct channel *c)
{
	return &c->peer;
}

int channel_take_pidfd(struct channel *c)
{
	int fd = c->peer.pidfd;

	c->peer.pidfd = -1;
	return fd;
}

struct session *channel_session(const struct channel *c)
{
	return c->session;
}

void channel_set_session(struct channel *c, struct session *s, bool control)
{
	c->session = s;
	c->control = control;
}

bool channel_is_control(const struct channel *c)
{
	return c->control;
}

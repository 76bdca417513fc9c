/* SPDX-License-Identifier: MIT */
/*
 * A channel's output: a chain of chunks, of which the common case uses one.
 *
 * A frame is packed in place at the end of the last chunk (reserve, commit) and never crosses into
 * the next, so nothing is copied before send(). Chunks come from the reactor's spare ones, last
 * used first: with one busy channel the same 64 KiB stay in the cache. A channel without output
 * holds no chunk.
 *
 * Bounds. A channel whose queue exceeds CHANNEL_OUTPUT_SOFT is not read from (channel.c), so only
 * the answers of calls already accepted come on top: at most CHANNEL_CHUNKS_MAX chunks, and beyond
 * its first no more than half of what the reactor has left, so that one client cannot take all.
 *
 * Descriptors. Frames that carry some are remembered by their offset in the stream; a send stops
 * before such a frame, and the next one begins with it and its descriptors. Descriptors that the
 * peer has not read count against this process system-wide, so at most CHANNEL_FDS_UNREAD_MAX are
 * under way a channel and a quarter of the limit of open files in all: the next frame with some
 * waits until SIOCOUTQ says that they were read. Who leaves descriptors unread for as long as an
 * output may stall is closed (channel_tick); who waits because others do is not counted as stalled.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "daemon/channel_private.h"
#include "shm/fdpass.h"

#define OUTPUT_IOV_MAX 16u
#define BUFFERS_SPARE_MAX 16u

/* Descriptors sent and perhaps unread, all channels. Relaxed: a count that guards nothing. */
static _Atomic uint32_t output_fds_unread;

int channel_buffers_new(struct channel_buffers **ret)
{
	struct channel_buffers *b = malloc(sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->spare = NULL;
	b->nr_spare = 0;
	b->nr_extra = 0;
	*ret = b;
	return 0;
}

struct channel_buffers *channel_buffers_free(struct channel_buffers *b)
{
	while (b && b->spare) {
		struct channel_chunk *k = b->spare;

		b->spare = k->next;
		free(k);
	}
	free(b);
	return NULL;
}

static struct channel_chunk *chunk_take(struct channel_buffers *b)
{
	struct channel_chunk *k = b->spare;

	if (k) {
		b->spare = k->next;
		b->nr_spare--;
	} else {
		k = malloc(sizeof(*k));
		if (!k)
			return NULL;
	}
	k->next = NULL;
	k->start = k->end = 0;
	return k;
}

static void chunk_give(struct channel_buffers *b, struct channel_chunk *k)
{
	if (b->nr_spare >= BUFFERS_SPARE_MAX) {
		free(k);
		return;
	}
	k->next = b->spare;
	b->spare = k;
	b->nr_spare++;
}

static int output_add_chunk(struct channel *c)
{
	struct channel_buffers *b = c->reactor->buffers;
	struct channel_output *o = &c->out;
	struct channel_chunk *k;

	if (o->nr_chunks > 0) {
		uint32_t left = CHANNEL_CHUNKS_REACTOR - b->nr_extra;

		if (o->nr_chunks >= CHANNEL_CHUNKS_MAX || o->nr_chunks > left / 2)
			return -ENOBUFS;
	}
	k = chunk_take(b);
	if (!k)
		return -ENOMEM;
	if (o->last) {
		o->last->next = k;
		b->nr_extra++;
	} else {
		o->first = k;
	}
	o->last = k;
	o->nr_chunks++;
	return 0;
}

static void output_remove_chunk(struct channel *c)
{
	struct channel_output *o = &c->out;
	struct channel_chunk *k = o->first;

	o->first = k->next;
	if (o->first)
		c->reactor->buffers->nr_extra--;
	else
		o->last = NULL;
	o->nr_chunks--;
	chunk_give(c->reactor->buffers, k);
}

uint8_t *channel_output_reserve(struct channel *c, size_t size)
{
	struct channel_chunk *k = c->out.last;

	if (c->closed || c->ending)
		return NULL;
	if (!k || sizeof(k->data) - k->end < size) {
		/* A long stream leaves as it grows. */
		if (k && channel_output_send(c) < 0) {
			channel_close(c, "the client has gone");
			return NULL;
		}
		k = c->out.last;
		if (!k || sizeof(k->data) - k->end < size) {
			if (output_add_chunk(c) < 0) {
				channel_close(c, "the client does not read its replies");
				return NULL;
			}
			k = c->out.last;
		}
	}
	return k->data + k->end;
}

void channel_output_commit(struct channel *c, size_t size)
{
	struct reactor *r = c->reactor;

	c->out.last->end += (uint32_t)size;
	c->out.queued += size;
	if (c->serving || c->dirty)
		return;
	c->dirty = true;
	channel_ref(c);
	c->next_dirty = r->dirty;
	r->dirty = c;
}

int channel_output_attach(struct channel *c, const int fd[], size_t n)
{
	struct channel_output *o = &c->out;
	struct channel_fd_frame *f;

	if (n > FRAME_FDS_MAX || o->fds_count == CHANNEL_FD_FRAMES_MAX)
		return -ENOSPC;
	if (!o->fds) {
		o->fds = calloc(CHANNEL_FD_FRAMES_MAX, sizeof(*o->fds));
		if (!o->fds)
			return -ENOMEM;
	}
	f = &o->fds[(o->fds_first + o->fds_count) % CHANNEL_FD_FRAMES_MAX];
	f->at = o->queued;
	f->n = (uint32_t)n;
	memcpy(f->fd, fd, n * sizeof(fd[0]));
	o->fds_count++;
	return 0;
}

bool channel_output_full(const struct channel *c)
{
	const struct channel_output *o = &c->out;

	return o->queued - o->sent > CHANNEL_OUTPUT_SOFT || o->fds_count == CHANNEL_FD_FRAMES_MAX;
}

bool channel_output_empty(const struct channel *c)
{
	return c->out.queued == c->out.sent;
}

void channel_output_note_read(struct channel *c)
{
	int unread = 0;

	if (!c->out.fds_unread || ioctl(c->fd, SIOCOUTQ, &unread) < 0)
		return;
	/* It counts at least the bytes that are unread: if less than what was sent behind the last
	 * descriptors, those were read. */
	if (unread > 0 && (uint64_t)unread >= c->out.sent - c->out.fds_end)
		return;
	atomic_fetch_sub_explicit(&output_fds_unread, c->out.fds_unread, memory_order_relaxed);
	c->out.fds_unread = 0;
	c->reactor->fds_unread--;
}

/* 0; -EUSERS: this peer has to read first; -EBUSY: others have. */
static int output_fds_may_go(struct channel *c, uint32_t n)
{
	struct rlimit limit;

	channel_output_note_read(c);
	if (c->out.fds_unread && c->out.fds_unread + n > CHANNEL_FDS_UNREAD_MAX)
		return -EUSERS;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || n > limit.rlim_cur / 4)
		return 0;
	/* relaxed: see output_fds_unread */
	return atomic_load_explicit(&output_fds_unread, memory_order_relaxed) + n <=
	                       limit.rlim_cur / 4 ?
	               0 :
	               -EBUSY;
}

/* The part of the queue from its front, at most `length` bytes of it. */
static size_t output_iov(const struct channel_output *o, uint64_t length, struct iovec *iov)
{
	size_t n = 0;

	for (struct channel_chunk *k = o->first; k && length && n < OUTPUT_IOV_MAX; k = k->next) {
		size_t part = k->end - k->start;

		if (part > length)
			part = length;
		iov[n++] = (struct iovec){k->data + k->start, part};
		length -= part;
	}
	return n;
}

static void output_sent(struct channel *c, size_t n)
{
	struct channel_output *o = &c->out;

	o->sent += n;
	while (n) {
		struct channel_chunk *k = o->first;
		size_t part = k->end - k->start;

		if (n < part) {
			k->start += (uint32_t)n;
			return;
		}
		n -= part;
		output_remove_chunk(c);
	}
}

/* One send, at most up to the next frame with descriptors: bytes, or a negative errno. */
static ssize_t output_send_some(struct channel *c)
{
	struct channel_output *o = &c->out;
	struct channel_fd_frame *f = o->fds_count ? &o->fds[o->fds_first] : NULL;
	struct iovec iov[OUTPUT_IOV_MAX];
	uint64_t end = o->queued;
	ssize_t n;

	if (f && f->at == o->sent) {
		n = output_fds_may_go(c, f->n);
		if (n < 0)
			return n;
		if (o->fds_count > 1)
			end = o->fds[(o->fds_first + 1) % CHANNEL_FD_FRAMES_MAX].at;
		n = fdpass_send(c->fd, iov, output_iov(o, end - o->sent, iov), f->fd, f->n);
		if (n <= 0)
			return n;
		o->fds_first = (o->fds_first + 1) % CHANNEL_FD_FRAMES_MAX;
		o->fds_count--;
		if (!o->fds_unread) {
			c->reactor->fds_unread++;
			o->fds_since_ns = uv_hrtime();
		}
		o->fds_end = o->sent + (uint64_t)n;
		o->fds_unread += f->n;
		atomic_fetch_add_explicit(&output_fds_unread, f->n, memory_order_relaxed);
		return n;
	}
	if (f)
		end = f->at;
	if (!o->first->next && end == o->queued) {
		n = send(c->fd, o->first->data + o->first->start, o->first->end - o->first->start,
		         MSG_DONTWAIT | MSG_NOSIGNAL);
	} else {
		struct msghdr m = {.msg_iov = iov};

		m.msg_iovlen = output_iov(o, end - o->sent, iov);
		n = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	return n < 0 ? -errno : n;
}

/* 0: it is to be tried again. The peer is to blame for a full socket and for its own unread
 * descriptors, not for what the system lacks or others hold. */
static int output_blocked(struct channel *c, int e)
{
	switch (e) {
	case -EAGAIN:
	case -EUSERS:
		if (!c->stalled_ns)
			c->stalled_ns = uv_hrtime();
		break;
	case -EBUSY:
	case -ETOOMANYREFS:
	case -ENOBUFS:
	case -ENOMEM:
		c->stalled_ns = 0;
		break;
	default:
		return e;
	}
	c->blocked = e == -EAGAIN;
	c->fd_blocked = e != -EAGAIN;
	return 0;
}

int channel_output_send(struct channel *c)
{
	c->fd_blocked = false;
	while (!channel_output_empty(c)) {
		ssize_t n = output_send_some(c);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return output_blocked(c, (int)n);
		c->stalled_ns = 0;
		c->fd_retry_ms = 0;
		output_sent(c, (size_t)n);
	}
	c->blocked = false;
	c->stalled_ns = 0;
	return 0;
}

void channel_output_drop(struct channel *c)
{
	struct channel_output *o = &c->out;

	while (o->first)
		output_remove_chunk(c);
	if (o->fds_unread) {
		atomic_fetch_sub_explicit(&output_fds_unread, o->fds_unread, memory_order_relaxed);
		c->reactor->fds_unread--;
		o->fds_unread = 0;
	}
	free(o->fds);
	o->fds = NULL;
	o->fds_count = 0;
	o->sent = o->queued;
}

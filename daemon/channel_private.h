/* SPDX-License-Identifier: MIT */
/*
 * Inside a channel: shared by channel.c (life, input), channel_output.c (output) and rpc.c (calls).
 * Everything here runs on the channel's reactor.
 */
#ifndef DAEMON_CHANNEL_PRIVATE_H
#define DAEMON_CHANNEL_PRIVATE_H

#include <uv.h>

#include "daemon/channel.h"
#include "daemon/reactor.h"
#include "proto/frame.h"

struct rpc_pending;

#define CHANNEL_READ_SIZE 65536u
#define CHANNEL_OUTPUT_SOFT 65536u      /* more than this: nothing is read */
#define CHANNEL_CHUNK_SIZE 65536u       /* of output */
#define CHANNEL_CHUNKS_MAX 64u          /* a channel */
#define CHANNEL_CHUNKS_REACTOR 1024u    /* all channels of a reactor, first chunks not counted */
#define CHANNEL_FD_FRAMES_MAX 16u       /* frames with descriptors that wait */
#define CHANNEL_FDS_UNREAD_MAX 16u      /* descriptors sent and perhaps not read yet, a channel */
#define CHANNEL_FD_RETRY_MS 2           /* doubled each time */
#define CHANNEL_FD_RETRY_MAX_MS 100
#define CHANNEL_HELLO_NS UINT64_C(5000000000) /* without a session or any other call */
#define CHANNEL_STALL_NS UINT64_C(30000000000)

/* The largest piece of input that waits: a read on top of an unfinished frame. */
#define CHANNEL_INPUT_SIZE (CHANNEL_READ_SIZE + FRAME_MAX)

struct channel_chunk {
	struct channel_chunk *next;
	uint32_t start, end; /* data[start..end) is unsent */
	uint8_t data[CHANNEL_CHUNK_SIZE - 16];
};
_Static_assert(sizeof(struct channel_chunk) == CHANNEL_CHUNK_SIZE, "header and data");
_Static_assert(sizeof(((struct channel_chunk *)0)->data) >= FRAME_MAX, "any frame fits a chunk");

/* What the channels of a reactor share: the block that they read into, and spare chunks. */
struct channel_buffers {
	struct channel_chunk *spare;
	uint32_t nr_spare;
	uint32_t nr_extra; /* chunks in use beyond each channel's first */
	uint8_t input[CHANNEL_INPUT_SIZE];
};

struct channel_fd_frame {
	uint64_t at; /* offset of the frame in the stream of output */
	uint32_t n;
	int fd[FRAME_FDS_MAX];
};

struct channel_output {
	struct channel_chunk *first, *last;
	uint32_t nr_chunks;
	uint64_t queued, sent;         /* offsets in the stream */
	struct channel_fd_frame *fds;  /* ring of CHANNEL_FD_FRAMES_MAX; NULL until it is needed */
	uint32_t fds_first, fds_count;
	uint32_t fds_unread;
	uint64_t fds_end;      /* offset behind the last frame sent with some */
	uint64_t fds_since_ns; /* when fds_unread left 0 */
};

struct channel {
	uv_poll_t poll;
	uv_timer_t timer;
	struct reactor *reactor;
	int fd, events; /* those polled for */
	struct peer peer;
	struct channel *next, **prev; /* reactor->channels */
	struct channel *next_dirty;
	uint32_t refs; /* open; each uv handle; each pending call; dirty; being served */
	bool closed, control;
	bool dirty;
	bool serving;    /* its output will be sent when the input at hand is served */
	bool paused;     /* not read from: the output is full */
	bool blocked;    /* the socket took no more */
	bool fd_blocked; /* descriptors wait until the peer has read earlier ones */
	bool ending;     /* only what is queued is still sent */
	bool spoken;     /* it asked for something other than a session */
	bool streams_wait; /* calls that go on when there is room in the output */
	uint32_t fd_retry_ms; /* while fd_blocked */
	uint64_t hello_by_ns; /* the end of a connection that says nothing */
	uint64_t paused_ns;  /* when the stash was read */
	uint64_t stalled_ns; /* last progress of a blocked output */
	uint64_t timer_ns;   /* when the timer will fire; 0: not armed */
	uint8_t *stash;      /* input that could not be served yet */
	size_t stash_size;
	struct channel_output out;
	struct session *session;
	struct rpc_pending *pending; /* calls that may still be cancelled */
	struct rpc_pending *orphans; /* cancelled calls whose resume is on its way */
};

/* ---- channel.c ---- */

void channel_ref(struct channel *c);
void channel_unref(struct channel *c);
void channel_close_all(struct reactor *r, const char *why);
/* The stream makes no sense any more: one last Error with call 0, then the end. */
void channel_protocol_error(struct channel *c, int errno_value, const char *text);
/* Nothing more is read; the connection ends when what is queued has left. */
void channel_end(struct channel *c);
/* The timer fires then, or earlier. */
void channel_arm(struct channel *c, uint64_t at_ns);
void channel_flush_dirty(struct reactor *r);
/* Once a second while descriptors are unread: notes what peers have read, and closes the channels
 * of those who leave them there. */
void channel_tick(struct reactor *r);

/* ---- channel_output.c ---- */

int channel_buffers_new(struct channel_buffers **ret);
struct channel_buffers *channel_buffers_free(struct channel_buffers *b);

/* Room for a frame of `size` bytes in all; NULL: there is none, the channel is closed then. It is
 * queued by channel_output_commit(). */
uint8_t *channel_output_reserve(struct channel *c, size_t size);
void channel_output_commit(struct channel *c, size_t size);
/* The next frame committed carries these. -ENOSPC, -ENOMEM. */
int channel_output_attach(struct channel *c, const int fd[], size_t n);
bool channel_output_full(const struct channel *c);
bool channel_output_empty(const struct channel *c);
/* Sends what the socket takes: 0, also when something is left; a negative errno: the peer is gone. */
int channel_output_send(struct channel *c);
void channel_output_drop(struct channel *c);
void channel_output_note_read(struct channel *c);

#endif

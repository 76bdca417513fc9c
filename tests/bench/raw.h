/* SPDX-License-Identifier: MIT */
/*
 * A session without libkmm: frames by hand over one channel, and the control memory mapped. For
 * measuring the daemon's part alone.
 */
#ifndef TESTS_BENCH_RAW_H
#define TESTS_BENCH_RAW_H

#include <errno.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/frame.h"
#include "proto/kmm.pb.h"
#include "shm/control.h"
#include "shm/fdpass.h"
#include "shm/memfd.h"
#include "tests/bench/bench.h"

struct raw {
	int fd;
	uint32_t session;
	unsigned int granule_shift;
	struct control control;
};

__attribute__((noreturn, cold)) static inline void raw_fail(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static inline void raw_send(int fd, const void *buf, size_t size)
{
	if (send(fd, buf, size, MSG_NOSIGNAL) != (ssize_t)size)
		raw_fail("send");
}

static inline void raw_receive(int fd, void *buf, size_t size)
{
	for (size_t have = 0; have < size;) {
		ssize_t n = recv(fd, (char *)buf + have, size - have, 0);

		if (n <= 0)
			raw_fail("recv");
		have += (size_t)n;
	}
}

static inline size_t raw_put_frame(uint8_t *out, uint32_t call, uint16_t method,
                                   const pb_msgdesc_t *fields, const void *message)
{
	pb_ostream_t s = pb_ostream_from_buffer(out + FRAME_HEADER_SIZE, 512);

	if (!pb_encode(&s, fields, message))
		raw_fail("encode");
	struct frame f = {
		.length = (uint32_t)s.bytes_written,
		.call = call,
		.code = method,
		.kind = FRAME_REQUEST,
	};
	frame_encode(out, &f);
	return FRAME_HEADER_SIZE + s.bytes_written;
}

/* Reads one frame that must say OK; the body stays in buf. Descriptors go to fd[0..2). */
static inline struct frame raw_get_frame(int socket, uint8_t *buf, int fd[2])
{
	struct frame f;
	const char *why;
	size_t nfds = 2, have = 0;

	while (have < FRAME_HEADER_SIZE) {
		size_t room = nfds;
		ssize_t n = fdpass_receive(socket, buf + have, FRAME_HEADER_SIZE - have, fd, &room, 0);

		if (n <= 0)
			raw_fail("receive");
		nfds -= room;
		have += (size_t)n;
	}
	if (frame_decode(&f, buf, have, &why) != 0)
		raw_fail(why);
	raw_receive(socket, buf, f.length);
	if (f.code != STATUS_OK) {
		kmm_v1_Error e = kmm_v1_Error_init_zero;
		pb_istream_t s = pb_istream_from_buffer(buf, f.length);

		pb_decode(&s, kmm_v1_Error_fields, &e);
		fprintf(stderr, "bench: %s: %s\n", status_name(f.code), e.text);
		exit(1);
	}
	return f;
}

/* One call and its reply, on a channel that carries no descriptors. */
static inline void raw_call(struct raw *r, uint16_t method, const pb_msgdesc_t *request_fields,
                            const void *request, const pb_msgdesc_t *reply_fields, void *reply)
{
	static uint8_t buf[FRAME_MAX];
	int fd[2] = { -1, -1 };

	raw_send(r->fd, buf, raw_put_frame(buf, 1, method, request_fields, request));
	struct frame f = raw_get_frame(r->fd, buf, fd);
	pb_istream_t s = pb_istream_from_buffer(buf, f.length);

	if (!pb_decode(&s, reply_fields, reply))
		raw_fail("decode");
}

static inline kmm_v1_HelloReply raw_hello(int socket, const kmm_v1_HelloRequest *request, int fd[2])
{
	static uint8_t buf[FRAME_MAX];
	kmm_v1_HelloReply reply = kmm_v1_HelloReply_init_zero;

	raw_send(socket, buf,
	         raw_put_frame(buf, 1, kmm_v1_Method_ALLOCATOR_HELLO, kmm_v1_HelloRequest_fields,
	                       request));
	struct frame f = raw_get_frame(socket, buf, fd);
	pb_istream_t s = pb_istream_from_buffer(buf, f.length);

	if (!pb_decode(&s, kmm_v1_HelloReply_fields, &reply))
		raw_fail("decode");
	return reply;
}

static inline int raw_connect(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0)
		raw_fail("connect");
	return fd;
}

static inline void raw_open(struct raw *r, const char *path, const char *name)
{
	kmm_v1_HelloRequest hello = kmm_v1_HelloRequest_init_zero;
	struct control_layout layout;
	int fd[2] = { -1, -1 };
	void *words, *views;

	hello.version = PROTOCOL_VERSION;
	hello.control = true;
	snprintf(hello.name, sizeof(hello.name), "%s", name);
	kmm_v1_HelloReply reply = raw_hello(raw_connect(path), &hello, fd);
	struct control_geometry g = {
		.frames = reply.frames,
		.high_start = reply.high_start,
		.high_frames = reply.high_frames,
		.section_order = reply.section_order,
		.sessions = reply.sessions,
		.magazines = reply.magazines,
	};

	if (control_layout_compute(&layout, &g) != 0 ||
	    shm_map(&words, NULL, fd[0], layout.words_size, true) != 0 ||
	    shm_map(&views, NULL, fd[1], layout.views_size, false) != 0)
		raw_fail("control memory");
	control_attach(&r->control, &g, words, views);
	r->session = reply.session;
	r->granule_shift = control_granule_shift(control_pages(&g));

	hello.control = false;
	hello.session = reply.session;
	memcpy(hello.token, reply.token, sizeof(hello.token));
	memcpy(hello.uuid, reply.uuid, sizeof(hello.uuid));
	r->fd = raw_connect(path);
	raw_hello(r->fd, &hello, fd);
}

#endif

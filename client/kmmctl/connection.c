/* SPDX-License-Identifier: MIT */
/*
 * One blocking conversation with the daemon.
 *
 * A call is a REQUEST frame and what comes back under its id: ITEM frames of a stream, then one
 * REPLY that ends it. Only one call is under way, so every frame received must be of that call;
 * anything else is a protocol error and ends the connection. The frame header carries the time that
 * the call may take, so that the daemon gives up when nobody waits any more; the socket waits one
 * second longer than that, to hear the daemon say so.
 *
 * Both buffers are of the largest frame's size and belong to the connection: a call allocates
 * nothing. Descriptors are never asked for; plain recv() drops those that come unasked.
 */
#include "client/kmmctl/connection.h"

#include <errno.h>
#include <inttypes.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "proto/frame.h"

#define SYSTEM_ADDRESS "/run/kmmd/kmmd.sock"
#define REPLY_SLACK_MS 1000u

struct connection {
	int fd;
	uint32_t last_call;
	uint32_t patience_ms; /* for an answer */
	kmm_v1_HelloReply hello;
	char error[512];
	uint8_t out[FRAME_MAX];
	uint8_t in[FRAME_MAX];
};

static enum connection_result fail(struct connection *c, enum connection_result result,
                                   const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static enum connection_result fail(struct connection *c, enum connection_result result,
                                   const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(c->error, sizeof(c->error), fmt, args);
	va_end(args);
	if (result != CONNECTION_REFUSED && c->fd >= 0) {
		close(c->fd);
		c->fd = -1;
	}
	return result;
}

/* ---- bytes ---- */

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static enum connection_result wait_for(struct connection *c, short events, uint64_t until_ms)
{
	for (;;) {
		struct pollfd p = { .fd = c->fd, .events = events };
		uint64_t now = now_ms();
		int r;

		if (now >= until_ms)
			return fail(c, CONNECTION_FAILED,
			            "the daemon did not answer in %u s; is it stopped or "
			            "overloaded, or does it refuse to start? Its log says",
			            c->patience_ms / 1000);
		r = poll(&p, 1, (int)(until_ms - now));
		if (r > 0)
			return CONNECTION_OK;
		if (r < 0 && errno != EINTR)
			return fail(c, CONNECTION_FAILED, "poll: %s", strerror(errno));
	}
}

static enum connection_result send_all(struct connection *c, size_t n, uint64_t until_ms)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = send(c->fd, c->out + done, n - done, MSG_NOSIGNAL | MSG_DONTWAIT);
		enum connection_result result;

		if (r >= 0) {
			done += (size_t)r;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return fail(c, CONNECTION_NO_DAEMON,
			            "the daemon closed the connection (%s)", strerror(errno));
		result = wait_for(c, POLLOUT, until_ms);
		if (result != CONNECTION_OK)
			return result;
	}
	return CONNECTION_OK;
}

static enum connection_result receive_all(struct connection *c, size_t from, size_t n,
                                          uint64_t until_ms)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = recv(c->fd, c->in + from + done, n - done, MSG_DONTWAIT);
		enum connection_result result;

		if (r > 0) {
			done += (size_t)r;
			continue;
		}
		if (r == 0)
			return fail(c, CONNECTION_NO_DAEMON,
			            "the daemon closed the connection before it answered");
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return fail(c, CONNECTION_NO_DAEMON, "the daemon is gone (%s)",
			            strerror(errno));
		result = wait_for(c, POLLIN, until_ms);
		if (result != CONNECTION_OK)
			return result;
	}
	return CONNECTION_OK;
}

/* ---- frames ---- */

static enum connection_result send_request(struct connection *c, kmm_v1_Method method,
                                           const pb_msgdesc_t *type, const void *request,
                                           uint64_t until_ms)
{
	pb_ostream_t stream = pb_ostream_from_buffer(c->out + FRAME_HEADER_SIZE, FRAME_BODY_MAX);
	int cpu = sched_getcpu();
	struct frame f = {
		.code = (uint16_t)method,
		.kind = FRAME_REQUEST,
		.cpu = cpu > 0 ? (uint16_t)cpu : 0,
		.timeout_us = (uint64_t)c->patience_ms * 1000,
	};

	if (!pb_encode(&stream, type, request))
		return fail(c, CONNECTION_FAILED, "cannot encode the request: %s",
		            PB_GET_ERROR(&stream));
	if (++c->last_call == 0)
		c->last_call = 1;
	f.call = c->last_call;
	f.length = (uint32_t)stream.bytes_written;
	frame_encode(c->out, &f);
	return send_all(c, FRAME_HEADER_SIZE + f.length, until_ms);
}

static enum connection_result receive_frame(struct connection *c, struct frame *f,
                                            uint64_t until_ms)
{
	enum connection_result result = receive_all(c, 0, FRAME_HEADER_SIZE, until_ms);
	const char *why = "its body is too long";

	if (result != CONNECTION_OK)
		return result;
	if (frame_decode(f, c->in, FRAME_HEADER_SIZE, &why) < 0)
		return fail(c, CONNECTION_FAILED, "the daemon's answer makes no sense: %s", why);
	if (f->call != c->last_call || (f->kind != FRAME_REPLY && f->kind != FRAME_ITEM))
		return fail(c, CONNECTION_FAILED,
		            "the daemon sent a frame of kind %u for call %" PRIu32
		            " while call %" PRIu32 " waited",
		            f->kind, f->call, c->last_call);
	return receive_all(c, FRAME_HEADER_SIZE, f->length, until_ms);
}

static enum connection_result decode_body(struct connection *c, const struct frame *f,
                                          const pb_msgdesc_t *type, void *message)
{
	pb_istream_t stream = pb_istream_from_buffer(c->in + FRAME_HEADER_SIZE, f->length);

	if (!pb_decode(&stream, type, message))
		return fail(c, CONNECTION_FAILED, "cannot decode the daemon's answer: %s",
		            PB_GET_ERROR(&stream));
	return CONNECTION_OK;
}

static enum connection_result refused(struct connection *c, const struct frame *f)
{
	pb_istream_t stream = pb_istream_from_buffer(c->in + FRAME_HEADER_SIZE, f->length);
	kmm_v1_Error e = kmm_v1_Error_init_zero;

	if (!pb_decode(&stream, kmm_v1_Error_fields, &e) || !e.text[0])
		return fail(c, CONNECTION_REFUSED, "refused: %s",
		            status_name((enum status_code)f->code));
	return fail(c, CONNECTION_REFUSED, "%s", e.text);
}

/* ---- calls ---- */

/* With `each` NULL the reply's body goes into `message`, else every item's. */
static enum connection_result exchange(struct connection *c, kmm_v1_Method method,
                                       const pb_msgdesc_t *request_type, const void *request,
                                       const pb_msgdesc_t *type, void *message,
                                       connection_item_fn each, void *ctx)
{
	uint64_t until_ms = now_ms() + c->patience_ms + REPLY_SLACK_MS;
	enum connection_result result;

	if (c->fd < 0)
		return CONNECTION_NO_DAEMON;
	c->error[0] = '\0';
	result = send_request(c, method, request_type, request, until_ms);
	while (result == CONNECTION_OK) {
		struct frame f;

		result = receive_frame(c, &f, until_ms);
		if (result != CONNECTION_OK)
			break;
		if (f.kind == FRAME_REPLY) {
			if (f.code != STATUS_OK)
				return refused(c, &f);
			return each ? CONNECTION_OK : decode_body(c, &f, type, message);
		}
		if (!each)
			return fail(c, CONNECTION_FAILED,
			            "the daemon streams an answer that should be a single one");
		result = decode_body(c, &f, type, message);
		if (result == CONNECTION_OK && !each(ctx, message))
			return fail(c, CONNECTION_FAILED, "out of memory");
	}
	return result;
}

void connection_patience(struct connection *c, uint32_t ms)
{
	c->patience_ms = ms;
}

enum connection_result connection_call(struct connection *c, kmm_v1_Method method,
                                       const pb_msgdesc_t *request_type, const void *request,
                                       const pb_msgdesc_t *reply_type, void *reply)
{
	return exchange(c, method, request_type, request, reply_type, reply, NULL, NULL);
}

enum connection_result connection_stream(struct connection *c, kmm_v1_Method method,
                                         const pb_msgdesc_t *request_type, const void *request,
                                         const pb_msgdesc_t *item_type, void *item,
                                         connection_item_fn each, void *ctx)
{
	return exchange(c, method, request_type, request, item_type, item, each, ctx);
}

/* ---- opening ---- */

/* Negative errno; the socket is blocking only in connect(), everything later polls. */
static int connect_to(struct connection *c, const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	size_t length = strlen(path);
	int r;

	if (length == 0 || length >= sizeof(a.sun_path))
		return -ENAMETOOLONG;
	memcpy(a.sun_path, path, length + 1);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	while (connect(c->fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		if (errno == EINTR)
			continue;
		r = -errno;
		close(c->fd);
		c->fd = -1;
		return r;
	}
	return 0;
}

static enum connection_result connect_failed(struct connection *c, const char *path, int error)
{
	switch (error) {
	case -ENOENT:
		return fail(c, CONNECTION_NO_DAEMON,
		            "no daemon: %s does not exist; start kmmd, or name its socket with "
		            "--socket or $KMM_ADDRESS", path);
	case -ECONNREFUSED:
		return fail(c, CONNECTION_NO_DAEMON,
		            "no daemon: nobody listens on %s; start kmmd, or name its socket with "
		            "--socket or $KMM_ADDRESS", path);
	case -EACCES:
	case -EPERM:
		return fail(c, CONNECTION_REFUSED,
		            "%s: permission denied; the socket is for root and the daemon's group",
		            path);
	case -ENAMETOOLONG:
		return fail(c, CONNECTION_FAILED,
		            "%s: a socket's path has 1 to %zu characters", path,
		            sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	default:
		return fail(c, CONNECTION_FAILED, "%s: %s", path, strerror(-error));
	}
}

static enum connection_result connect_default(struct connection *c)
{
	const char *address = getenv("KMM_ADDRESS");
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char path[256];
	int r, n;

	if (address && address[0]) {
		r = connect_to(c, address);
		return r < 0 ? connect_failed(c, address, r) : CONNECTION_OK;
	}
	r = connect_to(c, SYSTEM_ADDRESS);
	if (r == 0)
		return CONNECTION_OK;
	if ((r != -ENOENT && r != -ECONNREFUSED) || !runtime || !runtime[0])
		return connect_failed(c, SYSTEM_ADDRESS, r);
	n = snprintf(path, sizeof(path), "%s/kmmd/kmmd.sock", runtime);
	if (n < 0 || (size_t)n >= sizeof(path))
		return connect_failed(c, SYSTEM_ADDRESS, r);
	r = connect_to(c, path);
	if (r == -ENOENT || r == -ECONNREFUSED)
		return fail(c, CONNECTION_NO_DAEMON,
		            "no daemon: nobody listens on %s or %s; start kmmd, or name its socket "
		            "with --socket or $KMM_ADDRESS", SYSTEM_ADDRESS, path);
	return r < 0 ? connect_failed(c, path, r) : CONNECTION_OK;
}

static enum connection_result say_hello(struct connection *c, const char *domain)
{
	kmm_v1_HelloRequest request = kmm_v1_HelloRequest_init_zero;

	if (domain && strlen(domain) >= sizeof(request.domain))
		return fail(c, CONNECTION_FAILED, "a domain's name has at most %zu characters",
		            sizeof(request.domain) - 1);
	request.version = PROTOCOL_VERSION;
	request.observe = true;
	strcpy(request.name, "kmmctl");
	if (domain)
		strcpy(request.domain, domain);
	return connection_call(c, kmm_v1_Method_ALLOCATOR_HELLO, kmm_v1_HelloRequest_fields,
	                       &request, kmm_v1_HelloReply_fields, &c->hello);
}

enum connection_result connection_open(struct connection **ret, const char *address,
                                       const char *domain)
{
	struct connection *c = calloc(1, sizeof(*c));
	enum connection_result result;
	int r;

	*ret = c;
	if (!c)
		return CONNECTION_FAILED;
	c->fd = -1;
	c->patience_ms = CONNECTION_TIMEOUT_MS;
	if (address) {
		r = connect_to(c, address);
		result = r < 0 ? connect_failed(c, address, r) : CONNECTION_OK;
	} else {
		result = connect_default(c);
	}
	if (result != CONNECTION_OK)
		return result;
	return say_hello(c, domain);
}

struct connection *connection_close(struct connection *c)
{
	if (c) {
		if (c->fd >= 0)
			close(c->fd);
		free(c);
	}
	return NULL;
}

const char *connection_error(const struct connection *c)
{
	/* What fails without a text of its own, between calls, lacks memory. */
	return c && c->error[0] ? c->error : "out of memory";
}

const kmm_v1_HelloReply *connection_hello(const struct connection *c)
{
	return &c->hello;
}

/* SPDX-License-Identifier: MIT */
/*
 * Connecting to the daemon and the hello, the first call of every connection.
 *
 * Sockets block, but for a tenth of a second at most: whoever reads or writes looks at its deadline
 * and at the session's state between two attempts.
 */
#include "client/internal.h"

#include <pb_decode.h>
#include <pb_encode.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SOCKET_WAIT_US 100000
#define BACKLOG_NAP_NS 2000000

static void nap(long ns)
{
	struct timespec t = { .tv_nsec = ns };

	nanosleep(&t, NULL);
}

static int connect_refused(int err, const char *address)
{
	switch (err) {
	case ENOENT:
		return error_set(err, "no daemon: there is no socket %s", address);
	case ECONNREFUSED:
		return error_set(err, "no daemon listens on %s", address);
	case EACCES:
	case EPERM:
		return error_set(EACCES,
		                 "this user may not connect to %s (is it in the socket's group?)",
		                 address);
	default:
		return error_set(err, "cannot connect to %s: error %d", address, err);
	}
}

int connect_socket(struct process_fd *p, const char *address, uint64_t deadline)
{
	struct timeval wait = { .tv_usec = SOCKET_WAIT_US };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int r;

	if (strlen(address) >= sizeof(un.sun_path))
		return error_set(EINVAL, "the socket's path has more than %zu bytes: %.80s...",
		                 sizeof(un.sun_path) - 1, address);
	memcpy(un.sun_path, address, strlen(address) + 1);
	r = process_fd_open(p, PROCESS_SOCKET);
	if (r < 0)
		return r;
	setsockopt(p->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	setsockopt(p->fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	while (connect(p->fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
		r = errno;
		/* EAGAIN: the backlog is full */
		if ((r == EAGAIN || r == EINTR) && process_now() < deadline) {
			nap(BACKLOG_NAP_NS);
			continue;
		}
		process_fd_close(p);
		if (r == EAGAIN || r == EINTR)
			return error_set(ETIMEDOUT, "%s accepted no connection in time", address);
		return connect_refused(r, address);
	}
	return 0;
}

static int send_all(int fd, const uint8_t *buf, size_t size, uint64_t deadline)
{
	while (size > 0) {
		ssize_t n = send(fd, buf, size, MSG_NOSIGNAL);

		if (n > 0) {
			buf += n;
			size -= (size_t)n;
		} else if (errno != EAGAIN && errno != EINTR) {
			return -errno;
		} else if (process_now() >= deadline) {
			return -ETIMEDOUT;
		}
	}
	return 0;
}

/* Reads one whole frame; what follows it stays in the socket. A cancel or a close ends it. */
static int receive_frame(struct kmm *s, int fd, struct frame *f, uint8_t *buf, size_t room,
                         int fds[], size_t *nfds, uint64_t deadline)
{
	/* acquire: pairs with kmm_cancel */
	uint32_t cancels = atomic_load_explicit(&s->cancels, memory_order_acquire);
	size_t have = 0, want = FRAME_HEADER_SIZE, max = *nfds;
	enum session_state state = session_state(s);
	const char *why;
	int r;

	*nfds = 0;
	while (have < want) {
		size_t k = max - *nfds;
		ssize_t n = fdpass_receive(fd, buf + have, want - have, fds + *nfds, &k, 0);

		if (n == -EAGAIN) {
			if (process_now() >= deadline)
				return -ETIMEDOUT;
			r = connect_lifeline(s); /* a socket may listen though nobody is behind it */
			if (r < 0)
				return r;
			if (session_state(s) != state ||
			    atomic_load_explicit(&s->cancels, memory_order_acquire) != cancels)
				return -ECANCELED;
			continue;
		}
		if (n <= 0)
			return n < 0 ? (int)n : -ECONNRESET;
		*nfds += k;
		have += (size_t)n;
		if (have < FRAME_HEADER_SIZE || want > FRAME_HEADER_SIZE)
			continue;
		r = frame_decode(f, buf, have, &why);
		if (r < 0 || f->length > room - FRAME_HEADER_SIZE)
			return -EPROTO;
		want += f->length;
	}
	return 0;
}

int call_refused(uint16_t status, const uint8_t *body, size_t size)
{
	kmm_v1_Error e = kmm_v1_Error_init_zero;
	pb_istream_t in = pb_istream_from_buffer(body, size);

	if (!pb_decode(&in, kmm_v1_Error_fields, &e) || e.errno_value <= 0 || e.errno_value > 4095)
		return error_set(EPROTO, "the daemon answered %s without a reason",
		                 status_name((enum status_code)status));
	return error_set(e.errno_value, "%s", e.text);
}

int connect_lifeline(struct kmm *k)
{
	/* once there it stays the session's to the end, whoever polls it (control_connect) */
	struct pollfd p = { .fd = process_fd_get(&k->lifeline_fd) };

	/* poll passes over a descriptor of -1 */
	if (poll(&p, 1, 0) <= 0 || !(p.revents & POLLHUP))
		return 0;
	return error_set(ENOTRECOVERABLE, "kmmd was stopped, and nobody keeps the memory for a next one");
}

static int hello_encode(struct kmm *k, uint8_t *buf, size_t room, bool control, uint32_t cpu,
                        uint64_t deadline, size_t *size)
{
	kmm_v1_HelloRequest q = kmm_v1_HelloRequest_init_zero;
	pb_ostream_t out =
		pb_ostream_from_buffer(buf + FRAME_HEADER_SIZE, room - FRAME_HEADER_SIZE);
	struct frame f = {.call = 1, .code = kmm_v1_Method_ALLOCATOR_HELLO, .kind = FRAME_REQUEST};
	uint64_t now = process_now();

	q.version = PROTOCOL_VERSION;
	snprintf(q.name, sizeof(q.name), "%s", k->name);
	snprintf(q.domain, sizeof(q.domain), "%s", k->domain);
	q.session = k->id;
	memcpy(q.token, k->token, sizeof(q.token));
	memcpy(q.uuid, k->uuid, sizeof(q.uuid));
	q.control = control;
	q.features = control ? kmm_v1_Feature_LIFELINE : 0;
	if (!pb_encode(&out, kmm_v1_HelloRequest_fields, &q))
		return error_set(EPROTO, "the hello does not fit its frame");
	f.length = (uint32_t)out.bytes_written;
	f.cpu = (uint16_t)cpu;
	f.timeout_us = deadline == DEADLINE_NONE ? 0
	               : deadline > now          ? (deadline - now) / 1000 + 1
	                                         : 1;
	frame_encode(buf, &f);
	*size = FRAME_HEADER_SIZE + f.length;
	return 0;
}

static int hello_lost(int r)
{
	if (r == -ENOTRECOVERABLE)
		return r;
	if (r == -ETIMEDOUT)
		return error_set(ETIMEDOUT, "the daemon did not answer the hello in time");
	if (r == -ECANCELED)
		return error_set(ECANCELED, "cancelled before the daemon answered the hello");
	return error_set(r == -EPROTO ? EPROTO : ECONNREFUSED, r == -EPROTO ? "the answer to the "
	                                                                      "hello is no frame "
	                                                                      "of this protocol"
	                                                                    : "the daemon ended "
	                                                                      "the connection "
	                                                                      "before it answered "
	                                                                      "the hello");
}

int connect_hello(struct kmm *k, int fd, bool control, uint32_t cpu, uint64_t deadline,
                  kmm_v1_HelloReply *reply, int fds[3])
{
	uint8_t buf[FRAME_HEADER_SIZE + CALL_REPLY_MAX];
	kmm_v1_HelloReply p = kmm_v1_HelloReply_init_zero;
	int got[4];
	size_t size = 0, nfds = 4, i;
	struct frame f;
	pb_istream_t in;
	int r;

	r = hello_encode(k, buf, sizeof(buf), control, cpu, deadline, &size);
	if (r < 0)
		return r;
	r = send_all(fd, buf, size, deadline);
	if (r == 0)
		r = receive_frame(k, fd, &f, buf, sizeof(buf), got, &nfds, deadline);
	else
		nfds = 0;
	if (r < 0) {
		r = hello_lost(r);
		goto close_fds;
	}
	if (f.kind == FRAME_REPLY && f.code != STATUS_OK) {
		r = call_refused(f.code, buf + FRAME_HEADER_SIZE, f.length);
		goto close_fds;
	}
	in = pb_istream_from_buffer(buf + FRAME_HEADER_SIZE, f.length);
	if (f.kind != FRAME_REPLY || f.call != 1 || !pb_decode(&in, kmm_v1_HelloReply_fields, &p) ||
	    (fds && nfds != 2 && nfds != 3)) {
		r = error_set(EPROTO, "the answer to the hello makes no sense");
		goto close_fds;
	}
	if (p.version != PROTOCOL_VERSION) {
		r = error_set(EPROTO, "the daemon speaks protocol version %u, the library %u",
		              p.version, PROTOCOL_VERSION);
		goto close_fds;
	}
	*reply = p;
	if (fds) {
		fds[0] = got[0];
		fds[1] = got[1];
		fds[2] = nfds > 2 ? got[2] : -1;
		return 0;
	}
close_fds:
	for (i = 0; i < nfds; i++)
		close(got[i]);
	return r;
}

/* SPDX-License-Identifier: MIT */
/*
 * Connections shared by threads (client/channel.c), against a peer in this file.
 *
 *     threads --requests--> socketpair --> peer: answers in any order, breaks off, or is silent
 *
 * A request's body is a number; the peer's answer is the number plus one. What the peer does with
 * it is chosen by the method.
 */
#include <check.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/internal.h"
#include "tests/suite.h"

enum method {
	ANSWER = 1, /* at once */
	LATER,      /* after the next request was answered */
	PARK,       /* when it is cancelled */
	WITH_FDS,   /* with two descriptors */
	TOO_LONG,   /* with a body that no reply has */
	NONSENSE,   /* bytes that are no frame */
	UNASKED,    /* a reply to a call that nobody made */
	HANG_UP,
	SILENCE,
	STALL, /* as a notification: the peer reads no more for a while */
};

static struct kmm k;
static struct channel *channel;
static pthread_t peer_thread;
static int peer_fd;

/* ---- what channel.c asks of others ---- */

int connect_socket(struct process_fd *p, const char *address, uint64_t deadline)
{
	int fd[2];

	(void)address;
	(void)deadline;
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	p->fd = fd[0];
	peer_fd = fd[1];
	setsockopt(fd[0], SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ .tv_usec = 20000 },
	           sizeof(struct timeval));
	setsockopt(fd[0], SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){ .tv_usec = 20000 },
	           sizeof(struct timeval));
	return 0;
}

int connect_hello(struct kmm *s, int fd, bool control, uint32_t cpu, uint64_t deadline,
                  kmm_v1_HelloReply *reply, int fds[3])
{
	(void)s, (void)fd, (void)control, (void)cpu, (void)deadline, (void)reply, (void)fds;
	return 0;
}

void process_fd_close(struct process_fd *p)
{
	close(p->fd);
	p->fd = -1;
}

static unsigned int untold;

void session_untold(struct kmm *s)
{
	(void)s;
	untold++;
}

int error_set(int err, const char *fmt, ...)
{
	(void)fmt;
	return -err;
}

/* ---- the peer ---- */

static void peer_send(uint32_t call, uint8_t kind, const void *body, uint32_t size, const int fd[],
                      size_t nfds)
{
	static uint8_t buf[FRAME_MAX];
	struct frame f = { .length = size, .call = call, .kind = kind, .nfds = (uint8_t)nfds };
	struct iovec iov = { .iov_base = buf, .iov_len = FRAME_HEADER_SIZE + size };
	ssize_t n;

	frame_encode(buf, &f);
	memcpy(buf + FRAME_HEADER_SIZE, body, size);
	if (nfds) {
		ck_assert_int_eq(fdpass_send(peer_fd, &iov, 1, fd, nfds), (ssize_t)iov.iov_len);
		return;
	}
	/* in two pieces: frames come as bytes */
	n = send(peer_fd, buf, 5, MSG_NOSIGNAL);
	if (n == 5)
		n += send(peer_fd, buf + 5, iov.iov_len - 5, MSG_NOSIGNAL);
	/* What is asked at a test's end may be answered after it. */
	ck_assert(n == (ssize_t)iov.iov_len || errno == EPIPE || errno == ECONNRESET);
}

static void peer_answer(uint32_t call, uint64_t number)
{
	number++;
	peer_send(call, FRAME_REPLY, &number, sizeof(number), NULL, 0);
}

static uint32_t later_call, parked[256], nr_parked;
static uint64_t later_number;
static _Atomic uint32_t notified;
static _Atomic bool stalled, stalling; /* the peer shall not read; it does not */

static bool peer_serve(const struct frame *f, uint64_t number)
{
	static const uint8_t noise[FRAME_BODY_MAX] = { 0xff };
	uint32_t i;
	int fd[2];

	if (f->kind == FRAME_NOTIFY && f->code == STALL) {
		atomic_store(&stalling, true);
		while (atomic_load(&stalled))
			sched_yield();
		return true;
	}
	if (f->kind == FRAME_NOTIFY) {
		ck_assert_uint_eq(f->call, 0);
		notified++;
		return true;
	}
	if (f->kind == FRAME_CANCEL) {
		for (i = 0; i < nr_parked; i++)
			if (parked[i] == f->call)
				peer_answer(f->call, 99);
		return true;
	}
	switch ((enum method)f->code) {
	case ANSWER:
		peer_answer(f->call, number);
		if (later_call)
			peer_answer(later_call, later_number);
		later_call = 0;
		return true;
	case LATER:
		if (later_call)
			peer_answer(later_call, later_number);
		later_call = f->call;
		later_number = number;
		return true;
	case PARK:
		parked[nr_parked++ % 256] = f->call;
		return true;
	case WITH_FDS:
		ck_assert_int_eq(pipe(fd), 0);
		number++;
		peer_send(f->call, FRAME_REPLY, &number, sizeof(number), fd, 2);
		close(fd[0]);
		close(fd[1]);
		return true;
	case TOO_LONG:
		peer_send(f->call, FRAME_REPLY, noise, CALL_REPLY_MAX + 1, NULL, 0);
		return true;
	case NONSENSE:
		send(peer_fd, noise, 100, MSG_NOSIGNAL);
		return true;
	case UNASKED:
		peer_answer(f->call + 1000, number);
		return true;
	case HANG_UP:
		return false;
	case STALL:
	case SILENCE:
		return true;
	}
	return false;
}

static bool read_whole(void *buf, size_t size)
{
	return recv(peer_fd, buf, size, MSG_WAITALL) == (ssize_t)size;
}

static void *peer_main(void *arg)
{
	uint8_t head[FRAME_HEADER_SIZE];
	const char *why;
	uint64_t number = 0;
	struct frame f;

	while (read_whole(head, sizeof(head))) {
		ck_assert_int_eq(frame_decode(&f, head, sizeof(head), &why), 0);
		ck_assert(f.length == 0 || f.length == sizeof(number));
		if (f.length && !read_whole(&number, sizeof(number)))
			break;
		if (!peer_serve(&f, number))
			break;
	}
	shutdown(peer_fd, SHUT_RDWR);
	return arg;
}

static void setup(void)
{
	later_call = nr_parked = untold = 0;
	atomic_store(&notified, 0);
	ck_assert_int_eq(channel_open(&channel, &k, 0, DEADLINE_NONE), 0);
	ck_assert_int_eq(pthread_create(&peer_thread, NULL, peer_main, NULL), 0);
}

static void teardown(void)
{
	channel_break(channel, -ECANCELED);
	channel_put(channel);
	pthread_join(peer_thread, NULL);
	close(peer_fd);
}

/* ---- the test's side ---- */

static int call_it(struct call *call, enum method method, uint64_t number, uint64_t deadline)
{
	uint8_t frame[FRAME_HEADER_SIZE + sizeof(number)];
	int r;

	memcpy(frame + FRAME_HEADER_SIZE, &number, sizeof(number));
	call->cancellable = method == PARK;
	call->deadline = deadline;
	r = channel_submit(channel, call, frame, sizeof(number), (uint16_t)method, 0);
	return r < 0 ? r : channel_wait(channel, call);
}

static uint64_t answer_of(const struct call *call)
{
	uint64_t number;

	ck_assert_int_eq(call->status, STATUS_OK);
	ck_assert_uint_eq(call->reply_size, sizeof(number));
	memcpy(&number, call->reply, sizeof(number));
	return number;
}

START_TEST(one_after_the_other)
{
	struct call call;
	uint64_t i;

	for (i = 0; i < 1000; i++) {
		ck_assert_int_eq(call_it(&call, ANSWER, i, DEADLINE_NONE), 0);
		ck_assert_uint_eq(answer_of(&call), i + 1);
	}
}
END_TEST

static void *caller(void *arg)
{
	uint64_t first = (uint64_t)(uintptr_t)arg, i;
	struct call call;

	for (i = first; i < first + 400; i++) {
		ck_assert_int_eq(call_it(&call, i % 3 ? ANSWER : LATER, i, DEADLINE_NONE), 0);
		ck_assert_uint_eq(answer_of(&call), i + 1);
	}
	return NULL;
}

static void *ticker(void *arg)
{
	_Atomic bool *stop = arg;
	struct call call;

	/* what is answered later needs a further request */
	while (!atomic_load(stop))
		ck_assert_int_eq(call_it(&call, ANSWER, 0, DEADLINE_NONE), 0);
	return NULL;
}

START_TEST(many_threads_share_it)
{
	enum { THREADS = 8 };
	pthread_t t[THREADS], tick;
	_Atomic bool stop = false;
	uintptr_t i;

	pthread_create(&tick, NULL, ticker, &stop);
	for (i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, caller, (void *)(i * 1000000));
	for (i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	atomic_store(&stop, true);
	pthread_join(tick, NULL);
}
END_TEST

struct parked_call {
	pthread_t thread;
	struct call call;
	int result;
	_Atomic bool done;
};

static void *park(void *arg)
{
	struct parked_call *p = arg;

	p->result = call_it(&p->call, PARK, 0, DEADLINE_NONE);
	atomic_store(&p->done, true);
	return NULL;
}

START_TEST(waiting_calls_hold_nothing)
{
	struct parked_call p[5];
	struct call call;
	uint64_t i;

	for (i = 0; i < 5; i++) {
		atomic_init(&p[i].done, false);
		pthread_create(&p[i].thread, NULL, park, &p[i]);
	}
	for (i = 0; i < 500; i++) {
		ck_assert_int_eq(call_it(&call, ANSWER, i, DEADLINE_NONE), 0);
		ck_assert_uint_eq(answer_of(&call), i + 1);
	}
	for (i = 0; i < 5; i++) {
		while (!atomic_load(&p[i].done)) {
			channel_cancel(channel, NULL);
			sched_yield();
		}
		pthread_join(p[i].thread, NULL);
		ck_assert_int_eq(p[i].result, 0);
		ck_assert_uint_eq(answer_of(&p[i].call), 100);
	}
}
END_TEST

START_TEST(descriptors_come_with_their_reply)
{
	struct call call;
	int i, before = dup(0);
	char c = 'x';

	close(before);
	for (i = 0; i < 100; i++) {
		ck_assert_int_eq(call_it(&call, WITH_FDS, 5, DEADLINE_NONE), 0);
		ck_assert_uint_eq(answer_of(&call), 6);
		ck_assert_uint_eq(call.nfds, 2);
		ck_assert_int_eq(write(call.fd[1], &c, 1), 1);
		ck_assert_int_eq(read(call.fd[0], &c, 1), 1);
		ck_assert_int_ne(fcntl(call.fd[0], F_GETFD) & FD_CLOEXEC, 0);
		call_close_fds(&call);
	}
	/* the peer, which answers one after the other, has closed its own by now */
	ck_assert_int_eq(call_it(&call, ANSWER, 1, DEADLINE_NONE), 0);
	i = dup(0);
	ck_assert_int_eq(i, before); /* none leaked */
	close(i);
}
END_TEST

START_TEST(too_long_a_reply_is_an_error_of_its_call)
{
	struct call call;

	ck_assert_int_eq(call_it(&call, TOO_LONG, 0, DEADLINE_NONE), 0);
	ck_assert_int_eq(call.status, STATUS_INTERNAL);
	ck_assert_uint_eq(call.reply_size, 0);
	ck_assert_int_eq(call_it(&call, ANSWER, 1, DEADLINE_NONE), 0);
	ck_assert_uint_eq(answer_of(&call), 2);
}
END_TEST

static const struct {
	enum method method;
	int error;
} breaks[] = {
	{ NONSENSE, -EPROTO },
	{ UNASKED, -EPROTO },
	{ HANG_UP, -ECONNRESET },
};

START_TEST(a_break_ends_all_calls)
{
	struct parked_call p[4];
	struct call call;
	int i;

	for (i = 0; i < 4; i++) {
		atomic_init(&p[i].done, false);
		pthread_create(&p[i].thread, NULL, park, &p[i]);
	}
	ck_assert_int_eq(call_it(&call, breaks[_i].method, 0, DEADLINE_NONE), breaks[_i].error);
	ck_assert(channel_broken(channel));
	for (i = 0; i < 4; i++) {
		pthread_join(p[i].thread, NULL);
		ck_assert_int_eq(p[i].result, breaks[_i].error);
	}
	ck_assert_int_lt(call_it(&call, ANSWER, 0, DEADLINE_NONE), 0);
}
END_TEST

/* What nobody waits for goes in order with the rest; when the connection breaks, the session is told
 * that some of it may be lost. */
START_TEST(notifications_are_sent_and_not_answered)
{
	uint8_t frame[FRAME_HEADER_SIZE + 8] = { 0 };
	struct call call;
	uint32_t i;

	for (i = 0; i < 100; i++)
		ck_assert_int_eq(channel_notify(channel, frame, 8, ANSWER), 0);
	ck_assert_int_eq(call_it(&call, ANSWER, 1, DEADLINE_NONE), 0);
	ck_assert_uint_eq(notified, 100);
	ck_assert_uint_eq(untold, 0);
	channel_break(channel, -ECONNRESET);
	ck_assert_uint_eq(untold, 1);
	ck_assert_int_eq(channel_notify(channel, frame, 8, ANSWER), -ECONNRESET);
}
END_TEST

static void stall(uint8_t *frame)
{
	atomic_store(&stalled, true);
	ck_assert_int_eq(channel_notify(channel, frame, 8, STALL), 0);
	while (!atomic_load(&stalling))
		sched_yield();
}

/* A daemon that does not read holds nobody up: what does not fit is left to the session, the rest
 * arrives whole. */
START_TEST(notifications_do_not_wait_for_a_daemon_that_does_not_read)
{
	uint8_t frame[FRAME_HEADER_SIZE + 8] = { 0 };
	uint32_t sent = 0;
	struct call call;

	stall(frame);
	while (channel_notify(channel, frame, 8, ANSWER) == 0)
		sent++;
	ck_assert_int_eq(channel_notify(channel, frame, 8, ANSWER), -ENOBUFS);
	ck_assert(!channel_broken(channel));
	atomic_store(&stalled, false);
	ck_assert_int_eq(call_it(&call, ANSWER, 1, DEADLINE_NONE), 0);
	ck_assert_uint_eq(notified, sent);
}
END_TEST

/* A call to it ends at its deadline though it could not be sent. */
START_TEST(a_call_that_does_not_fit_the_socket_ends_at_its_deadline)
{
	uint8_t frame[FRAME_HEADER_SIZE + 8] = { 0 };
	struct call call;

	stall(frame);
	while (channel_notify(channel, frame, 8, ANSWER) == 0)
		;
	ck_assert_int_eq(call_it(&call, ANSWER, 1, process_now()), -ETIMEDOUT);
	ck_assert(channel_broken(channel));
	atomic_store(&stalled, false);
}
END_TEST

START_TEST(an_overdue_call_breaks_it)
{
	struct parked_call p;
	struct call call;

	atomic_init(&p.done, false);
	pthread_create(&p.thread, NULL, park, &p);
	ck_assert_int_eq(call_it(&call, SILENCE, 0, process_now()), -ETIMEDOUT);
	ck_assert(channel_broken(channel));
	pthread_join(p.thread, NULL);
	ck_assert_int_eq(p.result, -ETIMEDOUT);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("client_channel");
	TCase *t = tcase_create("channel");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, one_after_the_other);
	tcase_add_test(t, many_threads_share_it);
	tcase_add_test(t, waiting_calls_hold_nothing);
	tcase_add_test(t, descriptors_come_with_their_reply);
	tcase_add_test(t, too_long_a_reply_is_an_error_of_its_call);
	tcase_add_loop_test(t, a_break_ends_all_calls, 0, sizeof(breaks) / sizeof(breaks[0]));
	tcase_add_test(t, notifications_are_sent_and_not_answered);
	tcase_add_test(t, notifications_do_not_wait_for_a_daemon_that_does_not_read);
	tcase_add_test(t, a_call_that_does_not_fit_the_socket_ends_at_its_deadline);
	tcase_add_test(t, an_overdue_call_breaks_it);
	suite_add_tcase(s, t);
	return suite_status(s);
}

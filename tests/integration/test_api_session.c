/* SPDX-License-Identifier: MIT */
/*
 * Sessions through a real daemon: opening and its refusals, what bad arguments give, errno and
 * texts, names, forks, and that whatever a process held is free again once it ended.
 */
#include <check.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/harness.h"

static struct daemon d;

static void setup(void)
{
	daemon_start(&d, NULL);
}

static void teardown(void)
{
	ck_assert(daemon_is_clean(&d));
	ck_assert_int_eq(daemon_stop(&d), 0);
}

static int open_with(struct kmm **k, struct kmm_options o)
{
	o.address = o.address ? o.address : d.socket;
	return kmm_open(k, &o);
}

START_TEST(open_checks_options)
{
	struct {
		struct kmm_options o;
		uint64_t tail;
	} longer = { .o = { .size = sizeof(longer), .address = d.socket } };
	struct kmm *untouched = (struct kmm *)&d, *k = untouched;
	char name[80];

	ck_assert_int_eq(kmm_open(NULL, NULL), -EINVAL);
	ck_assert_int_eq(open_with(&k, (struct kmm_options){ .size = 0 }), -EINVAL);
	ck_assert_int_eq(open_with(&k, (struct kmm_options){ .size = sizeof(struct kmm_options),
							     .flags = 1 }),
			 -EINVAL);
	ck_assert_str_ne(kmm_error_text(), "");
	longer.tail = 1;
	ck_assert_int_eq(kmm_open(&k, &longer.o), -EINVAL);
	memset(name, 'n', sizeof(name));
	name[KMM_NAME_MAX + 1] = 0;
	ck_assert_int_eq(open_with(&k, (struct kmm_options){ .size = sizeof(struct kmm_options),
							     .name = name }),
			 -EINVAL);
	ck_assert_int_lt(open_with(&k, (struct kmm_options){ .size = sizeof(struct kmm_options),
							     .domain = "no such domain" }),
			 0);
	longer.o.address = "";
	longer.tail = 0;
	ck_assert_int_eq(kmm_open(&k, &longer.o), -EINVAL);
	longer.o.address = d.socket;
	ck_assert_ptr_eq(k, untouched);

	longer.tail = 0;
	ck_assert_int_eq(kmm_open(&k, &longer.o), 0);
	ck_assert_int_eq(kmm_close(k), 0);
	name[KMM_NAME_MAX] = 0;
	ck_assert_int_eq(open_with(&k, (struct kmm_options){ .size = sizeof(struct kmm_options),
							     .name = name }),
			 0);
	ck_assert_int_eq(kmm_close(k), 0);
}
END_TEST

START_TEST(open_without_daemon_fails_at_once)
{
	struct kmm_options o = { .size = sizeof(o) };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	char path[128];
	struct kmm *k;
	int fd;

	snprintf(path, sizeof(path), "%s/nobody.sock", d.dir);
	o.address = path;
	ck_assert_int_eq(kmm_open(&k, &o), -ENOENT);
	ck_assert_ptr_nonnull(strstr(kmm_error_text(), path));

	/* a socket that nobody listens on any more */
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	strcpy(a.sun_path, path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	close(fd);
	ck_assert_int_eq(kmm_open(&k, &o), -ECONNREFUSED);
	unlink(path);
}
END_TEST

/* A daemon that accepts and says nothing: the deadline of the options holds. */
START_TEST(open_times_out)
{
	struct kmm_options o = { .size = sizeof(o), .timeout_ms = 50 };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct kmm *k;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/mute.sock", d.dir);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	ck_assert_int_eq(listen(fd, 4), 0);
	o.address = a.sun_path;
	ck_assert_int_eq(kmm_open(&k, &o), -ETIMEDOUT);
	close(fd);
	unlink(a.sun_path);
}
END_TEST

START_TEST(open_takes_the_address_from_the_environment)
{
	struct kmm *k;

	setenv("KMM_ADDRESS", d.socket, 1);
	ck_assert_int_eq(kmm_open(&k, NULL), 0);
	ck_assert_uint_ne(kmm_session_id(k), 0);
	ck_assert_uint_lt(kmm_session_id(k), 1u << 20);
	ck_assert(daemon_has_session(&d, kmm_session_id(k)));
	ck_assert_int_eq(kmm_close(k), 0);
}
END_TEST

START_TEST(sessions_are_named_and_end_with_close)
{
	static const char *const args[] = { "sessions", NULL };
	struct kmm *a, *b;
	kmm_session_id_t id;
	char *text;

	ck_assert_int_eq(open_with(&a, (struct kmm_options){ .size = sizeof(struct kmm_options),
							     .name = "first-of-two" }),
			 0);
	ck_assert_int_eq(open_with(&b, (struct kmm_options){ .size = sizeof(struct kmm_options) }),
			 0);
	ck_assert_uint_ne(kmm_session_id(a), kmm_session_id(b));
	ck_assert_int_eq(daemon_ctl(&d, &text, args), 0);
	ck_assert_ptr_nonnull(strstr(text, "first-of-two"));
	ck_assert_ptr_nonnull(strstr(text, program_invocation_short_name));
	free(text);
	id = kmm_session_id(a);
	ck_assert_int_eq(kmm_close(a), 0);
	wait_until(!daemon_has_session(&d, id));
	ck_assert(daemon_has_session(&d, kmm_session_id(b)));
	ck_assert_int_eq(kmm_close(b), 0);
}
END_TEST

START_TEST(version_and_text)
{
	unsigned major, minor, patch;
	char rest;

	ck_assert_int_eq(sscanf(kmm_version(), "%u.%u.%u%c", &major, &minor, &patch, &rest), 3);
	ck_assert_ptr_nonnull(kmm_error_text());
	ck_assert_int_eq(kmm_flush(NULL), -EINVAL);
	ck_assert_str_ne(kmm_error_text(), "");
}
END_TEST

/* Rules R1 to R3: NULL is an error and never a crash; what frees takes NULL. */
START_TEST(null_arguments)
{
	struct kmm *k = session_start(&d);
	struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_KERNEL, 0), *pages[1] = { page };
	void *address = kmm_page_address(k, page), *adopted[1] = { &d };
	kmm_handle_t handle = kmm_handle(k, address);

	ck_assert_ptr_nonnull(page);
	ck_assert_int_eq(kmm_close(NULL), 0);
	ck_assert_int_eq(kmm_free_pages(k, NULL, 0), 0);
	ck_assert_int_eq(kmm_free_page_addr(k, NULL, 0), 0);

	ck_assert_int_eq(kmm_flush(NULL), -EINVAL);
	ck_assert_int_eq(kmm_fd(NULL), -EINVAL);
	ck_assert_int_eq(kmm_dispatch(NULL), -EINVAL);
	ck_assert_int_eq(kmm_set_timeout(NULL, 1), -EINVAL);
	ck_assert_int_eq(kmm_cancel(NULL), -EINVAL);
	ck_assert_int_eq(kmm_on_event(NULL, NULL, NULL), -EINVAL);
	ck_assert_int_eq(kmm_free_pages(NULL, page, 0), -EINVAL);
	ck_assert_int_eq(kmm_free_page_addr(NULL, address, 0), -EINVAL);
	ck_assert_int_eq(kmm_page_count(NULL, page), -EINVAL);
	ck_assert_int_eq(kmm_page_count(k, NULL), -EINVAL);
	ck_assert_int_eq(kmm_page_order(NULL, page), -EINVAL);
	ck_assert_int_eq(kmm_page_order(k, NULL), -EINVAL);
	ck_assert_int_eq(kmm_free_pages_bulk(NULL, 0, 1, pages), -EINVAL);
	ck_assert_int_eq(kmm_free_pages_bulk(k, 0, 1, NULL), -EINVAL);
	ck_assert_int_eq(kmm_send(NULL, address, 1), -EINVAL);
	ck_assert_int_eq(kmm_send(k, NULL, 1), -EINVAL);
	ck_assert_int_eq(kmm_get(NULL, address), -EINVAL);
	ck_assert_int_eq(kmm_get(k, NULL), -EINVAL);
	ck_assert_int_eq(kmm_put(NULL, address), -EINVAL);
	ck_assert_int_eq(kmm_put(k, NULL), -EINVAL);

#define gives_einval(zero, call)                 \
	do {                                     \
		errno = 0;                       \
		ck_assert((call) == (zero));     \
		ck_assert_int_eq(errno, EINVAL); \
	} while (0)
	gives_einval(0, kmm_session_id(NULL));
	gives_einval(NULL, kmm_alloc_pages(NULL, KMM_GFP_KERNEL, 0));
	gives_einval(NULL, kmm_get_free_pages(NULL, KMM_GFP_KERNEL, 0));
	gives_einval(NULL, kmm_page_address(NULL, page));
	gives_einval(NULL, kmm_page_address(k, NULL));
	gives_einval(NULL, kmm_virt_to_page(NULL, address));
	gives_einval(NULL, kmm_virt_to_page(k, NULL));
	gives_einval(UINT64_MAX, kmm_page_to_pfn(NULL, page));
	gives_einval(UINT64_MAX, kmm_page_to_pfn(k, NULL));
	gives_einval(NULL, kmm_pfn_to_page(NULL, 0));
	gives_einval(0, kmm_alloc_pages_bulk(NULL, KMM_GFP_KERNEL, 0, 1, pages));
	gives_einval(0, kmm_alloc_pages_bulk(k, KMM_GFP_KERNEL, 0, 1, NULL));
	gives_einval(0, kmm_handle(NULL, address));
	gives_einval(0, kmm_handle(k, NULL));
	gives_einval(NULL, kmm_pointer(NULL, handle));
	gives_einval(NULL, kmm_adopt(NULL, handle));
	gives_einval(0, kmm_adopt_bulk(NULL, 1, &handle, adopted));
	gives_einval(0, kmm_adopt_bulk(k, 1, NULL, adopted));
	gives_einval(0, kmm_adopt_bulk(k, 1, &handle, NULL));
	gives_einval(NULL, kmm_get_handle(NULL, handle));
#undef gives_einval
	ck_assert_ptr_eq(pages[0], page);
	ck_assert_int_eq(kmm_free_pages(k, page, 0), 0);
	ck_assert_int_eq(kmm_close(k), 0);
}
END_TEST

START_TEST(errno_is_left_alone)
{
	struct kmm *k = session_start(&d);
	struct kmm_page *page;

	errno = 4711;
	page = kmm_alloc_pages(k, KMM_GFP_KERNEL, 3);
	ck_assert_ptr_nonnull(page);
	ck_assert_ptr_nonnull(kmm_page_address(k, page));
	ck_assert_int_eq(kmm_free_pages(k, page, 2), -EINVAL);
	ck_assert_int_eq(kmm_free_pages(k, page, 3), 0);
	ck_assert_int_eq(kmm_free_pages(k, page, 3), -ENOENT);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(errno, 4711);
	ck_assert_int_eq(kmm_close(k), 0);
	ck_assert_int_eq(errno, 4711);
}
END_TEST

static void *text_of_other_thread(void *arg)
{
	(void)arg;
	return strdup(kmm_error_text());
}

START_TEST(error_text_is_of_the_thread)
{
	pthread_t t;
	void *text;

	ck_assert_int_eq(kmm_flush(NULL), -EINVAL);
	ck_assert_int_eq(pthread_create(&t, NULL, text_of_other_thread, NULL), 0);
	ck_assert_int_eq(pthread_join(t, &text), 0);
	ck_assert_str_eq(text, "");
	free(text);
	ck_assert_str_ne(kmm_error_text(), "");
}
END_TEST

/* ---- fork ---- */

START_TEST(child_has_no_session_but_may_open_one)
{
	struct kmm *k = session_start(&d);
	struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_KERNEL, 0);
	void *p = kmm_page_address(k, page);
	kmm_handle_t handle = kmm_handle(k, p);
	int status;
	pid_t pid;

	block_fill(p, 0, 42);
	ck_assert_int_eq(kmm_get(k, p), 0);
	pid = fork();
	if (pid == 0) {
		struct kmm *own;
		const void *q;

		errno = 0;
		must(!kmm_alloc_pages(k, KMM_GFP_KERNEL, 0) && errno == EOWNERDEAD);
		must(!kmm_alloc_pages(k, KMM_GFP_KERNEL, 5) && errno == EOWNERDEAD);
		must(kmm_free_pages(k, page, 0) == -EOWNERDEAD);
		must(!kmm_handle(k, p) && errno == EOWNERDEAD);
		must(kmm_flush(k) == -EOWNERDEAD);
#ifndef __SANITIZE_THREAD__ /* which allows a forked child no thread, so no session */
		own = session_start(&d);
		must(kmm_session_id(own) != 0);
		q = kmm_get_handle(own, handle);
		must(q && block_check(q, 0, 42));
		must(kmm_put(own, q) == 0);
		must(kmm_close(k) == 0);
		must(block_check(q, 0, 42));
		must(kmm_close(own) == 0);
#else
		(void)own;
		(void)q;
		(void)handle;
		must(kmm_close(k) == 0);
#endif
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	/* nothing of that touched the parent */
	ck_assert(block_check(p, 0, 42));
	ck_assert_int_eq(kmm_page_count(k, page), 2);
	ck_assert_int_eq(kmm_put(k, p), 0);
	ck_assert_int_eq(kmm_free_pages(k, page, 0), 0);
	ck_assert_int_eq(kmm_close(k), 0);
}
END_TEST

START_TEST(child_does_not_inherit_the_mapping)
{
	struct kmm *k = session_start(&d);
	char *p = kmm_get_free_pages(k, KMM_GFP_KERNEL, 0);
	int status;
	pid_t pid;

	ck_assert_ptr_nonnull(p);
	*p = 1;
	pid = fork();
	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL);
		*(volatile char *)p = 2;
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(status != 0);
	ck_assert_int_eq(*p, 1);
	ck_assert_int_eq(kmm_close(k), 0);
}
END_TEST

/* ---- ends ---- */

enum ending { BY_CLOSE, BY_EXIT, BY_KILL };

/* Blocks of every order, cached blocks, shared ones, holds: however the process ends, all is back.
 */
START_TEST(what_a_process_held_is_free_when_it_ended)
{
	char *before = daemon_zone_frames(&d), *after;
	struct peer owner, taker;
	int64_t pfn = 0, handle;

	peer_start(&owner, &d);
	peer_start(&taker, &d);
	for (unsigned order = 0; order <= KMM_MAX_ORDER; order++) {
		pfn = peer_do(&owner, PEER_ALLOC, KMM_GFP_KERNEL, order, 0);
		ck_assert_int_ge(pfn, 0);
	}
	ck_assert_int_eq(peer_do(&owner, PEER_CACHE, 0, 300, 0), 0);
	handle = peer_do(&owner, PEER_HANDLE, (uint64_t)pfn, 0, 0);
	ck_assert_int_ne(handle, 0);
	ck_assert_int_eq(peer_do(&taker, PEER_GET_HANDLE, (uint64_t)handle, 0, 0), pfn);
	handle = peer_do(&owner, PEER_ALLOC, KMM_GFP_KERNEL, 2, 0);
	handle = peer_do(&owner, PEER_HANDLE, (uint64_t)handle, 0, 0);
	ck_assert_int_ge(peer_do(&taker, PEER_ADOPT, (uint64_t)handle, 0, 0), 0);

	switch ((enum ending)_i) {
	case BY_CLOSE:
		peer_stop(&owner);
		peer_stop(&taker);
		break;
	case BY_EXIT:
		peer_exit(&owner);
		peer_exit(&taker);
		break;
	case BY_KILL:
		peer_kill(&owner);
		peer_kill(&taker);
		break;
	}
	wait_until(!daemon_has_session(&d, owner.session) &&
		   !daemon_has_session(&d, taker.session));
	after = daemon_zone_frames(&d);
	ck_assert_str_eq(after, before);
	free(before);
	free(after);
}
END_TEST

/* A thread that caches, meets the end of its session and then names none. */
struct left_behind {
	struct kmm *k;
	struct kmm_page *page;
	pthread_barrier_t cached, closed;
	struct kmm_page *granted;
	int alloc_errno, freed;
};

static void *left_behind(void *arg)
{
	struct left_behind *l = arg;

	l->page = kmm_alloc_pages(l->k, KMM_GFP_KERNEL, 0);
	must(l->page && kmm_free_pages(l->k, l->page, 0) == 0);
	pthread_barrier_wait(&l->cached);
	pthread_barrier_wait(&l->closed);
	errno = 0;
	l->granted = kmm_alloc_pages(NULL, KMM_GFP_KERNEL, 0);
	l->alloc_errno = errno;
	l->freed = kmm_free_pages(NULL, l->page, 0);
	return NULL;
}

START_TEST(null_after_a_close_is_no_session)
{
	struct left_behind l = { .k = session_start(&d) };
	pthread_t t;

	pthread_barrier_init(&l.cached, NULL, 2);
	pthread_barrier_init(&l.closed, NULL, 2);
	ck_assert_int_eq(pthread_create(&t, NULL, left_behind, &l), 0);
	pthread_barrier_wait(&l.cached);
	ck_assert_int_eq(kmm_close(l.k), 0);
	pthread_barrier_wait(&l.closed);
	ck_assert_int_eq(pthread_join(t, NULL), 0);
	ck_assert_ptr_null(l.granted);
	ck_assert_int_eq(l.alloc_errno, EINVAL);
	ck_assert_int_eq(l.freed, -EINVAL);
}
END_TEST

START_TEST(close_gives_back_all)
{
	uint64_t before = daemon_free_pages(&d);
	struct kmm *k = session_start(&d);

	for (int i = 0; i < 500; i++)
		ck_assert_ptr_nonnull(kmm_alloc_pages(k, KMM_GFP_KERNEL, (unsigned)i % 4));
	ck_assert_uint_lt(daemon_free_pages(&d), before - 1000);
	ck_assert_int_eq(kmm_close(k), 0);
	wait_until(daemon_free_pages(&d) == before);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sessions");
	TCase *t = tcase_create("sessions");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, open_checks_options);
	tcase_add_test(t, open_without_daemon_fails_at_once);
	tcase_add_test(t, open_times_out);
	tcase_add_test(t, open_takes_the_address_from_the_environment);
	tcase_add_test(t, sessions_are_named_and_end_with_close);
	tcase_add_test(t, version_and_text);
	tcase_add_test(t, null_arguments);
	tcase_add_test(t, errno_is_left_alone);
	tcase_add_test(t, error_text_is_of_the_thread);
	tcase_add_test(t, child_has_no_session_but_may_open_one);
	tcase_add_test(t, child_does_not_inherit_the_mapping);
	tcase_add_loop_test(t, what_a_process_held_is_free_when_it_ended, BY_CLOSE, BY_KILL + 1);
	tcase_add_test(t, null_after_a_close_is_no_session);
	tcase_add_test(t, close_gives_back_all);
	suite_add_tcase(s, t);
	return suite_run(s);
}

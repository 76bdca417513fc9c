/* SPDX-License-Identifier: MIT */
/*
 * Stacks through a real daemon: threads and signal handlers that run on them, overruns that meet
 * the guard and overruns that do not, refusals, ends. On the kinds of pools of areas.h:
 *
 *     4k        every stack has its guards
 *     hugetlb   from high memory, with guards
 *     huge      no high memory: blocks in the window, with the magic number alone
 */
#include "tests/integration/areas.h"

#define BYTES(order) (KMM_PAGE_SIZE << (order))

static char *stack_new(unsigned order)
{
	char *p = kmm_alloc_stack(k, order);

	ck_assert_msg(p != NULL, "order %u: errno %d, %s", order, errno, kmm_error_text());
	return p;
}

/* ---- use ---- */

START_TEST(every_order)
{
	for (unsigned order = 0; order <= KMM_MAX_ORDER; order++) {
		char *p = stack_new(order);

		ck_assert_uint_eq((uintptr_t)p % KMM_PAGE_SIZE, 0);
		object_fill(p + 8, BYTES(order) - 8, order);
		ck_assert(object_check(p + 8, BYTES(order) - 8, order));
		ck_assert_int_eq(kmm_is_vmalloc_addr(k, p), 0);
		ck_assert_int_eq(kmm_free_stack(k, p), 0);
	}
	ck_assert_int_eq(kmm_free_stack(k, NULL), 0);
}
END_TEST

START_TEST(guards_on_both_sides)
{
	for (unsigned order = 0; order < 6; order++) {
		char *p = stack_new(order);

		ck_assert(!can_be_read(p - 1));
		ck_assert(can_be_read(p) && can_be_read(p + BYTES(order) - 1));
		ck_assert(!can_be_read(p + BYTES(order)));
		ck_assert_int_eq(kmm_free_stack(k, p), 0);
	}
}
END_TEST

static uintptr_t here(void)
{
	return (uintptr_t)__builtin_frame_address(0);
}

/* Uses some of the stack that it runs on, and says where that is. */
static void *descend(void *depth)
{
	volatile char local[2048];
	uintptr_t n = (uintptr_t)depth;

	memset((void *)local, (int)n, sizeof(local));
	if (n > 0)
		must(descend((void *)(n - 1)));
	for (size_t i = 0; i < sizeof(local); i++)
		must(local[i] == (char)n);
	return (void *)here();
}

#ifdef __SANITIZE_THREAD__ /* which keeps more than that at the top of each thread's stack */
#define THREAD_ORDER 8u
#else
#define THREAD_ORDER 4u
#endif

START_TEST(threads_run_on_them)
{
	enum { N = 4, ORDER = THREAD_ORDER };
	char *stack[N];
	pthread_t t[N];

	for (int round = 0; round < 20; round++) {
		for (unsigned i = 0; i < N; i++) {
			pthread_attr_t a;

			stack[i] = stack_new(ORDER);
			pthread_attr_init(&a);
			ck_assert_int_eq(pthread_attr_setstack(&a, stack[i], BYTES(ORDER)), 0);
			ck_assert_int_eq(pthread_create(&t[i], &a, descend, (void *)16), 0);
			pthread_attr_destroy(&a);
		}
		for (unsigned i = 0; i < N; i++) {
			void *where;

			pthread_join(t[i], &where);
			ck_assert_uint_lt((size_t)((char *)where - stack[i]), BYTES(ORDER));
			ck_assert_int_eq(kmm_free_stack(k, stack[i]), 0);
		}
	}
}
END_TEST

static volatile uintptr_t handled_at;

static void handler(int sig)
{
	(void)sig;
	handled_at = here();
}

START_TEST(signals_are_handled_on_them)
{
	stack_t alternate = { .ss_sp = stack_new(2), .ss_size = BYTES(2) }, before;
	struct sigaction act = { .sa_handler = handler, .sa_flags = SA_ONSTACK }, old;

	ck_assert_int_eq(sigaltstack(&alternate, &before), 0);
	ck_assert_int_eq(sigaction(SIGUSR1, &act, &old), 0);
	raise(SIGUSR1);
	ck_assert_uint_lt(handled_at - (uintptr_t)alternate.ss_sp, BYTES(2));
	ck_assert_int_eq(sigaction(SIGUSR1, &old, NULL), 0);
	ck_assert_int_eq(sigaltstack(&before, NULL), 0);
	ck_assert_int_eq(kmm_free_stack(k, alternate.ss_sp), 0);
}
END_TEST

/* ---- overruns ---- */

static int corrupt_events;
static char corrupt_text[512];

static void on_event(struct kmm *session, enum kmm_event event, void *arg)
{
	(void)session;
	(void)arg;
	if (event != KMM_EVENT_CORRUPT)
		return;
	snprintf(corrupt_text, sizeof(corrupt_text), "%s", kmm_error_text());
	__atomic_fetch_add(&corrupt_events, 1, __ATOMIC_SEQ_CST);
}

START_TEST(overruns_are_told)
{
	ck_assert_int_eq(kmm_on_event(k, on_event, NULL), 0);
	for (unsigned order = 0; order < 4; order++)
		for (unsigned byte = 0; byte < 8; byte++) {
			char *p = stack_new(order);
			int r;

			p[byte] ^= 0x40;
			r = kmm_free_stack(k, p);
			ck_assert_int_eq(r, -EFAULT);
			ck_assert_ptr_nonnull(strstr(kmm_error_text(), "was overrun"));
			/* and it is freed */
			ck_assert_int_eq(kmm_free_stack(k, p), -ENOENT);
		}
	wait_until(__atomic_load_n(&corrupt_events, __ATOMIC_SEQ_CST) == 32);
	ck_assert_ptr_nonnull(strstr(corrupt_text, "was overrun"));
	ck_assert_int_eq(kmm_on_event(k, NULL, NULL), 0);
}
END_TEST

#ifndef __SANITIZE_THREAD__ /* which allows a forked child no thread, so no session */
static void *run_over(void *unused)
{
	volatile char local[1024];

	(void)unused;
	local[0] = 1;
	unused = local[0] ? run_over((void *)here()) : NULL;
	return local[0] ? unused : NULL;
}

/* A thread that recurses without end dies of it, before it reaches anybody else's memory. */
START_TEST(the_guard_stops_who_runs_over)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		struct kmm *own = session_start(&d);
		char *below = kmm_alloc_stack(own, 2), *p = kmm_alloc_stack(own, 2);
		pthread_attr_t a;
		pthread_t t;

		must(p && below);
		signal(SIGSEGV, SIG_DFL); /* a sanitizer's own handler says the same otherwise */
		pthread_attr_init(&a);
		must(pthread_attr_setstack(&a, p, BYTES(2)) == 0);
		must(pthread_create(&t, &a, run_over, NULL) == 0);
		pthread_join(t, NULL);
		_exit(1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}
END_TEST
#endif

/* ---- refusals, memory ---- */

START_TEST(what_is_refused)
{
	char *p = stack_new(2), *v = kmm_vmalloc(k, 10000), *b = kmm_kmalloc(k, 5000, KMM_GFP_KERNEL);
	int mine;

	ck_assert(v && b);
	ck_assert_ptr_null(kmm_alloc_stack(k, KMM_MAX_ORDER + 1));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_ptr_null(kmm_alloc_stack(NULL, 0));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(kmm_free_stack(NULL, p), -EINVAL);
	ck_assert_int_eq(kmm_free_stack(k, p + 1), -EINVAL);
	ck_assert_int_eq(kmm_free_stack(k, p + 8192), -EINVAL);
	ck_assert_int_eq(kmm_free_stack(k, v), -EINVAL);
	ck_assert_ptr_nonnull(strstr(kmm_error_text(), "kmm_vfree"));
	ck_assert_int_eq(kmm_free_stack(k, b), -EPERM);
	ck_assert_int_eq(kmm_free_stack(k, &mine), -EPERM);
	ck_assert_int_eq(kmm_vfree(k, v), 0);
	ck_assert_int_eq(kmm_kfree(k, b), 0);
	ck_assert_int_eq(kmm_free_stack(k, p), 0);
	ck_assert_int_eq(kmm_free_stack(k, p), -ENOENT);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(kmm_free_stack(k, p), -ENOENT);
}
END_TEST

START_TEST(many)
{
	enum { N = 600 };
	char *p[N];
	unsigned i, n;

	ck_assert_int_eq(kmm_set_timeout(k, 100), 0);
	/* 600 of 16 KiB: more than 8 MiB of high memory */
	for (n = 0; n < N && (p[n] = kmm_alloc_stack(k, 2)); n++)
		object_fill(p[n] + 8, BYTES(2) - 8, n);
	ck_assert_uint_gt(n, 400);
	for (i = 0; i < n; i++) {
		ck_assert(object_check(p[i] + 8, BYTES(2) - 8, i));
		ck_assert_int_eq(kmm_free_stack(k, p[i]), 0);
	}
}
END_TEST

static void take_stacks(struct kmm *own)
{
	for (unsigned i = 0; i < 20; i++)
		must(kmm_alloc_stack(own, i % 5));
}

START_TEST(ends)
{
	killed_after(take_stacks);
	for (unsigned i = 0; i < 20; i++) /* the teardown finds them free */
		stack_new(i % 5);
}
END_TEST

static void add_common(TCase *t)
{
	tcase_add_test(t, every_order);
	tcase_add_test(t, threads_run_on_them);
	tcase_add_test(t, signals_are_handled_on_them);
	tcase_add_test(t, overruns_are_told);
	tcase_add_test(t, what_is_refused);
	tcase_add_test(t, many);
	tcase_add_test(t, ends);
}

int main(void)
{
	Suite *s = suite_create("stack");
	TCase *small = fixture_case_long(s, "4k", setup_4k);
	TCase *hugetlb = fixture_case_long(s, "hugetlb", setup_hugetlb);

	add_common(small);
	tcase_add_test(small, guards_on_both_sides);
#ifndef __SANITIZE_THREAD__
	tcase_add_test(small, the_guard_stops_who_runs_over);
#endif
	add_common(hugetlb);
	tcase_add_test(hugetlb, guards_on_both_sides);
	add_common(fixture_case_long(s, "huge", setup_huge));
	return suite_run(s);
}

/* SPDX-License-Identifier: MIT */
/*
 * Stacks straight from the page allocator: fixed in size, one or two pages for those who know what they
 * do, more for the others. Threads run on them, and signal handlers.
 */
#include "tests/kernel/kernel_test.h"

#include <signal.h>

/* ---- the code ---- */

#ifdef __SANITIZE_THREAD__ /* which keeps more than that at the top of each thread's stack */
#define THREAD_SIZE_ORDER 8
#else
#define THREAD_SIZE_ORDER 4
#endif
#define THREAD_SIZE (PAGE_SIZE << THREAD_SIZE_ORDER)

struct kthread {
	pthread_t thread;
	void *stack;
	void *(*fn)(void *arg);
};

/* A thread on a stack of the pool's. */
static int kthread_run(struct kthread *t, void *(*fn)(void *arg), void *arg)
{
	pthread_attr_t attr;
	int r;

	t->stack = kmm_alloc_stack(kmm_kernel_session(), THREAD_SIZE_ORDER);
	if (!t->stack)
		return -errno;
	pthread_attr_init(&attr);
	/* the lowest bytes are the magic's */
	r = pthread_attr_setstack(&attr, (char *)t->stack, THREAD_SIZE);
	if (r == 0)
		r = pthread_create(&t->thread, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	if (r) {
		kmm_free_stack(kmm_kernel_session(), t->stack);
		t->stack = NULL;
	}
	return -r;
}

static int kthread_stop(struct kthread *t)
{
	pthread_join(t->thread, NULL);
	return kmm_free_stack(kmm_kernel_session(), t->stack);
}

/* ---- the tests ---- */

static bool lies_in(const void *p, const void *stack, size_t size)
{
	return (const char *)p >= (const char *)stack && (const char *)p < (const char *)stack + size;
}

struct job {
	struct kthread t;
	unsigned long result;
	const char *local;
};

/* Uses some of its stack, and allocates. */
static unsigned long depth(unsigned int n)
{
	volatile char frame[500];
	unsigned long rest;

	memset((char *)frame, (int)n, sizeof(frame));
	rest = n ? depth(n - 1) : 0;
	return rest + (unsigned long)frame[n];
}

static void *job_run(void *arg)
{
	struct job *j = (struct job *)arg;
	char here;
	char *p = kmalloc(100, GFP_KERNEL);

	j->local = &here;
	j->result = depth(40);
	memset(p, 1, 100);
	kfree(p);
	return NULL;
}

START_TEST(threads_run_on_them)
{
	struct job j[8];
	int i;

	for (i = 0; i < 8; i++)
		ck_assert_int_eq(kthread_run(&j[i].t, job_run, &j[i]), 0);
	for (i = 0; i < 8; i++) {
		void *stack = j[i].t.stack;

		ck_assert_int_eq(kthread_stop(&j[i].t), 0);
		ck_assert_uint_eq(j[i].result, 40 * 41 / 2);
		ck_assert(lies_in(j[i].local, stack, THREAD_SIZE));
	}
	kernel_is_clean();
}
END_TEST

static const void *handler_local;

static void handler(int signo)
{
	char here;

	(void)signo;
	/* only to be compared */
	__atomic_store_n(&handler_local, (const void *)(uintptr_t)&here, __ATOMIC_RELAXED);
}

START_TEST(signal_handlers_run_on_them)
{
	struct kmm *k = kmm_kernel_session();
	struct sigaction action;
	stack_t ours, before;
	void *stack = kmm_alloc_stack(k, 3);

	ck_assert_msg(stack != NULL, "%s", kmm_error_text());
	memset(&ours, 0, sizeof(ours));
	ours.ss_sp = (char *)stack + 64; /* above the magic */
	ours.ss_size = (PAGE_SIZE << 3) - 64;
	ck_assert_int_eq(sigaltstack(&ours, &before), 0);
	memset(&action, 0, sizeof(action));
	action.sa_handler = handler;
	action.sa_flags = SA_ONSTACK;
	ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
	ck_assert_int_eq(raise(SIGUSR1), 0);
	ck_assert(lies_in(handler_local, stack, PAGE_SIZE << 3));
	ck_assert_int_eq(sigaltstack(&before, NULL), 0);
	ck_assert_int_eq(kmm_free_stack(k, stack), 0);
	kernel_is_clean();
}
END_TEST

/* Small ones, of one and two pages; what grows beyond its end is seen. */
START_TEST(an_overrun_is_seen)
{
	struct kmm *k = kmm_kernel_session();
	unsigned int order;

	for (order = 0; order <= 1; order++) {
		char *stack = (char *)kmm_alloc_stack(k, order);

		ck_assert_ptr_nonnull(stack);
		memset(stack + 8, 1, (PAGE_SIZE << order) - 8);
		ck_assert_int_eq(kmm_free_stack(k, stack), 0);
		stack = (char *)kmm_alloc_stack(k, order);
		memset(stack, 1, PAGE_SIZE << order);
		ck_assert_int_eq(kmm_free_stack(k, stack), -EFAULT);
	}
	ck_assert_int_eq(kmm_free_stack(k, NULL), 0);
	kernel_is_clean();
}
END_TEST

KERNEL_CASES(stacks)
{
	TCase *t = kernel_case(s, "stacks"), *h = kernel_case_huge(s, "stacks, huge pages");

	tcase_add_test(t, threads_run_on_them);
	tcase_add_test(t, signal_handlers_run_on_them);
	tcase_add_test(t, an_overrun_is_seen);
	tcase_add_test(h, threads_run_on_them);
}

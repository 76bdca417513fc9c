/* SPDX-License-Identifier: MIT */
/*
 * Modules: code with module_init and module_exit as it stands, linked into a program; the default
 * session that it works on, in all threads and in forked children.
 */
#include "tests/kernel/kernel_test.h"

#include <sys/wait.h>
#include <unistd.h>

/* ---- a module ---- */

static struct kmem_cache *demo_cachep;
static void *demo_object;
static char *demo_buffer;
static unsigned long demo_page;
static int demo_loaded;

static int __init demo_init(void)
{
	printk(KERN_INFO "demo: loading\n");
	demo_cachep = kmem_cache_create("demo", 128, 0, SLAB_HWCACHE_ALIGN, NULL);
	if (!demo_cachep)
		return -ENOMEM;
	demo_object = kmem_cache_alloc(demo_cachep, GFP_KERNEL);
	if (!demo_object)
		goto no_object;
	demo_buffer = kmalloc(1024, GFP_KERNEL);
	if (!demo_buffer)
		goto no_buffer;
	demo_page = __get_free_page(GFP_KERNEL);
	if (!demo_page)
		goto no_page;
	snprintf(demo_buffer, 1024, "allocated at %p", demo_object);
	pr_info("demo: %s\n", demo_buffer);
	demo_loaded++;
	return 0;

no_page:
	kfree(demo_buffer);
no_buffer:
	kmem_cache_free(demo_cachep, demo_object);
no_object:
	kmem_cache_destroy(demo_cachep);
	return -ENOMEM;
}

static void __exit demo_exit(void)
{
	free_page(demo_page);
	kfree(demo_buffer);
	kmem_cache_free(demo_cachep, demo_object);
	kmem_cache_destroy(demo_cachep);
	demo_loaded--;
	pr_info("demo: unloaded\n");
}

module_init(demo_init);
module_exit(demo_exit);

MODULE_LICENSE("MIT");
MODULE_AUTHOR("nobody");
MODULE_DESCRIPTION("allocates a little of everything");
EXPORT_SYMBOL(demo_init);

/* ---- another one, which counts ---- */

static DEFINE_PER_CPU(int, loads);
static int order_of_load;

static int __init second_init(void)
{
	this_cpu_inc(loads);
	order_of_load = demo_loaded;
	return 0;
}

static void __exit second_exit(void)
{
	order_of_load = 10 + demo_loaded;
}

module_init(second_init);
module_exit(second_exit);

/* ---- the tests ---- */

START_TEST(modules_load_and_unload)
{
	int cpu, n = 0;

	ck_assert_int_eq(kmm_modules_init(), 0);
	ck_assert_int_eq(demo_loaded, 1);
	ck_assert_int_eq(order_of_load, 1); /* in the order of the source */
	ck_assert_uint_eq(daemon_count_sessions(&kernel_daemon), 1);
	for_each_possible_cpu(cpu)
		n += per_cpu(loads, cpu);
	ck_assert_int_eq(n, 1);
	kmm_modules_exit();
	ck_assert_int_eq(demo_loaded, 0);
	ck_assert_int_eq(order_of_load, 11); /* in reverse */
}
END_TEST

/* No memory in the middle of it: what was had goes back, and the caller hears of it. */
START_TEST(a_module_that_fails)
{
	struct kmem_cache *warm = kmem_cache_create("warm", 64, 0, 0, NULL);

	ck_assert_ptr_nonnull(warm);
	kernel_take_memory();
	ck_assert_int_eq(kmm_set_timeout(kmm_kernel_session(), 50), 0);
	ck_assert_int_eq(kmm_modules_init(), -ENOMEM);
	ck_assert_int_eq(demo_loaded, 0);
	ck_assert_int_eq(kmm_set_timeout(kmm_kernel_session(), 0), 0);
	kernel_give_memory();
	kmem_cache_destroy(warm);
	kernel_is_clean();
}
END_TEST

static void *first_use(void *arg)
{
	pthread_barrier_wait((pthread_barrier_t *)arg);
	return kmalloc(100, GFP_KERNEL);
}

/* Whoever comes first opens the session, and there is one. */
START_TEST(threads_come_first_together)
{
	pthread_barrier_t start;
	pthread_t t[8];
	void *p[8];
	int i;

	pthread_barrier_init(&start, NULL, 8);
	for (i = 0; i < 8; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, first_use, &start), 0);
	for (i = 0; i < 8; i++) {
		ck_assert_int_eq(pthread_join(t[i], &p[i]), 0);
		ck_assert_ptr_nonnull(p[i]);
	}
	wait_until(daemon_count_sessions(&kernel_daemon) == 1);
	for (i = 0; i < 8; i++) {
		memset(p[i], i, 100);
		kfree(p[i]);
	}
	kernel_is_clean();
}
END_TEST

START_TEST(opened_with_options)
{
	struct kmm_options o;
	char *text;
	static const char *const sessions[] = { "sessions", NULL };

	memset(&o, 0, sizeof(o));
	ck_assert_int_eq(kmm_kernel_init(&o), -EINVAL);
	o.size = sizeof(o);
	o.address = kernel_daemon.socket;
	o.name = "kernel-demo";
	ck_assert_int_eq(unsetenv("KMM_ADDRESS"), 0);
	ck_assert_int_eq(kmm_kernel_init(&o), 0);
	ck_assert_int_eq(kmm_kernel_init(&o), -EBUSY);
	kfree(kmalloc(10, GFP_KERNEL));
	ck_assert_int_eq(daemon_ctl(&kernel_daemon, &text, sessions), 0);
	ck_assert_ptr_nonnull(strstr(text, "kernel-demo"));
	free(text);
	/* the end of it is the beginning of another */
	ck_assert_int_eq(kmm_kernel_exit(), 0);
	ck_assert_int_eq(kmm_kernel_exit(), 0);
	wait_until(daemon_count_sessions(&kernel_daemon) == 0);
	ck_assert_int_eq(kmm_kernel_init(&o), 0);
	kfree(kmalloc(10, GFP_KERNEL));
}
END_TEST

/* Where there is no daemon, allocations fail and say why; nothing crashes. */
START_TEST(without_a_daemon)
{
	char nowhere[80];

	snprintf(nowhere, sizeof(nowhere), "%s/nobody", kernel_daemon.dir);
	ck_assert_int_eq(setenv("KMM_ADDRESS", nowhere, 1), 0);
	errno = 0;
	ck_assert(!kmalloc(100, GFP_KERNEL));
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_str_ne(kmm_error_text(), "");
	ck_assert_ptr_null(alloc_page(GFP_KERNEL));
	ck_assert_ptr_null(kmem_cache_create("none", 10, 0, 0, NULL));
	ck_assert_uint_eq(__get_free_page(GFP_KERNEL), 0);
	ck_assert(!vmalloc(100));
	ck_assert_int_lt(register_shrinker(NULL), 0);
	kfree(NULL);
	kfree(nowhere);
	put_page(NULL);
	/* it is there a moment later */
	ck_assert_int_eq(setenv("KMM_ADDRESS", kernel_daemon.socket, 1), 0);
	kfree(kmalloc(100, GFP_KERNEL));
	ck_assert_uint_eq(daemon_count_sessions(&kernel_daemon), 1);
}
END_TEST

/* The child has a session of its own; its parent's things are not its own. */
START_TEST(a_forked_child)
{
	struct kmem_cache *c = kmem_cache_create("parents", 64, 0, 0, NULL);
	char *p = kmem_cache_alloc(c, GFP_KERNEL);
	int status;
	pid_t pid;

	strcpy(p, "the parent's");
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		must(!kmem_cache_alloc(c, GFP_KERNEL));
		must(errno == EOWNERDEAD);
#ifndef __SANITIZE_THREAD__ /* which allows a forked child no thread, so no session */
		char *q = kmalloc(100, GFP_KERNEL);

		must(q != NULL);
		strcpy(q, "the child's");
		must(kmm_session_id(kmm_kernel_session()) != 0);
		must(daemon_count_sessions(&kernel_daemon) == 2);
		kfree(q);
#endif
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_str_eq(p, "the parent's");
	kmem_cache_free(c, p);
	kmem_cache_destroy(c);
}
END_TEST

KERNEL_CASES(module)
{
	TCase *t = kernel_case(s, "module");

	tcase_add_test(t, modules_load_and_unload);
	tcase_add_test(t, a_module_that_fails);
	tcase_add_test(t, threads_come_first_together);
	tcase_add_test(t, opened_with_options);
	tcase_add_test(t, without_a_daemon);
	tcase_add_test(t, a_forked_child);
}

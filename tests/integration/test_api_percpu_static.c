/* SPDX-License-Identifier: MIT */
/*
 * Static per-CPU variables: in C and C++, of several object files, of shared libraries that come
 * and go; in the default session's memory, or in the process's own where there is no daemon.
 */
#include "tests/integration/percpu.h"

#include <dlfcn.h>
#include <stdio.h>

#include "tests/integration/percpu_static.h"

KMM_DEFINE_PER_CPU(long, percpu_of_c) = 10;
static KMM_DEFINE_PER_CPU(uint8_t[3], letters) = { 'a', 'b', 'c' };
static KMM_DEFINE_PER_CPU(struct percpu_both, both);
static KMM_DEFINE_PER_CPU_ALIGNED(char, alone) = 'x';

static void setup(void)
{
	fixture_setup();
	must(setenv("KMM_ADDRESS", d.socket, 1) == 0);
}

static void teardown(void)
{
	ck_assert_int_eq(kmm_kernel_exit(), 0);
	fixture_teardown();
}

static bool in_pool(const void *p)
{
	struct kmm *def = kmm_kernel_session();

	return def && (uintptr_t)p - (uintptr_t)def->window < def->window_size;
}

static long sum_of_c(void)
{
	unsigned int cpu;
	long s = 0;

	kmm_for_each_possible_cpu(cpu)
		s += kmm_per_cpu(percpu_of_c, cpu);
	return s;
}

static const long *c0(void)
{
	return kmm_per_cpu_at(&percpu_of_c, 0);
}

START_TEST(copies_begin_with_the_template)
{
	unsigned int cpu;

	kmm_for_each_possible_cpu(cpu) {
		ck_assert_int_eq(kmm_per_cpu(percpu_of_c, cpu), 10);
		ck_assert_int_eq(memcmp(kmm_per_cpu(letters, cpu), "abc", 3), 0);
		ck_assert_int_eq(kmm_per_cpu(both.in, cpu), 0);
		ck_assert_int_eq(kmm_per_cpu(alone, cpu), 'x');
		ck_assert_uint_eq((uintptr_t)kmm_per_cpu_at(&alone, cpu) % 64, 0);
		ck_assert_int_eq(kmm_per_cpu(percpu_of_cxx, cpu).out, 200);
		ck_assert(in_pool(kmm_per_cpu_at(&percpu_of_c, cpu)));
		ck_assert(in_pool(kmm_per_cpu_at(&percpu_of_cxx, cpu)));
	}
	kmm_per_cpu(letters, 0)[1] = 'B';
	ck_assert_int_eq(letters[1], 'b'); /* the template is not a copy */
	kmm_this_cpu_write(letters[2], 'C');
	ck_assert_int_eq(kmm_this_cpu_read(letters[0]), 'a');
}
END_TEST

#define TURNS 50000u

static void *count(void *arg)
{
	unsigned int cpus[KMM_CPUS_1], nr = percpu_allowed(cpus), i;
	const struct percpu_module *m = arg;

	for (i = 0; i < TURNS; i++) {
		percpu_wander(cpus, nr, i);
		kmm_this_cpu_inc(percpu_of_c);
		kmm_this_cpu_add(percpu_of_cxx.in, 2);
		if (i % 8 == 0) {
			percpu_cxx_count(1);
			kmm_get_cpu_var(percpu_of_c)++;
			kmm_put_cpu_var(percpu_of_c);
			if (m)
				m->count(3);
		}
	}
	return NULL;
}

static void count_by_threads(const struct percpu_module *m)
{
	pthread_t t[PERCPU_THREADS];
	unsigned int i;

	for (i = 0; i < PERCPU_THREADS; i++)
		must(pthread_create(&t[i], NULL, count, (void *)m) == 0);
	for (i = 0; i < PERCPU_THREADS; i++)
		pthread_join(t[i], NULL);
}

static void counted_all(const struct percpu_module *m)
{
	long turns = (long)PERCPU_THREADS * TURNS, eighths = turns / 8, cpus = kmm_nr_cpus();
	long in = 0, out = 0;
	unsigned int cpu;

	kmm_for_each_possible_cpu(cpu) {
		in += kmm_per_cpu(percpu_of_cxx.in, cpu);
		out += kmm_per_cpu(percpu_of_cxx, cpu).out;
	}
	must(sum_of_c() == 10 * cpus + turns + eighths + (m ? 3 * eighths : 0));
	must(in == 100 * cpus + 2 * turns + eighths && out == 200 * cpus - eighths);
	must(percpu_cxx_sum() == 7 * cpus + eighths * 5);
	must(!m || m->sum() == 1001 * cpus); /* one up, one down */
}

START_TEST(exact_by_threads)
{
	/* the first use is theirs, too */
	count_by_threads(NULL);
	counted_all(NULL);
}
END_TEST

START_TEST(in_cxx)
{
	struct percpu_both *p = (struct percpu_both *)kmm_alloc_percpu(k, sizeof(*p), 8);

	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(percpu_cxx_operations(p), 0);
	ck_assert_int_eq(percpu_cxx_operations(&percpu_of_cxx), 0);
	ck_assert_int_eq(percpu_cxx_operations(&both), 0);
	ck_assert_int_eq(kmm_free_percpu((struct kmm_percpu *)p), 0);
}
END_TEST

/* ---- libraries ---- */

static void *module_open(const struct percpu_module **m)
{
	const char *build = getenv("KMM_BUILDDIR");
	char path[512];
	void *handle;

	snprintf(path, sizeof(path), "%s/tests/integration/.libs/percpu_module.so",
	         build ? build : ".");
	handle = dlopen(path, RTLD_NOW);
	ck_assert_msg(handle != NULL, "%s", dlerror());
	*m = dlsym(handle, "percpu_module");
	ck_assert_ptr_nonnull(*m);
	return handle;
}

START_TEST(a_library_has_its_own)
{
	const struct percpu_module *m;
	void *handle = module_open(&m);

	count_by_threads(m);
	counted_all(m);
	ck_assert(in_pool(m->place()));
	ck_assert_int_eq(dlclose(handle), 0);
	/* loaded again it begins again; the program's go on */
	handle = module_open(&m);
	ck_assert_int_eq(m->sum(), 1001 * (long)kmm_nr_cpus());
	m->count(5);
	ck_assert_int_eq(m->sum(), 1001 * (long)kmm_nr_cpus());
	ck_assert_int_eq(dlclose(handle), 0);
	handle = module_open(&m); /* never used */
	ck_assert_int_eq(dlclose(handle), 0);
}
END_TEST

/* Threads that were in the library's code meet its end. */
static void *visit(void *arg)
{
	const struct percpu_module *m = arg;

	m->count(1);
	return NULL;
}

static _Atomic int keep_running;

static void *run(void *arg)
{
	const struct percpu_module *m = arg;

	m->count(1);
	atomic_fetch_add(&keep_running, 1);
	while (atomic_load(&keep_running) > 0)
		sched_yield(); /* each time the kernel looks at what it was told last */
	return NULL;
}

START_TEST(unloaded_under_threads)
{
	const struct percpu_module *m;
	void *handle = module_open(&m);
	pthread_t t[4], v;
	unsigned int i;

	for (i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, run, (void *)m), 0);
	ck_assert_int_eq(pthread_create(&v, NULL, visit, (void *)m), 0);
	pthread_join(v, NULL);
	wait_until(atomic_load(&keep_running) == 4);
	ck_assert_int_eq(dlclose(handle), 0);
	for (i = 0; i < 100; i++)
		sched_yield();
	atomic_store(&keep_running, -100);
	for (i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}
END_TEST

/* ---- sessions ---- */

START_TEST(a_closed_session_begins_again)
{
	kmm_this_cpu_inc(percpu_of_c);
	ck_assert_int_eq(sum_of_c(), 10 * (long)kmm_nr_cpus() + 1);
	ck_assert_int_eq(kmm_kernel_exit(), 0);
	ck_assert_int_eq(sum_of_c(), 10 * (long)kmm_nr_cpus());
	ck_assert(in_pool(c0()));
}
END_TEST

START_TEST(a_forked_child_begins_again)
{
	int status;
	pid_t pid;

	kmm_this_cpu_inc(percpu_of_c);
	pid = fork();
	if (pid == 0) {
#ifndef __SANITIZE_THREAD__ /* which allows a forked child no thread, so no session */
		must(sum_of_c() == 10 * (long)kmm_nr_cpus());
		must(in_pool(c0()));
		kmm_this_cpu_inc(percpu_of_c);
		must(kmm_kernel_exit() == 0);
#endif
		_exit(42);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 42);
	ck_assert_int_eq(sum_of_c(), 10 * (long)kmm_nr_cpus() + 1);
}
END_TEST

/* As a program of its own: no daemon, then one. */
static int run_alone(void)
{
	count_by_threads(NULL);
	counted_all(NULL);
	must(!kmm_kernel_session());
	must(!in_pool(c0()));
	must(errno == ENOENT || errno == ECONNREFUSED);
	return 42;
}

static int run_counting(void)
{
	count_by_threads(NULL);
	counted_all(NULL);
	must(in_pool(c0()));
	return 42;
}

START_TEST(without_a_daemon)
{
	ck_assert_int_eq(percpu_run_self("alone", "KMM_ADDRESS", "/tmp/kmmd-test-nobody/socket"),
	                 42);
	ck_assert_int_eq(percpu_run_self("counting", "GLIBC_TUNABLES", "glibc.pthread.rseq=0"), 42);
}
END_TEST

int main(int argc, char **argv)
{
	Suite *s;
	TCase *c;

	if (argc == 2 && strcmp(argv[1], "alone") == 0)
		return run_alone();
	if (argc == 2 && strcmp(argv[1], "counting") == 0)
		return run_counting();
	s = suite_create("static per-CPU variables");
	c = tcase_create("variables");
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, copies_begin_with_the_template);
	tcase_add_test(c, exact_by_threads);
	tcase_add_test(c, in_cxx);
	tcase_add_test(c, a_library_has_its_own);
	tcase_add_test(c, unloaded_under_threads);
	tcase_add_test(c, a_closed_session_begins_again);
	tcase_add_test(c, a_forked_child_begins_again);
	tcase_add_test(c, without_a_daemon);
	suite_add_tcase(s, c);
	return suite_run(s);
}

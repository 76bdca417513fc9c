/* SPDX-License-Identifier: MIT */
/*
 * Having a CPU: kmm_get_cpu and its like exclude all others from that CPU's copies, whatever
 * happens to the thread or the process that has it; and what becomes of per-CPU memory when
 * processes fork, are killed, or see the daemon start again.
 */
#include "tests/integration/percpu.h"

#include <signal.h>
#include <stdatomic.h>

/* ---- having a CPU ---- */

START_TEST(gets_nest)
{
	struct counters *p = counters_new(), *q = counters_new();
	unsigned int cpu = kmm_get_cpu();

	ck_assert_ptr_eq(kmm_get_cpu_ptr(p), kmm_per_cpu_at(p, cpu));
	ck_assert_ptr_eq(&kmm_get_cpu_var(q->b), &kmm_per_cpu(q->b, cpu));
	ck_assert_uint_eq(kmm_cpu_id(), cpu);
	ck_assert_ptr_eq(kmm_this_cpu_ptr(p), kmm_per_cpu_at(p, cpu));
	kmm_put_cpu_var(q->b);
	kmm_put_cpu_ptr(p);
	ck_assert_int_eq(kmm_put_cpu(), 0);
	ck_assert_int_eq(kmm_put_cpu(), -EPERM);
	ck_assert_int_eq(counters_free(p), 0);
	ck_assert_int_eq(counters_free(q), 0);
}
END_TEST

static struct {
	struct counters *p;
	unsigned int cpu;
	_Atomic int done;
	bool get; /* else an operation */
} late;

static void *come_late(void *arg)
{
	(void)arg;
	percpu_pin(late.cpu);
	if (late.get) {
		must(kmm_get_cpu_ptr(late.p)->held == 5);
		kmm_put_cpu_ptr(late.p);
	} else {
		must(kmm_this_cpu_add_return(late.p->held, 1) == 6);
	}
	atomic_store(&late.done, 1);
	return NULL;
}

static uint32_t waiters(unsigned int cpu)
{
	return __atomic_load_n(&kmm_percpu_thread_1.cpu[cpu].waiters, __ATOMIC_SEQ_CST);
}

/* Others wait for it, and their operations do, too; wherever the holder runs. */
START_TEST(others_wait)
{
	unsigned int cpus[KMM_CPUS_1], nr = percpu_allowed(cpus), i;
	struct counters *p = late.p = counters_new();
	pthread_t t;

	for (i = 0; i < 4; i++) {
		percpu_pin(cpus[0]);
		late.get = i & 1;
		late.done = 0;
		late.cpu = kmm_get_cpu();
		ck_assert_uint_eq(late.cpu, cpus[0]);
		if (i & 2)
			percpu_pin(cpus[nr - 1]); /* another one, where there are several */
		ck_assert_uint_eq(kmm_cpu_id(), late.cpu);
		kmm_this_cpu_write(p->held, 4);
		ck_assert_int_eq(pthread_create(&t, NULL, come_late, NULL), 0);
		wait_until(waiters(late.cpu) > 0);
		ck_assert_int_eq(late.done, 0);
		kmm_this_cpu_inc(p->held);
		ck_assert_int_eq(kmm_per_cpu(p->held, late.cpu), 5);
		ck_assert_int_eq(kmm_put_cpu(), 0);
		pthread_join(t, NULL);
		ck_assert_int_eq(late.done, 1);
		ck_assert_uint_eq(waiters(late.cpu), 0);
	}
	ck_assert_int_eq(counters_free(p), 0);
}
END_TEST

static void *take_and_end(void *arg)
{
	percpu_pin(late.cpu);
	must(kmm_get_cpu() == late.cpu);
	kmm_get_cpu_ptr((struct counters *)arg)->held = 5;
	return NULL;
}

START_TEST(a_thread_that_ends_puts)
{
	unsigned int cpus[KMM_CPUS_1];
	struct counters *p = counters_new();
	pthread_t t;

	percpu_allowed(cpus);
	late.cpu = cpus[0];
	ck_assert_int_eq(pthread_create(&t, NULL, take_and_end, p), 0);
	pthread_join(t, NULL);
	percpu_pin(cpus[0]);
	ck_assert_int_eq(kmm_this_cpu_add_return(p->held, 1), 6);
	ck_assert_int_eq(counters_free(p), 0);
}
END_TEST

static struct counters *signalled;
static _Atomic int bombed;

static void on_signal(int number)
{
	(void)number;
	kmm_this_cpu_inc(signalled->held);
	atomic_fetch_add(&bombed, 1);
}

static void *bomb(void *arg)
{
	int seen;

	for (;;) {
		seen = atomic_load(&bombed);
		if (seen < 0 || pthread_kill(*(pthread_t *)arg, SIGUSR1) != 0)
			return NULL;
		while (atomic_load(&bombed) == seen)
			sched_yield();
	}
}

/* In sequences, in the library, and with the CPU taken: what is interrupted between a load and a
 * store begins again. */
START_TEST(signals_interrupt_sequences)
{
	struct sigaction act = { .sa_handler = on_signal }, old;
	pthread_t me = pthread_self(), t;
	unsigned int i = 0, cpu;
	int64_t was, sum = 0;

	signalled = counters_new();
	kmm_this_cpu_inc(signalled->held);
	ck_assert_int_eq(sigaction(SIGUSR1, &act, &old), 0);
	ck_assert_int_eq(pthread_create(&t, NULL, bomb, &me), 0);
	for (i = 0; i < 200000 || atomic_load(&bombed) < 300; i++) {
		do
			was = kmm_this_cpu_read(signalled->held);
		while (kmm_this_cpu_cmpxchg(signalled->held, was, was + 1) != was);
		kmm_percpu_op_1((uintptr_t)&signalled->held & ~KMM_PERCPU_1, KMM_PERCPU_ADD_1, 8, 1,
		                0);
	}
	sum -= atomic_exchange(&bombed, -1000000);
	pthread_join(t, NULL);
	ck_assert_int_eq(sigaction(SIGUSR1, &old, NULL), 0);
	sum -= atomic_load(&bombed) + 1000000; /* those that came later */
	kmm_for_each_possible_cpu(cpu)
		sum += kmm_per_cpu(signalled->held, cpu);
	ck_assert_int_eq(sum, 2 * (int64_t)i + 1);
	ck_assert_int_eq(counters_free(signalled), 0);
}
END_TEST

/* ---- who has it, for those who look on ---- */

static uint64_t name_in(uint32_t area, unsigned int cpu)
{
	return atomic_load(&k->control.area_lock[(size_t)area * CONTROL_AREA_CPUS + cpu]);
}

START_TEST(the_holder_leaves_its_name)
{
	struct counters *p = counters_new();
	struct kmm_percpu *other;
	unsigned int cpu;
	uint32_t area = 0;

	ck_assert_uint_eq(areas_of(k->id, &area), 1);
	kmm_get_cpu_ptr(p)->held = 1;
	cpu = kmm_cpu_id();
	ck_assert_uint_eq(name_in(area, cpu), area_lock_make(k->id, (uint32_t)gettid(), 1));
	kmm_get_cpu();
	ck_assert_uint_eq(area_lock_depth(name_in(area, cpu)), 2);
	/* a chunk that goes meanwhile is not this one */
	other = kmm_alloc_percpu(k, 16384, 8);
	ck_assert_ptr_nonnull(other);
	ck_assert_int_eq(kmm_free_percpu(other), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(kmm_put_cpu(), 0);
	ck_assert_uint_eq(area_lock_depth(name_in(area, cpu)), 1);
	kmm_put_cpu_ptr(p);
	ck_assert_uint_eq(name_in(area, cpu), 0);
	ck_assert_int_eq(counters_free(p), 0);
}
END_TEST

struct child {
	pid_t pid;
	uint32_t session;
	unsigned int cpu;
};

static __attribute__((noreturn)) void *take_and_put(void *arg)
{
	struct counters *p = arg;

	for (;;) {
		kmm_get_cpu_ptr(p)->held++;
		kmm_put_cpu_ptr(p);
	}
}

/* A process with a session of its own: that holds a CPU, or whose threads take and put. */
static void child_start(struct child *c, bool busy)
{
	struct {
		uint32_t session, cpu;
	} said;
	int fd[2];

	ck_assert_int_eq(pipe(fd), 0);
	c->pid = fork();
	if (c->pid == 0) {
		struct kmm_options o = { .size = sizeof(o), .address = d.socket };
		struct counters *p;
		struct kmm *own;
		pthread_t t;

		must(kmm_open(&own, &o) == 0);
		p = (struct counters *)kmm_alloc_percpu(own, sizeof(*p), 8);
		must(p);
		if (busy)
			for (int i = 0; i < 2; i++)
				must(pthread_create(&t, NULL, take_and_put, p) == 0);
		else
			kmm_get_cpu_ptr(p)->held++;
		said.session = kmm_session_id(own);
		said.cpu = kmm_cpu_id();
		must(write(fd[1], &said, sizeof(said)) == sizeof(said));
		for (;;)
			pause();
	}
	ck_assert_int_eq(read(fd[0], &said, sizeof(said)), sizeof(said));
	close(fd[0]);
	close(fd[1]);
	c->session = said.session;
	c->cpu = said.cpu;
}

static void child_kill(struct child *c)
{
	int status;

	ck_assert_int_eq(kill(c->pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(c->pid, &status, 0), c->pid);
	wait_until(!daemon_has_session(&d, c->session));
}

/* The daemon breaks what the dead held; others never noticed. */
START_TEST(a_holder_is_killed)
{
	struct counters *p = counters_new();
	struct child c, next;
	uint32_t area = 0;

	child_start(&c, false);
	ck_assert_uint_eq(areas_of(c.session, &area), 1);
	ck_assert_uint_eq(area_lock_session(name_in(area, c.cpu)), c.session);
	kmm_get_cpu_ptr(p)->held++; /* of another session: another CPU's copies altogether */
	kmm_put_cpu_ptr(p);
	child_kill(&c);
	ck_assert_uint_eq(name_in(area, c.cpu), 0);
	ck_assert_uint_eq(areas_of(c.session, &area), 0);
	child_start(&next, false);
	child_kill(&next);
	ck_assert_int_eq(counters_free(p), 0);
}
END_TEST

START_TEST(holders_are_killed_at_any_moment)
{
	uint32_t i, area = 0;
	unsigned int cpu;
	struct child c;

	for (i = 0; i < 25; i++) {
		child_start(&c, true);
		ck_assert_uint_eq(areas_of(c.session, &area), 1);
		usleep(i * 100); /* any moment, each time another: no event tells where its threads are */
		child_kill(&c);
		kmm_for_each_possible_cpu(cpu)
			ck_assert_uint_eq(name_in(area, cpu), 0);
	}
}
END_TEST

/* ---- other lives ---- */

START_TEST(a_forked_child_has_none)
{
	struct counters *p = counters_new();
	int status;
	pid_t pid;

	kmm_get_cpu_ptr(p)->held = 3;
	kmm_put_cpu_ptr(p);
	pid = fork();
	if (pid == 0) {
		struct kmm_options o = { .size = sizeof(o), .address = d.socket };
		struct counters *mine;
		struct kmm *own;

		must(!kmm_per_cpu_ptr((struct kmm_percpu *)p, 0) && errno == EOWNERDEAD);
		must(counters_free(p) == -EOWNERDEAD);
		must(!kmm_alloc_percpu(k, 8, 8) && errno == EOWNERDEAD);
#ifndef __SANITIZE_THREAD__ /* which allows a forked child no thread, so no session */
		must(kmm_open(&own, &o) == 0);
		mine = (struct counters *)kmm_alloc_percpu(own, sizeof(*mine), 8);
		must(mine);
		kmm_this_cpu_inc(mine->a);
		must(sum_a(mine) == 1);
		must(kmm_close(own) == 0);
#else
		(void)o, (void)mine, (void)own;
#endif
		must(kmm_close(k) == 0);
		must(counters_free(p) == -EINVAL); /* now of nobody's */
		_exit(42);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 42);
	ck_assert_int_eq(counters_free(p), 0);
}
END_TEST

START_TEST(fork_keeps_it_for_the_thread)
{
	unsigned int cpus[KMM_CPUS_1];
	struct counters *p = counters_new();
	pid_t pid;
	int status;

	percpu_allowed(cpus);
	percpu_pin(cpus[0]);
	must(kmm_get_cpu() == cpus[0]);
	pid = fork(); /* the thread that forks keeps it */
	if (pid == 0) {
		must(kmm_cpu_id() == cpus[0] && kmm_put_cpu() == 0 && kmm_put_cpu() == -EPERM);
		_exit(42);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 42);
	ck_assert_int_eq(kmm_put_cpu(), 0);
	ck_assert_int_eq(counters_free(p), 0);
}
END_TEST

START_TEST(a_restart_changes_nothing)
{
	struct counters *p = counters_new(), *more;
	struct kmm_percpu *large;

	kmm_this_cpu_add(p->a, 7);
	fixture_restart();
	kmm_this_cpu_add(p->a, 7);
	ck_assert_uint_eq(sum_a(p), 14);
	more = counters_new();
	large = kmm_alloc_percpu(k, 16384, 8);
	ck_assert_ptr_nonnull(large);
	ck_assert_int_eq(counters_free(more), 0);
	ck_assert_int_eq(kmm_free_percpu(large), 0);
	ck_assert_int_eq(counters_free(p), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("having a CPU");
	TCase *cpu = fixture_case(s, "CPUs", fixture_setup);
	TCase *life = fixture_case(s, "lives", fixture_setup);
	TCase *restart = fixture_case(s, "restart", fixture_setup_supervised);

	tcase_add_test(cpu, gets_nest);
	tcase_add_test(cpu, others_wait);
	tcase_add_test(cpu, a_thread_that_ends_puts);
	tcase_add_test(cpu, signals_interrupt_sequences);
	tcase_add_test(cpu, the_holder_leaves_its_name);
	tcase_add_test(life, a_holder_is_killed);
	tcase_add_test(life, holders_are_killed_at_any_moment);
	tcase_add_test(life, a_forked_child_has_none);
	tcase_add_test(life, fork_keeps_it_for_the_thread);
	tcase_add_test(restart, a_restart_changes_nothing);
	return suite_run(s);
}

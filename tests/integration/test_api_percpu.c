/* SPDX-License-Identifier: MIT */
/*
 * Per-CPU memory: kmm_alloc_percpu, and the operations of <kmm/percpu.h> on it.
 *
 * The cases run on 4 KiB pages and on huge pages; what counts is counted by threads that wander
 * from CPU to CPU, once with restartable sequences and, in a process of its own, once without.
 */
#include "tests/integration/percpu.h"

#include <signal.h>
#include <sys/resource.h>

static void setup_hugetlb(void)
{
	static const char *const args[] = { "--backing", "hugetlb", NULL };

	daemon_start(&d, args);
	fixture_begin();
}

/* ---- allocating ---- */

START_TEST(copies_are_zeroed_and_apart)
{
	struct counters *p = counters_new();
	unsigned int cpu, other;

	kmm_for_each_possible_cpu(cpu) {
		struct counters *c = kmm_per_cpu_ptr((struct kmm_percpu *)p, cpu);

		ck_assert_ptr_nonnull(c);
		ck_assert_uint_eq((uintptr_t)c % _Alignof(*c), 0);
		ck_assert_ptr_eq(c, kmm_per_cpu_at(p, cpu));
		ck_assert_ptr_eq(&c->pair[1], &kmm_per_cpu(p->pair[1], cpu));
		ck_assert_ptr_eq(&c->held, kmm_per_cpu_at(&p->held, cpu));
		ck_assert_uint_eq(c->a, 0);
		memset(c, (int)cpu + 1, sizeof(*c));
	}
	kmm_for_each_possible_cpu(cpu)
		for (other = 0; other < sizeof(*p); other++)
			ck_assert_uint_eq(((uint8_t *)kmm_per_cpu_at(p, cpu))[other],
			                  (uint8_t)(cpu + 1));
	ck_assert_int_eq(counters_free(p), 0);
	/* the same place, zeroed again */
	ck_assert_ptr_eq(counters_new(), p);
	kmm_for_each_possible_cpu(cpu)
		for (other = 0; other < sizeof(*p); other++)
			ck_assert_uint_eq(((uint8_t *)kmm_per_cpu_at(p, cpu))[other], 0);
	ck_assert_int_eq(counters_free(p), 0);
}
END_TEST

START_TEST(sizes_and_alignments)
{
	static const size_t sizes[] = { 1, 2, 3, 8, 24, 100, 4096, 16384 };
	struct kmm_percpu *pc[8][13];
	unsigned int s, a, cpu;

	for (s = 0; s < 8; s++)
		for (a = 0; a < 13; a++) {
			pc[s][a] = kmm_alloc_percpu(k, sizes[s], (size_t)1 << a);
			ck_assert_msg(pc[s][a] != NULL, "%s", kmm_error_text());
			kmm_for_each_possible_cpu(cpu) {
				uint8_t *c = kmm_per_cpu_ptr(pc[s][a], cpu);

				ck_assert_uint_eq((uintptr_t)c % ((size_t)1 << a), 0);
				memset(c, (int)(s * 16 + a), sizes[s]);
			}
		}
	for (s = 0; s < 8; s++)
		for (a = 0; a < 13; a++) {
			kmm_for_each_possible_cpu(cpu) {
				uint8_t *c = kmm_per_cpu_ptr(pc[s][a], cpu);

				ck_assert_uint_eq(c[0], s * 16 + a);
				ck_assert_uint_eq(c[sizes[s] - 1], s * 16 + a);
			}
			ck_assert_int_eq(kmm_free_percpu(pc[s][a]), 0);
		}
}
END_TEST

static void refused(struct kmm *on, size_t size, size_t align, int error, const char *text)
{
	errno = 0;
	ck_assert_ptr_null(kmm_alloc_percpu(on, size, align));
	ck_assert_int_eq(errno, error);
	ck_assert_msg(strstr(kmm_error_text(), text) != NULL, "%s", kmm_error_text());
}

START_TEST(refusals)
{
	struct kmm_percpu *pc = kmm_alloc_percpu(k, 64, 0);
	static char outside[64];

	ck_assert_ptr_nonnull(pc);
	refused(NULL, 8, 8, EINVAL, "NULL");
	refused(k, 0, 8, EINVAL, "0 bytes");
	refused(k, 32769, 8, EINVAL, "32769 bytes a CPU: per-CPU variables have 1 to ");
	refused(k, SIZE_MAX, 8, EINVAL, " bytes a CPU");
	refused(k, 8, 3, EINVAL, "alignment 3");
	refused(k, 8, 8192, EINVAL, "up to 4096");
	errno = 0;
	ck_assert_ptr_null(kmm_per_cpu_ptr(NULL, 0));
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_ptr_null(kmm_per_cpu_ptr(pc, kmm_nr_cpus()));
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_ptr_null(kmm_per_cpu_ptr((struct kmm_percpu *)(void *)outside, 0));
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_ptr_null(kmm_per_cpu_ptr((struct kmm_percpu *)(4096 | KMM_PERCPU_1), 0));
	ck_assert_int_eq(errno, EINVAL);
	errno = 77;
	ck_assert_ptr_nonnull(kmm_per_cpu_ptr(pc, 0));
	ck_assert_int_eq(kmm_free_percpu(NULL), 0);
	ck_assert_int_eq(kmm_free_percpu((struct kmm_percpu *)(void *)outside), -EINVAL);
	ck_assert_int_eq(kmm_free_percpu((struct kmm_percpu *)(4096 | KMM_PERCPU_1)), -EINVAL);
	ck_assert_int_eq(kmm_free_percpu((struct kmm_percpu *)((uintptr_t)pc + 4)), -EINVAL);
	ck_assert_int_eq(kmm_free_percpu(pc), 0);
	ck_assert_int_eq(kmm_free_percpu(pc), -ENOENT);
	ck_assert_int_eq(errno, 77);
}
END_TEST

/* Used as an address it ends the program. */
START_TEST(no_address)
{
	struct counters *p = counters_new();
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		*(volatile uint64_t *)&p->a = 1;
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSIGNALED(status) || WEXITSTATUS(status) != 0, "it can be written to");
	ck_assert_int_eq(counters_free(p), 0);
}
END_TEST

START_TEST(chunks_come_and_go)
{
	enum { N = 40, SIZE = 8192 };
	struct kmm_percpu *pc[N];
	uint64_t before;
	uint32_t area = 0, i, n;

	fixture_flush();
	before = daemon_free_pages(&d);
	ck_assert_uint_eq(areas_of(k->id, &area), 0);
	for (i = 0; i < N; i++) {
		pc[i] = kmm_alloc_percpu(k, SIZE, 8);
		ck_assert_ptr_nonnull(pc[i]);
	}
	n = areas_of(k->id, &area);
	ck_assert_uint_ge(n, N * SIZE / 32768);
	ck_assert_uint_eq(k->control.area[area].size,
	                  (uint64_t)k->control.area[area].pages * KMM_PAGE_SIZE);
	ck_assert_uint_gt(k->control.area[area].used, 0);
	ck_assert_uint_eq(k->control.area[area].used % SIZE, 0);
	ck_assert_uint_eq(daemon_free_pages(&d), before - n * k->control.area[area].pages);
	/* one empty one is kept, until memory is asked back */
	for (i = 0; i < N; i++)
		ck_assert_int_eq(kmm_free_percpu(pc[i]), 0);
	ck_assert_uint_eq(areas_of(k->id, &area), 1);
	ck_assert_uint_eq(k->control.area[area].used, 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_uint_eq(areas_of(k->id, &area), 0);
	ck_assert_uint_eq(daemon_free_pages(&d), before);
}
END_TEST

/* What is asked for goes where most is taken. */
START_TEST(the_fullest_chunk_first)
{
	struct kmm_percpu *full = kmm_alloc_percpu(k, 12288, 8), *rest, *small;

	ck_assert_ptr_nonnull(full);
	rest = kmm_alloc_percpu(k, kmm_nr_cpus() > 128 ? 8192 : 24576, 8); /* does not fit */
	ck_assert_ptr_nonnull(rest);
	small = kmm_alloc_percpu(k, 64, 8);
	ck_assert_uint_eq((uintptr_t)small, (uintptr_t)(kmm_nr_cpus() > 128 ? full : rest) +
	                                            (kmm_nr_cpus() > 128 ? 12288 : 24576));
	ck_assert_int_eq(kmm_free_percpu(full), 0);
	ck_assert_int_eq(kmm_free_percpu(rest), 0);
	ck_assert_int_eq(kmm_free_percpu(small), 0);
}
END_TEST

static void *allocate_and_free(void *arg)
{
	enum { HELD = 24 };
	struct counters *held[HELD] = { NULL };
	unsigned int seed = (unsigned int)(uintptr_t)arg + 1, i, cpu;

	for (i = 0; i < 3000; i++) {
		struct counters **h = &held[rand_r(&seed) % HELD];

		if (*h) {
			kmm_for_each_possible_cpu(cpu)
				must(kmm_per_cpu((*h)->a, cpu) == (uintptr_t)*h + cpu);
			must(counters_free(*h) == 0);
			*h = NULL;
			continue;
		}
		*h = (struct counters *)kmm_alloc_percpu(
			k, sizeof(**h) + (rand_r(&seed) % 32 ? 0 : 8192), 8);
		must(*h);
		kmm_for_each_possible_cpu(cpu) {
			must(kmm_per_cpu((*h)->a, cpu) == 0);
			kmm_per_cpu((*h)->a, cpu) = (uintptr_t)*h + cpu;
		}
	}
	for (i = 0; i < HELD; i++)
		must(counters_free(held[i]) == 0);
	return NULL;
}

START_TEST(threads_allocate)
{
	pthread_t t[4];
	uintptr_t i;

	for (i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, allocate_and_free, (void *)i), 0);
	for (i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}
END_TEST

/* A table without a free place is no reason to fail. */
START_TEST(without_an_entry)
{
	struct counters *p;
	uint32_t i, area;

	for (i = 0; i < CONTROL_AREAS_MAX; i++) {
		uint64_t w = owner_load(&k->control.area[i].word);

		ck_assert(owner_cas(&k->control.area[i].word, &w,
		                    owner_moved(w, OWNER_HELD, one.session)));
	}
	p = counters_new();
	ck_assert_uint_eq(areas_of(k->id, &area), 0);
	kmm_get_cpu_ptr(p)->held++;
	kmm_put_cpu_ptr(p);
	ck_assert_int_eq(counters_free(p), 0);
	for (i = 0; i < CONTROL_AREAS_MAX; i++) {
		uint64_t w = owner_load(&k->control.area[i].word);

		owner_store(&k->control.area[i].word, owner_moved(w, OWNER_FREE, 0));
	}
}
END_TEST

static void setup_quota(void)
{
	fixture_setup_configured("[limits]\npages = 4\n", NULL);
}

START_TEST(a_chunk_that_is_refused)
{
	uint32_t area;

	refused(k, 8, 8, EDQUOT, "");
	ck_assert_uint_eq(areas_of(k->id, &area), 0);
	ck_assert_int_eq(daemon_session_number(&d, kmm_session_id(k), "granted"), 0);
}
END_TEST

/* ---- operations ---- */

/* On one CPU, so that the copies are known. */
static void operations(struct counters *p)
{
	unsigned int cpus[KMM_CPUS_1], cpu;
	struct counters *c;
	int x;

	percpu_allowed(cpus);
	percpu_pin(cpu = cpus[0]);
	c = kmm_per_cpu_at(p, cpu);
	must(kmm_cpu_id() == cpu);
	must(kmm_this_cpu_ptr(p) == c && kmm_this_cpu_ptr(&p->c) == &c->c);

	kmm_this_cpu_add(p->a, 5);
	kmm_this_cpu_sub(p->a, 7u);
	must(c->a == UINT64_MAX - 1);
	kmm_this_cpu_inc(p->a);
	kmm_this_cpu_inc(p->a);
	kmm_this_cpu_dec(p->a);
	must(c->a == UINT64_MAX);
	must(kmm_this_cpu_inc_return(p->a) == 0 && kmm_this_cpu_dec_return(p->a) == UINT64_MAX);
	must(kmm_this_cpu_add_return(p->a, 11) == 10 && kmm_this_cpu_sub_return(p->a, 4) == 6);
	must(kmm_this_cpu_xchg(p->a, UINT64_C(1) << 40) == 6 && c->a == UINT64_C(1) << 40);
	must(kmm_this_cpu_read(p->a) == UINT64_C(1) << 40);

	kmm_this_cpu_write(p->b, 0xf0f0f0f0u);
	kmm_this_cpu_and(p->b, 0xffff0000u);
	kmm_this_cpu_or(p->b, 3);
	must(c->b == 0xf0f00003u && kmm_this_cpu_read(p->b) == 0xf0f00003u);
	must(kmm_this_cpu_cmpxchg(p->b, 1, 2) == 0xf0f00003u && c->b == 0xf0f00003u);
	must(kmm_this_cpu_cmpxchg(p->b, 0xf0f00003u, 2) == 0xf0f00003u && c->b == 2);
	kmm_this_cpu_sub(p->b, 3);
	must(c->b == UINT32_MAX);

	/* small ones wrap, and leave their neighbours alone */
	kmm_this_cpu_write(p->c, 65535);
	kmm_this_cpu_write(p->d, 255);
	kmm_this_cpu_inc(p->c);
	kmm_this_cpu_inc(p->d);
	must(c->c == 0 && c->d == 0 && c->b == UINT32_MAX && c->held == 0);
	must(kmm_this_cpu_dec_return(p->c) == 65535 && kmm_this_cpu_dec_return(p->d) == 255);
	must(kmm_this_cpu_xchg(p->d, 9) == 255 && kmm_this_cpu_xchg(p->c, 9) == 65535);
	must(kmm_this_cpu_cmpxchg(p->d, 9, 8) == 9 && kmm_this_cpu_cmpxchg(p->c, 8, 7) == 9);
	must(c->d == 8 && c->c == 9);
	kmm_this_cpu_or(p->d, 0x81);
	kmm_this_cpu_and(p->c, 8);
	must(c->d == 0x89 && c->c == 8);

	kmm_this_cpu_add(p->held, -3);
	must(kmm_this_cpu_read(p->held) == -3 && kmm_this_cpu_add_return(p->held, 1) == -2);
	kmm_this_cpu_write(p->p, &x);
	must(kmm_this_cpu_read(p->p) == &x && kmm_this_cpu_xchg(p->p, NULL) == &x && !c->p);

	/* the same while the thread has the CPU */
	must(kmm_get_cpu() == cpu);
	must(kmm_this_cpu_xchg(p->a, 1) == UINT64_C(1) << 40);
	kmm_this_cpu_add(p->a, 2);
	must(kmm_this_cpu_add_return(p->a, 3) == 6 && kmm_this_cpu_read(p->a) == 6);
	must(kmm_this_cpu_cmpxchg(p->a, 6, 0) == 6 && c->a == 0);
	must(kmm_put_cpu() == 0);
	memset(c, 0, sizeof(*c));
}

/* Every kind of change to the same variables, by threads that wander. */
static struct counters *counted;
static unsigned int rounds;

static void *count(void *arg)
{
	unsigned int cpus[KMM_CPUS_1], nr = percpu_allowed(cpus), i;

	(void)arg;
	for (i = 0; i < rounds; i++) {
		percpu_wander(cpus, nr, i + (unsigned int)(uintptr_t)arg * 4096);
		kmm_this_cpu_inc(counted->a);
		kmm_this_cpu_add(counted->b, 3);
		kmm_this_cpu_sub(counted->c, 1);
		(void)kmm_this_cpu_add_return(counted->d, 5);
		if (i % 16 == 0) {
			struct counters *c = kmm_get_cpu_ptr(counted);
			uint64_t a = c->a, first = c->pair[0];

			must(first == c->pair[1]);
			c->pair[0] = first + 1;
			if (i % 512 == 0)
				sched_yield(); /* preempted: others come to this CPU */
			if (i % 2048 == 0)
				percpu_pin(cpus[i / 2048 % nr]); /* and this one leaves it */
			kmm_this_cpu_inc(counted->held);
			must(c->a == a);
			c->a = a + 1;
			c->pair[1] = first + 1;
			kmm_put_cpu_ptr(counted);
		}
	}
	return NULL;
}

static void count_by_threads(struct counters *p, unsigned int usual)
{
	const char *steps = getenv("KMM_TEST_STEPS");
	uint64_t n = (uint64_t)PERCPU_THREADS *
	             (rounds = steps ? (unsigned int)strtoul(steps, NULL, 0) : usual);
	uint64_t gets = (uint64_t)PERCPU_THREADS * ((rounds + 15) / 16);
	struct counters sum = { 0 };
	pthread_t t[PERCPU_THREADS];
	unsigned int cpu;
	uintptr_t i;

	counted = p;
	for (i = 0; i < PERCPU_THREADS; i++)
		must(pthread_create(&t[i], NULL, count, (void *)i) == 0);
	for (i = 0; i < PERCPU_THREADS; i++)
		pthread_join(t[i], NULL);
	kmm_for_each_possible_cpu(cpu) {
		struct counters *c = kmm_per_cpu_at(p, cpu);

		sum.b += c->b;
		sum.c = (uint16_t)(sum.c + c->c);
		sum.d = (uint8_t)(sum.d + c->d);
		sum.held += c->held;
		sum.pair[0] += c->pair[0];
		sum.pair[1] += c->pair[1];
	}
	must(sum_a(p) == n + gets);
	must(sum.b == (uint32_t)(3 * n) && sum.c == (uint16_t)-n && sum.d == (uint8_t)(5 * n));
	must(sum.held == (int64_t)gets && sum.pair[0] == gets && sum.pair[1] == gets);
}

START_TEST(every_operation)
{
	struct counters *p = counters_new();

	operations(p);
	ck_assert_int_eq(counters_free(p), 0);
}
END_TEST

START_TEST(exact_by_threads)
{
	struct counters *p = counters_new();

	count_by_threads(p, 60000);
	ck_assert_int_eq(counters_free(p), 0);
}
END_TEST

/* As a program of its own. */
static int run_alone(void)
{
	struct counters *p;

	must(kmm_open(&k, NULL) == 0);
	p = (struct counters *)kmm_alloc_percpu(k, sizeof(*p), _Alignof(*p));
	must(p);
	operations(p);
	must(percpu_uses_sequences() == !percpu_without_sequences());
	count_by_threads(p, 20000);
	must(counters_free(p) == 0);
	must(kmm_close(k) == 0);
	return 42;
}

START_TEST(without_sequences)
{
	must(setenv("KMM_ADDRESS", d.socket, 1) == 0);
	ck_assert_int_eq(percpu_run_self("alone", "GLIBC_TUNABLES", "glibc.pthread.rseq=0"), 42);
#if defined(__x86_64__) || defined(__aarch64__)
	ck_assert_int_eq(percpu_run_self("alone", "GLIBC_TUNABLES", "glibc.pthread.rseq=1"), 42);
#endif
}
END_TEST

/* kmm_close in the fixture ends with what is out. */
START_TEST(a_close_frees_all)
{
	struct counters *p = counters_new();

	counters_new();
	ck_assert_ptr_nonnull(kmm_alloc_percpu(k, 16384, 4096));
	ck_assert_int_eq(kmm_close(k), 0);
	ck_assert_int_eq(counters_free(p), -EINVAL);
	errno = 0;
	ck_assert_ptr_null(kmm_per_cpu_ptr((struct kmm_percpu *)p, 0));
	ck_assert_int_eq(errno, EINVAL);
	k = session_start(&d);
}
END_TEST

static void add_common(TCase *c)
{
	tcase_add_test(c, copies_are_zeroed_and_apart);
	tcase_add_test(c, sizes_and_alignments);
	tcase_add_test(c, chunks_come_and_go);
	tcase_add_test(c, every_operation);
	tcase_add_test(c, exact_by_threads);
	tcase_add_test(c, a_close_frees_all);
}

int main(int argc, char **argv)
{
	TCase *small, *quota;
	Suite *s;

	if (argc == 2 && strcmp(argv[1], "alone") == 0)
		return run_alone();
	s = suite_create("per-CPU memory");
	small = fixture_case(s, "4k", fixture_setup);
	add_common(small);
	tcase_add_test(small, refusals);
	tcase_add_test(small, no_address);
	tcase_add_test(small, the_fullest_chunk_first);
	tcase_add_test(small, threads_allocate);
	tcase_add_test(small, without_an_entry);
	tcase_add_test(small, without_sequences);
	add_common(fixture_case(s, "hugetlb", setup_hugetlb));
	quota = fixture_case(s, "quota", setup_quota);
	tcase_add_test(quota, a_chunk_that_is_refused);
	return suite_run(s);
}

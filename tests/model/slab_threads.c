/* SPDX-License-Identifier: MIT */
/*
 * The slab layer under several threads: one a cpu, one without, and a housekeeper that shrinks,
 * walks, counts, looks addresses up, creates and destroys, while the others allocate from the same
 * caches and free what they find in places where all leave objects. Each owner word has an atomic
 * mark, which shows an object that was given twice or freed by nobody who had it; at the end the
 * validators look at everything, and no frame may be lost.
 *
 * usage: slab_threads [--steps N] [--seed S]
 */
#include <inttypes.h>
#include <pthread.h>
#include <time.h>

#include "tests/unit/test_mm_slab.h"

static uint64_t seed;

static uint64_t draw_from(uint64_t *random)
{
	/* xorshift64* */
	*random ^= *random >> 12;
	*random ^= *random << 25;
	*random ^= *random >> 27;
	return *random * 0x2545f4914f6cdd1dull;
}

#define THREADS 4u /* a cpu each but for the last, which has none */
#define SHARED 3u  /* caches that all use */
#define PLACES 512u

struct shared {
	struct test_slab t;
	struct kmem_cache *k[SHARED];
	_Atomic uint8_t *mark;               /* by owner word: who has it */
	_Atomic(struct slab_object *) place[PLACES]; /* objects for anybody to free */
	_Atomic bool stop;
	uint64_t steps;
};

struct worker {
	struct shared *s;
	pthread_t thread;
	uint32_t cpu;
	uint64_t random, done;
};

static void fail(const char *what)
{
	fprintf(stderr, "slab_threads: seed %" PRIu64 ": threads: %s\n", seed, what);
	exit(1);
}

/* Leaves the object in a place, and frees what lay there. */
static void pass_on(struct worker *w, const struct slab_object *o)
{
	struct shared *s = w->s;
	struct slab_object *mine = NULL;

	if (o) {
		mine = malloc(sizeof(*mine));
		if (!mine)
			abort();
		*mine = *o;
	}
	mine = atomic_exchange(&s->place[draw_from(&w->random) % PLACES], mine);
	if (!mine)
		return;
	if (atomic_exchange(&s->mark[mine->word], 0) == 0)
		fail("an object that nobody has was passed on");
	if (!slab_free(mine, w->cpu, draw_from(&w->random) % 16 == 0))
		fail("a free was refused");
	free(mine);
}

static void *work(void *ctx)
{
	struct worker *w = ctx;
	struct shared *s = w->s;
	struct mm_request r = { .gfp = GFP_KERNEL, .cpu = w->cpu };
	struct slab_object got[100];

	for (w->done = 0; w->done < s->steps; w->done++) {
		size_t n = draw_from(&w->random) % 8 ? 1 : 1 + draw_from(&w->random) % 100;
		int error;

		n = slab_alloc_bulk(s->k[draw_from(&w->random) % SHARED], &r, n, got, &error);
		for (size_t i = 0; i < n; i++)
			if (atomic_exchange(&s->mark[got[i].word], 1) != 0)
				fail("an object was given twice");
		for (size_t i = 0; i < n; i++)
			pass_on(w, &got[i]);
		if (w->cpu != MM_CPU_NONE && w->done % 512 == 0) {
			slab_tick_cpu(s->t.space, w->cpu);
			slab_shrink(s->k[0], w->cpu, 1);
		}
	}
	return NULL;
}

static void count_out(void *ctx, const struct slab_object *o, bool out)
{
	(void)o;
	*(uint64_t *)ctx += out;
}

/* Looks at everything, creates and destroys caches of its own, and shrinks those of all. */
static void *keep_house(void *ctx)
{
	struct worker *w = ctx;
	struct shared *s = w->s;
	struct mm_request r = { .gfp = GFP_KERNEL, .cpu = MM_CPU_NONE };
	struct kmem_cache_stats stats;
	struct slab_object o;
	uint64_t out = 0;
	bool is_out;

	while (!atomic_load(&s->stop)) {
		struct kmem_cache *mine = test_cache(&s->t, "own", 8 + draw_from(&w->random) % 3000,
		                                     0, 0);
		int error;

		if (slab_alloc_bulk(mine, &r, 1, &o, &error)) {
			if (kmem_cache_destroy(mine, &out) != -EBUSY || out != 1)
				fail("a cache with an object out ended");
			if (!slab_free(&o, MM_CPU_NONE, false))
				fail("a free was refused");
		}
		slab_walk(s->t.space, NULL, count_out, &out);
		slab_tick(s->t.space);
		for (uint32_t i = 0; i < SHARED; i++) {
			kmem_cache_stats(s->k[i], &stats);
			slab_shrink(s->k[i], MM_CPU_NONE, 0);
		}
		for (uint32_t i = 0; i < 1000; i++)
			slab_object_at(s->t.space,
			               draw_from(&w->random) %
			                       (s->t.pool.config.frames << PAGE_SHIFT) & ~7ull,
			               &o, &is_out);
		if (kmem_cache_destroy(mine, &out))
			fail("an empty cache did not end");
	}
	return NULL;
}

static void threads_run(uint64_t steps)
{
	static struct shared s;
	struct worker w[THREADS + 1];
	struct mm_config c;

	mm_config_default(&c, 8192); /* 32 MiB */
	c.cpus = THREADS - 1;
	c.nodes = 2;
	test_slab_open(&s.t, &c, 16);
	s.k[0] = test_cache(&s.t, "a", 64, 0, 0);
	s.k[1] = test_cache(&s.t, "b", 640, 0, SLAB_RECLAIM_ACCOUNT);
	s.k[2] = test_cache(&s.t, "c", 20, 0, SLAB_RED_ZONE);
	s.mark = test_zeroed(s.t.memory.words);
	s.steps = steps;
	for (uint32_t i = 0; i <= THREADS; i++) {
		w[i] = (struct worker){ .s = &s,
			                .cpu = i < THREADS - 1 ? i : MM_CPU_NONE,
			                .random = (seed ^ (i + 1) * 0x9e3779b97f4a7c15ull) | 1 };
		if (pthread_create(&w[i].thread, NULL, i < THREADS ? work : keep_house, &w[i]))
			abort();
	}
	for (uint32_t i = 0; i < THREADS; i++)
		pthread_join(w[i].thread, NULL);
	atomic_store(&s.stop, true);
	pthread_join(w[THREADS].thread, NULL);
	if (test_slab_findings(&s.t))
		fail("validators");
	w[0].cpu = MM_CPU_NONE;
	for (uint32_t i = 0; i < 100 * PLACES; i++)
		pass_on(&w[0], NULL);
	for (uint32_t i = 0; i < SHARED; i++) {
		uint64_t out;

		if (kmem_cache_destroy(s.k[i], &out))
			fail("objects are out that nobody has");
	}
	if (test_slab_findings(&s.t) || test_pool_free_frames(&s.t.pool) != 8192)
		fail("validators, at the end");
	printf("slabs made: %" PRIu64 "\n", (uint64_t)s.t.born);
	free((void *)s.mark);
	test_slab_close(&s.t);
}

int main(int argc, char **argv)
{
	uint64_t steps = 40000;

	seed = (uint64_t)time(NULL) * 1000003u;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--steps") == 0 && i + 1 < argc) {
			steps = strtoull(argv[++i], NULL, 0);
		} else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
			seed = strtoull(argv[++i], NULL, 0);
		} else {
			fprintf(stderr, "usage: slab_threads [--steps N] [--seed S]\n");
			return 2;
		}
	}
	printf("slab_threads: --steps %" PRIu64 " --seed %" PRIu64 "\n", steps, seed);
	fflush(stdout);
	threads_run(steps);
	printf("slab_threads: ok\n");
	return 0;
}

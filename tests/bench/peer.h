/* SPDX-License-Identifier: MIT */
/*
 * A competitor of the object benchmarks: a program that measures a row when it is told to.
 *
 * tests/bench/run starts every competitor once, then asks them in turn, round by round, so that
 * what the machine does meanwhile hits all alike. It writes a row's name and a newline to the
 * program's standard input and reads one line: nanoseconds an object, or "-" when the competitor
 * has no such row. The first line that a program writes is "ready".
 *
 * The patterns take the competitor's two functions as arguments that the compiler knows: always
 * inlined, they become direct calls, or nothing but the inlined code where the competitor's own
 * header is inline (then they are PEER_INLINE too). So the loop costs the same for all. C and C++.
 */
#ifndef TESTS_BENCH_PEER_H
#define TESTS_BENCH_PEER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* affinity */
#endif
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "tests/bench/bench.h"

#define PEER_SIZE 64u        /* bytes of an object */
#define PEER_BATCH 64u
#define PEER_BULK 32u
#define PEER_RUN 50000u
#define PEER_LIVE 1000u
#define PEER_STEPS (1u << 16) /* of the random sequence, then again from its start */
#define PEER_PAIRS 3000000u

#define PEER_INLINE static inline __attribute__((always_inline))

struct peer_row {
	const char *name;
	double (*run)(void);
};

__attribute__((noreturn, cold)) static inline void peer_fail(const char *what)
{
	perror(what);
	exit(1);
}

/* The compiler may not know that an object that was taken is given back at once. */
PEER_INLINE void *peer_use(void *p)
{
	if (__builtin_expect(!p, 0))
		peer_fail("an allocation failed");
	__asm__ volatile("" : "+r"(p) : : "memory");
	return p;
}

/* A row is measured in so many parts, of which the median counts: what a preemption costs is not
 * the allocator's. */
#define PEER_PARTS 15

struct peer_parts {
	double ns[PEER_PARTS], start;
	int n;
};

/* for (peer_parts_begin(&p); peer_parts_more(&p, objects);) one part */
static inline void peer_parts_begin(struct peer_parts *p)
{
	p->n = -1;
}

static inline bool peer_parts_more(struct peer_parts *p, size_t objects)
{
	double now = bench_now_ns();

	if (p->n >= 0)
		p->ns[p->n] = (now - p->start) / (double)objects;
	p->n++;
	p->start = bench_now_ns();
	return p->n < PEER_PARTS;
}

static inline double peer_parts_ns(struct peer_parts *p)
{
	return bench_median(p->ns, PEER_PARTS);
}

/* ns an object: one taken, given back, and so on. */
PEER_INLINE double peer_pairs(void *(*get)(size_t), void (*put)(void *), size_t pairs)
{
	struct peer_parts part;
	size_t n = pairs / PEER_PARTS;

	for (peer_parts_begin(&part); peer_parts_more(&part, n);)
		for (size_t i = 0; i < n; i++)
			put(peer_use(get(PEER_SIZE)));
	return peer_parts_ns(&part);
}

/* A batch of them taken one by one, then given back in the same order. */
PEER_INLINE double peer_batches_of(void **p, size_t batch, void *(*get)(size_t),
                                   void (*put)(void *), size_t pairs)
{
	struct peer_parts part;
	size_t laps = pairs < batch * PEER_PARTS ? 1 : pairs / batch / PEER_PARTS;

	for (peer_parts_begin(&part); peer_parts_more(&part, laps * batch);)
		for (size_t i = 0; i < laps; i++) {
			for (size_t j = 0; j < batch; j++)
				p[j] = peer_use(get(PEER_SIZE));
			for (size_t j = 0; j < batch; j++)
				put(p[j]);
		}
	return peer_parts_ns(&part);
}

/* What a magazine holds. */
PEER_INLINE double peer_batches(void *(*get)(size_t), void (*put)(void *), size_t pairs)
{
	void *p[PEER_BATCH];

	return peer_batches_of(p, PEER_BATCH, get, put, pairs);
}

/* More than any thread keeps: the layers below are asked for all. */
PEER_INLINE double peer_runs(void *(*get)(size_t), void (*put)(void *), size_t pairs)
{
	static void *p[PEER_RUN];

	return peer_batches_of(p, PEER_RUN, get, put, pairs);
}

/* PEER_BULK taken by one call, given back by one call. */
PEER_INLINE double peer_bulks(bool (*get)(size_t, void **), void (*put)(size_t, void **),
                              size_t pairs)
{
	void *p[PEER_BULK];
	struct peer_parts part;
	size_t laps = pairs / PEER_BULK / PEER_PARTS;

	for (peer_parts_begin(&part); peer_parts_more(&part, laps * PEER_BULK);)
		for (size_t i = 0; i < laps; i++) {
			if (__builtin_expect(!get(PEER_BULK, p), 0))
				peer_fail("bulk");
			__asm__ volatile("" : : "r"(p) : "memory");
			put(PEER_BULK, p);
		}
	return peer_parts_ns(&part);
}

struct peer_step {
	uint16_t slot, size;
};

/* The same for all: slots of PEER_LIVE, sizes of 16 to 1024 bytes. */
static inline const struct peer_step *peer_sequence(void)
{
	static struct peer_step step[PEER_STEPS];
	uint64_t x = 88172645463325252u;

	for (size_t i = 0; i < PEER_STEPS && step[0].size == 0; i++) {
		for (size_t j = 0; j < PEER_STEPS; j++) {
			x ^= x << 13; /* Marsaglia's xorshift */
			x ^= x >> 7;
			x ^= x << 17;
			step[j].slot = (uint16_t)((x >> 8) % PEER_LIVE);
			step[j].size = (uint16_t)(16 + (x >> 32) % 1009);
		}
	}
	return step;
}

/* PEER_LIVE objects of all sizes; a random one is given back and another taken; ns a pair. */
PEER_INLINE double peer_random(void *(*get)(size_t), void (*put)(void *), size_t pairs)
{
	const struct peer_step *step = peer_sequence();
	void *live[PEER_LIVE];
	struct peer_parts part;
	size_t n = pairs / PEER_PARTS;

	for (size_t i = 0; i < PEER_LIVE; i++)
		live[i] = peer_use(get(step[i].size));
	for (peer_parts_begin(&part); peer_parts_more(&part, n);)
		for (size_t i = 0; i < n; i++) {
			const struct peer_step *s = &step[i % PEER_STEPS];

			put(live[s->slot]);
			live[s->slot] = peer_use(get(s->size));
		}
	for (size_t i = 0; i < PEER_LIVE; i++)
		put(live[i]);
	return peer_parts_ns(&part);
}

/* ---- two threads at once, each on a core of its own ---- */

struct peer_thread {
	pthread_barrier_t *barrier;
	int cpu;
	double ns; /* an object: the thread's answer */
};

/* What a thread does first, then measures. */
static inline struct peer_thread *peer_thread_enter(void *arg)
{
	struct peer_thread *t = (struct peer_thread *)arg;

	bench_pin(t->cpu);
	pthread_barrier_wait(t->barrier);
	return t;
}

/* Mean of two threads that run `body`, which begins with peer_thread_enter(). */
static inline double peer_two_threads(void *(*body)(void *))
{
	pthread_barrier_t barrier;
	struct peer_thread t[2];
	pthread_t thread[2];

	pthread_barrier_init(&barrier, NULL, 2);
	for (int i = 0; i < 2; i++) {
		t[i].barrier = &barrier;
		t[i].cpu = i;
		t[i].ns = 0;
		if (pthread_create(&thread[i], NULL, body, &t[i]) != 0)
			peer_fail("pthread_create");
	}
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	pthread_barrier_destroy(&barrier);
	return (t[0].ns + t[1].ns) / 2;
}

/* ---- rows on demand ---- */

static inline int peer_serve(const struct peer_row *row, size_t rows)
{
	char line[128];

	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		size_t i = 0;

		line[strcspn(line, "\n")] = 0;
		while (i < rows && strcmp(line, row[i].name) != 0)
			i++;
		if (i < rows)
			printf("%.5f\n", row[i].run());
		else
			puts("-");
		fflush(stdout);
	}
	return 0;
}

#define PEER_COUNT(a) (sizeof(a) / sizeof((a)[0]))

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Objects that cross: A takes them and passes them on through a ring, B gives them back.
 *
 * The ring is the same for all competitors: one producer, one consumer, 1024 slots of 8 bytes,
 * each side with its own index on a line of its own and a copy of the other's that is read again
 * only when the ring seems full or empty (Lamport's queue). A burst is written, then published by
 * one store. It lies in memory that a forked process shares.
 *
 * B is a process (or a thread, for allocators that know only one process) that is started once
 * and sleeps in read() between the rows; during a row both sides spin, A on CPU 0, B on CPU 1.
 * The clock runs from A's first object, after a lap to warm up, to B's last.
 */
#ifndef TESTS_BENCH_CROSS_H
#define TESTS_BENCH_CROSS_H

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tests/bench/peer.h"

#define CROSS_SLOTS 1024u
#define CROSS_BURST_MAX 32u
#define CROSS_WARM 64u /* the lap to warm up: one in so many */

struct cross {
	/* the producer's line */
	uint64_t tail, head_seen;
	uint64_t pad0[6];
	/* the consumer's line */
	uint64_t head, tail_seen;
	uint64_t pad1[6];
	uint64_t done; /* objects that B gave back, stored at the end of a lap */
	uint64_t pad2[7];
	uint64_t slot[CROSS_SLOTS];
	/* beside the ring */
	int command[2];
};

/* What A does with a burst, and B. */
typedef void (*cross_side_fn)(uint64_t *item, size_t burst);

PEER_INLINE void cross_push(struct cross *c, const uint64_t *item, size_t n)
{
	uint64_t tail = c->tail;

	while (tail + n - c->head_seen > CROSS_SLOTS) {
		/* acquire: the slots below head were read; pairs with cross_pop's store */
		c->head_seen = __atomic_load_n(&c->head, __ATOMIC_ACQUIRE);
		__builtin_ia32_pause();
	}
	for (size_t i = 0; i < n; i++)
		c->slot[(tail + i) % CROSS_SLOTS] = item[i];
	/* release: the slots; pairs with cross_pop's load */
	__atomic_store_n(&c->tail, tail + n, __ATOMIC_RELEASE);
}

PEER_INLINE void cross_pop(struct cross *c, uint64_t *item, size_t n)
{
	uint64_t head = c->head;

	while (c->tail_seen - head < n) {
		/* acquire: pairs with cross_push's store */
		c->tail_seen = __atomic_load_n(&c->tail, __ATOMIC_ACQUIRE);
		__builtin_ia32_pause();
	}
	for (size_t i = 0; i < n; i++)
		item[i] = c->slot[(head + i) % CROSS_SLOTS];
	/* release: the slots were read; pairs with cross_push's load */
	__atomic_store_n(&c->head, head + n, __ATOMIC_RELEASE);
}

static inline struct cross *cross_new(void)
{
	void *p = mmap(NULL, sizeof(struct cross), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
	               -1, 0);

	if (p == MAP_FAILED || pipe(((struct cross *)p)->command) != 0)
		peer_fail("a ring");
	return (struct cross *)p;
}

struct cross_lap {
	uint32_t burst;
	uint32_t bursts;
};

/* B's loop: laps as they are asked for, until A is gone. */
PEER_INLINE void cross_consume(struct cross *c, cross_side_fn side)
{
	struct cross_lap lap;
	uint64_t item[CROSS_BURST_MAX];

	bench_pin(1);
	while (read(c->command[0], &lap, sizeof(lap)) == (ssize_t)sizeof(lap)) {
		for (uint32_t i = 0; i < lap.bursts; i++) {
			cross_pop(c, item, lap.burst);
			side(item, lap.burst);
		}
		/* release: B's last object is given back; pairs with cross_lap_run's load */
		__atomic_store_n(&c->done, c->head, __ATOMIC_RELEASE);
	}
}

/* True in the child, which calls cross_consume() when it is set up and then ends. */
static inline bool cross_fork(struct cross *c)
{
	pid_t pid = fork();

	if (pid < 0)
		peer_fail("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(c->command[1]);
	}
	return pid == 0;
}

PEER_INLINE void cross_lap_run(struct cross *c, uint32_t burst, uint32_t bursts, cross_side_fn side)
{
	struct cross_lap lap = { burst, bursts };
	uint64_t item[CROSS_BURST_MAX];

	if (write(c->command[1], &lap, sizeof(lap)) != (ssize_t)sizeof(lap))
		peer_fail("the other side is gone");
	for (uint32_t i = 0; i < bursts; i++) {
		side(item, burst);
		cross_push(c, item, burst);
	}
	/* acquire: pairs with cross_consume's store */
	while (__atomic_load_n(&c->done, __ATOMIC_ACQUIRE) != c->tail)
		__builtin_ia32_pause();
}

/* A's: ns an object. */
PEER_INLINE double cross_ns(struct cross *c, uint32_t burst, size_t objects, cross_side_fn side)
{
	uint32_t bursts = (uint32_t)(objects / burst);

	cross_lap_run(c, burst, bursts / CROSS_WARM + 1, side);
	double start = bench_now_ns();

	cross_lap_run(c, burst, bursts, side);
	return (bench_now_ns() - start) / ((double)bursts * burst);
}

#endif

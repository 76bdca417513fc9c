/* SPDX-License-Identifier: MIT */
/*
 * Locks: waiting, waking, and the rank check of debug builds.
 *
 * Waiting: the word goes to LOCK_SLEEPERS before a thread sleeps, and a thread that has slept
 * takes the lock as LOCK_SLEEPERS, because it cannot know whether others sleep still; the cost is
 * at most one wake-up too many. The spin before is bounded and short: it pays when the holder runs
 * on another core, and is nothing against the futex call when it does not.
 *
 * Rank check: every thread has a short stack of the locks that it holds. Ranks on it rise strictly,
 * so only its top needs a look; releasing out of order is allowed and searched for.
 */
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lock.h"

#define LOCK_SPINS 128

static void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#else
	atomic_signal_fence(memory_order_seq_cst); /* keeps the compiler from folding the loop */
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
	/* EAGAIN and EINTR are as good as a wake-up: the caller looks again */
	(void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

void lock_wait(struct lock *l)
{
	for (int i = 0; i < LOCK_SPINS; i++) {
		uint32_t w = atomic_load_explicit(&l->word, memory_order_relaxed);

		if (w == LOCK_SLEEPERS)
			break; /* a queue formed already */
		/* acquire pairs with the release in lock_release() */
		if (w == LOCK_FREE &&
		    atomic_compare_exchange_weak_explicit(&l->word, &w, LOCK_HELD,
		                                          memory_order_acquire,
		                                          memory_order_relaxed))
			return;
		cpu_relax();
	}
	/* acquire pairs with the release in lock_release() */
	while (atomic_exchange_explicit(&l->word, LOCK_SLEEPERS, memory_order_acquire) != LOCK_FREE)
		futex_wait(&l->word, LOCK_SLEEPERS);
}

void lock_wake(struct lock *l)
{
	(void)syscall(SYS_futex, &l->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static _Thread_local struct {
	uint32_t nr;
	const struct lock *held[LOCK_NR_RANKS];
} lock_held;

__attribute__((noreturn)) static void lock_violation(const char *what, const struct lock *l)
{
	fprintf(stderr, "lock of rank %u: %s (innermost held: rank %u)\n", l->rank, what,
	        lock_held.nr ? lock_held.held[lock_held.nr - 1]->rank : 0);
	abort();
}

void lock_debug_acquire(const struct lock *l)
{
	if (l->rank == 0 || l->rank >= LOCK_NR_RANKS)
		lock_violation("not initialised", l);
	if (lock_held.nr > 0 && lock_held.held[lock_held.nr - 1]->rank >= l->rank)
		lock_violation("taken against the order", l);
	lock_held.held[lock_held.nr++] = l;
}

void lock_debug_release(const struct lock *l)
{
	for (uint32_t i = lock_held.nr; i-- > 0;) {
		if (lock_held.held[i] != l)
			continue;
		for (uint32_t j = i + 1; j < lock_held.nr; j++)
			lock_held.held[j - 1] = lock_held.held[j];
		lock_held.nr--;
		return;
	}
	lock_violation("released by a thread that does not hold it", l);
}

/* SPDX-License-Identifier: MIT */
/*
 * Ranked locks, for all of the product.
 *
 * Deadlock is impossible when every thread takes its locks in one order. The order is the enum
 * below, written here and nowhere else: a thread may take a lock only when all that it holds rank
 * lower, so two locks of one rank are never held together either. Debug builds (KMM_DEBUG) keep a
 * list of what each thread holds and abort at the first violation; the layout of struct lock is
 * the same in all builds.
 *
 * The lock itself is one futex word: free, held, held with sleepers. An attempt spins briefly
 * first (critical sections here are shorter than a trip into the kernel), then sleeps. It is for
 * the threads of one process; no lock is ever put where a client could hold it.
 */
#ifndef MM_LOCK_H
#define MM_LOCK_H

#include <stdatomic.h>

#include "types.h"

/* In the order in which they are taken. */
enum lock_rank {
	LOCK_RANK_POOL = 1,      /* superblock, section table, backing of sections */
	LOCK_RANK_SESSION_TABLE, /* who is there */
	LOCK_RANK_USER,          /* who of the users is there */
	LOCK_RANK_SESSION,       /* one session: its state, channels, quota */
	LOCK_RANK_DOMAIN,        /* one domain: its sections and members */
	LOCK_RANK_WAITQ,         /* parked requests */
	LOCK_RANK_DEPOT,         /* full and empty magazines */
	LOCK_RANK_NAME,          /* published names */
	LOCK_RANK_HOLDER,        /* further holders */
	LOCK_RANK_CACHE,         /* who has which cache open */
	LOCK_RANK_MOVE,          /* the one page of a domain that is being moved */
	LOCK_RANK_SLAB_SPACE,    /* mm: caches coming and going */
	LOCK_RANK_SLAB,          /* mm: the slabs of one cache on one node */
	LOCK_RANK_SLAB_WORDS,    /* mm: runs of owner words */
	LOCK_RANK_HOTPLUG,       /* mm: sections entering a domain's zones, limits */
	LOCK_RANK_ZONE,          /* mm: free areas of one zone */
	LOCK_RANK_FAILURE,       /* what failed last, of each session */
	LOCK_RANK_MAILBOX,       /* messages between reactors */
	LOCK_RANK_LOG,           /* always the last */
	LOCK_NR_RANKS,
};

struct lock {
	_Atomic uint32_t word; /* LOCK_FREE, LOCK_HELD, LOCK_SLEEPERS */
	uint32_t rank;
};

#define LOCK_FREE 0u
#define LOCK_HELD 1u
#define LOCK_SLEEPERS 2u

#define LOCK_INITIALIZER(r)                                                                        \
	{                                                                                          \
		.word = LOCK_FREE, .rank = (r)                                                     \
	}

/* lock.c: the contended ends, and the held list of debug builds. */
void lock_wait(struct lock *l);
void lock_wake(struct lock *l);
void lock_debug_acquire(const struct lock *l);
void lock_debug_release(const struct lock *l);

static inline void lock_init(struct lock *l, enum lock_rank rank)
{
	/* relaxed: whoever publishes the object that l lies in orders it */
	atomic_store_explicit(&l->word, LOCK_FREE, memory_order_relaxed);
	l->rank = rank;
}

static inline bool lock_try(struct lock *l)
{
	uint32_t expected = LOCK_FREE;

	/* acquire pairs with the release in lock_release() */
	if (!atomic_compare_exchange_strong_explicit(&l->word, &expected, LOCK_HELD,
	                                             memory_order_acquire, memory_order_relaxed))
		return false;
#ifdef KMM_DEBUG
	lock_debug_acquire(l);
#endif
	return true;
}

static inline void lock_acquire(struct lock *l)
{
	uint32_t expected = LOCK_FREE;

#ifdef KMM_DEBUG
	lock_debug_acquire(l);
#endif
	/* acquire pairs with the release in lock_release() */
	if (__builtin_expect(!atomic_compare_exchange_strong_explicit(
	                             &l->word, &expected, LOCK_HELD, memory_order_acquire,
	                             memory_order_relaxed),
	                     0))
		lock_wait(l);
}

static inline void lock_release(struct lock *l)
{
#ifdef KMM_DEBUG
	lock_debug_release(l);
#endif
	/* release pairs with the acquire of the next holder */
	if (__builtin_expect(atomic_exchange_explicit(&l->word, LOCK_FREE, memory_order_release) ==
	                             LOCK_SLEEPERS,
	                     0))
		lock_wake(l);
}

static inline void lock_cleanup(struct lock **l)
{
	if (*l)
		lock_release(*l);
}

static inline struct lock *lock_acquired(struct lock *l)
{
	lock_acquire(l);
	return l;
}

#define LOCK_CONCAT_(a, b) a##b
#define LOCK_CONCAT(a, b) LOCK_CONCAT_(a, b)

/* Takes l until the end of the enclosing block, however it is left. */
#define LOCK_SCOPED(l)                                                                             \
	struct lock *LOCK_CONCAT(lock_scoped_, __LINE__)                                           \
		__attribute__((cleanup(lock_cleanup), unused)) = lock_acquired(l)

#endif

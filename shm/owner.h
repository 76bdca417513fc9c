/* SPDX-License-Identifier: MIT */
/*
 * Owner words: who holds a block or an object, in one 64-bit word.
 *
 * Every page block (later: every object) has one word in its domain's control memory, which all
 * members of the domain and the daemon map. Each transfer is one compare-and-swap of that word, so
 * whoever dies at whatever instruction, the word says where the thing is.
 *
 *      63                               26 25  24  23   22..20  19..0
 *     +-----------------------------------+---+---+---+--------+-------+
 *     | generation                        | K | C | S |  kind  | owner |
 *     +-----------------------------------+---+---+---+--------+-------+
 *
 *   kind      owner means      the thing is
 *   FREE      0                on the daemon's lists
 *   OFFERED   session          granted, the reply may not have been read
 *   HELD      session or 0     in use; 0: by its holders only (KEPT)
 *   MAGAZINE  magazine         in transit or in a depot
 *   RETURNED  session          given back, or cached by a thread of that session; the daemon may
 *                              collect it at any time
 *   AREA      area             part of a larger thing whose own word decides
 *   MOVING    session          HELD, and the daemon copies it to another frame: a moment's matter
 *
 *   S SHARED       a handle was made; adopting or freeing bumps the generation
 *   C CONSTRUCTED  the cache's constructor ran; of a page that can move, MAPPED: its owner has
 *                  mapped it (kmap), it stays where it is
 *   K KEPT         the daemon records further holders (kmm_get, names)
 *
 * Transitions (d: by the daemon, c: by a client):
 *
 *   FREE -d-> OFFERED(s) -c-> HELD(s) -c-> RETURNED(s) -d-> FREE, generation + 1
 *   OFFERED(s) -d-> FREE, generation + 1        withdrawn; a late claim fails
 *   RETURNED(s) -c-> HELD(s)                    a cached block used again
 *   HELD(a)+S -c-> HELD(b), generation + 1      adopted
 *   RETURNED(s) -c-> MAGAZINE(m) -> FREE or RETURNED(b)
 *   HELD(s) -d-> MOVING(s) -d-> HELD(s)         pages of the high zones, neither MAPPED nor KEPT
 *
 * Objects that a thread caches stay HELD(s), so that allocating and freeing them writes no word;
 * a cache with consistency checks, and one that the session has not open, marks them RETURNED as
 * page blocks are.
 *
 *   HELD(s) -c-> MAGAZINE(m) -c-> HELD(b)       objects given by one thread, taken by another
 *
 * CONSTRUCTED belongs to the object's memory, not to who has it: it stays through adoption and
 * frees, and goes when the daemon takes an object from the dead.
 *
 * The words are writable by every member of the domain: the daemon takes from them only what
 * concerns that domain's own sessions and checks it against its private state.
 *
 * Memory order. A word that is stored or exchanged publishes what was written to the thing and to
 * its descriptor before: stores release, loads acquire, exchanges are acq_rel. All are pairs of
 * each other.
 *
 * Generations start at 1 and never have 32 low zero bits: a handle is never 0.
 */
#ifndef SHM_OWNER_H
#define SHM_OWNER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum owner_kind {
	OWNER_FREE,
	OWNER_OFFERED,
	OWNER_HELD,
	OWNER_MAGAZINE,
	OWNER_RETURNED,
	OWNER_AREA,
	OWNER_MOVING,
	OWNER_NR_KINDS,
};

#define OWNER_BITS 20
#define OWNER_MAX ((1u << OWNER_BITS) - 1)
#define OWNER_KIND_SHIFT 20
#define OWNER_SHARED (UINT64_C(1) << 23)
#define OWNER_CONSTRUCTED (UINT64_C(1) << 24)
#define OWNER_MAPPED OWNER_CONSTRUCTED /* of a page that can move */
#define OWNER_KEPT (UINT64_C(1) << 25)
#define OWNER_GENERATION_SHIFT 26

typedef _Atomic uint64_t owner_word_t;
_Static_assert(sizeof(owner_word_t) == 8, "an owner word is 64 bits and lock-free");

static inline uint32_t owner_id(uint64_t w)
{
	return (uint32_t)(w & OWNER_MAX);
}

static inline enum owner_kind owner_kind(uint64_t w)
{
	return (enum owner_kind)(w >> OWNER_KIND_SHIFT & 7);
}

static inline uint64_t owner_generation(uint64_t w)
{
	return w >> OWNER_GENERATION_SHIFT;
}

/* kind and owner alone, for "is it mine" in one comparison */
#define OWNER_WHO_MASK ((UINT64_C(1) << 23) - 1)

static inline uint64_t owner_who(enum owner_kind kind, uint32_t id)
{
	return (uint64_t)kind << OWNER_KIND_SHIFT | id;
}

static inline bool owner_is(uint64_t w, enum owner_kind kind, uint32_t id)
{
	return (w & OWNER_WHO_MASK) == owner_who(kind, id);
}

/* The same thing elsewhere: kind and owner changed, flags and generation kept. */
static inline uint64_t owner_moved(uint64_t w, enum owner_kind kind, uint32_t id)
{
	return (w & ~OWNER_WHO_MASK) | owner_who(kind, id);
}

static inline uint64_t owner_generation_next(uint64_t generation)
{
	generation = (generation + 1) & (UINT64_MAX >> OWNER_GENERATION_SHIFT);
	return (uint32_t)generation ? generation : generation + 1;
}

/* A new life: kind and owner changed, all flags clear (CONSTRUCTED too), generation + 1: old
 * handles are stale. */
static inline uint64_t owner_reborn(uint64_t w, enum owner_kind kind, uint32_t id)
{
	return owner_generation_next(owner_generation(w)) << OWNER_GENERATION_SHIFT |
	       owner_who(kind, id);
}

/* Another owner's, unshared, with stale handles; what was constructed stays so. */
static inline uint64_t owner_renewed(uint64_t w, enum owner_kind kind, uint32_t id)
{
	return owner_reborn(w, kind, id) | (w & OWNER_CONSTRUCTED);
}

/* What the free of a block or object by its owner leaves: stale handles where one was made, except
 * that a kept one lives on for its other holders, its handle with it. */
static inline uint64_t owner_given_back(uint64_t w, enum owner_kind kind, uint32_t id)
{
	if ((w & OWNER_SHARED) && !(w & OWNER_KEPT))
		return owner_renewed(w, kind, id);
	return owner_moved(w, kind, id);
}

static inline uint64_t owner_load(const owner_word_t *p)
{
	return atomic_load_explicit(p, memory_order_acquire);
}

static inline void owner_store(owner_word_t *p, uint64_t w)
{
	atomic_store_explicit(p, w, memory_order_release);
}

/* On failure *expected is what is there. */
static inline bool owner_cas(owner_word_t *p, uint64_t *expected, uint64_t desired)
{
	return atomic_compare_exchange_strong_explicit(p, expected, desired, memory_order_acq_rel,
	                                               memory_order_acquire);
}

/* ---- handles: granule index and the generation's low 32 bits; 0 is none ---- */

static inline uint64_t handle_make(uint32_t granule, uint64_t w)
{
	return (uint64_t)(uint32_t)owner_generation(w) << 32 | granule;
}

static inline uint32_t handle_granule(uint64_t handle)
{
	return (uint32_t)handle;
}

/* The thing that the handle was made for still lives: same generation, somebody holds it. */
static inline bool handle_is_live(uint64_t handle, uint64_t w)
{
	return owner_kind(w) == OWNER_HELD && (uint32_t)owner_generation(w) == handle >> 32;
}

#endif

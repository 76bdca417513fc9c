/* SPDX-License-Identifier: MIT */
/*
 * Magazines in shared memory (Bonwick and Adams 2001): how many blocks or objects change hands by
 * one compare-and-swap.
 *
 * A magazine is a header word and an array of granule indices. Threads allocate from arrays of
 * their own; a shared magazine carries rounds between a thread, the depot and the daemon:
 *
 *      63                     33 32      23 22..20  19..0
 *     +-------------------------+----------+-------+-------+
 *     | tag                     |  count   | state | owner |
 *     +-------------------------+----------+-------+-------+
 *
 *   EMPTY     free for use, of nobody
 *   DEPOT     full, in the depot (owner 0)
 *   OFFERED   to session `owner`
 *   LOADED    by session `owner`, which fills or empties it
 *   RACK      in the domain's rack (owner 0): any member may take it; with count 0, an empty one
 *
 *   give:  a LOADED magazine's rounds are written, the word of each is pointed at it (MAGAZINE m),
 *          then one CAS LOADED(a) -> RACK or DEPOT publishes all. DEPOT is told to the daemon.
 *   take:  one CAS RACK or OFFERED(b) -> LOADED(b); the words that name it are rewritten to the
 *          taker; then the magazine is LOADED(b), of use for a give, or is put back by
 *          LOADED(b) -> RACK, count 0, or EMPTY.
 *
 * Where a RACK magazine is to be found, the rack's slots tell (shm/control.h): hints, the header
 * is the truth. The daemon gets what lies there by RACK -> DEPOT, as anybody else.
 *
 * A round whose word does not name the magazine is none: it was collected or was never true. A
 * session that dies between two steps leaves either words that name it or words that name a
 * magazine LOADED by it (and, where it took that one, rounds that list them); the sweep frees both.
 *
 * The tag changes with every transition, so that a late CAS fails. Orders as in owner.h.
 */
#ifndef SHM_MAGAZINE_H
#define SHM_MAGAZINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define MAGAZINE_ROUNDS_MAX 512u
#define MAGAZINE_OF_OBJECTS UINT32_C(0x80000000) /* in `kind` */

typedef struct {
	uint32_t nr;
} magazine_id_t;

enum magazine_state {
	MAGAZINE_EMPTY,
	MAGAZINE_DEPOT,
	MAGAZINE_OFFERED,
	MAGAZINE_LOADED,
	MAGAZINE_RACK,
	MAGAZINE_NR_STATES,
};

struct magazine {
	_Alignas(64) _Atomic uint64_t header;
	_Atomic uint32_t kind; /* what it carries: MAGAZINE_OF_OBJECTS | cache, or the class of blocks */
	uint32_t reserved;
	_Atomic uint32_t round[MAGAZINE_ROUNDS_MAX]; /* granule indices */
	uint8_t pad[48];
};
_Static_assert(sizeof(struct magazine) == 2112, "33 cache lines");

#define MAGAZINE_OWNER_MAX 0xfffffu
#define MAGAZINE_STATE_SHIFT 20
#define MAGAZINE_COUNT_SHIFT 23
#define MAGAZINE_TAG_SHIFT 33

static inline uint32_t magazine_owner(uint64_t h)
{
	return (uint32_t)(h & MAGAZINE_OWNER_MAX);
}

static inline enum magazine_state magazine_state(uint64_t h)
{
	return (enum magazine_state)(h >> MAGAZINE_STATE_SHIFT & 7);
}

/* Bounded: the header is written by clients. */
static inline uint32_t magazine_count(uint64_t h)
{
	uint32_t n = (uint32_t)(h >> MAGAZINE_COUNT_SHIFT & 0x3ff);

	return n <= MAGAZINE_ROUNDS_MAX ? n : MAGAZINE_ROUNDS_MAX;
}

static inline bool magazine_is(uint64_t h, enum magazine_state state, uint32_t owner)
{
	return magazine_state(h) == state && magazine_owner(h) == owner;
}

/* The header that follows h: next tag. */
static inline uint64_t magazine_next(uint64_t h, enum magazine_state state, uint32_t owner,
                                     uint32_t count)
{
	return ((h >> MAGAZINE_TAG_SHIFT) + 1) << MAGAZINE_TAG_SHIFT |
	       (uint64_t)count << MAGAZINE_COUNT_SHIFT | (uint64_t)state << MAGAZINE_STATE_SHIFT |
	       owner;
}

static inline uint64_t magazine_load(const struct magazine *m)
{
	return atomic_load_explicit(&m->header, memory_order_acquire);
}

static inline bool magazine_cas(struct magazine *m, uint64_t *expected, uint64_t desired)
{
	return atomic_compare_exchange_strong_explicit(&m->header, expected, desired,
	                                               memory_order_acq_rel, memory_order_acquire);
}

#endif

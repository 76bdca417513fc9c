/* SPDX-License-Identifier: MIT */
/*
 * Zones, nodes and domains: the derived structures.
 *
 *     domain ── node[n] ── zonelist[fallback, this node]  ──► zones in the order to try them
 *        └───── zone[n][z] ── free areas (buddy.c), under the zone's lock
 *                    └─────── pcp[cpu]  (pcp.c), each used by one thread, without a lock
 *
 * What the allocation path only reads, what watermark checks read while others write it, and what
 * the lock guards lie on cache lines of their own.
 */
#ifndef MM_ZONE_H
#define MM_ZONE_H

#include <stdalign.h>

#include "lock.h"
#include "sparse.h"
#include "vmstat.h"

#define MM_CACHE_LINE 64

/* How an allocation may go on, besides the watermark that it must leave. */
enum alloc_flags {
	ALLOC_NO_WATERMARKS = 1 << 0,
	ALLOC_MIN_RESERVE = 1 << 1, /* __GFP_HIGH */
	ALLOC_NON_BLOCK = 1 << 2,   /* cannot wait */
	ALLOC_HIGHATOMIC = 1 << 3,  /* order > 0 and both of the above */
	ALLOC_NOFRAGMENT = 1 << 4,  /* does not mix migrate types in a pageblock */
	ALLOC_KSWAPD = 1 << 5,
	ALLOC_DIRECT = 1 << 6, /* one block only, none for the per-CPU lists */
	ALLOC_RESERVES = ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK | ALLOC_HIGHATOMIC,
};

enum zone_flags {
	ZONE_BOOSTED_WATERMARK = 1 << 0, /* background reclaim should be woken */
	ZONE_BELOW_HIGH = 1 << 1,        /* per-CPU lists should not grow */
	ZONE_RECLAIM_ACTIVE = 1 << 2,    /* per-CPU lists are kept short */
};

/* A list of free blocks of one order and migrate type. */
struct free_list {
	pfn_t head, tail; /* PFN_NONE when empty */
	uint32_t nr;
};

/* Counted since the start. A set has one writer (a cpu's thread) or is written by atomic adds (the
 * zone's own set, for requests without a cpu); readers sum, relaxed. */
struct zone_events {
	_Atomic uint64_t alloc[NR_PAGE_ORDERS]; /* blocks */
	_Atomic uint64_t freed[NR_PAGE_ORDERS]; /* blocks */
	_Atomic uint64_t miss;    /* blocks for a request that preferred another node */
	_Atomic uint64_t foreign; /* blocks that this zone should have given but another did */
	_Atomic uint64_t other;   /* blocks for a cpu of another node */
	_Atomic uint64_t interleave; /* blocks from the node whose turn it was */
};

struct pcp;

struct zone {
	/* constant */
	struct mm *mm;
	struct mm_domain *domain;
	struct pcp *pcp; /* by cpu; NULL where the geometry has no such zone */
	pfn_t start;     /* geometry: the zone's range of sections */
	uint32_t span;
	uint8_t node;
	uint8_t index; /* enum zone_type */
	/* written under the domain's hotplug lock */
	_Atomic uint64_t present, managed;
	_Atomic uint64_t wmark[NR_WMARK]; /* without the boost */
	_Atomic uint64_t reserve[MAX_NR_ZONES];
	_Atomic uint32_t max_order; /* of the largest block that exists, plus one; 0: none */

	/* read by watermark checks, written under the lock */
	alignas(MM_CACHE_LINE) _Atomic uint64_t nr_free; /* frames in the free areas */
	_Atomic uint64_t nr_free_special;  /* of these, on lists of HighAtomic and Isolate */
	_Atomic uint64_t nr_free_isolated; /* of these, Isolate: in sections that are to leave */
	_Atomic uint64_t nr_reserved_highatomic;
	_Atomic uint64_t boost;
	_Atomic uint64_t nr_free_least; /* the least that nr_free was since mm_domain_ready() */
	_Atomic uint32_t flags;                    /* enum zone_flags, by atomic or and and */
	_Atomic uint16_t nonempty[MIGRATE_TYPES]; /* a bit an order: the list has blocks */
	/* to here it is one cache line, see below */

	alignas(MM_CACHE_LINE) struct lock lock; /* guards all that follows */
	uint64_t fallback, steal, claim;
	uint64_t pageblocks[MIGRATE_TYPES];
	struct free_list list[NR_PAGE_ORDERS][MIGRATE_TYPES];

	alignas(MM_CACHE_LINE) struct zone_events events;
	_Atomic uint64_t alloc_fail;

	/* compaction.c: where its scanners stood last ([0]: runs that pass by what did not move, [1]:
	 * all), where they begin anew, and when the next run is worth it. Used by the one thread that
	 * compacts the domain, but for what is wanted (a zone class and an order, see below). */
	pfn_t compact_cached_free_pfn, compact_cached_migrate_pfn[2];
	pfn_t compact_init_free_pfn, compact_init_migrate_pfn;
	uint32_t compact_considered, compact_defer_shift, compact_order_failed;
	/* a run has met itself, or sections came or went: forget what to pass by. Any thread
	 * sets it */
	_Atomic bool compact_blockskip_flush;
	_Atomic uint32_t compact_wanted;
};

_Static_assert(offsetof(struct zone, lock) - offsetof(struct zone, nr_free) == MM_CACHE_LINE,
               "a watermark check touches one line");

#define COMPACT_WANTED(order, class) ((order) | (class) << 8)
#define COMPACT_WANTED_ORDER(w) ((w)&0xffu)
#define COMPACT_WANTED_CLASS(w) ((w) >> 8)

/* Zones in the order in which to try them, for one node. */
struct zonelist {
	uint32_t nr;
	uint32_t first[MAX_NR_ZONES]; /* by zone class: where to begin; nr: nowhere */
	struct zone **zone;
};
enum { ZONELIST_FALLBACK, ZONELIST_NOFALLBACK, MAX_ZONELISTS };

/* The zone that a cpu freed to last. Most frees go there again, so a free may begin with it while
 * the frame's own zone is still being looked up: what would be a chain of four dependent loads
 * becomes a comparison that the processor predicts. Used by the cpu's thread only. */
struct cpu_hint {
	alignas(2 * MM_CACHE_LINE) struct zone *zone;
	struct pcp *pcp;
	uint32_t index; /* as in mm->section_zone; UINT32_MAX: none yet */
};

struct mm_domain {
	struct mm *mm;
	uint32_t id;
	/* copies of what every allocation and free needs, to spare it a dependent load each */
	uint32_t cpus, section_order;
	struct page *page;
	const _Atomic uint8_t *pageblock;
	const uint16_t *section_zone;
	/* by the five zone and mobility bits: what the fast path needs to know of a request, see
	 * domain_fast_entry(); 0: not for the fast path. Written by mm_domain_ready(). */
	_Atomic uint8_t fast[32];
	_Atomic bool reclaim_wanted;    /* a request with __GFP_KSWAPD_RECLAIM met a low watermark */
	_Atomic bool grouping_disabled; /* too small for migrate types: all Unmovable */
	struct lock hotplug;
	struct zone *zones;            /* node * MAX_NR_ZONES + zone */
	struct zonelist *lists;        /* node * MAX_ZONELISTS + kind */
	struct zone **refs;            /* what the lists point into */
	struct cpu_hint *hint;         /* by cpu */
	struct mm_isolation *isolations; /* sections that are isolated; under the hotplug lock */
	/* what happened (vmstat.h), behind all that the fast paths read */
	_Atomic uint64_t event[VM_NR_EVENTS];
};

/* A fast entry: the zone to use plus one, the zone class, the type of its lists. */
#define FAST_ENTRY(zone, class, type) ((uint8_t)(((zone) + 1u) | (class) << 3 | (type) << 6))
#define FAST_ZONE(e) (((e)&7u) - 1u)
#define FAST_CLASS(e) ((e) >> 3 & 7u)
#define FAST_TYPE(e) ((e) >> 6)

static inline struct zone *domain_zone(const struct mm_domain *d, uint32_t node, uint32_t z)
{
	return &d->zones[node * MAX_NR_ZONES + z];
}

static inline struct zone *domain_zone_of(const struct mm_domain *d, pfn_t pfn)
{
	return &d->zones[d->mm->section_zone[pfn >> d->mm->config.section_order]];
}

/* Counters and limits that others only look at: relaxed, no ordering is implied. */
#define RELAXED_FUNCTIONS(type, name)                                                              \
	static inline type relaxed_load_##name(const _Atomic type *p)                              \
	{                                                                                          \
		return atomic_load_explicit(p, memory_order_relaxed);                              \
	}                                                                                          \
	static inline void relaxed_store_##name(_Atomic type *p, type v)                           \
	{                                                                                          \
		atomic_store_explicit(p, v, memory_order_relaxed);                                 \
	}
RELAXED_FUNCTIONS(uint64_t, u64)
RELAXED_FUNCTIONS(uint32_t, u32)
RELAXED_FUNCTIONS(uint16_t, u16)
RELAXED_FUNCTIONS(uint8_t, u8)
RELAXED_FUNCTIONS(bool, bool)
#define RELAXED_SELECT(verb, p)                                                                    \
	_Generic(*(p), uint64_t                                                                    \
		 : verb##_u64, uint32_t                                                            \
		 : verb##_u32, uint16_t                                                            \
		 : verb##_u16, uint8_t                                                             \
		 : verb##_u8, bool                                                                 \
		 : verb##_bool)
#define relaxed_load(p) RELAXED_SELECT(relaxed_load, p)(p)
#define relaxed_store(p, v) RELAXED_SELECT(relaxed_store, p)((p), (v))
/* by the only writer, or under the lock that guards the counter */
#define relaxed_add(p, v) relaxed_store((p), relaxed_load(p) + (v))
#define relaxed_sub(p, v) relaxed_store((p), relaxed_load(p) - (v))

/* Free frames for those that cannot wait; exact under the lock. */
static inline uint64_t zone_free_highatomic(const struct zone *z)
{
	return relaxed_load(&z->nr_free_special) - relaxed_load(&z->nr_free_isolated);
}

static inline bool zone_test_flag(const struct zone *z, uint32_t flag)
{
	return relaxed_load(&z->flags) & flag;
}

static inline void zone_set_flag(struct zone *z, uint32_t flag)
{
	/* relaxed: a hint, orders nothing */
	atomic_fetch_or_explicit(&z->flags, flag, memory_order_relaxed);
}

static inline void zone_clear_flag(struct zone *z, uint32_t flag)
{
	atomic_fetch_and_explicit(&z->flags, ~flag, memory_order_relaxed);
}

/* The isolation of the section, NULL: none. Hotplug lock. */
struct mm_isolation *isolation_find(const struct mm_domain *d, section_id_t s);
/* Ends all isolations of a domain whose zones are about to go or to be made anew. Hotplug lock. */
void isolations_free(struct mm_domain *d);

/* zone.c: a zone without frames, as after mm_domain_new(). */
void zone_reset(struct zone *z);
/* compaction.c: its scanners begin at the zone's ends, nothing is passed by. */
void compaction_zone_reset(struct zone *z);
/* Adds the section's counts to its zone; its frames come by zone_release_range(). */
void zone_account_section(struct mm_domain *d, section_id_t s);
/* Takes them out again; no block of the section is on any list, nor allocated. Hotplug lock. */
void zone_unaccount_section(struct mm_domain *d, section_id_t s);
/* Puts the free frames [start, end) (managed, unallocated) on the free areas in blocks as large as
 * their alignment allows. The lock is held for a block of the largest order at a time. */
void zone_release_range(struct zone *z, pfn_t start, pfn_t end);

#endif

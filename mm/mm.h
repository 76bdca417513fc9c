/* SPDX-License-Identifier: MIT */
/*
 * The memory manager as its users (the daemon, tests, benchmarks) see it.
 *
 * mm/ works on memory that it is handed and does no I/O. Two kinds of state:
 *
 *  - persistent: one `struct page` a frame, one byte a pageblock, one word a section, in the
 *    memory given to mm_init(). An allocated block is one atomic 64-bit store into the state word
 *    of its head frame; that word is the only truth about it.
 *  - derived: nodes, zones, free lists, per-CPU lists, counters, watermarks. They live in ordinary
 *    memory and mm_domain_recover() rebuilds them from the words in O(frames).
 *
 * Threads. A `cpu` is an index below mm_config.cpus; the per-CPU lists of one cpu may be used by
 * one thread at a time (its reactor) and take no lock. MM_CPU_NONE works from any thread and goes
 * to the zones, under their locks. Everything else is thread-safe unless it says otherwise.
 *
 * Errors are negative errno values.
 */
#ifndef MM_MM_H
#define MM_MM_H

#include "gfp.h"
#include "types.h"

struct mm;        /* a pool */
struct mm_domain; /* a trust domain's nodes and zones */
struct memblock;

#define MM_CPU_NONE UINT32_MAX

struct mm_config {
	uint64_t frames;        /* of the pool, metadata included; a multiple of a section */
	uint32_t section_order; /* log2 of the frames of a section; at least MAX_PAGE_ORDER */
	uint32_t nodes;         /* 1..MAX_NODES: equal runs of sections */
	uint32_t cpus;          /* 1..MAX_CPUS */
	uint64_t dma_end;       /* first frame above ZONE_DMA; rounded up to a section */
	uint64_t dma32_end;     /* first frame above ZONE_DMA32; likewise */
	uint64_t highmem_start; /* first frame of ZONE_HIGHMEM, UINT64_MAX: none */
	uint64_t movable_start; /* first frame of ZONE_MOVABLE, UINT64_MAX: none */
	/* nodes * nodes, a row for each: 10 to itself, more to others, as the machine tells (SLIT).
	 * NULL: 10 and 20. mm_init() copies it. */
	const uint8_t *distance;
	/* The node that each cpu is on. NULL: cpu % nodes. mm_init() copies it. */
	const uint8_t *cpu_node;
};

#define MM_DISTANCE_LOCAL 10u
#define MM_DISTANCE_REMOTE 20u

/* Linux's and DESIGN's defaults for a pool of that many frames: DMA 16 MiB, DMA32 4 GiB, the rest
 * Normal; section size clamp(power of two >= pool/512, 4 MiB, 1 GiB). */
void mm_config_default(struct mm_config *c, uint64_t frames);
/* -EINVAL, with *why set to a static text, when the configuration makes no sense. */
int mm_config_check(const struct mm_config *c, const char **why);

/* Bytes of persistent memory that mm_init() needs, a multiple of 4096. */
size_t mm_persistent_bytes(const struct mm_config *c);

/* `memory` is mm_persistent_bytes() long, 64-byte aligned, zeroed when the pool is new, and stays
 * in use until mm_free(). `mb` tells which frames are memory and which are reserved; it may be
 * freed afterwards. Section words that are 0 (a new pool) become RESERVE where memory is, METADATA
 * where all of it is reserved; others stay as they are. -ENOMEM, -EINVAL. */
int mm_init(struct mm **ret, const struct mm_config *c, void *memory, const struct memblock *mb);
struct mm *mm_free(struct mm *mm);
const struct mm_config *mm_config(const struct mm *mm);

/* ---- sections (sparse.c): state and owner, one persistent word each ---- */

enum section_state {
	SECTION_ABSENT,  /* no memory behind it */
	SECTION_RESERVE, /* present, in no domain */
	SECTION_ONLINE,  /* its frames are in a domain's zones */
	SECTION_METADATA,
	SECTION_RETIRED, /* lost to a fault; never used again */
	SECTION_NR_STATES,
};
struct section_info {
	enum section_state state;
	uint32_t domain;  /* when online */
	uint8_t backing;  /* the caller's tag, enum shm_backing */
	uint8_t node;
	uint8_t zone;
	uint32_t epoch;   /* the caller's: changes when the memory behind the section is replaced */
};
uint32_t mm_nr_sections(const struct mm *mm);
void mm_section_get(const struct mm *mm, section_id_t s, struct section_info *info);
/* The one store that commits a section's state. domain is ignored unless ONLINE. */
void mm_section_set(struct mm *mm, section_id_t s, enum section_state state, uint32_t domain,
                    uint8_t backing, uint32_t epoch);
section_id_t mm_section_of(const struct mm *mm, pfn_t pfn);
pfn_t mm_section_start(const struct mm *mm, section_id_t s);

/* ---- domains ---- */

/* An empty domain: nodes and zones without frames. */
int mm_domain_new(struct mm_domain **ret, struct mm *mm, uint32_t id);
struct mm_domain *mm_domain_free(struct mm_domain *d);
/* Gives the frames of a section (RESERVE, or ABSENT and its memory is there again; committed as
 * ONLINE by the caller first or afterwards; all its frames unallocated) to the zone they lie in,
 * while others may allocate and free. Frames that memblock reserves stay out. Call
 * mm_domain_ready() after the last one: it computes watermarks, reserves, per-CPU limits.
 * -EEXIST: in a domain already; -EBUSY: has allocated blocks; -EINVAL: metadata, or no such
 * section. */
int mm_domain_online(struct mm_domain *d, section_id_t s);
void mm_domain_ready(struct mm_domain *d);

/* ---- taking sections out again (hotplug.c). One hotplug operation at a time, these,
 * mm_domain_online() and mm_domain_ready() being such; any thread, while others allocate and
 * free. */

struct mm_isolation; /* a section whose free frames nobody is given */
/* Every pageblock of the section becomes Isolate: its free blocks go to the Isolate lists, what is
 * freed in it from now on, too; nobody is given any of it. Blocks that lie on per-CPU lists or are
 * allocated stay where they are: drain each cpu once after this call and none of its frames lies
 * there any more. *ret lives until mm_section_unisolate(), mm_domain_offline(), mm_domain_free() or
 * mm_domain_recover(). -ENOENT: no section of d's zones; -EBUSY: isolated already; -ENOMEM. */
int mm_section_isolate(struct mm_isolation **ret, struct mm_domain *d, section_id_t s);
/* Undoes it: pageblocks get the types back that they had (HighAtomic ones become Movable). Returns
 * NULL. */
struct mm_isolation *mm_section_unisolate(struct mm_isolation *i);
/* Managed frames of the section that are on no free list: 0 when it could go. O(frames of it). */
uint64_t mm_section_busy(const struct mm_isolation *i);
/* Takes the frames out of the zone. -EBUSY: some are not free, nothing was changed. 0: i is gone;
 * call mm_domain_ready(), and commit the section's word as ABSENT (a death before that leaves a
 * section that is online and free). */
int mm_domain_offline(struct mm_isolation *i);

/* Rebuilds a domain from the persistent words after a restart: for each section that is ONLINE in
 * `d`, every word is checked, `keep` is asked about each allocated block, what it does not keep
 * becomes free (keep NULL: all are kept). Words that make no sense (block over a section's end,
 * misaligned, overlapping, unknown bits) end it with -EUCLEAN and a text through `report`; nothing
 * is served then. May be interrupted and run again. Calls mm_domain_ready(). */
struct mm_block;
typedef bool (*mm_keep_fn)(void *ctx, pfn_t pfn, const struct mm_block *b);
typedef void (*mm_report_fn)(void *ctx, const char *text);
int mm_domain_recover(struct mm_domain *d, mm_keep_fn keep, mm_report_fn report, void *ctx);

/* ---- blocks ---- */

struct mm_block {
	uint8_t order;
	uint8_t zone;        /* enum zone_type */
	uint8_t node;
	uint8_t migratetype; /* of the request that it serves */
	uint32_t domain;
	uint32_t tag; /* 20 bits of the caller's (the session charged) */
	bool slab;    /* only mm_domain_recover() tells of such blocks */
};
#define MM_TAG_MAX 0xfffffu

struct mm_request {
	gfp_t gfp;
	uint32_t order;
	uint32_t cpu; /* or MM_CPU_NONE */
	uint32_t tag;
	uint32_t node; /* preferred: MM_NODE_ANY (the cpu's) or MM_NODE(n) */
	bool slab;     /* for the slab layer: the block is marked so in its state word */
	bool interleave; /* the node's turn came: counted when it is served there */
	uint8_t lowest; /* enum zone_type: no zone below it serves the request; 0: any may */
};
#define MM_NODE_ANY 0u
#define MM_NODE(n) ((uint32_t)(n) + 1u)

/* The request as such is legal: order, zone bits, migrate bits. -EINVAL with *why. */
int mm_request_check(const struct mm_request *r, const char **why);
/* The zones that it may use could hold it when everything else were free. */
bool mm_request_possible(const struct mm_domain *d, const struct mm_request *r);
/* -ENOMEM: not now; -EINVAL: see mm_request_check(), or no such cpu or node. Never waits. A
 * successful call has committed the block's state word. */
int mm_alloc_pages(struct mm_domain *d, const struct mm_request *r, pfn_t *ret);
/* Up to n blocks, one lock hold a refill; returns how many. */
size_t mm_alloc_pages_bulk(struct mm_domain *d, const struct mm_request *r, size_t n, pfn_t ret[]);

/* pfn is the head of a block that is allocated now and no slab; false otherwise (also out of range).
 * One atomic load, any thread. Nor do the functions below take a slab for a block: what clients say
 * can never free one. */
bool mm_block_get(const struct mm *mm, pfn_t pfn, struct mm_block *b);
/* Changes the tag of an allocated block by one atomic store; the caller excludes its freeing. */
void mm_block_set_tag(struct mm *mm, pfn_t pfn, uint32_t tag);
/* Moves an allocated block from one tag to another: one compare-and-swap of its state word, safe
 * against every other use of the block. False when it is not allocated or its tag is not `from`. */
bool mm_block_retag(struct mm *mm, pfn_t pfn, uint32_t from, uint32_t to);

/* Claims the right to free a block: one compare-and-swap of its state word from allocated to
 * leaving. False when it is not allocated (any more) or another thread has claimed it: of several
 * claims one wins, whatever the callers were told from outside. mm_block_get() no longer finds the
 * block; recovery takes a leaving block for an allocated one. mm_free_pages() takes both. */
bool mm_block_take(struct mm *mm, pfn_t pfn, struct mm_block *b);
/* What mm_block_get() says, of a block that is claimed. */
bool mm_block_claimed(const struct mm *mm, pfn_t pfn, struct mm_block *b);
/* The caller's claim ends, the block stays: an ordinary one with that tag, by one atomic store. */
void mm_block_settle(struct mm *mm, pfn_t pfn, uint32_t tag);

/* The block must be allocated in d: the caller has checked with mm_block_get() and excludes a
 * second free. MM_FREE_DIRECT: past the per-CPU lists, so that waiters find it. */
enum mm_free { MM_FREE_CACHED, MM_FREE_DIRECT };
void mm_free_pages(struct mm_domain *d, uint32_t cpu, pfn_t pfn, enum mm_free how);
void mm_free_pages_bulk(struct mm_domain *d, uint32_t cpu, size_t n, const pfn_t pfn[],
                        enum mm_free how);

/* ---- housekeeping ---- */

void mm_drain_cpu(struct mm_domain *d, uint32_t cpu); /* thread of that cpu: lists to buddy */
void mm_tick_cpu(struct mm_domain *d, uint32_t cpu);  /* thread of that cpu, once a second: decay */
/* Since the last call a request that may wake background reclaim (__GFP_KSWAPD_RECLAIM) found every zone
 * that it may use below its low watermark, and none that it may use is above its high one by now. */
bool mm_reclaim_wanted(struct mm_domain *d);
void mm_tick(struct mm_domain *d); /* any one thread, once a second: boost decay, unreserve */
/* Walks every structure; returns the number of findings, each with a text through `report`. No
 * other thread may use the domain meanwhile. */
size_t mm_validate(struct mm_domain *d, mm_report_fn report, void *ctx);

/* ---- what the reports show (snapshots, taken without stopping anybody) ---- */

enum zone_watermark { WMARK_MIN, WMARK_LOW, WMARK_HIGH, WMARK_PROMO, NR_WMARK };

struct mm_pcp_stats {
	uint32_t count, high, batch, high_min, high_max;
};
struct mm_zone_stats {
	uint64_t free, boost, wmark[NR_WMARK]; /* wmark includes the boost */
	uint64_t spanned, present, managed, start_pfn;
	uint64_t protection[MAX_NR_ZONES];
	uint64_t free_blocks; /* frames in free blocks of at least a pageblock */
	uint64_t free_least;  /* the least that `free` was since the zone was ready */
	uint64_t numa_hit, numa_miss, numa_foreign, numa_interleave, numa_local, numa_other;
	uint64_t nr_free[NR_PAGE_ORDERS];
	uint64_t nr_free_type[MIGRATE_TYPES][NR_PAGE_ORDERS];
	uint64_t pageblocks[MIGRATE_TYPES];
	uint64_t nr_highatomic; /* frames */
	uint64_t free_isolated; /* of `free`: in isolated sections, nobody is given any of them */
	uint32_t stat_threshold;
	/* counted since the start; alloc and freed in frames */
	uint64_t alloc, freed, fallback, steal, claim, alloc_fail;
};
uint32_t mm_nr_nodes(const struct mm_domain *d);
/* The node whose memory is nearest to that cpu. */
uint32_t mm_cpu_node(const struct mm *mm, uint32_t cpu);
uint32_t mm_node_distance(const struct mm *mm, uint32_t from, uint32_t to);
void mm_zone_stats(const struct mm_domain *d, uint32_t node, enum zone_type z,
                   struct mm_zone_stats *s);
void mm_pcp_stats(const struct mm_domain *d, uint32_t node, enum zone_type z, uint32_t cpu,
                  struct mm_pcp_stats *s);
uint64_t mm_total_reserve(const struct mm_domain *d); /* frames: meminfo's totalreserve */
uint64_t mm_nr_free(const struct mm_domain *d);       /* frames in all zones' buddy lists */

#endif

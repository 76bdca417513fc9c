/* SPDX-License-Identifier: MIT */
/*
 * Control memory: what a domain's members and the daemon share besides the pool itself.
 *
 * Two memfds of 4 KiB shmem a domain. Where things lie follows from four numbers that the daemon
 * tells in its hello, never from anything inside the memory:
 *
 *   words (clients: read-write)                 views (clients: read-only)
 *   +----------------------------------+        +----------------------------------+
 *   | owner words       8 B a page     |        | struct control_status    4 KiB   |
 *   +----------------------------------+        +----------------------------------+
 *   | struct control_session a session |        | section states  1 B a section    |
 *   +----------------------------------+        +----------------------------------+
 *   | struct magazine   a magazine     |        | page descriptors   8 B a page    |
 *   +==================================+        +==================================+
 *   | object words      8 B an object  |        | struct control_cache  a cache    |
 *   +----------------------------------+        +----------------------------------+
 *   | slab bits   1 bit a frame, a     |
 *   |             session              |
 *   +----------------------------------+
 *   | struct control_rack  a cache     |
 *   +----------------------------------+
 *   | struct control_area  an area     |
 *   +----------------------------------+
 *   | CPU locks  8 B an area and CPU   |
 *   +----------------------------------+
 *
 * Every part starts on a page boundary. The parts below the double line are sparse: their pages
 * come with the slabs, sessions and caches that use them.
 *
 * Pages. A frame of the low zones is a page: the same index names the memory, its owner word and
 * its descriptor. In HighMem and Movable the daemon may move what a page holds to another frame
 * while nobody maps it. So a block of order 0 there is a page of its own, beside the frame that it
 * has at the moment: page indices from `frames` on, as many as those zones have frames, stand for
 * such pages, and the sections that they make up behind the pool's own are HIGH like those of the
 * frames. Blocks of higher orders there do not move and are named by their first frame.
 *
 *      0               high_start     (metadata)   frames                 frames + high_frames
 *     +-----------------+------------+------------+----------------------+
 *     | frames = pages  | frames of  |            | pages of order 0     |
 *     |                 | high zones |            | in the high zones    |
 *     +-----------------+-----^------+------------+-----------|----------+
 *                             '------- descriptor: frame -----'
 *
 * The descriptors are what libkmm calls struct kmm_page: one 64-bit word a page. A granted block
 * has one on its head, all other pages of it 0:
 *
 *     bits 0..3 order   5..6 kind   24 cacheable   25..27 migrate type   28..30 zone   32..39 node
 *
 * A page that can move has bit 31 set, and its frame in bits 32..63 in place of the node. The frame
 * that it has carries kind ALIAS and, in bits 32..63, the page.
 *
 * A slab has one on each of its frames:
 *
 *     bits 0..4 shift   5..6 kind   7..23 cache   24..31 colour   32..63 owner word of the frame
 *
 * so that a pointer into a slab leads, without search or division, to its cache (control_cache; in
 * all other descriptors the bits of the cache are 0, which is none), and to the object's owner word:
 *
 *     word of the frame = first word of the slab + (offset of the frame in the slab >> shift)
 *     word              = word of the frame + (offset in the frame >> shift)
 *                       = first word of the slab + (offset in the slab >> shift)
 *     shift             = floor(log2 stride)
 *     slot = rotate_right((offset - colour * colour_off - offset of the object in its slot)
 *                         * inverse, log2 of the stride's power of two)     all modulo 2^32
 *
 * A slot below `objects` proves that the address is an object's first byte: only multiples of the
 * stride give small quotients (Hacker's Delight, 10-17).
 */
#ifndef SHM_CONTROL_H
#define SHM_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "shm/magazine.h"
#include "shm/owner.h"

#define CONTROL_SECTIONS_MAX 2048u /* of pages: the pool's and those that stand for high pages */
#define CONTROL_CACHES_MAX 16384u /* ids 1 to CONTROL_CACHES_MAX - 1 */
#define CONTROL_VERSION 4u

/* Full magazines of objects that its threads took from the rack and gave to it, and rounds in them:
 * nobody else sees those. For reports; the sweep clears it. */
struct control_rack_use {
	_Atomic uint64_t taken, taken_rounds, given, given_rounds;
};

/* A session's own record. The sweep looks only at the sections whose bit is set here or that the
 * daemon itself granted from; a bit is set before anything in the section is adopted or taken. */
struct control_session {
	_Alignas(64) _Atomic uint64_t section[CONTROL_SECTIONS_MAX / 64];
	_Atomic uint64_t cached_pages; /* what its threads cache, in frames: a hint for reports */
	_Atomic uint32_t racks; /* CONTROL_RACKS_* */
	_Atomic uint32_t areas; /* not 0: it may have entries in the table of areas */
	_Atomic uint32_t shrinkers; /* that it has registered: who is told of pressure again and again */
	uint32_t reserved32;
	struct control_rack_use rack_use;
	uint64_t reserved[1];
};
_Static_assert(sizeof(struct control_session) == 320, "five cache lines");
#define CONTROL_RACKS_USED 1u /* by the session: it may have magazines by the rack */
#define CONTROL_RACKS_OFF 2u  /* by the daemon: a quota is its; what it has is to pass by the daemon */

/*
 * The rack: full magazines that change hands between members without the daemon, by cache; at index
 * 0 the empty ones. A slot says magazine + 1, 0: none, and is no more than a hint: who takes, and who
 * gave, is settled by the magazine's header (shm/magazine.h). A slot whose magazine is not in the
 * rack, or carries another cache's objects, is stale, and whoever meets it clears it. A magazine in no
 * slot, because its giver died before or a late clearing hit it, is found by the daemon.
 */
#define CONTROL_RACK_SLOTS 16u
struct control_rack {
	_Alignas(64) _Atomic uint32_t slot[CONTROL_RACK_SLOTS];
};
_Static_assert(sizeof(struct control_rack) == 64, "a cache line");

/* The slot does not say so any more. */
static inline void control_rack_clear(struct control_rack *r, uint32_t slot, uint32_t said)
{
	/* relaxed: a hint */
	atomic_compare_exchange_strong_explicit(&r->slot[slot], &said, 0, memory_order_relaxed,
	                                        memory_order_relaxed);
}

static inline bool control_rack_has_room(const struct control_rack *r)
{
	uint32_t i;

	for (i = 0; i < CONTROL_RACK_SLOTS; i++)
		if (!atomic_load_explicit(&r->slot[i], memory_order_relaxed))
			return true;
	return false;
}

/* A free slot says that the magazine is there; false: there was none. */
static inline bool control_rack_put(struct control_rack *r, uint32_t m)
{
	uint32_t i;

	/* relaxed, here and below: a hint; the header is what publishes the magazine */
	for (i = 0; i < CONTROL_RACK_SLOTS; i++) {
		uint32_t none = 0;

		if (!atomic_load_explicit(&r->slot[i], memory_order_relaxed) &&
		    atomic_compare_exchange_strong_explicit(&r->slot[i], &none, m + 1,
		                                            memory_order_relaxed,
		                                            memory_order_relaxed))
			return true;
	}
	return false;
}

static inline bool control_rack_says(const struct control_rack *r, uint32_t m)
{
	uint32_t i;

	for (i = 0; i < CONTROL_RACK_SLOTS; i++)
		if (atomic_load_explicit(&r->slot[i], memory_order_relaxed) == m + 1)
			return true;
	return false;
}

/* Written by the daemon only. */
struct control_status {
	uint32_t version;
	_Atomic uint32_t scarce;   /* not 0 for a while after a request found no memory: who frees
	                              waits until the daemon has the block */
	_Atomic uint64_t epoch;    /* starts of the daemon on this pool */
	_Atomic uint32_t pressure; /* not 0 while a request waits: what is freed goes to the daemon */
	_Atomic uint32_t damaged;  /* a word in the domain made no sense */
	uint8_t uuid[16];
};
_Static_assert(sizeof(struct control_status) == 40, "shared layout");

enum control_section_state {
	CONTROL_SECTION_NONE, /* absent, metadata, or another domain's */
	CONTROL_SECTION_DIRECT, /* mapped at its place in the window */
	CONTROL_SECTION_HIGH,   /* reached by kmap */
};

enum page_kind {
	PAGE_NONE, /* free, or inside a block */
	PAGE_BLOCK,
	PAGE_SLAB,
	PAGE_ALIAS, /* the frame of a page that can move */
};

#define PAGE_DESC_KIND_SHIFT 5
#define PAGE_DESC_CACHEABLE (UINT64_C(1) << 24)
#define PAGE_DESC_TYPE_SHIFT 25
#define PAGE_DESC_ZONE_SHIFT 28
#define PAGE_DESC_MOVABLE (UINT64_C(1) << 31)
#define PAGE_DESC_FRAME_SHIFT 32 /* of a page that can move; of an alias: the page */
#define PAGE_DESC_NODE_SHIFT 32
#define PAGE_DESC_CACHE_SHIFT 7
#define PAGE_DESC_CACHE_MASK 0x1ffffu
#define PAGE_DESC_COLOUR_SHIFT 24
#define PAGE_DESC_WORD_SHIFT 32
#define PAGE_DESC_COLOURS 256u

typedef _Atomic uint64_t page_desc_t;

static inline enum page_kind page_desc_kind(uint64_t d)
{
	return (enum page_kind)(d >> PAGE_DESC_KIND_SHIFT & 3);
}

static inline unsigned page_desc_order(uint64_t d)
{
	return d & 15;
}

static inline unsigned page_desc_type(uint64_t d)
{
	return d >> PAGE_DESC_TYPE_SHIFT & 7;
}

static inline unsigned page_desc_zone(uint64_t d)
{
	return d >> PAGE_DESC_ZONE_SHIFT & 7;
}

/* Of a page that can move: the frame that it has at the moment; of an alias: its page. */
static inline uint32_t page_desc_other(uint64_t d)
{
	return (uint32_t)(d >> PAGE_DESC_FRAME_SHIFT);
}

static inline uint64_t page_desc_alias(uint32_t page)
{
	return (uint64_t)PAGE_ALIAS << PAGE_DESC_KIND_SHIFT |
	       (uint64_t)page << PAGE_DESC_FRAME_SHIFT;
}

/* ---- of slabs ---- */

/* Of frame 0, 1, … of a slab. */
static inline uint64_t page_desc_slab(uint32_t cache, uint32_t colour, uint32_t shift,
                                      uint32_t first_word, uint32_t frame)
{
	uint32_t word = first_word + (uint32_t)((uint64_t)frame << 12 >> shift);

	return shift | (uint64_t)PAGE_SLAB << PAGE_DESC_KIND_SHIFT |
	       (uint64_t)cache << PAGE_DESC_CACHE_SHIFT |
	       (uint64_t)colour << PAGE_DESC_COLOUR_SHIFT |
	       (uint64_t)word << PAGE_DESC_WORD_SHIFT;
}

static inline uint32_t page_desc_cache(uint64_t d)
{
	return (uint32_t)(d >> PAGE_DESC_CACHE_SHIFT) & PAGE_DESC_CACHE_MASK;
}

/* Of the frame; see page_desc_word(). */
static inline uint32_t page_desc_frame_word(uint64_t d)
{
	return (uint32_t)(d >> PAGE_DESC_WORD_SHIFT);
}

static inline uint32_t page_desc_shift(uint64_t d)
{
	return d & 31;
}

/* The owner word of the object at an offset in the pool that lies in the frame. */
static inline uint32_t page_desc_word(uint64_t d, uint64_t at)
{
	return page_desc_frame_word(d) + ((uint32_t)(at & 4095) >> page_desc_shift(d));
}

static inline uint32_t page_desc_colour(uint64_t d)
{
	return (uint32_t)(d >> PAGE_DESC_COLOUR_SHIFT) & (PAGE_DESC_COLOURS - 1);
}

/* What clients know of a cache; written by the daemon before the first descriptor names it. */
struct control_cache {
	_Atomic uint64_t life; /* 0: no cache has the id; changes each time that another gets it */
	uint32_t size;         /* bytes, as asked for at creation */
	uint32_t stride;       /* bytes from one object to the next */
	uint32_t inverse;      /* of the stride's odd part, modulo 2^32 */
	uint32_t objects;      /* a slab */
	uint32_t colour_off;   /* bytes */
	uint32_t flags;        /* KMM_SLAB_*, those that the configuration added included */
	uint32_t flags_asked;
	uint32_t align;
	uint16_t offset; /* of the object in its slot: the left red zone */
	uint8_t order;   /* of a slab */
	uint8_t shift;   /* floor(log2 stride) */
	uint8_t twos;    /* log2 of the power of two that divides the stride */
	uint8_t ctor;    /* 1: its creator constructs */
	uint8_t reserved8;
	uint16_t colours; /* 1: all slabs begin with an object */
	uint8_t reserved[10];
	char name[64]; /* with NUL */
};
_Static_assert(sizeof(struct control_cache) == 128, "shared layout: two cache lines");

/* offset: of the address in its slab, colour: page_desc_colour(). */
static inline uint32_t control_cache_slot(const struct control_cache *c, uint32_t offset,
                                          uint32_t colour)
{
	uint32_t q = (offset - colour * c->colour_off - c->offset) * c->inverse;

	return q >> c->twos | q << (-c->twos & 31);
}

/*
 * Areas: what a process puts together of blocks that it holds: vmalloc areas, per-CPU areas, stacks.
 * The blocks' own words say whose they are; the entry is for the reports, and for the locks of
 * per-CPU areas. A session claims a free entry by a CAS of its word to HELD by itself, fills it in
 * and clears the word at the end; the sweep frees those of the dead. Clients write all of it: nothing
 * here is believed beyond its own line in a report.
 */
#define CONTROL_AREAS_MAX 65536u
#define CONTROL_AREA_CPUS 256u /* locks an area */

enum control_area_kind {
	CONTROL_AREA_NONE,
	CONTROL_AREA_VMALLOC,
	CONTROL_AREA_PERCPU, /* a chunk */
	CONTROL_AREA_STACK,
	CONTROL_AREA_UNPURGED, /* freed, kept mapped; its blocks are RETURNED */
};

struct control_area {
	_Alignas(64) owner_word_t word; /* FREE or HELD by a session; written last */
	uint64_t start;    /* address in the process */
	uint64_t size;     /* bytes with the guard */
	uint32_t kind;     /* enum control_area_kind */
	uint32_t pages;
	uint64_t used;     /* bytes: of a per-CPU chunk, what is allocated a unit */
	uint32_t node_pages[8];
	char caller[56];   /* symbol+0x1/0x2, with NUL; empty: not known */
};
_Static_assert(sizeof(struct control_area) == 128, "two cache lines");

/* What the hello tells; the rest follows. */
struct control_geometry {
	uint64_t frames;        /* of the pool */
	uint64_t high_start;    /* first frame of the high zones; frames: there are none */
	uint64_t high_frames;   /* how many pages stand for frames there: a multiple of a section */
	uint32_t section_order; /* log2 of the frames of a section */
	uint32_t sessions;      /* records: ids 1 to sessions - 1 */
	uint32_t magazines;
};

struct control_layout {
	/* byte offsets in, size of, the first memfd; of it, up to words_dense is populated */
	size_t words, sessions, magazines, words_dense, objects, slab_bits, racks, areas, locks;
	size_t words_size;
	size_t status, sections, descriptors, views_dense, caches, views_size;
	uint64_t object_words;   /* how many there are */
	size_t slab_bits_stride; /* bytes from one session's slab bits to the next's */
};

/* -EINVAL when the numbers are out of range or overflow. */
int control_layout_compute(struct control_layout *l, const struct control_geometry *g);

/* Pages: frames, and those that can move. */
static inline uint64_t control_pages(const struct control_geometry *g)
{
	return g->frames + g->high_frames;
}

/* The page can move from frame to frame. */
static inline bool control_page_moves(const struct control_geometry *g, uint64_t page)
{
	return page >= g->frames;
}

/* Pointers into the two mappings. */
struct control {
	struct control_geometry geometry;
	owner_word_t *word;
	struct control_session *session;
	struct magazine *magazine;
	struct control_status *status;
	_Atomic uint8_t *section;
	page_desc_t *desc;
	owner_word_t *object;          /* object words */
	uint64_t object_words;
	uint8_t *slab_bits;            /* see control_slab_bits() */
	size_t slab_bits_stride;
	struct control_rack *rack;     /* CONTROL_CACHES_MAX of them */
	struct control_area *area;     /* CONTROL_AREAS_MAX of them */
	_Atomic uint64_t *area_lock;   /* CONTROL_AREA_CPUS an area */
	struct control_cache *cache;   /* CONTROL_CACHES_MAX of them */
};

/* A session's slab bits, one a frame: set on the head of a slab before an object in it is adopted or
 * taken (and by the daemon before it offers one); the sweep looks at no other slab. */
static inline _Atomic uint64_t *control_slab_bits(const struct control *c, uint32_t session)
{
	return (_Atomic uint64_t *)(c->slab_bits + session * c->slab_bits_stride);
}

void control_attach(struct control *c, const struct control_geometry *g, void *words, void *views);

/* log2 of the bytes of a granule, in which handles, rounds and messages name places of the pool:
 * 3 up to 32 GiB of pages (control_pages), above that the least that makes granule indices fit 32
 * bits. */
unsigned int control_granule_shift(uint64_t pages);

static inline uint32_t control_granule_of_pfn(unsigned int granule_shift, uint32_t pfn)
{
	return (uint32_t)((uint64_t)pfn << (12 - granule_shift));
}

/* The frame that a granule lies in; not bounded by the pool. */
static inline uint32_t control_pfn_of_granule(unsigned int granule_shift, uint32_t granule)
{
	return (uint32_t)(granule >> (12 - granule_shift));
}

/* ---- classes of page blocks that threads cache ---- */

/* Orders 0 to 3 and 9, three migrate types: class = index of order * 3 + type. */
#define PAGE_CLASS_ORDERS 5u
#define PAGE_CLASSES (PAGE_CLASS_ORDERS * 3)

static inline int page_class_of_order(unsigned order)
{
	return order <= 3 ? (int)order : order == 9 ? 4 : -1;
}

/* -1 when blocks of that order are not cached. */
static inline int page_class(unsigned order, unsigned migratetype)
{
	int o = page_class_of_order(order);

	return o < 0 || migratetype > 2 ? -1 : o * 3 + (int)migratetype;
}

#endif

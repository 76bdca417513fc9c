/* SPDX-License-Identifier: MIT */
/*
 * Entries and slots of mapped high memory: what highmem.c, where they are explained, and kmap.c share.
 */
#ifndef CLIENT_HIGHMEM_H
#define CLIENT_HIGHMEM_H

#include "client/object.h"

#pragma GCC visibility push(hidden)

#define HIGHMEM_SLOTS 4096u
#define HIGHMEM_SLOT_NONE UINT32_MAX

/* An entry. 0: the page has no slot. */
#define ENTRY_COUNT UINT64_C(0x7fffffff)
#define ENTRY_BUSY (UINT64_C(1) << 31)
#define ENTRY_SLOT_SHIFT 32 /* 16 bits: slot + 1 */
#define ENTRY_RECENT (UINT64_C(1) << 48) /* mapped since the clock came by */
#define ENTRY_OURS (UINT64_C(1) << 49)   /* pinned by MAPPED */
#define ENTRY_HOLD (UINT64_C(1) << 50)   /* pinned by a hold */
_Static_assert(HIGHMEM_SLOTS < 0xffff, "a slot + 1 is 16 bits");

typedef _Atomic uint64_t entry_t;

/* Written under the lock while nobody uses the slot: stable for who has its page mapped or busy. */
struct highmem_slot {
	_Atomic uint32_t page, frame;
};

struct highmem {
	uint32_t first, n;         /* pages with an entry: [first, first + n) */
	struct highmem_slot *slot; /* HIGHMEM_SLOTS of them; behind them: */
	entry_t *entry;            /* by page - first; sparse */
	uint8_t *window;           /* of the slots */
	size_t table_size;         /* bytes of slots and entries */
	pthread_mutex_t lock;
	uint32_t used, hand; /* lock: slots that were ever mapped; the clock's */
};

static inline entry_t *entry_of(struct highmem *h, uint32_t page)
{
	return &h->entry[page - h->first];
}

static inline uint64_t entry_load(entry_t *e)
{
	/* acquire: pairs with the releases below; what the slot shows was mapped before */
	return atomic_load_explicit(e, memory_order_acquire);
}

static inline bool entry_cas(entry_t *e, uint64_t *v, uint64_t to)
{
	return atomic_compare_exchange_strong_explicit(e, v, to, memory_order_acq_rel,
	                                               memory_order_acquire);
}

/* Of a busy entry. */
static inline void entry_store(entry_t *e, uint64_t v)
{
	/* release: pairs with entry_load and entry_cas */
	atomic_store_explicit(e, v, memory_order_release);
}

static inline uint32_t entry_slot(uint64_t v)
{
	return (uint32_t)(v >> ENTRY_SLOT_SHIFT & 0xffff) - 1; /* HIGHMEM_SLOT_NONE: none */
}

static inline uint64_t entry_of_slot(uint32_t slot)
{
	return (uint64_t)(slot + 1) << ENTRY_SLOT_SHIFT;
}

static inline uint8_t *slot_address(struct highmem *h, uint32_t slot)
{
	return h->window + ((size_t)slot << FRAME_SHIFT);
}

static inline uint32_t slot_frame(struct highmem *h, uint32_t slot)
{
	/* relaxed, here and in slot_page: ordered by the entry */
	return atomic_load_explicit(&h->slot[slot].frame, memory_order_relaxed);
}

static inline uint32_t slot_page(struct highmem *h, uint32_t slot)
{
	return atomic_load_explicit(&h->slot[slot].page, memory_order_relaxed);
}

static inline struct highmem *highmem_of(struct kmm *k)
{
	/* acquire: pairs with the publication in highmem_make */
	return atomic_load_explicit(&k->highmem, memory_order_acquire);
}

/* Maps a page of a HIGH section once more; the caller is inside the session. */
int highmem_map(struct kmm *k, uint32_t page, void **ret);
int highmem_unmap(struct kmm *k, uint32_t page);
/* One mapping less; false: it is not mapped. *hold: the caller drops one (hold_unpin). */
bool highmem_unmap_entry(struct kmm *k, entry_t *e, uint32_t page, bool *hold);
/* MAPPED in the word of a page that is ours; false: it is not, or is being moved. */
bool highmem_word_pin(struct kmm *k, uint32_t page);
void highmem_word_unpin(struct kmm *k, uint32_t page);

#pragma GCC visibility pop
#endif

/* SPDX-License-Identifier: MIT */
/*
 * Pages: where they are (section.c, section_file.c, highmem.c), blocks of them (pages.c), and what
 * areas keep (blocks.c, vmalloc_table.c). Part of client/internal.h, which includes it.
 *
 * A page is named by an index (shm/control.h): below k->frames it is a frame of the pool, at its
 * place in the window unless its section is HIGH; from there on to k->pages one that moves from
 * frame to frame.
 */
#ifndef CLIENT_PAGE_H
#define CLIENT_PAGE_H

/* ---- section.c ---- */

/* Makes a section of the domain usable: 0; -EPERM not of the domain; -ENOTSUP HighMem. */
int section_map_slow(struct kmm *k, uint32_t section);
/* The same for a section that a block was granted from, as far as it goes without waiting: what
 * fails is tried again when the address is asked for. */
void section_map_granted(struct kmm *k, uint32_t section);
/* The descriptor of a section of the pool (by frames), for mapping pieces of it: open until
 * section_fd_put, with nothing that waits in between. The caller is inside the session. Asks the
 * daemon where it is not kept. -EPERM not of the domain, -EMFILE. */
int section_fd_get(struct kmm *k, uint32_t section, int *fd);

/* ---- section_file.c ---- */

void section_fd_put(struct kmm *k, uint32_t section);
/* What is kept: its descriptor, in use from now on; -1: none is. */
int section_file_use(struct kmm *k, uint32_t section);
/* Room for one more, for which another one may be closed. false: all are in use. */
bool section_file_room(void);
void section_file_no_room(void); /* it is not needed */
/* Keeps a descriptor, in use, in that room; section_lock is held. */
int section_file_add(struct kmm *k, uint32_t section, int fd);
void section_files_free(struct kmm *k, bool child);

static inline int section_map(struct kmm *k, uint32_t pfn)
{
	uint32_t s = pfn >> (k->section_shift - FRAME_SHIFT);

	/* acquire: pairs with the release after the mapping */
	if (likely(atomic_load_explicit(&k->mapped[s], memory_order_acquire)))
		return 0;
	return section_map_slow(k, s);
}

/* The section that the address, in the window, lies in is at its place. */
static inline bool section_mapped(struct kmm *k, const void *p)
{
	size_t at = (size_t)((const uint8_t *)p - k->window);

	/* acquire: as above */
	return likely(atomic_load_explicit(&k->mapped[at >> k->section_shift],
	                                   memory_order_acquire));
}

static inline void section_granted(struct kmm *k, uint32_t pfn)
{
	uint32_t s = pfn >> (k->section_shift - FRAME_SHIFT);

	/* relaxed: only whether there is something to do */
	if (unlikely(!atomic_load_explicit(&k->mapped[s], memory_order_relaxed)) &&
	    atomic_load_explicit(&k->control.section[s], memory_order_relaxed) ==
	            CONTROL_SECTION_DIRECT)
		section_map_granted(k, s);
}

static inline enum control_section_state section_state(struct kmm *k, uint32_t pfn)
{
	/* relaxed: a hint; the mapping itself is the daemon's answer */
	return atomic_load_explicit(&k->control.section[pfn >> (k->section_shift - FRAME_SHIFT)],
	                            memory_order_relaxed);
}

/* The sweep must find what is adopted or taken: marks the section in control memory before. */
static inline void section_mark(struct kmm *k, uint32_t pfn)
{
	uint32_t s = pfn >> (k->section_shift - FRAME_SHIFT);
	uint64_t bit = UINT64_C(1) << (s % 64);

	/* relaxed: set by this process after the shared bit was, and never cleared */
	if (likely(atomic_load_explicit(&k->marked[s / 64], memory_order_relaxed) & bit))
		return;
	/* release: before the CAS of the word; pairs with the sweep's acquire loads */
	atomic_fetch_or_explicit(&k->control.session[k->id].section[s / 64], bit,
	                         memory_order_acq_rel);
	atomic_fetch_or_explicit(&k->marked[s / 64], bit, memory_order_release);
}

static inline void *section_address(struct kmm *k, uint32_t pfn)
{
	return k->window + ((size_t)pfn << FRAME_SHIFT);
}

/* A page of such a section has no place in the window. */
static inline bool page_is_high(struct kmm *k, uint32_t page)
{
	return section_state(k, page) == CONTROL_SECTION_HIGH;
}

/* ---- highmem.c ---- */

/* Where a page of a HIGH section is mapped at the moment; NULL: it is not. */
void *highmem_address(struct kmm *k, uint32_t page);
/* The page that is mapped at an address; false: none is. */
bool highmem_page(struct kmm *k, const void *p, uint32_t *page);
/* -EINVAL, saying what an address outside the window is (outside.c). */
int address_outside(struct kmm *k, const void *p);
/* A page of the block is mapped by this session. */
bool highmem_mapped(struct kmm *k, uint32_t page, unsigned int order);
/* A block of HIGH sections, HELD by this session, becomes zeroes. */
int highmem_zero(struct kmm *k, uint32_t page, unsigned int order);
/* Before the session is closed: what outlives it is not pinned. */
void highmem_end(struct kmm *k);
void highmem_free(struct kmm *k, bool child);

/* ---- blocks.c, vmalloc_table.c ---- */

/* An area of this session has the page: it stays MAPPED. */
static inline bool page_pinned(struct kmm *k, uint32_t page)
{
	/* acquire, both: pair with block_pin() */
	_Atomic uint8_t *pins = atomic_load_explicit(&k->pinned, memory_order_acquire);

	return pins && page >= k->frames && page < k->pages &&
	       atomic_load_explicit(&pins[page - k->frames], memory_order_acquire) > 0;
}
void blocks_pins_free(struct kmm *k);
/* What freed areas keep goes back to the daemon; told: it has it on return, else it will look. */
void vmalloc_purge(struct kmm *k, bool told);
/* At the session's end: nothing is mapped any more. */
void vmalloc_end(struct kmm *k);

/* ---- pages.c ---- */

static inline struct kmm_page *page_at(struct kmm *k, uint32_t pfn)
{
	return (struct kmm_page *)&k->control.desc[pfn];
}

/* Bits that a client may set; the rest is undefined. */
#define GFP_DEFINED 0x807ffdffu
#define GFP_ZONES (KMM_GFP_DMA | KMM_GFP_DMA32 | KMM_GFP_HIGHMEM)
/* Blocks asked for with these are never taken from a thread's cache. */
#define GFP_UNCACHED (GFP_ZONES | KMM_GFP_THISNODE | KMM_GFP_MEMALLOC | ~GFP_DEFINED)

int page_gfp_check(kmm_gfp_t gfp, unsigned int order);
/* The pool can have such a block: what the daemon says is looked at. */
static inline bool page_fits(const struct kmm *k, uint32_t page, unsigned int order)
{
	if (page < k->frames)
		return order <= KMM_MAX_ORDER && k->frames - page >= UINT32_C(1) << order;
	return page < k->pages && order == 0;
}
/* Nodes are equal runs of sections: that of a page of the window. */
static inline uint32_t page_node(const struct kmm *k, uint32_t page)
{
	uint64_t section = page >> (k->section_shift - FRAME_SHIFT);

	return (uint32_t)(((section + 1) * k->nodes - 1) / k->nr_sections);
}
/* node.c: what the class's thread would pop next is of that node (+ 1). A look: another thread may
 * seize the class meanwhile. */
bool node_has_top(struct kmm *k, struct local_class *lc, uint32_t node);
/* What a request of the calling thread may do: in a shrinker it calls no shrinkers and waits for
 * nobody, because it may be what others wait for. */
static inline kmm_gfp_t gfp_of_thread(kmm_gfp_t gfp)
{
	return unlikely(thread_shrinking)
	               ? gfp & ~(KMM_GFP_FS | KMM_GFP_DIRECT_RECLAIM | KMM_GFP_NOFAIL)
	               : gfp;
}
/* A pfn from a page pointer: -EINVAL. */
int page_pfn(struct kmm *k, const struct kmm_page *page, uint32_t *pfn);
/* The head of the block that a frame belongs to; false: none. */
bool page_head(struct kmm *k, uint32_t pfn, uint32_t *head, unsigned int *order);
/* The frame that a page has; of one that moves, at the moment: -ENOENT when it is not live. */
int page_frame(struct kmm *k, uint32_t page, uint32_t *frame);
/* The text and errno for a block that is not this session's HELD; w is its word. */
int page_not_mine(uint32_t pfn, uint64_t w);
/* The same for a free: a block that another session adopted is ESTALE. */
int page_not_freed(struct kmm *k, uint32_t pfn, uint64_t w);
/* -EBUSY when a page of a block of this session's, whose word is w, is mapped. */
int page_mapped(struct kmm *k, uint32_t page, unsigned int order, uint64_t w);
/* A block of a public function by its head: checks that it is a live head. */
int page_block_check(struct kmm *k, uint32_t pfn, unsigned int *order);
/* Offered or cached -> HELD by this session: one block, zeroed when gfp says so. */
int page_alloc(struct kmm *k, struct thread_cache *tc, kmm_gfp_t gfp, unsigned int order,
               struct call_how *how, uint32_t *pfn);
int page_zero(struct kmm *k, uint32_t pfn, unsigned int order);
/* Gives back one block: all checks, cache, daemon. */
int page_free(struct kmm *k, uint32_t pfn, unsigned int order);
/* Tells the daemon of a block whose word says RETURNED. */
int page_free_tell(struct kmm *k, uint32_t pfn, unsigned int order, uint64_t word);

/* A request found no memory lately: a free is over when the daemon has the block. */
static inline bool scarce(struct kmm *k)
{
	/* relaxed: a wish of the daemon */
	return atomic_load_explicit(&k->control.status->scarce, memory_order_relaxed) != 0;
}

static inline bool pressure(struct kmm *k)
{
	/* relaxed: a wish of the daemon */
	return atomic_load_explicit(&k->control.status->pressure, memory_order_relaxed) != 0;
}

/* The local record of "a handle was made": tells a stale owner from a stranger. */
static inline void shared_set(struct kmm *k, uint32_t pfn)
{
	atomic_fetch_or_explicit(&k->shared[pfn / 64], UINT64_C(1) << (pfn % 64),
	                         memory_order_relaxed);
}

static inline bool shared_test(struct kmm *k, uint32_t pfn)
{
	return atomic_load_explicit(&k->shared[pfn / 64], memory_order_relaxed) >> (pfn % 64) & 1;
}

static inline void shared_clear(struct kmm *k, uint32_t pfn)
{
	if (unlikely(shared_test(k, pfn)))
		atomic_fetch_and_explicit(&k->shared[pfn / 64], ~(UINT64_C(1) << (pfn % 64)),
		                          memory_order_relaxed);
}

#endif

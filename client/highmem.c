/* SPDX-License-Identifier: MIT */
/*
 * High memory: pages that have no place in the window, mapped one by one.
 *
 *     page --> entry: count, slot --> slot: frame            entries: sparse, 8 B a high page
 *                         |             |                     slots: HIGHMEM_SLOTS pages of address space
 *                         '-------------+--> address
 *
 * A page's entry counts how often it is mapped, whoever maps it: while that is not 0 its address stays
 * the same. The first mapping pins the page and finds the frame that it has then; the last one lets it
 * go. What a slot shows stays mapped, so that mapping the page again costs no system call as long as
 * it was not moved, until another page needs the slot: a clock goes round those that nobody uses.
 *
 * What pins a page is in its owner word:
 *
 *   ours       MAPPED, set and cleared by an exchange each. The daemon moves only what has it not, by
 *              an exchange of the same word: after ours the descriptor tells the frame for good, and
 *              what the daemon copied before was there when the word said HELD again
 *   others'    KEPT: the session holds the page meanwhile (hold.c)
 *   none       pages of blocks of order > 0: they do not move
 *
 * Entries change by exchanges, without a lock. From 0 to 1 and back they are BUSY for a moment, in
 * which the pin is set or cleared; who meets that waits. Only what needs another slot, or another
 * frame in it, takes the lock, and nobody waits for an entry with it. The daemon may be asked before
 * an entry is made busy (section_fd_get, hold_pin), never then.
 *
 * Cost: two exchanges of the entry and two of the owner word for a pair; one of the entry where it is
 * mapped already. A page that needs a slot costs three system calls.
 */
#include "client/highmem.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "shm/memfd.h"

#define PAGE_NOBODY UINT32_MAX
#define YIELDS 64u
#define MAP_AGAIN 1 /* things changed meanwhile: look again */

/* The entry of a page, when there is one. */
static entry_t *entry_find(struct kmm *k, uint32_t page)
{
	struct highmem *h = highmem_of(k);

	return h && page >= h->first && page - h->first < h->n ? entry_of(h, page) : NULL;
}

/* ---- what a session has for it, from its first use on ---- */

static void highmem_delete(struct highmem *h)
{
	if (h->slot)
		munmap(h->slot, h->table_size);
	if (h->window)
		munmap(h->window, HIGHMEM_SLOTS * KMM_PAGE_SIZE);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static int highmem_make(struct kmm *k, struct highmem **ret)
{
	struct highmem *h = calloc(1, sizeof(*h)), *there = NULL;
	void *p;

	if (!h)
		return error_set(ENOMEM, "no memory for mappings of high memory");
	pthread_mutex_init(&h->lock, NULL);
	h->first = (uint32_t)k->control.geometry.high_start;
	h->n = k->pages - h->first;
	h->table_size = HIGHMEM_SLOTS * sizeof(h->slot[0]) + h->n * sizeof(entry_t);
	p = mmap(NULL, h->table_size, PROT_READ | PROT_WRITE,
	         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p != MAP_FAILED) {
		h->slot = p;
		h->entry = (entry_t *)(void *)(h->slot + HIGHMEM_SLOTS);
		madvise(p, h->table_size, MADV_DONTFORK);
		madvise(p, h->table_size, MADV_DONTDUMP);
	}
	if (!h->slot || shm_window_reserve(&p, HIGHMEM_SLOTS * KMM_PAGE_SIZE, KMM_PAGE_SIZE) < 0) {
		highmem_delete(h);
		return error_set(ENOMEM, "the process has no room to map high memory");
	}
	h->window = p;
	madvise(p, HIGHMEM_SLOTS * KMM_PAGE_SIZE, MADV_DONTFORK);
	/* acq_rel: pairs with highmem_of */
	if (!atomic_compare_exchange_strong_explicit(&k->highmem, &there, h, memory_order_acq_rel,
	                                             memory_order_acquire)) {
		highmem_delete(h);
		h = there;
	}
	*ret = h;
	return 0;
}

/* ---- slots ---- */

/* A slot that nobody uses; its page has none from then on. The lock is held. */
static int slot_take(struct highmem *h, uint32_t *slot)
{
	uint32_t i;

	if (h->used < HIGHMEM_SLOTS) {
		*slot = h->used++;
		return 0;
	}
	for (i = 0; i < 2 * HIGHMEM_SLOTS; i++) {
		uint32_t at = h->hand, page = slot_page(h, at);
		entry_t *e;
		uint64_t v;

		h->hand = (at + 1) % HIGHMEM_SLOTS;
		if (page != PAGE_NOBODY) {
			e = entry_of(h, page);
			v = entry_load(e);
			if (v & (ENTRY_COUNT | ENTRY_BUSY))
				continue;
			if (!entry_cas(e, &v, v & ENTRY_RECENT ? v & ~ENTRY_RECENT : 0) ||
			    (v & ENTRY_RECENT))
				continue;
		}
		*slot = at;
		return 0;
	}
	return error_set(ENOMEM,
	                 "all %u mappings of high memory that a session can have are in use: "
	                 "kmm_kunmap ends one",
	                 HIGHMEM_SLOTS);
}

/* Shows the frame at `offset` of a section in a slot. The lock is held. */
static int slot_show(struct highmem *h, uint32_t slot, int fd, size_t offset)
{
	uint8_t *at = slot_address(h, slot);
	int r = 0;

	if (mmap(at, KMM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE,
	         fd, (off_t)offset) == MAP_FAILED ||
	    madvise(at, KMM_PAGE_SIZE, MADV_DONTFORK) < 0 ||
	    madvise(at, KMM_PAGE_SIZE, MADV_DONTDUMP) < 0) {
		r = error_set(errno, "a page of high memory cannot be mapped: %s",
		              strerror(errno));
		shm_window_release(at, KMM_PAGE_SIZE);
	}
	return r;
}

/* *slot, when it is one, or another one shows the page's frame. On failure the page has none. */
static int slot_place(struct kmm *k, struct highmem *h, uint32_t page, uint32_t frame, int fd,
                      uint32_t *slot)
{
	size_t mask = ((size_t)1 << k->section_shift) - 1;
	int r = 0;

	pthread_mutex_lock(&h->lock);
	if (*slot == HIGHMEM_SLOT_NONE)
		r = slot_take(h, slot);
	if (r == 0) {
		r = slot_show(h, *slot, fd, ((size_t)frame << FRAME_SHIFT) & mask);
		/* relaxed: the entry's store publishes them */
		atomic_store_explicit(&h->slot[*slot].frame, frame, memory_order_relaxed);
		atomic_store_explicit(&h->slot[*slot].page, r == 0 ? page : PAGE_NOBODY,
		                      memory_order_relaxed);
	}
	pthread_mutex_unlock(&h->lock);
	if (r < 0)
		*slot = HIGHMEM_SLOT_NONE;
	return r;
}

/* ---- pins ---- */

bool highmem_word_pin(struct kmm *k, uint32_t page)
{
	owner_word_t *word = &k->control.word[page];
	uint64_t w = owner_load(word);

	do {
		if (!owner_is(w, OWNER_HELD, k->id))
			return false;
	} while (!owner_cas(word, &w, w | OWNER_MAPPED));
	return true;
}

void highmem_word_unpin(struct kmm *k, uint32_t page)
{
	owner_word_t *word = &k->control.word[page];
	uint64_t w = owner_load(word);

	if (page_pinned(k, page)) /* it lies in an area, too */
		return;
	while (owner_is(w, OWNER_HELD, k->id) && (w & OWNER_MAPPED))
		if (owner_cas(word, &w, w & ~OWNER_MAPPED))
			return;
}

/* What is to be mapped. */
struct target {
	uint32_t frame;
	uint64_t pin; /* ENTRY_OURS: to be set; ENTRY_HOLD: is taken; 0: needs none */
};

/* A page of a block that does not move. */
static int target_of_block(struct kmm *k, uint32_t page, struct target *t)
{
	unsigned int order;
	uint32_t head;

	if (!page_head(k, page, &head, &order) || !word_is_live(owner_load(&k->control.word[head])))
		return error_set(ENOENT, "frame %u is in no live block", page);
	*t = (struct target){ .frame = page };
	return 0;
}

static int target_of_page(struct kmm *k, uint32_t page, struct target *t)
{
	owner_word_t *word = &k->control.word[page];
	uint64_t w = word_settled(k, word);
	char text[ERROR_TEXT_MAX];
	int r;

	if (owner_kind(w) == OWNER_MOVING)
		return page_not_mine(page, w);
	if (!word_is_live(w))
		return error_set(ENOENT, "page %u is in no live block", page);
	if (owner_is(w, OWNER_HELD, k->id)) {
		*t = (struct target){ .pin = ENTRY_OURS };
	} else {
		error_text_copy(text);
		r = hold_pin(k, granule_of(k, page), (uint32_t)owner_generation(w));
		if ((r == -ESTALE || r == -ENOENT) && owner_load(word) != w) {
			error_text_put(text);
			return MAP_AGAIN;
		}
		if (r < 0)
			return r == -ESTALE ? -ENOENT : r;
		*t = (struct target){ .pin = ENTRY_HOLD };
	}
	r = page_frame(k, page, &t->frame);
	if (r < 0 && t->pin == ENTRY_HOLD)
		hold_unpin(k, granule_of(k, page));
	return r;
}

static uint32_t section_of(struct kmm *k, uint32_t frame)
{
	return frame >> (k->section_shift - FRAME_SHIFT);
}

static bool slot_shows(struct highmem *h, uint32_t slot, uint32_t frame)
{
	return slot != HIGHMEM_SLOT_NONE && slot_frame(h, slot) == frame;
}

/* The entry is busy; *v: what it was, and then what it is to be. fd: -1 when its slot shows
 * t->frame. */
static int map_busy(struct kmm *k, struct highmem *h, uint32_t page, int fd, struct target *t,
                    uint64_t *v)
{
	uint32_t slot = entry_slot(*v), frame = t->frame;
	int r = 0;

	if (t->pin == ENTRY_OURS) {
		if (!highmem_word_pin(k, page))
			return MAP_AGAIN;
		/* only now it stays where it is */
		r = page_frame(k, page, &frame);
		if (r == 0 && section_of(k, frame) != section_of(k, t->frame))
			r = MAP_AGAIN;
	}
	if (r == 0 && !slot_shows(h, slot, frame)) {
		if (fd >= 0) {
			r = slot_place(k, h, page, frame, fd, &slot);
			*v = slot == HIGHMEM_SLOT_NONE ? 0 : entry_of_slot(slot);
		} else {
			r = MAP_AGAIN; /* it has moved */
		}
	}
	if (r == 0)
		*v = entry_of_slot(slot) | t->pin | 1;
	else if (t->pin == ENTRY_OURS)
		highmem_word_unpin(k, page);
	return r;
}

/* From 0 to 1; v: what the entry said. */
static int map_first(struct kmm *k, struct highmem *h, uint32_t page, uint64_t v)
{
	entry_t *e = entry_of(h, page);
	struct target t;
	int fd = -1, r;

	r = page < k->frames ? target_of_block(k, page, &t) : target_of_page(k, page, &t);
	if (r != 0)
		return r;
	if (!slot_shows(h, entry_slot(v), t.frame)) /* another page's by now: the exchange fails */
		r = section_fd_get(k, section_of(k, t.frame), &fd);
	if (r == 0 && !entry_cas(e, &v, v | ENTRY_BUSY))
		r = MAP_AGAIN;
	if (r == 0) {
		r = map_busy(k, h, page, fd, &t, &v);
		entry_store(e, v);
	}
	if (fd >= 0)
		section_fd_put(k, section_of(k, t.frame));
	if (r != 0 && t.pin == ENTRY_HOLD)
		hold_unpin(k, granule_of(k, page));
	return r;
}

static int map_once(struct kmm *k, struct highmem *h, uint32_t page)
{
	entry_t *e = entry_of(h, page);
	uint64_t v = entry_load(e);

	if (v & ENTRY_BUSY)
		return MAP_AGAIN;
	if ((v & ENTRY_COUNT) == 0)
		return map_first(k, h, page, v);
	if ((v & ENTRY_COUNT) == ENTRY_COUNT)
		return error_set(EOVERFLOW, "page %u is mapped too often", page);
	return entry_cas(e, &v, v + 1) ? 0 : MAP_AGAIN;
}

int highmem_map(struct kmm *k, uint32_t page, void **ret)
{
	struct call_how how = call_begin(k, 0);
	struct highmem *h = highmem_of(k);
	unsigned int turns = 0;
	int r = h ? 0 : highmem_make(k, &h);

	if (r == 0 && (page < h->first || page - h->first >= h->n))
		r = error_set(EPROTO, "frame %u is high memory, but lies below it", page);
	if (r < 0)
		return r;
	while ((r = map_once(k, h, page)) == MAP_AGAIN) {
		if (++turns < YIELDS)
			sched_yield();
		else if ((r = call_wait_thread(k, &how)) < 0)
			return r;
	}
	if (r == 0)
		*ret = slot_address(h, entry_slot(entry_load(entry_of(h, page))));
	return r;
}

bool highmem_unmap_entry(struct kmm *k, entry_t *e, uint32_t page, bool *hold)
{
	uint64_t v = entry_load(e);

	*hold = false;
	for (;;) {
		uint64_t idle = (v - 1) & ~(ENTRY_OURS | ENTRY_HOLD);

		if (unlikely((v & ENTRY_COUNT) == 0))
			return false;
		if ((v & ENTRY_COUNT) > 1) {
			if (entry_cas(e, &v, v - 1))
				return true;
		} else if (v & ENTRY_OURS) {
			if (!entry_cas(e, &v, idle | ENTRY_BUSY))
				continue;
			highmem_word_unpin(k, page);
			entry_store(e, idle | ENTRY_RECENT);
			return true;
		} else if (entry_cas(e, &v, idle | ENTRY_RECENT)) {
			*hold = v & ENTRY_HOLD;
			return true;
		}
	}
}

int highmem_unmap(struct kmm *k, uint32_t page)
{
	entry_t *e = entry_find(k, page);
	bool hold;

	if (!e || !highmem_unmap_entry(k, e, page, &hold))
		return error_set(ENOENT, "page %u is not mapped: each kmm_kmap is undone once",
		                 page);
	if (hold)
		hold_unpin(k, granule_of(k, page));
	return 0;
}

/* ---- what other files ask ---- */

void *highmem_address(struct kmm *k, uint32_t page)
{
	entry_t *e = entry_find(k, page);
	uint64_t v = e ? entry_load(e) : 0;

	return v & ENTRY_COUNT ? slot_address(highmem_of(k), entry_slot(v)) : NULL;
}

bool highmem_page(struct kmm *k, const void *p, uint32_t *page)
{
	struct highmem *h = highmem_of(k);
	size_t at = h ? (size_t)((const uint8_t *)p - h->window) : SIZE_MAX;
	uint32_t slot = (uint32_t)(at >> FRAME_SHIFT), found;
	uint64_t v;

	if (at >= HIGHMEM_SLOTS * KMM_PAGE_SIZE)
		return false;
	found = slot_page(h, slot);
	if (found < h->first || found - h->first >= h->n) /* also: nobody's, or never used */
		return false;
	v = entry_load(entry_of(h, found));
	if ((v & ENTRY_COUNT) == 0 || entry_slot(v) != slot)
		return false;
	*page = found;
	return true;
}

bool highmem_mapped(struct kmm *k, uint32_t page, unsigned int order)
{
	uint32_t i;

	if (!highmem_of(k))
		return false;
	for (i = 0; i < UINT32_C(1) << order; i++)
		if (highmem_address(k, page + i))
			return true;
	return false;
}

/* A block that does not move, in one piece. */
static int zero_block(struct kmm *k, uint32_t frame, unsigned int order)
{
	size_t mask = ((size_t)1 << k->section_shift) - 1, size = KMM_PAGE_SIZE << order;
	int fd, r = section_fd_get(k, section_of(k, frame), &fd);
	void *p;

	if (r < 0)
		return r;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
	         (off_t)(((size_t)frame << FRAME_SHIFT) & mask));
	if (p == MAP_FAILED)
		r = error_set(errno, "high memory cannot be mapped to be zeroed: %s",
		              strerror(errno));
	section_fd_put(k, section_of(k, frame));
	if (r < 0)
		return r;
	madvise(p, size, MADV_DONTFORK);
	memset(p, 0, size);
	munmap(p, size);
	return 0;
}

int highmem_zero(struct kmm *k, uint32_t page, unsigned int order)
{
	void *p;
	int r;

	if (order > 0)
		return zero_block(k, page, order);
	r = highmem_map(k, page, &p);
	if (r < 0)
		return r;
	memset(p, 0, KMM_PAGE_SIZE);
	return highmem_unmap(k, page);
}

void highmem_end(struct kmm *k)
{
	struct highmem *h = highmem_of(k);
	uint32_t i;

	for (i = 0; h && i < h->used; i++) {
		uint32_t page = slot_page(h, i);

		if (page != PAGE_NOBODY && (entry_load(entry_of(h, page)) & ENTRY_OURS))
			highmem_word_unpin(k, page);
	}
}

void highmem_free(struct kmm *k, bool child)
{
	struct highmem *h = highmem_of(k);

	if (h && child)
		free(h);
	else if (h)
		highmem_delete(h);
}

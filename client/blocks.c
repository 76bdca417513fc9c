/* SPDX-License-Identifier: MIT */
/*
 * Blocks of several orders at once, by AllocBlocks: what vmalloc areas and stacks are made of.
 *
 *   alloc   the daemon offers what there is, the largest blocks first; each word is claimed,
 *           OFFERED -> HELD; asked again for the rest. When that is refused all goes back
 *   free    each word HELD -> RETURNED, which is the free; then the daemon is told: of many by
 *           magazines, of few one by one. If that fails the words have said it already
 *
 * Pages that can move (shm/control.h) are claimed with MAPPED set, so the daemon never begins to
 * move one that is on its way into an area, and its descriptor tells the frame for good. A count
 * a page says here that an area has it: a kmm_kunmap of the same page leaves MAPPED alone then.
 * MAPPED stays while the block is RETURNED, and goes when the daemon takes it.
 *
 * No lock. Complexity: O(blocks), a call for each 512.
 */
#include "client/blocks.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define GIVE_MANY 8u /* worth a magazine */
#define BLOCKS_MAX 512u /* in one reply */
_Static_assert(kmm_v1_AllocBlocksReply_size <= CALL_REPLY_MAX, "the largest reply");

/* ---- pins ---- */

static size_t pins_size(struct kmm *k)
{
	return k->pages - k->frames;
}

void blocks_pins_free(struct kmm *k)
{
	_Atomic uint8_t *pins = atomic_load_explicit(&k->pinned, memory_order_relaxed);

	if (pins)
		munmap((void *)pins, pins_size(k));
}

/* The counts are there. */
static int pins_get(struct kmm *k)
{
	_Atomic uint8_t *there = NULL;
	void *p;

	/* acquire: pairs with the exchange below */
	if (k->pages == k->frames || atomic_load_explicit(&k->pinned, memory_order_acquire))
		return 0;
	p = mmap(NULL, pins_size(k), PROT_READ | PROT_WRITE,
	         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return error_set(ENOMEM, "no memory for the session's records");
	madvise(p, pins_size(k), MADV_DONTFORK);
	if (!atomic_compare_exchange_strong_explicit(&k->pinned, &there, (_Atomic uint8_t *)p,
	                                             memory_order_acq_rel, memory_order_acquire))
		munmap(p, pins_size(k));
	return 0;
}

/* Once more, or once less, of a page that can move; after pins_get(). Counted, because an area that
 * lost a page and one that has it now may both be about it. */
static void block_pin(struct kmm *k, uint32_t page, int8_t by)
{
	_Atomic uint8_t *pins = atomic_load_explicit(&k->pinned, memory_order_acquire);

	if (page >= k->frames)
		/* acq_rel: before the word says MAPPED; pairs with page_pinned() */
		atomic_fetch_add_explicit(&pins[page - k->frames], (uint8_t)by,
		                          memory_order_acq_rel);
}

/* ---- allocating ---- */

static int list_room(struct block_list *l, uint32_t n)
{
	uint32_t room = l->room ? l->room : 64;
	struct block *more;

	while (room < l->n + n)
		room *= 2;
	if (room == l->room)
		return 0;
	more = reallocarray(l->block, room, sizeof(*more));
	if (!more)
		return error_set(ENOMEM, "no memory for a list of %u blocks", room);
	l->block = more;
	l->room = room;
	return 0;
}

/* One offer of ours, unless it was withdrawn meanwhile: 1, 0, or an error. */
static int claim(struct kmm *k, const struct block_want *want, uint32_t page, unsigned int order,
                 struct block *b)
{
	owner_word_t *word = &k->control.word[page];
	bool moves = page >= k->frames;
	uint64_t w, held;

	/* Who asked for a block of one order relies on its being in one piece. */
	if (!page_fits(k, page, order) || order < want->order_min || order > want->order_max)
		return error_set(EPROTO,
		                 "the daemon offered page %u, order %u: no such block, or not one "
		                 "that was asked for",
		                 page, order);
	block_pin(k, page, 1);
	w = owner_load(word);
	held = owner_moved(w, OWNER_HELD, k->id) | (moves ? OWNER_MAPPED : 0);
	if (!owner_is(w, OWNER_OFFERED, k->id) || !owner_cas(word, &w, held)) {
		block_pin(k, page, -1);
		return 0;
	}
	shared_clear(k, page);
	*b = (struct block){ .word = held, .page = page, .frame = page, .order = order };
	if (moves)
		/* acquire: the word said OFFERED after the daemon had written it */
		b->frame = page_desc_other(atomic_load_explicit(&k->control.desc[page],
		                                                memory_order_acquire));
	if (b->frame >= k->frames)
		return error_set(EPROTO, "page %u has no frame of the pool", page);
	return 1;
}

/* What a reply offers. On failure what was not claimed stays offered, and is withdrawn with the
 * connection or the session: nobody else can have it. */
static int claim_all(struct kmm *k, const struct block_want *want, const kmm_v1_AllocBlocksReply *p,
                     struct block_list *l)
{
	uint32_t n = p->order.size, i, page;
	int r = 0;

	if (p->page.size != n * sizeof(page) || n == 0 || n > BLOCKS_MAX)
		return error_set(EPROTO, "the daemon's list of blocks makes no sense");
	for (i = 0; i < n && r >= 0; i++) {
		memcpy(&page, p->page.bytes + i * sizeof(page), sizeof(page));
		r = claim(k, want, page, p->order.bytes[i], &l->block[l->n]);
		if (r > 0) {
			l->pages += UINT64_C(1) << p->order.bytes[i];
			l->n++;
		}
	}
	return r < 0 ? r : 0;
}

int blocks_alloc(struct kmm *k, struct call_how *how, const struct block_want *want,
                 struct block_list *l)
{
	kmm_v1_AllocBlocksRequest q = {
		.gfp = gfp_of_thread(want->gfp) & ~(KMM_GFP_ZERO | KMM_GFP_LOCAL),
		.order_max = want->order_max,
		.order_min = want->order_min,
		.node = want->node,
		.small = want->small,
	};
	struct block_list had = BLOCK_LIST_INIT;
	int r = pins_get(k);

	how->flags |= CALL_CANCELLABLE;
	if (!(q.gfp & KMM_GFP_DIRECT_RECLAIM))
		how->flags |= CALL_NOWAIT;
	else
		how->flags &= ~(unsigned int)CALL_NOWAIT;
	while (had.pages < want->pages && r == 0) {
		kmm_v1_AllocBlocksReply p = kmm_v1_AllocBlocksReply_init_zero;

		q.pages = want->pages - (uint32_t)had.pages;
		/* before anything is offered that could not be claimed */
		r = list_room(&had, BLOCKS_MAX);
		if (r == 0)
			r = CALL(k, how, ALLOCATOR_ALLOC_BLOCKS, AllocBlocks, &q, &p);
		if (r == 0)
			r = claim_all(k, want, &p, &had);
	}
	if (r == 0)
		r = list_room(l, had.n);
	if (r < 0) {
		blocks_free(k, &had);
		return r;
	}
	if (had.n)
		memcpy(l->block + l->n, had.block, had.n * sizeof(had.block[0]));
	l->n += had.n;
	l->pages += had.pages;
	free(had.block);
	return 0;
}

/* ---- giving back ---- */

bool block_return(struct kmm *k, struct block *b, bool *kept)
{
	owner_word_t *word = &k->control.word[b->page];
	uint64_t w = owner_load(word), back;
	bool ours;

	do {
		/* Else freed page by page, or adopted by another. */
		ours = owner_is(w, OWNER_HELD, k->id) &&
		       owner_generation(w) == owner_generation(b->word);
		back = owner_given_back(w, OWNER_RETURNED, k->id);
	} while (ours && !owner_cas(word, &w, back));
	block_pin(k, b->page, -1);
	if (!ours)
		return false;
	shared_clear(k, b->page);
	b->word = back;
	*kept = back & OWNER_KEPT;
	return true;
}

bool block_again(struct kmm *k, struct block *b)
{
	uint64_t w = b->word, held = owner_moved(w, OWNER_HELD, k->id);

	block_pin(k, b->page, 1);
	if (!owner_cas(&k->control.word[b->page], &w, held)) {
		block_pin(k, b->page, -1);
		return false;
	}
	b->word = held;
	return true;
}

static void tell_one(struct kmm *k, uint32_t page, unsigned int order, uint64_t word)
{
	ERROR_TEXT_SCOPE;

	if (owner_load(&k->control.word[page]) == word)
		page_free_tell(k, page, order, word);
}

/* Many by a magazine; what cannot go so one by one. */
static void tell_many(struct kmm *k, const struct block *b, uint32_t n)
{
	struct exchange x = { .order = 0 };
	uint64_t round[MAGAZINE_ROUNDS_MAX];
	uint32_t i, at, left;

	for (i = 0; i < n; i++)
		round[i] = round_of_block(b[i].page, b[i].word);
	left = exchange_give(k, x, round, n);
	for (i = at = 0; i < left; i++) {
		/* in the order of the list */
		while (at < n && b[at].page != (uint32_t)round[i])
			at++;
		if (at < n)
			tell_one(k, b[at].page, b[at].order, b[at].word);
	}
}

void blocks_tell(struct kmm *k, const struct block *b, uint32_t n)
{
	uint32_t i, some;

	for (; n >= GIVE_MANY && session_state(k) == SESSION_UP; b += some, n -= some) {
		some = n < MAGAZINE_ROUNDS_MAX ? n : MAGAZINE_ROUNDS_MAX;
		tell_many(k, b, some);
	}
	for (i = 0; i < n; i++)
		tell_one(k, b[i].page, b[i].order, b[i].word);
}

void blocks_free(struct kmm *k, struct block_list *l)
{
	uint32_t i, n = 0;
	bool kept;

	for (i = 0; i < l->n; i++)
		if (block_return(k, &l->block[i], &kept))
			l->block[n++] = l->block[i];
	blocks_tell(k, l->block, n);
	free(l->block);
	*l = (struct block_list)BLOCK_LIST_INIT;
}

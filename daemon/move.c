/* SPDX-License-Identifier: MIT */
/*
 * Moving a page of the high zones: what it holds goes to another frame, and nothing else of it
 * changes.
 *
 * Whoever owns a page of the high zones reaches it by kmap only, and marks it MAPPED for as long. A
 * page that is HELD, not MAPPED and not KEPT is thus touched by nobody, and nobody may begin to
 * touch it without one exchange of its owner word. The steps:
 *
 *   1. the word, HELD -> MOVING by an exchange from what was judged. From here on its owner's
 *      kmap, free, handle or send wait, and an adoption fails
 *   2. the copy, by guarded reads and writes: a member may have punched a hole
 *   3. the old frame's block is claimed in mm/ (mm_block_take), which gives the tag that it has in
 *      the end. Who was about to change the tag finds no block and looks again. When somebody else
 *      claimed it, the word was scribbled: nothing moves
 *   4. the map (high_swap): one store, the commit
 *   5. the new frame's block, claimed until now, gets that tag and can be found; descriptors
 *   6. the word, MOVING -> HELD
 *
 * A death before 4 leaves the page where it was: recovery turns the word back to HELD, and frees
 * the new frame, whose page is free. A death after it leaves the page where it went, and recovery
 * frees the old frame, whose page is the free one then. Recovery takes a claimed block for any
 * other one, so 3 leaves nothing behind; descriptors and tags it sets anyway.
 *
 * One page of a domain moves at a time, under a lock that is held for all steps. So whoever meets a
 * MOVING word looks again under the lock (move_word). What says MOVING there, or says so of a page
 * that cannot move, was scribbled: damage, as is a second such word at a start.
 *
 * A member that scribbles over the word meanwhile makes step 6 fail: what it wrote stays, and the
 * domain is marked damaged. The map, mm/ and the descriptors agree in any case.
 *
 * O(1), a copy of 4 KiB; no allocation.
 */
#include "daemon/move.h"

#include <errno.h>

#include "daemon/high.h"
#include "daemon/pool.h"
#include "shm/guard.h"

#define FRAME_BYTES ((size_t)1 << PAGE_SHIFT)

static bool word_may_move(uint64_t w)
{
	return owner_kind(w) == OWNER_HELD && owner_id(w) && !(w & (OWNER_MAPPED | OWNER_KEPT));
}

/* The page that stands for a granted block of order 0 at a frame of the high zones. */
static bool page_at(const struct domain *d, pfn_t frame, uint32_t *page, struct mm_block *b)
{
	pfn_t pfn;

	if (!domain_frame_high(d, frame) || !mm_block_get(d->mm, frame, b) || b->order)
		return false;
	*page = domain_block_page(d, frame, 0);
	return domain_block_get(d, *page, &pfn, b) && pfn == frame;
}

bool move_possible(const struct domain *d, pfn_t frame)
{
	struct mm_block b;
	uint32_t page;

	return page_at(d, frame, &page, &b) && word_may_move(owner_load(&d->control.word[page]));
}

/* Returns when no move that was under way is so any more. */
static void move_wait(struct domain *d)
{
	lock_acquire(&d->moving);
	lock_release(&d->moving);
}

bool move_block_get(struct domain *d, uint32_t page, pfn_t *pfn, struct mm_block *b)
{
	if (domain_block_get(d, page, pfn, b))
		return true;
	if (!domain_page_moves(d, page))
		return false;
	move_wait(d);
	return domain_block_get(d, page, pfn, b);
}

static uint64_t word_at_rest(struct domain *d, const owner_word_t *word, uint32_t granule)
{
	LOCK_SCOPED(&d->moving);
	uint64_t w = owner_load(word);

	if (owner_kind(w) == OWNER_MOVING)
		domain_damage(d, "the owner word of granule %u says that the page is being moved, "
		              "of session %u, but nothing moves", granule, owner_id(w));
	return w;
}

uint64_t move_word(struct domain *d, const owner_word_t *word, uint32_t granule)
{
	uint64_t w = owner_load(word);

	return owner_kind(w) == OWNER_MOVING ? word_at_rest(d, word, granule) : w;
}

static int copy_frame(const struct domain *d, pfn_t from, pfn_t to)
{
	uint8_t *window = d->kmmd->pool->window, buffer[FRAME_BYTES];
	int r = guard_copy_from(buffer, window + from * FRAME_BYTES, sizeof(buffer));

	return r < 0 ? r : guard_copy_to(window + to * FRAME_BYTES, buffer, sizeof(buffer));
}

/* Steps 2 to 5, under the lock, with the word MOVING. */
static int carry_over(struct domain *d, uint32_t page, pfn_t from, pfn_t to)
{
	struct mm_block b;
	int r;

	r = copy_frame(d, from, to);
	if (r < 0)
		return -EFAULT;
	if (!mm_block_take(d->mm, from, &b))
		return -EBUSY;
	if (b.order != 0) { /* a member had the page freed, and its frame granted in a larger block */
		mm_block_settle(d->mm, from, b.tag);
		return -EBUSY;
	}
	high_swap(d, page, to);
	mm_block_settle(d->mm, to, b.tag);
	mm_block_get(d->mm, to, &b);
	/* Never 0 for the page: its owner may look at any time. */
	atomic_store_explicit(&d->control.desc[from], 0, memory_order_release);
	domain_describe(d, page, to, domain_descriptor(d, page, &b, false));
	return 0;
}

/* `to` is what move.h says, and the page that has it is free. */
static bool target_ok(const struct domain *d, pfn_t to)
{
	struct mm_block b;

	return domain_frame_high(d, to) && mm_block_claimed(d->mm, to, &b) && b.order == 0 &&
	       b.domain == d->id &&
	       owner_kind(owner_load(&d->control.word[domain_block_page(d, to, 0)])) == OWNER_FREE;
}

int move_page(struct domain *d, pfn_t from, pfn_t to)
{
	LOCK_SCOPED(&d->moving);
	struct mm_block b;
	uint32_t page;
	uint64_t w, moving;
	int r;

	if (!target_ok(d, to))
		return -EINVAL;
	if (from == to || !page_at(d, from, &page, &b))
		return -EBUSY;
	w = owner_load(&d->control.word[page]);
	moving = owner_moved(w, OWNER_MOVING, owner_id(w));
	if (!word_may_move(w) || !owner_cas(&d->control.word[page], &w, moving))
		return -EBUSY;
	r = carry_over(d, page, from, to);
	if (!owner_cas(&d->control.word[page], &moving, w))
		domain_damage(d, "the owner word of page %u was changed while the page was moved",
		              page);
	return r;
}

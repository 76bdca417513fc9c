/* SPDX-License-Identifier: MIT */
/*
 * The map between the frames of the high zones and the pages that stand for single blocks there.
 *
 * There are as many such pages as frames, and at any moment each page has one frame and each frame
 * one page: the map is a permutation. So a frame that mm/ hands out for a block of order 0 has its
 * page already, a freed one keeps it, and moving is an exchange between two pages, of which one is
 * free.
 *
 *     high_frame[page - frames]     persistent, in the ledger: the truth
 *     high_page[frame - high_start] derived, in ordinary memory, rebuilt at the start
 *
 * A move stores the page's new frame; that store is its commit. Then the other page gets the old
 * frame. A death between the two leaves two pages with one frame, and one frame without a page:
 * since one page moves at a time there is one such pair at most. The one of the two that is granted
 * moved there; it keeps the frame, and the other gets what is left over. Anything else that is no
 * permutation was not written by a daemon, and the pool is refused.
 *
 * Of a block both names exist in words and descriptors: of a block of order 0 the word of its page
 * is used and the word of its frame stays FREE; of a larger one it is the other way round. A word
 * that says something under the wrong name is scribbled: domain_block_get() finds no block there.
 *
 * Looking is one load; opening and validating O(frames of the zones).
 */
#include "daemon/high.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/log.h"
#include "daemon/pool.h"

uint32_t domain_page_of(const struct domain *d, pfn_t pfn)
{
	struct mm_block b;

	return domain_frame_high(d, pfn) && mm_block_get(d->mm, pfn, &b) ?
	               domain_block_page(d, pfn, b.order) :
	               pfn;
}

bool domain_block_get(const struct domain *d, uint32_t page, pfn_t *pfn, struct mm_block *b)
{
	*pfn = domain_frame_of(d, page);
	return mm_block_get(d->mm, *pfn, b) && b->domain == d->id &&
	       domain_page_moves(d, page) == (b->order == 0 && domain_frame_high(d, *pfn));
}

struct frame_pages domain_frame_pages(const struct domain *d, pfn_t pfn)
{
	struct frame_pages p = { .page = pfn, .other = domain_block_page(d, pfn, 0) };

	p.block = mm_block_get(d->mm, pfn, &p.b);
	if (p.block && p.b.order == 0 && p.other != pfn) {
		p.page = p.other;
		p.other = pfn;
		p.other_desc = page_desc_alias(p.page);
	}
	return p;
}

/* ---- descriptors ---- */

uint64_t domain_descriptor(const struct domain *d, uint32_t page, const struct mm_block *b,
                           bool cacheable)
{
	uint64_t desc = b->order | (uint64_t)PAGE_BLOCK << PAGE_DESC_KIND_SHIFT |
	                (uint64_t)b->zone << PAGE_DESC_ZONE_SHIFT |
	                (uint64_t)b->migratetype << PAGE_DESC_TYPE_SHIFT;

	if (domain_page_moves(d, page))
		return desc | PAGE_DESC_MOVABLE |
		       (uint64_t)domain_frame_of(d, page) << PAGE_DESC_FRAME_SHIFT;
	return desc | (uint64_t)b->node << PAGE_DESC_NODE_SHIFT |
	       (cacheable ? PAGE_DESC_CACHEABLE : 0);
}

void domain_describe(struct domain *d, uint32_t page, pfn_t pfn, uint64_t descriptor)
{
	/* release: pairs with the acquire loads of clients that look at a page; who is granted it
	 * reads its word first */
	if (domain_page_moves(d, page))
		atomic_store_explicit(&d->control.desc[pfn], page_desc_alias(page),
		                      memory_order_release);
	atomic_store_explicit(&d->control.desc[page], descriptor, memory_order_release);
}

void domain_undescribe(struct domain *d, uint32_t page, pfn_t pfn)
{
	/* release: as above */
	atomic_store_explicit(&d->control.desc[page], 0, memory_order_release);
	if (domain_page_moves(d, page))
		atomic_store_explicit(&d->control.desc[pfn], 0, memory_order_release);
}

/* ---- the map ---- */

static uint32_t page_of_index(const struct domain *d, uint32_t i)
{
	return (uint32_t)d->control.geometry.frames + i;
}

/* relaxed, here and below: no other thread yet, or all stand still */
static uint32_t index_of_frame_at(const struct domain *d, uint32_t i)
{
	return atomic_load_explicit(&d->high_frame[i], memory_order_relaxed) -
	       (uint32_t)d->control.geometry.high_start;
}

static void page_set(struct domain *d, uint32_t frame_index, uint32_t page)
{
	atomic_store_explicit(&d->high_page[frame_index], page, memory_order_relaxed);
}

/* How sure it is that the page of two with one frame is the one that moved there. */
static int claim(const struct domain *d, uint32_t page)
{
	uint64_t w = owner_load(&d->control.word[page]);

	return owner_kind(w) == OWNER_MOVING ? 2 : owner_kind(w) != OWNER_FREE;
}

static int refuse(const struct domain *d, const char *what, uint32_t i)
{
	static const struct log_about about = { .event = LOG_DAMAGE };

	log_event(LOG_LEVEL_ERROR, &about,
	          "domain %s: page %u, which can move, %s: the ledger's map was overwritten",
	          d->name, page_of_index(d, i), what);
	return -EUCLEAN;
}

/* Fills high_page; repairs one pair. */
static int map_recover(struct domain *d)
{
	uint32_t i, n = (uint32_t)d->control.geometry.high_frames, twice = 0, loser = 0, left;

	for (i = 0; i < n; i++)
		page_set(d, i, UINT32_MAX);
	for (i = 0; i < n; i++) {
		uint32_t at = index_of_frame_at(d, i), other;

		if (at >= n)
			return refuse(d, "has a frame of another zone", i);
		other = atomic_load_explicit(&d->high_page[at], memory_order_relaxed);
		if (other == UINT32_MAX) {
			page_set(d, at, page_of_index(d, i));
			continue;
		}
		if (twice++)
			return refuse(d, "has the frame of another one, and is not the only such",
			              i);
		loser = i;
		if (claim(d, page_of_index(d, i)) > claim(d, other)) {
			loser = other - page_of_index(d, 0);
			page_set(d, at, page_of_index(d, i));
		}
	}
	if (!twice)
		return 0;
	for (left = 0; left < n; left++)
		if (atomic_load_explicit(&d->high_page[left], memory_order_relaxed) == UINT32_MAX)
			break;
	page_set(d, left, page_of_index(d, loser));
	/* release: the repair is one store; a death before it leaves it to be done again */
	atomic_store_explicit(&d->high_frame[loser],
	                      (uint32_t)d->control.geometry.high_start + left,
	                      memory_order_release);
	log_notice("domain %s: page %u has frame %" PRIu64 " again: a move was cut short", d->name,
	           page_of_index(d, loser), d->control.geometry.high_start + left);
	return 0;
}

int high_open(struct domain *d, const struct pool *pool)
{
	uint64_t n = d->control.geometry.high_frames;

	lock_init(&d->moving, LOCK_RANK_MOVE);
	d->high_frame = pool->ledger.high;
	d->high_page = calloc(n + 1, sizeof(*d->high_page));
	if (!d->high_page)
		return -ENOMEM;
	return map_recover(d);
}

void high_close(struct domain *d)
{
	free(d->high_page);
	d->high_page = NULL;
}

void high_swap(struct domain *d, uint32_t page, pfn_t to)
{
	uint32_t frames = (uint32_t)d->control.geometry.frames;
	uint32_t start = (uint32_t)d->control.geometry.high_start;
	pfn_t from = domain_frame_of(d, page);
	uint32_t other = domain_block_page(d, to, 0);

	/* release: what was copied to the frame is there; pairs with domain_frame_of() */
	atomic_store_explicit(&d->high_frame[page - frames], to, memory_order_release);
	atomic_store_explicit(&d->high_frame[other - frames], from, memory_order_release);
	/* release: pairs with domain_block_page() */
	atomic_store_explicit(&d->high_page[to - start], page, memory_order_release);
	atomic_store_explicit(&d->high_page[from - start], other, memory_order_release);
}

static size_t finding(mm_report_fn report, void *ctx, const char *what, uint32_t page, uint32_t of)
{
	char text[160];

	snprintf(text, sizeof(text), "page %u %s %u", page, what, of);
	report(ctx, text);
	return 1;
}

size_t high_validate(const struct domain *d, mm_report_fn report, void *ctx)
{
	uint32_t i, n = (uint32_t)d->control.geometry.high_frames;
	size_t findings = 0;

	for (i = 0; i < n; i++) {
		uint32_t page = page_of_index(d, i), at = index_of_frame_at(d, i);

		if (at >= n)
			findings += finding(report, ctx, "has a frame of another zone,", page,
			                    domain_frame_of(d, page));
		else if (domain_block_page(d, domain_frame_of(d, page), 0) != page)
			findings += finding(report, ctx, "has a frame that belongs to page", page,
			                    domain_block_page(d, domain_frame_of(d, page), 0));
	}
	return findings;
}

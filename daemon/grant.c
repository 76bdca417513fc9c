/* SPDX-License-Identifier: MIT */
/*
 * Offering blocks to sessions and taking them back. A block goes by its page (high.h) here, and by
 * its frame in mm/.
 *
 * A block that is out has three parts: its state word in mm/ (private: it is allocated, and charged
 * to the session in its tag), its descriptor (what clients read) and its owner word (what clients
 * and the daemon exchange). The owner word is what a death leaves as the truth, so the order is:
 *
 *   grant   charge the session; mm/ commits the state word; note the section; descriptor; owner
 *           word OFFERED. A death before the last step leaves an allocated block with a FREE word.
 *   free    1. the block is there (mm_block_get)
 *           2. the owner word is exchanged to FREE with the next generation: honest clients are out
 *           3. mm_block_take: of daemon threads that got here by scribbled words one wins
 *           4. the descriptor is cleared, the charge dropped
 *           5. mm_free_pages
 *           A death in between leaves a FREE word: the block is freed at the start.
 *
 * So a word that is not FREE always lies at an allocated block; anything else is damage, which is
 * reported and not believed.
 *
 * KEPT blocks: step 2 is holder_give_up(), which leaves the block to its holders if there are any.
 *
 * Locks: none but mm/'s in grant_alloc() and grant_free() of a block that is not KEPT. No
 * allocation, no clock.
 */
#include "daemon/grant.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "daemon/depot.h"
#include "daemon/high.h"
#include "daemon/holder.h"
#include "daemon/move.h"
#include "daemon/probes.h"
#include "daemon/reclaim.h"
#include "daemon/wait_queue.h"

static _Thread_local char text_buffer[320];

const char *grant_text(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text_buffer, sizeof(text_buffer), fmt, ap);
	va_end(ap);
	return text_buffer;
}

/* ---- the last step of a free ---- */

void grant_batch_init(struct grant_batch *b, struct domain *d, uint32_t cpu)
{
	b->d = d;
	b->cpu = cpu;
	b->n = 0;
	b->frames = 0;
	b->blocks = 0;
	b->scanned = 0;
	b->noted = 0;
}

void grant_batch_flush(struct grant_batch *b)
{
	struct domain *d = b->d;
	enum mm_free how = wait_queue_waiting(d->waiters) ? MM_FREE_DIRECT : MM_FREE_CACHED;

	reclaim_note_blocks(d, b->scanned, b->frames - b->noted);
	b->scanned = 0;
	b->noted = b->frames;
	if (!b->n)
		return;
	if (b->n == 1)
		mm_free_pages(d->zones, b->cpu, b->pfn[0], how);
	else
		mm_free_pages_bulk(d->zones, b->cpu, b->n, b->pfn, how);
	b->n = 0;
	/* Freed to the zone: whoever waits either saw it there, under the zone's lock, or had
	 * counted itself before, and is seen here. Freed to a per-CPU list by a look that came too
	 * early: the list is drained now, or at the latest by the next round of pressure.c. */
	if (!wait_queue_waiting(d->waiters))
		return;
	if (how == MM_FREE_CACHED && b->cpu != MM_CPU_NONE)
		mm_drain_cpu(d->zones, b->cpu);
	wait_queue_kick(d->waiters);
}

void grant_batch_add(struct grant_batch *b, pfn_t pfn, uint32_t order)
{
	if (b->n == sizeof(b->pfn) / sizeof(b->pfn[0]))
		grant_batch_flush(b);
	b->pfn[b->n++] = pfn;
	b->frames += UINT64_C(1) << order;
	b->blocks++;
}

bool grant_leave(struct grant_batch *batch, uint32_t page)
{
	struct domain *d = batch->d;
	struct mm_block b;
	pfn_t pfn;
	/* The page's frame as of now: it cannot move any more, since its word says FREE. */
	bool taken = domain_block_get(d, page, &pfn, &b) && mm_block_take(d->mm, pfn, &b);

	if (taken && domain_block_page(d, pfn, b.order) != page) {
		mm_block_settle(d->mm, pfn, b.tag); /* it is another page's by now */
		taken = false;
	}
	if (!taken) {
		domain_damage(d, "page %u was given back, but it is no granted block", page);
		return false;
	}
	domain_undescribe(d, page, pfn);
	charge_drop(d, b.tag, UINT64_C(1) << b.order);
	grant_batch_add(batch, pfn, b.order);
	return true;
}

enum grant_back grant_take_back(struct grant_batch *batch, uint32_t page, uint64_t w)
{
	struct domain *d = batch->d;
	owner_word_t *word = &d->control.word[page];
	struct mm_block b;
	uint32_t heir;
	pfn_t pfn;

	if (!move_block_get(d, page, &pfn, &b)) {
		if (owner_load(word) != w)
			return GRANT_BACK_CHANGED;
		domain_damage(
			d, "the owner word of page %u says %u of %u, but nothing is granted there",
			page, (unsigned int)owner_kind(w), owner_id(w));
		return GRANT_BACK_DAMAGED;
	}
	batch->scanned += UINT64_C(1) << b.order;
	if (w & OWNER_KEPT) {
		switch (holder_give_up(d->holders, domain_granule(d, page), word, w, &heir)) {
		case HOLDER_NONE:
			return GRANT_BACK_CHANGED;
		case HOLDER_LEFT:
			charge_inherit(d, page, &b, heir);
			return GRANT_BACK_KEPT;
		case HOLDER_FREED:
			break;
		}
	} else if (!owner_cas(word, &w, owner_reborn(w, OWNER_FREE, 0))) {
		return GRANT_BACK_CHANGED;
	}
	return grant_leave(batch, page) ? GRANT_BACK_FREED : GRANT_BACK_DAMAGED;
}

/* ---- offering ---- */

int grant_check_domain(const struct domain *d, const char **why)
{
	/* relaxed: set once, by domain_tick(), for good */
	if (!atomic_load_explicit(&d->spoiled, memory_order_relaxed))
		return 0;
	*why = "the domain's control memory was spoiled by a member: nothing more is granted from "
	       "it; restart the daemon with a new pool";
	return -EIO;
}

int grant_check(const struct mm_request *r, const char **why)
{
	if (r->gfp & __GFP_MEMALLOC) {
		*why = "__GFP_MEMALLOC is for the daemon's own reclaim; ask without it";
		return -EPERM;
	}
	return mm_request_check(r, why);
}

void grant_publish(struct domain *d, uint32_t page, gfp_t gfp, enum owner_kind kind, uint32_t id)
{
	owner_word_t *word = &d->control.word[page];
	pfn_t pfn = domain_frame_of(d, page);
	uint64_t w = owner_load(word);
	struct mm_block b = { 0 };

	mm_block_get(d->mm, pfn, &b);
	domain_describe(d, page, pfn,
	                domain_descriptor(d, page, &b,
	                                  page_class(b.order, b.migratetype) >= 0 &&
	                                          !(gfp & GRANT_UNCACHED_GFP)));
	if (owner_kind(w) != OWNER_FREE) {
		domain_damage(d, "the owner word of free page %u said %u of %u", page,
		              (unsigned int)owner_kind(w), owner_id(w));
		w = owner_reborn(w, OWNER_FREE, 0);
	}
	/* the place's first life */
	if (!(uint32_t)owner_generation(w))
		w = owner_reborn(w, OWNER_FREE, 0);
	/* All flags clear: a FREE word has none, whatever stands there. */
	owner_store(word, owner_generation(w) << OWNER_GENERATION_SHIFT | owner_who(kind, id));
}

void grant_note_section(struct domain *d, struct session *s, uint32_t page)
{
	uint32_t nr = page >> d->control.geometry.section_order;
	uint64_t bit = UINT64_C(1) << nr % 64;

	/* relaxed: read by the sweep, which begins after all who act for s have left (acquire on
	 * `inside`); set by charge_move() only on the worker, which sweeps, or for s entered */
	if (!(atomic_load_explicit(&s->granted_from[nr / 64], memory_order_relaxed) & bit))
		atomic_fetch_or_explicit(&s->granted_from[nr / 64], bit, memory_order_relaxed);
}

void grant_note_scarce(struct domain *d)
{
	/* relaxed, also in domain_tick(): a hint */
	atomic_store_explicit(&d->control.status->scarce, 2, memory_order_relaxed);
}

int grant_alloc(struct domain *d, struct session *s, uint32_t cpu, gfp_t gfp, uint32_t order,
                uint32_t *ret, const char **why)
{
	return grant_alloc_near(d, s, cpu, MM_NODE_ANY, gfp, order, ret, why);
}

int grant_alloc_near(struct domain *d, struct session *s, uint32_t cpu, uint32_t node, gfp_t gfp,
                     uint32_t order, uint32_t *ret, const char **why)
{
	struct mm_request r = {
		.gfp = gfp, .order = order, .cpu = cpu, .tag = s->id, .node = node
	};
	uint32_t page;
	pfn_t pfn;
	int rc = grant_check_domain(d, why);

	if (!rc)
		rc = grant_check(&r, why);
	if (rc)
		return rc;
	if (!charge_reserve(s, order, 1)) {
		*why = charge_text(s, order);
		return -EDQUOT;
	}
	rc = mm_alloc_pages(d->zones, &r, &pfn);
	if (rc) {
		grant_note_scarce(d);
		charge_return(s, UINT64_C(1) << order);
		*why = grant_text("no block of order %u is free for these flags (0x%x); %" PRIu64
		                  " frames are free in all",
		                  order, gfp, mm_nr_free(d->zones));
		return rc;
	}
	page = domain_block_page(d, pfn, order);
	grant_note_section(d, s, page);
	grant_publish(d, page, gfp, OWNER_OFFERED, s->id);
	probe_alloc_pages(s->id, order, gfp, page);
	*ret = page;
	return 0;
}

void grant_withdraw(struct domain *d, struct session *s, uint32_t cpu, uint32_t page)
{
	uint64_t w = owner_load(&d->control.word[page]);
	struct grant_batch batch;

	if (!owner_is(w, OWNER_OFFERED, s->id))
		return;
	grant_batch_init(&batch, d, cpu);
	grant_take_back(&batch, page, w);
	grant_batch_flush(&batch);
}

/* ---- taking back ---- */

static const char *not_returned_text(uint32_t page, uint64_t w, int *rc)
{
	*rc = -EPERM;
	switch (owner_kind(w)) {
	case OWNER_FREE:
		*rc = -ENOENT;
		return grant_text("page %u is free: no block is granted there", page);
	case OWNER_HELD:
	case OWNER_MOVING:
	case OWNER_OFFERED:
	case OWNER_RETURNED:
		return grant_text(
			"the block at page %u is not marked returned by this session; its "
			"owner word names session %u",
			page, owner_id(w));
	default:
		return grant_text("the block at page %u is in a magazine or part of an area", page);
	}
}

int grant_free(struct domain *d, struct session *s, uint32_t cpu, uint32_t page, uint32_t order,
               uint64_t generation, const char **why)
{
	uint64_t w, pages = control_pages(&d->control.geometry);
	struct grant_batch batch;
	struct mm_block b;
	pfn_t pfn;
	int rc;

	if (page >= pages) {
		*why = grant_text("page %u is beyond the pool's %" PRIu64 " pages", page, pages);
		return -EINVAL;
	}
	if (order > MAX_PAGE_ORDER) {
		*why = grant_text("order %u is above %u", order, MAX_PAGE_ORDER);
		return -EINVAL;
	}
	w = owner_load(&d->control.word[page]);
	if (owner_generation(w) > generation)
		return 0; /* done before, or collected */
	if (owner_generation(w) < generation) {
		*why = grant_text("page %u never had a block of generation %" PRIu64
		                  "; it is at %" PRIu64,
		                  page, generation, owner_generation(w));
		return -ENOENT;
	}
	if (owner_is(w, OWNER_HELD, 0))
		return 0; /* given up before; it lives on for its holders */
	if (!owner_is(w, OWNER_RETURNED, s->id)) {
		*why = not_returned_text(page, w, &rc);
		return rc;
	}
	if (domain_block_get(d, page, &pfn, &b) && b.order != order) {
		*why = grant_text("the block at page %u has order %u, not %u", page, b.order,
		                  order);
		return -EINVAL;
	}
	grant_batch_init(&batch, d, cpu);
	if (grant_take_back(&batch, page, w) == GRANT_BACK_DAMAGED) {
		*why = grant_text("no block is granted at page %u, though its owner word says so",
		                  page);
		return -ENOENT;
	}
	grant_batch_flush(&batch);
	probe_free_pages(s->id, page, order);
	return 0;
}

/* ---- walking ---- */

uint32_t grant_holder_of(const struct domain *d, uint64_t w)
{
	switch (owner_kind(w)) {
	case OWNER_OFFERED:
	case OWNER_HELD:
	case OWNER_RETURNED:
	case OWNER_MOVING:
		return owner_id(w);
	case OWNER_MAGAZINE:
		return exchange_holder(d, (magazine_id_t){ owner_id(w) });
	default:
		return 0;
	}
}

void grant_sections(struct domain *d, struct session *s, uint64_t mask[CONTROL_SECTIONS_MAX / 64])
{
	unsigned int i;

	(void)d;
	/* acquire: pairs with the client's setting its bit before it adopts or takes */
	for (i = 0; i < CONTROL_SECTIONS_MAX / 64; i++)
		mask[i] = s ? atomic_load_explicit(&s->granted_from[i], memory_order_acquire) |
		                          atomic_load_explicit(&s->shared->section[i],
		                                               memory_order_acquire) :
		              UINT64_MAX;
}

void grant_walk(struct domain *d, const uint64_t mask[CONTROL_SECTIONS_MAX / 64], grant_walk_fn fn,
                void *ctx)
{
	const struct control_geometry *g = &d->control.geometry;
	uint32_t sections = mm_nr_sections(d->mm), nr;
	uint32_t n = (uint32_t)(control_pages(g) >> g->section_order);
	uint32_t pages = UINT32_C(1) << g->section_order, i;

	for (nr = 0; nr < n && nr < CONTROL_SECTIONS_MAX; nr++) {
		uint32_t start = nr << g->section_order;
		struct section_info info;

		if (!(mask[nr / 64] >> nr % 64 & 1))
			continue;
		/* Those behind the pool's are of no section: the domain's, as the high zones are. */
		if (nr < sections) {
			mm_section_get(d->mm, (section_id_t){ nr }, &info);
			if (info.state != SECTION_ONLINE || info.domain != d->id)
				continue;
		}
		for (i = 0; i < pages; i++) {
			uint64_t w = owner_load(&d->control.word[start + i]);

			if (owner_kind(w) != OWNER_FREE)
				fn(ctx, start + i, w);
		}
	}
}

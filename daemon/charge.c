/* SPDX-License-Identifier: MIT */
/*
 * Quotas: how much memory a session is charged for.
 *
 * A block is charged to the session in its tag (20 bits of its private state word), which is the
 * one that the daemon offered it to; the session counts the frames of all blocks tagged with it:
 *
 *     session.charge == sum of 2^order over blocks whose tag is the session
 *
 * The sum holds whenever nobody is in the middle of a change: a charge is added before the tag is
 * set, and subtracted by whoever took the tag away with one compare-and-swap (mm_block_retag,
 * mm_block_take), so no frame is ever charged twice or dropped twice.
 *
 * Adoption is one exchange of the owner word that the daemon does not see, so tags lag behind
 * words. grant_recharge() walks the words and moves the charges; it runs before a refusal and in
 * the sweep of a session that dies, on the worker. Whoever is charged is also noted as having
 * blocks in that section, so that a sweep finds every block tagged with its session.
 *
 * Objects have no tags: session.object_bytes is an estimate, strides added when objects are offered
 * and subtracted when they come back, never below zero. Adoption moves objects but no bytes, so
 * before a refusal grant_recharge() counts the session's objects by their words and sets the sum.
 * When that is less than the estimate, somebody else has the difference: those that are met on the
 * way are refused once, so that theirs is counted too.
 * It counts in the slabs that the session marked. Of a magazine from the rack that is not emptied
 * yet these may be too few, but who uses the rack has no quota (rack.c).
 * Blocks and objects count to the one limit, pages_max.
 */
#include "daemon/high.h"
#include "daemon/object.h"

#include <inttypes.h>

/* relaxed, here and below: counters that limit; they order nothing */
static int64_t object_frames(const struct session *s)
{
	int64_t bytes = atomic_load_explicit(&s->object_bytes, memory_order_relaxed);

	return bytes > 0 ? (bytes + GRANT_FRAME - 1) >> PAGE_SHIFT : 0;
}

/* frames_had counts what is charged and not undone, for reports; what was given back since is
 * frames_had - charge. */
static void charge_add(struct session *s, int64_t frames)
{
	atomic_fetch_add_explicit(&s->charge, frames, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->frames_had, (uint64_t)frames, memory_order_relaxed);
}

uint32_t charge_reserve(struct session *s, uint32_t order, uint32_t want)
{
	int64_t frames = INT64_C(1) << order, old;
	int64_t limit = (int64_t)s->pages_max - object_frames(s), n = want;

	if (!s->pages_max) {
		charge_add(s, n * frames);
		return want;
	}
	old = atomic_load_explicit(&s->charge, memory_order_relaxed);
	do {
		n = old < limit ? (limit - old) >> order : 0;
		if (n > want)
			n = want;
		if (!n)
			return 0;
	} while (!atomic_compare_exchange_weak_explicit(
		&s->charge, &old, old + n * frames, memory_order_relaxed, memory_order_relaxed));
	atomic_fetch_add_explicit(&s->frames_had, (uint64_t)(n * frames), memory_order_relaxed);
	return (uint32_t)n;
}

void charge_return(struct session *s, uint64_t frames)
{
	atomic_fetch_sub_explicit(&s->charge, (int64_t)frames, memory_order_relaxed);
	atomic_fetch_sub_explicit(&s->frames_had, frames, memory_order_relaxed);
}

void charge_drop(struct domain *d, uint32_t tag, uint64_t frames)
{
	struct session *s = tag ? session_by_id(d->kmmd->sessions, tag) : NULL;

	if (s)
		atomic_fetch_sub_explicit(&s->charge, (int64_t)frames, memory_order_relaxed);
}

/* s: whom `to` means, NULL: nobody. */
static void charge_retag(struct domain *d, uint32_t page, uint32_t to, struct session *s)
{
	struct mm_block b;
	pfn_t pfn;

	while (domain_block_get(d, page, &pfn, &b) && b.tag != to) {
		int64_t frames = INT64_C(1) << b.order;

		if (s)
			charge_add(s, frames);
		if (mm_block_retag(d->mm, pfn, b.tag, to)) {
			charge_drop(d, b.tag, (uint64_t)frames);
			return;
		}
		if (s)
			charge_return(s, (uint64_t)frames);
	}
}

void charge_move(struct domain *d, uint32_t page, uint32_t to)
{
	struct session *s = to ? session_by_id(d->kmmd->sessions, to) : NULL;

	if (s)
		grant_note_section(d, s, page);
	else
		to = 0;
	if (!domain_page_moves(d, page)) {
		charge_retag(d, page, to, s);
		return;
	}
	/* It keeps its frame meanwhile. */
	LOCK_SCOPED(&d->moving);
	charge_retag(d, page, to, s);
}

void charge_inherit(struct domain *d, uint32_t page, const struct mm_block *b, uint32_t heir)
{
	struct session *s = session_by_id(d->kmmd->sessions, heir);
	int64_t frames = INT64_C(1) << b->order;
	pfn_t pfn = domain_frame_of(d, page); /* of a KEPT one, which does not move */

	/* Names only: nobody is charged. */
	if (!heir && b->tag && mm_block_retag(d->mm, pfn, b->tag, 0))
		charge_drop(d, b->tag, (uint64_t)frames);
	/* Who ends has its entry among the holders still, and names the next heir when it goes. */
	if (!heir || !s || b->tag == heir || !session_enter(s))
		return;
	grant_note_section(d, s, page);
	charge_add(s, frames);
	/* Once: another tag means that the block was freed, or was settled by somebody else. */
	if (mm_block_retag(d->mm, pfn, b->tag, heir))
		charge_drop(d, b->tag, (uint64_t)frames);
	else
		charge_return(s, (uint64_t)frames);
	session_leave(s);
}

const char *charge_text(const struct session *s, uint32_t order)
{
	return charge_text_pages(s, 1u << order);
}

const char *charge_text_pages(const struct session *s, uint32_t pages)
{
	return grant_text("the session holds %" PRId64 " of the %" PRIu64 " pages it may; %u more "
	                  "are asked for: free some, or raise pages in [limits] of the configuration",
	                  atomic_load_explicit(&s->charge, memory_order_relaxed) +
	                          object_frames(s),
	                  s->pages_max, pages);
}

/* ---- objects ---- */

uint32_t charge_reserve_objects(struct session *s, uint32_t stride, uint32_t want)
{
	int64_t pages, old = 0, n = want;

	if (!s->pages_max) {
		atomic_fetch_add_explicit(&s->object_bytes, n * stride, memory_order_relaxed);
		return want;
	}
	if (atomic_load_explicit(&s->object_bytes_low, memory_order_relaxed))
		return 0;
	pages = (int64_t)s->pages_max - atomic_load_explicit(&s->charge, memory_order_relaxed);
	old = atomic_load_explicit(&s->object_bytes, memory_order_relaxed);
	do {
		int64_t room = pages * GRANT_FRAME - old;

		n = room > 0 ? room / stride : 0;
		if (n > want)
			n = want;
		if (!n)
			return 0;
	} while (!atomic_compare_exchange_weak_explicit(&s->object_bytes, &old, old + n * stride,
	                                                memory_order_relaxed,
	                                                memory_order_relaxed));
	return (uint32_t)n;
}

void charge_return_objects(struct session *s, uint64_t bytes)
{
	int64_t old = atomic_load_explicit(&s->object_bytes, memory_order_relaxed), left;

	do {
		left = old > (int64_t)bytes ? old - (int64_t)bytes : 0;
	} while (!atomic_compare_exchange_weak_explicit(&s->object_bytes, &old, left,
	                                                memory_order_relaxed,
	                                                memory_order_relaxed));
}

void charge_drop_objects(struct domain *d, uint32_t session, uint64_t bytes)
{
	struct session *s = session ? session_by_id(d->kmmd->sessions, session) : NULL;

	if (s)
		charge_return_objects(s, bytes);
}

const char *charge_text_objects(const struct session *s, uint32_t stride)
{
	return grant_text("the session holds %" PRId64 " of the %" PRIu64 " pages it may, %" PRId64
	                  " of them as objects; one of %u bytes more is asked for: free some, or "
	                  "raise pages in [limits] of the configuration",
	                  atomic_load_explicit(&s->charge, memory_order_relaxed) +
	                          object_frames(s),
	                  s->pages_max, object_frames(s), stride);
}

struct recharge {
	struct domain *d;
	struct session *s;
};

static void recharge_one(void *ctx, uint32_t page, uint64_t w)
{
	struct recharge *r = ctx;
	struct session *t;
	struct mm_block b;
	uint32_t holder;
	pfn_t pfn;

	if (!domain_block_get(r->d, page, &pfn, &b) || b.tag != r->s->id)
		return;
	holder = grant_holder_of(r->d, w);
	if (holder == r->s->id || !holder)
		return;
	t = session_by_id(r->d->kmmd->sessions, holder);
	if (!t || atomic_load_explicit(&t->state, memory_order_acquire) == SESSION_FREE)
		return;
	charge_move(r->d, page, holder);
}

void grant_recharge(struct domain *d, struct session *s)
{
	struct recharge r = { .d = d, .s = s };
	uint64_t mask[CONTROL_SECTIONS_MAX / 64];

	grant_sections(d, s, mask);
	grant_walk(d, mask, recharge_one, &r);
	object_recount(d, s);
}

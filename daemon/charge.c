/* SPDX-License-Identifier: MIT */
/*
 * Quotas: how many frames a session is charged for.
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
 */
#include "daemon/grant.h"

#include <inttypes.h>

uint32_t charge_reserve(struct session *s, uint32_t order, uint32_t want)
{
	int64_t frames = INT64_C(1) << order, limit = (int64_t)s->pages_max, old;
	int64_t n = want;

	if (!s->pages_max) {
		/* relaxed, here and below: a counter that limits; it orders nothing */
		atomic_fetch_add_explicit(&s->charge, n * frames, memory_order_relaxed);
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
	return (uint32_t)n;
}

void charge_return(struct session *s, uint64_t frames)
{
	atomic_fetch_sub_explicit(&s->charge, (int64_t)frames, memory_order_relaxed);
}

void charge_drop(struct domain *d, uint32_t tag, uint64_t frames)
{
	struct session *s = tag ? session_by_id(d->kmmd->sessions, tag) : NULL;

	if (s)
		charge_return(s, frames);
}

void charge_move(struct domain *d, pfn_t pfn, uint32_t to)
{
	struct session *s = to ? session_by_id(d->kmmd->sessions, to) : NULL;
	struct mm_block b;

	if (s)
		grant_note_section(d, s, pfn);
	else
		to = 0;
	while (mm_block_get(d->mm, pfn, &b) && b.tag != to) {
		int64_t frames = INT64_C(1) << b.order;

		if (s)
			atomic_fetch_add_explicit(&s->charge, frames, memory_order_relaxed);
		if (mm_block_retag(d->mm, pfn, b.tag, to)) {
			charge_drop(d, b.tag, (uint64_t)frames);
			return;
		}
		if (s)
			charge_return(s, (uint64_t)frames);
	}
}

void charge_inherit(struct domain *d, pfn_t pfn, const struct mm_block *b, uint32_t heir)
{
	struct session *s = session_by_id(d->kmmd->sessions, heir);
	int64_t frames = INT64_C(1) << b->order;

	/* Who ends has its entry among the holders still, and names the next heir when it goes. */
	if (!s || b->tag == heir || !session_enter(s))
		return;
	grant_note_section(d, s, pfn);
	atomic_fetch_add_explicit(&s->charge, frames, memory_order_relaxed);
	/* Once: another tag means that the block was freed, or was settled by somebody else. */
	if (mm_block_retag(d->mm, pfn, b->tag, heir))
		charge_drop(d, b->tag, (uint64_t)frames);
	else
		charge_return(s, (uint64_t)frames);
	session_leave(s);
}

const char *charge_text(const struct session *s, uint32_t order)
{
	return grant_text("the session holds %" PRId64 " of the %" PRIu64 " pages it may; %u more "
	                  "are asked for: free some, or raise pages_max",
	                  atomic_load_explicit(&s->charge, memory_order_relaxed), s->pages_max,
	                  1u << order);
}

struct recharge {
	struct domain *d;
	struct session *s;
};

static void recharge_one(void *ctx, pfn_t pfn, uint64_t w)
{
	struct recharge *r = ctx;
	struct session *t;
	struct mm_block b;
	uint32_t holder;

	if (!mm_block_get(r->d->mm, pfn, &b) || b.tag != r->s->id)
		return;
	holder = grant_holder_of(r->d, w);
	if (holder == r->s->id || !holder)
		return;
	t = session_by_id(r->d->kmmd->sessions, holder);
	if (!t || atomic_load_explicit(&t->state, memory_order_acquire) == SESSION_FREE)
		return;
	charge_move(r->d, pfn, holder);
}

void grant_recharge(struct domain *d, struct session *s)
{
	struct recharge r = { .d = d, .s = s };
	uint64_t mask[CONTROL_SECTIONS_MAX / 64];

	grant_sections(d, s, mask);
	grant_walk(d, mask, recharge_one, &r);
}

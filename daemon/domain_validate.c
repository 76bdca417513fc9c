/* SPDX-License-Identifier: MIT */
/*
 * The cross-check of a domain: what words, descriptors, magazines, holders and charges say of each
 * other and of mm/'s private words. (Objects and slabs: object_validate.c.) All reactors stand
 * still; clients do not. What they may change by one exchange of a word while it is looked at is
 * allowed in any of its states:
 *
 *   - a block's word may go OFFERED -> HELD -> RETURNED -> MAGAZINE (of a magazine lent to the same
 *     session) and back, or to another session by adoption. All of these are legal beside an
 *     allocated block, so each word is read once and judged by itself
 *   - a block may be charged to another session than the one that has it (adoption)
 *   - a lent magazine may be in any state, and words may name it that it does not list; but one that
 *     lay in the rack all the time that the check took is as good as full
 *
 * Everything else is the daemon's own and must agree:
 *
 *     frames of a slab: words FREE, descriptors the slab's
 *     else
 *     block allocated  <=>  word not FREE  <=>  descriptor PAGE_BLOCK of its order, type, place
 *     word names a session: it is one; a magazine: it is full (and lists it) or lent
 *     a slot of the rack names a magazine of the pool
 *     KEPT  <=>  the holder table has entries of that life of the block
 *     session.charge == frames of the blocks tagged with it
 *     what a user is charged == what its sessions are (user.c)
 *     session.magazines == lent magazines that count for it, session.holds == its entries
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/depot.h"
#include "daemon/domain_private.h"
#include "daemon/high.h"
#include "daemon/holder.h"
#include "daemon/object.h"
#include "daemon/rack.h"
#include "daemon/wait_queue.h"

struct session_sum {
	int64_t charge;
	uint32_t magazines, holds;
};

struct check {
	struct domain *d;
	mm_report_fn report;
	void *ctx;
	size_t findings;
	uint32_t nr_sessions;
	struct session_sum *sum; /* by session */
	uint32_t *naming;        /* by magazine: words that name it */
	uint64_t *racked;        /* by magazine: its header when the check began, if it lay in the rack */
	uint8_t *listed;         /* by page: stands in a full magazine */
	uint64_t *listed_object; /* the same by owner word, a bit each */
};

__attribute__((format(printf, 2, 3))) static void finding(struct check *c, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	c->report(c->ctx, text);
	c->findings++;
}

static bool session_exists(const struct check *c, uint32_t id)
{
	struct session *s = session_by_id(c->d->kmmd->sessions, id);
	uint32_t state;

	if (!s)
		return false;
	/* acquire: pairs with the changes of state */
	state = atomic_load_explicit(&s->state, memory_order_acquire);
	return state != SESSION_FREE && state != SESSION_GONE;
}

static void check_magazine_word(struct check *c, uint32_t page, uint32_t m)
{
	enum magazine_state state;

	if (m >= depot_size(c->d->depot)) {
		finding(c, "the word of page %u names magazine %u of %u", page, m,
		        depot_size(c->d->depot));
		return;
	}
	c->naming[m]++;
	state = magazine_state(magazine_load(&c->d->control.magazine[m]));
	if (!depot_is_lent(c->d->depot, (magazine_id_t){ m }) && state != MAGAZINE_DEPOT)
		finding(c, "the word of page %u names magazine %u, which is neither full nor lent",
		        page, m);
}

static void check_kept(struct check *c, uint32_t page, uint64_t w)
{
	uint32_t n = holder_count(c->d->holders, domain_granule(c->d, page), owner_generation(w));

	if (n && !(w & OWNER_KEPT))
		finding(c, "the block at page %u has %u holders but its word does not say KEPT",
		        page, n);
	if (!n && (w & OWNER_KEPT))
		finding(c, "the word of page %u says KEPT but nobody holds the block", page);
	if (!n && owner_is(w, OWNER_HELD, 0))
		finding(c, "the block at page %u has neither owner nor holders", page);
}

static void check_block(struct check *c, uint32_t page, const struct mm_block *b)
{
	/* acquire: pairs with the grant's and the clients' releases */
	uint64_t w = owner_load(&c->d->control.word[page]);
	uint64_t desc = atomic_load_explicit(&c->d->control.desc[page], memory_order_acquire);
	uint64_t ours = domain_descriptor(c->d, page, b, false);

	switch (owner_kind(w)) {
	case OWNER_FREE:
		finding(c, "the block at page %u, order %u, is granted but its word says FREE",
		        page, b->order);
		break;
	case OWNER_OFFERED:
	case OWNER_HELD:
	case OWNER_RETURNED:
		if (!owner_is(w, OWNER_HELD, 0) && !session_exists(c, owner_id(w)))
			finding(c, "the word of page %u names session %u, which there is not", page,
			        owner_id(w));
		break;
	case OWNER_MAGAZINE:
		check_magazine_word(c, page, owner_id(w));
		break;
	default:
		finding(c, "the word of page %u has kind %u", page, (unsigned int)owner_kind(w));
		break;
	}
	if (owner_kind(w) != OWNER_FREE)
		check_kept(c, page, w);
	if ((desc & ~PAGE_DESC_CACHEABLE) != ours)
		finding(c, "the descriptor of page %u is %#" PRIx64 ", the block's is %#" PRIx64,
		        page, desc, ours);
	if (b->domain != c->d->id)
		finding(c, "the block at page %u is of domain %u", page, b->domain);
	if (!b->tag)
		return;
	if (!session_exists(c, b->tag))
		finding(c, "the block at page %u is charged to session %u, which there is not",
		        page, b->tag);
	if (b->tag < c->nr_sessions)
		c->sum[b->tag].charge += INT64_C(1) << b->order;
}

/* A page that stands for no block; of the frame of one that moves, ours says which. */
static void check_free(struct check *c, uint32_t page, uint64_t ours)
{
	uint64_t w = owner_load(&c->d->control.word[page]);
	uint64_t desc = atomic_load_explicit(&c->d->control.desc[page], memory_order_acquire);

	if (owner_kind(w) != OWNER_FREE)
		finding(c, "no block begins at page %u but its word says kind %u, owner %u", page,
		        (unsigned int)owner_kind(w), owner_id(w));
	if (desc != ours)
		finding(c, "no block begins at page %u but its descriptor is %#" PRIx64
		        ", not %#" PRIx64, page, desc, ours);
}

/* A frame that is not in a slab. */
static void check_frame(struct check *c, pfn_t pfn)
{
	struct frame_pages p = domain_frame_pages(c->d, pfn);

	if (p.block)
		check_block(c, p.page, &p.b);
	else
		check_free(c, p.page, 0);
	if (p.other != p.page)
		check_free(c, p.other, p.other_desc);
}

static void check_slab_frames(struct check *c, const struct slab_about *s)
{
	uint32_t i, n = 1u << kmem_cache_geometry(s->cache)->order;

	for (i = 0; i < n; i++) {
		pfn_t pfn = s->head + i;
		uint64_t w = owner_load(&c->d->control.word[pfn]);
		uint64_t ours = object_slab_descriptor(s, i);
		uint64_t desc = atomic_load_explicit(&c->d->control.desc[pfn],
		                                     memory_order_acquire);

		if (owner_kind(w) != OWNER_FREE)
			finding(c,
			        "frame %u is in a slab but its word says kind %u, owner %u", pfn,
			        (unsigned int)owner_kind(w), owner_id(w));
		if (desc != ours)
			finding(c,
			        "the descriptor of frame %u is %#" PRIx64
			        ", the slab's is %#" PRIx64,
			        pfn, desc, ours);
	}
}

static void check_section_state(struct check *c, uint32_t nr, uint32_t state)
{
	/* acquire: pairs with the store that published the section */
	if (atomic_load_explicit(&c->d->control.section[nr], memory_order_acquire) != state)
		finding(c, "section %u is shown to clients otherwise than it is", nr);
}

static void check_frames(struct check *c)
{
	pfn_t frames = (pfn_t)1 << c->d->control.geometry.section_order, pfn, i;
	uint32_t nr, n = mm_nr_sections(c->d->mm);

	for (nr = 0; nr < n; nr++) {
		struct section_info info;
		bool ours;

		mm_section_get(c->d->mm, (section_id_t){ nr }, &info);
		ours = info.state == SECTION_ONLINE && info.domain == c->d->id;
		pfn = mm_section_start(c->d->mm, (section_id_t){ nr });
		check_section_state(c, nr, !ours ? CONTROL_SECTION_NONE :
		                           domain_frame_high(c->d, pfn) ? CONTROL_SECTION_HIGH :
		                                                          CONTROL_SECTION_DIRECT);
		if (!ours)
			continue;
		for (i = 0; i < frames; i++) {
			struct slab_about slab;

			if (slab_about_at(c->d->slabs, pfn + i, &slab)) {
				check_slab_frames(c, &slab);
				i += (1u << kmem_cache_geometry(slab.cache)->order) - 1;
			} else {
				check_frame(c, pfn + i);
			}
		}
	}
	/* of the pages that move */
	for (; nr < control_pages(&c->d->control.geometry) / frames; nr++)
		check_section_state(c, nr, CONTROL_SECTION_HIGH);
}

/* The thing stands in no other place of a full magazine. */
static bool list_once(struct check *c, const struct thing *t)
{
	uint64_t bit = UINT64_C(1) << t->object.word % 64;
	uint64_t *words = &c->listed_object[t->object.word / 64];

	if (!t->is_object)
		return !c->listed[t->page]++;
	if (*words & bit)
		return false;
	*words |= bit;
	return true;
}

static bool round_right(struct check *c, magazine_id_t m, uint32_t granule)
{
	struct thing t = { .granule = granule };

	return thing_granule_ok(c->d, granule) && thing_find(c->d, granule, &t) &&
	       owner_is(owner_load(t.word), OWNER_MAGAZINE, m.nr) && list_once(c, &t);
}

/* Before words are looked at: which magazines lie in the rack. */
static void note_racked(struct check *c)
{
	magazine_id_t m;

	for (m.nr = 0; m.nr < depot_size(c->d->depot); m.nr++) {
		uint64_t h = magazine_load(&c->d->control.magazine[m.nr]);

		if (depot_is_lent(c->d->depot, m) && magazine_is(h, MAGAZINE_RACK, 0))
			c->racked[m.nr] = h;
	}
}

/* It lists exactly the things whose words name it. */
static void check_rounds(struct check *c, magazine_id_t m, uint32_t n)
{
	const struct magazine *mag = &c->d->control.magazine[m.nr];
	uint32_t i, right = 0;

	for (i = 0; i < n; i++)
		/* relaxed: written before the header */
		right += round_right(c, m, atomic_load_explicit(&mag->round[i],
		                                                memory_order_relaxed));
	/* A member took it, with the rounds, while they were looked at. */
	if (c->racked[m.nr] && magazine_load(mag) != c->racked[m.nr])
		return;
	if (right != n || c->naming[m.nr] != n)
		finding(c, "magazine %u holds %u rounds, of which %u are right; %u words name it",
		        m.nr, n, right, c->naming[m.nr]);
}

static void check_magazines(struct check *c)
{
	magazine_id_t m;

	for (m.nr = 0; m.nr < depot_size(c->d->depot); m.nr++) {
		uint32_t lent = depot_lent_to(c->d->depot, m);

		if (!depot_is_lent(c->d->depot, m)) {
			check_rounds(c, m, depot_rounds(c->d->depot, m));
			continue;
		}
		if (lent && !session_exists(c, lent))
			finding(c, "magazine %u is lent to session %u, which there is not", m.nr,
			        lent);
		if (lent < c->nr_sessions)
			c->sum[lent].magazines++;
		if (c->racked[m.nr] &&
		    magazine_load(&c->d->control.magazine[m.nr]) == c->racked[m.nr])
			check_rounds(c, m, magazine_count(c->racked[m.nr]));
	}
}

static void check_holder(void *ctx, uint32_t session, uint32_t granule, uint64_t generation)
{
	struct check *c = ctx;
	struct thing t;

	/* Session 0: names, which name_validate() compares. */
	if (session && !session_exists(c, session))
		finding(c, "session %u holds granule %u, but there is no such session", session,
		        granule);
	else if (session)
		c->sum[session].holds++;
	if (!thing_granule_ok(c->d, granule) || !thing_find(c->d, granule, &t) ||
	    owner_generation(owner_load(t.word)) != generation)
		finding(c, "session %u holds granule %u, where that thing is not any more", session,
		        granule);
}

static void check_sessions(struct check *c)
{
	uint32_t id;

	for (id = 1; id < c->nr_sessions; id++) {
		struct session *s = session_by_id(c->d->kmmd->sessions, id);
		const struct session_sum *sum = &c->sum[id];
		/* relaxed: those who change them stand still */
		int64_t charge = atomic_load_explicit(&s->charge, memory_order_relaxed);
		uint32_t magazines = atomic_load_explicit(&s->magazines, memory_order_relaxed);
		uint32_t holds = atomic_load_explicit(&s->holds, memory_order_relaxed);

		if (charge != sum->charge)
			finding(c,
			        "session %u is charged %" PRId64 " pages, its blocks have %" PRId64,
			        id, charge, sum->charge);
		if (session_exists(c, id) && magazines != sum->magazines)
			finding(c, "session %u is said to have %u magazines, it has %u", id,
			        magazines, sum->magazines);
		if (session_exists(c, id) && holds != sum->holds)
			finding(c, "session %u is said to hold %u things, it holds %u", id, holds,
			        sum->holds);
	}
}

size_t domain_validate(struct domain *d, mm_report_fn report, void *ctx)
{
	struct check c = { .d = d, .report = report, .ctx = ctx };

	c.nr_sessions = session_table_size(d->kmmd->sessions);
	c.sum = calloc(c.nr_sessions + 1, sizeof(*c.sum));
	c.naming = calloc((size_t)depot_size(d->depot) + 1, sizeof(*c.naming));
	c.racked = calloc((size_t)depot_size(d->depot) + 1, sizeof(*c.racked));
	c.listed = calloc(control_pages(&d->control.geometry), 1);
	c.listed_object = calloc(d->control.object_words / 64 + 1, sizeof(*c.listed_object));
	if (!c.sum || !c.naming || !c.racked || !c.listed || !c.listed_object) {
		finding(&c, "there is no memory for the check");
	} else {
		note_racked(&c);
		check_frames(&c);
		c.findings += high_validate(d, report, ctx);
		c.findings += object_validate(d, c.naming, report, ctx);
		check_magazines(&c);
		holder_for_each(d->holders, check_holder, &c);
		check_sessions(&c);
		c.findings += holder_validate(d->holders, report, ctx);
		c.findings += depot_validate(d->depot, report, ctx);
		c.findings += rack_validate(d, report, ctx);
		c.findings += wait_queue_validate(d->waiters, report, ctx);
		c.findings += user_validate(d->kmmd, report, ctx);
	}
	free(c.sum);
	free(c.naming);
	free(c.racked);
	free(c.listed);
	free(c.listed_object);
	return c.findings;
}

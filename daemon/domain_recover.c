/* SPDX-License-Identifier: MIT */
/*
 * Taking over a pool after a restart: the words decide.
 *
 * Clients go on meanwhile: they use what they hold, allocate from what they cache (RETURNED to
 * HELD), adopt, mark things returned, and fill or empty magazines that are LOADED by them. So every
 * change here is a compare-and-swap from what was judged, and the loser looks again.
 *
 *   1. magazines   LOADED by a known session: stay lent to it; all others will be empty. OFFERED
 *                  ones and those in the rack are taken back (header to EMPTY), so that no late
 *                  claim comes. What the session puts into the rack from now on stays there
 *   2. holders     entries of unknown sessions and of names that are none go
 *   3. objects     the slab layer asks about each object of each slab (object_recover.c)
 *   4. blocks      mm/ asks about each allocated block; a slab stays when 3 found it. A word says:
 *                    FREE, OFFERED, RETURNED             it is free, generation + 1
 *                      (RETURNED and KEPT with holders:  it is theirs)
 *                    MAGAZINE lent                       it stays, else free
 *                    HELD by a known session             it stays
 *                    HELD by nobody                      it stays with its holders, else free
 *                    MOVING, of a page that can move     HELD, where the map says (high.c); one page
 *                                                        moves at a time: of several it is damage
 *                    anything else                       damage: out of use until somebody looks
 *   5. holders     entries whose thing is not in that life any more go; the others' are KEPT
 *   6. names       likewise
 *   7. all frames  a word that is not FREE where no block is allocated is damage; descriptors,
 *                  tags (who is charged) and KEPT are set to what they ought to be; object words
 *                  begin above all generations that are met (object_ops.c)
 *
 * Sessions whose record says SWEEPING are known here; their sweep runs again afterwards.
 *
 * No other thread of ours exists yet. O(frames + objects + magazines + holders).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "daemon/depot.h"
#include "daemon/domain_private.h"
#include "daemon/high.h"
#include "daemon/holder.h"
#include "daemon/log.h"
#include "daemon/name.h"
#include "daemon/object.h"
#include "daemon/pool.h"
#include "daemon/probes.h"

bool recovery_session_known(const struct recovery *r, uint32_t id)
{
	/* acquire: pairs with the commit of the record */
	return id && id < r->pool->nr_sessions &&
	       atomic_load_explicit(&r->pool->session[id].word, memory_order_acquire) != 0;
}

/* ---- 1. magazines ---- */

static void recover_magazines(struct recovery *r)
{
	uint32_t m;

	for (m = 0; m < r->d->control.geometry.magazines; m++) {
		struct magazine *mag = &r->d->control.magazine[m];
		uint64_t h = magazine_load(mag);
		unsigned int race;

		for (race = 0;
		     race < RECOVERY_RACES_MAX && magazine_state(h) != MAGAZINE_EMPTY; race++) {
			if (magazine_state(h) == MAGAZINE_LOADED &&
			    recovery_session_known(r, magazine_owner(h))) {
				r->lent[m] = magazine_owner(h);
				break;
			}
			if (magazine_cas(mag, &h, magazine_next(h, MAGAZINE_EMPTY, 0, 0)))
				break;
		}
	}
}

/* ---- 2. and 5. holders, 6. names ---- */

static bool holder_known(void *ctx, uint32_t session, uint32_t granule, uint64_t generation)
{
	struct recovery *r = ctx;

	if (!thing_granule_ok(r->d, granule))
		return false;
	return session ? recovery_session_known(r, session) :
	                 name_has(r->d->names, granule, generation);
}

static bool thing_live(void *ctx, uint32_t granule, uint64_t generation)
{
	struct recovery *r = ctx;
	struct thing t;
	uint64_t w;

	if (!thing_granule_ok(r->d, granule) || !thing_find(r->d, granule, &t))
		return false;
	w = owner_load(t.word);
	return (owner_kind(w) == OWNER_HELD || owner_kind(w) == OWNER_RETURNED) &&
	       owner_generation(w) == generation;
}

/* A death between the entry and KEPT. By exchange: only what was judged. */
static void set_kept(struct recovery *r, uint32_t granule, uint64_t generation)
{
	unsigned int race;
	struct thing t;
	uint64_t w;

	thing_find(r->d, granule, &t);
	w = owner_load(t.word);
	for (race = 0; race < RECOVERY_RACES_MAX; race++)
		if ((w & OWNER_KEPT) || owner_generation(w) != generation ||
		    owner_cas(t.word, &w, w | OWNER_KEPT))
			return;
}

static bool holder_live(void *ctx, uint32_t session, uint32_t granule, uint64_t generation)
{
	(void)session;
	if (!thing_live(ctx, granule, generation))
		return false;
	set_kept(ctx, granule, generation);
	return true;
}

/* ---- 4. blocks ---- */

static bool has_holders(const struct recovery *r, uint32_t granule, uint64_t w)
{
	return holder_count(r->d->holders, granule, owner_generation(w)) > 0;
}

enum recovery_verdict recovery_judge(const struct recovery *r, uint32_t granule, uint64_t w)
{
	switch (owner_kind(w)) {
	case OWNER_FREE:
	case OWNER_OFFERED:
		return VERDICT_FREE;
	case OWNER_RETURNED:
		return (w & OWNER_KEPT) && has_holders(r, granule, w) ? VERDICT_HOLDERS :
		                                                        VERDICT_FREE;
	case OWNER_MAGAZINE:
		return owner_id(w) < r->d->control.geometry.magazines && r->lent[owner_id(w)] ?
		               VERDICT_KEEP :
		               VERDICT_FREE;
	case OWNER_HELD:
		if (!owner_id(w))
			return has_holders(r, granule, w) ? VERDICT_HOLDERS : VERDICT_FREE;
		return recovery_session_known(r, owner_id(w)) ? VERDICT_KEEP : VERDICT_DAMAGED;
	default:
		return VERDICT_DAMAGED;
	}
}

static bool keep_block(void *ctx, pfn_t pfn, const struct mm_block *b)
{
	struct recovery *r = ctx;
	uint32_t page = domain_block_page(r->d, pfn, b->order);
	owner_word_t *word = &r->d->control.word[page];
	uint64_t w = owner_load(word);
	unsigned int race;

	if (b->slab)
		return slab_present(r->d->slabs, pfn);
	for (race = 0; race < RECOVERY_RACES_MAX; race++) {
		/* A death in the middle of a move: where it was, or where it went (high.c). */
		if (owner_kind(w) == OWNER_MOVING && domain_page_moves(r->d, page)) {
			if (!owner_cas(word, &w, owner_moved(w, OWNER_HELD, owner_id(w))))
				continue;
			if (r->moving++)
				domain_damage(r->d,
				              "page %u is said to have been moved when the daemon "
				              "ended, but so was another one",
				              page);
			w = owner_load(word);
			continue;
		}
		switch (recovery_judge(r, domain_granule(r->d, page), w)) {
		case VERDICT_FREE:
			if (owner_kind(w) == OWNER_FREE ||
			    owner_cas(word, &w, owner_reborn(w, OWNER_FREE, 0))) {
				r->freed += UINT64_C(1) << b->order;
				return false;
			}
			continue;
		case VERDICT_HOLDERS:
			if (!owner_is(w, OWNER_HELD, 0) &&
			    !owner_cas(word, &w, owner_moved(w, OWNER_HELD, 0)))
				continue;
			break;
		case VERDICT_KEEP:
			break;
		case VERDICT_DAMAGED:
			domain_damage(r->d,
			              "the block at page %u, order %u, is said to be of kind %u, "
			              "owner %u, "
			              "which is nobody; it stays out of use",
			              page, b->order, (unsigned int)owner_kind(w), owner_id(w));
			break;
		}
		break;
	}
	r->kept += UINT64_C(1) << b->order;
	return true;
}

static void report_line(void *ctx, const char *text)
{
	static const struct log_about about = { .event = LOG_DAMAGE };

	(void)ctx;
	log_event(LOG_LEVEL_ERROR, &about, "%s", text);
}

/* ---- 7. all frames ---- */

void recovery_correct_kept(const struct recovery *r, uint32_t granule, owner_word_t *word)
{
	uint64_t w = owner_load(word);
	unsigned int race;

	for (race = 0; race < RECOVERY_RACES_MAX; race++) {
		bool held = has_holders(r, granule, w);

		if (held == !!(w & OWNER_KEPT) ||
		    owner_cas(word, &w, held ? w | OWNER_KEPT : w & ~OWNER_KEPT))
			return;
	}
}

static uint32_t charged_session(const struct recovery *r, uint32_t page)
{
	uint64_t w = owner_load(&r->d->control.word[page]);
	uint32_t id = owner_id(w);

	if (owner_kind(w) == OWNER_MAGAZINE)
		id = id < r->d->control.geometry.magazines ? r->lent[id] : 0;
	else if (owner_is(w, OWNER_HELD, 0))
		id = holder_first(r->d->holders, domain_granule(r->d, page), owner_generation(w));
	return recovery_session_known(r, id) ? id : 0;
}

static void correct_block(struct recovery *r, uint32_t page, pfn_t pfn, const struct mm_block *b)
{
	page_desc_t *desc = &r->d->control.desc[page];
	/* relaxed: only this thread writes descriptors now */
	uint64_t was = atomic_load_explicit(desc, memory_order_relaxed), now;
	bool cacheable = page_class(b->order, b->migratetype) >= 0;
	uint32_t tag = charged_session(r, page);

	recovery_correct_kept(r, domain_granule(r->d, page), &r->d->control.word[page]);
	/* whether it was asked for by zone is known to the descriptor alone */
	if (page_desc_kind(was) == PAGE_BLOCK && page_desc_order(was) == b->order)
		cacheable = cacheable && (was & PAGE_DESC_CACHEABLE);
	now = domain_descriptor(r->d, page, b, cacheable);
	if (was != now)
		atomic_store_explicit(desc, now, memory_order_release);
	if (b->tag != tag)
		mm_block_set_tag(r->d->mm, pfn, tag);
}

/* A page that stands for no block; of the frame of one that moves, desc says which. */
static void correct_free(struct recovery *r, uint32_t page, uint64_t desc)
{
	owner_word_t *word = &r->d->control.word[page];
	uint64_t w = owner_load(word);

	if (owner_kind(w) != OWNER_FREE) {
		domain_damage(r->d, "page %u is free but its owner word says kind %u, owner %u",
		              page, (unsigned int)owner_kind(w), owner_id(w));
		owner_store(word, owner_reborn(w, OWNER_FREE, 0));
	}
	/* relaxed: as above */
	if (atomic_load_explicit(&r->d->control.desc[page], memory_order_relaxed) != desc)
		atomic_store_explicit(&r->d->control.desc[page], desc, memory_order_release);
}

/* A frame that is not in a slab. */
static void correct_frame(struct recovery *r, pfn_t pfn)
{
	struct frame_pages p = domain_frame_pages(r->d, pfn);

	if (p.block)
		correct_block(r, p.page, pfn, &p.b);
	else
		correct_free(r, p.page, 0);
	if (p.other != p.page)
		correct_free(r, p.other, p.other_desc);
}

static void correct_frames(struct recovery *r)
{
	pfn_t frames = (pfn_t)1 << r->d->control.geometry.section_order, pfn, i;
	uint32_t nr, n = mm_nr_sections(r->d->mm);

	for (nr = 0; nr < n; nr++) {
		struct section_info info;

		mm_section_get(r->d->mm, (section_id_t){ nr }, &info);
		if (info.state != SECTION_ONLINE || info.domain != r->d->id)
			continue;
		pfn = mm_section_start(r->d->mm, (section_id_t){ nr });
		for (i = 0; i < frames; i++) {
			uint64_t w = owner_load(&r->d->control.word[pfn + i]);
			struct slab_about slab;

			object_floor_raise(r->d, owner_generation(w));
			if (slab_about_at(r->d->slabs, pfn + i, &slab)) {
				object_correct_slab(r->d, &slab);
				i += (1u << kmem_cache_geometry(slab.cache)->order) - 1;
			} else {
				correct_frame(r, pfn + i);
			}
		}
	}
}

int domain_recover(struct domain *d, const struct pool *pool, uint32_t lent[])
{
	const struct log_about about = { .event = LOG_RESTART };
	struct recovery r = { .d = d, .pool = pool, .lent = lent };
	uint64_t began = uv_hrtime();
	uint32_t dropped;
	int rc;

	free(d->object_sum);
	d->object_sum = calloc(pool->nr_sessions + 1, sizeof(d->object_sum[0]));
	if (!d->object_sum)
		return -ENOMEM;
	probe_recover_begin(pool->epoch, d->control.geometry.frames);
	recover_magazines(&r);
	dropped = holder_recover(d->holders, holder_known, &r);
	rc = slab_space_recover(d->slabs, object_judge, report_line, &r);
	if (rc < 0)
		return rc;
	rc = mm_domain_recover(d->zones, keep_block, report_line, &r);
	if (rc < 0)
		return rc;
	dropped += holder_recover(d->holders, holder_live, &r);
	if (d->names)
		name_recover(d->names, thing_live, &r);
	correct_frames(&r);
	probe_recover_end(pool->epoch, r.kept, r.objects_kept);
	log_event(LOG_LEVEL_NOTICE, &about,
	          "domain %s taken over: %" PRIu64 " pages and %" PRIu64
	          " objects stay granted, %" PRIu64 " and %" PRIu64
	          " unclaimed or given back ones were freed, %u holds of the dead dropped, in %.1f ms",
	          d->name, r.kept, r.objects_kept, r.freed, r.objects_freed, dropped,
	          (double)(uv_hrtime() - began) / 1e6);
	return 0;
}

/* ---- what the sessions have ---- */

static void count_hold(void *ctx, uint32_t session, uint32_t granule, uint64_t generation)
{
	struct session *s = session_by_id(((struct domain *)ctx)->kmmd->sessions, session);

	(void)granule;
	(void)generation;
	/* relaxed: there are no other threads yet */
	if (session && s)
		atomic_fetch_add_explicit(&s->holds, 1, memory_order_relaxed);
}

static void account_block(void *ctx, uint32_t page, uint64_t w)
{
	struct domain *d = ctx;
	struct session *s;
	struct mm_block b;
	pfn_t pfn;

	(void)w;
	if (!domain_block_get(d, page, &pfn, &b) || !b.tag)
		return;
	s = session_by_id(d->kmmd->sessions, b.tag);
	if (!s)
		return;
	grant_note_section(d, s, page);
	atomic_fetch_add_explicit(&s->charge, INT64_C(1) << b.order, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->frames_had, UINT64_C(1) << b.order, memory_order_relaxed);
}

void domain_account_sessions(struct domain *d)
{
	uint64_t mask[CONTROL_SECTIONS_MAX / 64];
	magazine_id_t m;
	uint32_t id;

	grant_sections(d, NULL, mask);
	grant_walk(d, mask, account_block, d);
	holder_for_each(d->holders, count_hold, d);
	for (m.nr = 0; m.nr < depot_size(d->depot); m.nr++) {
		struct session *s = session_by_id(d->kmmd->sessions, depot_lent_to(d->depot, m));

		if (s)
			atomic_fetch_add_explicit(&s->magazines, 1, memory_order_relaxed);
	}
	for (id = 1; d->object_sum && id < session_table_size(d->kmmd->sessions); id++) {
		struct session *s = session_by_id(d->kmmd->sessions, id);

		/* relaxed: as above. The user's account follows (session_recover.c). */
		atomic_store_explicit(&s->objects, (int64_t)d->object_sum[id].objects,
		                      memory_order_relaxed);
		atomic_store_explicit(&s->object_bytes, (int64_t)d->object_sum[id].bytes,
		                      memory_order_relaxed);
	}
	free(d->object_sum);
	d->object_sum = NULL;
}

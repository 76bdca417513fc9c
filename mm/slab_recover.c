/* SPDX-License-Identifier: MIT */
/*
 * Recovery: the slab layer from its persistent tables.
 *
 * Concept: records say which caches there are, slab words which slabs, and the caller which objects
 * are out (it has their owner words). Everything else follows. What a dead process left is honest in
 * each of these: a record that is not committed is no cache; a block marked as slab without a slab
 * word is none (slab_present() says no, mm_domain_recover() frees it); a slab word always has its
 * record and its block, as it is written after and cleared before both. Any other state is damage.
 *
 * Steps; another death at any point, and it begins again from the start:
 *   1. check records, then slab words against records, blocks and each other; nothing is changed
 *      and with a finding nothing is served
 *   2. judge the objects of each slab: out bits and free maps
 *
 * Slab words are looked at only where mm/ has a slab block within the same 512 frames: the table is
 * as large as the pool, its pages come with their first use, and what lies in others belongs to no
 * slab block and is overwritten when there is one.
 *
 * Empty slabs are kept for the time being: mm/'s zones are not there yet, so none can be given
 * back; slab_tick() does so.
 *
 * Locking: none, nobody else uses the space. Complexity: O(frames + objects).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "slab_private.h"

#define RECOVER_MAX_REPORTS 64u
#define GROUP_FRAMES 512u

struct recover {
	struct slab_space *s;
	slab_judge_fn judge;
	mm_report_fn report;
	void *ctx;
	uint64_t findings;
};

__attribute__((format(printf, 2, 3))) static void finding(struct recover *r, const char *format,
                                                          ...)
{
	char text[200];
	va_list ap;

	if (r->findings++ >= RECOVER_MAX_REPORTS || !r->report)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	r->report(r->ctx, text);
}

/* ---- caches ---- */

struct by_life {
	uint64_t life;
	uint32_t id;
	bool live;
};

static int compare_life(const void *a, const void *b)
{
	const struct by_life *x = a, *y = b;

	if (x->life != y->life)
		return x->life < y->life ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static const char *record_nonsense(const struct cache_record *r)
{
	const char *why = cache_name_nonsense(r->name);

	if (why)
		return why;
	if ((r->flags | r->flags_asked) & ~SLAB_FLAGS_DEFINED)
		return "unknown flags";
	return geometry_nonsense(&r->geometry);
}

/* Fills the ids in order of life; how many were ever used. */
static uint32_t records_read(struct recover *r, struct by_life *of)
{
	struct slab_space *s = r->s;
	uint32_t nr = 0;

	for (uint32_t id = 1; id < s->m.caches; id++) {
		uint64_t w = relaxed_load(&s->m.cache[id].word);
		const char *why;

		if (w == 0)
			continue;
		of[nr++] = (struct by_life){ w >> 1, id, w & CACHE_RECORD_LIVE };
		why = w & CACHE_RECORD_LIVE ? record_nonsense(&s->m.cache[id]) : NULL;
		if (why)
			finding(r, "cache record %u: %s", id, why);
	}
	qsort(of, nr, sizeof(*of), compare_life);
	for (uint32_t i = 1; i < nr; i++)
		if (of[i].life == of[i - 1].life)
			finding(r, "cache records %u and %u: created at once", of[i - 1].id,
			        of[i].id);
	return nr;
}

static int caches_recover(struct recover *r)
{
	struct slab_space *s = r->s;
	struct by_life *of = calloc(s->m.caches, sizeof(*of));
	uint32_t nr;
	int err = 0;

	if (!of)
		return -ENOMEM;
	nr = records_read(r, of);
	/* never used ids have been free for the longest */
	for (uint32_t id = 1; id < s->m.caches; id++)
		if (relaxed_load(&s->m.cache[id].word) == 0)
			kmem_cache_free_id(s, id);
	for (uint32_t i = 0; i < nr && !r->findings && !err; i++) {
		uint32_t id = of[i].id;

		s->life = of[i].life;
		if (!of[i].live) {
			kmem_cache_free_id(s, id);
		} else if (kmem_cache_find(s, s->m.cache[id].name)) {
			finding(r, "cache record %u: another one has the name %s", id,
			        s->m.cache[id].name);
		} else {
			err = kmem_cache_adopt(s, id);
		}
	}
	free(of);
	return err;
}

/* ---- slabs ---- */

static const char *slab_nonsense(struct slab_space *s, pfn_t head, uint64_t w, uint64_t state)
{
	struct kmem_cache *c = kmem_cache_by_id(s, slab_word_cache(w));
	const struct slab_geometry *g;

	if (!(w & SLAB_WORD_LIVE) || w >> SLAB_WORD_USED_BITS)
		return "is no slab word";
	if (!(state & PAGE_OF_SLAB))
		return "no slab block begins here";
	if (!c)
		return "of a cache that there is not";
	g = kmem_cache_geometry(c);
	if (!(state & PAGE_ALLOCATED) || page_word_order(state) != g->order ||
	    page_word_domain(state) != s->d->id || (head & (((pfn_t)1 << g->order) - 1)))
		return "its block is not of the cache's order and this domain";
	if (slab_word_colour(w) >= g->colours)
		return "impossible colour";
	if ((uint64_t)slab_word_first(w) + g->words > s->m.words ||
	    !slab_words_reserve(s->words, slab_word_first(w), g->words))
		return "its owner words are impossible, or another slab's";
	return NULL;
}

static int slab_take_over(struct slab_space *s, pfn_t head, uint64_t w)
{
	struct kmem_cache *c = kmem_cache_by_id(s, slab_word_cache(w));
	uint32_t objects = cache_shape(c).objects;
	struct slab *sl = &s->slab[head];

	*sl = (struct slab){
		.first = slab_word_first(w),
		.cache = c->id,
		.colour = (uint16_t)slab_word_colour(w),
		.state = SLAB_LEAVING,
		.node = (uint8_t)slab_node_of(s, head),
	};
	if (objects > 64) {
		sl->map.more = calloc((objects + 63) / 64, sizeof(uint64_t));
		if (!sl->map.more)
			return -ENOMEM;
	}
	slab_set_head(s, head, true);
	/* relaxed: counters */
	atomic_fetch_add_explicit(&s->frames, c->pages, memory_order_relaxed);
	if (c->reclaimable)
		atomic_fetch_add_explicit(&s->frames_reclaimable, c->pages, memory_order_relaxed);
	return 0;
}

static bool section_mine(const struct slab_space *s, uint32_t i)
{
	uint64_t w = sparse_section_word(s->mm, (section_id_t){ i });

	return section_word_state(w) == SECTION_ONLINE && section_word_domain(w) == s->d->id;
}

static int group_recover(struct recover *r, pfn_t start)
{
	struct slab_space *s = r->s;
	uint64_t any = 0;

	for (pfn_t pfn = start; pfn < start + GROUP_FRAMES; pfn++)
		any |= page_peek(&s->mm->page[pfn]);
	if (!(any & PAGE_OF_SLAB))
		return 0;
	for (pfn_t pfn = start; pfn < start + GROUP_FRAMES; pfn++) {
		uint64_t w = slab_word_at(s, pfn);
		const char *why;

		if (w == 0)
			continue;
		why = slab_nonsense(s, pfn, w, page_peek(&s->mm->page[pfn]));
		if (why)
			finding(r, "frame %" PRIu32 ": slab word 0x%016" PRIx64 ": %s", pfn, w,
			        why);
		else if (slab_take_over(s, pfn, w))
			return -ENOMEM;
	}
	return 0;
}

/* ---- objects ---- */

static void slab_judge(struct recover *r, pfn_t head)
{
	struct slab_space *s = r->s;
	struct slab *sl = &s->slab[head];
	/* relaxed: made by this thread */
	struct kmem_cache *c = atomic_load_explicit(&s->cache[sl->cache], memory_order_relaxed);
	struct slab_shape sh = cache_shape(c);
	struct slab_about about = { c, head, sl->first, sl->colour };
	uint64_t *map = slab_map(c, sl), was = 0, now = 0;
	uint64_t mine = shape_words(&sh) >= 64 ? UINT64_MAX :
	                                         (((uint64_t)1 << shape_words(&sh)) - 1)
	                                                 << (sl->first % 64);
	struct cache_node *k = &c->node[sl->node];
	uint32_t at = UINT32_MAX;

	for (uint32_t slot = 0; slot <= sh.objects; slot++) {
		bool end = slot == sh.objects;
		struct slab_object o = { 0 };
		uint64_t bit;

		if (!end)
			slab_object_of(&about, slot, &o);
		if (end || o.word / 64 != at) {
			/* relaxed: no other thread; each store is a step of its own */
			if (at != UINT32_MAX && ((was & ~mine) | now) != was)
				relaxed_store(&s->m.out[at], (was & ~mine) | now);
			if (end)
				break;
			at = o.word / 64;
			now = 0;
			was = relaxed_load(&s->m.out[at]);
		}
		bit = (uint64_t)1 << (o.word % 64);
		if (r->judge ? r->judge(r->ctx, &o, was & bit) : (was & bit) != 0) {
			now |= bit;
		} else {
			map[slot / 64] |= (uint64_t)1 << (slot % 64);
			sl->free++;
		}
	}
	k->free_objects += sl->free;
	slab_list_add(s, k, head,
	              sl->free == 0            ? SLAB_FULL :
	              sl->free == sh.objects ? SLAB_EMPTY :
	                                         SLAB_PARTIAL,
	              true);
}

static void objects_recover(struct recover *r)
{
	struct slab_space *s = r->s;

	for (uint64_t i = 0; i < s->mm->config.frames; i += 64)
		for (uint64_t w = relaxed_load(&s->head[i / 64]); w; w &= w - 1)
			slab_judge(r, (pfn_t)i + (pfn_t)__builtin_ctzll(w));
}

int slab_space_recover(struct slab_space *s, slab_judge_fn judge, mm_report_fn report, void *ctx)
{
	struct recover r = { .s = s, .judge = judge, .report = report, .ctx = ctx };
	uint32_t frames = 1u << s->mm->config.section_order;
	int err;

	kmem_cache_forget_all(s);
	err = caches_recover(&r);
	for (uint32_t i = 0; i < s->mm->nr_sections && !err && !r.findings; i++)
		for (pfn_t pfn = i * frames;
		     section_mine(s, i) && pfn < (i + 1) * frames && !err; pfn += GROUP_FRAMES)
			err = group_recover(&r, pfn);
	if (r.findings) {
		char text[80];

		snprintf(text, sizeof(text), "%" PRIu64 " findings in all: the slab tables are refused",
		         r.findings);
		if (report)
			report(ctx, text);
		err = -EUCLEAN;
	}
	if (err) {
		kmem_cache_forget_all(s);
		return err;
	}
	objects_recover(&r);
	slab_words_ready(s->words);
	return 0;
}

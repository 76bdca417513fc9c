/* SPDX-License-Identifier: MIT */
/*
 * The validator of the slab layer: walks every structure and compares them with the persistent
 * tables and with mm/'s.
 *
 * Concept: each object is in exactly one place: out (its out bit), in its slab's free map, or in one
 * magazine of one cpu. The walk goes over the lists of each cache and node, then over the
 * magazines, and marks in a map of all owner words what it finds free; whatever is found twice or
 * not at all is a finding. Each slab's block, slab word, owner words, list, node and counts are
 * checked on the way; in the end the numbers of slabs, frames and words in use must be those that
 * were met, so that nothing exists that no list has.
 *
 * Nothing is trusted: links are followed at most as often as there are slabs, numbers are checked
 * before they are used. Nothing is changed.
 *
 * Locking: none; the caller keeps others away. Complexity: O(frames / 64 + caches + objects).
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "slab_private.h"

struct walk {
	struct slab_space *s;
	mm_report_fn report;
	void *ctx;
	size_t findings;
	uint64_t *free; /* bits, by owner word: found free */
	uint64_t slabs, frames, reclaimable, words;
};

__attribute__((format(printf, 2, 3))) static void finding(struct walk *k, const char *format, ...)
{
	char text[200];
	va_list ap;

	k->findings++;
	if (!k->report)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	k->report(k->ctx, text);
}

static const char *name_of(const struct kmem_cache *c)
{
	return kmem_cache_record(c)->name;
}

/* False: it was marked already. */
static bool mark_free(struct walk *k, uint32_t word)
{
	uint64_t bit = (uint64_t)1 << (word % 64);
	bool was = k->free[word / 64] & bit;

	k->free[word / 64] |= bit;
	return !was;
}

/* The slab as such: its block, words, head bit. False: its objects are not to be looked at. */
static bool check_slab(struct walk *k, struct kmem_cache *c, uint32_t node, pfn_t head)
{
	struct slab_space *s = k->s;
	const struct slab_geometry *g = kmem_cache_geometry(c);
	const struct slab *sl = &s->slab[head];
	uint64_t w = slab_word_at(s, head), state = page_peek(&s->mm->page[head]);

	if (sl->cache != c->id || sl->node != node || slab_node_of(s, head) != node) {
		finding(k, "cache %s: the slab at frame %" PRIu32 " is another's", name_of(c),
		        head);
		return false;
	}
	if (w != slab_word(c->id, sl->first, sl->colour))
		finding(k, "cache %s: the slab at frame %" PRIu32 " has slab word 0x%" PRIx64,
		        name_of(c), head, w);
	if (!slab_is_head(s, head))
		finding(k, "cache %s: the slab at frame %" PRIu32 " cannot be found", name_of(c),
		        head);
	if ((state & (PAGE_ALLOCATED | PAGE_OF_SLAB)) != (PAGE_ALLOCATED | PAGE_OF_SLAB) ||
	    page_word_order(state) != g->order || page_word_domain(state) != s->d->id)
		finding(k, "cache %s: frame %" PRIu32 " of state 0x%" PRIx64 " is no slab's",
		        name_of(c), head, state);
	if (sl->colour >= g->colours)
		finding(k, "cache %s: the slab at frame %" PRIu32 " has colour %u", name_of(c),
		        head, sl->colour);
	if (!slab_words_used(s->words, sl->first, g->words) ||
	    sl->first + (uint64_t)g->words > slab_words_end(s->words)) {
		finding(k, "cache %s: the slab at frame %" PRIu32 " has words that are not in use",
		        name_of(c), head);
		return false;
	}
	return true;
}

/* No object has it, so nothing may be out there. */
static void check_stray_bits(struct walk *k, struct kmem_cache *c, pfn_t head,
                             const uint64_t taken[])
{
	const struct slab_geometry *g = kmem_cache_geometry(c);
	uint32_t first = k->s->slab[head].first;

	for (uint32_t i = 0; i < g->words; i++)
		if (slab_out_bit(k->s, first + i) && !(taken[i / 64] >> (i % 64) & 1))
			finding(k, "cache %s: owner word %" PRIu32 " is out, but no object's",
			        name_of(c), first + i);
}

static void check_objects(struct walk *k, struct kmem_cache *c, pfn_t head, uint64_t *out)
{
	struct slab_space *s = k->s;
	const struct slab_geometry *g = kmem_cache_geometry(c);
	struct slab *sl = &s->slab[head];
	struct slab_about about = { c, head, sl->first, sl->colour };
	const uint64_t *map = slab_map(c, sl);
	uint64_t taken[SLAB_WORDS_MAX / 64] = { 0 };
	uint32_t free = 0;

	for (uint32_t slot = 0; slot < g->objects; slot++) {
		struct slab_object o;
		bool is_out;

		slab_object_of(&about, slot, &o);
		is_out = slab_out_bit(s, o.word);
		*out += is_out;
		taken[(o.word - sl->first) / 64] |= (uint64_t)1 << ((o.word - sl->first) % 64);
		if (!(map[slot / 64] >> (slot % 64) & 1))
			continue;
		free++;
		if (!mark_free(k, o.word) || is_out)
			finding(k, "cache %s: slot %u of frame %" PRIu32 " is free twice, or out",
			        name_of(c), slot, head);
	}
	if (g->objects % 64 && map[g->objects / 64] >> (g->objects % 64))
		finding(k, "cache %s: frame %" PRIu32 " has free objects beyond its end",
		        name_of(c), head);
	if (free != sl->free)
		finding(k, "cache %s: frame %" PRIu32 ": %u free objects, counted %u", name_of(c),
		        head, free, sl->free);
	check_stray_bits(k, c, head, taken);
}

static enum slab_state state_by_count(const struct slab *sl, uint32_t objects)
{
	return sl->free == 0 ? SLAB_FULL : sl->free == objects ? SLAB_EMPTY : SLAB_PARTIAL;
}

/* Counts the objects that are out and those in the maps. */
static void check_list(struct walk *k, struct kmem_cache *c, uint32_t node, enum slab_state state,
                       uint64_t *out, uint64_t *free)
{
	struct slab_space *s = k->s;
	const struct slab_geometry *g = kmem_cache_geometry(c);
	const struct slab_list *l = &c->node[node].list[state];
	pfn_t pfn = l->head, previous = PFN_NONE;
	uint32_t nr = 0;

	for (; pfn != PFN_NONE && nr < l->nr; nr++) {
		const struct slab *sl = &s->slab[pfn];

		if (pfn >= s->mm->config.frames) {
			finding(k, "cache %s: a list leads to frame %" PRIu32, name_of(c), pfn);
			return;
		}
		if (sl->prev != previous)
			finding(k, "cache %s: frame %" PRIu32 ": its link back is broken",
			        name_of(c), pfn);
		if (sl->state != state || state_by_count(sl, g->objects) != state)
			finding(k, "cache %s: frame %" PRIu32 " with %u objects free is on list %u",
			        name_of(c), pfn, sl->free, state);
		*free += sl->free;
		if (check_slab(k, c, node, pfn))
			check_objects(k, c, pfn, out);
		previous = pfn;
		pfn = sl->next;
	}
	if (nr != l->nr || pfn != PFN_NONE || l->tail != previous)
		finding(k, "cache %s: list %u of node %u: %u slabs counted, %u found, or a wrong "
		           "end",
		        name_of(c), state, node, l->nr, nr);
	k->slabs += nr;
	k->frames += (uint64_t)nr << g->order;
	k->words += (uint64_t)nr * g->words;
	if (c->reclaimable)
		k->reclaimable += (uint64_t)nr << g->order;
}

/* Every round is an object of this cache and of the cpu's node that is free once. */
static uint64_t check_cpu(struct walk *k, struct kmem_cache *c, uint32_t cpu)
{
	struct slab_space *s = k->s;
	/* relaxed: no other thread */
	const struct slab_cpu *p = atomic_load_explicit(&c->cpu[cpu], memory_order_relaxed);
	uint64_t n = 0;

	for (uint32_t m = 0; p && m < 2; m++) {
		if (p->nr[m] > c->batch) {
			finding(k, "cache %s: a magazine of cpu %u holds %u", name_of(c), cpu,
			        p->nr[m]);
			continue;
		}
		for (uint32_t i = 0; i < p->nr[m]; i++, n++) {
			struct slab_round r = p->round[m][i];
			struct slab_about about = { .cache = c, .head = r.head };
			struct slab_object o;

			if (!slab_present(s, r.head) || s->slab[r.head].cache != c->id ||
			    s->slab[r.head].node != slab_cpu_node(s, cpu) ||
			    r.slot >= kmem_cache_geometry(c)->objects) {
				finding(k, "cache %s: cpu %u has slot %u of frame %" PRIu32,
				        name_of(c), cpu, r.slot, r.head);
				continue;
			}
			about.first_word = s->slab[r.head].first;
			about.colour = s->slab[r.head].colour;
			slab_object_of(&about, r.slot, &o);
			if (o.word >= slab_words_end(s->words) || !mark_free(k, o.word) ||
			    slab_out_bit(s, o.word))
				finding(k, "cache %s: slot %u of frame %" PRIu32
				           " is in a magazine and free or out",
				        name_of(c), r.slot, r.head);
		}
	}
	if (p && relaxed_load(&p->count) != p->nr[0] + p->nr[1])
		finding(k, "cache %s: cpu %u: %u rounds counted", name_of(c), cpu,
		        relaxed_load(&p->count));
	return n;
}

static void check_cache(struct walk *k, struct kmem_cache *c)
{
	const struct slab_geometry *g = kmem_cache_geometry(c);
	uint64_t w = relaxed_load(&kmem_cache_record(c)->word), slabs = k->slabs, out = 0, free = 0;
	const char *why = geometry_nonsense(g);

	if (why || w != (c->life << 1 | CACHE_RECORD_LIVE) ||
	    relaxed_load(&c->shape) != shape_pack(g)) {
		finding(k, "cache %u: its record says 0x%" PRIx64 ", or its geometry is wrong: %s",
		        c->id, w, why ? why : "-");
		return;
	}
	for (uint32_t node = 0; node < k->s->nodes; node++) {
		uint64_t on = 0;

		for (enum slab_state state = SLAB_FULL; state <= SLAB_EMPTY; state++)
			check_list(k, c, node, state, &out, &on);
		if (on != c->node[node].free_objects)
			finding(k, "cache %s: node %u: %" PRIu64 " free objects, counted %" PRIu64,
			        name_of(c), node, on, c->node[node].free_objects);
		if (c->node[node].colour_next >= g->colours)
			finding(k, "cache %s: node %u: next colour %u", name_of(c), node,
			        c->node[node].colour_next);
		free += on;
	}
	for (uint32_t cpu = 0; cpu < k->s->cpus; cpu++)
		free += check_cpu(k, c, cpu);
	if (out + free != (k->slabs - slabs) * g->objects)
		finding(k, "cache %s: %" PRIu64 " objects are out, %" PRIu64 " free, of %" PRIu64,
		        name_of(c), out, free, (k->slabs - slabs) * g->objects);
}

/* Order of creation, hash and ids agree; each cache once. */
static void check_caches(struct walk *k)
{
	struct slab_space *s = k->s;
	uint64_t life = UINT64_MAX;
	uint32_t nr = 0, live = 0;

	for (struct kmem_cache *c = s->newest; c && nr < s->m.caches; c = c->older, nr++) {
		if (c->life >= life || c->life > s->life)
			finding(k, "cache %u: created out of order", c->id);
		life = c->life;
		if (kmem_cache_find(s, name_of(c)) != c)
			finding(k, "cache %u: its name does not find it", c->id);
		if (kmem_cache_by_id(s, c->id) != c)
			finding(k, "cache %u: its id does not find it", c->id);
		check_cache(k, c);
	}
	for (uint32_t id = 1; id < s->m.caches; id++) {
		bool record = relaxed_load(&s->m.cache[id].word) & CACHE_RECORD_LIVE;

		live += record;
		if (record != (kmem_cache_by_id(s, id) != NULL))
			finding(k, "cache %u: its record and the cache disagree", id);
	}
	if (live != nr || s->free_nr != s->m.caches - 1 - live)
		finding(k, "%u caches in order, %u live records, %u free ids", nr, live,
		        s->free_nr);
}

static void check_sums(struct walk *k)
{
	struct slab_space *s = k->s;
	uint64_t heads = 0, sections = 0;
	const char *why = slab_words_nonsense(s->words);

	for (uint64_t i = 0; i < s->mm->config.frames; i += 64)
		heads += (uint64_t)__builtin_popcountll(relaxed_load(&s->head[i / 64]));
	for (uint32_t i = 0; i < s->mm->nr_sections; i++)
		sections += relaxed_load(&s->section[i]);
	if (heads != k->slabs || sections != k->slabs)
		finding(k, "%" PRIu64 " slabs on lists, %" PRIu64 " found by frame, %" PRIu64
		           " by section",
		        k->slabs, heads, sections);
	if (k->frames != slab_frames(s) || k->reclaimable != slab_frames_reclaimable(s))
		finding(k, "%" PRIu64 " frames in slabs (%" PRIu64 " reclaimable), counted %" PRIu64
		           " (%" PRIu64 ")",
		        k->frames, k->reclaimable, slab_frames(s), slab_frames_reclaimable(s));
	if (k->words != slab_words_count(s->words))
		finding(k, "%" PRIu64 " owner words of slabs, %" PRIu64 " in use", k->words,
		        slab_words_count(s->words));
	if (why)
		finding(k, "%s", why);
}

size_t slab_validate(struct slab_space *s, mm_report_fn report, void *ctx)
{
	struct walk k = { .s = s, .report = report, .ctx = ctx };

	k.free = calloc(slab_words_end(s->words) / 64 + 1, sizeof(*k.free));
	if (!k.free) {
		finding(&k, "not enough memory to validate");
		return k.findings;
	}
	check_caches(&k);
	check_sums(&k);
	free(k.free);
	return k.findings;
}

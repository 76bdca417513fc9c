/* SPDX-License-Identifier: MIT */
/*
 * The naive model's state (object_model.h), and its comparison with the daemon's.
 *
 * A word is predicted as a whole, generation and flags included. What a place's last word was when
 * its object became free bounds what comes next: the same generation with the same constructed
 * state while the slab lives, a later one without it in the slab's next life.
 */
#include "tests/model/object_model.h"

static size_t granules(void)
{
	return (size_t)TD_FRAMES << (PAGE_SHIFT - 3);
}

/* ---- lists ---- */

static uint32_t list_of(struct model *m, uint64_t w)
{
	uint32_t id = owner_id(w), slot;

	if (owner_kind(w) == OWNER_MAGAZINE) {
		CHECK(m, id < TD_MAGAZINES, "magazine %u", id);
		return LIST_MAGAZINE(id);
	}
	if (owner_is(w, OWNER_HELD, 0))
		return LIST_NOBODY;
	CHECK(m, id < TD_SESSIONS && m->slot_of[id], "session %u", id);
	slot = m->slot_of[id] - 1;
	return owner_kind(w) == OWNER_OFFERED ? LIST_OFFERED(slot) :
	       owner_kind(w) == OWNER_HELD    ? LIST_HELD(slot) :
	                                        LIST_RETURNED(slot);
}

static void list_add(struct model *m, struct object *o, uint32_t list)
{
	struct list *l = &m->list[list];

	if (l->n == l->size) {
		l->size = l->size ? l->size * 2 : 64;
		l->at = realloc(l->at, l->size * sizeof(l->at[0]));
		CHECK(m, l->at, "memory");
	}
	o->list = list;
	o->pos = l->n;
	l->at[l->n++] = (uint32_t)(o - m->object);
}

static void list_remove(struct model *m, struct object *o)
{
	struct list *l = &m->list[o->list];

	l->at[o->pos] = l->at[--l->n];
	m->object[l->at[o->pos]].pos = o->pos;
}

/* ---- objects ---- */

struct object *model_object(struct model *m, uint32_t granule)
{
	uint32_t i = m->of_granule[granule];

	return i ? &m->object[i - 1] : NULL;
}

static void check_word(struct model *m, const struct object *o)
{
	uint64_t w = owner_load(o->word);

	CHECK(m, w == o->w || m->between, "granule %u: %#" PRIx64 ", not %#" PRIx64, o->granule,
	      w, o->w);
}

void model_set(struct model *m, struct object *o, uint64_t w)
{
	uint32_t list = list_of(m, w);

	o->w = w;
	check_word(m, o);
	if (list == o->list)
		return;
	list_remove(m, o);
	list_add(m, o, list);
}

/* A free word (or the one that a free word became) at a place, against the last known. */
static void check_next(struct model *m, uint32_t granule, uint64_t w)
{
	uint64_t last = m->last[granule];

	CHECK(m, owner_generation(w) >= owner_generation(last),
	      "granule %u: generation %" PRIu64 " after %" PRIu64, granule, owner_generation(w),
	      owner_generation(last));
	CHECK(m, !(w & (OWNER_SHARED | OWNER_KEPT)), "granule %u: %#" PRIx64, granule, w);
	if (owner_generation(w) == owner_generation(last))
		CHECK(m, (w & OWNER_CONSTRUCTED) == (last & OWNER_CONSTRUCTED),
		      "granule %u: %#" PRIx64 ", was %#" PRIx64, granule, w, last);
	else
		CHECK(m, !(w & OWNER_CONSTRUCTED), "granule %u: %#" PRIx64 ", was %#" PRIx64,
		      granule, w, last);
}

struct object *model_took(struct model *m, uint32_t cache, uint32_t granule, enum owner_kind kind,
                          uint32_t id)
{
	struct thing t;
	struct object *o;
	uint64_t w;

	CHECK(m, granule < granules() && !m->of_granule[granule], "granule %u", granule);
	CHECK(m, thing_find(m->t.d, granule, &t) && t.is_object, "granule %u", granule);
	CHECK(m, kmem_cache_id(t.object.cache) == m->cache[cache].id, "granule %u is of cache %u",
	      granule, kmem_cache_id(t.object.cache));
	w = owner_load(t.word);
	CHECK(m, owner_is(w, kind, id), "granule %u: %#" PRIx64, granule, w);
	check_next(m, granule, w);
	CHECK(m, m->nr_unused, "too many objects");
	o = &m->object[m->unused[--m->nr_unused]];
	*o = (struct object){ .w = w, .word = t.word, .granule = granule, .cache = cache };
	m->of_granule[granule] = (uint32_t)(o - m->object) + 1;
	list_add(m, o, list_of(m, w));
	m->cache[cache].out++;
	m->counts[TOOK]++;
	return o;
}

void model_freed(struct model *m, struct object *o, bool keep)
{
	uint64_t w = keep ? owner_renewed(o->w, OWNER_FREE, 0) : owner_reborn(o->w, OWNER_FREE, 0);
	struct thing t;

	list_remove(m, o);
	m->of_granule[o->granule] = 0;
	m->last[o->granule] = w;
	m->cache[o->cache].out--;
	m->unused[m->nr_unused++] = (uint32_t)(o - m->object);
	if (!thing_find(m->t.d, o->granule, &t) && t.is_object)
		check_next(m, o->granule, owner_load(t.word));
	m->counts[FREED]++;
}

bool model_given_up(struct model *m, struct object *o, bool keep)
{
	if (o->holders || o->names) {
		model_set(m, o, owner_moved(o->w, OWNER_HELD, 0));
		return false;
	}
	model_freed(m, o, keep && !(o->w & OWNER_KEPT));
	return true;
}

void model_left(struct model *m, struct object *o)
{
	if (o->holders || o->names)
		check_word(m, o);
	else if (owner_is(o->w, OWNER_HELD, 0))
		model_freed(m, o, false);
	else
		model_set(m, o, o->w & ~OWNER_KEPT);
}

void model_emptied(struct model *m, uint32_t k, bool keep)
{
	struct list *l = &m->list[LIST_MAGAZINE(k)];

	while (l->n)
		model_freed(m, &m->object[l->at[0]], keep);
}

static bool is_marked(struct model *m, uint32_t slot, const struct object *o)
{
	struct thing t;

	CHECK(m, thing_find(m->t.d, o->granule, &t) && t.is_object, "granule %u", o->granule);
	return atomic_load(&control_slab_bits(&m->t.d->control, m->member[slot].id)[t.pfn / 64]) >>
	               t.pfn % 64 & 1;
}

uint64_t model_bytes_marked(struct model *m, uint32_t slot)
{
	uint64_t sum = model_bytes(m, slot);
	uint32_t i, k;

	for (k = 0; k < TD_MAGAZINES; k++) {
		const struct list *l = &m->list[LIST_MAGAZINE(k)];

		if (!m->mag[k].from_rack || m->mag[k].slot != slot ||
		    m->mag[k].header != MAGAZINE_LOADED)
			continue;
		for (i = 0; i < l->n; i++)
			if (!is_marked(m, slot, &m->object[l->at[i]]))
				sum -= m->cache[m->object[l->at[i]].cache].stride;
	}
	return sum;
}

uint64_t model_bytes(struct model *m, uint32_t slot)
{
	uint64_t sum = 0;
	uint32_t i, k, list;

	for (k = 0; k < 3 + TD_MAGAZINES; k++) {
		if (k >= 3 && (m->mag[k - 3].place != MAG_LENT || m->mag[k - 3].slot != slot ||
		               m->mag[k - 3].header == MAGAZINE_DEPOT))
			continue;
		list = k < 3 ? slot * 3 + k : LIST_MAGAZINE(k - 3);
		for (i = 0; i < m->list[list].n; i++)
			sum += m->cache[m->object[m->list[list].at[i]].cache].stride;
	}
	return sum;
}

uint32_t model_entries(struct model *m, uint32_t slot)
{
	uint32_t n = 0, list, i;

	for (list = 0; list < LISTS; list++)
		for (i = 0; i < m->list[list].n; i++) {
			const struct object *o = &m->object[m->list[list].at[i]];

			n += slot < SESSIONS ? o->holders >> slot & 1 :
			                       (uint32_t)__builtin_popcount(o->holders) +
			                               (o->names > 0);
		}
	return n;
}

/* ---- magazines ---- */

/* Of the section that it lies in: its slab may be gone, when the daemon did more than one thing. */
uint32_t model_node(struct model *m, const struct object *o)
{
	pfn_t pfn = control_pfn_of_granule(m->t.d->granule_shift, o->granule);
	struct section_info info;

	mm_section_get(m->t.d->mm, mm_section_of(m->t.d->mm, pfn), &info);
	return info.node;
}

void model_push_full(struct model *m, uint32_t k, uint32_t cache, uint32_t node, uint32_t frames)
{
	struct stack *s = &m->stack[cache][node];

	m->mag[k].place = MAG_FULL;
	m->mag[k].cache = cache;
	m->mag[k].node = node;
	m->mag[k].frames = frames;
	m->frames += frames;
	s->mag[s->n++] = k;
	m->counts[FULL]++;
}

uint32_t model_pop_full(struct model *m, uint32_t cache, uint32_t node)
{
	struct stack *s = &m->stack[cache][node];
	uint32_t k = s->mag[--s->n];

	if (s->n < s->min)
		s->min = s->n;
	m->frames -= m->mag[k].frames;
	m->mag[k].place = MAG_EMPTY;
	return k;
}

/* From the top of each stack; how many. */
static uint32_t pop_emptied(struct model *m, uint32_t except)
{
	uint32_t c, node, n = 0;

	for (c = 0; c < CACHES; c++)
		for (node = 0; node < model_nodes; node++) {
			struct stack *s = &m->stack[c][node];

			while (s->n && s->mag[s->n - 1] != except &&
			       !depot_rounds(m->t.d->depot, (magazine_id_t){ s->mag[s->n - 1] })) {
				model_emptied(m, model_pop_full(m, c, node), true);
				n++;
			}
		}
	return n;
}

void model_fetched(struct model *m, uint32_t k)
{
	const struct list *l = &m->list[LIST_MAGAZINE(k)];
	struct object *o = l->n ? &m->object[l->at[0]] : NULL;
	uint32_t frames = o ? (m->cache[o->cache].stride * l->n + 4095) >> PAGE_SHIFT : 0;

	if (o && m->frames + frames <= TD_FRAMES / 8) {
		m->mag[k].n = l->n;
		model_push_full(m, k, o->cache, model_node(m, o), frames);
	} else {
		model_emptied(m, k, true);
		m->mag[k] = (struct mag){ .place = MAG_EMPTY };
	}
}

void model_sync_rack(struct model *m, uint32_t except)
{
	uint32_t k, i;

	for (k = 0; k < TD_MAGAZINES; k++) {
		const struct list *l = &m->list[LIST_MAGAZINE(k)];
		bool kept = false;

		if (!model_racked(&m->mag[k]) ||
		    (k != except && depot_is_lent(m->t.d->depot, (magazine_id_t){ k })))
			continue;
		pop_emptied(m, except); /* those that were tried before */
		/* offered since: it was kept, or else what it carried is free */
		for (i = 0; k == except && i < l->n && !kept; i++)
			kept = owner_load(m->object[l->at[i]].word) == m->object[l->at[i]].w;
		if (k != except)
			kept = depot_rounds(m->t.d->depot, (magazine_id_t){ k }) > 0;
		if (kept) {
			model_fetched(m, k);
		} else {
			model_emptied(m, k, true);
			m->mag[k] = (struct mag){ .place = MAG_EMPTY };
		}
	}
}

uint32_t model_sync_magazines(struct model *m, uint32_t except)
{
	uint32_t n = pop_emptied(m, except), k;

	for (k = 0; k < TD_MAGAZINES; k++)
		CHECK(m, m->mag[k].place != MAG_FULL || k == except ||
		              depot_rounds(m->t.d->depot, (magazine_id_t){ k }) == m->mag[k].n,
		      "magazine %u", k);
	return n;
}

/* ---- ends ---- */

uint64_t model_drained(struct model *m, uint32_t cache)
{
	uint32_t c, node, k;
	uint64_t n = 0;

	for (k = 0; k < TD_MAGAZINES; k++)
		if (model_racked(&m->mag[k]) && (cache >= CACHES || m->mag[k].cache == cache)) {
			n += m->list[LIST_MAGAZINE(k)].n;
			model_emptied(m, k, true);
			m->mag[k] = (struct mag){ .place = MAG_EMPTY };
		}
	for (c = 0; c < CACHES; c++)
		for (node = 0; node < NODES; node++)
			while ((cache >= CACHES || c == cache) && m->stack[c][node].n) {
				k = model_pop_full(m, c, node);
				n += m->list[LIST_MAGAZINE(k)].n;
				model_emptied(m, k, true);
			}
	return n;
}

uint64_t model_collected(struct model *m, uint32_t slot, uint32_t cache)
{
	uint64_t n = 0;
	uint32_t s, i;

	for (s = 0; s < SESSIONS; s++) {
		struct list *l = &m->list[LIST_RETURNED(s)];

		if (slot < SESSIONS && s != slot)
			continue;
		for (i = l->n; i-- > 0;) {
			struct object *o = &m->object[l->at[i]];

			if (cache >= CACHES || o->cache == cache)
				n += model_given_up(m, o, true);
		}
	}
	return n;
}

static void unhold_all(struct model *m, uint32_t slot)
{
	uint32_t list, i;

	for (list = 0; list < LISTS; list++)
		for (i = m->list[list].n; i-- > 0;) {
			struct object *o = &m->object[m->list[list].at[i]];

			if (!(o->holders >> slot & 1))
				continue;
			o->holders &= ~(1u << slot);
			/* what is its own is freed in the next step, KEPT as it says */
			if (slot_of_list(o) != slot && !(list > LIST_NOBODY))
				model_left(m, o);
		}
}

void model_swept(struct model *m, uint32_t slot)
{
	struct member *s = &m->member[slot];
	uint32_t k, i;

	unhold_all(m, slot);
	for (k = 0; k < 3; k++) {
		struct list *l = &m->list[slot * 3 + k];

		for (i = l->n; i-- > 0;)
			model_given_up(m, &m->object[l->at[i]], false);
	}
	for (k = 0; k < TD_MAGAZINES; k++) {
		struct mag *g = &m->mag[k];

		if (g->place != MAG_LENT)
			continue;
		if (g->header == MAGAZINE_DEPOT || g->header == MAGAZINE_RACK) {
			if (!depot_is_lent(m->t.d->depot, (magazine_id_t){ k }))
				client_gave(m, k, m->list[LIST_MAGAZINE(k)].n);
			else if (g->counts_for == slot)
				g->counts_for = SESSIONS;
		} else if (g->slot == slot) {
			model_emptied(m, k, false);
			*g = (struct mag){ .place = MAG_EMPTY };
		} else if (g->counts_for == slot) {
			g->counts_for = g->slot;
		}
	}
	for (k = 0; k < CACHES; k++)
		m->cache[k].users &= ~(1u << slot);
	for (i = 0; i < BLOCKS; i++)
		if (m->block[i].used && m->block[i].slot == slot)
			m->block[i].used = false;
	m->slot_of[s->id] = 0;
	*s = (struct member){ .alive = false };
}

void model_restarted(struct model *m, uint32_t dying)
{
	uint32_t c, k, i, s;

	m->between = dying < SESSIONS;
	for (k = 0; k < TD_MAGAZINES; k++) {
		struct mag *g = &m->mag[k];

		if (g->place == MAG_LENT && g->header == MAGAZINE_LOADED) {
			g->counts_for = g->slot;
			continue;
		}
		model_emptied(m, k, true);
		*g = (struct mag){ .place = MAG_EMPTY };
	}
	m->frames = 0;
	memset(m->stack, 0, sizeof(m->stack));
	for (s = 0; s < SESSIONS; s++) {
		struct list *l = &m->list[LIST_OFFERED(s)];

		for (i = l->n; i-- > 0;)
			model_freed(m, &m->object[l->at[i]], true);
	}
	model_collected(m, SESSIONS, CACHES);
	if (dying < SESSIONS)
		model_swept(m, dying);
	m->between = false;
	for (s = 0; s < SESSIONS; s++) {
		struct session *x = session_at(m, s);

		if (!m->member[s].alive)
			continue;
		x->pages_max = m->member[s].pages_max;
		CHECK(m, (uint64_t)atomic_load(&x->object_bytes) == model_bytes(m, s),
		      "session %u: %" PRId64 " bytes, not %" PRIu64, x->id,
		      atomic_load(&x->object_bytes), model_bytes(m, s));
	}
	for (c = 0; c < CACHES; c++)
		if (m->cache[c].live)
			CHECK(m, cache_at(m, c)->slab &&
			              kmem_cache_life(cache_at(m, c)->slab) == m->cache[c].life,
			      "cache %s", m->cache[c].name);
}

/* ---- comparison ---- */

struct compare {
	struct model *m;
	uint64_t out;
};

static void compare_object(void *ctx, const struct slab_object *s, bool out)
{
	struct compare *c = ctx;
	struct model *m = c->m;
	uint32_t granule = object_granule(m->t.d, s);
	struct object *o = model_object(m, granule);
	owner_word_t *word = object_word(m->t.d, s);
	uint64_t w = owner_load(word);

	CHECK(m, out == (o != NULL), "granule %u", granule);
	if (!o) {
		CHECK(m, owner_kind(w) == OWNER_FREE, "granule %u: %#" PRIx64, granule, w);
		check_next(m, granule, w);
		m->last[granule] = w;
		return;
	}
	CHECK(m, o->word == word && kmem_cache_id(s->cache) == m->cache[o->cache].id,
	      "granule %u", granule);
	check_word(m, o);
	CHECK(m, !!(w & OWNER_KEPT) == (o->holders || o->names), "granule %u", granule);
	CHECK(m, list_of(m, w) == o->list, "granule %u", granule);
	c->out++;
}

static void compare_count(void *ctx, uint32_t session, struct cache *c,
                          const struct object_count *n)
{
	struct model *m = ctx;
	uint32_t slot = session ? m->slot_of[session] : 0, i, k, objects = 0, returned = 0;

	CHECK(m, !session || slot, "session %u has objects", session);
	for (k = 0; k < (session ? 3u : 1u); k++) {
		const struct list *l = &m->list[session ? (slot - 1) * 3 + k : LIST_NOBODY];

		for (i = 0; i < l->n; i++)
			if (m->cache[m->object[l->at[i]].cache].id == c->id) {
				objects += k < 2;
				returned += k == 2;
			}
	}
	CHECK(m, n->objects == objects && n->returned == returned,
	      "session %u, cache %u: %" PRIu64 " and %" PRIu64 ", not %u and %u", session, c->id,
	      n->objects, n->returned, objects, returned);
}

static void compare_magazines(struct model *m)
{
	uint32_t k, full = 0;

	for (k = 0; k < TD_MAGAZINES; k++) {
		const struct mag *g = &m->mag[k];
		uint32_t lent = depot_lent_to(m->t.d->depot, (magazine_id_t){ k });
		uint64_t h = magazine_load(&m->t.d->control.magazine[k]);

		if (g->place == MAG_LENT)
			CHECK(m, lent == (g->counts_for < SESSIONS ? m->member[g->counts_for].id : 0) &&
			              magazine_state(h) == g->header,
			      "magazine %u: lent to %u, header %u", k, lent, magazine_state(h));
		else if (g->place == MAG_EMPTY)
			CHECK(m, magazine_is(h, MAGAZINE_EMPTY, 0) && !m->list[LIST_MAGAZINE(k)].n,
			      "magazine %u", k);
		else
			CHECK(m, !lent && depot_rounds(m->t.d->depot, (magazine_id_t){ k }) ==
			                          m->list[LIST_MAGAZINE(k)].n,
			      "magazine %u", k);
		full += g->place == MAG_FULL;
	}
	CHECK(m, depot_frames(m->t.d->depot) == m->frames, "%u full magazines", full);
}

static void compare_caches(struct model *m)
{
	uint32_t c, node;

	for (c = 0; c < CACHES; c++) {
		const struct model_cache *x = &m->cache[c];
		struct kmem_cache_stats s;

		if (!x->live)
			continue;
		kmem_cache_stats(cache_at(m, c)->slab, &s);
		CHECK(m, s.objects_out == x->out, "cache %s: %" PRIu64 ", not %" PRIu64, x->name,
		      s.objects_out, x->out);
		CHECK(m, atomic_load(&cache_at(m, c)->inside) == 0, "cache %s is entered", x->name);
		CHECK(m, atomic_load(&cache_at(m, c)->users) ==
		              (uint32_t)__builtin_popcount(x->users),
		      "cache %s", x->name);
		for (node = 0; node < model_nodes; node++) {
			struct depot_count n;

			depot_count(m->t.d->depot,
			            depot_class_objects(m->t.d->depot, x->id, node), &n);
			CHECK(m, n.full == m->stack[c][node].n, "cache %s: %u", x->name, n.full);
		}
	}
}

static void compare_names(struct model *m)
{
	uint32_t i, granule;
	uint64_t generation;
	const char *why;
	char text[8];

	for (i = 0; i < NAMES; i++) {
		snprintf(text, sizeof(text), "n%u", i);
		if (!m->name[i].used) {
			CHECK(m, name_lookup(m->t.d->names, text, &granule, &generation, &why) < 0,
			      "%s", text);
			continue;
		}
		CHECK(m, name_lookup(m->t.d->names, text, &granule, &generation, &why) == 0 &&
		              granule == m->name[i].granule &&
		              generation == m->name[i].generation,
		      "%s", text);
	}
}

void model_compare(struct model *m)
{
	struct compare c = { .m = m };

	td_check(&m->t);
	CHECK(m, atomic_load(&m->t.d->damaged) == 0, "damaged");
	slab_walk(m->t.d->slabs, NULL, compare_object, &c);
	CHECK(m, c.out == OBJECTS_MAX - m->nr_unused, "%" PRIu64 " objects out, not %u", c.out,
	      OBJECTS_MAX - m->nr_unused);
	CHECK(m, object_census(m->t.d, NULL, NULL, compare_count, m) == 0, "census");
	compare_magazines(m);
	compare_caches(m);
	compare_names(m);
	m->counts[COMPARED]++;
}

/* ---- rounds ---- */

void model_open(struct model *m, uint32_t nodes)
{
	uint32_t i, ids[] = { 1 + 3, 1 + 13 + 5 }; /* kmalloc-64, kmalloc-rcl-128 */

	model_nodes = nodes;
	td_init(&m->t);
	m->of_granule = td_mapped(granules() * sizeof(m->of_granule[0]));
	m->last = td_mapped(granules() * sizeof(m->last[0]));
	for (i = 0; i < OBJECTS_MAX; i++)
		m->unused[m->nr_unused++] = OBJECTS_MAX - 1 - i;
	for (i = 0; i < 2; i++) {
		struct kmem_cache *k = cache_by_id(m->t.d, ids[i])->slab;

		m->cache[i] = (struct model_cache){ .live = true,
			                            .builtin = true,
			                            .marked = i == 1,
			                            .id = ids[i],
			                            .life = kmem_cache_life(k),
			                            .stride = kmem_cache_geometry(k)->stride };
		snprintf(m->cache[i].name, sizeof(m->cache[i].name), "%.23s",
		         kmem_cache_record(k)->name);
	}
}

void model_close(struct model *m)
{
	uint32_t i;

	td_fini(&m->t);
	munmap(m->of_granule, granules() * sizeof(m->of_granule[0]));
	munmap(m->last, granules() * sizeof(m->last[0]));
	for (i = 0; i < LISTS; i++)
		free(m->list[i].at);
}

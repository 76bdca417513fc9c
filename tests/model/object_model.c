/* SPDX-License-Identifier: MIT */
/*
 * Model test of objects as a whole: slabs, owner words, magazines, depots, holders, names, caches.
 *
 * Random steps through the daemon's functions, and the clients' half of the protocol exactly as it
 * is (object_model_client.c): each thread of each session is in the middle of something, one
 * exchange at a time, while others adopt, send, hold, publish and free, the worker collects,
 * withdraws, trims, shrinks and sweeps, and the daemon's process dies, between two operations or
 * half way through one. Sessions die where they happen to be. After every step the words that it
 * touched are compared with the naive model's (object_model.h) and a few others; every so many
 * steps everything is, after the validators.
 *
 * Two pools one after the other: one node, two nodes. Words, magazines and tables are real, all in
 * ordinary memory (test_domain.h).
 *
 * environment: KMM_TEST_STEPS (1000000), KMM_TEST_SEED (printed)
 */
#include <errno.h>
#include <time.h>

#include "tests/model/object_model.h"

#define EVERY 2500u     /* steps between comparisons of everything */
#define QUOTA_SLOT 5u   /* the session with a limit */
#define QUOTA_PAGES 48u

uint64_t seed;
uint32_t model_nodes = 1;

static const char *why;

static uint32_t other_member(struct model *m, uint32_t slot)
{
	uint32_t other = below(m, SESSIONS);

	return m->member[other].alive ? other : slot;
}

/* ---- handles ---- */

static void step_handle(struct model *m, uint32_t slot)
{
	struct object *o = random_of(m, LIST_HELD(slot));
	struct handle *h = &m->handle[below(m, HANDLES)];

	if (!o)
		return;
	if (!(o->w & OWNER_SHARED))
		client_change(m, o, o->w | OWNER_SHARED);
	h->granule = o->granule;
	h->generation = (uint32_t)owner_generation(o->w);
}

/* Of a handle: the object if it lives on in that generation. */
static struct object *handle_object(struct model *m, const struct handle *h)
{
	struct object *o = model_object(m, h->granule);

	return o && (uint32_t)owner_generation(o->w) == h->generation ? o : NULL;
}

static void step_adopt(struct model *m, uint32_t slot)
{
	struct handle *h = &m->handle[below(m, HANDLES)];
	struct object *o = handle_object(m, h);
	struct thing t;
	bool live;

	if (!h->granule)
		return;
	/* what a client sees, whatever became of the place */
	thing_find(m->t.d, h->granule, &t);
	live = handle_is_live((uint64_t)h->generation << 32 | h->granule, owner_load(t.word));
	CHECK(m, live == (o && owner_kind(o->w) == OWNER_HELD), "granule %u", h->granule);
	if (!live || !(o->w & OWNER_SHARED) || (o->w & OWNER_KEPT))
		return;
	client_note(m, slot, o);
	client_change(m, o, owner_renewed(o->w, OWNER_HELD, HERE->id));
	m->counts[ADOPTED]++;
}

static void step_hold(struct model *m, uint32_t slot)
{
	struct handle *h = &m->handle[below(m, HANDLES)];
	struct object *o = handle_object(m, h);
	bool had = o && (o->holders >> slot & 1);
	uint32_t all, mine;
	int rc;

	if (!h->granule)
		return;
	all = model_entries(m, SESSIONS);
	mine = model_entries(m, slot);
	rc = grant_hold(m->t.d, session_at(m, slot), h->granule, h->generation, &why);
	if (!o || owner_kind(o->w) != OWNER_HELD) {
		CHECK(m, rc == -ESTALE, "granule %u: %d", h->granule, rc);
		return;
	}
	if (!had && (all == TD_HOLDERS || mine == TD_HOLDERS - 1)) {
		CHECK(m, rc == -EDQUOT, "granule %u: %d, %u entries", h->granule, rc, all);
		return;
	}
	CHECK(m, rc == 0, "granule %u: %s", h->granule, why);
	o->holders |= 1u << slot;
	model_set(m, o, o->w | OWNER_KEPT);
}

static void step_release(struct model *m, uint32_t slot)
{
	uint32_t i, first = below(m, OBJECTS_MAX);
	struct object *o = random_of(m, LIST_NOBODY);

	/* one that it holds, if it is soon found; else one that it does not hold */
	for (i = 0; i < 4096 && (!o || !(o->holders >> slot & 1)); i++) {
		struct object *x = &m->object[(first + i) % OBJECTS_MAX];

		if (x->granule && model_object(m, x->granule) == x && (x->holders || !o))
			o = x;
	}
	if (!o)
		return;
	CHECK(m, grant_release(m->t.d, session_at(m, slot), 0, o->granule, &why) == 0, "%s", why);
	if (!(o->holders >> slot & 1))
		return;
	o->holders &= ~(1u << slot);
	model_left(m, o);
}

static void step_send(struct model *m, uint32_t slot)
{
	struct object *o = random_of(m, LIST_HELD(slot));
	uint32_t to = other_member(m, slot), from = below(m, 8) ? slot : other_member(m, slot);
	struct session *receiver = session_at(m, to);
	int rc;

	if (!o)
		return;
	rc = grant_send(m->t.d, session_at(m, from), o->granule, owner_generation(o->w), receiver,
	                &why);
	if (rc == -EDQUOT) {
		uint32_t stride = m->cache[o->cache].stride;

		grant_recharge(m->t.d, receiver);
		rc = grant_send(m->t.d, session_at(m, from), o->granule, owner_generation(o->w),
		                receiver, &why);
		CHECK(m, rc != -EDQUOT || model_bytes(m, to) + stride >
		                                  m->member[to].pages_max << PAGE_SHIFT,
		      "%" PRIu64 " bytes: %s", model_bytes(m, to), why);
		if (rc == -EDQUOT)
			return;
	}
	if (from != slot && to != slot) {
		CHECK(m, rc == -EPERM, "granule %u: %d", o->granule, rc);
		return;
	}
	CHECK(m, rc == 0, "granule %u: %s", o->granule, why);
	model_set(m, o, owner_moved(o->w, OWNER_HELD, m->member[to].id));
}

/* ---- names ---- */

static void step_publish(struct model *m, uint32_t slot)
{
	uint32_t i = below(m, NAMES), all = model_entries(m, SESSIONS);
	struct object *o = random_of(m, LIST_HELD(below(m, 4) ? slot : other_member(m, slot)));
	struct name *n = &m->name[i];
	bool same, may;
	char text[8];
	int rc;

	if (!o)
		return;
	snprintf(text, sizeof(text), "n%u", i);
	same = n->used && n->granule == o->granule && n->generation == owner_generation(o->w);
	may = owner_is(o->w, OWNER_HELD, HERE->id) || (o->holders >> slot & 1);
	rc = name_publish(m->t.d->names, session_at(m, slot), text, o->granule,
	                  owner_generation(o->w), &why);
	if (!may || (n->used && !same) || (!same && !o->names && all == TD_HOLDERS)) {
		CHECK(m, rc == (!may ? -EPERM : n->used ? -EEXIST : -EDQUOT), "%s: %d", text, rc);
		return;
	}
	CHECK(m, rc == 0, "%s: %s", text, why);
	if (same)
		return;
	*n = (struct name){ true, o->granule, owner_generation(o->w) };
	o->names++;
	model_set(m, o, o->w | OWNER_KEPT | OWNER_SHARED);
}

static void step_unpublish(struct model *m, uint32_t slot)
{
	uint32_t i = below(m, NAMES);
	struct name *n = &m->name[i];
	struct object *o;
	char text[8];
	int rc;

	snprintf(text, sizeof(text), "n%u", i);
	rc = name_unpublish(m->t.d->names, session_at(m, slot), 0, text, &why);
	CHECK(m, rc == (n->used ? 0 : -ENOENT), "%s: %d", text, rc);
	if (rc)
		return;
	n->used = false;
	o = model_object(m, n->granule);
	CHECK(m, o && o->names && owner_generation(o->w) == n->generation, "%s", text);
	o->names--;
	model_left(m, o);
}

/* ---- what is refused ---- */

static void step_refused(struct model *m, uint32_t slot)
{
	struct session *s = session_at(m, slot);
	struct handle *h = &m->handle[below(m, HANDLES)];
	uint32_t list = below(m, LISTS);
	struct object *o = random_of(m, list);
	uint64_t g;
	int rc;

	if (h->granule && !handle_object(m, h)) {
		rc = grant_send(m->t.d, s, h->granule, h->generation, s, &why);
		CHECK(m, rc < 0, "granule %u was sent", h->granule);
		rc = name_publish(m->t.d->names, s, "stale", h->granule, h->generation, &why);
		CHECK(m, rc < 0, "granule %u was published", h->granule);
	}
	if (!o)
		return;
	g = owner_generation(o->w);
	/* another's, another's magazine's, in use; done already; ahead; inside; no object at all */
	rc = object_free(m->t.d, s, 0, o->granule, g, &why);
	if (list == LIST_RETURNED(slot))
		model_given_up(m, o, true);
	else
		CHECK(m, rc == (list == LIST_NOBODY ? 0 : -EPERM), "%u: %d", o->granule, rc);
	if (list == LIST_RETURNED(slot))
		return;
	CHECK(m, object_free(m->t.d, s, 0, o->granule, g - 1, &why) == 0, "granule %u", o->granule);
	CHECK(m, object_free(m->t.d, s, 0, o->granule, g + 1, &why) == -ENOENT, "%u", o->granule);
	CHECK(m, object_free(m->t.d, s, 0, o->granule + 1, UINT64_MAX >> 26, &why) != 0 ||
	              model_object(m, o->granule + 1),
	      "granule %u", o->granule + 1);
	object_withdraw(m->t.d, s, 0, o->granule);
	if (list == LIST_OFFERED(slot))
		model_freed(m, o, true);
	else
		model_set(m, o, o->w);
}

/* ---- caches ---- */

static void cache_gone(struct model *m, uint32_t c)
{
	CHECK(m, !m->cache[c].out, "cache %s: %" PRIu64, m->cache[c].name, m->cache[c].out);
	CHECK(m, !cache_enter(m->t.d, m->cache[c].id, m->cache[c].life), "cache %s",
	      m->cache[c].name);
	m->cache[c] = (struct model_cache){ .live = false };
}

static void step_create(struct model *m, uint32_t slot, uint32_t c)
{
	static const uint32_t sizes[] = { 16, 40, 64, 96, 200, 512, 1000, 2048, 3000, 5000 };
	struct model_cache *x = &m->cache[c];
	uint64_t life = 0;
	uint32_t id = 0;
	int rc;

	if (x->builtin)
		return;
	if (!x->live) {
		*x = (struct model_cache){ .size = sizes[below(m, 10)], .ctor = below(m, 3) == 0 };
		x->marked = below(m, 4) == 0;
		x->flags = (x->marked ? SLAB_CONSISTENCY_CHECKS : 0) |
		           (below(m, 3) ? 0 : SLAB_MEM_SPREAD) |
		           (below(m, 3) ? 0 : SLAB_RED_ZONE);
		snprintf(x->name, sizeof(x->name), "cache-%u", c);
	}
	if (x->live && below(m, 4) == 0) {
		rc = cache_create(m->t.d, session_at(m, slot), x->name, x->size + 8, 0, x->flags,
		                  x->ctor, &id, &life, &why);
		CHECK(m, rc == -EEXIST, "%d", rc);
		return;
	}
	rc = cache_create(m->t.d, session_at(m, slot), x->name, x->size, 0, x->flags, x->ctor, &id,
	                  &life, &why);
	CHECK(m, rc == 0, "%s", why);
	CHECK(m, !x->live || (id == x->id && life == x->life), "cache %s", x->name);
	x->live = true;
	x->id = id;
	x->life = life;
	x->users |= 1u << slot;
	x->stride = kmem_cache_geometry(cache_at(m, c)->slab)->stride;
	m->counts[CACHES_MADE]++;
}

static void step_destroy(struct model *m, uint32_t slot, uint32_t c)
{
	struct model_cache *x = &m->cache[c];
	bool removed = false;
	int rc;

	if (!x->live || x->builtin)
		return;
	rc = cache_destroy(m->t.d, session_at(m, slot), x->id, x->life, &removed, &why);
	if (x->users != 1u << slot) {
		CHECK(m, rc == 0 && !removed, "cache %s: %d", x->name, rc);
		x->users &= ~(1u << slot);
		return;
	}
	model_drained(m, c);
	model_collected(m, SESSIONS, c);
	CHECK(m, rc == (x->out ? -EBUSY : 0) && removed == !x->out, "cache %s: %d", x->name, rc);
	if (removed)
		cache_gone(m, c);
}

static void step_cache_tick(struct model *m)
{
	uint32_t c, s;

	cache_tick(m->t.d);
	for (c = 0; c < CACHES; c++) {
		struct model_cache *x = &m->cache[c];
		struct object *o = NULL;

		if (!x->live || x->builtin || x->users)
			continue;
		model_drained(m, c);
		for (s = 0; s < SESSIONS && !o; s++) {
			const struct list *l = &m->list[LIST_RETURNED(s)];
			uint32_t i;

			for (i = 0; i < l->n && !o; i++)
				if (m->object[l->at[i]].cache == c)
					o = &m->object[l->at[i]];
		}
		/* RETURNED ones are looked for now and then, all at once */
		if (o && owner_load(o->word) != o->w)
			model_collected(m, SESSIONS, c);
		if (!x->out)
			cache_gone(m, c);
	}
}

/* ---- the worker ---- */

static void step_collect(struct model *m)
{
	uint32_t slot = below(m, SESSIONS + 2), c = below(m, CACHES * 2);
	bool one = slot < SESSIONS && m->member[slot].alive, only = c < CACHES && m->cache[c].live;
	uint64_t n = object_collect(m->t.d, one ? session_at(m, slot) : NULL,
	                            only ? cache_at(m, c) : NULL, below(m, 2));

	CHECK(m, n == model_collected(m, one ? slot : SESSIONS, only ? c : CACHES), "%" PRIu64, n);
}

static void step_withdraw(struct model *m, uint32_t slot)
{
	struct list *l = &m->list[LIST_OFFERED(slot)];
	uint32_t k, i, one = below(m, TD_MAGAZINES);
	bool all = below(m, 4) == 0;

	if (all)
		grant_withdraw_all(m->t.d, session_at(m, slot));
	else
		exchange_withdraw(m->t.d, session_at(m, slot), 0, (magazine_id_t){ one });
	for (k = 0; k < TD_MAGAZINES; k++) {
		struct mag *g = &m->mag[k];

		if (g->place == MAG_LENT && g->slot == slot && g->header == MAGAZINE_OFFERED &&
		    (all || k == one))
			client_gave(m, k, m->list[LIST_MAGAZINE(k)].n);
	}
	for (i = l->n; all && i-- > 0;)
		model_freed(m, &m->object[l->at[i]], true);
}

static void step_trim(struct model *m)
{
	uint32_t c, node, k;

	exchange_trim(m->t.d, MM_CPU_NONE);
	for (k = 0; k < TD_MAGAZINES; k++) {
		struct mag *g = &m->mag[k];

		if (!model_racked(g))
			continue;
		CHECK(m, g->seen == !depot_is_lent(m->t.d->depot, (magazine_id_t){ k }), "%u", k);
		if (g->seen)
			model_fetched(m, k);
		else
			g->seen = true;
	}
	for (c = 0; c < CACHES; c++)
		for (node = 0; node < model_nodes; node++) {
			struct stack *s = &m->stack[c][node];
			uint32_t surplus = s->min < s->n ? s->min : s->n;

			for (s->min = s->n - surplus; surplus; surplus--)
				model_emptied(m, model_pop_full(m, c, node), true);
		}
}

static void step_worker(struct model *m, uint32_t slot, uint32_t c)
{
	uint64_t n;

	switch (below(m, 10)) {
	case 0:
		step_collect(m);
		break;
	case 1:
		step_withdraw(m, slot);
		break;
	case 2:
		step_trim(m);
		break;
	case 3:
		if (below(m, 4))
			break;
		exchange_drain(m->t.d, below(m, 2));
		model_drained(m, CACHES);
		break;
	case 4:
		if (!m->cache[c].live)
			break;
		n = exchange_drain_cache(m->t.d, cache_at(m, c), MM_CPU_NONE);
		CHECK(m, n == model_drained(m, c), "%" PRIu64, n);
		break;
	case 5:
		if (!m->cache[c].live)
			break;
		cache_shrink(cache_at(m, c));
		model_drained(m, c);
		model_collected(m, SESSIONS, c);
		break;
	case 6:
		slab_tick(m->t.d->slabs);
		slab_tick_cpu(m->t.d->slabs, below(m, 2));
		break;
	case 7:
		slab_shrink_all(m->t.d->slabs, below(m, 2));
		mm_drain_cpu(m->t.d->zones, below(m, 2));
		break;
	case 8:
		step_cache_tick(m);
		break;
	default:
		grant_recharge(m->t.d, session_at(m, slot));
		CHECK(m, (uint64_t)atomic_load(&session_at(m, slot)->object_bytes) ==
		              model_bytes_marked(m, slot), "session %u", HERE->id);
		break;
	}
}

/* ---- page blocks, whose places become slabs' and back ---- */

static void step_block(struct model *m, uint32_t slot)
{
	struct block *b = &m->block[below(m, BLOCKS)];
	uint32_t granule;
	uint64_t w;

	if (b->used) {
		granule = domain_granule(m->t.d, b->pfn);
		CHECK(m, td_free(&m->t, session_at(m, b->slot), b->pfn, b->order) == 0, "block");
		b->used = false;
		return;
	}
	b->order = below(m, 4) ? below(m, 5) : below(m, 10);
	if (slot == QUOTA_SLOT || grant_alloc(m->t.d, session_at(m, slot), below(m, 2),
	                                      GFP_KERNEL | __GFP_MOVABLE, b->order, &b->pfn, &why))
		return;
	CHECK(m, td_change(&m->t, b->pfn, OWNER_OFFERED, HERE->id, OWNER_HELD, HERE->id), "block");
	granule = domain_granule(m->t.d, b->pfn);
	w = owner_load(td_word(&m->t, b->pfn));
	CHECK(m, !model_object(m, granule), "frame %u is in a slab", b->pfn);
	CHECK(m, owner_generation(w) >= owner_generation(m->last[granule]),
	      "frame %u: generation %" PRIu64 " after %" PRIu64, b->pfn, owner_generation(w),
	      owner_generation(m->last[granule]));
	/* as any object's there: what comes next has a later one and nothing constructed */
	m->last[granule] = owner_reborn(w, OWNER_FREE, 0);
	b->slot = slot;
	b->used = true;
}

/* ---- deaths ---- */

static void step_open(struct model *m, uint32_t slot)
{
	struct session *s = td_session(&m->t, "model");

	HERE->alive = true;
	HERE->id = s->id;
	HERE->pages_max = slot == QUOTA_SLOT ? QUOTA_PAGES : 0;
	s->pages_max = HERE->pages_max;
	m->slot_of[s->id] = slot + 1;
}

/* What a death in the middle of an operation leaves: an offer or a free begun, an entry of a holder
 * without KEPT or the other way round, a slab's descriptors set or cleared too early. */
static void half_way(void *ctx, const struct slab_object *s, bool out)
{
	struct model *m = ctx;
	struct object *o;

	if (below(m, 64))
		return;
	if (!out) {
		atomic_fetch_or(&m->t.pool.ledger.out[s->word / 64], UINT64_C(1) << s->word % 64);
		return;
	}
	o = model_object(m, object_granule(m->t.d, s));
	if (owner_kind(o->w) == OWNER_HELD && owner_id(o->w))
		atomic_fetch_xor(o->word, OWNER_KEPT);
	if (below(m, 8) == 0)
		atomic_store(&m->t.d->control.desc[s->head], below(m, 2) ? 0 : 12345);
}

static void step_restart(struct model *m)
{
	uint32_t dying = SESSIONS, slot;

	if (below(m, 2))
		slab_walk(m->t.d->slabs, NULL, half_way, m);
	for (slot = 0; slot < SESSIONS; slot++)
		if (m->member[slot].alive && below(m, 16) == 0)
			dying = slot;
	/* in the middle of a sweep */
	if (dying < SESSIONS)
		atomic_store(&session_at(m, dying)->record->word, SESSION_RECORD_SWEEPING);
	td_restart(&m->t);
	model_restarted(m, dying);
	model_compare(m);
	m->counts[RESTARTS]++;
}

static void step_death(struct model *m, uint32_t slot)
{
	session_end(session_at(m, slot));
	model_swept(m, slot);
	m->counts[DEATHS]++;
}

/* ---- rounds ---- */

static void step_share(struct model *m, uint32_t slot)
{
	switch (below(m, 16)) {
	case 0 ... 2:
		step_handle(m, slot);
		break;
	case 3 ... 5:
		step_adopt(m, slot);
		break;
	case 6 ... 7:
		step_hold(m, slot);
		break;
	case 8 ... 10:
		step_release(m, slot);
		break;
	case 11:
		step_publish(m, slot);
		break;
	case 12:
		step_unpublish(m, slot);
		break;
	case 13:
		step_refused(m, slot);
		break;
	default:
		step_send(m, slot);
		break;
	}
}

static void some_words(struct model *m)
{
	uint32_t i;

	for (i = 0; i < 4; i++) {
		struct object *o = random_of(m, below(m, LISTS));

		if (o)
			CHECK(m, owner_load(o->word) == o->w,
			      "granule %u: %#" PRIx64 ", not %#" PRIx64, o->granule,
			      owner_load(o->word), o->w);
	}
}

static void one_step(struct model *m, bool filling)
{
	uint32_t slot = below(m, SESSIONS), c = below(m, CACHES), what = below(m, 10000);

	if (!HERE->alive) {
		step_open(m, slot);
		return;
	}
	if (what < 3)
		step_restart(m);
	else if (what < 8)
		step_death(m, slot);
	else if (what < 60)
		step_worker(m, slot, c);
	else if (what < 100)
		step_create(m, slot, c);
	else if (what < 120)
		step_destroy(m, slot, c);
	else if (what < 160)
		step_block(m, slot);
	else if (what < 2000)
		step_share(m, slot);
	else if (!m->cache[c].live)
		return;
	else if (what < 5000)
		client_object(m, slot, c, filling);
	else
		client_thread(m, slot, c, filling);
	some_words(m);
}

static void finish(struct model *m, uint64_t all_free)
{
	uint32_t slot, i;
	uint64_t n;

	model_compare(m);
	for (slot = 0; slot < SESSIONS; slot++)
		if (!HERE->alive)
			step_open(m, slot);
	for (i = 0; i < 40; i++)
		step_cache_tick(m);
	for (i = 0; i < NAMES; i++)
		while (m->name[i].used)
			step_unpublish(m, 0);
	for (slot = 0; slot < SESSIONS; slot++)
		step_death(m, slot);
	n = td_free_frames(&m->t);
	model_drained(m, CACHES);
	model_compare(m);
	CHECK(m, n == all_free && m->nr_unused == OBJECTS_MAX, "%" PRIu64 " of %" PRIu64 " frames",
	      n, all_free);
	printf("%u node%s: out %" PRIu64 " free %" PRIu64 " full %" PRIu64 " racked %" PRIu64
	       " adopted %" PRIu64
	       " restarts %" PRIu64 " deaths %" PRIu64 " caches %" PRIu64 "\n"
	       "        no memory %" PRIu64 " no magazine %" PRIu64 " quota %" PRIu64
	       " none constructed %" PRIu64
	       " compared %" PRIu64 "\n",
	       model_nodes, model_nodes > 1 ? "s" : "", m->counts[TOOK], m->counts[FREED],
	       m->counts[FULL], m->counts[RACKED], m->counts[ADOPTED], m->counts[RESTARTS], m->counts[DEATHS],
	       m->counts[CACHES_MADE], m->counts[ENOMEMS], m->counts[EAGAINS], m->counts[EDQUOTS],
	       m->counts[ENOKEYS], m->counts[COMPARED]);
	fflush(stdout);
}

static uint64_t from_environment(const char *name, uint64_t value)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : value;
}

int main(void)
{
	uint64_t steps = from_environment("KMM_TEST_STEPS", 1000000), step = 0;
	uint32_t nodes;

	seed = from_environment("KMM_TEST_SEED", (uint64_t)time(NULL) * 1000003u);
	printf("object_model: KMM_TEST_STEPS=%" PRIu64 " KMM_TEST_SEED=%" PRIu64 "\n", steps, seed);
	fflush(stdout);
	for (nodes = 1; nodes <= NODES; nodes++) {
		struct model *m = calloc(1, sizeof(*m));
		uint64_t all_free, end = steps * nodes / NODES;
		bool filling = true;

		if (!m)
			return 1;
		m->random = (seed * 2 + 1) * 0x9e3779b97f4a7c15ull ^ nodes;
		model_open(m, nodes);
		all_free = td_free_frames(&m->t);
		for (m->step = step; m->step < end; m->step++) {
			if (m->step % 4096 == 0)
				filling = below(m, 5) > 1;
			one_step(m, filling);
			if (m->step % EVERY == 0)
				model_compare(m);
		}
		step = end;
		finish(m, all_free);
		model_close(m);
		free(m);
	}
	printf("object_model: ok\n");
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * What sessions do, one exchange at a time (object_model.h): the protocol of shm/owner.h and
 * shm/magazine.h, as client/ speaks it.
 *
 *     IDLE --take--> CLAIM --header--> UNLOAD --a word at a time--> IDLE, an empty magazine stays
 *     IDLE --give--> LOAD --a word at a time, header--> TELL --call--> IDLE
 *
 * By the rack both go without the daemon: LOAD ends there, and UNLOAD begins there.
 *
 * A session that dies stands wherever it stands; a thread whose magazine was withdrawn finds that
 * its exchange fails, or that the offer is another one.
 */
#include <errno.h>

#include "tests/model/object_model.h"

static const char *why;

/* ---- one object ---- */


void client_note(struct model *m, uint32_t slot, const struct object *o)
{
	td_note(&m->t, session_at(m, slot), o->granule);
}

/* One exchange by a client: it must succeed, the model knows the word. */
void client_change(struct model *m, struct object *o, uint64_t to)
{
	uint64_t w = o->w;

	CHECK(m, owner_cas(o->word, &w, to), "granule %u: %#" PRIx64 ", not %#" PRIx64, o->granule,
	      w, o->w);
	model_set(m, o, to);
}

/* Before the application sees it: the constructor. */
void client_prepare(struct model *m, struct object *o)
{
	const struct model_cache *c = &m->cache[o->cache];

	if ((!c->ctor && !c->marked) || (o->w & OWNER_CONSTRUCTED))
		return;
	atomic_fetch_or(o->word, OWNER_CONSTRUCTED);
	model_set(m, o, o->w | OWNER_CONSTRUCTED);
}

static void step_claim_one(struct model *m, uint32_t slot)
{
	struct object *o = random_of(m, LIST_OFFERED(slot));

	if (!o)
		return;
	client_change(m, o, owner_moved(o->w, OWNER_HELD, HERE->id));
	client_prepare(m, o);
}

static void step_reuse(struct model *m, uint32_t slot)
{
	struct object *o = random_of(m, LIST_RETURNED(slot));

	/* with a handle it is on its way to the daemon, else a marked cache's */
	if (!o || (o->w & (OWNER_SHARED | OWNER_KEPT)))
		return;
	client_change(m, o, owner_moved(o->w, OWNER_HELD, HERE->id));
	client_prepare(m, o);
}

static void step_return(struct model *m, uint32_t slot)
{
	struct object *o = random_of(m, LIST_HELD(slot));

	if (!o)
		return;
	/* into the thread's cache, HELD with stale handles, or marked for the daemon */
	if (!(o->w & OWNER_KEPT) && !m->cache[o->cache].marked && below(m, 4) == 0)
		client_change(m, o, owner_given_back(o->w, OWNER_HELD, HERE->id));
	else
		client_change(m, o, owner_given_back(o->w, OWNER_RETURNED, HERE->id));
}

static void step_tell_free(struct model *m, uint32_t slot)
{
	struct object *o = random_of(m, LIST_RETURNED(slot));
	uint64_t w;

	if (!o)
		return;
	w = o->w;
	CHECK(m, object_free(m->t.d, session_at(m, slot), below(m, 2), o->granule,
	                     owner_generation(w), &why) == 0, "%s", why);
	model_given_up(m, o, true);
}

static void step_alloc_one(struct model *m, uint32_t slot, uint32_t cache)
{
	struct model_cache *c = &m->cache[cache];
	struct cache *x = cache_enter(m->t.d, c->id, c->life);
	struct session *s = session_at(m, slot);
	bool constructed = c->ctor && below(m, 4) == 0;
	uint32_t granule = 0;
	struct object *o;
	int rc;

	CHECK(m, x, "cache %s", c->name);
	if (m->nr_unused < 1) {
		cache_leave(x);
		return;
	}
	rc = object_alloc(x, s, below(m, 2), below(m, 8) ? GFP_KERNEL : GFP_ATOMIC, constructed,
	                  &granule, &why);
	if (rc == -EDQUOT) {
		m->counts[EDQUOTS]++;
		grant_recharge(m->t.d, s);
		rc = object_alloc(x, s, 0, GFP_KERNEL, constructed, &granule, &why);
		CHECK(m, rc != -EDQUOT ||
		              model_bytes(m, slot) + c->stride > HERE->pages_max << PAGE_SHIFT,
		      "%" PRIu64 " bytes: %s", model_bytes(m, slot), why);
	}
	cache_leave(x);
	model_sync_rack(m, TD_MAGAZINES);
	model_sync_magazines(m, TD_MAGAZINES);
	m->counts[ENOMEMS] += rc == -ENOMEM;
	m->counts[ENOKEYS] += rc == -ENOKEY;
	if (rc) {
		CHECK(m, rc == -EDQUOT || (rc == -ENOKEY && constructed) || rc == -ENOMEM,
		      "%s", why);
		return;
	}
	o = model_took(m, cache, granule, OWNER_OFFERED, HERE->id);
	CHECK(m, !constructed || (o->w & OWNER_CONSTRUCTED), "granule %u", granule);
}

/* ---- magazines: the client's steps ---- */

static struct magazine *shared(struct model *m, uint32_t k)
{
	return &m->t.d->control.magazine[k];
}

static void header_change(struct model *m, uint32_t k, enum magazine_state state, uint32_t owner,
                          uint32_t count)
{
	uint64_t h = magazine_load(shared(m, k));

	CHECK(m, magazine_cas(shared(m, k), &h, magazine_next(h, state, owner, count)), "%u", k);
	m->mag[k].header = state;
	m->mag[k].seen = false;
}

/* An offered magazine came back from the daemon. */
static void lent(struct model *m, uint32_t slot, uint32_t k, uint32_t n)
{
	uint64_t h = magazine_load(shared(m, k));

	CHECK(m, magazine_is(h, MAGAZINE_OFFERED, HERE->id) && magazine_count(h) == n, "%u", k);
	CHECK(m, depot_lent_to(m->t.d->depot, (magazine_id_t){ k }) == HERE->id, "%u", k);
	m->mag[k] = (struct mag){
		.place = MAG_LENT, .header = MAGAZINE_OFFERED, .slot = slot, .counts_for = slot,
		.n = n
	};
}

static uint32_t round_at(struct model *m, uint32_t k, uint32_t i)
{
	return atomic_load(&shared(m, k)->round[i]);
}

/* Of a full magazine that was lent: what it does not list any more was freed. */
static void keep_listed(struct model *m, uint32_t k, uint32_t n, bool constructed)
{
	struct list *l = &m->list[LIST_MAGAZINE(k)];
	uint32_t i, j;

	for (i = l->n; i-- > 0;) {
		struct object *o = &m->object[l->at[i]];

		for (j = 0; j < n && round_at(m, k, j) != o->granule; j++)
			;
		if (j == n)
			model_freed(m, o, true);
		else
			CHECK(m, !constructed || (o->w & OWNER_CONSTRUCTED), "%u", o->granule);
	}
	CHECK(m, l->n == n, "magazine %u: %u of %u", k, l->n, n);
}

static void took_magazine(struct model *m, uint32_t slot, uint32_t cache, uint32_t k, uint32_t n,
                          bool constructed)
{
	struct mag *g = &m->mag[k];
	bool full = false;
	uint32_t i;

	model_sync_rack(m, k);
	if (g->place == MAG_FULL && g->cache == cache) {
		struct object *o = &m->object[m->list[LIST_MAGAZINE(k)].at[0]];

		for (i = 0; i < m->list[LIST_MAGAZINE(k)].n && !full; i++) {
			o = &m->object[m->list[LIST_MAGAZINE(k)].at[i]];
			full = owner_load(o->word) == o->w;
		}
	}
	i = model_sync_magazines(m, full ? k : TD_MAGAZINES);
	CHECK(m, i <= 1 || constructed || HERE->pages_max, "%u full magazines were emptied", i);
	if (full) {
		CHECK(m, i == 0 || constructed || HERE->pages_max, "emptied, though one was full");
		CHECK(m, model_pop_full(m, cache, g->node) == k, "magazine %u was not on top", k);
		lent(m, slot, k, n);
		keep_listed(m, k, n, constructed);
		return;
	}
	CHECK(m, g->place == MAG_EMPTY, "magazine %u", k);
	lent(m, slot, k, n);
	for (i = 0; i < n; i++) {
		struct object *o = model_took(m, cache, round_at(m, k, i), OWNER_MAGAZINE, k);

		CHECK(m, !constructed || (o->w & OWNER_CONSTRUCTED), "%u", o->granule);
	}
}

/* No magazine can be had: the session has as many as it may, or all are with sessions. */
static bool none_left(struct model *m, uint32_t slot)
{
	uint32_t k, all = 0, mine = 0;

	for (k = 0; k < TD_MAGAZINES; k++) {
		if (model_racked(&m->mag[k]))
			continue; /* it is fetched */
		all += m->mag[k].place == MAG_LENT;
		mine += m->mag[k].place == MAG_LENT && m->mag[k].counts_for == slot;
	}
	return mine >= TD_MAGAZINES / 8 || all == TD_MAGAZINES;
}

/* ---- the rack ---- */

/* A session with a quota has nothing to do with it. */
static bool uses_rack(struct model *m, uint32_t slot)
{
	if (HERE->pages_max)
		return false;
	atomic_store(&session_at(m, slot)->shared->racks, 1);
	return true;
}

/* A magazine that the session has LOADED goes there, with n rounds; now and then the session dies
 * before it is in a slot, or there is no room. */
static void rack_put(struct model *m, uint32_t k, uint32_t cache, uint32_t n)
{
	struct control_rack *rack =
		&m->t.d->control.rack[cache < CACHES ? m->cache[cache].id : 0];
	struct mag *g = &m->mag[k];

	if (cache < CACHES)
		atomic_store(&shared(m, k)->kind, MAGAZINE_OF_OBJECTS | m->cache[cache].id);
	header_change(m, k, MAGAZINE_RACK, 0, n);
	if (below(m, 16))
		control_rack_put(rack, k);
	g->slot = SESSIONS;
	g->cache = cache;
	g->n = n;
	g->busy = false;
	m->counts[RACKED]++;
}

/* A slot says that it is there: it is now the session's. */
static bool rack_get(struct model *m, uint32_t slot, uint32_t cache, uint32_t *ret)
{
	struct control_rack *rack =
		&m->t.d->control.rack[cache < CACHES ? m->cache[cache].id : 0];
	uint32_t i = below(m, CONTROL_RACK_SLOTS), said = atomic_load(&rack->slot[i]);
	struct mag *g;

	if (!said)
		return false;
	g = &m->mag[said - 1];
	if (below(m, 16)) /* or it is late */
		control_rack_clear(rack, i, said);
	if (!model_racked(g) || g->cache != cache)
		return false;
	header_change(m, said - 1, MAGAZINE_LOADED, HERE->id, g->n);
	g->slot = slot;
	*ret = said - 1;
	return true;
}

static bool take_from_rack(struct model *m, uint32_t slot, struct thread *h, uint32_t cache)
{
	uint32_t k;

	if (!uses_rack(m, slot) || !rack_get(m, slot, cache, &k))
		return false;
	m->mag[k].busy = m->mag[k].from_rack = true;
	*h = (struct thread){ .doing = UNLOAD, .mag = k, .n = m->mag[k].n, .cache = cache,
		              .keep_returned = m->cache[cache].marked };
	return true;
}

static void begin_take(struct model *m, uint32_t slot, struct thread *h, uint32_t cache)
{
	struct model_cache *c = &m->cache[cache];
	struct cache *x = cache_enter(m->t.d, c->id, c->life);
	struct session *s = session_at(m, slot);
	uint32_t rounds = 1 + below(m, below(m, 4) ? 40 : 250), n = 0;
	bool constructed = c->ctor && below(m, 4) == 0;
	magazine_id_t k;
	int rc;

	CHECK(m, x, "cache %s", c->name);
	if (below(m, 2) && take_from_rack(m, slot, h, cache)) {
		cache_leave(x);
		return;
	}
	if (m->nr_unused < rounds) {
		cache_leave(x);
		return;
	}
	rc = exchange_take_objects(x, s, below(m, 2), GFP_KERNEL, constructed, rounds, &k, &n,
	                           &why);
	if (rc == -EDQUOT) {
		m->counts[EDQUOTS]++;
		model_sync_rack(m, TD_MAGAZINES);
		model_sync_magazines(m, TD_MAGAZINES);
		grant_recharge(m->t.d, s);
		rc = exchange_take_objects(x, s, 0, GFP_KERNEL, constructed, rounds, &k, &n, &why);
		CHECK(m, rc != -EDQUOT ||
		              model_bytes(m, slot) + c->stride > HERE->pages_max << PAGE_SHIFT,
		      "%" PRIu64 " bytes: %s", model_bytes(m, slot), why);
	}
	cache_leave(x);
	m->counts[ENOMEMS] += rc == -ENOMEM;
	m->counts[EAGAINS] += rc == -EAGAIN;
	m->counts[ENOKEYS] += rc == -ENOKEY;
	if (rc) {
		CHECK(m, rc == -EDQUOT || (rc == -EAGAIN && none_left(m, slot)) ||
		              rc == -ENOMEM || (rc == -ENOKEY && constructed),
		      "%d: %s", rc, why);
		model_sync_rack(m, TD_MAGAZINES);
		model_sync_magazines(m, TD_MAGAZINES);
		return;
	}
	CHECK(m, n >= 1 && n <= rounds, "%u of %u", n, rounds);
	took_magazine(m, slot, cache, k.nr, n, constructed);
	*h = (struct thread){ .doing = CLAIM, .mag = k.nr, .n = rounds, .cache = cache };
}

/* Empty ones that no thread of the session is at; the last of them in *k. */
static uint32_t spares(struct model *m, uint32_t slot, uint32_t *k)
{
	uint32_t i, n = 0;

	for (i = 0; i < TD_MAGAZINES; i++) {
		const struct mag *g = &m->mag[i];

		if (g->place != MAG_LENT || g->slot != slot || g->header != MAGAZINE_LOADED ||
		    g->busy)
			continue;
		*k = i;
		n++;
	}
	return n;
}

static void step_ask_empty(struct model *m, uint32_t slot)
{
	struct session *s = session_at(m, slot);
	magazine_id_t k;
	int rc = exchange_empty(m->t.d, s, &k);
	uint32_t emptied;

	model_sync_rack(m, rc ? TD_MAGAZINES : k.nr);
	emptied = model_sync_magazines(m, TD_MAGAZINES);

	CHECK(m, emptied <= 1 && (rc == 0 || (rc == -EAGAIN && none_left(m, slot))), "%d", rc);
	if (rc)
		return;
	CHECK(m, m->mag[k.nr].place == MAG_EMPTY, "magazine %u", k.nr);
	lent(m, slot, k.nr, 0);
	if (below(m, 8))
		header_change(m, k.nr, MAGAZINE_LOADED, HERE->id, 0);
}

static void begin_give(struct model *m, uint32_t slot, struct thread *h)
{
	struct object *o = random_of(m, below(m, 3) ? LIST_HELD(slot) : LIST_RETURNED(slot));
	uint32_t k;

	if (!o)
		return;
	if (!spares(m, slot, &k) &&
	    (!uses_rack(m, slot) || !rack_get(m, slot, CACHES, &k))) {
		step_ask_empty(m, slot);
		return;
	}
	m->mag[k].busy = true;
	*h = (struct thread){ .doing = LOAD, .mag = k, .cache = o->cache,
		              .n = 1 + below(m, below(m, 4) ? 30 : 200) };
}

static void step_claim(struct model *m, uint32_t slot, struct thread *h)
{
	struct mag *g = &m->mag[h->mag];
	uint64_t head = magazine_load(shared(m, h->mag));
	uint32_t kind = atomic_load(&shared(m, h->mag)->kind);

	/* Withdrawn; perhaps offered again, to another thread. */
	if (!magazine_is(head, MAGAZINE_OFFERED, HERE->id) || !magazine_count(head) ||
	    kind != (MAGAZINE_OF_OBJECTS | m->cache[h->cache].id) || magazine_count(head) > h->n) {
		h->doing = IDLE;
		return;
	}
	CHECK(m, g->place == MAG_LENT && g->header == MAGAZINE_OFFERED, "magazine %u", h->mag);
	h->n = magazine_count(head);
	header_change(m, h->mag, MAGAZINE_LOADED, HERE->id, h->n);
	g->busy = true;
	h->at = 0;
	h->doing = UNLOAD;
	h->keep_returned = m->cache[h->cache].marked;
}

static void step_unload(struct model *m, uint32_t slot, struct thread *h)
{
	struct mag *g = &m->mag[h->mag];
	struct object *o;
	uint32_t k;

	CHECK(m, g->place == MAG_LENT && g->slot == slot && g->header == MAGAZINE_LOADED,
	      "magazine %u", h->mag);
	if (h->at < h->n) {
		o = model_object(m, round_at(m, h->mag, h->at++));
		CHECK(m, o && o->list == LIST_MAGAZINE(h->mag) && o->cache == h->cache,
		      "magazine %u, round %u", h->mag, h->at - 1);
		client_note(m, slot, o);
		client_change(m, o, owner_moved(o->w,
		                                h->keep_returned ? OWNER_RETURNED : OWNER_HELD,
		                                HERE->id));
		if (!h->keep_returned && below(m, 8))
			client_prepare(m, o);
		/* What was not taken is given back with what was: partly bad, all the same. */
		if (below(m, 256) != 0)
			return;
		h->doing = TELL;
		header_change(m, h->mag, MAGAZINE_DEPOT, 0, h->n);
		g->n = h->n;
		return;
	}
	g->busy = g->from_rack = false;
	h->doing = IDLE;
	if (spares(m, slot, &k) > 3 && below(m, 2) && uses_rack(m, slot)) {
		rack_put(m, h->mag, CACHES, 0);
	} else if (spares(m, slot, &k) > 3) {
		header_change(m, h->mag, MAGAZINE_EMPTY, 0, 0);
		*g = (struct mag){ .place = MAG_EMPTY };
	}
}

static void step_load(struct model *m, uint32_t slot, struct thread *h)
{
	struct object *o = random_of(m, below(m, 2) ? LIST_HELD(slot) : LIST_RETURNED(slot));
	struct mag *g = &m->mag[h->mag];

	CHECK(m, g->place == MAG_LENT && g->slot == slot && g->header == MAGAZINE_LOADED,
	      "magazine %u", h->mag);
	if (o && o->cache == h->cache && !(o->w & OWNER_KEPT) && h->n) {
		client_change(m, o, owner_given_back(o->w, OWNER_MAGAZINE, h->mag));
		atomic_store(&shared(m, h->mag)->round[h->at++], o->granule);
		h->n--;
		return;
	}
	if (h->n && below(m, 4)) {
		h->n -= below(m, 2);
		return;
	}
	g->busy = false;
	h->doing = h->at ? TELL : IDLE;
	if (!h->at)
		return;
	if (below(m, 2) && uses_rack(m, slot)) {
		h->doing = IDLE;
		rack_put(m, h->mag, h->cache, h->at);
		return;
	}
	header_change(m, h->mag, MAGAZINE_DEPOT, 0, h->at);
	g->n = h->at;
}

/* The daemon has a magazine whose header said DEPOT: kept, or emptied. */
void client_gave(struct model *m, uint32_t k, uint32_t accepted)
{
	struct mag *g = &m->mag[k];
	struct list *l = &m->list[LIST_MAGAZINE(k)];
	uint32_t n = g->n, frames = 0, cache = 0, node = 0;
	bool keep = l->n && l->n == n;

	CHECK(m, accepted == l->n, "magazine %u: %u of %u", k, accepted, l->n);
	if (keep) {
		struct object *first = model_object(m, round_at(m, k, 0));

		cache = first->cache;
		node = model_node(m, first);
		frames = (uint32_t)(((uint64_t)m->cache[cache].stride * n + 4095) >> PAGE_SHIFT);
		keep = m->frames + frames <= TD_FRAMES / 8;
	}
	*g = (struct mag){ .place = MAG_EMPTY, .n = n };
	if (keep)
		model_push_full(m, k, cache, node, frames);
	else
		model_emptied(m, k, true);
	CHECK(m, depot_rounds(m->t.d->depot, (magazine_id_t){ k }) == (keep ? n : 0), "%u", k);
}

static void step_tell(struct model *m, uint32_t slot, struct thread *h)
{
	struct mag *g = &m->mag[h->mag];
	bool ours = g->place == MAG_LENT && g->header == MAGAZINE_DEPOT;
	uint32_t other = below(m, SESSIONS), accepted = 1, listed = 1;
	magazine_id_t k = { h->mag };

	if (other != slot && m->member[other].alive && g->place == MAG_LENT &&
	    g->header != MAGAZINE_DEPOT) {
		exchange_give(m->t.d, session_at(m, other), 0, k, &accepted, &listed);
		CHECK(m, !accepted && !listed, "magazine %u, which nobody gave", h->mag);
	}
	exchange_give(m->t.d, session_at(m, slot), below(m, 2), k, &accepted, &listed);
	CHECK(m, listed == (ours ? g->n : 0), "magazine %u: %u", h->mag, listed);
	if (ours)
		client_gave(m, h->mag, accepted);
	/* twice: no harm */
	if (below(m, 8))
		h->doing = IDLE;
}

void client_thread(struct model *m, uint32_t slot, uint32_t cache, bool filling)
{
	struct thread *h = &HERE->thread[below(m, THREADS)];
	uint32_t burst = below(m, 4) ? 1 + below(m, 40) : 1;

	if (h->doing == IDLE) {
		if (below(m, 10) < (filling ? 7 : 3))
			begin_take(m, slot, h, cache);
		else
			begin_give(m, slot, h);
		return;
	}
	for (; burst; burst--)
		switch (h->doing) {
		case IDLE:
			return;
		case CLAIM:
			step_claim(m, slot, h);
			break;
		case UNLOAD:
			step_unload(m, slot, h);
			break;
		case LOAD:
			step_load(m, slot, h);
			break;
		case TELL:
			step_tell(m, slot, h);
			return;
		}
}

void client_object(struct model *m, uint32_t slot, uint32_t cache, bool filling)
{
	switch (below(m, 8)) {
	case 0:
		step_alloc_one(m, slot, cache);
		break;
	case 1:
		if (filling)
			step_alloc_one(m, slot, cache);
		break;
	case 2:
		step_claim_one(m, slot);
		break;
	case 3:
		step_reuse(m, slot);
		break;
	case 4:
	case 5:
		step_return(m, slot);
		break;
	default:
		step_tell_free(m, slot);
		break;
	}
}

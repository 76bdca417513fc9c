/* SPDX-License-Identifier: MIT */
/*
 * The table of caches: one structure an id, for the daemon's life.
 *
 * What a cache is lies in four places, each with its own reader:
 *
 *     struct cache_record (ledger)    the truth: name and geometry; mm/'s, its word commits
 *     users (ledger)                  a bit a session; each bit is a commit of its own
 *     struct control_cache (views)    what clients see; a copy of the record, `life` last
 *     struct cache (here)             derived: counts, and who works with it now
 *
 * Order. A cache begins with its record; then its view is written, before any object of it can be
 * had; then it is LIVE, then its creator is a user. It ends the other way round: nobody enters, its
 * last user's bit goes, then its slabs and the record, then the view's life. A death in between
 * leaves a cache without users, which ends by itself, or a view of nothing, which the start clears.
 * So the users of an id that is free are always none.
 *
 * Entering. As sessions (session.c): a thread counts itself in and then looks at the state; who ends
 * a cache changes the state and then looks at the count, both sequentially consistent. Threads that
 * give objects back enter also while it is ENDING: the end looks at the objects that are out, then
 * again at the count, and a thread that comes later finds no object that it could give back.
 *
 * Locking: the table's lock (LOCK_RANK_CACHE) guards users and makes beginnings one by one. Only the
 * worker ends caches (cache_end.c). Entering and leaving take no lock.
 */
#include "daemon/cache_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/pool.h"

/* ---- users ---- */

static _Atomic uint64_t *user_word(const struct cache_table *t, const struct cache *c,
                                   uint32_t session)
{
	return &ledger_users(t->ledger, c->id)[session / 64];
}

bool cache_is_user(const struct cache_table *t, const struct cache *c, uint32_t session)
{
	/* relaxed: written under the lock only */
	return !c->builtin &&
	       atomic_load_explicit(user_word(t, c, session), memory_order_relaxed) >>
	                       session % 64 &
	               1;
}

/* Whose session it is. NULL: nothing is counted. */
static struct user *user_of(const struct cache_table *t, uint32_t session)
{
	const struct session *s = session_by_id(t->d->kmmd->sessions, session);

	return s ? s->user : NULL;
}

void cache_add_user(struct cache_table *t, struct cache *c, uint32_t session)
{
	if (c->builtin || cache_is_user(t, c, session))
		return;
	/* release: for the next daemon; the record was there before */
	atomic_fetch_or_explicit(user_word(t, c, session), UINT64_C(1) << session % 64,
	                         memory_order_release);
	/* relaxed: a count, read under the lock where it decides */
	atomic_fetch_add_explicit(&c->users, 1, memory_order_relaxed);
	t->open[session]++;
	user_charge_always(user_of(t, session), USER_CACHES, 1);
}

void cache_drop_user(struct cache_table *t, struct cache *c, uint32_t session)
{
	if (!cache_is_user(t, c, session))
		return;
	atomic_fetch_and_explicit(user_word(t, c, session), ~(UINT64_C(1) << session % 64),
	                          memory_order_release);
	atomic_fetch_sub_explicit(&c->users, 1, memory_order_relaxed);
	t->open[session]--;
	user_uncharge(user_of(t, session), USER_CACHES, 1);
}

/* ---- views ---- */

/* Of an odd number, modulo 2^32: each step doubles the bits that are right, from three. */
static uint32_t inverse_of(uint32_t odd)
{
	uint32_t x = odd;
	unsigned int i;

	for (i = 0; i < 4; i++)
		x *= 2 - odd * x;
	return x;
}

static void view_fill(struct control_cache *v, const struct cache_record *r)
{
	const struct slab_geometry *g = &r->geometry;
	unsigned int twos = (unsigned int)__builtin_ctz(g->stride);

	v->size = g->size;
	v->stride = g->stride;
	v->inverse = inverse_of(g->stride >> twos);
	v->objects = g->objects;
	v->colour_off = g->colour_off;
	v->flags = r->flags;
	v->flags_asked = r->flags_asked;
	v->align = g->align;
	v->offset = g->offset;
	v->order = g->order;
	v->shift = g->shift;
	v->colours = (uint16_t)g->colours;
	v->twos = (uint8_t)twos;
	v->ctor = r->ctor != 0;
	memcpy(v->name, r->name, sizeof(v->name));
}

static void view_write(struct domain *d, const struct kmem_cache *k)
{
	struct control_cache *v = &d->control.cache[kmem_cache_id(k)];
	uint64_t life = kmem_cache_life(k);

	/* Of a cache that was taken over all is as it was, and clients read it. */
	if (atomic_load_explicit(&v->life, memory_order_relaxed) == life)
		return;
	/* It is 0: the end of the life before made it so, or the start of this daemon. While it is,
	 * no client believes what else is there. */
	view_fill(v, kmem_cache_record(k));
	/* release: pairs with the clients' acquire loads of life */
	atomic_store_explicit(&v->life, life, memory_order_release);
}

/* ---- the table ---- */

void cache_begin(struct cache_table *t, struct kmem_cache *k)
{
	struct cache *c = &t->cache[kmem_cache_id(k)];

	c->slab = k;
	c->builtin = c->id <= CACHE_BUILTIN_MAX;
	/* relaxed, all: the state publishes them */
	atomic_store_explicit(&c->users, 0, memory_order_relaxed);
	atomic_store_explicit(&c->rounds_max, 0, memory_order_relaxed);
	atomic_store_explicit(&c->exchanges, 0, memory_order_relaxed);
	atomic_store_explicit(&c->reports, 0, memory_order_relaxed);
	atomic_store_explicit(&c->node_next, 0, memory_order_relaxed);
	c->idle_out = 0;
	c->idle_looks = 0;
	view_write(t->d, k);
	if (atomic_load_explicit(&t->end, memory_order_relaxed) <= c->id)
		atomic_store_explicit(&t->end, c->id + 1, memory_order_release);
	cache_set_state(c, CACHE_LIVE);
}

static bool session_known(const struct domain *d, uint32_t id)
{
	const struct pool *pool = d->kmmd->pool;

	/* acquire: pairs with the commit of the record */
	return id && id < pool->nr_sessions &&
	       atomic_load_explicit(&pool->session[id].word, memory_order_acquire) != 0;
}

/* Users that are no sessions any more go. */
static int users_recover(struct cache_table *t, struct cache *c)
{
	uint32_t id, words = (uint32_t)(t->ledger->layout.users_stride / sizeof(uint64_t)), i;
	_Atomic uint64_t *row = ledger_users(t->ledger, c->id);
	int r;

	if (c->builtin)
		return 0;
	r = ledger_open_users(t->ledger, c->id);
	for (i = 0; r == 0 && i < words; i++) {
		/* relaxed: nobody else is there yet */
		uint64_t w = atomic_load_explicit(&row[i], memory_order_relaxed), known = w;

		for (; w; w &= w - 1) {
			id = i * 64 + (uint32_t)__builtin_ctzll(w);
			if (session_known(t->d, id))
				t->open[id]++;
			else
				known &= ~(UINT64_C(1) << id % 64);
		}
		atomic_store_explicit(&row[i], known, memory_order_release);
		atomic_fetch_add_explicit(&c->users, (uint32_t)__builtin_popcountll(known),
		                          memory_order_relaxed);
	}
	return r;
}

static int table_recover(struct cache_table *t)
{
	uint32_t id;
	int r = 0;

	for (id = 1; id < t->n && r == 0; id++) {
		struct kmem_cache *k = kmem_cache_by_id(t->d->slabs, id);

		if (k) {
			cache_begin(t, k);
			r = users_recover(t, &t->cache[id]);
		} else if (atomic_load_explicit(&t->d->control.cache[id].life,
		                                memory_order_relaxed)) {
			/* release: as in cache_end.c */
			atomic_store_explicit(&t->d->control.cache[id].life, 0,
			                      memory_order_release);
		}
	}
	return r;
}

int cache_table_new(struct cache_table **ret, struct domain *d)
{
	const struct ledger *ledger = &d->kmmd->pool->ledger;
	uint32_t n = ledger->layout.nr_caches, id;
	struct cache_table *t = calloc(1, sizeof(*t) + n * sizeof(t->cache[0]));
	int r;

	if (!t)
		return -ENOMEM;
	t->open = calloc(d->control.geometry.sessions, sizeof(t->open[0]));
	if (!t->open) {
		free(t);
		return -ENOMEM;
	}
	t->d = d;
	t->ledger = ledger;
	t->n = n;
	lock_init(&t->lock, LOCK_RANK_CACHE);
	for (id = 0; id < n; id++) {
		t->cache[id].id = id;
		t->cache[id].d = d;
	}
	r = table_recover(t);
	if (r == 0)
		r = cache_make_builtin(t);
	if (r < 0) {
		cache_table_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

struct cache_table *cache_table_free(struct cache_table *t)
{
	if (!t)
		return NULL;
	free(t->open);
	free(t);
	return NULL;
}

/* ---- entering ---- */

static struct cache *enter(struct domain *d, uint32_t id, uint64_t life, bool ending)
{
	struct cache *c = cache_by_id(d, id);
	enum cache_state state;

	if (!c)
		return NULL;
	/* seq_cst: see the theory above */
	atomic_fetch_add_explicit(&c->inside, 1, memory_order_seq_cst);
	state = cache_state(c);
	if ((state == CACHE_LIVE || (ending && state == CACHE_ENDING)) &&
	    (!life || kmem_cache_life(c->slab) == life))
		return c;
	cache_leave(c);
	return NULL;
}

struct cache *cache_enter(struct domain *d, uint32_t id, uint64_t life)
{
	return enter(d, id, life, false);
}

struct cache *cache_enter_to_free(struct domain *d, uint32_t id)
{
	return enter(d, id, 0, true);
}

struct cache *cache_enter_name(struct domain *d, const char *name)
{
	uint64_t life = 0;
	uint32_t id = 0;

	{
		LOCK_SCOPED(&d->caches->lock);
		struct kmem_cache *k = kmem_cache_find(d->slabs, name);

		if (k) {
			id = kmem_cache_id(k);
			life = kmem_cache_life(k);
		}
	}
	return id ? cache_enter(d, id, life) : NULL;
}

void cache_leave(struct cache *c)
{
	/* seq_cst: pairs with the loads in cache_end.c; what was done inside is before it */
	atomic_fetch_sub_explicit(&c->inside, 1, memory_order_seq_cst);
}

struct cache *cache_by_id(struct domain *d, uint32_t id)
{
	return id && id < d->caches->n ? &d->caches->cache[id] : NULL;
}

/* ---- counts ---- */

uint32_t cache_total(struct domain *d)
{
	struct cache_table *t = d->caches;
	/* acquire: pairs with cache_begin() */
	uint32_t end = atomic_load_explicit(&t->end, memory_order_acquire), id, n = 0;

	for (id = 1; id < end; id++)
		n += cache_state(&t->cache[id]) != CACHE_NONE;
	return n;
}

uint32_t cache_count_of(struct domain *d, uint32_t session)
{
	struct cache_table *t = d->caches;
	LOCK_SCOPED(&t->lock);

	return t->open[session];
}

/* ---- checking ---- */

__attribute__((format(printf, 3, 4))) static size_t finding(mm_report_fn report, void *ctx,
                                                            const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	report(ctx, text);
	return 1;
}

/* Adds what is recorded to open[session]. */
static size_t validate_users(const struct cache_table *t, const struct cache *c, uint32_t open[],
                             mm_report_fn report, void *ctx)
{
	uint32_t users = atomic_load_explicit(&c->users, memory_order_relaxed), n = 0, id;
	size_t findings = 0;

	for (id = 1; id < t->d->control.geometry.sessions; id++) {
		if (!cache_is_user(t, c, id))
			continue;
		n++;
		open[id]++;
		if (!session_known(t->d, id))
			findings += finding(report, ctx,
			                    "cache %u: session %u, which is none, has it open",
			                    c->id, id);
	}
	if (n != users)
		findings += finding(report, ctx, "cache %u: %u users are counted, %u recorded",
		                    c->id, users, n);
	return findings;
}

static size_t validate_one(const struct cache_table *t, const struct cache *c, uint32_t open[],
                           mm_report_fn report, void *ctx)
{
	const struct control_cache *v = &t->d->control.cache[c->id];
	const struct kmem_cache *k = kmem_cache_by_id(t->d->slabs, c->id);
	uint64_t life = atomic_load_explicit(&v->life, memory_order_relaxed);
	struct control_cache w;
	size_t findings = 0;

	if (!k || cache_state(c) == CACHE_NONE) {
		if (k || cache_state(c) != CACHE_NONE)
			return finding(report, ctx, "cache %u is known to one half only", c->id);
		if (life)
			return finding(report, ctx, "cache %u is gone but still shown", c->id);
		return 0;
	}
	w = *v;
	view_fill(&w, kmem_cache_record(k));
	if (life != kmem_cache_life(k) || memcmp(v, &w, sizeof(w)) != 0)
		findings = finding(report, ctx, "cache %u is not shown as it is recorded", c->id);
	return findings + validate_users(t, c, open, report, ctx);
}

size_t cache_validate(struct domain *d, mm_report_fn report, void *ctx)
{
	struct cache_table *t = d->caches;
	LOCK_SCOPED(&t->lock);
	uint32_t sessions = d->control.geometry.sessions, id;
	uint32_t *open = calloc(sessions, sizeof(*open));
	size_t findings = 0;

	if (!open)
		return finding(report, ctx, "caches: no memory to check them");
	for (id = 1; id < t->n; id++)
		findings += validate_one(t, &t->cache[id], open, report, ctx);
	for (id = 1; id < sessions; id++)
		if (open[id] != t->open[id])
			findings += finding(report, ctx,
			                    "session %u: %u open caches are counted, %u recorded", id,
			                    t->open[id], open[id]);
	free(open);
	return findings;
}

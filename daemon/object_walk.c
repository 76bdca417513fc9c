/* SPDX-License-Identifier: MIT */
/*
 * Walks over objects: collecting what is marked RETURNED, withdrawing what was never claimed, the
 * sweep of a session that ended, and counting.
 *
 * What a session may have lies in slabs whose bit is set in its slab bits: by the daemon before it
 * offers, by the client before it adopts or takes. A walk for one session looks at these slabs
 * alone, and of the bits (a page for 32 Ki frames, sparse) only at what was ever written:
 *
 *     slab bits      ....1..1........          SEEK_DATA skips what was never touched
 *                        |  +------------> slab_walk_one() -> words of its objects
 *                        +---------------> no slab any more: nothing
 *
 * So the end of a session costs what it touched in its life, not what the pool has. Each word that
 * is to be changed is handled as object.c says: read, found by private truth, exchanged. Whoever
 * adopts first wins, and the sweep's exchange fails; whoever comes later fails.
 *
 * The bits go when all words are done. A daemon that dies in between sweeps again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/object.h"
#include "daemon/pool.h"

#define SWEEP_RACES_MAX 64 /* a member that scribbles without end spoils its own domain only */

/* ---- a session's slabs ---- */

/* The next part of the session's bits, in bytes from their begin, that may not be all zero. */
static bool next_extent(const struct domain *d, uint32_t session, size_t *from, size_t *to)
{
	const uint8_t *bits = (const uint8_t *)control_slab_bits(&d->control, session);
	off_t base = bits - (const uint8_t *)d->control.word, data, hole;
	size_t size = d->control.geometry.frames / 8;
	int fd = d->kmmd->pool->words_fd;

	if (*from >= size)
		return false;
	*to = size;
	if (fd < 0)
		return true;
	data = lseek(fd, base + (off_t)*from, SEEK_DATA);
	if (data < 0)
		return errno != ENXIO; /* what cannot tell is looked at */
	if (data >= base + (off_t)size)
		return false;
	hole = lseek(fd, data, SEEK_HOLE);
	*from = (size_t)(data - base) & ~(size_t)7;
	if (hole > data && hole < base + (off_t)size)
		*to = ((size_t)(hole - base) + 7) & ~(size_t)7;
	return true;
}

/* Frames are a multiple of 64. False: nothing was ever written there. */
static bool for_each_word(struct domain *d, uint32_t session,
                          void (*fn)(void *ctx, _Atomic uint64_t *word, pfn_t first), void *ctx)
{
	_Atomic uint64_t *bits = control_slab_bits(&d->control, session);
	size_t from = 0, to, i;
	bool any = false;

	for (; next_extent(d, session, &from, &to); from = to) {
		any = true;
		for (i = from / 8; i < to / 8; i++)
			/* acquire: pairs with the release of who set a bit before it took */
			if (atomic_load_explicit(&bits[i], memory_order_acquire))
				fn(ctx, &bits[i], (pfn_t)(i * 64));
	}
	return any;
}

struct session_walk {
	struct domain *d;
	slab_walk_fn fn;
	void *ctx;
};

static void walk_word(void *ctx, _Atomic uint64_t *word, pfn_t first)
{
	struct session_walk *k = ctx;
	uint64_t bits = atomic_load_explicit(word, memory_order_acquire);

	for (; bits; bits &= bits - 1)
		slab_walk_one(k->d->slabs, first + (pfn_t)__builtin_ctzll(bits), k->fn, k->ctx);
}

static void walk_session(struct domain *d, uint32_t session, slab_walk_fn fn, void *ctx)
{
	struct session_walk k = { .d = d, .fn = fn, .ctx = ctx };

	for_each_word(d, session, walk_word, &k);
}

/* Objects of one session, of a cache, or all. */
static void walk(struct domain *d, struct session *s, const struct cache *c, slab_walk_fn fn,
                 void *ctx)
{
	if (s)
		walk_session(d, s->id, fn, ctx);
	else
		slab_walk(d->slabs, c ? c->slab : NULL, fn, ctx);
}

static uint32_t stride_of(const struct slab_object *o)
{
	return kmem_cache_geometry(o->cache)->stride;
}

/* ---- taking back ---- */

struct taking {
	struct domain *d;
	struct session *s; /* NULL: anybody */
	struct cache *only;
	struct object_batch batch;
};

static uint64_t take_run(struct taking *k, slab_walk_fn fn, uint32_t cpu)
{
	object_batch_init(&k->batch, k->d, cpu);
	walk(k->d, k->s, k->only, fn, k);
	object_batch_end(&k->batch);
	return k->batch.objects;
}

static enum grant_back take(struct taking *k, const struct slab_object *o, uint64_t w,
                            bool keep_constructed)
{
	struct slab_object at;
	enum grant_back result;

	if (!object_batch_find(&k->batch, o->address, &at) || at.word != o->word)
		return GRANT_BACK_CHANGED;
	result = object_batch_take_back(&k->batch, &at, w, keep_constructed);
	if (result == GRANT_BACK_FREED || result == GRANT_BACK_KEPT)
		charge_drop_objects(k->d, owner_kind(w) == OWNER_MAGAZINE ? 0 : owner_id(w),
		                    stride_of(&at));
	return result;
}

static void collect_one(void *ctx, const struct slab_object *o, bool out)
{
	struct taking *k = ctx;
	uint64_t w;

	if (!out || (k->only && o->cache != k->only->slab))
		return;
	w = owner_load(object_word(k->d, o));
	if (owner_kind(w) == OWNER_RETURNED && (!k->s || owner_id(w) == k->s->id))
		take(k, o, w, true);
}

uint64_t object_collect(struct domain *d, struct session *s, struct cache *only, uint32_t cpu)
{
	struct taking k = { .d = d, .s = s, .only = only };

	return take_run(&k, collect_one, cpu);
}

static void withdraw_one(void *ctx, const struct slab_object *o, bool out)
{
	struct taking *k = ctx;
	uint64_t w;

	if (!out)
		return;
	w = owner_load(object_word(k->d, o));
	if (owner_is(w, OWNER_OFFERED, k->s->id))
		take(k, o, w, true);
}

uint64_t object_withdraw_all(struct domain *d, struct session *s)
{
	struct taking k = { .d = d, .s = s };

	return take_run(&k, withdraw_one, MM_CPU_NONE);
}

/* ---- sweep ---- */

static void sweep_one(void *ctx, const struct slab_object *o, bool out)
{
	struct taking *k = ctx;
	owner_word_t *word = object_word(k->d, o);
	uint64_t w = owner_load(word);
	unsigned int race;

	for (race = 0; race < SWEEP_RACES_MAX && grant_holder_of(k->d, w) == k->s->id; race++) {
		if (!out) {
			/* nothing was given from there: somebody wrote it */
			domain_damage(k->d,
			              "the owner word of a free object at %#" PRIx64
			              " said %u of %u",
			              o->address, (unsigned int)owner_kind(w), owner_id(w));
			owner_cas(word, &w, owner_reborn(w, OWNER_FREE, 0));
			return;
		}
		if (take(k, o, w, false) != GRANT_BACK_CHANGED)
			return;
		w = owner_load(word);
	}
}

static void clear_word(void *ctx, _Atomic uint64_t *word, pfn_t first)
{
	(void)ctx;
	(void)first;
	/* relaxed: the session's record, freed after this with release, covers it */
	atomic_store_explicit(word, 0, memory_order_relaxed);
}

uint64_t object_sweep(struct domain *d, struct session *s)
{
	struct taking k = { .d = d, .s = s };
	uint64_t objects = take_run(&k, sweep_one, MM_CPU_NONE);
	unsigned int i;

	if (for_each_word(d, s->id, clear_word, NULL))
		pool_slab_bits_close(d->kmmd->pool, s->id);
	/* relaxed: as above */
	for (i = 0; i < sizeof(s->slab_pages) / sizeof(s->slab_pages[0]); i++)
		atomic_store_explicit(&s->slab_pages[i], 0, memory_order_relaxed);
	charge_set_objects(s, 0, 0);
	atomic_store_explicit(&s->object_bytes_low, false, memory_order_relaxed);
	return objects;
}

/* ---- counting ---- */

struct recount {
	struct domain *d;
	uint32_t session;
	int64_t objects, bytes;
	uint32_t other; /* that has some of the slabs' objects too; the last that was told */
};

static void recount_one(void *ctx, const struct slab_object *o, bool out)
{
	struct recount *r = ctx;

	if (!out || grant_holder_of(r->d, owner_load(object_word(r->d, o))) != r->session)
		return;
	r->objects++;
	r->bytes += stride_of(o);
}

static void note_other(void *ctx, const struct slab_object *o, bool out)
{
	struct recount *r = ctx;
	uint32_t id = out ? grant_holder_of(r->d, owner_load(object_word(r->d, o))) : 0;
	struct session *s;

	if (!id || id == r->session || id == r->other)
		return;
	r->other = id;
	s = session_by_id(r->d->kmmd->sessions, id);
	if (!s || !session_enter(s))
		return;
	if (charge_limited(s))
		atomic_store_explicit(&s->object_bytes_low, true, memory_order_relaxed);
	session_leave(s);
}

void object_recount(struct domain *d, struct session *s)
{
	struct recount r = { .d = d, .session = s->id };
	int64_t was = atomic_load_explicit(&s->objects, memory_order_relaxed);

	/* relaxed: an estimate; what comes and goes meanwhile is off by itself */
	atomic_store_explicit(&s->object_bytes_low, false, memory_order_relaxed);
	walk_session(d, s->id, recount_one, &r);
	charge_set_objects(s, r.objects, r.bytes);
	if (r.objects < was)
		walk_session(d, s->id, note_other, &r);
}

/* Sums by session and cache: a hash of what there is. Words are what members make of them, so it is
 * bounded: twice what 1,000 sessions make that use 1,000 caches each. */
#define TALLY_MAX (UINT32_C(1) << 22)

struct tally {
	uint32_t session, cache; /* cache 0: unused */
	struct object_count n;
};

struct census {
	struct domain *d;
	uint32_t only, sessions;
	const struct kmem_cache *cache;
	struct tally *tally;
	size_t size, used; /* size: a power of two */
	struct tally *last; /* objects of one session come in runs */
	bool failed;
};

static struct tally *tally_at(struct tally *t, size_t size, uint32_t session, uint32_t cache)
{
	size_t i = (session * UINT32_C(2654435761) ^ cache * UINT32_C(2246822519)) & (size - 1);

	while (t[i].cache && (t[i].session != session || t[i].cache != cache))
		i = (i + 1) & (size - 1);
	return &t[i];
}

static bool tally_grow(struct census *c)
{
	size_t size = c->size ? c->size * 2 : 256, i;
	struct tally *t = size <= TALLY_MAX ? calloc(size, sizeof(*t)) : NULL;

	if (!t)
		return false;
	for (i = 0; i < c->size; i++)
		if (c->tally[i].cache)
			*tally_at(t, size, c->tally[i].session, c->tally[i].cache) = c->tally[i];
	free(c->tally);
	c->tally = t;
	c->size = size;
	c->last = NULL;
	return true;
}

static struct tally *tally_find(struct census *c, uint32_t session, uint32_t cache)
{
	if (c->last && c->last->session == session && c->last->cache == cache)
		return c->last;
	if (c->used >= c->size / 2 && !tally_grow(c)) {
		c->failed = true;
		return NULL;
	}
	c->last = tally_at(c->tally, c->size, session, cache);
	if (!c->last->cache) {
		c->last->session = session;
		c->last->cache = cache;
		c->used++;
	}
	return c->last;
}

static void census_one(void *ctx, const struct slab_object *o, bool out)
{
	struct census *c = ctx;
	struct tally *t;
	uint64_t w;
	uint32_t id;

	if (!out || (c->cache && o->cache != c->cache))
		return;
	w = owner_load(object_word(c->d, o));
	id = grant_holder_of(c->d, w);
	if ((owner_kind(w) != OWNER_HELD && owner_kind(w) != OWNER_OFFERED &&
	     owner_kind(w) != OWNER_RETURNED && owner_kind(w) != OWNER_MAGAZINE) ||
	    (c->only && id != c->only))
		return;
	t = tally_find(c, id < c->sessions ? id : 0, kmem_cache_id(o->cache));
	if (!t)
		return;
	if (owner_kind(w) == OWNER_RETURNED) {
		t->n.returned++;
	} else if (owner_kind(w) == OWNER_MAGAZINE) {
		t->n.moving++;
	} else {
		t->n.objects++;
		t->n.bytes += stride_of(o);
	}
}

int object_census(struct domain *d, struct session *only, struct cache *cache, object_count_fn fn,
                  void *ctx)
{
	struct census c = { .d = d,
		            .only = only ? only->id : 0,
		            .sessions = session_table_size(d->kmmd->sessions),
		            .cache = cache ? cache->slab : NULL };
	size_t i;

	walk(d, only, cache, census_one, &c);
	for (i = 0; i < c.size && !c.failed; i++)
		if (c.tally[i].cache)
			fn(ctx, c.tally[i].session, cache_by_id(d, c.tally[i].cache),
			   &c.tally[i].n);
	free(c.tally);
	return c.failed ? -ENOMEM : 0;
}

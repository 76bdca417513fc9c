/* SPDX-License-Identifier: MIT */
/*
 * The cross-check of objects: owner words against the slab layer's out bits, sessions, magazines
 * and holders. As in domain_validate.c the reactors stand still and clients do not, so each word is
 * read once and judged by itself; whatever clients do by one legal exchange gives no finding.
 *
 *     object out  <=>  word not FREE
 *     word names a session: it is one, and its slab bits have the slab; a magazine: it is full or
 * lent
 *     KEPT  <=>  the holder table has entries of that life of the object
 *
 * The slab layer's own structures are slab_validate()'s, caches and their views cache_validate()'s,
 * full magazines domain_validate.c's. O(objects).
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "daemon/depot.h"
#include "daemon/holder.h"
#include "daemon/object.h"

struct check {
	struct domain *d;
	uint32_t *naming;
	mm_report_fn report;
	void *ctx;
	size_t findings;
};

__attribute__((format(printf, 3, 4))) static void finding(struct check *c,
                                                          const struct slab_object *o,
                                                          const char *fmt, ...)
{
	char text[160], line[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(line, sizeof(line), "the object at %#" PRIx64 " of cache %s %s", o->address,
	         kmem_cache_record(o->cache)->name, text);
	c->report(c->ctx, line);
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

static void check_session(struct check *c, const struct slab_object *o, uint32_t id)
{
	const _Atomic uint64_t *bits;

	if (!session_exists(c, id)) {
		finding(c, o, "is said to be of session %u, which there is not", id);
		return;
	}
	bits = control_slab_bits(&c->d->control, id);
	/* acquire: pairs with the release of who set it before it took the object */
	if (!(atomic_load_explicit(&bits[o->head / 64], memory_order_acquire) >> o->head % 64 & 1))
		finding(c, o, "is session %u's, whose slab bits do not say so", id);
}

static void check_magazine(struct check *c, const struct slab_object *o, uint32_t m)
{
	magazine_id_t at = { m };

	if (m >= depot_size(c->d->depot)) {
		finding(c, o, "names magazine %u of %u", m, depot_size(c->d->depot));
		return;
	}
	c->naming[m]++;
	if (!depot_is_lent(c->d->depot, at) && !depot_rounds(c->d->depot, at))
		finding(c, o, "names magazine %u, which is neither full nor lent", m);
}

static void check_kept(struct check *c, const struct slab_object *o, uint64_t w)
{
	uint32_t n = 0;

	/* The table is asked only where something speaks for entries: most objects have none.
	 * Entries without KEPT are found from their side. */
	if ((w & OWNER_KEPT) || owner_is(w, OWNER_HELD, 0))
		n = holder_count(c->d->holders, object_granule(c->d, o), owner_generation(w));
	if (!n && (w & OWNER_KEPT))
		finding(c, o, "says KEPT but nobody holds it");
	if (!n && owner_is(w, OWNER_HELD, 0))
		finding(c, o, "has neither owner nor holders");
}

static void check_one(void *ctx, const struct slab_object *o, bool out)
{
	struct check *c = ctx;
	/* acquire: pairs with the grant's and the clients' releases */
	uint64_t w = owner_load(object_word(c->d, o));

	if (!out) {
		if (owner_kind(w) != OWNER_FREE)
			finding(c, o, "is free but its word says kind %u, owner %u",
			        (unsigned int)owner_kind(w), owner_id(w));
		return;
	}
	switch (owner_kind(w)) {
	case OWNER_FREE:
		finding(c, o, "is out but its word says FREE");
		return;
	case OWNER_OFFERED:
	case OWNER_HELD:
	case OWNER_RETURNED:
		if (!owner_is(w, OWNER_HELD, 0))
			check_session(c, o, owner_id(w));
		break;
	case OWNER_MAGAZINE:
		check_magazine(c, o, owner_id(w));
		break;
	default:
		finding(c, o, "has a word of kind %u", (unsigned int)owner_kind(w));
		return;
	}
	check_kept(c, o, w);
}

static void check_holder(void *ctx, uint32_t session, uint32_t granule, uint64_t generation)
{
	struct check *c = ctx;
	struct thing t;
	uint64_t w;

	if (!thing_granule_ok(c->d, granule) || !thing_find(c->d, granule, &t) || !t.is_object)
		return;
	w = owner_load(t.word);
	if (owner_generation(w) == generation && !(w & OWNER_KEPT))
		finding(c, &t.object, "is held by session %u but its word does not say KEPT",
		        session);
}

size_t object_validate(struct domain *d, uint32_t naming[], mm_report_fn report, void *ctx)
{
	struct check c = { .d = d, .naming = naming, .report = report, .ctx = ctx };

	slab_walk(d->slabs, NULL, check_one, &c);
	holder_for_each(d->holders, check_holder, &c);
	return c.findings;
}

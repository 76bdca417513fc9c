/* SPDX-License-Identifier: MIT */
/*
 * Metrics of slabs, caches and magazines.
 *
 * Caches: the CACHES_MAX with most memory in slabs, of those that ever had any, by name; of two with one
 * name, which there can be while one ends and the next begins, the newer. How many there are in all is a
 * metric of its own.
 *
 * Magazines: what threads were given and gave back, by layer (traffic.h), and how many lie where.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/cache.h"
#include "daemon/depot.h"
#include "daemon/domain.h"
#include "daemon/kmmd.h"
#include "daemon/metrics_writer.h"
#include "daemon/name.h"
#include "daemon/rack.h"
#include "daemon/traffic.h"
#include "mm/slab.h"

#define CACHES_MAX 100u

struct cache_picture {
	struct kmem_cache_stats stats;
	uint64_t slab_bytes, reports;
	uint32_t order_of_creation; /* 0: the newest */
	uint32_t objects;           /* a slab */
	uint32_t users, size;
	char name[64];
};

struct caches {
	struct cache_picture *cache;
	uint32_t n, room;
};

static void picture_take(struct cache_picture *p, const struct cache *c)
{
	const struct cache_record *record = kmem_cache_record(c->slab);

	kmem_cache_stats(c->slab, &p->stats);
	memcpy(p->name, record->name, sizeof(p->name));
	p->name[sizeof(p->name) - 1] = '\0';
	p->size = record->geometry.size;
	p->objects = record->geometry.objects;
	p->slab_bytes = p->stats.slabs << (record->geometry.order + PAGE_SHIFT);
	/* relaxed, both: for a report */
	p->reports = atomic_load_explicit(&c->reports, memory_order_relaxed);
	p->users = atomic_load_explicit(&c->users, memory_order_relaxed);
}

static bool caches_take(struct caches *l, struct domain *d)
{
	uint64_t last = UINT64_MAX;
	struct kmem_cache *k;

	l->n = 0;
	l->room = cache_total(d) + 16; /* some may come meanwhile; who comes later waits */
	l->cache = calloc(l->room, sizeof(l->cache[0]));
	if (!l->cache)
		return false;
	for (k = kmem_cache_next(d->slabs, NULL); k && l->n < l->room;
	     k = kmem_cache_next(d->slabs, k)) {
		uint64_t life = kmem_cache_life(k);
		struct cache *c;

		/* Not older than the last: its place was taken by a new one meanwhile. */
		if (life >= last)
			continue;
		last = life;
		c = cache_enter(d, kmem_cache_id(k), life);
		if (!c)
			continue;
		picture_take(&l->cache[l->n], c);
		l->cache[l->n].order_of_creation = l->n;
		l->n++;
		cache_leave(c);
	}
	return true;
}

static int by_name(const void *a, const void *b)
{
	const struct cache_picture *x = a, *y = b;
	int r = strcmp(x->name, y->name);

	if (r)
		return r;
	return (x->order_of_creation > y->order_of_creation) -
	       (x->order_of_creation < y->order_of_creation);
}

static int by_size(const void *a, const void *b)
{
	const struct cache_picture *x = a, *y = b;

	if (x->slab_bytes != y->slab_bytes)
		return x->slab_bytes < y->slab_bytes ? 1 : -1;
	return strcmp(x->name, y->name);
}

/* The largest ones, each name once; not those that never had a slab. */
static void caches_choose(struct caches *l)
{
	uint32_t i, n = 0;

	if (l->n == 0)
		return;
	qsort(l->cache, l->n, sizeof(l->cache[0]), by_name);
	for (i = 0; i < l->n; i++) {
		const struct cache_picture *c = &l->cache[i];

		if ((c->stats.slabs || c->stats.grown) &&
		    (n == 0 || strcmp(c->name, l->cache[n - 1].name) != 0))
			l->cache[n++] = *c;
	}
	qsort(l->cache, n, sizeof(l->cache[0]), by_size);
	l->n = n < CACHES_MAX ? n : CACHES_MAX;
}

static uint64_t objects_out(const struct cache_picture *p)
{
	uint64_t all = p->stats.slabs * p->objects;

	return p->stats.objects_out < all ? p->stats.objects_out : all;
}

enum cache_metric { OBJECTS_OUT, OBJECTS, OBJECT_BYTES, SLAB_BYTES, USERS, GROWN, REAPED, REPORTS };

static uint64_t cache_value(const struct cache_picture *p, enum cache_metric what)
{
	switch (what) {
	case OBJECTS_OUT:
		return objects_out(p);
	case OBJECTS:
		return p->stats.slabs * p->objects;
	case OBJECT_BYTES:
		return p->size;
	case SLAB_BYTES:
		return p->slab_bytes;
	case USERS:
		return p->users;
	case GROWN:
		return p->stats.grown;
	case REAPED:
		return p->stats.reaped;
	case REPORTS:
		return p->reports;
	}
	return 0;
}

static void write_caches(struct metrics_writer *w, struct domain *d)
{
	static const struct {
		enum cache_metric what;
		enum metrics_type type;
		const char *name, *unit, *help;
	} metric[] = {
		{ OBJECTS_OUT, METRICS_GAUGE, "kmmd_cache_objects_out", "",
		  "Objects that are not in their slabs: with sessions, in magazines, in the depot." },
		{ OBJECTS, METRICS_GAUGE, "kmmd_cache_objects", "",
		  "Objects that the cache's slabs have room for." },
		{ OBJECT_BYTES, METRICS_GAUGE, "kmmd_cache_object_size_bytes", "bytes",
		  "Size of an object, as it was asked for." },
		{ SLAB_BYTES, METRICS_GAUGE, "kmmd_cache_slab_bytes", "bytes",
		  "Memory of the cache's slabs." },
		{ USERS, METRICS_GAUGE, "kmmd_cache_sessions", "",
		  "Sessions that have the cache open." },
		{ GROWN, METRICS_COUNTER, "kmmd_cache_slabs_grown", "", "Slabs that were made." },
		{ REAPED, METRICS_COUNTER, "kmmd_cache_slabs_reaped", "",
		  "Slabs that were given back." },
		{ REPORTS, METRICS_COUNTER, "kmmd_cache_findings", "",
		  "Overruns, uses after free, double and foreign frees that clients reported." },
	};
	struct caches l;
	uint32_t i, m;

	if (!caches_take(&l, d)) {
		w->failed = true;
		return;
	}
	metrics_family(w, METRICS_GAUGE, "kmmd_caches", "",
	               "Caches that there are. Those with most memory have metrics of their own.");
	metrics_u64(w, cache_total(d), METRICS_NO_LABELS);
	caches_choose(&l);
	for (m = 0; m < sizeof(metric) / sizeof(metric[0]); m++) {
		metrics_family(w, metric[m].type, metric[m].name, metric[m].unit, metric[m].help);
		for (i = 0; i < l.n; i++)
			metrics_u64(w, cache_value(&l.cache[i], metric[m].what), "cache=\"%s\"",
			            metrics_label(l.cache[i].name).text);
	}
	free(l.cache);
}

static void write_slabs(struct metrics_writer *w, struct domain *d)
{
	uint64_t all = slab_frames(d->slabs), some = slab_frames_reclaimable(d->slabs);

	metrics_family(w, METRICS_GAUGE, "kmmd_slab_bytes", "bytes",
	               "Memory in slabs, by whether their caches have SLAB_RECLAIM_ACCOUNT.");
	metrics_u64(w, (some < all ? some : all) << PAGE_SHIFT, "reclaimable=\"yes\"");
	metrics_u64(w, (some < all ? all - some : 0) << PAGE_SHIFT, "reclaimable=\"no\"");
	metrics_family(w, METRICS_GAUGE, "kmmd_names", "", "Published names.");
	metrics_u64(w, name_total(d->names), METRICS_NO_LABELS);
}

/* ---- magazines ---- */

static const struct {
	enum traffic_way way;
	const char *kind, *layer;
	bool back;
} traffic[] = {
	{ TRAFFIC_PAGES_FROM_DEPOT, "pages", "depot", false },
	{ TRAFFIC_PAGES_FROM_ZONES, "pages", "zones", false },
	{ TRAFFIC_OBJECTS_FROM_RACK, "objects", "rack", false },
	{ TRAFFIC_OBJECTS_FROM_DEPOT, "objects", "depot", false },
	{ TRAFFIC_OBJECTS_FROM_SLABS, "objects", "slabs", false },
	{ TRAFFIC_PAGES_TO_DEPOT, "pages", "depot", true },
	{ TRAFFIC_PAGES_TO_ZONES, "pages", "zones", true },
	{ TRAFFIC_OBJECTS_TO_RACK, "objects", "rack", true },
	{ TRAFFIC_OBJECTS_TO_DEPOT, "objects", "depot", true },
	{ TRAFFIC_OBJECTS_TO_SLABS, "objects", "slabs", true },
};
_Static_assert(sizeof(traffic) / sizeof(traffic[0]) == TRAFFIC_WAYS, "all of them");

static void write_ways(struct metrics_writer *w, const uint64_t n[TRAFFIC_WAYS], bool back,
                       const char *name, const char *help)
{
	uint32_t i;

	metrics_family(w, METRICS_COUNTER, name, "", help);
	for (i = 0; i < TRAFFIC_WAYS; i++)
		if (traffic[i].back == back)
			metrics_u64(w, n[traffic[i].way], "kind=\"%s\",layer=\"%s\"",
			            traffic[i].kind, traffic[i].layer);
}

static void write_traffic(struct metrics_writer *w, const struct domain *d)
{
	struct traffic_sum sum;

	traffic_sum(d, &sum);
	write_ways(w, sum.magazines, false, "kmmd_magazines_taken",
	           "Magazines that threads were given, by the layer that had them. A thread asks "
	           "when its own two are empty; those of the rack threads count themselves.");
	write_ways(w, sum.rounds, false, "kmmd_magazine_rounds_taken",
	           "Pages or objects in them. 1 - magazines / rounds is the least that the threads' "
	           "own hit rate can be.");
	write_ways(w, sum.magazines, true, "kmmd_magazines_given",
	           "Magazines that threads gave back, by the layer that has them now.");
	write_ways(w, sum.rounds, true, "kmmd_magazine_rounds_given", "Pages or objects in them.");
}

static void write_stock(struct metrics_writer *w, const struct domain *d)
{
	struct rack_count *racked = calloc(CONTROL_CACHES_MAX, sizeof(*racked)), in_rack = { 0 };
	struct depot_count pages = { 0 }, objects = { 0 };
	unsigned int class, i;

	if (!racked) {
		w->failed = true;
		return;
	}
	rack_count(d, racked);
	for (i = 0; i < CONTROL_CACHES_MAX; i++) {
		in_rack.magazines += racked[i].magazines;
		in_rack.rounds += racked[i].rounds;
	}
	free(racked);
	for (class = 0; class < depot_classes(d->depot); class++) {
		struct depot_count *to = class < PAGE_CLASSES ? &pages : &objects, n;

		depot_count(d->depot, class, &n);
		to->full += n.full;
		to->rounds += n.rounds;
	}
	metrics_family(w, METRICS_GAUGE, "kmmd_magazines", "", "Full magazines that lie there.");
	metrics_u64(w, pages.full, "kind=\"pages\",layer=\"depot\"");
	metrics_u64(w, objects.full, "kind=\"objects\",layer=\"depot\"");
	metrics_u64(w, in_rack.magazines, "kind=\"objects\",layer=\"rack\"");
	metrics_family(w, METRICS_GAUGE, "kmmd_magazine_rounds", "", "Pages or objects in them.");
	metrics_u64(w, pages.rounds, "kind=\"pages\",layer=\"depot\"");
	metrics_u64(w, objects.rounds, "kind=\"objects\",layer=\"depot\"");
	metrics_u64(w, in_rack.rounds, "kind=\"objects\",layer=\"rack\"");
	metrics_family(w, METRICS_GAUGE, "kmmd_magazines_max", "",
	               "Magazines that there are in all, empty ones and those of threads included.");
	metrics_u64(w, depot_size(d->depot), METRICS_NO_LABELS);
	metrics_family(w, METRICS_GAUGE, "kmmd_depot_bytes", "bytes",
	               "Memory in the depot's full magazines.");
	metrics_u64(w, depot_frames(d->depot) << PAGE_SHIFT, METRICS_NO_LABELS);
}

void metrics_write_caches(struct metrics_writer *w, struct kmmd *k)
{
	write_slabs(w, k->domain);
	write_caches(w, k->domain);
	write_traffic(w, k->domain);
	write_stock(w, k->domain);
}

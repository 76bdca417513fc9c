/* SPDX-License-Identifier: MIT */
/*
 * ListCaches: slabinfo, newest cache first.
 *
 * The worker takes a picture of all caches, so that the list is one of a moment, and its numbers fit
 * each other: what is active and what the depot has are no more than there are objects. The list
 * leaves in slices, as that of the sessions (service_sessions.c).
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/cache.h"
#include "daemon/depot.h"
#include "daemon/rack.h"
#include "daemon/service.h"
#include "proto/kmm.pb-c.h"


struct cache_picture {
	struct cache_record record;
	struct kmem_cache_stats stats;
	struct depot_count depot; /* and what lies in the rack */
	uint64_t life, reports, exchanges;
	uint32_t id, users, rounds_max;
};

struct caches_call {
	struct service_job job; /* first */
	struct cache_picture *picture;
	uint32_t n, next;
	bool failed;
};

static void picture_take(struct cache_picture *p, struct cache *c, const struct rack_count *racked)
{
	p->id = c->id;
	p->life = kmem_cache_life(c->slab);
	p->record = *kmem_cache_record(c->slab);
	kmem_cache_stats(c->slab, &p->stats);
	depot_count_cache(c->d->depot, c->id, &p->depot);
	p->depot.full += racked->magazines;
	p->depot.rounds += racked->rounds;
	/* relaxed, all: counters for a report */
	p->users = atomic_load_explicit(&c->users, memory_order_relaxed);
	p->rounds_max = atomic_load_explicit(&c->rounds_max, memory_order_relaxed);
	p->reports = atomic_load_explicit(&c->reports, memory_order_relaxed);
	p->exchanges = atomic_load_explicit(&c->exchanges, memory_order_relaxed);
}

static void list_work(struct service_job *j)
{
	struct caches_call *l = (struct caches_call *)j;
	struct domain *d = j->kmmd->domain;
	uint32_t room = cache_total(d) + 16; /* some may come meanwhile; who comes later waits */
	uint64_t last = UINT64_MAX;
	struct rack_count *racked = calloc(CONTROL_CACHES_MAX, sizeof(*racked));
	struct kmem_cache *k;

	l->picture = calloc(room, sizeof(l->picture[0]));
	l->failed = !l->picture || !racked;
	if (!l->failed)
		rack_count(d, racked);
	for (k = kmem_cache_next(d->slabs, NULL); k && l->n < room && !l->failed;
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
		picture_take(&l->picture[l->n++], c, &racked[c->id]);
		cache_leave(c);
	}
	free(racked);
	service_job_done(j);
}

static uint64_t at_most(uint64_t n, uint64_t most)
{
	return n < most ? n : most;
}

static void item_fill(Kmm__V1__Cache *m, struct cache_picture *p)
{
	const struct slab_geometry *g = &p->record.geometry;
	const struct kmem_cache_stats *s = &p->stats;
	uint64_t out = at_most(s->objects_out, s->slabs * g->objects);

	kmm__v1__cache__init(m);
	m->id = p->id;
	m->name = p->record.name;
	m->size = g->size;
	m->stride = g->stride;
	m->align = g->align;
	m->flags = p->record.flags;
	m->ctor = p->record.ctor != 0;
	m->order = g->order;
	m->objects_per_slab = g->objects;
	m->shared_available = at_most(p->depot.rounds, out);
	m->active_objects = out - m->shared_available;
	m->objects = s->slabs * g->objects;
	m->active_slabs = at_most(s->slabs_partial + s->slabs_full, s->slabs);
	m->slabs = s->slabs;
	m->limit = p->rounds_max ? p->rounds_max : s->limit;
	m->batchcount = s->batchcount;
	m->shared = p->depot.full;
	m->users = p->users;
	m->reports = p->reports;
	m->created = p->record.created;
	m->per_cpu = s->in_cpu;
	m->exchanges = p->exchanges;
	m->words = g->words;
	m->grown = s->grown;
	m->reaped = s->reaped;
}

static void list_free(struct caches_call *l)
{
	free(l->picture);
	free(l);
}

static int list_send(struct service_job *j, uint32_t i)
{
	struct caches_call *l = (struct caches_call *)j;
	Kmm__V1__Cache item;

	item_fill(&item, &l->picture[i]);
	return rpc_pending_item(&j->pending, &item.base) ? 1 : -1;
}

static void list_reply(struct service_job *j)
{
	struct caches_call *l = (struct caches_call *)j;
	Kmm__V1__ListCachesRequest empty = KMM__V1__LIST_CACHES_REQUEST__INIT;

	if (service_job_list(j, &l->next, l->n, l->failed, list_send, &empty.base))
		list_free(l);
}

void service_list_caches(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__ListCachesRequest *q = (const Kmm__V1__ListCachesRequest *)request;
	struct caches_call *l;

	if (!service_domain_known(call, q->domain))
		return;
	l = service_census_start(call, sizeof(*l));
	if (l)
		service_job_start(call, &l->job, list_work, list_reply);
}

/* SPDX-License-Identifier: MIT */
/*
 * ListNames: what is published, what it is, and who has it.
 *
 * The worker takes the names one by one, so that publishing goes on meanwhile, looks up what each
 * leads to, and sorts them. The list leaves in slices, as that of the sessions
 * (service_sessions.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/cache.h"
#include "daemon/holder.h"
#include "daemon/name.h"
#include "daemon/object.h"
#include "daemon/service.h"
#include "proto/kmm.pb-c.h"


struct name_picture {
	struct name_about about;
	uint32_t cache, order, owner, holders;
	uint64_t bytes, life; /* life: of the cache */
	bool stale;
};

struct names_call {
	struct service_job job; /* first */
	struct name_picture *picture;
	uint32_t n, room, next;
	bool failed;
};

static void picture_object(struct name_picture *p, const struct thing *t)
{
	p->cache = kmem_cache_id(t->object.cache);
	p->life = kmem_cache_life(t->object.cache);
	p->bytes = kmem_cache_geometry(t->object.cache)->size;
}

/* What the name leads to at this moment. */
static void picture_take(struct name_picture *p, struct domain *d)
{
	struct mm_block b;
	struct thing t;
	uint64_t w;

	p->stale = true;
	if (!thing_find(d, p->about.granule, &t))
		return;
	w = owner_load(t.word);
	if (owner_generation(w) != p->about.generation)
		return;
	if (t.is_object) {
		picture_object(p, &t);
	} else {
		if (!mm_block_get(d->mm, t.pfn, &b))
			return;
		p->order = b.order;
		p->bytes = UINT64_C(1) << (PAGE_SHIFT + b.order);
	}
	p->stale = false;
	p->owner = owner_kind(w) == OWNER_HELD ? owner_id(w) : 0;
	p->holders = holder_count(d->holders, p->about.granule, p->about.generation) +
	             (p->owner != 0);
}

static bool picture_grow(struct names_call *c)
{
	uint32_t room = c->room ? c->room * 2 : 64;
	struct name_picture *more = reallocarray(c->picture, room, sizeof(*more));

	if (!more)
		return false;
	c->picture = more;
	c->room = room;
	return true;
}

static int by_name(const void *a, const void *b)
{
	const struct name_picture *x = a, *y = b;

	return strcmp(x->about.name, y->about.name);
}

static void list_work(struct service_job *j)
{
	struct names_call *c = (struct names_call *)j;
	struct domain *d = j->kmmd->domain;
	struct name_about about;
	uint32_t cursor = 0;

	while (!c->failed && name_next(d->names, &cursor, &about)) {
		if (c->n == c->room && !picture_grow(c)) {
			c->failed = true;
			break;
		}
		c->picture[c->n] = (struct name_picture){ .about = about };
		picture_take(&c->picture[c->n++], d);
	}
	if (c->n)
		qsort(c->picture, c->n, sizeof(c->picture[0]), by_name);
	service_job_done(j);
}

static void item_fill(Kmm__V1__Name *m, struct name_picture *p, struct domain *d, char cache[64])
{
	struct cache *c = p->cache ? cache_enter(d, p->cache, p->life) : NULL;

	snprintf(cache, 64, "%s", c ? kmem_cache_record(c->slab)->name : p->cache ? "(gone)" : "");
	if (c)
		cache_leave(c);
	kmm__v1__name__init(m);
	m->name = p->about.name;
	m->cache = cache;
	m->order = p->order;
	m->bytes = p->bytes;
	m->address = (uint64_t)p->about.granule << d->granule_shift;
	m->session = p->about.publisher;
	m->uid = p->about.uid;
	m->owner = p->owner;
	m->holders = p->holders;
	m->stale = p->stale;
}

static void list_free(struct names_call *c)
{
	free(c->picture);
	free(c);
}

static int list_send(struct service_job *j, uint32_t i)
{
	struct names_call *c = (struct names_call *)j;
	Kmm__V1__Name item;
	char cache[64];

	item_fill(&item, &c->picture[i], j->kmmd->domain, cache);
	return rpc_pending_item(&j->pending, &item.base) ? 1 : -1;
}

static void list_reply(struct service_job *j)
{
	struct names_call *c = (struct names_call *)j;
	Kmm__V1__ListNamesRequest empty = KMM__V1__LIST_NAMES_REQUEST__INIT;

	if (service_job_list(j, &c->next, c->n, c->failed, list_send, &empty.base))
		list_free(c);
}

void service_list_names(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__ListNamesRequest *q = (const Kmm__V1__ListNamesRequest *)request;
	struct names_call *c;

	if (!service_domain_known(call, q->domain))
		return;
	c = service_census_start(call, sizeof(*c));
	if (c)
		service_job_start(call, &c->job, list_work, list_reply);
}

/* SPDX-License-Identifier: MIT */
/*
 * ListLeaks: who holds how many objects of which cache, and how many page blocks, the session that
 * was opened first first; what nobody owns (things that only holders or names keep) at the end.
 *
 * What a thread merely caches of objects says HELD as what the program has, so the sessions are asked
 * before to give back what idle threads cache (flush.c). Whoever did not answer is told apart: cached
 * objects are among its numbers. Page blocks that threads cache say RETURNED and are not counted.
 *
 * The worker counts by walking all words of things that are out, once for blocks and once for
 * objects. What it found is a list of pairs of session and cache, no longer than there are objects.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/cache.h"
#include "daemon/object.h"
#include "daemon/service.h"
#include "proto/kmm.pb-c.h"


struct leak {
	uint64_t opened; /* UINT64_MAX: nobody's */
	uint32_t session, cache; /* cache 0: page blocks */
	uint64_t objects, bytes;
	uint64_t life; /* of the cache */
	bool flushed;
};

struct leaks_call {
	struct service_job job; /* first */
	bool *answered; /* by session: the FLUSH, before the words were looked at */
	struct leak *leak;
	uint32_t n, room, next;
	bool failed;
};

static void leak_add(struct leaks_call *l, struct leak k)
{
	struct session *s = session_by_id(l->job.kmmd->sessions, k.session);
	struct session_about a;

	if (l->n == l->room) {
		uint32_t room = l->room ? l->room * 2 : 256;
		struct leak *more = reallocarray(l->leak, room, sizeof(*more));

		l->failed |= !more;
		if (!more)
			return;
		l->leak = more;
		l->room = room;
	}
	k.opened = s && session_describe(s, &a) ? a.opened : UINT64_MAX;
	l->leak[l->n++] = k;
}

static void note_objects(void *ctx, uint32_t session, struct cache *c,
                         const struct object_count *n)
{
	struct leaks_call *l = ctx;

	if (n->objects)
		leak_add(l, (struct leak){ .session = session,
		                           .cache = c->id,
		                           .objects = n->objects,
		                           .bytes = n->bytes,
		                           .life = kmem_cache_life(c->slab),
		                           .flushed = l->answered[session] });
}

static void note_blocks(struct leaks_call *l)
{
	uint32_t size = session_table_size(l->job.kmmd->sessions), id;
	struct grant_count *count = calloc(size, sizeof(*count));
	unsigned int order;

	l->failed |= !count;
	if (!count)
		return;
	grant_census(l->job.kmmd->domain, count, size);
	for (id = 0; id < size; id++) {
		struct leak k = { .session = id,
			          .bytes = count[id].granted << PAGE_SHIFT,
			          .flushed = true };

		for (order = 0; order < NR_PAGE_ORDERS; order++)
			k.objects += count[id].blocks[order];
		if (k.objects)
			leak_add(l, k);
	}
	free(count);
}

/* By session, and of each what takes most first. */
static int before(const void *a, const void *b)
{
	const struct leak *x = a, *y = b;

	if (x->opened != y->opened)
		return x->opened < y->opened ? -1 : 1;
	if (x->session != y->session)
		return x->session < y->session ? -1 : 1;
	if (x->bytes != y->bytes)
		return x->bytes > y->bytes ? -1 : 1;
	return x->cache < y->cache ? -1 : x->cache > y->cache;
}

static void note_answers(struct leaks_call *l)
{
	struct session_table *t = l->job.kmmd->sessions;
	uint32_t size = session_table_size(t), id;

	l->answered = calloc(size, sizeof(l->answered[0]));
	l->failed |= !l->answered;
	if (!l->answered)
		return;
	l->answered[0] = true; /* what nobody owns no thread caches */
	for (id = 1; id < size; id++)
		l->answered[id] = flush_answered(session_by_id(t, id), l->job.flush.serial);
}

static void list_work(struct service_job *j)
{
	struct leaks_call *l = (struct leaks_call *)j;

	note_answers(l);
	note_blocks(l);
	if (!l->answered ||
	    object_census(j->kmmd->domain, NULL, NULL, note_objects, l) < 0)
		l->failed = true;
	if (l->n)
		qsort(l->leak, l->n, sizeof(l->leak[0]), before);
	service_job_done(j);
}

/* A message with its texts. */
struct leak_item {
	Kmm__V1__Leak m;
	struct session_about about;
	char state[32], cache[64];
};

static void item_fill(struct leak_item *i, const struct kmmd *k, const struct leak *l)
{
	struct session *s = session_by_id(k->sessions, l->session);
	struct cache *c;

	kmm__v1__leak__init(&i->m);
	i->cache[0] = '\0';
	if (l->cache) {
		c = cache_enter(k->domain, l->cache, l->life);
		snprintf(i->cache, sizeof(i->cache), "%s",
		         c ? kmem_cache_record(c->slab)->name : "(gone)");
		if (c)
			cache_leave(c);
	}
	if (s && session_describe(s, &i->about)) {
		snprintf(i->state, sizeof(i->state), "%s", session_state_name(i->about.state));
	} else {
		memset(&i->about, 0, sizeof(i->about));
		snprintf(i->state, sizeof(i->state), "%s", l->session ? "ended" : "holders");
	}
	i->m.session = l->session;
	i->m.name = i->about.name;
	i->m.pid = (uint32_t)i->about.pid;
	i->m.opened = i->about.opened;
	i->m.state = i->state;
	i->m.cache = i->cache;
	i->m.objects = l->objects;
	i->m.bytes = l->bytes;
	i->m.flushed = l->flushed;
}

static void list_free(struct leaks_call *l)
{
	free(l->answered);
	free(l->leak);
	free(l);
}

static int list_send(struct service_job *j, uint32_t i)
{
	struct leaks_call *l = (struct leaks_call *)j;
	struct leak_item item;

	item_fill(&item, j->kmmd, &l->leak[i]);
	return rpc_pending_item(&j->pending, &item.m.base) ? 1 : -1;
}

static void list_reply(struct service_job *j)
{
	struct leaks_call *l = (struct leaks_call *)j;
	Kmm__V1__ListLeaksRequest empty = KMM__V1__LIST_LEAKS_REQUEST__INIT;

	if (service_job_list(j, &l->next, l->n, l->failed, list_send, &empty.base))
		list_free(l);
}

/* The sessions have answered. */
static void list_flushed(struct service_job *j)
{
	service_job_submit(j, list_work);
}

void service_list_leaks(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__ListLeaksRequest *q = (const Kmm__V1__ListLeaksRequest *)request;
	struct leaks_call *l;

	if (!service_domain_known(call, q->domain))
		return;
	l = service_census_start(call, sizeof(*l));
	if (l && service_job_suspend(call, &l->job, list_reply))
		service_job_flush(&l->job, 0, list_flushed);
}

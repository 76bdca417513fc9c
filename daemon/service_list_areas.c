/* SPDX-License-Identifier: MIT */
/*
 * ListAreas: what processes say that they have put together of blocks: vmalloc areas, per-CPU
 * chunks, stacks.
 *
 * The worker copies the table (area.c) and sorts it by session and address. The list leaves in
 * slices, as that of the sessions (service_sessions.c). Addresses, which tell where other
 * processes have what, are for admins; others read 0, as in Linux's file.
 */
#include <stdlib.h>

#include "daemon/area.h"
#include "daemon/service.h"
#include "proto/kmm.pb-c.h"

struct areas_call {
	struct service_job job; /* first */
	struct area_about *area;
	uint32_t n, room, next;
	bool failed;
	bool addresses; /* are told: the caller is an admin */
};

static bool area_add(void *ctx, const struct area_about *a)
{
	struct areas_call *c = ctx;

	if (c->n == c->room) {
		uint32_t room = c->room ? c->room * 2 : 64;
		struct area_about *more = reallocarray(c->area, room, sizeof(*more));

		if (!more) {
			c->failed = true;
			return false;
		}
		c->area = more;
		c->room = room;
	}
	c->area[c->n++] = *a;
	return true;
}

static int by_place(const void *a, const void *b)
{
	const struct area_about *x = a, *y = b;

	if (x->session != y->session)
		return x->session < y->session ? -1 : 1;
	return (x->start > y->start) - (x->start < y->start);
}

static void list_work(struct service_job *j)
{
	struct areas_call *c = (struct areas_call *)j;

	area_each(j->kmmd->domain, area_add, c);
	if (c->n)
		qsort(c->area, c->n, sizeof(c->area[0]), by_place);
	service_job_done(j);
}

static int list_send(struct service_job *j, uint32_t i)
{
	struct areas_call *c = (struct areas_call *)j;
	struct area_about *a = &c->area[i];
	Kmm__V1__Area item = KMM__V1__AREA__INIT;
	uint64_t node_pages[8];
	size_t n;

	for (n = 0; n < 8; n++) {
		node_pages[n] = a->node_pages[n];
		if (node_pages[n])
			item.n_node_pages = n + 1;
	}
	item.session = a->session;
	item.kind = a->kind;
	item.start = c->addresses ? a->start : 0;
	item.size = a->size;
	item.pages = a->pages;
	item.used = a->used;
	item.node_pages = node_pages;
	item.caller = a->caller;
	return rpc_pending_item(&j->pending, &item.base) ? 1 : -1;
}

static void list_reply(struct service_job *j)
{
	struct areas_call *c = (struct areas_call *)j;
	Kmm__V1__ListAreasRequest empty = KMM__V1__LIST_AREAS_REQUEST__INIT;

	if (!service_job_list(j, &c->next, c->n, c->failed, list_send, &empty.base))
		return;
	free(c->area);
	free(c);
}

void service_list_areas(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__ListAreasRequest *q = (const Kmm__V1__ListAreasRequest *)request;
	struct areas_call *c;

	if (!service_domain_known(call, q->domain))
		return;
	c = service_census_start(call, sizeof(*c));
	if (!c)
		return;
	c->addresses = call->peer->admin;
	service_job_start(call, &c->job, list_work, list_reply);
}

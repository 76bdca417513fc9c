/* SPDX-License-Identifier: MIT */
/*
 * AllocBlocks: many pages at once, in blocks as large as there are.
 *
 * A process that lays blocks side by side in its address space (vmalloc areas, stacks) does not
 * care how large they are, only that they are few. So a grant is greedy: as many blocks of the
 * largest order as fit the request, then the next smaller one, down to order_min:
 *
 *     pages 21, orders 3 to 0:    8  8  4  1          fragmented:    8  2  2  1 1 1 1 1 1 1 1 1
 *
 * Only blocks of order_min are worth reserves, draining and, for those who may, waiting: larger
 * ones are taken where they lie. A reply names 512 blocks at most. It may be less than what was
 * asked for; the client asks again for the rest, and gives back what it had when that is refused.
 * What was offered and not claimed goes back as any offer does (grant.c): with the connection, at
 * the session's end, at the daemon's next start.
 *
 * The quota is asked for all pages first: a grant that would only be given back is not begun.
 *
 * `small`: in a hugetlb pool only the high zones lie on pages of 4 KiB. No zone below them may
 * serve such a request then.
 *
 * Complexity: O(blocks + orders), one hold of the zone's lock for many.
 */
#include <errno.h>

#include "daemon/blocks.h"
#include "daemon/failure.h"
#include "daemon/grant.h"
#include "daemon/high.h"
#include "daemon/probes.h"
#include "daemon/pool.h"
#include "daemon/service.h"
#include "daemon/service_wait.h"
#include "daemon/wait_queue.h"

/* Of a larger block nobody is to be deprived. */
#define GFP_OPPORTUNE(gfp) (((gfp) & ~(__GFP_RECLAIM | __GFP_HIGH)) | __GFP_NOMEMALLOC)

/* Its sections below the high zones cannot be mapped in pieces of 4 KiB. */
static bool pool_is_huge(const struct domain *d)
{
	return d->kmmd->pool->map_shift > PAGE_SHIFT;
}

struct mm_request blocks_request(const struct domain *d, const struct session *s, uint32_t cpu,
                                 const struct block_request *q)
{
	return (struct mm_request){
		.gfp = q->gfp,
		.order = q->order_min,
		.cpu = cpu,
		.tag = s->id,
		.node = q->node,
		.lowest = q->small && pool_is_huge(d) ? ZONE_HIGHMEM : 0,
	};
}

static int blocks_check(const struct domain *d, const struct block_request *q,
                        const struct mm_request *r, const char **why)
{
	int rc = grant_check_domain(d, why);

	if (rc)
		return rc;
	if (q->order_max > MAX_PAGE_ORDER || q->order_min > q->order_max) {
		*why = grant_text("orders %u to %u: orders are 0 to %u", q->order_min, q->order_max,
		                  MAX_PAGE_ORDER);
		return -EINVAL;
	}
	if (!q->pages || q->pages & ((UINT32_C(1) << q->order_min) - 1)) {
		*why = grant_text("%u pages are no multiple of a block of order %u", q->pages,
		                  q->order_min);
		return -EINVAL;
	}
	if (q->node > mm_nr_nodes(d->zones)) {
		*why = grant_text("there is no node %u", q->node - 1);
		return -EINVAL;
	}
	return grant_check(r, why);
}

/* Frames that could serve it if all else were free. */
static bool blocks_possible(const struct domain *d, const struct mm_request *r, uint32_t pages)
{
	uint32_t node, z;
	uint64_t n = 0;

	if (!mm_request_possible(d->zones, r))
		return false;
	for (node = 0; node < mm_nr_nodes(d->zones); node++)
		for (z = r->lowest; z <= gfp_zone(r->gfp); z++) {
			struct mm_zone_stats s;

			mm_zone_stats(d->zones, node, (enum zone_type)z, &s);
			n += s.managed;
		}
	return pages <= n;
}

/* Up to n blocks of r->order. */
static uint32_t offer_order(struct domain *d, struct session *s, const struct mm_request *r,
                            uint32_t n, struct block_list *l)
{
	pfn_t pfn[BLOCKS_MAX];
	uint32_t i, got = (uint32_t)mm_alloc_pages_bulk(d->zones, r, n, pfn);

	for (i = 0; i < got; i++) {
		uint32_t page = domain_block_page(d, pfn[i], r->order);

		grant_note_section(d, s, page);
		grant_publish(d, page, r->gfp, OWNER_OFFERED, s->id);
		l->page[l->n] = page;
		l->order[l->n++] = (uint8_t)r->order;
	}
	l->pages += got << r->order;
	return got;
}

static void offer_all(struct domain *d, struct session *s, struct mm_request r,
                      const struct block_request *q, struct block_list *l)
{
	r.order = q->order_max;
	while (q->pages >> r.order == 0)
		r.order--;
	for (;;) {
		uint32_t want = (q->pages - l->pages) >> r.order;

		if (want > BLOCKS_MAX - l->n)
			want = BLOCKS_MAX - l->n;
		r.gfp = r.order > q->order_min ? GFP_OPPORTUNE(q->gfp) : q->gfp;
		if (want)
			offer_order(d, s, &r, want, l);
		if (r.order == q->order_min)
			return;
		r.order--;
	}
}

int blocks_grant(struct domain *d, struct session *s, uint32_t cpu, const struct block_request *q,
                 struct block_list *l, const char **why)
{
	struct mm_request r = blocks_request(d, s, cpu, q);
	uint32_t charged;
	int rc = blocks_check(d, q, &r, why);

	if (rc)
		return rc;
	l->n = l->pages = 0;
	charged = charge_reserve(s, 0, q->pages);
	if (charged < q->pages) {
		charge_return(s, charged);
		*why = charge_text_pages(s, q->pages);
		return -EDQUOT;
	}
	offer_all(d, s, r, q, l);
	charge_return(s, charged - l->pages);
	if (l->n) {
		probe_alloc_blocks(s->id, l->pages, l->n, q->gfp);
		return 0;
	}
	grant_note_scarce(d);
	*why = grant_text("no block of order %u is free for these flags (0x%x)%s", q->order_min,
	                  q->gfp, r.lowest ? " in sections of 4 KiB pages" : "");
	return -ENOMEM;
}

void blocks_withdraw(struct domain *d, struct session *s, uint32_t cpu, const struct block_list *l)
{
	uint32_t i;

	for (i = 0; i < l->n; i++)
		grant_withdraw(d, s, cpu, l->page[i]);
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the list goes over the wire as it is, little-endian"
#endif

void blocks_reply(Kmm__V1__AllocBlocksReply *reply, struct block_list *l)
{
	kmm__v1__alloc_blocks_reply__init(reply);
	reply->page.data = (uint8_t *)l->page;
	reply->page.len = l->n * sizeof(l->page[0]);
	reply->order.data = l->order;
	reply->order.len = l->n;
}

void service_alloc_blocks(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__AllocBlocksRequest *q = (const Kmm__V1__AllocBlocksRequest *)request;
	struct domain *d = call->kmmd->domain;
	struct wait_request want = {
		.blocks = true,
		.gfp = q->gfp,
		.order = q->order_min,
		.block = { .gfp = q->gfp,
		           .pages = q->pages,
		           .order_max = q->order_max,
		           .order_min = q->order_min,
		           .node = q->node,
		           .small = q->small },
	};
	struct mm_request r =
	        blocks_request(d, call->session, call->reactor->index, &want.block);
	Kmm__V1__AllocBlocksReply reply;
	struct block_list list;
	const char *why;
	int rc = blocks_check(d, &want.block, &r, &why);

	if (!rc && !blocks_possible(d, &r, q->pages)) {
		why = grant_text("%u pages with flags 0x%x can never be had from this pool%s, "
		                 "however much is freed",
		                 q->pages, q->gfp,
		                 r.lowest ? "'s sections of 4 KiB pages" : "");
		rc = -ENOMEM;
		failure_note(call->session, &(struct failure_about){ .request = &r,
		                                                    .method = call->method->name,
		                                                    .gfp = q->gfp,
		                                                    .order = q->order_min,
		                                                    .pages = q->pages,
		                                                    .rc = rc,
		                                                    .why = why,
		                                                    .reason = FAILURE_IMPOSSIBLE });
	}
	if (rc) {
		service_refuse(call, rc, why);
		return;
	}
	if ((q->gfp & __GFP_DIRECT_RECLAIM) && wait_queue_waiting(d->waiters)) {
		service_wait(call, &want, -ENOMEM, NULL);
		return;
	}
	rc = blocks_grant(d, call->session, call->reactor->index, &want.block, &list, &why);
	if (rc) {
		service_wait(call, &want, rc, why);
		return;
	}
	blocks_reply(&reply, &list);
	rpc_reply(call, &reply.base);
}

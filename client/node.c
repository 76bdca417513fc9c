/* SPDX-License-Identifier: MIT */
/*
 * Memory of a node.
 *
 * A thread's magazines hold what the daemon gave it: mostly of the node of its CPU, but of any when that
 * one was short. So a request for a node takes from them only what is of that node, which an address
 * tells (page_node); else it asks the daemon for one thing of the node. Nothing is kept for such
 * requests: what they are given is not what the thread's next request, for any node, should get.
 *
 * Without KMM_GFP_THISNODE the node is preferred: when it is short the next nearest serves.
 */
#include "client/object.h"

/* The node's number in messages: + 1, 0 for any, as it is where there is one. */
static int node_check(struct kmm *k, int node, uint32_t *ret)
{
	if (node < -1 || (node >= 0 && (uint32_t)node >= k->nodes))
		return error_set(EINVAL, "node %d: the pool has nodes 0 to %u, and -1 is any", node,
		                 k->nodes - 1);
	*ret = k->nodes == 1 ? 0 : (uint32_t)(node + 1);
	return 0;
}

bool node_has_top(struct kmm *k, struct local_class *lc, uint32_t node)
{
	uint64_t round, *top = local_top(lc);
	size_t page;

	if (top == lc->loaded)
		return false;
	round = top[-1];
	page = lc->cache ? (size_t)((uint8_t *)(uintptr_t)round - k->window) >> FRAME_SHIFT :
	                   (uint32_t)round;
	return page < k->frames && page_node(k, (uint32_t)page) + 1 == node;
}

static int pages_alloc(struct kmm *k, kmm_gfp_t gfp, unsigned int order, int node, uint32_t *page)
{
	SESSION_SCOPE(k, r);
	struct call_how how;
	uint32_t on = 0;

	if (r < 0)
		return r;
	r = page_gfp_check(gfp, order);
	if (r == 0)
		r = node_check(k, node, &on);
	if (r < 0)
		return r;
	gfp = gfp_of_thread(gfp);
	how = call_begin_gfp(k, gfp);
	how.node = on;
	return page_alloc(k, thread_cache_get(k), gfp, order, &how, page);
}

struct kmm_page *kmm_alloc_pages_node(struct kmm *k, kmm_gfp_t gfp, unsigned int order, int node)
{
	uint32_t page;
	int r = pages_alloc(k, gfp, order, node, &page);

	return r < 0 ? errno_null(r) : page_at(k, page);
}

void *kmm_cache_alloc_node(struct kmm_cache *c, kmm_gfp_t gfp, int node)
{
	void *p = NULL;
	uint32_t on = 0;
	int r;

	if (!c || node == -1)
		return kmm_cache_alloc(c, gfp);
	r = node_check(c->k, node, &on);
	if (r == 0 && on == 0)
		return kmm_cache_alloc(c, gfp);
	if (r == 0)
		r = object_alloc_node(c, gfp, on, &p);
	return r < 0 ? errno_null(r) : p;
}

static int bytes_alloc(struct kmm *k, size_t size, kmm_gfp_t gfp, int node, void **ret)
{
	SESSION_SCOPE(k, r);
	uint32_t on = 0;

	if (r < 0)
		return r;
	r = node_check(k, node, &on);
	return r < 0 ? r : kmalloc_node(k, size, gfp, on, ret);
}

void *kmm_kmalloc_node(struct kmm *k, size_t size, kmm_gfp_t gfp, int node)
{
	void *p = NULL;
	int r;

	if (node == -1)
		return kmm_kmalloc(k, size, gfp);
	r = bytes_alloc(k, size, gfp, node, &p);
	return r < 0 ? errno_null(r) : p;
}

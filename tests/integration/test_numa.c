/* SPDX-License-Identifier: MIT */
/*
 * Nodes: a pool of 64 MiB in two, on whatever machine. Memory asked of a node is of that node, also
 * when a thread has the other's at hand; THISNODE is content with no other.
 *
 *     frames 0 .. 8191: node 0 (DMA, DMA32)     8192 .. : node 1 (DMA32, HighMem, metadata)
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURE_A hoarder
#define FIXTURE_B other
#include "tests/integration/fixture.h"

#define NODE_FRAMES 8192u
#define NODES 2

static void setup(void)
{
	daemon_start(&d, (const char *const[]){ "--nodes", "2", NULL });
	fixture_begin();
}

static int node_of_page(struct kmm_page *p)
{
	uint64_t pfn = kmm_page_to_pfn(k, p);

	ck_assert_uint_ne(pfn, UINT64_MAX);
	return (int)(pfn / NODE_FRAMES);
}

static int node_of(const void *p)
{
	struct kmm_page *page = kmm_virt_to_page(k, p);

	ck_assert_ptr_nonnull(page);
	return node_of_page(page);
}

START_TEST(pages_of_a_node)
{
	static const unsigned int order[] = { 0, 1, 3, 4, 8, 9, 10 };

	for (size_t o = 0; o < sizeof(order) / sizeof(order[0]); o++)
		for (int i = 0; i < 6; i++) {
			struct kmm_page *p = kmm_alloc_pages_node(k, KMM_GFP_KERNEL, order[o], i % NODES);

			ck_assert_ptr_nonnull(p);
			ck_assert_int_eq(node_of_page(p), i % NODES);
			ck_assert_int_eq(kmm_free_pages(k, p, order[o]), 0);
		}
}
END_TEST

/* The thread's cache is full of one node's blocks and objects: requests for the other pass it by, those
 * for that one may use it. */
START_TEST(caches_do_not_mix)
{
	struct kmm_cache *c = kmm_cache_create(k, "numa", 200, 0, 0, NULL);
	struct kmm_page *page[64];
	void *p[64];

	ck_assert_ptr_nonnull(c);
	for (int node = 0; node < NODES; node++) {
		for (int i = 0; i < 64; i++) {
			page[i] = kmm_alloc_pages_node(k, KMM_GFP_KERNEL, 0, node);
			p[i] = kmm_cache_alloc_node(c, KMM_GFP_KERNEL, node);
			ck_assert(page[i] && p[i]);
			ck_assert_int_eq(node_of_page(page[i]), node);
			ck_assert_int_eq(node_of(p[i]), node);
		}
		for (int i = 0; i < 64; i++) {
			ck_assert_int_eq(kmm_free_pages(k, page[i], 0), 0);
			ck_assert_int_eq(kmm_cache_free(c, p[i]), 0);
		}
		for (int i = 0; i < 64; i++) {
			int want = (node + i) % NODES;
			struct kmm_page *block = kmm_alloc_pages_node(k, KMM_GFP_KERNEL, 0, want);
			void *object = kmm_cache_alloc_node(c, KMM_GFP_KERNEL, want);

			ck_assert(block && object);
			ck_assert_int_eq(node_of_page(block), want);
			ck_assert_int_eq(node_of(object), want);
			ck_assert_int_eq(kmm_free_pages(k, block, 0), 0);
			ck_assert_int_eq(kmm_cache_free(c, object), 0);
		}
	}
	ck_assert_int_eq(kmm_cache_destroy(c), 0);
}
END_TEST

START_TEST(bytes_of_a_node)
{
	static const size_t size[] = { 1, 64, 200, 4096, 8192, 10000, 1 << 20 };

	for (size_t s = 0; s < sizeof(size) / sizeof(size[0]); s++)
		for (int i = 0; i < 6; i++) {
			uint8_t *p = kmm_kmalloc_node(k, size[s], KMM_GFP_KERNEL | KMM_GFP_ZERO,
			                              i % NODES);

			ck_assert_ptr_nonnull(p);
			ck_assert_int_eq(node_of(p), i % NODES);
			for (size_t at = 0; at < size[s]; at += 64)
				ck_assert_uint_eq(p[at], 0);
			memset(p, 0xff, size[s]);
			ck_assert_int_eq(kmm_kfree(k, p), 0);
		}
}
END_TEST

/* Of one node there is nothing left. */
static size_t exhaust(int node, struct kmm_page *page[], size_t n)
{
	size_t had = 0;

	while (had < n) {
		page[had] = kmm_alloc_pages_node(k, KMM_GFP_NOWAIT | KMM_GFP_THISNODE, 0, node);
		if (page[had]) {
			ck_assert_int_eq(node_of_page(page[had]), node);
			had++;
			continue;
		}
		ck_assert_int_eq(errno, ENOMEM);
		/* what per-CPU lists of other reactors hold */
		free(daemon_zone_frames(&d));
		page[had] = kmm_alloc_pages_node(k, KMM_GFP_NOWAIT | KMM_GFP_THISNODE, 0, node);
		if (!page[had])
			return had;
		had++;
	}
	ck_abort_msg("node %d has no end", node);
}

static void *free_later(void *arg)
{
	wait_until(daemon_session_number(&d, kmm_session_id(k), "parked") == 1);
	must(kmm_free_pages(k, arg, 0) == 0);
	return NULL;
}

START_TEST(this_node_and_no_other)
{
	static struct kmm_page *page[NODE_FRAMES];
	int node = _i;
	size_t n = exhaust(node, page, NODE_FRAMES);
	struct kmm_page *p;
	pthread_t thread;

	ck_assert_uint_gt(n, NODE_FRAMES / 4);
	/* preferred: the other serves */
	p = kmm_alloc_pages_node(k, KMM_GFP_NOWAIT, 0, node);
	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(node_of_page(p), !node);
	ck_assert_int_eq(kmm_free_pages(k, p, 0), 0);
	/* this one alone: it waits for it, though the other has plenty */
	ck_assert_int_eq(kmm_set_timeout(k, 50), 0);
	ck_assert_ptr_null(kmm_alloc_pages_node(k, KMM_GFP_KERNEL | KMM_GFP_THISNODE, 0, node));
	ck_assert_int_eq(errno, ETIMEDOUT);
	ck_assert_int_eq(kmm_set_timeout(k, 0), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, free_later, page[--n]), 0);
	p = kmm_alloc_pages_node(k, KMM_GFP_KERNEL | KMM_GFP_THISNODE, 0, node);
	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(node_of_page(p), node);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(kmm_free_pages(k, p, 0), 0);
	while (n > 0)
		ck_assert_int_eq(kmm_free_pages(k, page[--n], 0), 0);
}
END_TEST

/* Objects too. */
START_TEST(objects_of_this_node_alone)
{
	struct kmm_cache *c = kmm_cache_create(k, "numa-this", 2048, 0, 0, NULL);
	static struct kmm_page *page[NODE_FRAMES];
	size_t n = exhaust(1, page, NODE_FRAMES);
	void *p;

	ck_assert_ptr_nonnull(c);
	ck_assert_ptr_null(kmm_cache_alloc_node(c, KMM_GFP_NOWAIT | KMM_GFP_THISNODE, 1));
	ck_assert_int_eq(errno, ENOMEM);
	p = kmm_cache_alloc_node(c, KMM_GFP_NOWAIT, 1);
	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(node_of(p), 0);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	while (n > 0)
		ck_assert_int_eq(kmm_free_pages(k, page[--n], 0), 0);
	p = kmm_cache_alloc_node(c, KMM_GFP_NOWAIT | KMM_GFP_THISNODE, 1);
	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(node_of(p), 1);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_int_eq(kmm_cache_destroy(c), 0);
}
END_TEST

/* Objects of a spread cache lie on both. */
START_TEST(interleaved)
{
	struct kmm_cache *c = kmm_cache_create(k, "numa-spread", 1024, 0, KMM_SLAB_MEM_SPREAD, NULL);
	static void *p[4096];
	size_t on[NODES] = { 0 };

	ck_assert_ptr_nonnull(c);
	for (size_t i = 0; i < 4096; i++) {
		p[i] = kmm_cache_alloc(c, KMM_GFP_KERNEL);
		ck_assert_ptr_nonnull(p[i]);
		on[node_of(p[i])]++;
	}
	for (int node = 0; node < NODES; node++)
		ck_assert_uint_gt(on[node], 1024);
	for (size_t i = 0; i < 4096; i++)
		ck_assert_int_eq(kmm_cache_free(c, p[i]), 0);
	ck_assert_int_eq(kmm_cache_destroy(c), 0);
}
END_TEST

START_TEST(nodes_are_checked)
{
	struct kmm_cache *c = kmm_cache_create(k, "numa-check", 64, 0, 0, NULL);
	int nodes = _i ? 1 : NODES;
	static const int bad[] = { -2, 64, 1 << 30, INT32_MIN };
	struct kmm_page *page;
	void *p;

	ck_assert_ptr_nonnull(c);
	for (int i = -1; i < nodes; i++) {
		page = kmm_alloc_pages_node(k, KMM_GFP_KERNEL, 0, i);
		ck_assert_ptr_nonnull(page);
		ck_assert_int_eq(kmm_free_pages(k, page, 0), 0);
		p = kmm_kmalloc_node(k, 100, KMM_GFP_KERNEL, i);
		ck_assert_ptr_nonnull(p);
		ck_assert_int_eq(kmm_kfree(k, p), 0);
		p = kmm_cache_alloc_node(c, KMM_GFP_KERNEL, i);
		ck_assert_ptr_nonnull(p);
		ck_assert_int_eq(kmm_cache_free(c, p), 0);
	}
	for (size_t i = 0; i <= sizeof(bad) / sizeof(bad[0]); i++) {
		int node = i < sizeof(bad) / sizeof(bad[0]) ? bad[i] : nodes;

		errno = 0;
		ck_assert_ptr_null(kmm_alloc_pages_node(k, KMM_GFP_KERNEL, 0, node));
		ck_assert_int_eq(errno, EINVAL);
		errno = 0;
		ck_assert_ptr_null(kmm_kmalloc_node(k, 100, KMM_GFP_KERNEL, node));
		ck_assert_int_eq(errno, EINVAL);
		errno = 0;
		ck_assert_ptr_null(kmm_cache_alloc_node(c, KMM_GFP_KERNEL, node));
		ck_assert_int_eq(errno, EINVAL);
		ck_assert_ptr_nonnull(strstr(kmm_error_text(), "node"));
	}
	ck_assert_int_eq(kmm_cache_destroy(c), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("numa");
	TCase *t = fixture_case(s, "two nodes", setup);

	tcase_add_test(t, pages_of_a_node);
	tcase_add_test(t, caches_do_not_mix);
	tcase_add_test(t, bytes_of_a_node);
	tcase_add_loop_test(t, this_node_and_no_other, 0, NODES);
	tcase_add_test(t, objects_of_this_node_alone);
	tcase_add_test(t, interleaved);
	tcase_add_loop_test(t, nodes_are_checked, 0, 1);
	t = fixture_case(s, "one node", fixture_setup);
	tcase_add_loop_test(t, nodes_are_checked, 1, 2);
	return suite_run(s);
}

/* SPDX-License-Identifier: MIT */
/*
 * DPDK's mempool, with its largest cache (512) a core, and rte_malloc.
 *
 *     peer_dpdk mempool|malloc
 *
 * Memory is DPDK's own huge pages without files (--in-memory). The second process is forked after
 * the memory is set up: as a secondary process it has the pool at the same addresses, mapped
 * shared, and an lcore id, hence a cache, of its own.
 */
#include <rte_eal.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mempool.h>

#include "tests/bench/cross.h"

#define CROSS_OBJECTS 400000u
#define POOL_OBJECTS 65535u
#define POOL_CACHE RTE_MEMPOOL_CACHE_MAX_SIZE
#define SLOW_PAIRS 200000u /* rte_malloc takes a lock */
#define SECOND_LCORE 9u

static struct cross *cross;
static struct rte_mempool *pool;

/* ---- mempool ---- */

PEER_INLINE void *get(size_t size)
{
	void *p;

	(void)size;
	return rte_mempool_get(pool, &p) == 0 ? p : NULL;
}

PEER_INLINE void put(void *p)
{
	rte_mempool_put(pool, p);
}

PEER_INLINE bool get_bulk(size_t n, void **p)
{
	return rte_mempool_get_bulk(pool, p, (unsigned int)n) == 0;
}

PEER_INLINE void put_bulk(size_t n, void **p)
{
	rte_mempool_put_bulk(pool, p, (unsigned int)n);
}

static double one_at_a_time(void)
{
	return peer_pairs(get, put, PEER_PAIRS);
}

static void *one_at_a_time_thread(void *arg)
{
	if (rte_thread_register() != 0)
		peer_fail("rte_thread_register");
	struct peer_thread *t = peer_thread_enter(arg);

	t->ns = peer_pairs(get, put, PEER_PAIRS);
	rte_thread_unregister();
	return NULL;
}

static double two_threads(void)
{
	return peer_two_threads(one_at_a_time_thread);
}

static double batches(void)
{
	return peer_batches(get, put, PEER_PAIRS);
}

static double runs(void)
{
	return peer_runs(get, put, PEER_PAIRS);
}

static double bulks(void)
{
	return peer_bulks(get_bulk, put_bulk, 4 * PEER_PAIRS);
}

/* ---- crossing ---- */

static void send_burst(uint64_t *item, size_t burst)
{
	if (!get_bulk(burst, (void **)item))
		peer_fail("the pool is empty");
}

static void free_burst(uint64_t *item, size_t burst)
{
	put_bulk(burst, (void **)item);
}

static double cross_1(void)
{
	return cross_ns(cross, 1, CROSS_OBJECTS, send_burst);
}

static double cross_8(void)
{
	return cross_ns(cross, 8, CROSS_OBJECTS, send_burst);
}

static double cross_32(void)
{
	return cross_ns(cross, 32, CROSS_OBJECTS, send_burst);
}

/* ---- rte_malloc ---- */

static void *get_malloc(size_t size)
{
	return rte_malloc(NULL, size, 0);
}

static void put_malloc(void *p)
{
	rte_free(p);
}

/* A heap in use: free elements between live ones. (From a fresh one each free joins the element
 * with the whole rest, page by page: four times the cost.) */
static void prime(void)
{
	void *p[2 * PEER_BATCH];

	for (size_t i = 0; i < PEER_COUNT(p); i++)
		p[i] = peer_use(get_malloc(PEER_SIZE));
	for (size_t i = 0; i < PEER_COUNT(p); i += 2)
		put_malloc(p[i]);
}

static double malloc_one_at_a_time(void)
{
	return peer_pairs(get_malloc, put_malloc, SLOW_PAIRS);
}

static void *malloc_thread(void *arg)
{
	if (rte_thread_register() != 0)
		peer_fail("rte_thread_register");
	struct peer_thread *t = peer_thread_enter(arg);

	t->ns = peer_pairs(get_malloc, put_malloc, SLOW_PAIRS);
	rte_thread_unregister();
	return NULL;
}

static double malloc_two_threads(void)
{
	return peer_two_threads(malloc_thread);
}

static double malloc_batches(void)
{
	return peer_batches(get_malloc, put_malloc, SLOW_PAIRS);
}

static double malloc_runs(void)
{
	return peer_runs(get_malloc, put_malloc, SLOW_PAIRS);
}

static double malloc_random(void)
{
	return peer_random(get_malloc, put_malloc, SLOW_PAIRS);
}

int main(int argc, char *argv[])
{
	static const struct peer_row mempool_row[] = {
		{ "64 B, one at a time", one_at_a_time },
		{ "64 B, one at a time, 2 threads", two_threads },
		{ "64 B, batches of 64", batches },
		{ "64 B, runs of 50000", runs },
		{ "64 B, bulk of 32", bulks },
		{ "crossing, bursts of 1", cross_1 },
		{ "crossing, bursts of 8", cross_8 },
		{ "crossing, bursts of 32", cross_32 },
	};
	static const struct peer_row malloc_row[] = {
		{ "64 B, one at a time", malloc_one_at_a_time },
		{ "64 B, one at a time, 2 threads", malloc_two_threads },
		{ "64 B, batches of 64", malloc_batches },
		{ "64 B, runs of 50000", malloc_runs },
		{ "16..1024 B at random, 1000 live", malloc_random },
	};
	static char word[][16] = { "dpdk", "-l", "0", "-m", "64", "--in-memory", "--no-pci",
		                   "--no-telemetry", "--log-level=3" };
	char *eal[PEER_COUNT(word) + 1] = { NULL };

	if (argc != 2) {
		fprintf(stderr, "usage: peer_dpdk mempool|malloc\n");
		return 2;
	}
	for (size_t i = 0; i < PEER_COUNT(word); i++)
		eal[i] = word[i];
	if (rte_eal_init((int)PEER_COUNT(word), eal) < 0)
		peer_fail("rte_eal_init");
	bench_pin(0);
	if (strcmp(argv[1], "malloc") == 0) {
		prime();
		return peer_serve(malloc_row, PEER_COUNT(malloc_row));
	}
	pool = rte_mempool_create("bench", POOL_OBJECTS, PEER_SIZE, POOL_CACHE, 0, NULL, NULL, NULL,
	                          NULL, SOCKET_ID_ANY, 0);
	if (!pool)
		peer_fail("rte_mempool_create");
	cross = cross_new();
	if (cross_fork(cross)) {
		RTE_PER_LCORE(_lcore_id) = SECOND_LCORE;
		cross_consume(cross, free_burst);
		_exit(0);
	}
	return peer_serve(mempool_row, PEER_COUNT(mempool_row));
}

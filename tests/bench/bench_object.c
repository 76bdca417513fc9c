/* SPDX-License-Identifier: MIT */
/*
 * Objects through libkmm, measured row by row as its competitors are (peer.h):
 *
 *     bench_object cache|kmalloc SOCKET KMMCTL DAEMON
 *
 * DAEMON is the daemon's process id: what it and the control memory grow by is part of the memory
 * overhead. Objects that cross go by handle to a second process, which adopts and frees them.
 */
#include <kmm/kmm.h>

#include "shm/control.h"
#include "tests/bench/cross.h"
#include "tests/bench/overhead.h"

#define CROSS_OBJECTS 400000u
#define STATE_WORD 8u /* bytes of mm/'s word for a frame */

static struct cross *cross;
static struct kmm *k;
static struct kmm_cache *cache;
static const char *socket_path, *kmmctl;
static pid_t daemon_pid;

__attribute__((noreturn, cold)) static void fail(const char *what)
{
	fprintf(stderr, "bench_object: %s: %s\n", what, kmm_error_text());
	exit(1);
}

PEER_INLINE void *get(size_t size)
{
	(void)size;
	return kmm_cache_alloc(cache, KMM_GFP_KERNEL);
}

PEER_INLINE void put(void *p)
{
	if (__builtin_expect(kmm_cache_free(cache, p) != 0, 0))
		fail("kmm_cache_free");
}

PEER_INLINE void *get_size(size_t size)
{
	return kmm_kmalloc(k, size, KMM_GFP_KERNEL);
}

PEER_INLINE void put_size(void *p)
{
	if (__builtin_expect(kmm_kfree(k, p) != 0, 0))
		fail("kmm_kfree");
}

PEER_INLINE bool get_bulk(size_t n, void **p)
{
	return kmm_cache_alloc_bulk(cache, KMM_GFP_KERNEL, n, p) == n;
}

PEER_INLINE void put_bulk(size_t n, void **p)
{
	if (__builtin_expect(kmm_cache_free_bulk(cache, n, p) != 0, 0))
		fail("kmm_cache_free_bulk");
}

/* ---- a cache ---- */

static double one_at_a_time(void)
{
	return peer_pairs(get, put, PEER_PAIRS);
}

static void *one_at_a_time_thread(void *arg)
{
	struct peer_thread *t = peer_thread_enter(arg);

	t->ns = peer_pairs(get, put, PEER_PAIRS);
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

/* ---- kmalloc ---- */

static double kmalloc_one_at_a_time(void)
{
	return peer_pairs(get_size, put_size, PEER_PAIRS);
}

static void *kmalloc_thread(void *arg)
{
	struct peer_thread *t = peer_thread_enter(arg);

	t->ns = peer_pairs(get_size, put_size, PEER_PAIRS);
	return NULL;
}

static double kmalloc_two_threads(void)
{
	return peer_two_threads(kmalloc_thread);
}

static double kmalloc_batches(void)
{
	return peer_batches(get_size, put_size, PEER_PAIRS);
}

static double kmalloc_runs(void)
{
	return peer_runs(get_size, put_size, PEER_PAIRS);
}

static double kmalloc_random(void)
{
	return peer_random(get_size, put_size, PEER_PAIRS);
}

/* ---- crossing ---- */

static void send_burst(uint64_t *item, size_t burst)
{
	void *p[CROSS_BURST_MAX];

	if (burst == 1)
		p[0] = peer_use(get(PEER_SIZE));
	else if (!get_bulk(burst, p))
		fail("kmm_cache_alloc_bulk");
	for (size_t i = 0; i < burst; i++) {
		item[i] = kmm_handle(k, p[i]);
		if (__builtin_expect(!item[i], 0))
			fail("kmm_handle");
	}
}

static void free_burst(uint64_t *item, size_t burst)
{
	void *p[CROSS_BURST_MAX];

	if (burst == 1) {
		p[0] = kmm_adopt(k, item[0]);
		if (__builtin_expect(!p[0], 0))
			fail("kmm_adopt");
		put(p[0]);
		return;
	}
	if (__builtin_expect(kmm_adopt_bulk(k, burst, item, p) != burst, 0))
		fail("kmm_adopt_bulk");
	put_bulk(burst, p);
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

/* ---- overhead ---- */

/* Slabs of all caches, their frames' page descriptors, owner words and state words included. */
static uint64_t slab_memory(void)
{
	char command[1024], line[512], name[64];
	unsigned long long active, objects, size, per_slab, pages, active_slabs, slabs, frames = 0;

	snprintf(command, sizeof(command), "%s --socket %s slabinfo", kmmctl, socket_path);
	FILE *f = popen(command, "r");

	if (!f)
		peer_fail("kmmctl");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%63s %llu %llu %llu %llu %llu : tunables %*u %*u %*u : slabdata %llu %llu",
		           name, &active, &objects, &size, &per_slab, &pages, &active_slabs, &slabs) == 8)
			frames += slabs * pages;
	if (pclose(f) != 0)
		peer_fail("kmmctl slabinfo");
	return frames * (KMM_PAGE_SIZE + sizeof(page_desc_t) + sizeof(owner_word_t) + STATE_WORD);
}

static uint64_t footprint(void)
{
	return overhead_of_process(getpid()) + overhead_of_process(daemon_pid) +
	       overhead_of_control(daemon_pid) + slab_memory();
}

static double overhead_cache(size_t size)
{
	char name[32];

	snprintf(name, sizeof(name), "bench-%zu", size);
	cache = kmm_cache_create(k, name, size, 0, 0, NULL);
	if (!cache)
		fail("kmm_cache_create");
	return overhead_measure(size, get, footprint);
}

static double overhead_kmalloc(size_t size)
{
	return overhead_measure(size, get_size, footprint);
}

static bool of_kmalloc;

static double overhead(size_t size)
{
	return of_kmalloc ? overhead_kmalloc(size) : overhead_cache(size);
}

OVERHEAD_ROWS(overhead)

static void session_open(void)
{
	struct kmm_options o = { .size = sizeof(o), .address = socket_path };

	if (kmm_open(&k, &o) != 0)
		fail("kmm_open");
	cache = kmm_cache_create(k, "bench", PEER_SIZE, 0, 0, NULL);
	if (!cache)
		fail("kmm_cache_create");
}

int main(int argc, char *argv[])
{
	static const struct peer_row cache_row[] = {
		{ "64 B, one at a time", one_at_a_time },
		{ "64 B, one at a time, 2 threads", two_threads },
		{ "64 B, batches of 64", batches },
		{ "64 B, runs of 50000", runs },
		{ "64 B, bulk of 32", bulks },
		{ "crossing, bursts of 1", cross_1 },
		{ "crossing, bursts of 8", cross_8 },
		{ "crossing, bursts of 32", cross_32 },
		OVERHEAD_TABLE,
	};
	static const struct peer_row kmalloc_row[] = {
		{ "64 B, one at a time", kmalloc_one_at_a_time },
		{ "64 B, one at a time, 2 threads", kmalloc_two_threads },
		{ "64 B, batches of 64", kmalloc_batches },
		{ "64 B, runs of 50000", kmalloc_runs },
		{ "16..1024 B at random, 1000 live", kmalloc_random },
		OVERHEAD_TABLE,
	};

	if (argc != 5) {
		fprintf(stderr, "usage: bench_object cache|kmalloc SOCKET KMMCTL DAEMON\n");
		return 2;
	}
	of_kmalloc = strcmp(argv[1], "kmalloc") == 0;
	socket_path = argv[2];
	kmmctl = argv[3];
	daemon_pid = (pid_t)atoi(argv[4]);
	bench_pin(0);
	cross = cross_new();
	if (!of_kmalloc && cross_fork(cross)) {
		session_open();
		cross_consume(cross, free_burst);
		_exit(0);
	}
	session_open();
	int status = of_kmalloc ? peer_serve(kmalloc_row, PEER_COUNT(kmalloc_row)) :
	                          peer_serve(cache_row, PEER_COUNT(cache_row));

	kmm_close(k);
	return status;
}

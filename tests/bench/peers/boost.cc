/* SPDX-License-Identifier: MIT */
/* Boost.Interprocess: allocate and deallocate in a managed_shared_memory; the second process opens
 * it by name. */
#include <boost/interprocess/managed_shared_memory.hpp>

#include "tests/bench/cross.h"

#define SLOW_PAIRS 200000u
#define CROSS_OBJECTS 20000u
#define SEGMENT ((size_t)64 << 20)

using segment = boost::interprocess::managed_shared_memory;

static struct cross *cross;
static segment *memory;

static void *get(size_t size)
{
	return memory->allocate(size, std::nothrow);
}

static void put(void *p)
{
	memory->deallocate(p);
}

static double one_at_a_time(void)
{
	return peer_pairs(get, put, SLOW_PAIRS);
}

static void *one_at_a_time_thread(void *arg)
{
	struct peer_thread *t = peer_thread_enter(arg);

	t->ns = peer_pairs(get, put, SLOW_PAIRS);
	return NULL;
}

static double two_threads(void)
{
	return peer_two_threads(one_at_a_time_thread);
}

static double batches(void)
{
	return peer_batches(get, put, SLOW_PAIRS);
}

static double runs(void)
{
	return peer_runs(get, put, SLOW_PAIRS);
}

static double random_sizes(void)
{
	return peer_random(get, put, SLOW_PAIRS);
}

static void send_burst(uint64_t *item, size_t burst)
{
	for (size_t i = 0; i < burst; i++)
		item[i] = (uint64_t)memory->get_handle_from_address(peer_use(get(PEER_SIZE)));
}

static void free_burst(uint64_t *item, size_t burst)
{
	for (size_t i = 0; i < burst; i++)
		put(memory->get_address_from_handle((segment::handle_t)item[i]));
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

int main(void)
{
	static const struct peer_row row[] = {
		{ "64 B, one at a time", one_at_a_time },
		{ "64 B, one at a time, 2 threads", two_threads },
		{ "64 B, batches of 64", batches },
		{ "64 B, runs of 50000", runs },
		{ "16..1024 B at random, 1000 live", random_sizes },
		{ "crossing, bursts of 1", cross_1 },
		{ "crossing, bursts of 8", cross_8 },
		{ "crossing, bursts of 32", cross_32 },
	};
	char name[64];

	snprintf(name, sizeof(name), "kmmd-bench-%d", (int)getpid());
	boost::interprocess::shared_memory_object::remove(name);
	segment own(boost::interprocess::create_only, name, SEGMENT);

	bench_pin(0);
	memory = &own;
	cross = cross_new();
	if (cross_fork(cross)) {
		segment theirs(boost::interprocess::open_only, name);

		memory = &theirs;
		cross_consume(cross, free_burst);
		_exit(0);
	}
	int status = peer_serve(row, PEER_COUNT(row));

	boost::interprocess::shared_memory_object::remove(name);
	return status;
}

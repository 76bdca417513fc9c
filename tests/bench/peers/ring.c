/* SPDX-License-Identifier: MIT */
/* The ring alone: what crossing costs when nothing is allocated and nothing is freed. */
#include "tests/bench/cross.h"

#define CROSS_OBJECTS 400000u

static struct cross *cross;

static void make(uint64_t *item, size_t burst)
{
	for (size_t i = 0; i < burst; i++)
		item[i] = i;
}

static void look(uint64_t *item, size_t burst)
{
	for (size_t i = 0; i < burst; i++)
		__asm__ volatile("" : : "r"(item[i]));
}

static double cross_1(void)
{
	return cross_ns(cross, 1, CROSS_OBJECTS, make);
}

static double cross_8(void)
{
	return cross_ns(cross, 8, CROSS_OBJECTS, make);
}

static double cross_32(void)
{
	return cross_ns(cross, 32, CROSS_OBJECTS, make);
}

int main(void)
{
	static const struct peer_row row[] = {
		{ "crossing, bursts of 1", cross_1 },
		{ "crossing, bursts of 8", cross_8 },
		{ "crossing, bursts of 32", cross_32 },
	};

	bench_pin(0);
	cross = cross_new();
	if (cross_fork(cross)) {
		cross_consume(cross, look);
		_exit(0);
	}
	return peer_serve(row, PEER_COUNT(row));
}

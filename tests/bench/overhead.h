/* SPDX-License-Identifier: MIT */
/*
 * What an allocator needs beside the bytes that it was asked for: OVERHEAD_LIVE bytes of objects of
 * one size are taken and written to, and all memory that came into being meanwhile is counted, be
 * it metadata, rounding or what lies unused. The row is the excess in bytes a live byte. A program
 * is asked for one such row in its life.
 */
#ifndef TESTS_BENCH_OVERHEAD_H
#define TESTS_BENCH_OVERHEAD_H

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "tests/bench/peer.h"

#define OVERHEAD_LIVE ((size_t)48 << 20)

/* Anonymous memory of a process, in bytes. Not of the file mappings: code is everybody's. */
static inline uint64_t overhead_of_process(pid_t pid)
{
	char path[64], line[256];
	unsigned long long kb, sum = 0;

	/* smaps_rollup counts exactly, where status is off by a batch a thread */
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	FILE *f = fopen(path, "r");

	if (!f)
		peer_fail(path);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Anonymous: %llu", &kb) == 1)
			sum += kb << 10;
	fclose(f);
	return sum;
}

/* What the control memory of a kmmd occupies: its memfds that are not the pool's sections. */
static inline uint64_t overhead_of_control(pid_t pid)
{
	static const char *const part[] = { "kmm-words", "kmm-views", "kmm-ledger" };
	uint64_t bytes = 0;
	int missing = 0;

	for (int fd = 0; missing < 4096; fd++) {
		char path[64], name[256];
		struct stat st;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
		ssize_t n = readlink(path, name, sizeof(name) - 1);

		if (n < 0) {
			missing++;
			continue;
		}
		name[n] = 0;
		missing = 0;
		for (size_t i = 0; i < PEER_COUNT(part); i++)
			if (strstr(name, part[i]) && stat(path, &st) == 0)
				bytes += (uint64_t)st.st_blocks * 512;
	}
	return bytes;
}

PEER_INLINE double overhead_measure(size_t size, void *(*get)(size_t), uint64_t (*footprint)(void))
{
	size_t n = OVERHEAD_LIVE / size;
	void **p = (void **)mmap(NULL, n * sizeof(void *), PROT_READ | PROT_WRITE,
	                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if ((void *)p == MAP_FAILED)
		peer_fail("mmap");
	uint64_t before = footprint();

	for (size_t i = 0; i < n; i++)
		memset(p[i] = peer_use(get(size)), 1, size);
	uint64_t after = footprint();

	return ((double)after - (double)before) / ((double)n * (double)size) - 1;
}

/* For each size a function and a row; the list is known to tests/bench/objects.py too. */
#define OVERHEAD_ROWS(measure)                              \
	static double overhead_16(void) { return measure(16); }    \
	static double overhead_32(void) { return measure(32); }    \
	static double overhead_48(void) { return measure(48); }    \
	static double overhead_64(void) { return measure(64); }    \
	static double overhead_96(void) { return measure(96); }    \
	static double overhead_128(void) { return measure(128); }  \
	static double overhead_192(void) { return measure(192); }  \
	static double overhead_256(void) { return measure(256); }  \
	static double overhead_384(void) { return measure(384); }  \
	static double overhead_512(void) { return measure(512); }  \
	static double overhead_768(void) { return measure(768); }  \
	static double overhead_1024(void) { return measure(1024); } \
	static double overhead_2048(void) { return measure(2048); } \
	static double overhead_4096(void) { return measure(4096); }

#define OVERHEAD_TABLE                                                              \
	{ "overhead, 16 B", overhead_16 }, { "overhead, 32 B", overhead_32 },             \
	{ "overhead, 48 B", overhead_48 }, { "overhead, 64 B", overhead_64 },             \
	{ "overhead, 96 B", overhead_96 }, { "overhead, 128 B", overhead_128 },           \
	{ "overhead, 192 B", overhead_192 }, { "overhead, 256 B", overhead_256 },         \
	{ "overhead, 384 B", overhead_384 }, { "overhead, 512 B", overhead_512 },         \
	{ "overhead, 768 B", overhead_768 }, { "overhead, 1024 B", overhead_1024 },       \
	{ "overhead, 2048 B", overhead_2048 }, { "overhead, 4096 B", overhead_4096 }

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The daemon's part in the locks of per-CPU areas: breaking those of the dead.
 *
 * A thread that has taken a CPU (kmm_get_cpu) leaves its name in the word of the area and the CPU
 * (shm/area_lock.h). What excludes other threads is a word in its own process, which dies with it;
 * this one is for who looks on. So the sweep's work is that no name of the dead stays: it clears
 * the words of a dead session's area before the entry is free for another.
 *
 *     area_lock   | area 0: CPU 0, 1, … 255 | area 1: … | …        8 B a word, two areas a page
 *
 * The words are sparse. Where no thread ever left a name the file may have a hole, and a look would
 * make a page, so the file is asked first (SEEK_DATA).
 *
 * The words belong to the members, who may write anything at any time. A word is exchanged from
 * what it was read as, once: if it changed meanwhile somebody writes to an area of the dead, and
 * what he leaves there hurts nobody. Nothing here waits.
 */
#include "daemon/area_lock.h"

#include <unistd.h>

#include "daemon/pool.h"
#include "shm/area_lock.h"

#define ROW (CONTROL_AREA_CPUS * sizeof(uint64_t))

/* There is memory behind the words of the area. */
static bool row_exists(const struct domain *d, uint32_t area)
{
	off_t at = (off_t)((uintptr_t)&d->control.area_lock[(size_t)area * CONTROL_AREA_CPUS] -
	                   (uintptr_t)d->control.word);
	int fd = d->kmmd->pool->words_fd;
	off_t data;

	if (fd < 0) /* ordinary memory */
		return true;
	data = lseek(fd, at, SEEK_DATA);
	return data >= 0 && data < at + (off_t)ROW;
}

uint32_t area_lock_break(struct domain *d, uint32_t area, uint32_t session)
{
	_Atomic uint64_t *row = &d->control.area_lock[(size_t)area * CONTROL_AREA_CPUS];
	uint32_t cpu, n = 0;

	if (!row_exists(d, area))
		return 0;
	/* relaxed: nothing is read for what the words say */
	for (cpu = 0; cpu < CONTROL_AREA_CPUS; cpu++) {
		uint64_t w = atomic_load_explicit(&row[cpu], memory_order_relaxed);

		if (w && area_lock_session(w) == session &&
		    atomic_compare_exchange_strong_explicit(&row[cpu], &w, 0, memory_order_relaxed,
		                                            memory_order_relaxed))
			n++;
	}
	return n;
}

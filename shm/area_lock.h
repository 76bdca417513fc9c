/* SPDX-License-Identifier: MIT */
/*
 * Who has a CPU's copies of a per-CPU area: a word an area and CPU in control memory (area_lock in
 * shm/control.h), written by the thread that has them (client/percpu_lock.c), cleared by the daemon
 * when its session is dead (daemon/area_lock.c). For reports.
 *
 *      63          52 51                  32 31                       0
 *     +--------------+----------------------+--------------------------+
 *     | depth        | session              | thread                   |
 *     +--------------+----------------------+--------------------------+
 *
 *   depth    how many times it has taken them, at most 4095; 0 with all else: nobody
 *   thread   the system's number of it
 */
#ifndef SHM_AREA_LOCK_H
#define SHM_AREA_LOCK_H

#include <stdint.h>

#include "shm/owner.h"

#define AREA_LOCK_DEPTH_MAX 4095u

static inline uint64_t area_lock_make(uint32_t session, uint32_t thread, uint32_t depth)
{
	if (depth > AREA_LOCK_DEPTH_MAX)
		depth = AREA_LOCK_DEPTH_MAX;
	return (uint64_t)depth << (32 + OWNER_BITS) |
	       (uint64_t)(session & OWNER_MAX) << 32 | thread;
}

static inline uint32_t area_lock_session(uint64_t w)
{
	return (uint32_t)(w >> 32) & OWNER_MAX;
}

static inline uint32_t area_lock_thread(uint64_t w)
{
	return (uint32_t)w;
}

static inline uint32_t area_lock_depth(uint64_t w)
{
	return (uint32_t)(w >> (32 + OWNER_BITS));
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Events: what happened in a domain since the daemon started, by the names of Linux's vmstat.
 *
 * Who makes something happen counts it, at the place where it is certain to have happened; nobody
 * else derives it later. Only events with a meaning here are in the list: every other line of a
 * vmstat report is 0 by definition and has no counter (kmmctl's table of names).
 *
 * What happens on the fast path (pgalloc_*, pgfree, numa_*) is not here: it is counted in the
 * zones' per-CPU sets (struct zone_events) and summed by mm_zone_stats(). What is here happens
 * when memory is short or an operator asks, so one set a domain, with atomic adds, is enough.
 *
 * Threads: any, also under locks; no order is implied.
 */
#ifndef MM_VMSTAT_H
#define MM_VMSTAT_H

#include "mm.h"

/* Numbers are those of enum Counter in proto/kmm.proto: append, never renumber. */
enum vm_event {
	/* A request had to wait for memory; by zone class: VM_ALLOCSTALL + enum zone_type. */
	VM_ALLOCSTALL = 0,
	VM_ALLOCSTALL_LAST = VM_ALLOCSTALL + MAX_NR_ZONES - 1,
	/* Frames of page blocks that reclaim took back from caches (depots, threads, what sessions
	 * gave on request) to the zones, and frames that it looked at for it:
	 * in the background, because a request waits, because somebody asked for it. */
	VM_PGSTEAL_KSWAPD,
	VM_PGSTEAL_DIRECT,
	VM_PGSTEAL_PROACTIVE,
	VM_PGSCAN_KSWAPD,
	VM_PGSCAN_DIRECT,
	VM_PGSCAN_PROACTIVE,
	/* Objects that reclaim asked clients' shrinkers for, or took from depots and threads. */
	VM_SLABS_SCANNED,
	VM_PAGEOUTRUN, /* rounds of background reclaim */
	VM_DROP_PAGECACHE,
	VM_DROP_SLAB,
	/* compaction: pages moved to another frame, and attempts that left one where it was */
	VM_PGMIGRATE_SUCCESS,
	VM_PGMIGRATE_FAIL,
	VM_COMPACT_MIGRATE_SCANNED, /* frames that the migrate scanner looked at */
	VM_COMPACT_FREE_SCANNED,    /* frames that the free scanner looked at */
	VM_COMPACT_ISOLATED,        /* frames that either took in hand */
	VM_COMPACT_STALL,           /* requests that compacted for themselves */
	VM_COMPACT_FAIL,            /* of these, without success */
	VM_COMPACT_SUCCESS,
	VM_COMPACT_DAEMON_WAKE, /* runs in the background */
	VM_COMPACT_DAEMON_MIGRATE_SCANNED, /* of the frames scanned, theirs */
	VM_COMPACT_DAEMON_FREE_SCANNED,
	VM_NR_EVENTS,
};

void vm_count(struct mm_domain *d, enum vm_event e, uint64_t n);
uint64_t vm_counted(const struct mm_domain *d, enum vm_event e);

#endif

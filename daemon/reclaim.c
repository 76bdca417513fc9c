/* SPDX-License-Identifier: MIT */
/*
 * Counting reclaim as Linux's vmstat does: pgscan_* and pgsteal_* by who made it necessary, and
 * slabs_scanned.
 *
 * Page blocks and objects come back to the zones and slabs by the same few functions (struct
 * grant_batch, struct object_batch), whether their owner frees them or reclaim fetches them from
 * depots and threads. Only the latter counts here. So the thread that reclaims says so before, as
 * Linux's does in its task (reclaim_state), and the batches ask when they are handed over. Reclaim
 * never calls what reclaims.
 *
 *   scanned   frames of blocks that were found cached: listed in a depot's magazine, marked RETURNED
 *   stolen    of these, given to the zones; the others have further holders, or were used again by
 *             their thread at that moment
 *
 * Threads: any, each on its own.
 */
#include "daemon/reclaim.h"

#include "daemon/domain.h"
#include "daemon/probes.h"
#include "mm/vmstat.h"

static _Thread_local struct {
	enum reclaim_why why;
	uint64_t frames, objects; /* since it began */
} current;

void reclaim_begin(enum reclaim_why why)
{
	current.why = why;
	current.frames = current.objects = 0;
	probe_reclaim_begin(why);
}

void reclaim_end(void)
{
	uint64_t frames = current.frames, objects = current.objects;
	enum reclaim_why why = current.why;

	/* into registers: tracers cannot find a thread's own variables */
	__asm__("" : "+r"(frames), "+r"(objects), "+r"(why));
	probe_reclaim_end(why, frames, objects);
	current.why = RECLAIM_NONE;
}

void reclaim_note_blocks(struct domain *d, uint64_t scanned, uint64_t freed)
{
	static const struct {
		enum vm_event scan, steal;
	} events[] = {
		[RECLAIM_BACKGROUND] = { VM_PGSCAN_KSWAPD, VM_PGSTEAL_KSWAPD },
		[RECLAIM_DIRECT] = { VM_PGSCAN_DIRECT, VM_PGSTEAL_DIRECT },
		[RECLAIM_PROACTIVE] = { VM_PGSCAN_PROACTIVE, VM_PGSTEAL_PROACTIVE },
	};

	if (current.why == RECLAIM_NONE || scanned == 0)
		return;
	current.frames += freed;
	vm_count(d->zones, events[current.why].scan, scanned);
	vm_count(d->zones, events[current.why].steal, freed);
}

void reclaim_note_objects(struct domain *d, uint64_t n)
{
	if (current.why == RECLAIM_NONE || !n)
		return;
	current.objects += n;
	vm_count(d->zones, VM_SLABS_SCANNED, n);
}

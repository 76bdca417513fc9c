/* SPDX-License-Identifier: MIT */
/* Counting events: see vmstat.h. */
#include "vmstat.h"

#include "zone.h"

void vm_count(struct mm_domain *d, enum vm_event e, uint64_t n)
{
	/* relaxed, here and below: counters for reports, they order nothing */
	atomic_fetch_add_explicit(&d->event[e], n, memory_order_relaxed);
}

uint64_t vm_counted(const struct mm_domain *d, enum vm_event e)
{
	return relaxed_load(&d->event[e]);
}

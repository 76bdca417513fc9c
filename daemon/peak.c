/* SPDX-License-Identifier: MIT */
/*
 * High-water marks.
 *
 * A pool that was never full, a table that was never half used, a quota that was met every day: whoever
 * chooses sizes wants the most that there ever was. Where that is exact it is kept by who changes the
 * thing: each zone its least free frames (mm/zone.h), each user its six counts (user.c), here the
 * failures by reason and the requests that waited. All else is looked at once a second, by the worker:
 * sums over the sessions, which nobody keeps, and tables that fill slowly. A burst that comes and goes
 * within a second is not seen there.
 *
 * Nothing of it is persistent: what a daemon did not see it does not advise on. After a restart the
 * marks begin with what there is.
 *
 * Locking: none; every mark is one number. Complexity: a tick is O(sessions).
 */
#include "daemon/peak.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "daemon/cache.h"
#include "daemon/failure.h"
#include "daemon/name.h"
#include "daemon/session.h"

struct peak {
	_Atomic uint64_t most[NR_PEAKS];
	_Atomic uint64_t failures[NR_FAILURE_REASONS][MAX_NR_ZONES];
};

int peak_new(struct peak **ret)
{
	struct peak *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	*ret = p;
	return 0;
}

struct peak *peak_free(struct peak *p)
{
	free(p);
	return NULL;
}

/* relaxed, here and below: numbers for a report, which order nothing */
void peak_note(struct peak *p, enum peak_what what, uint64_t value)
{
	uint64_t most;

	if (!p)
		return;
	most = atomic_load_explicit(&p->most[what], memory_order_relaxed);
	while (value > most &&
	       !atomic_compare_exchange_weak_explicit(&p->most[what], &most, value,
	                                              memory_order_relaxed, memory_order_relaxed))
		;
}

uint64_t peak_get(const struct peak *p, enum peak_what what)
{
	return p ? atomic_load_explicit(&p->most[what], memory_order_relaxed) : 0;
}

void peak_failure(struct peak *p, const struct failure *f)
{
	uint32_t class = gfp_zone(f->gfp);
	bool memory = f->reason == FAILURE_LACK || f->reason == FAILURE_FRAGMENTATION ||
	              f->reason == FAILURE_IMPOSSIBLE;

	if (!p)
		return;
	if (class >= MAX_NR_ZONES)
		class = ZONE_NORMAL;
	atomic_fetch_add_explicit(&p->failures[f->reason][class], 1, memory_order_relaxed);
	if (memory && f->order < NR_PAGE_ORDERS)
		peak_note(p, PEAK_ORDER, f->order + 1u);
}

uint64_t peak_failures(const struct peak *p, unsigned int reason, enum zone_type class)
{
	if (!p || reason >= NR_FAILURE_REASONS || class >= MAX_NR_ZONES)
		return 0;
	return atomic_load_explicit(&p->failures[reason][class], memory_order_relaxed);
}

void peak_parked(struct peak *p, uint32_t waiting, uint32_t in_flight)
{
	peak_note(p, PEAK_PARKED, waiting);
	peak_note(p, PEAK_SESSION_CALLS, in_flight);
}

/* ---- once a second ---- */

static uint64_t positive(int64_t n)
{
	return n > 0 ? (uint64_t)n : 0;
}

static void look_at_session(struct peak *p, const struct session *s)
{
	uint64_t bytes = positive(atomic_load_explicit(&s->object_bytes, memory_order_relaxed));
	uint64_t frames = positive(atomic_load_explicit(&s->charge, memory_order_relaxed));

	peak_note(p, PEAK_SESSION_PAGES, frames + (bytes + GRANT_FRAME - 1) / GRANT_FRAME);
	peak_note(p, PEAK_SESSION_OBJECTS,
	          positive(atomic_load_explicit(&s->objects, memory_order_relaxed)));
	peak_note(p, PEAK_SESSION_CHANNELS,
	          atomic_load_explicit(&s->data_channels, memory_order_relaxed));
	peak_note(p, PEAK_SESSION_HOLDERS, atomic_load_explicit(&s->holds, memory_order_relaxed));
	peak_note(p, PEAK_SESSION_CALLS,
	          atomic_load_explicit(&s->calls_in_flight, memory_order_relaxed));
}

static void look_at_sessions(struct peak *p, struct session_table *t)
{
	uint64_t sessions = 0, holders = 0;
	uint32_t id;

	for (id = 1; id < session_table_size(t); id++) {
		const struct session *s = session_by_id(t, id);
		uint32_t state = atomic_load_explicit(&s->state, memory_order_relaxed);

		if (state == SESSION_FREE || state == SESSION_GONE)
			continue;
		sessions++;
		holders += atomic_load_explicit(&s->holds, memory_order_relaxed);
		look_at_session(p, s);
	}
	peak_note(p, PEAK_SESSIONS, sessions);
	peak_note(p, PEAK_HOLDERS, holders);
}

static uint64_t used_now(const struct mm_domain *zones)
{
	struct mm_zone_stats z;
	uint64_t used = 0;
	uint32_t node;
	unsigned int type;

	for (node = 0; node < mm_nr_nodes(zones); node++)
		for (type = 0; type < MAX_NR_ZONES; type++) {
			mm_zone_stats(zones, node, (enum zone_type)type, &z);
			used += z.managed - z.free;
		}
	return used;
}

void peak_tick(struct kmmd *kmmd)
{
	struct peak *p = kmmd->peak;

	if (!p)
		return;
	peak_note(p, PEAK_USED, used_now(kmmd->domain->zones));
	peak_note(p, PEAK_NAMES, name_total(kmmd->domain->names));
	peak_note(p, PEAK_CACHES, cache_total(kmmd->domain));
	look_at_sessions(p, kmmd->sessions);
}

/* SPDX-License-Identifier: MIT */
/*
 * A domain's life: its parts are made in an order in which each finds what it needs.
 *
 *   high       which page has which frame where pages move (high.c)
 *   zones      nodes and zones, without frames yet
 *   holders    the persistent table
 *   names      the same
 *   slabs      the space of caches (mm/), empty
 *              then all of them together: of a new pool the sections come online; after a restart
 *              domain_recover.c judges what the words say
 *   depot      magazines that sessions had stay lent, all others are empty
 *   rack       what members had in theirs was emptied with the rest
 *   caches     what the slab layer took over, as sessions see it; the kmalloc families
 *   waiters    nobody waits
 *
 * domain_recover.c has the judgement after a restart. There is one domain, 0, "default"; it owns
 * every section that is online.
 */
#include "daemon/domain.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/cache.h"
#include "daemon/compact.h"
#include "daemon/depot.h"
#include "daemon/domain_private.h"
#include "daemon/high.h"
#include "daemon/holder.h"
#include "daemon/log.h"
#include "daemon/name.h"
#include "daemon/object.h"
#include "daemon/peak.h"
#include "daemon/pool.h"
#include "daemon/pressure.h"
#include "daemon/rack.h"
#include "daemon/wait_queue.h"
#include "daemon/worker.h"
#include "shm/guard.h"

#define DOMAIN_DAMAGE_LINES 100u

/* The words' mapping was patched (shm/guard.h): this process reads zeroes where members read and
 * write something else, so nothing is exchanged there any more. */
static void check_spoiled(struct domain *d)
{
	/* relaxed: one writer; see grant_check_domain() */
	if (atomic_load_explicit(&d->spoiled, memory_order_relaxed) ||
	    !guard_spoiled(d->control.word))
		return;
	atomic_store_explicit(&d->spoiled, true, memory_order_relaxed);
	domain_damage(d, "a member has spoiled its control memory; nothing more is granted");
}

/* What takes longer than a reactor may be busy. */
static void tick_run(struct worker_job *job)
{
	struct domain *d = (struct domain *)((char *)job - offsetof(struct domain, tick));

	slab_tick(d->slabs);
	cache_tick(d);
	compact_tick(d);
	if (d->kmmd->sessions)
		session_table_tick(d->kmmd->sessions);
	peak_tick(d->kmmd);
	/* release: pairs with the exchange in domain_tick(); the job may be submitted again */
	atomic_store_explicit(&d->ticking, false, memory_order_release);
}

static void tick_submit(struct domain *d)
{
	/* acq_rel: pairs with the store above. A worker that is busy misses a tick, no more. */
	if (atomic_exchange_explicit(&d->ticking, true, memory_order_acq_rel))
		return;
	d->tick.run = tick_run;
	if (d->kmmd->worker)
		worker_submit(d->kmmd->worker, &d->tick);
	else
		tick_run(&d->tick);
}

void domain_tick(struct domain *d)
{
	_Atomic uint32_t *scarce = &d->control.status->scarce;
	/* relaxed: a hint; a failure that is lost between the two is followed by another or none */
	uint32_t left = atomic_load_explicit(scarce, memory_order_relaxed);

	mm_tick(d->zones);
	pressure_tick(d->pressure);
	tick_submit(d);
	check_spoiled(d);
	if (left)
		atomic_store_explicit(scarce, left - 1, memory_order_relaxed);
}

void domain_damage(struct domain *d, const char *fmt, ...)
{
	/* relaxed: counters for reports */
	uint32_t n = atomic_fetch_add_explicit(&d->damaged, 1, memory_order_relaxed);
	static const struct log_about about = { .event = LOG_DAMAGE };
	char text[240];
	va_list ap;

	atomic_store_explicit(&d->control.status->damaged, 1, memory_order_relaxed);
	if (n > DOMAIN_DAMAGE_LINES)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_event(LOG_LEVEL_ERROR, &about, "domain %s is damaged: %s%s", d->name, text,
	          n == DOMAIN_DAMAGE_LINES ? " (further lines are left out)" : "");
}

/* A new pool: no frame is allocated, every word is free. */
static int bring_online(struct domain *d)
{
	uint32_t nr, n = mm_nr_sections(d->mm);
	int r;

	for (nr = 0; nr < n; nr++) {
		section_id_t s = { nr };
		struct section_info info;

		mm_section_get(d->mm, s, &info);
		if (info.state != SECTION_ONLINE || info.domain != d->id)
			continue;
		r = mm_domain_online(d->zones, s);
		if (r < 0)
			return r;
	}
	mm_domain_ready(d->zones);
	return 0;
}

/* The space of caches, over the ledger. */
static int slabs_make(struct domain *d, const struct pool *pool)
{
	const struct slab_memory memory = {
		.cache = pool->ledger.cache,
		.caches = pool->ledger.layout.nr_caches,
		.slab = pool->ledger.slab,
		.out = pool->ledger.out,
		.words = d->control.object_words,
	};

	return slab_space_new(&d->slabs, d->mm, d->zones, &memory, &object_slab_ops, d);
}

static int domain_make(struct domain *d, const struct pool *pool)
{
	uint32_t *lent = NULL;
	int r;

	r = high_open(d, pool);
	if (r == 0)
		r = mm_domain_new(&d->zones, d->mm, d->id);
	if (r < 0)
		return r;
	r = holder_table_new(&d->holders, pool->holder, pool->nr_holders);
	if (r == 0)
		r = name_table_new(&d->names, d, pool->ledger.name, LEDGER_NAMES_MAX);
	if (r == 0)
		r = slabs_make(d, pool);
	if (r < 0)
		return r;
	if (pool->recovered) {
		lent = calloc(d->control.geometry.magazines + 1, sizeof(*lent));
		r = lent ? domain_recover(d, pool, lent) : -ENOMEM;
	} else {
		r = bring_online(d);
	}
	if (r >= 0)
		r = depot_new(&d->depot, &d->control, mm_nr_nodes(d->zones),
		              pool_present(pool) / DOMAIN_DEPOT_PART, lent);
	free(lent);
	if (r >= 0)
		r = rack_new(&d->rack, d);
	if (r >= 0)
		r = cache_table_new(&d->caches, d);
	if (r >= 0)
		r = pressure_new(&d->pressure, d);
	if (r >= 0)
		r = compact_new(&d->compact, d);
	if (r >= 0)
		r = wait_queue_new(&d->waiters, &pressure_ops, d->pressure);
	return r;
}

int domain_new(struct domain **ret, struct kmmd *kmmd)
{
	struct pool *pool = kmmd->pool;
	struct domain *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	d->id = 0;
	d->name = "default";
	d->kmmd = kmmd;
	d->mm = pool->mm;
	d->control = pool->control;
	d->granule_shift = control_granule_shift(control_pages(&pool->control.geometry));
	/* release: pairs with the clients' loads; one of a dead daemon's flags may still be set */
	atomic_store_explicit(&d->control.status->pressure, 0, memory_order_release);
	r = domain_make(d, pool);
	if (r < 0) {
		domain_free(d);
		return r;
	}
	*ret = d;
	return 0;
}

struct domain *domain_free(struct domain *d)
{
	if (!d)
		return NULL;
	d->waiters = wait_queue_free(d->waiters);
	d->pressure = pressure_free(d->pressure);
	d->compact = compact_free(d->compact);
	d->rack = rack_free(d->rack);
	d->depot = depot_free(d->depot);
	d->caches = cache_table_free(d->caches);
	d->slabs = slab_space_free(d->slabs);
	d->names = name_table_free(d->names);
	d->holders = holder_table_free(d->holders);
	d->zones = mm_domain_free(d->zones);
	high_close(d);
	free(d->object_sum);
	free(d);
	return NULL;
}

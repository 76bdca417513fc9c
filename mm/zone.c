/* SPDX-License-Identifier: MIT */
/*
 * Domains, nodes, zones and zonelists.
 *
 * Concept: a domain owns one zone for each node and zone class of the pool's geometry. Zones begin
 * empty; sections bring frames. Which zones a request may use, and in which order, is a zonelist:
 * by node, the nearest first, within a node from the least precious zone (Movable) to the most
 * precious (DMA). Lists hold every zone that the geometry has; one that is empty at the moment
 * fails its watermark check, so that sections may come while others allocate.
 *
 * Distances are the machine's where the pool's nodes lie on several of its own (mm_config.distance),
 * else all are equally far from each other. As in Linux, equal ones are told apart by preferring
 * higher numbers (wrapping around) and by a load that spreads the first fallback over the nodes.
 *
 * Sections come while others allocate and free: their counts first, then their frames, a block of
 * the largest order a hold; limits follow with mm_domain_ready(), one atomic word after the other.
 * Who reads some old and some new ones decides a little too strictly or too generously, once. How
 * sections leave is in hotplug.c.
 *
 * Locking: hotplug (one section at a time, and the limits), then the zone's lock.
 * Complexity: a section comes online in O(frames / 1024) when nothing in it is reserved.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "buddy.h"
#include "pcp.h"
#include "watermark.h"

static bool node_has_cpu(const struct mm *mm, uint32_t node)
{
	for (uint32_t cpu = 0; cpu < mm->config.cpus; cpu++)
		if (mm->cpu_node[cpu] == node)
			return true;
	return false;
}

/* The nearest node not used yet, MAX_NODES: none. */
static uint32_t node_next(const struct mm *mm, uint32_t self, const bool used[],
                          const uint32_t load[])
{
	const struct mm_config *c = &mm->config;
	uint32_t best = MAX_NODES, least = UINT32_MAX;

	if (!used[self])
		return self;
	for (uint32_t n = 0; n < c->nodes; n++) {
		uint32_t value = mm_node_distance(mm, self, n) + (n < self) + node_has_cpu(mm, n);

		value = value * MAX_NODES + load[n];
		if (!used[n] && value < least) {
			least = value;
			best = n;
		}
	}
	return best;
}

static void zonelist_add_node(struct zonelist *l, struct mm_domain *d, uint32_t node)
{
	for (uint32_t z = MAX_NR_ZONES; z-- > 0;)
		if (domain_zone(d, node, z)->span)
			l->zone[l->nr++] = domain_zone(d, node, z);
}

static void zonelist_finish(struct zonelist *l)
{
	for (uint32_t class = 0; class < MAX_NR_ZONES; class++) {
		l->first[class] = 0;
		while (l->first[class] < l->nr && l->zone[l->first[class]]->index > class)
			l->first[class]++;
	}
}

static void zonelists_build(struct mm_domain *d)
{
	const struct mm_config *c = &d->mm->config;
	uint32_t load[MAX_NODES] = { 0 };
	struct zone **refs = d->refs;

	for (uint32_t self = 0; self < c->nodes; self++) {
		struct zonelist *all = &d->lists[self * MAX_ZONELISTS + ZONELIST_FALLBACK];
		struct zonelist *own = &d->lists[self * MAX_ZONELISTS + ZONELIST_NOFALLBACK];
		bool used[MAX_NODES] = { false };
		uint32_t n, previous = self;

		all->zone = refs;
		while ((n = node_next(d->mm, self, used, load)) != MAX_NODES) {
			/* the first of each group of equals is loaded by being first */
			if (mm_node_distance(d->mm, self, n) !=
			    mm_node_distance(d->mm, self, previous))
				load[n]++;
			used[n] = true;
			previous = n;
			zonelist_add_node(all, d, n);
		}
		refs += all->nr;
		own->zone = refs;
		zonelist_add_node(own, d, self);
		refs += own->nr;
		zonelist_finish(all);
		zonelist_finish(own);
	}
}

void zone_reset(struct zone *z)
{
	relaxed_store(&z->present, 0);
	relaxed_store(&z->managed, 0);
	relaxed_store(&z->max_order, 0);
	relaxed_store(&z->nr_free, 0);
	relaxed_store(&z->nr_free_least, 0);
	relaxed_store(&z->nr_free_special, 0);
	relaxed_store(&z->nr_free_isolated, 0);
	relaxed_store(&z->nr_reserved_highatomic, 0);
	relaxed_store(&z->boost, 0);
	relaxed_store(&z->flags, 0);
	for (uint32_t t = 0; t < MIGRATE_TYPES; t++) {
		relaxed_store(&z->nonempty[t], 0);
		z->pageblocks[t] = 0;
		for (uint32_t o = 0; o < NR_PAGE_ORDERS; o++)
			z->list[o][t] = (struct free_list){ PFN_NONE, PFN_NONE, 0 };
	}
	for (uint32_t c = 0; z->pcp && c < z->mm->config.cpus; c++)
		pcp_reset(&z->pcp[c]);
	compaction_zone_reset(z);
}

static int zones_init(struct mm_domain *d)
{
	struct mm *mm = d->mm;

	for (uint32_t i = 0; i < mm->config.nodes * MAX_NR_ZONES; i++) {
		struct zone *z = &d->zones[i];

		z->mm = mm;
		z->domain = d;
		z->node = (uint8_t)(i / MAX_NR_ZONES);
		z->index = (uint8_t)(i % MAX_NR_ZONES);
		lock_init(&z->lock, LOCK_RANK_ZONE);
	}
	for (uint32_t s = 0; s < mm->zones_end; s++) {
		struct zone *z = &d->zones[mm->section_zone[s]];

		if (z->span == 0)
			z->start = mm_section_start(mm, (section_id_t){ s });
		z->span += 1u << mm->config.section_order;
	}
	for (uint32_t i = 0; i < mm->config.nodes * MAX_NR_ZONES; i++) {
		int err = d->zones[i].span ? pcp_new(&d->zones[i].pcp, mm->config.cpus) : 0;

		if (err)
			return err;
		zone_reset(&d->zones[i]);
	}
	return 0;
}

int mm_domain_new(struct mm_domain **ret, struct mm *mm, uint32_t id)
{
	uint32_t nodes = mm->config.nodes, nr = nodes * MAX_NR_ZONES;
	struct mm_domain *d;
	int err = -ENOMEM;

	if (id > PAGE_DOMAIN_MASK)
		return -EINVAL;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->mm = mm;
	d->id = id;
	d->cpus = mm->config.cpus;
	d->section_order = mm->config.section_order;
	d->page = mm->page;
	d->pageblock = mm->pageblock;
	d->section_zone = mm->section_zone;
	lock_init(&d->hotplug, LOCK_RANK_HOTPLUG);
	d->zones = aligned_alloc(alignof(struct zone), nr * sizeof(*d->zones));
	if (d->zones)
		memset(d->zones, 0, nr * sizeof(*d->zones));
	d->lists = calloc(nodes * MAX_ZONELISTS, sizeof(*d->lists));
	d->refs = calloc((size_t)(nodes + 1) * nr, sizeof(struct zone *));
	d->hint = aligned_alloc(alignof(struct cpu_hint), mm->config.cpus * sizeof(*d->hint));
	for (uint32_t c = 0; d->hint && c < mm->config.cpus; c++)
		d->hint[c] = (struct cpu_hint){ .index = UINT32_MAX };
	if (d->zones && d->lists && d->refs && d->hint)
		err = zones_init(d);
	if (err) {
		mm_domain_free(d);
		return err;
	}
	zonelists_build(d);
	mm_domain_ready(d);
	*ret = d;
	return 0;
}

struct mm_domain *mm_domain_free(struct mm_domain *d)
{
	if (!d)
		return NULL;
	isolations_free(d);
	for (uint32_t i = 0; d->zones && i < d->mm->config.nodes * MAX_NR_ZONES; i++)
		pcp_free_all(d->zones[i].pcp, d->mm->config.cpus);
	for (uint32_t s = 0; s < d->mm->nr_sections; s++) {
		pfn_t start = mm_section_start(d->mm, (section_id_t){ s });

		if (d->mm->owner[s] != d)
			continue;
		mm_clear_marks(d->mm, start, start + (1u << d->mm->config.section_order));
		d->mm->owner[s] = NULL;
	}
	free(d->zones);
	free(d->lists);
	free(d->refs);
	free(d->hint);
	free(d);
	return NULL;
}

/* The end of the largest possible block around pfn: no free block reaches beyond it. */
static pfn_t chunk_end(pfn_t pfn, pfn_t end)
{
	pfn_t stop = (pfn | ((1u << MAX_PAGE_ORDER) - 1)) + 1;

	return stop < end ? stop : end;
}

static void release_chunk(struct zone *z, pfn_t start, pfn_t end)
{
	LOCK_SCOPED(&z->lock);
	for (pfn_t pfn = start; pfn < end;) {
		/* no larger than a pageblock: beyond, types decide whether blocks join */
		uint32_t order = PAGEBLOCK_ORDER;

		if (pfn != 0 && (uint32_t)__builtin_ctz(pfn) < order)
			order = (uint32_t)__builtin_ctz(pfn);
		while ((pfn_t)1 << order > end - pfn)
			order--;
		buddy_insert(z, pfn, order, true);
		buddy_count_free(z, (int64_t)1 << order);
		pfn += (pfn_t)1 << order;
	}
}

void zone_release_range(struct zone *z, pfn_t start, pfn_t end)
{
	for (pfn_t pfn = start; pfn < end; pfn = chunk_end(pfn, end))
		release_chunk(z, pfn, chunk_end(pfn, end));
}

static void section_types(const struct mm *mm, section_id_t s, uint32_t types[MIGRATE_TYPES])
{
	pfn_t start = mm_section_start(mm, s), end = start + (1u << mm->config.section_order);

	for (pfn_t pfn = start; pfn < end; pfn += PAGEBLOCK_NR_PAGES)
		if (mm_pageblock_managed(mm, pfn))
			types[mm_pageblock_type(mm, pfn)]++;
}

void zone_account_section(struct mm_domain *d, section_id_t s)
{
	struct mm *mm = d->mm;
	struct zone *z = &d->zones[mm->section_zone[s.nr]];
	const struct section_geometry *g = &mm->geometry[s.nr];
	uint32_t types[MIGRATE_TYPES] = { 0 };

	section_types(mm, s, types);
	LOCK_SCOPED(&z->lock);
	for (uint32_t t = 0; t < MIGRATE_TYPES; t++)
		z->pageblocks[t] += types[t];
	relaxed_add(&z->nr_reserved_highatomic,
	            (uint64_t)types[MIGRATE_HIGHATOMIC] * PAGEBLOCK_NR_PAGES);
	relaxed_add(&z->present, g->present);
	relaxed_add(&z->managed, g->managed);
	if (g->max_order > relaxed_load(&z->max_order))
		relaxed_store(&z->max_order, g->max_order);
	relaxed_store(&z->compact_blockskip_flush, true);
}

void zone_unaccount_section(struct mm_domain *d, section_id_t s)
{
	struct mm *mm = d->mm;
	struct zone *z = &d->zones[mm->section_zone[s.nr]];
	const struct section_geometry *g = &mm->geometry[s.nr];
	uint32_t types[MIGRATE_TYPES] = { 0 }, largest = 0;

	section_types(mm, s, types);
	for (uint32_t i = 0; i < mm->zones_end; i++) {
		if (i == s.nr || mm->owner[i] != d || mm->section_zone[i] != mm->section_zone[s.nr])
			continue;
		if (mm->geometry[i].max_order > largest)
			largest = mm->geometry[i].max_order;
	}
	LOCK_SCOPED(&z->lock);
	for (uint32_t t = 0; t < MIGRATE_TYPES; t++)
		z->pageblocks[t] -= types[t];
	relaxed_sub(&z->nr_reserved_highatomic,
	            (uint64_t)types[MIGRATE_HIGHATOMIC] * PAGEBLOCK_NR_PAGES);
	relaxed_sub(&z->present, g->present);
	relaxed_sub(&z->managed, g->managed);
	relaxed_store(&z->max_order, largest);
	relaxed_store(&z->compact_blockskip_flush, true);
}

/* Others of the domain look at marks under the zone's lock as soon as the section's word says that
 * it is theirs, which may be before it comes. */
static void clear_marks(struct zone *z, pfn_t start, pfn_t end)
{
	for (pfn_t pfn = start; pfn < end; pfn = chunk_end(pfn, end)) {
		LOCK_SCOPED(&z->lock);
		mm_clear_marks(z->mm, pfn, chunk_end(pfn, end));
	}
}

int mm_domain_online(struct mm_domain *d, section_id_t s)
{
	struct mm *mm = d->mm;
	pfn_t start, end, pfn;

	if (s.nr >= mm->zones_end)
		return -EINVAL;
	LOCK_SCOPED(&d->hotplug);
	if (mm->owner[s.nr])
		return -EEXIST;
	start = mm_section_start(mm, s);
	end = start + (1u << mm->config.section_order);
	for (pfn = start; pfn < end; pfn++)
		if (page_peek(&mm->page[pfn]) != 0)
			return -EBUSY;
	mm->owner[s.nr] = d;
	for (pfn = start; pfn < end; pfn += PAGEBLOCK_NR_PAGES)
		mm_pageblock_set_type(mm, pfn, MIGRATE_MOVABLE);
	clear_marks(domain_zone_of(d, start), start, end);
	zone_account_section(d, s);
	for (pfn = start; pfn < end;) {
		pfn_t first;

		while (pfn < end && !mm_frame_managed(mm, pfn))
			pfn++;
		first = pfn;
		while (pfn < end && mm_frame_managed(mm, pfn))
			pfn++;
		zone_release_range(domain_zone_of(d, start), first, pfn);
	}
	return 0;
}

/* One node, grouping by type, a first zone that has frames: the zone is known beforehand. */
static uint8_t domain_fast_entry(const struct mm_domain *d, gfp_t gfp)
{
	const struct zonelist *l = &d->lists[ZONELIST_FALLBACK];
	uint32_t class = gfp_zone(gfp), type = gfp_migratetype(gfp);

	if (class == GFP_ZONE_BAD || type >= MIGRATE_PCPTYPES || d->mm->config.nodes != 1 ||
	    relaxed_load(&d->grouping_disabled))
		return 0;
	for (uint32_t i = l->first[class]; i < l->nr; i++)
		if (l->zone[i]->index <= class && relaxed_load(&l->zone[i]->managed))
			return FAST_ENTRY(l->zone[i]->index, class, type);
	return 0;
}

void mm_domain_ready(struct mm_domain *d)
{
	uint32_t nr = d->mm->config.nodes * MAX_NR_ZONES;
	uint64_t managed = 0;

	LOCK_SCOPED(&d->hotplug);
	watermark_setup(d);
	for (uint32_t i = 0; i < nr; i++) {
		pcp_setup(&d->zones[i]);
		managed += relaxed_load(&d->zones[i].managed);
	}
	relaxed_store(&d->grouping_disabled, managed < PAGEBLOCK_NR_PAGES * MIGRATE_TYPES);
	for (gfp_t bits = 0; bits < 32; bits++)
		relaxed_store(&d->fast[bits], domain_fast_entry(d, bits));
}

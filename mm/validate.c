/* SPDX-License-Identifier: MIT */
/*
 * The validator: walks every structure of a domain and compares them with each other.
 *
 * Concept: each managed frame is in exactly one place: inside an allocated block, inside a free
 * block on a list, or on a per-CPU list. The walk marks frames in a map by place; whatever is
 * marked twice or not at all is a finding, and so is each counter that differs from what was
 * counted, each broken link, and each pair of free buddies that should have merged.
 *
 * Nothing is trusted: links are followed at most as often as there are frames, and every frame
 * number is checked before it is used. Nothing is changed.
 *
 * Locking: none; the caller keeps others away. Complexity: O(frames).
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "pcp.h"
#include "watermark.h"

enum place { PLACE_NONE, PLACE_ALLOCATED, PLACE_FREE, PLACE_PCP };

struct walk {
	struct mm_domain *d;
	mm_report_fn report;
	void *ctx;
	size_t findings;
	uint8_t *place; /* by pfn */
};

__attribute__((format(printf, 2, 3))) static void finding(struct walk *k, const char *format, ...)
{
	char text[200];
	va_list ap;

	k->findings++;
	if (!k->report)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	k->report(k->ctx, text);
}

static const char *zone_text(const struct zone *z, char buffer[static 32])
{
	snprintf(buffer, 32, "node %u zone %s", z->node, zone_names[z->index]);
	return buffer;
}

/* Marks a block's frames; they must be managed frames of the zone that nothing else has. */
static void mark(struct walk *k, const struct zone *z, pfn_t pfn, uint32_t order, enum place place)
{
	static const char *const names[] = { "nowhere", "allocated", "free", "on a per-CPU list" };
	struct mm *mm = k->d->mm;

	if (pfn & (((pfn_t)1 << order) - 1))
		finding(k, "frame %" PRIu32 ": %s with order %u, but not aligned", pfn,
		        names[place], order);
	for (pfn_t i = pfn; i < pfn + ((pfn_t)1 << order) && i < mm->config.frames; i++) {
		uint32_t s = i >> mm->config.section_order;

		if (mm->owner[s] != k->d || &k->d->zones[mm->section_zone[s]] != z)
			finding(k, "frame %" PRIu32 ": %s, but not of this zone", i, names[place]);
		if (!mm_frame_managed(mm, i))
			finding(k, "frame %" PRIu32 ": %s, but reserved or absent", i,
			        names[place]);
		if (k->place[i] != PLACE_NONE)
			finding(k, "frame %" PRIu32 ": %s and %s", i, names[place],
			        names[k->place[i]]);
		if (place != PLACE_ALLOCATED && page_peek(&mm->page[i]) != 0)
			finding(k, "frame %" PRIu32 ": %s, but its state is 0x%" PRIx64, i,
			        names[place], page_peek(&mm->page[i]));
		k->place[i] = (uint8_t)place;
	}
}

static void walk_allocated(struct walk *k, uint32_t s)
{
	struct mm *mm = k->d->mm;
	struct zone *z = &k->d->zones[mm->section_zone[s]];
	pfn_t start = mm_section_start(mm, (section_id_t){ s });
	pfn_t end = start + (1u << mm->config.section_order);

	for (pfn_t pfn = start; pfn < end; pfn++) {
		uint64_t w = page_peek(&mm->page[pfn]);

		if (w == 0)
			continue;
		if (!(w & PAGE_ALLOCATED) || page_word_order(w) > MAX_PAGE_ORDER ||
		    page_word_domain(w) != k->d->id || w >> PAGE_USED_BITS ||
		    page_word_migratetype(w) >= MIGRATE_PCPTYPES) {
			finding(k, "frame %" PRIu32 ": impossible state 0x%" PRIx64, pfn, w);
			continue;
		}
		mark(k, z, pfn, page_word_order(w), PLACE_ALLOCATED);
	}
}

static void check_free_block(struct walk *k, pfn_t pfn, uint32_t order, uint32_t type)
{
	struct mm *mm = k->d->mm;
	pfn_t other = pfn ^ (pfn_t)1 << order, size = (pfn_t)1 << order;
	uint8_t b = *mm_mark(mm, pfn, order);

	if (b != (BUDDY_FREE | type << BUDDY_MT_SHIFT | order))
		finding(k, "frame %" PRIu32 ": on the list of order %u type %u, marked 0x%x", pfn,
		        order, type, b);
	for (pfn_t i = pfn; i < pfn + size && i < mm->config.frames; i += PAGEBLOCK_NR_PAGES)
		if (mm_pageblock_type(mm, i) != type)
			finding(k, "frame %" PRIu32 ": on a list of type %u in a pageblock of %u",
			        i, type, mm_pageblock_type(mm, i));
	if (order == MAX_PAGE_ORDER || other >= mm->config.frames)
		return;
	if (!mm_is_free(mm, other, order))
		return;
	b = *mm_mark(mm, other, order);
	if (BUDDY_MT(b) == type || (BUDDY_MT(b) < MIGRATE_PCPTYPES && type < MIGRATE_PCPTYPES))
		finding(k, "frame %" PRIu32 ": free, as is its buddy of order %u, but not merged",
		        pfn, order);
}

static uint64_t walk_list(struct walk *k, struct zone *z, uint32_t order, uint32_t type)
{
	struct mm *mm = k->d->mm;
	const struct free_list *l = &z->list[order][type];
	pfn_t pfn = l->head, previous = PFN_NONE;
	uint32_t nr = 0;
	char name[32];

	while (pfn != PFN_NONE && nr < l->nr) {
		if (pfn >= mm->config.frames) {
			finding(k, "%s order %u type %u: link to frame %" PRIu32,
			        zone_text(z, name), order, type, pfn);
			break;
		}
		if (mm_link(mm, pfn, order)->prev != previous)
			finding(k, "frame %" PRIu32 ": its link back is broken", pfn);
		mark(k, z, pfn, order, PLACE_FREE);
		check_free_block(k, pfn, order, type);
		previous = pfn;
		pfn = mm_link(mm, pfn, order)->next;
		nr++;
	}
	if (nr != l->nr || pfn != PFN_NONE || l->tail != previous)
		finding(k, "%s order %u type %u: %u blocks counted, %u found, or a wrong end",
		        zone_text(z, name), order, type, l->nr, nr);
	if ((relaxed_load(&z->nonempty[type]) >> order & 1) != (l->nr != 0))
		finding(k, "%s order %u type %u: the mask is wrong", zone_text(z, name), order,
		        type);
	return (uint64_t)nr << order;
}

static void walk_free(struct walk *k, struct zone *z)
{
	uint64_t free = 0, highatomic = 0, isolated = 0;
	char name[32];

	for (uint32_t o = 0; o < NR_PAGE_ORDERS; o++) {
		for (uint32_t t = 0; t < MIGRATE_TYPES; t++) {
			uint64_t n = walk_list(k, z, o, t);

			free += n;
			if (t == MIGRATE_HIGHATOMIC)
				highatomic += n;
			if (t == MIGRATE_ISOLATE)
				isolated += n;
		}
	}
	if (free != relaxed_load(&z->nr_free))
		finding(k, "%s: %" PRIu64 " frames free, counted %" PRIu64, zone_text(z, name),
		        free, relaxed_load(&z->nr_free));
	if (highatomic != zone_free_highatomic(z))
		finding(k, "%s: %" PRIu64 " high-atomic frames free, counted %" PRIu64,
		        zone_text(z, name), highatomic, zone_free_highatomic(z));
	if (isolated != relaxed_load(&z->nr_free_isolated))
		finding(k, "%s: %" PRIu64 " isolated frames free, counted %" PRIu64,
		        zone_text(z, name), isolated, relaxed_load(&z->nr_free_isolated));
}

static void walk_pcp(struct walk *k, struct zone *z, uint32_t cpu)
{
	struct pcp *p = &z->pcp[cpu];
	uint32_t count = 0;
	char name[32];

	for (uint32_t i = 0; i < NR_PCP_LISTS; i++) {
		const struct pcp_list *l = &p->list[i];
		uint32_t nr = l->top - l->bottom;

		if (nr && (!l->slot || nr - 1 > l->mask)) {
			finding(k, "%s cpu %u: list %u holds more than fits", zone_text(z, name),
			        cpu, i);
			continue;
		}
		for (uint32_t at = l->bottom; at != l->top; at++) {
			pfn_t pfn = l->slot[at & l->mask];

			if (pfn >= k->d->mm->config.frames) {
				finding(k, "%s cpu %u: list %u has frame %" PRIu32,
				        zone_text(z, name), cpu, i, pfn);
				continue;
			}
			mark(k, z, pfn, pcp_list_order(i), PLACE_PCP);
		}
		count += nr << pcp_list_order(i);
	}
	if (count != relaxed_load(&p->count))
		finding(k, "%s cpu %u: %u frames on its lists, counted %u", zone_text(z, name), cpu,
		        count, relaxed_load(&p->count));
	if (relaxed_load(&z->managed) != 0 && relaxed_load(&p->batch) == 0)
		finding(k, "%s cpu %u: limits were never set", zone_text(z, name), cpu);
}

/* What was counted in the sections of a zone. */
struct census {
	uint64_t pageblocks[MIGRATE_TYPES];
	uint64_t present, managed;
	uint32_t max_order;
};

/* What only a look at all frames of a section shows. */
static void walk_section(struct walk *k, uint32_t s, struct census census[])
{
	struct mm *mm = k->d->mm;
	struct census *c = &census[mm->section_zone[s]];
	pfn_t start = mm_section_start(mm, (section_id_t){ s });
	pfn_t end = start + (1u << mm->config.section_order);
	uint64_t w = sparse_section_word(mm, (section_id_t){ s });
	bool isolated = isolation_find(k->d, (section_id_t){ s });
	pfn_t covered = start;
	bool any = false;

	if (section_word_state(w) != SECTION_ONLINE || section_word_domain(w) != k->d->id)
		finding(k, "section %u: its frames are in the zones, but its state is 0x%" PRIx64,
		        s, w);
	c->present += mm->geometry[s].present;
	if (mm->geometry[s].max_order > c->max_order)
		c->max_order = mm->geometry[s].max_order;
	for (pfn_t pfn = start; pfn < end; pfn++) {
		uint8_t b = mm->mark[pfn];

		if (pfn % PAGEBLOCK_NR_PAGES == 0) {
			uint8_t large = *mm_mark(mm, pfn, PAGEBLOCK_ORDER);

			if (b && large)
				finding(k, "frame %" PRIu32 ": marked as two free blocks", pfn);
			b |= large;
		}
		if (mm_frame_managed(mm, pfn)) {
			c->managed++;
			any = true;
			if (k->place[pfn] == PLACE_NONE)
				finding(k, "frame %" PRIu32 ": lost", pfn);
		}
		if (b && k->place[pfn] != PLACE_FREE)
			finding(k, "frame %" PRIu32 ": marked free (0x%x), but on no list", pfn, b);
		/* inside a free block there are no other marks */
		if (b && pfn < covered)
			finding(k, "frame %" PRIu32 ": marked inside a free block", pfn);
		if (b & BUDDY_FREE)
			covered = pfn + ((pfn_t)1 << BUDDY_ORDER(b));
		if ((pfn + 1) % PAGEBLOCK_NR_PAGES == 0) {
			uint32_t type = mm_pageblock_type(mm, pfn);

			if (type >= MIGRATE_TYPES)
				finding(k, "frame %" PRIu32 ": pageblock of type %u", pfn, type);
			else if (any)
				c->pageblocks[type]++;
			if (any && isolated != (type == MIGRATE_ISOLATE))
				finding(k, "frame %" PRIu32 ": type %u, its section is%s isolated",
				        pfn, type, isolated ? "" : " not");
			any = false;
		}
	}
}

/* A section of no domain: nothing of it is left in anybody's zones. */
static void walk_outside(struct walk *k, uint32_t s)
{
	struct mm *mm = k->d->mm;
	pfn_t start = mm_section_start(mm, (section_id_t){ s });

	for (pfn_t pfn = start; pfn < start + (1u << mm->config.section_order); pfn++)
		if (mm->mark[pfn] || (pfn % PAGEBLOCK_NR_PAGES == 0 &&
		                      *mm_mark(mm, pfn, PAGEBLOCK_ORDER)))
			finding(k, "frame %" PRIu32 ": marked free, but its section is in no zone",
			        pfn);
}

static void check_zone(struct walk *k, const struct zone *z, const struct census *c)
{
	char name[32];

	if (c->managed != relaxed_load(&z->managed))
		finding(k, "%s: %" PRIu64 " managed frames, counted %" PRIu64, zone_text(z, name),
		        c->managed, relaxed_load(&z->managed));
	if (c->present != relaxed_load(&z->present))
		finding(k, "%s: %" PRIu64 " present frames, counted %" PRIu64, zone_text(z, name),
		        c->present, relaxed_load(&z->present));
	if (relaxed_load(&z->present) < c->managed || z->span < relaxed_load(&z->present))
		finding(k, "%s: not managed <= present <= spanned", zone_text(z, name));
	if (c->max_order != relaxed_load(&z->max_order))
		finding(k, "%s: blocks of less than order %u fit, noted %u", zone_text(z, name),
		        c->max_order, relaxed_load(&z->max_order));
	for (uint32_t t = 0; t < MIGRATE_TYPES; t++)
		if (c->pageblocks[t] != z->pageblocks[t])
			finding(k, "%s: %" PRIu64 " pageblocks of type %s, counted %" PRIu64,
			        zone_text(z, name), c->pageblocks[t], migratetype_names[t],
			        z->pageblocks[t]);
	if (c->pageblocks[MIGRATE_HIGHATOMIC] * PAGEBLOCK_NR_PAGES !=
	    relaxed_load(&z->nr_reserved_highatomic))
		finding(k, "%s: %" PRIu64 " frames reserved, %" PRIu64 " pageblocks",
		        zone_text(z, name), relaxed_load(&z->nr_reserved_highatomic),
		        c->pageblocks[MIGRATE_HIGHATOMIC]);
	for (uint32_t w = 1; w < NR_WMARK; w++)
		if (relaxed_load(&z->wmark[w]) < relaxed_load(&z->wmark[w - 1]))
			finding(k, "%s: watermark %u is below the one before", zone_text(z, name),
			        w);
}

size_t mm_validate(struct mm_domain *d, mm_report_fn report, void *ctx)
{
	struct walk k = { .d = d, .report = report, .ctx = ctx };
	struct mm *mm = d->mm;
	uint32_t nr = mm->config.nodes * MAX_NR_ZONES;
	struct census *census = calloc(nr, sizeof(*census));

	k.place = calloc(mm->config.frames, 1);
	if (!census || !k.place) {
		finding(&k, "not enough memory to validate");
	} else {
		for (uint32_t s = 0; s < mm->nr_sections; s++)
			if (mm->owner[s] == d)
				walk_allocated(&k, s);
		for (uint32_t i = 0; i < nr; i++) {
			walk_free(&k, &d->zones[i]);
			for (uint32_t c = 0; d->zones[i].pcp && c < mm->config.cpus; c++)
				walk_pcp(&k, &d->zones[i], c);
		}
		for (uint32_t s = 0; s < mm->nr_sections; s++)
			if (mm->owner[s] == d)
				walk_section(&k, s, census);
			else if (!mm->owner[s])
				walk_outside(&k, s);
		for (uint32_t i = 0; i < nr; i++)
			check_zone(&k, &d->zones[i], &census[i]);
	}
	free(census);
	free(k.place);
	return k.findings;
}

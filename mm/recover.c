/* SPDX-License-Identifier: MIT */
/*
 * Recovery: a domain's zones from the persistent words alone.
 *
 * Concept: the words say which blocks are allocated; every managed frame that no block covers is
 * free. So free areas and counters need no log: they are what remains. A process that died at any
 * instruction left each word either stored or not; a block that was on its way (off its list, word
 * not yet stored) is free again, one whose word was stored is asked about (`keep`), because its
 * owner may never have learnt of it.
 *
 * Steps, each of which may be cut short by another death and done again from the start:
 *   1. check every word of the domain's sections; the first nonsense ends it, nothing is changed
 *   2. ask about each block, store 0 in the words of those that nobody keeps
 *   3. rebuild zones, free areas and counters in volatile memory
 *
 * Locking: none but what the steps take; nobody else uses the domain yet. `keep` and `report` are
 * called without any lock. Complexity: O(frames): one pass a step over eight bytes a frame.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "zone.h"

#define RECOVER_MAX_REPORTS 64u

struct recover {
	struct mm_domain *d;
	mm_report_fn report;
	void *ctx;
	uint64_t findings;
};

static void finding(struct recover *r, pfn_t pfn, uint64_t word, const char *what)
{
	char text[160];

	if (r->findings++ >= RECOVER_MAX_REPORTS || !r->report)
		return;
	snprintf(text, sizeof(text), "frame %" PRIu32 ": state 0x%016" PRIx64 ": %s", pfn, word,
	         what);
	r->report(r->ctx, text);
}

static bool section_mine(const struct mm_domain *d, uint32_t s)
{
	uint64_t w = sparse_section_word(d->mm, (section_id_t){ s });

	return section_word_state(w) == SECTION_ONLINE && section_word_domain(w) == d->id;
}

static const char *word_nonsense(const struct mm_domain *d, pfn_t pfn, uint64_t w)
{
	uint32_t order = page_word_order(w);

	if (!(w & PAGE_ALLOCATED))
		return "not allocated, but not 0";
	if (w >> PAGE_USED_BITS)
		return "unknown bits";
	if (order > MAX_PAGE_ORDER)
		return "impossible order";
	if (pfn & (((pfn_t)1 << order) - 1))
		return "not aligned to its order";
	if (page_word_migratetype(w) >= MIGRATE_PCPTYPES)
		return "impossible migrate type";
	if (page_word_domain(w) != d->id)
		return "of another domain than its section";
	return NULL;
}

static void check_section(struct recover *r, uint32_t s)
{
	const struct mm *mm = r->d->mm;
	pfn_t start = mm_section_start(mm, (section_id_t){ s });
	pfn_t end = start + (1u << mm->config.section_order), covered = start;

	if (s >= mm->zones_end) {
		finding(r, start, sparse_section_word(mm, (section_id_t){ s }),
		        "its section is online, but reserved for metadata");
		return;
	}
	if (sparse_section_word(mm, (section_id_t){ s }) >> SECTION_USED_BITS)
		finding(r, start, sparse_section_word(mm, (section_id_t){ s }),
		        "unknown bits in its section's word");
	for (pfn_t pfn = start; pfn < end; pfn += PAGEBLOCK_NR_PAGES)
		if (mm_pageblock_type(mm, pfn) >= MIGRATE_TYPES)
			finding(r, pfn, mm_pageblock_type(mm, pfn),
			        "impossible type of its pageblock");
	for (pfn_t pfn = start; pfn < end; pfn++) {
		uint64_t w = page_peek(&mm->page[pfn]);
		const char *what;

		if (pfn < covered && !mm_frame_managed(mm, pfn))
			finding(r, pfn, w, "reserved or absent, but inside an allocated block");
		if (w == 0)
			continue;
		what = word_nonsense(r->d, pfn, w);
		if (!what && pfn < covered)
			what = "inside another allocated block";
		if (!what && !mm_frame_managed(mm, pfn))
			what = "allocated, but reserved or absent";
		/* aligned blocks end inside the section, which is larger */
		if (!what)
			covered = pfn + ((pfn_t)1 << page_word_order(w));
		else
			finding(r, pfn, w, what);
	}
}

static void keep_section(struct mm_domain *d, uint32_t s, mm_keep_fn keep, void *ctx)
{
	struct mm *mm = d->mm;
	pfn_t start = mm_section_start(mm, (section_id_t){ s });
	pfn_t end = start + (1u << mm->config.section_order);

	for (pfn_t pfn = start; pfn < end; pfn++) {
		uint64_t w = page_peek(&mm->page[pfn]);
		struct mm_block b;

		if (w == 0)
			continue;
		/* claimed by a thread that is no more */
		if (w & PAGE_LEAVING)
			page_commit(&mm->page[pfn], w & ~PAGE_LEAVING);
		b = page_block(mm, pfn, w);
		if (keep && !keep(ctx, pfn, &b))
			page_commit(&mm->page[pfn], 0);
		pfn += ((pfn_t)1 << b.order) - 1;
	}
}

/* What the zones knew of it. */
static void forget_section(struct mm_domain *d, uint32_t s)
{
	pfn_t start = mm_section_start(d->mm, (section_id_t){ s });

	mm_clear_marks(d->mm, start, start + (1u << d->mm->config.section_order));
	d->mm->owner[s] = NULL;
}

static void rebuild_section(struct mm_domain *d, uint32_t s)
{
	struct mm *mm = d->mm;
	struct zone *z = &d->zones[mm->section_zone[s]];
	pfn_t start = mm_section_start(mm, (section_id_t){ s });
	pfn_t end = start + (1u << mm->config.section_order);

	mm_clear_marks(mm, start, end);
	for (pfn_t pfn = start; pfn < end; pfn += PAGEBLOCK_NR_PAGES)
		/* an isolation that was under way is over; what it was before is not known any more */
		if (mm_pageblock_type(mm, pfn) == MIGRATE_ISOLATE)
			mm_pageblock_set_type(mm, pfn, MIGRATE_MOVABLE);
	mm->owner[s] = d;
	zone_account_section(d, (section_id_t){ s });
	for (pfn_t pfn = start; pfn < end;) {
		pfn_t first = pfn;
		uint64_t w = 0;

		while (pfn < end && mm_frame_managed(mm, pfn) &&
		       (w = page_peek(&mm->page[pfn])) == 0)
			pfn++;
		if (pfn > first)
			zone_release_range(z, first, pfn);
		if (pfn < end)
			pfn += w ? (pfn_t)1 << page_word_order(w) : 1;
	}
}

int mm_domain_recover(struct mm_domain *d, mm_keep_fn keep, mm_report_fn report, void *ctx)
{
	struct recover r = { .d = d, .report = report, .ctx = ctx };
	uint32_t nr = d->mm->nr_sections;

	for (uint32_t s = 0; s < nr; s++)
		if (section_mine(d, s))
			check_section(&r, s);
	if (r.findings) {
		char text[80];

		snprintf(text, sizeof(text), "%" PRIu64 " findings in all: the state is refused",
		         r.findings);
		if (report)
			report(ctx, text);
		return -EUCLEAN;
	}
	for (uint32_t s = 0; s < nr; s++)
		if (section_mine(d, s))
			keep_section(d, s, keep, ctx);
	{
		LOCK_SCOPED(&d->hotplug);
		isolations_free(d);
		for (uint32_t i = 0; i < d->mm->config.nodes * MAX_NR_ZONES; i++)
			zone_reset(&d->zones[i]);
		for (uint32_t s = 0; s < nr; s++) {
			if (d->mm->owner[s] == d)
				forget_section(d, s);
			if (section_mine(d, s))
				rebuild_section(d, s);
		}
	}
	mm_domain_ready(d);
	return 0;
}

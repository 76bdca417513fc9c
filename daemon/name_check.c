/* SPDX-License-Identifier: MIT */
/*
 * Names at the start, and checked: against the things that they name, and against the holders, among
 * which the names of a thing have one entry.
 *
 * A name whose thing is not in that life any more is dropped. One whose thing is there keeps it: the
 * entry and the KEPT bit are made sure of. An entry without a name goes in domain_recover.c, which asks
 * name_has(). Afterwards, and as long as the daemon runs,
 *
 *     names of a thing in its life > 0   <=>   session 0 is among its holders
 *
 * which name_validate() looks at from both sides while all threads stand still. O(names + holders).
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/holder.h"
#include "daemon/name_private.h"
#include "daemon/object.h"

/* The name's thing is there: its entry among the holders, and the bit that tells of it, are too. */
static bool mend(struct name_table *t, uint32_t granule, uint64_t generation)
{
	struct thing thing;
	uint64_t w;

	if (holder_restore(t->d->holders, NAME_HOLDER, granule, generation) < 0)
		return false;
	if (!thing_find(t->d, granule, &thing))
		return true;
	w = owner_load(thing.word);
	while (owner_generation(w) == generation && owner_kind(w) == OWNER_HELD &&
	       !(w & OWNER_KEPT) && !owner_cas(thing.word, &w, w | OWNER_KEPT))
		;
	return true;
}

uint32_t name_recover(struct name_table *t,
                      bool (*live)(void *ctx, uint32_t granule, uint64_t generation), void *ctx)
{
	uint32_t i, dropped = 0;

	for (i = 0; i < t->opened; i++) {
		uint32_t granule = name_record_granule(t, i);
		uint64_t generation = t->record[i].generation;

		if (!name_record_load(t, i))
			continue;
		if (live(ctx, granule, generation) && mend(t, granule, generation))
			continue;
		name_remove_dead(t, i);
		dropped++;
	}
	return dropped;
}

__attribute__((format(printf, 3, 4))) static size_t finding(mm_report_fn report, void *ctx,
                                                            const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	report(ctx, text);
	return 1;
}

struct entries {
	const struct name_table *t;
	mm_report_fn report;
	void *ctx;
	size_t findings;
};

static void check_entry(void *ctx, uint32_t session, uint32_t granule, uint64_t generation)
{
	struct entries *e = ctx;

	if (session == NAME_HOLDER && !name_has(e->t, granule, generation))
		e->findings += finding(e->report, e->ctx,
		                       "names: what begins at granule %u is held by a name that is "
		                       "not there", granule);
}

static size_t validate_record(const struct name_table *t, uint32_t i, mm_report_fn report,
                              void *ctx)
{
	const struct name_record *r = &t->record[i];
	struct thing thing;

	if (!memchr(r->name, '\0', sizeof(r->name)))
		return finding(report, ctx, "names: record %u has no end", i);
	if (name_find(t, r->name) != i)
		return finding(report, ctx, "names: \"%s\" is there twice, or in a wrong chain",
		               r->name);
	if (!thing_find(t->d, name_record_granule(t, i), &thing) ||
	    owner_generation(owner_load(thing.word)) != r->generation)
		return 0; /* leads nowhere: see above */
	if (!holder_has(t->d->holders, NAME_HOLDER, name_record_granule(t, i), r->generation))
		return finding(report, ctx, "names: \"%s\" is not among the holders of its thing",
		               r->name);
	return 0;
}

size_t name_validate(struct name_table *t, mm_report_fn report, void *ctx)
{
	struct entries e = { .t = t, .report = report, .ctx = ctx };
	uint32_t i, used = 0, free = 0, of_users = 0, of_sessions = 0;

	for (i = 0; i < t->users; i++)
		of_users += t->user[i].names;
	for (i = 0; i < t->sessions; i++)
		of_sessions += t->published[i];
	for (i = 0; i < t->opened; i++) {
		if (!name_record_load(t, i))
			continue;
		used++;
		of_sessions -= t->record[i].publisher != 0;
		e.findings += validate_record(t, i, report, ctx);
	}
	for (i = t->free; i != NAME_END && free <= t->n; i = t->next_name[i])
		free++;
	if (used != t->used || used != of_users || used + free != t->opened)
		e.findings += finding(report, ctx,
		                      "names: %u are there, %u counted, %u by user, %u of %u free",
		                      used, t->used, of_users, free, t->opened);
	if (of_sessions)
		e.findings += finding(report, ctx, "names: of sessions %d more are counted than are there",
		                      (int)of_sessions);
	holder_for_each(t->d->holders, check_entry, &e);
	return e.findings;
}

/* SPDX-License-Identifier: MIT */
/*
 * From what was noted of a failed allocation to words.
 *
 * The daemon decides the reason at the moment of the failure. Here it is told, zone by zone: a zone
 * where too few frames are free is short of memory; one where enough are free has no block of the order,
 * and there Linux's fragmentation index says whether more memory (towards 0) or compaction (towards 1)
 * would make one.
 *
 * What would help follows from the reason, and from what the pool looks like now:
 *
 *   a quota          to raise it, now or for good
 *   scattered        HighMem, Movable: compaction. Below, pages do not move: smaller blocks, vmalloc
 *   short            what is only cached, who is in quarantine, who has most; a larger pool
 *   one node, DMA    to ask less narrowly, or a larger zone
 */
#include "client/kmmctl/why.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "client/kmmctl/table.h"

#define REASON(X) kmm_v1_Explanation_Reason_##X
#define VERDICT(X) kmm_v1_ZoneLook_Verdict_##X
#define INDEX_SCATTERED 500 /* Linux's extfrag_threshold */
#define INDEX_SUITABLE (-1000)
#define PART_WORTH_IT 50u   /* of the pool: less is not worth a command */
#define GFP_DMA_BIT 0x1u
#define GFP_DIRECT_RECLAIM_BIT 0x400u

/* ---- words ---- */

static const struct {
	const char *name, *text;
} reasons[] = {
	[REASON(NONE)] = { "none", "no allocation has failed" },
	[REASON(SESSION_QUOTA)] = { "session-quota", "" },
	[REASON(USER_QUOTA)] = { "user-quota", "" },
	[REASON(TABLE)] = { "table", "a table of the pool is full" },
	[REASON(BUSY)] = { "busy", "too many calls of the session wait for the daemon's worker" },
	[REASON(IMPOSSIBLE)] = { "impossible",
	                         "this pool can never meet it: no zone that it may use has such a "
	                         "block above its reserves, however much is free" },
	[REASON(LACK)] = { "lack", "memory is short in every zone that it may use" },
	[REASON(FRAGMENTATION)] = { "fragmentation",
	                            "memory is free, but lies scattered in blocks that are too "
	                            "small" },
	[REASON(PASSED)] = { "passed",
	                     "there was none at that moment; a moment later there was: others had "
	                     "waited longer, or a per-CPU list had it" },
};
#define REASONS (sizeof(reasons) / sizeof(reasons[0]))

const char *why_reason_name(kmm_v1_Explanation_Reason reason)
{
	return (size_t)reason < REASONS ? reasons[reason].name : "unknown";
}

const char *why_reason_text(char text[WHY_TEXT], const kmm_v1_Explanation *e)
{
	char who[64] = "it has";

	if (e->reason == REASON(USER_QUOTA))
		snprintf(who, sizeof(who), "the sessions of user %" PRIu32 " together have", e->uid);
	if (e->reason == REASON(SESSION_QUOTA) || e->reason == REASON(USER_QUOTA))
		snprintf(text, WHY_TEXT,
		         "quota of %s: %s %" PRIu64 " of the %" PRIu64 " %s that %s %s allows; %" PRIu64
		         " more %s asked for",
		         e->reason == REASON(USER_QUOTA) ? "the user" : "the session", who,
		         e->quota_used, e->quota_limit, e->quota, e->section, e->quota,
		         e->quota_more, e->quota_more == 1 ? "was" : "were");
	else
		snprintf(text, WHY_TEXT, "%s",
		         (size_t)e->reason < REASONS ? reasons[e->reason].text :
		                                       "the daemon says one that is not known here");
	return text;
}

const char *why_asked_text(char text[WHY_TEXT], const kmm_v1_Explanation *e)
{
	char unit[TABLE_UNIT_SIZE], smallest[TABLE_UNIT_SIZE];
	uint32_t order = e->order & 15;

	table_frames(smallest, UINT64_C(1) << order);
	if (strstr(e->method, "Cache"))
		snprintf(text, WHY_TEXT, "a cache");
	else if (e->cache[0])
		snprintf(text, WHY_TEXT,
		         "an object of cache %s (%" PRIu32 " bytes), in slabs of order %" PRIu32 " (%s)",
		         e->cache, e->size, order, smallest);
	else if (e->pages)
		snprintf(text, WHY_TEXT, "%" PRIu32 " pages (%s) in blocks of order %" PRIu32
		         " (%s) and more", e->pages, table_frames(unit, e->pages), order, smallest);
	else
		snprintf(text, WHY_TEXT, "a block of order %" PRIu32 " (%s)", order, smallest);
	return text;
}

const char *why_waits_text(char text[WHY_TEXT], const kmm_v1_Waits *w)
{
	char what[160], smallest[TABLE_UNIT_SIZE];
	uint32_t order = w->order & 15;

	table_frames(smallest, UINT64_C(1) << order);
	if (w->cache[0])
		snprintf(what, sizeof(what),
		         "objects of cache %s, in slabs of order %" PRIu32 " (%s)", w->cache, order,
		         smallest);
	else
		snprintf(what, sizeof(what), "a block of order %" PRIu32 " (%s)", order, smallest);
	snprintf(text, WHY_TEXT,
	         "%" PRIu64 ".%" PRIu64 " s so far: %s, until others free memory", w->ms / 1000,
	         w->ms % 1000 / 100, what);
	return text;
}

const char *why_verdict_name(kmm_v1_ZoneLook_Verdict verdict)
{
	static const char *const name[] = {
		[VERDICT(SERVES)] = "serves",
		[VERDICT(SMALL)] = "too-small",
		[VERDICT(BELOW)] = "below-watermark",
		[VERDICT(NO_BLOCK)] = "no-block",
	};

	return (size_t)verdict < sizeof(name) / sizeof(name[0]) ? name[verdict] : "unknown";
}

static void verdict_text(char *text, size_t size, const kmm_v1_ZoneLook *z, uint32_t order)
{
	switch (z->verdict) {
	case VERDICT(SERVES):
		snprintf(text, size, "could serve it a moment later");
		break;
	case VERDICT(SMALL):
		snprintf(text, size, "too small: it never has such a block above what must be left");
		break;
	case VERDICT(BELOW):
		snprintf(text, size, "below the watermark: lack of memory");
		break;
	default:
		if (z->index == INDEX_SUITABLE) {
			snprintf(text, size,
			         "its free blocks of order %" PRIu32 " are kept for atomic requests",
			         order);
			break;
		}
		snprintf(text, size,
		         "no free block of order %" PRIu32 "; fragmentation index %.3f: %s", order,
		         z->index / 1000.0,
		         z->index > INDEX_SCATTERED ? "fragmentation" : "rather lack of memory");
		break;
	}
}

const char *why_zone_text(char text[WHY_TEXT], const kmm_v1_ZoneLook *z, uint32_t order)
{
	char verdict[160], kept[80] = "";

	verdict_text(verdict, sizeof(verdict), z, order);
	if (z->protection)
		snprintf(kept, sizeof(kept),
		         " (%" PRIu64 " of them for requests that can use no higher zone)",
		         z->protection);
	snprintf(text, WHY_TEXT,
	         "node %" PRIu32 ", zone %s: %" PRIu64 " of %" PRIu64 " pages free, %" PRIu64
	         " to be left%s: %s", z->node, z->zone, z->free, z->managed, z->mark, kept, verdict);
	return text;
}

/* ---- what would help ---- */

__attribute__((format(printf, 3, 4))) static bool say(struct why_help *h, const char *command,
                                                      const char *fmt, ...)
{
	va_list ap;

	snprintf(h->command, sizeof(h->command), "%s", command);
	va_start(ap, fmt);
	vsnprintf(h->why, sizeof(h->why), fmt, ap);
	va_end(ap);
	return true;
}

/* "[user alice]" and "pages": user alice.pages */
static bool help_quota(const kmm_v1_Explanation *e, struct why_help *h)
{
	uint64_t more = e->quota_more > e->quota_limit / 2 ? e->quota_more : e->quota_limit / 2;
	size_t n = strlen(e->section);
	char command[96];

	if (n < 3 || e->section[0] != '[')
		return false;
	snprintf(command, sizeof(command), "kmmctl set '%.*s.%s' %" PRIu64, (int)n - 2,
	         e->section + 1, e->quota, e->quota_limit + more);
	return say(h, command,
	           "raises the quota until the daemon ends; for good, write %s = %" PRIu64
	           " in %s of kmmd.conf", e->quota, e->quota_limit + more, e->section);
}

static bool help_own(const kmm_v1_Explanation *e, struct why_help *h)
{
	char command[96];

	snprintf(command, sizeof(command), "kmmctl session %" PRIu32, e->session);
	return say(h, command, "shows what the session has, and what of it it could give back");
}

static bool zone_moves(const kmm_v1_ZoneLook *z)
{
	return strcmp(z->zone, "HighMem") == 0 || strcmp(z->zone, "Movable") == 0;
}

/* Whether scattered memory is in zones where pages move, or where they do not. */
static bool scattered(const kmm_v1_Explanation *e, bool moves)
{
	for (pb_size_t i = 0; i < e->zone_count; i++)
		if (e->zone[i].verdict == VERDICT(NO_BLOCK) &&
		    e->zone[i].index > INDEX_SCATTERED && zone_moves(&e->zone[i]) == moves)
			return true;
	return false;
}

static bool help_compact(const kmm_v1_Explanation *e, struct why_help *h)
{
	return scattered(e, true) &&
	       say(h, "kmmctl compact", "moves pages of HighMem and Movable together");
}

static bool help_smaller(const kmm_v1_Explanation *e, struct why_help *h)
{
	return scattered(e, false) &&
	       say(h, "", "pages below HighMem do not move: ask for smaller blocks, or for areas that "
	           "are put together of them (kmm_vmalloc, kmm_kvmalloc)");
}

static bool worth_it(const kmm_v1_Explanation *e, uint64_t frames)
{
	return frames && frames >= e->managed / PART_WORTH_IT;
}

static bool help_drop(const kmm_v1_Explanation *e, struct why_help *h)
{
	uint64_t frames = e->depot_now + e->per_cpu + e->cached + e->slab_empty;
	char unit[TABLE_UNIT_SIZE];

	return worth_it(e, frames) &&
	       say(h, "kmmctl drop-caches",
	           "%s lie in depots, on per-CPU lists, in what threads cache and in slabs without an "
	           "object", table_frames(unit, frames));
}

static bool help_quarantine(const kmm_v1_Explanation *e, struct why_help *h)
{
	char unit[TABLE_UNIT_SIZE], command[96];

	for (pb_size_t i = 0; i < e->sessions_count; i++) {
		const kmm_v1_Hoard *s = &e->sessions[i];

		if (strcmp(s->state, "detached") != 0)
			continue;
		snprintf(command, sizeof(command), "kmmctl kill %" PRIu32, s->session);
		return say(h, command,
		           "session %" PRIu32 " (%s, pid %" PRIu32 ") has %s and no connection: its "
		           "process does not answer", s->session, s->name, s->pid,
		           table_frames(unit, s->frames));
	}
	return false;
}

static bool help_holder(const kmm_v1_Explanation *e, struct why_help *h)
{
	const kmm_v1_Hoard *s = &e->sessions[0];
	char unit[TABLE_UNIT_SIZE], command[96];

	if (e->sessions_count == 0 || !worth_it(e, s->frames))
		return false;
	snprintf(command, sizeof(command), "kmmctl session %" PRIu32, s->session);
	return say(h, command,
	           "session %" PRIu32 " (%s, pid %" PRIu32 ", user %" PRIu32 ") has most, %s, %" PRIu64
	           "%% of the pool: this shows what", s->session, s->name, s->pid, s->uid,
	           table_frames(unit, s->frames), e->managed ? s->frames * 100 / e->managed : 0);
}

static bool help_node(const kmm_v1_Explanation *e, struct why_help *h)
{
	return e->this_node &&
	       say(h, "", "it wanted node %" PRIu32 " and no other (__GFP_THISNODE): without that, "
	           "others could serve it", e->node ? e->node - 1 : 0);
}

static bool help_dma(const kmm_v1_Explanation *e, struct why_help *h)
{
	return (e->gfp & GFP_DMA_BIT) &&
	       say(h, "", "a larger zone DMA: dma_size in [pool] of kmmd.conf");
}

static bool help_wait(const kmm_v1_Explanation *e, struct why_help *h)
{
	return !(e->gfp & GFP_DIRECT_RECLAIM_BIT) &&
	       say(h, "", "a request that may wait (GFP_KERNEL): for it what is only cached is taken "
	           "back first");
}

static bool help_impossible(const kmm_v1_Explanation *e, struct why_help *h)
{
	(void)e;
	return say(h, "", "other flags, smaller blocks, or a larger pool or zone ([pool] of kmmd.conf)");
}

/* What asks by zone may have none of it until it has memory again. */
static bool help_grow(const kmm_v1_Explanation *e, struct why_help *h)
{
	char unit[TABLE_UNIT_SIZE];

	return e->absent &&
	       say(h, "kmmctl grow SIZE", "the pool has room for %s more; of a zone that kmmctl sections "
	           "shows absent, kmmctl online SECTION", table_frames(unit, e->absent));
}

static bool help_size(const kmm_v1_Explanation *e, struct why_help *h)
{
	(void)e;
	return say(h, "kmmctl advise", "says what sizes fit what was used since the start");
}

static bool help_later(const kmm_v1_Explanation *e, struct why_help *h)
{
	(void)e;
	return say(h, "", "to ask again");
}

bool why_help(const kmm_v1_Explanation *e, size_t i, struct why_help *ret)
{
	typedef bool (*help_fn)(const kmm_v1_Explanation *e, struct why_help *h);
	static const help_fn quota[] = { help_quota, help_own, NULL };
	static const help_fn memory[] = { help_node, help_dma, help_compact, help_smaller,
		                          help_drop, help_grow, help_quarantine, help_holder, help_wait,
		                          help_size, NULL };
	static const help_fn never[] = { help_node, help_grow, help_dma, help_impossible, help_size, NULL };
	static const help_fn passed[] = { help_wait, help_later, NULL };
	static const help_fn none[] = { NULL };
	/* it waits, whatever failed before */
	static const help_fn waits[] = { help_drop, help_grow, help_quarantine, help_holder, help_size,
	                                  NULL };
	static const help_fn *const of[] = {
		[REASON(NONE)] = none,           [REASON(SESSION_QUOTA)] = quota,
		[REASON(USER_QUOTA)] = quota,    [REASON(TABLE)] = none,
		[REASON(BUSY)] = passed,         [REASON(IMPOSSIBLE)] = never,
		[REASON(LACK)] = memory,         [REASON(FRAGMENTATION)] = memory,
		[REASON(PASSED)] = passed,
	};
	const help_fn *help = (size_t)e->reason < REASONS ? of[e->reason] : none;
	struct why_help h;

	if (e->has_waits && e->reason == REASON(NONE))
		help = waits;
	for (; *help; help++)
		if ((*help)(e, &h) && i-- == 0) {
			*ret = h;
			return true;
		}
	return false;
}

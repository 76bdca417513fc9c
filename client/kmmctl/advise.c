/* SPDX-License-Identifier: MIT */
/*
 * Advice on sizes.
 *
 * The pool is four parts, each a whole number of sections: low zones (DMA, DMA32, Normal), HighMem,
 * Movable, and the pool's own tables. For each of the first three:
 *
 *     need = peak + peak / 4     or peak + peak / 2 when requests for it failed for lack of memory or
 *                                lay scattered, or had to wait: then the peak is what there was, and
 *                                more would have been used
 *     as it is when need <= now <= 2 * need, else need, in whole sections, one at least
 *
 * The tables grow with the pool and are never advised smaller. A section is a power of two at or above a
 * 512th of the pool, unless the configuration says it, so it is chosen by the sum, and the sum is made
 * once more with it.
 *
 * A number of things (sessions, holders, names, calls) stays as it is below three quarters of it, and is
 * else the power of two at or above twice the peak: raising these costs little, lowering them wins
 * little. Quotas of a user leave half as much again as it had, twice what it may have where it was
 * refused some.
 *
 * Advice from ten minutes, or from a pool that was hardly touched, would be about the wrong thing: it is
 * made all the same, and said to be so.
 */
#include "client/kmmctl/advise.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "client/kmmctl/table.h"

#define FRAME UINT64_C(4096)
#define MIB_FRAMES UINT64_C(256)
#define GIB_FRAMES (MIB_FRAMES << 10)
#define POOL_MIN (16 * MIB_FRAMES)
#define POOL_MAX (GIB_FRAMES << 10)
#define SECTION_MIN (4 * MIB_FRAMES)
#define SECTIONS_MAX 1024u
#define DMA32_MAX (4 * GIB_FRAMES)
#define SESSIONS_MAX 65535u
#define HOLDERS_MAX 16777216u
#define NAMES_MAX 65536u
#define CALLS_MAX 65536u
#define STORE_SPARE 32u /* descriptors beside the sections: tables, socket, what is tried */
#define QUOTA_STEP 1024u /* pages: 4 MiB */
#define THREAD_CACHE_MIN (UINT64_C(64) << 10)

/* ---- rules ---- */

uint64_t advise_need(uint64_t peak, bool was_short)
{
	return peak + (was_short ? peak / 2 : peak / 4);
}

uint64_t advise_fit(uint64_t now, uint64_t need)
{
	return need <= now && now / 2 <= need ? now : need;
}

static uint64_t power_above(uint64_t n)
{
	uint64_t p = 1;

	while (p < n)
		p <<= 1;
	return p;
}

uint64_t advise_count(uint64_t now, uint64_t peak, uint64_t max)
{
	uint64_t more;

	if (now - now / 4 > peak)
		return now;
	more = power_above(2 * peak);
	if (more > max)
		more = max;
	return more > now ? more : now;
}

static uint64_t round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) / to * to;
}

/* ---- lines ---- */

static struct advise_line *add(struct advise *a, const char *section, const char *key, bool is_size,
                               uint64_t value, uint64_t now)
{
	/* the last one again and again when they are too many: ADVISE_LINES are enough for 16 users */
	struct advise_line *l = &a->line[a->n < ADVISE_LINES ? a->n++ : ADVISE_LINES - 1];

	snprintf(l->section, sizeof(l->section), "%s", section);
	l->key = key;
	l->is_size = is_size;
	l->value = value;
	l->now = now;
	l->why[0] = '\0';
	return l;
}

__attribute__((format(printf, 2, 3))) static void why(struct advise_line *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(l->why, sizeof(l->why), fmt, ap);
	va_end(ap);
}

__attribute__((format(printf, 3, 4))) static void note(struct advise *a, const char *what,
                                                       const char *fmt, ...)
{
	struct advise_note *n = &a->note[a->notes];
	va_list ap;

	if (a->notes == ADVISE_NOTES)
		return;
	a->notes++;
	snprintf(n->what, sizeof(n->what), "%s", what);
	va_start(ap, fmt);
	vsnprintf(n->why, sizeof(n->why), fmt, ap);
	va_end(ap);
}

/* ---- the pool's parts ---- */

struct part {
	uint64_t now, peak, need; /* frames */
	uint64_t failed, missed;  /* requests; of these, what no other zone can give */
	uint64_t size; /* advised */
};

struct plan {
	struct part low, high, movable;
	uint64_t section, metadata, total;
	uint64_t dma, dma32; /* bytes: the zones' borders */
};

static const kmm_v1_ZonePeak *zone_of(const kmm_v1_History *h, const char *name)
{
	static const kmm_v1_ZonePeak none;

	for (pb_size_t i = 0; i < h->zone_count; i++)
		if (strcmp(h->zone[i].zone, name) == 0)
			return &h->zone[i];
	return &none;
}

static void part_add(struct part *p, const kmm_v1_ZonePeak *z)
{
	p->now += z->managed;
	p->peak += z->peak;
	p->failed += z->lack + z->fragmentation;
	p->missed += z->impossible;
}

/* Where there is no such zone a request is one for those below. */
static void part_yield(struct part *p, struct part *below)
{
	if (p->now)
		return;
	below->failed += p->failed;
	p->failed = 0;
}

/* A part that was never there is made when somebody would have used it. */
static uint64_t part_size(struct part *p, uint64_t section, bool waited)
{
	uint64_t need;

	if (p->now == 0 && p->missed == 0)
		return 0;
	p->need = advise_need(p->peak, p->failed || waited);
	need = round_up(p->need ? p->need : 1, section);
	return round_up(advise_fit(p->now, need), section);
}

static uint64_t section_for(const kmm_v1_History *h, uint64_t total)
{
	uint64_t section = SECTION_MIN;

	if (h->huge_page >= GIB_FRAMES)
		return h->section;
	if (h->section_given && total <= SECTIONS_MAX * h->section)
		return h->section;
	while (section < GIB_FRAMES && section < total / 512)
		section <<= 1;
	return section;
}

static uint64_t border_failed(const kmm_v1_ZonePeak *z)
{
	return z->lack + z->fragmentation + z->impossible;
}

/* Of a zone whose border is a setting, bytes: twice as much when requests for it failed. */
static uint64_t border_value(const kmm_v1_ZonePeak *z, uint64_t now, uint64_t max, uint64_t section)
{
	uint64_t value = now;

	if (border_failed(z))
		value = round_up(now ? 2 * now : 1, section * FRAME);
	return value < max ? value : max;
}

static void plan_sizes(struct plan *p, const kmm_v1_History *h)
{
	uint64_t zones, scaled, dma;
	bool waited = h->parked.peak != 0;

	p->dma32 = border_value(zone_of(h, "DMA32"), h->dma32_size, DMA32_MAX * FRAME, p->section);
	p->dma = border_value(zone_of(h, "DMA"), h->dma_size, p->dma32, p->section);
	p->low.size = part_size(&p->low, p->section, waited);
	/* HighMem begins behind DMA */
	dma = round_up(p->dma / FRAME, p->section);
	if (p->low.size < dma)
		p->low.size = dma;
	p->high.size = part_size(&p->high, p->section, false);
	p->movable.size = part_size(&p->movable, p->section, false);
	zones = p->low.size + p->high.size + p->movable.size;
	scaled = h->frames ? (uint64_t)((double)h->metadata * (double)zones / (double)h->frames) : 0;
	p->metadata = round_up(scaled > h->metadata ? scaled : h->metadata, p->section);
	p->total = zones + p->metadata;
	if (p->total < POOL_MIN) {
		p->low.size += round_up(POOL_MIN - p->total, p->section);
		p->total += round_up(POOL_MIN - p->total, p->section);
	}
	if (p->total > POOL_MAX)
		p->total = POOL_MAX;
}

static void plan_make(struct plan *p, const kmm_v1_History *h)
{
	*p = (struct plan){ .section = h->section ? h->section : SECTION_MIN };
	part_add(&p->high, zone_of(h, "HighMem"));
	part_add(&p->movable, zone_of(h, "Movable"));
	part_yield(&p->movable, &p->high);
	part_yield(&p->high, &p->low);
	part_add(&p->low, zone_of(h, "DMA"));
	part_add(&p->low, zone_of(h, "DMA32"));
	part_add(&p->low, zone_of(h, "Normal"));
	/* what mm/ manages and what the zone's sections have is the same, but for odd corners */
	if (h->frames > h->metadata + p->high.now + p->movable.now)
		p->low.now = h->frames - h->metadata - p->high.now - p->movable.now;
	plan_sizes(p, h);
	if (section_for(h, p->total) != p->section) {
		p->section = section_for(h, p->total);
		plan_sizes(p, h);
	}
}

static const char *short_text(const struct part *p, bool waited)
{
	if (p->failed)
		return ", and requests failed: half as much again";
	return waited ? ", and requests had to wait: half as much again" : ", and a quarter more";
}

static void why_part(struct advise_line *l, const struct part *p, const char *what, bool waited)
{
	char peak[TABLE_UNIT_SIZE], now[TABLE_UNIT_SIZE];

	table_frames(peak, p->peak);
	table_frames(now, p->now);
	if (p->size == p->now)
		why(l, "%s: %s of %s were used at most: it fits", what, peak, now);
	else if (p->now == 0)
		why(l, "%s: there is none, and %" PRIu64 " requests could be met by nothing else", what,
		    p->missed);
	else if (p->size < p->now)
		why(l, "%s: only %s of %s were used at most", what, peak, now);
	else
		why(l, "%s: %s of %s were used at most%s, in whole sections", what, peak, now,
		    short_text(p, waited));
}

static void advise_pool(struct advise *a, const kmm_v1_History *h, const struct plan *p)
{
	bool waited = h->parked.peak != 0;
	char tables[TABLE_UNIT_SIZE];
	struct advise_line *l = add(a, "pool", "size", true, p->total * FRAME, h->frames * FRAME);
	char part[ADVISE_TEXT];

	why_part(l, &p->low, "zones DMA to Normal", waited);
	snprintf(part, sizeof(part), "%s", l->why);
	why(l, "%.200s; with highmem, movable and %s of tables", part,
	    table_frames(tables, p->metadata));
	if (h->absent) {
		uint64_t most = h->frames + h->absent;

		l = add(a, "pool", "max_size", true, (p->total > most ? p->total : most) * FRAME,
		        most * FRAME);
		why(l, "room to grow, as configured%s", p->total > most ? ", and at least size" : "");
	}
	if (h->section_given) {
		l = add(a, "pool", "section_size", true, p->section * FRAME, h->section * FRAME);
		why(l, p->section == h->section ?
		               "as configured; left out, the pool's size says it" :
		               "a pool has 1024 sections at most; left out, its size says it");
	}
	l = add(a, "pool", "highmem", true, p->high.size * FRAME, p->high.now * FRAME);
	if (p->high.now == 0 && p->high.size == 0)
		why(l, "HighMem: there is none, and nobody missed it");
	else
		why_part(l, &p->high, "HighMem", false);
	l = add(a, "pool", "movable", true, p->movable.size * FRAME, p->movable.now * FRAME);
	if (p->movable.now == 0 && p->movable.size == 0)
		why(l, "Movable: there is none, and nobody missed it");
	else
		why_part(l, &p->movable, "Movable", false);
}

static void advise_border(struct advise *a, const char *key, const kmm_v1_ZonePeak *z, uint64_t value,
                          uint64_t now)
{
	struct advise_line *l = add(a, "pool", key, true, value, now);
	uint64_t failed = border_failed(z);
	char unit[TABLE_UNIT_SIZE];

	if (failed)
		why(l, "%" PRIu64 " requests for zone %s failed: %s", failed, z->zone,
		    value > now ? "twice as much" : "but it can be no larger");
	else
		why(l, "no request for zone %s failed; %s were allocated there in all",
		    key[3] == '3' ? "DMA32" : "DMA", table_frames(unit, z->had));
}

static void advise_borders(struct advise *a, const kmm_v1_History *h, const struct plan *p)
{
	advise_border(a, "dma_size", zone_of(h, "DMA"), p->dma, h->dma_size);
	advise_border(a, "dma32_size", zone_of(h, "DMA32"), p->dma32, h->dma32_size);
}

/* ---- numbers ---- */

static void advise_table(struct advise *a, const char *key, const kmm_v1_PeakCount *c, uint64_t max,
                         const char *what)
{
	/* one record is nobody's */
	bool small = c->room && c->room + 1 < c->limit;
	uint64_t room = c->room ? c->room : c->limit;
	uint64_t value = small ? room : advise_count(room, c->peak, max);
	struct advise_line *l = add(a, "limits", key, false, value == room ? c->limit : value,
	                            c->limit);

	why(l, "%" PRIu64 " of %" PRIu64 " %s at most%s", c->peak, room, what,
	    small         ? "; the pool is too small for more" :
	    value == room ? "" :
	                    ": twice as many");
}

/* A quota of each session: 0 is none. */
static void advise_session(struct advise *a, const char *key, const kmm_v1_PeakCount *c,
                           uint64_t value, const char *reason)
{
	struct advise_line *l = add(a, "limits", key, false, value, c->limit);

	why(l, "a session had %" PRIu64 " at most%s", c->peak, reason);
}

static uint64_t quota_step(uint64_t n)
{
	return round_up(n ? n : 1, QUOTA_STEP);
}

static bool memory_failed(const kmm_v1_History *h)
{
	for (pb_size_t i = 0; i < h->zone_count; i++)
		if (h->zone[i].lack)
			return true;
	return false;
}

/* One session that had more than half of the pool when others found nothing. */
static void advise_session_pages(struct advise *a, const kmm_v1_History *h, const struct plan *p)
{
	const kmm_v1_PeakCount *c = &h->session_pages;
	uint64_t zones = p->total - p->metadata;

	if (c->limit && c->peak >= c->limit - c->limit / 4)
		advise_session(a, "pages", c, quota_step(c->peak + c->peak / 2),
		               ", near its quota: half as much again");
	else if (!c->limit && memory_failed(h) && c->peak > (h->frames - h->metadata) / 2)
		advise_session(a, "pages", c, zones / 4 * 3,
		               ", more than half of the pool, while others found nothing: three "
		               "quarters of the pool");
	else
		advise_session(a, "pages", c, c->limit, c->limit ? ": the quota fits" :
		                                                   ": no quota is needed");
}

static void advise_session_objects(struct advise *a, const kmm_v1_History *h)
{
	const kmm_v1_PeakCount *c = &h->session_objects;

	if (c->limit && c->peak >= c->limit - c->limit / 4)
		advise_session(a, "objects", c, power_above(c->peak + c->peak / 2),
		               ", near its quota: half as many again");
	else
		advise_session(a, "objects", c, c->limit, c->limit ? ": the quota fits" :
		                                                     ": no quota is needed");
}

/* As much as all sessions' first threads may cache must not be what others fail for. */
static void advise_thread_cache(struct advise *a, const kmm_v1_History *h, const struct plan *p)
{
	uint64_t value = h->thread_cache, share = (p->total - p->metadata) * FRAME / 4;
	uint64_t sessions = h->sessions.peak ? h->sessions.peak : 1;
	char unit[TABLE_UNIT_SIZE];
	struct advise_line *l;

	if (memory_failed(h))
		while (value > THREAD_CACHE_MIN && value > share / sessions)
			value /= 2;
	/* halves of what was no power of two */
	value = value / 4096 * 4096;
	l = add(a, "limits", "thread_cache", true, value, h->thread_cache);
	if (value != h->thread_cache)
		why(l, "memory was short, and a thread of each of %" PRIu64 " sessions could cache more "
		    "than a quarter of the pool", sessions);
	else
		why(l, "what each thread may cache: %s", table_bytes(unit, value));
}

static void advise_limits(struct advise *a, const kmm_v1_History *h, const struct plan *p)
{
	uint64_t holders;

	advise_table(a, "sessions", &h->sessions, SESSIONS_MAX, "sessions");
	advise_table(a, "calls", &h->session_calls, CALLS_MAX, "calls in flight of a session");
	advise_session_pages(a, h, p);
	advise_session_objects(a, h);
	advise_table(a, "holders", &h->holders, HOLDERS_MAX, "holds");
	holders = a->line[a->n - 1].value;
	advise_table(a, "holders_per_session", &h->session_holders, holders, "holds of a session");
	advise_table(a, "names_per_user", &h->user_names, NAMES_MAX, "names of a user");
	advise_thread_cache(a, h, p);
}

/* ---- users ---- */

/* A quota that there is: twice when it refused something, as it is where it fits. */
static void advise_quota(struct advise *a, const char *section, const char *key,
                         const kmm_v1_PeakCount *c)
{
	struct advise_line *l;

	if (!c->limit)
		return;
	if (c->refused) {
		l = add(a, section, key, false, 2 * c->limit, c->limit);
		why(l, "it refused %" PRIu64 " times: twice as many", c->refused);
	} else {
		l = add(a, section, key, false, advise_count(c->limit, c->peak, UINT32_MAX),
		        c->limit);
		why(l, "%" PRIu64 " of %" PRIu64 " at most", c->peak, c->limit);
	}
}

/* Each user has a quota of pages, so that none can take all. */
static void advise_user_pages(struct advise *a, const char *section, const kmm_v1_PeakCount *c,
                              uint64_t zones)
{
	uint64_t value = c->limit;
	struct advise_line *l;

	if (c->refused)
		value = 2 * c->limit;
	else if (!c->limit || c->peak >= c->limit - c->limit / 4)
		value = quota_step(c->peak + c->peak / 2);
	if (value > zones && zones > c->peak)
		value = zones;
	l = add(a, section, "pages", false, value, c->limit);
	if (c->refused)
		why(l, "%" PRIu64 " at most, and the quota refused %" PRIu64 " times: twice as many",
		    c->peak, c->refused);
	else if (value == c->limit)
		why(l, "%" PRIu64 " of %" PRIu64 " at most: the quota fits", c->peak, c->limit);
	else
		why(l, "%" PRIu64 " at most: half as many again", c->peak);
}

static void advise_user(struct advise *a, const kmm_v1_UserPeak *u, uint64_t zones)
{
	char section[32];

	snprintf(section, sizeof(section), "user %" PRIu32, u->uid);
	advise_user_pages(a, section, &u->pages, zones);
	advise_quota(a, section, "objects", &u->objects);
	advise_quota(a, section, "caches", &u->caches);
	advise_quota(a, section, "channels", &u->channels);
	advise_quota(a, section, "calls", &u->calls);
	advise_quota(a, section, "sessions", &u->sessions);
}

/* ---- what is no line of the file ---- */

static void note_huge(struct advise *a, const kmm_v1_History *h, const struct plan *p)
{
	uint64_t low = h->frames - p->high.now - p->movable.now, otherwise = 0, pages, others = 0;
	uint64_t taken = h->huge_pool;
	char what[96], node[96] = "";
	bool none = strcmp(h->backing, "4k") == 0 || strcmp(h->backing, "thp") == 0;

	if (none || !h->huge_page || p->section % h->huge_page)
		return;
	/* zones that are to lie on something else */
	if (taken && low > taken * h->huge_page)
		otherwise = low - taken * h->huge_page;
	low = p->total - p->high.size - p->movable.size;
	pages = (low > otherwise ? low - otherwise : 0) / h->huge_page;
	if (h->huge_total > h->huge_free + taken)
		others = h->huge_total - h->huge_free - taken;
	snprintf(what, sizeof(what), h->huge_page >= GIB_FRAMES ?
	                                     "hugepagesz=1G hugepages=%" PRIu64 " (kernel command line)" :
	                                     "vm.nr_hugepages = %" PRIu64 " (sysctl)",
	         pages + others);
	if (h->machine_nodes > 1)
		snprintf(node, sizeof(node), "; on each of %" PRIu32 " nodes %" PRIu64,
		         h->machine_nodes, (pages + others + h->machine_nodes - 1) / h->machine_nodes);
	note(a, what,
	     "%" PRIu64 " huge pages for the pool, %" PRIu64 " for others who use some now%s; there are "
	     "%" PRIu64 ", %" PRIu64 " of them free and %" PRIu64 " the pool's", pages, others, node,
	     h->huge_total, h->huge_free, taken);
}

static void note_store(struct advise *a, const kmm_v1_History *h, const struct plan *p)
{
	uint64_t sections = (p->total + h->absent) / p->section;
	char what[96], room[64] = "";

	snprintf(what, sizeof(what), "FileDescriptorStoreMax=%" PRIu64 " (kmmd.service)",
	         sections + STORE_SPARE);
	if (h->absent)
		snprintf(room, sizeof(room), " (max_size leaves room for %" PRIu64 " of them)",
		         h->absent / p->section);
	note(a, what, "at least: a descriptor for each of %" PRIu64 " sections%s, and some more", sections,
	     room);
}

static void note_failures(struct advise *a, const kmm_v1_History *h)
{
	uint64_t lack = 0, scattered = 0, never = 0;

	for (pb_size_t i = 0; i < h->zone_count; i++) {
		lack += h->zone[i].lack;
		scattered += h->zone[i].fragmentation;
		never += h->zone[i].impossible;
	}
	if (lack + scattered + never + h->quota_failures == 0)
		return;
	note(a, "",
	     "requests that failed: %" PRIu64 " for lack of memory, %" PRIu64 " because it lay "
	     "scattered, %" PRIu64 " that this pool can never meet, %" PRIu64 " by quotas; the largest "
	     "block that was missing is of order %" PRIu32, lack, scattered, never, h->quota_failures,
	     h->order_peak ? h->order_peak - 1 : 0);
	if (scattered)
		note(a, "", "against scattering: HighMem or Movable memory, whose pages move, or areas of "
		     "small blocks (kmm_vmalloc) in place of large ones");
}

/* ---- history ---- */

static void judge(struct advise *a, const kmm_v1_History *h)
{
	uint64_t zones = h->frames > h->metadata ? h->frames - h->metadata : 0;
	char age[TABLE_UNIT_SIZE];

	a->little[0] = '\0';
	if (h->uptime_ms < ADVISE_UPTIME_MS)
		snprintf(a->little, sizeof(a->little),
		         "the daemon has run for %s, and ten minutes are the least",
		         table_age(age, h->uptime_ms / 1000));
	else if (h->sessions.peak == 0)
		snprintf(a->little, sizeof(a->little), "no session was opened since the start");
	else if (h->allocated < zones / ADVISE_USED_PART)
		snprintf(a->little, sizeof(a->little),
		         "%" PRIu64 " pages were allocated since the start, less than a %uth of the "
		         "pool", h->allocated, ADVISE_USED_PART);
}

void advise_make(struct advise *a, const kmm_v1_History *h)
{
	struct plan p;

	memset(a, 0, sizeof(*a));
	judge(a, h);
	plan_make(&p, h);
	advise_pool(a, h, &p);
	advise_borders(a, h, &p);
	advise_limits(a, h, &p);
	for (pb_size_t i = 0; i < h->user_count; i++)
		if (h->user[i].sessions.peak)
			advise_user(a, &h->user[i], p.total - p.metadata);
	note_huge(a, h, &p);
	note_store(a, h, &p);
	note_failures(a, h);
}

/* ---- as a configuration has it ---- */

/* Not one that would be read as a number, or that an end of line, a comment or a bracket is in. */
static bool name_fits(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-$@";

	return name && *name && (*name < '0' || *name > '9') && strlen(name) <= 40 &&
	       name[strspn(name, allowed)] == '\0';
}

void advise_name_users(struct advise *a, const char *(*name_of)(uint32_t uid))
{
	for (size_t i = 0; i < a->n; i++) {
		struct advise_line *l = &a->line[i];
		const char *name;

		if (sscanf(l->section, "user %" SCNu32, &l->uid) != 1)
			continue;
		name = name_of(l->uid);
		if (name_fits(name))
			snprintf(l->section, sizeof(l->section), "user %s", name);
	}
}

/* Sizes of the pool's parts that are not said follow from its size: when one changes, all are said. */
bool advise_line_matters(const struct advise *a, size_t i)
{
	const char *section = a->line[i].section;

	if (a->little[0])
		return false;
	if (a->line[i].value != a->line[i].now)
		return true;
	if (strcmp(section, "pool") != 0)
		return false;
	for (i = 0; i < a->n; i++)
		if (strcmp(a->line[i].section, section) == 0 && a->line[i].value != a->line[i].now)
			return true;
	return false;
}

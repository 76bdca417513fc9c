/* SPDX-License-Identifier: MIT */
/*
 * Advise: what was used at most since the start (peak.h, the zones, the users), and what is set.
 *
 * Numbers alone: what follows from them is kmmctl's, where it is a pure function with tests of its own.
 * The worker gathers them, since it looks at all sessions and reads what the machine says of its huge
 * pages.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/cache.h"
#include "daemon/failure.h"
#include "daemon/fdstore.h"
#include "daemon/name.h"
#include "daemon/options.h"
#include "daemon/peak.h"
#include "daemon/pool.h"
#include "daemon/service.h"
#include "daemon/session.h"
#include "daemon/setting.h"
#include "mm/slab.h"
#include "mm/vmstat.h"
#include "proto/kmm.pb-c.h"

#define USERS 16u /* kmm.options: History.user */
#define FRAMES_1G (UINT64_C(1) << 18)

struct advise_call {
	struct service_job job; /* first */
	Kmm__V1__History m;
	Kmm__V1__ZonePeak zone[MAX_NR_ZONES], *zones[MAX_NR_ZONES];
	char zone_name[MAX_NR_ZONES][16], backing[16];
	Kmm__V1__PeakCount count[16];
	uint32_t counts;
	struct user_usage usage[USERS];
	uint32_t n;
	Kmm__V1__UserPeak user[USERS], *users[USERS];
	Kmm__V1__PeakCount user_count[USERS][NR_USER_COUNTS];
};

static Kmm__V1__PeakCount *count_of(struct advise_call *c, uint64_t peak, uint64_t limit)
{
	Kmm__V1__PeakCount *n = &c->count[c->counts++];

	kmm__v1__peak_count__init(n);
	n->peak = peak;
	n->limit = limit;
	return n;
}

/* Of a table, which may have turned out smaller than it was to be. */
static Kmm__V1__PeakCount *table_of(struct advise_call *c, uint64_t peak, uint64_t limit,
                                    uint64_t room)
{
	Kmm__V1__PeakCount *n = count_of(c, peak, limit);

	n->room = room;
	return n;
}

/* ---- the zones ---- */

static void zone_add(struct advise_call *c, uint32_t node, unsigned int type)
{
	const struct mm_domain *zones = c->job.kmmd->domain->zones;
	Kmm__V1__ZonePeak *m = &c->zone[type];
	struct mm_zone_stats z;

	mm_zone_stats(zones, node, (enum zone_type)type, &z);
	m->managed += z.managed;
	m->peak += z.managed > z.free_least ? z.managed - z.free_least : 0;
	m->had += z.alloc;
	c->m.allocated += z.alloc;
}

static void zones_fill(struct advise_call *c)
{
	const struct kmmd *k = c->job.kmmd;
	unsigned int type;
	uint32_t node;

	for (type = 0; type < MAX_NR_ZONES; type++) {
		Kmm__V1__ZonePeak *m = &c->zone[type];
		enum zone_type class = (enum zone_type)type;

		kmm__v1__zone_peak__init(m);
		snprintf(c->zone_name[type], sizeof(c->zone_name[type]), "%s", zone_names[type]);
		m->zone = c->zone_name[type];
		for (node = 0; node < mm_nr_nodes(k->domain->zones); node++)
			zone_add(c, node, type);
		m->lack = peak_failures(k->peak, FAILURE_LACK, class);
		m->fragmentation = peak_failures(k->peak, FAILURE_FRAGMENTATION, class);
		m->impossible = peak_failures(k->peak, FAILURE_IMPOSSIBLE, class);
		c->m.quota_failures += peak_failures(k->peak, FAILURE_SESSION_QUOTA, class) +
		                       peak_failures(k->peak, FAILURE_USER_QUOTA, class);
		c->m.stalls += vm_counted(k->domain->zones, VM_ALLOCSTALL + type);
		c->zones[type] = m;
	}
	c->m.n_zone = MAX_NR_ZONES;
	c->m.zone = c->zones;
}

/* ---- users ---- */

/* Those who had most pages, the most first. */
static void user_add(void *ctx, const struct user_usage *usage)
{
	struct advise_call *c = ctx;
	uint32_t i;

	c->m.users++;
	for (i = c->n; i > 0 && c->usage[i - 1].peak[USER_PAGES] < usage->peak[USER_PAGES]; i--)
		if (i < USERS)
			c->usage[i] = c->usage[i - 1];
	if (i == USERS)
		return;
	c->usage[i] = *usage;
	c->n += c->n < USERS;
}

static void users_fill(struct advise_call *c)
{
	const struct kmmd *k = c->job.kmmd;
	uint64_t names = 0, some;
	uint32_t i, w;

	user_each(k->users, user_add, c);
	for (i = 0; i < c->n; i++) {
		Kmm__V1__PeakCount *n = c->user_count[i];
		Kmm__V1__UserPeak *m = &c->user[i];

		kmm__v1__user_peak__init(m);
		for (w = 0; w < NR_USER_COUNTS; w++) {
			kmm__v1__peak_count__init(&n[w]);
			n[w].peak = c->usage[i].peak[w];
			n[w].limit = c->usage[i].max[w];
			n[w].refused = c->usage[i].refused[w];
		}
		m->uid = c->usage[i].uid;
		m->pages = &n[USER_PAGES];
		m->objects = &n[USER_OBJECTS];
		m->caches = &n[USER_CACHES];
		m->channels = &n[USER_CHANNELS];
		m->calls = &n[USER_CALLS];
		m->sessions = &n[USER_SESSIONS];
		c->users[i] = m;
		some = name_count_of_user(k->domain->names, c->usage[i].uid);
		names = some > names ? some : names;
	}
	c->m.n_user = c->n;
	c->m.user = c->users;
	c->m.user_names = count_of(c, names, OPTION(k->options, names_user_max));
}

/* ---- the rest ---- */

static void counts_fill(struct advise_call *c)
{
	const struct kmmd *k = c->job.kmmd;
	const struct options *o = k->options;
	Kmm__V1__History *m = &c->m;

	m->used_peak = peak_get(k->peak, PEAK_USED);
	m->order_peak = (uint32_t)peak_get(k->peak, PEAK_ORDER);
	m->sessions = table_of(c, peak_get(k->peak, PEAK_SESSIONS), o->sessions_max,
	                       k->pool->nr_sessions - 1);
	m->holders = table_of(c, peak_get(k->peak, PEAK_HOLDERS), o->holders_max,
	                      k->pool->nr_holders);
	m->names = table_of(c, peak_get(k->peak, PEAK_NAMES), 0, LEDGER_NAMES_MAX);
	m->caches = table_of(c, peak_get(k->peak, PEAK_CACHES), 0, CONTROL_CACHES_MAX - 1);
	m->parked = count_of(c, peak_get(k->peak, PEAK_PARKED), 0);
	m->session_pages = count_of(c, peak_get(k->peak, PEAK_SESSION_PAGES),
	                            OPTION(o, pages_max));
	m->session_objects = count_of(c, peak_get(k->peak, PEAK_SESSION_OBJECTS),
	                              OPTION(o, objects_max));
	m->session_channels = count_of(c, peak_get(k->peak, PEAK_SESSION_CHANNELS),
	                               OPTION(o, channels_max));
	m->session_calls = count_of(c, peak_get(k->peak, PEAK_SESSION_CALLS),
	                            OPTION(o, calls_max));
	m->session_holders = count_of(c, peak_get(k->peak, PEAK_SESSION_HOLDERS),
	                              OPTION(o, holders_session_max));
	m->thread_cache = OPTION(o, thread_cache);
}

static uint64_t calls_of(struct session_table *t)
{
	uint64_t n = 0;
	uint32_t id;

	for (id = 1; id < session_table_size(t); id++)
		/* relaxed: a counter */
		n += atomic_load_explicit(&session_by_id(t, id)->calls, memory_order_relaxed);
	return n;
}

static void pool_fill(struct advise_call *c)
{
	const struct kmmd *k = c->job.kmmd;
	const struct options *o = k->options;
	Kmm__V1__History *m = &c->m;
	struct pool_backing backing;

	m->uptime_ms = (uv_hrtime() - k->started_ns) / 1000000;
	m->calls = calls_of(k->sessions);
	m->frames = pool_present(k->pool);
	m->absent = k->pool->frames - m->frames;
	m->metadata = k->pool->metadata_frames;
	m->section = UINT64_C(1) << k->pool->section_order;
	m->section_given = o->section_size != 0;
	m->huge_page = o->huge_page_size >> PAGE_SHIFT;
	setting_format(setting_find("pool", "backing"), o, c->backing, sizeof(c->backing));
	m->backing = c->backing;
	m->nodes = mm_nr_nodes(k->domain->zones);
	m->highmem_given = o->highmem != OPTIONS_HIGHMEM_DEFAULT;
	m->dma_size = o->dma_size;
	m->dma32_size = o->dma32_size;
	pool_backing_get(k->pool, &backing);
	m->bytes_4k = backing.bytes_4k;
	m->sections = k->pool->nr_sections;
	m->kept = fdstore_present(k->fdstore);
}

/* What of the pool lies on pages of hugetlb, in frames. */
static uint64_t huge_frames(const struct pool *p)
{
	struct section_info info;
	uint64_t n = 0;
	uint32_t nr;

	for (nr = 0; nr < mm_nr_sections(p->mm); nr++) {
		mm_section_get(p->mm, (section_id_t){ nr }, &info);
		n += info.state != SECTION_ABSENT &&
		     (info.backing == SHM_HUGETLB_2M || info.backing == SHM_HUGETLB_1G);
	}
	return n << p->section_order;
}

static void machine_fill(struct advise_call *c)
{
	bool large = c->m.huge_page == FRAMES_1G;
	struct shm_machine now;
	unsigned int ids[64];

	c->m.machine_nodes = shm_nodes(ids, sizeof(ids) / sizeof(ids[0]));
	c->m.huge_pool = huge_frames(c->job.kmmd->pool) / c->m.huge_page;
	if (shm_machine_read(&now) < 0)
		return;
	c->m.huge_total = large ? now.huge_1g_total : now.huge_2m_total;
	c->m.huge_free = large ? now.huge_1g_free : now.huge_2m_free;
}

static void advise_work(struct service_job *j)
{
	struct advise_call *c = (struct advise_call *)j;

	peak_tick(j->kmmd); /* what is so at this moment, too */
	pool_fill(c);
	zones_fill(c);
	counts_fill(c);
	users_fill(c);
	machine_fill(c);
	service_job_done(j);
}

static void advise_reply(struct service_job *j)
{
	struct advise_call *c = (struct advise_call *)j;

	if (!service_job_cancelled(j))
		rpc_pending_reply(&j->pending, &c->m.base);
	free(c);
}

void service_advise(struct rpc_call *call, const ProtobufCMessage *request)
{
	struct advise_call *c = service_census_start(call, sizeof(*c));

	(void)request;
	if (!c)
		return;
	kmm__v1__history__init(&c->m);
	service_job_start(call, &c->job, advise_work, advise_reply);
}

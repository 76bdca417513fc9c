/* SPDX-License-Identifier: MIT */
/*
 * GetMap: what every pageblock (2 MiB) of the pool is and who has it, for pictures of the pool.
 *
 * The worker goes through the pool in stretches of the largest block (mm/inspect.h), so that each
 * block lies in one stretch, and sorts the frames of each run into the cells of its pageblocks:
 *
 *     run       free      per-CPU     block ── owner word                      slab ── objects' words
 *     counts    free,     per_cpu     blocks; cached, kept, or the session's   slab; the sessions'
 *               largest                                                       strides, in bytes
 *
 * Who has most of a pageblock is counted in bytes: frames of blocks, strides of objects. One array by
 * session is used for all cells and cleaned by the list of those that it has something of.
 *
 * The list leaves in slices, as that of the sessions (service_sessions.c), a message for CELLS
 * pageblocks. Complexity: O(frames + objects) for the worker, off every lock but one zone's for a
 * stretch; 32 bytes a pageblock meanwhile.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/high.h"
#include "daemon/object.h"
#include "daemon/pool.h"
#include "daemon/service.h"
#include "mm/inspect.h"
#include "proto/kmm.pb-c.h"

#define CELLS 64u /* kmm.options: MapPart.cell */
#define STRETCH (MM_SCAN_FRAMES / PAGEBLOCK_NR_PAGES)

struct cell {
	uint8_t state, node, zone, type, largest;
	uint16_t free, per_cpu, reserved, blocks, slab, cached, movable, kept, owner_frames;
	uint32_t owner;
};

/* What the sessions have of one pageblock. */
struct tally {
	uint32_t *bytes;   /* by session; all 0 between cells */
	uint32_t *session; /* those that have some */
	uint32_t n, size;
};

struct map_call {
	struct service_job job; /* first */
	struct cell *cell;
	uint32_t n, next; /* next: message */
	struct tally tally[STRETCH];
	pfn_t stretch; /* first frame of the one at hand */
	bool failed;
};

/* ---- who has it ---- */

static bool tally_make(struct tally *t, uint32_t size)
{
	t->size = size;
	t->bytes = calloc(size, sizeof(t->bytes[0]));
	t->session = calloc(size, sizeof(t->session[0]));
	return t->bytes && t->session;
}

static void tally_add(struct tally *t, uint32_t id, uint32_t bytes)
{
	if (id == 0 || id >= t->size || bytes == 0)
		return;
	if (!t->bytes[id])
		t->session[t->n++] = id;
	t->bytes[id] += bytes;
}

static void tally_finish(struct tally *t, struct cell *c)
{
	uint32_t i, most = 0;

	for (i = 0; i < t->n; i++) {
		uint32_t bytes = t->bytes[t->session[i]];

		if (bytes > most) {
			most = bytes;
			c->owner = t->session[i];
		}
		t->bytes[t->session[i]] = 0;
	}
	c->owner_frames = (uint16_t)((most + (1u << PAGE_SHIFT) - 1) >> PAGE_SHIFT);
	t->n = 0;
}

/* ---- the runs of a stretch ---- */

static struct cell *cell_of(struct map_call *m, pfn_t pfn)
{
	return &m->cell[pfn >> PAGEBLOCK_ORDER];
}

static struct tally *tally_of(struct map_call *m, pfn_t pfn)
{
	return &m->tally[(pfn - m->stretch) >> PAGEBLOCK_ORDER];
}

static void add_block(struct map_call *m, const struct mm_run *r, pfn_t pfn, uint16_t frames)
{
	const struct domain *d = m->job.kmmd->domain;
	uint32_t page = domain_block_page(d, r->start, r->order);
	uint64_t w = owner_load(&d->control.word[page]);
	struct cell *c = cell_of(m, pfn);

	c->blocks += frames;
	if (domain_page_moves(d, page))
		c->movable += frames;
	if (owner_kind(w) == OWNER_RETURNED || owner_kind(w) == OWNER_MAGAZINE)
		c->cached += frames;
	else if (owner_kind(w) == OWNER_HELD && owner_id(w) == 0)
		c->kept += frames;
	else if (owner_kind(w) == OWNER_HELD || owner_kind(w) == OWNER_OFFERED ||
	         owner_kind(w) == OWNER_MOVING)
		tally_add(tally_of(m, pfn), owner_id(w), (uint32_t)frames << PAGE_SHIFT);
}

static void add_object(void *ctx, const struct slab_object *o, bool out)
{
	struct map_call *m = ctx;
	uint64_t w;

	if (!out)
		return;
	w = owner_load(object_word(m->job.kmmd->domain, o));
	if (owner_kind(w) == OWNER_HELD || owner_kind(w) == OWNER_OFFERED ||
	    owner_kind(w) == OWNER_RETURNED)
		tally_add(tally_of(m, (pfn_t)(o->address >> PAGE_SHIFT)), owner_id(w),
		          kmem_cache_geometry(o->cache)->stride);
}

/* The part of a run that lies in one pageblock. */
static void add_part(struct map_call *m, const struct mm_run *r, pfn_t pfn, uint16_t frames)
{
	struct cell *c = cell_of(m, pfn);

	switch (r->state) {
	case MM_FRAME_RESERVED:
		c->reserved += frames;
		break;
	case MM_FRAME_FREE:
		c->free += frames;
		if (c->largest <= r->order)
			c->largest = (uint8_t)(r->order + 1);
		break;
	case MM_FRAME_PER_CPU:
		c->per_cpu += frames;
		break;
	case MM_FRAME_BLOCK:
		add_block(m, r, pfn, frames);
		break;
	case MM_FRAME_SLAB:
		c->slab += frames;
		break;
	case MM_FRAME_OUTSIDE:
		break;
	}
}

static void add_run(struct map_call *m, const struct mm_run *r)
{
	pfn_t pfn = r->start, end = r->start + r->frames, next;

	for (; pfn < end; pfn = next) {
		next = (pfn | (PAGEBLOCK_NR_PAGES - 1)) + 1;
		if (next > end)
			next = end;
		add_part(m, r, pfn, (uint16_t)(next - pfn));
	}
	if (r->state == MM_FRAME_SLAB)
		slab_walk_one(m->job.kmmd->domain->slabs, r->start, add_object, m);
}

static Kmm__V1__Page__State section_cell(const struct section_info *s, uint32_t domain)
{
	switch (s->state) {
	case SECTION_ABSENT:
		return KMM__V1__PAGE__STATE__ABSENT;
	case SECTION_METADATA:
		return KMM__V1__PAGE__STATE__METADATA;
	case SECTION_RETIRED:
		return KMM__V1__PAGE__STATE__RETIRED;
	case SECTION_ONLINE:
		if (s->domain == domain)
			return KMM__V1__PAGE__STATE__BLOCK;
		break;
	default:
		break;
	}
	return KMM__V1__PAGE__STATE__OFFLINE;
}

static void map_stretch(struct map_call *m, struct mm_run run[MM_SCAN_FRAMES])
{
	const struct domain *d = m->job.kmmd->domain;
	struct section_info s;
	uint32_t i, n;

	mm_section_get(d->mm, mm_section_of(d->mm, m->stretch), &s);
	for (i = 0; i < STRETCH; i++) {
		pfn_t pfn = m->stretch + i * PAGEBLOCK_NR_PAGES;
		struct cell *c = cell_of(m, pfn);

		c->state = (uint8_t)section_cell(&s, d->id);
		c->node = s.node;
		c->zone = s.zone;
		c->type = (uint8_t)mm_pageblock_type_at(d->mm, pfn);
	}
	n = mm_scan(d->zones, m->stretch, run);
	for (i = 0; i < n; i++)
		add_run(m, &run[i]);
	for (i = 0; i < STRETCH; i++)
		tally_finish(&m->tally[i], cell_of(m, m->stretch + i * PAGEBLOCK_NR_PAGES));
}

static void map_work(struct service_job *j)
{
	struct map_call *m = (struct map_call *)j;
	uint64_t frames = j->kmmd->pool->frames;
	struct mm_run run[MM_SCAN_FRAMES];
	uint32_t i;

	m->n = (uint32_t)(frames >> PAGEBLOCK_ORDER);
	m->cell = calloc(m->n, sizeof(m->cell[0]));
	m->failed = !m->cell;
	for (i = 0; i < STRETCH; i++)
		m->failed |= !tally_make(&m->tally[i], session_table_size(j->kmmd->sessions));
	for (; m->stretch < frames && !m->failed; m->stretch += MM_SCAN_FRAMES)
		map_stretch(m, run);
	service_job_done(j);
}

/* ---- the list ---- */

static void item_fill(Kmm__V1__MapCell *i, const struct cell *c)
{
	kmm__v1__map_cell__init(i);
	i->state = (Kmm__V1__Page__State)c->state;
	i->node = c->node;
	i->zone = c->zone;
	i->type = c->type;
	i->free = c->free;
	i->largest = c->largest;
	i->per_cpu = c->per_cpu;
	i->reserved = c->reserved;
	i->blocks = c->blocks;
	i->slab = c->slab;
	i->cached = c->cached;
	i->movable = c->movable;
	i->owner = c->owner;
	i->owner_frames = c->owner_frames;
	i->kept = c->kept;
}

static int map_send(struct service_job *j, uint32_t i)
{
	struct map_call *m = (struct map_call *)j;
	Kmm__V1__MapPart part = KMM__V1__MAP_PART__INIT;
	Kmm__V1__MapCell cell[CELLS], *cells[CELLS];

	part.first = i * CELLS;
	part.cell = cells;
	for (; part.n_cell < CELLS && part.first + part.n_cell < m->n; part.n_cell++) {
		item_fill(&cell[part.n_cell], &m->cell[part.first + part.n_cell]);
		cells[part.n_cell] = &cell[part.n_cell];
	}
	return rpc_pending_item(&j->pending, &part.base) ? 1 : -1;
}

static void map_free(struct map_call *m)
{
	for (uint32_t i = 0; i < STRETCH; i++) {
		free(m->tally[i].bytes);
		free(m->tally[i].session);
	}
	free(m->cell);
	free(m);
}

static void map_reply(struct service_job *j)
{
	struct map_call *m = (struct map_call *)j;
	Kmm__V1__GetMapRequest end = KMM__V1__GET_MAP_REQUEST__INIT;

	if (service_job_list(j, &m->next, (m->n + CELLS - 1) / CELLS, m->failed, map_send,
	                     &end.base))
		map_free(m);
}

void service_get_map(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__GetMapRequest *q = (const Kmm__V1__GetMapRequest *)request;
	struct map_call *m;

	if (!service_domain_known(call, q->domain))
		return;
	m = service_census_start(call, sizeof(*m));
	if (m)
		service_job_start(call, &m->job, map_work, map_reply);
}

/* SPDX-License-Identifier: MIT */
/*
 * GetPage: all that is known of one page, in the kernel's words where it has some.
 *
 * The page asked for is a frame, or one that can move (shm/control.h). What is known of it comes from
 * several places, each true as of the moment when it was read:
 *
 *     page ── map of pages ► frame ── section word     what backs it, in which zone
 *       │                      └───── mm_run_at()      free, per-CPU, block, slab; its head and order
 *       └──── owner word                               who has the block; of a slab: a word an object
 *                └─ granule, generation ── holders, names
 *
 * The holder table and the names are searched as a whole (bounded tables, a look at one entry each),
 * which the worker does. Nothing is read of what the page contains.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/high.h"
#include "daemon/holder.h"
#include "daemon/name.h"
#include "daemon/object.h"
#include "daemon/pool.h"
#include "daemon/service.h"
#include "mm/inspect.h"
#include "proto/kmm.pb-c.h"

/* kmm.options */
#define OWNERS_MAX 8u
#define HOLDERS_MAX 16u
#define NAMES_MAX 8u

#define FLAG(name) (1u << KMM__V1__PAGE__FLAG__##name)

struct peer_item {
	Kmm__V1__PageSession m;
	struct session_about about;
};

struct page_call {
	struct service_job job; /* first */
	Kmm__V1__Page m;
	bool granted; /* a page that moves: a block is there */
	uint32_t granule, granule_end; /* what begins there has its holders and names told */
	uint32_t words[OWNER_NR_KINDS];
	struct peer_item owner[OWNERS_MAX], holder[HOLDERS_MAX];
	Kmm__V1__PageSession *owners[OWNERS_MAX], *holders[HOLDERS_MAX];
	char name[NAMES_MAX][64], *names[NAMES_MAX];
	char section_state[32], backing[32], zone[16], magazine[64], cache[64];
};

/* ---- sessions ---- */

static void peer_fill(struct peer_item *i, struct domain *d, uint32_t id, uint32_t objects)
{
	struct session *s = id ? session_by_id(d->kmmd->sessions, id) : NULL;

	kmm__v1__page_session__init(&i->m);
	i->m.session = id;
	i->m.objects = objects;
	if (!s || !session_describe(s, &i->about))
		return;
	i->m.name = i->about.name;
	i->m.pid = (uint32_t)i->about.pid;
	i->m.uid = i->about.uid;
}

static void owner_add(struct page_call *c, uint32_t id, uint32_t objects)
{
	size_t i = c->m.n_owner;

	if (i == OWNERS_MAX)
		return;
	peer_fill(&c->owner[i], c->job.kmmd->domain, id, objects);
	c->owners[i] = &c->owner[i].m;
	c->m.n_owner++;
}

/* ---- holders and names of what begins in [granule, granule_end) ---- */

/* The generation of the thing that begins there; false: there is none. */
static bool thing_alive(struct page_call *c, uint32_t granule, uint64_t generation)
{
	struct thing t;

	return granule >= c->granule && granule < c->granule_end &&
	       thing_find(c->job.kmmd->domain, granule, &t) &&
	       owner_generation(owner_load(t.word)) == generation;
}

static void note_holder(void *ctx, uint32_t session, uint32_t granule, uint64_t generation)
{
	struct page_call *c = ctx;
	size_t i = c->m.n_holder;

	if (!thing_alive(c, granule, generation))
		return;
	c->m.holders++;
	if (i == HOLDERS_MAX)
		return;
	/* who it is follows when the table's lock is not held any more */
	c->holder[i].m.session = session;
	c->m.n_holder++;
}

static void gather_holders(struct page_call *c)
{
	struct domain *d = c->job.kmmd->domain;
	struct name_about about;
	uint32_t cursor = 0;
	size_t i;

	holder_for_each(d->holders, note_holder, c);
	for (i = 0; i < c->m.n_holder; i++) {
		peer_fill(&c->holder[i], d, c->holder[i].m.session, 1);
		c->holders[i] = &c->holder[i].m;
	}
	while (name_next(d->names, &cursor, &about)) {
		if (!thing_alive(c, about.granule, about.generation))
			continue;
		c->m.names++;
		if (c->m.n_name == NAMES_MAX)
			continue;
		memcpy(c->name[c->m.n_name], about.name, sizeof(about.name));
		c->names[c->m.n_name] = c->name[c->m.n_name];
		c->m.n_name++;
	}
	if (c->m.holders && !(c->m.flags & FLAG(TAIL)))
		c->m.flags |= FLAG(PRIVATE);
}

/* ---- a block ---- */

static void gather_magazine(struct page_call *c, uint32_t nr)
{
	static const char *const state[MAGAZINE_NR_STATES] = { "empty", "in the depot", "offered",
		                                               "loaded", "in the rack" };
	struct domain *d = c->job.kmmd->domain;
	uint64_t h;

	if (nr >= d->control.geometry.magazines) {
		snprintf(c->magazine, sizeof(c->magazine), "there is no such magazine");
		return;
	}
	h = magazine_load(&d->control.magazine[nr]);
	c->m.magazine = nr + 1;
	snprintf(c->magazine, sizeof(c->magazine), "%s",
	         magazine_state(h) < MAGAZINE_NR_STATES ? state[magazine_state(h)] : "unknown");
	if (magazine_owner(h))
		owner_add(c, magazine_owner(h), 1);
}

static void gather_word(struct page_call *c, uint64_t w)
{
	uint32_t kind = (uint32_t)owner_kind(w);

	c->m.kind = kind < OWNER_NR_KINDS ? (Kmm__V1__Page__Kind)kind :
	                                    KMM__V1__PAGE__KIND__UNKNOWN;
	c->m.generation = owner_generation(w);
	c->m.shared = (w & OWNER_SHARED) != 0;
	c->m.mapped = (w & OWNER_MAPPED) != 0;
	c->m.kept = (w & OWNER_KEPT) != 0;
	if (kind == OWNER_MAGAZINE)
		gather_magazine(c, owner_id(w));
	else if (kind != OWNER_AREA && owner_id(w))
		owner_add(c, owner_id(w), 1);
}

static void gather_block(struct page_call *c, const struct mm_run *r)
{
	struct domain *d = c->job.kmmd->domain;
	uint64_t w = owner_load(&d->control.word[c->m.page_of]);

	gather_word(c, w);
	c->m.type = r->migratetype;
	c->m.charged = r->tag;
	c->granule = domain_granule(d, c->m.page_of);
	c->granule_end = c->granule + 1;
	gather_holders(c);
	if (owner_kind(w) == OWNER_RETURNED || owner_kind(w) == OWNER_MAGAZINE)
		c->m.flags |= FLAG(RECLAIM);
	if (owner_kind(w) == OWNER_MOVING)
		c->m.flags |= FLAG(ISOLATED);
	if (c->m.moves && c->m.mapped)
		c->m.flags |= FLAG(UNEVICTABLE);
	c->m.mapcount = c->m.moves && c->m.mapped;
	if (c->m.frame != r->start)
		return; /* as Linux counts a tail */
	c->m.refcount = c->m.holders + (owner_kind(w) != OWNER_HELD || owner_id(w) != 0);
}

/* ---- a slab ---- */

struct slab_look {
	struct page_call *c;
	uint64_t start, end; /* of the page, in the pool */
	uint32_t size;       /* of an object */
	bool seen;           /* an object on the page */
	uint32_t n;
	struct {
		uint32_t id, objects;
	} session[SLAB_WORDS_MAX];
};

static void count_session(struct slab_look *l, uint32_t id)
{
	uint32_t i;

	for (i = 0; i < l->n && l->session[i].id != id; i++)
		;
	if (i == SLAB_WORDS_MAX)
		return;
	if (i == l->n) {
		l->session[l->n].id = id;
		l->session[l->n++].objects = 0;
	}
	l->session[i].objects++;
}

static void look_object(void *ctx, const struct slab_object *o, bool out)
{
	struct slab_look *l = ctx;
	struct page_call *c = l->c;
	uint64_t w = owner_load(object_word(c->job.kmmd->domain, o));
	enum owner_kind kind = out ? owner_kind(w) : OWNER_FREE;

	c->m.inuse += out;
	if (kind < OWNER_NR_KINDS)
		c->words[kind]++;
	if (kind == OWNER_OFFERED || kind == OWNER_HELD || kind == OWNER_RETURNED)
		count_session(l, owner_id(w));
	if (o->address >= l->end || o->address + l->size <= l->start)
		return;
	if (!l->seen) {
		l->seen = true;
		c->m.first_object = o->slot;
		c->m.first_offset = (uint32_t)(o->address - ((uint64_t)o->head << PAGE_SHIFT));
	}
	c->m.page_objects++;
}

static int most_first(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b; /* id, objects */

	return x[1] != y[1] ? (x[1] < y[1] ? 1 : -1) : (x[0] > y[0]) - (x[0] < y[0]);
}

static void gather_slab(struct page_call *c, const struct mm_run *r)
{
	struct domain *d = c->job.kmmd->domain;
	struct slab_look l = { .c = c, .start = (uint64_t)c->m.frame << PAGE_SHIFT };
	const struct slab_geometry *g;
	struct slab_about about;
	struct cache *cache = NULL;
	uint32_t i;

	c->m.flags |= FLAG(SLAB_PAGE);
	c->m.refcount = c->m.frame == r->start;
	if (slab_about_at(d->slabs, r->start, &about))
		cache = cache_enter(d, kmem_cache_id(about.cache), 0);
	if (!cache)
		return; /* it comes or goes at this moment */
	g = kmem_cache_geometry(cache->slab);
	snprintf(c->cache, sizeof(c->cache), "%.63s", kmem_cache_record(cache->slab)->name);
	c->m.size = l.size = g->size;
	c->m.stride = g->stride;
	c->m.objects = g->objects;
	c->m.colour = about.colour * g->colour_off;
	l.end = l.start + (UINT64_C(1) << PAGE_SHIFT);
	slab_walk_one(d->slabs, r->start, look_object, &l);
	cache_leave(cache);
	qsort(l.session, l.n, sizeof(l.session[0]), most_first);
	for (i = 0; i < l.n && i < OWNERS_MAX; i++)
		owner_add(c, l.session[i].id, l.session[i].objects);
	c->m.n_words = OWNER_NR_KINDS;
	c->m.words = c->words;
	c->granule = domain_granule(d, c->m.frame);
	c->granule_end = domain_granule(d, c->m.frame + 1);
	gather_holders(c);
}

/* ---- where it is ---- */

/* The frame of the page, and the page that the frame belongs to. */
static void gather_place(struct page_call *c)
{
	const struct domain *d = c->job.kmmd->domain;
	struct mm_block b;

	c->granted = true;
	c->m.page_of = c->m.frame = c->m.page;
	if (domain_page_moves(d, c->m.page))
		c->granted = domain_block_get(d, c->m.page, &c->m.frame, &b);
	else
		c->m.page_of = domain_page_of(d, c->m.frame);
	c->m.moves = domain_page_moves(d, c->m.page_of);
	if (c->m.moves)
		c->m.flags |= FLAG(MOVABLE);
}

static void gather_section(struct page_call *c)
{
	static const char *const name[SECTION_NR_STATES] = { "absent", "in reserve", "online",
		                                             "metadata", "retired" };
	const struct kmmd *k = c->job.kmmd;
	struct section_info s;

	c->m.section = mm_section_of(k->pool->mm, c->m.frame).nr;
	c->m.section_frames = UINT64_C(1) << k->pool->section_order;
	mm_section_get(k->pool->mm, (section_id_t){ c->m.section }, &s);
	snprintf(c->section_state, sizeof(c->section_state), "%s", name[s.state]);
	snprintf(c->backing, sizeof(c->backing), "%s",
	         s.backing < SHM_NR_BACKINGS ? shm_backing_name(s.backing) : "unknown");
	snprintf(c->zone, sizeof(c->zone), "%s", zone_names[s.zone]);
	c->m.node = s.node;
	c->m.pageblock_type = mm_pageblock_type_at(k->pool->mm, c->m.frame);
	/* relaxed: a look */
	c->m.direct = atomic_load_explicit(&k->domain->control.section[c->m.section],
	                                   memory_order_relaxed) == CONTROL_SECTION_DIRECT;
	switch (s.state) {
	case SECTION_ABSENT:
		c->m.state = KMM__V1__PAGE__STATE__ABSENT;
		c->m.flags |= FLAG(NO_PAGE);
		break;
	case SECTION_METADATA:
		c->m.state = KMM__V1__PAGE__STATE__METADATA;
		c->m.flags |= FLAG(NOT_MANAGED);
		break;
	case SECTION_RETIRED:
		c->m.state = KMM__V1__PAGE__STATE__RETIRED;
		c->m.flags |= FLAG(POISONED);
		break;
	default:
		c->m.state = KMM__V1__PAGE__STATE__OFFLINE;
		c->m.flags |= FLAG(NOT_ONLINE);
	}
}

static void gather_run(struct page_call *c)
{
	static const Kmm__V1__Page__State state[] = {
		[MM_FRAME_RESERVED] = KMM__V1__PAGE__STATE__RESERVED,
		[MM_FRAME_FREE] = KMM__V1__PAGE__STATE__FREE,
		[MM_FRAME_PER_CPU] = KMM__V1__PAGE__STATE__PER_CPU,
		[MM_FRAME_BLOCK] = KMM__V1__PAGE__STATE__BLOCK,
		[MM_FRAME_SLAB] = KMM__V1__PAGE__STATE__SLAB,
	};
	static const uint32_t flag[] = {
		[MM_FRAME_RESERVED] = FLAG(NOT_MANAGED),
		[MM_FRAME_FREE] = FLAG(BUDDY),
		[MM_FRAME_PER_CPU] = FLAG(PER_CPU_LIST),
		[MM_FRAME_BLOCK] = 0,
		[MM_FRAME_SLAB] = 0,
	};
	struct mm_run r;

	if (!mm_run_at(c->job.kmmd->domain->zones, c->m.frame, &r) || r.state == MM_FRAME_OUTSIDE)
		return; /* what the section says is all */
	c->m.state = state[r.state];
	c->m.flags = (c->m.flags & ~FLAG(NOT_ONLINE)) | flag[r.state];
	c->m.head = r.start;
	c->m.order = r.order;
	if (r.state == MM_FRAME_RESERVED || r.state == MM_FRAME_PER_CPU) {
		c->m.head = c->m.frame;
		return;
	}
	if (r.leaving)
		c->m.flags |= FLAG(LOCKED);
	if (r.state != MM_FRAME_FREE && r.order)
		c->m.flags |= c->m.frame == r.start ? FLAG(HEAD) : FLAG(TAIL);
	if (!c->m.moves)
		c->m.page_of = r.start;
	if (r.state == MM_FRAME_BLOCK)
		gather_block(c, &r);
	else if (r.state == MM_FRAME_SLAB)
		gather_slab(c, &r);
	else
		gather_word(c, owner_load(&c->job.kmmd->domain->control.word[c->m.page_of]));
}

/* ---- the call ---- */

static void page_work(struct service_job *j)
{
	struct page_call *c = (struct page_call *)j;

	gather_place(c);
	gather_section(c);
	if (c->granted) {
		gather_run(c);
	} else {
		c->m.state = KMM__V1__PAGE__STATE__UNUSED;
		c->m.flags = FLAG(MOVABLE);
		gather_word(c, owner_load(&j->kmmd->domain->control.word[c->m.page]));
	}
	service_job_done(j);
}

static void page_reply(struct service_job *j)
{
	struct page_call *c = (struct page_call *)j;

	if (!service_job_cancelled(j)) {
		c->m.section_state = c->section_state;
		c->m.backing = c->backing;
		c->m.zone = c->zone;
		c->m.magazine_state = c->magazine;
		c->m.cache = c->cache;
		c->m.owner = c->owners;
		c->m.holder = c->holders;
		c->m.name = c->names;
		rpc_pending_reply(&j->pending, &c->m.base);
	}
	free(c);
}

void service_get_page(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__GetPageRequest *q = (const Kmm__V1__GetPageRequest *)request;
	const struct control_geometry *g = &call->kmmd->domain->control.geometry;
	struct page_call *c;

	if (q->page >= control_pages(g)) {
		rpc_fail(call, STATUS_INVALID_ARGUMENT, EINVAL,
		         "there is no page %u: the pool has frames 0 to %" PRIu64
		         ", and %" PRIu64 " pages that can move behind them",
		         q->page, g->frames - 1, g->high_frames);
		return;
	}
	c = service_census_start(call, sizeof(*c));
	if (!c)
		return;
	kmm__v1__page__init(&c->m);
	c->m.page = q->page;
	service_job_start(call, &c->job, page_work, page_reply);
}

/* SPDX-License-Identifier: MIT */
/*
 * Objects out to sessions and back: what grant.c is for page blocks.
 *
 * An object that is out has two parts: its out bit (private, mm/slab.h) and its owner word (what
 * clients and the daemon exchange). There is no descriptor of its own and no tag: the slab's
 * descriptors lead clients to the word, and sessions are charged by estimate (charge.c). The order:
 *
 *   offer   the slab layer sets the out bit; the slab is noted in the session's slab bits; the word
 *           leaves FREE. A death in between leaves an out bit beside a FREE word: not out.
 *   free    1. the word w is read; it says that the object is to be freed
 *           2. the cache is entered and the object found by its address: it is out, w is its word
 *           3. w is exchanged to FREE with the next generation
 *           4. slab_free(): of several threads that got here by scribbled words one wins
 *           A death in between leaves a FREE word: not out.
 *
 * Step 3 succeeds only if nobody freed the object since step 1: the generations of a word never
 * repeat, neither for the place in the pool (they pass through the frame words when the slab goes)
 * nor for the word (object_floor when its memory goes). So what was found in step 2 is still true
 * in step 4, and the slab cannot go before.
 *
 * CONSTRUCTED stays in the word of a free object when its owner gave it back.
 *
 * Locks: none but mm/'s; the holder table's for KEPT things. No clock; no allocation.
 */
#include "daemon/object.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "daemon/high.h"
#include "daemon/holder.h"
#include "daemon/move.h"
#include "daemon/pool.h"
#include "daemon/probes.h"
#include "daemon/reclaim.h"
#include "daemon/wait_queue.h"

#define GET_AHEAD 8u          /* words fetched ahead */
#define CONSTRUCTED_BUDGET 4096u /* free objects looked at for constructed ones */

/* ---- things ---- */

bool thing_find(struct domain *d, uint32_t granule, struct thing *t)
{
	uint64_t address = (uint64_t)granule << d->granule_shift;
	struct mm_block b;
	bool out;

	t->granule = granule;
	t->page = control_pfn_of_granule(d->granule_shift, granule);
	t->is_object = slab_object_at(d->slabs, address, &t->object, &out);
	if (t->is_object) {
		t->pfn = t->object.head;
		t->word = object_word(d, &t->object);
		return out;
	}
	t->word = &d->control.word[t->page];
	return move_block_get(d, t->page, &t->pfn, &b) && domain_granule(d, t->page) == granule;
}

const char *thing_text(const struct thing *t)
{
	static _Thread_local char buffer[120];

	if (t->is_object)
		snprintf(buffer, sizeof(buffer), "the object of cache %s at granule %u",
		         kmem_cache_record(t->object.cache)->name, t->granule);
	else
		snprintf(buffer, sizeof(buffer), "the block at page %u", t->page);
	return buffer;
}

void thing_leave(struct domain *d, uint32_t cpu, const struct thing *t)
{
	struct grant_batch pages;
	struct object_batch objects;
	struct slab_object o;

	if (!t->is_object) {
		grant_batch_init(&pages, d, cpu);
		grant_leave(&pages, t->page);
		grant_batch_flush(&pages);
		return;
	}
	object_batch_init(&objects, d, cpu);
	if (!object_batch_find(&objects, t->object.address, &o) || o.word != t->object.word ||
	    !slab_free(&o, cpu, objects.direct))
		domain_damage(d, "granule %u was given back, but no object is out there",
		              t->granule);
	object_batch_end(&objects);
}

static int note_slab(struct domain *d, struct session *s, pfn_t head)
{
	_Atomic uint64_t *word = &control_slab_bits(&d->control, s->id)[head / 64];
	uint64_t bit = UINT64_C(1) << head % 64, opened;
	uint32_t page = head / (uint32_t)(GRANT_FRAME * 8);
	bool known = page < sizeof(s->slab_pages) * 8;
	_Atomic uint64_t *pages = &s->slab_pages[known ? page / 64 : 0];
	int rc;

	/* relaxed: a hint that spares the call; the bits themselves are what counts */
	opened = atomic_load_explicit(pages, memory_order_relaxed);
	if (!known || !(opened >> page % 64 & 1)) {
		rc = pool_slab_bits_open(d->kmmd->pool, s->id, head);
		if (rc)
			return rc;
		if (known)
			atomic_fetch_or_explicit(pages, UINT64_C(1) << page % 64,
			                         memory_order_relaxed);
	}
	/* release: pairs with the sweep's acquire; the offer comes behind it */
	if (!(atomic_load_explicit(word, memory_order_relaxed) & bit))
		atomic_fetch_or_explicit(word, bit, memory_order_release);
	return 0;
}

int thing_note(struct domain *d, struct session *s, const struct thing *t)
{
	if (t->is_object)
		return note_slab(d, s, t->pfn);
	grant_note_section(d, s, t->page);
	return 0;
}

void thing_left(struct domain *d, const struct thing *t, uint32_t who, uint32_t heir)
{
	struct mm_block b;
	pfn_t pfn;

	if (t->is_object || !domain_block_get(d, t->page, &pfn, &b))
		return;
	/* Without an heir it has an owner, who is charged, or only names are left. */
	if (heir || (b.tag == who && owner_is(owner_load(t->word), OWNER_HELD, 0)))
		charge_inherit(d, t->page, &b, heir);
}

/* ---- offering ---- */

int object_request(const struct cache *c, uint32_t cpu, uint32_t node, gfp_t gfp,
                   struct mm_request *r, const char **why)
{
	const struct cache_record *record = kmem_cache_record(c->slab);
	int rc = grant_check_domain(c->d, why);

	if (rc)
		return rc;
	if (gfp & __GFP_HIGHMEM) {
		*why = "objects are not had from HighMem, which has no addresses: ask without "
		       "__GFP_HIGHMEM";
		return -EINVAL;
	}
	gfp &= ~(GFP_ZONEMASK | GFP_MOVABLE_MASK);
	if (record->flags & SLAB_CACHE_DMA)
		gfp |= __GFP_DMA;
	if (record->flags & SLAB_CACHE_DMA32)
		gfp |= __GFP_DMA32;
	if (record->flags & SLAB_RECLAIM_ACCOUNT)
		gfp |= __GFP_RECLAIMABLE;
	*r = (struct mm_request){
		.gfp = gfp, .order = record->geometry.order, .cpu = cpu, .node = node
	};
	return grant_check(r, why);
}

/* The word of an object just had from the slab layer leaves FREE. */
static void word_publish(struct domain *d, const struct slab_object *o, enum owner_kind kind,
                         uint32_t id)
{
	owner_word_t *word = object_word(d, o);
	uint64_t w = owner_load(word);

	if (owner_kind(w) != OWNER_FREE || (w & (OWNER_SHARED | OWNER_KEPT))) {
		domain_damage(d, "the owner word of a free object at %#" PRIx64 " said %u of %u",
		              o->address, (unsigned int)owner_kind(w), owner_id(w));
		w = owner_reborn(w, OWNER_FREE, 0);
	}
	owner_store(word, owner_moved(w, kind, id));
}

static bool is_constructed(void *ctx, const struct slab_object *o)
{
	return owner_load(object_word(ctx, o)) & OWNER_CONSTRUCTED;
}

static void fetch_words(const struct domain *d, const struct slab_object o[], size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		__builtin_prefetch(object_word(d, &o[i]), 1);
}

size_t object_get(struct cache *c, struct session *s, const struct mm_request *r, bool constructed,
                  enum owner_kind kind, uint32_t id, size_t n, struct slab_object o[], int *rc)
{
	struct domain *d = c->d;
	size_t got, i;
	pfn_t noted = PFN_NONE;

	*rc = constructed ? -ENOKEY : -ENOMEM;
	got = constructed ? slab_alloc_some(c->slab, n, o, is_constructed, d, CONSTRUCTED_BUDGET) :
	                    slab_alloc_bulk(c->slab, r, n, o, rc);
	fetch_words(d, o, got < GET_AHEAD ? got : GET_AHEAD);
	for (i = 0; i < got; i++) {
		if (i + GET_AHEAD < got)
			__builtin_prefetch(object_word(d, &o[i + GET_AHEAD]), 1);
		if (o[i].head != noted && note_slab(d, s, o[i].head) < 0)
			break;
		noted = o[i].head;
		word_publish(d, &o[i], kind, id);
	}
	n = i;
	/* no memory for the session's bits: the rest was never out */
	for (; i < got; i++)
		slab_free(&o[i], r->cpu, false);
	if (!n && *rc == -ENOMEM)
		grant_note_scarce(d);
	return n;
}

const char *object_get_text(const struct cache *c, int rc)
{
	const struct cache_record *record = kmem_cache_record(c->slab);

	if (rc == -ENOKEY)
		return grant_text("cache %s has no constructed object that is free: create it with "
		                  "its constructor",
		                  record->name);
	return grant_text("there is no memory for objects of cache %s (slabs of order %u); %" PRIu64
	                  " frames are free in all",
	                  record->name, record->geometry.order, mm_nr_free(c->d->zones));
}

int object_alloc_near(struct cache *c, struct session *s, uint32_t cpu, uint32_t node, gfp_t gfp,
                      bool constructed, uint32_t *granule, const char **why)
{
	uint32_t stride = kmem_cache_geometry(c->slab)->stride;
	struct slab_object o;
	struct mm_request r;
	int rc = object_request(c, cpu, node, gfp, &r, why);

	if (rc)
		return rc;
	if (!charge_reserve_objects(s, stride, 1)) {
		*why = charge_text_objects(s, stride);
		return -EDQUOT;
	}
	if (!object_get(c, s, &r, constructed, OWNER_OFFERED, s->id, 1, &o, &rc)) {
		charge_return_objects(s, stride, 1);
		*why = object_get_text(c, rc);
		return rc;
	}
	*granule = object_granule(c->d, &o);
	probe_alloc_object(s->id, c->id, *granule, stride);
	return 0;
}

int object_alloc_node(struct cache *c, struct session *s, uint32_t cpu, uint32_t node, gfp_t gfp,
                      bool constructed, uint32_t *granule, const char **why)
{
	int rc = object_alloc_near(c, s, cpu, node, gfp, constructed, granule, why);
	unsigned int tries = 8; /* magazines */

	/* Before it is refused: what the depot and the rack keep of the cache, nobody uses. */
	for (; (rc == -ENOMEM || rc == -ENOKEY) && tries && exchange_free_one(c, cpu); tries--)
		rc = object_alloc_near(c, s, cpu, node, gfp, constructed, granule, why);
	return rc;
}

int object_alloc(struct cache *c, struct session *s, uint32_t cpu, gfp_t gfp, bool constructed,
                 uint32_t *granule, const char **why)
{
	return object_alloc_node(c, s, cpu, MM_NODE_ANY, gfp, constructed, granule, why);
}

/* ---- taking back ---- */

void object_batch_init(struct object_batch *b, struct domain *d, uint32_t cpu)
{
	b->d = d;
	b->cpu = cpu;
	b->direct = wait_queue_waiting(d->waiters);
	b->c = NULL;
	b->objects = 0;
}

void object_batch_end(struct object_batch *b)
{
	if (b->c)
		cache_leave(b->c);
	b->c = NULL;
	reclaim_note_objects(b->d, b->objects);
	if (!b->objects || !wait_queue_waiting(b->d->waiters))
		return;
	/* Freed by a look at the queue that came too early: the objects are in the cpu's magazines. What
	 * is not served by this goes by the next round of pressure.c. */
	if (!b->direct && b->cpu != MM_CPU_NONE)
		slab_drain_cpu(b->d->slabs, b->cpu);
	wait_queue_kick(b->d->waiters);
}

bool object_batch_find(struct object_batch *b, uint64_t address, struct slab_object *o)
{
	bool out;

	if (!slab_object_at(b->d->slabs, address, o, &out) || !out)
		return false;
	if (b->c && b->c->slab == o->cache)
		return true;
	if (b->c)
		cache_leave(b->c);
	b->c = cache_enter_to_free(b->d, kmem_cache_id(o->cache));
	/* The cache may have gone, or another come, before it was entered. */
	return b->c && slab_object_at(b->d->slabs, address, o, &out) && out &&
	       b->c->slab == o->cache;
}

enum grant_back object_batch_take_back(struct object_batch *b, const struct slab_object *o,
                                       uint64_t w, bool keep_constructed)
{
	struct domain *d = b->d;
	owner_word_t *word = object_word(d, o);
	uint32_t heir;

	if (w & OWNER_KEPT) {
		switch (holder_give_up(d->holders, object_granule(d, o), word, w, &heir)) {
		case HOLDER_NONE:
			return GRANT_BACK_CHANGED;
		case HOLDER_LEFT:
			return GRANT_BACK_KEPT;
		case HOLDER_FREED:
			break;
		}
	} else if (!owner_cas(word, &w,
	                      keep_constructed ? owner_renewed(w, OWNER_FREE, 0) :
	                                         owner_reborn(w, OWNER_FREE, 0))) {
		return GRANT_BACK_CHANGED;
	}
	if (!slab_free(o, b->cpu, b->direct)) {
		domain_damage(d, "the object at %#" PRIx64 " was given back, but it was not out",
		              o->address);
		return GRANT_BACK_DAMAGED;
	}
	b->objects++;
	return GRANT_BACK_FREED;
}

enum grant_back object_take_back(struct domain *d, uint32_t cpu, const struct slab_object *o,
                                 uint64_t w, bool keep_constructed)
{
	enum grant_back result = GRANT_BACK_CHANGED;
	struct object_batch b;
	struct slab_object at;

	object_batch_init(&b, d, cpu);
	if (object_batch_find(&b, o->address, &at) && at.word == o->word)
		result = object_batch_take_back(&b, &at, w, keep_constructed);
	object_batch_end(&b);
	return result;
}

void object_withdraw(struct domain *d, struct session *s, uint32_t cpu, uint32_t granule)
{
	struct thing t;
	uint32_t stride; /* read while it is out: the cache may be gone when it is free */
	uint64_t w;

	if (!thing_granule_ok(d, granule) || !thing_find(d, granule, &t) || !t.is_object)
		return;
	w = owner_load(t.word);
	if (!owner_is(w, OWNER_OFFERED, s->id))
		return;
	stride = kmem_cache_geometry(t.object.cache)->stride;
	if (object_take_back(d, cpu, &t.object, w, true) == GRANT_BACK_FREED)
		charge_return_objects(s, stride, 1);
}

static const char *not_returned_text(const struct thing *t, uint64_t w, int *rc)
{
	*rc = -EPERM;
	switch (owner_kind(w)) {
	case OWNER_FREE:
		*rc = -ENOENT;
		return grant_text("%s is free", thing_text(t));
	case OWNER_HELD:
	case OWNER_OFFERED:
	case OWNER_RETURNED:
		return grant_text("%s is not marked returned by this session; its owner word names "
		                  "session %u",
		                  thing_text(t), owner_id(w));
	default:
		return grant_text("%s is in a magazine", thing_text(t));
	}
}

int object_free(struct domain *d, struct session *s, uint32_t cpu, uint32_t granule,
                uint64_t generation, const char **why)
{
	enum grant_back result;
	struct thing t;
	uint32_t stride;
	uint64_t w;
	int rc;

	if (!thing_granule_ok(d, granule)) {
		*why = grant_text("granule %u is beyond the pool", granule);
		return -EINVAL;
	}
	if (!thing_find(d, granule, &t)) {
		/* freed before; when its slab went since, the frame's word is ahead of its own */
		if (owner_generation(owner_load(t.word)) > generation)
			return 0;
		*why = grant_text("no object is out at granule %u", granule);
		return -ENOENT;
	}
	w = owner_load(t.word);
	if (owner_generation(w) > generation)
		return 0; /* done before, or collected */
	if (!t.is_object) {
		*why = grant_text("at granule %u is a page block, no object", granule);
		return -EINVAL;
	}
	if (owner_generation(w) < generation) {
		*why = grant_text("%s never was at generation %" PRIu64 "; it is at %" PRIu64,
		                  thing_text(&t), generation, owner_generation(w));
		return -ENOENT;
	}
	if (owner_is(w, OWNER_HELD, 0))
		return 0; /* given up before; it lives on for its holders */
	if (!owner_is(w, OWNER_RETURNED, s->id)) {
		*why = not_returned_text(&t, w, &rc);
		return rc;
	}
	stride = kmem_cache_geometry(t.object.cache)->stride;
	result = object_take_back(d, cpu, &t.object, w, true);
	if (result == GRANT_BACK_DAMAGED) {
		*why = grant_text("no object is out at granule %u, though its owner word says so",
		                  granule);
		return -ENOENT;
	}
	if (result != GRANT_BACK_CHANGED)
		charge_return_objects(s, stride, 1);
	probe_free_object(s->id, granule);
	return 0;
}

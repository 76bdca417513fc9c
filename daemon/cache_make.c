/* SPDX-License-Identifier: MIT */
/*
 * How caches begin: made or joined by name, and the kmalloc families, which come with the pool.
 *
 * A cache is the same when name, size, alignment, the flags asked for and the presence of a
 * constructor are; what the daemon's configuration adds to its flags is nobody's business but its.
 *
 * The kmalloc families have fixed ids, so that a client finds the class of a size without asking:
 *
 *     id = 1 + family * 13 + class      families: kmalloc-, kmalloc-rcl-, dma-kmalloc-
 *     classes: 8 16 32 64 96 128 192 256 512 1k 2k 4k 8k
 *
 * A first start that died between two of them leaves the front of that list; the next one makes the
 * rest, and since ids are given the longest free first, in their order, they come out right. They are
 * checked to.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/cache_private.h"
#include "daemon/grant.h"
#include "daemon/log.h"
#include "daemon/options.h"
#include "daemon/pool.h"
#include "daemon/rack.h"
#include "daemon/slab_debug.h"

static const struct {
	const char *name;
	uint32_t size;
} classes[] = {
	{ "8", 8 },     { "16", 16 },   { "32", 32 },   { "64", 64 },  { "96", 96 },
	{ "128", 128 }, { "192", 192 }, { "256", 256 }, { "512", 512 }, { "1k", 1024 },
	{ "2k", 2048 }, { "4k", 4096 }, { "8k", 8192 },
};
#define CLASSES (sizeof(classes) / sizeof(classes[0]))

static const struct {
	const char *prefix;
	uint32_t flags;
} families[] = {
	{ "kmalloc-", 0 },
	{ "kmalloc-rcl-", SLAB_RECLAIM_ACCOUNT },
	{ "dma-kmalloc-", SLAB_CACHE_DMA },
};
#define FAMILIES (sizeof(families) / sizeof(families[0]))
_Static_assert(CLASSES * FAMILIES == CACHE_BUILTIN_MAX, "ids 1 to 39");

static uint32_t flags_effective(const struct domain *d, const char *name, uint32_t asked, bool ctor)
{
	uint32_t flags = asked | slab_debug_flags(OPTION_POINTER(d->kmmd->options, slab_debug), name);

	/* A poisoned object would not come back constructed. */
	return ctor ? flags & ~SLAB_POISON : flags;
}

/* Objects begin on granules, by which handles and rounds name them: in pools above 32 GiB these are
 * larger than the alignment that everything has. What is no alignment is left to be refused. */
static uint64_t align_effective(const struct domain *d, uint64_t align)
{
	uint64_t granule = UINT64_C(1) << d->granule_shift;

	return align < granule && !(align & (align - 1)) && granule > 8 ? granule : align;
}

/* The new record of k gets memory for its users and its rack; without, it goes again. */
static int begin(struct cache_table *t, struct kmem_cache *k, const char **why)
{
	uint64_t out;
	int r = ledger_open_users(t->ledger, kmem_cache_id(k));

	if (r == 0)
		r = rack_begin(t->d, kmem_cache_id(k));

	if (r < 0) {
		kmem_cache_destroy(k, &out);
		*why = "the daemon's machine has no memory for another cache";
		return r;
	}
	cache_begin(t, k);
	return 0;
}

/* One more within the quotas of the session and its user; c: NULL for one that is yet to be made. Users
 * come and go under the lock, so what was asked holds until the session is one of them. */
static bool may_open(struct cache_table *t, const struct cache *c, struct session *s,
                     const char **why)
{
	uint64_t max = OPTION(t->d->kmmd->options, caches_max);

	if (c && (c->builtin || cache_is_user(t, c, s->id)))
		return true;
	if (max && t->open[s->id] >= max) {
		*why = grant_text("the session has %u of the %" PRIu64 " caches open that it may: "
		                  "destroy some, or raise caches in [limits] of the configuration",
		                  t->open[s->id], max);
		return false;
	}
	if (user_charge(s->user, USER_CACHES, 1)) {
		user_uncharge(s->user, USER_CACHES, 1); /* cache_add_user() does it */
		return true;
	}
	user_refused(s->user, USER_CACHES);
	*why = user_text(s->user, USER_CACHES, 1);
	return false;
}

/* The session is among the users of the cache, which is there. */
static int join(struct cache_table *t, struct cache *c, struct session *s, uint32_t *id,
                uint64_t *life, const char **why)
{
	if (cache_state(c) != CACHE_LIVE) {
		*why = "the cache of that name is about to end; ask again";
		return -EAGAIN;
	}
	if (!may_open(t, c, s, why))
		return -EDQUOT;
	cache_add_user(t, c, s->id);
	*id = c->id;
	*life = kmem_cache_life(c->slab);
	return 0;
}

/* The names of the families, those to come included, are the pool's: slabinfo's readers take them for
 * kmalloc's. */
static bool name_is_reserved(const char *name)
{
	size_t i;

	for (i = 0; i < FAMILIES; i++)
		if (strncmp(name, families[i].prefix, strlen(families[i].prefix)) == 0)
			return true;
	return false;
}

int cache_create(struct domain *d, struct session *s, const char *name, uint64_t size,
                 uint64_t align, uint32_t flags, bool ctor, uint32_t *id, uint64_t *life,
                 const char **why)
{
	struct cache_table *t = d->caches;
	struct cache_request q = {
		.name = name,
		.size = size,
		.align = align_effective(d, align),
		.flags = flags_effective(d, name, flags, ctor),
		.flags_asked = flags,
		.ctor = ctor,
	};
	struct kmem_cache *k = NULL;
	int r;

	if (name_is_reserved(name)) {
		*why = grant_text("the cache's name begins as those of kmalloc do (kmalloc-, "
		                  "dma-kmalloc-), which come with the pool: \"%.63s\"", name);
		return -EINVAL;
	}
	LOCK_SCOPED(&t->lock);
	k = kmem_cache_find(d->slabs, name);
	if (!may_open(t, k ? &t->cache[kmem_cache_id(k)] : NULL, s, why))
		return -EDQUOT;
	k = NULL;
	r = kmem_cache_create(d->slabs, &q, (uint64_t)time(NULL), &k, why);
	if (r == -ENOSPC) {
		*why = grant_text("all %u caches of the pool are in use; destroy some", t->n - 1);
		return -EDQUOT;
	}
	if (r == -ENOMEM)
		*why = "the daemon is out of memory";
	if (r < 0 && !(r == -EEXIST && k))
		return r;
	if (r == 0) {
		r = begin(t, k, why);
		if (r < 0)
			return r;
	}
	return join(t, &t->cache[kmem_cache_id(k)], s, id, life, why);
}

int cache_open(struct domain *d, struct session *s, const char *name, uint32_t *id, uint64_t *life,
               const char **why)
{
	struct cache_table *t = d->caches;
	LOCK_SCOPED(&t->lock);
	struct kmem_cache *k = kmem_cache_find(d->slabs, name);

	if (!k) {
		*why = grant_text("there is no cache \"%.63s\"; kmmctl slabinfo lists them", name);
		return -ENOENT;
	}
	return join(t, &t->cache[kmem_cache_id(k)], s, id, life, why);
}

/* ---- the kmalloc families ---- */

#define CLASS_ALIGN_MAX (UINT32_C(1) << PAGE_SHIFT)
/* The largest power of two that divides the size, a page at most. */
static uint32_t class_align(uint32_t size)
{
	uint32_t align = size & -size;

	return align < CLASS_ALIGN_MAX ? align : CLASS_ALIGN_MAX;
}

static int make_one(struct cache_table *t, uint32_t id)
{
	unsigned int family = (id - 1) / CLASSES, class = (id - 1) % CLASSES;
	struct domain *d = t->d;
	struct kmem_cache *k;
	const char *why = "";
	char name[64];
	int r = 0;
	struct cache_request q = {
		.name = name,
		.size = classes[class].size,
		.align = align_effective(d, class_align(classes[class].size)),
		.flags_asked = families[family].flags,
	};

	snprintf(name, sizeof(name), "%s%s", families[family].prefix, classes[class].name);
	q.flags = flags_effective(d, name, q.flags_asked, false);
	k = kmem_cache_find(d->slabs, name);
	if (k && kmem_cache_id(k) == id)
		return 0;
	if (!k) {
		LOCK_SCOPED(&t->lock);

		r = kmem_cache_create(d->slabs, &q, (uint64_t)time(NULL), &k, &why);
		if (r == 0 && kmem_cache_id(k) == id) {
			cache_begin(t, k);
			return 0;
		}
	}
	if (r < 0)
		log_error("cache %s cannot be made: %s", name, r == -ENOMEM ? "no memory" : why);
	else
		log_error("cache %s has id %u instead of %u: the caches are of no pool of this "
		          "version", name, kmem_cache_id(k), id);
	return r < 0 ? r : -EUCLEAN;
}

int cache_make_builtin(struct cache_table *t)
{
	uint32_t id;
	/* One page is all of theirs and the empty magazines'. Of a pool that was taken over it may
	 * be in use: slots are hints, and stay as they are. */
	int r = pool_rack_open(t->d->kmmd->pool, 0);

	for (id = 1; id <= CACHE_BUILTIN_MAX && r == 0; id++)
		r = make_one(t, id);
	return r;
}

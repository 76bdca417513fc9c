/* SPDX-License-Identifier: MIT */
/*
 * How caches end, and how they shrink. All of it on the worker, so one cache ends at a time.
 *
 * A cache ends with its last user, when all its objects are free, or by itself when it has neither
 * users nor objects. Objects that nobody uses but that are out all the same are taken back first:
 * the depot's, and those whose words say RETURNED (cached by threads of sessions that have the cache
 * not open).
 *
 *   1. LIVE     take back; objects are out still: -EBUSY, nothing was disturbed
 *   2. ENDING   nobody enters any more but to free; wait until all others have left
 *   3.          take back what came meanwhile; objects are out: LIVE again, -EBUSY
 *   4.          the last user's bit; slabs and record (mm/); the view's life; NONE
 *
 * Between 3 and 4 a thread may be giving an object back: its out bit is clear already, but it works
 * on the slab. It has entered before it cleared the bit, so the count of those inside is looked at
 * once more after no object is out.
 *
 * Threads stay inside for no longer than one request, and none of them waits for the worker.
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>

#include "daemon/cache_private.h"
#include "daemon/object.h"
#include "daemon/wait_queue.h"

#define HOLDERS_SHOWN 4u
#define BUSY_LOOKS 8u /* at a cache whose objects are free again when it is said whose they are */
#define IDLE_LOOKS 16u /* seconds between two looks at all objects of a cache without users */

static uint64_t objects_out(const struct cache *c)
{
	struct kmem_cache_stats s;

	kmem_cache_stats(c->slab, &s);
	return s.objects_out;
}

/* What is out, but not with anybody. */
static void take_back(struct cache *c)
{
	if (!objects_out(c))
		return;
	exchange_drain_cache(c->d, c, MM_CPU_NONE);
	if (objects_out(c))
		object_collect(c->d, NULL, c, MM_CPU_NONE);
}

/* Until nobody is inside but `mine`. */
static void wait_alone(const struct cache *c, uint32_t mine)
{
	/* seq_cst: pairs with cache_enter() and cache_leave() */
	while (atomic_load_explicit(&c->inside, memory_order_seq_cst) != mine)
		sched_yield();
}

/* Nobody enters and no object is out, for good. */
static bool empty_alone(struct cache *c, uint32_t mine)
{
	wait_alone(c, mine);
	take_back(c);
	while (!objects_out(c)) {
		if (atomic_load_explicit(&c->inside, memory_order_seq_cst) == mine)
			return true;
		wait_alone(c, mine);
	}
	return false;
}

/* Ends it when nobody but `last` (0: nobody) has it open and no object is out. Entered by the caller;
 * it is to leave in any case. -EBUSY; -EAGAIN: another session has joined. */
static int end(struct cache_table *t, struct cache *c, uint32_t last)
{
	uint64_t out;
	int r;

	{
		LOCK_SCOPED(&t->lock);

		if (atomic_load_explicit(&c->users, memory_order_relaxed) != (last ? 1 : 0))
			return -EAGAIN;
		cache_set_state(c, CACHE_ENDING);
	}
	if (!empty_alone(c, 1)) {
		cache_set_state(c, CACHE_LIVE);
		return -EBUSY;
	}
	slab_shrink(c->slab, MM_CPU_NONE, 0); /* not under the lock: reactors wait for it */
	{
		LOCK_SCOPED(&t->lock);

		if (last)
			cache_drop_user(t, c, last);
		r = kmem_cache_destroy(c->slab, &out);
		if (r < 0) {
			if (last)
				cache_add_user(t, c, last);
			cache_set_state(c, CACHE_LIVE);
			return -EBUSY;
		}
		/* release: after all that the cache was */
		atomic_store_explicit(&t->d->control.cache[c->id].life, 0, memory_order_release);
		cache_set_state(c, CACHE_NONE);
	}
	if (wait_queue_waiting(t->d->waiters))
		wait_queue_kick(t->d->waiters); /* its slabs went to the zones */
	return 0;
}

/* ---- the text of a refusal ---- */

struct holders {
	struct domain *d;
	uint64_t sum;
	uint32_t n, shown;
	struct {
		uint32_t session;
		uint64_t objects;
	} most[HOLDERS_SHOWN]; /* the largest first */
};

static void note_holder(void *ctx, uint32_t session, struct cache *c,
                        const struct object_count *count)
{
	/* What a session gives back, or is just given, is its own still. */
	uint64_t objects = count->objects + (session ? count->returned + count->moving : 0);
	struct holders *h = ctx;
	uint32_t i;

	(void)c;
	if (!objects)
		return;
	h->sum += objects;
	h->n++;
	for (i = h->shown; i > 0 && h->most[i - 1].objects < objects; i--)
		if (i < HOLDERS_SHOWN)
			h->most[i] = h->most[i - 1];
	if (i < HOLDERS_SHOWN) {
		h->most[i].session = session;
		h->most[i].objects = objects;
		h->shown += h->shown < HOLDERS_SHOWN;
	}
}

static size_t holder_text(const struct holders *h, uint32_t i, char *text, size_t size)
{
	struct session *s = session_by_id(h->d->kmmd->sessions, h->most[i].session);
	struct session_about a;

	if (s && session_describe(s, &a))
		return (size_t)snprintf(text, size, "%s %" PRIu64 " of session %u (%.20s)",
		                        i ? "," : ":", h->most[i].objects, s->id, a.name);
	return (size_t)snprintf(text, size, "%s %" PRIu64 " of holders and names", i ? "," : ":",
	                        h->most[i].objects);
}

/* Who has objects of it, as many as *live; 0: nobody any more. */
static const char *busy_text(struct cache *c, uint64_t *live)
{
	struct holders h = { .d = c->d };
	uint64_t out, moving; /* moving: between a session and its slabs, with nobody */
	char text[260] = "";
	size_t n = 0;
	uint32_t i;

	if (object_census(c->d, NULL, c, note_holder, &h) < 0)
		h = (struct holders){ .d = c->d };
	out = objects_out(c);
	moving = out > h.sum ? out - h.sum : 0;
	*live = out ? h.sum + moving : 0; /* all came free while they were counted */
	for (i = 0; i < h.shown && n < sizeof(text) - 1; i++)
		n += holder_text(&h, i, text + n, sizeof(text) - n);
	if (h.n > h.shown && n < sizeof(text) - 1)
		n += (size_t)snprintf(text + n, sizeof(text) - n, ", and of %u more",
		                      h.n - h.shown);
	if (moving && n < sizeof(text) - 1)
		snprintf(text + n, sizeof(text) - n, "%s %" PRIu64 " on their way",
		         n ? "," : ":", moving);
	return grant_text("%" PRIu64 " object%s live%s", *live, *live == 1 ? " is" : "s are", text);
}

/* ---- ending ---- */

/* 1: the session was not the last user, and is none any more. */
static int leave_users(struct cache_table *t, struct cache *c, uint32_t session)
{
	LOCK_SCOPED(&t->lock);

	if (cache_is_user(t, c, session) &&
	    atomic_load_explicit(&c->users, memory_order_relaxed) == 1)
		return 0;
	cache_drop_user(t, c, session);
	return 1;
}

int cache_destroy(struct domain *d, struct session *s, uint32_t id, uint64_t life, bool *removed,
                  const char **why)
{
	struct cache_table *t = d->caches;
	struct cache *c = life ? cache_enter(d, id, life) : NULL;
	unsigned int looks = 0;
	uint64_t live = 0;
	int r;

	if (!c) {
		*removed = true;
		return 0;
	}
	do {
		r = leave_users(t, c, s->id);
		if (r)
			break;
		take_back(c);
		r = objects_out(c) ? -EBUSY : end(t, c, s->id);
		if (r == -EBUSY)
			*why = busy_text(c, &live);
	} while (r == -EAGAIN || (r == -EBUSY && !live && ++looks < BUSY_LOOKS));
	if (r == -EBUSY && !live)
		*why = "objects of it come and go: some were live at each of several looks, none "
		       "between them";
	*removed = r == 0;
	cache_leave(c);
	return r < 0 ? r : 0;
}

void cache_forget_session(struct domain *d, struct session *s)
{
	struct cache_table *t = d->caches;
	LOCK_SCOPED(&t->lock);
	uint32_t past = atomic_load_explicit(&t->end, memory_order_relaxed), id;

	for (id = CACHE_BUILTIN_MAX + 1; id < past && t->open[s->id]; id++)
		if (cache_state(&t->cache[id]) != CACHE_NONE)
			cache_drop_user(t, &t->cache[id], s->id);
}

/* A cache without users: what nobody has goes back, and with the last object the cache. Its objects
 * are looked at one by one only when their number changed, or once in a while. */
static void tick_unused(struct cache_table *t, struct cache *c)
{
	uint64_t out = objects_out(c);

	if (out) {
		exchange_drain_cache(t->d, c, MM_CPU_NONE);
		if (out != c->idle_out || ++c->idle_looks >= IDLE_LOOKS) {
			object_collect(t->d, NULL, c, MM_CPU_NONE);
			c->idle_looks = 0;
		}
		out = objects_out(c);
	}
	c->idle_out = out;
	if (!out)
		end(t, c, 0);
}

void cache_tick(struct domain *d)
{
	struct cache_table *t = d->caches;
	/* acquire: pairs with cache_begin() */
	uint32_t past = atomic_load_explicit(&t->end, memory_order_acquire), id;

	for (id = CACHE_BUILTIN_MAX + 1; id < past; id++) {
		struct cache *c;

		/* relaxed: looked at again under the lock */
		if (atomic_load_explicit(&t->cache[id].users, memory_order_relaxed))
			continue;
		c = cache_enter(d, id, 0);
		if (!c)
			continue;
		tick_unused(t, c);
		cache_leave(c);
	}
}

/* ---- shrinking ---- */

void cache_shrink(struct cache *c)
{
	exchange_drain_cache(c->d, c, MM_CPU_NONE);
	object_collect(c->d, NULL, c, MM_CPU_NONE);
	slab_shrink(c->slab, MM_CPU_NONE, 0);
	if (wait_queue_waiting(c->d->waiters))
		wait_queue_kick(c->d->waiters);
}

uint64_t cache_objects(const struct cache *c)
{
	struct kmem_cache_stats s;

	kmem_cache_stats(c->slab, &s);
	return s.objects_out + s.in_cpu;
}

uint64_t cache_objects_all(struct domain *d)
{
	/* acquire: pairs with cache_begin() */
	uint32_t past = atomic_load_explicit(&d->caches->end, memory_order_acquire), id;
	uint64_t n = 0;

	for (id = 1; id < past; id++) {
		struct cache *c = cache_enter(d, id, 0);

		if (!c)
			continue;
		n += cache_objects(c);
		cache_leave(c);
	}
	return n;
}

uint64_t cache_reaped(const struct cache *c)
{
	struct kmem_cache_stats s;

	kmem_cache_stats(c->slab, &s);
	return s.reaped << kmem_cache_geometry(c->slab)->order;
}

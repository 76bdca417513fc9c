/* SPDX-License-Identifier: MIT */
/*
 * A client of kill_objects.c, victim or survivor: random steps with objects of three caches until
 * it is killed. It watches that nobody writes into what it owns, that objects are constructed when it
 * has them, and that calls fail only in the ways that others' doings explain.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/stress/object_actor.h"

#define OBJECTS 1500

const struct object_kind kind[CACHES] = {
	{ "plain", 64, 0, NULL },
	{ "built", 256, 0, object_construct },
	{ "checked", 1000, KMM_SLAB_CONSISTENCY_CHECKS, NULL },
};

struct object {
	char *p;             /* NULL: none */
	kmm_handle_t handle; /* not 0: shown or posted, so others may have adopted it */
	unsigned char kind;
	bool held;           /* by kmm_get_handle, not owned */
	bool spoiled;        /* what the constructor wrote is overwritten */
};

struct actor {
	struct kmm *k;
	struct kmm_cache *cache[CACHES];
	struct shared *shared;
	struct object object[OBJECTS];
	unsigned id, seed;
};

static unsigned draw(struct actor *a, unsigned n)
{
	return (unsigned)rand_r(&a->seed) % n;
}

/* EINPROGRESS: the daemon died over the call. It is asked again, which does nothing where it was
 * done; what then shows that it was done is no error. */
#define settled(call, done)                                               \
	({                                                                \
		int r_ = (call);                                          \
		bool unknown_ = r_ == -EINPROGRESS;                       \
		while (r_ == -EINPROGRESS)                                \
			r_ = (call);                                      \
		unknown_ && r_ == (done) ? 0 : r_;                        \
	})

static void count(struct actor *a, enum done what)
{
	atomic_fetch_add_explicit(&a->shared->done[what], 1, memory_order_relaxed);
}

/* ---- objects ---- */

static uint64_t mark_of(const struct actor *a, const struct object *o)
{
	return (uint64_t)getpid() << 32 | (uint64_t)(o - a->object) << 8 | o->kind;
}

/* Behind the constructed word and at the end. */
static void mark(const struct actor *a, const struct object *o)
{
	uint64_t m = mark_of(a, o);

	memcpy(o->p + 8, &m, 8);
	memcpy(o->p + kind[o->kind].size - 8, &m, 8);
}

static bool marked(const struct actor *a, const struct object *o)
{
	uint64_t m = mark_of(a, o);

	return memcmp(o->p + 8, &m, 8) == 0 &&
	       memcmp(o->p + kind[o->kind].size - 8, &m, 8) == 0;
}

static bool constructed(const char *p)
{
	return memcmp(p, &(uint64_t){ OBJECT_MAGIC }, 8) == 0;
}

static void had(struct actor *a, struct object *o, char *p, unsigned k)
{
	*o = (struct object){ .p = p, .kind = (unsigned char)k };
	must(!kind[k].ctor || constructed(p));
	mark(a, o);
	o->spoiled = kind[k].ctor != NULL;
	if (o->spoiled)
		memset(p, 0xff, 8);
}

/* As it is to be freed and handed on; who is killed before leaves it spoiled. */
static void restore(struct object *o)
{
	if (o->spoiled) {
		must(!constructed(o->p)); /* nobody else did it */
		memcpy(o->p, &(uint64_t){ OBJECT_MAGIC }, 8);
	}
	o->spoiled = false;
}

static void allocate(struct actor *a, struct object *o)
{
	static const kmm_gfp_t gfp[] = { KMM_GFP_KERNEL, KMM_GFP_KERNEL, KMM_GFP_NOWAIT,
					 KMM_GFP_ATOMIC };
	unsigned k = draw(a, CACHES);
	char *p = kmm_cache_alloc(a->cache[k], gfp[draw(a, 4)]);

	must(p || errno == ENOMEM || errno == EAGAIN);
	if (!p)
		return;
	had(a, o, p, k);
	count(a, ALLOCATED);
}

static void allocate_bulk(struct actor *a)
{
	unsigned k = draw(a, CACHES);
	size_t room = 0, want = 1 + draw(a, 200), n;
	void *p[200];

	for (size_t i = 0; i < OBJECTS; i++)
		room += !a->object[i].p;
	want = want < room ? want : room;
	n = kmm_cache_alloc_bulk(a->cache[k], KMM_GFP_NOWAIT, want, p);
	for (size_t i = 0; n > 0; i++)
		if (!a->object[i].p)
			had(a, &a->object[i], p[--n], k);
	count(a, BULK);
}

/* What a handle, or an address that others may have freed, may give. */
static bool is_gone(int error)
{
	return error == ESTALE || error == ENOENT || error == EINVAL;
}

/* Is what was shown still ours? Taking it back decides. False: it is not, or it is held by others
 * and was given up here. */
static bool take_back(struct actor *a, struct object *o)
{
	char *p = o->p;
	int r;

	if (kmm_adopt(a->k, o->handle)) {
		o->handle = 0;
		return true;
	}
	must(is_gone(errno) || errno == EBUSY);
	o->p = NULL;
	if (errno != EBUSY)
		return false;
	/* held by others, so still ours, unless they let go and it is adopted right now */
	r = kmm_cache_free(a->cache[o->kind], p);
	must(r == 0 || r == -EPERM || is_gone(-r));
	return false;
}

static void put(struct actor *a, char *p)
{
	int r = kmm_put(a->k, p);
	bool unknown = r == -EINPROGRESS;

	while (r == -EINPROGRESS)
		r = kmm_put(a->k, p);
	/* the one that was not answered may have been the last hold of all */
	must(r == 0 || (unknown && (r == -EPERM || is_gone(-r))));
}

static void release(struct actor *a, struct object *o)
{
	char *p = o->p;

	if (o->held) {
		o->p = NULL;
		put(a, p);
		return;
	}
	if (o->handle) {
		if (!take_back(a, o))
			return;
	} else {
		must(marked(a, o));
		restore(o);
	}
	must(!kind[o->kind].ctor || constructed(p));
	o->p = NULL;
	if (draw(a, 2))
		must(kmm_cache_free(a->cache[o->kind], p) == 0);
	else
		must(kmm_kfree(a->k, p) == 0);
}

static void release_bulk(struct actor *a)
{
	unsigned k = draw(a, CACHES), n = 1 + draw(a, 200), got = 0;
	void *p[200];

	for (size_t i = 0; i < OBJECTS && got < n; i++) {
		struct object *o = &a->object[i];

		if (!o->p || o->held || o->handle || o->kind != k)
			continue;
		must(marked(a, o));
		restore(o);
		p[got++] = o->p;
		o->p = NULL;
	}
	must(kmm_cache_free_bulk(a->cache[k], got, p) == 0);
}

/* ---- handing on ---- */

static void show(struct actor *a, struct object *o)
{
	if (o->held || o->handle)
		return;
	restore(o);
	o->handle = kmm_handle(a->k, o->p);
	must(o->handle);
	atomic_store_explicit(&a->shared->board[draw(a, BOARD)], o->handle, memory_order_relaxed);
}

static bool is_own(const struct actor *a, kmm_handle_t handle)
{
	for (size_t i = 0; i < OBJECTS; i++)
		if (a->object[i].p && a->object[i].handle == handle)
			return true;
	return false;
}

/* Which cache it is of shows in its size. */
static unsigned kind_of(struct actor *a, const char *p)
{
	size_t size = kmm_ksize(a->k, p);

	for (unsigned k = 0; k < CACHES; k++)
		if (kind[k].size == size)
			return k;
	must(!"an object of one of the caches");
}

static void adopt(struct actor *a, struct object *o, kmm_handle_t handle, enum done what)
{
	char *p = kmm_adopt(a->k, handle);

	if (!p) {
		must(is_gone(errno) || errno == EBUSY);
		return;
	}
	had(a, o, p, kind_of(a, p));
	count(a, what);
}

static void hold(struct actor *a, struct object *o, kmm_handle_t handle, enum done what)
{
	char *p;

	do
		p = kmm_get_handle(a->k, handle);
	while (!p && errno == EINPROGRESS);
	if (!p) {
		must(is_gone(errno));
		return;
	}
	*o = (struct object){ .p = p, .held = true };
	count(a, what);
}

static void take(struct actor *a, struct object *o)
{
	kmm_handle_t handle =
		atomic_load_explicit(&a->shared->board[draw(a, BOARD)], memory_order_relaxed);

	if (!handle || is_own(a, handle))
		return;
	if (draw(a, 2))
		adopt(a, o, handle, ADOPTED);
	else
		hold(a, o, handle, HELD);
}

/* The letter first: what was sent and not announced would be the receiver's without its knowing. */
static void post(struct actor *a, struct object *o)
{
	unsigned to = draw(a, ACTORS);
	_Atomic uint64_t *letter = &a->shared->letter[to][draw(a, LETTERS)];
	uint64_t none = 0;
	int r;

	if (to == a->id || o->held || o->handle)
		return;
	restore(o);
	o->handle = kmm_handle(a->k, o->p);
	must(o->handle);
	if (!atomic_compare_exchange_strong(letter, &none, o->handle))
		return; /* it is shown, to nobody */
	count(a, POSTED);
	r = settled(kmm_send(a->k, o->p, atomic_load(&a->shared->session[to])), -EPERM);
	/* fetched before it was sent; or the receiver is no more */
	must(r == 0 || r == -EPERM || r == -ESRCH || is_gone(-r));
	if (r == -ESRCH)
		return;
	if (r == 0)
		count(a, SENT);
	o->p = NULL;
}

static struct object *room(struct actor *a)
{
	for (size_t i = 0; i < OBJECTS; i++)
		if (!a->object[i].p)
			return &a->object[i];
	return NULL;
}

static void fetch(struct actor *a)
{
	for (unsigned i = 0; i < LETTERS; i++) {
		struct object *o = room(a);
		uint64_t handle = o ? atomic_exchange(&a->shared->letter[a->id][i], 0) : 0;

		if (handle)
			adopt(a, o, handle, ADOPTED);
	}
}

/* ---- names ---- */

const char *name_of(unsigned i, char buf[16])
{
	snprintf(buf, 16, "name-%u", i);
	return buf;
}

static const char *name_draw(struct actor *a, char buf[16])
{
	return name_of(draw(a, NAMES), buf);
}

static void publish(struct actor *a, struct object *o)
{
	char name[16];
	int r;

	if (o->held || (o->handle && !take_back(a, o)))
		return;
	restore(o);
	o->handle = kmm_handle(a->k, o->p); /* a name shows it, too */
	must(o->handle);
	name_draw(a, name);
	r = settled(kmm_publish(a->k, name, o->p), 0);
	must(r == 0 || r == -EEXIST);
	if (r == 0)
		count(a, PUBLISHED);
}

static void look_up(struct actor *a, struct object *o)
{
	char name[16];
	kmm_handle_t handle = kmm_lookup(a->k, name_draw(a, name));

	must(handle || errno == ENOENT);
	if (handle && !is_own(a, handle))
		hold(a, o, handle, FOUND);
}

static void unpublish(struct actor *a)
{
	char name[16];
	int r;

	name_draw(a, name);
	r = settled(kmm_unpublish(a->k, name), -ENOENT);

	must(r == 0 || r == -ENOENT);
}

/* ---- a client's life ---- */

static void step(struct actor *a)
{
	struct object *o = &a->object[draw(a, OBJECTS)];
	unsigned what = draw(a, 1000);

	if (what < 10)
		allocate_bulk(a);
	else if (what < 20)
		release_bulk(a);
	else if (what < 22)
		must(kmm_flush(a->k) == 0);
	else if (what < 24)
		must(kmm_cache_shrink(a->cache[draw(a, CACHES)]) == 0);
	else if (what < 40)
		unpublish(a);
	else if (what < 60)
		fetch(a);
	else if (!o->p && what < 130)
		take(a, o);
	else if (!o->p && what < 150)
		look_up(a, o);
	else if (!o->p)
		allocate(a, o);
	else if (what < 130)
		show(a, o);
	else if (what < 170)
		post(a, o);
	else if (what < 200)
		publish(a, o);
	else
		release(a, o);
}

static void actor_start(struct actor *a, const struct daemon *d)
{
	struct kmm_options o = { .size = sizeof(o), .address = d->socket };

	/* kmm_open does not wait for a daemon that is away */
	if (d->supervised)
		wait_until(kmm_open(&a->k, &o) == 0);
	else
		must(kmm_open(&a->k, &o) == 0);
	must(kmm_set_timeout(a->k, 20000) == 0);
	for (unsigned i = 0; i < CACHES; i++)
		must((a->cache[i] = kmm_cache_create(a->k, kind[i].name, kind[i].size, 0,
						     kind[i].flags, kind[i].ctor)) != NULL);
	atomic_store(&a->shared->session[a->id], kmm_session_id(a->k));
}

static unsigned phase_of(struct shared *s)
{
	return atomic_load_explicit(&s->phase, memory_order_acquire);
}

/* Tells the parent, waits until it says the next. */
static void reach(struct actor *a, unsigned survivor, enum phase phase)
{
	struct shared *s = a->shared;

	atomic_store_explicit(&s->reached[survivor], s->round * 4 + phase, memory_order_release);
	wait_until(phase_of(s) != phase);
}

static void account(struct actor *a, unsigned survivor)
{
	uint64_t owned[CACHES] = { 0 };

	for (size_t i = 0; i < OBJECTS; i++)
		if (a->object[i].p && a->object[i].held)
			release(a, &a->object[i]);
	for (unsigned i = 0; i < NAMES; i++) {
		char name[16];
		int r;

		r = kmm_unpublish(a->k, name_of(i, name));
		must(r == 0 || r == -ENOENT);
	}
	reach(a, survivor, LET_GO);
	for (unsigned i = 0; i < LETTERS; i++) {
		uint64_t handle = atomic_exchange(&a->shared->letter[a->id][i], 0);

		for (size_t j = 0; handle && !room(a); j++)
			release(a, &a->object[j]);
		if (handle)
			adopt(a, room(a), handle, ADOPTED);
	}
	for (size_t i = 0; i < OBJECTS; i++) {
		struct object *o = &a->object[i];

		if (o->p && o->handle) {
			char *p = kmm_adopt(a->k, o->handle);

			must(p == o->p || (!p && is_gone(errno))); /* nobody holds it */
			o->p = p;
			o->handle = 0;
		}
		if (o->p) {
			must(marked(a, o));
			owned[o->kind]++;
		}
	}
	must(kmm_flush(a->k) == 0);
	for (unsigned i = 0; i < CACHES; i++)
		a->shared->owned[survivor][i] = owned[i];
	reach(a, survivor, TAKE_BACK);
}

void actor_run(const struct daemon *d, struct shared *s, unsigned id, unsigned seed)
{
	static struct actor a;
	unsigned survivor = id - AT_ONCE;

	a = (struct actor){ .shared = s, .id = id, .seed = seed };
	actor_start(&a, d);
	for (;;) {
		if (id >= AT_ONCE && phase_of(s) == LET_GO)
			account(&a, survivor);
		if (phase_of(s) == END)
			break;
		step(&a);
	}
	must(kmm_close(a.k) == 0);
	_exit(0);
}

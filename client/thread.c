/* SPDX-License-Identifier: MIT */
/*
 * What a thread has: the text of its last failure, and a cache for each session that it uses.
 *
 * A cache is one anonymous mapping, large but touched only where caches and magazines are used, that
 * reads as zeroes in a forked child. Behind it begins the arena for its magazines, which goes on in
 * further mappings and is given back as a whole. The thread reaches the cache that it used last
 * through a single thread-local pointer; a mismatch of the session leads here.
 *
 * Lifetime. A cache belongs to its thread: only the thread unmaps it. Closing or losing a session
 * marks all of its caches (thread_cache_detach), which the owner notices when it next asks for one
 * (thread_cache_get), and frees them then. Nobody asks while a function up the stack still uses
 * one: whoever only wants to look uses thread_cache_find. A thread's end gives what it cached to
 * the daemon, unless the daemon is away: then the owner words, which say RETURNED, are enough. A
 * cache that another thread is taking objects from (seize.c) stays until it is done.
 *
 * The lists are guarded by the process lock. A session's state is LOST or CLOSING before its caches
 * are detached under that lock, and a cache is published under it only while the state is neither:
 * so none escapes.
 */
#include "client/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SEIZED_NAP_NS 10000000u

static struct thread_cache no_cache; /* all zeroes, but for `busy` and marks */
/* The session of a cache whose session was closed or lost: equal to none, and to no NULL that a
 * program passes by mistake. */
#define DETACHED ((struct kmm *)(void *)&no_cache)
__thread struct kmm_thread_1 *kmm_thread_1 = (struct kmm_thread_1 *)(void *)&no_cache;
static __thread struct thread *self;
__thread uint32_t thread_shrinking;

static struct thread *threads; /* process_lock */

/* By (size + 7) / 8: the place of the kmalloc cache's class, by its id. */
#define PLACE(id) ((id) * sizeof(struct local_objects))
static const uint16_t kmalloc_place[KMM_KMALLOC_1 / 8 + 1] = {
	[0 ... 1] = PLACE(1),    [2] = PLACE(2),           [3 ... 4] = PLACE(3),
	[5 ... 8] = PLACE(4),    [9 ... 12] = PLACE(5),    [13 ... 16] = PLACE(6),
	[17 ... 24] = PLACE(7),  [25 ... 32] = PLACE(8),   [33 ... 64] = PLACE(9),
	[65 ... 128] = PLACE(10), [129 ... 256] = PLACE(11), [257 ... 512] = PLACE(12),
};

static void current_set(struct thread_cache *tc)
{
	kmm_thread_1 = (struct kmm_thread_1 *)(void *)tc;
}
static pthread_key_t thread_key;

#define CACHE_MAPPED (sizeof(struct thread_cache) + ARENA_FIRST)

/* Memory that reads as zeroes in a forked child; its pages come when they are touched. */
static void *map_wiped(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	if (madvise(p, size, MADV_WIPEONFORK) < 0) {
		munmap(p, size);
		return NULL;
	}
	madvise(p, size, MADV_NOHUGEPAGE); /* a huge page would be all of it */
	return p;
}

void *thread_cache_memory(struct thread_cache *tc, size_t size)
{
	struct arena *a;
	void *p;

	size = (size + 63) & ~(size_t)63;
	if ((size_t)(tc->arena_end - tc->arena_at) < size) {
		a = map_wiped(ARENA_NEXT);
		if (!a)
			return NULL;
		a->size = ARENA_NEXT;
		a->next = tc->arenas;
		tc->arenas = a;
		tc->arena_at = (uint8_t *)a + 64;
		tc->arena_end = (uint8_t *)a + ARENA_NEXT;
	}
	p = tc->arena_at;
	tc->arena_at += size;
	return p;
}

static bool cache_seized(const struct thread_cache *tc)
{
	/* acquire: pairs with the release of who seized it */
	return atomic_load_explicit(&tc->seized, memory_order_acquire) != 0;
}

/* It is on no list any more. */
static void cache_unmap(struct thread_cache *tc)
{
	struct arena *a, *next;

	while (cache_seized(tc))
		futex_wait(&tc->seized, 1, process_now() + SEIZED_NAP_NS);
	if (tc->marks)
		munmap(tc->marks, tc->marks_size);
	for (a = tc->arenas; a; a = next) {
		next = a->next;
		munmap(a, a->size);
	}
	munmap(tc, CACHE_MAPPED);
}

/* The session of a cache, NULL when it was closed or lost; process_lock is held, or it is k. */
static struct kmm *cache_session(const struct thread_cache *tc)
{
	/* relaxed: a hint without the lock */
	struct kmm *k = atomic_load_explicit(&tc->session, memory_order_relaxed);

	return k == DETACHED ? NULL : k;
}

/* Takes a session of the list into use for the exit of a thread; process_lock is held. */
static struct kmm *exit_enter(struct thread_cache *tc)
{
	struct kmm *k = cache_session(tc);

	if (k)
		atomic_fetch_add_explicit(&k->inside, 1, memory_order_seq_cst);
	return k;
}

static void thread_exit(void *arg)
{
	struct thread *t = arg;
	struct thread_cache *tc;

	while ((tc = t->caches)) {
		struct kmm *k;

		pthread_mutex_lock(&process_lock);
		k = exit_enter(tc);
		t->caches = tc->next; /* before the flush: nobody else detaches it */
		pthread_mutex_unlock(&process_lock);
		if (k && k->mark == process_mark() &&
		    (session_state(k) == SESSION_UP || session_state(k) == SESSION_DOWN))
			local_flush(k, tc);
		if (k)
			session_leave(k);
		if (thread_cache_now() == tc)
			current_set(&no_cache);
		cache_unmap(tc);
	}
	current_set(&no_cache);
	self = NULL;
	pthread_mutex_lock(&process_lock);
	*t->prev = t->next;
	if (t->next)
		t->next->prev = t->prev;
	pthread_mutex_unlock(&process_lock);
	free(t);
}

/* A thread may fail before the first kmm_open: the key is made by whoever comes first. */
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static int key_error;

static void key_create(void)
{
	key_error = pthread_key_create(&thread_key, thread_exit);
}

int thread_init(void)
{
	pthread_once(&key_once, key_create);
	return -key_error;
}

struct thread *thread_self(void)
{
	struct thread *t = self;

	if (likely(t))
		return t;
	if (thread_init() < 0)
		return NULL;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	if (pthread_setspecific(thread_key, t) != 0) {
		free(t);
		return NULL;
	}
	pthread_mutex_lock(&process_lock);
	t->next = threads;
	t->prev = &threads;
	if (threads)
		threads->prev = &t->next;
	threads = t;
	pthread_mutex_unlock(&process_lock);
	self = t;
	return t;
}

void thread_reap(void)
{
	struct thread *t = self;
	struct thread_cache **p, *tc;

	if (!t)
		return;
	pthread_mutex_lock(&process_lock);
	for (p = &t->caches; (tc = *p);) {
		if (cache_session(tc) || tc->pins > 0 || cache_seized(tc)) {
			p = &tc->next;
			continue;
		}
		*p = tc->next;
		if (thread_cache_now() == tc)
			current_set(&no_cache);
		cache_unmap(tc);
	}
	pthread_mutex_unlock(&process_lock);
}

static struct thread_cache *cache_new(struct kmm *k)
{
	struct thread_cache *tc = map_wiped(CACHE_MAPPED);

	if (!tc)
		return NULL;
	tc->arena_at = (uint8_t *)tc + ((sizeof(*tc) + 63) & ~(size_t)63);
	tc->arena_end = (uint8_t *)tc + CACHE_MAPPED;
	tc->id = k->id;
	tc->held = owner_who(OWNER_HELD, k->id);
	tc->frames = k->frames;
	tc->window = k->window;
	tc->word = k->control.word;
	tc->object_word = k->control.object;
	memcpy(tc->kmalloc_place, kmalloc_place, sizeof(kmalloc_place));
	tc->desc = k->control.desc;
	tc->status = k->control.status;
	tc->cap = (int64_t)k->cache_bytes;
	tc->room = tc->cap;
	local_class_init(tc);
	/* relaxed: the thread itself reads it; others only clear it */
	atomic_store_explicit(&tc->session, k, memory_order_relaxed);
	return tc;
}

/* Makes a cache the thread's, unless its session ended meanwhile. */
static bool cache_publish(struct thread *t, struct thread_cache *tc, struct kmm *k)
{
	enum session_state state;

	pthread_mutex_lock(&process_lock);
	state = session_state(k);
	if (state == SESSION_UP || state == SESSION_DOWN) {
		tc->next = t->caches;
		t->caches = tc;
	}
	pthread_mutex_unlock(&process_lock);
	return state == SESSION_UP || state == SESSION_DOWN;
}

struct thread_cache *thread_cache_find(struct kmm *k)
{
	struct thread_cache *tc = thread_cache_now();

	if (likely(atomic_load_explicit(&tc->session, memory_order_relaxed) == k))
		return tc;
	/* without the lock: only the thread itself changes its list */
	for (tc = self ? self->caches : NULL; tc; tc = tc->next)
		if (atomic_load_explicit(&tc->session, memory_order_relaxed) == k)
			break;
	return tc;
}

struct thread_cache *thread_cache_get(struct kmm *k)
{
	struct thread_cache *tc = thread_cache_now();
	struct thread *t;

	if (likely(atomic_load_explicit(&tc->session, memory_order_relaxed) == k))
		return tc;
	t = thread_self();
	if (!t)
		return NULL;
	thread_reap();
	tc = thread_cache_find(k);
	if (!tc) {
		tc = cache_new(k);
		if (!tc)
			return NULL;
		if (!cache_publish(t, tc, k)) {
			cache_unmap(tc);
			return NULL;
		}
	}
	current_set(tc);
	return tc;
}

void thread_cache_each(struct kmm *k, void (*fn)(struct thread_cache *tc, void *arg), void *arg)
{
	struct thread *t;
	struct thread_cache *tc;

	for (t = threads; t; t = t->next)
		for (tc = t->caches; tc; tc = tc->next)
			if (atomic_load_explicit(&tc->session, memory_order_relaxed) == k)
				fn(tc, arg);
}

static void cache_detach(struct thread_cache *tc, void *arg)
{
	struct local_objects *o;

	(void)arg;
	atomic_store_explicit(&tc->session, DETACHED, memory_order_relaxed);
	/* acquire: pairs with the release that put them on the list */
	for (o = atomic_load_explicit(&tc->objects, memory_order_acquire); o; o = o->next)
		local_close(&o->class);
}

void thread_cache_detach(struct kmm *k)
{
	/* seq_cst: the state was stored before the gates are; pairs with the one in gate_open */
	atomic_thread_fence(memory_order_seq_cst);
	pthread_mutex_lock(&process_lock);
	thread_cache_each(k, cache_detach, NULL);
	pthread_mutex_unlock(&process_lock);
}

/* In a child the caches' contents are gone, `next` and `arenas` included: a thread's further caches
 * and arenas stay behind as untouched zero pages, which cost no memory. */
void thread_forget_in_child(void)
{
	struct thread *t, *next;

	current_set(&no_cache);
	for (t = threads; t; t = next) {
		next = t->next;
		if (t->caches)
			munmap(t->caches, CACHE_MAPPED);
		t->caches = NULL;
		if (t != self)
			free(t);
	}
	threads = self;
	if (self) {
		self->next = NULL;
		self->prev = &threads;
	}
}

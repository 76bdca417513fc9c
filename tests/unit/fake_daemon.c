/* SPDX-License-Identifier: MIT */
#include "tests/unit/fake_daemon.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "client/percpu.h"
#include "tests/unit/fake_session.h"

#define OBJECTS_KIND 0x80000000u

struct fake fake;

/* ---- memory ---- */

void fake_start(int64_t cache_bytes)
{
	struct control_geometry g = { .frames = FAKE_FRAMES,
		                      .section_order = 10,
		                      .sessions = 16,
		                      .magazines = FAKE_MAGAZINES };
	struct kmm *k = &fake.k;
	uint32_t s;

	memset(&fake, 0, sizeof(fake));
	pthread_mutex_init(&fake.lock, NULL);
	ck_assert_int_eq(process_init(), 0);
	fake_session_map(k, &g);
	k->id = FAKE_ME;
	k->mark = process_mark();
	k->timeout_ms = 1000;
	k->cache_bytes = (uint64_t)cache_bytes;
	k->given = calloc(FAKE_MAGAZINES / 64 + 1, 8);
	pthread_mutex_init(&k->magazine_lock, NULL);
	pthread_mutex_init(&k->cache_lock, NULL);
	pthread_mutex_init(&k->seize_lock, NULL);
	ck_assert_int_eq(cache_init(k), 0);
	for (s = 0; s < k->nr_sections; s++) {
		k->mapped[s] = 1;
		k->control.section[s] = CONTROL_SECTION_DIRECT;
	}
	fake.frame = 16;
	fake.word = 512;
	fake.limit = FAKE_FRAMES;
	seize_init();
}

void fake_stop(void)
{
	struct kmm *k = &fake.k;
	uint32_t i;

	atomic_store(&k->state, SESSION_CLOSING);
	thread_cache_detach(k);
	thread_reap();
	cache_free_all(k);
	for (i = 0; i < FAKE_CACHES; i++)
		free(fake.cache[i].free);
	fake_session_unmap(k);
	free((void *)k->given);
}

/* ---- caches and slabs ---- */

static uint32_t inverse_of(uint32_t odd)
{
	uint32_t x = odd, i;

	for (i = 0; i < 5; i++)
		x *= 2 - odd * x;
	return x;
}

void fake_cache_make(uint32_t id, const char *name, uint32_t size, uint32_t stride, uint32_t order,
                     uint32_t flags, bool ctor)
{
	struct control_cache *v = &fake.k.control.cache[id];

	ck_assert_uint_lt(id, FAKE_CACHES);
	v->size = size;
	v->stride = stride;
	v->order = (uint8_t)order;
	v->shift = (uint8_t)(31 - __builtin_clz(stride));
	v->twos = (uint8_t)__builtin_ctz(stride);
	v->inverse = inverse_of(stride >> v->twos);
	v->offset = flags & KMM_SLAB_RED_ZONE ? 8 : 0;
	v->colour_off = 64;
	v->objects = (4096u << order) / stride;
	v->colours = (uint16_t)(((4096u << order) - v->objects * stride) / 64);
	if (v->colours == 0)
		v->colours = 1;
	v->flags = v->flags_asked = flags;
	v->ctor = ctor;
	snprintf(v->name, sizeof(v->name), "%s", name);
	atomic_store(&v->life, 100 + ++fake.lives);
	fake.cache[id].free = calloc(FAKE_OBJECTS, sizeof(uint32_t));
}

static bool slab_make(uint32_t id)
{
	const struct control_cache *v = &fake.k.control.cache[id];
	uint32_t frames = 1u << v->order, head = (fake.frame + frames - 1) & ~(frames - 1), i;
	uint32_t colour = (head / frames) % v->colours;
	uint32_t words = (4096u << v->order) >> v->shift; /* a power of two, 1 at least */
	struct fake_cache *c = &fake.cache[id];

	if (head + frames > fake.limit)
		return false;
	fake.word = (fake.word + words - 1) & ~(words - 1);
	for (i = 0; i < frames; i++)
		fake.k.control.desc[head + i] =
			page_desc_slab(id, colour, v->shift, fake.word, i);
	for (i = 0; i < words; i++)
		owner_store(&fake.k.control.object[fake.word + i],
		            UINT64_C(1) << OWNER_GENERATION_SHIFT);
	for (i = v->objects; i-- > 0;) {
		uint64_t at = ((uint64_t)head << 12) + colour * 64 + v->offset + i * v->stride;

		ck_assert_uint_lt(c->nr_free, FAKE_OBJECTS);
		c->free[c->nr_free++] = (uint32_t)(at >> 3);
	}
	c->total += v->objects;
	fake.frame = head + frames;
	fake.word += words;
	return true;
}

owner_word_t *fake_word(const void *p)
{
	uint32_t index;
	size_t at = (size_t)((const uint8_t *)p - fake.k.window);

	ck_assert(object_locate(&fake.k.control, fake.k.window, fake.k.control.desc[at >> 12], p,
	                        &index));
	return &fake.k.control.object[index];
}

uint32_t fake_out(uint32_t id)
{
	return fake.cache[id].total - fake.cache[id].nr_free;
}

struct kmm_cache *fake_cache(uint32_t id, void (*ctor)(void *))
{
	const struct control_cache *v = &fake.k.control.cache[id];
	struct kmm_cache *c = kmm_cache_create(&fake.k, v->name, v->size, 0, v->flags, ctor);

	ck_assert_ptr_nonnull(c);
	return c;
}

static void *address(uint32_t granule)
{
	return fake.k.window + ((size_t)granule << 3);
}

static bool object_pop(uint32_t id, uint32_t *granule)
{
	struct fake_cache *c = &fake.cache[id];

	if (c->nr_free == 0 && !slab_make(id))
		return false;
	*granule = c->free[--c->nr_free];
	return true;
}

/* The word says who has it: true and it is free again. */
static bool object_push(uint32_t granule, enum owner_kind kind, uint32_t owner)
{
	owner_word_t *word = fake_word(address(granule));
	uint64_t w = owner_load(word), d = fake.k.control.desc[granule >> 9];
	struct fake_cache *c = &fake.cache[page_desc_cache(d)];

	if (!owner_is(w, kind, owner))
		return false;
	if (w & OWNER_KEPT)
		return true;
	owner_store(word, owner_renewed(w, OWNER_FREE, 0) & ~OWNER_SHARED);
	c->free[c->nr_free++] = granule;
	return true;
}

/* ---- calls ---- */

static int magazine_find(uint32_t *m)
{
	for (*m = 0; *m < FAKE_MAGAZINES; (*m)++)
		if (magazine_state(magazine_load(&fake.k.control.magazine[*m])) == MAGAZINE_EMPTY)
			return 0;
	return -EAGAIN;
}

static void header_set(uint32_t m, enum magazine_state state, uint32_t owner, uint32_t n)
{
	struct magazine *mag = &fake.k.control.magazine[m];

	atomic_store(&mag->header, magazine_next(magazine_load(mag), state, owner, n));
}

static void exchange_given(uint32_t m)
{
	struct magazine *mag = &fake.k.control.magazine[m];
	uint64_t h = magazine_load(mag);
	uint32_t i;

	ck_assert(magazine_is(h, MAGAZINE_DEPOT, 0));
	ck_assert(mag->kind & OBJECTS_KIND);
	for (i = 0; i < magazine_count(h); i++)
		ck_assert(object_push(mag->round[i], OWNER_MAGAZINE, m));
	header_set(m, MAGAZINE_EMPTY, 0, 0);
	fake.gives++;
}

static int exchange(const kmm_v1_ExchangeRequest *q, kmm_v1_ExchangeReply *p)
{
	uint32_t m, i, granule;

	fake.exchanges++;
	if (q->give)
		exchange_given(q->give - 1);
	if (fake.no_magazines || (!q->empty && !q->rounds))
		return q->rounds ? error_set(EAGAIN, "no magazine") : 0;
	if (magazine_find(&m) < 0)
		return error_set(EAGAIN, "no magazine is free");
	p->magazine = m + 1;
	if (q->empty) {
		header_set(m, MAGAZINE_LOADED, FAKE_ME, 0);
		return 0;
	}
	ck_assert_uint_gt(q->cache, 0);
	ck_assert_uint_eq(q->life, fake.k.control.cache[q->cache].life);
	for (i = 0; i < q->rounds && object_pop(q->cache, &granule); i++) {
		owner_word_t *word = fake_word(address(granule));

		owner_store(word, owner_moved(owner_load(word), OWNER_MAGAZINE, m));
		fake.k.control.magazine[m].round[i] = granule;
	}
	if (i == 0)
		return error_set(ENOMEM, "no memory");
	atomic_store(&fake.k.control.magazine[m].kind, OBJECTS_KIND | q->cache);
	header_set(m, MAGAZINE_OFFERED, FAKE_ME, i);
	p->rounds = i;
	return 0;
}

static int alloc_object(const kmm_v1_AllocObjectRequest *q, kmm_v1_AllocObjectReply *p)
{
	uint32_t granule;
	owner_word_t *word;

	fake.allocs++;
	if (!object_pop(q->cache, &granule))
		return error_set(ENOMEM, "no memory");
	word = fake_word(address(granule));
	owner_store(word, owner_moved(owner_load(word), OWNER_OFFERED, FAKE_ME));
	p->granule = granule;
	return 0;
}

static int cache_by_name(const char *name, kmm_v1_CacheReply *p)
{
	uint32_t id;

	for (id = 1; id < FAKE_CACHES; id++) {
		const struct control_cache *v = &fake.k.control.cache[id];

		if (atomic_load(&v->life) && strcmp(v->name, name) == 0) {
			p->cache = id;
			p->life = atomic_load(&v->life);
			fake.cache[id].users = 1;
			return 0;
		}
	}
	return error_set(ENOENT, "no cache is named %s", name);
}

static int destroy(const kmm_v1_DestroyCacheRequest *q)
{
	fake.destroyed++;
	if (fake_out(q->cache) > 0)
		return error_set(EBUSY, "%u objects are live", fake_out(q->cache));
	fake.cache[q->cache].users = 0;
	return 0;
}

static void collect(void)
{
	uint32_t pfn, i;

	fake.collects++;
	for (pfn = 16; pfn < fake.frame; pfn++) {
		uint64_t d = fake.k.control.desc[pfn];
		const struct control_cache *v = &fake.k.control.cache[page_desc_cache(d)];

		if (page_desc_kind(d) != PAGE_SLAB || (pfn & ((1u << v->order) - 1)))
			continue;
		for (i = 0; i < v->objects; i++)
			object_push((pfn << 9) + ((page_desc_colour(d) * 64 + v->offset +
			                           i * v->stride) >> 3),
			            OWNER_RETURNED, FAKE_ME);
	}
}

static int answer(uint16_t method, const void *request, void *reply)
{
	const kmm_v1_FreeObjectRequest *free_object = request;

	switch (method) {
	case kmm_v1_Method_ALLOCATOR_EXCHANGE:
		return exchange(request, reply);
	case kmm_v1_Method_ALLOCATOR_ALLOC_OBJECT:
		return alloc_object(request, reply);
	case kmm_v1_Method_ALLOCATOR_FREE_OBJECT:
		fake.frees++;
		object_push(free_object->granule, OWNER_RETURNED, FAKE_ME);
		return 0;
	case kmm_v1_Method_ALLOCATOR_CREATE_CACHE:
		fake.created++;
		return cache_by_name(((const kmm_v1_CreateCacheRequest *)request)->name, reply);
	case kmm_v1_Method_ALLOCATOR_OPEN_CACHE:
		return cache_by_name(((const kmm_v1_OpenCacheRequest *)request)->name, reply);
	case kmm_v1_Method_ALLOCATOR_DESTROY_CACHE:
		return destroy(request);
	case kmm_v1_Method_ALLOCATOR_SHRINK_CACHE:
		fake.shrunk++;
		return 0;
	case kmm_v1_Method_ALLOCATOR_COLLECT:
		collect();
		return 0;
	case kmm_v1_Method_ALLOCATOR_REPORT:
		fake.reports++;
		return 0;
	default:
		ck_abort_msg("method %u", method);
	}
}

int call_unary(struct kmm *k, struct call_how *how, uint16_t method,
               const pb_msgdesc_t *request_type, const void *request,
               const pb_msgdesc_t *reply_type, void *reply, int fds[], size_t *nfds)
{
	int r;

	(void)how;
	(void)request_type;
	(void)reply_type;
	(void)fds;
	(void)nfds;
	ck_assert_ptr_eq(k, &fake.k);
	if (fake.away)
		return error_set(EAGAIN, "the daemon is away");
	if (method == kmm_v1_Method_ALLOCATOR_DESTROY_CACHE && fake.on_destroy)
		fake.on_destroy();
	pthread_mutex_lock(&fake.lock);
	r = answer(method, request, reply);
	pthread_mutex_unlock(&fake.lock);
	return r;
}

int call_notify(struct kmm *k, const struct call_how *how, uint16_t method,
                const pb_msgdesc_t *type, const void *request)
{
	(void)how;
	(void)type;
	ck_assert_ptr_eq(k, &fake.k);
	if (fake.away)
		return -EAGAIN;
	pthread_mutex_lock(&fake.lock);
	fake.notices++;
	answer(method, request, NULL);
	pthread_mutex_unlock(&fake.lock);
	return 0;
}

struct call_how call_begin(struct kmm *k, unsigned int flags)
{
	struct call_how how = { .flags = flags, .deadline = DEADLINE_NONE };

	ck_assert_ptr_eq(k, &fake.k);
	return how;
}

int call_wait_thread(struct kmm *k, const struct call_how *how)
{
	(void)k;
	(void)how;
	return 0;
}

/* ---- the rest of the session ---- */

int session_check_present(struct kmm *k)
{
	return k ? 0 : error_set(EINVAL, "the session is NULL");
}

int session_check(struct kmm *k)
{
	return session_check_present(k);
}

int session_enter(struct kmm *k)
{
	return session_check(k);
}

void session_leave(struct kmm *k)
{
	ck_assert_ptr_eq(k, &fake.k);
}

void session_untold(struct kmm *k)
{
	ck_assert_ptr_eq(k, &fake.k);
	fake.untold++;
}

void event_push(struct kmm *k, enum kmm_event kind, const char *text)
{
	(void)k;
	ck_assert(kind == KMM_EVENT_BAD_FREE || kind == KMM_EVENT_CORRUPT);
	fake.events++;
	snprintf(fake.event, sizeof(fake.event), "%s", text);
}

int section_map_slow(struct kmm *k, uint32_t section)
{
	ck_assert_msg(fake.unmappable, "every section is mapped");
	ck_assert(!k->mapped[section]);
	return error_set(ENOMEM, "no memory to map section %u", section);
}

void section_map_granted(struct kmm *k, uint32_t section)
{
	section_map_slow(k, section);
}

int highmem_zero(struct kmm *k, uint32_t page, unsigned int order)
{
	(void)k;
	(void)order;
	return section_map_slow(&fake.k, page);
}

int address_outside(struct kmm *k, const void *p)
{
	ck_assert_ptr_eq(k, &fake.k);
	return error_set(EINVAL, "%p lies outside the pool's window", p);
}

bool highmem_page(struct kmm *k, const void *p, uint32_t *page)
{
	(void)p;
	(void)page;
	ck_assert_ptr_eq(k, &fake.k);
	return false;
}

bool highmem_mapped(struct kmm *k, uint32_t page, unsigned int order)
{
	(void)page;
	(void)order;
	ck_assert_ptr_eq(k, &fake.k);
	return false;
}

void percpu_trim(struct kmm *k)
{
	ck_assert_ptr_eq(k, &fake.k);
}

void vmalloc_purge(struct kmm *k, bool told)
{
	(void)told;
	ck_assert_ptr_eq(k, &fake.k);
}

/* SPDX-License-Identifier: MIT */
/*
 * A session of libkmm without a daemon, for tests of single files of client/: control memory made
 * by the test, in which it places caches and slabs, and the parts of the library that such a test
 * does not link, played as simply as possible.
 *
 *     window   | section 0 (8 MiB) | section 1 |         owner words, descriptors, cache views,
 *              slab  slab  block                         slab bits: as the daemon would write them
 *
 * Calls to the daemon end in world_call(), which remembers the last one and answers as told.
 */
#ifndef TESTS_UNIT_TEST_CLIENT_H
#define TESTS_UNIT_TEST_CLIENT_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/fake_error.h"
#include "tests/unit/fake_session.h"

#define ME 3u
#define OTHER 5u
#define FRAMES 4096u

static struct kmm k;
static struct thread_cache *tc;

/* ---- calls ---- */

static struct {
	unsigned int n;
	uint16_t method;
	_Alignas(8) uint8_t request[512];
	int answer;
	bool repeated;
	union {
		kmm_v1_LookupReply lookup;
	} reply;
	unsigned int events;
	enum kmm_event event;
	char event_text[ERROR_TEXT_MAX];
} world;

static size_t request_size(uint16_t method)
{
	switch (method) {
	case kmm_v1_Method_ALLOCATOR_SEND:
		return sizeof(kmm_v1_SendRequest);
	case kmm_v1_Method_ALLOCATOR_HOLD:
		return sizeof(kmm_v1_HoldRequest);
	case kmm_v1_Method_ALLOCATOR_RELEASE:
		return sizeof(kmm_v1_ReleaseRequest);
	case kmm_v1_Method_ALLOCATOR_PUBLISH:
		return sizeof(kmm_v1_PublishRequest);
	case kmm_v1_Method_ALLOCATOR_LOOKUP:
		return sizeof(kmm_v1_LookupRequest);
	case kmm_v1_Method_ALLOCATOR_UNPUBLISH:
		return sizeof(kmm_v1_UnpublishRequest);
	case kmm_v1_Method_ALLOCATOR_REPORT:
		return sizeof(kmm_v1_ReportRequest);
	default:
		ck_abort_msg("an unexpected call: %u", method);
	}
}

#define world_request(Type) ((const kmm_v1_##Type##Request *)(const void *)world.request)

int call_unary(struct kmm *s, struct call_how *how, uint16_t method,
               const pb_msgdesc_t *request_type, const void *request,
               const pb_msgdesc_t *reply_type, void *reply, int fds[], size_t *nfds)
{
	(void)request_type, (void)reply_type, (void)fds, (void)nfds;
	ck_assert_ptr_eq(s, &k);
	world.n++;
	world.method = method;
	memcpy(world.request, request, request_size(method));
	how->repeated = world.repeated;
	if (world.answer == 0 && method == kmm_v1_Method_ALLOCATOR_LOOKUP)
		memcpy(reply, &world.reply.lookup, sizeof(world.reply.lookup));
	if (world.answer < 0)
		snprintf(last_text, sizeof(last_text), "refused");
	return world.answer;
}

int call_notify(struct kmm *s, const struct call_how *how, uint16_t method,
                const pb_msgdesc_t *type, const void *request)
{
	(void)how, (void)type;
	ck_assert_ptr_eq(s, &k);
	world.n++;
	world.method = method;
	memcpy(world.request, request, request_size(method));
	return world.answer;
}

int call_wait_thread(struct kmm *s, const struct call_how *how)
{
	(void)s, (void)how;
	return -EAGAIN;
}

void event_push(struct kmm *s, enum kmm_event kind, const char *text)
{
	(void)s;
	world.events++;
	world.event = kind;
	snprintf(world.event_text, sizeof(world.event_text), "%s", text);
}

/* ---- session, threads, pages ---- */

__thread struct kmm_thread_1 *kmm_thread_1;

struct thread_cache *thread_cache_get(struct kmm *s)
{
	atomic_store(&tc->session, s);
	return tc;
}

void session_untold(struct kmm *s)
{
	ck_assert_ptr_eq(s, &k);
}

bool keeper_is_self(struct kmm *s)
{
	(void)s;
	return true;
}

uint64_t process_now(void)
{
	return 1;
}

static void (*on_section_map)(void);
static int section_map_answer;

int section_map_slow(struct kmm *s, uint32_t section)
{
	(void)section;
	ck_assert_ptr_eq(s, &k);
	if (on_section_map)
		on_section_map();
	return section_map_answer ? error_set(-section_map_answer, "no section") : 0;
}

int address_outside(struct kmm *s, const void *p)
{
	(void)s;
	return error_set(EINVAL, "%p lies outside the pool's window", p);
}

bool highmem_page(struct kmm *s, const void *p, uint32_t *page)
{
	(void)s, (void)p, (void)page;
	return false;
}

int page_pfn(struct kmm *s, const struct kmm_page *page, uint32_t *pfn)
{
	*pfn = (uint32_t)((const page_desc_t *)page - s->control.desc);
	return 0;
}

int page_block_check(struct kmm *s, uint32_t pfn, unsigned int *order)
{
	uint64_t d = s->control.desc[pfn];

	if (page_desc_kind(d) == PAGE_SLAB)
		return error_set(EINVAL, "a slab");
	if (section_state(s, pfn) == CONTROL_SECTION_NONE)
		return error_set(EPERM, "no memory of the domain");
	if (page_desc_kind(d) != PAGE_BLOCK)
		return error_set(ENOENT, "no live block");
	*order = page_desc_order(d);
	return 0;
}

int page_not_mine(uint32_t pfn, uint64_t w)
{
	return owner_kind(w) == OWNER_HELD ? error_set(EPERM, "block %u: not mine", pfn)
	                                   : error_set(ENOENT, "block %u: given back", pfn);
}

int page_not_freed(struct kmm *s, uint32_t pfn, uint64_t w)
{
	return shared_test(s, pfn) ? error_set(ESTALE, "block %u: adopted", pfn)
	                           : page_not_mine(pfn, w);
}

/* ---- the world ---- */

static void world_setup(void)
{
	struct control_geometry g = {
		.frames = FRAMES, .section_order = 11, .sessions = 8, .magazines = 8
	};
	unsigned int i;

	memset(&k, 0, sizeof(k));
	memset(&world, 0, sizeof(world));
	last_text[0] = '\0';
	on_section_map = NULL;
	section_map_answer = 0;
	fake_session_map(&k, &g);
	k.id = ME;
	for (i = 0; i < 2; i++) {
		k.control.section[i] = CONTROL_SECTION_DIRECT;
		k.mapped[i] = 1;
	}
	pthread_mutex_init(&k.hold_lock, NULL);
	pthread_cond_init(&k.hold_done, NULL);
	tc = fake_thread_new(ME);
	kmm_thread_1 = (struct kmm_thread_1 *)(void *)tc;
}

static void world_teardown(void)
{
	fake_session_unmap(&k);
	free(tc);
}

/* ---- caches, slabs, blocks ---- */

static uint32_t odd_inverse(uint32_t odd)
{
	uint32_t x = odd;
	int i;

	for (i = 0; i < 5; i++) /* Newton: each step doubles the bits that are right */
		x *= 2 - odd * x;
	return x;
}

static struct control_cache *cache_place(uint32_t id, const char *name, uint32_t size,
                                         uint32_t stride, uint32_t offset, unsigned int order,
                                         uint32_t flags)
{
	struct control_cache *v = &k.control.cache[id];

	v->life = 1;
	v->size = size;
	v->stride = stride;
	v->twos = (uint8_t)__builtin_ctz(stride);
	v->inverse = odd_inverse(stride >> v->twos);
	v->objects = (4096u << order) / stride;
	v->colour_off = 64;
	v->colours = (uint16_t)(((4096u << order) - v->objects * stride) / 64);
	if (v->colours == 0)
		v->colours = 1;
	v->flags = flags;
	v->align = 8;
	v->offset = (uint16_t)offset;
	v->order = (uint8_t)order;
	v->shift = (uint8_t)(31 - __builtin_clz(stride));
	snprintf(v->name, sizeof(v->name), "%s", name);
	return v;
}

static void slab_place(uint32_t id, uint32_t pfn, uint32_t first_word, uint32_t colour)
{
	uint32_t i;

	for (i = 0; i < 1u << k.control.cache[id].order; i++)
		k.control.desc[pfn + i] = page_desc_slab(id, colour, k.control.cache[id].shift,
		                                         first_word, i);
}

/* The n-th object of a slab. */
static inline uint8_t *slab_object(uint32_t id, uint32_t pfn, uint32_t colour, uint32_t n)
{
	const struct control_cache *v = &k.control.cache[id];

	return k.window + ((size_t)pfn << FRAME_SHIFT) + colour * v->colour_off + n * v->stride +
	       v->offset;
}

static inline uint64_t word_of(uint64_t generation, enum owner_kind kind, uint32_t id,
                               uint64_t flags)
{
	return generation << OWNER_GENERATION_SHIFT | owner_who(kind, id) | flags;
}

static inline void block_place(uint32_t pfn, unsigned int order, uint64_t word)
{
	k.control.desc[pfn] = order | PAGE_BLOCK << PAGE_DESC_KIND_SHIFT;
	k.control.word[pfn] = word;
}

#endif

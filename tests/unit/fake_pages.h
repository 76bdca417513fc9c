/* SPDX-License-Identifier: MIT */
/*
 * A daemon played in the test's own process, for high memory: sections that are memfds, blocks of the
 * high zones, holds, and moves of pages, which the test makes happen.
 *
 *     0      FIRST                     FRAMES                   PAGES
 *     | low  | frames of high sections | pages that can move    |
 *              ^                         |
 *              '---- page_frame[] -------'
 *
 * What the daemon knows for itself is in `fake`; what it tells is in control memory. One thread calls
 * at a time (fake.lock). Sessions other than ME are words that say so.
 */
#ifndef TESTS_UNIT_FAKE_PAGES_H
#define TESTS_UNIT_FAKE_PAGES_H

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/highmem.h"
#include "shm/memfd.h"
#include "tests/unit/fake_session.h"

#define ME 3u
#define OTHER 5u
#define SECTION_ORDER 10u
#define SECTION_FRAMES (1u << SECTION_ORDER)
#define SECTIONS 8u
#define FIRST (2 * SECTION_FRAMES) /* of the high zones */
#define FRAMES (SECTIONS * SECTION_FRAMES)
#define HIGH (FRAMES - FIRST)
#define PAGES (FRAMES + HIGH)
#define NO_PAGE UINT32_MAX

static struct {
	struct kmm k;
	pthread_mutex_t lock;
	int memfd[SECTIONS];
	uint8_t *frame;                 /* the daemon's mapping of all frames */
	uint32_t page_frame[HIGH];      /* of a page, by its index; 0: it is not granted */
	uint32_t frame_page[FRAMES];    /* NO_PAGE: free; a block's head; a page that can move */
	uint32_t page_hand, frame_hand;
	bool held[PAGES];               /* by ME */
	unsigned int sections, holds, releases, frees, untold, moves;
	int refuse;                     /* calls fail so, those of `refused` only if that is set */
	uint16_t refused;
	bool readonly;                  /* sections are passed so that they cannot be mapped */
	_Atomic int inside;             /* calls that have entered the session */
	uint32_t say_page;              /* what an allocation is told in place of its page; 0: that */
	void (*on_call)(uint16_t method);
} fake;

static struct thread_cache *tc;
__thread struct kmm_thread_1 *kmm_thread_1;
__thread uint32_t thread_shrinking;

static inline owner_word_t *word_at(uint32_t page)
{
	return &fake.k.control.word[page];
}

static inline uint32_t index_of(const struct kmm_page *p)
{
	return (uint32_t)((const page_desc_t *)p - fake.k.control.desc);
}

static inline struct kmm_page *page_of(uint32_t page)
{
	return page_at(&fake.k, page);
}

/* ---- frames and pages ---- */

static inline uint8_t *frame_bytes(uint32_t frame)
{
	return fake.frame + ((size_t)frame << FRAME_SHIFT);
}

static inline uint32_t fake_frame(uint32_t page)
{
	return page < FRAMES ? page : fake.page_frame[page - FRAMES];
}

static void desc_set(uint32_t page, uint64_t d)
{
	atomic_store_explicit(&fake.k.control.desc[page], d, memory_order_release);
}

static uint64_t desc_movable(uint32_t frame)
{
	return (uint64_t)PAGE_BLOCK << PAGE_DESC_KIND_SHIFT | PAGE_DESC_MOVABLE |
	       (uint64_t)frame << PAGE_DESC_FRAME_SHIFT;
}

static bool frame_free(uint32_t *ret, unsigned int order)
{
	uint32_t n = 1u << order, tries, i, f;

	for (tries = 0; tries < 2 * HIGH / n; tries++) {
		f = FIRST + fake.frame_hand / n * n;
		fake.frame_hand = (fake.frame_hand / n * n + n) % HIGH;
		for (i = 0; i < n && fake.frame_page[f + i] == NO_PAGE; i++)
			;
		if (i == n) {
			*ret = f;
			return true;
		}
	}
	return false;
}

static int grant(unsigned int order, uint32_t *ret)
{
	uint32_t frame, page, i, turns;

	if (!frame_free(&frame, order))
		return error_set(ENOMEM, "no memory");
	page = frame;
	if (order == 0) {
		for (turns = 0; fake.page_frame[fake.page_hand]; turns++) {
			if (turns == HIGH)
				return error_set(ENOMEM, "no page");
			fake.page_hand = (fake.page_hand + 1) % HIGH;
		}
		page = FRAMES + fake.page_hand;
		fake.page_frame[fake.page_hand] = frame;
		desc_set(frame, page_desc_alias(page));
		desc_set(page, desc_movable(frame));
	} else {
		desc_set(page, order | (uint64_t)PAGE_BLOCK << PAGE_DESC_KIND_SHIFT);
	}
	for (i = 0; i < 1u << order; i++)
		fake.frame_page[frame + i] = page;
	*ret = page;
	return 0;
}

static void ungrant(uint32_t page)
{
	unsigned int order = page_desc_order(fake.k.control.desc[page]);
	uint32_t frame = fake_frame(page), i;

	owner_store(word_at(page), owner_reborn(owner_load(word_at(page)), OWNER_FREE, 0));
	desc_set(page, 0);
	desc_set(frame, 0);
	for (i = 0; i < 1u << order; i++)
		fake.frame_page[frame + i] = NO_PAGE;
	if (page >= FRAMES)
		fake.page_frame[page - FRAMES] = 0;
}

/* A page that another session has. */
static inline struct kmm_page *page_of_other(void)
{
	uint32_t page;

	ck_assert_int_eq(grant(0, &page), 0);
	owner_store(word_at(page), owner_reborn(owner_load(word_at(page)), OWNER_HELD, OTHER));
	return page_of(page);
}

/* The daemon moves a page to a free frame, if it may: whether it did. `between` runs in the middle. */
static inline bool fake_move(uint32_t page, void (*between)(uint32_t page))
{
	uint64_t w = owner_load(word_at(page));
	uint32_t from, to;

	if (page < FRAMES || owner_kind(w) != OWNER_HELD || (w & (OWNER_MAPPED | OWNER_KEPT)) ||
	    !frame_free(&to, 0) ||
	    !owner_cas(word_at(page), &w, owner_moved(w, OWNER_MOVING, owner_id(w))))
		return false;
	from = fake_frame(page);
	if (between)
		between(page);
	memcpy(frame_bytes(to), frame_bytes(from), KMM_PAGE_SIZE);
	memset(frame_bytes(from), 0xee, KMM_PAGE_SIZE);
	fake.page_frame[page - FRAMES] = to;
	fake.frame_page[to] = page;
	fake.frame_page[from] = NO_PAGE;
	desc_set(from, 0);
	desc_set(to, page_desc_alias(page));
	desc_set(page, desc_movable(to));
	w = owner_load(word_at(page));
	ck_assert_int_eq(owner_kind(w), OWNER_MOVING);
	owner_store(word_at(page), owner_moved(w, OWNER_HELD, owner_id(w)));
	fake.moves++;
	return true;
}

/* ---- calls ---- */

static int get_sections(const kmm_v1_GetSectionsRequest *q, kmm_v1_GetSectionsReply *p, int fds[],
                        size_t *nfds)
{
	char path[64];
	uint32_t s = q->section[0];

	ck_assert_uint_eq(q->section_count, 1);
	ck_assert_uint_lt(s, SECTIONS);
	fake.sections++;
	p->section_count = p->backing_count = 1;
	p->section[0] = s;
	p->backing[0] = s < FIRST / SECTION_FRAMES ? SHM_HUGETLB_2M : SHM_4K;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fake.memfd[s]);
	fds[0] = fake.readonly ? open(path, O_RDONLY | O_CLOEXEC)
	                       : fcntl(fake.memfd[s], F_DUPFD_CLOEXEC, 0);
	ck_assert_int_ge(fds[0], 0);
	*nfds = 1;
	return 0;
}

static int alloc_pages(const kmm_v1_AllocPagesRequest *q, kmm_v1_AllocPagesReply *p)
{
	uint32_t page;
	int r = grant(q->order, &page);

	if (r < 0)
		return r;
	owner_store(word_at(page), owner_reborn(owner_load(word_at(page)), OWNER_OFFERED, ME));
	p->pfn = fake.say_page ? fake.say_page : page;
	return 0;
}

static int free_pages(const kmm_v1_FreePagesRequest *q)
{
	uint64_t w = owner_load(word_at(q->pfn));

	fake.frees++;
	ck_assert(owner_is(w, OWNER_RETURNED, ME));
	ck_assert_uint_eq(owner_generation(w), q->generation);
	ck_assert_uint_eq(page_desc_order(fake.k.control.desc[q->pfn]), q->order);
	if (w & OWNER_KEPT)
		owner_store(word_at(q->pfn), owner_moved(w, OWNER_HELD, 0));
	else
		ungrant(q->pfn);
	return 0;
}

static int hold(const kmm_v1_HoldRequest *q)
{
	uint32_t page = control_pfn_of_granule(FRAME_SHIFT - fake.k.granule_bits, q->granule);
	uint64_t w = owner_load(word_at(page));

	fake.holds++;
	if (!word_is_live(w) || (uint32_t)owner_generation(w) != q->generation)
		return error_set(ESTALE, "gone");
	while (!owner_cas(word_at(page), &w, w | OWNER_KEPT))
		;
	fake.held[page] = true;
	return 0;
}

static int release(const kmm_v1_ReleaseRequest *q)
{
	uint32_t page = control_pfn_of_granule(FRAME_SHIFT - fake.k.granule_bits, q->granule);
	uint64_t w = owner_load(word_at(page));

	fake.releases++;
	if (!fake.held[page])
		return error_set(EPERM, "no such hold");
	fake.held[page] = false;
	if (owner_is(w, OWNER_HELD, 0)) {
		ungrant(page);
		return 0;
	}
	while (!owner_cas(word_at(page), &w, w & ~OWNER_KEPT))
		;
	return 0;
}

static int answer(uint16_t method, const void *q, void *p, int fds[], size_t *nfds)
{
	if (fake.refuse && (!fake.refused || fake.refused == method))
		return error_set(-fake.refuse, "refused");
	switch (method) {
	case kmm_v1_Method_ALLOCATOR_GET_SECTIONS:
		return get_sections(q, p, fds, nfds);
	case kmm_v1_Method_ALLOCATOR_ALLOC_PAGES:
		return alloc_pages(q, p);
	case kmm_v1_Method_ALLOCATOR_FREE_PAGES:
		return free_pages(q);
	case kmm_v1_Method_ALLOCATOR_HOLD:
		return hold(q);
	case kmm_v1_Method_ALLOCATOR_RELEASE:
		return release(q);
	case kmm_v1_Method_ALLOCATOR_GET_HOLDERS:
		((kmm_v1_GetHoldersReply *)p)->holders = 2;
		return 0;
	case kmm_v1_Method_ALLOCATOR_SEND:
		return 0;
	default:
		ck_abort_msg("an unexpected call: %u", method);
	}
}

int call_unary(struct kmm *k, struct call_how *how, uint16_t method, const pb_msgdesc_t *qt,
               const void *q, const pb_msgdesc_t *pt, void *p, int fds[], size_t *nfds)
{
	int r;

	(void)how, (void)qt, (void)pt;
	ck_assert_ptr_eq(k, &fake.k);
	pthread_mutex_lock(&fake.lock);
	if (fake.on_call)
		fake.on_call(method);
	r = answer(method, q, p, fds, nfds);
	pthread_mutex_unlock(&fake.lock);
	return r;
}

int call_notify(struct kmm *k, const struct call_how *how, uint16_t method, const pb_msgdesc_t *t,
                const void *q)
{
	return call_unary(k, NULL, method, t, q, NULL, NULL, NULL, NULL) < 0 && how ? -EAGAIN : 0;
}

struct call_how call_begin(struct kmm *k, unsigned int flags)
{
	ck_assert_ptr_eq(k, &fake.k);
	return (struct call_how){ .flags = flags, .deadline = process_now() + 300000000u };
}

int call_wait_thread(struct kmm *k, const struct call_how *how)
{
	(void)k;
	if (process_now() >= how->deadline)
		return error_set(EAGAIN, "it lasts too long");
	sched_yield();
	return 0;
}

/* ---- the rest of the library ---- */

int session_check_present(struct kmm *k)
{
	return k ? 0 : error_set(EINVAL, "the session is NULL");
}

int address_outside(struct kmm *k, const void *p)
{
	(void)k;
	return error_set(EINVAL, "%p lies outside the pool's window", p);
}

int session_check(struct kmm *k)
{
	return session_check_present(k);
}

int session_enter(struct kmm *k)
{
	int r = session_check(k);

	if (r == 0)
		atomic_fetch_add(&fake.inside, 1);
	return r;
}

void session_leave(struct kmm *k)
{
	ck_assert_ptr_eq(k, &fake.k);
	ck_assert_int_gt(atomic_fetch_sub(&fake.inside, 1), 0);
}

void session_untold(struct kmm *k)
{
	ck_assert_ptr_eq(k, &fake.k);
	fake.untold++;
}

bool keeper_is_self(struct kmm *k)
{
	(void)k;
	return false;
}

struct thread_cache *thread_cache_get(struct kmm *k)
{
	atomic_store(&tc->session, k);
	kmm_thread_1 = (struct kmm_thread_1 *)(void *)tc;
	return tc;
}

struct thread *thread_self(void)
{
	static __thread struct thread self;

	return &self;
}

int thread_init(void)
{
	return 0;
}

void thread_forget_in_child(void)
{
}

bool node_has_top(struct kmm *k, struct local_class *lc, uint32_t node)
{
	(void)k, (void)lc, (void)node;
	return false;
}

bool local_take(struct thread_cache *t, struct local_class *lc, uint64_t *round)
{
	(void)t, (void)lc, (void)round;
	return false;
}

bool local_keep(struct kmm *k, struct thread_cache *t, struct local_class *lc, uint64_t round)
{
	(void)k, (void)t, (void)lc, (void)round;
	ck_abort_msg("a page of high memory is not cached");
}

int local_refill(struct kmm *k, struct thread_cache *t, struct local_class *lc, uint32_t gfp,
                 struct call_how *how, uint64_t *round)
{
	(void)k, (void)t, (void)lc, (void)gfp, (void)how, (void)round;
	return -EAGAIN;
}

int exchange_take(struct kmm *k, struct call_how *how, struct exchange x, uint32_t gfp,
                  enum owner_kind kind, uint32_t rounds, uint64_t out[], uint32_t *n)
{
	(void)k, (void)how, (void)x, (void)gfp, (void)kind, (void)rounds, (void)out, (void)n;
	ck_abort_msg("pages of high memory do not come in magazines");
}

uint32_t exchange_give(struct kmm *k, struct exchange x, uint64_t r[], uint32_t n)
{
	(void)k, (void)x, (void)r, (void)n;
	ck_abort_msg("pages of high memory do not go in magazines");
}

/* ---- the world ---- */

static void fake_start(void)
{
	struct control_geometry g = { .frames = FRAMES,
		                      .high_start = FIRST,
		                      .high_frames = HIGH,
		                      .section_order = SECTION_ORDER,
		                      .sessions = 8,
		                      .magazines = 8 };
	struct kmm *k = &fake.k;
	size_t bytes = (size_t)SECTION_FRAMES << FRAME_SHIFT;
	uint32_t s, high;
	void *p;

	memset(&fake, 0, sizeof(fake));
	memset(fake.frame_page, 0xff, sizeof(fake.frame_page));
	pthread_mutex_init(&fake.lock, NULL);
	pthread_mutex_init(&k->section_lock, NULL);
	pthread_mutex_init(&k->hold_lock, NULL);
	pthread_cond_init(&k->hold_done, NULL);
	ck_assert_int_eq(process_init(), 0);
	fake_session_map(k, &g);
	k->id = ME;
	k->mark = process_mark();
	fake.frame = map_zeroes(k->window_size);
	for (s = 0; s < SECTIONS; s++) {
		high = s >= FIRST / SECTION_FRAMES;
		k->control.section[s] = high ? CONTROL_SECTION_HIGH : CONTROL_SECTION_DIRECT;
		k->mapped[s] = !high;
		ck_assert_int_eq(shm_memfd_new(&fake.memfd[s], "section", bytes, SHM_4K), 0);
		ck_assert_int_eq(shm_map(&p, fake.frame + s * bytes, fake.memfd[s], bytes, true),
		                 0);
	}
	for (; s < PAGES >> SECTION_ORDER; s++)
		k->control.section[s] = CONTROL_SECTION_HIGH;
	tc = fake_thread_new(ME);
	tc->desc = k->control.desc;
	tc->word = k->control.word;
	tc->frames = FRAMES;
	tc->window = k->window;
	tc->status = k->control.status;
	kmm_thread_1 = (struct kmm_thread_1 *)(void *)tc;
}

static void fake_stop(void)
{
	struct kmm *k = &fake.k;
	uint32_t s;

	highmem_free(k, false);
	section_files_free(k, false);
	hold_free_all(k);
	if (tc->marks)
		munmap(tc->marks, tc->marks_size);
	free(tc);
	fake_session_unmap(k);
	munmap(fake.frame, (size_t)FRAMES << FRAME_SHIFT);
	for (s = 0; s < SECTIONS; s++)
		close(fake.memfd[s]);
}

/* ---- what tests do ---- */

static inline struct kmm_page *page_new(void)
{
	struct kmm_page *p = kmm_alloc_pages(&fake.k, KMM_GFP_HIGHUSER_MOVABLE, 0);

	ck_assert_ptr_nonnull(p);
	ck_assert_uint_ge(index_of(p), FRAMES);
	return p;
}

static inline uint8_t *map(struct kmm_page *p)
{
	uint8_t *at = kmm_kmap(&fake.k, p);

	ck_assert_msg(at != NULL, "%s", kmm_error_text());
	return at;
}

static inline void unmap(struct kmm_page *p)
{
	ck_assert_int_eq(kmm_kunmap(&fake.k, p), 0);
}

static inline bool is_mapped(const struct kmm_page *p)
{
	return owner_load(word_at(index_of(p))) & OWNER_MAPPED;
}

static inline void no_map(struct kmm_page *p, int error)
{
	errno = 0;
	ck_assert_ptr_null(kmm_kmap(&fake.k, p));
	ck_assert_int_eq(errno, error);
}

static inline void free_page(struct kmm_page *p)
{
	ck_assert_int_eq(kmm_free_pages(&fake.k, p, 0), 0);
}

#endif

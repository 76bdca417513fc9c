/* SPDX-License-Identifier: MIT */
/*
 * A daemon played in the test's own process, for areas and stacks: its every move is the test's.
 * Pages that move, blocks collected, memory and mappings that fail.
 *
 *     sections 0..7   low: 4 KiB pages, or (map_shift 21) huge ones, which the mmap below checks to be
 *                     mapped as such
 *     sections 8, 9   high: order 0 is a page of its own, with another frame each time
 *
 * It knows each frame as free or in a block, and who has it by the owner word alone. Included
 * once a program.
 */
#ifndef TESTS_UNIT_TEST_VMALLOC_H
#define TESTS_UNIT_TEST_VMALLOC_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "client/vmalloc.h"
#include "tests/unit/fake_error.h"
#include "tests/unit/fake_session.h"

#define ME 3u
#define OTHER 5u
#define SECTION_ORDER 10u
#define LOW_SECTIONS 8u
#define HIGH_SECTIONS 2u
#define SECTION_FRAMES (1u << SECTION_ORDER)
#define LOW (LOW_SECTIONS * SECTION_FRAMES)
#define HIGH (HIGH_SECTIONS * SECTION_FRAMES)
#define FRAMES (LOW + HIGH)
#define NOBODY 255u

static struct kmm k;
static int fds[LOW_SECTIONS + HIGH_SECTIONS];
static uint8_t order_at[FRAMES];   /* by frame: of the block that begins there, NOBODY: none */
static bool in_use[FRAMES];        /* by frame */
static uint32_t page_of[HIGH];     /* by high frame - LOW: the page that stands for order 0 */
static uint32_t frame_of[HIGH];    /* by page - FRAMES */
static unsigned int alloc_calls, give_calls, untold, reports, events;
static bool magazines;             /* exchange_give() takes what it is given */
static int offer_order;            /* blocks are offered as if they had it; -1: as they are */

/* ---- failures ---- */

static int fail_map, fail_call; /* the n-th from now; 0: none */

static bool fails(int *n)
{
	return *n > 0 && --*n == 0;
}

static int fd_is_low(int fd)
{
	for (unsigned i = 0; i < LOW_SECTIONS; i++)
		if (fds[i] == fd)
			return true;
	return false;
}

void *mmap(void *addr, size_t size, int prot, int flags, int fd, off_t at)
{
	if (fd >= 0 && (flags & MAP_FIXED)) {
		if (fails(&fail_map)) {
			errno = ENOMEM;
			return MAP_FAILED;
		}
		if (fd_is_low(fd) && k.map_shift == 21)
			ck_assert_msg(((uintptr_t)addr | size | (size_t)at) % (2u << 20) == 0,
			              "huge pages mapped in pieces");
	}
	return (void *)syscall(SYS_mmap, addr, size, prot, flags, fd, at);
}

/* ---- the played daemon ---- */

static bool frames_free(uint32_t frame, uint32_t n)
{
	while (n-- > 0)
		if (in_use[frame + n])
			return false;
	return true;
}

static uint32_t rnd(uint32_t n)
{
	return (uint32_t)random() % n;
}

/* Another frame for a page that nobody has. */
static void shuffle(uint32_t frame)
{
	uint32_t other = LOW + rnd(HIGH), a = page_of[frame - LOW], b = page_of[other - LOW];

	if (in_use[other])
		return;
	page_of[frame - LOW] = b;
	page_of[other - LOW] = a;
	frame_of[a - FRAMES] = other;
	frame_of[b - FRAMES] = frame;
}

static bool offer(uint32_t frame, unsigned int order, kmm_v1_AllocBlocksReply *p)
{
	uint32_t page = frame, n = p->order.size, i;
	uint64_t desc = order | (uint64_t)PAGE_BLOCK << PAGE_DESC_KIND_SHIFT, w;

	if (frame >= LOW && order == 0) {
		shuffle(frame);
		page = page_of[frame - LOW];
		desc |= PAGE_DESC_MOVABLE | (uint64_t)frame << PAGE_DESC_FRAME_SHIFT;
	}
	for (i = 0; i < 1u << order; i++)
		in_use[frame + i] = true;
	order_at[frame] = (uint8_t)order;
	w = owner_load(&k.control.word[page]);
	ck_assert_int_eq(owner_kind(w), OWNER_FREE);
	k.control.desc[page] = desc;
	owner_store(&k.control.word[page], owner_moved(w, OWNER_OFFERED, ME));
	memcpy(p->page.bytes + n * sizeof(page), &page, sizeof(page));
	p->order.bytes[n] = (uint8_t)(offer_order < 0 ? (int)order : offer_order);
	p->order.size++;
	p->page.size += sizeof(page);
	return p->order.size < 512;
}

static uint32_t frame_of_page(uint32_t page)
{
	return page < FRAMES ? page : frame_of[page - FRAMES];
}

/* The word was just found to let it: the block is free. */
static void take_back(uint32_t page)
{
	uint32_t frame = frame_of_page(page), i;
	uint64_t w = owner_load(&k.control.word[page]);

	ck_assert_uint_ne(order_at[frame], NOBODY);
	for (i = 0; i < 1u << order_at[frame]; i++) {
		ck_assert(in_use[frame + i]);
		in_use[frame + i] = false;
	}
	order_at[frame] = NOBODY;
	k.control.desc[page] = 0;
	owner_store(&k.control.word[page], owner_reborn(w, OWNER_FREE, 0));
}

/* Takes what words say RETURNED by us: one in `of`. */
static inline unsigned int collect(uint32_t of)
{
	unsigned int n = 0;

	for (uint32_t page = 0; page < k.pages; page++)
		if (owner_is(owner_load(&k.control.word[page]), OWNER_RETURNED, ME) && !rnd(of)) {
			take_back(page);
			n++;
		}
	return n;
}

static int alloc_blocks(const kmm_v1_AllocBlocksRequest *q, kmm_v1_AllocBlocksReply *p)
{
	uint32_t had = 0, frame, first = q->small && k.map_shift > 12 ? LOW : 0;
	uint32_t end = q->gfp & KMM_GFP_HIGHMEM ? FRAMES : LOW;
	unsigned int order = q->order_max;

	alloc_calls++;
	ck_assert_uint_eq(q->pages & ((1u << q->order_min) - 1), 0);
	if (fails(&fail_call))
		return error_set(ENOMEM, "a call that fails");
	for (;; order--) {
		/* from the top: the high zones first */
		for (frame = end; frame > first;) {
			frame -= 1u << order;
			if (q->pages - had < 1u << order)
				break;
			if (!frames_free(frame, 1u << order))
				continue;
			had += 1u << order;
			if (!offer(frame, order, p))
				return 0;
		}
		if (order == q->order_min)
			break;
	}
	return had ? 0 : error_set(ENOMEM, "no block of order %u", q->order_min);
}

/* ---- the rest of the library ---- */

int call_unary(struct kmm *s, struct call_how *how, uint16_t method,
               const pb_msgdesc_t *request_type, const void *request,
               const pb_msgdesc_t *reply_type, void *reply, int got[], size_t *ngot)
{
	(void)how, (void)request_type, (void)reply_type, (void)got, (void)ngot;
	ck_assert_ptr_eq(s, &k);
	ck_assert_int_eq(method, kmm_v1_Method_ALLOCATOR_ALLOC_BLOCKS);
	return alloc_blocks(request, reply);
}

int call_notify(struct kmm *s, const struct call_how *how, uint16_t method,
                const pb_msgdesc_t *type, const void *request)
{
	const kmm_v1_ReportRequest *q = request;

	(void)s, (void)how, (void)type;
	ck_assert_int_eq(method, kmm_v1_Method_ALLOCATOR_REPORT);
	ck_assert_int_eq(q->kind, kmm_v1_ReportRequest_Kind_STACK_OVERRUN);
	ck_assert_ptr_nonnull(strstr(q->text, "overrun"));
	reports++;
	return 0;
}

__thread uint32_t thread_shrinking;

int page_free_tell(struct kmm *s, uint32_t page, unsigned int order, uint64_t word)
{
	ck_assert_ptr_eq(s, &k);
	ck_assert(owner_is(word, OWNER_RETURNED, ME) && owner_load(&k.control.word[page]) == word);
	ck_assert_uint_eq(order_at[frame_of_page(page)], order);
	if (!(word & OWNER_KEPT))
		take_back(page);
	return 0;
}

uint32_t exchange_give(struct kmm *s, struct exchange x, uint64_t r[], uint32_t n)
{
	uint32_t i, left = 0;

	ck_assert(s == &k && !x.cache && n >= 1);
	give_calls++;
	for (i = 0; i < n; i++) {
		uint64_t w = owner_load(&k.control.word[(uint32_t)r[i]]);

		if (!magazines || round_of_block((uint32_t)r[i], w) != r[i] ||
		    !owner_is(w, OWNER_RETURNED, ME) || (w & OWNER_KEPT))
			r[left++] = r[i];
		else
			take_back((uint32_t)r[i]);
	}
	return left;
}

static unsigned int fds_in_use;

int section_fd_get(struct kmm *s, uint32_t section, int *fd)
{
	(void)s;
	ck_assert_uint_lt(section, LOW_SECTIONS + HIGH_SECTIONS);
	*fd = fds[section];
	fds_in_use++;
	return 0;
}

void section_fd_put(struct kmm *s, uint32_t section)
{
	(void)s, (void)section;
	ck_assert_uint_eq(fds_in_use--, 1);
}

int section_map_slow(struct kmm *s, uint32_t section)
{
	size_t size = (size_t)1 << s->section_shift;
	void *at = s->window + section * size;

	ck_assert_ptr_eq((void *)syscall(SYS_mmap, at, size, PROT_READ | PROT_WRITE,
	                                 MAP_SHARED | MAP_FIXED, fds[section], 0),
	                 at);
	s->mapped[section] = 1;
	return 0;
}

void event_push(struct kmm *s, enum kmm_event kind, const char *text)
{
	(void)s, (void)text;
	ck_assert_int_eq(kind, KMM_EVENT_CORRUPT);
	events++;
}

void session_untold(struct kmm *s)
{
	(void)s;
	untold++;
}

/* ---- the scene ---- */

static inline void begin(unsigned int map_shift)
{
	struct control_geometry g = { .frames = FRAMES,
		                      .high_start = LOW,
		                      .high_frames = HIGH,
		                      .section_order = SECTION_ORDER,
		                      .sessions = 8,
		                      .magazines = 8 };
	uint32_t i;

	memset(&k, 0, sizeof(k));
	fake_session_map(&k, &g);
	k.id = ME;
	k.nodes = 1;
	k.map_shift = map_shift;
	for (i = 0; i < k.nr_sections; i++) {
		fds[i] = memfd_create("section", MFD_CLOEXEC);
		ck_assert_int_eq(ftruncate(fds[i], (off_t)1 << k.section_shift), 0);
	}
	for (i = 0; i < k.pages; i++)
		k.control.word[i] = UINT64_C(1) << OWNER_GENERATION_SHIFT;
	for (i = 0; i < HIGH; i++) {
		page_of[i] = FRAMES + i;
		frame_of[i] = LOW + i;
	}
	memset(order_at, NOBODY, sizeof(order_at));
	memset(in_use, 0, sizeof(in_use));
	alloc_calls = give_calls = untold = reports = events = 0;
	fail_map = fail_call = 0;
	offer_order = -1;
	magazines = true;
	last_text[0] = '\0';
}

static inline uint32_t used(void)
{
	uint32_t n = 0, i;

	for (i = 0; i < FRAMES; i++)
		n += in_use[i];
	return n;
}

/* Entries of ours in the table of areas. */
static inline uint32_t entries(void)
{
	uint32_t n = 0, i;

	for (i = 0; i < CONTROL_AREAS_MAX; i++)
		n += owner_is(owner_load(&k.control.area[i].word), OWNER_HELD, ME);
	return n;
}

static inline void end(void)
{
	vmalloc_purge(&k, true);
	ck_assert_uint_eq(used(), 0);
	ck_assert_uint_eq(entries(), 0);
	vmalloc_end(&k);
	fake_session_unmap(&k);
	for (unsigned i = 0; i < k.nr_sections; i++)
		close(fds[i]);
}

static void report(const char *text)
{
	fprintf(stderr, "%s\n", text);
}

static inline void valid(void)
{
	ck_assert_uint_eq(vmap_validate(&k, report), 0);
}

/* A number in each page, and the same by the page's own memory. */
static inline void stamp(const char *p, size_t pages, uint64_t with)
{
	for (size_t i = 0; i < pages; i++)
		*(uint64_t *)(uintptr_t)(p + i * KMM_PAGE_SIZE + 64) = with + i;
}

static inline void stamped(const char *p, size_t pages, uint64_t with)
{
	for (size_t i = 0; i < pages; i++)
		ck_assert_uint_eq(*(const uint64_t *)(uintptr_t)(p + i * KMM_PAGE_SIZE + 64),
		                  with + i);
}

static inline void at_its_page(const char *p, size_t i, uint64_t with)
{
	const struct kmm_page *page = kmm_vmalloc_to_page(&k, p + i * KMM_PAGE_SIZE + 17);
	uint32_t frame;
	uint64_t is;

	ck_assert_ptr_nonnull(page);
	frame = frame_of_page((uint32_t)((const page_desc_t *)page - k.control.desc));
	ck_assert_int_eq(pread(fds[frame / SECTION_FRAMES], &is, sizeof(is),
	                       (off_t)(frame % SECTION_FRAMES) * 4096 + 64),
	                 sizeof(is));
	ck_assert_uint_eq(is, with + i);
}

#endif

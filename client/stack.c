/* SPDX-License-Identifier: MIT */
/*
 * Stacks: 2^order pages straight from the page allocator, for threads and signal handlers.
 *
 *     |guard| magic ........................ |guard|
 *           ^ what kmm_alloc_stack returns, the low end: a stack grows down to it
 *
 * Where the pool can be mapped in pieces of 4 KiB, the stack is mapped by itself with an
 * inaccessible page on both sides: who runs over its end meets a SIGSEGV there. In a pool of huge
 * pages without high memory to spare it is a block in the window, where the next block begins at
 * its end. In both the lowest word is a magic number (Linux's STACK_END_MAGIC), which is looked
 * at when the stack is freed: an overrun is then told to the program, by an error and an event,
 * and to the daemon's log.
 *
 * One block of the whole size is asked for first, then smaller ones side by side. Freed stacks are
 * kept as freed vmalloc areas are (vmalloc_table.c).
 */
#include "client/vmalloc.h"

#include <stdio.h>

#define STACK_END_MAGIC UINT64_C(0x57AC6E9D)

/* ---- allocating ---- */

/* Pages to be mapped with guards; or *direct: a block in the window. */
static int stack_blocks(struct kmm *k, struct call_how *how, unsigned int order,
                        struct block_list *l, bool *direct)
{
	struct block_want want = {
		.gfp = (VMALLOC_GFP & ~KMM_GFP_DIRECT_RECLAIM) | KMM_GFP_NOWARN,
		.pages = UINT32_C(1) << order,
		.order_max = order,
		.order_min = order,
		.small = true,
	};
	bool huge = k->map_shift > FRAME_SHIFT, high = k->pages > k->frames;
	int r = -ENOMEM;

	*direct = false;
	if (!huge || high)
		r = blocks_alloc(k, how, &want, l);
	want.order_min = 0;
	if (r == -ENOMEM && order > 0 && (!huge || high))
		r = blocks_alloc(k, how, &want, l);
	if (r == -ENOMEM && huge) {
		*direct = true;
		want.gfp &= ~KMM_GFP_HIGHMEM;
		want.order_min = order;
		want.small = false;
		r = blocks_alloc(k, how, &want, l);
	}
	if (r != -ENOMEM && r != -EAGAIN)
		return r;
	/* It may wait: for what is mapped with guards, where there is such memory. */
	*direct = huge && !high;
	want.order_min = *direct ? order : 0;
	want.small = !*direct;
	want.gfp = *direct ? KMM_GFP_KERNEL : VMALLOC_GFP;
	return blocks_alloc(k, how, &want, l);
}

static int stack_new(struct kmm *k, unsigned int order, const void *caller, struct vmap **ret)
{
	struct call_how how = call_begin(k, 0);
	struct block_list l = BLOCK_LIST_INIT;
	char before[ERROR_TEXT_MAX], text[ERROR_TEXT_MAX];
	struct vmap *a = NULL;
	bool direct;
	int r;

	error_text_copy(before);
	r = stack_blocks(k, &how, order, &l, &direct);
	if (r == 0)
		r = direct ? vmap_make_direct(k, CONTROL_AREA_STACK, &l, &a) :
		             vmap_make(k, CONTROL_AREA_STACK, &l, &a);
	if (r == 0)
		r = vmap_add(k, a, KMM_PAGE_SIZE << order, caller);
	if (r < 0) {
		error_text_copy(text);
		if (a)
			vmap_discard(k, a);
		blocks_free(k, &l);
		error_text_put(text);
		return r;
	}
	error_text_put(before);
	*ret = a;
	return 0;
}

static int stack_alloc(struct kmm *k, unsigned int order, const void *caller, void **ret)
{
	struct vmap *a;
	int r = 0;

	if (order > KMM_MAX_ORDER)
		return error_set(EINVAL, "order %u: orders are 0 to %u", order, KMM_MAX_ORDER);
	a = vmap_reuse(k, CONTROL_AREA_STACK, UINT32_C(1) << order, KMM_PAGE_SIZE << order, caller);
	if (!a)
		r = stack_new(k, order, caller, &a);
	if (r < 0)
		return r;
	*(volatile uint64_t *)a->start = STACK_END_MAGIC;
	*ret = a->start;
	return 0;
}

void *kmm_alloc_stack(struct kmm *k, unsigned int order)
{
	int saved = errno, r = session_enter(k);
	void *p = NULL;

	if (r < 0)
		return errno_null(r);
	r = stack_alloc(k, order, __builtin_return_address(0), &p);
	session_leave(k);
	errno = saved;
	return r < 0 ? errno_null(r) : p;
}

/* ---- freeing ---- */

/* To the program and to the daemon, which is not waited for: -EFAULT. */
static int stack_overrun(struct kmm *k, const struct vmap *a, uint64_t found)
{
	struct call_how how = call_begin(k, CALL_NOWAIT);
	kmm_v1_ReportRequest q = kmm_v1_ReportRequest_init_zero;
	char text[ERROR_TEXT_MAX];

	snprintf(q.text, sizeof(q.text),
	         "the stack at %p (%zu KiB) was overrun: its lowest word is 0x%016llx instead of "
	         "0x%016llx; it is freed",
	         (void *)a->start, a->size >> 10, (unsigned long long)found,
	         (unsigned long long)STACK_END_MAGIC);
	q.kind = kmm_v1_ReportRequest_Kind_STACK_OVERRUN;
	q.granule = granule_of(k, a->block[0].page);
	q.allocated_by = q.freed_by = k->id;
	error_set(EFAULT, "%s", q.text);
	error_text_copy(text);
	call_notify(k, &how, kmm_v1_Method_ALLOCATOR_REPORT, kmm_v1_ReportRequest_fields, &q);
	event_push(k, KMM_EVENT_CORRUPT, q.text);
	error_text_put(text);
	return -EFAULT;
}

static int stack_free(struct kmm *k, const void *p)
{
	uint64_t found;
	struct vmap *a;
	int r = vmap_take(k, CONTROL_AREA_STACK, p, &a);

	if (r < 0)
		return r;
	found = *(volatile uint64_t *)a->start;
	if (found != STACK_END_MAGIC)
		r = stack_overrun(k, a, found);
	vmap_release(k, a);
	return r;
}

int kmm_free_stack(struct kmm *k, void *p)
{
	SESSION_SCOPE(k, r);

	return r < 0 || !p ? r : stack_free(k, p);
}

/* SPDX-License-Identifier: MIT */
/*
 * kvmalloc: kmalloc where that is to be had at once, else vmalloc.
 *
 * As in Linux: the first attempt of more than a page is not worth any effort (NORETRY, unless the
 * caller asks for RETRY_MAYFAIL); vmalloc may wait, so only for requests that may.
 *
 * Which of the two it was tells the address: kmalloc's lie in the window.
 */
#include "client/object.h"
#include "client/vmalloc.h"

#define KMALLOC_MAX_BYTES (KMM_PAGE_SIZE << KMM_MAX_ORDER)

static kmm_gfp_t first_gfp(size_t size, kmm_gfp_t gfp)
{
	if (size <= KMM_PAGE_SIZE)
		return gfp;
	gfp |= KMM_GFP_NOWARN;
	if (!(gfp & KMM_GFP_RETRY_MAYFAIL))
		gfp |= KMM_GFP_NORETRY;
	return gfp & ~KMM_GFP_NOFAIL;
}

/* Areas lie wherever they may. */
static kmm_gfp_t area_gfp(kmm_gfp_t gfp)
{
	return gfp & (KMM_GFP_DMA | KMM_GFP_DMA32) ? gfp : gfp | KMM_GFP_HIGHMEM;
}

/* After kmalloc had nothing; r: its answer. */
static int kvmalloc_areas(struct kmm *k, size_t size, kmm_gfp_t gfp, const void *caller, int r,
                          void **ret)
{
	if (r != -ENOMEM || (size <= KMM_PAGE_SIZE))
		return r;
	if (!(gfp & KMM_GFP_DIRECT_RECLAIM))
		return size > KMALLOC_MAX_BYTES
		               ? error_set(ENOMEM, "%zu bytes come from vmalloc, which may wait: "
		                                   "ask with DIRECT_RECLAIM (GFP_KERNEL)",
		                           size)
		               : r;
	return vmalloc_alloc(k, size, area_gfp(gfp), caller, ret);
}

void *kmm_kvmalloc(struct kmm *k, size_t size, kmm_gfp_t gfp)
{
	const void *caller = __builtin_return_address(0);
	int saved = errno, r = session_enter(k);
	char text[ERROR_TEXT_MAX];
	void *p = NULL;

	if (r < 0)
		return errno_null(r);
	error_text_copy(text);
	r = bytes_gfp_check(gfp);
	if (r == 0) {
		r = -ENOMEM;
		if (size <= KMALLOC_MAX_BYTES) {
			p = kmm_kmalloc(k, size, first_gfp(size, gfp));
			r = p ? 0 : -errno;
		}
		if (!p)
			r = kvmalloc_areas(k, size, gfp, caller, r, &p);
	}
	if (r == 0)
		error_text_put(text);
	session_leave(k);
	errno = saved;
	return r < 0 ? errno_null(r) : p;
}

int kmm_kvfree(struct kmm *k, const void *p)
{
	int r = session_check(k);

	if (r < 0)
		return r;
	if (!p || (uintptr_t)p - (uintptr_t)k->window < k->window_size)
		return kmm_kfree(k, p);
	return kmm_vfree(k, p);
}

void *kmm_kernel_vmalloc(struct kmm *k, size_t size, kmm_gfp_t gfp)
{
	const void *caller = __builtin_return_address(0);
	int saved = errno, r = session_enter(k);
	void *p = NULL;

	if (r < 0)
		return errno_null(r);
	r = page_gfp_check(gfp, 0);
	if (r == 0 && (gfp & KMM_GFP_LOCAL))
		r = error_set(EINVAL, "gfp 0x%x: threads cache no areas: leave out LOCAL", gfp);
	if (r == 0)
		r = vmalloc_alloc(k, size, area_gfp(gfp), caller, &p);
	session_leave(k);
	errno = saved;
	return r < 0 ? errno_null(r) : p;
}

/* SPDX-License-Identifier: MIT */
/*
 * What is said of an address that is none of the pool's window, where it was taken for one: what it
 * is, if the library can tell, and which function takes it. Looked up only where a call has failed.
 */
#include "client/percpu.h"
#include "client/vmalloc.h"

int address_outside(struct kmm *k, const void *p)
{
	uintptr_t copy = (uintptr_t)p & ~KMM_PERCPU_1;
	uint32_t page;

	if (copy != (uintptr_t)p && copy >> 52 == 0)
		return error_set(EINVAL,
		                 "%p is a per-CPU pointer, no address: kmm_free_percpu (free_percpu) "
		                 "frees it, kmm_per_cpu_at (per_cpu_ptr) tells a copy's address",
		                 p);
	if (vmap_find(k, CONTROL_AREA_VMALLOC, p, &page))
		return error_set(EINVAL,
		                 "%p lies in a vmalloc area, outside the pool's window: kmm_vfree "
		                 "(vfree) frees it, kmm_vmalloc_to_page tells its pages",
		                 p);
	if (vmap_find(k, CONTROL_AREA_STACK, p, &page))
		return error_set(EINVAL,
		                 "%p lies in a stack, outside the pool's window: kmm_free_stack frees "
		                 "it",
		                 p);
	if (highmem_page(k, p, &page))
		return error_set(EINVAL,
		                 "%p is where a page of high memory is mapped: kmm_kunmap or "
		                 "kmm_kunmap_local ends that, and the page is freed by its struct",
		                 p);
	return error_set(EINVAL, "%p lies outside the pool's window", p);
}

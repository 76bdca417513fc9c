/* SPDX-License-Identifier: MIT */
/*
 * The kernel's names for libkmm: code that is written against Linux's memory API compiles against
 * this header, in C and in C++, and runs on kmmd's pool.
 *
 *	struct dog { char name[20]; int age; };
 *
 *	struct dog *p = kmalloc(sizeof *p, GFP_KERNEL);
 *	if (!p)
 *		return -ENOMEM;
 *	...
 *	kfree(p);
 *
 * Everything works on one session of the process, which the first use opens (kmm_kernel_session(), or
 * kmm_kernel_init() with options, see <kmm/kmm.h>); where there is no daemon, allocations fail. The
 * functions behave as in Linux where <kmm/kmm.h> does not say otherwise, with these differences:
 *
 *  - A failed allocation says why: errno, kmm_error_text(). So does a refused free, by errno and the
 *    text alone: the functions that are void in Linux are void here, and leave errno as it was when
 *    they did what they are for.
 *  - GFP_KERNEL waits for memory as long as the session's timeout (30 s by default), not for ever;
 *    nothing is ever killed for it. GFP_ATOMIC never waits.
 *  - In C++ what an allocation returns converts to any pointer, as void * does in C.
 *  - Names of caches are the domain's: another program that creates one of the same name and size
 *    shares it.
 *  - `page` is a read-only view of the daemon's: what the kernel keeps in struct page is not in it.
 *
 * More of the kernel's surroundings (module_init, printk, ...) come with KMM_KERNEL_MODULE:
 * <kmm/module.h>.
 */
#ifndef KMM_KERNEL_H
#define KMM_KERNEL_H

#include <kmm/kmm.h>
#include <kmm/percpu.h>

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#ifdef __cplusplus
#include <cstddef>
#include <type_traits>
#endif

/* ======================================== types ======================================== */

typedef kmm_gfp_t gfp_t;
typedef kmm_slab_flags_t slab_flags_t;

/* A struct kmm_page by another name. */
struct page {
	uint64_t kmm_private;
};

/* A struct kmm_cache. */
struct kmem_cache;

/* A struct kmm_mempool. */
typedef struct mempool_s mempool_t;

#ifdef __cplusplus
static_assert(sizeof(struct page) == sizeof(struct kmm_page), "page + i");
#else
_Static_assert(sizeof(struct page) == sizeof(struct kmm_page), "page + i");
#endif

#ifndef PAGE_SHIFT
#define PAGE_SHIFT KMM_PAGE_SHIFT
#endif
#ifndef PAGE_SIZE
#define PAGE_SIZE (1UL << PAGE_SHIFT)
#endif
#ifndef PAGE_MASK
#define PAGE_MASK (~(PAGE_SIZE - 1))
#endif
#ifndef PAGE_ALIGN
#define PAGE_ALIGN(x) (((x) + PAGE_SIZE - 1) & PAGE_MASK)
#endif
#define MAX_PAGE_ORDER KMM_MAX_ORDER
#define KMALLOC_MAX_SIZE (PAGE_SIZE << MAX_PAGE_ORDER)

/* ======================================== flags ======================================== */

#define __GFP_DMA KMM_GFP_DMA
#define __GFP_HIGHMEM KMM_GFP_HIGHMEM
#define __GFP_DMA32 KMM_GFP_DMA32
#define __GFP_MOVABLE KMM_GFP_MOVABLE
#define __GFP_RECLAIMABLE KMM_GFP_RECLAIMABLE
#define __GFP_HIGH KMM_GFP_HIGH
#define __GFP_IO KMM_GFP_IO
#define __GFP_FS KMM_GFP_FS
#define __GFP_ZERO KMM_GFP_ZERO
#define __GFP_DIRECT_RECLAIM KMM_GFP_DIRECT_RECLAIM
#define __GFP_KSWAPD_RECLAIM KMM_GFP_KSWAPD_RECLAIM
#define __GFP_RECLAIM KMM_GFP_RECLAIM
#define __GFP_WAIT KMM_GFP_WAIT
#define __GFP_WRITE KMM_GFP_WRITE
#define __GFP_NOWARN KMM_GFP_NOWARN
#define __GFP_RETRY_MAYFAIL KMM_GFP_RETRY_MAYFAIL
#define __GFP_NOFAIL KMM_GFP_NOFAIL
#define __GFP_NORETRY KMM_GFP_NORETRY
#define __GFP_MEMALLOC KMM_GFP_MEMALLOC
#define __GFP_COMP KMM_GFP_COMP
#define __GFP_NOMEMALLOC KMM_GFP_NOMEMALLOC
#define __GFP_HARDWALL KMM_GFP_HARDWALL
#define __GFP_THISNODE KMM_GFP_THISNODE
#define __GFP_ACCOUNT KMM_GFP_ACCOUNT

#define GFP_KERNEL KMM_GFP_KERNEL
#define GFP_KERNEL_ACCOUNT (KMM_GFP_KERNEL | KMM_GFP_ACCOUNT)
#define GFP_ATOMIC KMM_GFP_ATOMIC
#define GFP_NOWAIT KMM_GFP_NOWAIT
#define GFP_NOIO KMM_GFP_NOIO
#define GFP_NOFS KMM_GFP_NOFS
#define GFP_USER KMM_GFP_USER
#define GFP_DMA KMM_GFP_DMA
#define GFP_DMA32 KMM_GFP_DMA32
#define GFP_HIGHUSER KMM_GFP_HIGHUSER
#define GFP_HIGHUSER_MOVABLE KMM_GFP_HIGHUSER_MOVABLE

#define SLAB_CONSISTENCY_CHECKS KMM_SLAB_CONSISTENCY_CHECKS
#define SLAB_RED_ZONE KMM_SLAB_RED_ZONE
#define SLAB_POISON KMM_SLAB_POISON
#define SLAB_HWCACHE_ALIGN KMM_SLAB_HWCACHE_ALIGN
#define SLAB_CACHE_DMA KMM_SLAB_CACHE_DMA
#define SLAB_CACHE_DMA32 KMM_SLAB_CACHE_DMA32
#define SLAB_STORE_USER KMM_SLAB_STORE_USER
#define SLAB_RECLAIM_ACCOUNT KMM_SLAB_RECLAIM_ACCOUNT
#define SLAB_PANIC KMM_SLAB_PANIC
#define SLAB_MEM_SPREAD KMM_SLAB_MEM_SPREAD
#define SLAB_ACCOUNT KMM_SLAB_ACCOUNT

/* ================================ what functions take and return ======================= */

#ifdef __cplusplus
/* What an allocation returns: any pointer that is wanted; by a cast an integer. */
class kmm_any_pointer {
      public:
	explicit kmm_any_pointer(void *p) : p_(p) {}
	template <typename T> operator T *() const { return static_cast<T *>(p_); }
	template <typename I,
	          typename = typename std::enable_if<std::is_integral<I>::value &&
	                                             !std::is_same<I, bool>::value>::type>
	explicit operator I() const
	{
		return (I)(uintptr_t)p_;
	}
	explicit operator bool() const { return p_ != nullptr; }
	/* Exact matches, lest the language's own comparisons by way of a conversion be as good. */
	template <typename T> bool operator==(T *b) const { return p_ == b; }
	template <typename T> bool operator!=(T *b) const { return p_ != b; }
	bool operator==(std::nullptr_t) const { return !p_; }
	bool operator!=(std::nullptr_t) const { return p_; }
	bool operator==(kmm_any_pointer b) const { return p_ == b.p_; }
	bool operator!=(kmm_any_pointer b) const { return p_ != b.p_; }

      private:
	void *p_;
};
template <typename T> inline bool operator==(T *a, kmm_any_pointer b)
{
	return b == a;
}
template <typename T> inline bool operator!=(T *a, kmm_any_pointer b)
{
	return b != a;
}
inline bool operator==(std::nullptr_t, kmm_any_pointer b)
{
	return b == nullptr;
}
inline bool operator!=(std::nullptr_t, kmm_any_pointer b)
{
	return b != nullptr;
}
#define KMM_ANY kmm_any_pointer
#define KMM_ANY_OF(p) kmm_any_pointer(p)
#else
#define KMM_ANY void *
#define KMM_ANY_OF(p) (p)
/* An address as kernel code has it: a pointer, or an unsigned long. */
typedef union {
	const void *pointer;
	unsigned long number;
} kmm_address_t __attribute__((transparent_union));
#endif

/* How functions that are void in Linux tell of a refusal. */
static inline void kmm_refused(int r)
{
	if (__builtin_expect(r < 0, 0))
		errno = -r;
}

static inline struct kmm_page *kmm_page_of(const struct page *page)
{
	return (struct kmm_page *)(void *)page;
}

static inline struct page *kmm_page_as(struct kmm_page *page)
{
	return (struct page *)(void *)page;
}

static inline struct kmm_cache *kmm_cache_of(struct kmem_cache *c)
{
	return (struct kmm_cache *)(void *)c;
}

static inline struct kmem_cache *kmm_cache_as(struct kmm_cache *c)
{
	return (struct kmem_cache *)(void *)c;
}

/* ======================================== pages ======================================== */

static inline struct page *alloc_pages(gfp_t gfp, unsigned int order)
{
	struct kmm *k = kmm_kernel_session();

	return k ? kmm_page_as(kmm_alloc_pages(k, gfp, order)) : NULL;
}

static inline struct page *alloc_page(gfp_t gfp)
{
	return alloc_pages(gfp, 0);
}

/* Frees by the block's first page. NULL: nothing. */
static inline void __free_pages(struct page *page, unsigned int order)
{
	struct kmm *k = page ? kmm_kernel_session() : NULL;

	if (k)
		kmm_refused(kmm_free_pages(k, kmm_page_of(page), order));
}

static inline void __free_page(struct page *page)
{
	__free_pages(page, 0);
}

/* 0 on failure. */
static inline unsigned long __get_free_pages(gfp_t gfp, unsigned int order)
{
	struct kmm *k = kmm_kernel_session();

	return k ? (unsigned long)kmm_get_free_pages(k, gfp, order) : 0;
}

static inline unsigned long __get_free_page(gfp_t gfp)
{
	return __get_free_pages(gfp, 0);
}

static inline unsigned long get_free_page(gfp_t gfp)
{
	return __get_free_pages(gfp, 0);
}

static inline unsigned long get_zeroed_page(gfp_t gfp)
{
	return __get_free_pages(gfp | __GFP_ZERO, 0);
}

static inline void kmm_free_address(const void *addr, unsigned int order)
{
	struct kmm *k = addr ? kmm_kernel_session() : NULL;

	if (k)
		kmm_refused(kmm_free_page_addr(k, addr, order));
}

static inline struct page *kmm_page_at_address(const void *addr)
{
	struct kmm *k = kmm_kernel_session();

	return k ? kmm_page_as(kmm_virt_to_page(k, addr)) : NULL;
}

static inline struct page *kmm_head_at_address(const void *addr)
{
	struct kmm *k = kmm_kernel_session();
	struct kmm_page *page = k ? kmm_virt_to_page(k, addr) : NULL;

	return page ? kmm_page_as(kmm_kernel_head_page(k, page)) : NULL;
}

/* The page that an address, a pointer or an unsigned long, lies in; the first one of its block. Freeing a
 * block by its address. */
#ifdef __cplusplus
static inline struct page *virt_to_page(const void *addr)
{
	return kmm_page_at_address(addr);
}

static inline struct page *virt_to_page(unsigned long addr)
{
	return kmm_page_at_address((const void *)addr);
}

static inline struct page *virt_to_head_page(const void *addr)
{
	return kmm_head_at_address(addr);
}

static inline struct page *virt_to_head_page(unsigned long addr)
{
	return kmm_head_at_address((const void *)addr);
}

static inline void free_pages(unsigned long addr, unsigned int order)
{
	kmm_free_address((const void *)addr, order);
}

template <typename T> static inline void free_pages(T *addr, unsigned int order)
{
	kmm_free_address(addr, order);
}

static inline void free_page(unsigned long addr)
{
	kmm_free_address((const void *)addr, 0);
}

template <typename T> static inline void free_page(T *addr)
{
	kmm_free_address(addr, 0);
}
#else
static inline struct page *virt_to_page(kmm_address_t addr)
{
	return kmm_page_at_address(addr.pointer);
}

static inline struct page *virt_to_head_page(kmm_address_t addr)
{
	return kmm_head_at_address(addr.pointer);
}

static inline void free_pages(unsigned long addr, unsigned int order)
{
	kmm_free_address((const void *)addr, order);
}

static inline void free_page(unsigned long addr)
{
	free_pages(addr, 0);
}
#endif

/* NULL: a page of high memory that is not mapped. */
static inline KMM_ANY page_address(const struct page *page)
{
	struct kmm *k = kmm_kernel_session();

	return KMM_ANY_OF(k ? kmm_page_address(k, kmm_page_of(page)) : NULL);
}

static inline unsigned long page_to_pfn(const struct page *page)
{
	struct kmm *k = kmm_kernel_session();

	return k ? (unsigned long)kmm_page_to_pfn(k, kmm_page_of(page)) : ~0UL;
}

static inline struct page *pfn_to_page(unsigned long pfn)
{
	struct kmm *k = kmm_kernel_session();

	return k ? kmm_page_as(kmm_pfn_to_page(k, pfn)) : NULL;
}

/* 0: free, or no page. */
static inline int page_count(const struct page *page)
{
	struct kmm *k = kmm_kernel_session();
	int n = k ? kmm_page_count(k, kmm_page_of(page)) : 0;

	return n < 0 ? 0 : n;
}

/* One more holder; one less, the last one frees. */
static inline void get_page(struct page *page)
{
	struct kmm *k = kmm_kernel_session();

	if (k)
		kmm_refused(kmm_kernel_get_page(k, kmm_page_of(page)));
}

static inline void put_page(struct page *page)
{
	struct kmm *k = kmm_kernel_session();

	if (k)
		kmm_refused(kmm_kernel_put_page(k, kmm_page_of(page)));
}

/* ======================================== bytes ======================================== */

static inline KMM_ANY kmalloc(size_t size, gfp_t gfp)
{
	struct kmm *k = kmm_kernel_session();

	return KMM_ANY_OF(k ? kmm_kmalloc(k, size, gfp) : NULL);
}

static inline KMM_ANY kzalloc(size_t size, gfp_t gfp)
{
	return kmalloc(size, gfp | __GFP_ZERO);
}

/* Bytes of n things of that size; more than anything has, to be refused as such. */
static inline size_t kmm_array_size(size_t n, size_t size)
{
	size_t bytes;

	return __builtin_mul_overflow(n, size, &bytes) ? SIZE_MAX : bytes;
}

static inline KMM_ANY kmalloc_array(size_t n, size_t size, gfp_t gfp)
{
	return kmalloc(kmm_array_size(n, size), gfp);
}

static inline KMM_ANY kcalloc(size_t n, size_t size, gfp_t gfp)
{
	return kmalloc_array(n, size, gfp | __GFP_ZERO);
}

/* align: a power of two. */
static inline KMM_ANY kmalloc_align(size_t size, size_t align, gfp_t gfp)
{
	struct kmm *k = kmm_kernel_session();

	return KMM_ANY_OF(k ? kmm_kmalloc_aligned(k, size, align, gfp) : NULL);
}

static inline KMM_ANY krealloc(const void *p, size_t size, gfp_t gfp)
{
	struct kmm *k = kmm_kernel_session();

	return KMM_ANY_OF(k ? kmm_krealloc(k, p, size, gfp) : NULL);
}

static inline KMM_ANY krealloc_array(const void *p, size_t n, size_t size, gfp_t gfp)
{
	return krealloc(p, kmm_array_size(n, size), gfp);
}

static inline KMM_ANY kmemdup(const void *from, size_t size, gfp_t gfp)
{
	void *p = kmalloc(size, gfp);

	return KMM_ANY_OF(p ? memcpy(p, from, size) : NULL);
}

/* NULL: of none. */
static inline char *kstrdup(const char *from, gfp_t gfp)
{
	return from ? (char *)(void *)kmemdup(from, strlen(from) + 1, gfp) : NULL;
}

/* Zero bytes are an object as any other: no pointer but NULL stands for none. */
#define ZERO_OR_NULL_PTR(p) (!(p))

/* Also objects of any cache, and page blocks. */
static inline void kfree(const void *p)
{
	struct kmm *k = p ? kmm_kernel_session() : NULL;

	if (k)
		kmm_refused(kmm_kfree(k, p));
}

static inline void kfree_sensitive(const void *p)
{
	struct kmm *k = p ? kmm_kernel_session() : NULL;

	if (k)
		kmm_refused(kmm_kfree_sensitive(k, p));
}

static inline size_t ksize(const void *p)
{
	struct kmm *k = p ? kmm_kernel_session() : NULL;

	return k ? kmm_ksize(k, p) : 0;
}

/* NUMA_NO_NODE: any, the CPU's first. */
#define NUMA_NO_NODE (-1)

static inline struct page *alloc_pages_node(int nid, gfp_t gfp, unsigned int order)
{
	struct kmm *k = kmm_kernel_session();

	return k ? kmm_page_as(kmm_alloc_pages_node(k, gfp, order, nid)) : NULL;
}

static inline KMM_ANY kmalloc_node(size_t size, gfp_t gfp, int nid)
{
	struct kmm *k = kmm_kernel_session();

	return KMM_ANY_OF(k ? kmm_kmalloc_node(k, size, gfp, nid) : NULL);
}

static inline KMM_ANY kzalloc_node(size_t size, gfp_t gfp, int nid)
{
	return kmalloc_node(size, gfp | __GFP_ZERO, nid);
}

/* ======================================= vmalloc ======================================= */

static inline KMM_ANY vmalloc(unsigned long size)
{
	struct kmm *k = kmm_kernel_session();

	return KMM_ANY_OF(k ? kmm_vmalloc(k, size) : NULL);
}

static inline KMM_ANY vzalloc(unsigned long size)
{
	struct kmm *k = kmm_kernel_session();

	return KMM_ANY_OF(k ? kmm_vzalloc(k, size) : NULL);
}

static inline KMM_ANY __vmalloc(unsigned long size, gfp_t gfp)
{
	struct kmm *k = kmm_kernel_session();

	return KMM_ANY_OF(k ? kmm_kernel_vmalloc(k, size, gfp) : NULL);
}

/* For memory that is shown to others: zeroed. */
static inline KMM_ANY vmalloc_user(unsigned long size)
{
	return vzalloc(size);
}

/* The node is a wish, which areas do not look at. */
static inline KMM_ANY vmalloc_node(unsigned long size, int nid)
{
	(void)nid;
	return vmalloc(size);
}

static inline void vfree(const void *addr)
{
	struct kmm *k = addr ? kmm_kernel_session() : NULL;

	if (k)
		kmm_refused(kmm_vfree(k, addr));
}

static inline struct page *vmalloc_to_page(const void *addr)
{
	struct kmm *k = kmm_kernel_session();

	return k ? kmm_page_as(kmm_vmalloc_to_page(k, addr)) : NULL;
}

static inline bool is_vmalloc_addr(const void *addr)
{
	struct kmm *k = kmm_kernel_session();

	return k && kmm_is_vmalloc_addr(k, addr) > 0;
}

/* kmalloc where that is to be had, else vmalloc. */
static inline KMM_ANY kvmalloc(size_t size, gfp_t gfp)
{
	struct kmm *k = kmm_kernel_session();

	return KMM_ANY_OF(k ? kmm_kvmalloc(k, size, gfp) : NULL);
}

static inline KMM_ANY kvzalloc(size_t size, gfp_t gfp)
{
	return kvmalloc(size, gfp | __GFP_ZERO);
}

static inline KMM_ANY kvmalloc_array(size_t n, size_t size, gfp_t gfp)
{
	return kvmalloc(kmm_array_size(n, size), gfp);
}

static inline KMM_ANY kvcalloc(size_t n, size_t size, gfp_t gfp)
{
	return kvmalloc_array(n, size, gfp | __GFP_ZERO);
}

static inline void kvfree(const void *addr)
{
	struct kmm *k = addr ? kmm_kernel_session() : NULL;

	if (k)
		kmm_refused(kmm_kvfree(k, addr));
}

/* ===================================== high memory ===================================== */

static inline KMM_ANY kmap(struct page *page)
{
	struct kmm *k = kmm_kernel_session();

	return KMM_ANY_OF(k ? kmm_kmap(k, kmm_page_of(page)) : NULL);
}

static inline void kunmap(struct page *page)
{
	struct kmm *k = kmm_kernel_session();

	if (k)
		kmm_refused(kmm_kunmap(k, kmm_page_of(page)));
}

/* To be undone by address. kmap_atomic is its former name. */
static inline KMM_ANY kmap_local_page(struct page *page)
{
	struct kmm *k = kmm_kernel_session();

	return KMM_ANY_OF(k ? kmm_kmap_local(k, kmm_page_of(page)) : NULL);
}

static inline void kunmap_local(const void *addr)
{
	struct kmm *k = kmm_kernel_session();

	if (k)
		kmm_refused(kmm_kunmap_local(k, addr));
}

static inline KMM_ANY kmap_atomic(struct page *page)
{
	return kmap_local_page(page);
}

static inline void kunmap_atomic(const void *addr)
{
	kunmap_local(addr);
}

#include <kmm/kernel_percpu.h> /* per-CPU variables */
#include <kmm/kernel_slab.h> /* caches, mempools, shrinkers */

#ifdef KMM_KERNEL_MODULE
#include <kmm/module.h>
#endif
#endif

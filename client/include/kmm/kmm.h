/* SPDX-License-Identifier: MIT */
/*
 * libkmm: objects and pages of kmmd's pool for programs.
 *
 * kmmd owns a pool of shared memory and manages it as the kernel manages physical memory. A program
 * opens a session, is granted objects and blocks of 4 KiB frames, and reads and writes them directly:
 * the pool appears in a window of the program's address space, no byte passes through the daemon.
 * What it is granted travels between the processes of a domain by 64-bit handles. When a process
 * ends, however it ends, all that only it held is free again; when the daemon restarts, nothing is
 * lost and sessions come back by themselves.
 *
 *	struct kmm *k;
 *	int r = kmm_open(&k, NULL);
 *	if (r < 0)
 *		errx(1, "%s: %s", strerror(-r), kmm_error_text());
 *	struct kmm_cache *c = kmm_cache_create(k, "message", sizeof(struct message), 0, 0, NULL);
 *	struct message *m = kmm_cache_alloc(c, KMM_GFP_KERNEL);
 *	kmm_handle_t handle = kmm_handle(k, m);	(for another process, which calls kmm_adopt)
 *	...
 *	kmm_close(k);
 *
 * Domains. A domain is the set of processes that see each other's memory: they share its caches,
 * handles and names, and are protected from each other as little as threads are. There is one,
 * "default", of all who may connect to the daemon's socket; who is not to share memory with others
 * runs a daemon of his own.
 *
 * Rules for all functions
 *
 *  Results. Functions that return int return 0 or a negative errno value; kmm_fd, kmm_page_count
 *  and kmm_page_order a value >= 0 or a negative errno value. They leave errno alone. Functions that
 *  return a pointer, a handle, an id or a size return NULL or 0 on failure and set errno;
 *  kmm_page_to_pfn returns UINT64_MAX, because 0 is a frame. On success errno keeps its value. A
 *  bulk count above 0 and below what was asked is success in part and sets errno too. After each
 *  failure kmm_error_text() says in words what was wrong; success leaves the text alone.
 *
 *  Arguments. A session or output pointer that is NULL is EINVAL. Freeing or closing NULL does
 *  nothing and returns 0. Sizes are bytes, orders are 0 to KMM_MAX_ORDER (else EINVAL) and mean
 *  2^order frames, pfns count frames of the pool from 0. Strings passed in are copied; strings
 *  returned belong to the library.
 *
 *  Blocks, objects. A block is one grant of 2^order frames. It is named by its first byte or by its
 *  head page, an object by its first byte; an address inside is EINVAL where one is freed, handed on
 *  or held.
 *
 *  Errors that any call may give:
 *    EINVAL           an argument, size, order or flag makes no sense, or an address lies inside a
 *                     block or object
 *    EPERM            not owned by this session, or outside its domain
 *    ENOENT           nothing live there: a second free of the same block; no such cache or name
 *    ENOMEM           no memory now, and the request may not wait or can never be met; also when the
 *                     library itself gets no memory from the system
 *    ETIMEDOUT        the deadline passed while the call waited for memory
 *    ECANCELED        kmm_cancel, or kmm_close by another thread
 *    EDQUOT           a quota or limit of the session
 *    ESTALE           the handle of, or the former owner's claim to, something freed or adopted
 *    EBUSY            others hold it; it is mapped (kmm_kmap); of a cache: objects are live
 *    EEXIST           a cache or a name exists, and is another than is asked for; a shrinker is
 *                     registered
 *    ENOKEY           no constructed object of a cache that was opened without its constructor
 *    EFAULT           freed, but its red zone had been written over
 *    ESRCH            kmm_send: no such session
 *    ENOTSUP          high memory that is not mapped (kmm_kmap) has no address
 *    EDEADLK          not allowed in an event callback
 *    EAGAIN           the daemon stayed away beyond the timeout; nothing happened, try again
 *    EINPROGRESS      the daemon went away with the call; whether it was done shows after reconnect
 *    ENOTRECOVERABLE  the pool that the session lived in is gone; only kmm_close is left
 *    EOWNERDEAD       the session belongs to the process that this one was forked from
 *    EACCES           refused by the daemon's access rules
 *    EPROTO           library and daemon speak no common version, or the answer made no sense
 *
 *  Threads. All functions may be called by any thread at any time, none from a signal handler. All
 *  may be called from an event callback, except kmm_close and kmm_dispatch (-EDEADLK). The library
 *  has one thread of its own a session, with all signals blocked. It never prints and never ends the
 *  process (but for a KMM_SLAB_PANIC), never changes signal handlers, and raises no SIGPIPE.
 *
 *  Fork. The child has neither the sessions nor the memory of its parent: calls on an inherited
 *  session give EOWNERDEAD, kmm_close there releases only local memory, and the child may open
 *  sessions of its own.
 */
#ifndef KMM_KMM_H
#define KMM_KMM_H

#include <stddef.h>
#include <stdint.h>

#include <kmm/flags.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A session: one process's relation with the daemon. */
struct kmm;

/* A session's reference to a named cache of objects. */
struct kmm_cache;

/*
 * A page's descriptor, in memory that the daemon writes and the program can only read. The
 * descriptors of a pool are one array, in the order of the frames, so that page + i is the frame i
 * further on in a block. Single pages of high memory, which the daemon may move from frame to frame,
 * have descriptors of their own behind those. What is in it belongs to the library.
 */
struct kmm_page {
	uint64_t kmm_private;
};

typedef uint64_t kmm_handle_t;     /* 0: none */
typedef uint32_t kmm_session_id_t; /* as kmmctl prints it; 20 bits are used; 0: none */

#define KMM_PAGE_SHIFT 12
#define KMM_PAGE_SIZE  ((size_t)1 << KMM_PAGE_SHIFT)
#define KMM_MAX_ORDER  10u /* inclusive, as in Linux since 6.4 */
#define KMM_NAME_MAX   63u /* bytes of a name, without the NUL */

/* ======================================= session ======================================= */

struct kmm_options {
	size_t size;         /* sizeof(struct kmm_options). 0 is EINVAL; what lies beyond the
	                        structure that the library knows must be zero */
	const char *address; /* the daemon's socket. NULL: $KMM_ADDRESS, else /run/kmmd/kmmd.sock,
	                        else $XDG_RUNTIME_DIR/kmmd/kmmd.sock */
	const char *domain;  /* by name; NULL: the caller's default, at present the only one */
	const char *name;    /* at most KMM_NAME_MAX bytes, shown by kmmctl; NULL: the program's */
	uint32_t timeout_ms; /* of kmm_open and of every call; 0: 30000; UINT32_MAX: no limit */
	uint32_t flags;      /* none exist: 0, else EINVAL */
};

/*
 * Opens a session with the daemon; opts NULL: all defaults. *ret is the caller's until kmm_close
 * and is untouched on failure. A process may have several sessions. -ENOENT, -ECONNREFUSED: no
 * daemon there (at once; only an open session waits for its daemon), or for ENOENT no domain of that
 * name. -EINVAL options. -EACCES the daemon refuses this user. -EDQUOT too many sessions. -EPROTO
 * no common protocol version. -ETIMEDOUT no answer in time. -ENOMEM, -EMFILE from the system.
 */
int kmm_open(struct kmm **ret, const struct kmm_options *opts);

/*
 * Ends the session: calls of other threads that wait return ECANCELED, what only this session holds
 * is free when it returns, the window is unmapped. k and every page, pointer and handle that came
 * from it are invalid afterwards, and no other thread may still use them. NULL: 0. In a forked
 * child: releases local memory only. -EDEADLK from a callback of k. -EINPROGRESS: the daemon is
 * away; k is gone, what it held is free when the daemon comes back or this process ends.
 */
int kmm_close(struct kmm *k);

/*
 * Gives back to the daemon what the process's threads cache of freed blocks, and what freed vmalloc
 * areas and stacks keep: all threads' memory is free when it returns; other threads notice at their next
 * allocation. EAGAIN.
 */
int kmm_flush(struct kmm *k);

/* The text of the calling thread's last failure (in an event callback: of the event); "" if there
 * was none, never NULL. Valid until the thread's next kmm_ call. */
const char *kmm_error_text(void);

/* The library's version, "MAJOR.MINOR.PATCH". */
const char *kmm_version(void);

/* The session's id, the same after a restart of the daemon. 0 with EINVAL, EOWNERDEAD. */
kmm_session_id_t kmm_session_id(struct kmm *k);

/*
 * A descriptor that polls readable (POLLIN) while events or shrinkers wait for kmm_dispatch. The first
 * call moves callbacks from the library's thread to kmm_dispatch. It is k's: not to be read or closed,
 * and the same for k's life. -EMFILE.
 */
int kmm_fd(struct kmm *k);

/* Runs the callback for each queued event, and then shrinkers, in this thread; never waits. -EDEADLK from
 * a callback. */
int kmm_dispatch(struct kmm *k);

/* Timeout of the calling thread's further calls on k, in milliseconds; 0: back to the session's;
 * UINT32_MAX: no limit. -ENOMEM. */
int kmm_set_timeout(struct kmm *k, uint32_t timeout_ms);

/* Every call on k that waits now, for memory or for the daemon, returns ECANCELED. Later calls are
 * not affected. */
int kmm_cancel(struct kmm *k);

/* ======================================== pages ======================================== */

/*
 * Grants a block of 2^order frames and returns its head page, this session's until kmm_free_pages
 * or kmm_close. Orders 0 to 3 and 9 come from the thread's cache where it has one. With
 * DIRECT_RECLAIM the call waits in order of arrival until memory is freed, at most the timeout
 * (ETIMEDOUT); without it ENOMEM at once. What can never be met is ENOMEM at once too. EINVAL:
 * order, undefined or contradictory flags. EPERM: MEMALLOC. EDQUOT: the session's page quota.
 * Contents are undefined without KMM_GFP_ZERO. With KMM_GFP_HIGHMEM the block may be high memory,
 * which has no address until its pages are mapped: kmm_kmap.
 */
struct kmm_page *kmm_alloc_pages(struct kmm *k, kmm_gfp_t gfp, unsigned int order);

/*
 * kmm_alloc_pages from a node of the pool's memory: preferred, or with KMM_GFP_THISNODE that one alone.
 * node -1: any, the CPU's first, as kmm_alloc_pages. EINVAL: no such node. Another node's memory that
 * the thread caches is not used; what it does not cache of that node costs a call to the daemon.
 */
struct kmm_page *kmm_alloc_pages_node(struct kmm *k, kmm_gfp_t gfp, unsigned int order, int node);

/*
 * The machine (physical) address of the byte at p, which lies in a live block or object of the session's
 * domain: for devices that read and write by themselves. Blocks and objects of ZONE_DMA
 * (KMM_GFP_DMA) stay resident: they lie on hugetlb pages, or the daemon locks them. What is contiguous
 * in the pool is so in the machine as far as one page of the backing reaches (2 MiB of hugetlb).
 * 0 with *addr. -ENOTSUP: the system does not tell (it wants CAP_SYS_ADMIN), or the page is not in
 * memory; kmm_error_text() says which. -EINVAL: not in the window, as high memory never is. -ENOENT: free.
 */
int kmm_dma_address(struct kmm *k, const void *p, uint64_t *addr);

/*
 * Gives a block back: this session owns it no more. With other holders (kmm_get) the block lives on
 * for them. `order` must be the block's. NULL page: 0.
 * -EPERM not this session's. -ESTALE another session adopted it. -ENOENT not live: a double free.
 * -EINVAL no page of the pool, inside a block, or the wrong order. -EBUSY this session maps a page
 * of it: kmm_kunmap first (in Linux a bug without a message). Nothing changes on failure.
 * A daemon that is away is no failure: the block is marked given back.
 */
int kmm_free_pages(struct kmm *k, struct kmm_page *page, unsigned int order);

/* kmm_alloc_pages by address: the block's first byte. KMM_GFP_HIGHMEM, which has none, is EINVAL. */
void *kmm_get_free_pages(struct kmm *k, kmm_gfp_t gfp, unsigned int order);

/* kmm_free_pages by the block's first byte. NULL: 0. */
int kmm_free_page_addr(struct kmm *k, const void *addr, unsigned int order);

/*
 * The address of a page in this process, valid until kmm_close. Whether the page is granted is
 * not looked at. High memory: the address of kmm_kmap as long as this session has the page mapped,
 * else ENOTSUP. EINVAL: no page of the pool. EPERM: outside the domain.
 */
void *kmm_page_address(struct kmm *k, const struct kmm_page *page);

/* The page that an address lies in (not the head of its block), in the window or where kmm_kmap shows
 * it. EINVAL: in neither. EPERM: no memory of the domain there. */
struct kmm_page *kmm_virt_to_page(struct kmm *k, const void *addr);

/* The number of a page's frame. A single page of high memory has one as long as it is granted, and
 * another one at any moment in which nobody maps or holds it. UINT64_MAX with EINVAL: no page of the
 * pool; ENOENT: such a page, not granted. */
uint64_t kmm_page_to_pfn(struct kmm *k, const struct kmm_page *page);

/* A frame's page by number; in high memory the page that has the frame at the moment. EPERM: not a frame
 * of the session's domain. */
struct kmm_page *kmm_pfn_to_page(struct kmm *k, uint64_t pfn);

/*
 * How many hold the block that the page belongs to: its owner and every further session that holds
 * it by kmm_get (one each). 0: free, or cached by a thread. Asks the daemon only when there are
 * further holders. -EINVAL, -EPERM as above.
 */
int kmm_page_count(struct kmm *k, const struct kmm_page *page);

/* The order of the block that the page belongs to, which an adopter frees it with. -ENOENT: the
 * page is in no live block. */
int kmm_page_order(struct kmm *k, const struct kmm_page *page);

/*
 * Grants up to n blocks of one order: pages[0..r) are set, the rest is untouched, r is returned.
 * Waits for the first block only, as kmm_alloc_pages does. (Linux's alloc_pages_bulk fills NULL
 * slots; this does not.) 0 < r < n and r = 0 set errno; n = 0 returns 0 with errno unchanged.
 */
size_t kmm_alloc_pages_bulk(struct kmm *k, kmm_gfp_t gfp, unsigned int order, size_t n,
                            struct kmm_page *pages[]);

/*
 * Gives n blocks of one order back, all or none: each is checked as kmm_free_pages checks it, and
 * for being named twice, before the first is given back. A NULL entry is -EINVAL.
 */
int kmm_free_pages_bulk(struct kmm *k, unsigned int order, size_t n,
                        struct kmm_page *const pages[]);

/* ======================================== bytes ========================================
 *
 * kmalloc: memory of any size up to 4 MiB from the caches kmalloc-8 to kmalloc-8k (with 96 and
 * 192), above that from page blocks of whole orders. RECLAIMABLE takes the kmalloc-rcl- caches, DMA
 * the dma-kmalloc- ones, DMA32 page blocks of any size. A power of two is aligned to itself (at most
 * to a page), 96 and 192 to 32 and 64, blocks to pages. Objects cross between processes by handle as
 * blocks do.
 */

/*
 * At least `size` bytes, this session's until kmm_kfree. size 0: the smallest object. Mostly a few
 * instructions in the calling thread; else the daemon is asked for a magazine of objects. gfp as
 * for kmm_alloc_pages; HIGHMEM is EINVAL. Undefined contents without KMM_GFP_ZERO. EINVAL: above 4
 * MiB.
 */
void *kmm_kmalloc(struct kmm *k, size_t size, kmm_gfp_t gfp);

/* The same from a node, as kmm_alloc_pages_node. */
void *kmm_kmalloc_node(struct kmm *k, size_t size, kmm_gfp_t gfp, int node);

/* The same, aligned to `align`, a power of two up to 4 MiB (EINVAL). */
void *kmm_kmalloc_aligned(struct kmm *k, size_t size, size_t align, kmm_gfp_t gfp);

/*
 * Makes p `size` bytes long: in place when they fit what kmm_ksize says, else a new object with the
 * old contents, and p is freed. p NULL: kmm_kmalloc. size 0: the smallest object. KMM_GFP_ZERO:
 * what is new is zero. p must be this session's (EPERM, ENOENT, EINVAL as kmm_kfree); on failure it
 * stays as it was.
 */
void *kmm_krealloc(struct kmm *k, const void *p, size_t size, kmm_gfp_t gfp);

/*
 * Frees an object of any cache, or a page block by its first byte. NULL: 0. Refused, with nothing
 * changed: -EPERM not this session's, -ESTALE adopted by another, -EINVAL no object's first byte,
 * -ENOENT not live. A second free is noticed here in caches with KMM_SLAB_CONSISTENCY_CHECKS and
 * for blocks; elsewhere at the latest when the thread's magazine leaves it (KMM_EVENT_BAD_FREE),
 * and until then the thread may be handed the object twice, as by any malloc.
 * -EFAULT: freed, but its red zone had been written over.
 */
int kmm_kfree(struct kmm *k, const void *p);

/* kmm_kfree of what held secrets: it is written over before, unless others hold it. */
int kmm_kfree_sensitive(struct kmm *k, const void *p);

/* How many bytes are usable at p: of a kmalloc object its class, of another cache's the size it was
 * created with, of a block all of it. NULL: 0. 0 with EINVAL, ENOENT. */
size_t kmm_ksize(struct kmm *k, const void *p);

/* kmm_kmalloc, for up to 4 MiB; where that is not to be had at once, kmm_vmalloc, for requests of more
 * than a page that may wait. gfp as for kmm_kmalloc. */
void *kmm_kvmalloc(struct kmm *k, size_t size, kmm_gfp_t gfp);

/* Frees what either of them gave: kmm_kfree or kmm_vfree. NULL: 0. */
int kmm_kvfree(struct kmm *k, const void *p);

/* ======================================= vmalloc =======================================
 *
 * Memory in one piece for this process, of pages scattered over the pool: it succeeds where no block
 * of the size is free, at the price of system calls and page tables of its own. Areas are this
 * process's: they have no handles (their pages have), and end with the session. A page without access
 * lies behind each.
 *
 * In a pool of 2 MiB huge pages areas are made of whole huge pages and, for what is less than 1 MiB, of
 * pages of the high zones (highmem in the daemon's configuration); when these are exhausted an area may
 * be longer than asked for. A freed area stays mapped for the next of its size, and the daemon takes
 * its pages whenever it needs them; all such areas together are at most 32 MiB times the number of bits
 * of the number of CPUs, and a quarter of the pool.
 */

/*
 * At least `size` bytes (rounded up to pages), this session's until kmm_vfree; waits for memory as
 * KMM_GFP_KERNEL does. Undefined contents. EINVAL: size 0. ENOMEM: more than the pool can ever have, or
 * the process can have no more mappings (areas of all sessions take a quarter of vm.max_map_count).
 * EDQUOT, ETIMEDOUT, ECANCELED, EAGAIN, EMFILE.
 */
void *kmm_vmalloc(struct kmm *k, size_t size);

/* The same, zeroed. */
void *kmm_vzalloc(struct kmm *k, size_t size);

/* Frees an area by its first byte. NULL: 0. -EINVAL inside an area, or a stack. -ENOENT freed before.
 * -EPERM none of this session's areas. A daemon that is away is no failure. */
int kmm_vfree(struct kmm *k, const void *p);

/* The page that an address of an area lies in. EINVAL: in no area of this session. */
struct kmm_page *kmm_vmalloc_to_page(struct kmm *k, const void *p);

/* 1: the address lies in a vmalloc area of this session; 0: it does not. */
int kmm_is_vmalloc_addr(struct kmm *k, const void *p);

/* ======================================= stacks ======================================== */

/*
 * A stack of 2^order pages for a thread (pthread_attr_setstack) or for signal handlers (sigaltstack):
 * its low end, towards which it grows; this session's until kmm_free_stack. Below it lies a page without
 * access, except in a pool of huge pages without high memory to spare. Its lowest 8 bytes hold a magic
 * number, by which kmm_free_stack sees an overrun: whoever uses the stack leaves them alone. EINVAL:
 * order. Else as kmm_vmalloc.
 */
void *kmm_alloc_stack(struct kmm *k, unsigned int order);

/* Frees a stack that no thread runs on any more. NULL: 0. -EFAULT: freed, but it had been overrun, which
 * is also an event (KMM_EVENT_CORRUPT) and a line of the daemon's log. Errors of kmm_vfree. */
int kmm_free_stack(struct kmm *k, void *p);

/* ======================================= per CPU =======================================
 *
 * Memory that each CPU has a copy of. <kmm/percpu.h> has what is made for it: operations on the copy of
 * this CPU that need neither lock nor atomic instruction, static variables, exclusion on a CPU.
 */
struct kmm_percpu;

/*
 * Copies of `size` bytes (1 to 32 KiB; 16 KiB where there can be more than 128 CPUs), zeroed, aligned to
 * `align` (a power of two up to a page; 0: 8), for every CPU that there can be, up to 256. This
 * session's until kmm_free_percpu; may wait for memory as KMM_GFP_KERNEL does. What is returned is no
 * address: using it as one ends the program. EINVAL: size or align; the text names the limit. Errors of
 * kmm_alloc_pages.
 */
struct kmm_percpu *kmm_alloc_percpu(struct kmm *k, size_t size, size_t align);

/* Where a CPU's copy is, in this process. EINVAL: no per-CPU pointer of an open session, or no such CPU
 * (kmm_nr_cpus in <kmm/percpu.h>). */
void *kmm_per_cpu_ptr(struct kmm_percpu *pc, unsigned int cpu);

/* Frees all copies. NULL: 0. -ENOENT freed before. -EINVAL no per-CPU pointer, inside a variable, or
 * its session is closed. -EOWNERDEAD of the parent of this forked process. */
int kmm_free_percpu(struct kmm_percpu *pc);

/* ======================================== caches =======================================
 *
 * A cache serves objects of one size. It has a name, which is the domain's: every session that
 * creates or opens it allocates from the same one, and an object may be freed by another process
 * than the one that allocated it.
 */

/*
 * Creates the cache, or joins the one of that name: NULL with EEXIST when that has another size,
 * align, flags or presence of a constructor (the text names the difference). name: 1 to
 * KMM_NAME_MAX bytes without spaces or control characters, and not one of the pool's own
 * (kmalloc-..., dma-kmalloc-...: EINVAL; they may be opened). size 1 to 4 MiB. align: 0 for the
 * default (8), or a power of two up to 4 MiB, in steps of which objects then lie; with
 * KMM_SLAB_RED_ZONE up to 32 KiB. EINVAL with the reason. EDQUOT: too many caches.
 *
 * ctor: runs in the allocating thread, once for each object and the life of its slab; an object is
 * to be freed in its constructed state, and comes back so. (After the death of a process, what it
 * had is constructed again.) With KMM_GFP_ZERO an object of such a cache is EINVAL.
 *
 * The reference is the caller's until kmm_cache_destroy or kmm_close; each call makes one more of
 * the same pointer.
 */
struct kmm_cache *kmm_cache_create(struct kmm *k, const char *name, size_t size, size_t align,
                                   kmm_slab_flags_t flags, void (*ctor)(void *object));

/* Joins a cache by name. Of one with a constructor it serves constructed objects only (ENOKEY when
 * there is none). ENOENT. */
struct kmm_cache *kmm_cache_open(struct kmm *k, const char *name);

/*
 * Drops one reference. The last of all sessions removes the cache: -EBUSY while objects are live,
 * with how many and whose in the text, and the reference stays. Other threads may free meanwhile;
 * what they allocate is EINVAL. NULL: 0. A cache whose users all died goes by itself once its last
 * object is free.
 */
int kmm_cache_destroy(struct kmm_cache *c);

/* One object, this session's until it is freed. As kmm_kmalloc. */
void *kmm_cache_alloc(struct kmm_cache *c, kmm_gfp_t gfp);

/* The same from a node, as kmm_alloc_pages_node: an object whose slab lies there. */
void *kmm_cache_alloc_node(struct kmm_cache *c, kmm_gfp_t gfp, int node);

/* Frees an object of c, which may have been allocated by another session and adopted. NULL: 0.
 * Errors of kmm_kfree; -EINVAL also: an object of another cache. */
int kmm_cache_free(struct kmm_cache *c, void *p);

/* Up to n objects: p[0..r) are set, r is returned; waits for the first only. 0 < r < n and r = 0
 * set errno. */
size_t kmm_cache_alloc_bulk(struct kmm_cache *c, kmm_gfp_t gfp, size_t n, void *p[]);

/* Frees n objects, all or none: each is checked before the first is freed. A NULL entry is -EINVAL.
 * A pointer given twice in one call is a double free as any other. */
int kmm_cache_free_bulk(struct kmm_cache *c, size_t n, void *const p[]);

/* Gives back what idle threads, of this process and of others, the depot and empty slabs keep of the
 * cache. Others have a second to do so. */
int kmm_cache_shrink(struct kmm_cache *c);

/* The size that was asked for at creation. NULL: 0 with EINVAL. */
size_t kmm_cache_size(struct kmm_cache *c);

/* ===================================== high memory ===================================== */

/*
 * Maps a page of a block and returns its address; the block is this session's, or another's that is
 * live. High memory: the same address each time while it is mapped, whichever threads map it; each
 * kmm_kmap is undone by one kmm_kunmap, and from the last one on the address must not be used. A single
 * page stays in its frame while it is mapped: its owner's mapping keeps it from being handed on, and
 * for any other session it is held meanwhile as by kmm_get. Of a larger block each page (head + i) is
 * mapped for itself. Other memory: its address in the window, and nothing to undo.
 * Mapping a page that was mapped lately and was not moved costs no system call.
 * EINVAL: no page of the pool. ENOENT: in no live block. EPERM: outside the domain. ENOMEM: all
 * mappings that a session can have (4096) are in use, or the system refused one. EDQUOT: too many
 * holds. EMFILE. EOVERFLOW: mapped 2^31 times. EAGAIN, EINPROGRESS.
 */
void *kmm_kmap(struct kmm *k, struct kmm_page *page);

/* Undoes one kmm_kmap of the page, in any thread. Memory that is not high: 0. -ENOENT: it is not
 * mapped. -EINVAL no page of the pool. -EPERM outside the domain. A daemon that is away is no
 * failure. */
int kmm_kunmap(struct kmm *k, struct kmm_page *page);

/* kmm_kmap, to be undone by address: any address in the page will do. (In Linux the mapping is the
 * thread's, and undone in reverse order; here neither matters.) -EINVAL: nothing is mapped there. */
void *kmm_kmap_local(struct kmm *k, struct kmm_page *page);
int kmm_kunmap_local(struct kmm *k, const void *addr);

/* ======================================= sharing =======================================
 *
 * p is a block's or an object's first byte or, for a HighMem block, which has none, its struct
 * kmm_page * (while it is mapped, its address will do). The same form is returned; for a HighMem block
 * always the page. What is said of blocks holds for objects. A handle is a number that any session of
 * the domain can use; it may be passed in any way, also through shared memory. An object that was freed
 * is ENOENT at once in caches with KMM_SLAB_CONSISTENCY_CHECKS; in others its address is not told from
 * a live one's while the freeing thread keeps it. Handles that were made of it are stale in all.
 */

/*
 * The handle of a block, for others to look at or adopt; the same each time until the owner
 * changes. Only the owner may: EPERM. ENOENT not live, EINVAL inside a block.
 */
kmm_handle_t kmm_handle(struct kmm *k, const void *p);

/*
 * Where the handle's block is in this process. It does not keep the block: who cannot be sure that
 * somebody holds it meanwhile uses kmm_get_handle. ESTALE: freed or adopted, or a number that
 * kmm_handle never gave (the text says which, where it can be told). ENOENT: beyond the domain's
 * memory. EINVAL: handle 0.
 */
void *kmm_pointer(struct kmm *k, kmm_handle_t handle);

/*
 * Makes this session the owner: the handle is stale from then on, and the former owner's free gives
 * ESTALE. Exactly one of several that try succeeds. An own handle takes the block back. The order
 * for kmm_free_pages is kmm_page_order's. EBUSY: held by kmm_get or a name; a single page of high
 * memory that its owner, or another session, this one included, has mapped (kmm_kmap). ESTALE,
 * ENOENT, EINVAL as kmm_pointer.
 */
void *kmm_adopt(struct kmm *k, kmm_handle_t handle);

/* Tries each: p[i] is what kmm_adopt returns, NULL where it failed. Returns how many were adopted;
 * fewer than n sets errno to the first failure's. */
size_t kmm_adopt_bulk(struct kmm *k, size_t n, const kmm_handle_t handles[], void *p[]);

/*
 * Makes a live session of the same domain the owner, charged to its quota: a message that survives
 * its sender. A handle made before stays valid for the new owner, so make it before: afterwards it
 * is EPERM. -EPERM not the owner. -ESRCH no such session. -EDQUOT its quota, nothing moved.
 * -EBUSY a single page of high memory that this session maps. -EAGAIN, -EINPROGRESS.
 */
int kmm_send(struct kmm *k, const void *p, kmm_session_id_t session);

/*
 * Holds a block once more: it lives until the owner freed it and every hold is put. Any session
 * that has a live pointer may. Holds are counted here; the daemon sees a session's first and last.
 * While a block is held it cannot be adopted. -ENOENT not live. -EDQUOT too many holds. -EINVAL
 * inside a block.
 */
int kmm_get(struct kmm *k, const void *p);

/* kmm_pointer and kmm_get in one step, without a moment between in which the block could die.
 * Errors of both. */
void *kmm_get_handle(struct kmm *k, kmm_handle_t handle);

/* Drops one hold of this session; the last of all frees an ownerless block. -EPERM: it has none (that
 * of a mapping is kmm_kunmap's). */
int kmm_put(struct kmm *k, const void *p);

/*
 * Gives the thing a name in the domain, which holds it: it lives until the name is gone, also after
 * this process. The owner or a holder may (-EPERM). -EEXIST the name is taken by something else; the
 * text says what, and whose.
 * -EINVAL empty or longer than KMM_NAME_MAX. -EDQUOT too many names. -ENOENT not live.
 */
int kmm_publish(struct kmm *k, const char *name, const void *p);

/* The handle of what has that name; see kmm_get_handle. ENOENT, EINVAL. */
kmm_handle_t kmm_lookup(struct kmm *k, const char *name);

/* Takes a name away; any session of the publisher's user may (-EPERM). -ENOENT. */
int kmm_unpublish(struct kmm *k, const char *name);

/* ======================================= mempools ======================================
 *
 * A reserve of objects of a cache for those that must get on whatever happens to memory: as many
 * objects as the reserve has can be out at any time. The reserve stays in the process: neither
 * pressure nor kmm_flush nor `kmmctl drop-caches` concern it. For the daemon its objects are in use.
 */
struct kmm_mempool;

/*
 * Makes a pool with a reserve of min_nr objects (0: one), which are allocated at once, waiting as
 * KMM_GFP_KERNEL does. The pool is the caller's until kmm_mempool_destroy or kmm_close. It takes no
 * reference of the cache: destroy the pool first. EINVAL: c. ENOMEM, ETIMEDOUT, EDQUOT: no memory for
 * the reserve.
 */
struct kmm_mempool *kmm_mempool_create(struct kmm_cache *c, size_t min_nr);

/*
 * An object: from the cache, without waiting; else from the reserve; else, with DIRECT_RECLAIM, the
 * first that another thread frees to the pool or for which there is memory, at most the timeout
 * (ETIMEDOUT). gfp as for kmm_cache_alloc; with KMM_GFP_LOCAL nobody but the thread's cache and the
 * reserve is asked. ENOMEM: the request may not wait.
 */
void *kmm_mempool_alloc(struct kmm_mempool *pool, kmm_gfp_t gfp);

/*
 * Frees an object that kmm_mempool_alloc gave: to who waits for one, to the reserve as long as it is
 * short, else to the cache. NULL: 0. Errors of kmm_cache_free; -EINVAL also: none is out. What is in
 * the reserve already is -ENOENT.
 */
int kmm_mempool_free(struct kmm_mempool *pool, void *p);

/*
 * Ends the pool; the reserve goes to the cache. No other thread may still use it. NULL: 0. -EBUSY:
 * objects are out (those that were handed to another session or freed otherwise still count).
 */
int kmm_mempool_destroy(struct kmm_mempool *pool);

/* ====================================== shrinkers ======================================
 *
 * Who keeps what he could do without registers a shrinker, which is called when somebody in the
 * domain waits for memory, with what KMM_GFP_FS is part of. The two functions are called by the
 * library's own thread, or by kmm_dispatch once kmm_fd was called: one shrinker at a time, and again,
 * for more and more, as long as requests wait. kmm_ functions may be called in them, except
 * kmm_close and kmm_dispatch (-EDEADLK); requests there are treated as KMM_GFP_NOFS and do not wait.
 * A lock that is also held over an allocation that waits should be tried, not waited for.
 */
struct kmm_shrinker {
	/* How many things could be freed now; 0: none. gfp: of a request that waits. */
	size_t (*count)(struct kmm_shrinker *s, kmm_gfp_t gfp);
	/* Frees up to nr_to_scan: how many it did. SIZE_MAX: stop, nothing can be freed now. */
	size_t (*scan)(struct kmm_shrinker *s, size_t nr_to_scan, kmm_gfp_t gfp);
	int seeks; /* what a thing costs to make again, in seeks of a disk: 0 stands for 2. Of a dear
	              one less is asked for */
	void *private_data;
};

/* *s is the caller's and is not to change until it is unregistered. -EINVAL: NULL, a function is
 * missing, seeks below 0. -EEXIST: it is registered. -ENOMEM. */
int kmm_register_shrinker(struct kmm *k, struct kmm_shrinker *s);

/* On return its functions run no more (unless this is called by one of them). -ENOENT: it is not
 * registered. -EINVAL. */
int kmm_unregister_shrinker(struct kmm *k, struct kmm_shrinker *s);

/* ======================================== events ======================================= */

enum kmm_event {
	KMM_EVENT_PRESSURE = 1, /* somebody waits for memory: give back what can be spared */
	KMM_EVENT_DOWN = 2,     /* the daemon is away; memory in hand stays usable */
	KMM_EVENT_UP = 3,       /* it is back, with everything as before */
	KMM_EVENT_LOST = 4,     /* the pool is gone; every later call gives ENOTRECOVERABLE */
	KMM_EVENT_BAD_FREE = 5, /* a double free found when a magazine left its thread; in caches with
	                           debug flags each free that is refused: double, or not the owner's */
	KMM_EVENT_CORRUPT = 6   /* an overrun or use after free found in a cache with debug flags, or
	                           an overrun of a stack */
};
typedef void (*kmm_event_fn)(struct kmm *k, enum kmm_event event, void *arg);

/*
 * Sets the session's callback; NULL removes it. On return the former one runs no more (except when
 * called from within it). It runs in kmm_dispatch once kmm_fd was called, before that in the
 * library's own thread, where it should be short: one event at a time, in order. kmm_error_text()
 * has the detail. Events without a callback are dropped; repeated PRESSURE is queued once.
 */
int kmm_on_event(struct kmm *k, kmm_event_fn fn, void *arg);

#ifdef __cplusplus
}
#endif

#include <kmm/kernel_session.h>

#if defined(__GNUC__) && !defined(KMM_NO_INLINE)
#include <kmm/inline.h>
#endif
#endif

/* SPDX-License-Identifier: MIT */
/*
 * libkmm: pages of kmmd's pool for programs.
 *
 * kmmd owns a pool of shared memory and manages it as the kernel manages physical memory. A program
 * opens a session, is granted blocks of 4 KiB frames, and reads and writes them directly: the pool
 * appears in a window of the program's address space, no byte passes through the daemon. Blocks
 * travel between the processes of a domain by 64-bit handles. When a process ends, however it ends,
 * all that only it held is free again; when the daemon restarts, nothing is lost and sessions come
 * back by themselves.
 *
 *	struct kmm *k;
 *	int r = kmm_open(&k, NULL);
 *	if (r < 0)
 *		errx(1, "%s: %s", strerror(-r), kmm_error_text());
 *	struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_KERNEL, 0);
 *	char *bytes = kmm_page_address(k, page);
 *	...
 *	kmm_free_pages(k, page, 0);
 *	kmm_close(k);
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
 *  Blocks. A block is one grant of 2^order frames. It is named by its first byte or by its head
 *  page; an address inside it is EINVAL where a block is freed, handed on or held.
 *
 *  Errors that any call may give:
 *    EINVAL           an argument, order or flag makes no sense, or an address lies inside a block
 *    EPERM            not owned by this session, or outside its domain
 *    ENOENT           nothing live there: a second free of the same block
 *    ENOMEM           no memory now, and the request may not wait or can never be met; also when the
 *                     library itself gets no memory from the system
 *    ETIMEDOUT        the deadline passed while the call waited for memory
 *    ECANCELED        kmm_cancel, or kmm_close by another thread
 *    EDQUOT           a quota or limit of the session
 *    ESTALE           the handle of, or the former owner's claim to, something freed or adopted
 *    EBUSY            others hold it
 *    EAGAIN           the daemon stayed away beyond the timeout; nothing happened, try again
 *    EINPROGRESS      the daemon went away with the call; whether it was done shows after reconnect
 *    ENOTRECOVERABLE  the pool that the session lived in is gone; only kmm_close is left
 *    EOWNERDEAD       the session belongs to the process that this one was forked from
 *    EACCES           refused by the daemon's access rules
 *    EPROTO           library and daemon speak no common version, or the answer made no sense
 *
 *  Threads. All functions may be called by any thread at any time, none from a signal handler. All
 *  may be called from an event callback, except kmm_close and kmm_dispatch (-EDEADLK). The library
 *  has one thread of its own a session, with all signals blocked. It never prints, never ends the
 *  process, never changes signal handlers, and raises no SIGPIPE.
 *
 *  Fork. The child has neither the sessions nor the memory of its parent: calls on an inherited
 *  session give EOWNERDEAD, kmm_close there releases only local memory, and the child may open
 *  sessions of its own.
 */
#ifndef KMM_KMM_H
#define KMM_KMM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A session: one process's relation with the daemon. */
struct kmm;

/*
 * A frame's descriptor, in memory that the daemon writes and the program can only read. The
 * descriptors of a pool are one array in the order of the frames, so that page + i is the frame i
 * further on. What is in it belongs to the library.
 */
struct kmm_page {
	uint64_t kmm_private;
};

typedef uint32_t kmm_gfp_t;
typedef uint64_t kmm_handle_t;     /* 0: none */
typedef uint32_t kmm_session_id_t; /* as kmmctl prints it; 20 bits are used; 0: none */

/*
 * What an allocation may do and where it may come from. Names and values are Linux's
 * (include/linux/gfp_types.h); Linux's __GFP_X and GFP_X are both KMM_GFP_X here.
 *
 * Zone: none of DMA, DMA32 and HIGHMEM means Normal or below; at most one of the three may be
 * given; MOVABLE with HIGHMEM means the Movable zone. Mobility: MOVABLE or RECLAIMABLE, not both.
 */
#define KMM_GFP_DMA            ((kmm_gfp_t)0x00000001u) /* from ZONE_DMA only */
#define KMM_GFP_HIGHMEM        ((kmm_gfp_t)0x00000002u) /* memory without an address is welcome */
#define KMM_GFP_DMA32          ((kmm_gfp_t)0x00000004u) /* pool addresses below ZONE_DMA32's end */
#define KMM_GFP_MOVABLE        ((kmm_gfp_t)0x00000008u) /* grouped with what may move */
#define KMM_GFP_RECLAIMABLE    ((kmm_gfp_t)0x00000010u) /* grouped with what can be reclaimed */
#define KMM_GFP_HIGH           ((kmm_gfp_t)0x00000020u) /* may use half of the reserve */
#define KMM_GFP_IO             ((kmm_gfp_t)0x00000040u) /* reclaim may write to the spill file */
#define KMM_GFP_FS             ((kmm_gfp_t)0x00000080u) /* reclaim may call clients back */
#define KMM_GFP_ZERO           ((kmm_gfp_t)0x00000100u) /* zeroed, by the calling thread */
#define KMM_GFP_DIRECT_RECLAIM ((kmm_gfp_t)0x00000400u) /* the call may wait for memory */
#define KMM_GFP_KSWAPD_RECLAIM ((kmm_gfp_t)0x00000800u) /* may wake background reclaim */
#define KMM_GFP_WRITE          ((kmm_gfp_t)0x00001000u) /* accepted, without effect */
#define KMM_GFP_NOWARN         ((kmm_gfp_t)0x00002000u) /* the daemon logs no failure of it */
#define KMM_GFP_RETRY_MAYFAIL  ((kmm_gfp_t)0x00004000u) /* try hard, but fail in the end */
#define KMM_GFP_NOFAIL         ((kmm_gfp_t)0x00008000u) /* wait as long as the timeout allows */
#define KMM_GFP_NORETRY        ((kmm_gfp_t)0x00010000u) /* one attempt, then ENOMEM */
#define KMM_GFP_MEMALLOC       ((kmm_gfp_t)0x00020000u) /* the daemon's own: EPERM */
#define KMM_GFP_COMP           ((kmm_gfp_t)0x00040000u) /* accepted: every block is compound */
#define KMM_GFP_NOMEMALLOC     ((kmm_gfp_t)0x00080000u) /* never from reserves */
#define KMM_GFP_HARDWALL       ((kmm_gfp_t)0x00100000u) /* accepted, without effect */
#define KMM_GFP_THISNODE       ((kmm_gfp_t)0x00200000u) /* the nearest node or none */
#define KMM_GFP_ACCOUNT        ((kmm_gfp_t)0x00400000u) /* accepted: everything is accounted */
#define KMM_GFP_LOCAL          ((kmm_gfp_t)0x80000000u) /* only what this thread caches: no system
                                                           call, else ENOMEM; kmmd's own flag */

#define KMM_GFP_RECLAIM  (KMM_GFP_DIRECT_RECLAIM | KMM_GFP_KSWAPD_RECLAIM)
#define KMM_GFP_WAIT     KMM_GFP_RECLAIM
#define KMM_GFP_KERNEL   (KMM_GFP_RECLAIM | KMM_GFP_IO | KMM_GFP_FS)
#define KMM_GFP_ATOMIC   (KMM_GFP_HIGH | KMM_GFP_KSWAPD_RECLAIM)
#define KMM_GFP_NOWAIT   (KMM_GFP_KSWAPD_RECLAIM | KMM_GFP_NOWARN)
#define KMM_GFP_NOIO     KMM_GFP_RECLAIM
#define KMM_GFP_NOFS     (KMM_GFP_RECLAIM | KMM_GFP_IO)
#define KMM_GFP_USER     (KMM_GFP_KERNEL | KMM_GFP_HARDWALL)
#define KMM_GFP_HIGHUSER (KMM_GFP_USER | KMM_GFP_HIGHMEM)
#define KMM_GFP_HIGHUSER_MOVABLE (KMM_GFP_HIGHUSER | KMM_GFP_MOVABLE)

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
	const char *domain;  /* trust domain by name; NULL: the caller's default */
	const char *name;    /* at most KMM_NAME_MAX bytes, shown by kmmctl; NULL: the program's */
	uint32_t timeout_ms; /* of kmm_open and of every call; 0: 30000; UINT32_MAX: no limit */
	uint32_t flags;      /* none exist: 0, else EINVAL */
};

/*
 * Opens a session with the daemon; opts NULL: all defaults. *ret is the caller's until kmm_close
 * and is untouched on failure. A process may have several sessions. -ENOENT, -ECONNREFUSED: no
 * daemon there (at once; only an open session waits for its daemon). -EINVAL options. -EACCES the
 * daemon refuses this user. -EDQUOT too many sessions. -EPROTO no common protocol version.
 * -ETIMEDOUT no answer in time. -ENOMEM, -EMFILE from the system.
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
 * Gives back to the daemon what the process's threads cache of freed blocks: all threads' memory is
 * free when it returns; other threads notice at their next allocation. EAGAIN.
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
 * A descriptor that polls readable (POLLIN) while events wait for kmm_dispatch. The first call
 * moves callbacks from the library's thread to kmm_dispatch. It is k's: not to be read or closed,
 * and the same for k's life. -EMFILE.
 */
int kmm_fd(struct kmm *k);

/* Runs the callback for each queued event in this thread; never waits. -EDEADLK from a callback. */
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
 * Contents are undefined without KMM_GFP_ZERO. A zeroed HighMem block: ENOTSUP where the memory
 * cannot be reached.
 */
struct kmm_page *kmm_alloc_pages(struct kmm *k, kmm_gfp_t gfp, unsigned int order);

/*
 * Gives a block back: this session owns it no more. With other holders (kmm_get) the block lives on
 * for them. `order` must be the block's. NULL page: 0.
 * -EPERM not this session's. -ESTALE another session adopted it. -ENOENT not live: a double free.
 * -EINVAL no page of the pool, inside a block, or the wrong order. Nothing changes on failure.
 * A daemon that is away is no failure: the block is marked given back.
 */
int kmm_free_pages(struct kmm *k, struct kmm_page *page, unsigned int order);

/* kmm_alloc_pages by address: the block's first byte. KMM_GFP_HIGHMEM, which has none, is EINVAL. */
void *kmm_get_free_pages(struct kmm *k, kmm_gfp_t gfp, unsigned int order);

/* kmm_free_pages by the block's first byte. NULL: 0. */
int kmm_free_page_addr(struct kmm *k, const void *addr, unsigned int order);

/*
 * The address of a frame in this process, valid until kmm_close. Whether the frame is granted is
 * not looked at. ENOTSUP: a HighMem frame has none. EINVAL: no page of the pool. EPERM: outside the
 * domain.
 */
void *kmm_page_address(struct kmm *k, const struct kmm_page *page);

/* The frame that an address lies in (not the head of its block). EINVAL: not in the window. EPERM:
 * no memory of the domain there. */
struct kmm_page *kmm_virt_to_page(struct kmm *k, const void *addr);

/* A frame's number. UINT64_MAX with EINVAL: no page of the pool. */
uint64_t kmm_page_to_pfn(struct kmm *k, const struct kmm_page *page);

/* A frame's page by number. EPERM: not a frame of the session's domain. */
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

/* ======================================= sharing =======================================
 *
 * p is a block's first byte or, for a HighMem block, which has none, its struct kmm_page *. The
 * same form is returned. A handle is a number that any session of the domain can use; it may be
 * passed in any way, also through shared memory.
 */

/*
 * The handle of a block, for others to look at or adopt; the same each time until the owner
 * changes. Only the owner may: EPERM. ENOENT not live, EINVAL inside a block.
 */
kmm_handle_t kmm_handle(struct kmm *k, const void *p);

/*
 * Where the handle's block is in this process. It does not keep the block: who cannot be sure that
 * somebody holds it meanwhile uses kmm_get_handle. ESTALE: freed or adopted. ENOENT: no such place.
 * EINVAL: handle 0.
 */
void *kmm_pointer(struct kmm *k, kmm_handle_t handle);

/*
 * Makes this session the owner: the handle is stale from then on, and the former owner's free gives
 * ESTALE. Exactly one of several that try succeeds. An own handle takes the block back. The order
 * for kmm_free_pages is kmm_page_order's. EBUSY: held by kmm_get. ESTALE, ENOENT, EINVAL as
 * kmm_pointer.
 */
void *kmm_adopt(struct kmm *k, kmm_handle_t handle);

/* Tries each: p[i] is what kmm_adopt returns, NULL where it failed. Returns how many were adopted;
 * fewer than n sets errno to the first failure's. */
size_t kmm_adopt_bulk(struct kmm *k, size_t n, const kmm_handle_t handles[], void *p[]);

/*
 * Makes a live session of the same domain the owner, charged to its quota: a message that survives
 * its sender. A handle made before stays valid for the new owner, so make it before: afterwards it
 * is EPERM. -EPERM not the owner. -ESRCH no such session. -EDQUOT its quota, nothing moved.
 * -EAGAIN, -EINPROGRESS.
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

/* Drops one hold of this session; the last of all frees an ownerless block. -EPERM: it has none. */
int kmm_put(struct kmm *k, const void *p);

/* ======================================== events ======================================= */

enum kmm_event {
	KMM_EVENT_PRESSURE = 1, /* somebody waits for memory: give back what can be spared */
	KMM_EVENT_DOWN = 2,     /* the daemon is away; memory in hand stays usable */
	KMM_EVENT_UP = 3,       /* it is back, with everything as before */
	KMM_EVENT_LOST = 4,     /* the pool is gone; every later call gives ENOTRECOVERABLE */
	KMM_EVENT_BAD_FREE = 5  /* a double free found when a magazine left its thread */
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
#endif

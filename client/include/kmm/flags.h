/* SPDX-License-Identifier: MIT */
/* Flags of allocations (KMM_GFP_*) and of caches (KMM_SLAB_*); included by <kmm/kmm.h>. */
#ifndef KMM_FLAGS_H
#define KMM_FLAGS_H

#include <stdint.h>

typedef uint32_t kmm_gfp_t;

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
#define KMM_GFP_IO             ((kmm_gfp_t)0x00000040u) /* pages may be moved for it (compaction) */
#define KMM_GFP_FS             ((kmm_gfp_t)0x00000080u) /* shrinkers may be called for it */
#define KMM_GFP_ZERO           ((kmm_gfp_t)0x00000100u) /* zeroed, by the calling thread */
#define KMM_GFP_DIRECT_RECLAIM ((kmm_gfp_t)0x00000400u) /* the call may wait for memory */
#define KMM_GFP_KSWAPD_RECLAIM ((kmm_gfp_t)0x00000800u) /* may wake background reclaim */
#define KMM_GFP_WRITE          ((kmm_gfp_t)0x00001000u) /* accepted, without effect */
#define KMM_GFP_NOWARN         ((kmm_gfp_t)0x00002000u) /* the daemon logs no failure of it */
#define KMM_GFP_RETRY_MAYFAIL  ((kmm_gfp_t)0x00004000u) /* try hard, but fail in the end */
#define KMM_GFP_NOFAIL         ((kmm_gfp_t)0x00008000u) /* wait, whatever the timeout says */
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

/*
 * What a cache is like. Names and values are Linux's (include/linux/slab.h).
 *
 * The four debugging flags cost time in every allocation and free; all but CONSISTENCY_CHECKS also
 * change an object's layout, so they are given at creation only. The daemon's configuration can add
 * them to caches by name (slab_debug).
 */
typedef uint32_t kmm_slab_flags_t;
#define KMM_SLAB_CONSISTENCY_CHECKS ((kmm_slab_flags_t)0x00000100u) /* a double free is refused at
                                                                       once, and told as an event */
#define KMM_SLAB_RED_ZONE           ((kmm_slab_flags_t)0x00000400u) /* an overrun shows at free */
#define KMM_SLAB_POISON             ((kmm_slab_flags_t)0x00000800u) /* a use after free shows at the
                                                                       next allocation; not with a
                                                                       constructor */
#define KMM_SLAB_HWCACHE_ALIGN      ((kmm_slab_flags_t)0x00002000u) /* cache lines are not shared */
#define KMM_SLAB_CACHE_DMA          ((kmm_slab_flags_t)0x00004000u) /* from ZONE_DMA */
#define KMM_SLAB_CACHE_DMA32        ((kmm_slab_flags_t)0x00008000u) /* below ZONE_DMA32's end */
#define KMM_SLAB_STORE_USER         ((kmm_slab_flags_t)0x00010000u) /* remembers who allocated and
                                                                       who freed */
#define KMM_SLAB_RECLAIM_ACCOUNT    ((kmm_slab_flags_t)0x00020000u) /* grouped with what can be
                                                                       reclaimed */
#define KMM_SLAB_PANIC              ((kmm_slab_flags_t)0x00040000u) /* failing to create it aborts
                                                                       the program */
#define KMM_SLAB_MEM_SPREAD         ((kmm_slab_flags_t)0x00100000u) /* slabs go round the nodes */
#define KMM_SLAB_ACCOUNT            ((kmm_slab_flags_t)0x04000000u) /* accepted: everything is
                                                                       accounted */

#endif

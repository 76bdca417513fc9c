/* SPDX-License-Identifier: MIT */
/*
 * When pages of HighMem and Movable move: for a request that misses a block of several frames, in
 * the background, on an operator's word. See compact.c.
 */
#ifndef DAEMON_COMPACT_H
#define DAEMON_COMPACT_H

#include "daemon/domain.h"
#include "mm/compaction.h"

/* Frames that a run looks at before it lets others have the worker. */
#define COMPACT_SLICE 4096u

struct compact;

int compact_new(struct compact **ret, struct domain *d);
struct compact *compact_free(struct compact *c);

/* Such a request may be helped: several frames, of a zone whose pages move, and __GFP_IO. */
bool compact_worth(gfp_t gfp, uint32_t order);
/* Such a request waits from now on, or no more. Any thread. Others are not looked at. */
void compact_want(struct domain *d, gfp_t gfp, uint32_t order);
void compact_unwant(struct domain *d, gfp_t gfp, uint32_t order);

/* ---- on the worker ---- */

/* For a request of the kind above, of node (as in struct mm_request; all that it may use); a bounded
 * part of a zone. What came of it; COMPACT_CONTINUE: there is more to go through. */
enum compact_result compact_direct(struct domain *d, gfp_t gfp, uint32_t order, uint32_t node);
/* For those that wait (compact_want): one run for each kind of them. True: some block is there now. */
bool compact_round(struct domain *d);
/* Once a second. Goes on in jobs of its own. */
void compact_tick(struct domain *d);
/* A run that moves pages of the domain; order as in struct compact_control. */
struct compact_control compact_control_of(struct domain *d, uint32_t node, enum zone_type zone,
                                          uint32_t order);

#endif

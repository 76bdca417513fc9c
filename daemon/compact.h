/* SPDX-License-Identifier: MIT */
/*
 * When pages of HighMem and Movable move: for a request that misses a block of several frames, in
 * the background, on an operator's word. See compact.c.
 */
#ifndef DAEMON_COMPACT_H
#define DAEMON_COMPACT_H

#include "daemon/domain.h"
#include "mm/compaction.h"

/* Frames that a run looks at, either scanner, before it lets others have the worker. */
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

/* A run for one request, through a bounded part of each zone that it may use. May be given up and
 * forgotten after any step. */
struct compact_direct {
	struct domain *d;
	gfp_t gfp;
	uint32_t order, node;
	uint32_t next;             /* of these zones */
	uint32_t slices;           /* that the one under way may still have; 0: none is */
	struct compact_control cc; /* it */
	bool got;                  /* a block is there now */
};
/* node as in struct mm_request. A request that is not compact_worth() ends with its first step. */
void compact_direct_begin(struct compact_direct *c, struct domain *d, gfp_t gfp, uint32_t order,
                          uint32_t node);
/* No more than a slice. True: call again, after others had the worker. */
bool compact_direct_step(struct compact_direct *c);
/* The same for those that wait (compact_want): one run for each kind of them. */
void compact_round_begin(struct domain *d);
/* *got: some block is there now that was not before this step. */
bool compact_round_step(struct domain *d, bool *got);
/* Once a second. Goes on in jobs of its own. */
void compact_tick(struct domain *d);
/* A run that moves pages of the domain; order as in struct compact_control. */
struct compact_control compact_control_of(struct domain *d, uint32_t node, enum zone_type zone,
                                          uint32_t order);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Requests that cannot be met at once. See service_wait.c.
 */
#ifndef DAEMON_SERVICE_WAIT_H
#define DAEMON_SERVICE_WAIT_H

#include "daemon/blocks.h"
#include "daemon/rpc.h"
#include "mm/mm.h"

struct wait_request {
	bool take;   /* Exchange; else AllocPages, AllocBlocks or AllocObject */
	bool blocks; /* AllocBlocks: order is the least of `block` */
	struct block_request block;
	gfp_t gfp;
	uint32_t order, rounds;
	uint32_t cache; /* objects of it (order is not used); 0: blocks */
	uint64_t life;  /* of the cache */
	bool constructed;
	uint32_t node;     /* preferred, as in struct mm_request */
	uint32_t accepted; /* of what the same call gave */
};

/* The request failed with rc (why may be NULL for -ENOMEM): parks, settles or refuses it. */
void service_wait(struct rpc_call *call, const struct wait_request *request, int rc,
                  const char *why);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Blocks of several orders in one grant, for areas. See service_blocks.c.
 */
#ifndef DAEMON_BLOCKS_H
#define DAEMON_BLOCKS_H

#include "daemon/domain.h"
#include "proto/kmm.pb-c.h"

#define BLOCKS_MAX 512u /* in one grant */

struct block_request {
	gfp_t gfp;
	uint32_t pages; /* a multiple of 2^order_min */
	uint32_t order_max, order_min;
	uint32_t node; /* as in struct mm_request */
	bool small;    /* only from sections that can be mapped in pieces of 4 KiB */
};

struct block_list {
	uint32_t n;
	uint32_t pages;
	uint32_t page[BLOCKS_MAX];
	uint8_t order[BLOCKS_MAX];
};

/* What mm/ is asked for: blocks of order_min. */
struct mm_request blocks_request(const struct domain *d, const struct session *s, uint32_t cpu,
                                 const struct block_request *q);
/* Offers s (entered) up to q->pages, the largest blocks first, at least one: 0; -ENOMEM not now;
 * -EDQUOT not all of q->pages within the quota, nothing was offered; -EINVAL; -EPERM; -EIO. */
int blocks_grant(struct domain *d, struct session *s, uint32_t cpu, const struct block_request *q,
                 struct block_list *l, const char **why);
/* The client never learned of them: what is still an offer is withdrawn. */
void blocks_withdraw(struct domain *d, struct session *s, uint32_t cpu,
                     const struct block_list *l);
/* Points a reply at the list. */
void blocks_reply(Kmm__V1__AllocBlocksReply *reply, struct block_list *l);

#endif

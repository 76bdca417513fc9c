/* SPDX-License-Identifier: MIT */
/*
 * Blocks of several orders, for what is put together of them. See blocks.c.
 */
#ifndef CLIENT_BLOCKS_H
#define CLIENT_BLOCKS_H

#include "client/internal.h"

#pragma GCC visibility push(hidden)

struct block {
	uint64_t word;  /* what its owner word says, HELD or RETURNED by this session */
	uint32_t page;  /* its name: words, descriptors */
	uint32_t frame; /* where its memory is, for as long as it is ours */
	uint32_t order;
};

struct block_list {
	struct block *block;
	uint32_t n, room;
	uint64_t pages;
};
#define BLOCK_LIST_INIT { NULL, 0, 0, 0 }

struct block_want {
	kmm_gfp_t gfp;
	uint32_t pages; /* a multiple of 2^order_min */
	unsigned int order_max, order_min;
	uint32_t node;  /* preferred, + 1; 0: any */
	bool small;     /* only what can be mapped in pieces of 4 KiB */
};

/* Adds blocks with want->pages pages in all, HELD by this session, pages that can move pinned: all of
 * them or none. They may be waited for as want->gfp says. */
int blocks_alloc(struct kmm *k, struct call_how *how, const struct block_want *want,
                 struct block_list *l);
/* Gives them back, and empties the list. */
void blocks_free(struct kmm *k, struct block_list *l);
/* Of blocks whose words say RETURNED: the daemon has them on return, or will look. */
void blocks_tell(struct kmm *k, const struct block *b, uint32_t n);
/* HELD -> RETURNED, the word in b->word: false when it is not ours any more; *kept: others hold it, and
 * the daemon is to be told. Not pinned from now on, in any case. */
bool block_return(struct kmm *k, struct block *b, bool *kept);
/* RETURNED -> HELD, pinned: false when the daemon has collected it. */
bool block_again(struct kmm *k, struct block *b);

#pragma GCC visibility pop
#endif

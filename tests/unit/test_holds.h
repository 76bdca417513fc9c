/* SPDX-License-Identifier: MIT */
/* What the holder table says of one session. */
#ifndef TESTS_TEST_HOLDS_H
#define TESTS_TEST_HOLDS_H

#include "daemon/holder.h"

struct holds {
	uint32_t session, n;
};

static inline void count_hold(void *ctx, uint32_t session, uint32_t granule, uint64_t generation)
{
	struct holds *h = ctx;

	(void)granule;
	(void)generation;
	h->n += session == h->session;
}

/* Entries of that session in the holder table. */
static inline uint32_t holds_of(struct holder_table *table, uint32_t session)
{
	struct holds h = { .session = session };

	holder_for_each(table, count_hold, &h);
	return h.n;
}

#endif

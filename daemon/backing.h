/* SPDX-License-Identifier: MIT */
/*
 * What the pool's memory consists of: which backings to try, and what to say about them.
 */
#ifndef DAEMON_BACKING_H
#define DAEMON_BACKING_H

#include <stddef.h>
#include <stdint.h>

#include "shm/memfd.h"

struct backing_need {
	uint64_t pool;    /* bytes */
	/* bytes of the pool that lie on 4 KiB, on transparent and on reserved huge pages, whatever is
	 * chosen for the rest */
	uint64_t small, thp, huge;
	uint64_t section; /* bytes */
	uint64_t control; /* bytes of 4 KiB pages beside the pool */
	enum shm_backing wanted;
	uint64_t huge_page; /* of hugetlb: 2 MiB or 1 GiB */
};

#define BACKING_CANDIDATES 3u

/* The backings that the machine's numbers allow, best first; each is for all but what is fixed. 0 and *n
 * of them; -ENOMEM: the pool does not fit, with the numbers and what to do in `why`. */
int backing_candidates(const struct backing_need *need, const struct shm_machine *m,
                       enum shm_backing list[BACKING_CANDIDATES], size_t *n, char *why,
                       size_t why_size);

/* "1 GiB of hugetlb 2 MiB pages", "960 MiB of hugetlb 2 MiB pages, 64 MiB of shared memory on 4 KiB
 * pages" */
void backing_describe(char *text, size_t size, enum shm_backing b, uint64_t b4k, uint64_t b2m,
                      uint64_t b1g);
/* The same where zones have backings of their own. */
void backing_describe_mixed(char *text, size_t size, uint64_t b4k, uint64_t thp, uint64_t huge_2m,
                            uint64_t huge_1g);
/* How to get better, empty when nothing is better. */
void backing_advise(char *text, size_t size, const struct backing_need *need,
                    const struct shm_machine *m, enum shm_backing got, uint64_t b4k);

/* "1 GiB", "1.50 GiB", "4 KiB" */
const char *backing_size_text(char buf[32], uint64_t bytes);

#endif

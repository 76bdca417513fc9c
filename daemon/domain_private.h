/* SPDX-License-Identifier: MIT */
/*
 * Between domain.c and domain_recover.c.
 */
#ifndef DAEMON_DOMAIN_PRIVATE_H
#define DAEMON_DOMAIN_PRIVATE_H

#include "daemon/domain.h"

struct pool;

/* Judges every word of a pool that was taken over and rebuilds the zones. lent[m] (in: zeroes) is
 * set to the session that has magazine m. -EUCLEAN: mm/ refuses its own words. May be interrupted
 * and run again. */
int domain_recover(struct domain *d, const struct pool *pool, uint32_t lent[]);

#endif

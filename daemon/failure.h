/* SPDX-License-Identifier: MIT */
/*
 * The last allocation of each session that failed for good, and what the pool looked like at that
 * moment: what `kmmctl why` explains. See failure.c. Any thread.
 */
#ifndef DAEMON_FAILURE_H
#define DAEMON_FAILURE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/grant.h"
#include "daemon/kmmd.h"
#include "mm/explain.h"

#define FAILURE_ZONES 16u

enum failure_reason {
	FAILURE_NONE,
	FAILURE_SESSION_QUOTA,
	FAILURE_USER_QUOTA,
	FAILURE_TABLE,         /* a table of the pool's is full */
	FAILURE_BUSY,          /* the session has too many calls with the worker */
	FAILURE_IMPOSSIBLE,    /* however much were free */
	FAILURE_LACK,          /* memory is short */
	FAILURE_FRAGMENTATION, /* it is there, in blocks that are too small */
	FAILURE_PASSED,        /* it was there a moment later */
	NR_FAILURE_REASONS
};

struct failure {
	enum failure_reason reason;
	uint64_t count;        /* of the session's failures, this one included */
	uint64_t when;         /* seconds since the epoch */
	uint64_t waited_ms;
	const char *method;    /* "AllocPages" */
	gfp_t gfp;
	uint32_t order, pages; /* pages: of AllocBlocks, else 0 */
	uint32_t cache, node;  /* 0: none */
	uint64_t life;         /* of the cache */
	int rc;
	char text[256];
	/* of a quota */
	enum user_count quota;
	char section[80];      /* "[user alice]" */
	uint64_t used, limit, more;
	/* of memory */
	uint32_t zones;        /* that may have served it; the first FAILURE_ZONES are there */
	struct mm_zone_look zone[FAILURE_ZONES];
	uint64_t depot, slab;  /* frames */
	uint32_t waiting;      /* requests */
};

struct failure_table;

int failure_table_new(struct failure_table **ret, uint32_t sessions); /* ids are below */
struct failure_table *failure_table_free(struct failure_table *t);

/* What failed. `request` is what was asked of the zones; NULL: it never came to that. */
struct failure_about {
	const struct mm_request *request;
	const char *method; /* "kmm.v1.Allocator/AllocPages"; static */
	gfp_t gfp;
	uint32_t order, pages, cache;
	uint32_t node;      /* that the caller prefers, + 1; 0: any */
	uint64_t life;
	int rc;             /* -EDQUOT, -ENOMEM, -ETIMEDOUT */
	const char *why;
	uint64_t waited_ms;
	/* -EDQUOT: what was met (charge_obstacle()); NULL: neither the session's nor its user's quota, which
	 * `reason` says then */
	const struct charge_obstacle *obstacle;
	uint64_t more;      /* asked for */
	enum failure_reason reason;
};
/* The session is referenced. Takes zones' locks and its own: the caller holds none that rank after. */
void failure_note(struct session *s, const struct failure_about *about);
/* False: no allocation of it has failed. The session is entered. */
bool failure_get(struct session *s, struct failure *ret);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * One line for a request for memory that failed, as Linux writes it (warn_alloc): who, which order,
 * which flags. __GFP_NOWARN asks for none. At most ten lines in five seconds; how many were left out
 * stands in the next.
 *
 * Locks: none. Two threads at the border of an interval may write a line too many.
 */
#include "daemon/warn.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "daemon/log.h"
#include "daemon/session.h"

#define BURST 10u
#define INTERVAL_NS 5000000000u

struct gfp_name {
	gfp_t bits;
	const char *name;
};

/* Whole sets before their parts, the larger first. */
static const struct gfp_name names[] = {
	{ GFP_HIGHUSER_MOVABLE, "GFP_HIGHUSER_MOVABLE" },
	{ GFP_HIGHUSER, "GFP_HIGHUSER" },
	{ GFP_USER, "GFP_USER" },
	{ GFP_KERNEL, "GFP_KERNEL" },
	{ GFP_NOFS, "GFP_NOFS" },
	{ GFP_ATOMIC, "GFP_ATOMIC" },
	{ GFP_NOIO, "GFP_NOIO" },
	{ GFP_NOWAIT, "GFP_NOWAIT" },
	{ __GFP_DMA, "GFP_DMA" },
	{ __GFP_DMA32, "GFP_DMA32" },
	{ __GFP_HIGHMEM, "__GFP_HIGHMEM" },
	{ __GFP_MOVABLE, "__GFP_MOVABLE" },
	{ __GFP_RECLAIMABLE, "__GFP_RECLAIMABLE" },
	{ __GFP_HIGH, "__GFP_HIGH" },
	{ __GFP_IO, "__GFP_IO" },
	{ __GFP_FS, "__GFP_FS" },
	{ __GFP_ZERO, "__GFP_ZERO" },
	{ __GFP_DIRECT_RECLAIM, "__GFP_DIRECT_RECLAIM" },
	{ __GFP_KSWAPD_RECLAIM, "__GFP_KSWAPD_RECLAIM" },
	{ __GFP_WRITE, "__GFP_WRITE" },
	{ __GFP_NOWARN, "__GFP_NOWARN" },
	{ __GFP_RETRY_MAYFAIL, "__GFP_RETRY_MAYFAIL" },
	{ __GFP_NOFAIL, "__GFP_NOFAIL" },
	{ __GFP_NORETRY, "__GFP_NORETRY" },
	{ __GFP_MEMALLOC, "__GFP_MEMALLOC" },
	{ __GFP_COMP, "__GFP_COMP" },
	{ __GFP_NOMEMALLOC, "__GFP_NOMEMALLOC" },
	{ __GFP_HARDWALL, "__GFP_HARDWALL" },
	{ __GFP_THISNODE, "__GFP_THISNODE" },
	{ __GFP_ACCOUNT, "__GFP_ACCOUNT" },
};

static void append(char text[GFP_TEXT_SIZE], const char *name)
{
	size_t n = strlen(text);

	snprintf(text + n, GFP_TEXT_SIZE - n, "%s%s", n ? "|" : "", name);
}

const char *gfp_text(char text[GFP_TEXT_SIZE], gfp_t gfp)
{
	char rest[16];

	text[0] = '\0';
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if ((gfp & names[i].bits) != names[i].bits)
			continue;
		append(text, names[i].name);
		gfp &= ~names[i].bits;
	}
	if (gfp || !text[0]) {
		snprintf(rest, sizeof(rest), "0x%x", gfp);
		append(text, rest);
	}
	return text;
}

/* *left_out: lines of the interval before that were not written. */
static bool rate_allows(uint32_t *left_out)
{
	static _Atomic uint64_t since;
	static _Atomic uint32_t lines;
	uint64_t now = uv_hrtime(), began = atomic_load_explicit(&since, memory_order_relaxed);
	uint32_t n;

	/* relaxed: counts lines, orders nothing */
	*left_out = 0;
	if ((!began || now - began >= INTERVAL_NS) &&
	    atomic_compare_exchange_strong_explicit(&since, &began, now, memory_order_relaxed,
	                                            memory_order_relaxed)) {
		n = atomic_exchange_explicit(&lines, 0, memory_order_relaxed);
		*left_out = n > BURST ? n - BURST : 0;
	}
	return atomic_fetch_add_explicit(&lines, 1, memory_order_relaxed) < BURST;
}

void warn_alloc(const struct session *s, gfp_t gfp, uint32_t order, uint32_t cache, int rc)
{
	char text[GFP_TEXT_SIZE], more[48] = "", of[32] = "";
	uint32_t left_out;

	if ((gfp & __GFP_NOWARN) || !rate_allows(&left_out))
		return;
	if (left_out)
		snprintf(more, sizeof(more), "; %u such lines were left out", left_out);
	if (cache)
		snprintf(of, sizeof(of), ", cache:%u", cache);
	log_warning("session %u (%s, process %d): page allocation %s: order:%u, mode:0x%x(%s)%s%s",
	            s->id, s->name, (int)s->pid, rc == -ETIMEDOUT ? "stall" : "failure", order, gfp,
	            gfp_text(text, gfp), of, more);
}

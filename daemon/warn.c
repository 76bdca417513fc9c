/* SPDX-License-Identifier: MIT */
/*
 * One line for a request for memory that failed, as Linux writes it (warn_alloc): who, which order,
 * which flags. __GFP_NOWARN asks for none. Each user's lines are limited as all events are (log_rate.h).
 */
#include "daemon/warn.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/log_about.h"
#include "daemon/probes.h"
#include "daemon/session.h"

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

void warn_alloc(const struct session *s, gfp_t gfp, uint32_t order, uint32_t cache, int rc)
{
	struct log_about about = log_about_session(LOG_FAILURE, s);
	char text[GFP_TEXT_SIZE], of[32] = "";

	probe_alloc_fail(s->id, order, cache, gfp, rc);
	if (gfp & __GFP_NOWARN)
		return;
	if (cache)
		snprintf(of, sizeof(of), ", cache:%u", cache);
	log_event(LOG_LEVEL_WARNING, &about, "page allocation %s: order:%u, mode:0x%x(%s)%s",
	          rc == -ETIMEDOUT ? "stall" : "failure", order, gfp, gfp_text(text, gfp), of);
}

/* SPDX-License-Identifier: MIT */
/*
 * The superblock: made, checked, and brought from the version before to this one.
 *
 * An upgrade is a restart: a program takes over what the program before it made (record.h lists the
 * versions) and converts it in place, once all of it was found to be right. One store commits:
 *
 *     session records   what version 4 has there and 3 has not: bytes that 3 does not look at
 *     superblock        the same, and the checksum as it will be
 *     version_word      3 -> 4                                              <- the commit
 *     ledger            its version
 *
 * Whoever dies before the commit leaves a pool of version 3 that either program takes over; all is
 * written again then. Whoever dies behind it leaves one of version 4 whose ledger may still say 3,
 * which the next start puts right. Nothing is moved, nothing is allocated, nothing can fail. The way
 * back is closed by the commit: the program before refuses version 4.
 *
 * Versions that are older or newer are refused, with what can be done: nobody's memory is given up but
 * by the operator.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/ledger.h"
#include "daemon/pool_private.h"

#define FNV_BASIS UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

/* FNV-1a of the bytes [from, to) of a superblock. */
static uint64_t sum(uint64_t h, const struct superblock *sb, size_t from, size_t to)
{
	const uint8_t *byte = (const uint8_t *)sb;

	for (size_t i = from; i < to; i++)
		h = (h ^ byte[i]) * FNV_PRIME;
	return h;
}

uint64_t pool_superblock_checksum(const struct superblock *sb)
{
	uint64_t h = sum(FNV_BASIS, sb, 0, offsetof(struct superblock, checksum_before));

	return sb->version == METADATA_VERSION_BEFORE ?
	               h : sum(h, sb, offsetof(struct superblock, created),
	                       offsetof(struct superblock, checksum));
}

void pool_superblock_fill(struct superblock *sb, const struct pool_geometry *g,
                          const uint8_t uuid[16], enum shm_backing b)
{
	sb->magic = SUPERBLOCK_MAGIC;
	sb->version = METADATA_VERSION;
	sb->size = sizeof(*sb);
	memcpy(sb->uuid, uuid, sizeof(sb->uuid));
	sb->frames = g->mm.frames;
	sb->section_order = g->mm.section_order;
	sb->nodes = g->mm.nodes;
	sb->dma_end = g->mm.dma_end;
	sb->dma32_end = g->mm.dma32_end;
	sb->highmem_start = g->mm.highmem_start;
	sb->movable_start = g->mm.movable_start;
	sb->sessions = g->sessions;
	sb->holders = g->holders;
	sb->magazines = g->magazines;
	sb->backing = pool_backing_pack(g, b);
	sb->mm_address = g->mm_address;
	sb->mm_size = g->mm_size;
	sb->session_address = g->session_address;
	sb->holder_address = g->holder_address;
	sb->created = (uint64_t)time(NULL);
	sb->made_version = METADATA_VERSION;
	sb->lifeline = 1;
	sb->checksum = pool_superblock_checksum(sb);
}

/* ---- checking ---- */

static const char *version_text(char *buf, size_t size, uint32_t version)
{
	bool older = version < METADATA_VERSION_BEFORE;

	snprintf(buf, size,
	         "the metadata are of version %u; this program reads versions %u and %u. Start the "
	         "program that made them again%s, or drain the pool: with that program \"kmmctl "
	         "sessions\" and \"kmmctl leaks\" show who has what; when these clients have ended, stop "
	         "the service and start it with this program",
	         version, METADATA_VERSION_BEFORE, METADATA_VERSION,
	         older ? ", or one between the two, which takes them one version further" :
	                 " (or a later one)");
	return buf;
}

/* As many bytes as it has, and the sum. */
static const char *numbers_text(char *buf, size_t size, const struct superblock *sb)
{
	size_t wanted = sb->version == METADATA_VERSION ? sizeof(*sb) : SUPERBLOCK_SIZE_BEFORE;
	uint64_t is = sb->version == METADATA_VERSION ? sb->checksum : sb->checksum_before;
	uint64_t should = pool_superblock_checksum(sb);

	if (sb->size != wanted)
		snprintf(buf, size, "the superblock has %u bytes, not %zu", sb->size, wanted);
	else if (is != should)
		snprintf(buf, size,
		         "the superblock's checksum is %016" PRIx64 ", its contents give %016" PRIx64,
		         is, should);
	else
		return NULL;
	return buf;
}

bool pool_superblock_check(const struct superblock *sb, uint32_t section, const char **why)
{
	enum shm_backing zone[MAX_NR_ZONES];
	static char text[500];
	const char *wrong;

	if (sb->magic != SUPERBLOCK_MAGIC) {
		snprintf(text, sizeof(text),
		         "the last page of section m%u is no superblock (magic %016" PRIx64 "): the last "
		         "section was lost, or its contents", section, sb->magic);
		wrong = text;
	} else if (sb->version != METADATA_VERSION && sb->version != METADATA_VERSION_BEFORE) {
		wrong = version_text(text, sizeof(text), sb->version);
	} else {
		wrong = numbers_text(text, sizeof(text), sb);
		/* before version 4 no zone had a backing of its own */
		if (!wrong && (!pool_backing_unpack(sb->backing, zone) ||
		               (sb->version == METADATA_VERSION_BEFORE &&
		                sb->backing != (uint32_t)SUPERBLOCK_BACKING(sb->backing)))) {
			snprintf(text, sizeof(text), "the superblock names backing %u", sb->backing);
			wrong = text;
		}
	}
	if (wrong)
		*why = wrong;
	return !wrong;
}

/* ---- the conversion ---- */

static void record_convert(struct session_record *r)
{
	/* relaxed, here and below: the commit's release orders them */
	r->restarts = 0;
	atomic_store_explicit(&r->away, 0, memory_order_relaxed);
	atomic_store_explicit(&r->calls, 0, memory_order_relaxed);
	atomic_store_explicit(&r->refused, 0, memory_order_relaxed);
	atomic_store_explicit(&r->frames_had, 0, memory_order_relaxed);
	atomic_store_explicit(&r->objects_had, 0, memory_order_relaxed);
	atomic_store_explicit(&r->objects_back, 0, memory_order_relaxed);
}

static void superblock_convert(struct superblock *sb, bool lifeline)
{
	struct superblock after;

	sb->created = 0;
	sb->made_version = METADATA_VERSION_BEFORE;
	sb->lifeline = lifeline;
	atomic_store_explicit(&sb->served, 0, memory_order_relaxed);
	memcpy(&after, sb, sizeof(after));
	after.version = METADATA_VERSION;
	after.size = sizeof(after);
	sb->checksum = pool_superblock_checksum(&after);
	/* release: the commit; pairs with the reading of the next start */
	atomic_store_explicit(&sb->version_word, after.version_word, memory_order_release);
}

void pool_convert(struct pool *p, bool lifeline)
{
	if (p->superblock->version == METADATA_VERSION_BEFORE) {
		for (uint32_t id = 0; id < p->nr_sessions; id++)
			record_convert(&p->session[id]);
		superblock_convert(p->superblock, lifeline);
	}
	/* release: behind the commit */
	atomic_store_explicit(&p->ledger.head->version, METADATA_VERSION, memory_order_release);
}

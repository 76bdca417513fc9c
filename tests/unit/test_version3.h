/* SPDX-License-Identifier: MIT */
/*
 * Metadata of version 3, spelled out here as programs of that version wrote them, and a writer that makes
 * a pool of this program's one of version 3, byte for byte: superblock, session records, the ledger's
 * head. (The words of mm/, holders, caches, slabs and names are the same in both.)
 */
#ifndef TESTS_UNIT_TEST_VERSION3_H
#define TESTS_UNIT_TEST_VERSION3_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "daemon/record.h"

struct superblock_3 {
	uint64_t magic;
	uint32_t version, size;
	uint8_t uuid[16];
	uint64_t frames;
	uint32_t section_order, nodes;
	uint64_t dma_end, dma32_end, highmem_start, movable_start;
	uint32_t sessions, holders, magazines, backing;
	uint64_t mm_address, mm_size;
	uint64_t session_address, holder_address;
	uint64_t checksum;
	uint64_t committed;
	uint64_t epoch;
};
_Static_assert(sizeof(struct superblock_3) == 152, "as it was");

struct session_record_3 {
	uint64_t word;
	uint8_t token[16];
	uint32_t uid, gid;
	uint32_t pid;
	uint32_t reserved;
	uint64_t start_time;
	uint64_t opened;
	uint64_t pages_max;
	char name[64];
	uint8_t pad[64];
};
_Static_assert(sizeof(struct session_record_3) == 192, "as it was");

struct ledger_head_3 {
	uint64_t magic;
	uint32_t version, reserved;
	uint8_t uuid[16];
	uint64_t frames, sessions, object_words, high_start, high_frames;
};
_Static_assert(sizeof(struct ledger_head_3) == 72, "as it was");

/* FNV-1a, from 0xcbf29ce484222325 by 0x100000001b3, of all before it. */
static inline uint64_t superblock_3_checksum(const struct superblock_3 *sb)
{
	const uint8_t *byte = (const uint8_t *)sb;
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < offsetof(struct superblock_3, checksum); i++)
		h = (h ^ byte[i]) * UINT64_C(0x100000001b3);
	return h;
}

/* page: the pool's last one. */
static inline void superblock_3_write(void *page)
{
	struct superblock now;
	struct superblock_3 then = { .version = 3, .size = 152, .committed = 1 };

	memcpy(&now, page, sizeof(now));
	then.magic = now.magic;
	memcpy(then.uuid, now.uuid, sizeof(then.uuid));
	then.frames = now.frames;
	then.section_order = now.section_order;
	then.nodes = now.nodes;
	then.dma_end = now.dma_end;
	then.dma32_end = now.dma32_end;
	then.highmem_start = now.highmem_start;
	then.movable_start = now.movable_start;
	then.sessions = now.sessions;
	then.holders = now.holders;
	then.magazines = now.magazines;
	then.backing = now.backing;
	then.mm_address = now.mm_address;
	then.mm_size = now.mm_size;
	then.session_address = now.session_address;
	then.holder_address = now.holder_address;
	then.epoch = now.epoch;
	then.checksum = superblock_3_checksum(&then);
	memset(page, 0, 4096);
	memcpy(page, &then, sizeof(then));
}

/* limit: what version 3 noted as the session's quota. */
static inline void session_record_3_write(void *at, uint64_t limit)
{
	struct session_record now;
	struct session_record_3 then = { .pages_max = limit };

	memcpy(&now, at, sizeof(now));
	then.word = now.word;
	memcpy(then.token, now.token, sizeof(then.token));
	then.uid = now.uid;
	then.gid = now.gid;
	then.pid = now.pid;
	then.start_time = now.start_time;
	then.opened = now.opened;
	memcpy(then.name, now.name, sizeof(then.name));
	memcpy(at, &then, sizeof(then));
}

static inline void ledger_head_3_write(void *at)
{
	struct ledger_head_3 then;

	memcpy(&then, at, sizeof(then));
	then.version = 3;
	memcpy(at, &then, sizeof(then));
}

#endif

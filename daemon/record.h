/* SPDX-License-Identifier: MIT */
/*
 * What the daemon keeps in the pool's metadata sections, besides mm/'s own words: the superblock,
 * the session table and the holder table. Versioned, fixed-width, mapped by the daemon alone.
 *
 * Each record commits with one atomic 64-bit store of its word; the other fields are written before
 * and mean nothing while the word is 0. Everything else is rebuilt from them at the start.
 */
#ifndef DAEMON_RECORD_H
#define DAEMON_RECORD_H

#include <stdatomic.h>
#include <stdint.h>

#define SUPERBLOCK_MAGIC UINT64_C(0x6b6d6d642d706f6f) /* "kmmd-poo" */
#define METADATA_VERSION 3u

/* The last page of the pool. */
struct superblock {
	uint64_t magic;
	uint32_t version;
	uint32_t size; /* sizeof(struct superblock) */
	uint8_t uuid[16];
	uint64_t frames;
	uint32_t section_order, nodes;
	uint64_t dma_end, dma32_end, highmem_start, movable_start; /* frames */
	uint32_t sessions, holders, magazines, backing;
	uint64_t mm_address, mm_size; /* pool addresses of the tables */
	uint64_t session_address, holder_address;
	uint64_t checksum;          /* of all above: they never change */
	_Atomic uint64_t committed; /* 1 once the pool was complete */
	_Atomic uint64_t epoch;     /* starts of the daemon */
};

enum session_record_state {
	SESSION_RECORD_FREE,
	SESSION_RECORD_LIVE,
	SESSION_RECORD_SWEEPING, /* dead; its memory is being collected */
};

/* word: bits 0..3 state, 4..19 domain */
struct session_record {
	_Atomic uint64_t word;
	uint8_t token[16];
	uint32_t uid, gid;
	uint32_t pid;      /* 0: unknown */
	uint32_t reserved;
	uint64_t start_time; /* of the process, /proc/PID/stat field 22; 0: unknown */
	uint64_t opened;     /* seconds since the epoch */
	uint64_t pages_max;
	char name[64];
	uint8_t pad[64];
};
_Static_assert(sizeof(struct session_record) == 192, "three cache lines");

/* word: 0 free; bits 0..19 session, 20 valid, 32..63 granule. One entry says: that session holds
 * that thing. (Names are further holders, in a table of their own.) */
struct holder_record {
	_Atomic uint64_t word;
	uint64_t generation;
};
_Static_assert(sizeof(struct holder_record) == 16, "two words");

/*
 * The ledger: what is private like the tables above, but grows with what there is: caches, slabs,
 * objects, names. A third control memfd, 4 KiB shmem, sparse, mapped by the daemon alone and kept in
 * the fd store as "ledger0". Parts in this order, each from a page boundary:
 *
 *   struct ledger_head                             one page
 *   struct cache_record  [CONTROL_CACHES_MAX]      mm/slab.h
 *   users of caches      [CONTROL_CACHES_MAX]      a bit a session: has it open
 *   struct name_record   [LEDGER_NAMES_MAX]
 *   slab words           [frames]                  mm/slab.h
 *   high frames          [high_frames]             the frame of each page that can move (move.c)
 *   out bits             [object words / 64]       mm/slab.h
 */
#define LEDGER_MAGIC UINT64_C(0x6b6d6d2d6c656467) /* "kmm-ledg" */
#define LEDGER_NAMES_MAX 65536u

struct ledger_head {
	uint64_t magic;
	uint32_t version, reserved; /* METADATA_VERSION */
	uint8_t uuid[16];           /* of the pool */
	uint64_t frames, sessions, object_words, high_start, high_frames;
};
_Static_assert(sizeof(struct ledger_head) == 72, "persistent layout");

/* word: 0 free; bit 0 valid, 32..63 granule. The name holds the thing of that granule in that
 * generation. */
struct name_record {
	_Atomic uint64_t word;
	uint64_t generation;
	uint32_t uid;       /* of the publisher */
	uint32_t publisher; /* its session; 0: it has ended */
	char name[64];      /* with NUL */
	uint8_t pad[40];
};
_Static_assert(sizeof(struct name_record) == 128, "two cache lines");

#endif

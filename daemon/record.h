/* SPDX-License-Identifier: MIT */
/*
 * What the daemon keeps in the pool's metadata sections, besides mm/'s own words: the superblock,
 * the session table and the holder table. Versioned, fixed-width, mapped by the daemon alone.
 *
 * Each record commits with one atomic 64-bit store of its word; the other fields are written before
 * and mean nothing while the word is 0. Everything else is rebuilt from them at the start.
 *
 * Versions. A program makes pools of one version, METADATA_VERSION, and takes over these and those of
 * the version before, which it converts (pool_convert.c). Whoever changes a layout here, in mm/ or in
 * shm/control.h makes a new version, writes it down here, and converts:
 *
 *   1  superblock, sessions, holders, the words of mm/: pages
 *   2  the ledger: caches, slabs, objects, names
 *   3  zones HighMem and Movable: their borders and backings in the superblock, the frames of the
 *      pages that move in the ledger
 *   4  superblock: the backings of zones that have one of their own, when and by which version the
 *      pool was made, until when it was served, whether it has a lifeline (lifeline.c); the checksum
 *      covers what never changes and stands behind it. Session records: counters, restarts, and since when the
 *      session has no connection (session_note.c)
 */
#ifndef DAEMON_RECORD_H
#define DAEMON_RECORD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define SUPERBLOCK_MAGIC UINT64_C(0x6b6d6d642d706f6f) /* "kmmd-poo" */
#define METADATA_VERSION 4u
#define METADATA_VERSION_BEFORE 3u

/* The last page of the pool. What stands behind the end is 0. */
struct superblock {
	uint64_t magic;
	union {
		struct {
			uint32_t version;
			uint32_t size; /* of the superblock */
		};
		_Atomic uint64_t version_word; /* both: the commit of a conversion */
	};
	uint8_t uuid[16];
	uint64_t frames;
	uint32_t section_order, nodes;
	uint64_t dma_end, dma32_end, highmem_start, movable_start; /* frames */
	uint32_t sessions, holders, magazines, backing;
	uint64_t mm_address, mm_size; /* pool addresses of the tables */
	uint64_t session_address, holder_address;
	uint64_t checksum_before;   /* of all above, in version 3; later ones do not look at it */
	_Atomic uint64_t committed; /* 1 once the pool was complete */
	_Atomic uint64_t epoch;     /* starts of the daemon */
	/* here version 3 ends */
	uint64_t created;           /* seconds since the epoch; 0: a program of version 3 made it */
	uint32_t made_version;      /* of the metadata, by the program that made the pool */
	uint32_t lifeline;          /* 1: the store keeps "life0" */
	uint64_t checksum;          /* of all but checksum_before, committed and epoch */
	_Atomic uint64_t served;    /* seconds since the epoch: a daemon served it then, if not since */
};
#define SUPERBLOCK_SIZE_BEFORE 152u
_Static_assert(offsetof(struct superblock, version_word) == 8, "persistent layout");
_Static_assert(offsetof(struct superblock, checksum_before) == 128, "persistent layout");
_Static_assert(offsetof(struct superblock, created) == SUPERBLOCK_SIZE_BEFORE, "persistent layout");
_Static_assert(sizeof(struct superblock) == 184, "persistent layout");

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
	uint32_t pid;        /* 0: unknown */
	uint32_t restarts;   /* of the daemon since it was opened; 0 in version 3 */
	uint64_t start_time; /* of the process, /proc/PID/stat field 22; 0: unknown */
	uint64_t opened;     /* seconds since the epoch */
	uint64_t pages_max;  /* of version 3; nobody looks at it */
	char name[64];
	/* In version 3 these are 0. Notes for reports, a second old at most; see session_note.c. */
	_Atomic uint64_t away; /* seconds since the epoch: it has had no connection since; 0: it has one */
	_Atomic uint64_t calls, refused, frames_had, objects_had, objects_back;
	uint8_t pad[16];
};
_Static_assert(offsetof(struct session_record, name) == 64, "persistent layout");
_Static_assert(offsetof(struct session_record, away) == 128, "persistent layout");
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
	/* METADATA_VERSION; that before until a conversion is through: both have the same layout */
	_Atomic uint32_t version;
	uint32_t reserved;
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

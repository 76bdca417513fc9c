/* SPDX-License-Identifier: MIT */
/*
 * The pool: sections, metadata and control memory, made new or taken over from the fd store.
 *
 * New: sections are made (sealed memfds, reserved and populated, by several threads), mapped at
 * their places in one window, pushed to the fd store and, after its barrier, committed in the
 * section table; then the tables are laid out at the top by memblock and the superblock, in the
 * pool's last page, is committed. A start that dies in between leaves no committed superblock: the
 * next one drops the fds and begins anew.
 *
 * Taken over: the memfds come back by name, the superblock and every table are checked; a pool that
 * fails is refused with a report (-EUCLEAN), never served.
 *
 * Beside the sections there are three memfds of 4 KiB shmem: the two of control memory, which
 * clients map too (shm/control.h), and the ledger (record.h). Their dense parts are populated, the
 * sparse ones get pages when they are about to be used (pool_sparse.c). And a pipe, by which clients
 * see that nobody keeps the pool any more (lifeline.c).
 *
 * Every section has its memfd, its place in the tables and in the window for as long as the pool lives.
 * One that is ABSENT has no memory: it was taken out of service, or is room to grow (pool_hotplug.c).
 */
#ifndef DAEMON_POOL_H
#define DAEMON_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/ledger.h"
#include "daemon/record.h"
#include "mm/memblock.h"
#include "mm/mm.h"
#include "shm/control.h"
#include "shm/memfd.h"

struct options;
struct fdstore;

struct pool {
	uint8_t uuid[16];
	uint64_t epoch; /* of this start */
	bool recovered; /* taken over, not new */
	uint64_t frames;            /* that it has room for: the window, the tables */
	uint64_t metadata_frames;
	uint32_t section_order, nr_sections;
	uint8_t *window;            /* the daemon's own mapping of the whole pool */
	int *section_fd;            /* nr_sections */
	enum shm_backing backing;   /* what was wanted */
	uint32_t map_shift;         /* log2 of the pieces in which all below the high zones can be mapped */
	char advice[1000];          /* how to get better; empty: nothing is better */
	struct memblock memblock;   /* for iomem */
	struct mm *mm;
	struct superblock *superblock;
	struct session_record *session;
	uint32_t nr_sessions;       /* ids 1..nr_sessions-1 */
	struct holder_record *holder;
	uint32_t nr_holders;
	/* the one domain's control memory */
	int words_fd, views_fd;     /* views_fd is opened read-only: it is what clients get */
	struct control control;
	int ledger_fd;
	struct ledger ledger;
	/* lifeline.c; -1: none. The end that is kept, and the one that clients get */
	int lifeline_fd, lifeline_view;
};

/* Refusals are logged. -ENOMEM the pool does not fit (with the numbers), -EUCLEAN refused state. */
int pool_open(struct pool **ret, const struct options *o, struct fdstore *store);
struct pool *pool_close(struct pool *p);

/* ---- what it has at the moment; any thread, O(sections) ---- */

/* Frames of the sections that have memory, metadata included. */
uint64_t pool_present(const struct pool *p);
/* What backs these. */
struct pool_backing {
	uint64_t bytes_4k, bytes_2m, bytes_1g;
	char text[200]; /* "1 GiB of hugetlb 2 MiB pages" */
};
void pool_backing_get(const struct pool *p, struct pool_backing *ret);

/* ---- pool_hotplug.c: memory for absent sections, and none for those that are. One thread at a time;
 * states and zones are the caller's ---- */

/* What it takes to make a section's memory present, piece by piece. */
struct pool_section {
	uint32_t section;
	uint64_t done; /* bytes */
	bool mapped;
};
/* Whether the machine has memory for these (absent) sections: 0; -ENOMEM, and the numbers in why. */
int pool_sections_fit(const struct pool *p, const uint64_t section[MAX_SECTIONS / 64], char *why,
                      size_t size);
/* Makes the next piece present: 1 there is more, 0 it is all there; -ENOMEM, and what was there is gone
 * again. */
int pool_section_populate(struct pool *p, struct pool_section *s);
/* The tag for mm_section_set() of one that is populated. */
enum shm_backing pool_section_backing_tag(const struct pool *p, uint32_t section);
/* What members read: may the section's frames be granted, and how are they reached. */
void pool_section_mark(struct pool *p, uint32_t section, bool present);
/* Gives the memory back: nothing of the daemon's is mapped there any more, and what clients have mapped is
 * empty. */
void pool_section_release(struct pool *p, uint32_t section);

/* ---- pool_sparse.c: memory for the sparse parts. Any thread, no lock. Nothing is done for words
 * that lie in ordinary memory (words_fd -1). ---- */

/* The rack of a cache is about to be used. -ENOMEM. */
int pool_rack_open(struct pool *p, uint32_t cache);
/* The owner words [first, first + n) of objects and their out bits are about to be used (n and
 * first: multiples of 512). -ENOMEM. */
int pool_words_open(struct pool *p, uint32_t first, uint32_t n);
/* They are not used any more; they read as 0 from now on. */
void pool_words_close(struct pool *p, uint32_t first, uint32_t n);
/* The slab bits of a session about the frames around pfn are about to be written by the daemon.
 * -ENOMEM. */
int pool_slab_bits_open(struct pool *p, uint32_t session, pfn_t pfn);
/* The session has ended: all its slab bits read as 0 from now on. */
void pool_slab_bits_close(struct pool *p, uint32_t session);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What the files of the pool share: its geometry, and the steps that making and taking over have in
 * common.
 */
#ifndef DAEMON_POOL_PRIVATE_H
#define DAEMON_POOL_PRIVATE_H

#include "daemon/pool.h"

#define POOL_PAGE 4096u

/* All that follows from the options, or from the superblock, before there is memory. */
struct pool_geometry {
	struct mm_config mm;
	uint64_t size, section_size; /* bytes */
	uint32_t nr_sections;
	uint32_t first_high;         /* sections from here to first_metadata are HighMem, Movable */
	uint32_t first_metadata;     /* sections from here on are metadata */
	uint64_t absent[MAX_SECTIONS / 64]; /* a bit a section: it has no memory */
	/* SHM_AUTO: as the pool's, of the high zones 4 KiB pages */
	enum shm_backing zone_backing[MAX_NR_ZONES];
	uint32_t sessions, holders, magazines; /* records */
	/* pool addresses */
	uint64_t superblock, mm_address, mm_size, session_address, holder_address;
	struct control_geometry control;
	struct control_layout layout;
	struct ledger_layout ledger;
};

/* pool_geometry.c. Refusals are logged: -EINVAL. */
int pool_geometry_from_options(struct pool_geometry *g, const struct options *o,
                               struct memblock *mb);
/* -EUCLEAN, with *why, when the numbers make no sense or the tables lie elsewhere. */
int pool_geometry_from_superblock(struct pool_geometry *g, const struct superblock *sb,
                                  const struct options *o, struct memblock *mb, const char **why);
/* pool_superblock.c */
void pool_superblock_fill(struct superblock *sb, const struct pool_geometry *g,
                          const uint8_t uuid[16], enum shm_backing b);
/* Of the version that it says. */
uint64_t pool_superblock_checksum(const struct superblock *sb);
/* A superblock of this version or the one before; else *why, good until the next call. section: where
 * it was found. */
bool pool_superblock_check(const struct superblock *sb, uint32_t section, const char **why);
/* Makes a checked pool of the version before one of this; of this: finishes what may be left to do.
 * lifeline: the store keeps one. */
void pool_convert(struct pool *p, bool lifeline);
/* pool_backing.c */
void pool_zone_backings(struct pool_geometry *g, const struct options *o);
/* What a section lies on in a pool of that backing: its zone's, if that has one of its own. */
enum shm_backing pool_section_backing(const struct pool_geometry *g, uint32_t section,
                                      enum shm_backing b);
/* The tag that a section keeps: what it really lies on. bytes: what the pool got, as far as that is
 * known, or NULL. */
enum shm_backing pool_section_tag(const struct pool *p, const struct pool_geometry *g,
                                  uint32_t section, enum shm_backing b,
                                  const uint64_t bytes[SHM_NR_BACKINGS]);
/* Counts what the sections of a new pool got. */
void pool_backing_account(const struct pool *p, const struct pool_geometry *g, enum shm_backing b,
                          uint64_t bytes[SHM_NR_BACKINGS]);
/* A zone has a backing that is said for it. */
bool pool_zones_differ(const struct pool_geometry *g);
/* log2 of the pieces in which all sections below the high zones can be mapped. */
uint32_t pool_map_shift_of(const struct pool_geometry *g, enum shm_backing b);
/* Adds up what zones with a backing of their own take of each. */
struct backing_need;
void pool_backing_need(const struct pool_geometry *g, struct backing_need *need);
/* superblock.backing: the pool's in the low byte, then three bits a zone. */
#define SUPERBLOCK_BACKING(WORD) ((enum shm_backing)((WORD) & 0xff))
uint32_t pool_backing_pack(const struct pool_geometry *g, enum shm_backing b);
/* False: no program wrote that. */
bool pool_backing_unpack(uint32_t word, enum shm_backing zone[MAX_NR_ZONES]);
/* Sections that so many bytes take. */
uint64_t pool_sections_of(const struct pool_geometry *g, uint64_t bytes);
/* Bytes of the sections of the high zones that are there. */
uint64_t pool_high_bytes(const struct pool_geometry *g);
static inline bool pool_section_absent(const struct pool_geometry *g, uint32_t section)
{
	return g->absent[section / 64] >> (section % 64) & 1;
}
static inline void pool_section_set_absent(struct pool_geometry *g, uint32_t section)
{
	g->absent[section / 64] |= UINT64_C(1) << (section % 64);
}
/* Bytes of all that are. */
uint64_t pool_absent_bytes(const struct pool_geometry *g);

/* pool.c */
struct pool *pool_new(const struct pool_geometry *g, const struct memblock *mb);
/* The window, of the pool's size, with nothing in it. */
int pool_window_reserve(struct pool *p, const struct pool_geometry *g);
/* Points superblock, tables and mm at their places in the mapped window. */
int pool_tables_attach(struct pool *p, const struct pool_geometry *g);
/* Maps both control memfds (taken over), read-write, guarded; populates the dense parts of new
 * ones. */
int pool_control_map(struct pool *p, const struct pool_geometry *g, int words_fd, int views_fd,
                     bool populate);
/* Bytes of the views that are populated. */
size_t pool_views_dense(const struct pool_geometry *g);
/* "s12" or "m12" */
const char *pool_section_name(char buf[16], const struct pool_geometry *g, uint32_t section);

/* pool_hotplug.c: the piece [at, at + size) of the pool, which lies in one mapped section. */
int pool_piece_populate(struct pool *p, const struct pool_geometry *g, uint64_t at, uint64_t size,
                        enum shm_backing b);
/* Binds sections [first, end) to the node of the machine that their pool node is on. */
int pool_sections_bind(struct pool *p, const struct pool_geometry *g, uint32_t first, uint32_t end);

/* pool.c: of zone DMA, keeps it in memory; false: it could not, which is said. */
bool pool_section_lock(const struct pool *p, uint32_t section);

/* pool_create.c, pool_recover.c */
int pool_create(struct pool **ret, const struct options *o, struct fdstore *store);
/* 1: there was nothing, or nothing complete (it is dropped then): to be made new. */
int pool_recover(struct pool **ret, const struct options *o, struct fdstore *store);

#endif

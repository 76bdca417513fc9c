/* SPDX-License-Identifier: MIT */
/*
 * Memory for a section, and none: what growing and shrinking a pool costs the machine.
 *
 * A section's memfd, its place in the window and in every table exist as long as the pool. Only its
 * memory comes and goes:
 *
 *     absent     the file is empty, and the daemon maps nothing there
 *     populated  mapped and present, as the sections of a new pool are (pool_create.c)
 *
 * Mapping a file of hugetlb reserves the pages that it lacks, and emptying the file gives back only what
 * was there. So a section that is about to be populated is mapped without: a death or a failure half way
 * leaves nothing reserved.
 *
 * What a client has mapped stays mapped. It looks into the file, finds it empty after the memory was
 * given back, and finds what came when it is populated again: the file is the same. Whoever touches
 * what he does not have in between gets a page of zeroes, or SIGBUS where the machine has none; that
 * page is found and used, or punched, the next time.
 *
 * The section's word says which of the two it is, and is the caller's to commit: after the memory has
 * come, before it goes. So a death in between leaves a section that is absent and has memory, which
 * the next start gives back (pool_recover.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/backing.h"
#include "daemon/log.h"
#include "daemon/pool_private.h"
#include "mm/sparse.h"

#define PIECE ((uint64_t)32 << 20)

int pool_piece_populate(struct pool *p, const struct pool_geometry *g, uint64_t at, uint64_t size,
                        enum shm_backing b)
{
	uint32_t s = (uint32_t)(at / g->section_size);
	enum shm_backing is = pool_section_backing(g, s, b);

	/* We touch the memory of the high zones hardly ever, and clients map it page by page. */
	if (s >= g->first_high && s < g->first_metadata && is == SHM_4K)
		return shm_reserve(p->section_fd[s], at % g->section_size, size);
	return shm_populate(p->window + at, p->section_fd[s], at % g->section_size, size, is);
}

/* Pool nodes lie on the machine's in turn. */
int pool_sections_bind(struct pool *p, const struct pool_geometry *g, uint32_t first, uint32_t end)
{
	unsigned int ids[MAX_NODES], machine = shm_nodes(ids, MAX_NODES);
	uint32_t n;

	if (machine > MAX_NODES)
		machine = MAX_NODES;
	for (n = 0; machine > 1 && g->mm.nodes > 1 && n < g->mm.nodes; n++) {
		uint64_t from = (uint64_t)g->nr_sections * n / g->mm.nodes;
		uint64_t to = (uint64_t)g->nr_sections * (n + 1) / g->mm.nodes;
		int r;

		if (from < first)
			from = first;
		if (to > end)
			to = end;
		if (from >= to)
			continue;
		r = shm_bind_node(p->window + from * g->section_size, (to - from) * g->section_size,
		                  ids[n % machine]);
		if (r < 0) {
			log_error("cannot bind pool node %u to node %u of the machine: %s", n,
			          ids[n % machine], strerror(-r));
			return r;
		}
	}
	return 0;
}

/* As much of the geometry as a section's memory needs, from the pool as it is. */
static enum shm_backing geometry_of(const struct pool *p, struct pool_geometry *g)
{
	memset(g, 0, sizeof(*g));
	g->mm = *mm_config(p->mm);
	g->size = p->frames << PAGE_SHIFT;
	g->section_size = UINT64_C(1) << (p->section_order + PAGE_SHIFT);
	g->nr_sections = p->nr_sections;
	g->first_metadata = p->nr_sections - (uint32_t)(p->metadata_frames >> p->section_order);
	g->first_high = g->first_metadata -
	                (uint32_t)(p->control.geometry.high_frames >> p->section_order);
	/* what recovery has checked, or the same process wrote */
	pool_backing_unpack(p->superblock->backing, g->zone_backing);
	return SUPERBLOCK_BACKING(p->superblock->backing);
}

int pool_sections_fit(const struct pool *p, const uint64_t section[MAX_SECTIONS / 64], char *why,
                      size_t size)
{
	struct backing_need need = { .pool = 0 };
	enum shm_backing list[BACKING_CANDIDATES];
	struct shm_machine machine;
	struct pool_geometry g;
	size_t n;
	int r;

	need.wanted = geometry_of(p, &g);
	need.huge_page = need.wanted == SHM_HUGETLB_1G ? UINT64_C(1) << 30 : UINT64_C(2) << 20;
	need.section = g.section_size;
	/* as if there were no others */
	for (uint32_t i = 0; i < MAX_SECTIONS / 64; i++)
		g.absent[i] = ~section[i];
	need.pool = g.size - pool_absent_bytes(&g);
	pool_backing_need(&g, &need);
	r = shm_machine_read(&machine);
	if (r == 0)
		return backing_candidates(&need, &machine, list, &n, why, size);
	snprintf(why, size, "the machine's memory cannot be looked up: %s", strerror(-r));
	return r;
}

static int section_map(struct pool *p, const struct pool_geometry *g, uint32_t section)
{
	uint8_t *place = p->window + section * g->section_size;
	void *at;
	int r = shm_map_unreserved(&at, place, p->section_fd[section], g->section_size);

	if (r < 0)
		return r;
	r = pool_sections_bind(p, g, section, section + 1);
	if (r < 0)
		shm_window_release(place, g->section_size);
	return r;
}

int pool_section_populate(struct pool *p, struct pool_section *s)
{
	struct pool_geometry g;
	enum shm_backing b = geometry_of(p, &g);
	uint64_t piece = g.section_size;
	int r;

	if (piece > PIECE && pool_section_backing(&g, s->section, b) != SHM_HUGETLB_1G)
		piece = PIECE;
	if (!s->mapped) {
		r = section_map(p, &g, s->section);
		if (r < 0)
			return r;
		s->mapped = true;
	}
	r = pool_piece_populate(p, &g, s->section * g.section_size + s->done, piece, b);
	if (r < 0) {
		pool_section_release(p, s->section);
		return r;
	}
	s->done += piece;
	if (s->done < g.section_size)
		return 1;
	pool_section_lock(p, s->section);
	return 0;
}

enum shm_backing pool_section_backing_tag(const struct pool *p, uint32_t section)
{
	struct pool_geometry g;
	enum shm_backing b = geometry_of(p, &g);

	return pool_section_tag(p, &g, section, b, NULL);
}

void pool_section_mark(struct pool *p, uint32_t section, bool present)
{
	bool high = (uint64_t)section << p->section_order >= p->control.geometry.high_start;

	/* release: pairs with the clients' loads; the memory is there before, or nobody's by now */
	atomic_store_explicit(&p->control.section[section],
	                      !present ? CONTROL_SECTION_NONE :
	                      high     ? CONTROL_SECTION_HIGH :
	                                 CONTROL_SECTION_DIRECT,
	                      memory_order_release);
}

void pool_section_release(struct pool *p, uint32_t section)
{
	size_t size = (size_t)1 << (p->section_order + PAGE_SHIFT);
	int r = shm_window_release(p->window + section * size, size);

	/* a mapping that stays is of an empty file, and in the way of nothing */
	if (r < 0)
		log_warning("section %u stays mapped: %s", section, strerror(-r));
	while ((r = fallocate(p->section_fd[section], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
	                      (off_t)size)) < 0)
		if (errno != EINTR)
			break;
	if (r < 0)
		log_error("the memory of section %u stays in use: %s", section, strerror(errno));
}

/* SPDX-License-Identifier: MIT */
/*
 * The pool: its configuration, and the memory of its tables.
 *
 * The persistent part is one run of memory that the caller keeps for as long as the pool exists,
 * longer than the process:
 *
 *     | section words, 8 B each | struct page, 8 B a frame | pageblock types, 1 B each | 0 |
 *
 * each part starting at a multiple of 64. All zeroes is a pool in which nothing is allocated.
 * Everything else (links, marks, geometry, zones) is ordinary memory, made at each start.
 */
#include <errno.h>
#include <stdlib.h>

#include "memblock.h"
#include "sparse.h"

#define MM_LINE 64u
#define MM_ROUND(x, to) (((x) + (to)-1) & ~(size_t)((to)-1))

const char *const zone_names[MAX_NR_ZONES] = { "DMA", "DMA32", "Normal", "HighMem", "Movable" };
const char *const migratetype_names[MIGRATE_TYPES] = { "Unmovable", "Movable", "Reclaimable",
	                                               "HighAtomic", "Isolate" };

void mm_config_default(struct mm_config *c, uint64_t frames)
{
	uint32_t order = MAX_PAGE_ORDER; /* 4 MiB */

	while (order < 30 - PAGE_SHIFT && ((uint64_t)1 << order) < frames / 512)
		order++;
	*c = (struct mm_config){
		.frames = frames,
		.section_order = order,
		.nodes = 1,
		.cpus = 1,
		.dma_end = ((uint64_t)16 << 20) >> PAGE_SHIFT,
		.dma32_end = ((uint64_t)4 << 30) >> PAGE_SHIFT,
		.highmem_start = UINT64_MAX,
		.movable_start = UINT64_MAX,
	};
}

static bool topology_sane(const struct mm_config *c)
{
	for (uint32_t i = 0; c->cpu_node && i < c->cpus; i++)
		if (c->cpu_node[i] >= c->nodes)
			return false;
	for (uint32_t i = 0; c->distance && i < c->nodes * c->nodes; i++) {
		bool self = i % (c->nodes + 1) == 0;

		if (self ? c->distance[i] != MM_DISTANCE_LOCAL : c->distance[i] <= MM_DISTANCE_LOCAL)
			return false;
	}
	return true;
}

int mm_config_check(const struct mm_config *c, const char **why)
{
	uint64_t sections;

	if (c->section_order < MAX_PAGE_ORDER || c->section_order > 30 - PAGE_SHIFT) {
		*why = "a section must be a power of two from 4 MiB to 1 GiB";
		return -EINVAL;
	}
	sections = c->frames >> c->section_order;
	if (sections == 0 || (c->frames & (((uint64_t)1 << c->section_order) - 1)) != 0)
		*why = "the pool must be a whole number of sections, at least one";
	else if (sections > MAX_SECTIONS)
		*why = "the pool has more than 1024 sections: choose larger sections";
	else if (c->nodes == 0 || c->nodes > MAX_NODES || c->nodes > sections)
		*why = "there must be 1 to 64 nodes, each of at least one section";
	else if (c->cpus == 0 || c->cpus > MAX_CPUS)
		*why = "there must be 1 to 256 sets of per-CPU lists";
	else if (c->dma_end > c->dma32_end)
		*why = "zone DMA must end at or below the end of DMA32";
	else if (c->highmem_start < c->dma_end)
		*why = "zone HighMem must start at or above the end of DMA";
	else if (c->movable_start < c->highmem_start && c->highmem_start != UINT64_MAX)
		*why = "zone Movable must start at or above the start of HighMem";
	else if (c->movable_start < c->dma_end)
		*why = "zone Movable must start at or above the end of DMA";
	else if (!topology_sane(c))
		*why = "the distance of a node to itself must be 10, to others more, and a CPU be on "
		       "one of the nodes";
	else
		return 0;
	return -EINVAL;
}

struct mm_layout {
	size_t section, page, pageblock, total;
};

static struct mm_layout mm_layout(const struct mm_config *c)
{
	size_t sections = (size_t)(c->frames >> c->section_order);
	struct mm_layout l = { .section = 0 };

	l.page = MM_ROUND(sections * sizeof(uint64_t), MM_LINE);
	l.pageblock = l.page + MM_ROUND((size_t)c->frames * sizeof(struct page), MM_LINE);
	l.total = MM_ROUND(l.pageblock + (size_t)(c->frames >> PAGEBLOCK_ORDER), 4096);
	return l;
}

size_t mm_persistent_bytes(const struct mm_config *c)
{
	return mm_layout(c).total;
}

/* What the configuration says of the machine, or what holds without. */
static void topology_copy(struct mm *mm)
{
	struct mm_config *c = &mm->config;

	for (uint32_t i = 0; i < c->nodes * c->nodes; i++)
		mm->distance[i] = c->distance          ? c->distance[i] :
		                  i % (c->nodes + 1) ? MM_DISTANCE_REMOTE :
		                                         MM_DISTANCE_LOCAL;
	for (uint32_t i = 0; i < c->cpus; i++)
		mm->cpu_node[i] = c->cpu_node ? c->cpu_node[i] : (uint8_t)(i % c->nodes);
	c->distance = mm->distance;
	c->cpu_node = mm->cpu_node;
}

uint32_t mm_cpu_node(const struct mm *mm, uint32_t cpu)
{
	return mm->cpu_node[cpu];
}

uint32_t mm_node_distance(const struct mm *mm, uint32_t from, uint32_t to)
{
	return mm->distance[from * mm->config.nodes + to];
}

int mm_init(struct mm **ret, const struct mm_config *c, void *memory, const struct memblock *mb)
{
	struct mm_layout l;
	const char *why;
	struct mm *mm;
	int err;

	if (mm_config_check(c, &why) || ((uintptr_t)memory % MM_LINE) != 0)
		return -EINVAL;
	mm = calloc(1, sizeof(*mm));
	if (!mm)
		return -ENOMEM;
	l = mm_layout(c);
	mm->config = *c;
	mm->nr_sections = (uint32_t)(c->frames >> c->section_order);
	mm->section = (_Atomic uint64_t *)((char *)memory + l.section);
	mm->page = (struct page *)((char *)memory + l.page);
	mm->pageblock = (_Atomic uint8_t *)((char *)memory + l.pageblock);
	mm->link = calloc(c->frames, sizeof(*mm->link));
	mm->mark = calloc(c->frames, sizeof(*mm->mark));
	mm->large = calloc(c->frames >> PAGEBLOCK_ORDER, sizeof(*mm->large));
	mm->unmanaged = calloc((c->frames + 63) / 64, sizeof(*mm->unmanaged));
	mm->compact_skip = calloc(c->frames >> PAGEBLOCK_ORDER, sizeof(*mm->compact_skip));
	mm->distance = calloc(c->nodes, c->nodes);
	mm->cpu_node = calloc(c->cpus, 1);
	mm->geometry = calloc(mm->nr_sections, sizeof(*mm->geometry));
	mm->section_zone = calloc(mm->nr_sections, sizeof(*mm->section_zone));
	mm->owner = calloc(mm->nr_sections, sizeof(*mm->owner));
	if (!mm->link || !mm->mark || !mm->large || !mm->unmanaged || !mm->compact_skip ||
	    !mm->distance || !mm->cpu_node || !mm->geometry || !mm->section_zone || !mm->owner)
		err = -ENOMEM;
	else
		err = sparse_init(mm, mb);
	if (!err)
		topology_copy(mm);
	if (err) {
		mm_free(mm);
		return err;
	}
	*ret = mm;
	return 0;
}

struct mm *mm_free(struct mm *mm)
{
	if (!mm)
		return NULL;
	free(mm->link);
	free(mm->mark);
	free(mm->large);
	free(mm->unmanaged);
	free(mm->compact_skip);
	free(mm->distance);
	free(mm->cpu_node);
	free(mm->geometry);
	free(mm->section_zone);
	free(mm->owner);
	free(mm);
	return NULL;
}

const struct mm_config *mm_config(const struct mm *mm)
{
	return &mm->config;
}

/* SPDX-License-Identifier: MIT */
/*
 * Reports: values in, text out. Every function here is pure but for the stream that it prints to,
 * so that tests feed it the values of a saved file and compare bytes.
 *
 * The first group prints Linux's formats (zoneinfo, buddyinfo, pagetypeinfo, slabinfo,
 * vmallocinfo, iomem, meminfo, vmstat) byte for byte: names, order, widths and trailing spaces are what existing parsers rely
 * on. The second group prints kmmd's own reports, for people.
 */
#ifndef CLIENT_KMMCTL_REPORT_H
#define CLIENT_KMMCTL_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/kmm.pb.h"

#define REPORT_ORDERS 11u /* free lists: blocks of 2^0..2^10 frames */
#define REPORT_TYPES 5u   /* Unmovable Movable Reclaimable HighAtomic Isolate */
#define REPORT_PAGEBLOCK_ORDER 9u
#define REPORT_NODE_STATS 51u
#define REPORT_ZONE_STATS 11u
#define REPORT_NUMA_STATS 6u
#define REPORT_PROTECTION_MAX 8u
#define REPORT_CPUS_MAX 256u
#define REPORT_NAME_MAX 63u
#define REPORT_NODES_MAX 256u

/* The zone that Linux has behind Movable and a pool never has; printed empty. */
#define REPORT_ZONE_DEVICE "Device"

/* ---- Linux's formats ---- */

/* Names in the order of zoneinfo. */
extern const char *const report_node_stat_names[REPORT_NODE_STATS];
extern const char *const report_zone_stat_names[REPORT_ZONE_STATS];
extern const char *const report_numa_stat_names[REPORT_NUMA_STATS];
extern const char *const report_type_names[REPORT_TYPES];

struct report_pcp {
	uint32_t cpu, count, high, batch, high_min, high_max;
};

struct report_zone {
	uint32_t node;
	char name[16];
	uint64_t free, boost, min, low, high, promo; /* frames; the watermarks include the boost */
	uint64_t spanned, present, managed, cma;
	uint64_t protection[REPORT_PROTECTION_MAX];
	uint32_t nr_protection;
	uint64_t stat[REPORT_ZONE_STATS];
	uint64_t numa[REPORT_NUMA_STATS];
	struct report_pcp pcp[REPORT_CPUS_MAX];
	uint32_t nr_pcp;
	uint32_t stat_threshold;
	uint64_t start_pfn;
	uint64_t nr_free[REPORT_ORDERS];
	uint64_t nr_free_type[REPORT_TYPES][REPORT_ORDERS];
	uint64_t pageblocks[REPORT_TYPES];
	/* no line in Linux's formats: --json shows them */
	uint64_t alloc, freed, fallback, steal, claim, alloc_fail, nr_highatomic;
};

struct report_node {
	uint64_t stat[REPORT_NODE_STATS];
};

struct report_resource {
	uint64_t start, end; /* inclusive */
	uint32_t depth;
	char name[REPORT_NAME_MAX + 1];
};

/* Sets the statistic of that name; false: there is none. */
bool report_node_stat_set(struct report_node *node, const char *name, uint64_t value);

/* `zone` is node-major and holds every zone of every node; `node` is indexed by node number: what
 * is beyond nr_nodes has no statistics and shows 0. */
void report_zoneinfo(FILE *out, const struct report_zone zone[], size_t n,
                     const struct report_node node[], size_t nr_nodes);
void report_buddyinfo(FILE *out, const struct report_zone zone[], size_t n);
void report_pagetypeinfo(FILE *out, const struct report_zone zone[], size_t n);
void report_iomem(FILE *out, const struct report_resource resource[], size_t n);
void report_slabinfo(FILE *out, const kmm_v1_Cache cache[], size_t n);
/* Pages of one slab. */
unsigned int report_slab_pages(const kmm_v1_Cache *c);

#define REPORT_MEMINFO_LINES 58u
struct report_meminfo {
	bool highmem; /* the High and Low lines are shown */
	uint64_t value[REPORT_MEMINFO_LINES]; /* kB, but for HugePages_* */
};
/* The label of line i, without its colon. */
const char *report_meminfo_label(size_t i);
/* False, and no line is shown, for the lines of a machine with high memory when there is none. */
bool report_meminfo_shown(const struct report_meminfo *m, size_t i);
/* Sets the line of that label; false: there is none. */
bool report_meminfo_set(struct report_meminfo *m, const char *label, uint64_t value);
void report_meminfo(FILE *out, const struct report_meminfo *m);

#define REPORT_VMSTAT_LINES 195u
struct report_vmstat {
	bool highmem; /* the lines of kernels with high memory are shown */
	uint64_t value[REPORT_VMSTAT_LINES];
};
/* NULL: there are not so many. */
const char *report_vmstat_name(size_t i);
bool report_vmstat_shown(const struct report_vmstat *v, size_t i);
/* Adds to the line of that name; false: there is none. */
bool report_vmstat_add(struct report_vmstat *v, const char *name, uint64_t value);
void report_vmstat(FILE *out, const struct report_vmstat *v);

/* In the order in which they are to be shown, but for freed ones, which come last. */
void report_vmallocinfo(FILE *out, const kmm_v1_Area area[], size_t n);
bool report_area_shown(const kmm_v1_Area *a);
/* "vmalloc" "percpu" "stack" "unpurged" */
const char *report_area_kind(const kmm_v1_Area *a);
/* symbol+0x1/0x2 */
const char *report_area_caller(const kmm_v1_Area *a);

/* ---- kmmd's own ---- */

/* `now` is the time that ages are counted from, seconds since the epoch. */
void report_sessions(FILE *out, const kmm_v1_Session session[], size_t n, uint64_t now);
void report_session(FILE *out, const kmm_v1_Session *s, uint64_t now);
void report_leaks(FILE *out, const kmm_v1_Leak leak[], size_t n, uint64_t now);
/* What compaction did, a line a zone. */
void report_compact(FILE *out, const kmm_v1_Compacted zone[], size_t n);
void report_names(FILE *out, const kmm_v1_Name name[], size_t n);
void report_health(FILE *out, const kmm_v1_CheckReply *h);
const char *report_health_status(kmm_v1_CheckReply_Status status);
void report_methods(FILE *out, const kmm_v1_MethodInfo method[], size_t n);
/* One method with the schema of its messages. */
void report_method(FILE *out, const kmm_v1_MethodInfo *m);

#endif

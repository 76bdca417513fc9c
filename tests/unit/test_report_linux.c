/* SPDX-License-Identifier: MIT */
/*
 * kmmctl's reports in Linux's formats against saved files of a Linux machine (tests/data).
 *
 *     file ── read_*() ──> values ── report_*() ──> text        must be the file, byte for byte
 *
 * The readers find values by their names and positions in the file alone, they share no format
 * with the reports. What the files do not show (several nodes, empty nodes, high memory, counts
 * beyond Linux's cap) is compared with text written out here.
 */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/kmmctl/report.h"
#include "tests/suite.h"
#include "tests/unit/test_report.h"

#define ZONES_MAX 12u

static struct report_zone zones[ZONES_MAX];
static size_t nr_zones;
static struct report_node nodes[1];

/* ---- files and lines ---- */

static char *file_text(const char *name)
{
	char *text = calloc(1, 65536);
	FILE *f = open_data(name);

	ck_assert_ptr_nonnull(text);
	ck_assert_uint_gt(fread(text, 1, 65535, f), 0);
	fclose(f);
	return text;
}

/* Cuts the next line off; NULL at the end. */
static char *next_line(char **rest)
{
	return *rest && **rest ? strsep(rest, "\n") : NULL;
}

/* ---- reading the saved files ---- */

static struct report_zone *zone_of(uint32_t node, const char *name)
{
	for (size_t i = 0; i < nr_zones; i++)
		if (zones[i].node == node && strcmp(zones[i].name, name) == 0)
			return &zones[i];
	ck_assert_uint_lt(nr_zones, ZONES_MAX);
	zones[nr_zones].node = node;
	snprintf(zones[nr_zones].name, sizeof(zones[0].name), "%s", name);
	return &zones[nr_zones++];
}

static bool read_stat(const char *const name[], uint64_t value[], size_t n, const char *key,
                      uint64_t number)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(name[i], key) == 0) {
			value[i] = number;
			return true;
		}
	}
	return false;
}

/* A line "key number" of zoneinfo, wherever it stands in its zone. */
static bool read_zone_number(struct report_zone *z, const char *key, uint64_t number)
{
	struct report_pcp *p = z->nr_pcp ? &z->pcp[z->nr_pcp - 1] : NULL;
	const struct {
		const char *key;
		uint64_t *field;
	} fields[] = {
		{ "boost", &z->boost },       { "min", &z->min },         { "low", &z->low },
		{ "high", &z->high },        { "promo", &z->promo },     { "spanned", &z->spanned },
		{ "present", &z->present },   { "managed", &z->managed }, { "cma", &z->cma },
		{ "start_pfn:", &z->start_pfn },
	};
	const struct {
		const char *key;
		uint32_t *field;
	} pcp_fields[] = {
		{ "count:", p ? &p->count : NULL },       { "high:", p ? &p->high : NULL },
		{ "batch:", p ? &p->batch : NULL },       { "high_min:", p ? &p->high_min : NULL },
		{ "high_max:", p ? &p->high_max : NULL },
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (strcmp(fields[i].key, key) == 0) {
			*fields[i].field = number;
			return true;
		}
	}
	for (size_t i = 0; p && i < sizeof(pcp_fields) / sizeof(pcp_fields[0]); i++) {
		if (strcmp(pcp_fields[i].key, key) == 0) {
			*pcp_fields[i].field = (uint32_t)number;
			return true;
		}
	}
	return read_stat(report_node_stat_names, nodes[0].stat, REPORT_NODE_STATS, key, number) ||
	       read_stat(report_zone_stat_names, z->stat, REPORT_ZONE_STATS, key, number) ||
	       read_stat(report_numa_stat_names, z->numa, REPORT_NUMA_STATS, key, number);
}

static void read_zone_line(struct report_zone *z, const char *line)
{
	char key[64];
	uint64_t number;
	const char *p;

	if (sscanf(line, " protection: (%" SCNu64, &number) == 1) {
		for (p = strchr(line, '('); *p && *p != ')'; p += strcspn(p, ",)"))
			z->protection[z->nr_protection++] = strtoull(++p, NULL, 10);
	} else if (sscanf(line, " pages free %" SCNu64, &number) == 1) {
		z->free = number;
	} else if (sscanf(line, " cpu: %" SCNu64, &number) == 1) {
		z->pcp[z->nr_pcp++].cpu = (uint32_t)number;
	} else if (sscanf(line, " vm stats threshold: %" SCNu64, &number) == 1) {
		z->stat_threshold = (uint32_t)number;
	} else if (sscanf(line, " node_unreclaimable: %" SCNu64, &number) == 1) {
		ck_assert_uint_eq(number, 0);
	} else if (sscanf(line, " %63s %" SCNu64, key, &number) == 2) {
		ck_assert_msg(read_zone_number(z, key, number), "unknown line: %s", line);
	} else {
		ck_assert_msg(strcmp(line, "  per-node stats") == 0 ||
		              strcmp(line, "  pagesets") == 0, "unknown line: %s", line);
	}
}

static void read_zoneinfo(const char *file)
{
	char *text = strdup(file), *rest = text, *line, name[16];
	struct report_zone *z = NULL;
	uint32_t node;

	while ((line = next_line(&rest))) {
		if (sscanf(line, "Node %" SCNu32 ", zone %15s", &node, name) == 2) {
			z = zone_of(node, name);
			continue;
		}
		ck_assert_ptr_nonnull(z);
		read_zone_line(z, line);
	}
	free(text);
}

/* Whatever zoneinfo would say; buddyinfo shows populated zones only. */
static struct report_zone *populated_zone(uint32_t node, const char *name)
{
	struct report_zone *z = zone_of(node, name);

	z->present = z->managed = 1;
	return z;
}

static void read_numbers(const char *text, uint64_t value[], size_t n)
{
	char *end;

	for (size_t i = 0; i < n; i++, text = end) {
		value[i] = strtoull(text, &end, 10);
		ck_assert_ptr_ne(end, text);
	}
}

static void read_buddyinfo(const char *file)
{
	char *text = strdup(file), *rest = text, *line, name[16];
	uint32_t node;
	int at;

	while ((line = next_line(&rest))) {
		ck_assert_int_eq(sscanf(line, "Node %" SCNu32 ", zone %15s%n", &node, name, &at),
		                 2);
		read_numbers(line + at, populated_zone(node, name)->nr_free, REPORT_ORDERS);
	}
	free(text);
}

static size_t type_index(const char *name)
{
	for (size_t i = 0; i < REPORT_TYPES; i++)
		if (strcmp(report_type_names[i], name) == 0)
			return i;
	ck_abort_msg("unknown type %s", name);
	return 0;
}

static void read_pagetypeinfo(const char *file)
{
	char *text = strdup(file), *rest = text, *line, name[16], type[16];
	uint32_t node;
	int at;

	while ((line = next_line(&rest))) {
		if (sscanf(line, "Node %" SCNu32 ", zone %15[^,], type %15s%n", &node, name, type,
		           &at) == 3)
			read_numbers(line + at,
			             populated_zone(node, name)->nr_free_type[type_index(type)],
			             REPORT_ORDERS);
		else if (sscanf(line, "Node %" SCNu32 ", zone %15s%n", &node, name, &at) == 2)
			read_numbers(line + at, populated_zone(node, name)->pageblocks,
			             REPORT_TYPES);
	}
	free(text);
}

/* ---- the saved files, byte for byte ---- */

static void start(void)
{
	memset(zones, 0, sizeof(zones));
	memset(nodes, 0, sizeof(nodes));
	nr_zones = 0;
}

START_TEST(zoneinfo_is_the_saved_file)
{
	char *file = file_text("zoneinfo");
	struct capture c;

	read_zoneinfo(file);
	ck_assert_uint_eq(nr_zones, 5);
	report_zoneinfo(capture_start(&c), zones, nr_zones, nodes, 1);
	assert_printed(&c, file);
	free(file);
}
END_TEST

START_TEST(buddyinfo_is_the_saved_file)
{
	char *file = file_text("buddyinfo");
	struct capture c;

	read_buddyinfo(file);
	ck_assert_uint_eq(nr_zones, 3);
	report_buddyinfo(capture_start(&c), zones, nr_zones);
	assert_printed(&c, file);
	free(file);
}
END_TEST

START_TEST(pagetypeinfo_is_the_saved_file)
{
	char *file = file_text("pagetypeinfo");
	struct capture c;

	read_pagetypeinfo(file);
	ck_assert_uint_eq(nr_zones, 3);
	report_pagetypeinfo(capture_start(&c), zones, nr_zones);
	assert_printed(&c, file);
	free(file);
}
END_TEST

START_TEST(iomem_is_the_saved_file)
{
	static struct report_resource resource[64];
	char *file = file_text("iomem"), *text = strdup(file), *rest = text, *line;
	struct capture c;
	size_t n = 0;

	for (; (line = next_line(&rest)); n++) {
		ck_assert_uint_lt(n, 64);
		resource[n].depth = (uint32_t)strspn(line, " ") / 2;
		ck_assert_int_eq(sscanf(line, " %" SCNx64 "-%" SCNx64 " : %63[^\n]",
		                        &resource[n].start, &resource[n].end, resource[n].name), 3);
	}
	report_iomem(capture_start(&c), resource, n);
	assert_printed(&c, file);
	free(text);
	free(file);
}
END_TEST

START_TEST(meminfo_is_the_saved_file)
{
	char *file = file_text("meminfo"), *text = strdup(file), *rest = text, *line, label[32];
	struct report_meminfo m = { .highmem = false };
	struct capture c;
	uint64_t value;

	while ((line = next_line(&rest))) {
		ck_assert_int_eq(sscanf(line, "%31[^:]: %" SCNu64, label, &value), 2);
		ck_assert_msg(report_meminfo_set(&m, label, value), "no line for %s", label);
	}
	report_meminfo(capture_start(&c), &m);
	assert_printed(&c, file);
	free(text);
	free(file);
}
END_TEST

/* The saved machine's allocator has no tunables and no partly full slabs to tell: zeroes there. */
START_TEST(slabinfo_is_the_saved_file)
{
	static kmm_v1_Cache cache[256];
	char *file = file_text("slabinfo"), *text = strdup(file), *rest = text, *line;
	struct capture c;
	size_t n = 0;

	ck_assert_str_eq(next_line(&rest), "slabinfo - version: 2.1");
	ck_assert_int_eq(next_line(&rest)[0], '#');
	for (; (line = next_line(&rest)) && *line; n++) {
		kmm_v1_Cache *o = &cache[n];
		uint32_t pages;

		ck_assert_uint_lt(n, 256);
		ck_assert_int_eq(sscanf(line, "%63s %" SCNu64 " %" SCNu64 " %" SCNu32 " %" SCNu32
		                              " %" SCNu32 " : tunables %" SCNu32 " %" SCNu32
		                              " %" SCNu32 " : slabdata %" SCNu64 " %" SCNu64
		                              " %" SCNu64,
		                        o->name, &o->active_objects, &o->objects, &o->stride,
		                        &o->objects_per_slab, &pages, &o->limit, &o->batchcount,
		                        &o->shared, &o->active_slabs, &o->slabs,
		                        &o->shared_available), 12);
		while (report_slab_pages(o) < pages)
			o->order++;
	}
	ck_assert_uint_gt(n, 100);
	report_slabinfo(capture_start(&c), cache, n);
	assert_printed(&c, file);
	free(text);
	free(file);
}
END_TEST

/* ---- what the files do not show ---- */

static void make_zone(uint32_t node, const char *name, uint64_t present)
{
	struct report_zone *z = zone_of(node, name);

	z->present = z->managed = present;
	z->nr_protection = 5;
}

START_TEST(zoneinfo_shows_every_node_and_empty_zones)
{
	struct capture c;
	char *text, *rest, *line;
	size_t zone_lines = 0, stat_blocks = 0, pagesets = 0;

	make_zone(0, "DMA", 0);
	make_zone(0, "Normal", 4096);
	make_zone(1, "DMA", 0);
	make_zone(1, "Normal", 0);
	make_zone(2, "DMA", 512);
	make_zone(2, "Normal", 4096);
	report_zoneinfo(capture_start(&c), zones, nr_zones, NULL, 0);
	text = capture_end(&c);
	for (rest = text; (line = next_line(&rest));) {
		ck_assert_msg(line[0] != '\0', "an empty line");
		zone_lines += strncmp(line, "Node ", 5) == 0;
		stat_blocks += strcmp(line, "  per-node stats") == 0;
		pagesets += strcmp(line, "  pagesets") == 0;
	}
	ck_assert_uint_eq(zone_lines, 6);
	ck_assert_uint_eq(stat_blocks, 2); /* node 1 has no populated zone */
	ck_assert_uint_eq(pagesets, 3);
	free(text);
}
END_TEST

START_TEST(buddyinfo_leaves_out_empty_zones)
{
	struct capture c;

	make_zone(0, "DMA", 0);
	make_zone(0, "Normal", 4096);
	zones[1].nr_free[10] = 4;
	make_zone(3, "Movable", 1024);
	zones[2].nr_free[0] = 1234567;
	report_buddyinfo(capture_start(&c), zones, nr_zones);
	assert_printed(&c, "Node 0, zone   Normal      0      0      0      0      0      0 "
	                   "     0      0      0      0      4 \n"
	                   "Node 3, zone  Movable 1234567      0      0      0      0      0 "
	                   "     0      0      0      0      0 \n");
}
END_TEST

START_TEST(pagetypeinfo_caps_counts_and_repeats_for_each_node)
{
	struct capture c;
	char *text;

	make_zone(0, "Normal", 4096);
	make_zone(1, "Normal", 0);
	make_zone(2, "Normal", 4096);
	zones[0].nr_free_type[1][0] = 99999;
	zones[0].nr_free_type[1][1] = 100000;
	zones[0].nr_free_type[1][2] = 7000000;
	report_pagetypeinfo(capture_start(&c), zones, nr_zones);
	text = capture_end(&c);
	ck_assert_ptr_nonnull(strstr(text, "type      Movable  99999 >100000 >100000      0 "));
	ck_assert_ptr_nonnull(strstr(text, "Node    2, zone   Normal, type    Unmovable "));
	ck_assert_ptr_null(strstr(text, "Node 1,"));
	/* The heading of each of the two populated nodes. */
	ck_assert_int_eq(strncmp(text, "Page block order: 9\n", 20), 0);
	ck_assert_ptr_nonnull(strstr(text + 20, "\nPage block order: 9\n"
	                                        "Pages per block:  512\n\n"));
	ck_assert_ptr_null(strstr(strstr(text + 20, "Page block order") + 1, "Page block order"));
	free(text);
}
END_TEST

START_TEST(meminfo_with_high_memory_has_four_lines_more)
{
	struct report_meminfo m = { .highmem = true };
	struct capture c;
	char *text;

	ck_assert(report_meminfo_set(&m, "HighTotal", 1024));
	ck_assert(report_meminfo_set(&m, "LowFree", 7));
	ck_assert(!report_meminfo_set(&m, "NoSuchLine", 7));
	report_meminfo(capture_start(&c), &m);
	text = capture_end(&c);
	ck_assert_ptr_nonnull(strstr(text, "Mlocked:               0 kB\n"
	                                   "HighTotal:          1024 kB\n"
	                                   "HighFree:              0 kB\n"
	                                   "LowTotal:              0 kB\n"
	                                   "LowFree:               7 kB\n"
	                                   "SwapTotal:             0 kB\n"));
	free(text);
}
END_TEST

START_TEST(slabinfo_shows_tunables_and_large_numbers)
{
	static kmm_v1_Cache cache = { .active_objects = 12345678, .objects = 23456789,
		                      .stride = 4194304, .order = 10, .objects_per_slab = 1,
		                      .limit = 512, .batchcount = 255, .shared = 16,
		                      .active_slabs = 2000000, .slabs = 3000000,
		                      .shared_available = 8192 };
	static const char rest[] = " 12345678 23456789 4194304    1 1024 : tunables  512  255   16 "
	                           ": slabdata 2000000 3000000   8192\n";
	struct capture c;
	char *text, *row;

	memset(cache.name, 'n', sizeof(cache.name) - 1);
	report_slabinfo(capture_start(&c), &cache, 1);
	text = capture_end(&c);
	row = strstr(text, cache.name);
	ck_assert_ptr_nonnull(row);
	ck_assert_str_eq(row + strlen(cache.name), rest);
	free(text);
	cache.order = 4711; /* from a daemon that lies */
	ck_assert_uint_eq(report_slab_pages(&cache), 0);
}
END_TEST

START_TEST(zoneinfo_shows_the_nodes_statistics)
{
	static struct report_node node[1];
	struct capture c;
	char *text, *second;

	make_zone(0, "DMA", 4096);
	make_zone(1, "DMA", 4096);
	ck_assert(report_node_stat_set(&node[0], "nr_slab_unreclaimable", 4711));
	ck_assert(!report_node_stat_set(&node[0], "nr_nonsense", 1));
	report_zoneinfo(capture_start(&c), zones, nr_zones, node, 1);
	text = capture_end(&c);
	second = strstr(text, "Node 1,");
	ck_assert_ptr_nonnull(second);
	ck_assert_ptr_nonnull(strstr(second, "      nr_slab_unreclaimable 0\n"));
	*second = '\0';
	ck_assert_ptr_nonnull(strstr(text, "      nr_slab_reclaimable 0\n"
	                                   "      nr_slab_unreclaimable 4711\n"));
	free(text);
}
END_TEST

START_TEST(meminfo_labels_are_complete)
{
	assert_names(report_meminfo_label, REPORT_MEMINFO_LINES);
}
END_TEST

/* ---- JSON ---- */

START_TEST(json_has_the_values_of_the_text)
{
	char *file = file_text("zoneinfo");
	struct json_object *a, *zone, *v = NULL;

	read_zoneinfo(file);
	a = json_zoneinfo(zones, nr_zones, nodes, 1);
	ck_assert_uint_eq(json_object_array_length(a), 5);
	zone = json_object_array_get_idx(a, 1);
	ck_assert_int_eq(json_int(zone, "managed"), 772915);
	ck_assert_int_eq(json_int(zone, "promo"), 24293);
	ck_assert_int_eq(json_int(zone, "start_pfn"), 4096);
	v = json_object_array_get_idx(json_member(zone, "protection"), 2);
	ck_assert_int_eq(json_object_get_int64(v), 640);
	v = json_object_array_get_idx(json_member(zone, "pagesets"), 1);
	ck_assert_int_eq(json_int(v, "high_max"), 48307);
	/* The node's statistics come with its first populated zone. */
	ck_assert(!json_object_object_get_ex(zone, "per_node_stats", &v));
	v = json_member(json_object_array_get_idx(a, 0), "per_node_stats");
	ck_assert_int_eq(json_object_object_length(v), REPORT_NODE_STATS);
	ck_assert_int_eq(json_int(v, "nr_slab_reclaimable"), 3379);
	/* An empty zone ends where its text does. */
	ck_assert(!json_object_object_get_ex(json_object_array_get_idx(a, 4), "pagesets", &v));
	json_object_put(a);
	free(file);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("report_linux");
	TCase *tcase = tcase_create("report_linux");

	tcase_add_checked_fixture(tcase, start, NULL);
	tcase_add_test(tcase, zoneinfo_is_the_saved_file);
	tcase_add_test(tcase, buddyinfo_is_the_saved_file);
	tcase_add_test(tcase, pagetypeinfo_is_the_saved_file);
	tcase_add_test(tcase, iomem_is_the_saved_file);
	tcase_add_test(tcase, meminfo_is_the_saved_file);
	tcase_add_test(tcase, slabinfo_is_the_saved_file);
	tcase_add_test(tcase, slabinfo_shows_tunables_and_large_numbers);
	tcase_add_test(tcase, zoneinfo_shows_every_node_and_empty_zones);
	tcase_add_test(tcase, zoneinfo_shows_the_nodes_statistics);
	tcase_add_test(tcase, buddyinfo_leaves_out_empty_zones);
	tcase_add_test(tcase, pagetypeinfo_caps_counts_and_repeats_for_each_node);
	tcase_add_test(tcase, meminfo_with_high_memory_has_four_lines_more);
	tcase_add_test(tcase, meminfo_labels_are_complete);
	tcase_add_test(tcase, json_has_the_values_of_the_text);
	suite_add_tcase(suite, tcase);
	return suite_status(suite);
}

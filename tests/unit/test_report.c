/* SPDX-License-Identifier: MIT */
/*
 * kmmctl's reports against saved files of a Linux machine (tests/data).
 *
 *     file ── read_*() ──> values ── report_*() ──> text        must be the file, byte for byte
 *
 * The readers find values by their names and positions in the file alone, they share no format
 * with the reports. What the files do not show (several nodes, empty nodes, high memory, counts
 * beyond Linux's cap, hostile names) is compared with text written out here.
 */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/kmmctl/command.h"
#include "client/kmmctl/fetch.h"
#include "client/kmmctl/json.h"
#include "client/kmmctl/report.h"
#include "client/kmmctl/table.h"

#define ZONES_MAX 12u

static struct report_zone zones[ZONES_MAX];
static size_t nr_zones;
static struct report_node nodes[1];

/* ---- files and lines ---- */

static char *file_text(const char *name)
{
	const char *srcdir = getenv("srcdir");
	char path[4096], *text = calloc(1, 65536);
	FILE *f;

	snprintf(path, sizeof(path), "%s/tests/data/%s", srcdir ? srcdir : ".", name);
	f = fopen(path, "re");
	if (!f || !text)
		ck_abort_msg("%s: %s", path, strerror(errno));
	ck_assert_uint_gt(fread(text, 1, 65535, f), 0);
	fclose(f);
	return text;
}

/* Cuts the next line off; NULL at the end. */
static char *next_line(char **rest)
{
	return *rest && **rest ? strsep(rest, "\n") : NULL;
}

struct capture {
	FILE *out;
	char *text;
	size_t size;
};

static FILE *capture_start(struct capture *c)
{
	c->out = open_memstream(&c->text, &c->size);
	ck_assert_ptr_nonnull(c->out);
	return c->out;
}

/* What was printed, to be freed. */
static char *capture_end(struct capture *c)
{
	ck_assert_int_eq(fclose(c->out), 0);
	return c->text;
}

static void assert_printed(struct capture *c, const char *expected)
{
	char *printed = capture_end(c);

	ck_assert_str_eq(printed, expected);
	free(printed);
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
	for (size_t i = 0; i < REPORT_MEMINFO_LINES; i++)
		ck_assert_ptr_nonnull(report_meminfo_label(i));
	ck_assert_ptr_null(report_meminfo_label(REPORT_MEMINFO_LINES));
}
END_TEST

/* ---- kmmd's own reports ---- */

static void make_session(kmm_v1_Session *s, uint32_t id, const char *name)
{
	*s = (kmm_v1_Session)kmm_v1_Session_init_zero;
	s->id = id;
	s->pid = 4000 + id;
	s->uid = 1000;
	s->opened = 100;
	strcpy(s->state, "live");
	strcpy(s->domain, "default");
	strcpy(s->name, name);
}

START_TEST(session_table_is_aligned)
{
	static kmm_v1_Session s[2];
	struct capture c;

	make_session(&s[0], 7, "feed");
	s[0].granted = 3;
	make_session(&s[1], 12345, "größer");
	s[1].granted = 1u << 19;
	s[1].objects = 70;
	s[1].object_bytes = 4480;
	s[1].pages_max = 1u << 20;
	report_sessions(capture_start(&c), s, 2, 165);
	assert_printed(&c,
	               "   ID    PID   UID  STATE  DOMAIN   GRANTED  CACHED  OBJECTS  OBJMEM"
	               "  CHARGED  LIMIT  HOLDS  PARKED  CHANNELS  CALLS  REFUSED   AGE  NAME\n"
	               "    7   4007  1000  live   default      12K       0        0       0"
	               "        0   none      0       0         0      0        0  1m5s  feed\n"
	               "12345  16345  1000  live   default       2G       0       70    4.3K"
	               "        0     4G      0       0         0      0        0  1m5s  größer\n");
}
END_TEST

START_TEST(session_in_full)
{
	static kmm_v1_Session s;
	struct capture c;

	make_session(&s, 7, "feed");
	s.granted = 516;
	s.blocks_count = 11;
	s.blocks[0] = 4;
	s.blocks[9] = 1;
	s.objects = 300;
	s.object_bytes = 38400;
	s.objects_returned = 31;
	s.caches = 2;
	s.names = 1;
	s.cache_count = 2;
	strcpy(s.cache[0].name, "message");
	s.cache[0].objects = 200;
	s.cache[0].bytes = 25600;
	strcpy(s.cache[1].name, "kmalloc-128");
	s.cache[1].objects = 100;
	s.cache[1].bytes = 12800;
	s.calls = 10;
	s.refused = 2;
	strcpy(s.last_error, "order 11 is above 10");
	report_session(capture_start(&c), &s, 165);
	assert_printed(&c, "session    7\n"
	                   "name       feed\n"
	                   "state      live\n"
	                   "domain     default\n"
	                   "process    pid 4007, uid 1000, gid 0\n"
	                   "opened     1970-01-01 00:01:40 UTC (1m5s ago)\n"
	                   "granted    516 frames (2M)\n"
	                   "cached     0 frames (0), taken back when memory is short\n"
	                   "charged    0 frames (0)\n"
	                   "limit      none\n"
	                   "blocks     order 0: 4\n"
	                   "blocks     order 9: 1\n"
	                   "objects    300 (37.5K), those that its threads cache included\n"
	                   "of cache   message: 200 (25K)\n"
	                   "of cache   kmalloc-128: 100 (12.5K)\n"
	                   "returned   31 objects, taken back when memory is short\n"
	                   "caches     2 open\n"
	                   "names      1 published by its user\n"
	                   "magazines  0\n"
	                   "holds      0\n"
	                   "channels   0\n"
	                   "calls      10, 2 of them refused, 0 parked now\n"
	                   "last error order 11 is above 10\n");
}
END_TEST

START_TEST(leaks_name_who_holds_what)
{
	static kmm_v1_Leak l[3] = {
		{ .session = 7, .name = "feed", .pid = 4007, .opened = 100, .state = "live",
		  .cache = "message", .objects = 12, .bytes = 1536 },
		{ .session = 7, .name = "feed", .pid = 4007, .opened = 100, .state = "live",
		  .objects = 3, .bytes = 3 * 4096 },
		{ .state = "holders", .cache = "config", .objects = 1, .bytes = 64 },
	};
	struct capture c;

	report_leaks(capture_start(&c), l, 3, 165);
	assert_printed(&c, "SESSION   PID  STATE     AGE  CACHE          OBJECTS  MEMORY  NAME\n"
	                   "      7  4007  live     1m5s  message             12    1.5K  feed\n"
	                   "      7  4007  live     1m5s  (page blocks)        3     12K  feed\n"
	                   "      -     -  holders     -  config               1      64  -\n");
}
END_TEST

START_TEST(health_is_loud_about_backing)
{
	static kmm_v1_CheckReply h = { .status = kmm_v1_CheckReply_Status_DEGRADED,
		                       .version = "0.1.0", .pid = 42, .epoch = 3,
		                       .uptime_ms = 61500, .bytes_4k = 1u << 26,
		                       .backing = "64 MiB of 4 KiB pages",
		                       .advice = "reserve huge pages\nand start again",
		                       .text = "one\ntwo\n", .damaged_domains = 1 };
	struct capture c;

	report_health(capture_start(&c), &h);
	assert_printed(&c, "status     DEGRADED\n"
	                   "daemon     kmmd 0.1.0, pid 42, start 3 of this pool, up 1m1s\n"
	                   "BACKING    64 MiB of 4 KiB pages\n"
	                   "           in pages of 4K: 64M, of 2M: 0, of 1G: 0\n"
	                   "ADVICE     reserve huge pages\n"
	                   "           and start again\n"
	                   "DAMAGED    1 domain(s): shared words that make no sense; "
	                   "see kmmctl fsck\n"
	                   "facts      one\n"
	                   "           two\n");
}
END_TEST

START_TEST(units)
{
	char text[TABLE_UNIT_SIZE];

	ck_assert_str_eq(table_bytes(text, 0), "0");
	ck_assert_str_eq(table_bytes(text, 1023), "1023");
	ck_assert_str_eq(table_bytes(text, 1024), "1K");
	ck_assert_str_eq(table_bytes(text, 1536), "1.5K");
	ck_assert_str_eq(table_bytes(text, 1048575), "1023.9K");
	ck_assert_str_eq(table_bytes(text, 1u << 30), "1G");
	ck_assert_str_eq(table_bytes(text, UINT64_MAX), "15.9E");
	ck_assert_str_eq(table_frames(text, 1), "4K");
	ck_assert_str_eq(table_frames(text, UINT64_MAX), "unlimited");
	ck_assert_str_eq(table_age(text, 59), "59s");
	ck_assert_str_eq(table_age(text, 3600), "1h0m");
	ck_assert_str_eq(table_age(text, 90000), "1d1h");
}
END_TEST

START_TEST(texts_from_clients_are_harmless)
{
	static const struct {
		const char *text, *clean;
	} cases[] = {
		{ "plain", "plain" },
		{ "größer €", "größer €" },
		{ "\xf0\x9f\x90\xa7", "\xf0\x9f\x90\xa7" },
		{ "a\033[2Jb\177", "a?[2Jb?" },
		{ "line\nbreak\ttab", "line?break?tab" },
		{ "\xc2\x9b" "2J", "??2J" },              /* C1 control */
		{ "\xff\xfe", "??" },                     /* no UTF-8 */
		{ "\xc0\xaf", "??" },                     /* overlong */
		{ "\xe0\x80\xaf", "???" },                /* overlong */
		{ "\xed\xa0\x80", "???" },                /* surrogate */
		{ "cut \xe2\x82", "cut ??" },             /* ends within a character */
	};
	char text[64];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		strcpy(text, cases[i].text);
		fetch_clean_text(text, false);
		ck_assert_str_eq(text, cases[i].clean);
	}
	strcpy(text, "two\nlines\033");
	fetch_clean_text(text, true);
	ck_assert_str_eq(text, "two\nlines?");
}
END_TEST

/* ---- JSON ---- */

static int64_t json_int(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	ck_assert_msg(json_object_object_get_ex(o, key, &v), "no key %s", key);
	return json_object_get_int64(v);
}

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
	ck_assert(json_object_object_get_ex(zone, "protection", &v));
	ck_assert_int_eq(json_object_get_int64(json_object_array_get_idx(v, 2)), 640);
	ck_assert(json_object_object_get_ex(zone, "pagesets", &v));
	ck_assert_int_eq(json_int(json_object_array_get_idx(v, 1), "high_max"), 48307);
	/* The node's statistics come with its first populated zone. */
	ck_assert(!json_object_object_get_ex(zone, "per_node_stats", &v));
	ck_assert(json_object_object_get_ex(json_object_array_get_idx(a, 0), "per_node_stats", &v));
	ck_assert_int_eq(json_object_object_length(v), REPORT_NODE_STATS);
	ck_assert_int_eq(json_int(v, "nr_slab_reclaimable"), 3379);
	/* An empty zone ends where its text does. */
	ck_assert(!json_object_object_get_ex(json_object_array_get_idx(a, 4), "pagesets", &v));
	json_object_put(a);
	free(file);
}
END_TEST

START_TEST(json_of_caches_and_leaks)
{
	static kmm_v1_Cache cache = { .name = "message", .active_objects = 7, .objects = 32,
		                      .stride = 128, .order = 1, .objects_per_slab = 64,
		                      .ctor = true, .reports = 2 };
	static kmm_v1_Leak leak = { .session = 3, .cache = "message", .objects = 7, .bytes = 896 };
	static kmm_v1_Session s;
	kmm_v1_ShrinkCacheReply r = { .pages = 9 };
	struct json_object *o, *first, *v = NULL;

	o = json_slabinfo(&cache, 1);
	ck_assert_uint_eq(json_object_array_length(o), 1);
	first = json_object_array_get_idx(o, 0);
	ck_assert_int_eq(json_int(first, "active_objs"), 7);
	ck_assert_int_eq(json_int(first, "objsize"), 128);
	ck_assert_int_eq(json_int(first, "pagesperslab"), 2);
	ck_assert_int_eq(json_int(first, "reports"), 2);
	ck_assert_int_eq(json_int(first, "ctor"), 1);
	json_object_put(o);

	o = json_leaks(&leak, 1);
	first = json_object_array_get_idx(o, 0);
	ck_assert_int_eq(json_int(first, "session"), 3);
	ck_assert_int_eq(json_int(first, "bytes"), 896);
	json_object_put(o);

	make_session(&s, 7, "feed");
	s.cache_count = 1;
	strcpy(s.cache[0].name, "message");
	s.cache[0].objects = 5;
	o = json_session(&s);
	ck_assert(json_object_object_get_ex(o, "cache", &v));
	ck_assert_int_eq(json_int(json_object_array_get_idx(v, 0), "objects"), 5);
	json_object_put(o);

	o = json_shrink(&r);
	ck_assert_int_eq(json_int(o, "pages"), 9);
	json_object_put(o);
}
END_TEST

START_TEST(json_quotes_names)
{
	static kmm_v1_Session s;
	struct json_object *o, *v = NULL, *again;

	make_session(&s, 7, "a\"b\\c");
	s.granted = UINT64_MAX;
	o = json_session(&s);
	again = json_tokener_parse(json_object_to_json_string(o));
	ck_assert_ptr_nonnull(again);
	ck_assert(json_object_object_get_ex(again, "name", &v));
	ck_assert_str_eq(json_object_get_string(v), "a\"b\\c");
	ck_assert(json_object_object_get_ex(again, "granted", &v));
	ck_assert_uint_eq(json_object_get_uint64(v), UINT64_MAX);
	json_object_put(again);
	json_object_put(o);
}
END_TEST

/* ---- the command line ---- */

START_TEST(commands_check_their_argument)
{
	/* What they say goes to stderr; only the verdict matters here. */
	ck_assert_ptr_null(command_find("slabinfo "));
	ck_assert_ptr_null(command_find(""));
	ck_assert(command_check(command_find("zoneinfo"), NULL));
	ck_assert(!command_check(command_find("zoneinfo"), "0"));
	ck_assert(!command_check(command_find("session"), NULL));
	ck_assert(command_check(command_find("session"), "1048575"));
	ck_assert(!command_check(command_find("session"), "1048576"));
	ck_assert(!command_check(command_find("session"), "0"));
	ck_assert(!command_check(command_find("session"), "-1"));
	ck_assert(!command_check(command_find("session"), " 1"));
	ck_assert(!command_check(command_find("session"), "1x"));
	ck_assert(!command_check(command_find("kill"), "99999999999999999999"));
	ck_assert(command_check(command_find("slabinfo"), NULL));
	ck_assert(!command_check(command_find("leaks"), "message"));
	ck_assert(!command_check(command_find("shrink"), NULL));
	ck_assert(!command_check(command_find("shrink"), ""));
	ck_assert(command_check(command_find("shrink"), "message"));
	ck_assert(command_check(command_find("shrink"), "123456789012345678901234567890123456789"
	                                                "012345678901234567890123"));
	ck_assert(!command_check(command_find("shrink"), "123456789012345678901234567890123456789"
	                                                 "0123456789012345678901234"));
	ck_assert(command_check(command_find("methods"), NULL));
	ck_assert(command_check(command_find("methods"), "kmm.v1.Health/Check"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("report");
	TCase *tcase = tcase_create("report");
	SRunner *runner;
	int failed;

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
	tcase_add_test(tcase, session_table_is_aligned);
	tcase_add_test(tcase, session_in_full);
	tcase_add_test(tcase, leaks_name_who_holds_what);
	tcase_add_test(tcase, health_is_loud_about_backing);
	tcase_add_test(tcase, units);
	tcase_add_test(tcase, texts_from_clients_are_harmless);
	tcase_add_test(tcase, json_has_the_values_of_the_text);
	tcase_add_test(tcase, json_of_caches_and_leaks);
	tcase_add_test(tcase, json_quotes_names);
	tcase_add_test(tcase, commands_check_their_argument);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

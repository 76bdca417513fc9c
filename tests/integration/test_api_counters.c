/* SPDX-License-Identifier: MIT */
/*
 * What vmstat, zoneinfo and meminfo count, moved by what they are said to count: each test does one
 * thing through a real daemon and looks at the difference that it made.
 *
 * The pool has all five zones:  DMA 16 MiB | DMA32 16 | Normal | HighMem 8 | Movable 8
 */
#include <check.h>
#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/integration/waiting.h"

#define ZONES "[pool]\ndma_size = 16M\ndma32_size = 32M\nhighmem = 8M\nmovable = 8M\n"

/* The number behind `before`, `name`, `after` in what kmmctl prints; all that there are, summed. */
static uint64_t number_in(const char *const args[], const char *before, const char *name,
			  const char *after)
{
	char key[128], *text, *p;
	uint64_t sum = 0;
	unsigned found = 0;

	snprintf(key, sizeof(key), "%s%s%s", before, name, after);
	ck_assert_int_eq(daemon_ctl(&d, &text, args), 0);
	for (p = text; (p = strstr(p, key)) != NULL; found++) {
		p += strlen(key);
		sum += strtoull(p, &p, 10);
	}
	ck_assert_msg(found > 0, "there is no %s", name);
	free(text);
	return sum;
}

static uint64_t vmstat(const char *name)
{
	static const char *const args[] = { "--json", "vmstat", NULL };

	return number_in(args, "\"", name, "\": ");
}

static uint64_t meminfo(const char *name)
{
	static const char *const args[] = { "--json", "meminfo", NULL };

	return number_in(args, "\"", name, "\": ");
}

/* Of all zones. */
static uint64_t zoneinfo(const char *name)
{
	static const char *const args[] = { "--json", "zoneinfo", NULL };

	return number_in(args, "\"", name, "\": ");
}

static void setup_zones(void)
{
	fixture_setup_configured(ZONES, NULL);
}

/* ---- allocations ---- */

/* THISNODE: blocks that no thread caches, so each is one of the daemon's allocations. */
static const struct {
	const char *zone;
	kmm_gfp_t gfp;
} classes[] = {
	{ "dma", KMM_GFP_DMA },       { "dma32", KMM_GFP_DMA32 },
	{ "normal", 0 },              { "high", KMM_GFP_HIGHMEM },
	{ "movable", KMM_GFP_HIGHMEM | KMM_GFP_MOVABLE },
};
#define CLASSES (sizeof(classes) / sizeof(classes[0]))

static void read_all(const char *prefix, uint64_t value[CLASSES])
{
	char name[32];

	for (size_t i = 0; i < CLASSES; i++) {
		snprintf(name, sizeof(name), "%s_%s", prefix, classes[i].zone);
		value[i] = vmstat(name);
	}
}

static void ck_only_one_moved(const char *prefix, const uint64_t before[CLASSES], size_t which,
			      uint64_t by)
{
	uint64_t now[CLASSES];

	read_all(prefix, now);
	for (size_t i = 0; i < CLASSES; i++)
		ck_assert_msg(now[i] - before[i] == (i == which ? by : 0), "%s_%s grew by %llu",
			      prefix, classes[i].zone, (unsigned long long)(now[i] - before[i]));
}

START_TEST(blocks_count_in_the_zone_that_gave_them)
{
	uint64_t before[CLASSES], freed = vmstat("pgfree"), hit = vmstat("numa_hit");
	uint64_t local = vmstat("numa_local");
	unsigned order = (unsigned)_i % 4;
	size_t which = (size_t)_i / 4;
	struct kmm_page *page;

	read_all("pgalloc", before);
	page = kmm_alloc_pages(k, KMM_GFP_KERNEL | KMM_GFP_THISNODE | classes[which].gfp, order);
	ck_assert_ptr_nonnull(page);
	ck_only_one_moved("pgalloc", before, which, 1u << order);
	ck_assert_uint_eq(vmstat("numa_hit") - hit, 1);
	ck_assert_uint_eq(vmstat("numa_local") - local, 1);
	ck_assert_uint_eq(vmstat("pgfree"), freed);
	ck_assert_int_eq(kmm_free_pages(k, page, order), 0);
	wait_until(vmstat("pgfree") - freed == 1u << order);
}
END_TEST

START_TEST(free_frames_are_what_is_left)
{
	uint64_t before = vmstat("nr_free_pages"), blocks = vmstat("nr_free_pages_blocks");
	struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_KERNEL | KMM_GFP_THISNODE, 10);

	ck_assert_ptr_nonnull(page);
	ck_assert_uint_eq(before - vmstat("nr_free_pages"), 1024);
	ck_assert_uint_eq(blocks - vmstat("nr_free_pages_blocks"), 1024);
	ck_assert_uint_eq(meminfo("MemFree"), 4 * vmstat("nr_free_pages"));
	ck_assert_uint_eq(meminfo("Committed_AS") - meminfo("Slab"), 4 * 1024);
	ck_assert_int_eq(kmm_free_pages(k, page, 10), 0);
}
END_TEST

/* The first node's memory runs out: the second gives, and says for whom. */
START_TEST(nodes_that_serve_for_others_are_counted)
{
	uint64_t miss;

	ck_assert_uint_eq(vmstat("numa_miss"), 0);
	take_by(PEER_EXHAUST, KMM_GFP_NOWAIT | KMM_GFP_DMA32, 4, 0);
	take_by(PEER_EXHAUST, KMM_GFP_NOWAIT, 4, 0);
	miss = vmstat("numa_miss");
	ck_assert_uint_gt(miss, 0);
	ck_assert_uint_eq(vmstat("numa_foreign"), miss);
	ck_assert_uint_gt(vmstat("numa_other"), 0);
	ck_assert_uint_eq(vmstat("numa_local") + vmstat("numa_other"),
			  vmstat("numa_hit") + vmstat("numa_miss"));
}
END_TEST

/* Slabs of caches that are spread come from the nodes in turn. */
START_TEST(spread_slabs_are_interleaved)
{
	struct kmm_cache *c = kmm_cache_create(k, "spread", 4096, 0, KMM_SLAB_MEM_SPREAD, NULL);
	void *p[2048];

	ck_assert_ptr_nonnull(c);
	for (unsigned i = 0; i < 2048; i++)
		ck_assert_ptr_nonnull(p[i] = kmm_cache_alloc(c, KMM_GFP_KERNEL));
	ck_assert_uint_gt(vmstat("numa_interleave"), 0);
	ck_assert_uint_eq(vmstat("numa_interleave"), daemon_cache_number(&d, "spread", "grown"));
	for (unsigned i = 0; i < 2048; i++)
		ck_assert_int_eq(kmm_cache_free(c, p[i]), 0);
	ck_assert_int_eq(kmm_cache_destroy(c), 0);
}
END_TEST

/* All of the pool is made for movable blocks: others claim page blocks, or steal from them. */
START_TEST(fallbacks_claims_and_steals_are_counted)
{
	ck_assert_uint_eq(zoneinfo("fallback"), 0);
	ck_assert_int_gt(peer_do(&rich, PEER_EXHAUST, KMM_GFP_NOWAIT, 0, 0), 0);
	ck_assert_uint_gt(zoneinfo("fallback"), 0);
	ck_assert_uint_gt(zoneinfo("claim"), 0);
	ck_assert_int_eq(peer_do(&rich, PEER_RELEASE, 600, 0, 0), 0);
	free(daemon_zone_frames(&d)); /* drops caches */
	ck_assert_int_gt(peer_do(&poor, PEER_EXHAUST, KMM_GFP_NOWAIT | KMM_GFP_MOVABLE, 0, 0), 0);
	ck_assert_uint_gt(zoneinfo("steal"), 0);
	ck_assert_uint_gt(zoneinfo("alloc_fail"), 0);
}
END_TEST

/* ---- stalls ---- */

START_TEST(a_request_that_waits_is_a_stall)
{
	size_t which = (size_t)_i;
	uint64_t before[CLASSES];
	int64_t pfn;

	take_by(PEER_EXHAUST, KMM_GFP_NOWAIT | classes[which].gfp, 4, 0);
	read_all("allocstall", before);
	park_by(&poor, PEER_ALLOC, KMM_GFP_KERNEL | classes[which].gfp, 4);
	ck_only_one_moved("allocstall", before, which, 1);
	ck_assert_int_eq(peer_do(&rich, PEER_RELEASE, UINT64_MAX, 0, 0), 0);
	pfn = peer_end(&poor);
	ck_assert_int_ge(pfn, 0);
	ck_assert_int_eq(peer_do(&poor, PEER_FREE, (uint64_t)pfn, 4, 0), 0);
	/* that it was served made no second one */
	ck_only_one_moved("allocstall", before, which, 1);
}
END_TEST

START_TEST(a_request_that_only_looks_once_more_is_a_stall_too)
{
	uint64_t before[CLASSES];

	take_by(PEER_EXHAUST, KMM_GFP_NOWAIT, 4, 0);
	read_all("allocstall", before);
	ck_assert_int_eq(peer_do(&poor, PEER_ALLOC, KMM_GFP_NOWAIT, 4, 0), -ENOMEM);
	ck_only_one_moved("allocstall", before, 2, 0);
	ck_assert_int_eq(peer_do(&poor, PEER_ALLOC, KMM_GFP_KERNEL | KMM_GFP_NORETRY, 4, 0),
			 -ENOMEM);
	ck_only_one_moved("allocstall", before, 2, 1);
}
END_TEST

/* ---- reclaim ---- */

START_TEST(what_an_operator_drops_is_scanned_and_stolen)
{
	static const char *const drop[] = { "--json", "drop-caches", NULL };
	uint64_t scan = vmstat("pgscan_proactive"), steal = vmstat("pgsteal_proactive");
	uint64_t caches = vmstat("drop_pagecache"), slabs = vmstat("drop_slab"), misc;
	uint64_t anon = vmstat("pgsteal_anon");
	char *text, *depot, *threads;

	ck_assert_int_eq(peer_do(&rich, PEER_CACHE, 0, 300, 0), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_CACHE, 2, 30, 0), 0);
	misc = vmstat("nr_kernel_misc_reclaimable");
	ck_assert_uint_gt(misc, 0);
	ck_assert_uint_eq(meminfo("KReclaimable"), 4 * misc + meminfo("SReclaimable"));
	ck_assert_int_eq(daemon_ctl(&d, &text, drop), 0);
	ck_assert_ptr_nonnull(depot = strstr(text, "\"depot\": "));
	ck_assert_ptr_nonnull(threads = strstr(text, "\"threads\": "));
	ck_assert_uint_eq(strtoull(depot + 9, NULL, 10) + strtoull(threads + 11, NULL, 10), misc);
	free(text);
	ck_assert_uint_eq(vmstat("pgsteal_proactive") - steal, misc);
	ck_assert_uint_eq(vmstat("pgscan_proactive") - scan, misc);
	ck_assert_uint_eq(vmstat("pgsteal_anon") - anon, misc);
	ck_assert_uint_eq(vmstat("nr_kernel_misc_reclaimable"), 0);
	ck_assert_uint_eq(vmstat("drop_pagecache") - caches, 1);
	ck_assert_uint_eq(vmstat("drop_slab") - slabs, 1);
}
END_TEST

/* Who takes all there is leaves what the lists of another CPU hold, if it was moved meanwhile: so pages
 * are taken until one had to be waited for. Without KSWAPD_RECLAIM, which would empty caches, too. */
START_TEST(what_a_waiting_request_takes_from_others_is_stolen_directly)
{
	uint64_t steal = vmstat("pgsteal_direct"), scan = vmstat("pgscan_direct");
	uint64_t stalls = vmstat("allocstall_normal");

	ck_assert_uint_eq(steal, 0);
	ck_assert_int_eq(peer_do(&rich, PEER_CACHE, 0, 512, 0), 0);
	ck_assert_int_gt(peer_do(&poor, PEER_EXHAUST, KMM_GFP_NOWARN, 0, 0), 0);
	do {
		ck_assert_ptr_nonnull(
			kmm_alloc_pages(k, KMM_GFP_DIRECT_RECLAIM | KMM_GFP_THISNODE, 0));
	} while (vmstat("allocstall_normal") == stalls);
	ck_assert_uint_gt(vmstat("pgsteal_direct"), 0);
	ck_assert_uint_ge(vmstat("pgscan_direct") - scan, vmstat("pgsteal_direct") - steal);
}
END_TEST

/* ---- slabs ---- */

START_TEST(slabs_count_on_their_node_and_by_kind)
{
	static const char *const drop[] = { "drop-caches", NULL };
	uint64_t reclaimable = vmstat("nr_slab_reclaimable");
	uint64_t unreclaimable = vmstat("nr_slab_unreclaimable"), scanned;
	void *p[64];

	for (unsigned i = 0; i < 64; i++)
		ck_assert_ptr_nonnull(p[i] = kmm_kmalloc(k, 4096, i % 2 ? KMM_GFP_KERNEL :
							  KMM_GFP_KERNEL | KMM_GFP_RECLAIMABLE));
	ck_assert_uint_ge(vmstat("nr_slab_reclaimable") - reclaimable, 32);
	ck_assert_uint_ge(vmstat("nr_slab_unreclaimable") - unreclaimable, 32);
	ck_assert_uint_eq(meminfo("SReclaimable"), 4 * vmstat("nr_slab_reclaimable"));
	ck_assert_uint_eq(meminfo("SUnreclaim"), 4 * vmstat("nr_slab_unreclaimable"));
	ck_assert_uint_eq(zoneinfo("nr_slab_reclaimable"), vmstat("nr_slab_reclaimable"));
	for (unsigned i = 0; i < 64; i++)
		ck_assert_int_eq(kmm_kfree(k, p[i]), 0);
	scanned = vmstat("slabs_scanned");
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(daemon_ctl(&d, NULL, drop), 0);
	ck_assert_uint_ge(vmstat("slabs_scanned") - scanned, 64);
	ck_assert_uint_eq(vmstat("nr_slab_reclaimable"), 0);
	ck_assert_uint_eq(vmstat("nr_slab_unreclaimable"), 0);
}
END_TEST

/* Shrinkers have their own objects in mind; what they were asked for is told. */
static size_t shrinker_count(struct kmm_shrinker *s, kmm_gfp_t gfp)
{
	(void)s;
	(void)gfp;
	return 1000;
}

static size_t shrinker_scan(struct kmm_shrinker *s, size_t n, kmm_gfp_t gfp)
{
	(void)gfp;
	__atomic_fetch_add((uint64_t *)s->private_data, n, __ATOMIC_SEQ_CST);
	return n;
}

START_TEST(what_shrinkers_are_asked_for_is_scanned)
{
	uint64_t asked = 0, before;
	struct kmm_shrinker s = { .count = shrinker_count, .scan = shrinker_scan,
				  .private_data = &asked };
	int64_t pfn;

	ck_assert_int_eq(kmm_register_shrinker(k, &s), 0);
	take_by(PEER_EXHAUST, KMM_GFP_NOWAIT, 4, 0);
	before = vmstat("slabs_scanned");
	park_by(&poor, PEER_ALLOC, KMM_GFP_KERNEL, 4);
	wait_until(__atomic_load_n(&asked, __ATOMIC_SEQ_CST) > 0);
	ck_assert_int_eq(peer_do(&rich, PEER_RELEASE, UINT64_MAX, 0, 0), 0);
	pfn = peer_end(&poor);
	ck_assert_int_ge(pfn, 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &s), 0);
	wait_until(vmstat("slabs_scanned") - before == asked);
	ck_assert_int_eq(peer_do(&poor, PEER_FREE, (uint64_t)pfn, 4, 0), 0);
}
END_TEST

/* ---- what the pool lies on ---- */

START_TEST(the_memory_map_is_counted)
{
	uint64_t frames = 64 << 8;

	/* struct page is 8 bytes a frame and more, and less than 64 */
	ck_assert_uint_gt(vmstat("nr_memmap_boot_pages"), frames * 8 / 4096);
	ck_assert_uint_lt(vmstat("nr_memmap_boot_pages"), frames * 64 / 4096);
	ck_assert_uint_eq(vmstat("nr_hugetlb"), 0);
	ck_assert_uint_eq(meminfo("HugePages_Total"), 0);
}
END_TEST

static void setup_huge(void)
{
	static const char *const args[] = { "--backing", "hugetlb", NULL };

	daemon_start(&d, args);
	fixture_begin();
}

START_TEST(huge_pages_are_those_of_the_pool)
{
	uint64_t high = meminfo("HighTotal"), total = meminfo("HugePages_Total");
	uint64_t free = meminfo("HugePages_Free");
	struct kmm_page *page;

	ck_assert_uint_gt(high, 0);
	ck_assert_uint_eq(total, ((64 << 10) - high) / 2048);
	ck_assert_uint_eq(meminfo("Hugetlb"), total * 2048);
	ck_assert_uint_eq(vmstat("nr_hugetlb"), total * 512);
	ck_assert_uint_eq(meminfo("DirectMap2M"), total * 2048);
	ck_assert_uint_eq(meminfo("DirectMap4k"), 0);
	/* less what metadata lies in */
	ck_assert_uint_gt(free, 0);
	ck_assert_uint_lt(free, total);
	page = kmm_alloc_pages(k, KMM_GFP_KERNEL | KMM_GFP_THISNODE, 10);
	ck_assert_ptr_nonnull(page);
	ck_assert_uint_eq(free - meminfo("HugePages_Free"), 2);
	ck_assert_int_eq(kmm_free_pages(k, page, 10), 0);
	wait_until(meminfo("HugePages_Free") == free);
	/* high memory is on other pages */
	page = kmm_alloc_pages(k, KMM_GFP_HIGHUSER | KMM_GFP_THISNODE, 6);
	ck_assert_ptr_nonnull(page);
	ck_assert_uint_eq(meminfo("HugePages_Free"), free);
	ck_assert_uint_eq(high - meminfo("HighFree"), 256);
	ck_assert_int_eq(kmm_free_pages(k, page, 6), 0);
}
END_TEST

/* ---- areas ---- */

/* A line of vmallocinfo (linux_formats.py has it for Linux's and ours in full). */
#define AREA_LINE                                                                                 \
	"^0x[0-9a-f]{16}-0x[0-9a-f]{16} +[0-9]+ "                                                 \
	"(unpurged vm_area|[^ ]+\\+0x[0-9a-f]+/0x[0-9a-f]+( pages=[0-9]+)? vmalloc( vpages)?( N0=[0-9]+)?)$"

static unsigned lines_with(const char *part)
{
	static const char *const args[] = { "vmallocinfo", NULL };
	char *text, *line, *rest;
	unsigned n = 0;
	regex_t shape;

	ck_assert_int_eq(regcomp(&shape, AREA_LINE, REG_EXTENDED | REG_NOSUB), 0);
	ck_assert_int_eq(daemon_ctl(&d, &text, args), 0);
	for (rest = text; *rest && (line = strsep(&rest, "\n")) != NULL;) {
		ck_assert_msg(regexec(&shape, line, 0, NULL, 0) == 0, "a line is: %s", line);
		n += strstr(line, part) != NULL;
	}
	free(text);
	regfree(&shape);
	return n;
}

START_TEST(vmalloc_areas_are_used_then_unpurged)
{
	uint64_t used = meminfo("VmallocUsed"), misc = vmstat("nr_kernel_misc_reclaimable");
	char *p;

	ck_assert_uint_eq(lines_with(""), 0);
	p = kmm_vmalloc(k, 25 * 4096);
	ck_assert_ptr_nonnull(p);
	ck_assert_uint_eq(meminfo("VmallocUsed") - used, 100);
	ck_assert_uint_eq(lines_with("  106496 "), 1); /* with the guard */
	ck_assert_uint_eq(lines_with(" pages=25 vmalloc N0=25"), 1);
	ck_assert_uint_ge(vmstat("nr_kernel_misc_reclaimable"), misc);
	misc = vmstat("nr_kernel_misc_reclaimable");
	ck_assert_int_eq(kmm_vfree(k, p), 0);
	ck_assert_uint_eq(meminfo("VmallocUsed"), used);
	ck_assert_uint_eq(vmstat("nr_kernel_misc_reclaimable") - misc, 25);
	ck_assert_uint_eq(lines_with("  106496 unpurged vm_area"), 1);
	ck_assert_uint_eq(lines_with(" vmalloc"), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_uint_eq(lines_with(""), 0);
}
END_TEST

START_TEST(a_large_areas_list_of_pages_is_long)
{
	char *p = kmm_vmalloc(k, 600 * 4096);

	ck_assert_ptr_nonnull(p);
	ck_assert_uint_eq(lines_with(" pages=600 vmalloc vpages N0=600"), 1);
	ck_assert_int_eq(kmm_vfree(k, p), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
}
END_TEST

START_TEST(stacks_are_counted)
{
	uint64_t stack = meminfo("KernelStack"), used = meminfo("VmallocUsed");
	void *p = kmm_alloc_stack(k, 2);

	ck_assert_ptr_nonnull(p);
	ck_assert_uint_eq(meminfo("KernelStack") - stack, 16);
	ck_assert_uint_eq(vmstat("nr_kernel_stack"), meminfo("KernelStack"));
	ck_assert_uint_eq(zoneinfo("nr_kernel_stack"), meminfo("KernelStack"));
	/* mapped with a guard: an area */
	ck_assert_uint_eq(meminfo("VmallocUsed") - used, 16);
	ck_assert_uint_eq(lines_with(" pages=4 vmalloc N0=4"), 1);
	ck_assert_int_eq(kmm_free_stack(k, p), 0);
	ck_assert_uint_eq(meminfo("KernelStack"), stack);
	ck_assert_int_eq(kmm_flush(k), 0);
}
END_TEST

START_TEST(per_cpu_chunks_are_counted)
{
	struct kmm_percpu *pc = kmm_alloc_percpu(k, 64, 0);
	uint64_t kb = meminfo("Percpu");

	ck_assert_ptr_nonnull(pc);
	ck_assert_uint_gt(kb, 0);
	/* a chunk by Linux's name for it; none more comes for what it has room for */
	ck_assert_uint_eq(lines_with(" pcpu_get_vm_areas+0x0/0x0 pages="), 1);
	ck_assert_uint_eq(lines_with(" vmalloc N0="), 1);
	ck_assert_ptr_nonnull(kmm_alloc_percpu(k, 64, 0));
	ck_assert_uint_eq(meminfo("Percpu"), kb);
	ck_assert_uint_eq(lines_with(""), 1);
	ck_assert_int_eq(kmm_free_percpu(pc), 0);
}
END_TEST

/* What the dead had is no area any more. */
START_TEST(areas_end_with_their_session)
{
	struct kmm *other = session_start(&d);

	ck_assert_ptr_nonnull(kmm_vmalloc(other, 3 * 4096));
	ck_assert_uint_eq(lines_with(" pages=3 "), 1);
	ck_assert_int_eq(kmm_close(other), 0);
	wait_until(lines_with("") == 0);
	ck_assert_uint_eq(meminfo("VmallocUsed"), 0);
}
END_TEST

static void setup_nodes(void)
{
	static const char *const args[] = { "--nodes", "2", NULL };

	fixture_setup_configured("[pool]\ndma_size = 16M\n", args);
}

int main(void)
{
	Suite *suite = suite_create("api_counters");
	TCase *tcase;

	tcase = fixture_case(suite, "zones", setup_zones);
	tcase_add_loop_test(tcase, blocks_count_in_the_zone_that_gave_them, 0, 4 * CLASSES);
	tcase_add_loop_test(tcase, a_request_that_waits_is_a_stall, 0, CLASSES);
	tcase_add_test(tcase, a_request_that_only_looks_once_more_is_a_stall_too);
	tcase_add_test(tcase, free_frames_are_what_is_left);
	tcase_add_test(tcase, the_memory_map_is_counted);
	tcase = fixture_case(suite, "reclaim", fixture_setup);
	tcase_add_test(tcase, fallbacks_claims_and_steals_are_counted);
	tcase_add_test(tcase, what_an_operator_drops_is_scanned_and_stolen);
	tcase_add_test(tcase, what_a_waiting_request_takes_from_others_is_stolen_directly);
	tcase_add_test(tcase, slabs_count_on_their_node_and_by_kind);
	tcase_add_test(tcase, what_shrinkers_are_asked_for_is_scanned);
	tcase = fixture_case(suite, "areas", fixture_setup);
	tcase_add_test(tcase, vmalloc_areas_are_used_then_unpurged);
	tcase_add_test(tcase, a_large_areas_list_of_pages_is_long);
	tcase_add_test(tcase, stacks_are_counted);
	tcase_add_test(tcase, per_cpu_chunks_are_counted);
	tcase_add_test(tcase, areas_end_with_their_session);
	tcase = fixture_case(suite, "huge", setup_huge);
	tcase_add_test(tcase, huge_pages_are_those_of_the_pool);
	tcase = fixture_case(suite, "nodes", setup_nodes);
	tcase_add_test(tcase, nodes_that_serve_for_others_are_counted);
	tcase_add_test(tcase, spread_slabs_are_interleaved);
	return suite_run(suite);
}

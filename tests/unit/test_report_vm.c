/* SPDX-License-Identifier: MIT */
/*
 * vmstat and vmallocinfo against saved files of a Linux machine (tests/data), as test_report_linux.c
 * does with the others, and what these do not show.
 */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/kmmctl/report.h"
#include "shm/control.h"
#include "tests/suite.h"
#include "tests/unit/test_report.h"

static char *print_vmstat(const struct report_vmstat *v)
{
	struct capture c;

	report_vmstat(capture_start(&c), v);
	return capture_end(&c);
}

static size_t count_lines(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

START_TEST(vmstat_is_the_saved_file)
{
	static struct report_vmstat v;
	FILE *f = open_data("vmstat");
	char line[128], name[96], *text, *at;
	uint64_t value;

	while (fgets(line, sizeof(line), f)) {
		ck_assert_int_eq(sscanf(line, "%95s %" SCNu64, name, &value), 2);
		ck_assert_msg(report_vmstat_add(&v, name, value), "no line for %s", name);
	}
	at = text = print_vmstat(&v);
	rewind(f);
	while (fgets(line, sizeof(line), f)) {
		ck_assert_msg(strncmp(at, line, strlen(line)) == 0, "%s", line);
		at += strlen(line);
	}
	ck_assert_str_eq(at, "");
	ck_assert_uint_eq(count_lines(text), 192);
	free(text);
	fclose(f);
}
END_TEST

START_TEST(vmstat_with_high_memory_has_three_lines_more)
{
	static struct report_vmstat v = { .highmem = true };
	char *text;

	ck_assert(report_vmstat_add(&v, "pgalloc_high", 7));
	ck_assert(report_vmstat_add(&v, "pgalloc_high", 4));
	ck_assert(!report_vmstat_add(&v, "pgalloc_lowest", 4));
	text = print_vmstat(&v);
	ck_assert_uint_eq(count_lines(text), 195);
	ck_assert_ptr_nonnull(strstr(text, "\npgalloc_normal 0\npgalloc_high 11\npgalloc_movable 0\n"));
	ck_assert_ptr_nonnull(
		strstr(text, "\nallocstall_normal 0\nallocstall_high 0\nallocstall_movable 0\n"));
	ck_assert_ptr_nonnull(strstr(text, "\npgskip_normal 0\npgskip_high 0\npgskip_movable 0\n"));
	free(text);
}
END_TEST

START_TEST(vmstat_names_end)
{
	assert_names(report_vmstat_name, REPORT_VMSTAT_LINES);
}
END_TEST

static void assert_area(const kmm_v1_Area *a, const char *expected)
{
	struct capture c;

	report_vmallocinfo(capture_start(&c), a, 1);
	assert_printed(&c, expected);
}

/* The rows of the saved file that are vmalloc's. Its addresses are hashed: an end is none. */
START_TEST(vmallocinfo_is_the_saved_file)
{
	FILE *f = open_data("vmallocinfo");
	char line[256];
	unsigned int n = 0, chunks = 0; /* those of per-CPU memory have no pages in Linux */

	while (fgets(line, sizeof(line), f)) {
		kmm_v1_Area a = { .kind = CONTROL_AREA_VMALLOC, .node_pages_count = 1 };
		char *rest = strchr(line + 37, ' '), expected[300];

		if (!strstr(line, " vmalloc"))
			continue;
		ck_assert_int_eq(sscanf(line, "0x%" SCNx64, &a.start), 1);
		a.size = strtoull(line + 37, &rest, 10);
		ck_assert_int_eq(sscanf(rest, " %55s pages=%" SCNu64, a.caller, &a.pages) >= 1, 1);
		a.node_pages[0] = a.pages;
		if (!a.pages) {
			a.kind = CONTROL_AREA_PERCPU;
			chunks++;
		}
		snprintf(expected, sizeof(expected), "%.18s-0x%016" PRIx64 "%s", line,
		         a.start + a.size, line + 37);
		assert_area(&a, expected);
		n++;
	}
	ck_assert_uint_gt(n, 100);
	ck_assert_uint_gt(chunks, 0);
	fclose(f);
}
END_TEST

static const kmm_v1_Area sample = { .kind = CONTROL_AREA_VMALLOC,
	                            .start = 0x7f0012345000,
	                            .size = 12288,
	                            .pages = 2,
	                            .node_pages_count = 3,
	                            .node_pages = { 1, 0, 1 },
	                            .caller = "main+0x1f/0x2a0" };

START_TEST(vmallocinfo_shows_nodes_that_have_pages)
{
	assert_area(&sample, "0x00007f0012345000-0x00007f0012348000   12288 main+0x1f/0x2a0 pages=2 "
	                     "vmalloc N0=1 N2=1\n");
}
END_TEST

START_TEST(vmallocinfo_without_addresses)
{
	kmm_v1_Area a = sample;

	a.start = 0;
	assert_area(&a, "0x0000000000000000-0x0000000000000000   12288 main+0x1f/0x2a0 pages=2 "
	                "vmalloc N0=1 N2=1\n");
}
END_TEST

START_TEST(vmallocinfo_names_per_cpu_chunks_as_linux_does)
{
	kmm_v1_Area a = sample;

	a.kind = CONTROL_AREA_PERCPU;
	assert_area(&a, "0x00007f0012345000-0x00007f0012348000   12288 pcpu_get_vm_areas+0x0/0x0 "
	                "pages=2 vmalloc N0=1 N2=1\n");
	ck_assert_str_eq(report_area_caller(&a), sample.caller); /* for the JSON */
}
END_TEST

START_TEST(vmallocinfo_says_when_the_list_of_pages_is_long)
{
	kmm_v1_Area a = sample;

	a.node_pages_count = 1;
	a.pages = a.node_pages[0] = 512;
	a.size = 513 * 4096;
	assert_area(&a, "0x00007f0012345000-0x00007f0012546000 2101248 main+0x1f/0x2a0 pages=512 "
	                "vmalloc N0=512\n");
	a.pages = a.node_pages[0] = 513;
	a.size = 514 * 4096;
	assert_area(&a, "0x00007f0012345000-0x00007f0012547000 2105344 main+0x1f/0x2a0 pages=513 "
	                "vmalloc vpages N0=513\n");
}
END_TEST

START_TEST(vmallocinfo_shows_no_caller_that_is_none)
{
	static const char *const bad[] = { "",          "main",         "main+0x1",   "main+1/2",
		                           "+0x1/0x2",  "main+0x/0x2",  "ma in+0x1/0x2",
		                           "main+0x1/0x2 ", "main+0x1/0x2\n", "main+0x1/0xg" };
	kmm_v1_Area a = sample;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(a.caller, sizeof(a.caller), "%s", bad[i]);
		a.kind = CONTROL_AREA_VMALLOC;
		ck_assert_str_eq(report_area_caller(&a), "kmm_vmalloc+0x0/0x0");
		a.kind = CONTROL_AREA_PERCPU;
		ck_assert_str_eq(report_area_caller(&a), "pcpu_get_vm_areas+0x0/0x0");
		a.kind = CONTROL_AREA_STACK;
		ck_assert_str_eq(report_area_caller(&a), "kernel_clone+0x0/0x0");
	}
	snprintf(a.caller, sizeof(a.caller), "std::vector<int>::grow(int)+0x10/0xff");
	ck_assert_str_eq(report_area_caller(&a), a.caller);
}
END_TEST

START_TEST(vmallocinfo_ends_with_freed_areas)
{
	kmm_v1_Area a[3] = { sample, sample, sample };
	struct capture c;

	a[0].kind = CONTROL_AREA_UNPURGED;
	a[1].kind = CONTROL_AREA_STACK;
	a[1].start = 0x1000;
	a[2].kind = CONTROL_AREA_STACK; /* without a guard */
	a[2].size = 8192;
	report_vmallocinfo(capture_start(&c), a, 3);
	assert_printed(&c, "0x0000000000001000-0x0000000000004000   12288 main+0x1f/0x2a0 pages=2 "
	                   "vmalloc N0=1 N2=1\n"
	                   "0x00007f0012345000-0x00007f0012348000   12288 unpurged vm_area\n");
}
END_TEST

START_TEST(json_has_what_the_text_has_no_room_for)
{
	kmm_v1_Area a = sample;
	struct json_object *all, *o;

	a.session = 7;
	a.used = 4711;
	a.kind = CONTROL_AREA_PERCPU;
	all = json_vmallocinfo(&a, 1);
	ck_assert_uint_eq(json_object_array_length(all), 1);
	o = json_object_array_get_idx(all, 0);
	ck_assert_int_eq(json_int(o, "session"), 7);
	ck_assert_int_eq(json_int(o, "used"), 4711);
	ck_assert_int_eq(json_int(o, "end"), 0x7f0012348000);
	ck_assert_str_eq(json_object_get_string(json_member(o, "kind")), "percpu");
	ck_assert_uint_eq(json_object_array_length(json_member(o, "node_pages")), 3);
	json_object_put(all);
	ck_assert_str_eq(report_area_kind(&(kmm_v1_Area){ .kind = 99 }), "unknown");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("report_vm");
	TCase *tcase = tcase_create("report_vm");

	tcase_add_test(tcase, vmstat_is_the_saved_file);
	tcase_add_test(tcase, vmstat_with_high_memory_has_three_lines_more);
	tcase_add_test(tcase, vmstat_names_end);
	tcase_add_test(tcase, vmallocinfo_is_the_saved_file);
	tcase_add_test(tcase, vmallocinfo_shows_nodes_that_have_pages);
	tcase_add_test(tcase, vmallocinfo_without_addresses);
	tcase_add_test(tcase, vmallocinfo_names_per_cpu_chunks_as_linux_does);
	tcase_add_test(tcase, vmallocinfo_says_when_the_list_of_pages_is_long);
	tcase_add_test(tcase, vmallocinfo_shows_no_caller_that_is_none);
	tcase_add_test(tcase, vmallocinfo_ends_with_freed_areas);
	tcase_add_test(tcase, json_has_what_the_text_has_no_room_for);
	suite_add_tcase(suite, tcase);
	return suite_status(suite);
}

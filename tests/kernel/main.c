/* SPDX-License-Identifier: MIT */
/*
 * The scene of kernel_test.h, and the list of files.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kernel/kernel_test.h"

#define FILES(X)                                                                               \
	X(pages) X(kmalloc) X(caches) X(demo) X(vmalloc) X(kmap) X(percpu) X(stacks) X(mempool) \
	X(shrinker) X(module) X(guide)

struct daemon kernel_daemon;

static char *zones;

static void begin(const char *const args[])
{
	daemon_start(&kernel_daemon, args);
	zones = daemon_zone_frames(&kernel_daemon);
	ck_assert_int_eq(setenv("KMM_ADDRESS", kernel_daemon.socket, 1), 0);
}

static void setup(void)
{
	begin(NULL);
}

static void setup_huge(void)
{
	static const char *const args[] = { "--backing", "hugetlb", NULL };

	begin(args);
}

static bool zones_are_as_before(void)
{
	char *now = daemon_zone_frames(&kernel_daemon);
	bool same = strcmp(now, zones) == 0;

	free(now);
	return same;
}

void kernel_is_clean(void)
{
	ck_assert_int_eq(kmm_flush(kmm_kernel_session()), 0);
	wait_until(zones_are_as_before());
	ck_assert(daemon_is_clean(&kernel_daemon));
}

static void teardown(void)
{
	ck_assert_int_eq(kmm_kernel_exit(), 0);
	wait_until(daemon_count_sessions(&kernel_daemon) == 0);
	wait_until(zones_are_as_before());
	free(zones);
	ck_assert(daemon_is_clean(&kernel_daemon));
	ck_assert_int_eq(daemon_stop(&kernel_daemon), 0);
}

static TCase *make_case(Suite *s, const char *name, void (*start)(void))
{
	TCase *t = tcase_create(name);

	tcase_add_checked_fixture(t, start, teardown);
	tcase_set_timeout(t, 120);
	suite_add_tcase(s, t);
	return t;
}

TCase *kernel_case(Suite *s, const char *name)
{
	return make_case(s, name, setup);
}

TCase *kernel_case_huge(Suite *s, const char *name)
{
	return make_case(s, name, setup_huge);
}

/* ---- memory that is out ---- */

static struct kmm *rich; /* another session, so that the default one's quota and lists are its own */
static struct kmm_page *page[1 << 15];
static size_t pages;

void kernel_take_memory(void)
{
	size_t before;
	bool raised;

	rich = session_start(&kernel_daemon);
	ck_assert_int_eq(kmm_set_timeout(rich, 100), 0);
	do {
		before = pages;
		raised = daemon_is_boosted(&kernel_daemon); /* it may end at any moment */
		free(daemon_zone_frames(&kernel_daemon)); /* drops caches */
		while ((page[pages] = kmm_alloc_pages(rich, KMM_GFP_NOFS, 0)) != NULL)
			pages++;
	} while (pages > before || raised);
}

size_t kernel_give_pages(size_t n)
{
	size_t given;

	for (given = 0; given < n && pages > 0; given++)
		ck_assert_int_eq(kmm_free_pages(rich, page[--pages], 0), 0);
	return given;
}

void kernel_give_memory(void)
{
	pages = 0;
	ck_assert_int_eq(kmm_close(rich), 0);
}

size_t kernel_taken(void)
{
	return pages;
}

#define DECLARE(name) void name##_cases(Suite *s);
FILES(DECLARE)

int main(void)
{
	static void (*const cases[])(Suite *s) = {
#define LIST(name) name##_cases,
		FILES(LIST)
	};
	Suite *s = suite_create("kernel code");
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		cases[i](s);
	return suite_run(s);
}

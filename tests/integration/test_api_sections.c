/* SPDX-License-Identifier: MIT */
/*
 * A process that may open few files uses more sections than it can keep descriptors of: high memory
 * and areas, through a real daemon, which passes them again and again.
 */
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/integration/fixture.h"

#define FILES 24
#define SECTION_ORDER 10 /* 4 MiB */
#define SECTIONS 10
#define MAPPERS 12
#define AREA ((size_t)36 << 20)

static unsigned sections_open(void)
{
	char path[32], name[64];
	unsigned n = 0;
	ssize_t size;

	for (int fd = 0; fd < FILES; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		size = readlink(path, name, sizeof(name) - 1);
		name[size > 0 ? size : 0] = '\0';
		n += strncmp(name, "/memfd:", 7) == 0;
	}
	return n;
}

static struct kmm_page *of_section[SECTIONS];

/* What is written there stays. */
static bool kept(void *at, uint64_t seed)
{
	block_fill(at, 0, seed);
	return block_check(at, 0, seed);
}

/* Maps pages of all sections, each in an order of its own. NULL: all went well. */
static void *map_all(void *arg)
{
	uint64_t first = (uint64_t)(uintptr_t)arg - 1, i;

	for (i = 0; i < 20 * SECTIONS; i++) {
		uint64_t s = (first + i * (first % 2 ? 3 : 7)) % SECTIONS, page = first * 20 + i / SECTIONS;
		void *at = kmm_kmap(k, of_section[s] + page);

		if (!at || !kept(at, s + page) || kmm_kunmap(k, of_section[s] + page) < 0)
			return arg;
	}
	return NULL;
}

/* Maps it, writes or looks, and unmaps it. */
static void with_page(struct kmm_page *p, uint64_t seed, bool write)
{
	void *at = kmm_kmap(k, p);

	ck_assert_msg(at != NULL, "%s", kmm_error_text());
	if (write)
		block_fill(at, 0, seed);
	ck_assert(block_check(at, 0, seed));
	ck_assert_int_eq(kmm_kunmap(k, p), 0);
}

/* A process that may open 24 files keeps descriptors of 6 sections, and uses 10. */
START_TEST(more_sections_than_descriptors)
{
	struct rlimit l;
	pthread_t t[MAPPERS];
	void *failed;
	char *area;
	unsigned i;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &l), 0);
	l.rlim_cur = FILES;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &l), 0);
	for (i = 0; i < SECTIONS; i++) {
		of_section[i] = kmm_alloc_pages(k, KMM_GFP_HIGHUSER, SECTION_ORDER);
		ck_assert_msg(of_section[i] != NULL, "%s", kmm_error_text());
		with_page(of_section[i], i, true);
		ck_assert_uint_le(sections_open(), FILES / 4);
	}
	ck_assert_uint_eq(sections_open(), FILES / 4);
	for (i = 0; i < SECTIONS; i++)
		with_page(of_section[i], i, false);
	for (i = 0; i < MAPPERS; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, map_all, (void *)(uintptr_t)(i + 1)), 0);
	for (i = 0; i < MAPPERS; i++) {
		ck_assert_int_eq(pthread_join(t[i], &failed), 0);
		ck_assert_ptr_null(failed);
	}
	ck_assert_uint_eq(sections_open(), FILES / 4);
	for (i = 0; i < SECTIONS; i++)
		ck_assert_int_eq(kmm_free_pages(k, of_section[i], SECTION_ORDER), 0);
	area = kmm_vmalloc(k, AREA);
	ck_assert_msg(area != NULL, "%s", kmm_error_text());
	object_fill(area, AREA, 3);
	ck_assert(object_check(area, AREA, 3));
	ck_assert_uint_eq(sections_open(), FILES / 4);
	ck_assert_int_eq(kmm_vfree(k, area), 0);
}
END_TEST

static void setup(void)
{
	fixture_setup_configured("[pool]\nhighmem = 40M\n",
	                         (const char *const[]){ "--section-size", "4M", NULL });
}

int main(void)
{
	Suite *s = suite_create("api_sections");
	TCase *t = fixture_case(s, "descriptors", setup);

	tcase_add_test(t, more_sections_than_descriptors);
	return suite_run(s);
}

/* SPDX-License-Identifier: MIT */
/* memblock: sorted arrays, merging, refusals, allocation from the top, iteration. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "mm/memblock.h"
#include "tests/suite.h"

#define MIB ((uint64_t)1 << 20)

static struct memblock mb;

static void setup(void)
{
	memblock_init(&mb);
}

START_TEST(memory_of_one_node_merges)
{
	/*    0   4   8   12  16 MiB
	 *    |a0 |   |c0 |d1 |        then b0 fills the hole */
	ck_assert_int_eq(memblock_add(&mb, 8 * MIB, 4 * MIB, 0), 0);
	ck_assert_int_eq(memblock_add(&mb, 0, 4 * MIB, 0), 0);
	ck_assert_int_eq(memblock_add(&mb, 12 * MIB, 4 * MIB, 1), 0);
	ck_assert_uint_eq(mb.memory.nr, 3);
	ck_assert_uint_eq(mb.memory.regions[0].base, 0);
	ck_assert_int_eq(memblock_add(&mb, 4 * MIB, 4 * MIB, 0), 0);
	ck_assert_uint_eq(mb.memory.nr, 2);
	ck_assert_uint_eq(mb.memory.regions[0].size, 12 * MIB);
	ck_assert_uint_eq(mb.memory.regions[1].nid, 1);
}
END_TEST

START_TEST(reserved_merges_by_name_only)
{
	ck_assert_int_eq(memblock_reserve(&mb, 4 * MIB, MIB, "page"), 0);
	ck_assert_int_eq(memblock_reserve(&mb, 5 * MIB, MIB, "session"), 0);
	ck_assert_int_eq(memblock_reserve(&mb, 3 * MIB, MIB, "page"), 0);
	ck_assert_uint_eq(mb.reserved.nr, 2);
	ck_assert_uint_eq(mb.reserved.regions[0].base, 3 * MIB);
	ck_assert_uint_eq(mb.reserved.regions[0].size, 2 * MIB);
	ck_assert_str_eq(mb.reserved.regions[1].name, "session");
	/* a long name is cut, not overrun */
	ck_assert_int_eq(memblock_reserve(&mb, 9 * MIB, MIB,
	                                  "a name that is much longer than thirty-one bytes"),
	                 0);
	ck_assert_uint_eq(strlen(mb.reserved.regions[2].name), 31);
}
END_TEST

START_TEST(nonsense_is_refused_and_changes_nothing)
{
	ck_assert_int_eq(memblock_add(&mb, 4 * MIB, 4 * MIB, 0), 0);
	ck_assert_int_eq(memblock_add(&mb, 0, 0, 0), -EINVAL);
	ck_assert_int_eq(memblock_add(&mb, UINT64_MAX - 10, 100, 0), -EINVAL);
	ck_assert_int_eq(memblock_add(&mb, 7 * MIB, 4 * MIB, 0), -EEXIST);
	ck_assert_int_eq(memblock_add(&mb, MIB, 4 * MIB, 0), -EEXIST);
	ck_assert_int_eq(memblock_add(&mb, 5 * MIB, MIB, 0), -EEXIST);
	ck_assert_uint_eq(mb.memory.nr, 1);
	ck_assert_uint_eq(mb.memory.regions[0].size, 4 * MIB);
}
END_TEST

START_TEST(a_full_array_is_refused)
{
	for (uint32_t i = 0; i < MEMBLOCK_MAX_REGIONS; i++)
		ck_assert_int_eq(memblock_reserve(&mb, i * 2 * MIB, MIB, "r"), 0);
	ck_assert_int_eq(memblock_reserve(&mb, 1000 * MIB, MIB, "r"), -ENOSPC);
	/* what merges still fits */
	ck_assert_int_eq(memblock_reserve(&mb, MIB, MIB, "r"), 0);
	ck_assert_uint_eq(mb.reserved.nr, MEMBLOCK_MAX_REGIONS - 1);
}
END_TEST

START_TEST(alloc_takes_the_highest_that_fits)
{
	uint64_t base = 77;

	ck_assert_int_eq(memblock_add(&mb, 0, 16 * MIB, 0), 0);
	ck_assert_int_eq(memblock_reserve(&mb, 15 * MIB, MIB / 2, "x"), 0);
	/* the half MiB above x is too small */
	ck_assert_int_eq(memblock_alloc(&mb, MIB, 4096, "a", &base), 0);
	ck_assert_uint_eq(base, 14 * MIB);
	ck_assert_int_eq(memblock_alloc(&mb, MIB / 2, 4096, "b", &base), 0);
	ck_assert_uint_eq(base, 15 * MIB + MIB / 2);
	/* alignment pushes it down */
	ck_assert_int_eq(memblock_alloc(&mb, 4096, 8 * MIB, "c", &base), 0);
	ck_assert_uint_eq(base, 8 * MIB);
	base = 77;
	ck_assert_int_eq(memblock_alloc(&mb, 9 * MIB, 4096, "d", &base), -ENOMEM);
	ck_assert_int_eq(memblock_alloc(&mb, 0, 4096, "d", &base), -EINVAL);
	ck_assert_int_eq(memblock_alloc(&mb, 4096, 3, "d", &base), -EINVAL);
	ck_assert_uint_eq(base, 77);
}
END_TEST

START_TEST(free_ranges_are_memory_minus_reserved)
{
	/*   memory    0----------8  12----16     (MiB)
	 *   reserved    2-3   6-----------14     (may reach over holes)
	 *   free      0-2  3-6             14-16 */
	static const uint64_t expected[][2] = { { 0, 2 }, { 3, 3 }, { 14, 2 } };
	uint64_t cursor = 0, base, size;
	uint32_t n = 0;

	ck_assert_int_eq(memblock_add(&mb, 0, 8 * MIB, 0), 0);
	ck_assert_int_eq(memblock_add(&mb, 12 * MIB, 4 * MIB, 0), 0);
	ck_assert_int_eq(memblock_reserve(&mb, 2 * MIB, MIB, "a"), 0);
	ck_assert_int_eq(memblock_reserve(&mb, 6 * MIB, 8 * MIB, "b"), 0);
	while (memblock_next_free(&mb, &cursor, &base, &size)) {
		ck_assert_uint_lt(n, 3);
		ck_assert_uint_eq(base, expected[n][0] * MIB);
		ck_assert_uint_eq(size, expected[n][1] * MIB);
		n++;
	}
	ck_assert_uint_eq(n, 3);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mm_memblock");
	TCase *t = tcase_create("memblock");

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, memory_of_one_node_merges);
	tcase_add_test(t, reserved_merges_by_name_only);
	tcase_add_test(t, nonsense_is_refused_and_changes_nothing);
	tcase_add_test(t, a_full_array_is_refused);
	tcase_add_test(t, alloc_takes_the_highest_that_fits);
	tcase_add_test(t, free_ranges_are_memory_minus_reserved);
	suite_add_tcase(s, t);
	return suite_status(s);
}

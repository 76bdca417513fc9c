/* SPDX-License-Identifier: MIT */
/*
 * Pools with zones HighMem and Movable: where they lie, what they lie on, made and taken over. Starts
 * as in test_pool.c: each in a process of its own under a manager that keeps the descriptors.
 *
 *     64 MiB in 16 sections of 4 MiB: 0-11 low, 12 and 13 HighMem, 14 Movable, 15 metadata
 *
 * 24 huge pages of 2 MiB must be free.
 */
#include "tests/unit/test_pool.h"

#include "tests/suite.h"

#define POOL (64 * MIB)
#define SECTION (4 * MIB)
#define SECTION_PAGES 1024u
#define PAGES (16u * SECTION_PAGES)
#define HIGH_START (12u * SECTION_PAGES)
#define HIGH_PAGES (3u * SECTION_PAGES)

static void setup(void)
{
	manager_setup();
	options.backing = SHM_HUGETLB_2M;
	options.highmem = 2 * SECTION - 1;
	options.movable = 1;
}

/* ---- geometry ---- */

static int geometry(struct pool_geometry *g)
{
	struct memblock mb;

	return pool_geometry_from_options(g, &options, &mb);
}

START_TEST(the_zones_lie_below_the_tables)
{
	struct pool_geometry g;

	ck_assert_int_eq(geometry(&g), 0);
	ck_assert_uint_eq(g.first_metadata, 15);
	ck_assert_uint_eq(g.first_high, 12);
	ck_assert_uint_eq(g.mm.highmem_start, HIGH_START);
	ck_assert_uint_eq(g.mm.movable_start, 14 * SECTION_PAGES);
	ck_assert_uint_eq(g.control.high_start, HIGH_START);
	ck_assert_uint_eq(g.control.high_frames, HIGH_PAGES);
	ck_assert_uint_eq(control_pages(&g.control), PAGES + HIGH_PAGES);
	ck_assert_uint_eq(pool_high_bytes(&g), 3 * SECTION);
	ck_assert_uint_ge(g.ledger.out - g.ledger.high, HIGH_PAGES * 4);
	/* one alone, or none */
	options.highmem = 0;
	ck_assert_int_eq(geometry(&g), 0);
	ck_assert(g.mm.highmem_start == UINT64_MAX && g.mm.movable_start == 14 * SECTION_PAGES);
	ck_assert_uint_eq(g.control.high_frames, SECTION_PAGES);
	options.movable = 0;
	ck_assert_int_eq(geometry(&g), 0);
	ck_assert(g.mm.highmem_start == UINT64_MAX && g.mm.movable_start == UINT64_MAX);
	ck_assert_uint_eq(g.control.high_frames, 0);
	ck_assert_uint_eq(g.control.high_start, PAGES);
	ck_assert_uint_eq(g.first_high, g.first_metadata);
	options.highmem = 44 * MIB;
	ck_assert_int_eq(geometry(&g), 0);
	ck_assert_uint_eq(g.first_high, 4);
	/* DMA is not given up, and something has to be left */
	options.highmem = 45 * MIB;
	ck_assert_int_eq(geometry(&g), -EINVAL);
	options.highmem = 40 * MIB;
	options.movable = 8 * MIB;
	ck_assert_int_eq(geometry(&g), -EINVAL);
	options.dma_size = 0;
	ck_assert_int_eq(geometry(&g), 0);
	options.highmem = 60 * MIB;
	options.movable = 0;
	ck_assert_int_eq(geometry(&g), -EINVAL);
	options.highmem = 56 * MIB;
	ck_assert_int_eq(geometry(&g), 0);
	ck_assert_uint_eq(g.first_high, 1);
	options.highmem = options.movable = GIB * 1024;
	ck_assert_int_eq(geometry(&g), -EINVAL);
}
END_TEST

/* A sixteenth of pools of 64 MiB and more, in whole sections, where that leaves enough. */
START_TEST(the_default_follows_the_pool)
{
	static const struct {
		uint64_t pool, section, high; /* MiB */
	} want[] = {
		{ 16, 4, 0 },    { 60, 4, 0 },      { 64, 4, 4 },     { 68, 4, 8 },
		{ 64, 16, 16 },  { 64, 32, 0 },     { 100, 4, 8 },    { 256, 4, 16 },
		{ 1024, 4, 64 }, { 1024, 256, 256 }, { 8192, 16, 512 }, { 2048, 1024, 0 },
		{ 1048576, 1024, 65536 },
	};
	struct pool_geometry g;
	size_t i;

	options.highmem = OPTIONS_HIGHMEM_DEFAULT;
	options.movable = 0;
	for (i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		options.pool_size = want[i].pool * MIB;
		options.section_size = want[i].section * MIB;
		ck_assert_int_eq(geometry(&g), 0);
		ck_assert_msg(pool_high_bytes(&g) == want[i].high * MIB, "%zu: %zu", i,
		              (size_t)(pool_high_bytes(&g) / MIB));
		ck_assert_uint_le(control_pages(&g.control) >> g.mm.section_order,
		                  CONTROL_SECTIONS_MAX);
	}
}
END_TEST

START_TEST(with_nodes_they_are_the_last_ones_top)
{
	struct pool_geometry g;

	options.nodes = 4;
	ck_assert_int_eq(geometry(&g), 0);
	ck_assert_uint_eq(g.first_high, 12);
	options.highmem = 24 * MIB; /* reaches into the node below */
	ck_assert_int_eq(geometry(&g), 0);
	ck_assert_uint_eq(g.first_high, 8);
}
END_TEST

/* ---- pools ---- */

static bool high(uint32_t section)
{
	return section >= 12 && section < 15;
}

/* What backs it. */
static struct pool_backing pool_has(const struct pool *p)
{
	struct pool_backing b;

	pool_backing_get(p, &b);
	return b;
}

static void look_sections(struct pool *p)
{
	uint32_t s;

	for (s = 0; s < 19; s++)
		CHILD_CHECK(p->control.section[s] == (s == 15 ? CONTROL_SECTION_NONE :
		                                      s >= 12 ? CONTROL_SECTION_HIGH :
		                                                CONTROL_SECTION_DIRECT));
	for (s = 0; s < 16; s++) {
		enum shm_backing b = high(s) || options.backing == SHM_4K ? SHM_4K : SHM_HUGETLB_2M;
		struct section_info info;
		const char *why;

		mm_section_get(p->mm, (section_id_t){ s }, &info);
		CHILD_CHECK(info.state == (s < 15 ? SECTION_ONLINE : SECTION_METADATA));
		CHILD_CHECK(info.backing == b);
		CHILD_CHECK(s == 15 || info.zone == (s < 4  ? ZONE_DMA :
		                                     s < 12 ? ZONE_DMA32 :
		                                     s < 14 ? ZONE_HIGHMEM :
		                                              ZONE_MOVABLE));
		CHILD_CHECK(shm_memfd_check(p->section_fd[s], SECTION, b, &why) == 0);
	}
}

static void look_account(struct pool *p)
{
	look_sections(p);
	if (options.backing == SHM_4K) {
		CHILD_CHECK(pool_has(p).bytes_4k == POOL && pool_has(p).bytes_2m == 0);
		CHILD_CHECK(strcmp(pool_has(p).text, "64 MiB of shared memory on 4 KiB pages") == 0);
		return;
	}
	CHILD_CHECK(pool_has(p).bytes_4k == 3 * SECTION && pool_has(p).bytes_2m == POOL - 3 * SECTION);
	CHILD_CHECK(pool_has(p).bytes_1g == 0 && p->advice[0] == '\0');
	CHILD_CHECK(strcmp(pool_has(p).text, "52 MiB of hugetlb 2 MiB pages, 12 MiB of shared memory "
	                                    "on 4 KiB pages") == 0);
}

static void look_new(struct pool *p)
{
	struct stat st;
	uint32_t i;

	CHILD_CHECK(!p->recovered);
	look_account(p);
	for (i = 0; i < PAGES + HIGH_PAGES; i++)
		CHILD_CHECK(owner_load(&p->control.word[i]) == owner_reborn(0, OWNER_FREE, 0));
	for (i = 0; i < HIGH_PAGES; i++)
		CHILD_CHECK(p->ledger.high[i] == HIGH_START + i);
	/* all of it is there, touched or not */
	for (i = 12; i < 15; i++)
		CHILD_CHECK(fstat(p->section_fd[i], &st) == 0 && (uint64_t)st.st_blocks * 512 == SECTION);
	for (i = 0; i < 3 * SECTION; i += 4096)
		CHILD_CHECK(p->window[12 * SECTION + i] == 0);
	memset(p->window + 13 * SECTION, 'h', 4096);
	p->ledger.high[3] = HIGH_START + 4;
	p->ledger.high[4] = HIGH_START + 3;
}

static void look_again(struct pool *p)
{
	CHILD_CHECK(p->recovered);
	look_account(p);
	CHILD_CHECK(p->window[13 * SECTION + 4095] == 'h');
	CHILD_CHECK(p->ledger.high[3] == HIGH_START + 4 && p->ledger.high[4] == HIGH_START + 3);
}

START_TEST(of_a_hugetlb_pool_they_lie_on_small_pages)
{
	START_OK(look_new);
	START_OK(look_again);
	START_OK(look_again);
}
END_TEST

START_TEST(of_a_pool_of_small_pages_too)
{
	options.backing = SHM_4K;
	START_OK(look_new);
	START_OK(look_again);
}
END_TEST

START_TEST(other_sizes_do_not_change_a_pool)
{
	START_OK(look_new);
	options.highmem = 8 * MIB;
	START_OK(look_again);
	ck_assert_ptr_null(strstr(manager.log, "other sizes of HighMem"));
	options.highmem = OPTIONS_HIGHMEM_DEFAULT;
	START_OK(look_again);
	ck_assert_ptr_null(strstr(manager.log, "other sizes of HighMem"));
	options.highmem = 4 * MIB;
	START_OK(look_again);
	ck_assert_ptr_nonnull(strstr(manager.log, "other sizes of HighMem"));
	options.highmem = 8 * MIB;
	options.movable = 0;
	START_OK(look_again);
	ck_assert_ptr_nonnull(strstr(manager.log, "other sizes of HighMem"));
}
END_TEST

/* ---- a backing for a zone ---- */

/* DMA is sections 0 to 3, DMA32 4 to 11. */
static void look_mixed(struct pool *p)
{
	uint32_t s;

	for (s = 0; s < 16; s++) {
		enum shm_backing b = s < 4 || s == 15 ? SHM_HUGETLB_2M : SHM_4K;
		struct section_info info;
		const char *why;

		mm_section_get(p->mm, (section_id_t){ s }, &info);
		CHILD_CHECK(info.backing == b);
		CHILD_CHECK(shm_memfd_check(p->section_fd[s], SECTION, b, &why) == 0);
		CHILD_CHECK(p->window[s * SECTION + SECTION / 2] == 0);
	}
	CHILD_CHECK(pool_has(p).bytes_4k == 11 * SECTION && pool_has(p).bytes_2m == 5 * SECTION);
	CHILD_CHECK(strcmp(pool_has(p).text, "20 MiB of hugetlb 2 MiB pages, 44 MiB of shared memory "
	                                    "on 4 KiB pages") == 0);
	/* what all below the high zones can be mapped in */
	CHILD_CHECK(p->map_shift == 21);
}

static void look_small(struct pool *p)
{
	struct section_info info;

	mm_section_get(p->mm, (section_id_t){ 4 }, &info);
	CHILD_CHECK(info.backing == SHM_HUGETLB_2M);
	mm_section_get(p->mm, (section_id_t){ 0 }, &info);
	CHILD_CHECK(info.backing == SHM_4K);
	CHILD_CHECK(p->map_shift == 21 && pool_has(p).bytes_4k == 7 * SECTION);
}

START_TEST(a_zone_has_its_own)
{
	options.dma32_backing = SHM_4K;
	START_OK(look_mixed);
	START_OK(look_mixed);
	ck_assert_ptr_null(strstr(manager.log, "other backings of zones"));
	options.dma32_backing = SHM_AUTO;
	START_OK(look_mixed);
	ck_assert_ptr_nonnull(strstr(manager.log, "other backings of zones"));
}
END_TEST

START_TEST(of_small_pages_in_a_pool_of_huge_ones)
{
	options.dma_backing = SHM_4K;
	options.highmem_backing = options.movable_backing = SHM_4K; /* which they have anyway */
	START_OK(look_small);
	START_OK(look_small);
}
END_TEST

START_TEST(every_word_for_a_backing)
{
	enum shm_backing zone[MAX_NR_ZONES];
	struct pool_geometry g = { .size = 0 };
	uint32_t b, z, word;

	for (b = 1; b < SHM_NR_BACKINGS; b++)
		for (z = 0; z < MAX_NR_ZONES; z++) {
			memset(g.zone_backing, 0, sizeof(g.zone_backing));
			g.zone_backing[z] = (enum shm_backing)b;
			word = pool_backing_pack(&g, SHM_THP);
			ck_assert_int_eq(SUPERBLOCK_BACKING(word), SHM_THP);
			ck_assert(pool_backing_unpack(word, zone));
			ck_assert_mem_eq(zone, g.zone_backing, sizeof(zone));
		}
	memset(g.zone_backing, 0, sizeof(g.zone_backing));
	/* as pools had it before zones could have their own */
	ck_assert_uint_eq(pool_backing_pack(&g, SHM_4K), SHM_4K);
	ck_assert(!pool_backing_unpack(SHM_AUTO, zone));
	ck_assert(!pool_backing_unpack(SHM_NR_BACKINGS, zone));
	ck_assert(!pool_backing_unpack(SHM_4K | UINT32_C(7) << 8, zone));
	ck_assert(!pool_backing_unpack(SHM_4K | UINT32_C(1) << 31, zone));
}
END_TEST

/* ---- what is refused ---- */

#define SPOIL(field, value, text)                            \
	do {                                                 \
		sb->field = (value);                         \
		sb->checksum = pool_superblock_checksum(sb); \
		START_REFUSED(EUCLEAN, text);                \
		memcpy(sb, good, sizeof(good));              \
	} while (0)

START_TEST(zones_that_cannot_be)
{
	uint8_t good[sizeof(struct superblock)];
	struct superblock *sb;
	struct stat st;
	uint8_t *p;
	int fd;

	options.backing = SHM_4K;
	START_OK(look_new);
	fd = manager.store.kept[manager_find(&manager, "m15")].fd;
	ck_assert_int_eq(fstat(fd, &st), 0);
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, st.st_size - 4096);
	ck_assert_ptr_ne(p, MAP_FAILED);
	sb = (struct superblock *)p;
	memcpy(good, sb, sizeof(good));
	SPOIL(highmem_start, HIGH_START + 1, "HighMem and Movable lie where they cannot");
	SPOIL(movable_start, 15 * SECTION_PAGES + 512, "HighMem and Movable lie where they cannot");
	SPOIL(movable_start, 16 * SECTION_PAGES, "HighMem and Movable lie where they cannot");
	SPOIL(movable_start, HIGH_START - SECTION_PAGES, "Movable must start at or above");
	SPOIL(highmem_start, 0, "HighMem must start at or above the end of DMA");
	/* possible, but control memory and ledger were made for other ones */
	SPOIL(highmem_start, 13 * SECTION_PAGES, "\"words0\": its size is wrong");
	START_OK(look_again);
	munmap(p, 4096);
}
END_TEST

START_TEST(a_ledger_of_other_zones)
{
	struct control_geometry a = { .frames = PAGES, .high_start = HIGH_START,
		                      .high_frames = HIGH_PAGES, .section_order = 10,
		                      .sessions = 64, .magazines = 64 };
	struct control_geometry b = a;
	static const uint8_t uuid[16] = "some pool or so";
	const char *why = "";
	struct ledger l = { .fd = -1 };
	int fd;

	b.high_start -= SECTION_PAGES;
	ck_assert_int_eq(ledger_create(&l, &fd, &a, uuid), 0);
	ck_assert_int_eq(ledger_check(&l, &a, uuid, &why), 0);
	ck_assert_int_eq(ledger_check(&l, &b, uuid, &why), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(why, "another size"));
	ledger_unmap(&l);
	close(fd);
}
END_TEST

/* ---- the choice of backing ---- */

START_TEST(huge_pages_are_counted_for_the_rest_alone)
{
	struct backing_need need = { .pool = GIB, .small = 64 * MIB, .section = SECTION,
		                     .control = MIB, .wanted = SHM_AUTO, .huge_page = 2 * MIB };
	struct shm_machine m = { .memory_available = 128 * MIB, .memory_limit = UINT64_MAX,
		                 .huge_2m_total = 480, .huge_2m_free = 480 };
	enum shm_backing list[BACKING_CANDIDATES];
	char why[600], advice[1000], text[200];
	size_t n = 0;

	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), 0);
	ck_assert(n == 1 && list[0] == SHM_HUGETLB_2M);
	/* the small ones need memory beside them */
	m.memory_available = 65 * MIB;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), -ENOMEM);
	need.wanted = SHM_HUGETLB_2M;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), -ENOMEM);
	ck_assert_msg(strstr(why, "65 MiB of memory are needed") != NULL, "%s", why);
	m.memory_available = 128 * MIB;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), 0);
	m.huge_2m_free = 479;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), -ENOMEM);
	ck_assert_msg(strstr(why, "960 MiB of huge pages need 480 pages of 2 MiB, 479 are free, 1 are "
	                          "missing") != NULL, "%s", why);
	need.wanted = SHM_4K;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), -ENOMEM);
	ck_assert_msg(strstr(why, "1 GiB of memory are needed") != NULL ||
	              strstr(why, "1.00 GiB of memory are needed") != NULL, "%s", why);
	/* advice counts alike, and has nothing to say about pages that are small on purpose */
	backing_advise(advice, sizeof(advice), &need, &m, SHM_THP, 64 * MIB);
	ck_assert_ptr_nonnull(strstr(advice, "takes 480 of 2 MiB"));
	ck_assert_ptr_null(strstr(advice, "Transparent"));
	backing_advise(advice, sizeof(advice), &need, &m, SHM_THP, 66 * MIB);
	ck_assert_ptr_nonnull(strstr(advice, "Transparent"));
	backing_describe(text, sizeof(text), SHM_HUGETLB_1G, GIB, 0, 3 * GIB);
	ck_assert_str_eq(text, "3 GiB of hugetlb 1 GiB pages, 1 GiB of shared memory on 4 KiB pages");
}
END_TEST

START_TEST(what_zones_are_fixed_to_is_counted)
{
	struct backing_need need = { .pool = GIB, .small = 64 * MIB, .huge = 16 * MIB, .section = SECTION,
		                     .control = MIB, .wanted = SHM_4K, .huge_page = 2 * MIB };
	struct shm_machine m = { .memory_available = 2 * GIB, .memory_limit = UINT64_MAX,
		                 .huge_2m_total = 8, .huge_2m_free = 7 };
	enum shm_backing list[BACKING_CANDIDATES];
	char why[600], text[300];
	size_t n = 0;

	/* huge pages of a zone, whatever the rest is on */
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), -ENOMEM);
	ck_assert_msg(strstr(why, "16 MiB of huge pages need 8 pages of 2 MiB, 7 are free, 1 are missing") !=
	              NULL, "%s", why);
	m.huge_2m_free = 8;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), 0);
	ck_assert(n == 1 && list[0] == SHM_4K);
	/* auto wants them for the rest, too, and takes something else when there are too few */
	need.wanted = SHM_AUTO;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), 0);
	ck_assert(n == 1 && list[0] == SHM_4K);
	m.huge_2m_total = m.huge_2m_free = (GIB - 64 * MIB) / (2 * MIB);
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), 0);
	ck_assert(n == 2 && list[0] == SHM_HUGETLB_2M);
	/* transparent ones of a zone */
	need.thp = 32 * MIB;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), -ENOMEM);
	ck_assert_ptr_nonnull(strstr(why, "shmem_enabled"));
	m.shmem_huge = true;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), 0);
	/* and what is fixed to ordinary memory has to fit */
	need.wanted = SHM_HUGETLB_2M;
	m.memory_available = 96 * MIB;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), -ENOMEM);
	ck_assert_msg(strstr(why, "97 MiB of memory are needed") != NULL, "%s", why);
	need.huge_page = 8 * MIB;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), -EINVAL);
	backing_describe_mixed(text, sizeof(text), 12 * MIB, 100 * MIB, 16 * MIB, GIB);
	ck_assert_str_eq(text, "1 GiB of hugetlb 1 GiB pages, 16 MiB of hugetlb 2 MiB pages, 100 MiB of "
	                       "shared memory on transparent 2 MiB pages, 12 MiB of shared memory on 4 KiB "
	                       "pages");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool-high");
	TCase *c = tcase_create("pool-high");

	tcase_add_checked_fixture(c, setup, manager_teardown);
	tcase_set_timeout(c, 60);
	tcase_add_test(c, the_zones_lie_below_the_tables);
	tcase_add_test(c, the_default_follows_the_pool);
	tcase_add_test(c, with_nodes_they_are_the_last_ones_top);
	tcase_add_test(c, of_a_hugetlb_pool_they_lie_on_small_pages);
	tcase_add_test(c, of_a_pool_of_small_pages_too);
	tcase_add_test(c, other_sizes_do_not_change_a_pool);
	tcase_add_test(c, zones_that_cannot_be);
	tcase_add_test(c, a_ledger_of_other_zones);
	tcase_add_test(c, huge_pages_are_counted_for_the_rest_alone);
	tcase_add_test(c, a_zone_has_its_own);
	tcase_add_test(c, of_small_pages_in_a_pool_of_huge_ones);
	tcase_add_test(c, every_word_for_a_backing);
	tcase_add_test(c, what_zones_are_fixed_to_is_counted);
	suite_add_tcase(s, c);
	return suite_status(s);
}

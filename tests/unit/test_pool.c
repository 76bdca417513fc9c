/* SPDX-License-Identifier: MIT */
/*
 * Pools made, taken over and refused, each start in a process of its own under a manager that keeps
 * the descriptors. Between two starts the tests lose or spoil what the manager keeps.
 *
 * Pools of 64 MiB in 16 sections of 4 MiB, one of them metadata ("m15"), on real huge pages (32
 * must be free: sysctl vm.nr_hugepages) and on 4 KiB pages.
 */
#include "tests/unit/test_pool.h"

#include <inttypes.h>

#include "tests/suite.h"

#define POOL (64 * MIB)
#define SECTION (4 * MIB)
#define SECTIONS 16u
#define KEPT (SECTIONS + 4)

/* What backs it. */
static struct pool_backing pool_has(const struct pool *p)
{
	struct pool_backing b;

	pool_backing_get(p, &b);
	return b;
}

static void look_new(struct pool *p)
{
	uint64_t i;
	uint32_t s;

	CHILD_CHECK(!p->recovered && p->epoch == 1);
	CHILD_CHECK(p->frames == POOL / 4096 && p->section_order == 10);
	CHILD_CHECK(p->nr_sections == SECTIONS && p->metadata_frames == SECTION / 4096);
	CHILD_CHECK((uintptr_t)p->window % SECTION == 0);
	CHILD_CHECK((uint8_t *)p->superblock == p->window + POOL - 4096);
	CHILD_CHECK(p->superblock->committed == 1);
	CHILD_CHECK(p->nr_sessions == 4097 && p->nr_holders == 65536);
	CHILD_CHECK(pool_has(p).bytes_4k + pool_has(p).bytes_2m + pool_has(p).bytes_1g == POOL);
	for (s = 0; s < SECTIONS; s++) {
		struct section_info info;

		mm_section_get(p->mm, (section_id_t){ s }, &info);
		CHILD_CHECK(info.state == (s < 15 ? SECTION_ONLINE : SECTION_METADATA));
		CHILD_CHECK(info.domain == 0 && info.epoch == 1);
		CHILD_CHECK(p->section_fd[s] >= 0);
		CHILD_CHECK(p->control.section[s] ==
		            (s < 15 ? CONTROL_SECTION_DIRECT : CONTROL_SECTION_NONE));
	}
	for (i = 0; i < p->frames; i++)
		CHILD_CHECK(owner_load(&p->control.word[i]) == UINT64_C(1)
		                                                       << OWNER_GENERATION_SHIFT);
	for (i = 0; i < p->nr_sessions; i++)
		CHILD_CHECK(p->session[i].word == 0);
	CHILD_CHECK(memcmp(p->control.status->uuid, p->uuid, 16) == 0);
	CHILD_CHECK(p->control.status->epoch == 1);
	CHILD_CHECK((fcntl(p->views_fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
	CHILD_CHECK((fcntl(p->words_fd, F_GETFL) & O_ACCMODE) == O_RDWR);
	memset(p->window + 5 * SECTION, 'z', 4096);
	p->session[7].pid = 4711;
	owner_store(&p->control.word[9], 99);
	/* who dies between word and mark leaves them so */
	p->control.section[5] = CONTROL_SECTION_NONE;
}

static void look_again(struct pool *p)
{
	CHILD_CHECK(p->recovered && p->epoch >= 2);
	CHILD_CHECK(p->superblock->epoch == p->epoch && p->control.status->epoch == p->epoch);
	CHILD_CHECK(p->frames == POOL / 4096 && p->nr_sections == SECTIONS);
	CHILD_CHECK(p->metadata_frames == SECTION / 4096);
	CHILD_CHECK(p->window[5 * SECTION + 4095] == 'z');
	CHILD_CHECK(p->session[7].pid == 4711);
	CHILD_CHECK(owner_load(&p->control.word[9]) == 99);
	for (uint32_t s = 0; s < SECTIONS; s++)
		CHILD_CHECK(p->control.section[s] ==
		            (s < 15 ? CONTROL_SECTION_DIRECT : CONTROL_SECTION_NONE));
	CHILD_CHECK(pool_has(p).bytes_4k + pool_has(p).bytes_2m + pool_has(p).bytes_1g == POOL);
	CHILD_CHECK(memcmp(p->control.status->uuid, p->superblock->uuid, 16) == 0);
	CHILD_CHECK((fcntl(p->views_fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
}

static void look_huge(struct pool *p)
{
	uint64_t b4k, b2m, b1g;

	look_new(p);
	CHILD_CHECK(pool_has(p).bytes_2m == POOL && p->advice[0] == '\0');
	CHILD_CHECK(strcmp(pool_has(p).text, "64 MiB of hugetlb 2 MiB pages") == 0);
	CHILD_CHECK(shm_page_sizes(p->window, POOL, &b4k, &b2m, &b1g) == 0);
	CHILD_CHECK(b2m == POOL && b4k == 0);
}

static void look_small(struct pool *p)
{
	uint64_t b4k, b2m, b1g;

	look_new(p);
	CHILD_CHECK(pool_has(p).bytes_4k == POOL && strstr(p->advice, "not on hugetlb pages"));
	CHILD_CHECK(strcmp(pool_has(p).text, "64 MiB of shared memory on 4 KiB pages") == 0);
	CHILD_CHECK(shm_page_sizes(p->window, POOL, &b4k, &b2m, &b1g) == 0);
	CHILD_CHECK(b4k == POOL);
}

static void look_huge_again(struct pool *p)
{
	look_again(p);
	CHILD_CHECK(pool_has(p).bytes_2m == POOL);
	CHILD_CHECK(strcmp(pool_has(p).text, "64 MiB of hugetlb 2 MiB pages") == 0);
}

START_TEST(a_hugetlb_pool_survives_restarts)
{
	int i;

	options.backing = SHM_HUGETLB_2M;
	START_OK(look_huge);
	ck_assert_uint_eq(manager.store.nr, KEPT);
	for (i = 0; i < 5; i++)
		START_OK(look_huge_again);
	ck_assert_uint_eq(manager.store.nr, KEPT);
}
END_TEST

START_TEST(a_pool_of_small_pages_survives_restarts)
{
	START_OK(look_small);
	START_OK(look_again);
}
END_TEST

START_TEST(a_thp_pool_survives_restarts)
{
	struct shm_machine m;

	options.backing = SHM_THP;
	ck_assert_int_eq(shm_machine_read(&m), 0);
	if (!m.shmem_huge) {
		START_REFUSED(ENOMEM, "no huge pages for shared memory");
		return;
	}
	START_OK(look_new);
	START_OK(look_again);
}
END_TEST

START_TEST(auto_takes_huge_pages_when_all_fit)
{
	options.backing = SHM_AUTO;
	START_OK(look_huge);
}
END_TEST

static int pool_start_alone(void *arg)
{
	unsetenv("NOTIFY_SOCKET");
	return pool_start(arg);
}

START_TEST(without_a_manager_the_pool_ends_with_the_process)
{
	ck_assert_msg(manager_start(&manager, pool_start_alone, (void *)look_new) == 0, "%s",
	              manager.log);
	ck_assert_ptr_nonnull(strstr(manager.log, "the pool ends with this process"));
	ck_assert_uint_eq(manager.store.nr, 0);
}
END_TEST

START_TEST(a_start_that_dies_halfway_leaves_nothing_behind)
{
	size_t at;

	for (at = 1; at < KEPT; at += 3) {
		manager.kill_at = at;
		ck_assert_int_eq(start(NULL), -SIGKILL);
		ck_assert_uint_ge(manager.store.nr, at);
	}
	manager.kill_at = 0;
	START_OK(look_new);
	ck_assert_msg(strstr(manager.log, "died before its pool was complete") != NULL, "%s",
	              manager.log);
	ck_assert_uint_eq(manager.store.nr, KEPT);
	START_OK(look_again);
}
END_TEST

/* The superblock's section outlives all others, so that the next start goes on with the dropping. */
START_TEST(a_dropping_that_dies_halfway_is_gone_on_with)
{
	size_t below;

	manager.kill_at = KEPT - 1;
	ck_assert_int_eq(start(NULL), -SIGKILL);
	manager.kill_at = 0;
	for (below = KEPT - 1; below >= 2; below -= below > 4 ? 4 : 1) {
		manager.kill_below = below;
		ck_assert_int_eq(start(NULL), -SIGKILL);
		ck_assert_uint_eq(manager.store.nr, below - 1);
		manager_find(&manager, "m15");
	}
	manager.kill_below = 0;
	START_OK(look_new);
	ck_assert_uint_eq(manager.store.nr, KEPT);
	START_OK(look_again);
}
END_TEST

/* ---- what recovery refuses ---- */

START_TEST(a_lost_descriptor_is_refused)
{
	static const char *const names[] = { "s0",     "s7",     "s14", "words0",
		                             "views0", "ledger0", "life0", "m15" };
	const char *name = names[_i];
	char text[64];

	START_OK(look_new);
	manager_lose(&manager, name);
	if (strcmp(name, "m15") == 0)
		snprintf(text, sizeof(text), "no metadata section");
	else
		snprintf(text, sizeof(text), "\"%s\" is missing", name);
	START_REFUSED(EUCLEAN, text);
	ck_assert_uint_eq(manager.store.nr, KEPT - 1); /* nothing was dropped */
	START_REFUSED(EUCLEAN, text);
}
END_TEST

START_TEST(a_lost_last_section_of_several_is_refused)
{
	options.holders_max = 1000000; /* 16 MB of them: several metadata sections */
	options.pool_size = 256 * MIB;
	START_OK(NULL);
	manager_lose(&manager, "m63");
	START_REFUSED(EUCLEAN, "is no superblock");
}
END_TEST

/* Maps a part of a kept descriptor, as the store's owner could. */
static void *kept_map(const char *name, off_t offset)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
	               manager.store.kept[manager_find(&manager, name)].fd, offset);

	ck_assert_ptr_ne(p, MAP_FAILED);
	return p;
}

static struct superblock *kept_superblock(void)
{
	return kept_map("m15", (off_t)(SECTION - 4096));
}

START_TEST(a_spoiled_superblock_is_refused)
{
	struct superblock *sb, good;

	START_OK(look_new);
	sb = kept_superblock();
	good = *sb;
#define SPOIL(field, value, text)                \
	do {                                     \
		sb->field = (value);             \
		START_REFUSED(EUCLEAN, text);    \
		*sb = good;                      \
	} while (0)
#define SPOIL_SUMMED(field, value, text)                       \
	do {                                                   \
		sb->field = (value);                           \
		sb->checksum = pool_superblock_checksum(sb);   \
		START_REFUSED(EUCLEAN, text);                  \
		*sb = good;                                    \
	} while (0)
	SPOIL(magic, 0, "is no superblock");
	SPOIL(version, METADATA_VERSION + 1, "metadata are of version 5");
	SPOIL(size, 8, "has 8 bytes");
	SPOIL(frames, good.frames * 2, "checksum");
	SPOIL(checksum, 1, "checksum");
	SPOIL_SUMMED(frames, 1, "impossible pool");
	SPOIL_SUMMED(frames, good.frames / 2, "tables lie elsewhere");
	SPOIL_SUMMED(section_order, 40, "impossible pool");
	SPOIL_SUMMED(nodes, 0, "impossible pool");
	SPOIL_SUMMED(sessions, 0, "out of range");
	SPOIL_SUMMED(holders, UINT32_MAX, "tables lie elsewhere");
	SPOIL_SUMMED(magazines, 0, "out of range");
	SPOIL_SUMMED(backing, SHM_NR_BACKINGS, "names backing");
	SPOIL_SUMMED(backing, SHM_HUGETLB_2M, "pages of another kind");
	SPOIL_SUMMED(mm_address, 0, "tables lie elsewhere");
	SPOIL_SUMMED(uuid[3], (uint8_t)~good.uuid[3], "of another pool");
	START_OK(look_again);
	munmap(sb, 4096);
}
END_TEST

START_TEST(a_spoiled_section_table_is_refused)
{
	struct superblock *sb;
	uint64_t *word, good;

	START_OK(look_new);
	sb = kept_superblock();
	word = kept_map("m15", (off_t)(sb->mm_address - 15 * SECTION));
	good = word[3];
	word[3] = 0;
	START_REFUSED(EUCLEAN, "section 3 is in state");
	word[3] = SECTION_METADATA;
	START_REFUSED(EUCLEAN, "section 3 is in state");
	word[3] = good | 5 << 3;
	START_REFUSED(EUCLEAN, "section 3 belongs to domain 5");
	word[3] = good;
	good = word[15];
	word[15] = SECTION_ONLINE;
	START_REFUSED(EUCLEAN, "section 15 is in state");
	word[15] = good;
	START_OK(look_again);
	munmap(word, 4096);
	munmap(sb, 4096);
}
END_TEST

/* Puts another descriptor in the place of a kept one. */
static void kept_replace(const char *name, int fd)
{
	ck_assert_int_ge(fd, 0);
	manager_lose(&manager, name);
	ck_assert_int_eq(supervise_store_keep(&manager.store, name, fd), 0);
}

static int memfd_sealed(size_t size, enum shm_backing b)
{
	int fd = -1;

	ck_assert_int_eq(shm_memfd_new(&fd, "other", size, b), 0);
	return fd;
}

START_TEST(a_wrong_descriptor_is_refused)
{
	int fd;

	START_OK(look_new);
	kept_replace("s4", memfd_create("unsealed", MFD_ALLOW_SEALING));
	START_REFUSED(EUCLEAN, "\"s4\": its size is wrong");
	fd = memfd_create("unsealed", MFD_ALLOW_SEALING);
	ck_assert_int_eq(ftruncate(fd, (off_t)SECTION), 0);
	kept_replace("s4", fd);
	START_REFUSED(EUCLEAN, "\"s4\": it is not sealed");
	kept_replace("s4", memfd_sealed(SECTION, SHM_HUGETLB_2M));
	START_REFUSED(EUCLEAN, "\"s4\": it has pages of another kind");
	kept_replace("s4", memfd_sealed(SECTION, SHM_4K));
	kept_replace("words0", memfd_sealed(4096, SHM_4K));
	START_REFUSED(EUCLEAN, "\"words0\": its size is wrong");
}
END_TEST

START_TEST(lost_control_memory_is_refused)
{
	struct stat st;

	START_OK(look_new);
	ck_assert_int_eq(fstat(manager.store.kept[manager_find(&manager, "views0")].fd, &st), 0);
	kept_replace("views0", memfd_sealed((size_t)st.st_size, SHM_4K));
	START_REFUSED(EUCLEAN, "control memory is of version 0");
}
END_TEST

START_TEST(descriptors_too_many_are_refused)
{
	START_OK(look_new);
	ck_assert_int_eq(supervise_store_keep(&manager.store, "s3", memfd_sealed(SECTION, SHM_4K)),
	                 0);
	START_REFUSED(EUCLEAN, "\"s3\" belongs to no part of the pool");
	manager_lose(&manager, "s3");
	manager_lose(&manager, "s3");
	ck_assert_int_eq(supervise_store_keep(&manager.store, "m14", memfd_sealed(SECTION, SHM_4K)),
	                 0);
	START_REFUSED(EUCLEAN, "\"m14\" belongs to no part of the pool");
}
END_TEST

START_TEST(many_findings_are_summed_up)
{
	unsigned int i;
	char name[16];

	START_OK(look_new);
	for (i = 0; i < 12; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		manager_lose(&manager, name);
	}
	START_REFUSED(EUCLEAN, "and 4 more");
}
END_TEST

START_TEST(the_stored_geometry_wins_over_the_options)
{
	START_OK(look_new);
	options.pool_size = 128 * MIB;
	options.section_size = 8 * MIB;
	options.nodes = 2;
	options.dma_size = 32 * MIB;
	options.backing = SHM_HUGETLB_2M;
	options.sessions_max = 17;
	START_OK(look_again);
	ck_assert_msg(strstr(manager.log, "pool size 128 MiB is configured") != NULL, "%s",
	              manager.log);
	ck_assert_ptr_nonnull(strstr(manager.log, "section size 8 MiB is configured"));
	ck_assert_ptr_nonnull(strstr(manager.log, "2 nodes are configured"));
	ck_assert_ptr_nonnull(strstr(manager.log, "other zone borders"));
	ck_assert_ptr_nonnull(strstr(manager.log, "backing hugetlb-2M is configured"));
}
END_TEST

/* ---- what is refused at the first start ---- */

START_TEST(pools_that_do_not_fit_are_refused_with_the_numbers)
{
	struct shm_machine m;
	char text[100];
	uint64_t pages;

	ck_assert_int_eq(shm_machine_read(&m), 0);
	options.backing = SHM_HUGETLB_2M;
	options.pool_size = GIB * 1024;
	pages = options.pool_size / (2 * MIB);
	snprintf(text, sizeof(text), "need %" PRIu64 " pages of 2 MiB, %" PRIu64 " are free, ", pages,
	         m.huge_2m_free - m.huge_2m_reserved + m.huge_2m_overcommit);
	START_REFUSED(ENOMEM, text);
	snprintf(text, sizeof(text), "sysctl vm.nr_hugepages=%" PRIu64,
	         m.huge_2m_total + pages -
	                 (m.huge_2m_free - m.huge_2m_reserved + m.huge_2m_overcommit));
	START_REFUSED(ENOMEM, text);
	options.backing = SHM_4K;
	START_REFUSED(ENOMEM, "the pool does not fit: ");
	options.backing = SHM_AUTO;
	START_REFUSED(ENOMEM, "the pool does not fit: ");
	ck_assert_uint_eq(manager.store.nr, 0);
}
END_TEST

START_TEST(impossible_sizes_are_refused_with_the_nearest)
{
	options.pool_size = 65 * MIB;
	START_REFUSED(EINVAL, "the nearest are 64 MiB and 68 MiB");
	options.pool_size = 8 * MIB;
	START_REFUSED(EINVAL, "at least 16 MiB");
	options.pool_size = 64 * MIB;
	options.section_size = 3 * MIB;
	START_REFUSED(EINVAL, "power of two from 4 MiB to 1 GiB");
	options.section_size = 2 * MIB;
	START_REFUSED(EINVAL, "power of two from 4 MiB to 1 GiB");
	options.section_size = 64 * MIB;
	START_REFUSED(EINVAL, "there may be 2 to 1024");
	options.section_size = 4 * MIB;
	options.pool_size = 8 * GIB;
	START_REFUSED(EINVAL, "there may be 2 to 1024");
	options.pool_size = 64 * MIB;
	options.nodes = 65;
	START_REFUSED(EINVAL, "1 to 64 nodes");
	options.nodes = 1;
	options.backing = SHM_HUGETLB_2M;
	options.huge_page_size = GIB;
	START_REFUSED(EINVAL, "choose sections that are a multiple");
}
END_TEST

START_TEST(tables_follow_the_pool_and_its_options)
{
	static const uint64_t sizes[] = { 16, 64, 100, 1024, 2048, 8192, 65536, 1048576 };
	struct pool_geometry g;
	struct memblock mb;
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t metadata, most;
		uint32_t expected = 4;

		options.pool_size = sizes[i] * MIB;
		while (expected < 1024 && expected < sizes[i] / 512)
			expected *= 2;
		ck_assert_int_eq(pool_geometry_from_options(&g, &options, &mb), 0);
		ck_assert_uint_eq(g.section_size, expected * MIB);
		ck_assert_uint_eq(g.superblock, g.size - 4096);
		ck_assert_uint_le(g.mm_address + g.mm_size, g.superblock);
		ck_assert_uint_le(g.session_address + g.sessions * sizeof(struct session_record),
		                  g.mm_address);
		ck_assert_uint_le(g.holder_address + g.holders * sizeof(struct holder_record),
		                  g.session_address);
		ck_assert_uint_ge(g.holder_address, g.first_metadata * g.section_size);
		metadata = g.size - g.first_metadata * g.section_size;
		most = g.size / 10 + g.section_size;
		ck_assert_uint_le(metadata, most);
		ck_assert_uint_ge(g.magazines, 1024);
		ck_assert_uint_le(g.magazines, 16384);
	}
	options.pool_size = 64 * MIB;
	ck_assert_int_eq(pool_geometry_from_options(&g, &options, &mb), 0);
	ck_assert_uint_eq(g.nr_sections - g.first_metadata, 1);
	options.sessions_max = 1u << 20;
	options.holders_max = UINT32_MAX;
	ck_assert_int_eq(pool_geometry_from_options(&g, &options, &mb), 0);
	ck_assert_uint_le(g.size - g.first_metadata * g.section_size, 2 * SECTION);
}
END_TEST

/* ---- the choice of backing, on machines that are made up ---- */

START_TEST(auto_tries_what_the_numbers_allow)
{
	struct backing_need need = { .pool = GIB, .section = SECTION, .control = MIB,
		                     .wanted = SHM_AUTO, .huge_page = 2 * MIB };
	struct shm_machine m = { .memory_available = 16 * GIB, .memory_limit = UINT64_MAX };
	enum shm_backing list[BACKING_CANDIDATES];
	char why[600], advice[1000];
	size_t n = 0;

	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), 0);
	ck_assert(n == 1 && list[0] == SHM_4K);
	m.shmem_huge = true;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), 0);
	ck_assert(n == 2 && list[0] == SHM_THP && list[1] == SHM_4K);
	m.huge_2m_total = 600;
	m.huge_2m_free = 520;
	m.huge_2m_reserved = 9; /* 511 of 512 */
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), 0);
	ck_assert(n == 2 && list[0] == SHM_THP);
	backing_advise(advice, sizeof(advice), &need, &m, SHM_THP, 0);
	ck_assert_msg(strstr(advice, "takes 512 of 2 MiB, 511 are free, 1 are missing") != NULL, "%s",
	              advice);
	ck_assert_ptr_nonnull(strstr(advice, "sysctl vm.nr_hugepages=601"));
	m.huge_2m_reserved = 8;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), 0);
	ck_assert(n == 3 && list[0] == SHM_HUGETLB_2M && list[2] == SHM_4K);
	backing_advise(advice, sizeof(advice), &need, &m, SHM_HUGETLB_2M, 0);
	ck_assert_str_eq(advice, "");
	/* little memory beside the huge pages: these alone */
	m.memory_available = 64 * MIB;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), 0);
	ck_assert(n == 1 && list[0] == SHM_HUGETLB_2M);
	m.huge_2m_free = 0;
	m.huge_2m_reserved = 0;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), -ENOMEM);
	ck_assert_msg(strstr(why, "62 MiB may be used (64 MiB are available") != NULL, "%s", why);
	ck_assert_ptr_nonnull(strstr(why, "512 huge pages that are missing (\"sysctl "
	                                  "vm.nr_hugepages=1112\""));
}
END_TEST

START_TEST(what_is_asked_for_by_name_is_given_or_refused)
{
	struct backing_need need = { .pool = 4 * GIB, .section = GIB, .control = MIB,
		                     .wanted = SHM_HUGETLB_2M, .huge_page = GIB };
	struct shm_machine m = { .memory_available = 16 * GIB, .memory_limit = 20 * GIB,
		                 .huge_1g_total = 5, .huge_1g_free = 4, .huge_1g_reserved = 1 };
	enum shm_backing list[BACKING_CANDIDATES];
	char why[600];
	size_t n = 0;

	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), -ENOMEM);
	ck_assert_msg(strstr(why, "need 4 pages of 1 GiB, 3 are free, 1 are missing") != NULL, "%s",
	              why);
	ck_assert_ptr_nonnull(strstr(why, "echo 6 > /sys/kernel/mm/hugepages/"));
	m.huge_1g_reserved = 0;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), 0);
	ck_assert(n == 1 && list[0] == SHM_HUGETLB_1G);
	need.wanted = SHM_THP;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), -ENOMEM);
	ck_assert_ptr_nonnull(strstr(why, "shmem_enabled"));
	m.shmem_huge = true;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), 0);
	ck_assert(n == 1 && list[0] == SHM_THP);
	m.memory_available = 4 * GIB;
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), -ENOMEM);
	ck_assert_ptr_nonnull(strstr(why, "within the control group's limit"));
	need.huge_page = 2 * MIB;
	need.wanted = SHM_HUGETLB_2M;
	m.huge_2m_overcommit = 2048; /* the kernel may add them */
	ck_assert_int_eq(backing_candidates(&need, &m, list, &n, why, sizeof(why)), 0);
	ck_assert(n == 1 && list[0] == SHM_HUGETLB_2M);
}
END_TEST

START_TEST(backings_are_described)
{
	char text[200], size[32];

	backing_describe(text, sizeof(text), SHM_HUGETLB_1G, 0, 0, 3 * GIB);
	ck_assert_str_eq(text, "3 GiB of hugetlb 1 GiB pages");
	backing_describe(text, sizeof(text), SHM_THP, 0, GIB, 0);
	ck_assert_str_eq(text, "1 GiB of shared memory on transparent 2 MiB pages");
	backing_describe(text, sizeof(text), SHM_THP, 24 * MIB, 1000 * MIB, 0);
	ck_assert_str_eq(text, "1 GiB of shared memory, 1000 MiB on transparent 2 MiB pages, 24 MiB "
	                       "on 4 KiB pages");
	ck_assert_str_eq(backing_size_text(size, 0), "0 bytes");
	ck_assert_str_eq(backing_size_text(size, 1536 * MIB), "1.50 GiB");
	ck_assert_str_eq(backing_size_text(size, UINT64_C(1) << 40), "1 TiB");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool");
	TCase *t = tcase_create("pool");

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, manager_setup, manager_teardown);
	tcase_add_test(t, a_hugetlb_pool_survives_restarts);
	tcase_add_test(t, a_pool_of_small_pages_survives_restarts);
	tcase_add_test(t, a_thp_pool_survives_restarts);
	tcase_add_test(t, auto_takes_huge_pages_when_all_fit);
	tcase_add_test(t, without_a_manager_the_pool_ends_with_the_process);
	tcase_add_test(t, a_start_that_dies_halfway_leaves_nothing_behind);
	tcase_add_test(t, a_dropping_that_dies_halfway_is_gone_on_with);
	tcase_add_loop_test(t, a_lost_descriptor_is_refused, 0, 8);
	tcase_add_test(t, a_lost_last_section_of_several_is_refused);
	tcase_add_test(t, a_spoiled_superblock_is_refused);
	tcase_add_test(t, a_spoiled_section_table_is_refused);
	tcase_add_test(t, a_wrong_descriptor_is_refused);
	tcase_add_test(t, lost_control_memory_is_refused);
	tcase_add_test(t, descriptors_too_many_are_refused);
	tcase_add_test(t, many_findings_are_summed_up);
	tcase_add_test(t, the_stored_geometry_wins_over_the_options);
	tcase_add_test(t, pools_that_do_not_fit_are_refused_with_the_numbers);
	tcase_add_test(t, impossible_sizes_are_refused_with_the_nearest);
	tcase_add_test(t, tables_follow_the_pool_and_its_options);
	tcase_add_test(t, auto_tries_what_the_numbers_allow);
	tcase_add_test(t, what_is_asked_for_by_name_is_given_or_refused);
	tcase_add_test(t, backings_are_described);
	suite_add_tcase(s, t);
	return suite_status(s);
}

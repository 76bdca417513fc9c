/* SPDX-License-Identifier: MIT */
/*
 * The ledger and the sparse parts of control memory: where things lie, that memory comes and goes
 * page by page, what is refused at a restart; fallocate() fails at every call.
 *
 *     a pool of 16 MiB in memfds, without sections; for restarts one of 64 MiB under a manager
 */
#include "tests/unit/test_pool.h"

#include "daemon/ledger.h"
#include "tests/suite.h"
#include "tests/unit/test_fallocate.h"

/* ---- a pool's memfds ---- */

static const struct control_geometry geometry = {
	.frames = 16 * MIB / 4096 * 16, .section_order = 10, .sessions = 100, .magazines = 64
};
static const uint8_t uuid[16] = "sixteen letters";
static struct control_layout layout;
static struct pool pool;
static void *words, *views;

static void setup(void)
{
	ck_assert_int_eq(control_layout_compute(&layout, &geometry), 0);
	memset(&pool, 0, sizeof(pool));
	ck_assert_int_eq(shm_memfd_new(&pool.words_fd, "words", layout.words_size, SHM_4K), 0);
	ck_assert_int_eq(shm_map(&words, NULL, pool.words_fd, layout.words_size, true), 0);
	views = mmap(NULL, layout.views_size, PROT_READ | PROT_WRITE,
	             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ck_assert_ptr_ne(views, MAP_FAILED);
	control_attach(&pool.control, &geometry, words, views);
	ck_assert_int_eq(ledger_create(&pool.ledger, &pool.ledger_fd, &geometry, uuid), 0);
}

static void teardown(void)
{
	fail_in = 0;
	ledger_unmap(&pool.ledger);
	munmap(words, layout.words_size);
	munmap(views, layout.views_size);
	close(pool.words_fd);
	close(pool.ledger_fd);
}

static uint64_t pages_of(int fd)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks / 8;
}

START_TEST(parts_follow_each_other_on_page_borders)
{
	struct control_geometry g = geometry;
	struct ledger_layout l;
	uint32_t order;

	for (order = 10; order <= 18; order++) {
		g.section_order = order;
		g.frames = UINT64_C(9) << order;
		g.sessions = 2 + order * 77;
		ck_assert_int_eq(ledger_layout_compute(&l, &g), 0);
		ck_assert_uint_eq(l.caches, 4096);
		ck_assert_uint_eq(l.users, l.caches + CONTROL_CACHES_MAX * sizeof(struct cache_record));
		ck_assert_uint_ge(l.users_stride * 8, g.sessions);
		ck_assert_uint_lt(l.users_stride * 8, g.sessions + 64);
		ck_assert_uint_ge(l.names, l.users + CONTROL_CACHES_MAX * l.users_stride);
		ck_assert_uint_eq(l.slabs, l.names + LEDGER_NAMES_MAX * sizeof(struct name_record));
		ck_assert_uint_ge(l.out, l.slabs + g.frames * 8);
		ck_assert_uint_ge((l.size - l.out) * 8, g.frames * 128);
		ck_assert_uint_eq((l.users | l.names | l.slabs | l.out | l.size | l.dense) % 4096, 0);
		ck_assert_uint_ge(l.nr_caches, 1024);
		ck_assert_uint_le(l.nr_caches, CONTROL_CACHES_MAX);
	}
	ck_assert_uint_eq(l.nr_caches, CONTROL_CACHES_MAX);
	g.sessions = 0;
	ck_assert_int_eq(ledger_layout_compute(&l, &g), -EINVAL);
}
END_TEST

START_TEST(only_the_dense_parts_have_memory_at_first)
{
	const struct ledger_layout *l = &pool.ledger.layout;

	ck_assert_uint_eq(pages_of(pool.ledger_fd), l->dense / 4096);
	ck_assert_uint_lt(l->dense * 8, l->size);
	/* every record that may be used, and every slab word, can be written */
	atomic_store(&pool.ledger.cache[l->nr_caches - 1].word, 1);
	atomic_store(&pool.ledger.slab[0], 1);
	atomic_store(&pool.ledger.slab[geometry.frames - 1], 1);
	ck_assert_uint_eq(pages_of(pool.ledger_fd), l->dense / 4096);
}
END_TEST

START_TEST(records_get_memory_before_they_are_used)
{
	const struct ledger *l = &pool.ledger;
	uint64_t before = pages_of(pool.ledger_fd);

	ck_assert_int_eq(ledger_open_users(l, 7), 0);
	ck_assert_uint_eq(pages_of(pool.ledger_fd), before + 1);
	atomic_store(&ledger_users(l, 7)[1], 5);
	ck_assert_int_eq(ledger_open_out(l, 512, 512), 0);
	ck_assert_uint_eq(pages_of(pool.ledger_fd), before + 2);
	atomic_store(&l->out[8], UINT64_MAX);
	atomic_store(&l->out[15], UINT64_MAX);
	ck_assert_int_eq(ledger_open_out(l, 32768 - 512, 1024), 0); /* over a border */
	ck_assert_uint_eq(pages_of(pool.ledger_fd), before + 3);
	ck_assert_int_eq(ledger_open_users(l, 7), 0); /* nothing changes */
	ck_assert_uint_eq(atomic_load(&ledger_users(l, 7)[1]), 5);
	ck_assert_uint_eq(pages_of(pool.ledger_fd), before + 3);
	fail_in = 1;
	ck_assert_int_eq(ledger_open_users(l, 5000), -ENOMEM);
	fail_in = 1;
	fail_with = EINTR; /* is asked again */
	ck_assert_int_eq(ledger_open_users(l, 5000), 0);
	fail_with = ENOSPC;
}
END_TEST

/* Those ever written are the front of the table. */
START_TEST(names_present_are_those_written)
{
	const struct ledger *l = &pool.ledger;
	uint32_t i;

	ck_assert_uint_eq(ledger_names_present(l), 0);
	for (i = 0; i < LEDGER_NAMES_MAX; i += 32) {
		if (i < 96 || i >= LEDGER_NAMES_MAX - 64) {
			uint64_t before = pages_of(pool.ledger_fd);

			ck_assert_int_eq(ledger_open_names(l, i, 32), 0);
			ck_assert_uint_eq(pages_of(pool.ledger_fd), before + 1);
		} else {
			ck_assert_int_eq(ledger_open_names(l, i, 32), 0);
		}
		ck_assert_uint_eq(ledger_names_present(l), i);
		atomic_store(&l->name[i + 31].word, 1);
		ck_assert_uint_eq(ledger_names_present(l), i + 32);
	}
	ck_assert_uint_eq(ledger_names_present(l), LEDGER_NAMES_MAX);
}
END_TEST

START_TEST(words_come_and_go_by_the_page)
{
	uint64_t before = pages_of(pool.words_fd), out = pages_of(pool.ledger_fd);
	owner_word_t *word = pool.control.object;
	uint32_t last = (uint32_t)pool.control.object_words - 512;

	ck_assert_int_eq(pool_words_open(&pool, 512, 1024), 0);
	ck_assert_int_eq(pool_words_open(&pool, last, 512), 0);
	ck_assert_uint_eq(pages_of(pool.words_fd), before + 3);
	ck_assert_uint_eq(pages_of(pool.ledger_fd), out + 2);
	owner_store(&word[512], 1);
	owner_store(&word[1023], 2);
	owner_store(&word[1024], 3);
	owner_store(&word[1535], 4);
	owner_store(&word[last + 511], 5);
	ck_assert_uint_eq(pages_of(pool.words_fd), before + 3);
	pool_words_close(&pool, 512, 512);
	ck_assert_uint_eq(pages_of(pool.words_fd), before + 2);
	ck_assert_uint_eq(owner_load(&word[1024]), 3);
	ck_assert_uint_eq(owner_load(&word[1535]), 4);
	ck_assert_uint_eq(owner_load(&word[last + 511]), 5);
	ck_assert_int_eq(pool_words_open(&pool, 512, 512), 0);
	ck_assert_uint_eq(owner_load(&word[512]), 0);
	ck_assert_uint_eq(owner_load(&word[1023]), 0);
	fail_in = 1;
	pool_words_close(&pool, 512, 512); /* stays in use, no more */
	ck_assert_uint_eq(pages_of(pool.words_fd), before + 3);
}
END_TEST

START_TEST(words_without_out_bits_are_none)
{
	uint64_t before = pages_of(pool.words_fd), out = pages_of(pool.ledger_fd);
	unsigned int call;

	for (call = 1; call <= 2; call++) {
		fail_in = call;
		ck_assert_int_eq(pool_words_open(&pool, 512 * 64, 512), -ENOMEM);
		ck_assert_uint_eq(fail_in, 0);
		ck_assert_uint_eq(pages_of(pool.words_fd), before);
		ck_assert_uint_eq(pages_of(pool.ledger_fd), out);
	}
	fail_in = 3;
	ck_assert_int_eq(pool_words_open(&pool, 512 * 64, 512), 0);
	ck_assert_uint_eq(fail_in, 1);
}
END_TEST

START_TEST(slab_bits_are_a_row_a_session)
{
	uint64_t before = pages_of(pool.words_fd);
	pfn_t far = (pfn_t)geometry.frames - 1;

	ck_assert_int_eq(pool_slab_bits_open(&pool, 5, 77), 0);
	ck_assert_int_eq(pool_slab_bits_open(&pool, 5, 78), 0);
	ck_assert_int_eq(pool_slab_bits_open(&pool, 6, 0), 0);
	ck_assert_int_eq(pool_slab_bits_open(&pool, 5, far), 0);
	ck_assert_uint_eq(pages_of(pool.words_fd), before + 3);
	atomic_store(&control_slab_bits(&pool.control, 5)[1], 1);
	atomic_store(&control_slab_bits(&pool.control, 5)[far / 64], 2);
	atomic_store(&control_slab_bits(&pool.control, 6)[0], 3);
	ck_assert_uint_eq(pages_of(pool.words_fd), before + 3);
	pool_slab_bits_close(&pool, 5);
	ck_assert_uint_eq(pages_of(pool.words_fd), before + 1);
	ck_assert_uint_eq(atomic_load(&control_slab_bits(&pool.control, 6)[0]), 3);
	fail_in = 1;
	ck_assert_int_eq(pool_slab_bits_open(&pool, 5, 77), -ENOMEM);
}
END_TEST

START_TEST(a_ledger_of_ordinary_memory_has_all_there)
{
	struct ledger l;
	struct pool p = { .words_fd = -1 };

	ledger_attach(&l, &pool.ledger.layout, -1, pool.ledger.head);
	ck_assert_int_eq(ledger_open_users(&l, 1), 0);
	ck_assert_int_eq(ledger_open_names(&l, 1, 1), 0);
	ck_assert_uint_eq(ledger_names_present(&l), LEDGER_NAMES_MAX);
	ck_assert_int_eq(pool_words_open(&p, 0, 512), 0);
	pool_words_close(&p, 0, 512);
}
END_TEST

START_TEST(heads_are_checked)
{
	struct ledger_head *h = pool.ledger.head, good = *h;
	struct control_geometry other = geometry;
	const char *why = NULL;

	ck_assert_int_eq(ledger_check(&pool.ledger, &geometry, uuid, &why), 0);
	ck_assert_ptr_null(why);
#define SPOIL(field, value, text)                                                                  \
	do {                                                                                       \
		h->field = (value);                                                                \
		ck_assert_int_eq(ledger_check(&pool.ledger, &geometry, uuid, &why), -EUCLEAN);     \
		ck_assert_msg(strstr(why, text) != NULL, "%s", why);                               \
		*h = good;                                                                         \
	} while (0)
	SPOIL(magic, 0, "no ledger");
	SPOIL(version, METADATA_VERSION + 1, "another version");
	SPOIL(uuid[3], 0, "another pool");
	SPOIL(frames, 1, "another size");
	SPOIL(sessions, 1, "another size");
	SPOIL(object_words, 1, "another size");
#undef SPOIL
	other.frames *= 2;
	ck_assert_int_eq(ledger_check(&pool.ledger, &other, uuid, &why), -EUCLEAN);
	other.frames = 1;
	ck_assert_int_eq(ledger_check(&pool.ledger, &other, uuid, &why), -EUCLEAN);
}
END_TEST

/* ---- restarts ---- */

static void restarts_setup(void)
{
	manager_setup();
	options.reactors = 1;
	options.sessions_max = 256;
	options.holders_max = 1024;
}

static void look_new(struct pool *p)
{
	CHILD_CHECK(!p->recovered && p->ledger.head->magic == LEDGER_MAGIC);
	CHILD_CHECK(memcmp(p->ledger.head->uuid, p->uuid, 16) == 0);
	CHILD_CHECK(ledger_names_present(&p->ledger) == 0);
	/* the views' entries of caches are there as the records are */
	atomic_store(&p->control.cache[p->ledger.layout.nr_caches - 1].life, 9);
	CHILD_CHECK(ledger_open_names(&p->ledger, 0, 32) == 0);
	atomic_store(&p->ledger.name[3].word, 4711);
	CHILD_CHECK(pool_words_open(p, 0, 512) == 0);
	atomic_store(&p->ledger.out[3], 4712);
	owner_store(&p->control.object[9], 4713);
	CHILD_CHECK(pool_slab_bits_open(p, 17, 0) == 0);
	atomic_store(&control_slab_bits(&p->control, 17)[5], 4714);
}

static void look_again(struct pool *p)
{
	CHILD_CHECK(p->recovered);
	CHILD_CHECK(ledger_names_present(&p->ledger) == 32);
	CHILD_CHECK(atomic_load(&p->control.cache[p->ledger.layout.nr_caches - 1].life) == 9);
	CHILD_CHECK(atomic_load(&p->ledger.name[3].word) == 4711);
	CHILD_CHECK(atomic_load(&p->ledger.out[3]) == 4712);
	CHILD_CHECK(owner_load(&p->control.object[9]) == 4713);
	CHILD_CHECK(atomic_load(&control_slab_bits(&p->control, 17)[5]) == 4714);
}

START_TEST(what_was_written_survives_restarts)
{
	START_OK(look_new);
	START_OK(look_again);
	START_OK(look_again);
}
END_TEST

static struct ledger_head *kept_head(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
	               manager.store.kept[manager_find(&manager, "ledger0")].fd, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	return p;
}

START_TEST(a_spoiled_ledger_is_refused)
{
	struct ledger_head *h, good;

	START_OK(look_new);
	h = kept_head();
	good = *h;
	h->magic = 0;
	START_REFUSED(EUCLEAN, "\"ledger0\": it is no ledger");
	*h = good;
	h->uuid[0] ^= 1;
	START_REFUSED(EUCLEAN, "\"ledger0\": it is of another pool");
	*h = good;
	h->version = 1;
	START_REFUSED(EUCLEAN, "\"ledger0\": it is of another version");
	*h = good;
	h->object_words--;
	START_REFUSED(EUCLEAN, "\"ledger0\": it was made for a pool of another size");
	*h = good;
	START_OK(look_again);
	munmap(h, 4096);
}
END_TEST

START_TEST(a_wrong_descriptor_is_refused)
{
	struct stat st;
	int fd = -1;

	START_OK(look_new);
	ck_assert_int_eq(fstat(manager.store.kept[manager_find(&manager, "ledger0")].fd, &st), 0);
	manager_lose(&manager, "ledger0");
	START_REFUSED(EUCLEAN, "\"ledger0\" is missing");
	ck_assert_int_eq(shm_memfd_new(&fd, "other", 4096, SHM_4K), 0);
	ck_assert_int_eq(supervise_store_keep(&manager.store, "ledger0", fd), 0);
	START_REFUSED(EUCLEAN, "\"ledger0\": its size is wrong");
	manager_lose(&manager, "ledger0");
	ck_assert_int_eq(shm_memfd_new(&fd, "other", (size_t)st.st_size, SHM_4K), 0);
	ck_assert_int_eq(supervise_store_keep(&manager.store, "ledger0", fd), 0);
	START_REFUSED(EUCLEAN, "\"ledger0\": it is no ledger");
}
END_TEST

/* A pool of a version that this program does not read: no ledger, and its number in the superblock. */
START_TEST(a_pool_of_an_old_version_is_refused)
{
	struct superblock *sb;
	void *p;

	START_OK(look_new);
	manager_lose(&manager, "ledger0");
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
	         manager.store.kept[manager_find(&manager, "m15")].fd, (off_t)(4 * MIB - 4096));
	ck_assert_ptr_ne(p, MAP_FAILED);
	sb = p;
	sb->version = 1;
	sb->checksum = pool_superblock_checksum(sb);
	START_REFUSED(EUCLEAN, "of version 1; this program reads versions 3 and 4");
	ck_assert_ptr_nonnull(strstr(manager.log, "stop the service and start it again"));
	munmap(p, 4096);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ledger");
	TCase *t = tcase_create("ledger"), *m = tcase_create("restarts");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, parts_follow_each_other_on_page_borders);
	tcase_add_test(t, only_the_dense_parts_have_memory_at_first);
	tcase_add_test(t, records_get_memory_before_they_are_used);
	tcase_add_test(t, names_present_are_those_written);
	tcase_add_test(t, words_come_and_go_by_the_page);
	tcase_add_test(t, words_without_out_bits_are_none);
	tcase_add_test(t, slab_bits_are_a_row_a_session);
	tcase_add_test(t, a_ledger_of_ordinary_memory_has_all_there);
	tcase_add_test(t, heads_are_checked);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(m, restarts_setup, manager_teardown);
	tcase_set_timeout(m, 120);
	tcase_add_test(m, what_was_written_survives_restarts);
	tcase_add_test(m, a_spoiled_ledger_is_refused);
	tcase_add_test(m, a_wrong_descriptor_is_refused);
	tcase_add_test(m, a_pool_of_an_old_version_is_refused);
	suite_add_tcase(s, m);
	return suite_status(s);
}

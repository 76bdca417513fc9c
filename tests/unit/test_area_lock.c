/* SPDX-License-Identifier: MIT */
/*
 * The sweep breaks the locks of the dead: words of their per-CPU areas, and no other; whatever
 * members have written there.
 */
#include "daemon/area_lock.h"
#include "shm/area_lock.h"
#include "tests/suite.h"
#include "tests/unit/test_domain.h"

static struct test_domain t;

static void setup(void)
{
	td_init(&t);
}

static void teardown(void)
{
	td_check(&t);
	td_fini(&t);
}

static _Atomic uint64_t *word(uint32_t area, uint32_t cpu)
{
	return &t.d->control.area_lock[(size_t)area * CONTROL_AREA_CPUS + cpu];
}

/* As the client claims an entry. */
static void claim(uint32_t area, struct session *s, enum control_area_kind kind)
{
	struct control_area *e = &t.d->control.area[area];

	atomic_store(&s->shared->areas, 1);
	owner_store(&e->word, owner_reborn(owner_load(&e->word), OWNER_HELD, s->id));
	e->kind = kind;
}

static bool is_free(uint32_t area)
{
	return owner_kind(owner_load(&t.d->control.area[area].word)) == OWNER_FREE;
}

START_TEST(the_dead_hold_nothing)
{
	struct session *s = td_session(&t, "s"), *other = td_session(&t, "other");
	uint64_t mine = area_lock_make(s->id, 1000, 2), his = area_lock_make(other->id, 1000, 1);

	claim(0, s, CONTROL_AREA_PERCPU);
	claim(1, other, CONTROL_AREA_PERCPU);
	claim(2, s, CONTROL_AREA_VMALLOC);
	claim(CONTROL_AREAS_MAX - 1, s, CONTROL_AREA_PERCPU);
	atomic_store(word(0, 0), mine);
	atomic_store(word(0, 7), mine);
	atomic_store(word(0, CONTROL_AREA_CPUS - 1), mine);
	atomic_store(word(0, 1), his); /* nonsense, and nobody's of ours */
	atomic_store(word(1, 0), his);
	atomic_store(word(2, 0), mine); /* no per-CPU area: the words mean nothing */
	atomic_store(word(CONTROL_AREAS_MAX - 1, 3), UINT64_MAX);
	atomic_store(word(CONTROL_AREAS_MAX - 1, 4), mine);
	session_end(s);
	ck_assert(is_free(0) && is_free(2) && is_free(CONTROL_AREAS_MAX - 1) && !is_free(1));
	ck_assert_uint_eq(atomic_load(word(0, 0)), 0);
	ck_assert_uint_eq(atomic_load(word(0, 7)), 0);
	ck_assert_uint_eq(atomic_load(word(0, CONTROL_AREA_CPUS - 1)), 0);
	ck_assert_uint_eq(atomic_load(word(0, 1)), his);
	ck_assert_uint_eq(atomic_load(word(1, 0)), his);
	ck_assert_uint_eq(atomic_load(word(2, 0)), mine);
	ck_assert_uint_eq(atomic_load(word(CONTROL_AREAS_MAX - 1, 3)), UINT64_MAX);
	ck_assert_uint_eq(atomic_load(word(CONTROL_AREAS_MAX - 1, 4)), 0);
	session_end(other);
	ck_assert_uint_eq(atomic_load(word(1, 0)), 0);
}
END_TEST

START_TEST(breaking_counts)
{
	uint64_t w = area_lock_make(5, 1, 1);

	ck_assert_uint_eq(area_lock_break(t.d, 9, 5), 0);
	atomic_store(word(9, 2), w);
	atomic_store(word(9, 3), area_lock_make(6, 1, 1));
	atomic_store(word(8, CONTROL_AREA_CPUS - 1), w);
	atomic_store(word(10, 0), w);
	ck_assert_uint_eq(area_lock_break(t.d, 9, 5), 1);
	ck_assert_uint_eq(area_lock_break(t.d, 9, 5), 0);
	ck_assert_uint_eq(atomic_load(word(8, CONTROL_AREA_CPUS - 1)), w);
	ck_assert_uint_eq(atomic_load(word(10, 0)), w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("area locks");
	TCase *c = tcase_create("sweep");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, the_dead_hold_nothing);
	tcase_add_test(c, breaking_counts);
	suite_add_tcase(s, c);
	return suite_status(s);
}

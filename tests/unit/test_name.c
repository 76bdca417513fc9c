/* SPDX-License-Identifier: MIT */
/*
 * Published names: who may, what they keep, what they lead to, and what deaths leave of them. Things
 * are blocks and objects of test_domain.h's domain.
 */
#include "daemon/name_private.h"
#include "tests/suite.h"
#include "tests/unit/test_cache.h"
#include "tests/unit/test_fallocate.h"
#include "tests/unit/test_holds.h"

static struct cache *c;

static void find_cache(void)
{
	c = cache_by_id(t.d, CACHE_BUILTIN_MAX + 1);
}

static void setup(void)
{
	tc_setup();
	tc_new(&t, a, "dentry", 192);
	find_cache();
}

static void restart(void)
{
	tc_restart();
	find_cache();
}

static void teardown(void)
{
	fail_in = 0;
	tc_teardown();
}

/* ---- things: blocks (even) and objects (odd) ---- */

static uint32_t thing_new(struct session *s, unsigned int kind)
{
	return kind % 2 ? td_object(&t, c, s) : domain_granule(t.d, td_alloc(&t, s, GFP_KERNEL, 0));
}

static uint64_t generation(uint32_t granule)
{
	return owner_generation(owner_load(td_word_of(&t, granule)));
}

/* Its owner frees it: it goes, or stays with its holders. */
static void thing_free(struct session *s, uint32_t granule)
{
	struct thing thing;

	ck_assert(thing_find(t.d, granule, &thing));
	ck_assert_int_eq(thing.is_object ? td_object_free(&t, s, granule) :
	                                   td_free(&t, s, thing.pfn, 0),
	                 0);
}

static bool lives(uint32_t granule, uint64_t of_generation)
{
	struct thing thing;
	uint64_t w;

	if (!thing_find(t.d, granule, &thing))
		return false;
	w = owner_load(thing.word);
	return owner_kind(w) == OWNER_HELD && owner_generation(w) == of_generation;
}

static int publish(struct session *s, const char *name, uint32_t granule)
{
	const char *why = NULL;
	int r = name_publish(t.d->names, s, name, granule, generation(granule), &why);

	ck_assert(r == 0 || (why && strlen(why) > 8));
	return r;
}

static int unpublish(struct session *s, const char *name)
{
	const char *why = NULL;
	int r = name_unpublish(t.d->names, s, 0, name, &why);

	ck_assert(r == 0 || (why && strlen(why) > 8));
	return r;
}

/* The granule that the name leads to, UINT32_MAX: there is none. */
static uint32_t lookup(const char *name)
{
	const char *why = NULL;
	uint64_t g = 0;
	uint32_t granule = 0;
	int r = name_lookup(t.d->names, name, &granule, &g, &why);

	if (r == 0)
		return granule;
	ck_assert_int_eq(r, -ENOENT);
	return UINT32_MAX;
}

START_TEST(a_name_outlives_its_publisher)
{
	uint32_t granule = thing_new(a, (unsigned int)_i);
	uint64_t g = generation(granule), w;

	ck_assert_int_eq(publish(a, "config", granule), 0);
	ck_assert_int_eq(publish(a, "config", granule), 0); /* again is the same */
	ck_assert_uint_eq(lookup("config"), granule);
	w = owner_load(td_word_of(&t, granule));
	ck_assert((w & OWNER_KEPT) && (w & OWNER_SHARED));
	ck_assert(holder_has(t.d->holders, 0, granule, g));
	td_check(&t);
	session_end(a);
	a = td_session(&t, "another");
	ck_assert(lives(granule, g));
	ck_assert(owner_is(owner_load(td_word_of(&t, granule)), OWNER_HELD, 0));
	td_check(&t);
	restart();
	ck_assert_uint_eq(lookup("config"), granule);
	ck_assert(lives(granule, g));
	td_check(&t);
	ck_assert_int_eq(unpublish(b, "config"), 0); /* the same user */
	ck_assert(!lives(granule, g));
	ck_assert_uint_eq(lookup("config"), UINT32_MAX);
	ck_assert_int_eq(unpublish(b, "config"), -ENOENT);
	ck_assert(!holder_has(t.d->holders, 0, granule, g));
}
END_TEST

START_TEST(the_owner_may_free_what_has_a_name)
{
	uint32_t granule = thing_new(a, (unsigned int)_i);
	uint64_t g = generation(granule);

	ck_assert_int_eq(publish(a, "config", granule), 0);
	thing_free(a, granule);
	ck_assert(lives(granule, g));
	ck_assert_int_eq(publish(a, "again", granule), -EPERM); /* not its any more */
	ck_assert_int_eq(unpublish(a, "config"), 0);
	ck_assert(!lives(granule, g));
}
END_TEST

START_TEST(several_names_are_one_holder)
{
	uint32_t granule = thing_new(a, (unsigned int)_i);
	uint64_t g = generation(granule);

	ck_assert_int_eq(publish(a, "one", granule), 0);
	ck_assert_int_eq(publish(a, "two", granule), 0);
	ck_assert(name_has(t.d->names, granule, g));
	ck_assert_uint_eq(holder_count(t.d->holders, granule, g), 1);
	ck_assert_uint_eq(name_total(t.d->names), 2);
	ck_assert_uint_eq(name_count_of_user(t.d->names, 0), 2);
	ck_assert_uint_eq(name_count_of_user(t.d->names, 1), 0);
	thing_free(a, granule);
	ck_assert_int_eq(unpublish(a, "one"), 0);
	ck_assert(lives(granule, g));
	restart();
	ck_assert(lives(granule, g));
	ck_assert_int_eq(unpublish(a, "two"), 0);
	ck_assert(!lives(granule, g));
}
END_TEST

START_TEST(users_have_their_own_names)
{
	uint32_t x = thing_new(a, (unsigned int)_i), i;
	char name[16];

	for (i = 0; i < 40; i++) { /* as many users, one name each; every second goes */
		struct session *s = td_session(&t, "many");

		s->uid = 1000 + i;
		snprintf(name, sizeof(name), "n%u", i);
		ck_assert_int_eq(publish(s, name, thing_new(s, (unsigned int)_i)), 0);
		ck_assert_uint_eq(name_count_of_user(t.d->names, 1000 + i), 1);
		if (i % 2)
			ck_assert_int_eq(unpublish(s, name), 0);
	}
	ck_assert_int_eq(publish(a, "mine", x), 0);
	ck_assert_int_eq(publish(a, "too", x), 0);
	ck_assert_int_eq(unpublish(a, "n0"), -EPERM);
	restart();
	for (i = 0; i < 40; i++)
		ck_assert_uint_eq(name_count_of_user(t.d->names, 1000 + i), i % 2 == 0);
	ck_assert_uint_eq(name_count_of_user(t.d->names, 0), 2);
	ck_assert_uint_eq(name_total(t.d->names), 22);
}
END_TEST

START_TEST(holders_and_names_keep_it_together)
{
	uint32_t granule = thing_new(a, (unsigned int)_i);
	uint64_t g = generation(granule);
	const char *why;

	ck_assert_int_eq(grant_hold(t.d, b, granule, (uint32_t)g, &why), 0);
	ck_assert_int_eq(publish(b, "by a holder", granule), 0);
	thing_free(a, granule);
	ck_assert_int_eq(unpublish(a, "by a holder"), 0);
	ck_assert(lives(granule, g));
	ck_assert_int_eq(publish(b, "once more", granule), 0);
	ck_assert_int_eq(grant_release(t.d, b, 0, granule, &why), 0);
	ck_assert(lives(granule, g));
	session_end(b);
	b = td_session(&t, "later");
	ck_assert(lives(granule, g));
	ck_assert_int_eq(unpublish(b, "once more"), 0);
	ck_assert(!lives(granule, g));
}
END_TEST

START_TEST(what_is_refused)
{
	uint32_t granule = thing_new(a, (unsigned int)_i), other = thing_new(a, (unsigned int)_i);
	char longname[80];
	const char *why = "";
	uint64_t g;

	memset(longname, 'n', sizeof(longname));
	longname[64] = '\0';
	ck_assert_int_eq(publish(a, "", granule), -EINVAL);
	ck_assert_int_eq(publish(a, longname, granule), -EINVAL);
	ck_assert_int_eq(name_lookup(t.d->names, "", &granule, &g, &why), -EINVAL);
	ck_assert_int_eq(name_unpublish(t.d->names, a, 0, longname, &why), -EINVAL);
	ck_assert_int_eq(publish(b, "foreign", granule), -EPERM);
	ck_assert_int_eq(name_publish(t.d->names, a, "x", granule, generation(granule) + 1, &why),
	                 -ESTALE);
	ck_assert_int_eq(name_publish(t.d->names, a, "x", granule + 1, 1, &why), -ENOENT);
	ck_assert_int_eq(name_publish(t.d->names, a, "x", UINT32_MAX, 1, &why), -EINVAL);
	ck_assert_uint_eq(name_total(t.d->names), 0);
	ck_assert(!(owner_load(td_word_of(&t, granule)) & OWNER_KEPT));
	longname[63] = '\0'; /* the longest */
	ck_assert_int_eq(publish(a, longname, granule), 0);
	ck_assert_int_eq(name_publish(t.d->names, a, longname, other, generation(other), &why),
	                 -EEXIST);
	ck_assert_msg(strstr(why, _i % 2 ? "an object of cache dentry" : "a page") &&
	                      strstr(why, "which session 1 has"),
	              "%s", why);
	b->uid = 7;
	ck_assert_int_eq(publish(b, longname, other), -EPERM);
	ck_assert_int_eq(unpublish(b, longname), -EPERM);
	ck_assert_uint_eq(lookup(longname), granule);
	ck_assert_int_eq(unpublish(a, longname), 0);
	thing_free(a, granule);
	ck_assert_int_eq(name_publish(t.d->names, a, "x", granule, 1, &why), -ENOENT);
}
END_TEST

/* KEPT scribbled away, and the thing freed and granted anew: the name leads nowhere and gives way. */
START_TEST(a_name_that_leads_nowhere_gives_way)
{
	uint32_t granule = thing_new(a, (unsigned int)_i), other = thing_new(a, (unsigned int)_i);
	owner_word_t *word = td_word_of(&t, granule);

	ck_assert_int_eq(publish(a, "config", granule), 0);
	owner_store(word, owner_load(word) & ~OWNER_KEPT);
	thing_free(a, granule);
	ck_assert_uint_eq(lookup("config"), granule); /* a stale handle */
	ck_assert_int_eq(publish(a, "config", other), 0);
	ck_assert_uint_eq(lookup("config"), other);
	ck_assert_uint_eq(holds_of(t.d->holders, 0), 1);
	td_check(&t);
	word = td_word_of(&t, other);
	owner_store(word, owner_load(word) & ~OWNER_KEPT);
	thing_free(a, other);
	ck_assert_int_eq(unpublish(a, "config"), 0);
	ck_assert_uint_eq(holds_of(t.d->holders, 0), 0);
}
END_TEST

/* ---- deaths of the daemon ---- */

/* Between the holder's entry and the record: nobody was told. */
START_TEST(an_entry_without_a_name_goes)
{
	uint32_t granule = thing_new(a, (unsigned int)_i);
	uint64_t g = generation(granule);
	bool added;

	ck_assert_int_eq(holder_add(t.d->holders, 0, granule, td_word_of(&t, granule), (uint32_t)g,
	                            true, &added),
	                 0);
	ck_assert_uint_eq(name_validate(t.d->names, td_silent, NULL), 1);
	restart();
	ck_assert_uint_eq(holds_of(t.d->holders, 0), 0);
	ck_assert(!(owner_load(td_word_of(&t, granule)) & OWNER_KEPT));
	td_check(&t);
	thing_free(a, granule);
	ck_assert(!lives(granule, g));
}
END_TEST

/* Between the record's end and the entry's: the last name is gone, so is the thing. */
START_TEST(a_record_that_went_first)
{
	uint32_t granule = thing_new(a, (unsigned int)_i);
	uint64_t g = generation(granule);

	ck_assert_int_eq(publish(a, "config", granule), 0);
	thing_free(a, granule);
	atomic_store(&t.pool.ledger.name[0].word, 0);
	restart();
	ck_assert(!lives(granule, g));
	ck_assert_uint_eq(holds_of(t.d->holders, 0), 0);
	ck_assert_uint_eq(name_total(t.d->names), 0);
}
END_TEST

START_TEST(a_name_without_an_entry_is_mended)
{
	uint32_t granule = thing_new(a, (unsigned int)_i);
	uint64_t g = generation(granule);

	ck_assert_int_eq(publish(a, "config", granule), 0);
	holder_drop(t.d->holders, 0, granule, g);
	ck_assert_uint_eq(name_validate(t.d->names, td_silent, NULL), 1);
	restart();
	ck_assert(holder_has(t.d->holders, 0, granule, g));
	ck_assert(owner_load(td_word_of(&t, granule)) & OWNER_KEPT);
	thing_free(a, granule);
	ck_assert(lives(granule, g));
}
END_TEST

START_TEST(names_of_what_is_gone_are_dropped)
{
	uint32_t granule = thing_new(a, (unsigned int)_i);
	struct name_record *r = t.pool.ledger.name;

	ck_assert_int_eq(publish(a, "config", granule), 0);
	ck_assert_int_eq(publish(a, "second", thing_new(a, (unsigned int)_i)), 0);
	r[0].generation += 5;
	memset(r[1].name, 'x', sizeof(r[1].name)); /* no end */
	restart();
	ck_assert_uint_eq(name_total(t.d->names), 0);
	ck_assert_uint_eq(holds_of(t.d->holders, 0), 0);
	ck_assert_uint_eq(atomic_load(&r[0].word) | atomic_load(&r[1].word), 0);
}
END_TEST

/* ---- limits ---- */

START_TEST(the_holders_table_is_full)
{
	uint32_t granule = thing_new(a, (unsigned int)_i), i, x[TD_HOLDERS];
	const char *why;

	for (i = 0; i < TD_HOLDERS - 1; i++) {
		x[i] = thing_new(a, 0);
		ck_assert_int_eq(grant_hold(t.d, b, x[i], (uint32_t)generation(x[i]), &why), 0);
	}
	ck_assert_int_eq(publish(a, "last", granule), 0);
	ck_assert_int_eq(publish(a, "too many", x[0]), -EDQUOT);
	ck_assert_int_eq(publish(a, "a second for the same", granule), 0);
	ck_assert_uint_eq(name_total(t.d->names), 2);
	td_check(&t);
	ck_assert_int_eq(grant_release(t.d, b, 0, x[1], &why), 0);
	ck_assert_int_eq(publish(a, "too many", x[0]), 0);
}
END_TEST

START_TEST(without_memory_there_is_no_name)
{
	uint32_t granule = thing_new(a, (unsigned int)_i), i;
	int fd = -1;
	char name[32];

	/* a ledger with holes, as a new pool has it */
	td_stop(&t);
	ck_assert_int_eq(shm_memfd_new(&fd, "ledger", t.ledger_size, SHM_4K), 0);
	t.pool.ledger.fd = fd;
	ck_assert_int_eq(td_start(&t, true), 0);
	a = session_by_id(t.kmmd.sessions, 1);
	b = session_by_id(t.kmmd.sessions, 2);
	find_cache();
	fail_in = 1;
	ck_assert_int_eq(publish(a, "config", granule), -ENOMEM);
	ck_assert_uint_eq(fail_in, 0);
	ck_assert_uint_eq(name_total(t.d->names), 0);
	ck_assert(!(owner_load(td_word_of(&t, granule)) & OWNER_KEPT));
	td_check(&t);
	for (i = 0; i < 32; i++) { /* a page of them */
		snprintf(name, sizeof(name), "n%u", i);
		ck_assert_int_eq(publish(a, name, granule), 0);
	}
	fail_in = 1;
	ck_assert_int_eq(publish(a, "one more", granule), -ENOMEM);
	ck_assert_int_eq(unpublish(a, "n7"), 0);
	fail_in = 1; /* a place that was used needs none */
	ck_assert_int_eq(publish(a, "one more", granule), 0);
	ck_assert_uint_eq(fail_in, 1);
	fail_in = 0;
	td_check(&t);
	t.pool.ledger.fd = -1;
	close(fd);
}
END_TEST

START_TEST(all_names_in_use)
{
	uint32_t granule = thing_new(a, (unsigned int)_i), i;
	char name[32];

	for (i = 0; i < LEDGER_NAMES_MAX; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		ck_assert_int_eq(publish(a, name, granule), 0);
	}
	ck_assert_int_eq(publish(a, "one more", granule), -EDQUOT);
	ck_assert_int_eq(unpublish(a, "n4711"), 0);
	ck_assert_int_eq(publish(a, "one more", granule), 0);
	restart();
	ck_assert_uint_eq(name_total(t.d->names), LEDGER_NAMES_MAX);
	ck_assert_uint_eq(lookup("one more"), granule);
	ck_assert_uint_eq(lookup("n65535"), granule);
}
END_TEST

START_TEST(a_user_has_a_quota)
{
	uint32_t granule = thing_new(a, (unsigned int)_i);
	const char *why = "";
	uint64_t g = generation(granule);

	t.options.names_user_max = 2;
	b->uid = 1000;
	ck_assert_int_eq(publish(a, "one", granule), 0);
	ck_assert_int_eq(publish(a, "two", granule), 0);
	ck_assert_int_eq(publish(a, "two", granule), 0); /* it is there */
	ck_assert_int_eq(name_publish(t.d->names, a, "three", granule, g, &why), -EDQUOT);
	ck_assert_str_eq(why, "user 0 has published 2 names, and may have 2: unpublish some, or raise "
	                      "names_per_user in [limits] of the configuration");
	ck_assert_uint_eq(name_total(t.d->names), 2);
	/* another user's are another matter */
	ck_assert_int_eq(publish(b, "three", thing_new(b, (unsigned int)_i)), 0);
	ck_assert_int_eq(unpublish(a, "one"), 0);
	ck_assert_int_eq(publish(a, "four", granule), 0);
	/* after a start with less, what is there stays */
	t.options.names_user_max = 1;
	restart();
	ck_assert_uint_eq(name_count_of_user(t.d->names, 0), 2);
	ck_assert_int_eq(publish(a, "five", granule), -EDQUOT);
	ck_assert_int_eq(unpublish(a, "four"), 0);
	ck_assert_int_eq(publish(a, "five", granule), -EDQUOT);
	ck_assert_int_eq(unpublish(a, "two"), 0);
	ck_assert_int_eq(publish(a, "five", granule), 0);
}
END_TEST

/* ---- listing ---- */

static uint32_t publisher_of(const char *name)
{
	struct name_about n;
	uint32_t cursor = 0, seen = 0, found = UINT32_MAX;

	while (name_next(t.d->names, &cursor, &n)) {
		seen++;
		if (strcmp(n.name, name) == 0)
			found = n.publisher;
	}
	ck_assert_uint_eq(seen, name_total(t.d->names));
	return found;
}

START_TEST(the_publisher_is_known_while_it_lives)
{
	uint32_t granule = thing_new(a, (unsigned int)_i), id = a->id;

	ck_assert_int_eq(publish(a, "one", granule), 0);
	ck_assert_int_eq(publish(b, "two", thing_new(b, (unsigned int)_i)), 0);
	ck_assert_int_eq(publish(a, "three", granule), 0);
	ck_assert_uint_eq(publisher_of("one"), a->id);
	ck_assert_uint_eq(publisher_of("two"), b->id);
	ck_assert_uint_eq(publisher_of("four"), UINT32_MAX);
	restart();
	ck_assert_uint_eq(publisher_of("three"), id);
	td_check(&t);
	session_end(a);
	ck_assert_uint_eq(publisher_of("one"), 0);
	ck_assert_uint_eq(publisher_of("three"), 0);
	ck_assert_uint_eq(publisher_of("two"), b->id);
	td_check(&t);
	/* a record that an older daemon left, of a session that is none */
	t.pool.ledger.name[0].publisher = 77;
	restart();
	ck_assert_uint_eq(publisher_of("one"), 0);
	a = td_session(&t, "later");
	ck_assert_int_eq(unpublish(a, "one"), 0);
	ck_assert_int_eq(unpublish(a, "three"), 0);
}
END_TEST

/* Which chain a name or a thing falls into nobody can tell beforehand. */
START_TEST(chains_are_others_after_each_start)
{
	struct hash_key names = t.d->names->key;

	restart();
	ck_assert(memcmp(&names, &t.d->names->key, sizeof(names)) != 0);
	ck_assert(names.k[0] || names.k[1]);
}
END_TEST

/* ---- against a naive model ---- */

enum { STEPS = 30000, NAMES = 6, THINGS = 5 };

struct model {
	struct {
		bool there, owned;
		uint32_t granule;
		uint64_t generation;
	} thing[THINGS];
	int name[NAMES]; /* the thing, -1: free */
};

static uint32_t model_names(const struct model *m, int thing)
{
	uint32_t i, n = 0;

	for (i = 0; i < NAMES; i++)
		n += m->name[i] == thing;
	return n;
}

static void model_step(struct model *m)
{
	int i = rand() % THINGS, k = rand() % NAMES;
	char name[8];
	int r;

	snprintf(name, sizeof(name), "n%d", k);
	switch (rand() % 4) {
	case 0:
		if (!m->thing[i].there) {
			m->thing[i].granule = thing_new(a, (unsigned int)i);
			m->thing[i].generation = generation(m->thing[i].granule);
			m->thing[i].there = m->thing[i].owned = true;
		} else if (m->thing[i].owned) {
			thing_free(a, m->thing[i].granule);
			m->thing[i].owned = false;
			m->thing[i].there = model_names(m, i) > 0;
		}
		break;
	case 1:
		if (!m->thing[i].owned)
			break;
		r = publish(a, name, m->thing[i].granule);
		ck_assert_int_eq(r, m->name[k] < 0 || m->name[k] == i ? 0 : -EEXIST);
		if (r == 0)
			m->name[k] = i;
		break;
	case 2:
		r = unpublish(b, name);
		ck_assert_int_eq(r, m->name[k] < 0 ? -ENOENT : 0);
		i = m->name[k];
		m->name[k] = -1;
		if (i >= 0 && !m->thing[i].owned)
			m->thing[i].there = model_names(m, i) > 0;
		break;
	default:
		if (rand() % 128 == 0)
			restart();
		break;
	}
}

static void model_compare(const struct model *m)
{
	uint32_t used = 0, i;
	char name[8];

	for (i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		ck_assert_uint_eq(lookup(name), m->name[i] < 0 ? UINT32_MAX :
		                                                 m->thing[m->name[i]].granule);
		used += m->name[i] >= 0;
	}
	ck_assert_uint_eq(name_total(t.d->names), used);
	for (i = 0; i < THINGS; i++)
		if (m->thing[i].generation)
			ck_assert_int_eq(lives(m->thing[i].granule, m->thing[i].generation),
			                 m->thing[i].there);
}

START_TEST(random_operations)
{
	struct model m = { 0 };
	uint32_t step, i;

	srand(3);
	for (i = 0; i < NAMES; i++)
		m.name[i] = -1;
	for (step = 0; step < STEPS; step++) {
		model_step(&m);
		model_compare(&m);
		if (step % 32 == 0)
			td_check(&t);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("name");
	TCase *n = tcase_create("name");

	tcase_set_timeout(n, 240);
	tcase_add_checked_fixture(n, setup, teardown);
	/* each with a block and with an object */
	tcase_add_loop_test(n, a_name_outlives_its_publisher, 0, 2);
	tcase_add_loop_test(n, the_owner_may_free_what_has_a_name, 0, 2);
	tcase_add_loop_test(n, several_names_are_one_holder, 0, 2);
	tcase_add_loop_test(n, users_have_their_own_names, 0, 2);
	tcase_add_loop_test(n, holders_and_names_keep_it_together, 0, 2);
	tcase_add_loop_test(n, what_is_refused, 0, 2);
	tcase_add_loop_test(n, a_name_that_leads_nowhere_gives_way, 0, 2);
	tcase_add_loop_test(n, an_entry_without_a_name_goes, 0, 2);
	tcase_add_loop_test(n, a_record_that_went_first, 0, 2);
	tcase_add_loop_test(n, a_name_without_an_entry_is_mended, 0, 2);
	tcase_add_loop_test(n, names_of_what_is_gone_are_dropped, 0, 2);
	tcase_add_loop_test(n, the_holders_table_is_full, 0, 2);
	tcase_add_loop_test(n, without_memory_there_is_no_name, 0, 2);
	tcase_add_loop_test(n, all_names_in_use, 0, 1);
	tcase_add_loop_test(n, a_user_has_a_quota, 0, 2);
	tcase_add_loop_test(n, the_publisher_is_known_while_it_lives, 0, 2);
	tcase_add_test(n, chains_are_others_after_each_start);
	tcase_add_test(n, random_operations);
	suite_add_tcase(s, n);
	return suite_status(s);
}

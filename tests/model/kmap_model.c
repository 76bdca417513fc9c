/* SPDX-License-Identifier: MIT */
/*
 * High memory by random steps, against a model: pages and blocks granted, freed, mapped, unmapped,
 * held, put and moved by the daemon, some of them another session's. The model knows of each page how
 * often it is mapped, where, and what was written to it last.
 *
 * After each step what the library answered is what the model says; every CHECK steps all pages are
 * looked at: content by the frame, MAPPED and holds by the count. There are more pages than slots, so
 * these change hands all the time.
 *
 * environment: KMM_TEST_STEPS (100000), KMM_TEST_SEED (printed)
 */
#include <inttypes.h>
#include <time.h>

#include "tests/suite.h"
#include "tests/unit/fake_pages.h"

#define K (&fake.k)
#define LIVE 5200u
#define CHECK 5000u
#define MAPS_MAX 4000u

struct model {
	struct kmm_page *page; /* NULL: this place is free */
	uint8_t *at;           /* where it is mapped */
	uint64_t content;      /* of its first page */
	uint32_t maps, gets;
	unsigned int order;
	bool ours;
};
static struct model model[LIVE];
static uint32_t mapped; /* how many pages are */
static uint64_t random_state, stamps;

static uint32_t random_below(uint32_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)((random_state >> 11) % n);
}

static uint64_t *content(const struct model *m)
{
	return (uint64_t *)(void *)frame_bytes(fake_frame(index_of(m->page)));
}

static void place_fill(struct model *m)
{
	bool zero = random_below(8) == 0;

	*m = (struct model){ .ours = random_below(5) > 0 };
	m->order = m->ours && random_below(50) == 0 ? 1 + random_below(3) : 0;
	m->page = m->ours ? kmm_alloc_pages(K, KMM_GFP_HIGHUSER | (zero ? KMM_GFP_ZERO : 0), m->order)
	                  : page_of_other();
	if (!m->page) { /* no room for a block in one piece */
		ck_assert_int_eq(errno, ENOMEM);
		ck_assert_uint_gt(m->order, 0);
		return;
	}
	if (m->ours && zero)
		ck_assert_uint_eq(*content(m), 0);
	m->content = *content(m);
}

static void place_free(struct model *m)
{
	int r;

	if (!m->ours) {
		if (m->maps || m->gets)
			return; /* its owner's free would leave it to us */
		ungrant(index_of(m->page));
		m->page = NULL;
		return;
	}
	r = random_below(2) ? kmm_free_pages(K, m->page, m->order)
	                    : kmm_free_pages_bulk(K, m->order, 1, &m->page);
	ck_assert_int_eq(r, m->maps ? -EBUSY : 0);
	if (r == 0 && m->gets) /* it lives on for the holder */
		m->ours = false;
	else if (r == 0)
		m->page = NULL;
}

static void place_map(struct model *m)
{
	bool local = random_below(2);
	uint8_t *at = local ? kmm_kmap_local(K, m->page) : kmm_kmap(K, m->page);

	ck_assert_ptr_nonnull(at);
	if (m->maps++ == 0) {
		m->at = at;
		mapped++;
	}
	ck_assert_ptr_eq(at, m->at);
	ck_assert_uint_eq(*(uint64_t *)(void *)at, m->content);
	m->content = *(uint64_t *)(void *)at = ++stamps;
	ck_assert_ptr_eq(kmm_page_address(K, m->page), at);
	ck_assert_ptr_eq(kmm_virt_to_page(K, at + 8), m->page);
}

static void place_unmap(struct model *m)
{
	int r;

	if (m->maps == 0) {
		ck_assert_int_eq(kmm_kunmap(K, m->page), -ENOENT);
		return;
	}
	ck_assert_uint_eq(*(uint64_t *)(void *)m->at, m->content);
	r = random_below(2) ? kmm_kunmap(K, m->page) : kmm_kunmap_local(K, m->at);
	ck_assert_int_eq(r, 0);
	if (--m->maps == 0)
		mapped--;
	if (m->maps == 0 && m->gets == 0 && owner_kind(owner_load(word_at(index_of(m->page)))) == OWNER_FREE)
		m->page = NULL; /* its owner had freed it: we were the last */
}

static void place_hold(struct model *m)
{
	if (random_below(2)) {
		ck_assert_int_eq(kmm_get(K, m->page), 0);
		m->gets++;
		return;
	}
	if (m->order > 0 && m->maps > 0)
		return; /* mapping it does not hold it: that is for the program to do */
	ck_assert_int_eq(kmm_put(K, m->page), m->gets ? 0 : -EPERM);
	if (m->gets && --m->gets == 0 && owner_kind(owner_load(word_at(index_of(m->page)))) == OWNER_FREE)
		m->page = NULL;
}

/* The daemon moves what it may. */
static void place_move(struct model *m)
{
	uint32_t was = fake_frame(index_of(m->page));
	bool may = m->order == 0 && m->maps == 0 && m->gets == 0;

	ck_assert(!fake_move(index_of(m->page), NULL) || may);
	ck_assert_uint_eq(kmm_page_to_pfn(K, m->page), fake_frame(index_of(m->page)));
	if (!may)
		ck_assert_uint_eq(fake_frame(index_of(m->page)), was);
}

static void check_all(void)
{
	uint32_t i, n = 0;

	for (i = 0; i < LIVE; i++) {
		const struct model *m = &model[i];
		uint64_t w;

		if (!m->page)
			continue;
		w = owner_load(word_at(index_of(m->page)));
		ck_assert_uint_eq(*content(m), m->content);
		ck_assert_uint_eq(m->maps > 0, highmem_mapped(K, index_of(m->page), 0));
		ck_assert_uint_eq(!!(w & OWNER_MAPPED),
		                  m->ours && m->order == 0 && m->maps > 0);
		ck_assert_uint_eq(fake.held[index_of(m->page)],
		                  m->gets > 0 || (!m->ours && m->maps > 0));
		ck_assert_ptr_eq(kmm_pfn_to_page(K, fake_frame(index_of(m->page))), m->page);
		n += m->maps > 0;
	}
	ck_assert_uint_eq(n, mapped);
}

static void step(void)
{
	struct model *m = &model[random_below(LIVE)];

	if (!m->page) {
		place_fill(m);
		return;
	}
	switch (random_below(16)) {
	case 0:
		place_free(m);
		break;
	case 1:
		place_hold(m);
		break;
	case 2:
	case 3:
	case 4:
		place_move(m);
		break;
	case 5:
	case 6:
	case 7:
	case 8:
	case 9:
		if (m->maps || mapped < MAPS_MAX)
			place_map(m);
		break;
	default:
		place_unmap(m);
		break;
	}
}

START_TEST(random_steps)
{
	const char *steps = getenv("KMM_TEST_STEPS"), *seed = getenv("KMM_TEST_SEED");
	uint64_t n = steps ? strtoull(steps, NULL, 0) : 100000, i;

	random_state = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 2654435761u | 1;
	printf("kmap_model: KMM_TEST_STEPS=%" PRIu64 " KMM_TEST_SEED=%" PRIu64 "\n", n, random_state);
	fflush(stdout);
	for (i = 0; i < n; i++) {
		step();
		if (i % CHECK == CHECK - 1)
			check_all();
	}
	ck_assert(fake.moves > 0 || n < 1000);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("kmap_model");
	TCase *c = tcase_create("steps");

	tcase_add_checked_fixture(c, fake_start, fake_stop);
	tcase_set_timeout(c, 0);
	tcase_add_test(c, random_steps);
	suite_add_tcase(s, c);
	return suite_status(s);
}

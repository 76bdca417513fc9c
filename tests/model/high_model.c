/* SPDX-License-Identifier: MIT */
/*
 * Blocks of the high zones against a model: random grants, frees, moves, kmaps, holds, sends, ends of
 * sessions, scribbles under the wrong name, and restarts of the daemon, some of them in the middle of
 * a move.
 *
 * The model knows of each block its page, order, owner, holder, and what is written in it. After each
 * step the block that was touched is compared: its contents, its frame's names both ways, whether it
 * may move. Every CHECK steps all validators run and all contents are read, and the free frames are
 * counted.
 *
 *   KMM_TEST_STEPS, KMM_TEST_SEED: as printed
 */
#include "tests/unit/test_move.h"

#include <inttypes.h>
#include <time.h>

#define BLOCKS 600u
#define PEERS 6u
#define STEPS 60000ull
#define CHECK 500u

struct block {
	uint32_t page, order;
	uint32_t owner;  /* index of a peer */
	uint32_t holder; /* the same + 1; 0: none */
	bool orphan;     /* the owner gave it up, the holder has it */
	bool mapped;
	uint32_t seed;
};

static struct block block[BLOCKS];
static uint32_t nr_blocks;
static uint32_t peer[PEERS]; /* ids */
static uint64_t state, moves, refused, restarts, cut;

static uint32_t below(uint32_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 33) % n;
}

static struct session *session(uint32_t i)
{
	return session_by_id(t.kmmd.sessions, peer[i]);
}

static uint32_t *frame_word(const struct block *x, uint32_t frame)
{
	return (uint32_t *)(memory_of(x->page) + (size_t)frame * FRAME);
}

static void block_write(struct block *x)
{
	uint32_t i;

	x->seed = below(UINT32_MAX);
	for (i = 0; i < 1u << x->order; i++) {
		frame_word(x, i)[0] = x->seed + i;
		frame_word(x, i)[FRAME / 4 - 1] = ~(x->seed + i);
	}
}

static bool may_move(const struct block *x)
{
	return domain_page_moves(t.d, x->page) && !x->mapped && !x->holder;
}

static void block_check(const struct block *x)
{
	pfn_t pfn = domain_frame_of(t.d, x->page);
	struct mm_block got;
	uint32_t i;

	for (i = 0; i < 1u << x->order; i++) {
		ck_assert_uint_eq(frame_word(x, i)[0], x->seed + i);
		ck_assert_uint_eq(frame_word(x, i)[FRAME / 4 - 1], ~(x->seed + i));
	}
	ck_assert_uint_eq(domain_page_of(t.d, pfn), x->page);
	ck_assert_int_eq(domain_page_moves(t.d, x->page), x->order == 0 && domain_frame_high(t.d, pfn));
	ck_assert(mm_block_get(t.d->mm, pfn, &got) && got.order == x->order);
	ck_assert_int_eq(move_possible(t.d, pfn), may_move(x));
	if (domain_page_moves(t.d, x->page))
		ck_assert_uint_eq(page_desc_other(desc_of(x->page)), pfn);
}

static void all_check(void)
{
	uint64_t frames = 0;
	uint32_t i;

	for (i = 0; i < nr_blocks; i++) {
		block_check(&block[i]);
		frames += UINT64_C(1) << block[i].order;
	}
	ck_assert_uint_eq(td_free_frames(&t), all_free - frames);
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 0);
	td_check(&t);
}

/* ---- steps ---- */

static void block_forget(uint32_t i)
{
	block[i] = block[--nr_blocks];
}

static void step_alloc(void)
{
	static const gfp_t gfp[] = { GFP_HIGHUSER_MOVABLE, GFP_HIGHUSER, GFP_HIGHUSER_MOVABLE,
		                     GFP_KERNEL };
	uint32_t order = below(3) ? 0 : below(4), who = below(PEERS);
	struct block *x = &block[nr_blocks];
	const char *why;

	if (nr_blocks == BLOCKS)
		return;
	*x = (struct block){ .order = order, .owner = who };
	if (grant_alloc(t.d, session(who), below(2), gfp[below(4)], order, &x->page, &why))
		return;
	if (below(20) == 0) {
		grant_withdraw(t.d, session(who), 0, x->page);
		return;
	}
	ck_assert(td_change(&t, x->page, OWNER_OFFERED, peer[who], OWNER_HELD, peer[who]));
	nr_blocks++;
	block_write(x);
}

static void word_bits(const struct block *x, uint64_t set, uint64_t clear)
{
	uint64_t w = owner_load(td_word(&t, x->page));

	ck_assert(owner_cas(td_word(&t, x->page), &w, (w & ~clear) | set));
}

static void step_free(uint32_t i)
{
	struct block *x = &block[i];
	const char *why;

	block_check(x);
	if (x->mapped)
		word_bits(x, 0, OWNER_MAPPED);
	x->mapped = false;
	if (!x->orphan)
		ck_assert_int_eq(td_free(&t, session(x->owner), x->page, x->order), 0);
	if (!x->holder) {
		block_forget(i);
	} else if (x->orphan) {
		ck_assert_int_eq(grant_release(t.d, session(x->holder - 1), 0,
		                               domain_granule(t.d, x->page), &why), 0);
		block_forget(i);
	} else {
		x->orphan = true;
	}
}

static void step_move(uint32_t i)
{
	struct block *x = &block[i];
	struct mm_request r = { .gfp = GFP_HIGHUSER_MOVABLE, .cpu = MM_CPU_NONE };
	pfn_t from = domain_frame_of(t.d, x->page), to;
	struct mm_block claimed;
	int rc;

	if (mm_alloc_pages(t.d->zones, &r, &to))
		return;
	ck_assert(mm_block_take(t.d->mm, to, &claimed));
	rc = move_page(t.d, from, to);
	if (!domain_frame_high(t.d, to))
		ck_assert_int_eq(rc, -EINVAL);
	else
		ck_assert_int_eq(rc, may_move(x) ? 0 : -EBUSY);
	put(rc ? to : from);
	*(rc ? &refused : &moves) += 1;
	block_check(x);
}

static void step_map(uint32_t i)
{
	struct block *x = &block[i];

	if (x->orphan || !domain_page_moves(t.d, x->page))
		return;
	word_bits(x, x->mapped ? 0 : OWNER_MAPPED, x->mapped ? OWNER_MAPPED : 0);
	x->mapped = !x->mapped;
	block_check(x);
	if (x->mapped)
		block_write(x);
}

static void step_hold(uint32_t i)
{
	struct block *x = &block[i];
	uint32_t granule = domain_granule(t.d, x->page), who = below(PEERS);
	const char *why;

	if (x->orphan)
		return;
	if (x->holder) {
		ck_assert_int_eq(grant_release(t.d, session(x->holder - 1), 0, granule, &why), 0);
		x->holder = 0;
	} else if (who != x->owner &&
	           grant_hold(t.d, session(who), granule, td_generation(&t, x->page), &why) == 0) {
		x->holder = who + 1;
	}
	block_check(x);
}

static void step_send(uint32_t i)
{
	struct block *x = &block[i];
	uint32_t to = below(PEERS);
	const char *why;

	if (x->orphan || x->holder || to == x->owner)
		return;
	ck_assert_int_eq(grant_send(t.d, session(x->owner), domain_granule(t.d, x->page),
	                            td_generation(&t, x->page), session(to), &why), 0);
	x->owner = to;
	if (domain_page_moves(t.d, x->page))
		x->mapped = false;
	block_check(x);
}

/* What it owned goes, or stays with its holders; what it held goes or stays with its owners. */
static void step_end(uint32_t who)
{
	uint32_t i = 0;

	session_end(session(who));
	while (i < nr_blocks) {
		struct block *x = &block[i];

		if (x->holder == who + 1) {
			x->holder = 0;
			if (x->orphan) {
				block_forget(i);
				continue;
			}
		}
		if (!x->orphan && x->owner == who) {
			if (!x->holder) {
				block_forget(i);
				continue;
			}
			x->orphan = true;
		}
		i++;
	}
	peer[who] = td_session(&t, "again")->id;
	all_check();
}

/* As a death in a move leaves it: before the commit, between its two stores, or after it. */
static void cut_short(uint32_t i)
{
	struct block *x = &block[i];
	struct mm_request r = { .gfp = GFP_HIGHUSER_MOVABLE, .cpu = MM_CPU_NONE };
	_Atomic uint32_t *map = t.pool.ledger.high;
	struct mm_block got;
	uint32_t spare;
	pfn_t from, to;

	if (!may_move(x) || mm_alloc_pages(t.d->zones, &r, &to))
		return;
	if (!domain_frame_high(t.d, to)) {
		put(to);
		return;
	}
	from = domain_frame_of(t.d, x->page);
	spare = domain_block_page(t.d, to, 0);
	word_bits(x, owner_who(OWNER_MOVING, peer[x->owner]), OWNER_WHO_MASK);
	memcpy(t.pool.window + (size_t)to * FRAME, t.pool.window + (size_t)from * FRAME, FRAME);
	cut++;
	if (below(4) == 0)
		return;
	ck_assert(mm_block_take(t.d->mm, from, &got));
	if (below(4) == 0)
		return;
	atomic_store(&map[x->page - TD_FRAMES], to);
	/* nobody reads the old place any more */
	memset(t.pool.window + (size_t)from * FRAME, 0xee, FRAME);
	if (below(2))
		atomic_store(&map[spare - TD_FRAMES], from);
}

static void step_restart(void)
{
	if (nr_blocks && below(2))
		cut_short(below(nr_blocks));
	restarts++;
	td_restart(&t);
	all_check();
}

static void step(void)
{
	uint32_t i = nr_blocks ? below(nr_blocks) : 0, what = below(1000);

	if (what < 1)
		step_end(below(PEERS));
	else if (what < 4)
		step_restart();
	else if (what < 260 || !nr_blocks)
		step_alloc();
	else if (what < 480)
		step_free(i);
	else if (what < 800)
		step_move(i);
	else if (what < 900)
		step_map(i);
	else if (what < 960)
		step_hold(i);
	else
		step_send(i);
}

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

START_TEST(random_steps)
{
	uint64_t n = number("KMM_TEST_STEPS", STEPS), i;
	uint64_t seed = number("KMM_TEST_SEED", (uint64_t)time(NULL) * 1000003u);
	uint32_t p;

	printf("high_model: KMM_TEST_STEPS=%" PRIu64 " KMM_TEST_SEED=%" PRIu64 "\n", n, seed);
	fflush(stdout);
	state = seed ^ UINT64_C(0x9e3779b97f4a7c15);
	if (!state)
		state = 1;
	peer[0] = a->id;
	peer[1] = b->id;
	for (p = 2; p < PEERS; p++)
		peer[p] = td_session(&t, "peer")->id;
	for (i = 0; i < n; i++) {
		step();
		if (i % CHECK == 0)
			all_check();
	}
	all_check();
	printf("high_model: %" PRIu64 " moves, %" PRIu64 " refused, %" PRIu64 " restarts, %" PRIu64
	       " moves cut short\n", moves, refused, restarts, cut);
	while (nr_blocks)
		step_free(nr_blocks - 1);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("high_model");
	TCase *c = tcase_create("high_model");

	tcase_add_checked_fixture(c, setup, scene_teardown);
	tcase_set_timeout(c, getenv("KMM_TEST_STEPS") ? 0 : 300);
	tcase_add_test(c, random_steps);
	suite_add_tcase(s, c);
	return suite_status(s);
}

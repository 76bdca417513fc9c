/* SPDX-License-Identifier: MIT */
/*
 * Blocks and objects by address, page and handle; handles and adoption; holds; names
 * (client/thing.c, share.c, hold.c, name.c), on control memory of the test's own.
 */
#include "tests/suite.h"
#include "tests/unit/test_client.h"

#define CACHE 7u
#define SLAB 16u  /* a frame */
#define WORD 512u /* the slab's first */
#define SLAB_WORDS 512u

static struct control_cache *v;

static void setup(void)
{
	world_setup();
	v = cache_place(CACHE, "dentry", 72, 72, 0, 1, 0);
	v->objects = (8192 - 2 * v->colour_off) / 72;
	slab_place(CACHE, SLAB, WORD, 2);
}

static owner_word_t *object_word(uint32_t n)
{
	struct thing t;

	ck_assert_int_eq(thing_of(&k, slab_object(CACHE, SLAB, 2, n), &t), 0);
	return t.word;
}

/* An object that session s holds. */
static uint8_t *object_held(uint32_t n, uint32_t s, uint64_t generation)
{
	owner_store(object_word(n), word_of(generation, OWNER_HELD, s, OWNER_CONSTRUCTED));
	return slab_object(CACHE, SLAB, 2, n);
}

static kmm_handle_t handle_for(const uint8_t *p, uint64_t generation)
{
	return (uint64_t)(uint32_t)generation << 32 | (uint32_t)((p - k.window) >> 3);
}

/* ---- finding ---- */

struct shape {
	uint32_t stride, offset, order, colour;
};

static const struct shape shapes[] = {
	{ 8, 0, 0, 0 },    { 16, 0, 0, 0 },   { 24, 0, 0, 0 },     { 32, 0, 0, 3 },
	{ 72, 0, 0, 0 },   { 96, 0, 0, 1 },   { 192, 0, 1, 1 },    { 104, 8, 0, 2 },
	{ 320, 64, 2, 1 }, { 1000, 8, 1, 1 }, { 4096, 0, 3, 0 },   { 5000, 0, 3, 5 },
	{ 8192, 0, 3, 0 }, { 40, 16, 0, 0 },  { 65536, 0, 4, 0 },  { 12288, 4096, 4, 2 },
};

/* Every address of a slab: an object's first byte leads to its word, nothing else does, and no two
 * objects share a word. */
START_TEST(every_address_of_a_slab)
{
	static uint8_t seen[SLAB_WORDS];
	const struct shape *s = &shapes[_i];
	uint32_t bytes = 4096u << s->order, at, pfn = 64;
	struct control_cache *c =
	        cache_place(9, "shape", s->stride - s->offset, s->stride, s->offset, s->order, 0);

	c->objects = (bytes - s->colour * c->colour_off) / s->stride;
	memset(seen, 0, sizeof(seen));
	slab_place(9, pfn, 1024, s->colour);
	for (at = 0; at < bytes; at++) {
		int64_t in = (int64_t)at - s->colour * c->colour_off - s->offset;
		bool is = in >= 0 && in % s->stride == 0 && in / s->stride < c->objects;
		uint8_t *p = k.window + pfn * 4096 + at;
		struct thing t;
		int r = thing_of(&k, p, &t);

		ck_assert_int_eq(r, is ? 0 : -EINVAL);
		if (!is)
			continue;
		ck_assert_ptr_eq(t.view, c);
		ck_assert_uint_eq(t.cache, 9);
		ck_assert_uint_ge(t.word_index, 1024);
		ck_assert_uint_lt(t.word_index, 1024 + SLAB_WORDS);
		ck_assert_uint_eq(seen[t.word_index - 1024]++, 0);
		ck_assert_ptr_eq(t.word, &k.control.object[t.word_index]);
		ck_assert_uint_eq(t.pfn, pfn + at / 4096);
		ck_assert_ptr_eq(thing_name(&k, &t), p);
		ck_assert_uint_eq(t.granule, (uint32_t)(p - k.window) / 8);
		ck_assert_int_eq(thing_at(&k, t.granule, &t), 0);
		ck_assert_ptr_eq(thing_name(&k, &t), p);
	}
}
END_TEST

START_TEST(what_is_no_thing)
{
	struct thing t = { .pfn = 4711 };
	int there;

	block_place(256, 2, word_of(4, OWNER_HELD, ME, 0));
	k.control.section[1] = CONTROL_SECTION_NONE;
	ck_assert_int_eq(thing_of(&k, NULL, &t), -EINVAL);
	ck_assert_int_eq(thing_of(&k, &there, &t), -EINVAL);
	ck_assert_int_eq(thing_of(&k, k.window + 256 * 4096 + 8, &t), -EINVAL);
	ck_assert_int_eq(thing_of(&k, k.window + 300 * 4096, &t), -ENOENT);
	ck_assert_int_eq(thing_of(&k, k.window + 300 * 4096 + 8, &t), -ENOENT);
	ck_assert_int_eq(thing_of(&k, k.window + 2048 * 4096 + 8, &t), -EPERM);
	ck_assert_int_eq(thing_at(&k, UINT32_MAX, &t), -ENOENT);
	ck_assert_int_eq(thing_at(&k, 2048 * 512, &t), -EPERM);
	ck_assert_int_eq(thing_of(&k, (void *)&k.control.desc[SLAB], &t), -EINVAL);
	ck_assert_int_eq(thing_of(&k, slab_object(CACHE, SLAB, 2, 0) + 1, &t), -EINVAL);
	ck_assert_ptr_nonnull(strstr(last_text, "dentry"));
	ck_assert_uint_eq(t.pfn, 4711);
	/* a block by address and by page */
	ck_assert_int_eq(thing_of(&k, k.window + 256 * 4096, &t), 0);
	ck_assert_ptr_null(t.view);
	ck_assert_uint_eq(t.order, 2);
	ck_assert_int_eq(thing_of(&k, (void *)&k.control.desc[256], &t), 0);
	ck_assert_ptr_eq(t.word, &k.control.word[256]);
}
END_TEST

/* A thread that used no session yet, or was forked: its cache is of none. */
START_TEST(no_session_is_none)
{
	kmm_handle_t handle = handle_for(object_held(5, ME, 9), 9);
	void *p;

	ck_assert_ptr_null(atomic_load(&tc->session));
	errno = 0;
	ck_assert_uint_eq(kmm_handle(NULL, k.window), 0);
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_ptr_null(kmm_adopt(NULL, handle));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_uint_eq(kmm_adopt_bulk(NULL, 1, &handle, &p), 0);
	ck_assert_ptr_null(kmm_pointer(NULL, handle));
	ck_assert_int_eq(kmm_send(NULL, k.window, OTHER), -EINVAL);
}
END_TEST

/* ---- handles ---- */

START_TEST(a_handle_is_the_same_until_the_owner_changes)
{
	uint8_t *p = object_held(5, ME, 9);
	kmm_handle_t handle;
	int quick;

	for (quick = 0; quick < 3; quick++) { /* the general way, then the short one */
		handle = kmm_handle(&k, p);
		ck_assert_uint_eq(handle, handle_for(p, 9));
		ck_assert_ptr_eq(kmm_pointer(&k, handle), p);
		ck_assert(owner_load(object_word(5)) & OWNER_SHARED);
	}
	errno = 4711;
	ck_assert_ptr_eq(kmm_adopt(&k, handle), p);
	ck_assert_int_eq(errno, 4711);
	ck_assert_uint_eq(owner_load(object_word(5)),
	                  word_of(10, OWNER_HELD, ME, OWNER_CONSTRUCTED));
	ck_assert_uint_eq(kmm_handle(&k, p), handle_for(p, 10));
}
END_TEST

/* What adopting answers to each word, in the general way and in the short one alike. */
START_TEST(adopting_asks_the_word)
{
	static const struct {
		uint64_t flags;
		enum owner_kind kind;
		uint32_t owner;
		int generation, error;
	} words[] = {
		{ OWNER_SHARED, OWNER_HELD, OTHER, 9, 0 },
		{ OWNER_SHARED | OWNER_CONSTRUCTED, OWNER_HELD, OTHER, 9, 0 },
		{ OWNER_SHARED, OWNER_HELD, ME, 9, 0 },
		{ 0, OWNER_HELD, OTHER, 9, ESTALE },
		{ OWNER_SHARED, OWNER_HELD, OTHER, 10, ESTALE },
		{ OWNER_SHARED | OWNER_KEPT, OWNER_HELD, OTHER, 9, EBUSY },
		{ OWNER_SHARED | OWNER_KEPT, OWNER_HELD, 0, 9, EBUSY },
		{ OWNER_SHARED | OWNER_KEPT, OWNER_RETURNED, OTHER, 9, EBUSY },
		{ OWNER_SHARED, OWNER_RETURNED, OTHER, 9, ESTALE },
		{ OWNER_SHARED, OWNER_OFFERED, OTHER, 9, ESTALE },
		{ OWNER_SHARED, OWNER_MAGAZINE, OTHER, 9, ESTALE },
		{ OWNER_SHARED, OWNER_FREE, 0, 9, ESTALE },
	};
	uint8_t *p = slab_object(CACHE, SLAB, 2, 3);
	kmm_handle_t handle = handle_for(p, 9);
	unsigned int i, way;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		for (way = 0; way < 3; way++) {
			uint64_t w = word_of((uint64_t)words[i].generation, words[i].kind,
			                     words[i].owner, words[i].flags);
			_Atomic uint64_t *bits = control_slab_bits(&k.control, ME);
			void *q = &q;

			owner_store(object_word(3), w);
			bits[0] = 0;
			atomic_store(&tc->session, way == 0 ? NULL : &k);
			errno = 0;
			if (way < 2)
				q = kmm_adopt(&k, handle);
			else
				ck_assert_uint_eq(kmm_adopt_bulk(&k, 1, &handle, &q),
				                  words[i].error == 0);
			ck_assert_int_eq(errno, words[i].error);
			ck_assert_ptr_eq(q, words[i].error ? NULL : p);
			if (words[i].error) {
				ck_assert_uint_eq(owner_load(object_word(3)), w);
				continue;
			}
			ck_assert_uint_eq(owner_load(object_word(3)),
			                  word_of(10, OWNER_HELD, ME,
			                          words[i].flags & OWNER_CONSTRUCTED));
			ck_assert_uint_eq(bits[0], UINT64_C(1) << SLAB);
		}
	}
}
END_TEST

static owner_word_t *moved_word;
static const uint64_t moved_value = (uint64_t)OWNER_HELD << OWNER_KIND_SHIFT | OTHER |
                                    OWNER_SHARED | UINT64_C(10) << OWNER_GENERATION_SHIFT;

/* The slab ends, and its words serve another one: in later lives. */
static void slab_moves(void)
{
	slab_place(CACHE, SLAB, 4096, 2);
	owner_store(moved_word, moved_value);
}

START_TEST(a_slab_that_ends_under_an_adoption)
{
	moved_word = object_word(3);
	owner_store(moved_word, word_of(9, OWNER_HELD, OTHER, OWNER_SHARED));
	on_section_map = slab_moves;
	k.mapped[0] = 0;
	errno = 0;
	ck_assert_ptr_null(kmm_adopt(&k, handle_for(slab_object(CACHE, SLAB, 2, 3), 9)));
	ck_assert_int_eq(errno, ESTALE);
	ck_assert_uint_eq(owner_load(moved_word), moved_value);
}
END_TEST

START_TEST(places_without_an_object)
{
	static const uint64_t at[] = { 0, SLAB * 512 + 1, SLAB * 512, 100 * 512, 100 * 512 + 3,
		                       2048 * 512, UINT32_MAX };
	unsigned int i, way;

	k.control.section[1] = CONTROL_SECTION_NONE;
	for (i = 0; i < sizeof(at) / sizeof(at[0]); i++)
		for (way = 0; way < 2; way++) {
			atomic_store(&tc->session, way == 0 ? NULL : &k);
			errno = 0;
			ck_assert_ptr_null(kmm_adopt(&k, UINT64_C(9) << 32 | at[i]));
			ck_assert_int_eq(errno, at[i] >= 2048 * 512 ? ENOENT : ESTALE);
		}
	errno = 0;
	ck_assert_ptr_null(kmm_adopt(&k, 0));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_uint_eq(kmm_adopt_bulk(&k, 0, NULL, NULL), 0);
}
END_TEST

/* What a stale handle's text says is so: a life that ended, one that has not come, one that was never
 * shared, and a place where nothing begins. */
START_TEST(texts_of_stale_handles)
{
	static const struct {
		uint64_t generation, flags;
		const char *text;
	} words[] = {
		{ 10, OWNER_SHARED, "freed or adopted" },
		{ 8, OWNER_SHARED, "come to that life yet" },
		{ 9, 0, "not shared in that life" },
		{ UINT64_C(0x100000008), OWNER_SHARED, "come to that life yet" },
		{ UINT64_C(0x100000009), 0, "not shared in that life" },
	};
	uint8_t *p = slab_object(CACHE, SLAB, 2, 3);
	unsigned int i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		owner_store(object_word(3),
		            word_of(words[i].generation, OWNER_HELD, OTHER, words[i].flags));
		ck_assert_ptr_null(kmm_adopt(&k, handle_for(p, 9)));
		ck_assert_int_eq(errno, ESTALE);
		ck_assert_msg(strstr(last_text, words[i].text) != NULL, "%u: %s", i, last_text);
		if (words[i].flags) {
			ck_assert_ptr_null(kmm_pointer(&k, handle_for(p, 9)));
			ck_assert_ptr_nonnull(strstr(last_text, words[i].text));
		}
	}
	ck_assert_ptr_null(kmm_pointer(&k, handle_for(p, 9) + 1));
	ck_assert_int_eq(errno, ESTALE);
	ck_assert_ptr_nonnull(strstr(last_text, "nothing begins"));
}
END_TEST

START_TEST(a_bulk_tries_all)
{
	enum { N = 100 };
	kmm_handle_t handle[N];
	void *p[N];
	uint32_t i;

	for (i = 0; i < N; i++) {
		uint64_t w = word_of(9, OWNER_HELD, OTHER, i % 3 == 1 ? 0 : OWNER_SHARED);
		uint8_t *q = slab_object(CACHE, SLAB, 2, i);

		owner_store(object_word(i), w);
		handle[i] = handle_for(q, 9);
	}
	errno = 0;
	ck_assert_uint_eq(kmm_adopt_bulk(&k, N, handle, p), N - N / 3);
	ck_assert_int_eq(errno, ESTALE);
	for (i = 0; i < N; i++)
		ck_assert_ptr_eq(p[i], i % 3 == 1 ? NULL : slab_object(CACHE, SLAB, 2, i));
}
END_TEST

/* Only the owner makes a handle, and who it was matters to a free. */
START_TEST(what_is_not_mine)
{
	uint8_t *p = slab_object(CACHE, SLAB, 2, 3);
	static const struct {
		enum owner_kind kind;
		uint32_t owner;
		int error, freeing, freeing_shared;
	} words[] = {
		{ OWNER_HELD, OTHER, EPERM, EPERM, ESTALE },
		{ OWNER_HELD, 0, EPERM, EPERM, ESTALE },
		{ OWNER_RETURNED, ME, ENOENT, ENOENT, ENOENT },
		{ OWNER_MAGAZINE, 4, ENOENT, ENOENT, ESTALE },
		{ OWNER_FREE, 0, ENOENT, ENOENT, ESTALE },
	};
	struct thing t;
	unsigned int i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		uint64_t w = word_of(9, words[i].kind, words[i].owner, 0);

		owner_store(object_word(3), w);
		errno = 0;
		ck_assert_uint_eq(kmm_handle(&k, p), 0);
		ck_assert_int_eq(errno, words[i].error);
		ck_assert_int_eq(thing_of(&k, p, &t), 0);
		ck_assert_int_eq(thing_not_mine(&k, &t, w, true), -words[i].freeing);
		thing_shared_set(&k, &t);
		ck_assert_int_eq(thing_not_mine(&k, &t, w, true), -words[i].freeing_shared);
		ck_assert_ptr_nonnull(strstr(last_text, "dentry"));
		thing_shared_clear(&k, &t);
		ck_assert(!thing_shared_test(&k, &t));
	}
}
END_TEST

/* ---- calls ---- */

START_TEST(sending_names_the_granule)
{
	uint8_t *p = object_held(8, ME, 9);

	ck_assert_int_eq(kmm_send(&k, p, 0), -ESRCH);
	ck_assert_int_eq(kmm_send(&k, p + 8, OTHER), -EINVAL);
	ck_assert_int_eq(kmm_send(&k, object_held(9, OTHER, 1), OTHER), -EPERM);
	ck_assert_uint_eq(world.n, 0);
	ck_assert_int_eq(kmm_send(&k, p, OTHER), 0);
	ck_assert_uint_eq(world_request(Send)->granule, (uint32_t)handle_for(p, 0));
	ck_assert_uint_eq(world_request(Send)->generation, 9);
	ck_assert_uint_eq(world_request(Send)->session, OTHER);
	world.answer = -EPERM;
	ck_assert_int_eq(kmm_send(&k, p, OTHER), -EPERM);
	world.repeated = true; /* the first answer was lost: it was done */
	ck_assert_int_eq(kmm_send(&k, p, OTHER), 0);
}
END_TEST

START_TEST(holds_are_counted_by_place)
{
	uint8_t *p = object_held(8, OTHER, 9), *q = object_held(9, OTHER, 9);
	uint32_t granule = (uint32_t)handle_for(p, 0);

	ck_assert_int_eq(kmm_put(&k, p), -EPERM);
	ck_assert_int_eq(kmm_get(&k, p), 0);
	ck_assert_uint_eq(world.method, kmm_v1_Method_ALLOCATOR_HOLD);
	ck_assert_uint_eq(world_request(Hold)->granule, granule);
	ck_assert_uint_eq(world_request(Hold)->generation, 9);
	ck_assert_ptr_eq(kmm_get_handle(&k, handle_for(p, 9)), p);
	ck_assert_int_eq(kmm_get(&k, p), 0);
	ck_assert_uint_eq(world.n, 1);
	ck_assert_int_eq(hold_repeated(&k, granule), 2);
	ck_assert_int_eq(kmm_put(&k, q), -EPERM); /* its neighbour's is not its own */
	ck_assert_int_eq(kmm_put(&k, p), 0);
	ck_assert_int_eq(kmm_put(&k, p), 0);
	ck_assert_uint_eq(world.n, 1);
	ck_assert_int_eq(kmm_put(&k, p), 0);
	ck_assert_uint_eq(world.n, 2);
	ck_assert_uint_eq(world.method, kmm_v1_Method_ALLOCATOR_RELEASE);
	ck_assert_int_eq(kmm_put(&k, p), -EPERM);
	ck_assert_int_eq(kmm_put(&k, p + 8), -EINVAL);
	owner_store(object_word(8), word_of(10, OWNER_FREE, 0, 0));
	ck_assert_int_eq(kmm_get(&k, p), -ENOENT);
	ck_assert_int_eq(kmm_put(&k, p), -ENOENT);
	hold_free_all(&k);
}
END_TEST

/* Many at a time: the table grows and finds each. */
START_TEST(a_hold_on_everything)
{
	uint32_t i;

	for (i = 0; i < v->objects; i++)
		ck_assert_int_eq(kmm_get(&k, object_held(i, OTHER, i + 1)), 0);
	for (i = 0; i < 1000; i++) {
		block_place(1000 + i, 0, word_of(2, OWNER_HELD, OTHER, 0));
		ck_assert_int_eq(kmm_get(&k, k.window + (1000 + i) * 4096), 0);
	}
	ck_assert_uint_eq(k.nr_holds, v->objects + 1000);
	for (i = 0; i < v->objects; i++)
		ck_assert_int_eq(kmm_put(&k, slab_object(CACHE, SLAB, 2, i)), 0);
	for (i = 0; i < 1000; i++)
		ck_assert_int_eq(kmm_put(&k, k.window + (1000 + i) * 4096), 0);
	ck_assert_uint_eq(k.nr_holds, 0);
	hold_free_all(&k);
}
END_TEST

/* ---- names ---- */

START_TEST(names)
{
	uint8_t *p = object_held(8, ME, 9), *q = object_held(9, OTHER, 4);
	char longest[KMM_NAME_MAX + 2];

	memset(longest, 'n', sizeof(longest));
	longest[KMM_NAME_MAX + 1] = '\0';
	ck_assert_int_eq(kmm_publish(&k, NULL, p), -EINVAL);
	ck_assert_int_eq(kmm_publish(&k, "", p), -EINVAL);
	ck_assert_int_eq(kmm_publish(&k, longest, p), -EINVAL);
	ck_assert_int_eq(kmm_publish(&k, "a", NULL), -EINVAL);
	ck_assert_int_eq(kmm_unpublish(&k, longest), -EINVAL);
	errno = 0;
	ck_assert_uint_eq(kmm_lookup(&k, ""), 0);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_uint_eq(world.n, 0);

	longest[KMM_NAME_MAX] = '\0';
	ck_assert_int_eq(kmm_publish(&k, longest, p), 0);
	ck_assert_str_eq(world_request(Publish)->name, longest);
	ck_assert_uint_eq(world_request(Publish)->granule, (uint32_t)handle_for(p, 0));
	ck_assert_uint_eq(world_request(Publish)->generation, 9);
	ck_assert(owner_load(object_word(8)) & OWNER_SHARED); /* what is looked up can get stale */
	/* another's: the daemon knows whether we hold it */
	world.answer = -EPERM;
	ck_assert_int_eq(kmm_publish(&k, "b", q), -EPERM);
	ck_assert(!(owner_load(object_word(9)) & OWNER_SHARED));
	world.answer = -ESTALE;
	ck_assert_int_eq(kmm_publish(&k, "b", q), -ENOENT);

	world.answer = 0;
	world.reply.lookup.granule = (uint32_t)handle_for(p, 0);
	world.reply.lookup.generation = UINT64_C(0x300000009);
	ck_assert_uint_eq(kmm_lookup(&k, "a"), handle_for(p, 9));

	world.answer = -ENOENT;
	ck_assert_int_eq(kmm_unpublish(&k, "a"), -ENOENT);
	world.repeated = true;
	ck_assert_int_eq(kmm_unpublish(&k, "a"), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("client thing");
	TCase *t = tcase_create("client thing");

	tcase_add_checked_fixture(t, setup, world_teardown);
	tcase_add_loop_test(t, every_address_of_a_slab, 0, sizeof(shapes) / sizeof(shapes[0]));
	tcase_add_test(t, what_is_no_thing);
	tcase_add_test(t, no_session_is_none);
	tcase_add_test(t, a_handle_is_the_same_until_the_owner_changes);
	tcase_add_test(t, adopting_asks_the_word);
	tcase_add_test(t, a_slab_that_ends_under_an_adoption);
	tcase_add_test(t, places_without_an_object);
	tcase_add_test(t, texts_of_stale_handles);
	tcase_add_test(t, a_bulk_tries_all);
	tcase_add_test(t, what_is_not_mine);
	tcase_add_test(t, sending_names_the_granule);
	tcase_add_test(t, holds_are_counted_by_place);
	tcase_add_test(t, a_hold_on_everything);
	tcase_add_test(t, names);
	suite_add_tcase(s, t);
	return suite_status(s);
}

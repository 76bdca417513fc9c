/* SPDX-License-Identifier: MIT */
/*
 * kmalloc (client/kmalloc.c): which class, which order, when a resize moves. Caches and blocks are
 * supplies of this file: objects come from slabs placed in the window one after the other.
 */
#include "tests/suite.h"
#include "tests/unit/test_client.h"

#define BLOCK_FRAME 2048u /* blocks from here on */
#define CACHE_ID(family, class) (1 + (family) * KMALLOC_CLASSES + (class))

static struct kmm_cache cache[KMALLOC_FAMILIES * KMALLOC_CLASSES + 1];
static uint32_t next_slab, next_block;
static kmm_gfp_t object_gfp;
static int object_error; /* of the next free */
static unsigned int frees;

/* ---- what kmalloc.c asks of others ---- */

struct kmm_cache *cache_of_class(struct kmm *s, unsigned int family, unsigned int class,
                                 int *error)
{
	uint32_t id = CACHE_ID(family, class), size = kmalloc_size[class], order = size > 4096;

	(void)error;
	ck_assert_uint_lt(family, KMALLOC_FAMILIES);
	ck_assert_uint_lt(class, KMALLOC_CLASSES);
	if (!cache[id].view)
		cache[id] = (struct kmm_cache){
			.k = s,
			.id = id,
			.view = cache_place(id, "kmalloc", size, size, 0, order, 0),
		};
	return &cache[id];
}

struct kmm_cache *cache_open_by_id(struct kmm *s, uint32_t id)
{
	(void)s;
	return cache[id].view ? &cache[id] : NULL;
}

static uint32_t asked_node; /* + 1 */

/* Each object is the first of a slab of its own. */
int object_alloc_node(struct kmm_cache *c, kmm_gfp_t gfp, uint32_t node, void **p)
{
	uint32_t pfn = next_slab;
	struct thing t;

	object_gfp = gfp;
	asked_node = node;
	if (object_error)
		return error_set(ENOMEM, "no memory");
	next_slab += 2;
	slab_place(c->id, pfn, pfn * 512, 0);
	*p = k.window + pfn * 4096;
	ck_assert_int_eq(thing_of(&k, *p, &t), 0);
	owner_store(t.word, word_of(1, OWNER_HELD, ME, 0));
	memset(*p, gfp & KMM_GFP_ZERO ? 0 : 0x77, c->view->size);
	return 0;
}

int object_free(struct kmm *s, struct kmm_cache *c, const struct thing *t)
{
	int r = object_error;

	ck_assert_ptr_eq(c, cache_open_by_id(s, t->cache));
	object_error = 0;
	if (r < 0 && r != -EFAULT)
		return r;
	frees++;
	owner_store(t->word, word_of(2, OWNER_RETURNED, ME, 0));
	return r;
}

void *kmm_get_free_pages(struct kmm *s, kmm_gfp_t gfp, unsigned int order)
{
	uint32_t n = 1u << order, pfn = (next_block + n - 1) / n * n;
	void *p = s->window + (size_t)pfn * 4096;

	object_gfp = gfp;
	next_block = pfn + n;
	ck_assert_uint_le(next_block, FRAMES);
	block_place(pfn, order, word_of(1, OWNER_HELD, ME, 0));
	memset(p, gfp & KMM_GFP_ZERO ? 0 : 0x77, (size_t)4096 << order);
	return p;
}

struct kmm_page *kmm_alloc_pages_node(struct kmm *s, kmm_gfp_t gfp, unsigned int order, int node)
{
	uint8_t *p = kmm_get_free_pages(s, gfp, order);

	asked_node = (uint32_t)(node + 1);
	return page_at(s, (uint32_t)((size_t)(p - s->window) / 4096));
}

int page_free(struct kmm *s, uint32_t pfn, unsigned int order)
{
	unsigned int is;
	int r = page_block_check(s, pfn, &is);

	if (r < 0)
		return page_not_freed(s, pfn, s->control.word[pfn]);
	ck_assert_uint_eq(is, order);
	frees++;
	s->control.desc[pfn] = 0;
	s->control.word[pfn] = word_of(2, OWNER_FREE, 0, 0);
	return 0;
}

int page_gfp_check(kmm_gfp_t gfp, unsigned int order)
{
	(void)order;
	return gfp & ~GFP_DEFINED ? error_set(EINVAL, "undefined bits") : 0;
}

/* ---- the test's side ---- */

static void setup(void)
{
	world_setup();
	memset(cache, 0, sizeof(cache));
	next_slab = 2;
	next_block = BLOCK_FRAME;
	object_error = 0;
	frees = 0;
}

/* The cache that p came from, 0: a block. */
static uint32_t cache_of(const void *p)
{
	struct thing t;

	ck_assert_int_eq(thing_of(&k, p, &t), 0);
	return t.view ? t.cache : 0;
}

START_TEST(the_smallest_class_that_holds_it)
{
	size_t size;

	for (size = 0; size <= KMALLOC_MAX; size++) {
		unsigned int c = kmalloc_class(size);

		ck_assert_uint_lt(c, KMALLOC_CLASSES);
		ck_assert_uint_ge(kmalloc_size[c], size);
		if (c > 0)
			ck_assert_uint_lt(kmalloc_size[c - 1], size);
	}
}
END_TEST

START_TEST(families_and_blocks)
{
	static const struct {
		size_t size;
		kmm_gfp_t gfp;
		uint32_t cache;
		unsigned int order;
	} q[] = {
		{ 0, KMM_GFP_KERNEL, CACHE_ID(0, 0), 0 },
		{ 8192, KMM_GFP_KERNEL, CACHE_ID(0, 12), 0 },
		{ 100, KMM_GFP_KERNEL | KMM_GFP_RECLAIMABLE, CACHE_ID(1, 5), 0 },
		{ 100, KMM_GFP_KERNEL | KMM_GFP_DMA, CACHE_ID(2, 5), 0 },
		{ 100, KMM_GFP_KERNEL | KMM_GFP_DMA | KMM_GFP_RECLAIMABLE, CACHE_ID(2, 5), 0 },
		{ 100, KMM_GFP_KERNEL | KMM_GFP_MOVABLE, CACHE_ID(0, 5), 0 },
		{ 100, KMM_GFP_KERNEL | KMM_GFP_DMA32, 0, 0 },
		{ 8193, KMM_GFP_KERNEL, 0, 2 },
		{ 16384, KMM_GFP_KERNEL, 0, 2 },
		{ 16385, KMM_GFP_KERNEL | KMM_GFP_DMA, 0, 3 },
		{ 4 << 20, KMM_GFP_KERNEL | KMM_GFP_RECLAIMABLE, 0, 10 },
	};
	unsigned int i;

	for (i = 0; i < sizeof(q) / sizeof(q[0]); i++) {
		void *p = kmalloc_slow(&k, q[i].size, q[i].gfp);
		struct thing t;

		ck_assert_ptr_nonnull(p);
		ck_assert_uint_eq(cache_of(p), q[i].cache);
		ck_assert_int_eq(thing_of(&k, p, &t), 0);
		if (!q[i].cache) {
			ck_assert_uint_eq(t.order, q[i].order);
			ck_assert_uint_eq(object_gfp, q[i].gfp);
			ck_assert_uint_eq(kmm_ksize(&k, p), (size_t)4096 << q[i].order);
		} else {
			ck_assert_uint_eq(object_gfp, KMM_GFP_KERNEL);
			ck_assert_uint_eq(kmm_ksize(&k, p), t.view->size);
		}
		ck_assert_int_eq(kfree_slow(&k, p), 0);
		ck_assert_uint_eq(frees, i + 1);
		ck_assert_int_eq(kfree_slow(&k, p), t.view ? 0 : -ENOENT);
		frees = i + 1;
	}
}
END_TEST

START_TEST(aligned)
{
	static const size_t sizes[] = { 0, 1, 40, 64, 65, 96, 100, 192, 200, 4095, 8192, 8193 };
	size_t align;
	unsigned int i;

	for (align = 1; align <= 1u << 22; align *= 2) {
		for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			void *p;

			next_slab = 2;
			next_block = BLOCK_FRAME;
			p = kmm_kmalloc_aligned(&k, sizes[i], align, KMM_GFP_KERNEL);
			ck_assert_ptr_nonnull(p);
			ck_assert_uint_ge(kmm_ksize(&k, p), sizes[i]);
			if (!cache_of(p)) {
				ck_assert(sizes[i] > 8192 || align > 4096);
				ck_assert_uint_eq(((uintptr_t)p - (uintptr_t)k.window) % align, 0);
				ck_assert_int_eq(kfree_slow(&k, p), 0);
			} else {
				size_t got = kmm_ksize(&k, p);

				/* as mm/ aligns the kmalloc caches */
				got = got > 4096 ? 4096 : got & -got;
				ck_assert_uint_ge(got, align);
				if (sizes[i] == 96 && align == 32)
					ck_assert_uint_eq(kmm_ksize(&k, p), 96);
			}
		}
	}
}
END_TEST

START_TEST(what_is_refused)
{
	static const struct {
		size_t size, align;
		kmm_gfp_t gfp;
	} bad[] = {
		{ ((size_t)4 << 20) + 1, 1, KMM_GFP_KERNEL },
		{ SIZE_MAX, 1, KMM_GFP_KERNEL },
		{ 1, 0, KMM_GFP_KERNEL },
		{ 1, 3, KMM_GFP_KERNEL },
		{ 1, (size_t)8 << 20, KMM_GFP_KERNEL },
		{ 1, SIZE_MAX, KMM_GFP_KERNEL },
		{ 1, 1, KMM_GFP_KERNEL | KMM_GFP_HIGHMEM },
		{ 1, 1, 0x00000200u },
	};
	int here;
	unsigned int i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		last_text[0] = '\0';
		errno = 0;
		ck_assert_ptr_null(kmm_kmalloc_aligned(&k, bad[i].size, bad[i].align, bad[i].gfp));
		ck_assert_int_eq(errno, EINVAL);
		ck_assert_str_ne(last_text, "");
	}
	errno = 0;
	ck_assert_ptr_null(kmalloc_slow(NULL, 1, KMM_GFP_KERNEL));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(kfree_slow(&k, NULL), 0);
	ck_assert_int_eq(kfree_slow(NULL, NULL), -EINVAL);
	ck_assert_int_eq(kfree_slow(&k, &here), -EINVAL);
	ck_assert_int_eq(kfree_slow(&k, (void *)&k.control.desc[BLOCK_FRAME]), -EINVAL);
	ck_assert_int_eq(kfree_slow(&k, k.window + 3000 * 4096), -ENOENT);
	errno = 4711;
	ck_assert_uint_eq(kmm_ksize(&k, NULL), 0);
	ck_assert_int_eq(errno, 4711);
	ck_assert_uint_eq(kmm_ksize(&k, &here), 0);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_uint_eq(kmm_ksize(&k, k.window + 3000 * 4096), 0);
	ck_assert_int_eq(errno, ENOENT);
}
END_TEST

static bool all(const uint8_t *p, size_t n, uint8_t byte)
{
	while (n > 0 && p[n - 1] == byte)
		n--;
	return n == 0;
}

START_TEST(a_resize_in_place)
{
	uint8_t *p = kmalloc_slow(&k, 100, KMM_GFP_KERNEL);

	memset(p, 0x41, 128);
	errno = 4711;
	ck_assert_ptr_eq(kmm_krealloc(&k, p, 128, KMM_GFP_KERNEL), p);
	ck_assert_ptr_eq(kmm_krealloc(&k, p, 1, KMM_GFP_KERNEL), p);
	ck_assert_int_eq(errno, 4711);
	ck_assert(all(p, 128, 0x41));
	ck_assert_ptr_eq(kmm_krealloc(&k, p, 50, KMM_GFP_KERNEL | KMM_GFP_ZERO), p);
	ck_assert(all(p, 50, 0x41));
	ck_assert(all(p + 50, 78, 0));
	ck_assert_uint_eq(frees, 0);
}
END_TEST

START_TEST(a_resize_that_moves)
{
	static const size_t chain[] = { 8, 9, 100, 3000, 8192, 8193, 70000, 300000, 0 };
	uint8_t *p = kmm_krealloc(&k, NULL, 1, KMM_GFP_KERNEL), *q;
	size_t had = 8, i;

	for (i = 0; i < sizeof(chain) / sizeof(chain[0]); i++) {
		size_t now = chain[i];

		memset(p, 0x42, had);
		q = kmm_krealloc(&k, p, now, KMM_GFP_KERNEL | KMM_GFP_ZERO);
		ck_assert_ptr_nonnull(q);
		ck_assert_uint_ge(kmm_ksize(&k, q), now);
		ck_assert(all(q, now < had ? (now ? now : 8) : had, 0x42));
		if (now > had)
			ck_assert(all(q + had, now - had, 0));
		had = kmm_ksize(&k, q);
		p = q;
	}
	ck_assert_uint_eq(had, 8); /* size 0: the smallest object */
	ck_assert_uint_eq(frees, 8);
}
END_TEST

/* A block of HighMem is ours but has no bytes; what was sent to us may lie in a section that was
 * never mapped here. */
START_TEST(a_resize_of_what_is_out_of_reach)
{
	uint8_t *p = kmalloc_slow(&k, 9000, KMM_GFP_KERNEL), *q;

	k.mapped[1] = 0;
	section_map_answer = -ENOTSUP;
	errno = 0;
	ck_assert_ptr_null(kmm_krealloc(&k, p, 20000, KMM_GFP_KERNEL));
	ck_assert_int_eq(errno, ENOTSUP);
	ck_assert_ptr_null(kmm_krealloc(&k, p, 9000, KMM_GFP_KERNEL | KMM_GFP_ZERO));
	ck_assert_int_eq(errno, ENOTSUP);
	ck_assert_uint_eq(frees, 0);
	section_map_answer = 0;
	q = kmm_krealloc(&k, p, 20000, KMM_GFP_KERNEL);
	ck_assert(all(q, 9000, 0x77));
	ck_assert_uint_eq(frees, 1);
}
END_TEST

/* Bytes of a node: an object's slab, or a block, is asked of it; a block that cannot be mapped goes
 * back. */
START_TEST(bytes_of_a_node)
{
	void *p = NULL;

	ck_assert_int_eq(kmalloc_node(&k, 100, KMM_GFP_KERNEL, 3, &p), 0);
	ck_assert_ptr_nonnull(p);
	ck_assert_uint_eq(asked_node, 3);
	ck_assert_int_eq(kmalloc_node(&k, 20000, KMM_GFP_KERNEL, 2, &p), 0);
	ck_assert_uint_eq(asked_node, 2);
	ck_assert_int_eq(kfree_slow(&k, p), 0);
	ck_assert_uint_eq(frees, 1);
	section_map_answer = -ENOMEM;
	k.mapped[1] = 0;
	p = &k;
	ck_assert_int_eq(kmalloc_node(&k, 20000, KMM_GFP_KERNEL, 1, &p), -ENOMEM);
	ck_assert_ptr_eq(p, &k);
	ck_assert_uint_eq(frees, 2);
	section_map_answer = 0;
	ck_assert_int_eq(kmalloc_node(&k, (4 << 20) + 1, KMM_GFP_KERNEL, 1, &p), -EINVAL);
	/* no node asks for none */
	ck_assert_ptr_nonnull(kmalloc_slow(&k, 100, KMM_GFP_KERNEL));
	ck_assert_uint_eq(asked_node, 0);
}
END_TEST

START_TEST(a_resize_that_fails)
{
	uint8_t *p = kmalloc_slow(&k, 100, KMM_GFP_KERNEL);
	struct thing t;

	memset(p, 0x43, 128);
	errno = 0;
	ck_assert_ptr_null(kmm_krealloc(&k, p, (4 << 20) + 1, KMM_GFP_KERNEL));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_ptr_null(kmm_krealloc(&k, p + 8, 200, KMM_GFP_KERNEL));
	ck_assert_int_eq(errno, EINVAL);
	object_error = -ENOMEM;
	ck_assert_ptr_null(kmm_krealloc(&k, p, 1000, KMM_GFP_KERNEL));
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_uint_eq(frees, 0);
	ck_assert(all(p, 128, 0x43));
	/* another's: not touched, not leaked */
	object_error = 0;
	ck_assert_int_eq(thing_of(&k, p, &t), 0);
	owner_store(t.word, word_of(1, OWNER_HELD, OTHER, 0));
	ck_assert_ptr_null(kmm_krealloc(&k, p, 1000, KMM_GFP_KERNEL));
	ck_assert_int_eq(errno, EPERM);
	owner_store(t.word, word_of(1, OWNER_RETURNED, ME, 0));
	ck_assert_ptr_null(kmm_krealloc(&k, p, 1, KMM_GFP_KERNEL));
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_uint_eq(frees, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("client kmalloc");
	TCase *t = tcase_create("client kmalloc");

	tcase_add_checked_fixture(t, setup, world_teardown);
	tcase_add_test(t, the_smallest_class_that_holds_it);
	tcase_add_test(t, families_and_blocks);
	tcase_add_test(t, aligned);
	tcase_add_test(t, what_is_refused);
	tcase_add_test(t, a_resize_in_place);
	tcase_add_test(t, a_resize_that_moves);
	tcase_add_test(t, a_resize_of_what_is_out_of_reach);
	tcase_add_test(t, bytes_of_a_node);
	tcase_add_test(t, a_resize_that_fails);
	suite_add_tcase(s, t);
	return suite_status(s);
}

/* SPDX-License-Identifier: MIT */
/*
 * Finding objects by address, and walking all of them: without a lock, while slabs come and go.
 *
 * Concept: three atomic words tell all that is needed of a slab: the bit of its head frame, its slab
 * word (cache, first owner word, colour), and the shape of its cache (stride, offset, order). They
 * lie in tables that are never freed. A slab that has an object out cannot go, so for such an object
 * the answer holds as long as the object is out; for others it is a look at one moment.
 *
 * A reader that was overtaken (the slab went, its cache too, another got the id) may put together a
 * word and a shape that never were one. What it computes then is checked against the bounds of the
 * tables, and is refused by slab_free(), which looks again once it has claimed the object.
 *
 * By address: the head is the address's frame, rounded down to 1, 2, 4 … frames: the first that heads
 * a slab which covers the frame is the one. The objects of a slab are multiples of the stride.
 *
 * Complexity: O(orders) a look-up; a walk over everything O(objects), and a bit a frame in sections
 * that have slabs.
 */
#include "slab_private.h"

/* What a reader saw of a slab. */
struct seen {
	struct kmem_cache *cache;
	struct slab_shape shape;
	pfn_t head;
	uint32_t first, base; /* base: offset of slot 0's object in the slab */
	uint32_t colour;
};

/* The slab that begins at head; false: there is none (any more). */
static bool slab_see(const struct slab_space *s, pfn_t head, struct seen *v)
{
	uint64_t w, base;

	if (!slab_is_head(s, head))
		return false;
	w = slab_word_at(s, head);
	if (!(w & SLAB_WORD_LIVE) || slab_word_cache(w) >= s->m.caches)
		return false;
	/* acquire pairs with the release in cache_publish() */
	v->cache = atomic_load_explicit(&s->cache[slab_word_cache(w)], memory_order_acquire);
	if (!v->cache)
		return false;
	v->shape = cache_shape(v->cache);
	if (v->shape.stride == 0)
		return false;
	v->head = head;
	v->first = slab_word_first(w);
	v->colour = slab_word_colour(w);
	base = (uint64_t)v->colour * v->shape.colour_off + v->shape.offset;
	v->base = (uint32_t)base;
	return (uint64_t)v->first + shape_words(&v->shape) <= s->m.words &&
	       base + (uint64_t)(v->shape.objects - 1) * v->shape.stride <
	               (uint64_t)1 << (PAGE_SHIFT + v->shape.order);
}

static inline void object_of(const struct seen *v, uint32_t slot, struct slab_object *o)
{
	uint32_t offset = v->base + slot * v->shape.stride;

	*o = (struct slab_object){
		.cache = v->cache,
		.head = v->head,
		.slot = slot,
		.word = v->first + (offset >> v->shape.shift),
		.address = ((uint64_t)v->head << PAGE_SHIFT) + offset,
	};
}

bool slab_object_at(const struct slab_space *s, uint64_t address, struct slab_object *o, bool *out)
{
	uint64_t pfn = address >> PAGE_SHIFT;
	struct slab_object found;
	struct seen v;

	if (pfn >= s->mm->config.frames)
		return false;
	for (uint32_t order = 0; order <= MAX_PAGE_ORDER; order++) {
		pfn_t head = (pfn_t)pfn & ~(((pfn_t)1 << order) - 1);
		uint32_t offset = (uint32_t)(address - ((uint64_t)head << PAGE_SHIFT)), slot;

		if (!slab_is_head(s, head))
			continue;
		/* the nearest head below is the only one that can cover the frame */
		if (!slab_see(s, head, &v) || v.shape.order < order || offset < v.base)
			return false;
		slot = (offset - v.base) / v.shape.stride;
		if (v.base + slot * v.shape.stride != offset || slot >= v.shape.objects)
			return false;
		object_of(&v, slot, &found);
		*out = slab_out_bit(s, found.word);
		*o = found;
		return true;
	}
	return false;
}

size_t slab_objects_at(const struct kmem_cache *c, size_t n, const uint64_t address[],
                       struct slab_object ret[])
{
	const struct slab_space *s = c->space;
	struct slab_shape sh = cache_shape(c);
	size_t found = 0;

	if (sh.stride == 0)
		return 0;
	for (size_t i = 0; i < n; i++) {
		uint64_t pfn = address[i] >> PAGE_SHIFT, w;
		pfn_t head = (pfn_t)pfn & ~(((pfn_t)1 << sh.order) - 1);
		uint32_t offset = (uint32_t)(address[i] - ((uint64_t)head << PAGE_SHIFT)), base;
		struct seen v = { .cache = (struct kmem_cache *)c, .shape = sh, .head = head };
		uint32_t slot;

		if (pfn >= s->mm->config.frames || !slab_is_head(s, head))
			continue;
		w = slab_word_at(s, head);
		if (!(w & SLAB_WORD_LIVE) || slab_word_cache(w) != c->id)
			continue;
		base = slab_word_colour(w) * sh.colour_off + sh.offset;
		/* in front of the first: a large slot */
		slot = (offset - base) / sh.stride;
		v.first = slab_word_first(w);
		if (slot >= sh.objects || base + slot * sh.stride != offset ||
		    (uint64_t)v.first + (offset >> sh.shift) >= s->m.words)
			continue;
		v.base = base;
		object_of(&v, slot, &ret[found]);
		found += slab_out_bit(s, ret[found].word);
	}
	return found;
}

bool slab_about_at(const struct slab_space *s, pfn_t head, struct slab_about *a)
{
	struct seen v;

	if (head >= s->mm->config.frames || !slab_see(s, head, &v))
		return false;
	*a = (struct slab_about){ v.cache, head, v.first, v.colour };
	return true;
}

void slab_object_of(const struct slab_about *a, uint32_t slot, struct slab_object *o)
{
	struct seen v = {
		.cache = a->cache,
		.shape = cache_shape(a->cache),
		.head = a->head,
		.first = a->first_word,
	};

	v.base = a->colour * v.shape.colour_off + v.shape.offset;
	object_of(&v, slot, o);
}

static bool walk_one(const struct slab_space *s, const struct kmem_cache *c, pfn_t head,
                     slab_walk_fn fn, void *ctx)
{
	uint32_t at = UINT32_MAX;
	uint64_t bits = 0;
	struct seen v;

	if (!slab_see(s, head, &v) || (c && v.cache != c))
		return false;
	for (uint32_t slot = 0; slot < v.shape.objects; slot++) {
		struct slab_object o;

		object_of(&v, slot, &o);
		if (o.word / 64 != at) {
			at = o.word / 64;
			/* acquire, as in slab_out_bit() */
			bits = atomic_load_explicit(&s->m.out[at], memory_order_acquire);
		}
		fn(ctx, &o, bits >> (o.word % 64) & 1);
	}
	return true;
}

bool slab_walk_one(const struct slab_space *s, pfn_t head, slab_walk_fn fn, void *ctx)
{
	return head < s->mm->config.frames && walk_one(s, NULL, head, fn, ctx);
}

void slab_walk(const struct slab_space *s, const struct kmem_cache *c, slab_walk_fn fn, void *ctx)
{
	uint32_t frames = 1u << s->mm->config.section_order;

	for (uint32_t i = 0; i < s->mm->nr_sections; i++) {
		pfn_t start = i * frames;

		/* acquire pairs with the release in slab_set_head() */
		if (!atomic_load_explicit(&s->section[i], memory_order_acquire))
			continue;
		for (pfn_t pfn = start; pfn < start + frames; pfn += 64) {
			/* acquire, as in slab_is_head() */
			uint64_t w = atomic_load_explicit(&s->head[pfn / 64], memory_order_acquire);

			for (; w; w &= w - 1)
				walk_one(s, c, pfn + (pfn_t)__builtin_ctzll(w), fn, ctx);
		}
	}
}

bool slab_present(const struct slab_space *s, pfn_t head)
{
	return head < s->mm->config.frames && slab_is_head(s, head);
}

/* SPDX-License-Identifier: MIT */
/*
 * The turns of a slab's life as clients see them: its objects' words, its frames' descriptors.
 *
 *   born    words FREE, descriptors; then the slab layer commits the slab
 *   dying   generations to the frame words, descriptors 0; then the slab layer ends the slab
 *
 * A handle is a place and a generation, and a place may be a block, then an object of one cache,
 * then of another. So generations go on where the last life of the place ended:
 *
 *     frame words of the slab  --born: largest + 1-->  all its object words
 *     object words             --dying: largest + 1--> all its frame words (they stay FREE)
 *
 * An owner word serves many places in its time. So that an exchange from a value read before can
 * never succeed in another life of the word, a slab's generations also begin above what its words
 * say from earlier and, for words whose memory was given back, above object_floor. After a restart
 * the floor is what the frame words say at most: whatever a word said when its slab died is there.
 *
 * A death between the steps of born leaves descriptors of a slab that is none, and one between
 * those of dying frame words that are ahead: domain_recover.c sets the descriptors right, and a
 * generation that was skipped is none that anybody was told.
 */
#include <errno.h>

#include "daemon/domain_private.h"
#include "daemon/object.h"
#include "daemon/pool.h"

static uint64_t generation_max(const owner_word_t *word, uint32_t n)
{
	uint64_t max = 0;
	uint32_t i;

	for (i = 0; i < n; i++) {
		uint64_t g = owner_generation(owner_load(&word[i]));

		if (g > max)
			max = g;
	}
	return max;
}

void object_floor_raise(struct domain *d, uint64_t generation)
{
	/* acq_rel pairs with the load in words_begin(): whoever gets the words later sees it */
	uint64_t was = atomic_load_explicit(&d->object_floor, memory_order_acquire);

	while (was < generation &&
	       !atomic_compare_exchange_weak_explicit(&d->object_floor, &was, generation,
	                                              memory_order_acq_rel, memory_order_acquire))
		;
}

static int words_open(void *ctx, uint32_t first, uint32_t n)
{
	struct domain *d = ctx;

	return pool_words_open(d->kmmd->pool, first, n);
}

static void words_close(void *ctx, uint32_t first, uint32_t n)
{
	struct domain *d = ctx;

	object_floor_raise(d, generation_max(&d->control.object[first], n));
	pool_words_close(d->kmmd->pool, first, n);
}

static void words_begin(struct domain *d, const struct slab_about *s,
                        const struct slab_geometry *g)
{
	owner_word_t *word = &d->control.object[s->first_word];
	uint64_t generation = atomic_load_explicit(&d->object_floor, memory_order_acquire);
	uint64_t place = generation_max(&d->control.word[s->head], 1u << g->order);
	uint64_t before = generation_max(word, g->words);
	uint32_t i;

	if (generation < place)
		generation = place;
	if (generation < before)
		generation = before;
	generation = owner_generation_next(generation);
	for (i = 0; i < g->words; i++)
		owner_store(&word[i], generation << OWNER_GENERATION_SHIFT);
}

static void descriptors_set(struct domain *d, const struct slab_about *s,
                            const struct slab_geometry *g, bool born)
{
	uint32_t i;

	/* release: pairs with the acquire loads of clients that look at a frame */
	for (i = 0; i < 1u << g->order; i++)
		atomic_store_explicit(&d->control.desc[s->head + i],
		                      born ? object_slab_descriptor(s, i) : 0,
		                      memory_order_release);
}

static void born(void *ctx, const struct slab_about *s)
{
	const struct slab_geometry *g = kmem_cache_geometry(s->cache);

	words_begin(ctx, s, g);
	descriptors_set(ctx, s, g, true);
}

static void dying(void *ctx, const struct slab_about *s)
{
	const struct slab_geometry *g = kmem_cache_geometry(s->cache);
	struct domain *d = ctx;
	uint64_t generation = owner_generation_next(
		generation_max(&d->control.object[s->first_word], g->words));
	uint32_t i;

	for (i = 0; i < 1u << g->order; i++)
		owner_store(&d->control.word[s->head + i], generation << OWNER_GENERATION_SHIFT);
	descriptors_set(d, s, g, false);
}

const struct slab_ops object_slab_ops = {
	.words_open = words_open,
	.words_close = words_close,
	.born = born,
	.dying = dying,
};

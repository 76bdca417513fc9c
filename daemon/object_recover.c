/* SPDX-License-Identifier: MIT */
/*
 * Objects after a restart: domain_recover.c's judgement (there is the table), with the out bit
 * besides.
 *
 *     out bit   word                       then
 *     clear     FREE                       free
 *     clear     anything else              free, and damage: an offer sets the bit before the word
 *     set       FREE                       free: the death came between the two
 *     set       says that it is free       free, generation + 1 by exchange
 *     set       says that it is kept       out
 *
 * CONSTRUCTED stays when its owner gave the object back or it was never claimed; what only holders
 * had that are gone is constructed again.
 */
#include <inttypes.h>

#include "daemon/domain_private.h"
#include "daemon/object.h"
#include "daemon/pool.h"

static void account(struct recovery *r, const struct slab_object *o, uint64_t w)
{
	uint32_t id = owner_id(w);

	r->objects_kept++;
	/* bounded: a member that never stopped writing left a word that was not judged */
	if (owner_kind(w) == OWNER_MAGAZINE)
		id = id < r->d->control.geometry.magazines ? r->lent[id] : 0;
	if (id >= r->pool->nr_sessions)
		return;
	r->d->object_sum[id].objects++;
	r->d->object_sum[id].bytes += kmem_cache_geometry(o->cache)->stride;
}

static void never_out(struct recovery *r, const struct slab_object *o, owner_word_t *word,
                      uint64_t w)
{
	if (owner_kind(w) == OWNER_FREE)
		return;
	domain_damage(r->d, "the object at %#" PRIx64 " is free but its owner word says %u of %u",
	              o->address, (unsigned int)owner_kind(w), owner_id(w));
	owner_store(word, owner_reborn(w, OWNER_FREE, 0));
}

static uint64_t freed(uint64_t w)
{
	return owner_is(w, OWNER_HELD, 0) ? owner_reborn(w, OWNER_FREE, 0) :
	                                    owner_renewed(w, OWNER_FREE, 0);
}

bool object_judge(void *ctx, const struct slab_object *o, bool was_out)
{
	struct recovery *r = ctx;
	owner_word_t *word = object_word(r->d, o);
	uint32_t granule = object_granule(r->d, o);
	uint64_t w = owner_load(word);
	unsigned int race;

	if (!was_out) {
		never_out(r, o, word, w);
		return false;
	}
	for (race = 0; race < RECOVERY_RACES_MAX; race++) {
		switch (recovery_judge(r, granule, w)) {
		case VERDICT_FREE:
			if (owner_kind(w) == OWNER_FREE || owner_cas(word, &w, freed(w))) {
				r->objects_freed++;
				return false;
			}
			continue;
		case VERDICT_HOLDERS:
			if (!owner_is(w, OWNER_HELD, 0) &&
			    !owner_cas(word, &w, owner_moved(w, OWNER_HELD, 0)))
				continue;
			w = owner_moved(w, OWNER_HELD, 0);
			break;
		case VERDICT_KEEP:
			break;
		case VERDICT_DAMAGED:
			domain_damage(r->d,
			              "the object at %#" PRIx64 " of cache %s is said to be of "
			              "kind %u, owner %u, which is nobody; it stays out of use",
			              o->address, kmem_cache_record(o->cache)->name,
			              (unsigned int)owner_kind(w), owner_id(w));
			r->objects_kept++;
			return true;
		}
		break;
	}
	if (w & OWNER_KEPT)
		recovery_correct_kept(r, granule, word);
	account(r, o, w);
	return true;
}

uint64_t object_slab_descriptor(const struct slab_about *s, uint32_t frame)
{
	return page_desc_slab(kmem_cache_id(s->cache), s->colour,
	                      kmem_cache_geometry(s->cache)->shift, s->first_word, frame);
}

void object_correct_slab(struct domain *d, const struct slab_about *s)
{
	uint32_t i, n = 1u << kmem_cache_geometry(s->cache)->order;

	for (i = 0; i < n; i++) {
		owner_word_t *word = &d->control.word[s->head + i];
		uint64_t w = owner_load(word), desc = object_slab_descriptor(s, i);

		object_floor_raise(d, owner_generation(w));
		if (owner_kind(w) != OWNER_FREE) {
			domain_damage(d,
			              "frame %u is in a slab but its owner word says kind %u, "
			              "owner %u",
			              s->head + i, (unsigned int)owner_kind(w), owner_id(w));
			owner_store(word, owner_reborn(w, OWNER_FREE, 0));
		}
		/* relaxed: only this thread writes descriptors now */
		if (atomic_load_explicit(&d->control.desc[s->head + i], memory_order_relaxed) !=
		    desc)
			atomic_store_explicit(&d->control.desc[s->head + i], desc,
			                      memory_order_release);
	}
}

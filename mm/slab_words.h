/* SPDX-License-Identifier: MIT */
/* Runs of owner words for slabs. See slab_words.c. */
#ifndef MM_SLAB_WORDS_H
#define MM_SLAB_WORDS_H

#include "slab.h"

#define WORDS_PAGE 512u /* words of a page of the space */

struct slab_words;

/* `words` of them, none in use. -ENOMEM. */
int slab_words_new(struct slab_words **ret, uint64_t words, const struct slab_ops *ops, void *ctx);
struct slab_words *slab_words_free(struct slab_words *w);

/* A run of n words, a power of two from SLAB_WORDS_MIN to SLAB_WORDS_MAX, on a multiple of n.
 * -ENOMEM: the space is used up, or the caller's words_open said so. No lock may be held that ranks
 * above LOCK_RANK_SLAB_WORDS, nor any that words_open and words_close must not be called under. */
int slab_words_get(struct slab_words *w, uint32_t n, uint32_t *first);
void slab_words_put(struct slab_words *w, uint32_t first, uint32_t n);

/* Recovery, one thread: forget everything; take these runs; then go on from there. False: it is no
 * run, or one that overlaps another. */
void slab_words_reset(struct slab_words *w);
bool slab_words_reserve(struct slab_words *w, uint32_t first, uint32_t n);
void slab_words_ready(struct slab_words *w);

/* For the validator, no other thread: all words of the run are in use. */
bool slab_words_used(const struct slab_words *w, uint32_t first, uint32_t n);
uint64_t slab_words_count(const struct slab_words *w); /* words in use */
uint64_t slab_words_end(const struct slab_words *w);   /* none is in use from here on */
/* The lists agree with the maps: NULL, or what is wrong. */
const char *slab_words_nonsense(const struct slab_words *w);

#endif

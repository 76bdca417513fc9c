/* SPDX-License-Identifier: MIT */
/*
 * Objects out to sessions and back: what grant.h is for page blocks. See object.c.
 */
#ifndef DAEMON_OBJECT_H
#define DAEMON_OBJECT_H

#include "daemon/cache.h"
#include "daemon/grant.h"

/* What slab.h asks of us. */
extern const struct slab_ops object_slab_ops;
/* Object words whose memory went back begin above that generation (object_ops.c). */
void object_floor_raise(struct domain *d, uint64_t generation);

static inline owner_word_t *object_word(const struct domain *d, const struct slab_object *o)
{
	return &d->control.object[o->word];
}
static inline uint32_t object_granule(const struct domain *d, const struct slab_object *o)
{
	return (uint32_t)(o->address >> d->granule_shift);
}

/* A block or an object by its granule: for handles, holders, names, Send. */
struct thing {
	bool is_object;
	uint32_t granule;
	owner_word_t *word;
	uint32_t page;             /* of a block: whose word it is (high.h) */
	pfn_t pfn;                 /* head of the block as of now, or of the object's slab */
	struct slab_object object; /* when is_object */
};
static inline bool thing_granule_ok(const struct domain *d, uint32_t granule)
{
	return control_pfn_of_granule(d->granule_shift, granule) <
	       control_pages(&d->control.geometry);
}
/* False: the granule (of the pool) is no first byte of a granted block or of an object that is out;
 * t then has the word that would be its, of an object when one could begin there, else of the
 * frame. */
bool thing_find(struct domain *d, uint32_t granule, struct thing *t);
/* The word of a thing that was found; of one that is changing its frame, what it says after. */
uint64_t thing_word(struct domain *d, const struct thing *t);
/* holder_add() of a thing that was found, which may be changing its frame. */
int thing_hold(struct domain *d, uint32_t session, const struct thing *t, uint32_t generation,
               bool room, bool *added);
/* The thing's word says FREE by the caller's own exchange: it goes back to where it came from. */
void thing_leave(struct domain *d, uint32_t cpu, const struct thing *t);

/* "the object of cache dentry at granule 12", "the block at frame 3": in the thread's own buffer.
 */
const char *thing_text(const struct thing *t);
/* The sweep of s will look at the thing: before s can own it. -ENOMEM. */
int thing_note(struct domain *d, struct session *s, const struct thing *t);
/* A holder left and others remain (HOLDER_LEFT): whom the thing is charged to now. */
void thing_left(struct domain *d, const struct thing *t, uint32_t who, uint32_t heir);

/* ---- offering ---- */

/* What is asked of mm/ for objects of c: the zone and mobility are the cache's. -EINVAL, -EPERM,
 * -EIO with *why for what clients may not ask for. */
int object_request(const struct cache *c, uint32_t cpu, uint32_t node, gfp_t gfp,
                   struct mm_request *r, const char **why);
/* Gets up to n objects with their words in kind of id, noted for the sweep of s, charged to nobody:
 * how many. 0 with *rc: -ENOMEM, -ENOKEY. */
size_t object_get(struct cache *c, struct session *s, const struct mm_request *r, bool constructed,
                  enum owner_kind kind, uint32_t id, size_t n, struct slab_object o[], int *rc);
/* Text of a failure of object_get(). */
const char *object_get_text(const struct cache *c, int rc);

/* Offers one object of c (entered) to s (entered): as grant_alloc. -ENOKEY: constructed ones are
 * wanted and there are none. */
int object_alloc(struct cache *c, struct session *s, uint32_t cpu, gfp_t gfp, bool constructed,
                 uint32_t *granule, const char **why);
/* The same from a node, as in struct mm_request. */
int object_alloc_node(struct cache *c, struct session *s, uint32_t cpu, uint32_t node, gfp_t gfp,
                      bool constructed, uint32_t *granule, const char **why);
/* For another cpu's request, from the slabs alone. */
int object_alloc_near(struct cache *c, struct session *s, uint32_t cpu, uint32_t node, gfp_t gfp,
                      bool constructed, uint32_t *granule, const char **why);
void object_withdraw(struct domain *d, struct session *s, uint32_t cpu, uint32_t granule);
/* As grant_free, for an object whose word says RETURNED by s at that generation. */
int object_free(struct domain *d, struct session *s, uint32_t cpu, uint32_t granule,
                uint64_t generation, const char **why);

/* ---- taking back ---- */

/* Frees of one thread: the cache at hand stays entered from one to the next. */
struct object_batch {
	struct domain *d;
	uint32_t cpu;
	bool direct;
	struct cache *c;  /* entered; NULL: none yet */
	uint64_t objects; /* that went back to their slabs */
};
void object_batch_init(struct object_batch *b, struct domain *d, uint32_t cpu);
/* Leaves the cache; serves who waits. */
void object_batch_end(struct object_batch *b);
/* The object at the address, out, its cache entered; false: there is none (any more). */
bool object_batch_find(struct object_batch *b, uint64_t address, struct slab_object *o);
/* Ends what word w of the object says, as grant_take_back(): freed to the slab, or left to its
 * holders. keep_constructed: its owner gave it back; else CONSTRUCTED goes. o is of the batch's
 * cache, w was read before it was found. */
enum grant_back object_batch_take_back(struct object_batch *b, const struct slab_object *o,
                                       uint64_t w, bool keep_constructed);
/* The same for an object by itself: found anew, its cache entered. */
enum grant_back object_take_back(struct domain *d, uint32_t cpu, const struct slab_object *o,
                                 uint64_t w, bool keep_constructed);

/* ---- exchange_object.c: objects in magazines ---- */

/* As exchange_take. The node is the cpu's, or for SLAB_MEM_SPREAD the next one. -ENOKEY as above.
 */
int exchange_take_objects(struct cache *c, struct session *s, uint32_t cpu, gfp_t gfp,
                          bool constructed, uint32_t rounds, magazine_id_t *ret, uint32_t *n,
                          const char **why);
/* As exchange_take_waiting. */
int exchange_take_objects_waiting(struct cache *c, struct session *s, uint32_t node, gfp_t gfp,
                                  bool constructed, uint32_t rounds, magazine_id_t *ret,
                                  uint32_t *n, const char **why);

/* The objects of one full magazine of the cache, of the depot or the rack, go to the slabs; false: there
 * is none. */
bool exchange_free_one(struct cache *c, uint32_t cpu);

/* ---- for sweep.c: what grant_collect, grant_withdraw_all and grant_sweep do; objects ---- */

uint64_t object_collect(struct domain *d, struct session *s, struct cache *only, uint32_t cpu);
uint64_t object_withdraw_all(struct domain *d, struct session *s);
uint64_t object_sweep(struct domain *d, struct session *s);

/* ---- counting ---- */

struct object_count {
	uint64_t objects, bytes; /* HELD or OFFERED, by session (HELD by nobody: session 0) */
	uint64_t returned;
	uint64_t moving; /* in a magazine that is lent to the session; of 0: in depots */
};
/* Calls fn for each (session, cache) with objects; session 0: things without an owner. -ENOMEM.
 * Worker. */
typedef void (*object_count_fn)(void *ctx, uint32_t session, struct cache *c,
                                const struct object_count *n);
int object_census(struct domain *d, struct session *only, struct cache *cache, object_count_fn fn,
                  void *ctx);
/* Sets what the session is charged for objects to what its words say, in the slabs that it marked. Worker. */
void object_recount(struct domain *d, struct session *s);

/* ---- charge.c ---- */

/* Charges up to `want` objects of that stride, as many as the quotas allow; how many. */
uint32_t charge_reserve_objects(struct session *s, uint32_t stride, uint32_t want);
void charge_return_objects(struct session *s, uint32_t stride, uint32_t n);
/* An object passes from one session to another, both entered: first that there is room, then that it was
 * sent, or was not. Within a user only the sessions' own quotas count. */
bool charge_receive_object(struct session *to, const struct session *from, uint32_t stride);
void charge_received_object(struct session *to, struct session *from, uint32_t stride, bool sent);
/* charge_return_objects() of one, by id; 0 and what is no session: nobody. */
void charge_drop_objects(struct domain *d, uint32_t session, uint32_t stride);
/* They were counted. */
void charge_set_objects(struct session *s, int64_t objects, int64_t bytes);
const char *charge_text_objects(const struct session *s, uint32_t stride);

/* ---- checks ---- */

/* Every object's word against its out bit, the sessions, magazines and holders that it names;
 * findings as mm_validate. Nobody else uses the domain, clients apart. naming[m] counts the words
 * that name magazine m. */
size_t object_validate(struct domain *d, uint32_t naming[], mm_report_fn report, void *ctx);

#endif

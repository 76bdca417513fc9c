/* SPDX-License-Identifier: MIT */
/*
 * The naive model of objects in sessions, magazines and depots. See object_model.c for the test,
 * object_model_state.c for what is compared.
 *
 * The model has one record for each object that is out, with the whole owner word that it must
 * have, and for each place of the pool the last word that an object there had when it became free.
 * What the daemon and the clients do is predicted from these alone:
 *
 *     object[].w                 says on which list it is: of a session (offered, held, returned),
 *                                of a magazine, of nobody
 *     object[].holders, names    KEPT, and who frees it last
 *     last[granule]              generations that never go back, constructed state that stays
 *     mag[], stack[]             which magazine is lent, full or empty, and in which order
 */
#ifndef TESTS_MODEL_OBJECT_MODEL_H
#define TESTS_MODEL_OBJECT_MODEL_H

#define TD_WITHOUT_CHECK
#define TD_NODES model_nodes
#include <inttypes.h>
#include <stdint.h>

extern uint32_t model_nodes;

#include "tests/unit/test_domain.h"

#define SESSIONS 6u
#define THREADS 2u /* of a session: each in the middle of something */
#define CACHES 8u
#define NODES 2u
#define NAMES 24u
#define OBJECTS_MAX 30000u
#define HANDLES 192u
#define BLOCKS 64u

/* Lists of objects. */
#define LIST_OFFERED(slot) ((slot) * 3)
#define LIST_HELD(slot) ((slot) * 3 + 1)
#define LIST_RETURNED(slot) ((slot) * 3 + 2)
#define LIST_NOBODY (SESSIONS * 3)
#define LIST_MAGAZINE(m) (LIST_NOBODY + 1 + (m))
#define LISTS LIST_MAGAZINE(TD_MAGAZINES)

struct object {
	uint64_t w; /* what its word must say */
	owner_word_t *word;
	uint32_t granule, cache, list, pos;
	uint32_t holders; /* a bit a session */
	uint32_t names;
};

struct list {
	uint32_t *at, n, size;
};

struct model_cache {
	bool live, builtin, ctor, marked;
	char name[24];
	uint64_t size, life;
	uint32_t id, flags, users;
	uint32_t stride;
	uint64_t out; /* objects */
};

enum mag_place { MAG_EMPTY, MAG_LENT, MAG_FULL };

struct mag {
	enum mag_place place;
	enum magazine_state header; /* of a lent one */
	bool busy;                  /* a thread is at it */
	bool from_rack;             /* and takes what others put there */
	uint32_t slot;              /* has it; SESSIONS: it lies in the rack */
	uint32_t counts_for;        /* SESSIONS: nobody */
	bool seen;                  /* it lay in the rack at the last trimming */
	uint32_t n;                 /* rounds listed */
	uint32_t cache, node, frames; /* of a full one; in the rack: cache, CACHES: empty */
};

/* Full magazines of a cache and node, the last given on top. */
struct stack {
	uint32_t mag[TD_MAGAZINES], n, min;
};

enum doing { IDLE, CLAIM, UNLOAD, LOAD, TELL };

struct thread {
	enum doing doing;
	uint32_t mag, at, n, cache;
	bool keep_returned; /* takes them as RETURNED */
};

struct member {
	bool alive;
	uint32_t id;
	uint64_t pages_max;
	struct thread thread[THREADS];
};

struct handle {
	uint32_t granule, generation;
};

struct name {
	bool used;
	uint32_t granule;
	uint64_t generation;
};

struct block {
	bool used;
	pfn_t pfn;
	uint32_t order, slot;
};

enum counts { TOOK, FREED, FULL, RACKED, RESTARTS, DEATHS, ADOPTED, ENOMEMS, EAGAINS, EDQUOTS, ENOKEYS,
	      CACHES_MADE, COMPARED, NR_COUNTS };

struct model {
	struct test_domain t;
	uint64_t random, step;
	bool between; /* two things were done at once: words are ahead of the first */
	struct object object[OBJECTS_MAX];
	uint32_t unused[OBJECTS_MAX], nr_unused;
	struct list list[LISTS];
	uint32_t *of_granule; /* index plus one */
	uint64_t *last;       /* by granule; 0: no object was there yet */
	struct model_cache cache[CACHES];
	struct mag mag[TD_MAGAZINES];
	struct stack stack[CACHES][NODES];
	uint32_t frames; /* in full magazines */
	struct member member[SESSIONS];
	uint32_t slot_of[TD_SESSIONS]; /* plus one */
	struct handle handle[HANDLES];
	uint32_t nr_handles;
	struct name name[NAMES];
	struct block block[BLOCKS];
	uint64_t counts[NR_COUNTS];
};

extern uint64_t seed;

#define HERE (&m->member[slot])

#define CHECK(m, condition, ...)                                                                   \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "object_model: seed %" PRIu64 " step %" PRIu64             \
			                ": line %d: %s: ",                                         \
			        seed, (m)->step, __LINE__, #condition);                            \
			fprintf(stderr, __VA_ARGS__);                                              \
			fputc('\n', stderr);                                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static inline uint32_t below(struct model *m, uint32_t n)
{
	/* xorshift64* */
	m->random ^= m->random >> 12;
	m->random ^= m->random << 25;
	m->random ^= m->random >> 27;
	return (uint32_t)((m->random * 0x2545f4914f6cdd1dull) >> 33) % n;
}

static inline struct session *session_at(struct model *m, uint32_t slot)
{
	return session_by_id(m->t.kmmd.sessions, m->member[slot].id);
}

static inline struct cache *cache_at(struct model *m, uint32_t c)
{
	return cache_by_id(m->t.d, m->cache[c].id);
}

static inline struct object *random_of(struct model *m, uint32_t list)
{
	struct list *l = &m->list[list];

	return l->n ? &m->object[l->at[below(m, l->n)]] : NULL;
}

static inline uint32_t slot_of_list(const struct object *o)
{
	return o->list < LIST_NOBODY ? o->list / 3 : SESSIONS;
}

/* ---- object_model_state.c ---- */

void model_open(struct model *m, uint32_t nodes);
void model_close(struct model *m);
/* What is known of objects. */
struct object *model_object(struct model *m, uint32_t granule);
struct object *model_took(struct model *m, uint32_t cache, uint32_t granule, enum owner_kind kind,
                          uint32_t id);
void model_set(struct model *m, struct object *o, uint64_t w);
/* It became FREE; keep: as its owner left it. */
void model_freed(struct model *m, struct object *o, bool keep);
/* The daemon took it from its owner: free, or its holders'. */
bool model_given_up(struct model *m, struct object *o, bool keep);
/* Somebody holds it no longer. */
void model_left(struct model *m, struct object *o);
/* All objects whose words name magazine k are free. */
void model_emptied(struct model *m, uint32_t k, bool keep);
/* Full magazines. */
void model_push_full(struct model *m, uint32_t k, uint32_t cache, uint32_t node, uint32_t frames);
uint32_t model_pop_full(struct model *m, uint32_t cache, uint32_t node);
uint32_t model_node(struct model *m, const struct object *o);
/* Lies in the rack. */
static inline bool model_racked(const struct mag *g)
{
	return g->place == MAG_LENT && g->header == MAGAZINE_RACK;
}
/* It was fetched for the depot, which keeps it if it has room. */
void model_fetched(struct model *m, uint32_t k);
/* Magazines of the rack that the daemon fetched, into the depot or not; `except` it offered since. */
void model_sync_rack(struct model *m, uint32_t except);
/* The depot's objects of a cache, or of all, and the rack's, went back; how many. */
uint64_t model_drained(struct model *m, uint32_t cache);
/* Full magazines (but `except`) that the daemon emptied for their room; how many. */
uint32_t model_sync_magazines(struct model *m, uint32_t except);
uint64_t model_bytes(struct model *m, uint32_t slot);
/* What a walk of the slabs that it marked finds. Who takes a magazine from the rack marks a slab
 * after the header, before its first word there: until then the rounds there are missed. */
uint64_t model_bytes_marked(struct model *m, uint32_t slot);
uint32_t model_entries(struct model *m, uint32_t slot); /* SESSIONS: all, names included */
/* The session is gone; the daemon has swept. */
void model_swept(struct model *m, uint32_t slot);
/* The daemon's process is another; it has swept session `dying` (SESSIONS: none) after all else. */
void model_restarted(struct model *m, uint32_t dying);
uint64_t model_collected(struct model *m, uint32_t slot, uint32_t cache);
/* Everything against everything. */
void model_compare(struct model *m);

/* ---- object_model_client.c ---- */

/* A thread of the session goes on with what it does. */
void client_thread(struct model *m, uint32_t slot, uint32_t cache, bool filling);
/* It allocates, claims, returns or frees one object. */
void client_object(struct model *m, uint32_t slot, uint32_t cache, bool filling);
/* Before it adopts or takes. */
void client_note(struct model *m, uint32_t slot, const struct object *o);
/* One exchange by a client: it must succeed, the model knows the word. */
void client_change(struct model *m, struct object *o, uint64_t to);
/* The constructor, before the application sees the object. */
void client_prepare(struct model *m, struct object *o);
/* The daemon has a magazine whose header said DEPOT: kept, or emptied. */
void client_gave(struct model *m, uint32_t k, uint32_t accepted);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What a thread has (thread.c), what it caches (magazine.c), and how others take it (seize.c). Part of
 * client/internal.h, which includes it.
 */
#ifndef CLIENT_LOCAL_H
#define CLIENT_LOCAL_H

/* ---- thread.c, magazine.c, seize.c: what a thread has ---- */

struct kmm_cache;
struct local_class;
struct call_how;
struct thread_cache;

/* What is exchanged with the daemon: page blocks of an order, or objects of a cache. */
struct exchange {
	struct kmm_cache *cache; /* NULL: page blocks */
	unsigned int order;
	bool marked; /* objects that are RETURNED while cached */
	bool told;   /* the daemon is to have what is given on return */
	uint32_t room; /* a take may bring up to so many, if they lie together; at least what it wants */
};

/*
 * A round, in 64 bits: of a page block the pfn, and above it the low half of the generation that
 * its owner word has as long as it is cached; of an object its address in this process.
 */
static inline uint64_t round_of_block(uint32_t pfn, uint64_t word)
{
	return owner_generation(word) << 32 | pfn;
}

/* In what page blocks and objects differ. */
struct local_kind {
	/* Takes 1 to `want` rounds from the daemon: how many in *n. */
	int (*take)(struct kmm *k, struct exchange x, uint32_t gfp, struct call_how *how,
	            uint32_t want, uint64_t out[], uint32_t *n);
	/* Gives rounds to the daemon; the array is scratch. `wait`: it has them on return. */
	void (*give)(struct kmm *k, struct exchange x, uint64_t r[], uint32_t n, bool wait);
	/* Makes a round the caller's own; false: the daemon collected it. NULL: it is. */
	bool (*claim)(struct thread_cache *tc, const struct local_class *lc, uint64_t round);
	/* The room that a class takes is what its magazines can hold, so that fast paths count
	 * nothing; else it is what they hold. */
	bool whole;
};

/* Two magazines of one class; first what fast paths touch. */
struct local_class {
	/* Objects: whom fast paths let pass, see seize.c; NULL: nobody. gate_even: of objects whose
	 * stride is a power of two, and which fill their slabs. */
	_Atomic(struct kmm_cache *) gate_cache, gate_even;
	_Atomic(struct kmm *) gate_session;
	/* Rounds [loaded, top) of the loaded magazine; [top, end) is free. A 0 stands before it. */
	uint64_t *top, *end;
	/* Of objects that begin at the first byte of their slab: an offset in a frame is a multiple of
	 * the stride when offset * unit < unit. 0: the slot has to be computed. */
	uint64_t unit;
	uint64_t *loaded, *previous;
	/* Not on the fast paths from here. */
	const struct local_kind *kind;
	struct kmm_cache *cache; /* NULL: page blocks */
	uint32_t window;         /* when misses began to count: a clock of milliseconds */
	uint16_t misses;
	uint16_t previous_n;
	uint32_t bytes;   /* of one thing */
	uint8_t order;    /* of page blocks, or of a slab */
	uint8_t capacity; /* row of the table that the arrays have place for */
};
_Static_assert(offsetof(struct local_class, kind) == 64, "one cache line");

/* How many rounds are loaded, and how many a magazine holds now. */
static inline uint32_t local_loaded(const struct local_class *lc)
{
	return (uint32_t)(lc->top - lc->loaded);
}
static inline uint32_t local_size(const struct local_class *lc)
{
	return (uint32_t)(lc->end - lc->loaded);
}
/* For another thread than the owner, which may mark the class by the highest byte at any time. */
static inline uint64_t *local_top(struct local_class *lc)
{
	uint64_t top = (uint64_t)(uintptr_t)__atomic_load_n(&lc->top, __ATOMIC_RELAXED);

	return (uint64_t *)(uintptr_t)(top << 8 >> 8);
}
static inline void local_set_top(struct local_class *lc, uint64_t *top)
{
	/* relaxed: the owner looks when the gate is open again, which it opens itself */
	__atomic_store_n(&lc->top, top, __ATOMIC_RELAXED);
}
static inline bool local_is_marked(struct local_class *lc)
{
	/* acquire: pairs with the release of kmm_leave_1() and kmm_leave_at_1() */
	return (uintptr_t)__atomic_load_n(&lc->top, __ATOMIC_ACQUIRE) >> 56 != 0;
}
static inline void local_swap(struct local_class *lc)
{
	uint32_t n = local_loaded(lc), size = local_size(lc);
	uint64_t *rounds = lc->loaded;

	lc->loaded = lc->previous;
	lc->top = lc->loaded + lc->previous_n;
	lc->end = lc->loaded + size;
	lc->previous = rounds;
	lc->previous_n = (uint16_t)n;
}

/* Its objects are a power of two, and fill their slabs. */
static inline bool local_is_even(const struct local_class *lc)
{
	return lc->unit && (lc->unit & (lc->unit - 1)) == 0;
}

/* The objects of a cache; what the slot is computed of is from struct control_cache. */
struct local_objects {
	_Alignas(64) struct local_class class;
	uint32_t inverse, objects, id;
	uint16_t offset;
	uint8_t twos, colour_shift;
	uint64_t life;
	struct local_objects *next; /* of the thread: all that it ever used */
};
_Static_assert(sizeof(struct local_objects) == 128, "two cache lines");

#define ARENA_FIRST ((size_t)256 << 10)
#define ARENA_NEXT ((size_t)1 << 20)
#define MAGAZINE_ROWS 11u

struct arena {
	struct arena *next;
	size_t size;
};

/*
 * What one thread caches of one session, in memory of its own that reads as zeroes in a forked
 * child (MADV_WIPEONFORK). All zeroes is a valid cache: empty, of no session, of a pool without
 * frames. Arrays of rounds come from an arena that begins behind it.
 */
struct thread_cache {
	/* What <kmm/inline.h> knows: struct kmm_thread_1. */
	/* NULL: forked; a mark of thread.c: closed or lost, set by others. */
	_Atomic(struct kmm *) session;
	/* Not 0: the owner is in its magazines, by other paths than those of inline.h, which mark
	 * the class. Written by the owner only; see seize.c. */
	_Atomic uint32_t busy;
	uint32_t id;
	uint64_t held; /* what an owner word says of who: HELD by this session */
	uint8_t *window;
	size_t frames; /* of the window */
	page_desc_t *desc;
	owner_word_t *object_word;
	owner_word_t *word;
	uint16_t kmalloc_place[KMM_KMALLOC_1 / 8 + 1]; /* by (size + 7) / 8; as kmm_cache.place */

	struct control_status *status;
	int64_t room; /* bytes that may still be cached */
	int64_t cap;
	int64_t whole; /* bytes of room that object classes take */
	uint32_t timeout_ms; /* 0: the session's */
	uint32_t pins;       /* functions of the thread that use it beyond calls of the program's */
	int64_t reported;    /* frames told in control memory */
	struct thread_cache *next; /* of the thread; process_lock */
	_Atomic uint32_t seized; /* not 0: another thread is in the magazines; a futex */
	_Atomic uint32_t drain;  /* not 0: the owner is asked to give back objects itself */
	struct thread_cache *seize_next; /* of who seizes */
	uint64_t *marks; /* a bit a page, for bulk checks; NULL until used */
	size_t marks_size;
	uint8_t *arena_at, *arena_end;
	struct arena *arenas;
	uint64_t *spare_array[MAGAZINE_ROWS]; /* arrays out of use, by size */
	_Atomic(struct local_objects *) objects; /* all that were used */
	struct local_class class[PAGE_CLASSES];
	_Alignas(KMM_CLASSES_1) struct local_objects object[CONTROL_CACHES_MAX]; /* by id */
};

/* What programs have compiled in. */
#define SAME_PLACE(inner, a, outer, b)                                                             \
	_Static_assert(offsetof(inner, a) == offsetof(outer, b), "layout of inline.h: " #a)
SAME_PLACE(struct thread_cache, held, struct kmm_thread_1, held);
SAME_PLACE(struct thread_cache, window, struct kmm_thread_1, window);
SAME_PLACE(struct thread_cache, frames, struct kmm_thread_1, frames);
SAME_PLACE(struct thread_cache, desc, struct kmm_thread_1, desc);
SAME_PLACE(struct thread_cache, object_word, struct kmm_thread_1, word);
SAME_PLACE(struct thread_cache, kmalloc_place, struct kmm_thread_1, kmalloc_place);
SAME_PLACE(struct local_objects, class.gate_cache, struct kmm_class_1, gate_cache);
SAME_PLACE(struct local_objects, class.gate_session, struct kmm_class_1, gate_session);
SAME_PLACE(struct local_objects, class.top, struct kmm_class_1, top);
SAME_PLACE(struct local_objects, class.end, struct kmm_class_1, end);
SAME_PLACE(struct local_objects, class.unit, struct kmm_class_1, unit);
SAME_PLACE(struct local_objects, class.loaded, struct kmm_class_1, loaded);
SAME_PLACE(struct local_objects, class.gate_even, struct kmm_class_1, gate_even);
SAME_PLACE(struct local_objects, class.order, struct kmm_class_1, order);
SAME_PLACE(struct local_objects, offset, struct kmm_class_1, offset);
SAME_PLACE(struct local_objects, twos, struct kmm_class_1, twos);
SAME_PLACE(struct local_objects, inverse, struct kmm_class_1, inverse);
SAME_PLACE(struct local_objects, objects, struct kmm_class_1, objects);
SAME_PLACE(struct local_objects, colour_shift, struct kmm_class_1, colour_shift);
_Static_assert(sizeof(struct local_objects) == sizeof(struct kmm_class_1), "layout of inline.h");
_Static_assert(offsetof(struct thread_cache, object) == KMM_CLASSES_1, "layout of inline.h");
_Static_assert((CONTROL_CACHES_MAX - 1) * sizeof(struct local_objects) == KMM_CLASS_MASK_1 &&
               1u << PAGE_DESC_CACHE_SHIFT == sizeof(struct local_objects) &&
               PAGE_DESC_WORD_SHIFT == 32,
               "layout of inline.h");
_Static_assert(KMM_WORD_MASK_1 == (OWNER_WHO_MASK | OWNER_SHARED | OWNER_KEPT),
               "layout of inline.h");

/* A cached block becomes HELD; false: the daemon collected it. */
static inline bool round_claim_block(struct thread_cache *tc, uint64_t round)
{
	owner_word_t *word = &tc->word[(uint32_t)round];
	uint64_t w = owner_load(word);

	return likely(owner_is(w, OWNER_RETURNED, tc->id) &&
	              round_of_block((uint32_t)round, w) == round) &&
	       owner_cas(word, &w, owner_moved(w, OWNER_HELD, tc->id));
}

struct thread {
	struct thread *next, **prev; /* process_lock */
	struct thread_cache *caches;
	char text[ERROR_TEXT_MAX];
};

/* The cache that the thread used last; never NULL. It is kmm_thread_1 of <kmm/inline.h>, which
 * programs read. Initial-exec: one load. */
static inline struct thread_cache *thread_cache_now(void)
{
	return (struct thread_cache *)(void *)kmm_thread_1;
}

/* Not 0: the thread is in a shrinker (gfp_of_thread). */
extern __thread uint32_t thread_shrinking __attribute__((tls_model("initial-exec")));

int thread_init(void); /* once a process */
struct thread *thread_self(void); /* NULL: no memory */
/* The calling thread's cache of k, made when there is none; NULL: no memory, or the session ended.
 * Unmaps the thread's caches of sessions that ended: nothing up the stack may use one. */
struct thread_cache *thread_cache_get(struct kmm *k);
/* The same, but makes and unmaps nothing; NULL: none. */
struct thread_cache *thread_cache_find(struct kmm *k);
/* No thread's cache is k's any more. */
void thread_cache_detach(struct kmm *k);
/* Calls fn for all threads' caches of k; process_lock is held. */
void thread_cache_each(struct kmm *k, void (*fn)(struct thread_cache *tc, void *arg), void *arg);
/* While a function uses one over calls that may ask for it again; NULL: nothing. */
static inline void thread_cache_pin(struct thread_cache *tc)
{
	if (tc)
		tc->pins++;
}
static inline void thread_cache_unpin(struct thread_cache *tc)
{
	if (tc)
		tc->pins--;
}
/* Memory that lives as long as the cache, zeroed, aligned to 64; NULL: none. */
void *thread_cache_memory(struct thread_cache *tc, size_t size);
/* Frees the calling thread's caches of no session. */
void thread_reap(void);
void thread_forget_in_child(void);

void local_class_init(struct thread_cache *tc);
/* A class of objects gets its magazines, as far as there is room. */
void local_class_start(struct kmm *k, struct thread_cache *tc, struct local_class *lc);
/* Magazines of n rounds, as far as there is room. */
void local_class_want(struct kmm *k, struct thread_cache *tc, struct local_class *lc, size_t n);
/* An empty one gives them up. */
void local_class_stop(struct thread_cache *tc, struct local_class *lc);
/* Tells control memory how much the thread caches. */
void thread_cache_report(struct kmm *k, struct thread_cache *tc);
/* Takes one round of class lc, claimed: true. No daemon. */
bool local_take(struct thread_cache *tc, struct local_class *lc, uint64_t *round);
/* Takes up to n; returns how many. */
uint32_t local_take_many(struct thread_cache *tc, struct local_class *lc, uint64_t out[],
                         uint32_t n);
/* Fills the cache from the daemon and takes one. -EAGAIN also when a magazine is not worth it or
 * none is free: one by one may do. */
int local_refill(struct kmm *k, struct thread_cache *tc, struct local_class *lc, uint32_t gfp,
                 struct call_how *how, uint64_t *round);
/* Keeps what is as its kind caches it; false: no room (the caller gives it to the daemon). */
bool local_keep(struct kmm *k, struct thread_cache *tc, struct local_class *lc, uint64_t round);
/* Keeps many; what finds no place is given to the daemon. The array is scratch. */
void local_keep_many(struct kmm *k, struct thread_cache *tc, struct local_class *lc, uint64_t r[],
                     uint32_t n);
/* Gives one class's, or all that the thread caches of k, to the daemon. */
void local_flush_class(struct kmm *k, struct thread_cache *tc, struct local_class *lc, bool wait);
void local_flush(struct kmm *k, struct thread_cache *tc);
/* Only objects. */
void local_flush_objects(struct kmm *k, struct thread_cache *tc, bool wait);
/* Forgets page blocks, without telling. */
void local_forget(struct thread_cache *tc);
/* Around what touches magazines of objects: see seize.c. */
void local_enter(struct thread_cache *tc);
static inline void local_leave(struct thread_cache *tc)
{
	/* release: what was changed is seen by who sees that it is not busy */
	atomic_store_explicit(&tc->busy, 0, memory_order_release);
}
static inline void local_open(struct local_class *lc, struct kmm *k, struct kmm_cache *c)
{
	/* relaxed: only the owner's fast paths read them */
	atomic_store_explicit(&lc->gate_cache, c, memory_order_relaxed);
	atomic_store_explicit(&lc->gate_even, local_is_even(lc) ? c : NULL, memory_order_relaxed);
	atomic_store_explicit(&lc->gate_session, k, memory_order_relaxed);
}
static inline void local_close(struct local_class *lc)
{
	/* relaxed: ordered by the barrier of who seizes, see seize.c */
	atomic_store_explicit(&lc->gate_cache, NULL, memory_order_relaxed);
	atomic_store_explicit(&lc->gate_even, NULL, memory_order_relaxed);
	atomic_store_explicit(&lc->gate_session, NULL, memory_order_relaxed);
}
/* The same for who looks at the gate afterwards. */
static inline void local_busy(struct thread_cache *tc)
{
	/* relaxed: who seizes has a barrier between its stores and its look at this one */
	atomic_store_explicit(&tc->busy, 1, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst); /* the compiler keeps the order */
}
/* Does what drain asks for. */
void local_drain(struct kmm *k, struct thread_cache *tc);

extern const struct local_kind local_blocks, local_held, local_marked;

/* Lets this process see other threads' flags in order: once a session, cheap when repeated. */
void seize_init(void);
/* All objects that other threads of the process cache (of c, or all: NULL) go to the daemon.
 * Threads that cannot be interrupted do it at their next call; how many these are. */
unsigned int seize_objects(struct kmm *k, struct kmm_cache *c, bool wait);
/* The same, and again for threads that were just in their magazines; bounded. The daemon has all on
 * return. */
void seize_patiently(struct kmm *k, struct kmm_cache *c);
/* For the keeper: what all threads cache, itself included, of the cache of that id (0: of all). */
void seize_idle(struct kmm *k, uint32_t id);

#endif

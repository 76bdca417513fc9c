/* SPDX-License-Identifier: MIT */
/*
 * A domain in ordinary memory: mm/, control memory and tables of a small pool without a daemon's
 * threads and sockets. Sessions have no channels; a session that ends is swept at once.
 *
 *   16 sections of 4 MiB (16 Ki frames in all), the last one metadata, TD_HIGH before it HighMem and
 *   Movable; 256 sessions; 64 magazines
 *
 * With TD_WITHOUT_CHECK what is asserted aborts, and libcheck is not needed (fuzz targets).
 *
 * Control memory and the ledger are private mappings of zeroes, as large as real ones and as empty.
 */
#ifndef TESTS_UNIT_TEST_DOMAIN_H
#define TESTS_UNIT_TEST_DOMAIN_H

#ifdef TD_WITHOUT_CHECK
#include "tests/fuzz/check_abort.h"
#else
#include <check.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/cache.h"
#include "daemon/depot.h"
#include "daemon/domain.h"
#include "daemon/grant.h"
#include "daemon/holder.h"
#include "daemon/log.h"
#include "daemon/name.h"
#include "daemon/object.h"
#include "daemon/options.h"
#include "daemon/pool.h"
#include "daemon/session_private.h"
#include "daemon/wait_queue.h"

#ifndef TD_LOG_LEVEL
#define TD_LOG_LEVEL LOG_LEVEL_ERROR
#endif
#define TD_FRAMES (16u << 10)
#define TD_SECTION_ORDER 10u
#define TD_SESSIONS 256u
#define TD_HOLDERS 64u
#define TD_MAGAZINES 64u
#ifndef TD_NODES
#define TD_NODES 1u /* may be a variable */
#endif
#ifndef TD_HIGH
/* sections of the high zones, below the metadata; the last of several is Movable */
#define TD_HIGH 0u
#endif
#ifndef TD_MAPPING
#define TD_MAPPING MAP_PRIVATE /* MAP_SHARED: what is persistent outlives a child */
#endif

struct test_domain {
	struct options options;
	struct pool pool;
	struct kmmd kmmd;
	struct domain *d;
	void *mm_memory, *words, *views, *ledger;
	size_t mm_size, words_size, views_size, ledger_size;
	struct session_record *records;
	struct holder_record *holders;
};

static inline void td_report(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "  finding: %s\n", text);
}

static inline void td_silent(void *ctx, const char *text)
{
	(void)ctx;
	(void)text;
}

static inline void *td_mapped(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	               TD_MAPPING | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	return p;
}

/* Starts the daemon's half over the memory as it is. */
static inline int td_start(struct test_domain *t, bool recovered)
{
	struct mm_config c;
	uint32_t s, n = TD_FRAMES >> TD_SECTION_ORDER;
	int r;

	mm_config_default(&c, TD_FRAMES);
	c.section_order = TD_SECTION_ORDER;
	c.dma_end = 4u << TD_SECTION_ORDER;
	c.cpus = 2;
	c.nodes = TD_NODES;
	memblock_init(&t->pool.memblock);
	ck_assert_int_eq(memblock_add(&t->pool.memblock, 0, (uint64_t)TD_FRAMES << PAGE_SHIFT, 0),
	                 0);
	ck_assert_int_eq(memblock_reserve(&t->pool.memblock,
	                                  (uint64_t)(n - 1) << (TD_SECTION_ORDER + PAGE_SHIFT),
	                                  UINT64_C(1) << (TD_SECTION_ORDER + PAGE_SHIFT),
	                                  "metadata"),
	                 0);
	if (TD_HIGH)
		c.highmem_start = (uint64_t)(n - 1 - TD_HIGH) << TD_SECTION_ORDER;
	if (TD_HIGH > 1)
		c.movable_start = (uint64_t)(n - 2) << TD_SECTION_ORDER;
	t->mm_size = mm_persistent_bytes(&c);
	if (!t->mm_memory)
		t->mm_memory = td_mapped(t->mm_size);
	ck_assert_int_eq(mm_init(&t->pool.mm, &c, t->mm_memory, &t->pool.memblock), 0);
	for (s = 0; s < n && !recovered; s++) {
		mm_section_set(t->pool.mm, (section_id_t){ s },
		               s < n - 1 ? SECTION_ONLINE : SECTION_METADATA, 0, SHM_4K, 1);
		atomic_store(&t->pool.control.section[s],
		             s >= n - 1           ? CONTROL_SECTION_NONE :
		             s >= n - 1 - TD_HIGH ? CONTROL_SECTION_HIGH :
		                                    CONTROL_SECTION_DIRECT);
	}
	for (s = 0; s + 1 < TD_HIGH + 1; s++)
		atomic_store(&t->pool.control.section[n + s], CONTROL_SECTION_HIGH);
	t->pool.recovered = recovered;
	t->kmmd = (struct kmmd){ .options = &t->options, .pool = &t->pool };
	r = domain_new(&t->d, &t->kmmd);
	if (r < 0)
		return r;
	t->kmmd.domain = t->d;
	ck_assert_int_eq(user_table_new(&t->kmmd.users, &t->kmmd), 0);
	ck_assert_int_eq(session_table_new(&t->kmmd.sessions, &t->kmmd), 0);
	ck_assert_int_eq(session_table_recover(t->kmmd.sessions), 0);
	return 0;
}

static inline void td_stop(struct test_domain *t)
{
	t->kmmd.sessions = session_table_free(t->kmmd.sessions);
	t->kmmd.users = user_table_free(t->kmmd.users);
	t->d = domain_free(t->d);
	t->pool.mm = mm_free(t->pool.mm);
}

static inline void td_init(struct test_domain *t)
{
	struct control_geometry g = { .frames = TD_FRAMES,
		                      .high_start = TD_FRAMES - ((1u + TD_HIGH)
		                                                 << TD_SECTION_ORDER),
		                      .high_frames = TD_HIGH << TD_SECTION_ORDER,
		                      .section_order = TD_SECTION_ORDER,
		                      .sessions = TD_SESSIONS,
		                      .magazines = TD_MAGAZINES };
	struct control_layout l;
	struct ledger_layout y;

	memset(t, 0, sizeof(*t));
	log_init(TD_LOG_LEVEL);
	t->options.holders_max = TD_HOLDERS;
	t->options.holders_session_max = TD_HOLDERS - 1;
	t->options.names_user_max = LEDGER_NAMES_MAX;
	ck_assert_int_eq(control_layout_compute(&l, &g), 0);
	ck_assert_int_eq(ledger_layout_compute(&y, &g), 0);
	t->words_size = l.words_size;
	t->views_size = l.views_size;
	t->ledger_size = y.size;
	t->words = td_mapped(l.words_size);
	t->views = td_mapped(l.views_size);
	t->ledger = td_mapped(y.size);
	ledger_attach(&t->pool.ledger, &y, -1, t->ledger);
	ledger_init_high(&t->pool.ledger, &g);
	t->pool.window = td_mapped((size_t)TD_FRAMES << PAGE_SHIFT);
	t->pool.words_fd = t->pool.views_fd = t->pool.ledger_fd = -1;
	t->records = td_mapped(TD_SESSIONS * sizeof(*t->records));
	t->holders = td_mapped(TD_HOLDERS * sizeof(*t->holders));
	control_attach(&t->pool.control, &g, t->words, t->views);
	t->pool.frames = TD_FRAMES;
	t->pool.section_order = TD_SECTION_ORDER;
	t->pool.nr_sections = TD_FRAMES >> TD_SECTION_ORDER;
	t->pool.session = t->records;
	t->pool.nr_sessions = TD_SESSIONS;
	t->pool.holder = t->holders;
	t->pool.nr_holders = TD_HOLDERS;
	ck_assert_int_eq(td_start(t, false), 0);
}

static inline void td_fini(struct test_domain *t)
{
	td_stop(t);
	munmap(t->mm_memory, t->mm_size);
	munmap(t->pool.window, (size_t)TD_FRAMES << PAGE_SHIFT);
	munmap(t->words, t->words_size);
	munmap(t->views, t->views_size);
	munmap(t->ledger, t->ledger_size);
	munmap(t->records, TD_SESSIONS * sizeof(*t->records));
	munmap(t->holders, TD_HOLDERS * sizeof(*t->holders));
}

/* A death of the daemon at this point: only the persistent memory is left. */
static inline void td_restart(struct test_domain *t)
{
	td_stop(t);
	ck_assert_int_eq(td_start(t, true), 0);
}

static inline void td_check(struct test_domain *t)
{
	ck_assert_uint_eq(mm_validate(t->d->zones, td_report, NULL), 0);
	ck_assert_uint_eq(slab_validate(t->d->slabs, td_report, NULL), 0);
	ck_assert_uint_eq(domain_validate(t->d, td_report, NULL), 0);
	ck_assert_uint_eq(cache_validate(t->d, td_report, NULL), 0);
	ck_assert_uint_eq(name_validate(t->d->names, td_report, NULL), 0);
}

/* All that is free, wherever it is kept. */
static inline uint64_t td_free_frames(struct test_domain *t)
{
	exchange_drain(t->d, MM_CPU_NONE);
	grant_collect(t->d, NULL, MM_CPU_NONE);
	object_collect(t->d, NULL, NULL, MM_CPU_NONE);
	slab_shrink_all(t->d->slabs, 0);
	slab_shrink_all(t->d->slabs, 1);
	mm_drain_cpu(t->d->zones, 0);
	mm_drain_cpu(t->d->zones, 1);
	return mm_nr_free(t->d->zones);
}

static inline struct session *td_session_of(struct test_domain *t, const char *name, uid_t uid)
{
	struct session_peer peer = { .uid = uid, .pidfd = -1 };
	struct session *s = NULL;

	peer.user = user_get(t->kmmd.users, uid);
	ck_assert_ptr_nonnull(peer.user);
	user_charge_always(peer.user, USER_SESSIONS, 1);
	ck_assert_int_eq(session_create(t->kmmd.sessions, &peer, name, &s), 0);
	return s;
}

static inline struct session *td_session(struct test_domain *t, const char *name)
{
	return td_session_of(t, name, 0);
}

/* ---- the client's half of the protocol ---- */

static inline owner_word_t *td_word(struct test_domain *t, pfn_t pfn)
{
	return &t->d->control.word[pfn];
}

static inline bool td_change(struct test_domain *t, pfn_t pfn, enum owner_kind from, uint32_t a,
                             enum owner_kind to, uint32_t b)
{
	uint64_t w = owner_load(td_word(t, pfn));

	return owner_is(w, from, a) && owner_cas(td_word(t, pfn), &w, owner_moved(w, to, b));
}

static inline pfn_t td_alloc(struct test_domain *t, struct session *s, gfp_t gfp, uint32_t order)
{
	const char *why = "";
	pfn_t pfn = PFN_NONE;

	ck_assert_int_eq(grant_alloc(t->d, s, 0, gfp, order, &pfn, &why), 0);
	ck_assert(td_change(t, pfn, OWNER_OFFERED, s->id, OWNER_HELD, s->id));
	return pfn;
}

static inline int td_free(struct test_domain *t, struct session *s, pfn_t pfn, uint32_t order)
{
	uint64_t w = owner_load(td_word(t, pfn));
	const char *why = "";

	if (owner_is(w, OWNER_HELD, s->id))
		owner_cas(td_word(t, pfn), &w, owner_given_back(w, OWNER_RETURNED, s->id));
	return grant_free(t->d, s, 0, pfn, order, owner_generation(owner_load(td_word(t, pfn))),
	                  &why);
}

static inline uint32_t td_generation(struct test_domain *t, pfn_t pfn)
{
	return (uint32_t)owner_generation(owner_load(td_word(t, pfn)));
}

/* Claims an offered magazine: its blocks become HELD; how many. */
static inline uint32_t td_take(struct test_domain *t, struct session *s, magazine_id_t m,
                               pfn_t out[])
{
	struct magazine *mag = &t->d->control.magazine[m.nr];
	uint64_t h = magazine_load(mag);
	uint32_t i, n = magazine_count(h), got = 0;

	ck_assert(magazine_is(h, MAGAZINE_OFFERED, s->id));
	ck_assert(magazine_cas(mag, &h, magazine_next(h, MAGAZINE_LOADED, s->id, n)));
	for (i = 0; i < n; i++) {
		pfn_t pfn;

		ck_assert(domain_granule_page(t->d, atomic_load(&mag->round[i]), &pfn));
		if (td_change(t, pfn, OWNER_MAGAZINE, m.nr, OWNER_HELD, s->id))
			out[got++] = pfn;
	}
	return got;
}

/* Fills a LOADED magazine with HELD blocks and sets it to DEPOT. */
static inline void td_load(struct test_domain *t, struct session *s, magazine_id_t m,
                           const pfn_t pfn[], uint32_t n)
{
	struct magazine *mag = &t->d->control.magazine[m.nr];
	uint64_t h = magazine_load(mag);
	uint32_t i;

	if (magazine_is(h, MAGAZINE_OFFERED, s->id)) {
		ck_assert(magazine_cas(mag, &h, magazine_next(h, MAGAZINE_LOADED, s->id, 0)));
		h = magazine_load(mag);
	}
	for (i = 0; i < n; i++) {
		ck_assert(td_change(t, pfn[i], OWNER_HELD, s->id, OWNER_MAGAZINE, m.nr));
		atomic_store(&mag->round[i], domain_granule(t->d, pfn[i]));
	}
	ck_assert(magazine_cas(mag, &h, magazine_next(h, MAGAZINE_DEPOT, 0, n)));
}

/* ---- the same for objects ---- */

static inline struct cache *td_cache(struct test_domain *t, struct session *s, const char *name,
                                     uint64_t size, bool ctor)
{
	const char *why = "";
	uint64_t life = 0;
	uint32_t id = 0;

	ck_assert_int_eq(cache_create(t->d, s, name, size, 0, 0, ctor, &id, &life, &why), 0);
	return cache_by_id(t->d, id);
}

static inline owner_word_t *td_word_of(struct test_domain *t, uint32_t granule)
{
	struct thing thing;

	thing_find(t->d, granule, &thing);
	return thing.word;
}

/* Before the client adopts or takes. */
static inline void td_note(struct test_domain *t, struct session *s, uint32_t granule)
{
	struct thing thing;

	thing_find(t->d, granule, &thing);
	ck_assert(thing.is_object);
	atomic_fetch_or(&control_slab_bits(&t->d->control, s->id)[thing.pfn / 64],
	                UINT64_C(1) << thing.pfn % 64);
}

static inline bool td_object_change(struct test_domain *t, uint32_t granule, enum owner_kind from,
                                    uint32_t a, enum owner_kind to, uint32_t b)
{
	owner_word_t *word = td_word_of(t, granule);
	uint64_t w = owner_load(word);

	return owner_is(w, from, a) && owner_cas(word, &w, owner_moved(w, to, b));
}

/* One object, HELD. */
static inline uint32_t td_object(struct test_domain *t, struct cache *c, struct session *s)
{
	const char *why = "";
	uint32_t granule = 0;

	ck_assert_int_eq(object_alloc(c, s, 0, GFP_KERNEL, false, &granule, &why), 0);
	ck_assert(td_object_change(t, granule, OWNER_OFFERED, s->id, OWNER_HELD, s->id));
	return granule;
}

static inline int td_object_free(struct test_domain *t, struct session *s, uint32_t granule)
{
	owner_word_t *word = td_word_of(t, granule);
	uint64_t w = owner_load(word);
	const char *why = "";

	if (owner_is(w, OWNER_HELD, s->id))
		owner_cas(word, &w, owner_given_back(w, OWNER_RETURNED, s->id));
	return object_free(t->d, s, 0, granule, owner_generation(owner_load(word)), &why);
}

/* Claims an offered magazine: its objects become HELD; how many. */
static inline uint32_t td_take_objects(struct test_domain *t, struct session *s, magazine_id_t m,
                                       uint32_t out[])
{
	struct magazine *mag = &t->d->control.magazine[m.nr];
	uint64_t h = magazine_load(mag);
	uint32_t i, n = magazine_count(h), got = 0;

	ck_assert(magazine_is(h, MAGAZINE_OFFERED, s->id));
	ck_assert(atomic_load(&mag->kind) & MAGAZINE_OF_OBJECTS);
	ck_assert(magazine_cas(mag, &h, magazine_next(h, MAGAZINE_LOADED, s->id, n)));
	for (i = 0; i < n; i++) {
		uint32_t granule = atomic_load(&mag->round[i]);

		td_note(t, s, granule);
		if (td_object_change(t, granule, OWNER_MAGAZINE, m.nr, OWNER_HELD, s->id))
			out[got++] = granule;
	}
	return got;
}

/* Fills a magazine lent to s with HELD objects and sets it to DEPOT; how many were its own. */
static inline uint32_t td_load_objects(struct test_domain *t, struct session *s, magazine_id_t m,
                                       const uint32_t granule[], uint32_t n)
{
	struct magazine *mag = &t->d->control.magazine[m.nr];
	uint64_t h = magazine_load(mag);
	uint32_t i, k = 0;

	if (magazine_is(h, MAGAZINE_OFFERED, s->id)) {
		ck_assert(magazine_cas(mag, &h, magazine_next(h, MAGAZINE_LOADED, s->id, 0)));
		h = magazine_load(mag);
	}
	for (i = 0; i < n; i++) {
		owner_word_t *word = td_word_of(t, granule[i]);
		uint64_t w = owner_load(word);

		if (!owner_is(w, OWNER_HELD, s->id) ||
		    !owner_cas(word, &w, owner_given_back(w, OWNER_MAGAZINE, m.nr)))
			continue;
		atomic_store(&mag->round[k++], granule[i]);
	}
	ck_assert(magazine_cas(mag, &h, magazine_next(h, MAGAZINE_DEPOT, 0, k)));
	return k;
}

#endif

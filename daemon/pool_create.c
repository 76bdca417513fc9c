/* SPDX-License-Identifier: MIT */
/*
 * Making a new pool.
 *
 *   1. geometry from the options, backings that the machine's numbers allow
 *   2. section memfds, mapped into the window; then populated in chunks by one thread a CPU, since
 *      clearing pages is what takes the time. (The memory of the high zones is only reserved: we
 *      touch it hardly ever, and clients map it page by page.) A backing whose memory turns out not
 *      to be there is given up for the next candidate, as a whole.
 *   3. control memory, the ledger, tables; the superblock is written, not committed
 *   4. everything is pushed to the fd store, the section with the superblock first: whatever the
 *      store holds after a death, an uncommitted superblock is among it and says what the rest is
 *   5. after the store's barrier: section words, then the superblock's commit
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "daemon/backing.h"
#include "daemon/fdstore.h"
#include "daemon/lifeline.h"
#include "daemon/log.h"
#include "daemon/options.h"
#include "daemon/pool_private.h"

#define CHUNK ((uint64_t)32 << 20)
#define THREADS_MAX 64u
#define FDS_OTHER 64u /* what the daemon needs besides sections, before any client */

/* Chunks to make present, taken by threads in order. */
struct populate {
	struct pool *pool;
	const struct pool_geometry *g;
	enum shm_backing backing;
	uint64_t chunk, nr_chunks;
	_Atomic uint64_t next;
	_Atomic int error; /* the first one */
};

static void *populate_run(void *arg)
{
	struct populate *w = arg;
	uint64_t i;

	/* relaxed: the counters only divide the work; joining publishes the rest */
	while ((i = atomic_fetch_add_explicit(&w->next, 1, memory_order_relaxed)) < w->nr_chunks &&
	       atomic_load_explicit(&w->error, memory_order_relaxed) == 0) {
		uint64_t at = i * w->chunk;
		int r = 0, none = 0;

		if (!pool_section_absent(w->g, (uint32_t)(at / w->g->section_size)))
			r = pool_piece_populate(w->pool, w->g, at, w->chunk, w->backing);
		if (r < 0)
			atomic_compare_exchange_strong_explicit(&w->error, &none, r,
			                                        memory_order_relaxed,
			                                        memory_order_relaxed);
	}
	return NULL;
}

static unsigned int populate_threads(uint64_t chunks)
{
	cpu_set_t set;
	unsigned int n = 1;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = (unsigned int)CPU_COUNT(&set);
	if (n > THREADS_MAX)
		n = THREADS_MAX;
	return n > chunks ? (unsigned int)chunks : n;
}

static int sections_populate(struct pool *p, const struct pool_geometry *g, enum shm_backing b)
{
	uint64_t chunk = g->section_size < CHUNK ? g->section_size : CHUNK;
	struct populate w = { .pool = p, .g = g, .backing = b };
	pthread_t thread[THREADS_MAX];
	unsigned int n, started = 0, i;
	sigset_t all, old;

	w.chunk = chunk;
	for (i = 0; i < g->nr_sections; i++)
		if (pool_section_backing(g, i, b) == SHM_HUGETLB_1G)
			w.chunk = g->section_size;
	w.nr_chunks = g->size / w.chunk;
	n = populate_threads(w.nr_chunks);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are for the main thread */
	while (started + 1 < n && pthread_create(&thread[started], NULL, populate_run, &w) == 0)
		started++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	populate_run(&w);
	for (i = 0; i < started; i++)
		pthread_join(thread[i], NULL);
	return atomic_load_explicit(&w.error, memory_order_relaxed);
}

static int sections_map(struct pool *p, const struct pool_geometry *g, enum shm_backing b)
{
	uint32_t i;

	for (i = 0; i < g->nr_sections; i++) {
		char name[16], label[32];
		void *at;
		int r;

		snprintf(label, sizeof(label), "kmm-%s", pool_section_name(name, g, i));
		r = shm_memfd_new(&p->section_fd[i], label, g->section_size,
		                  pool_section_backing(g, i, b));
		if (r == 0 && !pool_section_absent(g, i)) /* mapping reserves huge pages */
			r = shm_map(&at, p->window + i * g->section_size, p->section_fd[i],
			            g->section_size, true);
		if (r < 0)
			return r;
	}
	return pool_sections_bind(p, g, 0, g->nr_sections);
}

static void sections_drop(struct pool *p, const struct pool_geometry *g)
{
	uint32_t i;

	shm_window_release(p->window, g->size);
	for (i = 0; i < g->nr_sections; i++) {
		if (p->section_fd[i] >= 0)
			close(p->section_fd[i]);
		p->section_fd[i] = -1;
	}
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Sections of the first candidate whose memory is really there. */
static int sections_make(struct pool *p, const struct pool_geometry *g,
                         const enum shm_backing list[], size_t n, enum shm_backing *got)
{
	int r = -ENOMEM;
	size_t i;

	for (i = 0; i < n && r < 0; i++) {
		double start = seconds();
		char a[32];

		r = sections_map(p, g, list[i]);
		if (r == 0)
			r = sections_populate(p, g, list[i]);
		if (r == 0) {
			*got = list[i];
			log_info("%s of %s memory%s made ready in %.0f ms",
			         backing_size_text(a, g->size - pool_absent_bytes(g)),
			         shm_backing_name(list[i]),
			         pool_zones_differ(g) ?
			                 " (but for zones with a backing of their own)" :
			         pool_high_bytes(g) && list[i] != SHM_4K ?
			                 " (HighMem and Movable of 4k)" : "",
			         (seconds() - start) * 1000);
			break;
		}
		sections_drop(p, g);
		log_write(i + 1 < n ? LOG_LEVEL_WARNING : LOG_LEVEL_ERROR,
		          "%s of %s memory cannot be had (%s): somebody else took it, or a limit of the "
		          "control group or of a node stands in the way%s",
		          backing_size_text(a, g->size - pool_absent_bytes(g)),
		          shm_backing_name(list[i]), strerror(-r),
		          i + 1 < n ? "; trying the next backing" : "");
	}
	return r;
}

static int control_make(struct pool *p, const struct pool_geometry *g, int *views)
{
	uint64_t i;
	uint32_t s;
	int r;

	r = shm_memfd_new(&p->words_fd, "kmm-words0", g->layout.words_size, SHM_4K);
	if (r == 0)
		r = shm_memfd_new(views, "kmm-views0", g->layout.views_size, SHM_4K);
	if (r < 0) {
		log_error("cannot make control memory: %s", strerror(-r));
		return r;
	}
	r = pool_control_map(p, g, p->words_fd, *views, true);
	if (r < 0)
		return r;
	/* Free words of the first generation: no handle is ever 0. */
	for (i = 0; i < control_pages(&g->control); i++)
		owner_store(&p->control.word[i], owner_reborn(0, OWNER_FREE, 0));
	p->control.status->version = CONTROL_VERSION;
	memcpy(p->control.status->uuid, p->uuid, sizeof(p->uuid));
	/* release: pairs with the clients' loads; nobody has mapped it yet */
	atomic_store_explicit(&p->control.status->epoch, p->epoch, memory_order_release);
	for (s = 0; s < g->first_metadata; s++)
		pool_section_mark(p, s, !pool_section_absent(g, s));
	/* of the pages that move */
	for (s = g->first_high; s < g->first_metadata; s++)
		atomic_store_explicit(&p->control.section[g->nr_sections + s - g->first_high],
		                      CONTROL_SECTION_HIGH, memory_order_release);
	return 0;
}

static int ledger_make(struct pool *p, const struct pool_geometry *g)
{
	int r = ledger_create(&p->ledger, &p->ledger_fd, &g->control, p->uuid);

	if (r < 0) {
		char a[32];

		log_error("cannot make the ledger of %s, %s of them at once: %s",
		          backing_size_text(a, g->ledger.size),
		          backing_size_text((char[32]){ 0 }, g->ledger.dense), strerror(-r));
	}
	return r;
}

static int push(struct fdstore *store, const char *name, int fd)
{
	int r = fdstore_push(store, name, fd);

	if (r < 0)
		log_error("cannot push \"%s\" to the service manager's fd store: %s", name,
		          strerror(-r));
	return r;
}

/* One more than the pool's own: the listening socket, when it is ours. */
static size_t descriptors_stored(const struct pool_geometry *g)
{
	return (size_t)g->nr_sections + 5;
}

/* From the top down: the superblock's section comes first. */
static int store_all(struct pool *p, const struct pool_geometry *g, int views,
                     struct fdstore *store)
{
	uint32_t i;
	int r = 0;

	for (i = g->nr_sections; i > 0 && r == 0; i--) {
		char name[16];

		if (i == g->first_metadata) {
			r = push(store, "words0", p->words_fd);
			if (r == 0)
				r = push(store, "views0", views);
			if (r == 0)
				r = push(store, "ledger0", p->ledger_fd);
			if (r == 0)
				r = push(store, LIFELINE_NAME, p->lifeline_fd);
		}
		if (r == 0)
			r = push(store, pool_section_name(name, g, i - 1), p->section_fd[i - 1]);
	}
	if (r < 0)
		return r;
	r = fdstore_barrier(store);
	if (r < 0) {
		log_error("the service manager did not confirm that it keeps the pool: %s",
		          strerror(-r));
		return r;
	}
	if (fdstore_present(store))
		log_info("the fd store holds %zu descriptors for us", descriptors_stored(g));
	else
		log_warning("there is no fd store (no service manager, no --supervise): the pool ends "
		            "with this process");
	return 0;
}

static void commit(struct pool *p, const struct pool_geometry *g, enum shm_backing b,
                   const uint64_t bytes[SHM_NR_BACKINGS])
{
	uint32_t s;

	for (s = 0; s < g->nr_sections; s++)
		mm_section_set(p->mm, (section_id_t){ s },
		               pool_section_absent(g, s) ? SECTION_ABSENT :
		               s < g->first_metadata     ? SECTION_ONLINE :
		                                           SECTION_METADATA,
		               0, (uint8_t)pool_section_tag(p, g, s, b, bytes), 1);
	/* release: all that makes the pool complete is before it; pairs with the load in recovery */
	atomic_store_explicit(&p->superblock->epoch, p->epoch, memory_order_release);
	atomic_store_explicit(&p->superblock->committed, 1, memory_order_release);
}

static int uuid_new(uint8_t uuid[16])
{
	if (getrandom(uuid, 16, 0) != 16)
		return -EIO;
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40); /* version 4 */
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80); /* variant 1 */
	return 0;
}

/* One descriptor a section: more than the usual soft limit allows. */
static int descriptors_suffice(const struct pool_geometry *g)
{
	rlim_t needed = (rlim_t)g->nr_sections + FDS_OTHER;
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur >= needed)
		return 0;
	if (l.rlim_max < needed) {
		log_error("%u sections need %llu descriptors, the limit of open files is %llu: raise it "
		          "(LimitNOFILE=, ulimit -n) or choose larger sections", g->nr_sections,
		          (unsigned long long)needed, (unsigned long long)l.rlim_max);
		return -EMFILE;
	}
	l.rlim_cur = l.rlim_max;
	return setrlimit(RLIMIT_NOFILE, &l) < 0 ? -errno : 0;
}

/* What does not fit the store is lost at the next restart, and nobody would say so. */
static int store_suffices(const struct pool_geometry *g, struct fdstore *store)
{
	size_t needed = descriptors_stored(g), room;
	int r = fdstore_room(store, needed, &room);

	if (r < 0) {
		log_error("the service manager's fd store cannot be tried: %s", strerror(-r));
		return r;
	}
	if (room < needed) {
		log_error("the pool does not fit the service manager's fd store: %zu descriptors are needed "
		          "(%u sections, control memory, lifeline, socket), it takes %zu: set "
		          "FileDescriptorStoreMax=%zu or more (systemctl edit kmmd), or choose larger "
		          "sections", needed, g->nr_sections, room, needed);
		return -ENOSPC;
	}
	return 0;
}

static int pool_build(struct pool *p, const struct pool_geometry *g, const struct options *o,
                      struct fdstore *store, int *views)
{
	struct backing_need need = {
		.pool = g->size - pool_absent_bytes(g),
		.section = g->section_size,
		.control = g->layout.words_dense + pool_views_dense(g) + g->ledger.dense,
		.wanted = o->backing,
		.huge_page = o->huge_page_size,
	};
	enum shm_backing list[BACKING_CANDIDATES], got = SHM_4K;
	uint64_t bytes[SHM_NR_BACKINGS];
	struct shm_machine machine;
	char why[600];
	size_t n;
	int r;

	pool_backing_need(g, &need);
	r = descriptors_suffice(g);
	if (r == 0)
		r = store_suffices(g, store);
	if (r == 0)
		r = shm_machine_read(&machine);
	if (r < 0)
		return r;
	r = backing_candidates(&need, &machine, list, &n, why, sizeof(why));
	if (r < 0) {
		log_error("%s", why);
		return r;
	}
	p->backing = o->backing;
	p->epoch = 1;
	r = uuid_new(p->uuid);
	if (r == 0)
		r = pool_window_reserve(p, g);
	if (r == 0)
		r = sections_make(p, g, list, n, &got);
	if (r < 0)
		return r;
	pool_backing_account(p, g, got, bytes);
	backing_advise(p->advice, sizeof(p->advice), &need, &machine, got, bytes[SHM_4K]);
	r = control_make(p, g, views);
	if (r == 0)
		r = ledger_make(p, g);
	if (r == 0)
		r = lifeline_new(p);
	if (r == 0)
		r = pool_tables_attach(p, g);
	if (r < 0)
		return r;
	p->map_shift = pool_map_shift_of(g, got);
	pool_superblock_fill(p->superblock, g, p->uuid, got);
	r = store_all(p, g, *views, store);
	if (r == 0)
		commit(p, g, got, bytes);
	return r;
}

int pool_create(struct pool **ret, const struct options *o, struct fdstore *store)
{
	struct pool_geometry g;
	struct memblock mb;
	struct pool *p;
	struct pool_backing backing;
	int r, views = -1;

	r = pool_geometry_from_options(&g, o, &mb);
	if (r < 0)
		return r;
	p = pool_new(&g, &mb);
	if (!p)
		return -ENOMEM;
	r = pool_build(p, &g, o, store, &views);
	if (views >= 0)
		close(views); /* mapped, and in the store */
	if (r < 0) {
		pool_close(p);
		return r;
	}
	pool_backing_get(p, &backing);
	log_notice("pool: %s, %u sections, %u of them metadata", backing.text,
	           (uint32_t)(pool_present(p) >> p->section_order), g.nr_sections - g.first_metadata);
	if (pool_absent_bytes(&g))
		log_notice("pool: it can grow to %llu MiB (kmmctl grow)",
		           (unsigned long long)(g.size >> 20));
	if (p->advice[0])
		log_warning("pool: %s", p->advice);
	*ret = p;
	return 0;
}

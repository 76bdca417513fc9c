/* SPDX-License-Identifier: MIT */
/*
 * Taking a pool over from the fd store.
 *
 * Nothing is believed: the superblock's magic, version and checksum, every descriptor's existence,
 * kind, size and seals, the places of the tables, every section's and session's state, and that the
 * control memory and the ledger are this pool's. Whatever is wrong is listed (the first REPORTS_MAX
 * findings) and refused with -EUCLEAN; the store is left as it is, for a daemon that understands it,
 * or for the admin who gives the pool up.
 *
 * A pool of the version before is converted when all of that was found right (pool_superblock.c).
 *
 * Only one state is thrown away: a superblock that is whole and not committed, which is what a
 * start leaves that died before the pool was complete. Nobody was ever granted anything from it.
 *
 * Nothing is populated, since everything is: taking over costs a few system calls a section.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/backing.h"
#include "daemon/fdstore.h"
#include "daemon/lifeline.h"
#include "daemon/log.h"
#include "daemon/options.h"
#include "daemon/pool_private.h"

#define REPORTS_MAX 8u

static const struct log_about damage = { .event = LOG_DAMAGE }, restart = { .event = LOG_RESTART };

/* Findings; more than a few say nothing new. */
struct report {
	unsigned int n;
};

__attribute__((format(printf, 2, 3))) static void report(struct report *rep, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	if (rep->n++ >= REPORTS_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_event(LOG_LEVEL_ERROR, &damage, "pool refused: %s", text);
}

static int report_end(const struct report *rep)
{
	if (rep->n == 0)
		return 0;
	if (rep->n > REPORTS_MAX)
		log_event(LOG_LEVEL_ERROR, &damage, "pool refused: and %u more",
		          rep->n - REPORTS_MAX);
	log_error("pool refused: nothing was changed; to give its contents up and begin anew, stop the "
	          "service and start it again");
	return -EUCLEAN;
}

/* "s12", "m12", "words0", "views0", "ledger0", "life0": the part after `prefix` is a number. */
static bool name_matches(const char *name, const char *prefix, uint32_t *nr)
{
	size_t n = strlen(prefix);
	char *end;
	unsigned long v;

	if (strncmp(name, prefix, n) != 0 || name[n] < '0' || name[n] > '9')
		return false;
	v = strtoul(name + n, &end, 10);
	if (*end != '\0' || v >= MAX_SECTIONS)
		return false;
	*nr = (uint32_t)v;
	return true;
}

static bool name_is_pool(const char *name)
{
	uint32_t nr;

	return name_matches(name, "s", &nr) || name_matches(name, "m", &nr) ||
	       name_matches(name, "words", &nr) || name_matches(name, "views", &nr) ||
	       name_matches(name, "ledger", &nr) || name_matches(name, "life", &nr);
}

/* How many descriptors of a pool there are, and the highest metadata section among them. */
static size_t store_survey(const struct fdstore *store, bool *have_top, uint32_t *top)
{
	size_t left = fdstore_left(store), n = 0, i;

	*have_top = false;
	*top = 0;
	for (i = 0; i < left; i++) {
		const char *name = fdstore_name(store, i);
		uint32_t nr;

		if (!name_is_pool(name))
			continue;
		n++;
		if (!name_matches(name, "m", &nr))
			continue;
		if (!*have_top || nr > *top)
			*top = nr;
		*have_top = true;
	}
	return n;
}

/* Copies the superblock out of the last page of what may be anything. (In the version before it was
 * shorter; the page was there.) */
static bool superblock_read(int fd, struct superblock *sb)
{
	struct stat st;
	size_t page;
	uint8_t *p;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_blksize < (blksize_t)POOL_PAGE)
		return false;
	page = (size_t)st.st_blksize; /* of hugetlb: the huge page, of shmem: 4 KiB or 2 MiB */
	if ((size_t)st.st_size < page || (size_t)st.st_size % page != 0)
		return false;
	p = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, st.st_size - (off_t)page);
	if (p == MAP_FAILED)
		return false;
	memcpy(sb, p + page - POOL_PAGE, sizeof(*sb));
	munmap(p, page);
	return true;
}

/* Removes an incomplete pool from the store and from here. `top`, the superblock's section, which
 * was taken, goes last: whoever dies on the way leaves it to tell the next start what the others
 * are. The store sees the removals in their order; the barrier says that it has seen all. */
static int store_drop(struct fdstore *store, const char *top)
{
	size_t i = 0;
	int r;

	while (i < fdstore_left(store)) {
		char name[32];
		const char *n = fdstore_name(store, i);

		if (!name_is_pool(n)) {
			i++;
			continue;
		}
		snprintf(name, sizeof(name), "%s", n);
		close(fdstore_take(store, name));
		r = fdstore_remove(store, name);
		if (r < 0)
			return r;
	}
	r = fdstore_remove(store, top);
	return r < 0 ? r : fdstore_barrier(store);
}

static void fd_take(struct report *rep, struct fdstore *store, const char *name, int *fd,
                    size_t size, enum shm_backing b)
{
	const char *why;

	*fd = fdstore_take(store, name);
	if (*fd < 0)
		report(rep, "descriptor \"%s\" is missing (systemd: is FileDescriptorStoreMax= large "
		            "enough?)", name);
	else if (shm_memfd_check(*fd, size, b, &why) < 0)
		report(rep, "descriptor \"%s\": %s", name, why);
}

/* A pool of the version before has one if its conversion was interrupted. */
static void lifeline_find(struct report *rep, struct pool *p, const struct superblock *sb,
                          struct fdstore *store)
{
	int fd = fdstore_take(store, LIFELINE_NAME);
	bool demanded = sb->version == METADATA_VERSION && sb->lifeline;
	const char *why;

	if (fd < 0 && demanded)
		report(rep, "descriptor \"" LIFELINE_NAME "\" is missing (systemd: is "
		            "FileDescriptorStoreMax= large enough?)");
	else if (fd >= 0 && lifeline_take(p, fd, &why) < 0)
		report(rep, "descriptor \"" LIFELINE_NAME "\": %s", why);
}

static void fds_take(struct report *rep, struct pool *p, const struct pool_geometry *g,
                     const struct superblock *sb, struct fdstore *store, int *views)
{
	size_t i, left;
	uint32_t s;

	for (s = 0; s < g->nr_sections; s++) {
		char name[16];

		if (p->section_fd[s] < 0) /* the superblock's is at hand already */
			fd_take(rep, store, pool_section_name(name, g, s), &p->section_fd[s],
			        g->section_size,
			        pool_section_backing(g, s, SUPERBLOCK_BACKING(sb->backing)));
	}
	fd_take(rep, store, "words0", &p->words_fd, g->layout.words_size, SHM_4K);
	fd_take(rep, store, "views0", views, g->layout.views_size, SHM_4K);
	fd_take(rep, store, "ledger0", &p->ledger_fd, g->ledger.size, SHM_4K);
	lifeline_find(rep, p, sb, store);
	left = fdstore_left(store);
	for (i = 0; i < left; i++) {
		const char *name = fdstore_name(store, i);

		if (name_is_pool(name))
			report(rep, "descriptor \"%s\" belongs to no part of the pool", name);
	}
}

/* [first, end) but the absent ones: mapping these would reserve huge pages for them. */
static int sections_map(struct pool *p, const struct pool_geometry *g, uint32_t first, uint32_t end)
{
	uint32_t s;
	int r = 0;

	for (s = first; s < end && r == 0; s++) {
		void *at;

		if (pool_section_absent(g, s))
			continue;
		r = shm_map(&at, p->window + s * g->section_size, p->section_fd[s], g->section_size,
		            true);
		if (r < 0)
			log_error("cannot map section %u: %s", s, strerror(-r));
	}
	return r;
}

/* The section table says which are absent. One that became so just now may have its memory still. */
static void absent_find(struct pool *p, struct pool_geometry *g)
{
	struct section_info info;

	for (uint32_t s = 0; s < g->first_metadata; s++) {
		mm_section_get(p->mm, (section_id_t){ s }, &info);
		if (info.state == SECTION_ABSENT)
			pool_section_set_absent(g, s);
	}
}

/* What clients read of each section of a zone goes by its word: whoever died between the two left the word
 * right. */
static void sections_mark(struct pool *p, const struct pool_geometry *g)
{
	struct section_info info;

	for (uint32_t s = 0; s < g->first_metadata; s++) {
		mm_section_get(p->mm, (section_id_t){ s }, &info);
		pool_section_mark(p, s, info.state == SECTION_ONLINE);
	}
}

static void absent_release(struct pool *p, const struct pool_geometry *g)
{
	struct stat st;

	for (uint32_t s = 0; s < g->first_metadata; s++)
		if (pool_section_absent(g, s) &&
		    (fstat(p->section_fd[s], &st) < 0 || st.st_blocks > 0))
			pool_section_release(p, s);
}

/* States, and what the sections lie on. */
static void sections_check(struct report *rep, const struct pool *p, const struct pool_geometry *g,
                           uint64_t bytes[SHM_NR_BACKINGS])
{
	uint32_t s;

	for (s = 0; s < g->nr_sections; s++) {
		bool metadata = s >= g->first_metadata;
		struct section_info info;

		mm_section_get(p->mm, (section_id_t){ s }, &info);
		if (metadata ? info.state != SECTION_METADATA :
		               info.state != SECTION_ONLINE && info.state != SECTION_RETIRED &&
		                       info.state != SECTION_ABSENT)
			report(rep, "section %u is in state %d, as %s it cannot be", s, (int)info.state,
			       metadata ? "metadata" : "part of a zone");
		else if (info.state == SECTION_ONLINE && info.domain != 0)
			report(rep, "section %u belongs to domain %u, which does not exist", s,
			       info.domain);
		if (info.state == SECTION_ABSENT)
			continue;
		bytes[info.backing > SHM_AUTO && info.backing < SHM_NR_BACKINGS ? info.backing : SHM_4K] +=
			g->section_size;
	}
}

static void control_check(struct report *rep, const struct pool *p, const struct superblock *sb)
{
	const struct control_status *st = p->control.status;

	if (st->version != CONTROL_VERSION)
		report(rep, "the control memory is of version %u, not %u", st->version,
		       CONTROL_VERSION);
	else if (memcmp(st->uuid, sb->uuid, sizeof(sb->uuid)) != 0)
		report(rep, "the control memory is of another pool");
}

static void ledger_verify(struct report *rep, const struct pool *p, const struct pool_geometry *g,
                          const struct superblock *sb)
{
	const char *why;

	if (ledger_check(&p->ledger, &g->control, sb->uuid, &why) < 0)
		report(rep, "descriptor \"ledger0\": %s", why);
}

/* Session records that no daemon can have written; there is one domain. */
static void records_check(struct report *rep, const struct pool *p)
{
	for (uint32_t id = 1; id < p->nr_sessions; id++) {
		/* relaxed: nobody else has the pool yet */
		uint64_t word = atomic_load_explicit(&p->session[id].word, memory_order_relaxed);
		uint64_t state = word & 15;

		if (word && (word >> 4 || (state != SESSION_RECORD_LIVE &&
		                           state != SESSION_RECORD_SWEEPING)))
			report(rep, "the record of session %u says %llx, which is no state", id,
			       (unsigned long long)word);
	}
}

static bool high_differs(const struct options *o, const struct pool_geometry *g)
{
	uint64_t end = (uint64_t)g->first_metadata << g->mm.section_order;
	uint64_t movable = g->mm.movable_start < end ? g->mm.movable_start : end;
	uint64_t highmem = g->mm.highmem_start < movable ? g->mm.highmem_start : movable;

	if (pool_sections_of(g, o->movable) != (end - movable) >> g->mm.section_order)
		return true;
	return o->highmem != OPTIONS_HIGHMEM_DEFAULT &&
	       pool_sections_of(g, o->highmem) != (movable - highmem) >> g->mm.section_order;
}

/* What was asked for and is not what there is: the pool that exists wins. */
static void options_compare(const struct options *o, const struct pool_geometry *g,
                            const struct superblock *sb)
{
	enum shm_backing b_is = SUPERBLOCK_BACKING(sb->backing);
	struct pool_geometry wanted = { .size = 0 };
	char a[32], b[32];

	if (o->pool_size != g->size - pool_absent_bytes(g))
		/* what grew or shrank was meant to */
		log_write(o->pool_size <= g->size ? LOG_LEVEL_NOTICE : LOG_LEVEL_WARNING,
		          "pool size %s is configured, the pool that exists has %s and keeps it; kmmctl grow "
		          "and offline change it, or a pool that is made anew",
		          backing_size_text(a, o->pool_size),
		          backing_size_text(b, g->size - pool_absent_bytes(g)));
	if (options_pool_most(o) != g->size && (o->pool_max || options_pool_most(o) > g->size))
		log_warning("a pool of at most %s is configured, the one that exists can have %s",
		            backing_size_text(a, options_pool_most(o)),
		            backing_size_text(b, g->size));
	if (o->section_size && o->section_size != g->section_size)
		log_warning("section size %s is configured, the pool that exists has %s and stays so",
		            backing_size_text(a, o->section_size),
		            backing_size_text(b, g->section_size));
	if (o->nodes != g->mm.nodes)
		log_warning("%u nodes are configured, the pool that exists has %u and stays so",
		            o->nodes, g->mm.nodes);
	if (o->dma_size >> PAGE_SHIFT != g->mm.dma_end ||
	    o->dma32_size >> PAGE_SHIFT != g->mm.dma32_end)
		log_warning("other zone borders are configured than the pool that exists has; they "
		            "stay");
	if (high_differs(o, g))
		log_warning("other sizes of HighMem and Movable are configured than the pool that "
		            "exists has; they stay");
	pool_zone_backings(&wanted, o);
	if (memcmp(wanted.zone_backing, g->zone_backing, sizeof(wanted.zone_backing)) != 0)
		log_warning("other backings of zones are configured than the pool that exists has; "
		            "they stay");
	if (o->backing != SHM_AUTO && o->backing != b_is &&
	    !(o->backing == SHM_HUGETLB_2M && b_is == SHM_HUGETLB_1G))
		log_warning("backing %s is configured, the pool that exists has %s and stays so",
		            shm_backing_name(o->backing),
		            shm_backing_name(b_is));
}

static void backing_texts(struct pool *p, const struct pool_geometry *g, const struct options *o,
                          enum shm_backing b, const uint64_t bytes[SHM_NR_BACKINGS])
{
	struct backing_need need = {
		.pool = g->size - pool_absent_bytes(g),
		.section = g->section_size,
		.wanted = o->backing,
		.huge_page = o->huge_page_size,
	};
	struct shm_machine machine;

	p->backing = o->backing;
	p->map_shift = pool_map_shift_of(g, b);
	pool_backing_need(g, &need);
	if ((b == SHM_THP || b == SHM_4K) && shm_machine_read(&machine) == 0)
		backing_advise(p->advice, sizeof(p->advice), &need, &machine, b,
		               bytes[SHM_4K]);
}

/* All was checked, and nothing was changed so far. */
static int version_step(struct pool *p, struct fdstore *store)
{
	bool older = p->superblock->version == METADATA_VERSION_BEFORE;
	int r = 0;

	if (older && p->lifeline_fd < 0)
		r = lifeline_add(p, store);
	if (r < 0)
		return r;
	pool_convert(p, p->lifeline_fd >= 0);
	if (older)
		log_event(LOG_LEVEL_NOTICE, &restart,
		          "the pool's metadata were of version %u and are of version %u now: only this "
		          "program and later ones take them over from here on",
		          METADATA_VERSION_BEFORE, METADATA_VERSION);
	return 0;
}

static int pool_take_over(struct pool *p, struct pool_geometry *g,
                          const struct superblock *sb, const struct options *o,
                          struct fdstore *store, int *views)
{
	uint64_t bytes[SHM_NR_BACKINGS] = { 0 };
	struct report rep = { 0 };
	int r;

	fds_take(&rep, p, g, sb, store, views);
	r = report_end(&rep);
	if (r == 0)
		r = pool_window_reserve(p, g);
	if (r == 0)
		r = sections_map(p, g, g->first_metadata, g->nr_sections);
	if (r == 0)
		r = pool_control_map(p, g, p->words_fd, *views, false);
	if (r == 0) {
		r = ledger_take(&p->ledger, p->ledger_fd, &g->control);
		if (r < 0)
			log_error("cannot map the ledger: %s", strerror(-r));
	}
	if (r < 0)
		return r;
	control_check(&rep, p, sb);
	ledger_verify(&rep, p, g, sb);
	r = report_end(&rep);
	if (r == 0)
		r = pool_tables_attach(p, g);
	if (r < 0)
		return r;
	absent_find(p, g);
	r = sections_map(p, g, 0, g->first_metadata);
	if (r < 0)
		return r;
	sections_check(&rep, p, g, bytes);
	records_check(&rep, p);
	r = report_end(&rep);
	if (r == 0)
		r = version_step(p, store);
	if (r < 0)
		return r;
	absent_release(p, g);
	sections_mark(p, g);
	options_compare(o, g, sb);
	backing_texts(p, g, o, SUPERBLOCK_BACKING(sb->backing), bytes);
	memcpy(p->uuid, sb->uuid, sizeof(p->uuid));
	p->recovered = true;
	/* relaxed: no other thread yet; the control memory's copy is released to the clients */
	p->epoch = atomic_fetch_add_explicit(&p->superblock->epoch, 1, memory_order_relaxed) + 1;
	atomic_store_explicit(&p->control.status->epoch, p->epoch, memory_order_release);
	return 0;
}

/* For how long there was no daemon, by the clock on the wall. */
static const char *unserved_text(char *buf, size_t size, const struct pool *p)
{
	/* relaxed: for a line of the log */
	uint64_t last = atomic_load_explicit(&p->superblock->served, memory_order_relaxed);
	uint64_t now = (uint64_t)time(NULL);

	buf[0] = '\0';
	if (last && now > last + 1)
		snprintf(buf, size, "; nobody served it for %llu s", (unsigned long long)(now - last));
	return buf;
}

/* The fd of the superblock's section comes along: taken over, also on failure. */
static int pool_recover_from(struct pool **ret, int top_fd, uint32_t top,
                             const struct superblock *sb, const struct options *o,
                             struct fdstore *store)
{
	struct pool_geometry g;
	struct memblock mb;
	struct report rep = { 0 };
	const char *why;
	struct pool_backing backing;
	struct pool *p;
	char away[64];
	int r, views = -1;

	if (pool_geometry_from_superblock(&g, sb, o, &mb, &why) < 0)
		report(&rep, "the superblock describes an impossible pool: %s", why);
	else if (top != g.nr_sections - 1)
		report(&rep, "the superblock is in section %u, of a pool whose last section is %u", top,
		       g.nr_sections - 1);
	else if (shm_memfd_check(top_fd, g.section_size, SUPERBLOCK_BACKING(sb->backing), &why) < 0)
		report(&rep, "descriptor \"m%u\": %s", top, why);
	r = report_end(&rep);
	if (r < 0) {
		close(top_fd);
		return r;
	}
	p = pool_new(&g, &mb);
	if (!p) {
		close(top_fd);
		return -ENOMEM;
	}
	p->section_fd[top] = top_fd;
	r = pool_take_over(p, &g, sb, o, store, &views);
	if (views >= 0)
		close(views); /* mapped, and in the store */
	if (r < 0) {
		pool_close(p);
		return r;
	}
	pool_backing_get(p, &backing);
	log_notice("pool: taken over, start %llu: %s, %u sections, %u of them metadata%s",
	           (unsigned long long)p->epoch, backing.text,
	           (uint32_t)(pool_present(p) >> p->section_order),
	           g.nr_sections - g.first_metadata, unserved_text(away, sizeof(away), p));
	if (p->advice[0])
		log_warning("pool: %s", p->advice);
	*ret = p;
	return 0;
}

int pool_recover(struct pool **ret, const struct options *o, struct fdstore *store)
{
	struct report rep = { 0 };
	struct superblock sb;
	const char *why;
	char name[16];
	bool have_top;
	uint32_t top;
	size_t n;
	int fd, r;

	n = store_survey(store, &have_top, &top);
	if (n == 0)
		return 1;
	if (!have_top) {
		report(&rep, "the fd store holds %zu descriptors of a pool, but no metadata section", n);
		return report_end(&rep);
	}
	snprintf(name, sizeof(name), "m%u", top);
	fd = fdstore_take(store, name);
	if (!superblock_read(fd, &sb))
		report(&rep, "descriptor \"%s\" cannot be read: it is no section", name);
	else if (!pool_superblock_check(&sb, top, &why))
		report(&rep, "%s", why);
	r = report_end(&rep);
	if (r < 0) {
		close(fd);
		return r;
	}
	/* acquire: pairs with the commit of the process that made it */
	if (atomic_load_explicit(&sb.committed, memory_order_acquire) == 1)
		return pool_recover_from(ret, fd, top, &sb, o, store);
	close(fd);
	log_notice("an earlier start died before its pool was complete; it is dropped and a new one "
	           "is made");
	r = store_drop(store, name);
	return r < 0 ? r : 1;
}

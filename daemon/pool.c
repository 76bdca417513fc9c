/* SPDX-License-Identifier: MIT */
/*
 * The pool object: opening, the mappings that making and taking over have in common, closing.
 *
 * All sections are mapped side by side in one window, so that pool address and pointer differ by a
 * constant. The control memory of the one domain is mapped beside it, under the SIGBUS guard,
 * because members may punch holes in what they map writable; the ledger, which nobody else has, is
 * mapped without.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/backing.h"
#include "daemon/lifeline.h"
#include "daemon/log.h"
#include "daemon/options.h"
#include "daemon/pool_private.h"
#include "shm/guard.h"

struct pool *pool_new(const struct pool_geometry *g, const struct memblock *mb)
{
	struct pool *p = calloc(1, sizeof(*p));
	uint32_t i;

	if (!p)
		return NULL;
	p->section_fd = calloc(g->nr_sections, sizeof(*p->section_fd));
	if (!p->section_fd) {
		free(p);
		return NULL;
	}
	for (i = 0; i < g->nr_sections; i++)
		p->section_fd[i] = -1;
	p->words_fd = p->views_fd = p->ledger_fd = -1;
	p->lifeline_fd = p->lifeline_view = -1;
	p->ledger.fd = -1;
	p->frames = g->mm.frames;
	p->metadata_frames = (uint64_t)(g->nr_sections - g->first_metadata) << g->mm.section_order;
	p->section_order = g->mm.section_order;
	p->nr_sections = g->nr_sections;
	p->nr_sessions = g->sessions;
	p->nr_holders = g->holders;
	p->memblock = *mb;
	return p;
}

const char *pool_section_name(char buf[16], const struct pool_geometry *g, uint32_t section)
{
	snprintf(buf, 16, "%c%u", section >= g->first_metadata ? 'm' : 's', section);
	return buf;
}

int pool_window_reserve(struct pool *p, const struct pool_geometry *g)
{
	void *window;
	int r = shm_window_reserve(&window, g->size, g->section_size);

	if (r < 0) {
		char a[32];

		log_error("cannot reserve %s of address space: %s", backing_size_text(a, g->size),
		          strerror(-r));
		return r;
	}
	p->window = window;
	return 0;
}

int pool_tables_attach(struct pool *p, const struct pool_geometry *g)
{
	p->superblock = (struct superblock *)(p->window + g->superblock);
	p->session = (struct session_record *)(p->window + g->session_address);
	p->holder = (struct holder_record *)(p->window + g->holder_address);
	return mm_init(&p->mm, &g->mm, p->window + g->mm_address, &p->memblock);
}

/* populate: so many bytes of its front, a multiple of the page. */
static int control_map_one(void **ret, int fd, size_t size, size_t populate)
{
	int r = shm_map(ret, NULL, fd, size, true);

	if (r == 0) {
		madvise(*ret, size, MADV_NOHUGEPAGE); /* also where the policy is "always" */
		r = populate ? shm_populate(*ret, fd, 0, populate, SHM_4K) : 0;
		if (r < 0)
			munmap(*ret, size);
	}
	if (r < 0) {
		char a[32];

		log_error("cannot map %s of control memory: %s", backing_size_text(a, size),
		          strerror(-r));
	}
	return r;
}

/* The caches' entries follow the descriptors, and as many as there can be caches are dense. */
size_t pool_views_dense(const struct pool_geometry *g)
{
	size_t caches = g->ledger.nr_caches * sizeof(struct control_cache);

	return g->layout.caches + ((caches + POOL_PAGE - 1) & ~(size_t)(POOL_PAGE - 1));
}

int pool_control_map(struct pool *p, const struct pool_geometry *g, int words_fd, int views_fd,
                     bool populate)
{
	void *words, *views;
	int r;

	r = control_map_one(&words, words_fd, g->layout.words_size,
	                    populate ? g->layout.words_dense : 0);
	if (r < 0)
		return r;
	r = control_map_one(&views, views_fd, g->layout.views_size,
	                    populate ? pool_views_dense(g) : 0);
	if (r < 0) {
		munmap(words, g->layout.words_size);
		return r;
	}
	/* From here on pool_close() undoes it. */
	control_attach(&p->control, &g->control, words, views);
	r = guard_install();
	if (r == 0)
		r = guard_add(words, g->layout.words_size);
	if (r == 0)
		r = shm_reopen_readonly(&p->views_fd, views_fd);
	if (r < 0)
		log_error("cannot set up control memory: %s", strerror(-r));
	return r;
}

static void control_unmap(struct pool *p)
{
	struct control_layout l;

	if (!p->control.word || control_layout_compute(&l, &p->control.geometry) < 0)
		return;
	guard_remove(p->control.word);
	munmap((void *)p->control.word, l.words_size);
	munmap(p->control.status, l.views_size);
}

struct pool *pool_close(struct pool *p)
{
	uint32_t i;

	if (!p)
		return NULL;
	mm_free(p->mm);
	control_unmap(p);
	ledger_unmap(&p->ledger);
	if (p->window)
		munmap(p->window, p->frames << PAGE_SHIFT);
	for (i = 0; i < p->nr_sections; i++)
		if (p->section_fd[i] >= 0)
			close(p->section_fd[i]);
	if (p->words_fd >= 0)
		close(p->words_fd);
	if (p->views_fd >= 0)
		close(p->views_fd);
	if (p->ledger_fd >= 0)
		close(p->ledger_fd);
	lifeline_close(p);
	free(p->section_fd);
	free(p);
	return NULL;
}

/* Zone DMA is for devices that are told machine addresses (kmm_dma_address): its memory stays where it
 * is. Pages of hugetlb do of themselves. */
bool pool_section_lock(const struct pool *p, uint32_t section)
{
	size_t size = (size_t)1 << (p->section_order + PAGE_SHIFT);
	struct section_info info;

	mm_section_get(p->mm, (section_id_t){ section }, &info);
	if (info.zone != ZONE_DMA || (info.backing != SHM_4K && info.backing != SHM_THP) ||
	    mlock2(p->window + section * size, size, 0) == 0)
		return true;
	log_warning("zone DMA is not locked in memory: %s; its pages may be swapped out. The limit on "
	            "locked memory (LimitMEMLOCK=) must allow its size", strerror(errno));
	return false;
}

static void dma_lock(const struct pool *p)
{
	struct section_info info;

	for (uint32_t s = 0; s < p->nr_sections; s++) {
		mm_section_get(p->mm, (section_id_t){ s }, &info);
		if (info.state == SECTION_ONLINE && !pool_section_lock(p, s))
			return;
	}
}

int pool_open(struct pool **ret, const struct options *o, struct fdstore *store)
{
	int r = pool_recover(ret, o, store);

	if (r > 0)
		r = pool_create(ret, o, store);
	if (r == 0)
		dma_lock(*ret);
	return r;
}

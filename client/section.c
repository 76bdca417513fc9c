/* SPDX-License-Identifier: MIT */
/*
 * The window: sections of the pool appear in it when something in them is first granted, adopted or
 * looked at. So what a program holds it can use also while the daemon is away.
 *
 * The daemon passes a section's memfd on request; it is mapped at its place, over the reservation,
 * and the descriptor is closed. Huge pages are entered into the page tables at once, which costs a
 * few microseconds a section and saves the faults; 4 KiB pages come as they are touched. Mappings
 * are kept out of core dumps and of forked children.
 *
 * A session that uses several sections probably uses more: from the third on, the neighbours that
 * follow come along.
 *
 * Sections that are mapped piece by piece, elsewhere than in the window (high memory, areas), keep
 * their descriptors, as many as the process can spare (section_file.c): section_fd_get. What was closed
 * for others the daemon passes again.
 */
#include "client/internal.h"
#include "client/probes.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/memfd.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define AHEAD 8u
#define SECTIONS_REQUEST_MAX 16u

static int section_fds(struct kmm *k, struct call_how *how, const uint32_t want[], uint32_t n,
                       kmm_v1_GetSectionsReply *reply, int fds[FRAME_FDS_MAX], size_t *nfds)
{
	kmm_v1_GetSectionsRequest q = kmm_v1_GetSectionsRequest_init_zero;
	int r;

	memcpy(q.section, want, n * sizeof(want[0]));
	q.section_count = (pb_size_t)n;
	r = call_unary(k, how, kmm_v1_Method_ALLOCATOR_GET_SECTIONS,
	               kmm_v1_GetSectionsRequest_fields, &q, kmm_v1_GetSectionsReply_fields, reply,
	               fds, nfds);
	if (r < 0)
		return r;
	if (reply->section_count == *nfds && reply->backing_count == *nfds)
		return 0;
	while (*nfds > 0)
		close(fds[--*nfds]);
	return error_set(EPROTO, "the daemon passed other sections than it named");
}

static bool section_is_direct(struct kmm *k, uint32_t s)
{
	return s < k->nr_sections && atomic_load_explicit(&k->control.section[s],
	                                                  memory_order_relaxed) ==
	                                     CONTROL_SECTION_DIRECT;
}

/* section_lock is held. */
static int section_place(struct kmm *k, uint32_t s, uint32_t backing, int fd)
{
	size_t size = (size_t)1 << k->section_shift;
	uint8_t *at = k->window + ((size_t)s << k->section_shift);
	void *p;
	int r;

	if (atomic_load_explicit(&k->mapped[s], memory_order_relaxed))
		return 0;
	r = shm_map(&p, at, fd, size, true);
	if (r < 0)
		return error_set(-r, "section %u cannot be mapped (%zu MiB)", s, size >> 20);
	if (backing != SHM_4K)
		madvise(at, size,
		        MADV_POPULATE_WRITE); /* else its pages come when they are touched */
	probe_section_map(k->id, s, size);
	/* release: pairs with the acquire in section_map */
	atomic_store_explicit(&k->mapped[s], 1, memory_order_release);
	k->sections_mapped++;
	return 0;
}

static int section_map_locked(struct kmm *k, uint32_t section, struct call_how *how)
{
	kmm_v1_GetSectionsReply reply = kmm_v1_GetSectionsReply_init_zero;
	uint32_t want[SECTIONS_REQUEST_MAX] = { section }, n = 1, s;
	int fds[FRAME_FDS_MAX], r;
	size_t nfds = 0, i;

	if (k->sections_mapped >= 2)
		for (s = section + 1; s <= section + AHEAD; s++)
			if (section_is_direct(k, s) &&
			    !atomic_load_explicit(&k->mapped[s], memory_order_relaxed))
				want[n++] = s;
	r = section_fds(k, how, want, n, &reply, fds, &nfds);
	if (r < 0)
		return r;
	for (i = 0; i < nfds; i++) {
		s = reply.section[i];
		if (section_is_direct(k, s) && r == 0)
			r = section_place(k, s, reply.backing[i], fds[i]);
		close(fds[i]);
	}
	if (r < 0)
		return r;
	if (!atomic_load_explicit(&k->mapped[section], memory_order_relaxed))
		return error_set(EPERM, "the daemon did not pass section %u", section);
	return 0;
}

/* Who has it may wait for the daemon, which comes back through the keeper. */
static int section_lock_get(struct kmm *k, const struct call_how *how)
{
	while (pthread_mutex_trylock(&k->section_lock) != 0) {
		int r = call_wait_thread(k, how);

		if (r < 0)
			return r;
	}
	return 0;
}

static int section_map_with(struct kmm *k, uint32_t section, unsigned int flags)
{
	struct call_how how = call_begin(k, flags);
	int r;

	switch (atomic_load_explicit(&k->control.section[section], memory_order_acquire)) {
	case CONTROL_SECTION_DIRECT:
		break;
	case CONTROL_SECTION_HIGH:
		return error_set(ENOTSUP, "a HighMem page has no address unless it is mapped: "
		                          "kmm_kmap");
	default:
		return error_set(EPERM, "section %u has no memory of the session's domain",
		                 section);
	}
	r = section_lock_get(k, &how);
	if (r < 0)
		return r;
	r = atomic_load_explicit(&k->mapped[section], memory_order_relaxed)
	            ? 0
	            : section_map_locked(k, section, &how);
	pthread_mutex_unlock(&k->section_lock);
	return r;
}

int section_map_slow(struct kmm *k, uint32_t section)
{
	int r = session_enter(k);

	if (r < 0)
		return r;
	r = section_map_with(k, section, 0);
	session_leave(k);
	return r;
}

void section_map_granted(struct kmm *k, uint32_t section)
{
	ERROR_TEXT_SCOPE;

	section_map_with(k, section, CALL_NOWAIT);
}

/* ---- descriptors ---- */

/* section_lock is held, and there is room for one. */
static int section_fd_ask(struct kmm *k, uint32_t section, struct call_how *how, int *fd)
{
	kmm_v1_GetSectionsReply reply = kmm_v1_GetSectionsReply_init_zero;
	int fds[FRAME_FDS_MAX], r;
	size_t nfds = 0, i;

	r = section_fds(k, how, &section, 1, &reply, fds, &nfds);
	if (r < 0)
		return r;
	r = nfds > 0 && reply.section[0] == section
	            ? section_file_add(k, section, fds[0])
	            : error_set(EPERM, "the daemon did not pass section %u", section);
	for (i = r == 0 ? 1 : 0; i < nfds; i++)
		close(fds[i]);
	if (r == 0)
		*fd = fds[0];
	return r;
}

/* section_lock is held. */
static int section_fd_make(struct kmm *k, uint32_t section, struct call_how *how, int *fd)
{
	int r;

	while (!section_file_room()) {
		r = call_wait_thread(k, how);
		if (r < 0)
			return r;
	}
	r = section_fd_ask(k, section, how, fd);
	if (r < 0)
		section_file_no_room();
	return r;
}

int section_fd_get(struct kmm *k, uint32_t section, int *ret)
{
	int fd = section_file_use(k, section), r = 0;
	struct call_how how;

	if (unlikely(fd < 0)) {
		if (section >= k->nr_sections ||
		    atomic_load_explicit(&k->control.section[section], memory_order_acquire) ==
		            CONTROL_SECTION_NONE)
			return error_set(EPERM,
			                 "section %u has no memory of the session's domain", section);
		how = call_begin(k, 0);
		r = section_lock_get(k, &how);
		if (r < 0)
			return r;
		fd = section_file_use(k, section);
		if (fd < 0)
			r = section_fd_make(k, section, &how, &fd);
		pthread_mutex_unlock(&k->section_lock);
	}
	if (r == 0)
		*ret = fd;
	return r;
}

/* SPDX-License-Identifier: MIT */
/*
 * Memory for the sparse parts of control memory and the ledger.
 *
 * Owner words of objects, their out bits, the sessions' slab bits and the racks lie in files that are mostly
 * holes. A range gets its pages by fallocate() before it is used, so that a machine without memory
 * answers -ENOMEM there and not SIGBUS at some later store, in the daemon or in a client; it goes
 * back by punching, which only the daemon does.
 *
 *     words      512 owner words a page: opened and closed exactly
 *     out bits   32,768 a page: opened with the words, never closed, a 64th of them in size
 *     slab bits  32,768 frames a page, one row of pages a session: opened where the daemon writes,
 *                closed as a whole when the session was swept
 *     racks      64 a page: opened when a cache begins, never closed
 *
 * Opening what is open changes nothing and costs a system call.
 */
#include <errno.h>
#include <fcntl.h>

#include "daemon/pool_private.h"

#define FRAMES_PER_PAGE (POOL_PAGE * 8u)

static off_t words_offset(const struct pool *p, const void *at)
{
	return (off_t)((uintptr_t)at - (uintptr_t)p->control.word);
}

static int range_open(const struct pool *p, const void *at, size_t size)
{
	while (fallocate(p->words_fd, 0, words_offset(p, at), (off_t)size) < 0)
		if (errno != EINTR)
			return -ENOMEM;
	return 0;
}

/* Pages that could not be punched stay in use, no more. */
static void range_close(const struct pool *p, const void *at, size_t size)
{
	while (fallocate(p->words_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	                 words_offset(p, at), (off_t)size) < 0)
		if (errno != EINTR)
			return;
}

int pool_words_open(struct pool *p, uint32_t first, uint32_t n)
{
	size_t size = (size_t)n * sizeof(owner_word_t);
	int r;

	if (p->words_fd < 0)
		return 0;
	r = range_open(p, &p->control.object[first], size);
	if (r == 0)
		r = ledger_open_out(&p->ledger, first, n);
	if (r < 0)
		range_close(p, &p->control.object[first], size);
	return r;
}

void pool_words_close(struct pool *p, uint32_t first, uint32_t n)
{
	if (p->words_fd >= 0)
		range_close(p, &p->control.object[first], (size_t)n * sizeof(owner_word_t));
}

int pool_rack_open(struct pool *p, uint32_t cache)
{
	return p->words_fd < 0 ? 0 :
	                         range_open(p, &p->control.rack[cache],
	                                    sizeof(struct control_rack));
}

int pool_slab_bits_open(struct pool *p, uint32_t session, pfn_t pfn)
{
	const uint8_t *row = (const uint8_t *)control_slab_bits(&p->control, session);

	if (p->words_fd < 0)
		return 0;
	return range_open(p, row + (size_t)(pfn / FRAMES_PER_PAGE) * POOL_PAGE, POOL_PAGE);
}

void pool_slab_bits_close(struct pool *p, uint32_t session)
{
	if (p->words_fd >= 0)
		range_close(p, (const void *)control_slab_bits(&p->control, session),
		            p->control.slab_bits_stride);
}

/* SPDX-License-Identifier: MIT */
/*
 * Moving a page of the high zones to another frame. Theory in move.c.
 */
#ifndef DAEMON_MOVE_H
#define DAEMON_MOVE_H

#include "daemon/domain.h"

/*
 * Moves what the page at frame `from` holds to frame `to`: the page keeps its index, owner word,
 * handles and charge, only its frame is another afterwards.
 *
 * from: any frame of the domain; what cannot be moved is refused, nothing is assumed about it.
 * to: a frame of HighMem or Movable that the caller has just allocated for this in mm/, as a block
 *   of order 0 of the domain, and claimed (as by mm_block_take()), so that no member can have it
 *   freed meanwhile. Whatever tag it has: on success it gets that of `from`.
 *
 * 0: `to` is granted, and not the caller's any more. `from` is the caller's: its block is claimed
 *    (as by mm_block_take()), so that nobody else finds it, and mm_free_pages() or whatever the
 *    caller does with a block of its own ends it.
 * On failure nothing has changed: `from` is as it was, `to` is still the caller's, to be used for
 * another page or freed.
 *   -EBUSY   it may not move, or not now: no block of order 0 in a high zone, a free frame, mapped
 *            (OWNER_MAPPED), with further holders (KEPT), cached, in transit, being freed or
 *            adopted at this moment
 *   -EFAULT  its memory cannot be read, or that of `to` written: a member punched a hole
 *   -EINVAL  `to` is not what it has to be
 *
 * Any thread; one page at a time (others wait, for a copy of 4 KiB). Nothing is allocated. Called
 * without any lock of mm/.
 */
int move_page(struct domain *d, pfn_t from, pfn_t to);

/* The page at the frame might be moved at this moment: granted, of order 0 in a high zone, neither
 * mapped nor kept nor cached. For a scan; a look, no promise. */
bool move_possible(const struct domain *d, pfn_t frame);

/* domain_block_get(); a page that was looked for while it changed its frame is found as well. */
bool move_block_get(struct domain *d, uint32_t page, pfn_t *pfn, struct mm_block *b);

/* An owner word as it is while nothing moves: for who met a MOVING one and has to act on it. One that
 * says MOVING even so was never the daemon's: a member scribbled it. That is reported as damage and
 * not believed. Nobody can send, hold or free the thing; it goes with the session that the word
 * names, if the charge says that it was that one's (sweep.c). */
uint64_t move_word(struct domain *d, const owner_word_t *word, uint32_t granule);

#endif

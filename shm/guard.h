/* SPDX-License-Identifier: MIT */
/*
 * Guarded access to memory that others can spoil.
 *
 * A member of a domain can punch holes in memory that it maps writable; touching a hole can raise
 * SIGBUS when the system has no page to fill it. guard_install() sets a SIGBUS handler that, for a
 * fault inside a registered range, maps a page of private zeroes there and lets the access go on:
 * the reader sees zeroes, which cross-checks expose, and the range is marked spoiled. Faults
 * elsewhere end the process as before.
 */
#ifndef SHM_GUARD_H
#define SHM_GUARD_H

#include <stdbool.h>
#include <stddef.h>

#define GUARD_RANGES_MAX 64u

int guard_install(void); /* once a process */
/* -ENOSPC: too many ranges. */
int guard_add(const void *addr, size_t size);
void guard_remove(const void *addr);
bool guard_spoiled(const void *addr); /* the range that begins at addr was patched */

/* Copies from or to memory of this process that may not be there: 0, or -EFAULT instead of a
 * signal (process_vm_readv, process_vm_writev on itself). */
int guard_copy_from(void *to, const void *from, size_t size);
int guard_copy_to(void *to, const void *from, size_t size);

#endif

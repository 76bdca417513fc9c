/* SPDX-License-Identifier: MIT */
/*
 * Machine addresses, for devices that read and write memory by themselves.
 *
 * The kernel tells them by /proc/self/pagemap, a 64-bit word a page: bit 63 present, bits 0 to 54 the
 * frame of the machine, which reads as 0 without CAP_SYS_ADMIN (so that nobody learns from it how to
 * hammer his neighbour's rows). The daemon is not asked: it runs with fewer rights than its users may
 * have, and what the kernel hides from a process it does not pass on.
 *
 * What makes an address worth keeping is that the memory stays where it is: that of ZONE_DMA is locked
 * by the daemon (hugetlb is of itself), and nobody but the kernel's own migration moves it.
 */
#include "client/object.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define PAGEMAP "/proc/self/pagemap"
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_FRAME ((UINT64_C(1) << 55) - 1)

/* The word for the page at p. */
static int pagemap_read(const void *p, uint64_t *word)
{
	off_t at = (off_t)((uintptr_t)p >> FRAME_SHIFT << 3);
	int fd = open(PAGEMAP, O_RDONLY | O_CLOEXEC), e;
	ssize_t n;

	if (fd < 0)
		return error_set(ENOTSUP, "machine addresses are not to be had: %s: %s", PAGEMAP,
		                 strerror(errno));
	n = pread(fd, word, sizeof(*word), at);
	e = n < 0 ? errno : EIO;
	close(fd);
	if (n != sizeof(*word))
		return error_set(ENOTSUP, "machine addresses are not to be had: reading %s: %s",
		                 PAGEMAP, strerror(e));
	return 0;
}

static int machine_address(const void *p, uint64_t *addr)
{
	uint64_t word;
	int r;

	/* it is mapped; the page table has it when it was touched */
	(void)*(const volatile uint8_t *)p;
	r = pagemap_read(p, &word);
	if (r < 0)
		return r;
	if (!(word & PAGEMAP_PRESENT))
		return error_set(ENOTSUP, "the page at %p is not in memory at the moment", p);
	if (!(word & PAGEMAP_FRAME))
		return error_set(ENOTSUP, "the kernel tells machine addresses to processes with "
		                          "CAP_SYS_ADMIN alone");
	*addr = (word & PAGEMAP_FRAME) << FRAME_SHIFT | ((uintptr_t)p & (KMM_PAGE_SIZE - 1));
	return 0;
}

int kmm_dma_address(struct kmm *k, const void *p, uint64_t *addr)
{
	SESSION_SCOPE(k, r);
	unsigned int order;
	uint32_t page, head;
	uintptr_t at;

	if (r < 0)
		return r;
	at = (uintptr_t)p - (uintptr_t)k->window;
	if (at >= k->window_size)
		return address_outside(k, p);
	page = (uint32_t)(at >> FRAME_SHIFT);
	if (page_desc_kind(desc_load(k, page)) != PAGE_SLAB && !page_head(k, page, &head, &order))
		return error_set(ENOENT, "%p lies in no live block or object", p);
	if (!addr)
		return error_set(EINVAL, "there is no place for the address");
	r = section_map(k, page);
	return r < 0 ? r : machine_address(p, addr);
}

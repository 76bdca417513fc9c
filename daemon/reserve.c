/* SPDX-License-Identifier: MIT */
/*
 * Huge pages can be had for sure only while memory is not fragmented: at boot. How many the pool takes
 * follows from its configuration, so the daemon itself tells the kernel, in a run of its own that the unit
 * kmmd-hugepages.service orders before the service (which has no right to do it).
 *
 * The kernel has one number for all programs. It is raised to the pool's pages and those that others are
 * said to need (KMMD_OTHER_HUGE_PAGES), and never lowered; so to run again changes nothing, whether the
 * pool has its pages by then or not.
 */
#include "daemon/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/pool_private.h"

/* The pool's sections that would lie on huge pages, in such pages; without those that max_size leaves room
 * for. */
static int pages_needed(const struct options *o, uint64_t *pages)
{
	enum shm_backing huge = o->huge_page_size >> 30 ? SHM_HUGETLB_1G : SHM_HUGETLB_2M;
	struct pool_geometry g;
	struct memblock mb;
	uint64_t bytes = 0;
	int r = pool_geometry_from_options(&g, o, &mb);

	if (r < 0)
		return r;
	if (g.section_size % o->huge_page_size == 0)
		for (uint32_t i = 0; i < g.nr_sections; i++)
			if (!pool_section_absent(&g, i) && pool_section_backing(&g, i, huge) == huge)
				bytes += g.section_size;
	*pages = bytes / o->huge_page_size;
	return 0;
}

static int count_read(const char *path, uint64_t *count)
{
	FILE *f = fopen(path, "re");
	int r = 0;

	if (!f || fscanf(f, "%" SCNu64, count) != 1)
		r = errno ? -errno : -EIO;
	if (f)
		fclose(f);
	return r;
}

static int count_write(const char *path, uint64_t count)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%" PRIu64 "\n", count), r = 0;
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, (size_t)n) != n)
		r = -errno;
	if (fd >= 0)
		close(fd);
	return r;
}

static uint64_t others_need(void)
{
	const char *text = getenv("KMMD_OTHER_HUGE_PAGES");

	return text ? strtoull(text, NULL, 10) : 0;
}

int reserve_huge_pages(const struct options *o)
{
	uint64_t pool = 0, others = others_need(), wanted, before, after;
	char path[96];
	int r;

	if (o->backing == SHM_4K || o->backing == SHM_THP) {
		log_notice("the pool is not to lie on hugetlb pages: none are reserved");
		return 0;
	}
	r = pages_needed(o, &pool);
	if (r < 0)
		return r;
	if (__builtin_add_overflow(pool, others, &wanted))
		return -EINVAL;
	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/nr_hugepages",
	         o->huge_page_size >> 10);
	errno = 0;
	r = count_read(path, &before);
	if (r == 0 && before < wanted)
		r = count_write(path, wanted);
	if (r == 0)
		r = count_read(path, &after);
	if (r < 0) {
		log_error("huge pages cannot be reserved: %s: %s%s", path, strerror(-r),
		          r == -EACCES || r == -EPERM || r == -EROFS ? " (it takes root)" : "");
		return r;
	}
	if (after < wanted) {
		log_error("the pool takes %" PRIu64 " huge pages of %" PRIu64 " MiB and others %" PRIu64
		          ", the kernel found memory for %" PRIu64 ": reserve them on its command line "
		          "(hugepagesz=%" PRIu64 "M hugepages=%" PRIu64 "), or choose a smaller pool", pool,
		          o->huge_page_size >> 20, others, after, o->huge_page_size >> 20, wanted);
		return -ENOMEM;
	}
	log_notice("%" PRIu64 " huge pages of %" PRIu64 " MiB are reserved, %" PRIu64 " of them for the "
	           "pool (%" PRIu64 " before)", after, o->huge_page_size >> 20, pool, before);
	return 0;
}

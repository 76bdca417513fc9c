/* SPDX-License-Identifier: MIT */
/*
 * The choice of backing, and the words for it. See backing.h.
 *
 * A pool has one backing: a mixture would make the speed of a grant a matter of luck. (But for zones
 * that are given one of their own, and the high zones, which are mapped page by page and lie on 4 KiB
 * pages unless told otherwise.) The choice is
 * made by the machine's numbers before any memory is asked for; who asks for a backing by name gets
 * that or a refusal which says what is missing and the command that helps. The numbers may be
 * stale a moment later; populating decides (pool_create.c).
 *
 * Memory of 4 KiB pages must fit what is available less a thirty-second of it: asking for all would
 * bring the OOM killer instead of an error.
 */
#include "daemon/backing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define SHMEM_POLICY "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define HUGE_1G "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"

const char *backing_size_text(char buf[32], uint64_t bytes)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	unsigned int u = 0;
	uint64_t unit = 1;

	while (u < 4 && bytes / unit >= 1024) {
		unit *= 1024;
		u++;
	}
	if (bytes % unit == 0)
		snprintf(buf, 32, "%" PRIu64 " %s", bytes / unit, units[u]);
	else
		snprintf(buf, 32, "%.2f %s", (double)bytes / (double)unit, units[u]);
	return buf;
}

/* Huge pages of the size asked for: how many the pool takes, how many can be had. */
struct huge_count {
	uint64_t needed, free, missing, total;
	bool one_gib;
};

/* What no zone has a backing of its own for. */
static uint64_t backing_rest(const struct backing_need *need)
{
	return need->pool - need->small - need->thp - need->huge;
}

static struct huge_count huge_count(const struct backing_need *need, const struct shm_machine *m,
                                    uint64_t bytes)
{
	struct huge_count h = { .one_gib = need->huge_page == GIB };
	uint64_t reserved = h.one_gib ? m->huge_1g_reserved : m->huge_2m_reserved;

	h.needed = bytes / need->huge_page;
	h.total = h.one_gib ? m->huge_1g_total : m->huge_2m_total;
	h.free = h.one_gib ? m->huge_1g_free : m->huge_2m_free;
	h.free -= reserved < h.free ? reserved : h.free;
	if (!h.one_gib)
		h.free += m->huge_2m_overcommit;
	h.missing = h.needed > h.free ? h.needed - h.free : 0;
	return h;
}

/* The exact command that makes enough of them. */
static void huge_command(char *text, size_t size, const struct huge_count *h)
{
	uint64_t total = h->total + h->missing;

	if (h->one_gib)
		snprintf(text, size, "echo %" PRIu64 " > " HUGE_1G, total);
	else
		snprintf(text, size, "sysctl vm.nr_hugepages=%" PRIu64, total);
}

static uint64_t memory_usable(const struct shm_machine *m)
{
	return m->memory_available - m->memory_available / 32;
}

static void refuse_memory(char *why, size_t size, const struct shm_machine *m, uint64_t needed)
{
	char a[32], b[32], c[32];

	snprintf(why, size,
	         "the pool does not fit: %s of memory are needed, %s may be used (%s are available%s, "
	         "a thirty-second of that stays free): choose a smaller pool",
	         backing_size_text(a, needed), backing_size_text(b, memory_usable(m)),
	         backing_size_text(c, m->memory_available),
	         m->memory_limit != UINT64_MAX ? " within the control group's limit" : "");
}

static void refuse_huge(char *why, size_t size, const struct backing_need *need,
                        const struct huge_count *h)
{
	char a[32], b[32], command[160];

	huge_command(command, sizeof(command), h);
	snprintf(why, size,
	         "the pool does not fit: %s of huge pages need %" PRIu64 " pages of %s, %" PRIu64
	         " are free, %" PRIu64 " are missing: run \"%s\" as root, or choose another backing",
	         backing_size_text(a, h->needed * need->huge_page), h->needed,
	         backing_size_text(b, need->huge_page), h->free, h->missing, command);
}

/* Auto could have used either. */
static void refuse_huge_too(char *why, size_t size, const struct huge_count *h)
{
	char command[160];
	size_t at = strlen(why);

	huge_command(command, sizeof(command), h);
	snprintf(why + at, size - at,
	         ", or reserve the %" PRIu64 " huge pages that are missing (\"%s\" as root)",
	         h->missing, command);
}

static bool huge_possible(const struct backing_need *need)
{
	return need->section % need->huge_page == 0;
}

int backing_candidates(const struct backing_need *need, const struct shm_machine *m,
                       enum shm_backing list[BACKING_CANDIDATES], size_t *n, char *why,
                       size_t why_size)
{
	enum shm_backing huge = need->huge_page == GIB ? SHM_HUGETLB_1G : SHM_HUGETLB_2M;
	uint64_t rest = backing_rest(need), least = need->control + need->small + need->thp;
	bool wants_huge = need->wanted == SHM_HUGETLB_2M || need->wanted == SHM_HUGETLB_1G;
	struct huge_count h = huge_count(need, m, need->huge + rest);
	struct huge_count must = huge_count(need, m, need->huge + (wants_huge ? rest : 0));
	size_t count = 0;

	if ((wants_huge || need->huge) && !huge_possible(need)) {
		char a[32], b[32];

		snprintf(why, why_size, "huge pages of %s do not fit sections of %s: choose sections "
		         "that are a multiple", backing_size_text(a, need->huge_page),
		         backing_size_text(b, need->section));
		return -EINVAL;
	}
	if (must.missing > 0) {
		refuse_huge(why, why_size, need, &must);
		return -ENOMEM;
	}
	if (least > memory_usable(m) ||
	    (!wants_huge && need->wanted != SHM_AUTO && rest > memory_usable(m) - least)) {
		refuse_memory(why, why_size, m, least + (wants_huge ? 0 : rest));
		return -ENOMEM;
	}
	if ((need->wanted == SHM_THP || need->thp) && !m->shmem_huge) {
		snprintf(why, why_size, "this machine gives no huge pages for shared memory: run \"echo "
		         "advise > " SHMEM_POLICY "\" as root, or choose another backing");
		return -ENOMEM;
	}
	if (need->wanted != SHM_AUTO) {
		list[count++] = wants_huge ? huge : need->wanted;
	} else {
		if (huge_possible(need) && h.missing == 0)
			list[count++] = huge;
		if (rest <= memory_usable(m) - least) {
			if (m->shmem_huge)
				list[count++] = SHM_THP;
			list[count++] = SHM_4K;
		}
	}
	if (count == 0) {
		refuse_memory(why, why_size, m, least + rest);
		if (huge_possible(need))
			refuse_huge_too(why, why_size, &h);
		return -ENOMEM;
	}
	*n = count;
	return 0;
}

void backing_describe(char *text, size_t size, enum shm_backing b, uint64_t b4k, uint64_t b2m,
                      uint64_t b1g)
{
	char all[32], small[32], huge[32];
	int at;

	backing_size_text(all, b4k + b2m + b1g);
	switch (b) {
	case SHM_HUGETLB_1G:
	case SHM_HUGETLB_2M:
		at = snprintf(text, size, "%s of hugetlb %s pages",
		              backing_size_text(huge, b2m + b1g),
		              b == SHM_HUGETLB_1G ? "1 GiB" : "2 MiB");
		if (b4k && at > 0 && (size_t)at < size)
			snprintf(text + at, size - (size_t)at,
			         ", %s of shared memory on 4 KiB pages",
			         backing_size_text(small, b4k));
		break;
	case SHM_THP:
		if (b4k == 0)
			snprintf(text, size, "%s of shared memory on transparent 2 MiB pages", all);
		else
			snprintf(text, size,
			         "%s of shared memory, %s on transparent 2 MiB pages, %s on 4 KiB pages",
			         all, backing_size_text(huge, b2m), backing_size_text(small, b4k));
		break;
	default:
		snprintf(text, size, "%s of shared memory on 4 KiB pages", all);
		break;
	}
}

static void describe_part(char *text, size_t size, uint64_t bytes, const char *what)
{
	size_t at = strlen(text);
	char a[32];

	if (bytes)
		snprintf(text + at, size - at, "%s%s of %s", at ? ", " : "",
		         backing_size_text(a, bytes), what);
}

void backing_describe_mixed(char *text, size_t size, uint64_t b4k, uint64_t thp, uint64_t huge_2m,
                            uint64_t huge_1g)
{
	text[0] = '\0';
	describe_part(text, size, huge_1g, "hugetlb 1 GiB pages");
	describe_part(text, size, huge_2m, "hugetlb 2 MiB pages");
	describe_part(text, size, thp, "shared memory on transparent 2 MiB pages");
	describe_part(text, size, b4k, "shared memory on 4 KiB pages");
}

void backing_advise(char *text, size_t size, const struct backing_need *need,
                    const struct shm_machine *m, enum shm_backing got, uint64_t b4k)
{
	struct huge_count h = huge_count(need, m, need->huge + backing_rest(need));
	char command[160], page[32];
	int at;

	text[0] = '\0';
	if (got == SHM_HUGETLB_2M || got == SHM_HUGETLB_1G)
		return;
	huge_command(command, sizeof(command), &h);
	backing_size_text(page, need->huge_page);
	if (!huge_possible(need))
		at = snprintf(text, size, "Huge pages of %s need sections of at least that size.", page);
	else if (h.missing > 0)
		at = snprintf(text, size,
		              "The pool is not on hugetlb pages: it takes %" PRIu64 " of %s, %" PRIu64
		              " are free, %" PRIu64 " are missing. Run \"%s\" as root and make the pool "
		              "anew (stop and start).",
		              h.needed, page, h.free, h.missing, command);
	else
		at = snprintf(text, size,
		              "The pool is not on hugetlb pages, though %" PRIu64 " of %s are free and it "
		              "takes %" PRIu64 ". Set the backing to auto or hugetlb and make the pool "
		              "anew (stop and start).",
		              h.free, page, h.needed);
	if (b4k > need->small && at > 0 && (size_t)at < size)
		snprintf(text + at, size - (size_t)at,
		         " Transparent huge pages: %s.",
		         m->shmem_huge && got == SHM_4K ?
		                 "they can be had; set the backing to auto or thp" :
		                 "run \"echo advise > " SHMEM_POLICY "\" as root");
}

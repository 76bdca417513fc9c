/* SPDX-License-Identifier: MIT */
/* A pool in ordinary memory, for the tests and benchmarks that link libmm only. */
#ifndef TESTS_UNIT_TEST_MM_H
#define TESTS_UNIT_TEST_MM_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mm/memblock.h"
#include "mm/mm.h"

struct test_pool {
	struct mm_config config;
	struct memblock mb;
	void *memory; /* persistent */
	struct mm *mm;
	struct mm_domain *domain;
};

#define TEST_DOMAIN 7u

static inline void test_report(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "  finding: %s\n", text);
}

static inline void test_count(void *ctx, const char *text)
{
	(void)text;
	++*(size_t *)ctx;
}

/* memblock: all of the pool is memory, nothing reserved */
static inline void test_pool_prepare(struct test_pool *p, const struct mm_config *c)
{
	memset(p, 0, sizeof(*p));
	p->config = *c;
	memblock_init(&p->mb);
	for (uint32_t n = 0; n < c->nodes; n++) {
		uint64_t sections = c->frames >> c->section_order;
		uint64_t first = (sections * n / c->nodes) << c->section_order;
		uint64_t end = (sections * (n + 1) / c->nodes) << c->section_order;

		if (memblock_add(&p->mb, first << PAGE_SHIFT, (end - first) << PAGE_SHIFT, n))
			abort();
	}
	p->memory = aligned_alloc(4096, mm_persistent_bytes(c));
	if (!p->memory)
		abort();
	memset(p->memory, 0, mm_persistent_bytes(c));
}

/* The volatile half, over the persistent memory as it is. */
static inline void test_pool_start(struct test_pool *p)
{
	if (mm_init(&p->mm, &p->config, p->memory, &p->mb) ||
	    mm_domain_new(&p->domain, p->mm, TEST_DOMAIN))
		abort();
}

static inline void test_pool_online(struct test_pool *p)
{
	for (uint32_t s = 0; s < mm_nr_sections(p->mm); s++) {
		struct section_info i;

		mm_section_get(p->mm, (section_id_t){ s }, &i);
		if (i.state != SECTION_RESERVE)
			continue;
		mm_section_set(p->mm, (section_id_t){ s }, SECTION_ONLINE, TEST_DOMAIN, 0, 1);
		if (mm_domain_online(p->domain, (section_id_t){ s }))
			abort();
	}
	mm_domain_ready(p->domain);
}

static inline void test_pool_open(struct test_pool *p, const struct mm_config *c)
{
	test_pool_prepare(p, c);
	test_pool_start(p);
	test_pool_online(p);
}

/* As a process that dies: the volatile half goes, the persistent one stays. */
static inline void test_pool_stop(struct test_pool *p)
{
	p->domain = mm_domain_free(p->domain);
	p->mm = mm_free(p->mm);
}

static inline void test_pool_close(struct test_pool *p)
{
	test_pool_stop(p);
	free(p->memory);
	p->memory = NULL;
}

/* frames in free areas and on per-CPU lists */
static inline uint64_t test_pool_free_frames(const struct test_pool *p)
{
	uint64_t sum = mm_nr_free(p->domain);

	for (uint32_t n = 0; n < p->config.nodes; n++) {
		for (uint32_t z = 0; z < MAX_NR_ZONES; z++) {
			for (uint32_t c = 0; c < p->config.cpus; c++) {
				struct mm_pcp_stats s;

				mm_pcp_stats(p->domain, n, (enum zone_type)z, c, &s);
				sum += s.count;
			}
		}
	}
	return sum;
}

static inline uint64_t test_pool_managed(const struct test_pool *p)
{
	uint64_t sum = 0;

	for (uint32_t n = 0; n < p->config.nodes; n++) {
		for (uint32_t z = 0; z < MAX_NR_ZONES; z++) {
			struct mm_zone_stats s;

			mm_zone_stats(p->domain, n, (enum zone_type)z, &s);
			sum += s.managed;
		}
	}
	return sum;
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Pools that are made and taken over: each start in a process of its own under a manager that keeps
 * the descriptors. Between two starts a test may lose or spoil what the manager keeps.
 */
#ifndef TESTS_UNIT_TEST_POOL_H
#define TESTS_UNIT_TEST_POOL_H

#include "daemon/pool.h"

#include <check.h>
#include <errno.h>
#include <sys/stat.h>

#include "daemon/backing.h"
#include "daemon/fdstore.h"
#include "daemon/options.h"
#include "daemon/pool_private.h"
#include "tests/unit/test_child.h"
#include "tests/unit/test_manager.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static struct manager manager;
static struct options options; /* of the next start */

/* 64 MiB of 4 KiB pages: 16 sections of 4 MiB, the last of them metadata. */
static inline void manager_setup(void)
{
	manager_init(&manager);
	options = (struct options){
		.pool_size = 64 * MIB,
		.backing = SHM_4K,
		.huge_page_size = 2 * MIB,
		.dma_size = 16 * MIB,
		.dma32_size = 4 * GIB,
		.nodes = 1,
		.reactors = 2,
		.sessions_max = 4096,
		.holders_max = 65536,
	};
}

static inline void manager_teardown(void)
{
	manager_fini(&manager);
}

/* One start: opens the pool, looks at it, ends. arg: what to do with it. */
static inline int pool_start(void *arg)
{
	void (*look)(struct pool *p) = (void (*)(struct pool *))arg;
	struct fdstore *store;
	struct pool *p = NULL;
	size_t before;
	int r;

	CHILD_CHECK(fdstore_new(&store) == 0);
	before = fds_open() - fdstore_left(store);
	r = pool_open(&p, &options, store);
	if (r < 0) {
		CHILD_CHECK(p == NULL);
		fdstore_free(store);
		CHILD_CHECK(fds_open() == before);
		return -r;
	}
	if (look)
		look(p);
	CHILD_CHECK(pool_close(p) == NULL);
	fdstore_free(store);
	CHILD_CHECK(fds_open() == before);
	return 0;
}

static inline int start(void (*look)(struct pool *p))
{
	return manager_start(&manager, pool_start, (void *)look);
}

#define START_OK(look) ck_assert_msg(start(look) == 0, "%s", manager.log)
#define START_REFUSED(error, text)                                                        \
	do {                                                                              \
		int got = start(NULL);                                                    \
		ck_assert_msg(got == (error), "status %d\n%s", got, manager.log);         \
		ck_assert_msg(strstr(manager.log, text) != NULL, "no \"%s\" in\n%s", text, \
		              manager.log);                                               \
	} while (0)

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Areas and stacks by random steps, against a played daemon (tests/unit/test_vmalloc.h).
 *
 * The model is a list of what is live, with a number in each page: what is read back at the end, by
 * the area's addresses and by the memory of the page that kmm_vmalloc_to_page names, is what was
 * written. Meanwhile the daemon collects what freed areas keep, mappings and calls fail, memory is
 * short for a while, and freed areas are purged. The library's own structures are walked every 64
 * steps; at the end nothing is out, mapped or listed any more.
 *
 * KMM_TEST_SEED and KMM_TEST_STEPS repeat and lengthen a run.
 */
#include "tests/unit/test_vmalloc.h"

#include <time.h>

#include "tests/suite.h"

#define LIVE 40u

static struct {
	char *p;
	size_t pages;
	uint64_t with;
	bool stack;
} live[LIVE];

static void model_check(unsigned int i)
{
	if (live[i].stack) {
		stamped(live[i].p, live[i].pages, live[i].with);
		return;
	}
	stamped(live[i].p, live[i].pages, live[i].with);
	at_its_page(live[i].p, rnd((uint32_t)live[i].pages), live[i].with);
}

static void model_alloc(unsigned int i)
{
	unsigned int order = rnd(5);

	live[i].stack = !rnd(4);
	live[i].pages = live[i].stack ? 1u << order :
	                rnd(12)       ? 1 + rnd(30) :
	                                1 + rnd(1100);
	fail_map = rnd(20) ? 0 : 1 + (int)rnd(4);
	fail_call = rnd(30) ? 0 : 1 + (int)rnd(3);
	live[i].p = live[i].stack ? kmm_alloc_stack(&k, order) :
	                            kmm_vmalloc(&k, live[i].pages * KMM_PAGE_SIZE - rnd(4096));
	fail_map = fail_call = 0;
	live[i].with = (uint64_t)random() << 20;
	if (live[i].p)
		stamp(live[i].p, live[i].pages, live[i].with);
	else
		ck_assert_int_eq(errno, ENOMEM);
}

static void model_free(unsigned int i)
{
	char *p = live[i].p;

	model_check(i);
	ck_assert_int_eq(live[i].stack ? kmm_vfree(&k, p) : kmm_free_stack(&k, p), -EINVAL);
	ck_assert_int_eq(live[i].stack ? kmm_free_stack(&k, p) : kmm_vfree(&k, p), 0);
	live[i].p = NULL;
}

static void model_step(void)
{
	unsigned int i = rnd(LIVE);

	switch (rnd(40)) {
	case 0:
		collect(1 + rnd(4));
		break;
	case 1:
		vmalloc_purge(&k, true);
		break;
	case 2:
		vmalloc_purge(&k, false);
		collect(1); /* as the keeper has the daemon do */
		break;
	case 3:
		magazines = rnd(2);
		break;
	case 4:
		atomic_store(&k.control.status->pressure, rnd(4) == 0);
		break;
	default:
		if (live[i].p)
			model_free(i);
		else
			model_alloc(i);
		break;
	}
}

static unsigned long setting(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoul(text, NULL, 0) : otherwise;
}

START_TEST(model)
{
	unsigned long steps = setting("KMM_TEST_STEPS", 100000), step;
	unsigned long seed = setting("KMM_TEST_SEED", (unsigned long)time(NULL) * 1000 + _i);

	printf("KMM_TEST_SEED=%lu KMM_TEST_STEPS=%lu\n", seed, steps);
	fflush(stdout);
	srandom((unsigned int)seed);
	memset(live, 0, sizeof(live));
	begin(_i ? 21 : 12);
	for (step = 0; step < steps / 2; step++) {
		model_step();
		if (step % 64 == 0)
			valid();
	}
	atomic_store(&k.control.status->pressure, 0);
	for (unsigned int i = 0; i < LIVE; i++)
		if (live[i].p)
			model_free(i);
	valid();
	end();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vmalloc model");
	TCase *t = tcase_create("model");

	tcase_set_timeout(t, 600);
	tcase_add_loop_test(t, model, 0, 2);
	suite_add_tcase(s, t);
	return suite_status(s);
}

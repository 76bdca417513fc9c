/* SPDX-License-Identifier: MIT */
/*
 * A client killed at every instruction of what it does with objects.
 *
 * For each scenario a client is brought to the point where the call begins and single-stepped; the
 * first is killed before the first instruction, the next one instruction later, and so on until the
 * call returns. After each death:
 *
 *   - the daemon has swept the session;
 *   - the test's own object, which the client was shown, is the test's still, or was adopted and
 *     swept: one of the two;
 *   - no object of the cache is out, and fsck has no finding.
 *
 * Calls that ask the daemon are thousands of instructions, most of them in the C library; of those
 * LONG_DEATHS are taken, shifted with the scenario, unless KMM_TEST_ALL=1.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/step/step.h"

#define EACH_UP_TO 1500ul /* instructions */
#define LONG_DEATHS 20ul
#define CACHE "stepped"
#define CHECKED "stepped-checked"
#define SIZE 96

struct run {
	const struct daemon *d;
	const struct scenario *scenario;
	kmm_handle_t handle; /* of the test's object */
};

/* Of the client. */
struct client {
	struct kmm *k;
	struct kmm_cache *c;
	kmm_handle_t handle;
	void *p;
	void *many[128];
};

struct scenario {
	const char *name;
	void (*prepare)(struct client *x);
	void (*act)(struct client *x);
	bool checked;
};

static void have(struct client *x)
{
	x->p = kmm_cache_alloc(x->c, KMM_GFP_KERNEL);
	must(x->p);
}

static void allocate(struct client *x)
{
	x->p = kmm_cache_alloc(x->c, KMM_GFP_KERNEL);
}

static void give_back(struct client *x)
{
	kmm_cache_free(x->c, x->p);
}

static void cached(struct client *x)
{
	have(x);
	give_back(x);
}

static void flush(struct client *x)
{
	kmm_flush(x->k);
}

static void flushed(struct client *x)
{
	cached(x);
	flush(x);
}

static void have_many(struct client *x)
{
	must(kmm_cache_alloc_bulk(x->c, KMM_GFP_KERNEL, 40, x->many) == 40);
}

static void free_many(struct client *x)
{
	kmm_cache_free_bulk(x->c, 40, x->many);
}

static void allocate_many(struct client *x)
{
	kmm_cache_alloc_bulk(x->c, KMM_GFP_KERNEL, 8, x->many);
}

static void name_it(struct client *x)
{
	kmm_handle(x->k, x->p);
}

static void adopt(struct client *x)
{
	x->p = kmm_adopt(x->k, x->handle);
}

static void adopted(struct client *x)
{
	adopt(x);
	must(x->p);
}

static void look(struct client *x)
{
	x->p = kmm_pointer(x->k, x->handle);
	must(x->p);
}

static void get(struct client *x)
{
	kmm_get(x->k, x->p);
}

static void got(struct client *x)
{
	look(x);
	must(kmm_get(x->k, x->p) == 0);
}

static void got_twice(struct client *x)
{
	got(x);
	get(x);
}

static void put(struct client *x)
{
	kmm_put(x->k, x->p);
}

static void get_handle(struct client *x)
{
	x->p = kmm_get_handle(x->k, x->handle);
}

static void have_bytes(struct client *x)
{
	x->p = kmm_kmalloc(x->k, 64, KMM_GFP_KERNEL);
	must(x->p);
}

static void bytes(struct client *x)
{
	x->p = kmm_kmalloc(x->k, 64, KMM_GFP_KERNEL);
}

static void free_bytes(struct client *x)
{
	kmm_kfree(x->k, x->p);
}

static void cached_bytes(struct client *x)
{
	have_bytes(x);
	free_bytes(x);
}

static void shared(struct client *x)
{
	have(x);
	must(kmm_handle(x->k, x->p));
}

static const struct scenario scenarios[] = {
	{ "allocate", cached, allocate, false },
	{ "free", have, give_back, false },
	{ "free what a handle was made of", shared, give_back, false },
	{ "allocate 8", cached, allocate_many, false },
	{ "free 40", have_many, free_many, false },
	{ "allocate, checked", cached, allocate, true },
	{ "free, checked", have, give_back, true },
	{ "kmalloc", cached_bytes, bytes, false },
	{ "kfree", have_bytes, free_bytes, false },
	{ "handle", have, name_it, false },
	{ "adopt", cached, adopt, false },
	{ "free what was adopted", adopted, give_back, false },
	{ "get again", got, get, false },
	{ "put, not the last", got_twice, put, false },
	{ "refill", flushed, allocate, false },
	{ "refill, checked", flushed, allocate, true },
	{ "return", cached, flush, false },
	{ "get", look, get, false },
	{ "get by handle", cached, get_handle, false },
	{ "put", got, put, false },
};

static void client_body(void *arg)
{
	const struct run *r = arg;
	struct client x = { .handle = r->handle };

	x.k = session_start(r->d);
	x.c = r->scenario->checked ?
		      kmm_cache_create(x.k, CHECKED, SIZE, 0, KMM_SLAB_CONSISTENCY_CHECKS, NULL) :
		      kmm_cache_create(x.k, CACHE, SIZE, 0, 0, NULL);
	must(x.c);
	r->scenario->prepare(&x);
	step_begin();
	r->scenario->act(&x);
	step_end();
}

/* ---- the test ---- */

struct test {
	struct daemon d;
	struct observer *o;
	struct kmm *k;
	struct kmm_cache *c, *checked;
	void *object;
	unsigned long deaths, adopted;
};

static void show(struct test *t, struct run *r)
{
	t->object = kmm_cache_alloc(t->c, KMM_GFP_KERNEL);
	must(t->object);
	r->handle = kmm_handle(t->k, t->object);
	must(r->handle);
}

/* What the death left. */
static void verify(struct test *t, struct run *r, unsigned long at)
{
	int e;

	wait_until(observer_sessions(t->o) == 1);
	e = kmm_cache_free(t->c, t->object);
	if (e != 0 && e != -ESTALE)
		fprintf(stderr, "%s, instruction %lu: the object is neither: %d, %s\n",
			r->scenario->name, at, e, kmm_error_text());
	must(e == 0 || e == -ESTALE);
	t->adopted += e == -ESTALE;
	must(kmm_flush(t->k) == 0);
	if (observer_active(t->o, CACHE) != 0 || observer_active(t->o, CHECKED) != 0 ||
	    observer_active(t->o, "kmalloc-64") != 0) {
		fprintf(stderr, "%s, instruction %lu: %ld, %ld and %ld objects are still out\n",
			r->scenario->name, at, observer_active(t->o, CACHE),
			observer_active(t->o, CHECKED), observer_active(t->o, "kmalloc-64"));
		must(!"all is free");
	}
	must(observer_clean(t->o));
}

static bool kill_at(struct test *t, struct run *r, unsigned long at)
{
	struct step_client c;
	bool over;

	show(t, r);
	step_client_start(&c, client_body, r);
	step_client_run(&c, at);
	over = c.over;
	step_client_kill(&c);
	t->deaths++;
	verify(t, r, at);
	return !over;
}

static unsigned long length(struct test *t, struct run *r)
{
	struct step_client c;
	unsigned long n;

	show(t, r);
	step_client_start(&c, client_body, r);
	n = step_client_run(&c, 10000000);
	must(c.over);
	must(step_client_finish(&c) == 0);
	verify(t, r, n);
	return n;
}

static void run_scenario(struct test *t, const struct scenario *s, unsigned long shift)
{
	struct run r = { .d = &t->d, .scenario = s };
	unsigned long n = length(t, &r), stride = 1, i;

	if (n > EACH_UP_TO && !step_all())
		stride = n / LONG_DEATHS;
	/* a run may be longer than the one that was measured */
	for (i = stride > 1 ? shift % stride : 0; kill_at(t, &r, i) && i < 2 * n; i += stride)
		continue;
	printf("%-32s %6lu instructions, killed at %s%lu\n", s->name, n,
	       stride > 1 ? "every " : "each, every ", stride);
	fflush(stdout);
}

int main(int argc, char *argv[])
{
	static const char *const args[] = { "--pool-size", "16M", NULL };
	struct test t = { 0 };
	unsigned i;

	daemon_start(&t.d, args);
	t.o = observer_open(&t.d);
	t.k = session_start(&t.d);
	t.c = kmm_cache_create(t.k, CACHE, SIZE, 0, 0, NULL);
	t.checked = kmm_cache_create(t.k, CHECKED, SIZE, 0, KMM_SLAB_CONSISTENCY_CHECKS, NULL);
	must(t.c && t.checked);
	for (i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
		if (argc < 2 || strcmp(argv[1], scenarios[i].name) == 0)
			run_scenario(&t, &scenarios[i], i);
	printf("%lu deaths, in %lu of them the object had been adopted\n", t.deaths, t.adopted);
	must(kmm_cache_destroy(t.c) == 0 && kmm_cache_destroy(t.checked) == 0);
	must(kmm_close(t.k) == 0);
	observer_close(t.o);
	must(daemon_stop(&t.d) == 0);
	printf("1 passed, 0 failed\n");
	return 0;
}

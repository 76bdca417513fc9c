/* SPDX-License-Identifier: MIT */
/*
 * A client killed at every instruction of what it does with objects, with pages of high memory, with areas
 * and stacks.
 *
 * For each scenario a client is brought to the point where the call begins and single-stepped; the
 * first is killed before the first instruction, the next one instruction later, and so on until the
 * call returns. After each death:
 *
 *   - the daemon has swept the session;
 *   - the test's own object, which the client was shown, is the test's still, or was adopted and
 *     swept: one of the two;
 *   - the test's page of high memory, which the client was shown, is held by the test alone;
 *   - no object of the cache is out, and fsck has no finding.
 *
 * That is each instruction of allocate, free, adopt, get and put, the daemon's help included where they
 * ask for it. Of the calls that are variations of these for other caches or for many objects, and are
 * ten thousand instructions long, LONG_DEATHS are taken, shifted with the scenario, unless
 * KMM_TEST_ALL=1.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/step/step.h"

#define LONG_DEATHS 200ul
#define STRAYS 3 /* in a row, before a place is come to by counting */
#define CACHE "stepped"
#define CHECKED "stepped-checked"
#define SIZE 96

struct run {
	const struct daemon *d;
	const struct scenario *scenario;
	kmm_handle_t handle; /* of the test's object */
	kmm_handle_t page;   /* of the test's page of high memory */
};

/* Of the client. */
struct client {
	struct kmm *k;
	struct kmm_cache *c;
	kmm_handle_t handle, page;
	void *p;
	void *many[128];
};

struct scenario {
	const char *name;
	void (*prepare)(struct client *x);
	void (*act)(struct client *x);
	unsigned how;
};
#define EACH 0u       /* instruction */
#define SOME 1u       /* of them */
#define OF_CHECKED 2u /* of the cache that checks, not of the plain one */

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

/* A thread's magazines, few rounds each, are in the rack when it has ended. */
static void *come_and_go(void *arg)
{
	struct client *x = arg;
	int i;

	for (i = 0; i < 12; i++) {
		x->many[i] = kmm_cache_alloc(x->c, KMM_GFP_KERNEL);
		must(x->many[i]);
	}
	for (i = 0; i < 12; i++)
		must(kmm_cache_free(x->c, x->many[i]) == 0);
	return NULL;
}

static void racked(struct client *x)
{
	pthread_t thread;

	must(pthread_create(&thread, NULL, come_and_go, x) == 0);
	must(pthread_join(thread, NULL) == 0);
}

static void have_one_by_one(struct client *x)
{
	int i;

	for (i = 0; i < 128; i++) {
		x->many[i] = kmm_cache_alloc(x->c, KMM_GFP_KERNEL);
		must(x->many[i]);
	}
}

/* More than a thread keeps: some go to the rack. */
static void free_one_by_one(struct client *x)
{
	int i;

	for (i = 0; i < 128; i++)
		kmm_cache_free(x->c, x->many[i]);
}

static void have_high(struct client *x)
{
	x->p = kmm_alloc_pages(x->k, KMM_GFP_HIGHUSER_MOVABLE, 0);
	must(x->p && !kmm_page_address(x->k, x->p));
}

static void map(struct client *x)
{
	kmm_kmap(x->k, x->p);
}

static void unmap(struct client *x)
{
	kmm_kunmap(x->k, x->p);
}

static void mapped(struct client *x)
{
	have_high(x);
	must(kmm_kmap(x->k, x->p));
}

static void mapped_before(struct client *x)
{
	mapped(x);
	unmap(x);
}

static void free_high(struct client *x)
{
	kmm_free_pages(x->k, x->p, 0);
}

static void look_at_page(struct client *x)
{
	x->p = kmm_pointer(x->k, x->page);
	must(x->p);
}

/* What mapping needs is there. */
static void other_at_hand(struct client *x)
{
	mapped_before(x);
	look_at_page(x);
}

static void mapped_of_other(struct client *x)
{
	look_at_page(x);
	must(kmm_kmap(x->k, x->p));
}

static void area(struct client *x)
{
	x->p = kmm_vmalloc(x->k, 21 * KMM_PAGE_SIZE);
}

static void have_area(struct client *x)
{
	area(x);
	must(x->p);
}

static void free_area(struct client *x)
{
	kmm_vfree(x->k, x->p);
}

static void kept_area(struct client *x)
{
	have_area(x);
	free_area(x);
}

static void stack(struct client *x)
{
	x->p = kmm_alloc_stack(x->k, 2);
}

static void have_stack(struct client *x)
{
	stack(x);
	must(x->p);
}

static void free_stack(struct client *x)
{
	kmm_free_stack(x->k, x->p);
}

static const struct scenario scenarios[] = {
	{ "allocate", cached, allocate, EACH },
	{ "free", have, give_back, EACH },
	{ "free what a handle was made of", shared, give_back, EACH },
	{ "allocate 8", cached, allocate_many, SOME },
	{ "free 40", have_many, free_many, EACH },
	{ "allocate, checked", cached, allocate, EACH | OF_CHECKED },
	{ "free, checked", have, give_back, EACH | OF_CHECKED },
	{ "kmalloc", cached_bytes, bytes, EACH },
	{ "kfree", have_bytes, free_bytes, EACH },
	{ "handle", have, name_it, EACH },
	{ "adopt", cached, adopt, EACH },
	{ "free what was adopted", adopted, give_back, EACH },
	{ "get again", got, get, EACH },
	{ "put, not the last", got_twice, put, EACH },
	{ "refill", flushed, allocate, EACH },
	{ "refill, checked", flushed, allocate, SOME | OF_CHECKED },
	{ "refill from the rack", racked, allocate, SOME },
	{ "return to the rack", have_one_by_one, free_one_by_one, SOME },
	{ "return", cached, flush, SOME },
	{ "get", look, get, EACH },
	{ "get by handle", cached, get_handle, EACH },
	{ "put", got, put, EACH },
	{ "kmap, the first", have_high, map, SOME },
	{ "kmap again", mapped_before, map, EACH },
	{ "kunmap", mapped, unmap, EACH },
	{ "free what was mapped", mapped_before, free_high, SOME },
	{ "kmap of another's page", other_at_hand, map, SOME },
	{ "kunmap of another's page", mapped_of_other, unmap, SOME },
	{ "vmalloc", cached, area, SOME },
	{ "vmalloc again", kept_area, area, SOME },
	{ "vfree", have_area, free_area, SOME },
	{ "purge", kept_area, flush, SOME },
	{ "stack", cached, stack, SOME },
	{ "free a stack", have_stack, free_stack, SOME },
};

static void client_body(void *arg)
{
	const struct run *r = arg;
	struct client x = { .handle = r->handle, .page = r->page };

	x.k = session_start(r->d);
	x.c = r->scenario->how & OF_CHECKED ?
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
	struct kmm_page *page;
	unsigned long deaths, adopted, strayed;
};

static void show(struct test *t, struct run *r)
{
	t->object = kmm_cache_alloc(t->c, KMM_GFP_KERNEL);
	must(t->object);
	r->handle = kmm_handle(t->k, t->object);
	must(r->handle);
	r->page = kmm_handle(t->k, t->page);
	must(r->page);
}

/* What the death left. */
static void verify(struct test *t, struct run *r, unsigned long at)
{
	int e;

	observer_wait_sessions(t->o, 1);
	e = kmm_cache_free(t->c, t->object);
	if (e != 0 && e != -ESTALE)
		fprintf(stderr, "%s, instruction %lu: the object is neither: %d, %s\n",
			r->scenario->name, at, e, kmm_error_text());
	must(e == 0 || e == -ESTALE);
	t->adopted += e == -ESTALE;
	must(kmm_page_count(t->k, t->page) == 1);
	must(kmm_flush(t->k) == 0);
	if (observer_active_all(t->o) != 0) {
		fprintf(stderr, "%s, instruction %lu: %ld, %ld and %ld objects are still out\n",
			r->scenario->name, at, observer_active(t->o, CACHE),
			observer_active(t->o, CHECKED), observer_active(t->o, "kmalloc-64"));
		must(!"all is free");
	}
	must(observer_clean(t->o));
}

/* One that comes to the end, step by step. */
static void record(struct test *t, struct run *r, struct step_way *w)
{
	struct step_client c;

	step_way_clear(w);
	show(t, r);
	step_client_start(&c, client_body, r);
	step_client_record(&c, w);
	must(step_client_finish(&c) == 0);
	verify(t, r, w->n);
}

/* Kills one that has come to the i-th instruction of the way; false: it went another way, and died
 * elsewhere. Without a way: after i steps. */
static bool kill_at(struct test *t, struct run *r, const struct step_way *w, unsigned long i)
{
	struct step_client c;
	bool there = true;

	show(t, r);
	step_client_start(&c, client_body, r);
	if (w)
		there = step_client_follow(&c, w, i);
	else
		step_client_run(&c, i);
	step_client_kill(&c);
	t->deaths++;
	t->strayed += !there;
	verify(t, r, i);
	return there;
}

/* What a client does depends on numbers that grow with each death (generations, in messages of variable
 * length) and on what other threads do. So who strays shows a new way, and the rest is died on that. */
static void run_scenario(struct test *t, const struct scenario *s, unsigned long shift)
{
	struct run r = { .d = &t->d, .scenario = s };
	struct step_way w = { 0 };
	unsigned long stride = 1, i, deaths = t->deaths, before;
	unsigned strayed = 0;

	record(t, &r, &w);
	if ((s->how & SOME) && w.n > LONG_DEATHS && !step_all())
		stride = w.n / LONG_DEATHS;
	i = stride > 1 ? shift % stride : 0;
	while (i < w.n) {
		if (kill_at(t, &r, strayed < STRAYS ? &w : NULL, i)) {
			strayed = 0;
			i += stride;
		} else if (++strayed < STRAYS) {
			before = w.n;
			record(t, &r, &w);
			/* what came to be there before it is not passed over */
			if (w.n > before)
				i = i > w.n - before ? i - (w.n - before) : 0;
		}
	}
	printf("%-32s %6lu instructions, one of %lu: %lu deaths\n", s->name, w.n, stride,
	       t->deaths - deaths);
	fflush(stdout);
	step_way_clear(&w);
}

int main(int argc, char *argv[])
{
	struct test t = { 0 };
	const char *const args[] = { "--config", t.d.config, "--pool-size", "24M", "--backing",
				     "4k",       "--reactors", "1",         NULL };
	uint64_t free_at_start;
	unsigned i;

	step_bind_now(argv);
	daemon_prepare(&t.d);
	daemon_configure(&t.d, STEP_SMALL_TABLES "[pool]\nhighmem = 4M\n");
	daemon_launch(&t.d, args);
	free_at_start = daemon_free_pages(&t.d);
	t.o = observer_open(&t.d);
	t.k = session_start(&t.d);
	t.c = kmm_cache_create(t.k, CACHE, SIZE, 0, 0, NULL);
	t.checked = kmm_cache_create(t.k, CHECKED, SIZE, 0, KMM_SLAB_CONSISTENCY_CHECKS, NULL);
	must(t.c && t.checked);
	t.page = kmm_alloc_pages(t.k, KMM_GFP_HIGHUSER_MOVABLE, 0);
	must(t.page && !kmm_page_address(t.k, t.page));
	for (i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
		if (argc < 2 || strcmp(argv[1], scenarios[i].name) == 0)
			run_scenario(&t, &scenarios[i], i);
	printf("%lu deaths, in %lu of them the object had been adopted; %lu of them elsewhere\n",
	       t.deaths, t.adopted, t.strayed);
	must(kmm_free_pages(t.k, t.page, 0) == 0);
	must(kmm_cache_destroy(t.c) == 0 && kmm_cache_destroy(t.checked) == 0);
	must(kmm_close(t.k) == 0);
	observer_close(t.o);
	wait_until(daemon_free_pages(&t.d) == free_at_start);
	must(daemon_stop(&t.d) == 0);
	printf("1 passed, 0 failed\n");
	return 0;
}

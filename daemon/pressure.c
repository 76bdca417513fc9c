/* SPDX-License-Identifier: MIT */
/*
 * Pressure: somebody waits, so everybody gives back what he only keeps.
 *
 * It begins when the wait queue gets its first request and ends with its last. Meanwhile
 * control_status.pressure tells clients to send what they free to the daemon, an event asks them to
 * drop what they cache, and the daemon fetches memory itself, in rounds:
 *
 *     main loop   reactor_broadcast: every reactor drains its per-CPU magazines and lists
 *     worker      the depot's magazines and all words marked RETURNED go to the zones and slabs,
 *                 empty slabs to the zones; the queue is kicked
 *                 compaction, in slices between which others have the worker; the queue is kicked
 *     main loop   pause, then the next round while anybody waits
 *
 * The pause is 10 ms, or four times what the worker's parts took, so that they stay below a fifth of
 * the worker's time however large the pool is.
 *
 * The event says what reclaim may do for those who wait (the flags of one of them) and how hard it is
 * to look: a priority, as Linux's reclaim has it, 12 at first. While they go on waiting it comes again
 * after each round, one less each time, and from 0 on after 100 ms, 200 ms and so on up to a second: to
 * the sessions that have shrinkers (control_session.shrinkers, a hint), and only where __GFP_FS lets
 * these be called. When the first with __GFP_FS joins others that wait without it begins anew.
 *
 * The beginning and the end are seen under the wait queue's lock; they set the flag and post to the
 * main loop, whose part is `step`. One round runs at a time (`running`, main loop only).
 *
 * Without pressure, too, a request with __GFP_KSWAPD_RECLAIM that found memory low (GFP_NOWAIT, say) has
 * caches emptied that nobody uses: per-CPU lists, depots, empty slabs, at the next tick. What threads
 * cache stays theirs until somebody waits.
 *
 * Also without pressure the depot keeps no more than it uses: every 15 seconds the worker takes out
 * what lay there untouched since the last time (depot_trim).
 */
#include "daemon/pressure.h"

#include <errno.h>
#include <stdlib.h>
#include <uv.h>

#include "daemon/compact.h"
#include "daemon/object.h"
#include "daemon/reactor.h"
#include "daemon/reclaim.h"
#include "daemon/worker.h"
#include "mm/vmstat.h"
#include "proto/kmm.pb-c.h"

#define PRESSURE_PAUSE_MS 10u
#define TRIM_SECONDS 15u
#define PRIORITY_DEFAULT 12u
#define AGAIN_MIN_MS 100u
#define AGAIN_MAX_MS 1000u

struct pressure {
	struct domain *d;
	struct reactor_work begun; /* to the main loop: the first waits */
	_Atomic uint32_t posted;   /* `begun` is under way */
	struct reactor_work ended; /* to the main loop: the round is over */
	uint64_t pause_ms;         /* written by the worker before `ended` is posted */
	struct worker_job compact; /* the worker's: the round's second half, ... */
	uint64_t took;             /* and ns of its own that the round has taken so far */
	struct worker_job trim;
	_Atomic uint32_t trimming; /* `trim` is under way */
	uint32_t trim_ticks;       /* of the ticking thread */
	uint64_t freed;            /* the worker's: frames ever freed, as of the last round */
	_Atomic uint64_t said;     /* by the last event: gfp, and the priority above it */
	/* main loop only */
	uv_timer_t *timer;
	bool running;
	uint64_t again_at, again_ms; /* when to say it again at priority 0, and the pause before */
};

static void step(struct pressure *p);

static void pressure_begin(void *ctx)
{
	struct pressure *p = ctx;
	struct reactor *mainloop = p->d->kmmd->main;

	/* release: pairs with the clients' acquire loads */
	atomic_store_explicit(&p->d->control.status->pressure, 1, memory_order_release);
	/* acq_rel pairs with the clearing in begun_run() */
	if (mainloop && !atomic_exchange_explicit(&p->posted, 1, memory_order_acq_rel))
		reactor_post(mainloop, &p->begun);
}

static void pressure_end(void *ctx)
{
	struct pressure *p = ctx;

	atomic_store_explicit(&p->d->control.status->pressure, 0, memory_order_release);
}

bool pressure_is_on(const struct domain *d)
{
	/* acquire: after what the broadcast did under the sessions' lock, and the other way round */
	return atomic_load_explicit(&d->control.status->pressure, memory_order_acquire) != 0;
}

const struct wait_queue_ops pressure_ops = { .begin = pressure_begin, .end = pressure_end };

/* ---- telling the sessions ---- */

struct pressure_said pressure_said(const struct pressure *p)
{
	/* acquire: pairs with the release in say(); a later say() finds the reader's stream */
	uint64_t said = atomic_load_explicit(&p->said, memory_order_acquire);

	return (struct pressure_said){ .gfp = (uint32_t)said, .priority = (uint32_t)(said >> 32) };
}

static void say(struct pressure *p, uint32_t gfp, uint32_t priority, bool again)
{
	atomic_store_explicit(&p->said, gfp | (uint64_t)priority << 32, memory_order_release);
	session_broadcast_pressure(p->d->kmmd->sessions, gfp, priority, again);
}

static void say_first(struct pressure *p)
{
	p->again_ms = AGAIN_MIN_MS;
	p->again_at = 0;
	say(p, wait_queue_gfp(p->d->waiters), PRIORITY_DEFAULT, false);
}

/* A round is over, and some wait still. */
static void say_again(struct pressure *p)
{
	struct pressure_said last = pressure_said(p);
	uint32_t gfp = wait_queue_gfp(p->d->waiters);
	uint64_t now = uv_hrtime() / 1000000;

	if (!(gfp & __GFP_FS))
		return;
	if (!(last.gfp & __GFP_FS)) {
		say_first(p);
	} else if (last.priority > 0) {
		say(p, gfp, last.priority - 1, true);
		p->again_at = now + p->again_ms;
	} else if (now >= p->again_at) {
		say(p, gfp, 0, true);
		p->again_ms = p->again_ms * 2 < AGAIN_MAX_MS ? p->again_ms * 2 : AGAIN_MAX_MS;
		p->again_at = now + p->again_ms;
	}
}

/* ---- a round ---- */

static void drain_reactor(struct reactor *r, void *arg)
{
	struct pressure *p = arg;

	slab_drain_cpu(p->d->slabs, r->index);
	mm_drain_cpu(p->d->zones, r->index);
}

/* Something was freed since the last round, by whomever: those who may fail hope on. */
static bool progress(struct pressure *p)
{
	uint64_t freed = 0, last = p->freed;
	struct mm_zone_stats s;

	for (uint32_t node = 0; node < mm_nr_nodes(p->d->zones); node++)
		for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++) {
			mm_zone_stats(p->d->zones, node, (enum zone_type)zone, &s);
			freed += s.freed;
		}
	p->freed = freed;
	return freed != last;
}

static void round_over(struct pressure *p)
{
	uint64_t pause = p->took / 1000000 * 4;

	p->pause_ms = pause > PRESSURE_PAUSE_MS ? pause : PRESSURE_PAUSE_MS;
	reactor_post(p->d->kmmd->main, &p->ended);
}

/* What is still missing may be missing in one piece only. */
static void compact_slice(struct worker_job *job)
{
	struct pressure *p = (struct pressure *)((char *)job - offsetof(struct pressure, compact));
	uint64_t start = uv_hrtime();
	bool got, more = compact_round_step(p->d, &got);

	if (got)
		wait_queue_kick(p->d->waiters);
	if (!more)
		wait_queue_round(p->d->waiters, progress(p));
	p->took += uv_hrtime() - start;
	if (more)
		worker_submit_later(p->d->kmmd->worker, job);
	else
		round_over(p);
}

static void collect(void *arg)
{
	struct pressure *p = arg;
	uint64_t start = uv_hrtime();

	reclaim_begin(RECLAIM_DIRECT);
	exchange_drain(p->d, MM_CPU_NONE);
	if (wait_queue_waiting(p->d->waiters)) {
		grant_collect(p->d, NULL, MM_CPU_NONE);
		object_collect(p->d, NULL, NULL, MM_CPU_NONE);
		slab_shrink_all(p->d->slabs, MM_CPU_NONE);
	}
	reclaim_end();
	wait_queue_kick(p->d->waiters);
	compact_round_begin(p->d);
	p->took = uv_hrtime() - start;
	compact_slice(&p->compact);
}

static void timer_run(uv_timer_t *timer)
{
	step(timer->data);
}

static void pause_start(struct pressure *p, struct reactor *r, uint64_t ms)
{
	if (!p->timer) {
		p->timer = calloc(1, sizeof(*p->timer));
		if (!p->timer)
			return; /* the next free kicks; the next beginning tries again */
		uv_timer_init(&r->loop, p->timer);
		p->timer->data = p;
	}
	uv_timer_start(p->timer, timer_run, ms, 0);
}

static void step(struct pressure *p)
{
	struct kmmd *kmmd = p->d->kmmd;

	if (p->running || !wait_queue_waiting(p->d->waiters))
		return;
	if (reactor_broadcast(kmmd, drain_reactor, collect, p) == 0)
		p->running = true;
	else
		pause_start(p, kmmd->main, PRESSURE_PAUSE_MS);
}

static void ended_run(struct reactor *r, struct reactor_work *w)
{
	struct pressure *p = (struct pressure *)((char *)w - offsetof(struct pressure, ended));

	p->running = false;
	if (!wait_queue_waiting(p->d->waiters))
		return;
	say_again(p);
	pause_start(p, r, p->pause_ms);
}

static void begun_run(struct reactor *r, struct reactor_work *w)
{
	struct pressure *p = (struct pressure *)((char *)w - offsetof(struct pressure, begun));

	(void)r;
	atomic_store_explicit(&p->posted, 0, memory_order_release);
	say_first(p);
	step(p);
}

/* ---- trimming ---- */

static void trim_run(struct worker_job *job)
{
	struct pressure *p = (struct pressure *)((char *)job - offsetof(struct pressure, trim));

	reclaim_begin(RECLAIM_BACKGROUND);
	exchange_trim(p->d, MM_CPU_NONE);
	reclaim_end();
	vm_count(p->d->zones, VM_PAGEOUTRUN, 1);
	/* release: pairs with the exchange in pressure_tick() */
	atomic_store_explicit(&p->trimming, 0, memory_order_release);
}

/* On the worker, the reactors' lists are empty. */
static void background_collect(void *arg)
{
	struct pressure *p = arg;

	reclaim_begin(RECLAIM_BACKGROUND);
	exchange_drain(p->d, MM_CPU_NONE);
	slab_shrink_all(p->d->slabs, MM_CPU_NONE);
	reclaim_end();
	vm_count(p->d->zones, VM_PAGEOUTRUN, 1);
	/* release: as in trim_run() */
	atomic_store_explicit(&p->trimming, 0, memory_order_release);
}

static void background_begin(struct pressure *p)
{
	struct kmmd *kmmd = p->d->kmmd;

	if (!mm_reclaim_wanted(p->d->zones) || wait_queue_waiting(p->d->waiters) || !kmmd->worker ||
	    atomic_exchange_explicit(&p->trimming, 1, memory_order_acquire))
		return;
	if (reactor_broadcast(kmmd, drain_reactor, background_collect, p) < 0)
		atomic_store_explicit(&p->trimming, 0, memory_order_release);
}

void pressure_tick(struct pressure *p)
{
	background_begin(p);
	if (++p->trim_ticks < TRIM_SECONDS)
		return;
	p->trim_ticks = 0;
	/* acquire: the last run is over */
	if (atomic_exchange_explicit(&p->trimming, 1, memory_order_acquire))
		return;
	if (p->d->kmmd->worker)
		worker_submit(p->d->kmmd->worker, &p->trim);
	else
		trim_run(&p->trim);
}

int pressure_new(struct pressure **ret, struct domain *d)
{
	struct pressure *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->d = d;
	p->begun.run = begun_run;
	p->ended.run = ended_run;
	p->trim.run = trim_run;
	p->compact.run = compact_slice;
	*ret = p;
	return 0;
}

static void timer_closed(uv_handle_t *handle)
{
	free(handle);
}

struct pressure *pressure_free(struct pressure *p)
{
	if (!p)
		return NULL;
	if (p->timer)
		uv_close((uv_handle_t *)p->timer, timer_closed);
	free(p);
	return NULL;
}

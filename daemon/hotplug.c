/* SPDX-License-Identifier: MIT */
/*
 * Sections come and go while the pool is in use: service_grow.c, service_offline.c.
 *
 * One of these calls at a time (kmmd->hotplug). All that they do is the worker's, in steps of which each is
 * a job behind all others', so that nobody waits for more than one of them. Whoever cancels has the answer
 * when it is over: what has begun ends by itself, but for a daemon that stops.
 *
 * A death on the way leaves each section online and free to use, or absent, with memory perhaps that the
 * next start gives back (pool_recover.c). The section's word decides; the mark that members read is stored
 * from it at each start.
 */
#include "daemon/hotplug.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "daemon/depot.h"
#include "daemon/domain.h"
#include "daemon/pool.h"
#include "daemon/wait_queue.h"

bool hotplug_begin(struct rpc_call *call)
{
	/* acquire: pairs with the release in hotplug_end() */
	if (!atomic_exchange_explicit(&call->kmmd->hotplug, true, memory_order_acquire))
		return true;
	service_refuse(call, -EBUSY, "sections are coming or going already; try again when that is done");
	return false;
}

void hotplug_end(struct kmmd *k)
{
	if (wait_queue_waiting(k->domain->waiters))
		wait_queue_kick(k->domain->waiters);
	/* release: pairs with the exchange above */
	atomic_store_explicit(&k->hotplug, false, memory_order_release);
}

void hotplug_refuse(struct hotplug_call *c, int result, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->why, sizeof(c->why), fmt, ap);
	va_end(ap);
	c->result = result;
}

void hotplug_next(struct hotplug_call *c, void (*run)(struct worker_job *job))
{
	c->job.job.run = run;
	worker_submit_later(c->job.kmmd->worker, &c->job.job);
}

void hotplug_limits(struct kmmd *k)
{
	mm_domain_ready(k->domain->zones);
	depot_limit(k->domain->depot, pool_present(k->pool) / DOMAIN_DEPOT_PART);
}

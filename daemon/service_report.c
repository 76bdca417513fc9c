/* SPDX-License-Identifier: MIT */
/*
 * What clients tell without asking for anything.
 *
 * Report: what a client found wrong with an object, or a stack of its own.
 *
 * The finding is counted with the object's cache and becomes a line of the log that names the cache,
 * the object and the sessions involved. A client may say what it likes, so nothing else follows from
 * it, and each user's lines are limited (log_rate.h).
 *
 * Reclaimed: how many objects its shrinkers were asked for, which is counted (vmstat's slabs_scanned);
 * no more at once than there can be.
 */
#include <inttypes.h>
#include <stdio.h>

#include "daemon/cache.h"
#include "daemon/log_about.h"
#include "daemon/object.h"
#include "daemon/service.h"
#include "mm/vmstat.h"
#include "proto/kmm.pb-c.h"

#define TEXT_MAX 400u /* kmm.options: ReportRequest.text */

static const char *kind_text(Kmm__V1__ReportRequest__Kind kind)
{
	switch (kind) {
	case KMM__V1__REPORT_REQUEST__KIND__OVERRUN:
		return "overrun";
	case KMM__V1__REPORT_REQUEST__KIND__USE_AFTER_FREE:
		return "use after free";
	case KMM__V1__REPORT_REQUEST__KIND__DOUBLE_FREE:
		return "double free";
	case KMM__V1__REPORT_REQUEST__KIND__FOREIGN_FREE:
		return "foreign free";
	default:
		return "finding";
	}
}

static void copy_text(char to[TEXT_MAX + 1], const char *from)
{
	size_t i;

	for (i = 0; from[i] && i < TEXT_MAX; i++)
		to[i] = (unsigned char)from[i] < 0x20 || from[i] == 0x7f ? '?' : from[i];
	to[i] = '\0';
}

static void session_text(char to[48], const char *what, uint32_t id)
{
	if (id)
		snprintf(to, 48, ", %s by session %u", what, id);
	else
		to[0] = '\0';
}

static void write_line(struct rpc_call *call, const Kmm__V1__ReportRequest *q, uint64_t address,
                       const char *cache)
{
	struct log_about about = log_about_call(LOG_FINDING, call);
	char text[TEXT_MAX + 1], allocated[48], freed[48];

	copy_text(text, q->text);
	if (q->kind == KMM__V1__REPORT_REQUEST__KIND__STACK_OVERRUN) {
		log_event(LOG_LEVEL_WARNING, &about, "stack overrun reported: %s", text);
		return;
	}
	session_text(allocated, "allocated", q->allocated_by);
	session_text(freed, "freed", q->freed_by);
	log_event(LOG_LEVEL_WARNING, &about,
	          "%s reported: cache %s, object at pool address %" PRIx64 "%s%s%s%s",
	          kind_text(q->kind), cache, address, allocated, freed, *text ? ": " : "", text);
}

void service_report(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__ReportRequest *q = (const Kmm__V1__ReportRequest *)request;
	Kmm__V1__ReportReply reply = KMM__V1__REPORT_REPLY__INIT;
	struct domain *d = call->kmmd->domain;
	uint64_t address = (uint64_t)q->granule << d->granule_shift;
	char name[64] = "none";
	struct slab_object o;
	struct cache *c;
	bool out;

	if (thing_granule_ok(d, q->granule) && slab_object_at(d->slabs, address, &o, &out)) {
		c = cache_of(d, o.cache);
		/* relaxed: a counter for reports */
		atomic_fetch_add_explicit(&c->reports, 1, memory_order_relaxed);
		snprintf(name, sizeof(name), "%.63s", kmem_cache_record(o.cache)->name);
	}
	write_line(call, q, address, name);
	rpc_reply(call, &reply.base);
}

void service_reclaimed(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__ReclaimedRequest *q = (const Kmm__V1__ReclaimedRequest *)request;
	Kmm__V1__ReclaimedReply reply = KMM__V1__RECLAIMED_REPLY__INIT;
	struct domain *d = call->kmmd->domain;
	uint64_t most = d->control.object_words;

	vm_count(d->zones, VM_SLABS_SCANNED, q->scanned < most ? q->scanned : most);
	rpc_reply(call, &reply.base);
}

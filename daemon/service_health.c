/* SPDX-License-Identifier: MIT */
/*
 * kmm.v1.Health: is the daemon well, and what does it speak. Both calls need no session; Check is
 * also what keeps an idle connection proven alive.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/domain.h"
#include "daemon/kmmd.h"
#include "daemon/pool.h"
#include "daemon/rpc.h"
#include "daemon/schema.h"
#include "mm/mm.h"
#include "proto/kmm.pb-c.h"

/* As kmm.options bounds them. */
#define HEALTH_TEXT_MAX 2000u
#define HEALTH_REQUEST_MAX 2000u
#define HEALTH_REPLY_MAX 4000u

struct health_text {
	char text[HEALTH_TEXT_MAX + 1];
	size_t length;
};

__attribute__((format(printf, 2, 3))) static void health_say(struct health_text *t,
                                                             const char *fmt, ...)
{
	size_t room = sizeof(t->text) - t->length;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->text + t->length, room, fmt, ap);
	va_end(ap);
	if (n > 0)
		t->length += (size_t)n < room ? (size_t)n : room - 1;
}

static uint32_t health_retired(const struct mm *mm)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < mm_nr_sections(mm); i++) {
		struct section_info info;

		mm_section_get(mm, (section_id_t){i}, &info);
		n += info.state == SECTION_RETIRED;
	}
	return n;
}

/* When and by which version the pool was made. */
static void health_say_made(const struct superblock *sb, struct health_text *t)
{
	time_t created = (time_t)sb->created;
	char when[48] = "";
	struct tm tm;

	if (sb->created && gmtime_r(&created, &tm))
		strftime(when, sizeof(when), ", of a pool made %Y-%m-%d %H:%M:%S UTC", &tm);
	health_say(t, "metadata: version %u%s", sb->version, when);
	if (sb->made_version != sb->version)
		health_say(t, ", of a pool made with version %u", sb->made_version);
	health_say(t, "\n");
}

static void health_check_pool(const struct kmmd *k, Kmm__V1__CheckReply *reply,
                              struct health_text *t, struct pool_backing *backing)
{
	struct pool *p = k->pool;
	uint64_t present = pool_present(p), absent = p->frames - present;

	pool_backing_get(p, backing);
	reply->backing = backing->text;
	reply->advice = p->advice;
	reply->epoch = p->epoch;
	reply->bytes_4k = backing->bytes_4k;
	reply->bytes_2m = backing->bytes_2m;
	reply->bytes_1g = backing->bytes_1g;
	reply->retired_sections = health_retired(p->mm);
	health_say(t, "pool: %llu MiB in %llu sections, %s\n",
	           (unsigned long long)present >> (20 - PAGE_SHIFT),
	           (unsigned long long)present >> p->section_order,
	           p->recovered ? "taken over from the daemon before" : "new");
	if (absent)
		health_say(t, "absent: %llu sections more have no memory; it can grow by %llu MiB\n",
		           (unsigned long long)absent >> p->section_order,
		           (unsigned long long)absent >> (20 - PAGE_SHIFT));
	reply->created = p->superblock->created;
	reply->metadata_version = p->superblock->version;
	reply->metadata_made_version = p->superblock->made_version;
	health_say_made(p->superblock, t);
	health_say(t, "reactors: %u\n", k->nr_reactors);
	if (reply->retired_sections)
		health_say(t, "degraded: %u sections were lost to faults and are out of use\n",
		           reply->retired_sections);
}

static void health_check_domain(const struct kmmd *k, Kmm__V1__CheckReply *reply,
                                struct health_text *t)
{
	struct domain *d = k->domain;
	/* relaxed: a counter for a report */
	uint32_t damaged = atomic_load_explicit(&d->damaged, memory_order_relaxed);

	reply->damaged_domains = damaged != 0;
	health_say(t, "free: %llu of %llu pages; %llu more hold the pool's own tables\n",
	           (unsigned long long)mm_nr_free(d->zones),
	           (unsigned long long)(pool_present(k->pool) - k->pool->metadata_frames),
	           (unsigned long long)k->pool->metadata_frames);
	if (damaged)
		health_say(t, "degraded: domain %s: %u owner words made no sense; kmmctl fsck lists them\n",
		           d->name, damaged);
}

static void health_handle_check(struct rpc_call *call, const ProtobufCMessage *request)
{
	Kmm__V1__CheckReply reply = KMM__V1__CHECK_REPLY__INIT;
	struct kmmd *k = call->kmmd;
	char version[] = PACKAGE_VERSION;
	struct health_text t = {.length = 0};
	struct pool_backing backing;

	(void)request;
	t.text[0] = '\0';
	reply.version = version;
	reply.pid = (uint32_t)getpid();
	reply.uptime_ms = (uv_hrtime() - k->started_ns) / 1000000;
	reply.status = KMM__V1__CHECK_REPLY__STATUS__SERVING;
	if (k->pool)
		health_check_pool(k, &reply, &t, &backing);
	if (k->pool && k->domain)
		health_check_domain(k, &reply, &t);
	if (reply.damaged_domains || reply.retired_sections)
		reply.status = KMM__V1__CHECK_REPLY__STATUS__DEGRADED;
	reply.text = t.text;
	rpc_reply(call, &reply.base);
}

static void health_send_method(struct rpc_call *call, const struct rpc_method *m)
{
	Kmm__V1__MethodInfo info = KMM__V1__METHOD_INFO__INIT;
	char name[128], request[HEALTH_REQUEST_MAX + 1], reply[HEALTH_REPLY_MAX + 1];

	snprintf(name, sizeof(name), "%s", m->name);
	schema_text(request, sizeof(request), m->request);
	schema_text(reply, sizeof(reply), m->reply);
	info.number = m->number;
	info.name = name;
	info.streaming = m->streaming;
	info.request = request;
	info.reply = reply;
	rpc_item(call, &info.base);
}

static void health_handle_list_methods(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__ListMethodsRequest *r = (const Kmm__V1__ListMethodsRequest *)request;
	Kmm__V1__ListMethodsRequest end = KMM__V1__LIST_METHODS_REQUEST__INIT;
	unsigned int n = 0;

	for (const struct rpc_method *m = rpc_method_next(NULL); m; m = rpc_method_next(m)) {
		if (*r->name && strcmp(r->name, m->name) != 0)
			continue;
		health_send_method(call, m);
		n++;
	}
	if (*r->name && !n)
		rpc_fail(call, STATUS_NOT_FOUND, ENOENT,
		         "there is no method called %.128s; an empty name lists all", r->name);
	else
		rpc_reply(call, &end.base); /* a stream's end has an empty body */
}

const struct rpc_method service_health[] = {
        {.number = KMM__V1__METHOD__HEALTH_CHECK,
         .name = "kmm.v1.Health/Check",
         .demand = RPC_ANYBODY,
         .request = &kmm__v1__check_request__descriptor,
         .reply = &kmm__v1__check_reply__descriptor,
         .handle = health_handle_check},
        {.number = KMM__V1__METHOD__HEALTH_LIST_METHODS,
         .name = "kmm.v1.Health/ListMethods",
         .demand = RPC_ANYBODY,
         .streaming = true,
         .request = &kmm__v1__list_methods_request__descriptor,
         .reply = &kmm__v1__method_info__descriptor,
         .handle = health_handle_list_methods},
        {.handle = NULL},
};

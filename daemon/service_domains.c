/* SPDX-License-Identifier: MIT */
/*
 * ListDomains: the domains of the pool, what they have, and whether they are well. There is one.
 *
 * It is answered where the call runs: counting sessions and sections is one pass over a table each.
 */
#include <stdio.h>

#include "daemon/domain.h"
#include "daemon/service.h"
#include "daemon/session.h"
#include "proto/kmm.pb-c.h"

static uint32_t count_sections(const struct domain *d)
{
	struct section_info info;
	uint32_t nr, n = 0;

	for (nr = 0; nr < mm_nr_sections(d->mm); nr++) {
		mm_section_get(d->mm, (section_id_t){ nr }, &info);
		n += info.state == SECTION_ONLINE && info.domain == d->id;
	}
	return n;
}

static uint64_t count_pages(const struct domain *d)
{
	struct mm_zone_stats z;
	unsigned int type;
	uint64_t n = 0;
	uint32_t node;

	for (node = 0; node < mm_nr_nodes(d->zones); node++)
		for (type = 0; type < MAX_NR_ZONES; type++) {
			mm_zone_stats(d->zones, node, (enum zone_type)type, &z);
			n += z.managed;
		}
	return n;
}

static uint32_t count_sessions(struct session_table *t)
{
	uint32_t id, n = 0;

	for (id = 1; id < session_table_size(t); id++) {
		/* relaxed: counted for a report */
		uint32_t state = atomic_load_explicit(&session_by_id(t, id)->state,
		                                      memory_order_relaxed);

		n += state != SESSION_FREE && state != SESSION_GONE;
	}
	return n;
}

/* Those who have anything. */
static void count_user(void *ctx, const struct user_usage *usage)
{
	uint32_t *n = ctx;

	*n += usage->used[USER_SESSIONS] || usage->used[USER_PAGES];
}

void service_list_domains(struct rpc_call *call, const ProtobufCMessage *request)
{
	Kmm__V1__ListDomainsRequest end = KMM__V1__LIST_DOMAINS_REQUEST__INIT;
	Kmm__V1__Domain item = KMM__V1__DOMAIN__INIT;
	const struct domain *d = call->kmmd->domain;
	char name[64];

	(void)request;
	snprintf(name, sizeof(name), "%s", d->name);
	item.name = name;
	item.id = d->id;
	item.sections = count_sections(d);
	item.pages = count_pages(d);
	item.free = mm_nr_free(d->zones);
	item.sessions = count_sessions(call->kmmd->sessions);
	user_each(call->kmmd->users, count_user, &item.users);
	/* relaxed, both: for a report */
	item.damaged = atomic_load_explicit(&d->damaged, memory_order_relaxed);
	item.spoiled = atomic_load_explicit(&d->spoiled, memory_order_relaxed);
	rpc_item(call, &item.base);
	rpc_reply(call, &end.base);
}

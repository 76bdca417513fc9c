/* SPDX-License-Identifier: MIT */
/*
 * ListUsers: what each user has, had and may have (user.c).
 *
 * The worker first counts the objects of sessions that pass magazines on by the rack, which the daemon
 * does not see; all else is as it is charged. The list leaves in slices, as that of the sessions.
 */
#include <stdlib.h>

#include "daemon/service.h"
#include "daemon/session.h"
#include "proto/kmm.pb-c.h"

struct users_call {
	struct service_job job; /* first */
	struct user_usage *usage;
	uint32_t n, room, next;
	bool failed;
};

static void user_add(void *ctx, const struct user_usage *usage)
{
	struct users_call *c = ctx;

	if (c->failed)
		return;
	if (c->n == c->room) {
		uint32_t room = c->room ? c->room * 2 : 16;
		struct user_usage *more = reallocarray(c->usage, room, sizeof(*more));

		if (!more) {
			c->failed = true;
			return;
		}
		c->usage = more;
		c->room = room;
	}
	c->usage[c->n++] = *usage;
}

static int by_uid(const void *a, const void *b)
{
	const struct user_usage *x = a, *y = b;

	return (x->uid > y->uid) - (x->uid < y->uid);
}

static void list_work(struct service_job *j)
{
	struct users_call *c = (struct users_call *)j;

	session_table_count(j->kmmd->sessions);
	user_each(j->kmmd->users, user_add, c);
	if (c->n)
		qsort(c->usage, c->n, sizeof(c->usage[0]), by_uid);
	service_job_done(j);
}

static int list_send(struct service_job *j, uint32_t i)
{
	const struct user_usage *u = &((struct users_call *)j)->usage[i];
	Kmm__V1__User item = KMM__V1__USER__INIT;
	Kmm__V1__UserCount count[NR_USER_COUNTS];
	unsigned int k;

	for (k = 0; k < NR_USER_COUNTS; k++) {
		kmm__v1__user_count__init(&count[k]);
		count[k].used = u->used[k];
		count[k].peak = u->peak[k];
		count[k].limit = u->max[k];
		count[k].refused = u->refused[k];
	}
	item.uid = u->uid;
	item.pages = &count[USER_PAGES];
	item.objects = &count[USER_OBJECTS];
	item.caches = &count[USER_CACHES];
	item.channels = &count[USER_CHANNELS];
	item.calls = &count[USER_CALLS];
	item.sessions = &count[USER_SESSIONS];
	return rpc_pending_item(&j->pending, &item.base) ? 1 : -1;
}

static void list_reply(struct service_job *j)
{
	struct users_call *c = (struct users_call *)j;
	Kmm__V1__ListUsersRequest empty = KMM__V1__LIST_USERS_REQUEST__INIT;

	if (!service_job_list(j, &c->next, c->n, c->failed, list_send, &empty.base))
		return;
	free(c->usage);
	free(c);
}

void service_list_users(struct rpc_call *call, const ProtobufCMessage *request)
{
	struct users_call *c = service_census_start(call, sizeof(*c));

	(void)request;
	if (c)
		service_job_start(call, &c->job, list_work, list_reply);
}

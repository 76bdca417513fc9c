/* SPDX-License-Identifier: MIT */
/*
 * A look into the daemon, as kmmctl looks, over one connection that stays: thousands of deaths are
 * looked at, and a process for each question would take longer than all the rest.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/kmmctl/connection.h"
#include "tests/step/step.h"

struct observer {
	struct connection *connection;
	const char *cache; /* NULL: all of them */
	long active;
	unsigned count;
};

static void observed(const struct observer *o, enum connection_result r)
{
	if (r == CONNECTION_OK)
		return;
	fprintf(stderr, "the daemon cannot be asked: %s\n", connection_error(o->connection));
	must(!"observed");
}

struct observer *observer_open(const struct daemon *d)
{
	struct observer *o = calloc(1, sizeof(*o));

	must(o);
	observed(o, connection_open(&o->connection, d->socket, NULL));
	return o;
}

struct observer *observer_close(struct observer *o)
{
	if (o)
		connection_close(o->connection);
	free(o);
	return NULL;
}

static bool count_session(void *ctx, const void *item)
{
	(void)item;
	((struct observer *)ctx)->count++;
	return true;
}

unsigned observer_sessions(struct observer *o)
{
	static kmm_v1_Session session;
	kmm_v1_ListSessionsRequest q = kmm_v1_ListSessionsRequest_init_zero;

	o->count = 0;
	observed(o, connection_stream(o->connection, kmm_v1_Method_INSPECTOR_LIST_SESSIONS,
				      kmm_v1_ListSessionsRequest_fields, &q, kmm_v1_Session_fields,
				      &session, count_session, o));
	return o->count;
}

/* A sweep takes less than a millisecond: the first looks come soon after each other. */
void observer_wait_sessions(struct observer *o, unsigned n)
{
	unsigned i;

	for (i = 0; i < 20 && observer_sessions(o) != n; i++)
		usleep(100);
	wait_until(observer_sessions(o) == n);
}

static bool look_at_cache(void *ctx, const void *item)
{
	struct observer *o = ctx;
	const kmm_v1_Cache *c = item;

	if (!o->cache)
		o->active += (long)c->active_objects;
	else if (strcmp(c->name, o->cache) == 0)
		o->active = (long)c->active_objects;
	return true;
}

static long look_at_caches(struct observer *o, const char *cache, long none)
{
	static kmm_v1_Cache item;
	kmm_v1_ListCachesRequest q = kmm_v1_ListCachesRequest_init_zero;

	o->cache = cache;
	o->active = none;
	observed(o, connection_stream(o->connection, kmm_v1_Method_INSPECTOR_LIST_CACHES,
				      kmm_v1_ListCachesRequest_fields, &q, kmm_v1_Cache_fields,
				      &item, look_at_cache, o));
	return o->active;
}

long observer_active(struct observer *o, const char *cache)
{
	return look_at_caches(o, cache, -1);
}

long observer_active_all(struct observer *o)
{
	return look_at_caches(o, NULL, 0);
}

static bool print_finding(void *ctx, const void *item)
{
	fprintf(stderr, "fsck: %s\n", ((const kmm_v1_Finding *)item)->text);
	((struct observer *)ctx)->count++;
	return true;
}

bool observer_clean(struct observer *o)
{
	static kmm_v1_Finding finding;
	kmm_v1_FsckRequest q = kmm_v1_FsckRequest_init_zero;

	o->count = 0;
	observed(o, connection_stream(o->connection, kmm_v1_Method_ADMIN_FSCK,
				      kmm_v1_FsckRequest_fields, &q, kmm_v1_Finding_fields, &finding,
				      print_finding, o));
	return o->count == 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Inspector.GetSettings and Admin.Set: the configuration of the running daemon.
 *
 * Options belong to the main thread (reload.h). Both calls go to its mailbox, do their work there, and
 * are answered on their reactor. A cancel or a deadline of Set changes nothing: the work is short, and
 * what it did is told. The list leaves in slices, when its client has read what came before; one is under
 * way a connection (service_census_start), since each is some hundred kilobytes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/kmmd.h"
#include "daemon/log_about.h"
#include "daemon/reload.h"
#include "daemon/rpc.h"
#include "daemon/service.h"
#include "proto/kmm.pb-c.h"

#define SET_KEY_MAX 95u
#define LIST_SLICE 32u

struct settings_call {
	struct rpc_pending pending; /* first */
	struct reactor_work work;   /* on the main thread */
	struct reload *reload;
	int rc;
	int cancelled; /* positive errno */
	/* of GetSettings */
	struct reload_item *item;
	size_t n, next;
	/* of Set */
	struct log_about about;
	char key[SET_KEY_MAX + 1], value[SETTING_VALUE_MAX + 1], text[RELOAD_TEXT];
};

static struct settings_call *call_of(struct reactor_work *w)
{
	return (struct settings_call *)((char *)w - offsetof(struct settings_call, work));
}

static void settings_cancel(struct rpc_pending *p, int reason)
{
	((struct settings_call *)p)->cancelled = reason; /* resume is on its way */
}

static void settings_start(struct rpc_call *call, struct settings_call *c,
                           void (*run)(struct reactor *r, struct reactor_work *w),
                           void (*resume)(struct rpc_pending *p))
{
	c->reload = call->kmmd->reload;
	c->work.run = run;
	if (rpc_suspend(call, &c->pending, resume, settings_cancel) < 0)
		free(c);
	else
		reactor_post(call->kmmd->main, &c->work);
}

/* ---- GetSettings ---- */

static void list_run(struct reactor *r, struct reactor_work *w)
{
	struct settings_call *c = call_of(w);

	(void)r;
	c->rc = reload_list(c->reload, &c->item, &c->n);
	rpc_pending_post(&c->pending);
}

static void list_send(struct rpc_pending *p, struct reload_item *i)
{
	const struct setting *s = i->setting;
	Kmm__V1__Setting m = KMM__V1__SETTING__INIT;
	char standard[101], unit[32], allowed[201];

	snprintf(standard, sizeof(standard), "%s", s->initial ? s->initial : s->otherwise);
	snprintf(unit, sizeof(unit), "%s", s->unit);
	snprintf(allowed, sizeof(allowed), "%s", s->allowed);
	m.section = i->section;
	m.key = i->key;
	m.value = i->value;
	m.origin = i->from;
	m.live = s->live;
	m.of_pool = setting_of_pool(s);
	m.standard = standard;
	m.unit = unit;
	m.allowed = allowed;
	m.next = i->next;
	rpc_pending_item(p, &m.base);
}

static void list_resume(struct rpc_pending *p)
{
	struct settings_call *c = (struct settings_call *)p;
	Kmm__V1__GetSettingsRequest end = KMM__V1__GET_SETTINGS_REQUEST__INIT;

	for (size_t i = 0; !c->cancelled && i < LIST_SLICE && c->next < c->n; i++)
		list_send(p, &c->item[c->next++]);
	if (!c->cancelled && c->next < c->n) {
		rpc_pending_post_room(p);
		return;
	}
	if (c->cancelled)
		service_pending_refuse(p, -c->cancelled, "the call was cancelled");
	else if (c->rc < 0)
		service_pending_refuse(p, c->rc, "the daemon is out of memory");
	else
		rpc_pending_reply(p, &end.base);
	free(c->item);
	free(c);
}

void service_get_settings(struct rpc_call *call, const ProtobufCMessage *request)
{
	struct settings_call *c = service_census_start(call, sizeof(*c));

	(void)request;
	if (c)
		settings_start(call, c, list_run, list_resume);
}

/* ---- Set ---- */

static void set_run(struct reactor *r, struct reactor_work *w)
{
	struct settings_call *c = call_of(w);

	(void)r;
	c->rc = reload_set(c->reload, c->about.uid, c->key, c->value, c->text);
	if (c->rc == 0)
		log_event(LOG_LEVEL_NOTICE, &c->about, "set %s", c->text);
	rpc_pending_post(&c->pending);
}

static void set_resume(struct rpc_pending *p)
{
	struct settings_call *c = (struct settings_call *)p;
	Kmm__V1__SetReply reply = KMM__V1__SET_REPLY__INIT;

	reply.text = c->text;
	if (c->rc < 0)
		service_pending_refuse(p, c->rc, c->text);
	else
		rpc_pending_reply(p, &reply.base);
	free(c);
}

void service_set(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__SetRequest *q = (const Kmm__V1__SetRequest *)request;
	struct settings_call *c;

	if (strlen(q->key) > SET_KEY_MAX || strlen(q->value) > SETTING_VALUE_MAX) {
		rpc_fail(call, STATUS_INVALID_ARGUMENT, EINVAL,
		         "a key has at most %u bytes, a value %u", SET_KEY_MAX, SETTING_VALUE_MAX);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		service_refuse(call, -ENOMEM, "the daemon is out of memory");
		return;
	}
	snprintf(c->key, sizeof(c->key), "%s", q->key);
	snprintf(c->value, sizeof(c->value), "%s", q->value);
	c->about = log_about_peer(LOG_RELOAD, call->peer);
	settings_start(call, c, set_run, set_resume);
}

/* SPDX-License-Identifier: MIT */
/*
 * Who may do what.
 *
 * The socket's mode and group decide who can connect at all. Beyond that there are three lists, of
 * users and groups:
 *
 *              may connect   open sessions   kmm.v1.Inspector   kmm.v1.Admin
 *   users           x              x               (x)
 *   inspectors      x                               x
 *   admins          x              x                x                x
 *
 *   users empty:       everybody is among them
 *   inspectors empty:  whoever may connect is among them
 *   admins:            root and the daemon's own user are, always
 *
 * A peer is what the kernel says of the process that connected: its user, its group, its supplementary
 * groups, as they were then. Names were looked up when the rules were made.
 *
 * Rules are immutable. A reload puts others in their place (release) and counts a generation; a peer
 * notes of which generation its rights are, so that a call costs one load and only the first one after
 * a reload looks at the lists. What was replaced is freed when all threads have passed their mailboxes
 * (reload.c). Whether somebody may connect is asked once, at accept; sessions are not ended by a
 * reload. Inspector and Admin are asked at each call.
 */
#include "daemon/access.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/channel.h"
#include "daemon/options.h"
#include "daemon/quota_rules.h"

struct access_who {
	enum quota_kind kind;
	uint32_t id;
};

struct access_list {
	size_t n;
	struct access_who *who;
};

struct access_rules {
	struct access_list users, inspectors, admins;
};

struct access {
	uid_t own_uid;
	_Atomic(struct access_rules *) rules;
	_Atomic uint32_t generation; /* of rules; from 1 */
};

/* ---- making rules ---- */

static bool who_read(const char *text, struct access_who *who)
{
	who->kind = *text == '@' ? QUOTA_GROUP : QUOTA_USER;
	return quota_name_known(who->kind, text + (*text == '@'), &who->id);
}

bool access_name_known(const char *text)
{
	struct access_who who;

	return who_read(text, &who);
}

static int list_make(struct access_list *list, char *const *name)
{
	size_t n = 0;

	while (name && name[n])
		n++;
	if (!n)
		return 0;
	list->who = calloc(n, sizeof(*list->who));
	if (!list->who)
		return -ENOMEM;
	/* All were known when the options were checked; one that has gone since is left out, which
	 * must not make a list empty: an empty one means everybody. */
	for (size_t i = 0; i < n; i++) {
		if (!who_read(name[i], &list->who[i]))
			list->who[i] = (struct access_who){ .kind = QUOTA_USER, .id = UINT32_MAX };
		list->n++;
	}
	return 0;
}

static int rules_make(struct access_rules **ret, const struct options *o)
{
	struct access_rules *rules = calloc(1, sizeof(*rules));
	int r;

	if (!rules)
		return -ENOMEM;
	r = list_make(&rules->users, o->access_users);
	if (!r)
		r = list_make(&rules->inspectors, o->access_inspectors);
	if (!r)
		r = list_make(&rules->admins, o->access_admins);
	if (r < 0) {
		access_rules_free(rules);
		return r;
	}
	*ret = rules;
	return 0;
}

struct access_rules *access_rules_free(struct access_rules *rules)
{
	if (!rules)
		return NULL;
	free(rules->users.who);
	free(rules->inspectors.who);
	free(rules->admins.who);
	free(rules);
	return NULL;
}

int access_new(struct access **ret, const struct options *o)
{
	struct access *a = calloc(1, sizeof(*a));
	struct access_rules *rules;
	int r;

	if (!a)
		return -ENOMEM;
	r = rules_make(&rules, o);
	if (r < 0) {
		free(a);
		return r;
	}
	a->own_uid = geteuid();
	atomic_init(&a->rules, rules);
	atomic_init(&a->generation, 1);
	*ret = a;
	return 0;
}

struct access *access_free(struct access *a)
{
	if (!a)
		return NULL;
	/* relaxed: nobody else is left */
	access_rules_free(atomic_load_explicit(&a->rules, memory_order_relaxed));
	free(a);
	return NULL;
}

int access_reload(struct access *a, const struct options *o, struct access_rules **old)
{
	struct access_rules *rules;
	int r = rules_make(&rules, o);

	if (r < 0)
		return r;
	/* release: the rules' contents, and the rules before their generation; pairs with the acquires
	 * in access_rights() and access_refresh() */
	*old = atomic_exchange_explicit(&a->rules, rules, memory_order_acq_rel);
	atomic_fetch_add_explicit(&a->generation, 1, memory_order_release);
	return 0;
}

/* ---- judging ---- */

static bool list_has(const struct access_list *list, const struct peer *p)
{
	for (size_t i = 0; i < list->n; i++) {
		const struct access_who *who = &list->who[i];

		if (who->id == UINT32_MAX) /* its name has gone */
			continue;
		if (who->kind == QUOTA_USER && who->id == p->uid)
			return true;
		if (who->kind == QUOTA_USER)
			continue;
		if (who->id == p->gid)
			return true;
		for (uint32_t g = 0; g < p->nr_groups; g++)
			if (p->groups[g] == who->id)
				return true;
	}
	return false;
}

uint32_t access_rights(const struct access *a, const struct peer *p)
{
	/* acquire: see access_reload() */
	const struct access_rules *rules = atomic_load_explicit(&a->rules, memory_order_acquire);
	uint32_t rights = 0;

	if (p->uid == 0 || p->uid == a->own_uid || list_has(&rules->admins, p))
		return ACCESS_CONNECT | ACCESS_SESSION | ACCESS_INSPECT | ACCESS_ADMIN;
	if (!rules->users.n || list_has(&rules->users, p))
		rights |= ACCESS_CONNECT | ACCESS_SESSION;
	if (rules->inspectors.n ? list_has(&rules->inspectors, p) : rights != 0)
		rights |= ACCESS_CONNECT | ACCESS_INSPECT;
	return rights;
}

void access_refresh(const struct access *a, struct peer *p)
{
	/* acquire: see access_reload(); rules that are newer than it says are judged once more */
	uint32_t generation = atomic_load_explicit(&a->generation, memory_order_acquire);

	if (p->rights_of == generation)
		return;
	p->rights = access_rights(a, p);
	p->admin = p->rights & ACCESS_ADMIN;
	p->rights_of = generation;
}

/* SPDX-License-Identifier: MIT */
/*
 * Which groups a user is in.
 *
 * Two say it, and they may differ: the kernel, of a process that connected (SO_PEERGROUPS, acceptor.c),
 * at no cost; and the user database (getgrouplist), which may be a service of the network that answers
 * late or never, so that nobody who serves others may ask it. What a process has is the truth about
 * that process, and comes with each session: so a user is in the groups that its last session's process
 * had (user.c). The database is asked of those alone whom no process has told about: users whose sessions
 * were taken over by a restart, and all on a kernel that does not tell groups.
 *
 * A set is an array in ascending order: made once, in O(n log n), asked in O(log n).
 */
#include "daemon/user_groups.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
	gid_t x = *(const gid_t *)a, y = *(const gid_t *)b;

	return x < y ? -1 : x > y;
}

static void sort(struct user_groups *g)
{
	uint32_t n = 0;

	qsort(g->gid, g->n, sizeof(g->gid[0]), compare);
	for (uint32_t i = 0; i < g->n; i++)
		if (!n || g->gid[i] != g->gid[n - 1])
			g->gid[n++] = g->gid[i];
	g->n = n;
}

struct user_groups *user_groups_of_process(gid_t gid, const gid_t group[], uint32_t n)
{
	struct user_groups *g;

	if (n >= USER_GROUPS_MAX)
		n = USER_GROUPS_MAX - 1;
	g = malloc(sizeof(*g) + (n + 1) * sizeof(g->gid[0]));
	if (!g)
		return NULL;
	g->n = n + 1;
	g->gid[0] = gid;
	if (n)
		memcpy(&g->gid[1], group, n * sizeof(g->gid[0]));
	sort(g);
	return g;
}

int user_groups_of_database(struct user_groups **ret, uid_t uid)
{
	struct passwd entry, *pw = NULL;
	int n = (int)USER_GROUPS_MAX, r;
	struct user_groups *g;
	char text[16384];

	r = getpwuid_r(uid, &entry, text, sizeof(text), &pw);
	if (r || !pw)
		return r ? -r : -ENOENT;
	g = malloc(sizeof(*g) + USER_GROUPS_MAX * sizeof(g->gid[0]));
	if (!g)
		return -ENOMEM;
	/* -1: there are more; these are the first ones */
	if (getgrouplist(pw->pw_name, pw->pw_gid, g->gid, &n) < 0)
		n = (int)USER_GROUPS_MAX;
	g->n = (uint32_t)n;
	sort(g);
	*ret = g;
	return 0;
}

struct user_groups *user_groups_free(struct user_groups *g)
{
	free(g);
	return NULL;
}

bool user_groups_equal(const struct user_groups *a, const struct user_groups *b)
{
	if (!a || !b)
		return a == b;
	return a->n == b->n && memcmp(a->gid, b->gid, a->n * sizeof(a->gid[0])) == 0;
}

bool user_groups_have(const struct user_groups *g, gid_t gid)
{
	return g && bsearch(&gid, g->gid, g->n, sizeof(g->gid[0]), compare);
}

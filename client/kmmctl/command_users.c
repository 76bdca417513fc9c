/* SPDX-License-Identifier: MIT */
/*
 * Users: what the sessions of each uid have together, had at most, may have, and were refused. A line
 * for each quota, in the order of the configuration's keys, so that the columns mean one thing and a
 * user's lines can be cut out by name. Pages are counted, not in units, as the quota is given so.
 *
 * The daemon knows numbers only; names are this machine's.
 */
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>

#include "client/kmmctl/command_private.h"
#include "client/kmmctl/fetch.h"
#include "client/kmmctl/fetch_private.h"
#include "client/kmmctl/json_add.h"
#include "client/kmmctl/table.h"

#define COUNTS 6u

struct count {
	const char *key;
	const kmm_v1_UserCount *n;
};

static void counts_of(const kmm_v1_User *u, struct count count[COUNTS])
{
	count[0] = (struct count){ "sessions", &u->sessions };
	count[1] = (struct count){ "pages", &u->pages };
	count[2] = (struct count){ "objects", &u->objects };
	count[3] = (struct count){ "caches", &u->caches };
	count[4] = (struct count){ "channels", &u->channels };
	count[5] = (struct count){ "calls", &u->calls };
}

/* "-": it has none here. */
static const char *name_of(uint32_t uid)
{
	const struct passwd *pw = getpwuid(uid);

	return pw ? pw->pw_name : "-";
}

static void print_text(FILE *out, const kmm_v1_User user[], size_t n)
{
	static const struct table_column columns[] = {
		{ "UID", TABLE_RIGHT },  { "NAME", TABLE_LEFT },   { "QUOTA", TABLE_LEFT },
		{ "USED", TABLE_RIGHT }, { "PEAK", TABLE_RIGHT },  { "LIMIT", TABLE_RIGHT },
		{ "REFUSED", TABLE_RIGHT },
	};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	struct count count[COUNTS];

	for (size_t i = 0; i < n; i++) {
		counts_of(&user[i], count);
		for (size_t k = 0; k < COUNTS; k++) {
			const kmm_v1_UserCount *c = count[k].n;

			table_cell(t, "%" PRIu32, user[i].uid);
			table_cell(t, "%s", name_of(user[i].uid));
			table_cell(t, "%s", count[k].key);
			table_cell(t, "%" PRIu64, c->used);
			table_cell(t, "%" PRIu64, c->peak);
			if (c->limit)
				table_cell(t, "%" PRIu64, c->limit);
			else
				table_cell(t, "none");
			table_cell(t, "%" PRIu64, c->refused);
		}
	}
	table_print(out, t);
	table_free(t);
}

static void add_user(struct json_object *o, const void *item)
{
	const kmm_v1_User *u = item;
	struct count count[COUNTS];

	counts_of(u, count);
	add_number(o, "uid", u->uid);
	add_text(o, "name", name_of(u->uid));
	for (size_t k = 0; k < COUNTS; k++) {
		struct json_object *c = json_object_new_object();

		add_number(c, "used", count[k].n->used);
		add_number(c, "peak", count[k].n->peak);
		add_number(c, "limit", count[k].n->limit);
		add_number(c, "refused", count[k].n->refused);
		json_object_object_add(o, count[k].key, c);
	}
}

static void clean_user(void *item)
{
	(void)item; /* numbers alone */
}

enum kmmctl_status command_users(struct command_context *x)
{
	kmm_v1_ListUsersRequest request = kmm_v1_ListUsersRequest_init_zero;
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;
	kmm_v1_User *user;
	size_t n;

	result = FETCH_LIST(x->connection, INSPECTOR_LIST_USERS, ListUsers, &request, User,
	                    clean_user, &user, &n);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		status = command_print_json(x, array_of(user, n, sizeof(user[0]), add_user));
	else
		print_text(x->out, user, n);
	free(user);
	return status;
}

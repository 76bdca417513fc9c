/* SPDX-License-Identifier: MIT */
/*
 * Published names: holders of their own that outlive their publishers. See name.c. Thread-safe.
 */
#ifndef DAEMON_NAME_H
#define DAEMON_NAME_H

#include "daemon/domain.h"
#include "daemon/record.h"

struct name_table;

/* Takes over what the records say, `n` of them; -ENOMEM, -EIO. */
int name_table_new(struct name_table **ret, struct domain *d, struct name_record *record,
                   uint32_t n);
struct name_table *name_table_free(struct name_table *t);

/* s (entered) owns or holds the thing at that generation (of which 32 bits are compared). 0, also when
 * the same user published the same thing under that name already; -EEXIST; -EINVAL; -EDQUOT (the
 * table's, or the user's: [limits] names_per_user); -ESTALE; -ENOENT; -EPERM. */
int name_publish(struct name_table *t, struct session *s, const char *name, uint32_t granule,
                 uint64_t generation, const char **why);
/* -ENOENT; -EINVAL. */
int name_lookup(struct name_table *t, const char *name, uint32_t *granule, uint64_t *generation,
                const char **why);
/* -ENOENT; -EPERM another user's; -EINVAL. The thing is freed when nobody else holds it. */
int name_unpublish(struct name_table *t, struct session *s, uint32_t cpu, const char *name,
                   const char **why);
/* Whether names hold the thing, without the table's lock: at the start, and while all threads stand
 * still. */
bool name_has(const struct name_table *t, uint32_t granule, uint64_t generation);
uint32_t name_total(struct name_table *t);
uint32_t name_count_of_user(struct name_table *t, uint32_t uid);
struct name_about {
	char name[64];
	uint32_t granule, uid;
	uint64_t generation;
	uint32_t publisher; /* session; 0: it is gone */
};
/* The next name from *cursor on, 0 at first; false: no more. Names may come and go meanwhile; each is
 * told at most once. */
bool name_next(struct name_table *t, uint32_t *cursor, struct name_about *ret);
/* The session is swept: its names stay, and are of nobody's. Before its id is given to another. */
void name_forget_session(struct name_table *t, uint32_t session);
/* At the start, before KEPT is corrected by the holders: names whose thing is not in that life any
 * more are dropped, the others have their entry among the holders; how many were dropped. */
uint32_t name_recover(struct name_table *t,
                      bool (*live)(void *ctx, uint32_t granule, uint64_t generation), void *ctx);
/* All threads stand still. */
size_t name_validate(struct name_table *t, mm_report_fn report, void *ctx);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Published names: holders of their own that outlive their publishers. See name.c. Thread-safe.
 */
#ifndef DAEMON_NAME_H
#define DAEMON_NAME_H

#include "daemon/domain.h"
#include "daemon/record.h"

struct name_table;

/* Takes over what the records say, `n` of them; -ENOMEM. */
int name_table_new(struct name_table **ret, struct domain *d, struct name_record *record,
                   uint32_t n);
struct name_table *name_table_free(struct name_table *t);

/* s (entered) owns or holds the thing at that generation (of which 32 bits are compared). 0, also when
 * the same user published the same thing under that name already; -EEXIST; -EINVAL; -EDQUOT; -ESTALE;
 * -ENOENT; -EPERM. */
int name_publish(struct name_table *t, struct session *s, const char *name, uint32_t granule,
                 uint64_t generation, const char **why);
/* -ENOENT; -EINVAL. */
int name_lookup(struct name_table *t, const char *name, uint32_t *granule, uint64_t *generation,
                const char **why);
/* -ENOENT; -EPERM another user's; -EINVAL. The thing is freed when nobody else holds it. */
int name_unpublish(struct name_table *t, struct session *s, uint32_t cpu, const char *name,
                   const char **why);
/* Names that hold the thing. */
uint32_t name_count(struct name_table *t, uint32_t granule, uint64_t generation);
/* Whether there are any, without the table's lock: at the start, and while all threads stand still. */
bool name_has(const struct name_table *t, uint32_t granule, uint64_t generation);
uint32_t name_total(struct name_table *t);
uint32_t name_count_of_user(struct name_table *t, uint32_t uid);
/* At the start, before KEPT is corrected by the holders: names whose thing is not in that life any
 * more are dropped, the others have their entry among the holders; how many were dropped. */
uint32_t name_recover(struct name_table *t,
                      bool (*live)(void *ctx, uint32_t granule, uint64_t generation), void *ctx);
/* All threads stand still. */
size_t name_validate(struct name_table *t, mm_report_fn report, void *ctx);

#endif

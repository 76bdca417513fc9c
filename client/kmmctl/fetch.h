/* SPDX-License-Identifier: MIT */
/*
 * What the daemon knows, as values that report.h prints. Each call asks anew. Arrays returned are
 * freed with free(); outputs are untouched when the result is not CONNECTION_OK.
 *
 * Texts that came from clients (names, last errors) are made harmless for a terminal:
 * control characters and bytes that are no UTF-8 become '?'.
 */
#ifndef CLIENT_KMMCTL_FETCH_H
#define CLIENT_KMMCTL_FETCH_H

#include "client/kmmctl/connection.h"
#include "client/kmmctl/report.h"

enum connection_result fetch_pool(struct connection *c, kmm_v1_Pool *ret);
/* Node-major; every node ends with Device. domain NULL: what Hello chose. */
enum connection_result fetch_zones(struct connection *c, const char *domain,
                                   struct report_zone **ret, size_t *n);
/* By node number. */
enum connection_result fetch_nodes(struct connection *c, const char *domain,
                                   struct report_node **ret, size_t *n);
enum connection_result fetch_resources(struct connection *c, struct report_resource **ret,
                                       size_t *n);
/* By address. */
enum connection_result fetch_areas(struct connection *c, const char *domain, kmm_v1_Area **ret,
                                   size_t *n);
enum connection_result fetch_meminfo(struct connection *c, const char *domain,
                                     struct report_meminfo *ret);
enum connection_result fetch_vmstat(struct connection *c, const char *domain,
                                    struct report_vmstat *ret);
enum connection_result fetch_sessions(struct connection *c, const char *domain,
                                      kmm_v1_Session **ret, size_t *n);
enum connection_result fetch_session(struct connection *c, uint32_t id, kmm_v1_Session *ret);
enum connection_result fetch_health(struct connection *c, kmm_v1_CheckReply *ret);
/* name "": all. */
enum connection_result fetch_methods(struct connection *c, const char *name,
                                     kmm_v1_MethodInfo **ret, size_t *n);
enum connection_result fetch_findings(struct connection *c, kmm_v1_Finding **ret, size_t *n);
enum connection_result fetch_drop_caches(struct connection *c, kmm_v1_DropCachesReply *ret);
/* What came of it, by node and zone. */
enum connection_result fetch_compact(struct connection *c, const char *domain, kmm_v1_Compacted **ret,
                                     size_t *n);
enum connection_result fetch_kill(struct connection *c, uint32_t id);
/* Newest first. */
enum connection_result fetch_caches(struct connection *c, const char *domain, kmm_v1_Cache **ret,
                                    size_t *n);
/* The session that was opened first first. */
enum connection_result fetch_leaks(struct connection *c, const char *domain, kmm_v1_Leak **ret,
                                   size_t *n);
/* In the order of their bytes. */
enum connection_result fetch_names(struct connection *c, const char *domain, kmm_v1_Name **ret,
                                   size_t *n);
/* cache: a name that command_check() let pass. */
enum connection_result fetch_shrink(struct connection *c, const char *cache,
                                    kmm_v1_ShrinkCacheReply *ret);

/* In place. With `lines`, newlines and tabs stay. */
void fetch_clean_text(char *text, bool lines);

#endif

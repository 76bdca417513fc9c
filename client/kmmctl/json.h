/* SPDX-License-Identifier: MIT */
/*
 * The reports as JSON. Each function makes a new object, owned by the caller (json_object_put).
 * Amounts of memory are frames of 4096 bytes unless a name says bytes; meminfo is in kB, vmstat in
 * whatever its lines count, as their texts are.
 */
#ifndef CLIENT_KMMCTL_JSON_H
#define CLIENT_KMMCTL_JSON_H

#include <json-c/json.h>

#include "client/kmmctl/report.h"

struct json_object *json_zoneinfo(const struct report_zone zone[], size_t n,
                                  const struct report_node node[], size_t nr_nodes);
struct json_object *json_buddyinfo(const struct report_zone zone[], size_t n);
struct json_object *json_pagetypeinfo(const struct report_zone zone[], size_t n);
struct json_object *json_iomem(const struct report_resource resource[], size_t n);
struct json_object *json_meminfo(const struct report_meminfo *m);
struct json_object *json_vmstat(const struct report_vmstat *v);
struct json_object *json_vmallocinfo(const kmm_v1_Area area[], size_t n);
struct json_object *json_sessions(const kmm_v1_Session session[], size_t n);
struct json_object *json_session(const kmm_v1_Session *s);
struct json_object *json_health(const kmm_v1_CheckReply *h);
struct json_object *json_methods(const kmm_v1_MethodInfo method[], size_t n);
struct json_object *json_findings(const kmm_v1_Finding finding[], size_t n);
struct json_object *json_compact(const kmm_v1_Compacted zone[], size_t n);
struct json_object *json_drop_caches(const kmm_v1_DropCachesReply *r);
struct json_object *json_kill(uint32_t id);
struct json_object *json_slabinfo(const kmm_v1_Cache cache[], size_t n);
struct json_object *json_leaks(const kmm_v1_Leak leak[], size_t n);
struct json_object *json_names(const kmm_v1_Name name[], size_t n);
struct json_object *json_shrink(const kmm_v1_ShrinkCacheReply *r);

#endif

/* SPDX-License-Identifier: MIT */
/* As json.h: what page, map and frag show. */
#ifndef CLIENT_KMMCTL_JSON_INSPECT_H
#define CLIENT_KMMCTL_JSON_INSPECT_H

#include <json-c/json.h>

#include "client/kmmctl/frag.h"
#include "client/kmmctl/map.h"
#include "client/kmmctl/page.h"

struct json_object *json_page(const kmm_v1_Page *p);
struct json_object *json_map(const struct map *m);
struct json_object *json_frag(const struct frag *f);

#endif

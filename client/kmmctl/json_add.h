/* SPDX-License-Identifier: MIT */
/* Members of json-c objects: what the json*.c share. */
#ifndef CLIENT_KMMCTL_JSON_ADD_H
#define CLIENT_KMMCTL_JSON_ADD_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void add_number(struct json_object *o, const char *key, uint64_t value)
{
	json_object_object_add(o, key, json_object_new_uint64(value));
}

static inline void add_bool(struct json_object *o, const char *key, bool value)
{
	json_object_object_add(o, key, json_object_new_boolean(value));
}

static inline void add_text(struct json_object *o, const char *key, const char *text)
{
	json_object_object_add(o, key, json_object_new_string(text));
}

static inline void add_numbers(struct json_object *o, const char *key, const uint64_t value[],
                               size_t n)
{
	struct json_object *a = json_object_new_array_ext((int)n);

	for (size_t i = 0; i < n; i++)
		json_object_array_add(a, json_object_new_uint64(value[i]));
	json_object_object_add(o, key, a);
}

/* An array of objects, one an item, with the members that `add` adds. */
static inline struct json_object *array_of(const void *item, size_t n, size_t size,
                                           void (*add)(struct json_object *o, const void *item))
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_new_object();

		add(o, (const char *)item + i * size);
		json_object_array_add(a, o);
	}
	return a;
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Schema text: a walk over the descriptors that protobuf-c generates.
 *
 * The messages and enums that a message uses are remembered in a list as they are met and written
 * in that order; whatever is in the list already is not added again, so that recursion ends.
 */
#include "daemon/schema.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define SCHEMA_TYPES_MAX 16u

struct schema_writer {
	char *text;
	size_t size, length;
	/* what is to be written: a message descriptor or an enum descriptor each */
	const void *type[SCHEMA_TYPES_MAX];
	bool is_enum[SCHEMA_TYPES_MAX];
	size_t nr_types;
};

__attribute__((format(printf, 2, 3))) static void schema_print(struct schema_writer *w,
                                                               const char *fmt, ...)
{
	bool room = w->length < w->size;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(room ? w->text + w->length : NULL, room ? w->size - w->length : 0, fmt, ap);
	va_end(ap);
	if (n > 0)
		w->length += (size_t)n;
}

static void schema_add_type(struct schema_writer *w, const void *type, bool is_enum)
{
	for (size_t i = 0; i < w->nr_types; i++)
		if (w->type[i] == type)
			return;
	if (w->nr_types == SCHEMA_TYPES_MAX)
		return;
	w->type[w->nr_types] = type;
	w->is_enum[w->nr_types++] = is_enum;
}

static const char *schema_type_name(struct schema_writer *w, const ProtobufCFieldDescriptor *f)
{
	static const char *const name[] = {
	        [PROTOBUF_C_TYPE_INT32] = "int32",       [PROTOBUF_C_TYPE_SINT32] = "sint32",
	        [PROTOBUF_C_TYPE_SFIXED32] = "sfixed32", [PROTOBUF_C_TYPE_INT64] = "int64",
	        [PROTOBUF_C_TYPE_SINT64] = "sint64",     [PROTOBUF_C_TYPE_SFIXED64] = "sfixed64",
	        [PROTOBUF_C_TYPE_UINT32] = "uint32",     [PROTOBUF_C_TYPE_FIXED32] = "fixed32",
	        [PROTOBUF_C_TYPE_UINT64] = "uint64",     [PROTOBUF_C_TYPE_FIXED64] = "fixed64",
	        [PROTOBUF_C_TYPE_FLOAT] = "float",       [PROTOBUF_C_TYPE_DOUBLE] = "double",
	        [PROTOBUF_C_TYPE_BOOL] = "bool",         [PROTOBUF_C_TYPE_STRING] = "string",
	        [PROTOBUF_C_TYPE_BYTES] = "bytes",
	};

	if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
		const ProtobufCMessageDescriptor *m = f->descriptor;

		schema_add_type(w, m, false);
		return m->short_name;
	}
	if (f->type == PROTOBUF_C_TYPE_ENUM) {
		const ProtobufCEnumDescriptor *e = f->descriptor;

		schema_add_type(w, e, true);
		return e->short_name;
	}
	return name[f->type];
}

static void schema_write_message(struct schema_writer *w, const ProtobufCMessageDescriptor *m)
{
	schema_print(w, "message %s {%s", m->short_name, m->n_fields ? "\n" : "");
	for (unsigned int i = 0; i < m->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &m->fields[i];

		schema_print(w, "  %s%s %s = %u;\n",
		             f->label == PROTOBUF_C_LABEL_REPEATED ? "repeated " : "",
		             schema_type_name(w, f), f->name, f->id);
	}
	schema_print(w, "}\n");
}

static void schema_write_enum(struct schema_writer *w, const ProtobufCEnumDescriptor *e)
{
	schema_print(w, "enum %s {\n", e->short_name);
	for (unsigned int i = 0; i < e->n_values; i++)
		schema_print(w, "  %s = %d;\n", e->values[i].name, e->values[i].value);
	schema_print(w, "}\n");
}

size_t schema_text(char *text, size_t size, const ProtobufCMessageDescriptor *message)
{
	struct schema_writer w = {.text = text, .size = size};

	if (size)
		text[0] = '\0';
	schema_add_type(&w, message, false);
	for (size_t i = 0; i < w.nr_types; i++) {
		if (w.is_enum[i])
			schema_write_enum(&w, w.type[i]);
		else
			schema_write_message(&w, w.type[i]);
	}
	return w.length;
}

/* SPDX-License-Identifier: MIT */
/*
 * What requests are unpacked in and how messages are described: arena and schema text.
 */
#include <check.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/arena.h"
#include "daemon/rpc.h"
#include "daemon/schema.h"
#include "proto/kmm.pb-c.h"
#include "tests/suite.h"

/* kmm.options */
#define REQUEST_MAX 2000u
#define REPLY_MAX 4000u

START_TEST(schema_is_proto3)
{
	char text[REPLY_MAX + 1];

	schema_text(text, sizeof(text), &kmm__v1__alloc_pages_request__descriptor);
	ck_assert_str_eq(text, "message AllocPagesRequest {\n  uint32 gfp = 1;\n  uint32 order = 2;\n"
	                       "  uint32 node = 3;\n}\n");
	schema_text(text, sizeof(text), &kmm__v1__close_request__descriptor);
	ck_assert_str_eq(text, "message CloseRequest {}\n");
	schema_text(text, sizeof(text), &kmm__v1__get_sections_request__descriptor);
	ck_assert_str_eq(text, "message GetSectionsRequest {\n  repeated uint32 section = 1;\n}\n");
}
END_TEST

START_TEST(schema_includes_what_a_message_uses_once)
{
	char text[REPLY_MAX + 1], *at;

	schema_text(text, sizeof(text), &kmm__v1__event__descriptor);
	ck_assert_str_eq(text, "message Event {\n  Kind kind = 1;\n  string text = 2;\n"
	                       "  uint64 flush = 3;\n  uint32 cache = 4;\n  uint32 gfp = 5;\n"
	                       "  uint32 priority = 6;\n}\n"
	                       "enum Kind {\n  KIND_UNSPECIFIED = 0;\n  PRESSURE = 1;\n"
	                       "  BAD_FREE = 5;\n  FLUSH = 7;\n}\n");
	schema_text(text, sizeof(text), &kmm__v1__zone__descriptor);
	ck_assert_ptr_nonnull(strstr(text, "  repeated PerCpu per_cpu = 23;\n"));
	at = strstr(text, "message PerCpu {\n");
	ck_assert_ptr_nonnull(at);
	ck_assert_ptr_null(strstr(at + 1, "message PerCpu"));
}
END_TEST

START_TEST(schema_says_how_long_it_is)
{
	char text[REPLY_MAX + 1], part[10];
	size_t n = schema_text(text, sizeof(text), &kmm__v1__pool__descriptor);

	ck_assert_uint_eq(n, strlen(text));
	memset(part, 'x', sizeof(part));
	ck_assert_uint_eq(schema_text(part, 5, &kmm__v1__pool__descriptor), n);
	ck_assert_str_eq(part, "mess");
	ck_assert_int_eq(part[5], 'x');
	ck_assert_uint_eq(schema_text(NULL, 0, &kmm__v1__pool__descriptor), n);
}
END_TEST

START_TEST(every_method_is_found_and_its_schema_fits)
{
	unsigned int n = 0;

	for (const struct rpc_method *m = rpc_method_next(NULL); m; m = rpc_method_next(m)) {
		ck_assert_ptr_eq(rpc_method_find(m->number), m);
		ck_assert_uint_le(schema_text(NULL, 0, m->request), REQUEST_MAX);
		ck_assert_uint_le(schema_text(NULL, 0, m->reply), REPLY_MAX);
		ck_assert_uint_lt(strlen(m->name), 128);
		n++;
	}
	/* all of enum Method but UNSPECIFIED */
	ck_assert_uint_eq(n, kmm__v1__method__descriptor.n_values - 1);
	for (unsigned int i = 0; i < kmm__v1__method__descriptor.n_values; i++) {
		uint32_t number = (uint32_t)kmm__v1__method__descriptor.values[i].value;

		ck_assert((rpc_method_find(number) != NULL) == (number != 0));
	}
	ck_assert_ptr_null(rpc_method_find(0));
	ck_assert_ptr_null(rpc_method_find(255));
	ck_assert_ptr_null(rpc_method_find(256));
	ck_assert_ptr_null(rpc_method_find(UINT32_MAX));
}
END_TEST

START_TEST(statuses_of_errno_values)
{
	static const struct {
		int error, status;
	} want[] = {
		{ 0, STATUS_OK },
		{ EINVAL, STATUS_INVALID_ARGUMENT },
		{ EPERM, STATUS_PERMISSION_DENIED },
		{ ENOENT, STATUS_NOT_FOUND },
		{ EDQUOT, STATUS_RESOURCE_EXHAUSTED },
		{ ETIMEDOUT, STATUS_DEADLINE_EXCEEDED },
		{ ECANCELED, STATUS_CANCELLED },
		{ ESTALE, STATUS_ABORTED },
		{ ENOTRECOVERABLE, STATUS_DATA_LOSS },
		{ EIO, STATUS_INTERNAL },
	};

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		ck_assert_msg((int)rpc_status_of(want[i].error) == want[i].status,
		              "errno %d: status %d, not %d", want[i].error,
		              (int)rpc_status_of(want[i].error), want[i].status);
}
END_TEST

START_TEST(arena_is_aligned_bounded_and_reusable)
{
	ProtobufCAllocator *allocator;
	struct arena *a;
	uint8_t *p, *q;

	ck_assert_int_eq(arena_new(&a), 0);
	allocator = arena_allocator(a);
	p = allocator->alloc(allocator->allocator_data, 1);
	q = allocator->alloc(allocator->allocator_data, 24);
	ck_assert_ptr_nonnull(p);
	ck_assert_uint_eq((uintptr_t)p % 16, 0);
	ck_assert_uint_eq((uintptr_t)q % 16, 0);
	ck_assert(q >= p + 1);
	memset(q, 1, 24);
	ck_assert_ptr_null(allocator->alloc(allocator->allocator_data, ARENA_SIZE));
	ck_assert(arena_overflowed(a));
	ck_assert_ptr_null(allocator->alloc(allocator->allocator_data, SIZE_MAX));
	arena_reset(a);
	ck_assert(!arena_overflowed(a));
	ck_assert_ptr_eq(allocator->alloc(allocator->allocator_data, ARENA_SIZE), p);
	ck_assert_ptr_null(allocator->alloc(allocator->allocator_data, 1));
	arena_free(a);
}
END_TEST

START_TEST(arena_caps_what_a_request_may_take)
{
	/* 8000 unknown fields of two bytes */
	static uint8_t body[16000];
	struct arena *a;

	for (size_t i = 0; i < sizeof(body); i += 2) {
		body[i] = 15 << 3;
		body[i + 1] = 1;
	}
	ck_assert_int_eq(arena_new(&a), 0);
	ck_assert_ptr_null(protobuf_c_message_unpack(&kmm__v1__close_request__descriptor,
	                                             arena_allocator(a), sizeof(body), body));
	ck_assert(arena_overflowed(a));
	arena_reset(a);
	ck_assert_ptr_nonnull(protobuf_c_message_unpack(&kmm__v1__close_request__descriptor,
	                                                arena_allocator(a), 20, body));
	arena_free(a);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("schema");
	TCase *tcase = tcase_create("schema");

	tcase_add_test(tcase, schema_is_proto3);
	tcase_add_test(tcase, schema_includes_what_a_message_uses_once);
	tcase_add_test(tcase, schema_says_how_long_it_is);
	tcase_add_test(tcase, every_method_is_found_and_its_schema_fits);
	tcase_add_test(tcase, statuses_of_errno_values);
	tcase_add_test(tcase, arena_is_aligned_bounded_and_reusable);
	tcase_add_test(tcase, arena_caps_what_a_request_may_take);
	suite_add_tcase(suite, tcase);
	return suite_status(suite);
}

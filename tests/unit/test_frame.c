/* SPDX-License-Identifier: MIT */
/*
 * The frame codec: the layout byte by byte, every refusal, and that refusals change nothing.
 */
#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "tests/suite.h"

static const struct frame sample = {
        .length = 0x1234,
        .call = 0xa1b2c3d4,
        .code = 0x0b0a,
        .kind = FRAME_REPLY,
        .nfds = 3,
        .cpu = 0x0102,
        .timeout_us = 0x1122334455667788,
};

START_TEST(layout_is_little_endian_at_fixed_places)
{
	static const uint8_t expected[FRAME_HEADER_SIZE] = {
	        0x34, 0x12, 0x00, 0x00, 0xd4, 0xc3, 0xb2, 0xa1, 0x0a, 0x0b, 0x02, 0x03,
	        0x02, 0x01, 0x00, 0x00, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
	};
	uint8_t out[FRAME_HEADER_SIZE];

	frame_encode(out, &sample);
	ck_assert_mem_eq(out, expected, sizeof(out));
}
END_TEST

START_TEST(decode_gives_back_what_was_encoded)
{
	uint8_t out[FRAME_HEADER_SIZE];
	const char *why = NULL;
	struct frame f;

	memset(&f, 0, sizeof(f));
	frame_encode(out, &sample);
	ck_assert_int_eq(frame_decode(&f, out, sizeof(out), &why), 0);
	ck_assert_uint_eq(f.length, sample.length);
	ck_assert_uint_eq(f.call, sample.call);
	ck_assert_uint_eq(f.code, sample.code);
	ck_assert_uint_eq(f.kind, sample.kind);
	ck_assert_uint_eq(f.nfds, sample.nfds);
	ck_assert_uint_eq(f.cpu, sample.cpu);
	ck_assert_uint_eq(f.timeout_us, sample.timeout_us);
}
END_TEST

/* Decodes a header with one byte changed; f and why must stay what they were unless it says so. */
static int decode_with(size_t at, uint8_t value, size_t n, const char **why)
{
	struct frame base = {.kind = FRAME_REQUEST, .call = 1}, f = {.call = 99};
	uint8_t in[FRAME_HEADER_SIZE];
	int r;

	frame_encode(in, &base);
	in[at] = value;
	*why = NULL;
	r = frame_decode(&f, in, n, why);
	if (r < 0)
		ck_assert_uint_eq(f.call, 99);
	return r;
}

START_TEST(short_input_asks_for_more)
{
	const char *why;

	for (size_t n = 0; n < FRAME_HEADER_SIZE; n++) {
		ck_assert_int_eq(decode_with(10, 0xff, n, &why), -EAGAIN);
		ck_assert_ptr_null(why);
	}
}
END_TEST

START_TEST(kinds_that_there_are_not)
{
	const char *why;

	for (unsigned int kind = 0; kind < 256; kind++) {
		int expected = kind >= FRAME_REQUEST && kind <= FRAME_NOTIFY ? 0 : -EBADMSG;

		ck_assert_int_eq(decode_with(10, (uint8_t)kind, FRAME_HEADER_SIZE, &why), expected);
		ck_assert(expected == 0 || why != NULL);
	}
}
END_TEST

START_TEST(reserved_bytes_must_be_zero)
{
	const char *why;

	ck_assert_int_eq(decode_with(14, 1, FRAME_HEADER_SIZE, &why), -EBADMSG);
	ck_assert_ptr_nonnull(why);
	ck_assert_int_eq(decode_with(15, 0x80, FRAME_HEADER_SIZE, &why), -EBADMSG);
	ck_assert_ptr_nonnull(why);
}
END_TEST

START_TEST(descriptors_ride_on_replies_alone)
{
	uint8_t in[FRAME_HEADER_SIZE];
	const char *why;
	struct frame f;

	for (unsigned int kind = FRAME_REQUEST; kind <= FRAME_NOTIFY; kind++) {
		for (unsigned int n = 0; n < 256; n++) {
			struct frame base = {.kind = (uint8_t)kind, .nfds = (uint8_t)n};
			bool good = n == 0 || (kind == FRAME_REPLY && n <= FRAME_FDS_MAX);

			frame_encode(in, &base);
			ck_assert_int_eq(frame_decode(&f, in, sizeof(in), &why), good ? 0 : -EBADMSG);
		}
	}
}
END_TEST

START_TEST(body_length_is_bounded)
{
	static const struct {
		uint32_t length;
		int expected;
	} row[] = {
	        {0, 0},
	        {FRAME_BODY_MAX, 0},
	        {FRAME_BODY_MAX + 1, -EMSGSIZE},
	        {INT32_MAX, -EMSGSIZE},
	        {UINT32_MAX, -EMSGSIZE},
	};
	uint8_t in[FRAME_HEADER_SIZE];
	const char *why;
	struct frame f;

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct frame base = {.kind = FRAME_REQUEST, .length = row[i].length};

		frame_encode(in, &base);
		ck_assert_int_eq(frame_decode(&f, in, sizeof(in), &why), row[i].expected);
	}
}
END_TEST

START_TEST(statuses_have_grpc_names)
{
	ck_assert_str_eq(status_name(STATUS_OK), "OK");
	ck_assert_str_eq(status_name(STATUS_DEADLINE_EXCEEDED), "DEADLINE_EXCEEDED");
	ck_assert_str_eq(status_name(STATUS_RESOURCE_EXHAUSTED), "RESOURCE_EXHAUSTED");
	ck_assert_str_eq(status_name(STATUS_UNAUTHENTICATED), "UNAUTHENTICATED");
	for (int i = STATUS_OK; i <= STATUS_UNAUTHENTICATED; i++)
		ck_assert_str_ne(status_name((enum status_code)i), "?");
	ck_assert_str_eq(status_name((enum status_code)17), "?");
	ck_assert_str_eq(status_name((enum status_code)-1), "?");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("frame");
	TCase *tcase = tcase_create("frame");

	tcase_add_test(tcase, layout_is_little_endian_at_fixed_places);
	tcase_add_test(tcase, decode_gives_back_what_was_encoded);
	tcase_add_test(tcase, short_input_asks_for_more);
	tcase_add_test(tcase, kinds_that_there_are_not);
	tcase_add_test(tcase, reserved_bytes_must_be_zero);
	tcase_add_test(tcase, descriptors_ride_on_replies_alone);
	tcase_add_test(tcase, body_length_is_bounded);
	tcase_add_test(tcase, statuses_have_grpc_names);
	suite_add_tcase(suite, tcase);
	return suite_status(suite);
}

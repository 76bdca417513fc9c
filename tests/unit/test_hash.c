/* SPDX-License-Identifier: MIT */
/*
 * The keyed hash (daemon/hash.h): the vectors of SipHash's paper and reference implementation, and
 * that keys make a difference.
 */
#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/hash.h"
#include "tests/suite.h"

/* Key 00 01 .. 0f, input 00 01 .. of so many bytes. */
static const struct {
	size_t size;
	uint64_t hash;
} vector[] = {
	{ 0, UINT64_C(0x726fdb47dd0e0e31) },  { 1, UINT64_C(0x74f839c593dc67fd) },
	{ 2, UINT64_C(0x0d6c8009d9a94f5a) },  { 7, UINT64_C(0xab0200f58b01d137) },
	{ 8, UINT64_C(0x93f5f5799a932462) },  { 15, UINT64_C(0xa129ca6149be45e5) },
};

START_TEST(known_vectors)
{
	const struct hash_key key = { { UINT64_C(0x0706050403020100),
		                        UINT64_C(0x0f0e0d0c0b0a0908) } };
	uint8_t input[16];
	size_t i;

	for (i = 0; i < sizeof(input); i++)
		input[i] = (uint8_t)i;
	for (i = 0; i < sizeof(vector) / sizeof(vector[0]); i++)
		ck_assert_msg(hash_bytes(&key, input, vector[i].size) == vector[i].hash,
		              "%zu bytes: %016llx", vector[i].size,
		              (unsigned long long)hash_bytes(&key, input, vector[i].size));
}
END_TEST

/* Names that fall into one chain by one key do not by another. */
START_TEST(keys_part_what_collides)
{
	enum { BUCKETS = 1024, WANTED = 64 };
	struct hash_key a, b;
	unsigned int i, n = 0, together = 0;
	uint64_t first = 0;
	char name[32];

	ck_assert_int_eq(hash_key_draw(&a), 0);
	ck_assert_int_eq(hash_key_draw(&b), 0);
	ck_assert(a.k[0] != b.k[0] && a.k[1] != b.k[1]);
	for (i = 0; n < WANTED; i++) {
		snprintf(name, sizeof(name), "name-%u", i);
		if (hash_text(&a, name) % BUCKETS != 0)
			continue;
		if (n++ == 0)
			first = hash_text(&b, name) % BUCKETS;
		else
			together += hash_text(&b, name) % BUCKETS == first;
	}
	ck_assert_uint_lt(together, WANTED / 4);
	ck_assert(hash_granule(&a, 1) != hash_granule(&b, 1));
	ck_assert(hash_granule(&a, 1) != hash_granule(&a, 2));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hash");
	TCase *t = tcase_create("hash");

	tcase_add_test(t, known_vectors);
	tcase_add_test(t, keys_part_what_collides);
	suite_add_tcase(s, t);
	return suite_status(s);
}

/* SPDX-License-Identifier: MIT */
/*
 * A keyed hash for chains whose members clients choose (names, places): SipHash-2-4 by Aumasson and
 * Bernstein (2012), 64 bits. The key is drawn at the daemon's start and never shown, so nobody can
 * compute which names or places fall into one chain, and tables stay O(1) whatever clients ask for.
 */
#ifndef DAEMON_HASH_H
#define DAEMON_HASH_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

struct hash_key {
	uint64_t k[2];
};

/* -EIO: the kernel has no random bytes to give. */
static inline int hash_key_draw(struct hash_key *key)
{
	return getrandom(key->k, sizeof(key->k), 0) == sizeof(key->k) ? 0 : -EIO;
}

static inline uint64_t hash_turn(uint64_t x, unsigned int bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void hash_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = hash_turn(v[1], 13) ^ v[0];
	v[3] = hash_turn(v[3], 16) ^ v[2];
	v[0] = hash_turn(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = hash_turn(v[1], 17) ^ v[2];
	v[3] = hash_turn(v[3], 21) ^ v[0];
	v[2] = hash_turn(v[2], 32);
}

static inline void hash_word(uint64_t v[4], uint64_t m)
{
	v[3] ^= m;
	hash_round(v);
	hash_round(v);
	v[0] ^= m;
}

/* The same on every machine: bytes are read in little-endian order. */
static inline uint64_t hash_bytes(const struct hash_key *key, const void *data, size_t size)
{
	uint64_t v[4] = { key->k[0] ^ UINT64_C(0x736f6d6570736575),
		          key->k[1] ^ UINT64_C(0x646f72616e646f6d),
		          key->k[0] ^ UINT64_C(0x6c7967656e657261),
		          key->k[1] ^ UINT64_C(0x7465646279746573) };
	const uint8_t *p = data;
	uint64_t m = 0;
	size_t i;

	for (i = 0; i < size; i++) {
		m |= (uint64_t)p[i] << i % 8 * 8;
		if (i % 8 == 7) {
			hash_word(v, m);
			m = 0;
		}
	}
	hash_word(v, m | (uint64_t)size << 56);
	v[2] ^= 0xff;
	for (i = 0; i < 4; i++)
		hash_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static inline uint64_t hash_text(const struct hash_key *key, const char *text)
{
	return hash_bytes(key, text, strlen(text));
}

/* Of a place in the pool. */
static inline uint64_t hash_granule(const struct hash_key *key, uint32_t granule)
{
	return hash_bytes(key, &granule, sizeof(granule));
}

#endif

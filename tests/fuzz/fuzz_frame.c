/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: what a client can send, as the daemon reads it.
 *
 *     bytes ── frame_decode ──> header, body ── the method's request, unpacked in the arena
 *
 * The input is a stream, cut into frames as a channel does it. The body of a request is unpacked as
 * the request of the method that it names, that of any other frame as every method's request. What
 * must hold besides not crashing: a header that was taken encodes to the same bytes; a refused one
 * says why and leaves the result alone; a message that was taken packs to a size that it announces,
 * and what it packs to is taken again; the arena is not left.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/arena.h"
#include "daemon/rpc.h"
#include "proto/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition) ((condition) ? (void)0 : abort())

static struct arena *arena;

static void fuzz_unpack(const struct rpc_method *m, const uint8_t *body, size_t n)
{
	/* an enum or bool may pack longer than it came, a varint up to ten bytes */
	static uint8_t packed[FRAME_BODY_MAX * 16];
	ProtobufCMessage *message;
	size_t size;

	arena_reset(arena);
	message = protobuf_c_message_unpack(m->request, arena_allocator(arena), n, body);
	/* protobuf-c does not keep the tags of unknown fields beyond 2^29 */
	if (!message || message->n_unknown_fields)
		return;
	size = protobuf_c_message_get_packed_size(message);
	REQUIRE(size <= sizeof(packed));
	REQUIRE(protobuf_c_message_pack(message, packed) == size);
	arena_reset(arena);
	message = protobuf_c_message_unpack(m->request, arena_allocator(arena), size, packed);
	REQUIRE(message || arena_overflowed(arena));
	REQUIRE(!message || protobuf_c_message_get_packed_size(message) == size);
}

static void fuzz_body(const struct frame *f, const uint8_t *body)
{
	const struct rpc_method *m = rpc_method_find(f->code);

	if ((f->kind == FRAME_REQUEST || f->kind == FRAME_NOTIFY) && m) {
		fuzz_unpack(m, body, f->length);
		return;
	}
	for (m = rpc_method_next(NULL); m; m = rpc_method_next(m))
		fuzz_unpack(m, body, f->length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t at = 0;

	if (!arena && arena_new(&arena) < 0)
		abort();
	for (;;) {
		uint8_t header[FRAME_HEADER_SIZE];
		struct frame f = {.call = 77};
		const char *why = NULL;
		int r = frame_decode(&f, data + at, size - at, &why);

		REQUIRE((r == -EAGAIN) == (size - at < FRAME_HEADER_SIZE));
		if (r < 0) {
			REQUIRE(f.call == 77);
			REQUIRE(r == -EAGAIN || why);
			return 0;
		}
		frame_encode(header, &f);
		REQUIRE(memcmp(header, data + at, sizeof(header)) == 0);
		REQUIRE(f.length <= FRAME_BODY_MAX);
		at += FRAME_HEADER_SIZE;
		if (size - at < f.length)
			return 0;
		fuzz_body(&f, data + at);
		at += f.length;
	}
}

/* SPDX-License-Identifier: MIT */
/*
 * The frame header: eight little-endian fields at fixed places (frame.h draws them).
 *
 * Decoding refuses whatever can only come from a peer that lost its place in the stream: after such
 * a header the length cannot be trusted either, so the connection is of no further use. What a
 * frame means (method, status) is judged by whoever gets it.
 */
#include "proto/frame.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

const char *status_name(enum status_code code)
{
	static const char *const name[] = {
	        [STATUS_OK] = "OK",
	        [STATUS_CANCELLED] = "CANCELLED",
	        [STATUS_UNKNOWN] = "UNKNOWN",
	        [STATUS_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
	        [STATUS_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
	        [STATUS_NOT_FOUND] = "NOT_FOUND",
	        [STATUS_ALREADY_EXISTS] = "ALREADY_EXISTS",
	        [STATUS_PERMISSION_DENIED] = "PERMISSION_DENIED",
	        [STATUS_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
	        [STATUS_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
	        [STATUS_ABORTED] = "ABORTED",
	        [STATUS_OUT_OF_RANGE] = "OUT_OF_RANGE",
	        [STATUS_UNIMPLEMENTED] = "UNIMPLEMENTED",
	        [STATUS_INTERNAL] = "INTERNAL",
	        [STATUS_UNAVAILABLE] = "UNAVAILABLE",
	        [STATUS_DATA_LOSS] = "DATA_LOSS",
	        [STATUS_UNAUTHENTICATED] = "UNAUTHENTICATED",
	};

	if ((unsigned int)code >= sizeof(name) / sizeof(name[0]))
		return "?";
	return name[code];
}

static void put16(uint8_t *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}

static void put32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static void put64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

static uint16_t get16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

void frame_encode(uint8_t out[FRAME_HEADER_SIZE], const struct frame *f)
{
	put32(out, f->length);
	put32(out + 4, f->call);
	put16(out + 8, f->code);
	out[10] = f->kind;
	out[11] = f->nfds;
	put16(out + 12, f->cpu);
	put16(out + 14, 0);
	put64(out + 16, f->timeout_us);
}

int frame_decode(struct frame *f, const uint8_t *in, size_t n, const char **why)
{
	struct frame h;

	if (n < FRAME_HEADER_SIZE)
		return -EAGAIN;
	h.length = get32(in);
	h.call = get32(in + 4);
	h.code = get16(in + 8);
	h.kind = in[10];
	h.nfds = in[11];
	h.cpu = get16(in + 12);
	h.timeout_us = get64(in + 16);
	if (h.kind < FRAME_REQUEST || h.kind > FRAME_NOTIFY) {
		*why = "the frame's kind is none of request, reply, item, cancel, notify";
		return -EBADMSG;
	}
	if (get16(in + 14) != 0) {
		*why = "the frame's reserved bytes are not zero";
		return -EBADMSG;
	}
	if (h.nfds > FRAME_FDS_MAX) {
		*why = "the frame says that more than 16 descriptors ride on it";
		return -EBADMSG;
	}
	if (h.nfds && h.kind != FRAME_REPLY) {
		*why = "descriptors ride on a frame that is no reply";
		return -EBADMSG;
	}
	if (h.length > FRAME_BODY_MAX) {
		*why = "the frame's body is longer than 16384 bytes";
		return -EMSGSIZE;
	}
	*f = h;
	return 0;
}

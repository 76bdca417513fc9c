/* SPDX-License-Identifier: MIT */
/*
 * Frames: a 24-byte little-endian header and a protobuf body.
 *
 *      0       4       8      10    11    12    14    16              24
 *     +-------+-------+------+-----+-----+-----+-----+---------------+------------------
 *     |length | call  |code  |kind |nfds | cpu |  0  | timeout (µs)  | body, length bytes
 *     +-------+-------+------+-----+-----+-----+-----+---------------+------------------
 *
 *   REQUEST  code = method (enum Method); call = an id that the client chooses, unique among its
 *            unanswered calls on this connection, not 0; timeout = until the deadline, 0 = none
 *   REPLY    code = status; ends the call; body = the reply, or an Error
 *   ITEM     one message of a server stream; a REPLY ends it
 *   NOTIFY   a request that is not answered, call = 0: for methods whose outcome nobody waits for
 *   CANCEL   the client no longer wants that call; it is answered CANCELLED unless it was answered
 *
 * The cpu of a connection's first frame says which reactor shall serve it (cpu modulo reactors).
 * `nfds` descriptors ride on the frame (SCM_RIGHTS), in order; only replies carry any.
 *
 * The same frames travel over sockets and, later, shared-memory rings.
 */
#ifndef PROTO_FRAME_H
#define PROTO_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER_SIZE 24u
#define FRAME_BODY_MAX 16384u
#define FRAME_MAX (FRAME_HEADER_SIZE + FRAME_BODY_MAX)
#define FRAME_FDS_MAX 16u
#define PROTOCOL_VERSION 1u

enum frame_kind {
	FRAME_REQUEST = 1,
	FRAME_REPLY = 2,
	FRAME_ITEM = 3,
	FRAME_CANCEL = 4,
	FRAME_NOTIFY = 5,
};

/* gRPC's canonical codes */
enum status_code {
	STATUS_OK = 0,
	STATUS_CANCELLED = 1,
	STATUS_UNKNOWN = 2,
	STATUS_INVALID_ARGUMENT = 3,
	STATUS_DEADLINE_EXCEEDED = 4,
	STATUS_NOT_FOUND = 5,
	STATUS_ALREADY_EXISTS = 6,
	STATUS_PERMISSION_DENIED = 7,
	STATUS_RESOURCE_EXHAUSTED = 8,
	STATUS_FAILED_PRECONDITION = 9,
	STATUS_ABORTED = 10,
	STATUS_OUT_OF_RANGE = 11,
	STATUS_UNIMPLEMENTED = 12,
	STATUS_INTERNAL = 13,
	STATUS_UNAVAILABLE = 14,
	STATUS_DATA_LOSS = 15,
	STATUS_UNAUTHENTICATED = 16,
};
const char *status_name(enum status_code code); /* "RESOURCE_EXHAUSTED"; "?" for others */

struct frame {
	uint32_t length; /* of the body */
	uint32_t call;
	uint16_t code;
	uint8_t kind;
	uint8_t nfds;
	uint16_t cpu;
	uint64_t timeout_us;
};

void frame_encode(uint8_t out[FRAME_HEADER_SIZE], const struct frame *f);
/* Reads a header from n bytes: 0; -EAGAIN fewer than 24; -EMSGSIZE body above FRAME_BODY_MAX;
 * -EBADMSG kind, reserved bytes or nfds make no sense (*why, a static text, says what). */
int frame_decode(struct frame *f, const uint8_t *in, size_t n, const char **why);

#endif

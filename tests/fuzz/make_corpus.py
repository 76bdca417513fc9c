#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the starting corpus of the frame fuzzer: make_corpus.py FOLDER.

A file for every method with a body as a client would send it, and one for each way of being wrong
that has a name. Inputs that fuzzing finds later are added beside them by hand.
"""
import os
import struct
import sys

REQUEST, REPLY, ITEM, CANCEL, NOTIFY = 1, 2, 3, 4, 5


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def header(length, call=1, code=0, kind=REQUEST, nfds=0, cpu=0, reserved=0, timeout=0):
    return struct.pack("<IIHBBHHQ", length, call, code, kind, nfds, cpu, reserved, timeout)


def frame(code, body=b"", **rest):
    return header(len(body), code=code, **rest) + body


HELLO = (field(1, 1) + field(2, 3) + field(3, "corpus") + field(4, "default") + field(5, 7)
         + field(6, bytes(range(16))) + field(7, bytes(16)) + field(8, 1) + field(9, 0))
METHODS = {
    "hello": (1, HELLO),
    "close": (2, b""),
    "alloc_pages": (3, field(1, 0xCC0) + field(2, 9)),
    "free_pages": (4, field(1, 4096) + field(2, 3) + field(3, 1 << 37)),
    "exchange": (5, field(1, 0xCC0) + field(2, 0) + field(3, 512) + field(4, 3) + field(5, 1)),
    "get_sections": (6, field(1, b"".join(varint(n) for n in range(0, 1600, 100)))),
    "send": (7, field(1, 0xFFFFFFFF) + field(2, (1 << 38) - 1) + field(3, 0xFFFFF)),
    "hold": (8, field(1, 512) + field(2, 1)),
    "release": (9, field(1, 512) + field(2, 1)),
    "collect": (10, b""),
    "events": (11, b""),
    "get_holders": (12, field(1, 512)),
    "alloc_blocks": (24, field(1, 0xCC2) + field(2, 4096) + field(3, 10) + field(4, 9) + field(5, 1)
                     + field(6, 1)),
    "get_pool": (32, b""),
    "list_zones": (33, field(1, "default")),
    "list_resources": (34, b""),
    "list_sessions": (35, field(1, "default")),
    "get_session": (36, field(1, 5)),
    "fsck": (64, b""),
    "drop_caches": (65, b""),
    "kill_session": (66, field(1, 5)),
    "check": (96, b""),
    "list_methods": (97, field(1, "kmm.v1.Health/Check")),
}
WRONG = {
    "empty": b"",
    "half_a_header": header(0, code=96)[:13],
    "unfinished_body": header(100, code=1) + HELLO,
    "body_too_long": header(16385, code=96),
    "body_of_4_gib": header(0xFFFFFFFF, code=96),
    "largest_body": frame(1, field(3, "x" * 16381)),
    "kind_0": frame(96, kind=0),
    "kind_255": frame(96, kind=255),
    "reserved": frame(96, reserved=0x100),
    "descriptors_on_a_request": frame(96, nfds=1),
    "descriptors_too_many": frame(96, kind=REPLY, nfds=17),
    "reply": frame(0, field(1, 22) + field(2, "no"), kind=REPLY, nfds=16),
    "item": frame(0, kind=ITEM),
    "cancel": frame(0, kind=CANCEL),
    "call_0": frame(96, call=0),
    "notify": frame(4, field(1, 4096) + field(3, 1), kind=NOTIFY, call=0),
    "notify_with_a_call": frame(4, kind=NOTIFY),
    "notify_what_must_be_answered": frame(96, kind=NOTIFY, call=0),
    "unknown_method": frame(200, field(1, 1)),
    "method_65535": frame(65535),
    "last_moment": frame(96, timeout=0xFFFFFFFFFFFFFFFF),
    "tag_0": frame(3, b"\0\0"),
    "tag_unending": frame(3, b"\xff" * 16),
    "varint_unending": frame(3, b"\x08" + b"\xff" * 16),
    "length_behind_the_end": frame(1, b"\x1a\x7f" + b"x" * 10),
    "length_of_4_gib": frame(1, b"\x1a\xff\xff\xff\xff\x0f"),
    "wrong_wire_type": frame(3, field(1, "text")),
    "group": frame(3, b"\x0b\x08\x01\x0c"),
    "fixed_cut_off": frame(3, b"\x0d\x01\x02"),
    "same_field_often": frame(3, field(1, 5) * 4000),
    "sections_many": frame(6, field(1, 3) * 4000),
    "sections_packed_many": frame(6, field(1, b"\x01" * 16000)),
    "sections_packed_cut_off": frame(6, field(1, b"\x01\x02\xff")),
    "unknown_fields": frame(2, b"".join(field(1000 + n, n) for n in range(2000))),
    "nul_in_a_text": frame(1, field(3, "a\0b") + field(4, "\0")),
    "no_utf_8": frame(1, field(3, b"\xff\xfe\x80")),
    "token_too_long": frame(1, field(6, bytes(4000))),
    "pipelined": b"".join(frame(code, body, call=n + 1)
                          for n, (code, body) in enumerate(METHODS.values())),
    "good_then_broken": frame(96) + b"\xff" * 24,
}


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    inputs = {f"method_{name}": frame(code, body, call=2, cpu=1, timeout=30_000_000)
              for name, (code, body) in METHODS.items()}
    inputs.update((f"wrong_{name}", data) for name, data in WRONG.items())
    for name, data in inputs.items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: MIT
"""Scale: a quarter, half and all of 1,000 caches, 10,000,000 objects and 1,000 sessions of four
threads, each in a daemon of its own; and the death of a session in pools of three sizes.

Costs are per item, so what grows linearly stays the same from one to the next.
"""
import json
import os
import subprocess

POOL = 4 << 30
FULL = {"caches": 1000, "objects": 10000000, "sessions": 1000}
PARTS = [("1x", 4), ("2x", 2), ("4x", 1)]
POOLS = [("pool of 1 GiB,", 1 << 30), ("pool of 2 GiB,", 2 << 30), ("pool of 4 GiB,", 4 << 30)]
NOISE = 1.5 # a machine that others use

EACH = [
    "cache made",
    "cache: memory of the daemon",
    "object allocated and written",
    "object: memory of the daemon",
    "object: memory of the client",
    "session opened",
    "thread's first object",
    "session of 4 threads: memory of the daemon",
    "session: memory of the client",
    "thread and its cache: memory of the client",
]


def growth(what, by):
    return lambda m: m["4x " + what] / max(m["1x " + what], 1e-9) / by


DEATH = "death of a session with %d objects"
TARGETS = [
    ("restart with 10 million objects: ms", lambda m: m["4x restart, kill to first answer"], 1000),
    ("restart: 4x to 1x, by size", growth("restart, kill to first answer", 4), NOISE),
    ("kmmctl slabinfo: 4x to 1x, by size", growth("kmmctl slabinfo", 4), NOISE),
] + [
    ("%s: 4x to 1x, each" % what, growth(what, 1), NOISE) for what in EACH
] + [
    ("death with 1000000 objects to one with 100000, by what it held",
     lambda m: m["4x " + DEATH % 1000000] / m["4x " + DEATH % 100000] / 10, NOISE),
    ("death with 1000 objects: among all of it, to the same in an empty pool",
     lambda m: m["4x " + DEATH % 1000] / m["pool of 4 GiB, " + DEATH % 1000], 2),
    ("death with 100000 objects: pool of 4 GiB to one of 1 GiB",
     lambda m: m["pool of 4 GiB, " + DEATH % 100000] / m["pool of 1 GiB, " + DEATH % 100000],
     NOISE),
]


def rows_of(command):
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if out.returncode != 0:
        raise SystemExit("%s ended with status %d" % (" ".join(command), out.returncode))
    return [json.loads(line) for line in out.stdout.splitlines() if line.startswith("{")]


def run(builddir, daemon):
    program = os.path.join(builddir, "bench_scale")
    kmmctl = os.path.join(builddir, "kmmctl")
    rows = []
    for label, pool in POOLS:
        with daemon(builddir, pool) as d:
            rows += rows_of([program, "death", d.socket, kmmctl, label])
    for label, part in PARTS:
        with daemon(builddir, POOL, supervise=True) as d:
            rows += rows_of([program, "all", d.socket, kmmctl, label] +
                            [str(FULL[what] // part) for what in ("caches", "objects", "sessions")])
    return rows

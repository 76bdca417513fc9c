# SPDX-License-Identifier: MIT
"""Objects: kmmd and its competitors, each a program that measures a row when it is asked to.

All are started once; then every row is measured by each in turn, round by round. See peer.h.
"""
import os
import subprocess
import threading

ROUNDS = 9
OVERHEAD_ROUNDS = 3
PATIENCE = 120 # seconds for one row

# name, program and arguments, the library that must be in it, the Debian package
KMM = [
    ("kmm", ["bench_object", "cache"], None, None),
    ("kmalloc", ["bench_object", "kmalloc"], None, None),
]
COMPETITORS = [
    ("glibc", ["peer_glibc"], None, None),
    ("mimalloc", ["peer_mimalloc"], "libmimalloc", "libmimalloc-dev"),
    ("jemalloc", ["peer_jemalloc"], "libjemalloc", "libjemalloc-dev"),
    ("tcmalloc", ["peer_tcmalloc"], "libtcmalloc", "libgoogle-perftools-dev"),
    ("mempool", ["peer_dpdk", "mempool"], "librte_mempool", "libdpdk-dev"),
    ("rte_malloc", ["peer_dpdk", "malloc"], "librte_eal", "libdpdk-dev"),
    ("boost", ["peer_boost"], None, "libboost-dev"),
    ("iceoryx", ["peer_iceoryx"], "libiceoryx_posh", "iceoryx and libiceoryx-posh-dev"),
    ("ring", ["peer_ring"], None, None),
]
MALLOCS = ["glibc", "mimalloc", "jemalloc", "tcmalloc"]

ONE = "64 B, one at a time"
TWO = "64 B, one at a time, 2 threads"
BATCH = "64 B, batches of 64"
RUN = "64 B, runs of 50000"
BULK = "64 B, bulk of 32"
RANDOM = "16..1024 B at random, 1000 live"
BURSTS = [1, 8, 32]
ROWS = [ONE, TWO, BATCH, RUN, BULK, RANDOM] + ["crossing, bursts of %d" % n for n in BURSTS]

SIZES = [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096]
OVERHEAD_PEERS = ["kmm", "kmalloc", "glibc", "mimalloc", "jemalloc", "tcmalloc"]


def overhead_row(size):
    return "overhead, %d B" % size


def best(m, row, peers):
    """The best of those that are there; KeyError when none is."""
    found = [m[row, p] for p in peers if (row, p) in m]
    if not found:
        raise KeyError(row)
    return min(found)


def excess(size):
    """Bytes an object that we need beyond the better of two thrifty mallocs."""
    row = overhead_row(size)
    return lambda m: (m[row, "kmm"] - best(m, row, ["mimalloc", "jemalloc"])) * size


TARGETS = [
    ("cache, one at a time: to the best malloc",
     lambda m: m[ONE, "kmm"] / best(m, ONE, MALLOCS), 0.8),
    ("cache, one at a time: to DPDK's mempool",
     lambda m: m[ONE, "kmm"] / m[ONE, "mempool"], 0.8),
    ("cache, one at a time, two threads: to the best malloc",
     lambda m: m[TWO, "kmm"] / best(m, TWO, MALLOCS), 0.8),
    ("cache, one at a time, two threads: to DPDK's mempool",
     lambda m: m[TWO, "kmm"] / m[TWO, "mempool"], 0.8),
    ("cache, batches of 64: to the best of all",
     lambda m: m[BATCH, "kmm"] / best(m, BATCH, MALLOCS + ["mempool"]), 0.8),
    ("cache, bulk of 32: to DPDK's bulk", lambda m: m[BULK, "kmm"] / m[BULK, "mempool"], 1.5),
    ("kmalloc 64 B, one at a time: to the best malloc",
     lambda m: m[ONE, "kmalloc"] / best(m, ONE, MALLOCS), 1.0),
    ("kmalloc 64 B, one at a time, two threads: to the best malloc",
     lambda m: m[TWO, "kmalloc"] / best(m, TWO, MALLOCS), 1.0),
    ("kmalloc of random sizes: to the best malloc",
     lambda m: m[RANDOM, "kmalloc"] / best(m, RANDOM, MALLOCS), 1.0),
] + [
    ("two processes, bursts of %d: to DPDK's mempool" % n,
     lambda m, row="crossing, bursts of %d" % n: m[row, "kmm"] / m[row, "mempool"], 3.0)
    for n in BURSTS
] + [
    ("overhead, %d B: bytes an object beyond mimalloc's or jemalloc's" % size, excess(size), 8)
    for size in SIZES
]


class Peer:
    """A competitor's process between its start and its end."""

    def __init__(self, name, command, library):
        self.name = name
        self.row = "its start"
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, bufsize=1)
        self.alive = self.answer(lambda line: line == "ready") == "ready"
        if self.alive and library:
            with open("/proc/%d/maps" % self.process.pid) as f:
                if library not in f.read():
                    raise SystemExit("%s does not use %s" % (name, library))

    def answer(self, wanted):
        """The next line that is wanted (libraries talk on standard output too); None: it ended."""
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                if wanted(line.strip()):
                    return line.strip()
            return None
        finally:
            timer.cancel()

    def ask(self, row):
        """Nanoseconds, or None: it has no such row, or died of it."""
        def figure(line):
            return line == "-" or line.replace(".", "", 1).lstrip("-").isdigit()
        if not self.alive:
            return None
        self.row = row
        try:
            self.process.stdin.write(row + "\n")
            line = self.answer(figure)
        except BrokenPipeError:
            line = None
        if line is None:
            self.alive = False
            return None
        return None if line == "-" else float(line)

    def end(self):
        """Where and how it failed, else None. Status -9: no answer in time, or killed."""
        try:
            _, errors = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, errors = self.process.communicate()
        if self.process.returncode == 0 and self.alive:
            return None
        return "at '%s', status %d: %s" % (self.row, self.process.returncode, errors.strip()[-400:])


class Roudi:
    """iceoryx's daemon while its competitor runs; one that runs already is left alone."""

    def __init__(self):
        self.process = None
        try:
            self.process = subprocess.Popen(["iox-roudi", "-m", "off"], text=True,
                                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for line in self.process.stdout:
                if "ready for clients" in line:
                    break
        except OSError:
            pass

    def end(self):
        if self.process:
            self.process.terminate()
            self.process.communicate()


def commands(builddir, daemon):
    """name -> (command, library), and name -> why it is absent."""
    there, absent = {}, {}
    ours = [daemon.socket, os.path.join(builddir, "kmmctl"), str(daemon.process.pid)]
    for group, more in (KMM, ours), (COMPETITORS, []):
        for name, command, library, package in group:
            program = os.path.join(builddir, command[0])
            if os.access(program, os.X_OK):
                there[name] = ([program] + command[1:] + more, library)
            else:
                absent[name] = "not installed: " + (package or command[0])
    return there, absent


def collect(rows, row, peer, value):
    if value is not None:
        rows.setdefault((row, peer), []).append(value)


def run(builddir, daemon):
    there, absent = commands(builddir, daemon)
    rows = {}
    roudi = Roudi() if "iceoryx" in there else None
    peers = [Peer(name, *there[name]) for name in there]
    for r in range(ROUNDS):
        for row in ROWS:
            for i in range(len(peers)):
                peer = peers[(i + r) % len(peers)]
                collect(rows, row, peer.name, peer.ask(row))
    for peer in peers:
        error = peer.end()
        if error is not None:
            absent[peer.name] = "failed: " + error
    if roudi:
        roudi.end()
    for r in range(OVERHEAD_ROUNDS):
        for size in SIZES:
            for name in OVERHEAD_PEERS:
                if name in there and name not in absent:
                    peer = Peer(name, *there[name])
                    collect(rows, overhead_row(size), name, peer.ask(overhead_row(size)))
                    peer.end()
    out = [{"bench": "object", "row": row, "peer": peer,
            "unit": "ns" if row in ROWS else "bytes", "samples": samples}
           for (row, peer), samples in rows.items()]
    return out, absent


def show(rows, absent):
    """One line a row, one column a competitor."""
    figures = {(r["row"], r["peer"]): r["figure"] for r in rows}
    names = [p[0] for p in KMM + COMPETITORS]
    for title, kind, columns, form in (
            ("Objects: ns an object, allocated and freed", ROWS, names, "%.2f"),
            ("Memory overhead: bytes a live byte", [overhead_row(s) for s in SIZES],
             OVERHEAD_PEERS, "%.4f")):
        columns = [c for c in columns if any((row, c) in figures for row in kind)]
        print("\n%s\n%-32s" % (title, "") + "".join("%11s" % c for c in columns))
        for row in kind:
            print("%-32s" % row + "".join(
                "%11s" % (form % figures[row, c] if (row, c) in figures else "-")
                for c in columns))
    for name, why in absent.items():
        print("%s: %s" % (name, why))
    print("Crossing: from one process to another through the same ring (mallocs: from one thread"
          "\nto another; iceoryx: its own queue); 'ring' is the ring alone.")

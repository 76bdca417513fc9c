# SPDX-License-Identifier: MIT
"""An upgrade under live clients: the test plays the service manager, keeps the pool's descriptors between
two daemons, and writes metadata of version 3 into them, byte for byte; the next daemon takes them over.

    clients ── hold, read and write all the time ───────────────────────────┐
    manager ── fds of a pool of version 4 ── rewritten: version 3 ── fds ──> │
       daemon (4) ─ killed                     daemon (4): converts, serves ─┘

What is rewritten is all in which the versions differ (daemon/record.h): the superblock, the session
records, the version in the ledger's head, and that there is no lifeline.
"""
import json
import mmap
import os
import signal
import socket
import struct
import threading
import unittest

import kmmtest
from kmmtest import KMMD, Connection, Daemon, field, main, wait_until
from peer_run import GFP_KERNEL, Peer

# magic, version, size, uuid, frames, section_order, nodes, four zone borders, sessions, holders,
# magazines, backing, mm's address and size, addresses of sessions and holders
BEFORE = struct.Struct("<QII16sQIIQQQQIIIIQQQQ")
# version 3: checksum, committed, epoch
END_3 = struct.Struct("<QQQ")
# version 4: the same, the first without meaning; created, made_version, lifeline, checksum, served
END_4 = struct.Struct("<QQQQIIQQ")
RECORD = 192
OBJECT = 200


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


class Manager:
    """What a service manager does: keeps what it is given, hands it to the next start."""

    def __init__(self, folder):
        self.address = os.path.join(folder, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.address)
        self.kept = []  # (name, fd)
        self.hidden = []
        self.lock = threading.Lock()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            data, fds, _, _ = socket.recv_fds(self.socket, 8192, 253)
            said = dict(line.split("=", 1) for line in data.decode().splitlines())
            with self.lock:
                if said.get("FDSTORE") == "1":
                    self.kept += [(said["FDNAME"], fd) for fd in fds]
                    fds = []
                if said.get("FDSTOREREMOVE") == "1":
                    for name, fd in self.kept:
                        if name == said["FDNAME"]:
                            os.close(fd)
                    self.kept = [(n, fd) for n, fd in self.kept if n != said["FDNAME"]]
            for fd in fds:  # a barrier's, which this answers
                os.close(fd)

    def start(self, argv, log):
        """The pid."""
        pid = os.fork()
        if pid:
            return pid
        try:
            kmmtest.die_with_parent()
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
            high = [os.dup2(fd, 500 + i) for i, (_, fd) in enumerate(self.kept)]
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i, inheritable=True)
            environment = dict(os.environ, NOTIFY_SOCKET=self.address)
            if self.kept:
                environment.update(LISTEN_FDS=str(len(self.kept)), LISTEN_PID=str(os.getpid()),
                                   LISTEN_FDNAMES=":".join(name for name, _ in self.kept))
            os.closerange(3 + len(high), 1500)
            os.execve(argv[0], argv, environment)
        finally:
            os._exit(99)

    def fd(self, name):
        return next(fd for n, fd in self.kept if n == name)

    def hide(self, name):
        """It is not kept any more; but whatever hangs on its being open does not notice yet."""
        self.hidden.append(self.fd(name))
        self.kept = [(n, fd) for n, fd in self.kept if n != name]

    def end(self):
        for _, fd in self.kept:
            os.close(fd)
        self.kept = []
        self.forget_hidden()

    def forget_hidden(self):
        while self.hidden:
            os.close(self.hidden.pop())


class Managed(Daemon):
    """A daemon under that manager; as for Daemon, `process` is what stands for it."""

    def __init__(self):
        self.dir = kmmtest.tempfile.TemporaryDirectory(prefix="kmmd-test-")
        self.socket = os.path.join(self.dir.name, "kmmd.sock")
        self.log = os.path.join(self.dir.name, "log")
        # where the installed service stands in for KMMD, the program itself: we are the manager
        program = os.path.abspath(os.environ.get("KMM_REAL_KMMD", KMMD))
        self.argv = [program, "--socket", self.socket, "--pool-size", "64M", "--backing", "4k",
                     "--reactors", "2"]
        self.manager = Manager(self.dir.name)
        self.child = 0
        self.start()

    def start(self):
        self.child = self.manager.start(self.argv, self.log)

        def serving():
            if os.waitpid(self.child, os.WNOHANG)[0]:
                raise AssertionError("the daemon ended:\n" + self.said())
            return self.ctl("health")[0] == 0
        wait_until(serving, "the daemon serves")

    def refused(self):
        """Exit status and text of a start that does not come to anything."""
        begun = len(self.said())
        pid = self.manager.start(self.argv, self.log)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return status, self.said()[begun:]

    def kill(self, number=signal.SIGKILL):
        os.kill(self.child, number)
        os.waitpid(self.child, 0)

    def end(self):
        self.kill(signal.SIGTERM)
        self.manager.end()
        self.dir.cleanup()

    def json(self, *args):
        status, text = self.ctl("--json", *args)
        if status:
            raise AssertionError(text)
        return json.loads(text)

    # ---- the metadata ----

    def top(self):
        return max((n for n, _ in self.manager.kept if n[0] == "m" and n[1:].isdigit()),
                   key=lambda n: int(n[1:]))

    def map(self, name):
        fd = self.manager.fd(name)
        return mmap.mmap(fd, os.fstat(fd).st_size)

    def write_version_3(self):
        top = self.top()
        with self.map(top) as m, self.map("ledger0") as ledger:
            at = len(m) - 4096
            values = list(BEFORE.unpack_from(m, at))
            assert values[1:3] == [4, BEFORE.size + END_4.size], values
            epoch = END_4.unpack_from(m, at + BEFORE.size)[2]
            values[1:3] = [3, BEFORE.size + END_3.size]
            head = BEFORE.pack(*values)
            m[at:] = (head + END_3.pack(fnv(head), 1, epoch)).ljust(4096, b"\0")
            sessions, address = values[11], values[17]
            first = address - int(top[1:]) * len(m)
            for i in range(sessions):
                r = first + i * RECORD
                m[r + 36:r + 40] = bytes(4)  # reserved; pages_max at 56 is the session's quota
                m[r + 56:r + 64] = struct.pack("<Q", 0)
                m[r + 128:r + 192] = bytes(64)
            assert ledger[8:12] == struct.pack("<I", 4)
            ledger[8:12] = struct.pack("<I", 3)
        self.manager.hide("life0")

    def version(self, write=None):
        with self.map(self.top()) as m:
            at = len(m) - 4096 + 8
            if write is not None:
                m[at:at + 4] = struct.pack("<I", write)
            return struct.unpack_from("<I", m, at)[0]


class Things:
    """All kinds that a client can have, with contents."""

    def __init__(self, test, daemon):
        self.test, self.daemon = test, daemon
        a, b = self.a, self.b = Peer(daemon), Peer(daemon)
        self.blocks = [(order, a.must("ALLOC", GFP_KERNEL, order)) for order in (0, 1, 3, 5, 9)]
        for order, pfn in self.blocks:
            a.must("FILL", pfn, order, 100 + order)
        self.cache = a.must("CACHE_CREATE", OBJECT, text="kept")
        self.objects = [a.must("OBJECT_ALLOC", self.cache, GFP_KERNEL) for _ in range(300)]
        for i, place in enumerate(self.objects):
            a.must("OBJECT_FILL", place, OBJECT, i)
        self.handle = a.must("THING_HANDLE", self.objects[0])
        a.must("PUBLISH", self.objects[1], text="a name")
        self.held = self.blocks[2][1]
        b.must("GET", self.held)
        self.check()

    def check(self):
        for order, pfn in self.blocks:
            self.test.assertEqual(self.a.must("CHECK", pfn, order, 100 + order), 1)
        for i, place in enumerate(self.objects):
            self.test.assertEqual(self.a.must("OBJECT_CHECK", place, OBJECT, i), 1)

    def work(self):
        """With the daemon: new things, and what must be as it was."""
        a, b = self.a, self.b
        self.check()
        for order in (0, 2, 7):
            pfn = b.must("ALLOC", GFP_KERNEL, order)
            b.must("FILL", pfn, order, 7)
            self.test.assertNotIn(pfn, [p for _, p in self.blocks])
            b.must("FREE", pfn, order)
        self.test.assertEqual(b.must("THING_POINTER", self.handle), self.objects[0])
        self.test.assertEqual(b.must("THING_POINTER", b.must("LOOKUP", text="a name")), self.objects[1])
        self.test.assertEqual(b.must("COUNT", self.held), 2)
        self.check()
        self.test.assertEqual(self.daemon.ctl("fsck"), (0, "clean\n"))

    def session(self, peer):
        return self.daemon.json("session", str(peer.session))

    def end(self):
        a, b = self.a, self.b
        b.must("PUT", self.held)
        a.must("UNPUBLISH", text="a name")
        for order, pfn in self.blocks:
            a.must("FREE", pfn, order)
        for place in self.objects:
            a.must("OBJECT_FREE", self.cache, place)
        for p in (a, b):
            p.must("CLOSE")
            p.__exit__()


class Upgrade(unittest.TestCase):
    def setUp(self):
        self.daemon = Managed()
        self.addCleanup(self.daemon.end)
        self.free = self.daemon.free_frames()

    def over(self, things):
        """All is given back, as if nothing had been."""
        things.end()
        wait_until(lambda: self.daemon.free_frames() == self.free, "all memory is free")
        self.assertEqual(self.daemon.ctl("fsck"), (0, "clean\n"))

    def test_the_version_before(self):
        d = self.daemon
        things = Things(self, d)
        ids = things.a.session, things.b.session
        d.kill()
        d.write_version_3()
        self.assertEqual(d.version(), 3)
        things.check()  # nobody serves, everybody works
        d.start()
        self.assertIn("the pool's metadata were of version 3 and are of version 4 now", d.said())
        self.assertEqual(d.version(), 4)
        health = d.json("health")
        self.assertEqual((health["metadata_version"], health["metadata_made_version"], health["created"]),
                         (4, 3, 0))
        self.assertEqual(health["epoch"], 2)
        things.work()
        self.assertEqual((things.a.session, things.b.session), ids)
        for p in (things.a, things.b):
            s = things.session(p)
            self.assertEqual((s["state"], s["restarts"], s["away"]), ("live", 1, 0))
        # they hang on the new lifeline now: the one that they had before may end
        d.manager.forget_hidden()
        things.work()
        # and the next start has nothing to convert
        begun = len(d.said())
        d.kill()
        d.start()
        self.assertNotIn("were of version", d.said()[begun:])
        things.work()
        self.over(things)

    def test_clients_come_and_go_in_between(self):
        d = self.daemon
        things = Things(self, d)
        dead = Peer(d)
        dead.must("EXHAUST", GFP_KERNEL & ~0x400, 2)
        d.kill()
        d.write_version_3()
        dead.process.kill()
        dead.process.wait()
        d.start()
        wait_until(lambda: d.ctl("session", str(dead.session))[0] == 1, "the dead one was swept")
        with Peer(d) as fresh:
            pfn = fresh.must("ALLOC", GFP_KERNEL, 4)
            self.assertEqual(things.session(fresh)["restarts"], 0)
            fresh.must("FREE", pfn, 4)
            fresh.must("CLOSE")
        things.work()
        self.over(things)

    def test_killed_again_and_again(self):
        """Wherever the new daemon is when it dies; tests/unit/test_pool_version.c knows each store."""
        d = self.daemon
        things = Things(self, d)
        d.kill()
        d.write_version_3()
        for i in range(12):
            pid = d.manager.start(d.argv, d.log)
            if i < 6:
                # as soon as it has looked at anything
                wait_until(lambda: os.path.exists(f"/proc/{pid}/fd/30") or i < 3, "it has begun")
            else:
                wait_until(lambda: d.version() == 4, "it has converted")
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            things.check()
        d.start()
        things.work()
        self.over(things)

    def test_other_versions_are_refused(self):
        """And are whole when the right program comes."""
        d = self.daemon
        things = Things(self, d)
        for version in (2, 5):
            d.kill()
            d.version(write=version)
            for _ in range(2):
                status, text = d.refused()
                self.assertEqual(status, 3, text)
                for words in (f"the metadata are of version {version}", "reads versions 3 and 4",
                              "kmmctl sessions", "kmmctl leaks", "stop the service and start it"):
                    self.assertIn(words, text)
            things.check()
            d.version(write=4)
            d.start()
            things.work()
        self.over(things)

    def history(self, peer):
        """Of the Session message, by field number."""
        with Connection(self.daemon) as c:
            c.hello(f9=1)
            fields = c.do("INSPECTOR_GET_SESSION", field(1, peer.session)).fields
        return {name: fields.get(number, [0])[0] for name, number in
                (("calls", 15), ("opened", 17), ("frames_had", 40), ("objects_had", 42))}

    def test_what_a_session_did_is_known_after_a_restart(self):
        d = self.daemon
        things = Things(self, d)
        for _ in range(50):
            things.b.must("FREE", things.b.must("ALLOC", GFP_KERNEL, 6), 6)
        wait_until(lambda: things.session(things.b)["calls"] >= 100, "the calls are counted")
        before = self.history(things.b)
        d.kill(signal.SIGTERM)  # in order: nothing is forgotten
        d.start()
        things.work()
        after = self.history(things.b)
        self.assertEqual(things.session(things.b)["restarts"], 1)
        self.assertEqual(after["opened"], before["opened"])
        for key in ("calls", "frames_had", "objects_had"):
            self.assertGreaterEqual(after[key], before[key], key)
        self.assertGreaterEqual(before["frames_had"], 50 << 6)
        health = d.json("health")
        self.assertEqual((health["metadata_version"], health["metadata_made_version"]), (4, 4))
        self.assertGreater(health["created"], 0)
        self.over(things)

    def test_since_when_it_is_away(self):
        """A session in quarantine is away since its connection went, not since the daemon started."""
        d = self.daemon
        p = Peer(d)
        p.must("ALLOC", GFP_KERNEL, 3)
        os.kill(p.process.pid, signal.SIGSTOP)
        d.kill()
        d.start()
        first = d.json("session", str(p.session))
        self.assertEqual(first["state"], "detached")
        self.assertGreater(first["away"], 0)
        d.kill()
        d.start()
        second = d.json("session", str(p.session))
        self.assertEqual((second["away"], second["restarts"]), (first["away"], 2))
        self.assertIn("without a connection", d.ctl("session", str(p.session))[1])
        os.kill(p.process.pid, signal.SIGCONT)
        wait_until(lambda: d.json("session", str(p.session))["away"] == 0, "it is back")
        p.must("CLOSE")
        p.__exit__()


if __name__ == "__main__":
    main()

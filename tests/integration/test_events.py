# SPDX-License-Identifier: MIT
"""Each kind of event is provoked and its line read: who, what, how much. And a user who has himself
refused without end neither fills the log nor hides what happens to others."""
import errno
import json
import os
import re
import signal
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True  # the source tree may be read-only

from kmmtest import (INVALID_ARGUMENT, KMMD, NOT_FOUND, OK, PERMISSION_DENIED, RESOURCE_EXHAUSTED,
                     Connection, Daemon, field, frame, main, wait_until)
from peer_run import GFP_KERNEL, GFP_NOWAIT, Peer
from test_scribble import RETURNED, Shared

NOBODY = 65534
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} kmmd "
NOWARN = 0x2000


def as_user(uid, work):
    """What work() returned in a child that is that user."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.write(write, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as f:
        said = f.read()
    os.waitpid(pid, 0)
    return json.loads(said), pid


class Case(unittest.TestCase):
    config = ""
    args = ()

    def setUp(self):
        self.daemon = Daemon("--reactors", "2", *self.args,
                             config="[daemon]\nsocket_mode = 0666\n" + self.config)
        os.chmod(self.daemon.dir.name, 0o755)
        self.peers = []

    def tearDown(self):
        for p in self.peers:
            p.__exit__()
        if self.daemon.process.poll() is None:
            self.assertEqual(self.daemon.stop(), 0)

    def lines(self, level, text):
        pattern = re.compile(TIME + level + ": " + text + "$", re.M)
        return pattern.findall(self.daemon.said())

    def line(self, level, text, times=1):
        """The log has it (that often), sooner or later."""
        try:
            wait_until(lambda: len(self.lines(level, text)) >= times, text)
        except AssertionError:
            self.fail(f"no line {level}: {text}\n{self.daemon.said()}")
        self.assertEqual(len(self.lines(level, text)), times, self.daemon.said())

    def said(self):
        return self.daemon.said()

    def peer(self):
        p = Peer(self.daemon)
        self.peers.append(p)
        return p

    def who(self, p):
        return rf"session {p.session} \(peer, process {p.process.pid}, user 0\): "

    def raw(self):
        c = Connection(self.daemon)
        self.addCleanup(c.close)
        about = c.hello().fields
        c.session, c.token, c.uuid = about[3][0], about[4][0], about[5][0]
        c.who = rf"session {c.session} \(raw, process {os.getpid()}, user 0\): "
        return c


class Events(Case):
    config = "[limits]\npages = 4096\n[log]\nlevel = debug\n"

    def test_start_and_stop(self):
        self.line("notice", r"serving 64 MiB \(.*\) at \S+ with 2 reactors, \d+\.\d ms after the start")
        self.daemon.process.terminate()
        self.assertEqual(self.daemon.process.wait(), 0)
        self.line("notice", "stopping: Terminated")

    def test_another_daemon_at_the_socket(self):
        """It is found before anything is made: this one's pool could not be had anywhere."""
        done = subprocess.run([KMMD, "--socket", self.daemon.socket, "--pool-size", "1T", "--backing", "hugetlb"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(f"another daemon listens at {self.daemon.socket}\n", done.stdout)
        self.assertEqual(done.stdout.count("\n"), 2, done.stdout)
        self.assertEqual(self.daemon.ctl("health")[0], 0)

    def test_refusals(self):
        c = self.raw()
        reply = c.do("ALLOCATOR_ALLOC_PAGES", field(1, GFP_KERNEL) + field(2, 99))
        self.assertEqual(reply.code, INVALID_ARGUMENT)
        self.line("info", c.who + r"kmm\.v1\.Allocator/AllocPages was refused \(EINVAL\): " +
                  re.escape(reply.text))
        # without a session: the connection's process
        with Connection(self.daemon) as o:
            self.assertEqual(o.do("INSPECTOR_GET_SESSION", field(1, 4000)).code, NOT_FOUND)
        self.line("info", rf"process {os.getpid()}, user 0: kmm\.v1\.Inspector/GetSession was refused "
                  r"\(ENOENT\): .*")
        # what was a question is none
        self.assertEqual(c.do("ALLOCATOR_LOOKUP", field(1, "no such name")).code, NOT_FOUND)
        self.line("debug", c.who + r"kmm\.v1\.Allocator/Lookup was refused \(ENOENT\): .*")
        p = self.peer()
        a, b = (p.must("ALLOC", GFP_KERNEL, 0) for _ in range(2))
        p.must("PUBLISH", a * 4096, text="taken")
        self.assertEqual(p.do("PUBLISH", b * 4096, text="taken"), -errno.EEXIST)
        self.line("debug", self.who(p) + r"kmm\.v1\.Allocator/Publish was refused \(EEXIST\): .*")

    def test_permission(self):
        def fsck():
            with Connection(self.daemon) as c:
                return c.do("ADMIN_FSCK").code
        code, pid = as_user(NOBODY, fsck)
        self.assertEqual(code, PERMISSION_DENIED)
        self.line("warning", rf"process {pid}, user {NOBODY}: kmm\.v1\.Admin/Fsck was refused \(EPERM\): "
                  rf".*\[access\] admins.* {NOBODY}")

    def test_quota(self):
        c = self.raw()
        for _ in range(4):
            self.assertEqual(c.do("ALLOCATOR_ALLOC_PAGES", field(1, GFP_NOWAIT) + field(2, 10)).code, OK)
        reply = c.do("ALLOCATOR_ALLOC_PAGES", field(1, GFP_NOWAIT) + field(2, 10))
        self.assertEqual(reply.code, RESOURCE_EXHAUSTED)
        self.line("notice", c.who + r"kmm\.v1\.Allocator/AllocPages was refused \(EDQUOT\): "
                  r".*4096 of the 4096 .*\[limits\].*")

    def test_open_death_and_sweep(self):
        p = self.peer()
        self.line("debug", self.who(p) + "began")
        p.must("ALLOC", GFP_KERNEL, 3)
        p.must("ALLOC", GFP_KERNEL, 5)
        p.process.kill()
        self.line("info", self.who(p) + r"its process ended, with \d+ pages and about 0 objects that it had "
                  "not given back")
        self.line("info", self.who(p) + r"died; \d+ blocks of \d+ pages and 0 objects came back, "
                  r"0 holds and \d+ magazines, in \d+\.\d{3} ms")
        blocks, pages = map(int, re.search(self.who(p) + r"died; (\d+) blocks of (\d+) pages",
                                           self.said()).groups())
        self.assertGreaterEqual(blocks, 2)
        self.assertGreaterEqual(pages, 8 + 32)

    def test_objects_are_swept(self):
        p = self.peer()
        cache = p.must("CACHE_CREATE", 100, 0, 0, "events")
        for _ in range(50):
            p.must("OBJECT_ALLOC", cache, GFP_KERNEL)
        p.process.kill()
        self.line("info", self.who(p) + r"died; \d+ blocks of \d+ pages and \d+ objects came back, .*")
        objects = int(re.search(self.who(p) + r"died; .* and (\d+) objects came back", self.said())[1])
        self.assertGreaterEqual(objects, 50)

    def test_close(self):
        c = self.raw()
        self.assertEqual(c.do("ALLOCATOR_CLOSE").code, OK)
        self.line("info", c.who + r"was closed; 0 blocks of 0 pages and 0 objects came back, .*")
        self.assertNotIn("its process ended", self.said())

    def test_quarantine_and_return(self):
        c = self.raw()
        self.assertEqual(c.do("ALLOCATOR_ALLOC_PAGES", field(1, GFP_NOWAIT) + field(2, 2)).code, OK)
        c.close()
        self.line("info", c.who + r"has no connection; its \d+ pages and about 0 objects stay its own until "
                  "it comes back or its process ends")
        with Connection(self.daemon) as again:
            self.assertEqual(again.hello(f5=c.session, f6=c.token, f7=c.uuid).code, OK)
            self.line("info", c.who + "came back from quarantine")
            self.assertEqual(again.do("ALLOCATOR_CLOSE").code, OK)

    def test_protocol(self):
        with Connection(self.daemon) as c:
            c.send(b"\xff" * 64)
            c.ends()
        self.line("info", rf"process {os.getpid()}, user 0: the connection is ended: .+")
        c = self.raw()
        c.send(frame("HEALTH_CHECK", call=1, kind=2))
        c.ends()
        self.line("info", c.who + "the connection is ended: .*clients send requests.*")

    def test_findings(self):
        c = self.raw()
        said = "a\n2026-01-01 00:00:00.000 kmmd error: forged\x1b[31m \u202e".encode() + b"\xff"
        self.assertEqual(c.do("ALLOCATOR_REPORT", field(1, 1) + field(2, 0) + field(5, said)).code, OK)
        self.line("warning", c.who + r"overrun reported: cache .*, object at pool address 0: "
                  r"a\?2026-01-01 00:00:00\.000 kmmd error: forged\?\[31m \?\?\?\?")
        self.assertNotIn("\x1b", self.said())

    def test_names_are_harmless(self):
        with Connection(self.daemon) as c:
            body = field(1, 1) + field(3, b"evil\xff\xc2\x9b\xe2\x80\xaename\n")
            session = c.do("ALLOCATOR_HELLO", body).fields[3][0]
            self.assertEqual(c.do("ALLOCATOR_CLOSE").code, OK)
            self.line("info", rf"session {session} \(evil\?\?\?\?\?\?name\?, process {os.getpid()}, user 0\): "
                      "was closed; .*")

    def test_admins(self):
        p = self.peer()
        self.assertEqual(self.daemon.ctl("drop-caches")[0], 0)
        self.line("notice", r"process \d+, user 0: dropped caches: \d+ pages of CPUs, .* objects")
        self.assertEqual(self.daemon.ctl("fsck")[0], 0)
        self.line("info", r"process \d+, user 0: fsck: no findings")
        self.assertEqual(self.daemon.ctl("compact")[0], 0)
        self.line("notice", r"process \d+, user 0: compacted \d+ zones: \d+ pages moved, .*")
        self.assertEqual(self.daemon.ctl("kill", str(p.session))[0], 0)
        self.line("notice", rf"process \d+, user 0: kills session {p.session} \(peer, process "
                  rf"{p.process.pid}, user 0\)")
        self.line("info", self.who(p) + "its process ended, .*")

    def test_reload(self):
        with open(self.daemon.config, "a", encoding="utf-8") as f:
            f.write("refusals_per_minute = 7\n")
        self.daemon.process.send_signal(signal.SIGHUP)
        self.line("notice", r"\[log\] refusals_per_minute = 7, was 60")
        self.line("notice", "the configuration was read again: .*")
        with open(self.daemon.config, "a", encoding="utf-8") as f:
            f.write("nonsense = 7\n")
        self.daemon.process.send_signal(signal.SIGHUP)
        self.line("error", "the configuration was read again and refused: nothing has changed")


class Exhausted(Case):
    """In a pool that one process may take whole."""

    def test_failure(self):
        p = self.peer()
        while p.do("ALLOC", GFP_NOWAIT & ~NOWARN, 9) >= 0:
            pass
        wait_until(lambda: self.lines("warning", self.who(p) + r"page allocation failure: order:9, .*"),
                   "the failure's line")
        # it is said once: no refusal besides
        self.assertNotIn("was refused", self.said())
        before = self.said().count("page allocation failure")
        self.assertLess(p.do("ALLOC", GFP_NOWAIT | NOWARN, 9), 0)
        self.assertEqual(self.said().count("page allocation failure"), before)


class Restart(Case):
    args = ("--supervise",)
    config = "[daemon]\ngrace = 100ms\n"

    def setUp(self):
        self.daemon = Daemon("--reactors", "2", *self.args, config=self.config)
        self.peers = []

    def test_restart(self):
        p, dead = self.peer(), self.peer()
        p.must("ALLOC", GFP_KERNEL, 4)
        dead.must("ALLOC", GFP_KERNEL, 4)
        old = self.daemon.pid()
        os.kill(old, signal.SIGSTOP)
        dead.process.kill()
        dead.process.wait()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: self.daemon.pid() not in (None, old), "the next daemon")
        self.daemon.wait_serving()
        self.line("warning", r"supervisor: the daemon ended \(signal 9\); starting it again with \d+ "
                  "descriptors")
        self.line("notice", r"domain default taken over: \d+ pages and \d+ objects stay granted, \d+ and "
                  r"\d+ unclaimed or given back ones were freed, 0 holds of the dead dropped, in \d+\.\d ms")
        self.line("notice", "2 sessions taken over, 1 of them of dead processes; they have 100 ms to "
                  "come back")
        self.line("notice", r"serving 64 MiB .* ms after the restart")
        self.line("notice", r"the grace period is over: 1 sessions of dead processes are swept, \d have not "
                  "come back and stay in quarantine")
        self.line("info", self.who(dead) + r"died; \d+ blocks of \d+ pages and 0 objects came back, .*")
        self.assertEqual(p.must("ID"), p.session)

    def test_damage(self):
        memory = Shared(self.daemon.process.pid)
        self.addCleanup(memory.close)
        c = self.raw()
        page = c.do("ALLOCATOR_ALLOC_PAGES", field(1, GFP_NOWAIT) + field(2, 0)).fields.get(1, [0])[0]
        free = page ^ 1  # its buddy
        word = int.from_bytes(memory.words[8 * free:8 * free + 8], "little")
        word = word >> 26 << 26 | RETURNED << 20 | c.session
        memory.words[8 * free:8 * free + 8] = word.to_bytes(8, "little")
        c.do("ALLOCATOR_FREE_PAGES", field(1, free) + field(2, 0) + field(3, word >> 26))
        self.line("error", rf"domain default is damaged: .*\b{free}\b.*")


class Limits(Case):
    config = "[log]\nrefusals_per_minute = 5\nsessions_per_minute = 3\n"

    def refuse(self, n):
        """As whoever calls it."""
        with Connection(self.daemon) as c:
            for _ in range(n):
                if c.do("INSPECTOR_GET_SESSION", field(1, 4000)).code != NOT_FOUND:
                    return False
            return True

    def test_a_hostile_user(self):
        """5 lines of 500 of one user's; others' and other kinds are all there."""
        ok, pid = as_user(NOBODY, lambda: self.refuse(500))
        self.assertTrue(ok)
        self.line("info", rf"process {pid}, user {NOBODY}: kmm\.v1\.Inspector/GetSession was refused .*",
                  times=5)
        ok, other = as_user(NOBODY - 1, lambda: self.refuse(3))
        self.assertTrue(ok)
        self.line("info", rf"process {other}, user {NOBODY - 1}: .* was refused .*", times=3)

        def nonsense():
            with Connection(self.daemon) as c:
                c.send(b"\xff" * 64)
                c.ends()
            return True
        _, pid = as_user(NOBODY, nonsense)
        self.line("info", rf"process {pid}, user {NOBODY}: the connection is ended: .*")

    def test_sessions(self):
        """The same of sessions that come and go."""
        for _ in range(10):
            with Connection(self.daemon) as c:
                c.hello()
                self.assertEqual(c.do("ALLOCATOR_CLOSE").code, OK)
        self.line("info", r"session \d+ \(raw, .*\): was closed; .*", times=3)
        # refusals are another kind
        self.assertTrue(self.refuse(2))
        self.line("info", r"process .* was refused .*", times=2)

    def test_set(self):
        """The limits follow the configuration."""
        self.refuse(50)
        self.line("info", r"process .* was refused .*", times=5)
        self.assertEqual(self.daemon.ctl("set", "log.refusals_per_minute", "0")[0], 0)
        self.refuse(50)
        self.line("info", r"process .* was refused .*", times=55)


class Access(Case):
    config = "[access]\nusers = root\n"

    def test_connection(self):
        def connect():
            with Connection(self.daemon) as c:
                return c.hello().code
        code, pid = as_user(NOBODY, connect)
        self.assertEqual(code, PERMISSION_DENIED)
        self.line("warning", rf"process {pid}, user {NOBODY}: kmm\.v1\.Allocator/Hello was refused "
                  r"\(EACCES\): .*\[access\] users.*")


del Case  # its tests are those of the classes above

if __name__ == "__main__":
    main()

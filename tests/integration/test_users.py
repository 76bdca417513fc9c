# SPDX-License-Identifier: MIT
"""What users have together, and what their quotas refuse: every quota by user and by session with its
text, what passes from one user to another, what a restart finds, what a reload changes.

Connections are made as other users by the effective uid at connect(), which is what the kernel tells
the daemon; peers (peer_run.py) change over for good before they open their session.
"""
import contextlib
import json
import os
import signal
import unittest

from kmmtest import (OK, RESOURCE_EXHAUSTED, Connection, Daemon, die_with_parent, field, main,
                     wait_until)
from peer_run import GFP_KERNEL, GFP_NOWAIT, Peer
from settings_case import identity

ALICE, BOB, NOBODY_ELSE = 61001, 61002, 61003
CLASS = 61009
EDQUOT = 122
ORDER = 4  # no thread caches blocks of it


@contextlib.contextmanager
def daemon_of(text="", *args):
    d = Daemon("--reactors", "2", *args, config="[daemon]\nsocket_mode = 0666\n" + text)
    os.chmod(d.dir.name, 0o711)
    try:
        yield d
        status, said = d.ctl("fsck")
        if status:
            raise AssertionError(said)
    finally:
        status = d.stop()
    if status:
        raise AssertionError(f"the daemon's exit status is {status}")


class Client:
    """Raw connections of a session of that user."""

    def __init__(self, daemon, uid):
        self.daemon, self.uid, self.groups, self.open = daemon, uid, [], []

    def connect(self):
        with identity(self.uid, groups=self.groups):
            c = Connection(self.daemon)
        self.open.append(c)
        return c

    def hello(self, **extra):
        """The answer to a first hello."""
        c = self.connect()
        reply = c.hello(**extra)
        if reply.code == OK and not hasattr(self, "first"):
            self.first, self.id, self.token = c, reply.fields[3][0], reply.fields[4][0]
        return reply

    def join(self, **extra):
        return self.hello(f5=self.id, f6=self.token, **extra)

    def pages(self, order=ORDER, gfp=GFP_NOWAIT):
        return self.first.do("ALLOCATOR_ALLOC_PAGES", field(1, gfp) + field(2, order))

    def cache(self, name, size=128):
        return self.first.do("ALLOCATOR_CREATE_CACHE", field(1, name) + field(2, size))

    def object(self, cache):
        return self.first.do("ALLOCATOR_ALLOC_OBJECT", field(1, cache[1][0]) + field(2, cache[2][0]) +
                             field(3, GFP_NOWAIT))

    def close(self):
        if hasattr(self, "first"):
            self.first.do("ALLOCATOR_CLOSE")
        for c in self.open:
            c.close()


class Users(unittest.TestCase):
    maxDiff = None

    def client(self, daemon, uid, opened=True):
        c = Client(daemon, uid)
        self.closing.append(c)
        if opened:
            self.assertEqual(c.hello().code, OK)
        return c

    def setUp(self):
        self.closing = []

    @contextlib.contextmanager
    def daemon(self, text="", *args):
        with daemon_of(text, *args) as d:
            yield d
            while self.closing:
                self.closing.pop().close()
            wait_until(lambda: self.of(d, ALICE, "sessions") == 0, "its sessions are gone")
            for key in ("pages", "objects", "caches", "channels", "calls"):
                wait_until(lambda: self.of(d, ALICE, key) == 0, f"its {key} are gone")

    def users(self, daemon):
        status, text = daemon.ctl("--json", "users")
        self.assertEqual(status, 0, text)
        return {u["uid"]: u for u in json.loads(text)}

    def of(self, daemon, uid, key, what="used"):
        users = self.users(daemon)
        return users[uid][key][what] if uid in users else 0

    def refused(self, reply, text):
        self.assertEqual((reply.code, reply.errno), (RESOURCE_EXHAUSTED, EDQUOT), reply.text)
        self.assertEqual(reply.text, text)

    def together(self, uid, used, limit, key, more, advice, section="[user]"):
        return (f"the sessions of user {uid} have {used} of the {limit} {key} that they may have "
                f"together; {more} more {'is' if more == 1 else 'are'} asked for: {advice}, or raise "
                f"{key} in {section} of the configuration")

    # ---- each quota, by session and by user ----

    def test_pages(self):
        with self.daemon("[limits]\npages = 48\n[user]\npages = 64\n") as d:
            a, b, c = self.client(d, ALICE), self.client(d, ALICE), self.client(d, BOB)
            for _ in range(3):
                self.assertEqual(a.pages().code, OK)
            self.refused(a.pages(), "the session holds 48 of the 48 pages it may; 16 more are asked for: "
                         "free some, or raise pages in [limits] of the configuration")
            self.assertEqual(b.pages().code, OK)
            self.refused(b.pages(), self.together(ALICE, 64, 64, "pages", 16, "free some"))
            self.assertEqual(c.pages().code, OK)  # another user has another account
            u = self.users(d)
            self.assertEqual(u[ALICE]["pages"], {"used": 64, "peak": 64, "limit": 64, "refused": 1})
            self.assertEqual(u[ALICE]["sessions"]["used"], 2)
            self.assertEqual(u[BOB]["pages"]["used"], 16)
            # one of them ends: the other one has its share
            a.close()
            self.closing.remove(a)
            self.assertEqual(b.pages().code, OK)

    def test_user_section(self):
        with self.daemon(f"[user]\npages = 64\n[user {ALICE}]\npages = 16\n") as d:
            a, b = self.client(d, ALICE), self.client(d, BOB)
            self.assertEqual(a.pages().code, OK)
            self.refused(a.pages(), self.together(ALICE, 16, 16, "pages", 16, "free some",
                                                  f"[user {ALICE}]"))
            for _ in range(4):
                self.assertEqual(b.pages().code, OK)

    def test_group_section(self):
        """A group that the process has, and that no user database knows: nobody was asked."""
        with self.daemon(f"[user]\npages = 64\n[group {CLASS}]\npages = 16\n") as d:
            a, b = self.client(d, ALICE, False), self.client(d, BOB)
            a.groups = [CLASS]
            self.assertEqual(a.hello().code, OK)
            self.assertEqual(a.pages().code, OK)
            self.refused(a.pages(), self.together(ALICE, 16, 16, "pages", 16, "free some",
                                                  f"[group {CLASS}]"))
            for _ in range(4):
                self.assertEqual(b.pages().code, OK)
            # the last session's process says which they are
            c = self.client(d, ALICE)
            for _ in range(3):
                self.assertEqual(a.pages().code, OK)
            self.refused(c.pages(), self.together(ALICE, 64, 64, "pages", 16, "free some"))

    def test_refused_and_opened_on_one_connection(self):
        """A process that was refused for want of room opens its session later, over the connection
        that it has; its death is seen all the same."""
        with self.daemon("[limits]\nsessions = 1\n") as d:
            first = self.client(d, BOB)
            to_child, to_parent = os.pipe(), os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    die_with_parent()
                    for c in first.open:
                        c.close()  # its copy: a session's id is free when no connection names it
                    os.setresuid(ALICE, ALICE, ALICE)
                    c = Connection(d)
                    os.write(to_parent[1], bytes([c.hello().code]))
                    os.read(to_child[0], 1)
                    wait_until(lambda: c.hello().code == OK, "it is let in")
                    os.write(to_parent[1], bytes([c.do("ALLOCATOR_ALLOC_PAGES", field(1, GFP_NOWAIT) +
                                                       field(2, ORDER)).code]))
                    signal.pause()
                finally:
                    os._exit(1)
            try:
                self.assertEqual(os.read(to_parent[0], 1), bytes([RESOURCE_EXHAUSTED]))
                first.close()
                self.closing.remove(first)
                wait_until(lambda: self.of(d, BOB, "sessions") == 0, "there is room")
                os.write(to_child[1], b"!")
                self.assertEqual(os.read(to_parent[0], 1), bytes([OK]))
                self.assertEqual((self.of(d, ALICE, "sessions"), self.of(d, ALICE, "pages")), (1, 16))
            finally:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                for fd in to_child + to_parent:
                    os.close(fd)
            wait_until(lambda: self.of(d, ALICE, "sessions") == 0, "it is swept")
            self.assertIn("Hello was refused (EDQUOT): all 1 sessions are in use; end some, or raise [limits] "
                          "sessions\n", d.said())
            self.assertIn(f"process {child}, user {ALICE}): its process ended, with ", d.said())

    def test_objects(self):
        with self.daemon("[limits]\nobjects = 5\n[user]\nobjects = 8\n") as d:
            a, b = self.client(d, ALICE), self.client(d, ALICE)
            cache = a.cache("things").fields
            self.assertEqual(b.cache("things").fields, cache)
            for _ in range(5):
                self.assertEqual(a.object(cache).code, OK)
            self.refused(a.object(cache), "the session holds 5 of the 5 objects it may, those that its "
                         "threads cache included; one more is asked for: free some, or raise objects in "
                         "[limits] of the configuration")
            for _ in range(3):
                self.assertEqual(b.object(cache).code, OK)
            self.refused(b.object(cache), self.together(ALICE, 8, 8, "objects", 1, "free some"))
            u = self.users(d)[ALICE]
            self.assertEqual((u["objects"]["used"], u["pages"]["used"], u["caches"]["used"]), (8, 1, 2))

    def test_objects_are_pages(self):
        with self.daemon("[user]\npages = 16\n") as d:
            a = self.client(d, ALICE)
            cache = a.cache("large", 4096).fields
            self.assertEqual(a.pages(3).code, OK)
            for _ in range(8):
                self.assertEqual(a.object(cache).code, OK)
            self.refused(a.object(cache), self.together(ALICE, 16, 16, "pages", 1, "free some"))

    def test_caches(self):
        with self.daemon("[limits]\ncaches = 2\n[user]\ncaches = 3\n") as d:
            a, b = self.client(d, ALICE), self.client(d, ALICE)
            self.assertEqual(a.cache("one").code, OK)
            self.assertEqual(a.cache("two").code, OK)
            self.assertEqual(a.cache("one").code, OK)  # has it open already
            self.refused(a.cache("three"), "the session has 2 of the 2 caches open that it may: destroy "
                         "some, or raise caches in [limits] of the configuration")
            self.assertEqual(b.cache("one").code, OK)
            self.refused(b.cache("three"), self.together(ALICE, 3, 3, "caches", 1, "destroy some"))
            self.assertNotIn("three", d.ctl("slabinfo")[1])
            self.assertEqual(self.of(d, ALICE, "caches", "refused"), 1)

    def test_channels(self):
        with self.daemon("[limits]\nchannels = 2\n[user]\nchannels = 3\n") as d:
            a, b = self.client(d, ALICE), self.client(d, ALICE)
            self.assertEqual(a.join().code, OK)
            self.refused(a.join(), f"session {a.id} has its 2 channels; share them, or raise [limits] "
                         "channels")
            text = self.together(ALICE, 3, 3, "channels", 1, "share them")
            self.refused(b.join(), text)
            self.refused(self.client(d, ALICE, opened=False).hello(), text)
            self.assertEqual(b.join(f8=1).code, OK)  # the control channel is not counted
            self.assertEqual(self.client(d, BOB).uid, BOB)
            self.assertEqual(self.of(d, ALICE, "channels", "refused"), 2)
            a.open[-2].close()
            wait_until(lambda: self.of(d, ALICE, "channels") == 2, "its end is seen")
            self.assertEqual(b.join().code, OK)

    def hoard(self, daemon):
        """Nothing is free: who may wait waits."""
        c = self.client(daemon, 0)
        for order in (10, 6, 3, 0):
            while c.pages(order, 0).code == OK:
                pass

    def park(self, client):
        client.first.ask("ALLOCATOR_ALLOC_PAGES", field(1, GFP_KERNEL) + field(2, 0))

    def test_calls(self):
        with self.daemon("[limits]\ncalls = 2\n[user]\ncalls = 3\n[user 0]\ncalls = 0\n") as d:
            self.hoard(d)
            a, b, c = self.client(d, ALICE), self.client(d, ALICE), self.client(d, BOB)
            self.park(a)
            self.park(a)
            self.refused(a.pages(0, GFP_KERNEL), f"2 calls of session {a.id} wait already, as many as "
                         "[limits] calls allows")
            self.park(b)
            text = self.together(ALICE, 3, 3, "calls", 1, "let some end")
            self.refused(b.pages(0, GFP_KERNEL), text)
            self.park(c)
            wait_until(lambda: self.of(d, BOB, "calls") == 1, "it is parked")
            self.assertEqual(self.users(d)[ALICE]["calls"],
                             {"used": 3, "peak": 3, "limit": 3, "refused": 1})
            # Close is never refused, which is what ends the others
            self.assertEqual(a.first.do("ALLOCATOR_CLOSE").code, OK)
            wait_until(lambda: self.of(d, ALICE, "calls") == 1, "those of the session are over")
            self.park(b)
            wait_until(lambda: self.of(d, ALICE, "calls") == 2, "there is room for one more")

    def test_sessions(self):
        with self.daemon("[user]\nsessions = 2\n") as d:
            a, b = self.client(d, ALICE), self.client(d, ALICE)
            c = self.client(d, ALICE, opened=False)
            self.refused(c.hello(), self.together(ALICE, 2, 2, "sessions", 1, "end some"))
            self.client(d, BOB)
            self.assertEqual(a.join().code, OK)
            b.close()
            self.closing.remove(b)
            # Close is answered when it is swept: there is room at once
            self.assertEqual(c.hello().code, OK)
            self.assertEqual(self.of(d, ALICE, "sessions", "refused"), 1)

    # ---- from one user to another ----

    def test_adoption_and_sending(self):
        with self.daemon("[user]\npages = 32\n") as d:
            with Peer(d, ALICE) as a, Peer(d, ALICE) as a2, Peer(d, BOB) as b:
                pfn = a.must("ALLOC", GFP_NOWAIT, 5)
                self.assertEqual(a2.do("ALLOC", GFP_NOWAIT, ORDER), -EDQUOT)
                self.assertEqual(self.of(d, ALICE, "pages", "refused"), 1)
                self.assertEqual(b.must("ADOPT", a.must("HANDLE", pfn)), pfn)
                # nobody was told, but nobody is refused for what another one has
                pfn2 = a2.must("ALLOC", GFP_NOWAIT, ORDER)
                self.assertEqual((self.of(d, ALICE, "pages"), self.of(d, BOB, "pages")), (16, 32))
                self.assertEqual(a2.do("SEND", pfn2, b.session), -EDQUOT)
                said = json.loads(d.ctl("--json", "session", str(a2.session))[1])["last_error"]
                self.assertIn(f"the receiver, session {b.session}, cannot be given", said)
                self.assertIn(self.together(BOB, 32, 32, "pages", 16, "free some"), said)
                self.assertEqual(b.must("FREE", pfn, 5), 0)
                self.assertEqual(a2.must("SEND", pfn2, b.session), 0)
                self.assertEqual((self.of(d, ALICE, "pages"), self.of(d, BOB, "pages")), (0, 16))
                self.assertEqual(b.must("SEND", pfn2, a.session), 0)
                self.assertEqual(a.must("SEND", pfn2, a2.session), 0)
                self.assertEqual(self.of(d, ALICE, "pages"), 16)

    def test_objects_change_hands(self):
        with self.daemon("[user]\nobjects = 100\n") as d:
            with Peer(d, ALICE) as a, Peer(d, ALICE) as a2, Peer(d, BOB) as b:
                cache = a.must("CACHE_CREATE", 256, text="passed")
                cache2, cache_b = (p.must("CACHE_OPEN", text="passed") for p in (a2, b))
                # all that there may be, what threads cache included; not one more
                self.assertEqual(a.must("OBJECT_HOARD", cache, GFP_NOWAIT, 1000), 100)
                self.assertEqual(a2.do("OBJECT_ALLOC", cache2, GFP_NOWAIT), -EDQUOT)
                self.assertEqual(self.of(d, ALICE, "objects"), 100)
                for i in range(40):
                    place = a.must("HOARDED", i)
                    self.assertEqual(b.must("THING_ADOPT", a.must("THING_HANDLE", place)), place)
                # found out before anybody is refused
                places = [a2.must("OBJECT_ALLOC", cache2, GFP_NOWAIT) for _ in range(30)]
                self.assertLessEqual(self.of(d, ALICE, "objects"), 100)
                self.assertEqual(b.must("OBJECT_HOARD", cache_b, GFP_NOWAIT, 1000), 60)
                self.assertEqual(self.of(d, BOB, "objects"), 100)
                self.assertEqual(a2.do("THING_SEND", places[0], b.session), -EDQUOT)
                self.assertEqual(a2.must("THING_SEND", places[0], a.session), 0)
                self.assertEqual(b.must("OBJECT_RELEASE", cache_b, 60), 0)
                b.must("FLUSH")
                self.assertEqual(a2.must("THING_SEND", places[1], b.session), 0)
                self.assertEqual(self.of(d, BOB, "objects"), 41)

    def test_racks_are_counted(self):
        """What members pass to each other without the daemon is whose it is, when somebody looks."""
        with self.daemon() as d:
            with Peer(d, ALICE) as a, Peer(d, BOB) as b:
                cache, cache_b = a.must("CACHE_CREATE", 64, text="passed"), None
                cache_b = b.must("CACHE_OPEN", text="passed")
                for _ in range(5):
                    a.must("OBJECT_HOARD", cache, GFP_NOWAIT, 3000)
                    a.must("OBJECT_RELEASE", cache, 3000)
                    b.must("OBJECT_HOARD", cache_b, GFP_NOWAIT, 3000)
                    b.must("OBJECT_RELEASE", cache_b, 3000)
                b.must("OBJECT_HOARD", cache_b, GFP_NOWAIT, 3000)
                a.must("FLUSH")
                b.must("FLUSH")
                self.assertEqual((self.of(d, ALICE, "objects"), self.of(d, BOB, "objects")), (0, 3000))

    # ---- restart, reload ----

    def test_restart(self):
        with self.daemon("[user]\npages = 64\n", "--supervise") as d:
            with Peer(d, ALICE) as a, Peer(d, BOB) as b, contextlib.ExitStack() as end:
                for _ in range(3):
                    a.must("ALLOC", GFP_NOWAIT, ORDER)
                b.must("ALLOC", GFP_NOWAIT, 5)
                os.kill(a.process.pid, signal.SIGSTOP)  # it does not come back: quarantine
                end.callback(os.kill, a.process.pid, signal.SIGCONT)
                for _ in range(3):
                    old = d.pid()
                    os.kill(old, signal.SIGKILL)
                    wait_until(lambda: d.pid() not in (None, old), "there is another daemon")
                    d.wait_serving()
                    u = self.users(d)
                    self.assertEqual((u[ALICE]["pages"]["used"], u[ALICE]["sessions"]["used"],
                                      u[ALICE]["channels"]["used"]), (48, 1, 0))
                    self.assertEqual((u[BOB]["pages"]["used"], u[BOB]["sessions"]["used"]), (32, 1))
                # what is in quarantine counts: another session of the user has what is left
                c = self.client(d, ALICE)
                self.assertEqual(c.pages().code, OK)
                self.refused(c.pages(), self.together(ALICE, 64, 64, "pages", 16, "free some"))

    def reload(self, d, text):
        with open(d.config, "w", encoding="utf-8") as f:
            f.write("[daemon]\nsocket_mode = 0666\n" + text)
        os.kill(d.process.pid, signal.SIGHUP)

    def test_reload(self):
        with self.daemon() as d:
            a, b = self.client(d, ALICE), self.client(d, ALICE)
            for _ in range(3):
                self.assertEqual(a.pages().code, OK)
            self.reload(d, "[user]\npages = 40\nsessions = 1\n")
            wait_until(lambda: self.of(d, ALICE, "pages", "limit") == 40, "it was read")
            # what is above it stays; nothing more comes
            self.refused(b.pages(), self.together(ALICE, 48, 40, "pages", 16, "free some"))
            self.refused(self.client(d, ALICE, opened=False).hello(),
                         self.together(ALICE, 2, 1, "sessions", 1, "end some"))
            self.reload(d, f"[user]\npages = 40\n[user {ALICE}]\npages = 64\n[limits]\npages = 16\n")
            wait_until(lambda: self.of(d, ALICE, "pages", "limit") == 64, "it was read again")
            self.assertEqual(b.pages().code, OK)
            self.refused(b.pages(), "the session holds 16 of the 16 pages it may; 16 more are asked for: "
                         "free some, or raise pages in [limits] of the configuration")
            self.reload(d, "")
            wait_until(lambda: self.of(d, ALICE, "pages", "limit") == 0, "there is none any more")
            self.assertEqual(b.pages().code, OK)
            self.assertEqual(self.of(d, ALICE, "sessions", "limit"), 0)

    # ---- kmmctl users ----

    def test_kmmctl(self):
        with self.daemon("[user 0]\npages = 100\n") as d:
            a, root = self.client(d, ALICE), self.client(d, 0)
            self.assertEqual(root.pages().code, OK)
            self.assertEqual(a.pages(0).code, OK)
            status, text = d.ctl("users")
            self.assertEqual(status, 0, text)
            lines = [line.split() for line in text.splitlines()]
            self.assertEqual(lines[0], ["UID", "NAME", "QUOTA", "USED", "PEAK", "LIMIT", "REFUSED"])
            self.assertEqual([line[0] for line in lines[1:]], ["0"] * 6 + [str(ALICE)] * 6)
            self.assertIn(["0", "root", "pages", "16", "16", "100", "0"], lines)
            self.assertIn([str(ALICE), "-", "pages", "1", "1", "none", "0"], lines)
            self.assertIn([str(ALICE), "-", "sessions", "1", "1", "none", "0"], lines)
            self.assertEqual([line[2] for line in lines[1:7]],
                             ["sessions", "pages", "objects", "caches", "channels", "calls"])


if __name__ == "__main__":
    main()

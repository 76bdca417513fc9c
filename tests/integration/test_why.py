# SPDX-License-Identifier: MIT
"""kmmctl why: each cause of a failed allocation is made for real, and must be told as what it is: which
quota, which zones and what was in their way, who has the memory, and what helps. What it says would help
is then done, where it is a command, and must help.
"""
import contextlib
import errno
import json
import os
import shlex
import signal
import unittest

from kmmtest import OK, PERMISSION_DENIED, Connection, Daemon, field, frame, main, wait_until
from peer_run import GFP_DMA, GFP_HIGHMEM, GFP_KERNEL, GFP_MOVABLE, GFP_NOWAIT, Peer

ALICE, BOB = 61001, 61002
ORDER = 4                # no thread caches blocks of it
THISNODE = 0x200000
ONE_SECOND = 1000000


class Why(unittest.TestCase):
    maxDiff = None

    @contextlib.contextmanager
    def daemon(self, text="", *args):
        d = Daemon("--reactors", "2", *args, config="[daemon]\nsocket_mode = 0666\n" + text)
        os.chmod(d.dir.name, 0o711)
        try:
            yield d
            status, said = d.ctl("fsck")
            self.assertEqual(status, 0, said)
        finally:
            status = d.stop()
        self.assertEqual(status, 0)

    def json(self, daemon, *args):
        status, text = daemon.ctl("--json", *args)
        self.assertEqual(status, 0, text)
        return json.loads(text)

    def why(self, daemon, session):
        return self.json(daemon, "why", str(session))

    def text(self, daemon, session):
        status, text = daemon.ctl("why", str(session))
        self.assertEqual(status, 0, text)
        return text

    def run_help(self, daemon, helps, begins):
        """Runs the first of the commands that begins so."""
        command = next(h["command"] for h in helps if h["command"].startswith(begins))
        status, said = daemon.ctl(*shlex.split(command)[1:])
        self.assertEqual(status, 0, said)
        return command

    def hog(self, daemon, gfp=GFP_NOWAIT, uid=0, node=0):
        """A session that has all that it can get, in blocks as large as there are."""
        c = self.raw(daemon, uid)
        for order in (10, 9, 6, 4, 3, 2, 1, 0):
            while self.ask(c, order, gfp, node).code == OK:
                pass
        return c

    def ask(self, connection, order, gfp=GFP_NOWAIT, node=0, **more):
        """node: + 1; 0: any"""
        return connection.do("ALLOCATOR_ALLOC_PAGES",
                             field(1, gfp) + field(2, order) + field(3, node), **more)

    def raw(self, daemon, uid=0):
        os.seteuid(uid)
        try:
            c = Connection(daemon)
        finally:
            os.seteuid(0)
        self.addCleanup(c.close)
        reply = c.hello()
        self.assertEqual(reply.code, OK, reply.text)
        c.session = reply.fields[3][0]
        return c

    # ---- nothing ----

    def test_nothing_has_failed(self):
        with self.daemon() as d, Peer(d) as a:
            self.assertEqual(a.must("FREE", a.must("ALLOC", GFP_NOWAIT, ORDER), ORDER), 0)
            w = self.why(d, a.session)
            self.assertEqual((w["session"], w["reason"], w["failures"], w["helps"]),
                             (a.session, "none", 0, []))
            self.assertTrue(self.text(d, a.session).endswith("\nno allocation has failed\n"))
            status, said = d.ctl("why", "4000")
            self.assertEqual((status, said),
                             (1, "kmmctl: there is no session 4000; kmmctl sessions lists them. When it has "
                                 "ended, the log says what failed before: journalctl KMM_SESSION=4000 "
                                 "MESSAGE_ID=4fb6ce5fc77f4ae8987b524c4f914c0f\n"))
            self.assertEqual(d.ctl("why")[0], 2)
            self.assertEqual(d.ctl("why", "nobody")[0], 2)

    def test_what_waits(self):
        """A session that waits at this moment, whether anything failed before or not."""
        with self.daemon() as d:
            hog, a, b = self.hog(d), self.raw(d), self.raw(d)
            self.assertNotIn("waits", self.why(d, a.session))
            for c, n in ((a, 2), (b, 1)):
                for i in range(n):
                    c.send(frame("ALLOCATOR_ALLOC_PAGES", field(1, GFP_KERNEL) + field(2, ORDER + i), call=900 + i))
            wait_until(lambda: self.why(d, a.session).get("waits", {}).get("all") == 3, "all wait")
            w = self.why(d, a.session)
            self.assertEqual((w["reason"], w["waits"]["requests"], w["waits"]["all"], w["waits"]["order"],
                              w["waits"]["gfp_text"], w["waits"]["cache"]), ("none", 2, 3, ORDER, "GFP_KERNEL", ""))
            self.assertIn(f"kmmctl session {hog.session}", [h["command"] for h in w["helps"]])
            said = self.text(d, a.session)
            self.assertRegex(said, r"\nwaits    \d+\.\d s so far: a block of order 4 \(64K\), until others free "
                             r"memory; 1 more of its requests wait; 1 of other sessions\n"
                             r"flags    GFP_KERNEL \(0xcc0\)\nno allocation has failed\nnow ")
            self.assertIn(f"holder   session {hog.session} ", said)
            self.assertNotIn("waits", self.why(d, hog.session))
            self.assertEqual(hog.do("ALLOCATOR_CLOSE").code, OK)
            wait_until(lambda: "waits" not in self.why(d, a.session), "they are served")

    # ---- quotas ----

    def test_quota_of_the_session(self):
        with self.daemon("[limits]\npages = 48\n") as d, Peer(d) as a:
            for _ in range(3):
                a.must("ALLOC", GFP_NOWAIT, ORDER)
            for _ in range(2):
                self.assertEqual(a.do("ALLOC", GFP_NOWAIT, ORDER), -errno.EDQUOT)
            w = self.why(d, a.session)
            self.assertEqual((w["reason"], w["errno"], w["failures"], w["order"], w["method"]),
                             ("session-quota", "EDQUOT", 2, ORDER, "AllocPages"))
            self.assertEqual(w["quota"], {"section": "[limits]", "key": "pages", "used": 48,
                                          "limit": 48, "asked": 16})
            said = self.text(d, a.session)
            self.assertRegex(said, r"\nfailed   \d+s ago: a block of order 4 \(64K\) \(AllocPages\); "
                             r"the session's 1 failure before is not kept\n")
            self.assertIn("\nreason   quota of the session: it has 48 of the 48 pages that [limits] "
                          "pages allows; 16 more were asked for\n", said)
            self.assertNotIn("zone ", said)
            self.assertEqual(self.run_help(d, w["helps"], "kmmctl set"),
                             "kmmctl set 'limits.pages' 72")
            a.must("ALLOC", GFP_NOWAIT, ORDER)

    def test_quota_of_the_user(self):
        with self.daemon(f"[user]\npages = 64\n[user {ALICE}]\npages = 16\n") as d, \
                Peer(d, ALICE) as a, Peer(d, ALICE) as a2, Peer(d, BOB) as b:
            a.must("ALLOC", GFP_NOWAIT, ORDER)
            self.assertEqual(a2.do("ALLOC", GFP_NOWAIT, 3), -errno.EDQUOT)
            b.must("ALLOC", GFP_NOWAIT, ORDER)
            w = self.why(d, a2.session)
            self.assertEqual((w["reason"], w["uid"]), ("user-quota", ALICE))
            self.assertEqual(w["quota"], {"section": f"[user {ALICE}]", "key": "pages", "used": 16,
                                          "limit": 16, "asked": 8})
            self.assertIn(f"quota of the user: the sessions of user {ALICE} together have 16 of the 16 "
                          f"pages that [user {ALICE}] pages allows", self.text(d, a2.session))
            self.assertEqual(self.why(d, a.session)["reason"], "none")
            self.assertEqual(self.why(d, b.session)["reason"], "none")
            self.run_help(d, w["helps"], "kmmctl set")
            a2.must("ALLOC", GFP_NOWAIT, 3)

    def test_quota_of_objects_and_caches(self):
        with self.daemon("[limits]\nobjects = 5\ncaches = 2\n") as d, Peer(d) as a:
            cache = a.must("CACHE_CREATE", 256, text="things")
            self.assertEqual(a.must("OBJECT_HOARD", cache, GFP_NOWAIT, 10), 5)
            w = self.why(d, a.session)
            self.assertEqual((w["reason"], w["cache"], w["quota"]["key"], w["quota"]["limit"]),
                             ("session-quota", "things", "objects", 5))
            a.must("CACHE_CREATE", 128, text="more")
            self.assertEqual(a.do("CACHE_CREATE", 64, text="most"), -errno.EDQUOT)
            w = self.why(d, a.session)
            self.assertEqual((w["reason"], w["method"], w["quota"]["key"], w["quota"]["used"]),
                             ("session-quota", "CreateCache", "caches", 2))
            self.run_help(d, w["helps"], "kmmctl set")
            a.must("CACHE_CREATE", 64, text="most")

    def test_quota_of_calls(self):
        with self.daemon("[limits]\ncalls = 1\n") as d:
            self.hog(d)
            c = self.raw(d)
            body = field(1, GFP_KERNEL) + field(2, ORDER)
            c.ask("ALLOCATOR_ALLOC_PAGES", body)
            self.assertEqual(c.do("ALLOCATOR_ALLOC_PAGES", body).errno, errno.EDQUOT)
            w = self.why(d, c.session)
            self.assertEqual((w["reason"], w["quota"]["key"], w["quota"]["limit"]),
                             ("session-quota", "calls", 1))

    # ---- memory ----

    def blocked(self, w, verdicts):
        """The zones that were asked are these, each with that verdict."""
        self.assertEqual({z["zone"]: z["verdict"] for z in w["zones"]}, verdicts, w)

    def test_lack_of_memory(self):
        with self.daemon() as d, Peer(d) as a:
            hog = self.hog(d, uid=ALICE)
            self.assertEqual(a.do("ALLOC", GFP_NOWAIT, ORDER), -errno.ENOMEM)
            w = self.why(d, a.session)
            self.assertEqual((w["reason"], w["errno"], w["gfp"]), ("lack", "ENOMEM", GFP_NOWAIT))
            self.blocked(w, {"DMA32": "below-watermark", "DMA": "below-watermark"})
            for z in w["zones"]:
                self.assertLess(z["free"], z["mark"] + 2 ** ORDER)
                self.assertEqual(sum(n << o for o, n in enumerate(z["free_blocks"])), z["free"])
            # who has it is named
            holder = w["now"]["sessions"][0]
            self.assertEqual((holder["session"], holder["uid"], holder["state"]),
                             (hog.session, ALICE, "live"))
            self.assertGreater(holder["frames"], w["now"]["managed"] * 3 // 4)
            self.assertEqual(w["now"]["users"][0]["uid"], ALICE)
            said = self.text(d, a.session)
            self.assertIn("reason   memory is short in every zone that it may use\n", said)
            self.assertRegex(said, rf"\nholder   session {hog.session} \(.*\), pid {os.getpid()}, "
                             rf"user {ALICE}: ")
            self.assertEqual(self.run_help(d, w["helps"], "kmmctl session"),
                             f"kmmctl session {hog.session}")

    def test_a_deadline(self):
        with self.daemon() as d:
            self.hog(d)
            c = self.raw(d)
            reply = self.ask(c, ORDER, GFP_KERNEL, timeout_us=ONE_SECOND // 20)
            self.assertEqual(reply.errno, errno.ETIMEDOUT)
            w = self.why(d, c.session)
            self.assertEqual((w["reason"], w["errno"], w["text"]), ("lack", "ETIMEDOUT", reply.text))
            self.assertGreaterEqual(w["waited_ms"], 50)
            self.assertFalse(any("may wait" in h["why"] for h in w["helps"]))

    def test_what_is_only_cached_helps(self):
        """What another's thread merely caches is counted, and dropping it helps."""
        with self.daemon() as d, Peer(d) as other, Peer(d) as a:
            other.must("CACHE", 9, 2)
            self.hog(d, GFP_NOWAIT & ~0x800)
            self.assertEqual(a.do("ALLOC", GFP_NOWAIT, 9), -errno.ENOMEM)
            w = self.why(d, a.session)
            self.assertGreaterEqual(w["now"]["cached"] + w["now"]["depot"], 1024)
            self.run_help(d, w["helps"], "kmmctl drop-caches")
            a.must("ALLOC", GFP_NOWAIT, 9)

    def test_quarantine(self):
        """Who has the memory does not answer: its process is named, and ending it helps."""
        with self.daemon("", "--supervise") as d, Peer(d) as hog:
            hog.must("EXHAUST", GFP_NOWAIT, ORDER)
            os.kill(hog.process.pid, signal.SIGSTOP)  # it does not come back to the next daemon
            before = d.pid()
            os.kill(before, signal.SIGKILL)
            wait_until(lambda: d.pid() not in (None, before) and d.ctl("health")[0] == 0,
                       "the next daemon serves")
            with Peer(d) as a:
                self.assertEqual(a.do("ALLOC", GFP_NOWAIT, ORDER), -errno.ENOMEM)
                w = self.why(d, a.session)
                holder = w["now"]["sessions"][0]
                self.assertEqual((holder["session"], holder["pid"], holder["state"]),
                                 (hog.session, hog.process.pid, "detached"))
                self.assertEqual(w["now"]["quarantine"], holder["frames"])
                self.assertIn(" (in quarantine)\n", self.text(d, a.session))
                self.assertEqual(self.run_help(d, w["helps"], "kmmctl kill"),
                                 f"kmmctl kill {hog.session}")
                wait_until(lambda: a.do("ALLOC", GFP_NOWAIT, ORDER) >= 0, "its memory comes back")

    def test_fragmentation(self):
        """Every second page of HighMem is mapped: nothing there can move, and half is free."""
        with self.daemon("[pool]\nhighmem = 8M\n") as d, Peer(d) as a:
            self.hog(d)
            pages = []
            while (page := a.do("ALLOC", GFP_HIGHMEM | GFP_MOVABLE | GFP_NOWAIT, 0)) >= 0:
                pages.append(page)
            self.assertGreater(len(pages), 1500)
            for page in pages[::2]:
                a.must("KMAP", page)
            for page in pages[1::2]:
                self.assertEqual(a.must("FREE", page, 0), 0)
            self.assertEqual(a.do("ALLOC", GFP_HIGHMEM | GFP_NOWAIT, 6), -errno.ENOMEM)
            w = self.why(d, a.session)
            self.assertEqual((w["reason"], w["order"]), ("fragmentation", 6), w)
            self.blocked(w, {"HighMem": "no-block", "DMA32": "below-watermark",
                             "DMA": "below-watermark"})
            high = w["zones"][0]
            self.assertGreater(high["free"], high["mark"] + 64)
            self.assertGreater(high["extfrag_index"], 0.5)
            said = self.text(d, a.session)
            self.assertRegex(said, r"zone     node 0, zone HighMem: .* no free block of order 6; "
                             r"fragmentation index 0\.\d+: fragmentation\n")
            self.assertIn("below the watermark: lack of memory\n", said)
            # pages that are not mapped move
            for page in pages[::2]:
                a.must("KUNMAP", page)
            a.must("FLUSH")
            self.run_help(d, w["helps"], "kmmctl compact")
            a.must("ALLOC", GFP_HIGHMEM | GFP_NOWAIT, 6)

    def test_this_node(self):
        with self.daemon("", "--nodes", "2") as d:
            self.hog(d, GFP_NOWAIT | THISNODE, node=2)
            c = self.raw(d)
            self.assertEqual(self.ask(c, ORDER, GFP_NOWAIT | THISNODE, 2).errno, errno.ENOMEM)
            w = self.why(d, c.session)
            self.assertEqual((w["reason"], w["node"], w["this_node"]), ("lack", 1, True))
            self.assertEqual({z["node"] for z in w["zones"]}, {1})
            self.assertIn("it wanted node 1 and no other (__GFP_THISNODE)", w["helps"][0]["why"])
            self.assertIn(", only of node 1 (AllocPages)", self.text(d, c.session))
            self.assertEqual(self.ask(c, ORDER).code, OK)

    def test_dma(self):
        with self.daemon() as d, Peer(d) as a:
            self.hog(d, GFP_DMA | GFP_NOWAIT)
            self.assertEqual(a.do("ALLOC", GFP_DMA | GFP_NOWAIT, ORDER), -errno.ENOMEM)
            w = self.why(d, a.session)
            self.assertEqual(w["reason"], "lack")
            self.blocked(w, {"DMA": "below-watermark"})
            self.assertIn("dma_size in [pool]", w["helps"][0]["why"])
            a.must("ALLOC", GFP_NOWAIT, ORDER)

    def test_what_can_never_be(self):
        with self.daemon() as d:
            c = self.raw(d)
            reply = c.do("ALLOCATOR_ALLOC_BLOCKS", field(1, GFP_KERNEL) + field(2, 1 << 20))
            self.assertEqual(reply.errno, errno.ENOMEM)
            w = self.why(d, c.session)
            self.assertEqual((w["reason"], w["pages"], w["text"]), ("impossible", 1 << 20, reply.text))
            self.assertIn("can never meet it", w["reason_text"])
            self.assertEqual(w["helps"][-1]["command"], "kmmctl advise")

    # ---- who may ask ----

    def test_rights(self):
        with self.daemon("[limits]\npages = 16\nsessions = 64\n[access]\ninspectors = root\n") as d, \
                Peer(d) as other:
            c = self.raw(d, ALICE)
            self.assertEqual(c.do("ALLOCATOR_ALLOC_PAGES", field(1, GFP_NOWAIT) + field(2, 5)).errno,
                             errno.EDQUOT)
            # about itself, and nothing of others
            for number in (0, c.session):
                reply = c.do("INSPECTOR_EXPLAIN", field(1, number))
                self.assertEqual((reply.code, reply.fields[6]), (OK, [1]))  # SESSION_QUOTA
                self.assertFalse(set(range(30, 40)) & set(reply.fields))
            reply = c.do("INSPECTOR_EXPLAIN", field(1, other.session))
            self.assertEqual((reply.code, reply.errno), (PERMISSION_DENIED, errno.EPERM))
            self.assertIn("about another session than one's own is for inspectors", reply.text)
            self.assertEqual(self.why(d, c.session)["reason"], "session-quota")
            # what one session was refused is nothing to the next one of that number
            number = c.session
            for _ in range(1000):
                self.assertEqual(c.do("ALLOCATOR_CLOSE").code, OK)
                c.close()
                c = self.raw(d)
                if c.session == number:
                    break
            self.assertEqual(c.session, number)
            self.assertEqual(self.why(d, number)["reason"], "none")

    # ---- domains ----

    def test_domains(self):
        with self.daemon() as d, Peer(d, ALICE) as a, Peer(d) as b:
            a.must("ALLOC", GFP_NOWAIT, ORDER)
            (domain,) = self.json(d, "domains")
            free = domain.pop("free")
            self.assertEqual(domain, {"name": "default", "id": 0, "sections": 15, "pages": 15 * 1024,
                                      "sessions": 2, "users": 2, "damaged": 0, "spoiled": False})
            self.assertLessEqual(free, 15 * 1024 - 16)
            self.assertEqual(d.ctl("domains")[1].splitlines()[0].split(),
                             ["NAME", "ID", "SECTIONS", "PAGES", "FREE", "SESSIONS", "USERS", "DAMAGED"])
            b.must("CLOSE")
            wait_until(lambda: self.json(d, "domains")[0]["sessions"] == 1, "the session has ended")


if __name__ == "__main__":
    main()

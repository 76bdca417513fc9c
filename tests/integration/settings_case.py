# SPDX-License-Identifier: MIT
"""What the tests of the configuration share: a daemon whose file changes, and connections as other
users: by the effective ids and groups at connect(), which is what the kernel tells the daemon.
"""
import contextlib
import json
import os
import signal
import unittest

from kmmtest import OK, Connection, Daemon, field, wait_until

ALICE, BOB, CAROL, DAVE = 62001, 62002, 62003, 62004
STAFF, OTHERS = 63001, 63002
GFP_NOWAIT, GFP_KERNEL = 0x2800, 0xCC0
AGAIN = "the configuration was read again"
BASE = "[daemon]\nsocket_mode = 0666\n"


@contextlib.contextmanager
def identity(uid, gid=65534, groups=()):
    """What this process connects as."""
    before = os.getgroups()
    os.setgroups(list(groups))
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


class Case(unittest.TestCase):
    maxDiff = None

    def start(self, text=BASE, *args):
        d = Daemon("--reactors", "2", *args, config=text)
        os.chmod(d.dir.name, 0o711)
        self.addCleanup(self.stop, d)
        return d

    def stop(self, d):
        status, said = d.ctl("fsck")
        self.assertEqual((status, said), (0, "clean\n"))
        self.assertEqual(d.stop(), 0)

    def write(self, d, text):
        with open(d.config, "w", encoding="utf-8") as f:
            f.write(text)

    def reload(self, d, text=None):
        """Has it read the file, after it was changed; what it said."""
        if text is not None:
            self.write(d, text)
        said = d.said()
        os.kill(d.process.pid, signal.SIGHUP)
        wait_until(lambda: d.said().count(AGAIN) > said.count(AGAIN), "it was read again")
        return d.said()[len(said):]

    def connect(self, d, uid=0, gid=65534, groups=()):
        with identity(uid, gid, groups):
            c = Connection(d)
        self.addCleanup(c.close)
        return c

    def client(self, d, uid=0, **extra):
        """A connection with a session."""
        c = self.connect(d, uid)
        reply = c.hello(**extra)
        self.assertEqual(reply.code, OK, reply.text)
        c.session, c.token, c.limits = reply.fields[3][0], reply.fields[4][0], reply.fields
        return c

    def end(self, *connections):
        for c in connections:
            self.assertEqual(c.do("ALLOCATOR_CLOSE").code, OK)
            c.close()

    def pages(self, c, order=4, gfp=GFP_NOWAIT):
        return c.do("ALLOCATOR_ALLOC_PAGES", field(1, gfp) + field(2, order))

    def settings(self, d):
        status, text = d.ctl("--json", "settings")
        self.assertEqual(status, 0, text)
        return {s["section"] + "." + s["key"]: s for s in json.loads(text)}

    def set(self, d, key, value):
        status, text = d.ctl("set", key, value)
        self.assertEqual(status, 0, text)
        return text

    def not_set(self, d, key, value, text):
        self.assertEqual(d.ctl("set", key, value), (1, f"kmmctl: {text}\n"))

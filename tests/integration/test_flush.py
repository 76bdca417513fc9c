# SPDX-License-Identifier: MIT
"""FLUSHes as a client sees them that speaks the protocol by hand: what is asked, when, and what an
answer does. Sessions here cache nothing; what they are asked for is played by offers that they have."""
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True  # the source tree may be read-only

from kmmtest import (INVALID_ARGUMENT, ITEM, KMMCTL, OK, RESOURCE_EXHAUSTED, Connection, Daemon,
                     field, frame, main, parse, wait_until)

FLUSH = 7
GFP_KERNEL = 0xCC0


class Member:
    """A session that listens for events."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.control = Connection(daemon)
        about = self.control.hello(f8=1).fields
        self.id, self.token, self.uuid = about[3][0], about[4][0], about[5][0]
        self.control.ask("ALLOCATOR_EVENTS")
        self.data = None

    def connect(self):
        self.data = Connection(self.daemon)
        assert self.data.hello(f5=self.id, f6=self.token, f7=self.uuid).code == OK
        return self.data

    def event(self):
        """The fields of the next one."""
        while True:
            item = self.control.receive()
            if item.kind == ITEM:
                return item.fields

    def answer(self, number):
        return self.control.do("ALLOCATOR_FLUSHED", field(1, number))

    def leave(self):
        """Its connections end; the session is in quarantine as long as this process lives."""
        self.control.close()
        self.control = None

    def close(self):
        if self.control:
            assert self.control.do("ALLOCATOR_CLOSE").code == OK
            self.control.close()
        if self.data:
            self.data.close()


def number_of(event):
    return event[3][0]


class Flush(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon("--reactors", "2")
        self.members = []

    def tearDown(self):
        for m in self.members:
            m.close()
        self.assertEqual(self.daemon.ctl("fsck"), (0, "clean\n"))
        self.assertEqual(self.daemon.stop(), 0)

    def member(self):
        self.members.append(Member(self.daemon))
        # the stream is there when the daemon has seen it: one call after it on the same connection
        self.assertEqual(self.members[-1].control.do("HEALTH_CHECK").code, OK)
        return self.members[-1]

    def begin(self, *args):
        return subprocess.Popen([KMMCTL, "--socket", self.daemon.socket, *args],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def end(self, process):
        out = process.communicate()[0].decode()
        self.assertEqual(process.returncode, 0, out)
        return out

    def test_all_are_asked_with_a_number_that_grows(self):
        a, b = self.member(), self.member()
        last = 0
        for command in (["drop-caches"], ["leaks"], ["drop-caches"]):
            p = self.begin(*command)
            for m in (a, b):
                event = m.event()
                self.assertEqual(event[1], [FLUSH])
                self.assertNotIn(4, event)  # of all caches
                self.assertGreater(number_of(event), last)
                self.assertEqual(m.answer(number_of(event)).code, OK)
            last = number_of(event)
            self.end(p)

    def test_shrinking_names_the_cache(self):
        a = self.member()
        p = self.begin("shrink", "kmalloc-64")
        event = a.event()
        self.assertEqual(event[4], [4])
        a.control.send(frame("ALLOCATOR_FLUSHED", field(1, number_of(event)), call=0, kind=5))
        self.end(p)

    def test_silence_is_told(self):
        a, b = self.member(), self.member()
        for _ in range(3):
            p = self.begin("drop-caches")
            b.answer(number_of(b.event()))
            out = self.end(p)
            self.assertRegex(out, r"\n[12] of 2 sessions did not answer: ")
        # when it speaks again it is waited for again; the call passes over the other events
        a.answer(number_of(a.event()))
        p = self.begin("drop-caches")
        a.answer(number_of(a.event()))
        b.answer(number_of(b.event()))
        self.end(p)

    def test_an_answer_to_nothing_is_refused(self):
        a = self.member()
        reply = a.answer(1 << 40)
        self.assertEqual((reply.code, reply.errno), (INVALID_ARGUMENT, 22))
        self.assertEqual(a.answer(0).code, OK)

    def test_asking_oneself(self):
        """Who shrinks a cache gives back by itself before."""
        a, b = self.member(), self.member()
        data = a.connect()
        made = data.do("ALLOCATOR_CREATE_CACHE", field(1, "mine") + field(2, 64)).fields
        call = data.ask("ALLOCATOR_SHRINK_CACHE", field(1, made[1][0]) + field(2, made[2][0]))
        b.answer(number_of(b.event()))
        reply = data.receive()
        self.assertEqual((reply.call, reply.code), (call, OK))
        # the next thing that a hears is another's request
        p = self.begin("leaks")
        self.assertNotIn(4, a.event())
        self.end(p)

    def test_who_closes_is_not_waited_for(self):
        a, b = self.member(), self.member()
        p = self.begin("drop-caches")
        a.event()
        a.leave()
        b.answer(number_of(b.event()))
        self.end(p)

    def test_who_asks_may_go(self):
        a = self.member()
        b = self.member()
        data = b.connect()
        made = data.do("ALLOCATOR_CREATE_CACHE", field(1, "mine") + field(2, 64)).fields
        data.ask("ALLOCATOR_SHRINK_CACHE", field(1, made[1][0]) + field(2, made[2][0]))
        event = a.event()
        data.close()
        b.data = None
        self.assertEqual(a.answer(number_of(event)).code, OK)
        # a deadline that passes while it waits
        data = b.connect()
        call = data.ask("ALLOCATOR_SHRINK_CACHE", field(1, made[1][0]) + field(2, made[2][0]),
                        timeout_us=20000)
        reply = data.receive()
        self.assertEqual((reply.call, reply.errno), (call, 110))
        if "looked at" not in reply.text:  # it came that far
            self.assertEqual(a.answer(number_of(a.event())).code, OK)

    def test_a_session_has_four_in_the_queue(self):
        a, b = self.member(), self.member()
        data = b.connect()
        made = data.do("ALLOCATOR_CREATE_CACHE", field(1, "mine") + field(2, 64)).fields
        body = field(1, made[1][0]) + field(2, made[2][0])
        calls = [data.ask("ALLOCATOR_SHRINK_CACHE", body) for _ in range(5)]
        replies = {}
        while len(replies) < 5:
            reply = data.receive()
            replies[reply.call] = reply
            if reply.call == calls[4]:
                a.answer(number_of(a.event()))
        self.assertEqual((replies[calls[4]].code, replies[calls[4]].errno),
                         (RESOURCE_EXHAUSTED, 122))
        self.assertEqual([replies[c].code for c in calls[:4]], [OK] * 4)

    def test_destroying_looks_again_after_the_answer(self):
        """What another session cached goes back on request, and the cache with it."""
        for attempt in range(5):  # the second look waits for a second at most
            name = f"last-{attempt}"
            a, b = self.member(), self.member()
            data, other = a.connect(), b.connect()
            made = data.do("ALLOCATOR_CREATE_CACHE", field(1, name) + field(2, 64)).fields
            which = field(1, made[1][0]) + field(2, made[2][0])
            self.assertEqual(other.do("ALLOCATOR_ALLOC_OBJECT", which + field(3, GFP_KERNEL)).code,
                             OK)
            call = data.ask("ALLOCATOR_DESTROY_CACHE", which)
            event = b.event()
            self.assertEqual(event.get(4), [made[1][0]])
            other.close()  # its offer is withdrawn
            b.data = None
            wait_until(lambda: self.daemon.ctl("slabinfo")[1].find(f"\n{name} ") < 0 or
                       self.active(name) == 0, "the object is free")
            b.answer(number_of(event))
            reply = data.receive()
            self.assertEqual(reply.call, call)
            if reply.code == OK:
                self.assertEqual(parse(reply.body)[1], [1])
                return
        self.fail("destroyed in no attempt")

    def active(self, name):
        for line in self.daemon.ctl("slabinfo")[1].splitlines():
            if line.startswith(name + " "):
                return int(line.split()[1])
        return 0


if __name__ == "__main__":
    main()

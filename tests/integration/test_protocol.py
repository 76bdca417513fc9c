# SPDX-License-Identifier: MIT
"""Bad input on the socket: malformed, oversized, truncated, out-of-order and unknown frames.

Whatever is said, the daemon answers with a status and a text or closes that connection, goes on
serving the others, loses no memory and no descriptor, and fsck has nothing to say.
"""
import os
import random
import socket
import struct
import traceback
import unittest

from kmmtest import (BODY_MAX, CANCEL, CANCELLED, DATA_LOSS, DEADLINE_EXCEEDED, FAILED_PRECONDITION, OUT_OF_RANGE,
                     INVALID_ARGUMENT, ITEM, METHOD, OK, PERMISSION_DENIED, REPLY,
                     RESOURCE_EXHAUSTED, UNIMPLEMENTED, Connection, Daemon, field, frame, main,
                     wait_until)

GFP_KERNEL, GFP_NOWAIT = 0xCC0, 0x2800
HELLO = field(1, 1) + field(3, "raw")

PAGES = 16384 + 1024  # of a pool of 64 MiB, and of what can move in its HighMem


class Protocol(unittest.TestCase):
    """Each test runs in a child: a session whose connections are gone lives as long as its process."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon("--reactors", "2", config="[daemon]\nsocket_mode = 0666\n")

    @classmethod
    def tearDownClass(cls):
        status = cls.daemon.stop()
        if status != 0:
            raise AssertionError(f"the daemon's exit status is {status}")

    def setUp(self):
        wait_until(self.idle, "no session is left")
        self.pid, self.frames, self.fds = self.daemon.pid(), self.daemon.free_frames(), self.daemon.fds()

    def tearDown(self):
        """The daemon is the same, unharmed, and has lost nothing."""
        with Connection(self.daemon) as c:
            self.assertEqual(c.hello().code, OK)
            self.assertEqual(c.do("ALLOCATOR_CLOSE").code, OK)
        wait_until(self.idle, "no session is left")
        self.assertEqual(self.daemon.pid(), self.pid)
        wait_until(lambda: self.daemon.fds() <= self.fds, "every descriptor is closed")
        wait_until(lambda: self.daemon.free_frames() == self.frames, "all memory is free again")
        status, text = self.daemon.ctl("fsck")
        self.assertEqual(status, 0, text)

    def _callTestMethod(self, method):
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            text = b""
            try:
                method()
            except BaseException:
                text = traceback.format_exc().encode() or b"?"
            os.write(theirs, text)
            os._exit(1 if text else 0)
        os.close(theirs)
        with open(ours, "rb") as f:
            text = f.read().decode()
        if os.waitpid(pid, 0)[1] != 0 or text:
            self.fail("in the child: " + text)

    def idle(self):
        status, text = self.daemon.ctl("--json", "sessions")
        return status == 0 and '"pid"' not in text

    def session(self):
        c = Connection(self.daemon)
        self.addCleanup(c.close)
        self.assertEqual(c.hello().code, OK)
        return c

    def end(self, c):
        self.assertEqual(c.do("ALLOCATOR_CLOSE").code, OK)
        c.close()

    def refused(self, reply, code, errno=None):
        self.assertEqual(reply.code, code, reply.text)
        self.assertNotEqual(reply.errno, 0)
        self.assertNotEqual(reply.text, "")
        if errno is not None:
            self.assertEqual(reply.errno, errno, reply.text)

    # ---- hello ----

    def test_hello(self):
        c = self.session()
        self.end(c)

    def test_hello_of_another_version(self):
        for version in (0, 2, 99, 0xFFFFFFFF):
            with Connection(self.daemon) as c:
                self.refused(c.hello(version=version), FAILED_PRECONDITION)

    def test_hello_with_fields_of_the_future(self):
        with Connection(self.daemon) as c:
            self.assertEqual(c.hello(f1000=7, f1001="later").code, OK)
            self.end(c)

    def test_hello_with_a_name_that_is_too_long(self):
        with Connection(self.daemon) as c:
            r = c.do("ALLOCATOR_HELLO", field(1, 1) + field(3, "n" * 5000))
            self.refused(r, INVALID_ARGUMENT)

    def test_hello_with_a_session_of_nobody(self):
        first = self.session()
        good = first.do("HEALTH_CHECK")
        self.assertEqual(good.code, OK)
        for session, token in ((1 << 19, bytes(range(16))), (0xFFFFFFFF, bytes(range(16)))):
            with Connection(self.daemon) as c:
                r = c.hello(f5=session, f6=token, f7=bytes(range(16)))
                self.refused(r, DATA_LOSS)
        self.end(first)

    def test_hello_with_a_stolen_session(self):
        c = Connection(self.daemon)
        self.addCleanup(c.close)
        fields = c.hello().fields
        session, uuid = fields[3][0], fields[5][0]
        with Connection(self.daemon) as thief:
            r = thief.hello(f5=session, f6=bytes([1]) * 16, f7=uuid)
            self.refused(r, PERMISSION_DENIED)
        for token in (b"", b"\1" * 15, b"\1" * 17, b"\1" * 4000):
            with Connection(self.daemon) as thief:
                self.assertNotEqual(thief.hello(f5=session, f6=token, f7=uuid).code, OK)
        self.end(c)

    def test_second_hello(self):
        c = self.session()
        self.assertNotEqual(c.do("ALLOCATOR_HELLO", HELLO).code, OK)
        self.end(c)

    def test_calls_before_hello(self):
        """What needs a session is refused; Admin goes by the peer's user, and ours is one."""
        for name, number in METHOD.items():
            if name in ("METHOD_UNSPECIFIED", "ALLOCATOR_HELLO"):
                continue
            with Connection(self.daemon) as c:
                c.send(frame(number, b""))
                c.socket.shutdown(socket.SHUT_WR)
                for r in c.ends():
                    if name.startswith("ALLOCATOR"):
                        self.assertNotEqual(r.code, OK, name)

    def test_hello_in_single_bytes(self):
        with Connection(self.daemon) as c:
            for byte in frame("ALLOCATOR_HELLO", HELLO):
                c.send(bytes([byte]))
            self.assertEqual(c.receive().code, OK)
            c.call = 1
            self.end(c)

    def test_no_hello_at_all(self):
        """A connection that says too little is closed, and nobody waits for it meanwhile."""
        with Connection(self.daemon) as silent, Connection(self.daemon) as half:
            half.send(frame("ALLOCATOR_HELLO", HELLO)[:23])
            self.end(self.session())
            self.assertEqual(silent.ends(), [])
            self.assertEqual(half.ends(), [])

    def test_many_silent_connections(self):
        many = [Connection(self.daemon) for _ in range(250)]
        self.end(self.session())
        for c in many:
            c.close()

    # ---- frames ----

    def test_garbage_first(self):
        for data in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\0" * 64, b"\xff" * 64,
                     random.randbytes(4096)):
            with Connection(self.daemon) as c:
                c.send(data)
                for r in c.ends():
                    self.assertNotEqual(r.code, OK)

    def test_headers_that_make_no_sense(self):
        bad = {
            "kind 0": frame("HEALTH_CHECK", kind=0),
            "kind 5": frame("HEALTH_CHECK", kind=5),
            "kind 255": frame("HEALTH_CHECK", kind=255),
            "a reply": frame(0, kind=REPLY),
            "an item": frame(0, kind=ITEM),
            "descriptors": frame("HEALTH_CHECK", nfds=1),
            "reserved bytes": frame("HEALTH_CHECK", zero=1),
            "call 0": frame("HEALTH_CHECK", call=0),
            "a body too long": frame("HEALTH_CHECK", length=BODY_MAX + 1),
            "a body of 4 GiB": frame("HEALTH_CHECK", length=0xFFFFFFFF),
        }
        for what, data in bad.items():
            with Connection(self.daemon) as c:
                self.assertEqual(c.hello(f9=1).code, OK)
                c.send(data)
                for r in c.ends():
                    self.assertNotEqual(r.code, OK, what)

    def test_truncated_frames(self):
        whole = frame("ALLOCATOR_ALLOC_PAGES", field(1, GFP_KERNEL) + field(2, 3), call=9)
        for n in range(1, len(whole)):
            with Connection(self.daemon) as c:
                self.assertEqual(c.hello(f9=1).code, OK)
                c.send(whole[:n])
                c.socket.shutdown(socket.SHUT_WR)
                self.assertEqual([r.code for r in c.ends() if r.code == OK], [])

    def test_the_largest_body_is_fine(self):
        with Connection(self.daemon) as c:
            body = HELLO + field(9, 1)
            body += field(1000, b"x" * (BODY_MAX - len(body) - 5))
            self.assertLessEqual(len(body), BODY_MAX)
            self.assertEqual(c.do("ALLOCATOR_HELLO", body).code, OK)

    def test_bodies_that_are_no_message(self):
        c = self.session()
        for body in (b"\xff", b"\x08", b"\x0a\xff\xff\xff\xff\x0f", b"\x0b\x0b\x0b", b"\x08" + b"\xff" * 11,
                     b"\x12\x7f", random.randbytes(100)):
            self.refused(c.do("ALLOCATOR_ALLOC_PAGES", body), INVALID_ARGUMENT)
        self.end(c)

    def test_unknown_methods(self):
        c = self.session()
        for number in (0, 26, 31, 63, 95, 98, 0x7FFF, 0xFFFF):
            self.refused(c.do(number, b"whatever"), UNIMPLEMENTED)
        self.end(c)

    def test_cancel_of_unknown_calls(self):
        c = self.session()
        for call in (0, 1, 77, 0xFFFFFFFF):
            c.send(frame(0, kind=CANCEL, call=call))
        self.assertEqual(c.do("HEALTH_CHECK").code, OK)
        self.end(c)

    def test_descriptors_with_a_frame_are_dropped(self):
        c = self.session()
        before = self.daemon.fds()
        for _ in range(50):
            data = frame("HEALTH_CHECK", call=5)
            socket.send_fds(c.socket, [data], [c.socket.fileno()] * 8)
            self.assertEqual(c.receive().code, OK)
        self.assertLessEqual(self.daemon.fds(), before)
        c.call = 5
        self.end(c)

    # ---- arguments ----

    def test_allocations_that_are_refused(self):
        c = self.session()
        for gfp, order in ((GFP_KERNEL, 11), (GFP_KERNEL, 0xFFFFFFFF), (GFP_KERNEL | 5, 0),
                           (0xFFFFFFFF, 0), (GFP_KERNEL | 0x18, 0), (0x10000000, 0)):
            r = c.do("ALLOCATOR_ALLOC_PAGES", field(1, gfp) + field(2, order))
            self.assertIn(r.code, (INVALID_ARGUMENT, PERMISSION_DENIED))
            self.assertNotEqual(r.text, "")
            r = c.do("ALLOCATOR_EXCHANGE", field(1, gfp) + field(2, order) + field(3, 4))
            self.assertIn(r.code, (INVALID_ARGUMENT, PERMISSION_DENIED))
        self.end(c)

    def test_frees_of_what_was_never_granted(self):
        """A free that comes late is a success that does nothing; what cannot be one is refused."""
        c = self.session()
        for pfn in (0, 1, 4096, 16383, 16384, PAGES - 1, PAGES, 0x7FFFFFFF, 0xFFFFFFFF):
            for order in (0, 3, 10, 11, 0xFFFFFFFF):
                r = c.do("ALLOCATOR_FREE_PAGES", field(1, pfn) + field(2, order) + field(3, 1))
                if pfn >= 16383 or order > 10:
                    self.assertNotEqual(r.code, OK, f"pfn {pfn} order {order}")
                    self.assertNotEqual(r.text, "")
        self.end(c)

    def test_frees_of_what_is_held(self):
        """The word does not say RETURNED: a lying free changes nothing."""
        c = self.session()
        r = c.do("ALLOCATOR_ALLOC_PAGES", field(1, GFP_KERNEL) + field(2, 4))
        self.assertEqual(r.code, OK)
        pfn = r.fields.get(1, [0])[0]
        for order in (0, 3, 4, 5, 11):
            for generation in (0, 1, 2, 1 << 37, (1 << 64) - 1):
                c.do("ALLOCATOR_FREE_PAGES",
                     field(1, pfn) + field(2, order) + field(3, generation))
        r = c.do("ALLOCATOR_ALLOC_PAGES", field(1, GFP_KERNEL) + field(2, 4))
        self.assertEqual(r.code, OK)
        self.assertNotEqual(r.fields.get(1, [0])[0], pfn)
        self.end(c)

    def test_magazines_that_were_never_lent(self):
        c = self.session()
        for give in (1, 2, 100, 0x7FFFFFFF, 0xFFFFFFFF):
            r = c.do("ALLOCATOR_EXCHANGE", field(1, GFP_KERNEL) + field(4, give))
            self.assertTrue(r.code != OK or r.fields.get(3, [0])[0] == 0)
        r = c.do("ALLOCATOR_EXCHANGE", field(1, GFP_KERNEL) + field(3, 0xFFFFFFFF))
        self.assertTrue(r.code != OK or r.fields.get(2, [0])[0] <= 512)
        self.end(c)

    def test_sections_that_are_not_there(self):
        c = self.session()
        for sections in ((16,), (1023,), (0xFFFFFFFF,), tuple(range(17)), (15,)):
            packed = b"".join(field(1, s) for s in sections)
            self.assertNotEqual(c.do("ALLOCATOR_GET_SECTIONS", packed).code, OK, sections)
        self.assertEqual(c.do("ALLOCATOR_GET_SECTIONS", field(1, 3)).code, OK)
        self.end(c)

    def test_handles_of_nothing(self):
        c = self.session()
        for method in ("ALLOCATOR_HOLD", "ALLOCATOR_RELEASE", "ALLOCATOR_SEND"):
            for granule in (0, 1, 512, 513, 16384 * 512, PAGES * 512, 0xFFFFFFFF):
                for generation in (0, 1, 0xFFFFFFFF, (1 << 64) - 1):
                    for session in (0, 1, 4095, 4096, 0xFFFFFFFF):
                        r = c.do(method, field(1, granule) + field(2, generation) + field(3, session))
                        # to let go of what one does not hold may be the repetition of a call
                        if method != "ALLOCATOR_RELEASE" or granule >= PAGES * 512:
                            self.assertNotEqual(r.code, OK, f"{method} {granule} {generation}")
        for granule in (1, 16384 * 512, PAGES * 512, 0xFFFFFFFF):
            c.do("ALLOCATOR_GET_HOLDERS", field(1, granule))
        for session in (0, 4095, 4096, 0xFFFFFFFF):
            self.assertNotEqual(c.do("INSPECTOR_GET_SESSION", field(1, session)).code, OK)
            self.assertNotEqual(c.do("ADMIN_KILL_SESSION", field(1, session)).code, OK)
        self.end(c)

    # ---- calls in flight ----

    def test_reports_are_logged_whole(self):
        """A client's finding is one line, whatever it says and however long."""
        c = self.session()
        text = "".join(f"{i:03} of a long text, " for i in range(20))[:399] + "."
        body = field(1, 1) + field(2, 0) + field(3, 7) + field(4, 9)
        self.assertEqual(c.do("ALLOCATOR_REPORT", body + field(5, text)).code, OK)
        self.assertEqual(c.do("ALLOCATOR_REPORT", body + field(5, "a\nb" + "x" * 5000)).code, OK)
        lines = [line for line in self.daemon.said().splitlines() if "overrun reported" in line]
        lines = lines[-2:]
        self.assertTrue(lines[0].endswith(", allocated by session 7, freed by session 9: " + text),
                        lines[0])
        self.assertIn(": a?bxxx", lines[1])
        self.assertEqual(lines[1].count("x" * 397), 1)
        self.end(c)

    def test_many_calls_at_once(self):
        c = self.session()
        c.send(b"".join(frame("HEALTH_CHECK", call=1000 + i) for i in range(500)))
        calls = {c.receive().call for _ in range(500)}
        self.assertEqual(calls, set(range(1000, 1500)))
        self.end(c)

    def exhaust(self, c):
        """Offers stay offers: nobody claims them, and Close takes them back."""
        for order in (10, 4, 0):
            while c.do("ALLOCATOR_ALLOC_PAGES", field(1, GFP_NOWAIT) + field(2, order)).code == OK:
                pass

    def test_parked_calls(self):
        c = self.session()
        self.exhaust(c)
        want = field(1, GFP_KERNEL) + field(2, 10)
        # its deadline
        r = c.do("ALLOCATOR_ALLOC_PAGES", want, timeout_us=30000)
        self.refused(r, DEADLINE_EXCEEDED)
        # its cancellation, other calls passing it
        parked = c.ask("ALLOCATOR_ALLOC_PAGES", want)
        self.assertEqual(c.do("HEALTH_CHECK").code, OK)
        c.send(frame(0, kind=CANCEL, call=parked))
        r = c.receive()
        self.assertEqual(r.call, parked)
        self.refused(r, CANCELLED)
        # the end of its connection
        c.ask("ALLOCATOR_ALLOC_PAGES", want)
        self.assertEqual(c.do("HEALTH_CHECK").code, OK)
        self.end(c)

    def test_more_calls_in_flight_than_allowed(self):
        c = self.session()
        self.exhaust(c)
        want = field(1, GFP_KERNEL) + field(2, 10)
        c.send(b"".join(frame("ALLOCATOR_ALLOC_PAGES", want, call=2000000 + i) for i in range(1100)))
        refused = c.receive()
        self.refused(refused, RESOURCE_EXHAUSTED)
        self.end(c)

    def test_more_work_for_the_worker_than_allowed(self):
        """Many at once: some are done, the others are told to come later; nothing is lost."""
        c = self.session()
        cache = c.do("ALLOCATOR_OPEN_CACHE", field(1, "kmalloc-64")).fields
        shrink = field(1, cache[1][0]) + field(2, cache[2][0])
        c.send(b"".join(frame("ALLOCATOR_SHRINK_CACHE", shrink, call=3000 + i) for i in range(64)))
        replies = [c.receive() for _ in range(64)]
        self.assertEqual({r.call for r in replies}, set(range(3000, 3064)))
        done = [r for r in replies if r.code == OK]
        self.assertGreaterEqual(len(done), 4)
        self.assertLess(len(done), 64)
        for r in replies:
            if r.code != OK:
                self.refused(r, RESOURCE_EXHAUSTED)
        self.assertEqual(c.do("ALLOCATOR_SHRINK_CACHE", shrink).code, OK)
        self.end(c)

    def test_a_client_that_never_reads(self):
        deaf = self.session()
        deaf.socket.settimeout(1)
        asked = 0
        try:
            while asked < 200000:
                deaf.socket.sendall(frame("HEALTH_LIST_METHODS", call=100 + asked))
                asked += 1
        except (TimeoutError, socket.timeout, BrokenPipeError, ConnectionResetError):
            pass
        self.assertLess(asked, 200000, "the daemon buffers without bound")
        other = self.session()
        self.assertEqual(other.do("HEALTH_CHECK").code, OK)
        self.end(other)

    def test_a_long_list_waits_for_who_reads_it(self):
        """Longer than the daemon would ever queue; nothing of it is lost, nobody is thrown out."""
        sessions, caches, filler = 60, 950, "x" * 50
        holders = [self.session() for _ in range(sessions)]
        made = [holders[0].do("ALLOCATOR_CREATE_CACHE", field(1, f"{filler}{i}") + field(2, 8)).fields
                for i in range(caches)]
        for c in holders:
            asked = [frame("ALLOCATOR_ALLOC_OBJECT",
                           field(1, f[1][0]) + field(2, f[2][0]) + field(3, 0xCC0), call=1000 + i)
                     for i, f in enumerate(made)]
            self.assertTrue(c.send(b"".join(asked)))
            self.assertTrue(all(c.receive().code == OK for _ in made))
        with Connection(self.daemon) as reader, Connection(self.daemon) as other:
            reader.hello(f9=1)
            reader.ask("INSPECTOR_LIST_LEAKS")
            # the list is under way, and its reader looks elsewhere
            other.hello(f9=1)
            for _ in range(2000):
                self.assertEqual(other.do("HEALTH_CHECK").code, OK)
            items = []
            while (r := reader.receive()) is not None and r.kind == ITEM:
                items.append(r.fields[6][0])
            self.assertIsNotNone(r, f"closed after {len(items)} items")
            self.assertEqual(r.code, OK)
            self.assertEqual(len([i for i in items if i.startswith(b"xxx")]), sessions * caches)
            # a reader that goes away in the midst of it
            reader.ask("INSPECTOR_LIST_LEAKS")
            reader.receive()
        for c in holders:
            self.end(c)

    # ---- rights ----

    def test_admin_calls_of_others(self):
        if os.geteuid() != 0:
            return  # nobody else to become: root's run has it
        os.chmod(self.daemon.dir.name, 0o755)
        os.setgroups([os.stat(self.daemon.socket).st_gid])  # to connect is not what is refused here
        os.setgid(65534)
        os.setuid(65534)
        c = self.session()
        for method in ("ADMIN_DROP_CACHES", "ADMIN_FSCK", "ADMIN_KILL_SESSION"):
            self.refused(c.do(method, field(1, 1)), PERMISSION_DENIED)
        self.end(c)

    # ---- noise ----

    def test_random_frames(self):
        for _ in range(300):
            self.noise()
        self.all_sections()

    def all_sections(self):
        """Those that noise took out of service come back."""
        with Connection(self.daemon) as c:
            self.assertEqual(c.hello().code, OK)
            wait_until(lambda: c.do("ADMIN_GROW", field(1, 1)).code == OUT_OF_RANGE, "there is nothing more to come")

    def noise(self):
        rnd = random.Random(random.getrandbits(64))
        numbers = [n for n in METHOD.values() if n]
        with Connection(self.daemon) as c:
            c.hello(**({"f9": 1} if rnd.random() < 0.3 else {}))
            data = b""
            for call in range(1, rnd.randrange(2, 40)):
                body = b"".join(field(rnd.randrange(1, 10), rnd.choice((0, 1, rnd.getrandbits(32), b"abc")))
                                for _ in range(rnd.randrange(5)))
                one = bytearray(frame(rnd.choice(numbers), body, call=100 + call, timeout_us=20000))
                if METHOD["ADMIN_KILL_SESSION"] == struct.unpack_from("<H", one, 8)[0]:
                    continue
                if rnd.random() < 0.1:
                    one[rnd.randrange(len(one))] ^= 1 << rnd.randrange(8)
                    if METHOD["ADMIN_KILL_SESSION"] == struct.unpack_from("<H", one, 8)[0]:
                        continue
                data += one
            c.send(data)
            if rnd.random() < 0.7:
                c.socket.shutdown(socket.SHUT_WR)
                c.ends()


if __name__ == "__main__":
    main()

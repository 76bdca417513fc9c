# SPDX-License-Identifier: MIT
"""Metrics of a live daemon: the text is OpenMetrics, counters move by exactly what was done, gauges say
what the reports say, and it is served where and to whom the configuration says.
"""
import contextlib
import ctypes
import json
import os
import re
import select
import signal
import socket
import stat
import subprocess

from kmmtest import (DEADLINE_EXCEEDED, HEADER, KMMD, OK, PATIENCE, RESOURCE_EXHAUSTED, Connection, Daemon,
                     field, frame, main, wait_until)
from metrics_case import BY_PROMETHEUS, OPENMETRICS, PLAIN, Case, Metrics, connection, free_port, get, moved
from peer_run import GFP_KERNEL, GFP_NOWAIT, Peer

NOTIFY = 5
PAGE = 4096
MIB = 1 << 20
ALICE = 62001


def object_of(c, cache):
    return c.do("ALLOCATOR_ALLOC_OBJECT", field(1, cache.fields[1][0]) + field(2, cache.fields[2][0]) +
                field(3, GFP_NOWAIT))


class Text(Case):
    def test_the_same_by_both_ways_and_in_both_formats(self):
        d = self.start()
        with Peer(d) as p:
            self.assertGreater(p.do("ALLOC", GFP_KERNEL, 3), 0)
            by_ctl = Metrics(d.ctl("metrics")[1])
            by_http = self.metrics(d)
            as_json = json.loads(d.ctl("--json", "metrics")[1])
            plain = get(d.listen).text
        self.assertEqual(by_ctl.families.keys(), by_http.families.keys())
        self.assertEqual(as_json["format"], "OpenMetrics 1.0.0")
        Metrics(as_json["text"])
        # the same samples, by the same names
        names = {line.split(" ")[0] for line in plain.splitlines() if not line.startswith("#")}
        want = {line.split(" ")[0] for line in by_http.text.splitlines() if not line.startswith("#")}
        self.assertEqual(names, want)
        for line in plain.splitlines():
            if line.startswith("# TYPE "):
                self.assertRegex(line, r"^# TYPE \w+ (gauge|counter|histogram)$")
        self.assertEqual(by_http["kmmd_build_info"], 1)

    def test_names_of_users(self):
        """What users name may be no UTF-8, and longer than a label is read by anybody."""
        d = self.start()
        c = self.client(d)
        names = [b"caf\xc3\xa9", b"\xff\xfe", b'quote"d', b"back\\slash", b"n" * 63, b"\\xff\\xfe"]
        for name in names:
            cache = c.do("ALLOCATOR_CREATE_CACHE", field(1, name) + field(2, 64))
            self.assertEqual(cache.code, OK, name)
            self.assertEqual(object_of(c, cache).code, OK)
        labels = self.metrics(d).labelled("kmmd_cache_objects_out", "cache")
        for name in ("café", "\\xff\\xfe", 'quote"d', "back\\x5cslash", "n" * 63, "\\x5cxff\\x5cxfe"):
            self.assertEqual(labels.get(name), 1, labels)
        self.end(c)

    def test_lines_are_bounded(self):
        d = self.start()
        c = self.client(d)
        for i in range(130):
            cache = c.do("ALLOCATOR_CREATE_CACHE", field(1, f"many-{i}") + field(2, 65536 if i == 77 else 64))
            self.assertEqual(object_of(c, cache).code, OK)
        m = self.metrics(d)
        self.assertEqual(m["kmmd_caches"], 130 + 39)
        shown = m.labelled("kmmd_cache_slab_bytes", "cache")
        self.assertEqual(len(shown), 100)
        self.assertIn("many-77", shown)
        self.end(c)


class Counts(Case):
    def test_calls(self):
        d = self.start()
        c = self.client(d)
        before = self.metrics(d)
        for _ in range(7):
            self.assertEqual(self.pages(c, 5).code, OK)
        for _ in range(3):
            self.assertEqual(self.pages(c, 11).code, 3)  # INVALID_ARGUMENT
        self.assertEqual(c.do("ALLOCATOR_LOOKUP", field(1, "nothing")).code, 5)
        self.assertEqual(c.do(127).code, 12)
        self.assertEqual(c.do(60000).code, 12)
        self.assertEqual(c.do("ALLOCATOR_FREE_PAGES", b"\xff").code, 3)
        # several at once; a notification, which has no answer, counts as others do
        c.send(frame("ALLOCATOR_REPORT", field(1, 5), call=0, kind=NOTIFY) +
               b"".join(frame("HEALTH_CHECK", call=1000 + i) for i in range(20)))
        for i in range(20):
            self.assertEqual(c.receive().call, 1000 + i)
        self.assertEqual(c.do("ALLOCATOR_COLLECT").code, OK)  # by the worker
        after = self.metrics(d)
        calls = moved(after.calls(), before.calls())
        self.assertEqual(calls, {
            ("Allocator/AllocPages", "OK"): 7, ("Allocator/AllocPages", "INVALID_ARGUMENT"): 3,
            ("Allocator/Lookup", "NOT_FOUND"): 1, ("unknown", "UNIMPLEMENTED"): 2,
            ("Allocator/FreePages", "INVALID_ARGUMENT"): 1, ("Allocator/Report", "OK"): 1,
            ("Health/Check", "OK"): 20, ("Allocator/Collect", "OK"): 1})
        for method in {k[0] for k in calls}:
            name = method if method == "unknown" else "kmm.v1." + method
            n = after.get("kmmd_call_duration_seconds_count", method=name) - \
                before.get("kmmd_call_duration_seconds_count", method=name)
            self.assertEqual(n, sum(v for k, v in calls.items() if k[0] == method), method)
        self.end(c)

    def test_latency_is_what_the_client_waits(self):
        """A call that waits for its deadline is at least that long."""
        d = self.start()
        self.hoard(d)
        c = self.client(d)
        reply = c.do("ALLOCATOR_ALLOC_PAGES", field(1, GFP_KERNEL), timeout_us=300000)
        self.assertEqual(reply.code, DEADLINE_EXCEEDED)
        m = self.metrics(d)
        long = {"method": "kmm.v1.Allocator/AllocPages"}
        count = m["kmmd_call_duration_seconds_count", long]
        self.assertEqual(count - m["kmmd_call_duration_seconds_bucket", {**long, "le": "0.262144"}], 1)
        self.assertGreaterEqual(m["kmmd_call_duration_seconds_sum", long], 0.3)

    def hoard(self, d):
        """Nothing is free: who may wait waits."""
        c = self.client(d)
        for order in (10, 6, 3, 0):
            while self.pages(c, order).code == OK:
                pass
        return c

    def test_waiting(self):
        d = self.start()
        owner, c = self.hoard(d), self.client(d)
        before = self.metrics(d)

        def park(timeout_us=0):
            waiting = self.metrics(d)["kmmd_requests_waiting"]
            call = c.ask("ALLOCATOR_ALLOC_PAGES", field(1, GFP_KERNEL), timeout_us)
            wait_until(lambda: self.metrics(d)["kmmd_requests_waiting"] > waiting, "it waits")
            return call

        self.assertEqual(before["kmmd_pressure"], 0)
        pending = before["kmmd_calls_pending"]
        cancelled = park()
        m = self.metrics(d)
        self.assertEqual((m["kmmd_pressure"], m["kmmd_requests_waiting"], m["kmmd_scarce"]), (1, 1, 1))
        self.assertEqual(m["kmmd_calls_pending"], pending + 1)
        c.send(HEADER.pack(0, cancelled, 0, 4, 0, 0, 0, 0))
        self.assertEqual(c.receive().code, 1)
        self.assertEqual(c.do("ALLOCATOR_ALLOC_PAGES", field(1, GFP_KERNEL), 1000).code, DEADLINE_EXCEEDED)
        served = park()
        self.end(owner)
        reply = c.receive()
        self.assertEqual((reply.call, reply.code), (served, OK))
        after = self.metrics(d)

        def more(name, **labels):
            return after[name, labels] - before[name, labels]
        self.assertEqual(more("kmmd_requests_parked_total"), 3)
        self.assertEqual(more("kmmd_allocation_stalls_total"), 3)
        self.assertEqual({r: more("kmmd_requests_unparked_total", result=r)
                          for r in ("served", "timeout", "cancelled", "refused")},
                         {"served": 1, "timeout": 1, "cancelled": 1, "refused": 0})
        self.assertEqual((after["kmmd_requests_waiting"], after["kmmd_calls_pending"]), (0, pending))

    def test_sessions(self):
        d = self.start()
        before = self.metrics(d)
        a = self.client(d)
        for _ in range(3):
            self.assertEqual(self.pages(a, 2).code, OK)
        b = Peer(d)
        self.addCleanup(b.__exit__)
        m = self.metrics(d)
        self.assertEqual(m["kmmd_sessions", {"state": "live"}], 2)
        self.assertGreaterEqual(m["kmmd_granted_bytes", {"state": "live", "kind": "pages"}], 12 * PAGE)
        self.end(a)
        b.process.kill()
        b.process.wait()
        wait_until(lambda: self.metrics(d)["kmmd_sweeps_total"] - before["kmmd_sweeps_total"] == 2, "swept")
        m = self.metrics(d)
        self.assertEqual(m["kmmd_sessions_opened_total"] - before["kmmd_sessions_opened_total"], 2)
        ends = moved(m.labelled("kmmd_sessions_ended_total", "reason"),
                     before.labelled("kmmd_sessions_ended_total", "reason"))
        self.assertEqual(ends, {"closed": 1, "died": 1})
        self.assertEqual(m["kmmd_swept_bytes_total"] - before["kmmd_swept_bytes_total"], 12 * PAGE)
        self.assertGreater(m["kmmd_sweep_seconds_total"], before["kmmd_sweep_seconds_total"])

    def test_quarantine(self):
        d = self.start()
        c = self.client(d)
        self.assertEqual(self.pages(c, 4).code, OK)
        session, token = c.session, c.token
        c.close()
        wait_until(lambda: self.metrics(d)["kmmd_sessions", {"state": "detached"}] == 1, "it is detached")
        wait_until(lambda: self.metrics(d)["kmmd_granted_bytes", {"state": "detached"}] in (0, 16 * PAGE),
                   "what was not claimed is withdrawn, or not yet")
        c = self.connect(d)
        self.assertEqual(c.hello(f5=session, f6=token).code, OK)
        m = self.metrics(d)
        self.assertEqual(m["kmmd_sessions", {"state": "detached"}], 0)
        self.assertEqual(m["kmmd_sessions", {"state": "live"}], 1)
        self.end(c)

    def test_users(self):
        d = self.start(f"[user {ALICE}]\npages = 16\nsessions = 1\n")
        c = self.client(d, ALICE)
        self.assertEqual(self.pages(c, 3).code, OK)
        for _ in range(5):
            self.assertEqual(self.pages(c, 4).code, RESOURCE_EXHAUSTED)
        self.assertEqual(self.connect(d, ALICE).hello().code, RESOURCE_EXHAUSTED)
        m = self.metrics(d)
        of = lambda what: {"uid": ALICE, "resource": what}
        self.assertEqual(m["kmmd_user_used", of("pages")], 8)
        self.assertEqual(m["kmmd_user_limit", of("pages")], 16)
        self.assertEqual(m.get("kmmd_user_limit", **of("objects")), 0)
        self.assertEqual(m["kmmd_user_refused_total", of("pages")], 5)
        self.assertEqual(m["kmmd_user_refused_total", of("sessions")], 1)
        self.assertEqual(m["kmmd_user_used", of("sessions")], 1)
        self.end(c)
        self.assertEqual(self.metrics(d)["kmmd_user_used", of("pages")], 0)

    def test_lines_left_out(self):
        d = self.start("[log]\nrefusals_per_minute = 2\n")
        c = self.connect(d, ALICE)
        for _ in range(6):
            c.do("ADMIN_FSCK")
        self.assertEqual(self.metrics(d)["kmmd_log_lines_left_out_total", {"event": "refusal"}], 4)


class Magazines(Case):
    """What threads were given and gave back is counted magazine by magazine, whoever counts it."""

    def ways(self, m):
        return {(w, dict(have)["kind"], dict(have)["layer"]): int(v)
                for (n, have), v in m.samples.items()
                for w in ("magazines_taken", "magazine_rounds_taken", "magazines_given",
                          "magazine_rounds_given") if n == f"kmmd_{w}_total"}

    def test_pages(self):
        d = self.start()
        with Peer(d) as p:
            before = self.ways(self.metrics(d))
            for i in range(3):
                self.assertEqual(p.do("CACHE", 0, 40), 0)
            self.assertEqual(p.do("FLUSH"), 0)
            now = moved(self.ways(self.metrics(d)), before)
            taken = sum(v for (w, *_), v in now.items() if w == "magazine_rounds_taken")
            # what the thread had in the end came back, all of it in magazines or one by one
            given = sum(v for (w, *_), v in now.items() if w == "magazine_rounds_given")
            self.assertGreaterEqual(taken, 40)
            self.assertLessEqual(given, taken)
            self.assertNotIn(("magazines_taken", "objects", "slabs"), now)

    def test_objects(self):
        d = self.start()
        with Peer(d) as p:
            cache = p.must("CACHE_CREATE", 64, text="things")
            before = self.ways(self.metrics(d))
            self.assertEqual(p.do("OBJECT_CHURN", cache, 1000), 0)
            m = self.metrics(d)
            now = moved(self.ways(m), before)
            taken = sum(v for (w, *_), v in now.items() if w == "magazine_rounds_taken")
            given = sum(v for (w, *_), v in now.items() if w == "magazine_rounds_given")
            self.assertGreaterEqual(taken, 1000)
            # what is neither in its slab, the rack nor the depot is the thread's
            racked = m["kmmd_magazine_rounds", {"kind": "objects"}]
            self.assertEqual(m["kmmd_cache_objects_out", {"cache": "things"}], taken - given + racked)
            self.assertGreaterEqual(m["kmmd_cache_objects", {"cache": "things"}], taken)

    def test_the_rack(self):
        """From one process to the next without the daemon; and what a session counted outlives it."""
        d = self.start()
        with Peer(d) as a, Peer(d) as b:
            number = [p.must("CACHE_CREATE", 64, text="things") for p in (a, b)]
            before = self.ways(self.metrics(d))
            rack = ("magazines_given", "objects", "rack"), ("magazines_taken", "objects", "rack")

            def passed():
                now = moved(self.ways(self.metrics(d)), before)
                return [now.get(k, 0) for k in rack]
            self.assertEqual(a.do("OBJECT_CHURN", number[0], 2000), 0)
            given, taken = passed()
            self.assertGreater(given, 0, "a thread that frees more than it keeps gives to the rack")
            self.assertEqual(b.do("OBJECT_CHURN", number[1], 2000), 0)
            self.assertGreater(passed()[1], taken, "who comes next takes from there")
            lying = self.metrics(d)["kmmd_magazines", {"layer": "rack"}]
            given, taken = passed()
            self.assertEqual(given - taken, lying)
            sums = self.ways(self.metrics(d))
        wait_until(lambda: self.metrics(d)["kmmd_sessions", {"state": "live"}] == 0, "they ended")
        after = self.ways(self.metrics(d))
        for key in sums:
            self.assertGreaterEqual(after[key], sums[key], key)
        self.assertEqual([moved(after, before).get(k) for k in rack], [given, taken])


class Gauges(Case):
    def test_zones(self):
        d = self.start()
        c = self.client(d)
        self.assertEqual(self.pages(c, 7).code, OK)
        m = self.metrics(d)
        size = sum(m.labelled("kmmd_zone_size_bytes", "zone").values())
        self.assertEqual(m["kmmd_pool_size_bytes"], 64 * MIB)
        self.assertEqual(size, m["kmmd_pool_size_bytes"] - m["kmmd_pool_metadata_bytes"])
        self.assertEqual(m["kmmd_pool_free_bytes"] + m["kmmd_pool_used_bytes"], size)
        self.assertEqual(m["kmmd_pool_used_bytes"], 128 * PAGE)
        info = json.loads(d.ctl("--json", "buddyinfo")[1])
        zones = {z["zone"]: z["free_blocks"] for z in info}
        for zone, free in m.labelled("kmmd_zone_free_bytes", "zone").items():
            blocks = sum(n * PAGE << int(order) for order, n in (
                (dict(have)["order"], v) for (name, have), v in m.samples.items()
                if name == "kmmd_buddy_free_blocks" and dict(have)["zone"] == zone))
            self.assertEqual(blocks, free, zone)
            self.assertEqual(sum(n * PAGE << order for order, n in enumerate(zones[zone])), free, zone)
            marks = [m["kmmd_zone_watermark_bytes", {"zone": zone, "mark": k}] for k in ("min", "low", "high")]
            self.assertEqual(marks, sorted(marks))
        self.assertEqual(m["kmmd_sections"], 16)
        self.end(c)

    def test_process(self):
        d = self.start()
        m = self.metrics(d)
        self.assertEqual(m["kmmd_starts_total"], 1)
        self.assertEqual(m["kmmd_start_time_seconds"], self.metrics(d)["kmmd_start_time_seconds"])
        self.assertGreater(self.metrics(d)["kmmd_uptime_seconds"], m["kmmd_uptime_seconds"])
        self.assertEqual(m["kmmd_reactors"], 2)
        # of the moment: the one that asks is among them
        self.assertLessEqual(abs(m["process_open_fds"] - d.fds()), 2)
        self.assertEqual(m["kmmd_fdstore_present"], 0)
        wait_until(lambda: self.metrics(d)["kmmd_reactor_lag_seconds_count", {"reactor": 1}] > 0, "it ticks")

    def test_a_restart(self):
        """Another daemon on the same pool listens at the same place."""
        d = self.start("", "--supervise")
        with open(d.config, "a", encoding="utf-8") as f:
            f.write(f"[metrics]\nlisten = {d.listen}\n")
        before = self.metrics(d)
        self.assertEqual(before["kmmd_fdstore_present"], 1)
        with open(f"/proc/{d.process.pid}/task/{d.process.pid}/children", encoding="ascii") as f:
            old = int(f.read().split()[0])
        kept = int(re.search(r"the fd store holds (\d+) descriptors for us", d.said()).group(1))
        self.assertEqual(before["kmmd_fdstore_descriptors"], kept)
        self.assertEqual(before["kmmd_fdstore_descriptors_max"], 4096)
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: d.pid() not in (None, old), "there is another one")
        d.wait_serving()
        after = self.metrics(d)
        self.assertEqual(after["kmmd_starts_total"], 2)
        self.assertEqual(after["kmmd_fdstore_descriptors"], before["kmmd_fdstore_descriptors"])
        self.assertEqual(after["kmmd_pool_size_bytes"], before["kmmd_pool_size_bytes"])


class Served(Case):
    def test_formats(self):
        d = self.start()
        for accept, want in ((None, PLAIN), ("*/*", PLAIN), ("text/plain", PLAIN),
                             (BY_PROMETHEUS, OPENMETRICS), ("application/openmetrics-text", OPENMETRICS),
                             ("application/openmetrics-text;version=3.0.0", PLAIN)):
            a = get(d.listen, accept=accept)
            self.assertEqual((a.status, a.type, a.headers["cache-control"]), (200, want, "no-store"), accept)
            self.assertEqual(a.text.endswith("# EOF\n"), want == OPENMETRICS)
        head = get(d.listen, method="HEAD")
        self.assertEqual((head.status, head.type, head.text), (200, PLAIN, ""))
        self.assertGreater(int(head.headers["content-length"]), 1000)

    def test_other_questions(self):
        d = self.start()
        for path in ("/", "/metrics/", "/metricsx", "/..", "//metrics"):
            self.assertEqual(get(d.listen, path).status, 404, path)
        self.assertEqual(get(d.listen, "/metrics?name=x").status, 200)
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            a = get(d.listen, method=method, body=b"x" * 100000 if method == "POST" else None)
            self.assertEqual((a.status, a.headers["allow"]), (405, "GET, HEAD"))
        with contextlib.closing(connection(d.listen)) as c:
            c.connect()
            c.sock.sendall(b"nonsense\r\n\r\n")
            self.assertRegex(c.sock.recv(1000), rb"^(HTTP/1.. 400|$)")
        # one connection for several questions
        with contextlib.closing(connection(d.listen)) as c:
            for _ in range(3):
                c.request("GET", "/health")
                r = c.getresponse()
                self.assertEqual((r.status, r.read()[:9]), (200, b"serving: "))
        # a header without end
        with contextlib.closing(connection(d.listen)) as c:
            c.connect()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                c.sock.sendall(b"GET /metrics HTTP/1.1\r\n" + b"A: " + b"b" * 100000)
                self.assertRegex(c.sock.recv(1000), rb"^(HTTP/1.1 4..|$)")
        self.assertEqual(get(d.listen, "/health").status, 200)

    def hold(self, listen, n, begin=b""):
        """So many connections that a process keeps open: each says a little all the time."""
        held = []
        while len(held) < n:
            c = connection(listen)
            try:
                c.connect()
            except BlockingIOError:  # faster than it accepts
                c.sock.close()
                continue
            self.addCleanup(c.close)
            c.sock.sendall(begin)
            held.append(c.sock)
        return held

    def asks(self, c):
        try:
            c.request("GET", "/health")
            return True
        except BlockingIOError:
            c.sock.close()
            c.close()
            return False

    def answered_while_held(self, listen, held):
        """Somebody's question is answered, although these say something before they would be given up."""
        c = connection(listen)
        self.addCleanup(c.close)
        wait_until(lambda: self.asks(c), "there is room to connect")
        c.sock.setblocking(False)
        for _ in range(int(PATIENCE / 0.1)):
            if select.select([c.sock], [], [], 0.1)[0]:
                self.assertTrue(c.sock.recv(12).startswith(b"HTTP/1.1 200"))
                return
            for s in held:
                with contextlib.suppress(OSError):
                    s.send(b"x", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        self.fail("it is not answered")

    def test_who_keeps_connections_open(self):
        """The oldest of those who say nothing go; nobody who calls the daemon notices."""
        d = self.start()
        tcp = f"127.0.0.1:{free_port()}"
        for listen in (d.listen, tcp):
            self.assertEqual(d.ctl("set", "metrics.listen", listen)[0], 0)
            wait_until(lambda: self.answers(listen), "it listens there")
            held = self.hold(listen, 40, b"GET /metrics HTTP/1.1\r\nX-Slow: ")
            self.answered_while_held(listen, held)
            self.assertEqual(held[0].recv(1), b"")
        self.assertEqual(d.ctl("health")[0], 0)

    def test_who_does_not_read(self):
        """Connections that ask and do not read are not idle; of these the one that asked first goes."""
        d = self.start()
        held = self.hold(d.listen, 40, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 40)
        self.answered_while_held(d.listen, held)

    def answers(self, listen):
        try:
            return get(listen, "/health").status == 200
        except (OSError, ConnectionError):
            return False
        except Exception as e:
            if type(e).__name__ in ("RemoteDisconnected", "BadStatusLine"):
                return False
            raise

    def test_access_to_the_socket(self):
        d = self.start("socket_group = daemon\n")
        st = os.stat(d.listen)
        self.assertEqual((stat.S_IMODE(st.st_mode), st.st_gid), (0o660, 1))
        self.assertTrue(stat.S_ISSOCK(st.st_mode))

    def test_by_tcp(self):
        d = self.start()
        v4, v6 = f"127.0.0.1:{free_port()}", f"[::1]:{free_port(socket.AF_INET6)}"
        for listen in (v4, v6):
            self.assertEqual(d.ctl("set", "metrics.listen", listen)[0], 0)
            Metrics(get(listen, accept=BY_PROMETHEUS).text)
            self.assertFalse(os.path.exists(d.listen))
        with self.assertRaises(ConnectionRefusedError):
            get(v4)
        self.assertEqual(d.ctl("set", "metrics.listen", "")[0], 0)
        with self.assertRaises(ConnectionRefusedError):
            get(v6)
        self.assertIn("metrics are not served at [::1]", d.said())

    def test_a_place_that_is_taken(self):
        """Memory is served all the same, and metrics as soon as the place is free."""
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            listen = f"127.0.0.1:{s.getsockname()[1]}"
            d = Daemon(config=f"[metrics]\nlisten = {listen}\n")
            self.addCleanup(d.stop)
            self.assertIn(f"[metrics] listen = {listen}: cannot be listened at: Address already in use", d.said())
            self.assertEqual(d.ctl("health")[0], 0)
        wait_until(lambda: self.answers(listen), "it is tried again")
        self.assertEqual(d.said().count("cannot be listened at"), 1)
        self.assertEqual(d.said().count(f"metrics are served at {listen}"), 1)

    def test_a_path_that_is_taken(self):
        """Each reason is said once, however often it is tried again."""
        d = self.start("[log]\nlevel = debug\n")
        path = d.dir.name + "/taken"
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path)
            s.listen()
            self.assertEqual(d.ctl("set", "metrics.listen", path)[0], 0)
            wait_until(lambda: d.said().count(f"another daemon listens at {path}") > 1, "it is tried again")
        lines = [line for line in d.said().splitlines() if f"another daemon listens at {path}" in line]
        self.assertEqual([line.startswith("<3>") or "error" in line for line in lines],
                         [True] + [False] * (len(lines) - 1), lines)
        self.assertEqual(d.said().count("cannot be listened at"), 1)
        wait_until(lambda: self.answers(path), "it is tried again")

    def test_a_socket_that_was_left(self):
        d = self.start()
        self.assertEqual(d.ctl("set", "metrics.listen", "")[0], 0)
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(d.listen)
        self.assertEqual(d.ctl("set", "metrics.listen", d.listen)[0], 0)
        self.assertEqual(get(d.listen, "/health").status, 200)

    def test_refused_addresses(self):
        d = self.start()
        for listen, why in (("0.0.0.0:9464", "other machines could connect there"),
                            ("[::]:9464", "other machines could connect there"),
                            ("localhost:9464", "127.0.0.1:PORT, [::1]:PORT, or the path of a socket"),
                            ("127.0.0.1:70000", "a port is a number from 1 to 65535"),
                            (d.socket, "is the daemon's own socket")):
            status, text = d.ctl("set", "metrics.listen", listen)
            self.assertEqual(status, 1)
            self.assertIn(why, text)
            with open(d.dir.name + "/refused.conf", "w", encoding="utf-8") as f:
                f.write(f"\n[metrics]\nlisten = {listen}\n")
            r = subprocess.run([KMMD, "--socket", d.socket, "--config", f.name, "--check-config"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
            self.assertEqual(r.returncode, 2)
            self.assertRegex(r.stderr, r"refused.conf:3: \[metrics\] listen = .*" + re.escape(why))
        self.assertEqual(get(d.listen, "/health").status, 200)

    def test_it_works_while_the_worker_does(self):
        """Metrics by HTTP ask nobody for help: a stream of reports is in the worker's way, not in theirs."""
        d = self.start()
        with contextlib.ExitStack() as stack:
            busy = [stack.enter_context(Connection(d)) for _ in range(8)]
            for c in busy:
                c.hello(f9=1)
            for _ in range(20):
                for c in busy:
                    c.ask("INSPECTOR_GET_STATISTICS")
                self.metrics(d)
            for c in busy:
                for _ in range(20):
                    c.receive()

    def threads(self, d, name):
        task = f"/proc/{d.process.pid}/task"
        found = []
        for tid in os.listdir(task):
            with open(f"{task}/{tid}/comm", encoding="ascii") as f:
                if f.read() == name + "\n":
                    found.append(int(tid))
        return found

    def test_a_reactor_that_hangs(self):
        """Stopped as by a debugger."""
        d = self.start()
        libc = ctypes.CDLL(None, use_errno=True)
        seize, interrupt, detach, wall = 0x4206, 0x4207, 17, 0x40000000
        wait_until(lambda: self.threads(d, "kmmd-1"), "it has its name")
        tid = self.threads(d, "kmmd-1")[0]
        libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        self.assertEqual(libc.ptrace(seize, tid, None, None), 0)
        self.assertEqual(libc.ptrace(interrupt, tid, None, None), 0)
        os.waitpid(tid, wall)
        wait_until(lambda: get(d.listen, "/health").status == 503, "it is missed")
        self.assertRegex(get(d.listen, "/health").text, r"^reactor 1 has not run for 1\d seconds\n$")
        self.metrics(d)
        self.assertEqual(libc.ptrace(detach, tid, None, None), 0)
        wait_until(lambda: get(d.listen, "/health").status == 200, "it is back")


if __name__ == "__main__":
    main()

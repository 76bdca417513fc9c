# SPDX-License-Identifier: MIT
"""The configuration of a running daemon: what is shown, what set and SIGHUP change and with which
effect, what they refuse with which text, and that nothing changes when anything is wrong.

Every live setting has a test of its effect here, changed both ways: EFFECTS, by name.
"""
import json
import os
import signal
import socket
import stat

from kmmtest import OK, PATIENCE, RESOURCE_EXHAUSTED, field, main, wait_until
from metrics_case import free_port
from peer_run import Peer
from settings_case import AGAIN, ALICE, BASE, BOB, GFP_KERNEL, GFP_NOWAIT, Case

EDQUOT = 122
SLAB_RED_ZONE = 0x400
LASTS = "until the daemon ends or reads its configuration again"


class Effects(Case):
    """Each: what a value of the setting does."""

    def refused(self, reply, code=RESOURCE_EXHAUSTED):
        self.assertEqual(reply.code, code, reply.text)

    def next_uid(self):
        self.uid = getattr(self, "uid", 66000) + 1
        return self.uid

    def socket_mode(self, d, value):
        self.assertEqual(stat.S_IMODE(os.stat(d.socket).st_mode), int(value, 8))

    def socket_group(self, d, value):
        self.assertEqual(os.stat(d.socket).st_gid, {"daemon": 1, "bin": 2}[value])

    def slab_debug(self, d, value):
        """Of caches that are made from then on."""
        name = f"debugged-{self.next_uid()}"
        c = self.client(d)
        self.assertEqual(c.do("ALLOCATOR_CREATE_CACHE", field(1, name) + field(2, 64)).code, OK)
        flags = {s["name"]: s["flags"] for s in json.loads(d.ctl("--json", "slabinfo")[1])}
        self.assertEqual(bool(flags[name] & SLAB_RED_ZONE), "Z" in value, hex(flags[name]))
        self.end(c)

    def log_level(self, d, value):
        said = d.said()
        c = self.client(d, self.next_uid())
        self.assertEqual("began" in d.said()[len(said):], value == "debug")
        self.end(c)

    def lines(self, d, uid, text, n, do, times=6):
        said = d.said()
        for _ in range(times):
            do()
        self.assertEqual(sum(f"user {uid}" in line and text in line
                             for line in d.said()[len(said):].splitlines()), min(n or times, times))

    def refusals_per_minute(self, d, value):
        c = self.connect(d, uid := self.next_uid())
        self.lines(d, uid, "was refused", int(value), lambda: c.do("ADMIN_FSCK"))

    def sessions_per_minute(self, d, value):
        self.set(d, "log.level", "debug")
        uid = self.next_uid()
        self.lines(d, uid, "began", int(value), lambda: self.end(self.client(d, uid)))
        self.set(d, "log.level", "info")

    def users(self, d, value):
        for uid in (ALICE, BOB):
            c = self.connect(d, uid)
            opened = c.hello().code == OK
            self.assertEqual(opened, value == str(uid))
            if opened:
                self.end(c)

    def inspectors(self, d, value):
        for uid in (ALICE, BOB):
            code = self.connect(d, uid).do("INSPECTOR_LIST_ZONES").code
            self.assertEqual(code == OK, value == str(uid))

    def admins(self, d, value):
        for uid in (ALICE, BOB):
            self.assertEqual(self.connect(d, uid).do("ADMIN_FSCK").code == OK, value == str(uid))

    def channels(self, d, value):
        c = self.client(d)
        self.assertEqual(c.limits[12], [int(value)])
        more = [self.connect(d) for _ in range(int(value))]
        codes = [m.hello(f5=c.session, f6=c.token).code for m in more]
        self.assertEqual(codes, [OK] * (int(value) - 1) + [RESOURCE_EXHAUSTED])
        self.end(c)

    def parked(self, c, n):
        """n calls that wait, one more that is refused, though no such block is free. (A single page may become
        free at any time: empty slabs go back.)"""
        for _ in range(n):
            c.ask("ALLOCATOR_ALLOC_PAGES", field(1, GFP_KERNEL) + field(2, 10))
        self.refused(self.pages(c, 10, GFP_KERNEL))

    def hoard(self, d):
        c = self.client(d)
        for order in (10, 6, 3, 0):
            while self.pages(c, order, 0).code == OK:
                pass
        return c

    def calls(self, d, value):
        hoard, c = self.hoard(d), self.client(d)
        self.assertEqual(c.limits[13], [int(value)])
        self.parked(c, int(value))
        self.end(c, hoard)

    def pages_of_session(self, d, value):
        c, other = self.client(d), self.client(d)
        for _ in range(int(value) // 16):
            self.assertEqual(self.pages(c).code, OK)
        self.refused(self.pages(c))
        self.assertEqual(self.pages(other).code, OK)
        self.end(c, other)

    def cache(self, c, name):
        return c.do("ALLOCATOR_CREATE_CACHE", field(1, name) + field(2, 128))

    def object(self, c, cache):
        return c.do("ALLOCATOR_ALLOC_OBJECT",
                    field(1, cache[1][0]) + field(2, cache[2][0]) + field(3, GFP_NOWAIT))

    def objects(self, d, value):
        c = self.client(d)
        cache = self.cache(c, "things").fields
        self.assertEqual([self.object(c, cache).code for _ in range(int(value) + 1)],
                         [OK] * int(value) + [RESOURCE_EXHAUSTED])
        self.end(c)

    def caches(self, d, value):
        c = self.client(d)
        self.assertEqual([self.cache(c, f"cache-{i}").code for i in range(int(value) + 1)],
                         [OK] * int(value) + [RESOURCE_EXHAUSTED])
        self.end(c)

    def holders_per_session(self, d, value):
        with Peer(d) as owner, Peer(d) as p:
            handles = [owner.must("HANDLE", owner.must("ALLOC", GFP_NOWAIT, 4))
                       for _ in range(int(value) + 1)]
            self.assertEqual([p.do("GET_HANDLE", h) < 0 for h in handles],
                             [False] * int(value) + [True])

    def names_per_user(self, d, value):
        with Peer(d) as p:
            cache = p.must("CACHE_CREATE", 64, text="named")
            places = [p.must("OBJECT_ALLOC", cache, GFP_NOWAIT) for _ in range(int(value) + 1)]
            self.assertEqual([p.do("PUBLISH", place, text=f"name-{i}") for i, place in enumerate(places)],
                             [0] * int(value) + [-EDQUOT])
            for i in range(int(value)):
                p.must("UNPUBLISH", text=f"name-{i}")

    def thread_cache(self, d, value):
        c = self.client(d)
        self.assertEqual(c.limits[15], [int(value[:-1]) << 20])
        self.end(c)

    def listen(self, d, value):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(PATIENCE)
            s.connect(value)
            s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.assertTrue(s.recv(1000).startswith(b"HTTP/1.1 200 "))

    # ---- of one user: another user, or the same one by another session, shows it ----

    def user_pages(self, d, value):
        a, b, other = self.client(d, ALICE), self.client(d, ALICE), self.client(d, BOB)
        for _ in range(int(value) // 16):
            self.assertEqual(self.pages(a).code, OK)
        self.refused(self.pages(b))
        self.assertEqual(self.pages(other).code, OK)
        self.end(a, b, other)

    def user_objects(self, d, value):
        a, b = self.client(d, ALICE), self.client(d, ALICE)
        cache = self.cache(a, "things").fields
        self.cache(b, "things")
        for _ in range(int(value)):
            self.assertEqual(self.object(a, cache).code, OK)
        self.refused(self.object(b, cache))
        self.end(a, b)

    def user_caches(self, d, value):
        a, b = self.client(d, ALICE), self.client(d, ALICE)
        for i in range(int(value)):
            self.assertEqual(self.cache(a, f"cache-{i}").code, OK)
        self.refused(self.cache(b, "one-more"))
        self.end(a, b)

    def user_channels(self, d, value):
        a = self.client(d, ALICE)
        more = [self.connect(d, ALICE) for _ in range(int(value))]
        for c in more[1:]:
            self.assertEqual(c.hello(f5=a.session, f6=a.token).code, OK)
        self.refused(more[0].hello())
        self.end(a)
        for c in more:
            c.close()
        wait_until(lambda: next(u["channels"]["used"] for u in json.loads(d.ctl("--json", "users")[1])
                                if u["uid"] == ALICE) == 0, "their ends are seen")

    def user_calls(self, d, value):
        hoard, a, b = self.hoard(d), self.client(d, ALICE), self.client(d, ALICE)
        for _ in range(int(value)):
            a.ask("ALLOCATOR_ALLOC_PAGES", field(1, GFP_KERNEL) + field(2, 10))
        a.do("HEALTH_CHECK")  # they are all there
        self.refused(self.pages(b, 10, GFP_KERNEL))
        self.end(a, b, hoard)

    def user_sessions(self, d, value):
        sessions = [self.client(d, ALICE) for _ in range(int(value))]
        self.refused(self.connect(d, ALICE).hello())
        self.end(*sessions)


# By name: what a reload makes of it, what set makes of it after that, and the effect of either.
EFFECTS = {
    "daemon.socket_mode": ("0600", "0620", Effects.socket_mode),
    "daemon.socket_group": ("daemon", "bin", Effects.socket_group),
    "daemon.slab_debug": ("Z,debugged-*", "F", Effects.slab_debug),
    "log.level": ("debug", "info", Effects.log_level),
    "log.refusals_per_minute": ("2", "3", Effects.refusals_per_minute),
    "log.sessions_per_minute": ("2", "3", Effects.sessions_per_minute),
    "metrics.listen": ("{}/metrics", "{}/elsewhere", Effects.listen),
    "access.users": (str(ALICE), str(BOB), Effects.users),
    "access.inspectors": (str(BOB), str(ALICE), Effects.inspectors),
    "access.admins": (str(ALICE), str(BOB), Effects.admins),
    "limits.channels": ("3", "2", Effects.channels),
    "limits.calls": ("3", "2", Effects.calls),
    "limits.pages": ("48", "32", Effects.pages_of_session),
    "limits.objects": ("3", "5", Effects.objects),
    "limits.caches": ("2", "3", Effects.caches),
    "limits.holders_per_session": ("3", "2", Effects.holders_per_session),
    "limits.names_per_user": ("3", "2", Effects.names_per_user),
    "limits.thread_cache": ("1M", "2M", Effects.thread_cache),
    "user.pages": ("48", "32", Effects.user_pages),
    "user.objects": ("3", "5", Effects.user_objects),
    "user.caches": ("2", "3", Effects.user_caches),
    "user.channels": ("4", "3", Effects.user_channels),
    "user.calls": ("3", "2", Effects.user_calls),
    "user.sessions": ("3", "2", Effects.user_sessions),
}


class Live(Effects):
    def test_every_live_setting(self):
        d = self.start()
        live = {k for k, s in self.settings(d).items() if s["live"]}
        self.assertEqual(live, set(EFFECTS), "each live setting has a test, and nothing else")
        for name, (first, second, effect) in EFFECTS.items():
            with self.subTest(name):
                section, key = name.split(".")
                # the installed service may write nowhere else
                place = "/run/kmmd" if os.environ.get("KMM_SERVICE") else d.dir.name
                first, second = (v.format(place) for v in (first, second))
                default = self.settings(d)[name]["value"]
                mode = "" if key == "socket_mode" else BASE
                said = self.reload(d, mode + f"[{section}]\n{key} = {first}\n")
                self.assertIn(f"[{section}] {key} = {first}, was ", said)
                self.assertEqual(self.settings(d)[name]["value"], first)
                effect(self, d, first)
                self.assertIn(f"{name} = {second}, was {first}; {LASTS}", self.set(d, name, second))
                s = self.settings(d)[name]
                self.assertEqual((s["value"], s["from"]), (second, "set"))
                effect(self, d, second)
                # what was set is over when the file is read
                self.reload(d, BASE)
                s = self.settings(d)[name]
                self.assertEqual(s["from"], f"{d.config}:2" if key == "socket_mode" else "default")
                if key != "socket_mode":
                    self.assertEqual(s["value"], default)

    def test_rules_for_users(self):
        d = self.start(BASE + f"[user]\npages = 160\n[user {ALICE}]\npages = 16\n")
        a, b = self.client(d, ALICE), self.client(d, BOB)
        self.assertEqual(self.pages(a).code, OK)
        self.refused(self.pages(a))
        self.assertIn(f"user {ALICE}.pages = 48, was 16; {LASTS}", self.set(d, f"user {ALICE}.pages", "48"))
        self.assertEqual(self.pages(a).code, OK)
        self.set(d, f"user {BOB}.pages", "16")  # a section that the file has not
        self.assertEqual(self.pages(b).code, OK)
        self.refused(self.pages(b))
        s = self.settings(d)
        self.assertEqual((s[f"user {ALICE}.pages"]["value"], s[f"user {ALICE}.pages"]["from"]), ("48", "set"))
        self.assertEqual(s["user.pages"]["from"], f"{d.config}:4")
        self.assertIn(f"rules have changed: [user {ALICE}], [user {BOB}] (no more)\n", self.reload(d))
        self.assertEqual(self.settings(d)[f"user {ALICE}.pages"]["from"], f"{d.config}:6")
        self.assertNotIn(f"user {BOB}.pages", self.settings(d))
        self.assertEqual(self.pages(b).code, OK)
        self.end(a, b)

    def test_a_supervised_daemon(self):
        """The supervisor passes the signal on; the socket that it keeps has the mode of the next start."""
        d = self.start(BASE, "--supervise")
        self.reload(d, "[daemon]\nsocket_mode = 0640\n[limits]\npages = 5\n")
        self.assertEqual(self.settings(d)["limits.pages"]["value"], "5")
        self.set(d, "limits.pages", "6")
        self.write(d, "[daemon]\nsocket_mode = 0600\nsocket_group = daemon\n")
        old = d.pid()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: d.pid() not in (None, old), "there is another one")
        d.wait_serving()
        self.assertEqual(self.settings(d)["limits.pages"]["value"], "0")
        self.socket_mode(d, "0600")
        self.socket_group(d, "daemon")

    def test_cpus(self):
        d = self.start(BASE + "cpus = 0\n")
        self.assertEqual(self.settings(d)["daemon.cpus"]["value"], "0")
        for task in os.listdir(f"/proc/{d.pid()}/task"):
            with open(f"/proc/{d.pid()}/task/{task}/status", encoding="ascii") as f:
                self.assertIn("Cpus_allowed_list:\t0\n", f.read())


class Refused(Case):
    def test_what_is_not_live(self):
        d = self.start()
        before = self.settings(d)
        n = 0
        for name, s in before.items():
            if not s["live"]:
                section, key = name.split(".")
                of_pool = section == "pool" or name in ("limits.sessions", "limits.holders")
                self.assertEqual(s["pool"], of_pool)
                self.not_set(d, name, s["value"] or "4k",
                             f"[{section}] {key} cannot change in a running daemon: set it in {d.config} and "
                             + ("stop and start the daemon, which ends the pool; a restart keeps the pool as it "
                                "was made" if of_pool else "restart the daemon"))
                n += 1
        self.assertGreater(n, 10)
        self.assertEqual(self.settings(d), before)

    def test_values(self):
        d = self.start()
        before = self.settings(d)
        for name, s in before.items():
            if not s["live"]:
                continue
            section, key = name.split(".")
            text = f"[{section}] {key} = no such value: not allowed; it takes {s['allowed']}"
            if section == "access":
                text = f"[access] {key} = no: there is no such user"
            if section == "metrics":
                text = text.replace("allowed; it", "allowed: it")
            if key == "socket_group":
                text = "[daemon] socket_group = no such value: there is no such group"
            self.not_set(d, name, "no such value", text)
        for name, value, text in (
                ("limits.holders_per_session", "70000",
                 "[limits] holders_per_session = 70000: larger than holders, 65536"),
                ("access.admins", "root, @no-such-group",
                 "[access] admins = @no-such-group: there is no such group"),
                ("log.log_level", "debug", "there is no setting log.log_level; kmmctl settings lists them"),
                ("user.grace", "1", "there is no setting user.grace; kmmctl settings lists them"),
                ("user no-such-user.pages", "1", "[user no-such-user] pages = 1: there is no such user; it "
                 "takes a name or a number"),
                ("group 0.grace", "1", "grace = 1: no key of [group 0] is called grace; there are pages "
                 "objects caches channels calls sessions"),
                ("user.alice.pages", "1", "there is no setting user.alice.pages; of one user it is named "
                 "'user alice.pages', in quotes"),
                ("group.x.y.calls", "1", "there is no setting group.x.y.calls; of one group it is named "
                 "'group x.y.calls', in quotes"),
                ("user.alice.page", "1", "there is no setting user.alice.page; kmmctl settings lists them"),
                ("limits", "1", "limits: a setting is named SECTION.KEY, such as limits.pages; kmmctl "
                 "settings lists them"),
                (".pages", "1", ".pages: a setting is named SECTION.KEY, such as limits.pages; kmmctl "
                 "settings lists them"),
                ("limits.", "1", "limits.: a setting is named SECTION.KEY, such as limits.pages; kmmctl "
                 "settings lists them")):
            self.not_set(d, name, value, text)
        self.assertEqual(self.settings(d), before)

    def test_of_one_user(self):
        """What is said of it: the value before, also where it was [user]'s."""
        d = self.start(BASE + "[user]\npages = 50\n[user 0]\ncalls = 7\n")
        for key, value, was in (("user 0.pages", "100", "not set, so [user] pages = 50"),
                                ("user 0.pages", "90", "100"), ("user 0.calls", "8", "7"),
                                ("group 0.calls", "9", "not set, so [user] calls = 0")):
            self.assertEqual(d.ctl("set", key, value), (0, f"{key} = {value}, was {was}; {LASTS}\n"))

    def test_how_many_rules(self):
        """A thousand and twenty-four sections, whoever says them; then [user] has to do."""
        d = self.start(BASE + "".join(f"[user {70000 + i}]\npages = 1\ncalls = 2\n" for i in range(1023)))
        self.set(d, "group 0.pages", "5")
        self.not_set(d, "user 80000.pages", "5", "[user 80000] pages = 5: there are 1024 sections [user NAME] "
                     "and [group NAME], and there can be no more; what [user] says is for everybody")
        self.set(d, "user 71022.pages", "6")

    def test_a_path_is_not_for_all_admins(self):
        """Who is named an admin may have metrics served by TCP; files are root's."""
        d = self.start(BASE + f"[access]\nadmins = {ALICE}\n")
        path = d.dir.name + "/metrics"
        c = self.connect(d, ALICE)
        reply = c.do("ADMIN_SET", field(1, "metrics.listen") + field(2, path))
        self.assertEqual(reply.text, "[metrics] listen can be set to a path by root and the daemon's own user "
                         "alone; 127.0.0.1:PORT and [::1]:PORT are for all admins")
        self.assertFalse(os.path.exists(path))
        for value in (f"127.0.0.1:{free_port()}", ""):
            self.assertEqual(c.do("ADMIN_SET", field(1, "metrics.listen") + field(2, value)).code, OK)
        self.assertEqual(d.ctl("set", "metrics.listen", path)[0], 0)
        self.assertTrue(os.path.exists(path))

    def test_what_a_reload_says(self):
        """The sections for users that are others than before, and what was set and is no more."""
        d = self.start(BASE + "[limits]\ncalls = 9\n[user 70001]\npages = 1\n[user 70002]\npages = 2\n"
                       "[group 70003]\npages = 3\n")
        self.set(d, "limits.pages", "77")
        self.set(d, "user 70004.calls", "4")
        said = self.reload(d, BASE + "[limits]\ncalls = 9\n[user 70001]\npages = 1\n[user 70002]\npages = 5\n"
                           "[group 70005]\npages = 3\n")
        self.assertIn("what kmmctl set had changed is what the configuration says again: limits.pages, "
                      "user 70004.calls\n", said)
        self.assertIn("[limits] pages = 0, was 77", said)
        self.assertIn("rules have changed: [user 70002], [user 70004] (no more), [group 70003] (no more), "
                      "[group 70005] (new)\n", said)
        self.assertIn("2 settings changed", said)
        said = self.reload(d, BASE + "[limits]\ncalls = 9\n[group 70005]\npages = 3\n[user 70002]\npages = 5\n"
                           "[user 70001]\npages = 1\n")
        self.assertIn("the order of [user NAME] and [group NAME] has changed", said)
        self.assertNotIn("had changed", said)
        said = self.reload(d, BASE + "".join(f"[user {70000 + i}]\npages = 9\n" for i in range(900)))
        self.assertRegex(said, r"rules have changed: \[user 70000\] \(new\), .* and 8\d\d more\n")

    def test_usage(self):
        d = self.start()
        want = ("kmmctl: set wants a setting and its value, such as limits.pages 10000; kmmctl settings "
                "lists them\n")
        for args in ((), ("limits.pages",)):
            self.assertEqual(d.ctl("set", *args), (2, want))
        self.assertEqual(d.ctl("set", "limits.pages", "1", "2"), (2, "kmmctl: set: too many arguments: 2\n"))
        self.assertEqual(d.ctl("settings", "x"), (2, "kmmctl: settings takes no argument: x\n"))
        self.assertEqual(d.ctl("set", "x" * 96, "1"),
                         (2, "kmmctl: set: a setting's name has 1 to 95 bytes, not 96\n"))
        self.assertEqual(d.ctl("set", "limits.pages", "1" * 1001),
                         (2, "kmmctl: set: a value has at most 1000 bytes, not 1001\n"))
        # and without kmmctl
        c = self.connect(d)
        for body in (field(1, "x" * 96), field(1, "limits.pages") + field(2, "1" * 1001)):
            reply = c.do("ADMIN_SET", body)
            self.assertEqual(reply.text, "a key has at most 95 bytes, a value 1000")
        self.assertNotEqual(c.do("ADMIN_SET").code, OK)

    def test_a_wrong_line_changes_nothing(self):
        d = self.start(BASE + "[limits]\npages = 100\n")
        self.set(d, "user.calls", "9")
        before = self.settings(d)
        for text, wrong in (
                ("[limits]\npages = 200\nchannels = many\n",
                 ["{}:5: [limits] channels = many: not allowed; it takes a number from 1 to 256"]),
                ("[limits]\npages = 200\n[no-such]\nkey = 1\npage = 1\n",
                 ["{}:6: key = 1: no section is called [no-such]; there are [pool]",
                  "{}:7: page = 1: no section is called [no-such]"]),
                ("[limits]\npages = 200\npage = 1\n",
                 ["{}:5: page = 1: no key of [limits] is called page; there are sessions channels calls"]),
                ("[limits]\npages = 200\npages = 300\n",
                 ["{}:5: [limits] pages = 300: already set in line 4"]),
                ("[limits]\npages = 200\nwhatever\n", ["{}:5: neither [section] nor key = value"]),
                ("[access]\nusers = root\nadmins = root, no-such-user\n",
                 ["{}:5: [access] admins = no-such-user: there is no such user"]),
                ("[user 0]\npages = 1\n[user root]\npages = 2\n",
                 ["[user root]: is the same user as [user 0]; one section is enough"]),
                ("[pool]\nsize = 66M\nnodes = 60\n[limits]\npages = 200\n",
                 ["{}:5: [pool] nodes = 60: more than the pool's 16 sections"]),
                ("[limits]\npages = 200\nholders = 100\n[daemon]\nsocket_group = no-such-group\n",
                 ["[limits] holders_per_session (default) = 16384: larger than holders, 100",
                  "{}:7: [daemon] socket_group = no-such-group: there is no such group"])):
            said = self.reload(d, BASE + text)
            for line in wrong:
                self.assertIn(line.format(d.config), said)
            self.assertIn(AGAIN + " and refused: nothing has changed", said)
            self.assertEqual(self.settings(d), before)
        os.unlink(d.config)
        self.assertIn(f"--config {d.config}: No such file or directory", self.reload(d))
        self.assertEqual(self.settings(d), before)
        # mended, it is read
        self.assertIn("2 settings changed", self.reload(d, BASE + "[limits]\npages = 200\n"))
        self.assertEqual(self.settings(d)["limits.pages"]["value"], "200")
        self.assertEqual(self.settings(d)["user.calls"]["value"], "0")


class Shown(Case):
    def test_where_from(self):
        d = self.start(BASE + "[limits]\n\npages = 100\n[access]\nadmins = root,\n  daemon\n")
        s = self.settings(d)
        self.assertEqual((s["pool.size"]["value"], s["pool.size"]["from"]), ("64M", "--pool-size"))
        self.assertEqual(s["limits.pages"], {
            "section": "limits", "key": "pages", "value": "100", "from": f"{d.config}:5", "live": True,
            "pool": False, "default": "0", "unit": "pages",
            "allowed": "a number up to 4294967295; 0 for no limit"})
        self.assertEqual((s["access.admins"]["value"], s["access.admins"]["from"]),
                         ("root, daemon", f"{d.config}:7"))
        self.assertEqual((s["pool.section_size"]["value"], s["pool.section_size"]["from"]), ("4M", "default"))
        self.assertEqual(s["pool.backing"]["live"], False)
        status, text = d.ctl("settings")
        lines = [line.split() for line in text.splitlines()]
        self.assertEqual(status, 0)
        self.assertEqual(lines[0], ["SETTING", "VALUE", "FROM", "CHANGE"])
        self.assertIn(["limits.pages", "100", f"{d.config}:5", "live"], lines)
        self.assertIn(["pool.size", "64M", "--pool-size", "new", "pool"], lines)
        self.assertIn(["limits.objects", "0", "default", "live"], lines)
        self.assertIn("(all who may connect)", text)
        self.assertEqual(len(lines), len(s) + 1)

    def test_what_the_next_start_makes_of_it(self):
        d = self.start()
        said = self.reload(d, BASE + "grace = 7s\nreactors = 1\n[pool]\nsize = 128M\nmovable = 8M\n")
        # the command line has the pool's size and the reactors
        self.assertIn("[daemon] grace = 7s: takes effect at the next start, until then it is 5s", said)
        self.assertIn("[pool] movable = 8M: takes effect when the pool is made anew (stop and start; not by a "
                      "restart), until then it is 0", said)
        self.assertIn("0 settings changed, 2 take effect at the next start", said)
        s = self.settings(d)
        self.assertEqual((s["daemon.grace"]["value"], s["daemon.grace"]["next"]), ("5s", "7s"))
        self.assertNotIn("next", s["pool.size"])
        self.assertIn("restart: 7s", d.ctl("settings")[1])
        self.set(d, "limits.pages", "77")  # which leaves that as it is
        self.assertEqual(self.settings(d)["daemon.grace"]["next"], "7s")
        self.reload(d, BASE)
        self.assertNotIn("next", self.settings(d)["daemon.grace"])

    def test_the_log_says_who(self):
        d = self.start(BASE + f"[access]\nadmins = {ALICE}\n")
        c = self.connect(d, ALICE)
        reply = c.do("ADMIN_SET", field(1, "limits.pages") + field(2, "500"))
        self.assertEqual(reply.fields[1], [f"limits.pages = 500, was 0; {LASTS}".encode()])
        wait_until(lambda: f"user {ALICE}: set limits.pages = 500, was 0" in d.said(), "the log says so")
        self.assertEqual(d.ctl("--json", "set", "limits.pages", "4")[0], 0)


if __name__ == "__main__":
    main()

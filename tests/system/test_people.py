# SPDX-License-Identifier: MIT
"""The service as installed and the people of a machine: users made there, logged in with their groups. Who
reaches the socket, who may look and who may change things, what quotas refuse and how they say it, what a
client's descriptors and the daemon's process are open to, what one greedy user leaves to the others; and
what all of them are told when the service is restarted, and when it is stopped.

What the kernel lets processes do is tried by functions of tests/integration/test_permissions.py, run inside
as that user.
"""
import json
import os
import stat
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../integration")]
# pylint: disable=wrong-import-position
import kmmtest  # noqa: E402
import test_permissions as permissions  # noqa: E402
from peer_run import GFP_KERNEL, GFP_NOWAIT, Peer  # noqa: E402
from service import SMALL, SOCKET, SOURCE, Clients, Service, wait_until  # noqa: E402

# alice, bob and dave are in group kmm; carol is not; dave is also in ops, by supplementary groups alone.
USERS = {"alice": ["kmm"], "bob": ["kmm"], "carol": [], "dave": ["ops", "kmm"]}
EDQUOT, ENOTRECOVERABLE = 122, 131
EACCES, EPERM = permissions.EACCES, permissions.EPERM
ORDER = 4

machine = None
uid = {}


def setUpModule():
    global machine
    machine = Service().__enter__()
    lines = ["g ops -"]
    for name, groups in USERS.items():
        lines.append(f"u {name} - - /tmp /bin/sh")
        lines += [f"m {name} {group}" for group in groups]
    machine.enter("systemd-sysusers", "--inline", *lines)
    for name in (*USERS, "kmm", "nobody", "root"):
        uid[name] = int(machine.shell(f"id -u {name}"))


def tearDownModule():
    machine.__exit__(None, None, None)


def as_user(name):
    """A login's ids and groups; no capability is left."""
    group = machine.shell(f"id -g {name}")
    return ["setpriv", f"--reuid={name}", f"--regid={group}", "--init-groups"]


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.m = machine
        self.peers = []

    def tearDown(self):
        for p in self.peers:
            p.__exit__()
        self.m.systemctl("stop", "kmmd.socket", "kmmd.service", check=False)
        self.m.systemctl("reset-failed", check=False)

    def start(self, **sections):
        self.m.configure(**{**SMALL, **sections})
        self.m.systemctl("start", "kmmd.socket", "kmmd.service")

    def peer(self, name):
        p = Peer(Clients(self.m, *as_user(name)))
        self.peers.append(p)
        return p

    def ctl(self, name, *args):
        """Exit status and output of kmmctl as that user."""
        done = self.m.enter(*as_user(name), self.m.kmmctl, *args, check=False)
        return done.returncode, done.stdout + done.stderr

    def script(self, name, expression):
        """argv of one that runs inside as that user and prints what the expression gives, as JSON."""
        code = (f"import sys, json; sys.path.insert(0, {os.path.join(SOURCE, 'tests/integration')!r})\n"
                "import test_permissions as t\n"
                f"print(json.dumps({expression}), flush=True)\n")
        return ["nsenter", "-t", str(self.m.leader), "-a", *as_user(name), "env", "KMM_SRCDIR=" + SOURCE,
                "python3", "-B", "-c", code]

    def inside(self, name, expression):
        done = subprocess.run(self.script(name, expression), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def users(self):
        return {u["uid"]: u for u in self.m.json("users")}


class Doors(Case):
    def test_the_socket_and_its_directory(self):
        self.start()
        self.assertEqual(self.m.shell(f"stat -c '%U %G %a' {SOCKET}"), "root kmm 660")
        owner, mode = self.m.shell(f"stat -c '%U %a' {os.path.dirname(SOCKET)}").split()
        self.assertIn(owner, ("root", "kmm"))
        self.assertEqual(mode, "755")
        for name in ("alice", "carol"):
            facts = self.inside(name, f"t.meddles_with_socket(None, {SOCKET!r})")
            self.assertEqual(facts, {"unlink": EACCES, "rename": EACCES, "bind": EACCES, "chmod": EPERM,
                                     "chown": EPERM})

    def test_who_comes_in(self):
        self.start()
        for name, want in (("alice", 0), ("dave", 0), ("kmm", 0), ("root", 0), ("carol", EACCES),
                           ("nobody", EACCES)):
            self.assertEqual(self.inside(name, f"t.connects(None, {SOCKET!r})"), want, name)
        self.assertEqual(self.ctl("carol", "health"),
                         (1, f"kmmctl: {SOCKET}: permission denied; the socket is for root and the daemon's "
                          "group\n"))
        # a service of hers has its groups from the user database
        self.assertEqual(self.m.run(self.m.kmmctl, "health", user="alice", check=False).returncode, 0)
        self.assertEqual(self.m.run(self.m.kmmctl, "health", user="carol", check=False).returncode, 1)

    def test_a_group_that_is_left(self):
        """A process keeps the groups that it has; the next login has them not."""
        self.start()
        before = self.peer("bob")
        self.m.enter("gpasswd", "-d", "bob", "kmm")
        try:
            self.assertEqual(self.inside("bob", f"t.connects(None, {SOCKET!r})"), EACCES)
            self.assertGreaterEqual(before.must("ALLOC", GFP_KERNEL, 9), 0)
        finally:
            self.m.enter("gpasswd", "-a", "bob", "kmm")


class Rights(Case):
    def denied(self, name, args, text):
        status, said = self.ctl(name, *args)
        self.assertEqual(status, 1, said)
        self.assertIn(text, said)

    def test_as_installed(self):
        """Whom the socket lets in may have memory and look; root and the daemon's user administer."""
        self.start()
        p = self.peer("alice")
        p.must("ALLOC", GFP_KERNEL, 3)
        self.assertIn("alice", self.ctl("bob", "users")[1])
        self.denied("alice", ["fsck"], "kmm.v1.Admin/Fsck is for admins: root, the daemon's own user, and "
                    f"those of [access] admins; you are user {uid['alice']}")
        self.denied("bob", ["kill", str(p.session)], "is for admins")
        self.denied("bob", ["set", "log.level", "debug"], "is for admins")
        for name in ("root", "kmm"):
            self.assertEqual(self.ctl(name, "fsck"), (0, "clean\n"))

    def test_lists(self):
        self.start(access={"users": "alice, @ops", "inspectors": "bob", "admins": "@ops"})
        for name in ("alice", "dave"):
            p = self.peer(name)
            p.must("FREE", p.must("ALLOC", GFP_KERNEL, 3), 3)
        self.denied("alice", ["sessions"], "is for inspectors: admins, and those of [access] inspectors; you "
                    f"are user {uid['alice']}")
        self.assertEqual(self.ctl("bob", "sessions")[0], 0)
        self.denied("bob", ["fsck"], "is for admins")
        # dave is in ops, which no gid of his says
        self.assertEqual(self.ctl("dave", "fsck"), (0, "clean\n"))
        text = self.inside("bob", f"[f.get(2, [b''])[0].decode() for _, _, f, _ in [t.raw_hello({SOCKET!r}, "
                           "t.field(1, 1))]]")
        self.assertEqual(text, [f"user {uid['bob']} may look on, not have memory: [access] users names neither "
                                "the user nor a group of the process"])
        # carol is in no list; the socket has kept her out already, and the daemon would
        self.m.configure(**SMALL, access={"users": "carol"})
        self.m.systemctl("reload", "kmmd.service")
        wait_until(lambda: self.ctl("alice", "health")[0] == 1, "the rules are read again")
        self.denied("alice", ["health"], f"user {uid['alice']} may not use this daemon: [access] users names "
                    "neither the user nor a group of the process")


class Quotas(Case):
    def refused(self, p, args, text):
        self.assertEqual(p.do(*args), -EDQUOT)
        self.assertIn(text, self.m.json("session", str(p.session))["last_error"])

    def test_by_user_by_group_and_by_session(self):
        self.start(limits={"pages": 128}, user={"pages": 64}, **{"user alice": {"pages": 32},
                                                                "group ops": {"pages": 0}})
        a, b, d = self.peer("alice"), self.peer("bob"), self.peer("dave")
        for p, n in ((a, 2), (b, 4), (d, 8)):
            for _ in range(n):
                p.must("ALLOC", GFP_NOWAIT, ORDER)
        ask = ("ALLOC", GFP_NOWAIT, ORDER)
        together = "the sessions of user {} have {} of the {} pages that they may have together; 16 more are " \
                   "asked for: free some, or raise pages in {} of the configuration"
        self.refused(a, ask, together.format(uid["alice"], 32, 32, "[user alice]"))
        self.refused(b, ask, together.format(uid["bob"], 64, 64, "[user]"))
        self.refused(d, ask, "the session holds 128 of the 128 pages it may; 16 more are asked for: free some, "
                     "or raise pages in [limits] of the configuration")
        users = self.users()
        self.assertEqual({name: users[uid[name]]["pages"]["limit"] for name in ("alice", "bob", "dave")},
                         {"alice": 32, "bob": 64, "dave": 0})
        self.assertIn("alice", self.m.ctl("users").stdout)
        # more for alice, at once and for the sessions that there are
        self.m.ctl("set", "user alice.pages", "48")
        a.must(*ask)
        self.refused(a, ask, together.format(uid["alice"], 48, 48, "[user alice]"))
        # and a restart counts what there is
        self.m.systemctl("restart", "kmmd.service")
        self.refused(b, ask, together.format(uid["bob"], 64, 64, "[user]"))
        self.assertEqual(self.users()[uid["bob"]]["pages"]["used"], 64)

    def test_sessions(self):
        self.start(user={"sessions": 2})
        self.peer("alice"), self.peer("alice"), self.peer("bob")
        text = self.inside("alice", f"[(c, f.get(1, [0])[0], f.get(2, [b''])[0].decode()) for _, c, f, _ in "
                           f"[t.raw_hello({SOCKET!r}, t.field(1, 1))]]")
        self.assertEqual(text, [[8, EDQUOT, f"the sessions of user {uid['alice']} have 2 of the 2 sessions that "
                                 "they may have together; 1 more is asked for: end some, or raise sessions in "
                                 "[user] of the configuration"]])


class Kernel(Case):
    def test_descriptors(self):
        self.start()
        facts = self.inside("alice", f"t.looks_at_descriptors(None, {SOCKET!r}, t.LIFELINE, 15)")
        checks = permissions.Descriptors()
        words, views, lifeline = facts["control"]
        checks.check_memory(words, uid["kmm"])
        checks.check_view(views, uid["kmm"])
        checks.check_lifeline(lifeline, uid["kmm"])
        for f in facts["sections"]:
            checks.check_memory(f, uid["kmm"])
            self.assertEqual(f["kind"], stat.S_IFREG)
        self.assertNotEqual(facts["metadata"][0], 0)

    def test_processes(self):
        self.start()
        p, pid = self.peer("alice"), self.m.main_pid()
        # of its own user the daemon could be signalled, nothing else
        for name, but in (("alice", ()), ("nobody", ()), ("kmm", ("kill",))):
            facts = self.inside(name, f"t.looks_at_process(None, {pid})")
            self.assertEqual({v for k, v in facts.items() if k not in but} - {EACCES, EPERM}, set(), name)
        inside = int(self.m.shell(f"pgrep -x -u alice peer | head -n 1"))
        facts = self.inside("bob", f"t.looks_at_process(None, {inside})")
        self.assertEqual(set(facts.values()) - {EACCES, EPERM}, set())
        p.must("CLOSE")


class Greed(Case):
    SIGNALS = ("type('Go', (), {'send': lambda s, b: print('.', flush=True), "
               "'recv': lambda s, n: sys.stdin.readline()})()")

    def outdone(self, what, **sections):
        self.start(**sections)
        greedy = subprocess.Popen(self.script("bob", f"t.greedy({self.SIGNALS}, {SOCKET!r}, {what!r})"),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.assertEqual(greedy.stdout.readline(), ".\n")
            for name in ("alice", "dave"):
                p = self.peer(name)
                p.must("FREE", p.must("ALLOC", GFP_KERNEL, 0), 0)
                p.must("CLOSE")
            self.assertEqual(self.m.ctl("health", check=False).returncode, 0)
        finally:
            out, _ = greedy.communicate("\n")
        wait_until(lambda: self.m.json("sessions") == [], "its sessions are gone")
        self.assertEqual(self.m.ctl("fsck").stdout, "clean\n")
        return json.loads(out)

    def test_connections(self):
        self.assertGreater(self.outdone("silent")[0], 256)

    def test_sessions(self):
        n, why = self.outdone("quarantine", limits={"sessions": 160})
        self.assertEqual(n, 140)
        self.assertIn("the last 20 of the 160 sessions are for other users than", why)

    def test_calls(self):
        self.assertIn("wait already", self.outdone("calls")[1])


class End(Case):
    def clients(self):
        a, b = self.peer("alice"), self.peer("bob")
        held = []
        for i, p in enumerate((a, b)):
            held.append(p.must("ALLOC", GFP_KERNEL, 5))
            p.must("FILL", held[i], 5, 70 + i)
        return (a, b), held

    def is_whole(self, peers, held):
        for i, p in enumerate(peers):
            self.assertEqual(p.must("CHECK", held[i], 5, 70 + i), 1)

    def is_lost(self, peers):
        for p in peers:
            wait_until(lambda: p.do("ALLOC", GFP_KERNEL, 6) == -ENOTRECOVERABLE, "the session is lost")
            self.assertEqual(p.do("ALLOC", GFP_NOWAIT, 0), -ENOTRECOVERABLE)

    def test_restarts_are_not_told(self):
        self.start()
        peers, held = self.clients()
        for how in ("restart", "kill", "restart", "kill"):
            pid = self.m.main_pid()
            if how == "kill":
                self.m.enter("kill", "-9", str(pid))
            else:
                self.m.systemctl("restart", "kmmd.service")
            wait_until(lambda: self.m.main_pid() not in (0, pid), "the next daemon")
            for p in peers:
                p.must("FREE", p.must("ALLOC", GFP_KERNEL, 6), 6)
            self.is_whole(peers, held)
        for p in peers:
            self.assertEqual(self.m.json("session", str(p.session))["restarts"], 4)
        self.m.systemctl("daemon-reexec")
        for p in peers:
            p.must("FREE", p.must("ALLOC", GFP_KERNEL, 6), 6)

    def test_a_stop_is_told(self):
        self.start()
        peers, _ = self.clients()
        self.m.systemctl("stop", "kmmd.socket", "kmmd.service")
        self.assertEqual(self.m.show("NFileDescriptorStore"), "0")
        self.is_lost(peers)
        # the next pool is another one, and theirs is theirs
        self.m.systemctl("start", "kmmd.socket", "kmmd.service")
        self.assertEqual(self.m.json("health")["epoch"], 1)
        self.assertEqual(self.m.json("sessions"), [])
        self.is_lost(peers)

    def test_a_stop_ends_who_waits(self):
        self.start()
        a, b = self.peer("alice"), self.peer("bob")
        a.must("EXHAUST", GFP_NOWAIT, 4)
        b.must("TIMEOUT", 0xFFFFFFFF)
        from peer_run import COMMAND, OPERATION
        b.socket.sendall(COMMAND.pack(OPERATION["ALLOC"], GFP_KERNEL, 4, 0, b""))
        wait_until(lambda: self.m.json("session", str(b.session))["parked"] == 1, "it waits")
        self.m.systemctl("stop", "kmmd.socket", "kmmd.service")
        self.assertEqual(int.from_bytes(b.socket.recv(8), "little", signed=True), -ENOTRECOVERABLE)

    def test_a_stop_of_the_service_alone(self):
        """The socket unit may start another one at once, for who connected meanwhile; it has another pool."""
        self.start()
        peers, _ = self.clients()
        self.m.systemctl("stop", "kmmd.service")
        self.is_lost(peers)


if __name__ == "__main__":
    kmmtest.main()

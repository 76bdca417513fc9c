# SPDX-License-Identifier: MIT
"""The journal of a booted system: the fields of a refusal, a death, a sweep and a restart, by which
journalctl finds them and which it explains."""
import errno
import json
import os
import signal
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../integration")]
# pylint: disable=wrong-import-position
import kmmtest  # noqa: E402
from peer_run import GFP_KERNEL, GFP_NOWAIT, Peer  # noqa: E402
from service import SMALL, Clients, Service, wait_until  # noqa: E402

ID = {"quota": "da5575169b154710af4070ad714a504f",
      "refusal": "193d2701218e457d89b9dc95b2244111",
      "death": "8040c94a9c66445396e5d2a67c2192e2",
      "sweep": "4d69b3fd113647f8954937f3c4486e50",
      "admin": "0139c238fa0f490aa88c676bcd8c3943",
      "start": "6b3c5294875240f08d4c93b764db2d63",
      "restart": "3905c6ecb6c64974a08736b58e03a57a"}

machine = None


def setUpModule():
    global machine
    machine = Service().__enter__()
    machine.configure(**SMALL, limits={"pages": "1024"})
    machine.systemctl("start", "kmmd.socket", "kmmd.service")


def tearDownModule():
    machine.__exit__(None, None, None)


class Journal(unittest.TestCase):
    def setUp(self):
        self.m = machine
        self.cursor = machine.cursor()

    def entries(self, since=True, **matches):
        """What the daemon said, as -o json has it. (journalctl's own matches, with a cursor whose entry does
        not match, leave the first entry out.)"""
        self.m.enter("journalctl", "--sync")
        after = [f"--after-cursor={self.cursor}"] if since and self.cursor else []
        text = self.m.enter("journalctl", "-o", "json", "--no-pager", "-q", *after, check=False).stdout
        found = [json.loads(line) for line in text.splitlines()]
        return [e for e in found if e.get("SYSLOG_IDENTIFIER") == "kmmd" and
                all(e.get(k) == v for k, v in matches.items())]

    def entry(self, event, since=True, **matches):
        """The one entry of that kind, whose id is right."""
        matches["KMM_EVENT"] = event
        wait_until(lambda: self.entries(since, **matches), str(matches))
        found = self.entries(since, **matches)
        self.assertEqual(len(found), 1, found)
        e = found[0]
        self.assertEqual(e["MESSAGE_ID"], ID[event])
        self.assertEqual(e["_SYSTEMD_UNIT"], "kmmd.service")
        self.assertIsInstance(e["MESSAGE"], str)  # a list of numbers would be "blob data"
        return e

    def inside_pid(self, pid):
        """Of a process of the machine, as it is known in there."""
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            line = next(line for line in f if line.startswith("NSpid:"))
        return line.split()[-1]

    def inner(self, peer):
        """nsenter's child is in the machine's pid namespace."""
        pid = peer.process.pid
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            children = f.read().split()
        return int(children[0]) if children else pid

    def test_a_refusal(self):
        self.assertNotEqual(self.m.ctl("session", "4000", check=False).returncode, 0)
        e = self.entry("refusal")
        self.assertEqual(e["PRIORITY"], "6")
        self.assertEqual(e["KMM_UID"], "0")
        self.assertEqual(e["KMM_REQUEST"], "kmm.v1.Inspector/GetSession")
        self.assertNotIn("KMM_SESSION", e)
        self.assertEqual(e["MESSAGE"].split(":")[0], f"process {e['KMM_PID']}, user 0")

    def test_a_session_of_a_user_with_a_death_and_a_sweep(self):
        uid = self.m.shell("id -u nobody")
        group = self.m.shell("getent group kmm | cut -d: -f3")
        p = Peer(Clients(self.m, "setpriv", "--reuid", uid, "--regid", group, "--clear-groups"))
        p.must("ALLOC", GFP_KERNEL, 3)
        pid = self.inside_pid(self.inner(p))
        self.assertEqual(p.do("ALLOC", GFP_NOWAIT, 10), -errno.EDQUOT)
        self.m.ctl("drop-caches")
        os.kill(self.inner(p), signal.SIGKILL)
        p.__exit__()
        fields = {"KMM_SESSION": str(p.session), "KMM_UID": uid, "KMM_PID": pid}
        who = f"session {p.session} (peer, process {pid}, user {uid}): "

        e = self.entry("quota")
        self.assertEqual({k: e[k] for k in fields}, fields)
        self.assertEqual(e["PRIORITY"], "5")
        self.assertTrue(e["KMM_REQUEST"].startswith("kmm.v1.Allocator/"))
        e = self.entry("death", KMM_SESSION=str(p.session))
        self.assertEqual({k: e[k] for k in fields}, fields)
        self.assertEqual(e["PRIORITY"], "6")
        self.assertTrue(e["MESSAGE"].startswith(who + "its process ended, with "), e["MESSAGE"])
        e = self.entry("sweep", KMM_UID=uid)
        self.assertEqual({k: e[k] for k in fields}, fields)
        self.assertRegex(e["MESSAGE"][len(who):], r"^died; \d+ blocks of \d+ pages and 0 objects came back, "
                         r"0 holds and \d+ magazines, in \d+\.\d{3} ms$")
        e = self.entry("admin")
        self.assertEqual(e["KMM_REQUEST"], "kmm.v1.Admin/DropCaches")
        self.assertEqual(e["PRIORITY"], "5")

    def test_a_restart(self):
        self.entry("start", since=False)
        self.m.systemctl("restart", "kmmd.service")
        wait_until(lambda: [e for e in self.entries(KMM_EVENT="restart") if "serving" in e["MESSAGE"]],
                   "it serves again")
        for e in self.entries(KMM_EVENT="restart"):
            self.assertEqual(e["MESSAGE_ID"], ID["restart"])
            self.assertEqual(e["PRIORITY"], "5")
        self.assertTrue(self.entries(KMM_EVENT="stop"))

    def test_lines_that_are_no_events_are_entries_too(self):
        found = [e for e in self.entries(since=False) if "KMM_EVENT" not in e]
        self.assertTrue(found)
        for e in found:
            self.assertNotIn("MESSAGE_ID", e)
            self.assertIn(e["PRIORITY"], "34567")
            self.assertFalse(e["MESSAGE"].startswith("<"), e["MESSAGE"])

    def test_the_catalog_explains(self):
        """Installed by make install; packages have systemd compile it in."""
        path = self.m.shell(f"ls {self.m.prefix}/lib/systemd/catalog/kmmd.catalog")
        self.m.shell(f"test -e /usr/lib/systemd/catalog/kmmd.catalog || "
                     f"cp {path} /usr/lib/systemd/catalog/; journalctl --update-catalog")
        self.assertNotEqual(self.m.ctl("session", "4001", check=False).returncode, 0)
        wait_until(lambda: self.entries(KMM_EVENT="refusal"), "the refusal's entry")
        text = self.m.shell("journalctl -x --no-pager -q -n 1 KMM_EVENT=refusal")
        self.assertIn("Subject: kmmd refused a call of process", text)
        self.assertIn("kmm.v1.Inspector/GetSession", text)
        self.assertIn("man:kmmd(8)", text)


if __name__ == "__main__":
    kmmtest.main()

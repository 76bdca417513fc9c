# SPDX-License-Identifier: MIT
"""kmmctl advise: marks that a load really left, and lines that the daemon takes for a configuration."""
import errno
import json
import os
import re
import subprocess
import tempfile
import unittest

from kmmtest import KMMD, OK, Connection, Daemon, field, main, wait_until
from peer_run import GFP_DMA, GFP_HIGHMEM, GFP_KERNEL, GFP_NOWAIT, Peer

ALICE = 61001
MIB = 256  # frames


class Advise(unittest.TestCase):
    maxDiff = None

    def daemon(self, text="", *args):
        d = Daemon("--reactors", "2", *args, config="[daemon]\nsocket_mode = 0666\n" + text)
        os.chmod(d.dir.name, 0o711)
        self.addCleanup(self.stop, d)
        return d

    def stop(self, daemon):
        self.assertEqual(daemon.ctl("fsck"), (0, "clean\n"))
        self.assertEqual(daemon.stop(), 0)

    def json(self, daemon):
        status, text = daemon.ctl("--json", "advise")
        self.assertEqual(status, 0, text)
        return json.loads(text)

    def history(self, daemon):
        return self.json(daemon)["history"]

    def settings(self, daemon):
        return {f"{s['section']}.{s['key']}": s["value"] for s in self.json(daemon)["settings"]}

    def checked(self, daemon):
        """What the daemon makes of the advice: settings that are in force by the file."""
        status, text = daemon.ctl("advise")
        self.assertEqual(status, 0, text)
        # the daemon has not run for ten minutes: the settings come as comments
        self.assertIn("\n# TOO LITTLE HISTORY to advise: the daemon has run for ", text)
        self.assertFalse(re.search(r"^[a-z]", text, re.M))
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
            for uncommented in (text, re.sub(r"^#([a-z[])", r"\1", text, flags=re.M)):
                f.seek(0)
                f.truncate()
                f.write(uncommented)
                f.flush()
                done = subprocess.run([KMMD, "--config", f.name, "--check-config"],
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
                said = done.stdout.decode()
                self.assertEqual(done.returncode, 0, uncommented + said)
        section, taken = "", {}
        for line in said.splitlines():
            if line.startswith("["):
                section = line.strip("[]")
            m = re.match(r"(\w+) = (\S*) +; .*\.conf:\d+$", line)
            if m:
                taken[f"{section}.{m[1]}"] = m[2]
        return taken

    def zone(self, history, name):
        return next(z for z in history["zones"] if z["zone"] == name)

    def test_marks(self):
        d = self.daemon("[user]\nsessions = 8\n")
        with Peer(d, ALICE) as a, Peer(d) as b:
            before = self.history(d)
            blocks = [a.must("ALLOC", GFP_NOWAIT, 10) for _ in range(6)]
            high = [b.must("ALLOC", GFP_HIGHMEM | GFP_NOWAIT, 0) for _ in range(50)]
            for pfn in blocks:
                a.must("FREE", pfn, 10)
            for pfn in high:
                b.must("FREE", pfn, 0)
            h = self.history(d)
            # exact for zones and users, though all of it is free again
            self.assertGreaterEqual(self.zone(h, "DMA32")["peak"], 6 * 1024)
            self.assertLess(self.zone(h, "DMA32")["peak"], 8 * 1024)
            self.assertIn(self.zone(h, "HighMem")["peak"], range(50, 50 + 200))
            self.assertEqual(self.zone(h, "DMA")["peak"], 0)
            self.assertGreaterEqual(h["allocated"] - before["allocated"], 6 * 1024 + 50)
            user = next(u for u in h["users"] if u["uid"] == ALICE)
            self.assertEqual(user["pages"]["peak"], 6 * 1024)
            self.assertEqual(user["sessions"], {"peak": 1, "limit": 8})
            # what is looked at once a second
            kept = a.must("ALLOC", GFP_NOWAIT, 9)
            wait_until(lambda: self.history(d)["sessions"]["peak"] == 2, "the sessions are seen")
            wait_until(lambda: self.history(d)["session_pages"]["peak"] >= 512, "their pages, too")
            self.assertGreaterEqual(self.history(d)["used_peak"], 512)
            a.must("FREE", kept, 9)
            self.assertEqual(h["order_failed"], -1)
            taken = self.checked(d)
            self.assertEqual(taken, self.settings(d))
            self.assertEqual(taken[f"user {ALICE}.pages"], "9216")  # half as much again
            self.assertEqual(taken[f"user {ALICE}.sessions"], "8")
            self.assertEqual(taken["pool.size"], "64M")

    def test_a_pool_that_was_too_small(self):
        d = self.daemon()
        c = Connection(d)
        self.addCleanup(c.close)
        self.assertEqual(c.hello().code, OK)

        def ask(order, gfp, timeout_us=0):
            return c.do("ALLOCATOR_ALLOC_PAGES", field(1, gfp) + field(2, order),
                        timeout_us=timeout_us)
        while ask(10, GFP_DMA | GFP_NOWAIT).code == OK:
            pass
        self.assertEqual(self.settings(d)["pool.dma_size"], "32M")
        for order in (10, 8, 0):
            while ask(order, GFP_NOWAIT).code == OK:
                pass
        h = self.history(d)
        self.assertGreater(self.zone(h, "DMA32")["failed_lack"] + self.zone(h, "Normal")["failed_lack"], 0)
        self.assertEqual(h["order_failed"], 10)
        self.assertEqual(h["parked"]["peak"], 0)
        self.assertEqual(ask(0, GFP_KERNEL, 10000).errno, errno.ETIMEDOUT)
        self.assertEqual(self.history(d)["parked"]["peak"], 1)
        wait_until(lambda: self.history(d)["session_pages"]["peak"] > 30 * MIB, "what it has is seen")
        taken = self.checked(d)
        self.assertEqual(taken, self.settings(d))
        # 56 of 64 MiB were low zones, and taken to the last page above the watermarks
        self.assertGreaterEqual(int(taken["pool.size"].rstrip("M")), 80)
        self.assertEqual(taken["pool.highmem"], "4M")
        self.assertGreater(int(taken["limits.pages"]), 0)  # one had all, others found nothing
        status, text = d.ctl("advise")
        self.assertRegex(text, r"\n#   FileDescriptorStoreMax=\d+ \(kmmd\.service\): ")
        self.assertRegex(text, r"\n#   vm\.nr_hugepages|\n#   requests that failed: ")

    def test_quotas(self):
        d = self.daemon(f"[user {ALICE}]\npages = 16\n")
        with Peer(d, ALICE) as a:
            a.must("ALLOC", GFP_NOWAIT, 4)
            self.assertEqual(a.do("ALLOC", GFP_NOWAIT, 4), -errno.EDQUOT)
            self.assertEqual(self.history(d)["failed_quota"], 1)
            taken = self.checked(d)
            self.assertEqual(taken[f"user {ALICE}.pages"], "32")
            self.assertEqual(taken, self.settings(d))


if __name__ == "__main__":
    main()

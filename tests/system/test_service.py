# SPDX-License-Identifier: MIT
"""The service in a booted system: units, activation, readiness, status, watchdog, reload, stop, and what it
refuses to start with. One machine for all of it; each test begins and ends with the service stopped."""
import ctypes
import os
import re
import socket
import sys
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../integration")]
# pylint: disable=wrong-import-position
import kmmtest  # noqa: E402
from peer_run import GFP_KERNEL, Peer  # noqa: E402
from service import SMALL, SOCKET, Clients, Service, wait_until  # noqa: E402

UNITS = ("kmmd.service", "kmmd.socket", "kmmd-hugepages.service")
LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
WALL = 0x40000000  # waitpid: of threads, too

machine = None


def setUpModule():
    global machine
    machine = Service().__enter__()


def tearDownModule():
    machine.__exit__(None, None, None)


class Held:
    """One thread of a process, held still by a tracer; it may die meanwhile."""

    def __init__(self, tid):
        self.tid, self.done, ready = tid, threading.Event(), threading.Event()
        self.error = 0
        self.thread = threading.Thread(target=self._trace, args=(ready,))
        self.thread.start()
        ready.wait()
        if self.error:
            raise OSError(self.error, "ptrace")

    def _trace(self, ready):  # a tracer is a thread
        if LIBC.ptrace(PTRACE_SEIZE, self.tid, None, None) < 0 or \
                LIBC.ptrace(PTRACE_INTERRUPT, self.tid, None, None) < 0:
            self.error = ctypes.get_errno()
            ready.set()
            return
        os.waitpid(self.tid, WALL)
        ready.set()
        os.waitpid(self.tid, WALL)  # SIGKILL ends the stop, and we are to reap it

    def join(self):
        self.thread.join()


def thread_named(pid, name):
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/comm", encoding="ascii") as f:
            if f.read().strip() == name:
                return int(tid)
    raise LookupError(name)


class Case(unittest.TestCase):
    def setUp(self):
        self.m = machine
        self.m.configure(**SMALL)
        self.cursor = self.m.cursor()
        self.dropped, self.peers = [], []

    def tearDown(self):
        for p in self.peers:
            p.__exit__()
        self.m.systemctl("stop", "kmmd.socket", "kmmd.service", check=False)
        self.m.systemctl("reset-failed", check=False)
        for name in self.dropped:
            self.m.drop_in(name, None)

    def drop_in(self, name, text):
        self.dropped.append(name)
        self.m.drop_in(name, text)

    def start(self):
        self.m.systemctl("start", "kmmd.socket", "kmmd.service")
        return self.m.main_pid()

    def peer(self):
        p = Peer(Clients(self.m))
        self.peers.append(p)
        return p

    def said(self):
        return self.m.journal(self.cursor)

    def await_other(self, pid):
        """The next daemon, started by the manager and ready."""
        wait_until(lambda: self.m.main_pid() not in (0, pid) and
                   self.m.show("SubState") == "running", "the next daemon is ready")
        return self.m.main_pid()


class Filled:
    """Blocks of a client's with contents that are to be there later."""

    def __init__(self, peer, orders=(0, 0, 1, 3, 5, 9)):
        self.peer = peer
        self.blocks = [(peer.must("ALLOC", GFP_KERNEL, o), o, 1000 + i) for i, o in enumerate(orders)]
        for pfn, order, seed in self.blocks:
            peer.must("FILL", pfn, order, seed)

    def check(self, case):
        for pfn, order, seed in self.blocks:
            case.assertEqual(self.peer.do("CHECK", pfn, order, seed), 1)

    def free(self):
        for pfn, order, _ in self.blocks:
            self.peer.must("FREE", pfn, order)


class Install(Case):
    def test_systemd_finds_nothing_to_say_of_the_units(self):
        done = self.m.enter("systemd-analyze", "--man=no", "verify", *UNITS)
        self.assertEqual(done.stderr, "")

    def test_the_service_is_hardened(self):
        done = self.m.enter("systemd-analyze", "security", "--offline=yes", "--threshold=15",
                            self.m.show("FragmentPath"), check=False)
        last = done.stdout.strip().splitlines()[-1]
        print(last, file=sys.stderr)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertLessEqual(float(re.search(r"kmmd.service: ([\d.]+)", last).group(1)), 1.5)

    def test_user_group_and_directory_are_there_after_boot(self):
        self.assertRegex(self.m.shell("getent passwd kmm"), r"^kmm:x:\d+:\d+:kmmd.*:/.*:.*nologin$")
        self.assertEqual(self.m.shell("stat -c '%U %G %a' /run/kmmd"), "kmm kmm 755")

    def test_the_installed_configuration_is_valid(self):
        self.m.shell(f"{self.m.kmmd} --config {self.m.conf} --check-config")

    def test_as_many_descriptors_as_the_largest_pool_has_fit_the_store(self):
        with open(os.path.join(os.environ.get("KMM_SRCDIR", "."), "mm/types.h"), encoding="utf-8") as f:
            sections = int(re.search(r"#define MAX_SECTIONS (\d+)", f.read()).group(1))
        self.assertGreaterEqual(int(self.m.show("FileDescriptorStoreMax")), sections + 5)
        self.assertGreaterEqual(int(self.m.show("LimitNOFILE")), 4096 * 9 + sections + 64)

    def test_it_is_enabled_with_its_socket(self):
        self.m.systemctl("enable", "kmmd.service", "kmmd-hugepages.service")
        try:
            for unit in UNITS:
                self.assertEqual(self.m.systemctl("is-enabled", unit).stdout.strip(), "enabled")
            self.assertIn("kmmd-hugepages.service", self.m.show("Wants"))
        finally:
            self.m.systemctl("disable", *UNITS)


class Start(Case):
    def test_a_client_that_connects_starts_the_daemon(self):
        self.m.systemctl("start", "kmmd.socket")
        self.assertEqual(self.m.show("ActiveState"), "inactive")
        self.assertEqual(self.m.shell(f"stat -c '%U %G %a' {SOCKET}"), "root kmm 660")
        self.assertEqual(self.peer().do("ORDER", 0), -2)
        self.assertEqual(self.m.show("ActiveState"), "active")

    def test_a_member_of_the_group_may_connect_and_others_may_not(self):
        self.m.systemctl("start", "kmmd.socket")
        self.m.run(self.m.kmmctl, "health", user="nobody", groups=["kmm"])
        done = self.m.run(self.m.kmmctl, "health", user="nobody", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("ermission denied", done.stdout + done.stderr)

    def test_started_means_that_it_serves(self):
        self.start()
        self.assertEqual((self.m.show("ActiveState"), self.m.show("Type")), ("active", "notify"))
        self.m.ctl("health")

    def test_it_runs_as_its_user_and_is_not_for_the_oom_killer(self):
        pid = self.start()
        status = self.m.shell(f"cat /proc/{pid}/status")
        uid = self.m.shell("id -u kmm")
        self.assertRegex(status, rf"(?m)^Uid:\t{uid}\t{uid}\t{uid}\t{uid}$")
        self.assertRegex(status, r"(?m)^CapBnd:\t0+20$")
        self.assertRegex(status, r"(?m)^NoNewPrivs:\t1$")
        self.assertRegex(status, r"(?m)^Seccomp:\t2$")
        self.assertEqual(self.m.show("OOMScoreAdjust"), "-1000")
        # where root may do that at all; in a container it may not
        may = self.m.shell("echo -1000 2>/dev/null >/proc/self/oom_score_adj; cat /proc/self/oom_score_adj")
        self.assertEqual(self.m.shell(f"cat /proc/{pid}/oom_score_adj"), may)

    def test_without_the_socket_unit_it_makes_its_own(self):
        self.m.systemctl("start", "kmmd.service")
        self.m.systemctl("stop", "kmmd.socket", check=False)
        self.m.systemctl("restart", "kmmd.service")
        self.m.ctl("health")
        self.assertEqual(self.m.shell(f"stat -c '%G %a' {SOCKET}"), "kmm 660")


class Status(Case):
    def test_it_says_pool_sessions_and_pressure(self):
        self.start()
        self.assertRegex(self.m.show("StatusText"),
                         r"^64 MiB of shared memory on 4 KiB pages, \d+% in use; 0 sessions; no pressure$")
        p = self.peer()
        wait_until(lambda: "; 1 sessions; no pressure" in self.m.show("StatusText"),
                   "the status names the session")
        used = p.must("ALLOC", GFP_KERNEL, 10)
        wait_until(lambda: not re.search(r" [0-5]% in use", self.m.show("StatusText")),
                   "the status says what is in use")
        p.must("FREE", used, 10)

    def test_it_says_that_requests_wait(self):
        self.start()
        p, q = self.peer(), self.peer()
        n = p.must("EXHAUST", GFP_KERNEL & ~0x400, 0)
        q.socket.sendall(b"")
        from peer_run import COMMAND, OPERATION
        q.socket.sendall(COMMAND.pack(OPERATION["ALLOC"], GFP_KERNEL, 3, 0, b""))
        wait_until(lambda: "PRESSURE: 1 requests wait for memory" in self.m.show("StatusText"),
                   "the status says that a request waits")
        p.must("RELEASE", n)
        self.assertGreaterEqual(int.from_bytes(q.socket.recv(8), "little", signed=True), 0)
        wait_until(lambda: self.m.show("StatusText").endswith("no pressure"), "nobody waits any more")


class Watchdog(Case):
    """A short time, so that the test is short; nothing here depends on how short."""

    def setUp(self):
        super().setUp()
        self.drop_in("watchdog", "[Service]\nWatchdogSec=1s\n")
        self.pid = self.start()
        self.held = Filled(self.peer())

    def recovered(self):
        pid = self.await_other(self.pid)
        self.held.check(self)
        self.held.free()
        self.assertEqual(self.m.ctl("fsck").stdout, "clean\n")
        self.assertIn("watchdog", self.said().lower())
        return pid

    def test_a_daemon_that_works_is_left_alone(self):
        begun = self.m.show("WatchdogTimestampMonotonic")
        wait_until(lambda: int(self.m.show("WatchdogTimestampMonotonic")) > int(begun) + 2000000,
                   "the watchdog was told for twice its time")
        self.assertEqual((self.m.main_pid(), self.m.show("NRestarts")), (self.pid, "0"))

    def hang(self, name):
        outside = self.m.outside(self.pid)
        held = Held(thread_named(outside, name) if name else outside)
        self.recovered()
        held.join()

    def test_a_hung_main_loop(self):
        self.hang(None)

    def test_a_hung_reactor(self):
        self.hang("kmmd-0")
        self.assertIn("reactor 0 does not answer", self.said())

    def test_a_stopped_process(self):
        os.kill(self.m.outside(self.pid), 19)
        self.recovered()

    def test_a_hung_worker_with_work(self):
        outside = self.m.outside(self.pid)
        held = Held(thread_named(outside, "kmmd-worker"))
        # a sweep for it to do
        p = self.peer()
        p.must("ALLOC", GFP_KERNEL, 3)
        p.process.kill()
        self.recovered()
        held.join()
        self.assertIn("the worker makes no progress", self.said())


class Change(Case):
    def test_reload(self):
        pid = self.start()
        held = Filled(self.peer())
        self.m.configure(pool=SMALL["pool"], daemon={"log_level": "debug"})
        self.m.systemctl("reload", "kmmd.service")
        wait_until(lambda: "the configuration was read again" in self.said(), "it was read")
        wait_until(lambda: self.m.show("SubState") == "running", "the reload is over")
        self.assertEqual(self.m.main_pid(), pid)
        held.check(self)

    def test_a_wrong_configuration_changes_nothing(self):
        pid = self.start()
        self.m.configure("[pool]\nsize = 64M\nbacking = 4k\n[daemon]\nlog_level = loud\n")
        self.m.systemctl("reload", "kmmd.service", check=False)
        wait_until(lambda: "refused" in self.said(), "it was refused")
        self.assertIn("kmmd.conf:5", self.said())
        self.m.ctl("health")
        self.assertEqual(self.m.main_pid(), pid)

    def test_restart_keeps_the_pool(self):
        pid = self.start()
        held = Filled(self.peer())
        self.m.systemctl("restart", "kmmd.service")
        self.assertNotEqual(self.m.main_pid(), pid)
        held.check(self)
        held.free()
        self.assertEqual(self.m.ctl("fsck").stdout, "clean\n")

    def test_restart_with_a_wrong_configuration_keeps_the_pool_until_it_is_right(self):
        self.start()
        held = Filled(self.peer())
        self.m.configure("[pool]\nsize = big\n")
        self.assertNotEqual(self.m.systemctl("restart", "kmmd.service", check=False).returncode, 0)
        self.assertIn("still keeps a pool", self.said())
        held.check(self)
        self.m.configure(**SMALL)
        self.m.await_active()
        held.check(self)
        held.free()
        self.assertEqual(self.m.ctl("fsck").stdout, "clean\n")

    def test_stop_gives_the_pool_up(self):
        pid = self.start()
        uuid = self.m.json("health")
        self.peer()
        self.m.systemctl("stop", "kmmd.socket", "kmmd.service")
        self.m.await_dead(self.m.outside(pid) or pid)
        self.assertEqual(self.m.show("Result"), "success")
        self.assertEqual(self.m.show("NFileDescriptorStore"), "0")
        self.start()
        self.assertEqual(self.m.json("health")["epoch"], 1)
        self.assertIn("epoch", uuid)

    def test_however_often_it_dies_the_socket_stays(self):
        """Each death is a start by who connects: more of them in a short time than the manager's trigger limit
        for sockets, which is 20 in 2 s."""
        self.start()
        peer = self.peer()
        held = Filled(peer)
        for _ in range(50):
            self.m.enter("pkill", "-KILL", "-x", "kmmd", check=False)
            peer.must("FREE", peer.must("ALLOC", GFP_KERNEL, 5), 5)
        self.assertEqual(self.m.show("ActiveState", "kmmd.socket"), "active")
        held.check(self)
        held.free()
        self.assertNotIn("limit hit", self.m.shell("journalctl -u kmmd.socket -u kmmd.service --no-pager"))

    def test_manager_executed_again_keeps_the_pool(self):
        pid = self.start()
        held = Filled(self.peer())
        self.m.systemctl("daemon-reexec")
        self.m.enter("kill", "-9", str(pid))
        self.await_other(pid)
        held.check(self)
        held.free()


class Refuse(Case):
    """What cannot be had is said with its number; the unit fails and is not tried again for ever."""

    def refused(self, status, *texts):
        self.m.systemctl("start", "kmmd.service", check=False)
        wait_until(lambda: self.m.show("ActiveState") == "failed", "the unit has failed")
        self.assertEqual(self.m.show("ExecMainStatus"), str(status), self.said())
        for text in texts:
            self.assertIn(text, self.said())

    def test_a_store_that_is_too_small(self):
        self.drop_in("store", "[Service]\nFileDescriptorStoreMax=20\n")
        # 16 sections of 4M and five more
        self.refused(4, "21 descriptors are needed (16 sections, control memory, lifeline, socket), "
                     "it takes 20: set FileDescriptorStoreMax=21 or more")

    def test_a_store_that_is_just_large_enough(self):
        self.drop_in("store", "[Service]\nFileDescriptorStoreMax=21\n")
        pid = self.start()
        held = Filled(self.peer())
        self.m.enter("kill", "-9", str(pid))
        self.await_other(pid)
        held.check(self)
        held.free()

    def test_no_store_at_all(self):
        self.drop_in("store", "[Service]\nFileDescriptorStoreMax=0\n")
        self.refused(4, "it takes 0")

    def test_too_few_open_files(self):
        self.m.configure(pool={"size": "1G", "backing": "4k", "section_size": "4M"})
        self.drop_in("files", "[Service]\nLimitNOFILE=200\n")
        self.refused(4, "256 sections need 320 descriptors, the limit of open files is 200",
                     "LimitNOFILE=")

    def test_a_wrong_configuration(self):
        self.m.configure("[pool]\nsize = big\n")
        self.refused(2, self.m.conf + ":2")

    def test_hugetlb_pages_that_there_are_none_of(self):
        """Of 1 GiB: the machine has none of these, whatever it has of 2 MiB."""
        self.m.configure(pool={"size": "2G", "backing": "hugetlb", "huge_page_size": "1G",
                               "highmem": "0"})
        self.refused(4, "need 2 pages of 1 GiB, 0 are free, 2 are missing",
                     "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages")

    def test_more_hugetlb_pages_than_there_are(self):
        total, size = self.huge_pages()
        section = 4  # MiB; there may be 1024, and the pool must be a multiple
        while (total + 1024) * 2 > section * 1000:
            section *= 2
        need = -(-(total + 1024) * 2 // section) * section // 2
        self.m.configure(pool={"size": f"{need * 2}M", "section_size": f"{section}M",
                               "backing": "hugetlb", "highmem": "0"})
        self.assertEqual(size, 2048)
        self.refused(4, f"huge pages need {need} pages of 2 MiB", "sysctl vm.nr_hugepages=")

    def huge_pages(self):
        with open("/proc/meminfo", encoding="ascii") as f:
            text = f.read()
        return (int(re.search(r"HugePages_Total: +(\d+)", text).group(1)),
                int(re.search(r"Hugepagesize: +(\d+)", text).group(1)))


class WithoutHugePages(Case):
    def test_auto_falls_back_and_says_so(self):
        """Pages of 1 GiB, none of which the machine has."""
        self.m.configure(pool={"size": "2G", "backing": "auto", "huge_page_size": "1G"})
        self.start()
        self.assertRegex(self.said(), r"not on hugetlb pages: it takes \d of 1 GiB, 0 are free")
        self.assertIn("of shared memory", self.m.show("StatusText"))
        self.assertIn("hugetlb", self.m.json("health")["advice"])
        self.assertEqual(self.peer().do("ALLOC", GFP_KERNEL, 0) >= 0, True)


class HugePages(Case):
    """kmmd-hugepages.service writes what the pool takes into the kernel's file; here into one that we made,
    since the real one is the host's."""

    FOLDER = "/sys/kernel/mm/hugepages"
    FAKE = "/run/hugepages"

    def setUp(self):
        super().setUp()
        self.m.shell(f"""mkdir -p {self.FAKE}/hugepages-2048kB
            echo 3 >{self.FAKE}/hugepages-2048kB/nr_hugepages
            mount --bind {self.FAKE} {self.FOLDER}""")

    def tearDown(self):
        self.m.systemctl("stop", "kmmd-hugepages.service")
        self.m.shell(f"umount {self.FOLDER}; rm -r {self.FAKE}")
        super().tearDown()

    def reserved(self):
        return int(self.m.shell(f"cat {self.FAKE}/hugepages-2048kB/nr_hugepages"))

    def test_as_many_as_the_pool_takes(self):
        self.m.configure(pool={"size": "64M", "backing": "auto", "highmem": "0"})
        self.m.systemctl("start", "kmmd-hugepages.service")
        self.assertEqual(self.reserved(), 32)
        self.m.systemctl("restart", "kmmd-hugepages.service")
        self.assertEqual(self.reserved(), 32)

    def test_with_those_of_others(self):
        self.m.configure(pool={"size": "64M", "backing": "auto", "highmem": "4M"})
        self.drop_in("others", "")
        self.m.drop_in("others", "[Service]\nEnvironment=KMMD_OTHER_HUGE_PAGES=100\n",
                       unit="kmmd-hugepages.service")
        self.m.systemctl("start", "kmmd-hugepages.service")
        self.m.drop_in("others", None, unit="kmmd-hugepages.service")
        self.assertEqual(self.reserved(), 130)

    def test_none_for_a_pool_of_small_pages(self):
        self.m.systemctl("start", "kmmd-hugepages.service")
        self.assertEqual(self.reserved(), 3)


if __name__ == "__main__":
    kmmtest.main()

# SPDX-License-Identifier: MIT
"""The installed service, killed and restarted again and again by its manager while clients use it.

tests/stress/kill_daemon does the work, as it does under kmmd --supervise: client processes that fill, check,
hand over and free blocks, 200 deaths of the daemon, every fourth of them a `systemctl restart` here, then
the daemon's account of each client compared with the client's own. kill_objects does the like with objects
and with clients that are killed, too. They find the service behind a "kmmd" of their own (installed.py).

Then bench_restart: how long the daemon is away with 1 GiB and 100,000 grants, 100 times. Its figure is
printed, and judged by make bench.
"""
import json
import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../integration")]
# pylint: disable=wrong-import-position
import kmmtest  # noqa: E402
from installed import Installed  # noqa: E402
from service import BUILD, SOCKET  # noqa: E402

GRANTS, ROUNDS = 100000, 100
machine = None


def setUpModule():
    global machine
    machine = Installed().__enter__()


def tearDownModule():
    machine.__exit__(None, None, None)


class Kills(unittest.TestCase):
    def program(self, name, **env):
        begun = machine.cursor()
        done = machine.program(os.path.join("tests/stress", name), env=env)
        print(done.stdout[-600:], file=sys.stderr)
        self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr[-3000:])
        return machine.journal(begun)

    def test_blocks_outlive_200_deaths_of_the_daemon(self):
        said = self.program("kill_daemon", KMM_TEST_KILLS="200")
        self.assertGreaterEqual(said.count("Main process exited, code=killed, status=9/KILL"), 100)
        self.assertGreaterEqual(said.count("Stopped kmmd.service"), 40)

    def test_objects_and_clients(self):
        self.program("kill_objects", KMM_TEST_KILLS="120", KMM_TEST_CHECK="40")

    def test_time_from_kill_to_answer(self):
        machine.configure(pool={"size": "1G", "backing": "4k"})
        machine.systemctl("start", "kmmd.socket", "kmmd.service")
        try:
            done = machine.enter(os.path.join(BUILD, "bench_restart"), SOCKET, str(GRANTS), str(ROUNDS),
                                 machine.kmmctl, "restart under systemd")
            self.assertEqual(machine.ctl("fsck").stdout, "clean\n")
        finally:
            machine.systemctl("stop", "kmmd.socket", "kmmd.service")
        rows = {r["row"]: r["samples"] for r in map(json.loads, done.stdout.splitlines())}
        times = sorted(rows["restart under systemd"])
        self.assertEqual(len(times), ROUNDS)
        print(f"kill to first answer, 1 GiB and {GRANTS} grants: median {times[len(times) // 2]:.1f} ms, "
              f"p99 {rows['restart under systemd, p99'][0]:.1f} ms", file=sys.stderr)


if __name__ == "__main__":
    kmmtest.main()

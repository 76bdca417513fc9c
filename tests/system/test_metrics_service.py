# SPDX-License-Identifier: MIT
"""Metrics of the installed service: by a Unix socket as the unit is, by TCP with the drop-in that
contrib/systemd has for it."""
import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../integration")]
# pylint: disable=wrong-import-position
import kmmtest  # noqa: E402
from metrics_case import Metrics  # noqa: E402
from service import SMALL, SOURCE, Service, wait_until  # noqa: E402

SOCKET = "/run/kmmd/metrics.sock"
TCP = "127.0.0.1:9464"
# Inside, by what every Debian has: FAMILY ADDRESS PATH.
ASK = """
import socket, sys
family, address, path = sys.argv[1:]
host, _, port = address.rpartition(":")
s = socket.socket(getattr(socket, family))
s.connect(address if family == "AF_UNIX" else (host, int(port)))
s.sendall(b"GET %s HTTP/1.0\\r\\nAccept: application/openmetrics-text\\r\\n\\r\\n" % path.encode())
data = b"".join(iter(lambda: s.recv(65536), b""))
sys.stdout.buffer.write(data)
"""

machine = None


def setUpModule():
    global machine
    machine = Service().__enter__()


def tearDownModule():
    machine.__exit__(None, None, None)


class Served(unittest.TestCase):
    def setUp(self):
        self.m = machine
        self.cursor = self.m.cursor()

    def tearDown(self):
        self.m.drop_in("metrics-tcp", None)
        self.m.systemctl("stop", "kmmd.socket", "kmmd.service", check=False)

    def start(self, listen):
        self.m.configure(**SMALL, metrics={"listen": listen})
        self.m.systemctl("start", "kmmd.socket", "kmmd.service")

    def ask(self, family, address, path="/metrics", *before):
        """The body of an answer that is 200; else what the program said."""
        done = self.m.enter(*before, "/usr/bin/python3", "-c", ASK, family, address, path, check=False)
        head, found, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
        if done.returncode or not found:
            return done.stderr
        self.assertRegex(head, r"^HTTP/1\.[01] 200 ")
        return body

    def test_by_a_unix_socket(self):
        self.start(SOCKET)
        self.assertEqual(self.m.enter("stat", "-c", "%a %U %G %F", SOCKET).stdout, "660 kmm kmm socket\n")
        m = Metrics(self.ask("AF_UNIX", SOCKET))
        self.assertEqual(m["kmmd_fdstore_present"], 1)
        # systemd's own count; the listening socket is the socket unit's
        self.assertEqual(m["kmmd_fdstore_descriptors"], int(self.m.show("NFileDescriptorStore")))
        self.assertRegex(self.ask("AF_UNIX", SOCKET, "/health"), "^serving: 64 MiB ")
        self.assertIn("PermissionError", self.ask("AF_UNIX", SOCKET, "/metrics", "setpriv", "--reuid=nobody",
                                                  "--regid=nogroup", "--clear-groups"))
        self.m.systemctl("stop", "kmmd.service")
        self.assertNotEqual(self.m.enter("stat", SOCKET, check=False).returncode, 0)

    def test_by_tcp(self):
        self.start(TCP)
        self.m.ctl("health")
        self.assertIn(f"[metrics] listen = {TCP}: cannot be listened at: ", self.m.journal(self.cursor))
        with open(os.path.join(SOURCE, "contrib/systemd/metrics-tcp.conf"), encoding="utf-8") as f:
            self.m.drop_in("metrics-tcp", f.read())
        self.m.systemctl("restart", "kmmd.service")
        wait_until(lambda: f"metrics are served at {TCP}" in self.m.journal(self.cursor), "it listens")
        m = Metrics(self.ask("AF_INET", TCP))
        self.assertEqual(m["kmmd_starts_total"], 2)  # the pool is the same
        self.assertEqual(m["kmmd_fdstore_descriptors"], int(self.m.show("NFileDescriptorStore")))


if __name__ == "__main__":
    kmmtest.main()

# SPDX-License-Identifier: MIT
"""The product as installed, in a booted system: a Machine with the staged tree and helpers.

    with Service() as s:
        s.configure(pool={"size": "64M", "backing": "4k"})
        s.systemctl("start", "kmmd.socket")
        s.ctl("health")

KMM_BUILDDIR names the build tree, whose tests/system/staging is laid over the machine. Build and source
tree are to be seen inside, at the same places.
"""
import json
import os
import re
import time

from machine import Machine, alive

BUILD = os.environ.get("KMM_BUILDDIR", os.getcwd())
SOURCE = os.path.abspath(os.environ.get("KMM_SRCDIR", "."))
STAGING = os.path.join(BUILD, "tests/system/staging")
PATIENCE = 300
SOCKET = "/run/kmmd/kmmd.sock"
SMALL = {"pool": {"size": "64M", "backing": "4k"}}


def wait_until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE} s in vain for: {what}")
        time.sleep(0.01)


class Service(Machine):
    def __init__(self, **more):
        if not os.path.isdir(STAGING):
            raise FileNotFoundError(STAGING + " is missing: make tests/system/staging.stamp")
        super().__init__(trees=[STAGING], bind=sorted({BUILD, SOURCE}), **more)

    def __enter__(self):
        super().__enter__()
        unit = self.shell("systemctl cat kmmd.service")
        self.kmmd, self.conf = re.search(r"^ExecStart=(\S+) --config (\S+)$", unit, re.M).groups()
        self.prefix = os.path.dirname(os.path.dirname(self.kmmd))
        self.kmmctl = self.prefix + "/bin/kmmctl"
        return self

    def __exit__(self, kind, *rest):
        if kind and self.leader:
            print(self.enter("journalctl", "-n", "40", "--no-pager", check=False).stdout)
        return super().__exit__(kind, *rest)

    def configure(self, text=None, **sections):
        """The whole configuration file."""
        if text is None:
            text = "".join(f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items())
                           for name, keys in sections.items())
        self.put(self.conf, text)

    def drop_in(self, name, text, unit="kmmd.service"):
        """None: removes it."""
        path = f"/run/systemd/system/{unit}.d/{name}.conf"
        if text is None:
            self.enter("rm", "-f", path)
        else:
            self.put(path, text)
        self.systemctl("daemon-reload")

    def systemctl(self, *args, check=True):
        return self.enter("systemctl", *args, check=check)

    def show(self, what, unit="kmmd.service"):
        return self.enter("systemctl", "show", "-P", what, unit).stdout.strip()

    def main_pid(self):
        return int(self.show("MainPID"))

    def journal(self, since=None):
        """What the service said, and its manager of it; since: a cursor."""
        more = [f"--after-cursor={since}"] if since else []
        self.enter("journalctl", "--sync")
        return self.enter("journalctl", "-u", "kmmd.service", "-o", "cat", "--no-pager", *more).stdout

    def cursor(self):
        self.enter("journalctl", "--sync")
        text = self.enter("journalctl", "-n", "0", "--show-cursor", "-q", check=False).stdout
        return text.strip().replace("-- cursor: ", "")

    def ctl(self, *args, check=True):
        return self.enter(self.kmmctl, *args, check=check)

    def json(self, *args):
        return json.loads(self.ctl("--json", *args).stdout)

    def await_active(self):
        wait_until(lambda: self.show("ActiveState") == "active", "kmmd.service is active")

    def await_dead(self, pid):
        wait_until(lambda: not alive(pid), f"process {pid} ends")


class Clients:
    """What Peer (tests/integration/peer_run.py) wants to know: clients that run inside. As a user:
    setpriv's options."""

    def __init__(self, service, *privileges):
        self.socket = SOCKET
        self.inside = ["nsenter", "-t", str(service.leader), "-a", *privileges]

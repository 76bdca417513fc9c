# SPDX-License-Identifier: MIT
"""Runs the installed service for tests that think they start a daemon of their own. As root, inside the
booted system.

      test ── starts "kmmd" ──> kmmd_service.py ── this socket ──> steward ── systemctl ──> kmmd.service

A connection is a daemon's life. Lines of JSON:

    to us     {"config": TEXT}            first: the whole configuration; the service is started
              {"signal": "TERM"}          stop it: what follows is its exit
              {"reload": TEXT}            the file is written anew, and the service reloads it
              {"signal": "KILL"}          the main process dies; one time in RESTART_EVERY it is
                                          restarted by its manager instead
              {"signal": "SYNC"}          all that it has said is passed on, and then a line that says so
              {"signal": "HOLD"}          no other is started until RESUME
    from us   {"log": TEXT}               a line that it said: after SYNC, and before an exit that is not 0
              {"exit": STATUS}            the last line; -N: by signal N

The end of the connection stops it, and so does the next one: one daemon at a time.
"""
import json
import os
import pwd
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time

ADDRESS = "/run/kmmd-steward.sock"
UNITS = ("kmmd.socket", "kmmd.service")
RESTART_EVERY = 4
HOLD = "/run/kmmd-hold"  # while it is there each start waits
BUSY = "/run/kmmd-steward.busy"  # while the service, or a descriptor that it kept, is there
HOLD_DROP_IN = "/run/systemd/system/kmmd.service.d/test.conf"
SOCKET_DROP_IN = "/run/systemd/system/kmmd.socket.d/test.conf"


def systemctl(*args):
    return subprocess.run(["systemctl", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)


def show(*names):
    text = systemctl("show", *(f"--property={n}" for n in names), "kmmd.service").stdout
    return dict(line.split("=", 1) for line in text.splitlines())


def hold():
    with open(HOLD, "w", encoding="ascii"):
        pass
    os.makedirs(os.path.dirname(HOLD_DROP_IN), exist_ok=True)
    with open(HOLD_DROP_IN, "w", encoding="ascii") as f:
        f.write(f"[Service]\nExecStartPre=/bin/sh -c 'while [ -e {HOLD} ]; do sleep 0.01; done'\n")
    systemctl("daemon-reload")


def resume():
    try:
        os.unlink(HOLD)
    except FileNotFoundError:
        pass


def with_admin(config, uid):
    """A daemon of one's own takes its user for an administrator."""
    if uid == 0 or re.search(r"(?m)^admins\s*=", config):
        return config
    line = f"admins = {pwd.getpwuid(uid).pw_name}\n"
    if re.search(r"(?m)^\[access\]\s*$", config):
        return re.sub(r"(?m)^\[access\]\s*$", "[access]\n" + line, config, count=1)
    return config + "\n[access]\n" + line


def socket_as_configured(config):
    """The socket unit stands in for [daemon] socket_mode and socket_group: says whether it has changed."""
    keys = dict(re.findall(r"(?m)^(socket_mode|socket_group)\s*=\s*(\S+)", config))
    text = "".join(f"{name}={keys[key]}\n" for key, name in
                   (("socket_mode", "SocketMode"), ("socket_group", "SocketGroup")) if key in keys)
    before = None
    if os.path.exists(SOCKET_DROP_IN):
        with open(SOCKET_DROP_IN, encoding="ascii") as f:
            before = f.read()
    if not text and before is not None:
        os.unlink(SOCKET_DROP_IN)
    elif text and before != "[Socket]\n" + text:
        os.makedirs(os.path.dirname(SOCKET_DROP_IN), exist_ok=True)
        with open(SOCKET_DROP_IN, "w", encoding="ascii") as f:
            f.write("[Socket]\n" + text)
    else:
        return
    systemctl("daemon-reload")


class Life:
    """A connection, and with it the service."""

    def __init__(self, connection, conf):
        self.connection, self.conf = connection, conf
        _, self.uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET,
                                                                   socket.SO_PEERCRED, 12))
        self.input, self.kills, self.started, self.told = b"", 0, False, False
        self.cursor = ""  # of the journal: how far it was passed on

    def say(self, **message):
        try:
            self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            pass  # it is gone: the next read ends us

    # ---- what the service says ----

    def forget(self):
        """What those before it said is not this one's."""
        subprocess.run(["journalctl", "--sync"], check=False)
        # A cursor that the match of relay() does not meet would cost the first line after it.
        for match in (["_SYSTEMD_UNIT=kmmd.service"], []):
            text = subprocess.run(["journalctl", "-n", "1", "-o", "json", "--output-fields=MESSAGE", "-q",
                                   *match], check=True, stdout=subprocess.PIPE, text=True).stdout
            if text.strip():
                self.cursor = json.loads(text)["__CURSOR"]
                return

    def relay(self):
        """What the journal has since the last time."""
        done = subprocess.run(
            ["journalctl", "-o", "json", "--output-fields=MESSAGE", "-q", "--no-pager",
             "--after-cursor=" + self.cursor, "_SYSTEMD_UNIT=kmmd.service"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
        for line in done.stdout.splitlines():
            entry = json.loads(line)
            self.cursor = entry["__CURSOR"]
            text = entry["MESSAGE"]
            self.say(log=text if isinstance(text, str) else bytes(text).decode(errors="replace"))

    def sync(self):
        subprocess.run(["journalctl", "--sync"], check=False)
        self.relay()
        self.say(log="-- all that was said before --")

    # ---- what it is told ----

    def write(self, config):
        with open(self.conf, "w", encoding="utf-8") as f:
            f.write(with_admin(config, self.uid))

    def start(self, config):
        self.write(config)
        socket_as_configured(config)
        self.forget()
        self.started = True
        with open(BUSY, "w", encoding="ascii"):
            pass
        self.told = systemctl("start", *UNITS).returncode != 0
        return not self.told

    def stop(self):
        if not self.told:  # its stand-in was killed, and so is it; no other comes
            hold()
            self.kill(False)
        systemctl("stop", *UNITS)
        resume()
        while True:
            how = show("ExecMainCode", "ExecMainStatus", "ActiveState", "NFileDescriptorStore")
            if how["NFileDescriptorStore"] == "0":
                break
            time.sleep(0.01)
        if how["ActiveState"] == "failed":
            systemctl("reset-failed", *UNITS)
        if os.path.exists(HOLD_DROP_IN):
            os.unlink(HOLD_DROP_IN)
            systemctl("daemon-reload")
        status = int(how["ExecMainStatus"])
        if status:
            self.relay()
        os.unlink(BUSY)
        self.say(exit=status if how["ExecMainCode"] == "1" else -status)

    def kill(self, sometimes_restart=True):
        self.kills += 1
        if sometimes_restart and self.kills % RESTART_EVERY == 0:
            systemctl("restart", "--no-block", "kmmd.service")
            return
        pid = int(show("MainPID")["MainPID"])
        if pid:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def obey(self, message):
        """False: the life is over."""
        if "config" in message:
            return self.start(message["config"])
        if "reload" in message:
            self.write(message["reload"])
            systemctl("reload", "kmmd.service")
            return True
        if message["signal"] == "TERM":
            self.told = True
            return False
        if message["signal"] == "HOLD":
            hold()
        elif message["signal"] == "RESUME":
            resume()
        elif message["signal"] == "SYNC":
            self.sync()
        else:
            self.kill()
        return True

    def read(self):
        data = self.connection.recv(65536)
        *lines, self.input = (self.input + data).split(b"\n")
        return bool(data) and all(self.obey(json.loads(line)) for line in lines)

    def run(self, server):
        """Until it is over, or somebody else wants a daemon: a test that failed may have left this one."""
        while True:
            ready, _, _ = select.select([self.connection, server], [], [])
            if self.connection not in ready or not self.read():
                break
        if self.started:
            self.stop()
        self.connection.close()


def main():
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(ADDRESS)
    os.chmod(ADDRESS, 0o666)
    server.listen(16)
    while True:
        connection, _ = server.accept()
        try:
            Life(connection, sys.argv[1]).run(server)
        except (OSError, ValueError) as e:
            print("steward:", e, file=sys.stderr, flush=True)
            systemctl("stop", *UNITS)
            connection.close()


if __name__ == "__main__":
    main()

#!/usr/bin/python3 -IS
# SPDX-License-Identifier: MIT
"""Stands in for the program kmmd in tests: the daemon that it "starts" is the installed service.

Its command line becomes the service's configuration file, and the place of its socket a link to the
service's. Signals are passed on (SIGUSR2 for SIGKILL, which nobody can pass on; SIGUSR1 and SIGCONT for
what stops and continues a supervisor; SIGURG asks for all that the service has said so far), what the service says goes to standard error, its exit status is
ours. steward.py does what takes root.
"""
import json
import os
import re
import select
import signal
import socket
import sys

STEWARD = "/run/kmmd-steward.sock"
SOCKET = "/run/kmmd/kmmd.sock"
KEYS = {"pool-size": ("pool", "size"), "section-size": ("pool", "section_size"),
        "backing": ("pool", "backing"), "nodes": ("pool", "nodes"),
        "reactors": ("daemon", "reactors")}


def merge(text, options):
    """The file's text with the options in place of its own lines of the same key."""
    out, section = [], None
    for line in text.splitlines():
        heading = re.match(r"\[(.*)\]\s*$", line)
        if heading:
            section = heading.group(1)
        key = line.split("=", 1)[0].strip()
        if not ((section, key) in options or (section, key) in (("daemon", "socket"),)):
            out.append(line)
    for section in sorted({s for s, _ in options}):
        lines = [f"{key} = {value}" for (s, key), value in options.items() if s == section]
        heading = f"[{section}]"
        at = next((i for i, line in enumerate(out) if line.strip() == heading), None)
        if at is None:
            out += [heading, *lines]
        else:
            out[at + 1:at + 1] = lines
    return "\n".join(out) + "\n"


def command_line(argv):
    """Configuration and socket."""
    text, place, options, words = "", None, {}, iter(argv)
    for word in words:
        name, equals, value = word[2:].partition("=")
        if name == "supervise":
            continue
        if not word.startswith("--") or name not in (*KEYS, "config", "socket"):
            os.execv(os.environ["KMM_REAL_KMMD"], ["kmmd", *argv])
        value = value if equals else next(words)
        if name == "config":
            with open(value, encoding="utf-8") as f:
                text = f.read()
        elif name == "socket":
            place = value
        else:
            options[KEYS[name]] = value
    return merge(text, options), place


def main():
    config, place = command_line(sys.argv[1:])
    wake_r, wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_w)
    names = {signal.SIGTERM: "TERM", signal.SIGINT: "TERM", signal.SIGHUP: "HUP",
             signal.SIGUSR1: "HOLD", signal.SIGCONT: "RESUME", signal.SIGUSR2: "KILL",
             signal.SIGURG: "SYNC"}
    for number in names:
        signal.signal(number, lambda *_: None)
    steward = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    steward.connect(STEWARD)
    steward.sendall(json.dumps({"config": config}).encode() + b"\n")
    if place:
        if os.path.islink(place):
            os.unlink(place)  # of one that was killed
        os.symlink(SOCKET, place)
    data = b""
    while True:
        ready, _, _ = select.select([steward, wake_r], [], [])
        if wake_r in ready:
            for number in os.read(wake_r, 64):
                if number == signal.SIGHUP:
                    config, _ = command_line(sys.argv[1:])
                    steward.sendall(json.dumps({"reload": config}).encode() + b"\n")
                elif number in names:
                    steward.sendall(json.dumps({"signal": names[number]}).encode() + b"\n")
        if steward in ready:
            more = steward.recv(65536)
            *lines, data = (data + more).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "log" in message:
                    print("kmmd:", message["log"], file=sys.stderr, flush=True)
                elif "exit" in message:
                    if place:
                        os.unlink(place)
                    status = message["exit"]
                    sys.exit(status if status >= 0 else 128 - status)
            if not more:
                sys.exit("kmmd_service: the steward ended")


if __name__ == "__main__":
    main()

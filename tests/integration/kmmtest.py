# SPDX-License-Identifier: MIT
"""What the Python tests share: a daemon of one's own, frames as bytes, and a runner.

Frames and messages are built by hand here, not by generated code: a test must be able to say things
that no generated code would say. The layout is that of proto/frame.h, field numbers are those of
proto/kmm.proto.
"""
import ctypes
import errno
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

PATIENCE = 300
KMMD = os.environ.get("KMMD", "./kmmd")
KMMCTL = os.environ.get("KMMCTL", "./kmmctl")

REQUEST, REPLY, ITEM, CANCEL = 1, 2, 3, 4
HEADER = struct.Struct("<IIHBBHHQ")
BODY_MAX = 16384

OK, CANCELLED, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, OUT_OF_RANGE = 0, 1, 3, 4, 5, 11
PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION = 7, 8, 9
UNIMPLEMENTED, DATA_LOSS, UNAUTHENTICATED = 12, 15, 16


def methods():
    """Names to numbers, from the schema itself."""
    path = os.path.join(os.environ.get("KMM_SRCDIR", "."), "proto", "kmm.proto")
    with open(path, encoding="utf-8") as f:
        enum = re.search(r"enum Method \{(.*?)\}", f.read(), re.S).group(1)
    return {n: int(v) for n, v in re.findall(r"(\w+) = (\d+);", enum)}


METHOD = methods()


def wait_until(condition, what):
    """For states of other processes that send no event."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE} s in vain for: {what}")
        time.sleep(0.002)


# ---- protobuf by hand ----

def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, value):
    """A varint field, or a length-delimited one for bytes and str."""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(int(value))


def parse(body):
    """{field number: [values]} of a message."""
    fields, at = {}, 0

    def take():
        nonlocal at
        value = shift = 0
        while True:
            byte = body[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(body):
        tag = take()
        if tag & 7 == 0:
            value = take()
        elif tag & 7 == 2:
            n = take()
            value = body[at:at + n]
            at += n
        else:
            raise ValueError(f"wire type {tag & 7}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


class Reply:
    """A frame from the daemon."""

    def __init__(self, header, body, fds):
        self.length, self.call, self.code, self.kind, self.nfds, self.cpu, _, _ = header
        self.body, self.fds = body, fds

    @property
    def fields(self):
        return parse(self.body)

    @property
    def errno(self):
        return self.fields.get(1, [0])[0]

    @property
    def text(self):
        return self.fields.get(2, [b""])[0].decode()


class Connection:
    """A raw connection; closes what descriptors it receives."""

    def __init__(self, daemon):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(daemon.socket)
        self.buffer = b""
        self.call = 0

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data):
        """False when the daemon has closed the connection."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def receive(self):
        """The next frame, or None at the end of the connection."""
        fds = []
        while True:
            if len(self.buffer) >= HEADER.size:
                header = HEADER.unpack_from(self.buffer)
                end = HEADER.size + header[0]
                if len(self.buffer) >= end:
                    body, self.buffer = self.buffer[HEADER.size:end], self.buffer[end:]
                    return Reply(header, body, fds)
            try:
                data, got, _, _ = socket.recv_fds(self.socket, 65536, 32)
            except ConnectionResetError:
                return None
            for fd in got:
                os.close(fd)
            fds += got
            if not data:
                return None
            self.buffer += data

    def ends(self):
        """Reads until the daemon closes; the frames that came before."""
        frames = []
        while True:
            frame = self.receive()
            if frame is None:
                return frames
            frames.append(frame)

    def ask(self, method, body=b"", timeout_us=0):
        self.call += 1
        self.send(frame(method, body, call=self.call, timeout_us=timeout_us))
        return self.call

    def do(self, method, body=b"", timeout_us=0):
        """One call; the items of a stream are passed over."""
        call = self.ask(method, body, timeout_us)
        while True:
            reply = self.receive()
            if reply is None:
                raise AssertionError(f"the daemon closed the connection instead of answering {method}")
            if reply.call == call and reply.kind == REPLY:
                return reply

    def hello(self, **extra):
        body = field(1, extra.pop("version", 1)) + field(3, "raw")
        for number, value in extra.items():
            body += field(int(number.lstrip("f")), value)
        return self.do("ALLOCATOR_HELLO", body)


def frame(method, body=b"", call=1, kind=REQUEST, length=None, nfds=0, cpu=0, zero=0, timeout_us=0):
    """A frame, sensible or not."""
    number = METHOD[method] if isinstance(method, str) else method
    return HEADER.pack(len(body) if length is None else length, call, number, kind, nfds, cpu, zero,
                       timeout_us) + body


# ---- the daemon ----

def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def service_group():
    """The installed service's control group, where that stands in for a daemon of one's own
    (tests/system/installed.py) and the test has not chosen otherwise."""
    return KMMD == os.environ.get("KMMD") and os.environ.get("KMM_SERVICE")


def service_pid(group):
    """The group's kmmd."""
    try:
        with open(os.path.join(group, "cgroup.procs"), encoding="ascii") as f:
            for pid in map(int, f.read().split()):
                with open(f"/proc/{pid}/comm", encoding="ascii") as comm:
                    if comm.read().strip() == "kmmd":
                        return pid
    except (FileNotFoundError, ProcessLookupError):
        pass
    except OSError as e:
        if e.errno != errno.ENODEV:  # the group is made anew at this moment
            raise
    return None


class Daemon:
    """A daemon in a directory of its own. Its standard error goes to a file there."""

    def __init__(self, *args, config=None, size="64M", backing="4k"):
        self.dir = tempfile.TemporaryDirectory(prefix="kmmd-test-")
        self.socket = os.path.join(self.dir.name, "kmmd.sock")
        self.log = os.path.join(self.dir.name, "log")
        argv = [KMMD, "--socket", self.socket, "--pool-size", size, "--backing", backing, *args]
        if config is not None:
            self.config = os.path.join(self.dir.name, "kmmd.conf")
            with open(self.config, "w", encoding="utf-8") as f:
                f.write(config)
            argv += ["--config", self.config]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(argv, stderr=log, preexec_fn=die_with_parent)
        self.wait_serving()

    def wait_serving(self):
        def serving():
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended, status {self.process.returncode}:\n{self.said()}")
            return self.ctl("health")[0] == 0
        wait_until(serving, "the daemon serves")

    def said(self):
        if service_group():
            return self.said_by_service()
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    SYNCED = "kmmd: -- all that was said before --\n"

    def said_by_service(self):
        """What the service said comes by the journal: asked for, and waited for."""
        def text():
            with open(self.log, encoding="utf-8", errors="replace") as f:
                return f.read()
        before = text().count(self.SYNCED)
        os.kill(self.process.pid, signal.SIGURG)  # also from a child of the test
        wait_until(lambda: text().count(self.SYNCED) > before, "the journal is read")
        return text().replace(self.SYNCED, "")

    def ctl(self, *args):
        """Exit status and output of kmmctl."""
        r = subprocess.run([KMMCTL, "--socket", self.socket, *args], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, check=False)
        return r.returncode, r.stdout.decode(errors="replace")

    def pid(self):
        """Of the process that serves; None while there is none."""
        if service_group():
            return service_pid(service_group())
        with open(f"/proc/{self.process.pid}/cmdline", "rb") as f:
            if b"--supervise" not in f.read():
                return self.process.pid
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as f:
            children = f.read().split()
        return int(children[0]) if children else None

    def hold(self):
        """Nobody starts the next one until resume(), but for what a stand-in is told."""
        os.kill(self.process.pid, signal.SIGUSR1 if service_group() else signal.SIGSTOP)

    def resume(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self):
        """The process that serves; gone on return. Its pid."""
        pid = self.pid()
        if service_group():
            os.kill(self.process.pid, signal.SIGUSR2)
        else:
            os.kill(pid, signal.SIGKILL)

        def dead():
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                    return f.read().rpartition(")")[2].split()[0] in "ZX"
            except FileNotFoundError:
                return True
        wait_until(dead, "the daemon is dead")
        return pid

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid()}/fd"))

    def free_frames(self):
        """Of all zones, after drop-caches."""
        assert self.ctl("drop-caches")[0] == 0
        status, text = self.ctl("buddyinfo")
        assert status == 0, text
        return sum(int(n) << order for line in text.splitlines()
                   for order, n in enumerate(line.split()[4:]))

    def stop(self):
        self.process.terminate()
        status = self.process.wait(PATIENCE)
        self.dir.cleanup()
        return status


class Result(unittest.TextTestResult):
    """Names each test as it runs: a test that hangs is known by its name."""

    def startTest(self, test):
        print(test.id(), file=sys.stderr, flush=True)
        super().startTest(test)


def main():
    """Runs the tests of the calling module; the last line says "N passed, N failed"."""
    random.seed(os.environ.get("KMM_TEST_SEED", "1"))
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    result = unittest.TextTestRunner(resultclass=Result, stream=sys.stderr).run(suite)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    sys.stderr.flush()
    print(f"{result.testsRun - failed} passed, {failed} failed")
    sys.exit(failed > 0 or result.testsRun == 0)

# SPDX-License-Identifier: MIT
"""What the kernel lets other users do: processes that are these users for good (all ids, groups, no
capability) try the socket, its directory, every descriptor that a client is given, the daemon's and each
other's processes; and one of them takes all that it can get of what the daemon has, while another one
works. Rules and quotas of the configuration: test_access.py, test_users.py.
"""
import ctypes
import fcntl
import grp
import json
import mmap
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import traceback
import unittest

import kmmtest
from kmmtest import (HEADER, OK, PERMISSION_DENIED, Connection, Daemon, field, frame, main, parse,
                     wait_until)
from peer_run import GFP_KERNEL, GFP_NOWAIT, Peer

# A daemon of one's own, also where the installed service stands in for KMMD: the modes are its own.
kmmtest.KMMD = os.environ.get("KMM_REAL_KMMD", kmmtest.KMMD)

ALICE, BOB, SERVICE, NOBODY = 61501, 61502, 61503, 65534
GROUP = "users"
GID = grp.getgrnam(GROUP).gr_gid
OTHERS = 61599  # a group
LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE = 0x4206
F_ADD_SEALS, F_GET_SEALS, SEAL_SEAL, SEAL_SHRINK, SEAL_GROW, SEAL_WRITE = 1033, 1034, 1, 2, 4, 8
LIFELINE = 1


def become(uid, gid, groups):
    """For good: root's capabilities go with the last of the ids."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


class Somebody:
    """A process of that user, which does what it is told in another function of this file."""

    def __init__(self, uid, fn, *args, gid=NOBODY, groups=()):
        self.uid = uid
        self.out, out = os.pipe()
        self.go, go = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                kmmtest.die_with_parent()
                os.close(self.out)
                self.go.close()
                become(uid, gid, groups)
                answer = fn(go, *args)
                status = 0
            except BaseException:
                answer = traceback.format_exc()
            with os.fdopen(out, "w") as f:
                json.dump(answer, f)
            os._exit(status)
        os.close(out)
        go.close()

    def await_word(self):
        """It says where it is by a byte; how many came so far is all that it says."""
        if self.go.recv(1) != b".":
            raise AssertionError(self.end())

    def proceed(self):
        self.go.send(b".")

    def end(self):
        self.go.close()
        with os.fdopen(self.out) as f:
            text = f.read()
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if status:
            raise AssertionError(f"as user {self.uid}: status {status}\n{text}")
        return json.loads(text)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.go.close()
        os.close(self.out)


def as_user(uid, fn, *args, **who):
    return Somebody(uid, fn, *args, **who).end()


def errno_of(fn, *args):
    """0, or the name of the error."""
    try:
        result = fn(*args)
        if isinstance(result, int) and result < 0:
            raise OSError(ctypes.get_errno(), "")
        return 0
    except OSError as e:
        return os.strerror(e.errno)


EACCES, EPERM, EBADF, EINVAL = (os.strerror(n) for n in (13, 1, 9, 22))


# ---- what somebody does; all they say is JSON ----

def connects(_, path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        return errno_of(s.connect, path)
    finally:
        s.close()


def meddles_with_socket(_, path):
    """Puts another one in its place, or opens it to others."""
    own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    return {"unlink": errno_of(os.unlink, path),
            "rename": errno_of(os.rename, path, path + ".old"),
            "bind": errno_of(own.bind, path + ".mine"),
            "chmod": errno_of(os.chmod, path, 0o666),
            "chown": errno_of(os.chown, path, os.getuid(), -1)}


def raw_hello(path, body):
    """The answer's fields and its descriptors."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.connect(path)
    return s, *raw_call(s, "ALLOCATOR_HELLO", body)


def raw_call(s, method, body):
    s.sendall(frame(method, body))
    data, fds = b"", []
    while len(data) < HEADER.size or len(data) < HEADER.size + HEADER.unpack_from(data)[0]:
        more, got, _, _ = socket.recv_fds(s, 65536, 32)
        data, fds = data + more, fds + got
    header = HEADER.unpack_from(data)
    return header[2], parse(data[HEADER.size:]), fds


def maps_for_writing(fd, page):
    mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE).close()


def makes_writable(fd, page):
    """A mapping for reading, made one for writing."""
    LIBC.mmap.restype = ctypes.c_void_p
    at = LIBC.mmap(None, ctypes.c_size_t(page), 1, 1, fd, ctypes.c_long(0))
    return LIBC.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(page), 3)


def tries(fd):
    """All that a descriptor could be used for beyond what it is for."""
    st, path = os.fstat(fd), f"/proc/self/fd/{fd}"
    facts = {"access": fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE, "mode": stat.S_IMODE(st.st_mode),
             "kind": stat.S_IFMT(st.st_mode), "uid": st.st_uid, "size": st.st_size,
             "reopen_rw": errno_of(os.open, path, os.O_RDWR | os.O_NONBLOCK),
             "reopen_w": errno_of(os.open, path, os.O_WRONLY | os.O_NONBLOCK),
             "reopen_r": errno_of(os.open, path, os.O_RDONLY | os.O_NONBLOCK),
             "chmod": errno_of(os.fchmod, fd, 0o777), "chown": errno_of(os.fchown, fd, os.getuid(), -1)}
    if stat.S_ISREG(st.st_mode):
        facts.update(seals=fcntl.fcntl(fd, F_GET_SEALS),
                     shrink=errno_of(os.ftruncate, fd, st.st_size // 2),
                     grow=errno_of(os.ftruncate, fd, st.st_size * 2),
                     seal=errno_of(fcntl.fcntl, fd, F_ADD_SEALS, SEAL_WRITE),
                     map=errno_of(maps_for_writing, fd, st.st_blksize),
                     mprotect=errno_of(makes_writable, fd, st.st_blksize),
                     write=errno_of(os.pwrite, fd, b"", 0))
    else:
        facts.update(write=errno_of(os.write, fd, b"x"))
    return facts


def looks_at_descriptors(_, path, features, metadata):
    s, code, fields, fds = raw_hello(path, field(1, 1) + field(2, features) + field(3, "raw") + field(8, 1))
    assert code == OK, (code, fields)
    control = [tries(fd) for fd in fds]
    data, code, _, none = raw_hello(path, field(1, 1) + field(5, fields[3][0]) + field(6, fields[4][0]))
    assert code == OK and not none
    code, reply, fds = raw_call(data, "ALLOCATOR_GET_SECTIONS", field(1, 0))
    assert code == OK, (code, reply)
    sections = [tries(fd) for fd in fds]
    code, refusal, fds = raw_call(data, "ALLOCATOR_GET_SECTIONS", field(1, metadata))
    assert not fds
    observer, _, _, none = raw_hello(path, field(1, 1) + field(9, 1))
    assert not none
    for c in (s, data, observer):
        c.close()
    return {"features": fields.get(2, [0])[0], "control": control, "sections": sections,
            "metadata": [code, refusal.get(2, [b""])[0].decode()]}


def looks_at_process(_, pid):
    proc = f"/proc/{pid}/"
    return {"fd": errno_of(os.listdir, proc + "fd"), "map_files": errno_of(os.listdir, proc + "map_files"),
            "maps": errno_of(open, proc + "maps"), "mem": errno_of(os.open, proc + "mem", os.O_RDWR),
            "environ": errno_of(open, proc + "environ"),
            "fd0": errno_of(os.open, proc + "fd/0", os.O_RDONLY),
            "ptrace": errno_of(lambda: LIBC.ptrace(PTRACE_SEIZE, pid, None, None)),
            "kill": errno_of(os.kill, pid, 0)}


def resumes(_, path, session, token, claim):
    """Somebody else's session, by a token that it should not know."""
    s, code, fields, fds = raw_hello(path, field(1, 1) + field(5, session) + field(6, bytes.fromhex(token)) +
                                     field(8, claim))
    s.close()
    return [code, fields.get(1, [0])[0], fields.get(2, [b""])[0].decode(), len(fds)]


def greedy(go, path, what):
    """Takes all that it can get of one thing, and keeps it until it is told."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    n, why, open_ = 0, "", []
    own = {"silent": greedy_silent, "connections": greedy_connections, "sessions": greedy_sessions,
           "quarantine": greedy_quarantine, "calls": greedy_calls}[what]
    n, why = own(path, open_)
    go.send(b".")
    go.recv(1)
    return [n, why]


def greedy_silent(path, open_):
    """Connections that say nothing."""
    for _ in range(3000):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.setblocking(False)
        if errno_of(s.connect, path):
            s.close()
            break
        open_.append(s)
    return len(open_), ""


class Path:
    """As much of a daemon as Connection wants to know."""

    def __init__(self, path):
        self.socket = path


def refusal(reply):
    return reply.text if reply.kind == 2 and reply.code else f"code {reply.code}"


def greedy_connections(path, open_):
    """Connections that are observers."""
    while True:
        try:
            c = Connection(Path(path))
            if c.hello(f9=1).code != OK:
                return len(open_), "refused"
        except (AssertionError, OSError) as e:
            return len(open_), str(e)
        open_.append(c)


def greedy_sessions(path, open_):
    while True:
        try:
            c = Connection(Path(path))
            reply = c.hello()
        except (AssertionError, OSError) as e:
            return len(open_), str(e)
        if reply.code != OK:
            return len(open_), refusal(reply)
        open_.append(c)


def greedy_quarantine(path, open_):
    """Sessions without a connection: they cost no descriptor, and live as long as the process."""
    n = 0
    while True:
        try:
            with Connection(Path(path)) as c:
                reply = c.hello()
                if reply.code != OK:
                    return n, refusal(reply)
                c.do("ALLOCATOR_COLLECT")  # used: not ended with the connection
        except (AssertionError, OSError) as e:
            return n, str(e)
        n += 1


def greedy_calls(path, open_):
    """Requests that wait, on as many channels as there may be."""
    n, why = 0, ""
    hoard = Connection(Path(path))
    open_.append(hoard)
    assert hoard.hello().code == OK
    while hoard.do("ALLOCATOR_ALLOC_PAGES", field(1, GFP_NOWAIT) + field(2, 10)).code == OK:
        pass
    for _ in range(4):
        c = Connection(Path(path))
        open_.append(c)
        assert c.hello().code == OK
        while True:
            for _ in range(64):
                c.ask("ALLOCATOR_ALLOC_PAGES", field(1, GFP_KERNEL) + field(2, 10))
                n += 1
            # whatever was refused was answered before this
            call = c.ask("HEALTH_CHECK")
            answers = []
            while not answers or answers[-1].call != call:
                answers.append(c.receive())
            if len(answers) > 1:
                why = refusal(answers[0])
                break
    return n, why


# ---- tests ----

class Case(unittest.TestCase):
    maxDiff = None

    def start(self, config="[daemon]\nsocket_mode = 0666\n", *args, **more):
        d = Daemon("--reactors", "2", *args, config=config, **more)
        os.chmod(d.dir.name, 0o711)
        self.addCleanup(self.stop, d)
        return d

    def stop(self, d):
        status, said = d.ctl("fsck")
        self.assertEqual((status, said), (0, "clean\n"))
        self.assertEqual(d.stop(), 0)


class Socket(Case):
    def modes(self, d):
        st = os.stat(d.socket)
        return stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid

    def test_who_gets_to_it(self):
        d = self.start(f"[daemon]\nsocket_group = {GROUP}\n")
        self.assertEqual(self.modes(d), (0o660, 0, GID))
        for uid, gid, groups, want in (
                (ALICE, NOBODY, [], EACCES), (NOBODY, NOBODY, [], EACCES), (ALICE, OTHERS, [1, 2], EACCES),
                (ALICE, GID, [], 0), (ALICE, NOBODY, [GID], 0), (NOBODY, NOBODY, [1, GID, 2], 0),
                (GID, NOBODY, [], EACCES if GID else 0), (0, NOBODY, [], 0)):
            self.assertEqual(as_user(uid, connects, d.socket, gid=gid, groups=groups), want,
                             (uid, gid, groups))

    def test_nobody_else_by_default(self):
        d = self.start("")
        mode, uid, _ = self.modes(d)
        self.assertEqual((mode, uid), (0o660, 0))
        self.assertEqual(as_user(ALICE, connects, d.socket), EACCES)
        self.assertEqual(as_user(NOBODY, connects, d.socket), EACCES)

    def test_kmmctl_says_so(self):
        d = self.start("")
        tool = os.path.join(d.dir.name, "kmmctl")
        shutil.copy(kmmtest.KMMCTL, tool)
        os.chmod(tool, 0o755)
        done = subprocess.run(["setpriv", f"--reuid={ALICE}", f"--regid={NOBODY}", "--clear-groups", tool,
                               "--socket", d.socket, "health"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        os.unlink(tool)
        self.assertEqual((done.returncode, done.stdout), (1, f"kmmctl: {d.socket}: permission denied; the "
                                                          "socket is for root and the daemon's group\n"))

    def test_it_stays_where_it_is(self):
        d = self.start()
        none = {key: EACCES for key in ("unlink", "rename", "bind")} | {"chmod": EPERM, "chown": EPERM}
        self.assertEqual(as_user(ALICE, meddles_with_socket, d.socket), none)
        self.assertEqual(d.ctl("health")[0], 0)

    def test_a_directory_that_it_makes(self):
        top = kmmtest.tempfile.TemporaryDirectory(prefix="kmmd-test-")
        self.addCleanup(top.cleanup)
        path = os.path.join(top.name, "made/kmmd.sock")
        os.chmod(top.name, 0o711)
        p = subprocess.Popen([kmmtest.KMMD, "--socket", path, "--pool-size", "64M", "--backing", "4k",
                              "--reactors", "1"], stderr=subprocess.DEVNULL, umask=0)
        self.addCleanup(lambda: (p.terminate(), p.wait()))
        wait_until(lambda: as_user(0, connects, path) == 0, "it listens")
        st = os.stat(os.path.dirname(path))
        self.assertEqual((stat.S_IMODE(st.st_mode), st.st_uid), (0o755, 0))
        self.assertEqual(as_user(ALICE, connects, path), EACCES)
        facts = as_user(ALICE, meddles_with_socket, path)
        self.assertEqual((facts["unlink"], facts["bind"], facts["chmod"]), (EACCES, EACCES, EPERM))

    def test_modes_survive_a_restart(self):
        d = self.start(f"[daemon]\nsocket_group = {GROUP}\n", "--supervise")
        before = self.modes(d)
        old = d.pid()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: d.pid() not in (None, old), "the next daemon")
        d.wait_serving()
        self.assertEqual(self.modes(d), before)
        self.assertEqual(as_user(ALICE, connects, d.socket), EACCES)
        self.assertEqual(as_user(ALICE, connects, d.socket, groups=[GID]), 0)


class Descriptors(Case):
    def check_memory(self, f, owner):
        """One that clients write: it cannot be made smaller, larger or anybody else's."""
        self.assertEqual((f["access"], f["mode"], f["kind"], f["uid"]), (os.O_RDWR, 0o600, stat.S_IFREG, owner))
        self.assertEqual(f["seals"] & (SEAL_SHRINK | SEAL_GROW | SEAL_SEAL | SEAL_WRITE),
                         SEAL_SHRINK | SEAL_GROW | SEAL_SEAL)
        self.assertEqual((f["shrink"], f["grow"], f["seal"]), (EPERM, EPERM, EPERM))
        self.assertEqual((f["map"], f["mprotect"]), (0, 0))
        self.check_foreign(f)

    def check_foreign(self, f):
        for key in ("reopen_rw", "reopen_w", "reopen_r"):
            self.assertEqual(f[key], EACCES, key)
        self.assertEqual((f["chmod"], f["chown"]), (EPERM, EPERM))

    def check_view(self, f, owner):
        """One that clients only read: there is no way to write to it."""
        self.assertEqual((f["access"], f["mode"], f["kind"], f["uid"]), (os.O_RDONLY, 0o600, stat.S_IFREG,
                                                                        owner))
        self.assertEqual((f["map"], f["mprotect"], f["write"]), (EACCES, EACCES, EBADF))
        self.assertEqual((f["shrink"], f["grow"]), (EINVAL, EINVAL))  # of what is not open for writing
        self.assertEqual(f["seal"], EPERM)
        self.check_foreign(f)

    def check_lifeline(self, f, owner):
        self.assertEqual((f["access"], f["kind"], f["uid"]), (os.O_RDONLY, stat.S_IFIFO, owner))
        self.assertEqual(f["mode"] & 0o077, 0)
        self.assertEqual(f["write"], EBADF)
        self.check_foreign(f)

    def check(self, d, owner):
        last = 16 - 1
        facts = as_user(ALICE, looks_at_descriptors, d.socket, LIFELINE, last)
        self.assertEqual((facts["features"], len(facts["control"]), len(facts["sections"])), (LIFELINE, 3, 1))
        words, views, lifeline = facts["control"]
        self.check_memory(words, owner)
        self.check_view(views, owner)
        self.check_lifeline(lifeline, owner)
        for f in facts["sections"]:
            self.check_memory(f, owner)
        # what has the daemon's tables is given to nobody
        code, text = facts["metadata"]
        self.assertNotEqual(code, OK, text)
        self.assertIn("15", text)

    def test_what_a_client_is_given(self):
        self.check(self.start(), 0)

    def test_of_huge_pages_and_after_a_restart(self):
        d = self.start("[daemon]\nsocket_mode = 0666\n", "--supervise", backing="auto")
        self.check(d, 0)
        old = d.pid()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: d.pid() not in (None, old), "the next daemon")
        d.wait_serving()
        self.check(d, 0)

    def test_what_who_knows_no_lifeline_is_given(self):
        d = self.start()
        facts = as_user(ALICE, looks_at_descriptors, d.socket, 0, 15)
        self.assertEqual((facts["features"], len(facts["control"])), (0, 2))
        facts = as_user(ALICE, looks_at_descriptors, d.socket, 0xFFFFFFFFFF, 15)
        self.assertEqual((facts["features"], len(facts["control"])), (LIFELINE, 3))


class Processes(Case):
    def closed(self, facts, but=()):
        for key, value in facts.items():
            if key not in but:
                self.assertIn(value, (EACCES, EPERM), key)

    def test_the_daemon_s(self):
        d = self.start()
        self.closed(as_user(ALICE, looks_at_process, d.pid()))
        self.closed(as_user(NOBODY, looks_at_process, d.pid()))

    def test_the_daemon_s_of_its_own_user(self):
        """Not even another process of the user whom it runs as: it is not dumpable."""
        folder = kmmtest.tempfile.TemporaryDirectory(prefix="kmmd-test-")
        self.addCleanup(folder.cleanup)
        os.chown(folder.name, SERVICE, NOBODY)
        path = os.path.join(folder.name, "kmmd.sock")
        program = os.path.join(folder.name, "kmmd")
        shutil.copy(kmmtest.KMMD, program)
        os.chmod(program, 0o755)
        p = subprocess.Popen([program, "--socket", path, "--pool-size", "64M", "--backing", "4k",
                              "--reactors", "1"], user=SERVICE, group=NOBODY, extra_groups=[], cwd="/",
                             stderr=subprocess.DEVNULL)
        self.addCleanup(lambda: (p.terminate(), p.wait()))
        wait_until(lambda: as_user(SERVICE, connects, path) == 0, "it listens")
        self.closed(as_user(SERVICE, looks_at_process, p.pid), but=["kill"])
        # root has no more rights with it than the file system says, the daemon's user is its admin
        self.assertEqual(as_user(SERVICE, admin_is, path), [OK, 1])
        self.assertEqual(as_user(0, admin_is, path), [OK, 1])
        self.assertEqual(as_user(ALICE, connects, path), EACCES)

    def test_other_clients(self):
        d = self.start()
        with Peer(d, ALICE) as a, Peer(d, BOB) as b:
            self.assertGreaterEqual(b.must("ALLOC", GFP_KERNEL, 3), 0)
            self.closed(as_user(BOB, looks_at_process, a.process.pid))
            a.must("CLOSE")
            b.must("CLOSE")

    def test_a_token_is_not_enough(self):
        """Nor is the user's own one in another process."""
        d = self.start()
        s, code, fields, fds = raw_hello(d.socket, field(1, 1) + field(8, 1))
        self.assertEqual(code, OK)
        for fd in fds:
            os.close(fd)
        session, token = fields[3][0], fields[4][0].hex()
        for uid in (ALICE, 0):
            for control in (0, 1):
                self.assertEqual(as_user(uid, resumes, d.socket, session, token, control),
                                 [PERMISSION_DENIED, 13, f"session {session} is not this process's: token, "
                                  "user or process differ", 0])
        self.assertEqual(raw_call(s, "ALLOCATOR_CLOSE", b"")[0], OK)
        s.close()


def admin_is(_, path):
    s, code, fields, _ = raw_hello(path, field(1, 1) + field(9, 1))
    s.close()
    return [code, fields.get(18, [0])[0]]


class Greed(Case):
    """One user takes all it can get with the default limits; another one comes, works and goes."""

    def outdone(self, what, config="[daemon]\nsocket_mode = 0666\n", work=True):
        d = self.start(config)
        somebody = Somebody(BOB, greedy, d.socket, what)
        try:
            somebody.await_word()
            for uid in (ALICE, NOBODY, 0):
                with Peer(d, uid) as p:
                    if work:
                        pfn = p.must("ALLOC", GFP_KERNEL, 0)
                        p.must("FILL", pfn, 0, uid)
                        p.must("FREE", pfn, 0)
                        cache = p.must("CACHE_CREATE", 64, text=f"of-{uid}")
                        p.must("OBJECT_FREE", cache, p.must("OBJECT_ALLOC", cache, GFP_KERNEL))
                    p.must("FLUSH")
                    p.must("CLOSE")
            self.assertEqual(d.ctl("health")[0], 0)
            users = {u["uid"]: u for u in json.loads(d.ctl("--json", "users")[1])}
            somebody.proceed()
            n, why = somebody.end()
        except BaseException:
            somebody.kill()
            raise
        wait_until(lambda: json.loads(d.ctl("--json", "sessions")[1]) == [], "all sessions are gone")
        return n, why, users.get(BOB)

    def test_connections_that_say_nothing(self):
        n, _, _ = self.outdone("silent")
        self.assertGreater(n, 256)

    def test_connections(self):
        n, _, _ = self.outdone("connections")
        self.assertGreater(n, 100)

    def test_sessions_with_connections(self):
        n, why, users = self.outdone("sessions", "[limits]\nsessions = 160\n[daemon]\nsocket_mode = 0666\n")
        self.assertEqual(n, 160 - 20)
        self.assertEqual(why, "the last 20 of the 160 sessions are for other users than 61502, who has so "
                         "many: end some, or raise [limits] sessions")
        self.assertEqual(users["sessions"]["refused"], 1)

    def test_sessions_in_quarantine(self):
        n, why, _ = self.outdone("quarantine", "[limits]\nsessions = 160\n[daemon]\nsocket_mode = 0666\n")
        self.assertEqual(n, 160 - 20)
        self.assertIn("are for other users", why)

    def test_calls_that_wait(self):
        """What is left of the memory it cannot use: there is no block so large."""
        n, why, users = self.outdone("calls")
        self.assertGreater(n, 4 * 1024)
        self.assertIn("wait already, as many as [limits] calls allows", why)

    def test_what_a_quota_leaves(self):
        """Memory itself is shared out by quotas alone."""
        n, why, users = self.outdone("calls", "[daemon]\nsocket_mode = 0666\n[user]\npages = 4096\ncalls = 10\n")
        self.assertEqual((users["pages"]["used"], users["calls"]["used"]), (4096, 0))


if __name__ == "__main__":
    main()

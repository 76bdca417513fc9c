# SPDX-License-Identifier: MIT
"""A real systemd, booted in a container from this machine's own /usr, with trees laid over it.

From Python:

    from machine import Machine
    with Machine(trees=["/tmp/staging"]) as m:      # booted: system.target's jobs are done
        m.run("systemctl", "start", "kmmd.socket")  # subprocess.CompletedProcess, raises unless 0
        m.run("id", user="kmm", groups=["kmm"], check=False)
        m.shell("journalctl -u kmmd | tail")         # the same through bash -c: its output, stripped
        m.put("/etc/kmmd/kmmd.conf", "text")         # writes a file
        m.pid("kmmd.service")                        # of a unit's main process, as this host sees it
        m.leader                                     # pid of its init, as this host sees it

From a shell (the machine ends with its owner, here the shell, whatever becomes of that):

    M=$(tests/system/machine start --owner $$ --tree /tmp/staging)
    tests/system/machine run $M systemctl start kmmd.socket
    tests/system/machine run --user kmm --groups kmm $M id
    tests/system/machine put $M /etc/kmmd/kmmd.conf <file
    tests/system/machine stop $M

Options of start and of Machine():

    --tree DIR      laid over everything else; what `make install DESTDIR=DIR` made. May be repeated
    --keep NAME     a folder of this machine's root that is to be seen there, besides /usr and what
                    leads to it: etc, var. (dpkg -i needs both; of etc no unit is enabled.)
    --bind PATH     this machine's PATH, read only, at the same place. May be repeated
    --bind-rw PATH  the same, writable
    --owner PID     the process with whom it ends; default the caller (start only)

How. An overlay of this machine's root, written to a tmpfs, is the root; /etc, /var and all else that
is not /usr start empty, as with `systemd-nspawn --volatile=yes`, but everything is writable, so that
packages can be installed. Mounts and tmpfs lie in a mount namespace of their own, the processes in a
pid namespace whose init ends them all when the keeper dies, control groups below one group that
the keeper (or, if that was killed, the next one) removes. So nothing is left behind. Needs root.
"""
import argparse
import atexit
import ctypes
import glob
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PATIENCE = 300
NAME = "kmmd-machine-"
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
CLONE_NEWNS, CLONE_NEWPID = 0x00020000, 0x20000000
SHUTDOWN = signal.SIGRTMIN + 4  # what systemd takes for poweroff

# What is not /usr: it begins empty. bin, lib and the like are links into /usr.
EMPTY = ("etc", "var", "home", "root", "opt", "srv", "mnt", "media", "tmp", "run", "boot", "work")
KEPT = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "proc", "sys", "dev")


def stop_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def unshare(flags):
    if LIBC.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


# ---- control groups ----

def group_parents():
    """This process's groups in systemd's own hierarchy and the unified one."""
    with open("/proc/self/mountinfo", encoding="ascii") as f:
        mounts = [line.split() for line in f]
    with open("/proc/self/cgroup", encoding="ascii") as f:
        own = [line.strip().split(":", 2) for line in f]
    found = []
    for m in mounts:
        kind, options = m[m.index("-") + 1], m[-1].split(",")
        for _, controllers, path in own:
            if kind == "cgroup2" and not controllers or \
                    kind == "cgroup" and controllers == "name=systemd" and controllers in options:
                found.append(m[4] + path.rstrip("/"))
    return found


def group_remove(path):
    for folder, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:
            pass  # somebody is still in it: the next machine's keeper tries again


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def clean_after_the_dead():
    """What keepers that were killed could not remove."""
    for parent in group_parents():
        for path in glob.glob(parent + "/" + NAME + "*"):
            if not alive(path.rsplit("-", 1)[1]):
                group_remove(path)
    for path in glob.glob(os.path.join(tempfile.gettempdir(), NAME + "*", "keeper")):
        with open(path, encoding="ascii") as f:
            if not alive(f.read()):
                shutil.rmtree(os.path.dirname(path), ignore_errors=True)


# ---- the keeper: a process that holds the mounts and watches ----

def sh(*argv):
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


def root_make(base, trees, keep):
    """The overlay. Marks of what hides the lower folder's contents need the trusted.* name space."""
    sh("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", base)
    upper, root = base + "/upper", base + "/root"
    for folder in (upper, base + "/work", root):
        os.mkdir(folder)
    for name in os.listdir("/"):
        path = os.path.join("/", name)
        if name in keep or name in KEPT or os.path.islink(path):
            continue
        if os.path.isdir(path):
            os.mkdir(upper + path, 0o1777 if name == "tmp" else 0o755)
            os.setxattr(upper + path, "trusted.overlay.opaque", b"y")
        else:
            os.mknod(upper + path, 0o020000, 0)  # a whiteout
    for name in EMPTY:
        os.makedirs(upper + "/" + name, exist_ok=True)
    os.chmod(upper + "/tmp", 0o1777)
    # Nothing is enabled at the first boot but what the distribution's units require.
    preset = upper + "/etc/systemd/system-preset"
    os.makedirs(preset)
    with open(preset + "/00-machine.preset", "w", encoding="ascii") as f:
        f.write("disable *\n")
    # Commands behind links into /etc, and libraries of /usr/local.
    for name in ("alternatives", "ld.so.conf", "ld.so.conf.d"):
        if os.path.exists("/etc/" + name):
            sh("cp", "-a", "/etc/" + name, upper + "/etc")
    for tree in trees:
        # not as a lower layer: the hidden folders above would hide it, too
        for name in os.listdir(tree):
            # /lib and the like are links into /usr
            to = upper + os.path.realpath("/" + name) if os.path.islink("/" + name) else upper
            os.makedirs(to, exist_ok=True)
            what = "/." if to != upper else ""
            sh("cp", "-a", "--no-preserve=ownership", os.path.join(tree, name) + what, to)
    sh("mount", "-t", "overlay", "overlay", "-o",
       f"lowerdir=/,upperdir={upper},workdir={base}/work,xino=off", root)
    sh("ldconfig", "-r", root)
    if "etc" in keep:
        for units in glob.glob(root + "/etc/systemd/system/*"):
            shutil.rmtree(units) if os.path.isdir(units) and not os.path.islink(units) \
                else os.remove(units)
        for name in ("machine-id", "fstab", "hostname"):
            if os.path.lexists(root + "/etc/" + name):
                os.remove(root + "/etc/" + name)
    return root


def init_main(base, options, ready):
    """Process 1 of the pid namespace: boots, reaps, passes the shutdown on."""
    os.close(ready[0])
    stop_with_parent()
    unshare(CLONE_NEWNS)
    sh("mount", "--make-rprivate", "/")
    sh("mount", "-t", "proc", "proc", "/proc")
    os.makedirs("/run/systemd/nspawn", exist_ok=True)
    sh("mount", "-t", "tmpfs", "tmpfs", "/run/systemd/nspawn")
    root = root_make(base, options.tree, options.keep)
    argv = ["systemd-nspawn", "-D", root, "-M", "kmmd-test", "--boot", "--register=no", "--keep-unit",
            "--quiet", "--console=pipe", "--private-network",
            "--capability=CAP_IPC_LOCK,CAP_SYS_PTRACE"]
    argv += ["--bind-ro=" + path for path in options.bind]
    argv += ["--bind=" + path for path in options.bind_rw]
    argv += ["systemd.mask=systemd-firstboot.service", "systemd.mask=getty.target",
             "systemd.mask=console-getty.service", "systemd.mask=networking.service",
             "systemd.mask=systemd-networkd-wait-online.service"]
    with open(base + "/console", "wb") as console:
        nspawn = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=console,
                                  stderr=subprocess.STDOUT)
    signal.signal(signal.SIGTERM, lambda *_: shutdown(nspawn.pid))
    os.write(ready[1], b"\1")
    os.close(ready[1])
    while True:
        try:
            pid, status = os.wait()
        except InterruptedError:
            continue
        if pid == nspawn.pid:
            os._exit(0 if status == 0 else 1)


def shutdown(nspawn):
    for pid in children(nspawn):
        os.kill(pid, SHUTDOWN)


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            return [int(p) for p in f.read().split()]
    except FileNotFoundError:
        return []


def keeper_main(base, options, ready):
    """Ends the machine when its owner ends or asks for it, and cleans up."""
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    wake_r, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_w)
    try:
        owner = os.pidfd_open(options.owner)
    except ProcessLookupError:
        os._exit(1)
    clean_after_the_dead()
    groups = [p + "/" + NAME + str(os.getpid()) for p in group_parents()]
    outside = [p + "/cgroup.procs" for p in group_parents()]
    for g in groups:
        os.mkdir(g)
        with open(g + "/cgroup.procs", "w", encoding="ascii") as f:
            f.write(str(os.getpid()))
    unshare(CLONE_NEWPID)
    init = os.fork()
    if init == 0:
        try:
            signal.set_wakeup_fd(-1)
            init_main(base, options, ready)
        except BaseException as e:  # its init ends: so does all else
            print("machine:", e, file=sys.stderr)
        os._exit(1)
    os.close(ready[1])
    for path in outside:
        with open(path, "w", encoding="ascii") as f:
            f.write(str(os.getpid()))
    initfd = os.pidfd_open(init)
    select.select([owner, initfd, wake_r], [], [])
    # A clean end, so that what stopping does is seen; but not for ever.
    os.kill(init, signal.SIGTERM)
    if not select.select([initfd], [], [], 20)[0]:
        os.kill(init, signal.SIGKILL)
    os.waitpid(init, 0)
    for g in groups:
        group_remove(g)
    shutil.rmtree(base, ignore_errors=True)
    os._exit(0)


# ---- the front ----

class Machine:
    """A booted system; see the head of this file. Ends with this process at the latest."""

    def __init__(self, trees=(), keep=(), bind=(), bind_rw=(), owner=None):
        if os.geteuid() != 0:
            raise PermissionError("a system can be booted by root only")
        if not shutil.which("systemd-nspawn"):
            raise FileNotFoundError("systemd-nspawn is missing: install the package systemd-container")
        self.options = argparse.Namespace(
            tree=[os.path.abspath(t) for t in trees], keep=list(keep),
            bind=[os.path.abspath(p) for p in bind], bind_rw=[os.path.abspath(p) for p in bind_rw],
            owner=owner or os.getpid())
        self.base = tempfile.mkdtemp(prefix=NAME)
        self.keeper = self.leader = None

    def __enter__(self):
        ready = os.pipe()
        middle = os.fork()
        if middle == 0:
            # A session of its own: a terminal's ^C reaches the owner, whose end the keeper sees.
            os.setsid()
            keeper = os.fork()
            if keeper == 0:
                os.close(0)
                os.open("/dev/null", os.O_RDONLY)
                os.dup2(2, 1)  # nobody waits for the end of the caller's output because of us
                with open(self.base + "/stderr", "wb") as f:
                    os.dup2(f.fileno(), 1)
                    os.dup2(f.fileno(), 2)
                try:
                    keeper_main(self.base, self.options, ready)
                except BaseException as e:
                    print("machine:", e, file=sys.stderr, flush=True)
                os._exit(1)
            with open(self.base + "/keeper", "w", encoding="ascii") as f:
                f.write(str(keeper))
            os._exit(0)
        os.waitpid(middle, 0)
        os.close(ready[1])
        with open(self.base + "/keeper", encoding="ascii") as f:
            self.keeper = int(f.read())
        atexit.register(self.stop)
        ok = os.read(ready[0], 1)
        os.close(ready[0])
        if ok:
            self._await_boot()
            return self
        with open(self.base + "/stderr", encoding="utf-8", errors="replace") as f:
            text = f.read()
        self.stop()
        shutil.rmtree(self.base, ignore_errors=True)
        raise RuntimeError("the machine did not start:\n" + text)

    def __exit__(self, *_):
        self.stop()
        return False

    @classmethod
    def attach(cls, base):
        """The machine that `start` printed the name of."""
        m = cls.__new__(cls)
        m.base = base
        with open(base + "/keeper", encoding="ascii") as f:
            m.keeper = int(f.read())
        m.leader = m._find_leader()
        return m

    def _find_leader(self):
        for init in children(self.keeper):
            for nspawn in children(init):
                for leader in children(nspawn):
                    with open(f"/proc/{leader}/comm", encoding="ascii") as f:
                        if f.read().strip() == "systemd":
                            return leader
        return None

    def _await_boot(self):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and alive(self.keeper):
            self.leader = self.leader or self._find_leader()
            if self.leader:
                said = self.enter("systemctl", "is-system-running", check=False).stdout.strip()
                if said in ("running", "degraded"):
                    return
            time.sleep(0.02)
        text = self.console()
        self.stop()
        raise RuntimeError("the machine did not boot:\n" + text)

    def console(self):
        """What its systemd printed."""
        for init in children(self.keeper):
            with open(f"/proc/{init}/root{self.base}/console", encoding="utf-8", errors="replace") as f:
                return f.read()
        return ""

    def enter(self, *argv, check=True, stdin=None, text=True, env=None):
        """As root, inside its namespaces but outside its control groups: quick (2 ms)."""
        done = subprocess.run(["nsenter", "-t", str(self.leader), "-a", *argv],
                              input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=text, check=False,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
                                   **(env or {})})
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, argv))}: status {done.returncode}\n{done.stdout}"
                               f"{done.stderr}")
        return done

    def argv(self, argv, user=None, groups=(), env=None, options=()):
        """For subprocess: argv as a transient service inside, with our standard streams."""
        line = ["nsenter", "-t", str(self.leader), "-a", "env", "-i", "PATH=/usr/sbin:/usr/bin",
                "systemd-run", "--pipe", "--wait", "--quiet", "--collect", "--service-type=exec"]
        if user:
            line.append("--uid=" + str(user))
        if groups:
            line.append("--property=SupplementaryGroups=" + " ".join(groups))
        for key, value in {"LANG": "C.UTF-8", **(env or {})}.items():
            line.append(f"--setenv={key}={value}")
        return [*line, *options, "--", *map(str, argv)]

    def run(self, *argv, check=True, stdin=None, **how):
        """As a service of its own inside: user, groups, env as given."""
        done = subprocess.run(self.argv(argv, **how), input=stdin,
                              stdin=None if stdin is not None else subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, argv))}: status {done.returncode}\n{done.stdout}"
                               f"{done.stderr}")
        return done

    def shell(self, script, **how):
        return self.enter("bash", "-c", script, **how).stdout.strip()

    def put(self, path, text, mode=0o644):
        self.enter("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"', "put",
                   path, "%o" % mode, stdin=text)

    def pid(self, unit):
        """Of the unit's main process as this host names it; 0: none."""
        inside = int(self.shell(f"systemctl show -P MainPID {shlex.quote(unit)}") or 0)
        return self.outside(inside) if inside else 0

    def outside(self, inside):
        """The host's pid of a pid inside; 0: gone."""
        space = os.readlink(f"/proc/{self.leader}/ns/pid")
        for status in glob.glob("/proc/[0-9]*/status"):
            try:
                with open(status, encoding="utf-8", errors="replace") as f:
                    text = f.read()
                names = text[text.index("\nNSpid:"):].split("\n", 2)[1].split()[1:]
                if int(names[-1]) == inside and \
                        os.readlink(os.path.dirname(status) + "/ns/pid") == space:
                    return int(names[0])
            except (OSError, ValueError):
                pass  # it ended while we looked
        return 0

    def stop(self):
        """Returns when nothing of it is left."""
        if not self.keeper:
            return
        try:
            fd = os.pidfd_open(self.keeper)
            os.kill(self.keeper, signal.SIGTERM)
            select.select([fd], [], [], PATIENCE)
            os.close(fd)
        except ProcessLookupError:
            pass
        self.keeper = None
        atexit.unregister(self.stop)


def main():
    p = argparse.ArgumentParser(usage="machine start|run|put|stop ..., see the head of machine.py")
    sub = p.add_subparsers(dest="verb", required=True)
    start = sub.add_parser("start")
    for name in ("--tree", "--keep", "--bind", "--bind-rw"):
        start.add_argument(name, action="append", default=[])
    start.add_argument("--owner", type=int, default=os.getppid())
    run = sub.add_parser("run")
    run.add_argument("--user")
    run.add_argument("--groups", default="")
    run.add_argument("--setenv", action="append", default=[])
    for verb in (run, sub.add_parser("put"), sub.add_parser("stop"), sub.add_parser("leader")):
        verb.add_argument("machine")
    run.add_argument("argv", nargs=argparse.REMAINDER)
    sub.choices["put"].add_argument("path")
    o = p.parse_args()
    if o.verb == "start":
        m = Machine(o.tree, o.keep, o.bind, o.bind_rw, o.owner).__enter__()
        atexit.unregister(m.stop)
        print(m.base, flush=True)
        return 0
    m = Machine.attach(o.machine)
    if o.verb == "run":
        env = dict(e.split("=", 1) for e in o.setenv)
        argv = m.argv(o.argv, user=o.user, groups=o.groups.split(), env=env)
        os.execvp(argv[0], argv)
    if o.verb == "put":
        m.put(o.path, sys.stdin.read())
    elif o.verb == "leader":
        print(m.leader)
    else:
        m.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())

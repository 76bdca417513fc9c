# SPDX-License-Identifier: MIT
"""Tests that start a daemon of their own, run inside the booted system against the service as installed.

    with Installed() as m:
        m.program("tests/integration/test_restart")            # as root
        m.program("tests/integration/test_api_pages", user="tester", groups=["kmm"])

KMMD names a program that stands in for kmmd (kmmd_service.py); what takes root for it does the steward.
kmmctl and libkmm are the installed ones. KMM_SERVICE tells the harness where the service's processes are
(its control group).
"""
import os
import re
import sys
import time

from service import BUILD, SOURCE, Service, wait_until


class Installed(Service):
    def __enter__(self):
        super().__enter__()
        self.systemctl("start", "kmmd.service")
        group = self.show("ControlGroup")
        # the hierarchy that systemd itself uses: its own, the unified one of a hybrid, the unified one
        self.group = self.shell(f"ls -d /sys/fs/cgroup/systemd{group} /sys/fs/cgroup{group} 2>/dev/null "
                                "| head -n 1", check=False)
        self.systemctl("stop", "kmmd.socket", "kmmd.service")
        self.enter("systemd-sysusers", "--inline", 'u tester - "An ordinary user" /tmp /bin/sh')
        self.enter("systemd-run", "--unit=steward", "--quiet", "python3", "-B",
                   os.path.join(SOURCE, "tests/system/steward.py"), self.conf)
        wait_until(lambda: self.enter("test", "-S", "/run/kmmd-steward.sock", check=False).returncode == 0,
                   "the steward listens")
        return self

    def environment(self):
        library = self.shell(f"find {self.prefix}/lib* -name libkmm.so.1 -o -name libkmm.so.0 | head -n 1")
        return {"KMMD": os.path.join(SOURCE, "tests/system/kmmd_service.py"), "KMM_REAL_KMMD": self.kmmd,
                "KMMCTL": self.kmmctl, "KMM_BUILDDIR": BUILD, "KMM_SRCDIR": SOURCE,
                "KMM_SERVICE": self.group, "LD_LIBRARY_PATH": os.path.dirname(library),
                "PYTHONDONTWRITEBYTECODE": "1", "CK_DEFAULT_TIMEOUT": "60",
                "CK_TIMEOUT_MULTIPLIER": "5"}

    def program(self, path, user=None, groups=(), env=None):
        """A test of the build tree (a program) or of the source tree (a script)."""
        name, kind = os.path.splitext(path)
        runner = {".py": ["python3"], ".sh": ["bash"]}.get(kind, [])
        where = SOURCE if runner else BUILD
        return self.run(*runner, os.path.join(where, path), check=False, user=user, groups=groups,
                        env={**self.environment(), **(env or {})},
                        options=[f"--working-directory={BUILD}", "--property=LimitNOFILE=infinity",
                                 "--property=LimitCORE=0"])


def counted(done):
    """Tests passed and failed, by the last line that says so."""
    found = re.findall(r"(\d+) passed, (\d+) failed", done.stdout + done.stderr)
    return tuple(map(int, found[-1])) if found else (0, 1)


def integration_tests():
    """All that tests.am names, from the Makefile: programs and scripts of tests/integration."""
    with open(os.path.join(BUILD, "Makefile"), encoding="utf-8") as f:
        text = f.read().replace("\\\n", " ")
    found = set()
    for variable in ("INTEGRATION_TESTS", "SCRIPT_TESTS", "KERNEL_TESTS"):
        line = re.search(rf"(?m)^{variable} = (.*)$", text)
        found |= {re.sub(r"\$\(EXEEXT\)$", "", w) for w in line.group(1).split()}
    return sorted(p for p in found if p.startswith(("tests/integration/", "tests/stress/", "tests/kernel/")))


def of_a_user(path):
    """What any program on such a machine does, but for some that are run as root so that both take about the
    same time. The rest looks into the daemon's process, becomes several users, or administers."""
    return re.match(r"tests/integration/test_(api_(?!caches|counters|debug|flush|gfp)|restart|compact|flush|numa"
                    r"|pipeline|wordcount|kmmctl_map)|tests/kernel/kernel_c$", path) is not None


def run_all(machine, paths, **how):
    """Each in turn; a line each on standard error, all that it said when it failed. Passed, failed."""
    passed = failed = 0
    for path in paths:
        begun = time.monotonic()
        done = machine.program(path, **how)
        n, bad = counted(done)
        if done.returncode != 0 and not bad:
            bad = 1
        print(f"{path}: {n} passed, {bad} failed, status {done.returncode}, "
              f"{time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)
        if bad:
            print(done.stdout[-6000:] + done.stderr[-6000:], file=sys.stderr, flush=True)
        passed, failed = passed + n, failed + bad
    return passed, failed

# SPDX-License-Identifier: MIT
"""The Debian packages: built, checked, installed in a booted machine, used as README's tutorial says,
upgraded under a client, removed, purged.

The tests are the steps of one story, in the order of their names. KMM_DEBS=FOLDER takes packages that
`make deb` has made before.
"""
import glob
import os
import re
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "integration")]
import kmmtest  # noqa: E402
import tutorial  # noqa: E402
from machine import Machine  # noqa: E402

SRC = os.path.abspath(os.environ.get("KMM_SRCDIR", "."))
BUILD = os.path.abspath(os.environ.get("KMM_BUILDDIR", "."))
PACKAGES = ("kmmctl", "kmmd", "libkmm-dev", "libkmm1")
README = os.path.join(SRC, "README.md")
DEBS = "/root/deb"

# A pool that is small and leaves the machine's huge pages to others.
SMALL = """[Service]
ExecStart=
ExecStart=/usr/sbin/kmmd --config /etc/kmmd/kmmd.conf --pool-size 64M --backing 4k
"""
# The steps from here on need those before them.
STORY = "test_20"
# What dpkg, apt and systemd remember about packages, and what is the machine's own.
BOOKS = r"^/(proc|sys|dev|tmp|home|root|var/(lib/dpkg|lib/apt|cache|log|tmp))/"


def output(*argv, **how):
    """What a command prints; its errors are in the exception's text."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          stdin=subprocess.DEVNULL, **how)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(argv)}: status {done.returncode}\n{done.stdout[-6000:]}")
    return done.stdout


def read(path):
    with open(os.path.join(SRC, path), encoding="utf-8") as f:
        return f.read()


class Packages(unittest.TestCase):
    broken = False

    @classmethod
    def setUpClass(cls):
        cls.folder = os.environ.get("KMM_DEBS")
        if not cls.folder:
            cls.folder = os.path.join(BUILD, "deb")
            env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
            output("make", "deb", cwd=BUILD, env={**env, "DEB_BUILD_OPTIONS": "noautodbgsym"})
        cls.deb = {p: glob.glob(f"{cls.folder}/{p}_*.deb") for p in PACKAGES}
        cls.machine = Machine(keep=["etc", "var"])
        cls.machine.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.machine.stop()

    def files(self, package):
        return [line.split()[5][1:] for line in output("dpkg-deb", "-c", self.deb[package][0]).splitlines()
                if not line.startswith("d")]

    def systemd(self, unit, what):
        return self.machine.shell(f"systemctl show -P {what} {unit}")

    def setUp(self):
        if self.broken:
            self.fail("a step before this one failed")

    def run(self, result=None):
        before = len(result.failures) + len(result.errors)
        super().run(result)
        if not self.broken and self.id().split(".")[-1] >= STORY and \
                len(result.failures) + len(result.errors) > before:
            type(self).broken = True
            print(self.machine.shell("journalctl -u kmmd -u kmmd.socket --no-hostname -n 40"),
                  file=sys.stderr)

    def ours(self):
        """Files and folders with our name in theirs."""
        found = self.machine.shell("find / /run -xdev -name '*kmm*' -prune 2>/dev/null")
        return {path for path in found.split("\n") if not re.search(BOOKS, path)}

    # ---- the packages themselves ----

    def test_10_four_packages(self):
        for p in PACKAGES:
            self.assertEqual(len(self.deb[p]), 1, p)

    def test_11_lintian(self):
        changes = glob.glob(self.folder + "/kmmd_*.changes")
        self.assertEqual(len(changes), 1)
        said = output("lintian", "--allow-root", "--fail-on", "error,warning", *changes)
        self.assertEqual(said, "")

    def test_12_one_version(self):
        version = re.search(r"AC_INIT\(\[kmmd\], \[(.*?)\]", read("configure.ac"))[1]
        self.assertEqual(re.match(r"kmmd \((.*?)\)", read("debian/changelog"))[1], version)

    def test_13_symbols_are_those_of_the_map(self):
        exported = re.findall(r"^\t(kmm_\w+);$", read("client/libkmm.map"), re.M)
        listed = re.findall(r"^ (kmm_\w+)@KMM_1\.0 ", read("debian/libkmm1.symbols"), re.M)
        self.assertEqual(sorted(listed), sorted(exported))

    def test_14_what_is_in_which(self):
        kmmd, kmmctl = self.files("kmmd"), self.files("kmmctl")
        library, devel = self.files("libkmm1"), self.files("libkmm-dev")
        for path in ("/usr/sbin/kmmd", "/etc/kmmd/kmmd.conf", "/lib/systemd/system/kmmd.service",
                     "/lib/systemd/system/kmmd.socket", "/usr/lib/sysusers.d/kmmd.conf",
                     "/usr/share/bash-completion/completions/kmmd", "/usr/share/man/man8/kmmd.8.gz",
                     "/usr/share/man/man5/kmmd.conf.5.gz"):
            self.assertIn(path, kmmd)
        self.assertTrue([f for f in kmmd if re.match(r"/usr/share/doc/kmmd/operator\.md(\.gz)?$", f)])
        for path in ("/usr/bin/kmmctl", "/usr/share/man/man1/kmmctl.1.gz",
                     "/usr/share/bash-completion/completions/kmmctl"):
            self.assertIn(path, kmmctl)
        self.assertFalse([f for f in library if "/libkmm.so.1" not in f and "/share/doc/" not in f])
        pages = {os.path.basename(p) for p in glob.glob(SRC + "/man/*.3")}
        self.assertLess({f"/usr/share/man/man3/{p}.gz" for p in pages}, set(devel))
        for name in ("pkgconfig/kmm.pc", "libkmm.so"):
            self.assertTrue([f for f in devel if f.endswith("/" + name) or f" {name}" in f], name)
        for name in glob.glob(SRC + "/client/include/kmm/*.h"):
            self.assertIn("/usr/include/kmm/" + os.path.basename(name), devel)
        conffiles = output("dpkg-deb", "-I", self.deb["kmmd"][0], "conffiles")
        self.assertEqual(conffiles.split(), ["/etc/kmmd/kmmd.conf"])

    def test_15_the_source_tree_is_left_alone(self):
        """And all that the packages are made with is distributed."""
        distributed = set(re.findall(r"debian/(\S+)", read("debian/debian.am"))) | {"debian.am"}
        there = {os.path.relpath(f, SRC + "/debian") for f in glob.glob(SRC + "/debian/**", recursive=True)
                 if os.path.isfile(f)}
        self.assertEqual(there, distributed)

    # ---- installed and used, by README ----

    def test_20_tutorial(self):
        m, found = self.machine, tutorial.blocks(README)
        self.assertEqual([b.commands.split("&& ")[-2].strip() for b in found if b.user == "build"],
                         ["make deb"])
        m.put("/etc/systemd/system/kmmd.service.d/small.conf", SMALL)
        # Images for containers start no service and leave out documentation, and test machines enable
        # none; here nothing is in the way of the packages.
        m.shell("rm -f /usr/sbin/policy-rc.d /etc/dpkg/dpkg.cfg.d/* /etc/systemd/system-preset/00-machine*")
        m.shell(f"id alice 2>/dev/null || useradd --shell /bin/bash alice; mkdir -p {DEBS} && "
                "install -d -o alice -g alice ~alice")
        for p in PACKAGES:
            with open(self.deb[p][0], "rb") as f:
                m.enter("sh", "-c", f"cat >{DEBS}/{os.path.basename(self.deb[p][0])}", stdin=f.read(),
                        text=False)
        type(self).before = self.ours()
        tutorial.follow(m, found, {"root": DEBS, "alice": "/home/alice"})

    def test_21_enabled_and_the_users_user(self):
        for unit in ("kmmd.service", "kmmd.socket"):
            self.assertEqual(self.systemd(unit, "UnitFileState"), "enabled")
            self.assertEqual(self.systemd(unit, "ActiveState"), "active")
        self.assertEqual(self.machine.shell(f"stat -c %U /proc/{self.systemd('kmmd', 'MainPID')}"), "kmm")
        self.assertEqual(self.machine.shell("stat -c '%a %G' /run/kmmd/kmmd.sock"), "660 kmm")

    def test_22_manual_pages_are_found(self):
        for page in ("kmmd.8", "kmmd.conf.5", "kmmctl.1", "libkmm.3", "kmm_adopt.3"):
            name, section = page.rsplit(".", 1)
            self.machine.shell(f"test -s /usr/share/man/man{section}/{name}.{section}.gz")

    def test_23_metrics_as_the_guide_says(self):
        m = self.machine
        shown = re.search(r"a port needs also\n\n((?:    .*\n)+)", read("doc/operator.md"))[1]
        m.shell("sed -i 's,^\\[metrics\\],&\\nlisten = 127.0.0.1:9464,' /etc/kmmd/kmmd.conf && "
                f"set -e; cd /usr/share/doc/kmmd/examples/monitoring; {shown}")
        served = m.shell("python3 -c 'from urllib.request import urlopen as o; "
                         'print(o("http://127.0.0.1:9464/metrics").read().decode())\'')
        self.assertRegex(served, r"(?m)^kmmd_\w+(\{.*\})? \d")

    # ---- upgrade ----

    def test_30_upgrade_under_a_client(self):
        """The daemon is another, the pool, its client and the administrator's configuration are not."""
        m = self.machine
        m.shell("echo '# of this machine' >>/etc/kmmd/kmmd.conf")
        m.run("systemd-run", "--unit=counter", "--uid=alice", "--property=SupplementaryGroups=kmm",
              "/home/alice/tally", "count")
        kmmtest.wait_until(lambda: "alice/tally" in m.shell("kmmctl names"), "a tally")
        before = {u: (self.systemd(u, "MainPID"), self.systemd(u, "ActiveEnterTimestampMonotonic"))
                  for u in ("kmmd.service", "counter.service", "kmmd.socket")}
        pool = re.search(r"start (\d+) of this pool", m.shell("kmmctl health"))
        self.upgrade("+1")
        health = m.shell("kmmctl health")
        self.assertEqual(int(re.search(r"start (\d+) of this pool", health)[1]), int(pool[1]) + 1)
        self.assertNotEqual(self.systemd("kmmd.service", "MainPID"), before["kmmd.service"][0])
        for unit in ("counter.service", "kmmd.socket"):
            self.assertEqual((self.systemd(unit, "MainPID"),
                              self.systemd(unit, "ActiveEnterTimestampMonotonic")), before[unit])
        first = self.counted()
        kmmtest.wait_until(lambda: self.counted() > first, "the tally to go on")
        self.assertEqual(m.shell("kmmctl fsck"), "clean")
        self.assertIn("# of this machine", m.shell("tail -n 1 /etc/kmmd/kmmd.conf"))

    def upgrade(self, suffix):
        with tempfile.TemporaryDirectory() as work:
            for p in PACKAGES:
                tree, deb = f"{work}/{p}", f"{work}/{p}_new.deb"
                output("dpkg-deb", "-R", self.deb[p][0], tree)
                with open(tree + "/DEBIAN/control", "r+", encoding="utf-8") as f:
                    text = f.read()
                    version = re.search(r"(?m)^Version: (.*)$", text)[1]
                    f.seek(0)
                    f.write(text.replace(f"Version: {version}", f"Version: {version}{suffix}")
                            .replace(f"(= {version})", f"(= {version}{suffix})"))
                    f.truncate()
                output("dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, deb)
                with open(deb, "rb") as f:
                    self.machine.enter("sh", "-c", f"cat >{DEBS}/{p}_new.deb", stdin=f.read(), text=False)
        self.machine.shell(f"apt-get install {DEBS}/*_new.deb </dev/null")

    def counted(self):
        said = self.machine.run("/home/alice/tally", user="alice", groups=["kmm"]).stdout
        return int(said.split()[-1])

    # ---- away ----

    def test_40_removed(self):
        m = self.machine
        m.shell("apt-get remove -y kmmd")
        self.assertEqual(self.systemd("kmmd.service", "ActiveState"), "inactive")
        self.assertEqual(m.shell("pgrep -x kmmd || true"), "")
        self.assertEqual(m.shell("ls /run/kmmd 2>/dev/null || true"), "")
        self.assertIn("# of this machine", m.shell("cat /etc/kmmd/kmmd.conf"))
        said = m.enter("kmmctl", "health", check=False)
        self.assertEqual(said.returncode, 3, said)
        m.shell("systemctl stop counter || true")

    def test_41_installed_again(self):
        self.machine.shell(f"apt-get install -y {DEBS}/kmmd_new.deb")
        self.assertEqual(self.systemd("kmmd.service", "ActiveState"), "active")
        self.assertIn("# of this machine", self.machine.shell("cat /etc/kmmd/kmmd.conf"))
        self.machine.shell("kmmctl health")

    def test_42_purged(self):
        self.machine.shell("apt-get purge -y kmmd kmmctl libkmm1 libkmm-dev")
        self.assertEqual(self.ours() - self.before, set())
        self.assertEqual(self.machine.shell("systemctl list-units --all --plain --no-legend 'kmmd*'"), "")


if __name__ == "__main__":
    kmmtest.main()

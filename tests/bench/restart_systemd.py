# SPDX-License-Identifier: MIT
"""restart_systemd.py BUILDDIR GRANTS: bench_restart with the installed service in a booted system."""
import os
import subprocess
import sys

BUILD = os.path.abspath(sys.argv[1])
os.environ["KMM_BUILDDIR"] = BUILD
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
os.environ["KMM_SRCDIR"] = os.path.abspath(SOURCE)
sys.path.insert(0, os.path.join(SOURCE, "tests/system"))
sys.dont_write_bytecode = True
# pylint: disable=wrong-import-position
from service import SOCKET, Service  # noqa: E402

ROUNDS = 100

subprocess.run(["make", "-s", "-C", BUILD, "tests/system/staging.stamp"], check=True, stdout=sys.stderr)
with Service() as m:
    m.configure(pool={"size": "1G", "backing": "auto"})
    m.systemctl("start", "kmmd.socket", "kmmd.service")
    done = m.enter(os.path.join(BUILD, "bench_restart"), SOCKET, sys.argv[2], str(ROUNDS), m.kmmctl,
                   "restart under systemd")
    print(done.stdout, end="")

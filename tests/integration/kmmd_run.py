# SPDX-License-Identifier: MIT
"""A daemon of one's own for tests written in Python, and kmmctl to look inside.

The programs are found through the environment: KMMD and KMMCTL, by default ./kmmd and ./kmmctl.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import kmmtest

KMMD = os.environ.get('KMMD', './kmmd')
KMMCTL = os.environ.get('KMMCTL', './kmmctl')
PATIENCE = 300  # seconds after which a daemon that does not serve is given up


class Daemon:
    """with Daemon('--pool-size', '64M', config="[pool]...") as d: d.ctl('zoneinfo')"""

    def __init__(self, *args, config=None):
        self.directory = tempfile.mkdtemp(prefix='kmmd-test.')
        self.socket = os.path.join(self.directory, 'sock')
        self.log = os.path.join(self.directory, 'log')
        self.args = [KMMD, '--socket', self.socket, *args]
        if config is not None:
            path = os.path.join(self.directory, 'config')
            with open(path, 'w') as f:
                f.write(config)
            self.args += ['--config', path]
        self.process = None

    def __enter__(self):
        with open(self.log, 'w') as log:
            self.process = subprocess.Popen(self.args, stderr=log, stdin=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE
        while self.run('health').returncode != 0:
            if self.process.poll() is not None or time.monotonic() > until:
                text = open(self.log).read()
                self.__exit__()
                raise RuntimeError(' '.join(self.args) + ' does not serve:\n' + text)
            time.sleep(0.02)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.status = status
        return False

    def pid(self):
        """Of the daemon, or of its supervisor."""
        group = os.environ.get('KMM_SERVICE')  # the installed service stands in for it
        return kmmtest.service_pid(group) if group else self.process.pid

    def run(self, *args):
        """kmmctl ARGS, whatever becomes of it."""
        return subprocess.run([KMMCTL, '--socket', self.socket, *args], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ctl(self, *args):
        """What kmmctl ARGS prints; it must succeed."""
        done = self.run(*args)
        if done.returncode != 0 or done.stderr:
            raise AssertionError('kmmctl %s: status %d, %s' % (' '.join(args), done.returncode,
                                                             done.stderr))
        return done.stdout

    def json(self, *args):
        return json.loads(self.ctl('--json', *args))


class Checks:
    """Counts what held and says what did not."""

    def __init__(self):
        self.passed = self.failed = 0

    def same(self, what, got, want):
        if got == want:
            self.passed += 1
            return
        self.failed += 1
        print('FAILED: %s: got %r, want %r' % (what, got, want))

    def true(self, what, condition, detail=''):
        if condition:
            self.passed += 1
            return
        self.failed += 1
        print('FAILED: %s %s' % (what, detail))

    def finish(self):
        print('%d passed, %d failed' % (self.passed, self.failed))
        sys.exit(1 if self.failed or not self.passed else 0)


def machine_memory(key):
    """A line of /proc/meminfo, as it is written there."""
    for line in open('/proc/meminfo'):
        if line.startswith(key + ':'):
            return int(line.split()[1])
    return 0


def memory_suffices(pool_bytes):
    """For a pool with --backing auto, and some room for everybody else."""
    huge = machine_memory('HugePages_Free') * machine_memory('Hugepagesize') * 1024
    return huge >= pool_bytes or machine_memory('MemAvailable') * 1024 >= pool_bytes * 5 // 4

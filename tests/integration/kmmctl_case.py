# SPDX-License-Identifier: MIT
"""What the tests of kmmctl's own tools share: a daemon with two peers, and a terminal to draw on."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import unittest

from kmmd_run import KMMCTL, Daemon
from kmmtest import wait_until
from peer_run import Peer

MIB = 1 << 20
POOL = 64 * MIB
FRAMES = POOL // 4096
BLOCK = 512


def daemon(*more):
    return Daemon('--pool-size', '64M', '--backing', '4k', *more)


def letters(text):
    """The letters of the rows of a map without colour."""
    return ''.join(re.findall(r'^0x[0-9a-f]{10} +(.*)$', text, re.M))


class Case(unittest.TestCase):
    """A daemon and two peers for each test; in the end nothing is left and fsck is content."""

    def start(self):
        return daemon()

    def setUp(self):
        self.d = self.start()
        self.d.__enter__()
        self.addCleanup(self.d.__exit__)
        self.a, self.b = Peer(self.d), Peer(self.d)
        self.addCleanup(self.b.__exit__)
        self.addCleanup(self.a.__exit__)

    def tearDown(self):
        done = self.d.run('fsck')
        self.assertEqual((done.returncode, done.stdout), (0, 'clean\n'))

    def page(self, pfn):
        return self.d.json('page', str(pfn))

    def steady(self, ask):
        """ask() twice the same: nothing of it changed meanwhile by itself (what lies on per-CPU lists
        or in depots goes back after a while), so that its parts fit each other."""
        answers = [None]

        def same():
            answers.append(ask())
            return answers[-1] == answers[-2]
        wait_until(same, 'reports stand still')
        return answers[-1]

    def refused(self, status, text, *args):
        done = self.d.run(*args)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(done.stdout, '')
        self.assertIn(text, done.stderr)


class Terminal:
    """kmmctl on a terminal of its own, as the session leader there."""

    def __init__(self, d, args, environment=None, lines=40, columns=150):
        self.master, self.slave = pty.openpty()
        self.resize(lines, columns, tell=False)
        self.before = termios.tcgetattr(self.slave)
        env = {k: v for k, v in os.environ.items()
               if k not in ('NO_COLOR', 'COLUMNS', 'LINES', 'TERM')}
        env.update(environment or {'TERM': 'xterm'})

        def take_terminal():
            # who runs the tests may ignore some, and what is ignored stays so
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen([KMMCTL, '--socket', d.socket, *args], env=env,
                                        stdin=self.slave, stdout=self.slave, stderr=self.slave,
                                        preexec_fn=take_terminal)
        self.said = ''
        self.status = None

    def resize(self, lines, columns, tell=True):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack('HHHH', lines, columns, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def read(self):
        """What it said within a moment; '' when nothing."""
        if not select.select([self.master], [], [], 0.05)[0]:
            return ''
        text = os.read(self.master, 65536).decode(errors='replace')
        self.said += text
        return text

    def until(self, pattern, start=0):
        """Reads until it has said so, from that place on; the place behind it."""
        found = None

        def there():
            nonlocal found
            self.read()
            found = re.search(pattern, self.said[start:])
            return found
        wait_until(there, 'kmmctl says %s, not only %r' % (pattern, self.said[start:][-2000:]))
        return start + found.end()

    def key(self, text):
        os.write(self.master, text.encode())

    def raw(self):
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def end(self):
        """Its exit status, or -signal, with all that it said read."""
        wait_until(lambda: self.read() == '' and self.process.poll() is not None, 'kmmctl ends')
        self.status = self.process.returncode
        return self.status

    def to_the_end(self):
        self.end()
        return self.said

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)
        return False

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kmmctl top: counters of what peers did, rates as their differences, order, batches, and the terminal
(a pty): keys, size, and that it is given back however the program ends.
"""
import json
import os
import re
import signal
import subprocess
import sys
import termios
import threading
import unittest

sys.dont_write_bytecode = True  # the source tree may be read-only

from kmmctl_case import Case, Terminal, daemon
from kmmd_run import KMMCTL
from kmmtest import PATIENCE, main, wait_until
from peer_run import GFP_HIGHMEM, GFP_KERNEL, GFP_MOVABLE, GFP_NOWAIT

ENTER, LEAVE = '\033[?1049h\033[?25l', '\033[?25h\033[?1049l'


class Top(Case):
    def test_numbers_and_rates(self):
        """Counters are exact; rates are their differences by the time between the frames."""
        start = self.frame()['sessions']
        with subprocess.Popen([KMMCTL, '--socket', self.d.socket, '--json', 'top', '-b', '--count',
                               '4', '--watch', '0.2'], stdout=subprocess.PIPE, text=True) as p:
            pfns = [self.a.must('ALLOC', GFP_KERNEL, 5) for _ in range(10)]
            for pfn in pfns[:4]:
                self.a.must('FREE', pfn, 5)
            cache = self.b.must('CACHE_CREATE', 192, 0, 0, text='dentry')
            self.b.must('OBJECT_HOARD', cache, GFP_NOWAIT, 500)
            documents = [json.loads(line) for line in p.stdout]
        self.assertEqual((p.returncode, len(documents)), (0, 4))
        for before, now in zip(documents, documents[1:]):
            for s in now['sessions']:
                was = [x for x in before['sessions'] if x['id'] == s['id']][0]
                for counter in ('calls', 'refused', 'frames_allocated', 'frames_freed', 'objects_in',
                                'objects_out'):
                    self.assertAlmostEqual(s[counter + '_per_second'] * now['seconds'],
                                           s[counter] - was[counter], places=3)
        now = {s['id']: s for s in self.frame()['sessions']}
        was = {s['id']: s for s in start}
        a, b = self.a.session, self.b.session
        self.assertEqual(now[a]['frames_allocated'] - was[a]['frames_allocated'], 320)
        self.assertEqual(now[a]['frames_freed'] - was[a]['frames_freed'], 128)
        self.assertEqual(now[a]['granted'], 6 * 32)
        self.assertGreaterEqual(now[b]['objects_in'] - now[b]['objects_out'], 500)
        self.assertEqual(now[b]['objects'], now[b]['objects_in'] - now[b]['objects_out'])
        self.assertGreater(now[a]['calls'], was[a]['calls'])

    def frame(self, *args):
        return self.d.json('top', '--once', '--watch', '0.1', *args)

    def test_head(self):
        self.a.must('ALLOC', GFP_KERNEL, 8)
        def ask():
            f = self.frame()
            return {k: f[k] for k in ('managed', 'free', 'available', 'parked', 'scarce', 'pressure')}, \
                self.d.json('meminfo')
        f, m = self.steady(ask)
        self.assertEqual((f['managed'] * 4, f['free'] * 4, f['available'] * 4),
                         (m['MemTotal'], m['MemFree'], m['MemAvailable']))
        self.assertEqual((f['parked'], f['scarce'], f['pressure']), (0, False, False))
        text = self.d.ctl('top', '--once', '--watch', '0.1')
        self.assertRegex(text, r'^kmmctl top: 2 sessions, 0 parked, 39 caches\npressure  none\n'
                               r'memory    .* managed, .* free, .* available, 1M granted, .*\n'
                               r'cached .*\na second .*\nsorted by mem\n\nID +PID +NAME')
        self.assertEqual(len(text.splitlines()), 8 + 2)

    def test_pressure(self):
        self.a.must('EXHAUST', GFP_NOWAIT | GFP_HIGHMEM | GFP_MOVABLE, 0)
        waiting = threading.Thread(target=self.b.must, args=('ALLOC', GFP_KERNEL, 8))
        waiting.start()
        wait_until(lambda: self.frame()['parked'] == 1, 'a request waits')
        f = self.frame()
        self.assertEqual((f['pressure'], f['scarce']), (True, True))
        self.assertEqual({s['id']: s['parked'] for s in f['sessions']},
                         {self.a.session: 0, self.b.session: 1})
        self.assertIn('pressure  requests wait for memory\n', self.d.ctl('top', '--once', '--watch',
                                                                          '0.1'))
        self.a.must('RELEASE', 20000)
        waiting.join()
        self.assertEqual(self.frame()['parked'], 0)

    def test_order(self):
        self.b.must('ALLOC', GFP_KERNEL, 6)
        for key, first in (('mem', self.b), ('id', self.a), ('name', self.a)):
            f = self.frame('--sort', key)
            self.assertEqual(f['sorted_by'], key)
            self.assertEqual(f['sessions'][0]['id'], first.session)
        for key in 'id pid mem cached objects calls alloc free obj-in obj-out refused parked name'.split():
            self.assertEqual(len(self.frame('--sort', key)['sessions']), 2)

    def test_batches(self):
        text = self.d.ctl('top', '-b', '--count', '3', '--watch', '0.1')
        self.assertEqual((text.count('kmmctl top: 2 sessions'), text.count('---\n')), (3, 2))
        self.assertNotIn('\033', text)
        # no terminal: one frame
        self.assertEqual(self.d.ctl('top', '--watch', '0.1').count('kmmctl top: '), 1)
        with subprocess.Popen([KMMCTL, '--socket', self.d.socket, 'top', '-b', '--watch', '0.1'],
                              stdout=subprocess.PIPE, text=True) as p:
            seen = ''
            while seen.count('kmmctl top: ') < 3:
                seen += p.stdout.readline()
            p.stdout.close()
            self.assertIn(p.wait(PATIENCE), (-signal.SIGPIPE, 1))

    def test_on_a_terminal(self):
        with Terminal(self.d, ['top', '--watch', '60']) as t:
            at = t.until(r'kmmctl top at \d\d:\d\d:\d\d: 2 sessions')
            at = t.until('sorted by mem; keys: ', at)
            at = t.until('peer', at)
            self.assertTrue(t.said.startswith(ENTER))
            self.assertTrue(t.raw())
            self.assertIn('known after the next sample', t.said)
            t.key('>')
            at = t.until('sorted by cached; keys', at)
            t.key('<<<')
            at = t.until('sorted by id; keys', at)
            t.key('R')
            at = t.until('sorted by id, reversed; keys', at)
            self.assertNotIn('a second  0 calls', t.said)
            t.key(' ')  # sample again: rates
            at = t.until(r'a second  \d+ calls', at)
            # cut to the screen, drawn again when that changes
            t.resize(5, 30)
            at = t.until('\033\\[H(?!.*sorted by)', at)
            t.resize(40, 150)
            at = t.until('sorted by id, reversed', at)
            # what matters most has room on 80 columns
            t.resize(24, 80)
            at = t.until('ID +PID +NAME +MEM +CALLS/s +ALLOC/s +FREE/s +PARKED', at)
            # two sessions, and a line for one
            t.resize(9, 80)
            t.key('j')
            at = t.until('sorted by id, reversed, row 2 on', at)
            t.key('\033[A')
            at = t.until('sorted by id, reversed; keys', at)
            t.key('\033[6~')
            at = t.until('row 2 on', at)
            t.key('\033[20~k')  # one that means nothing, and one that does
            t.until('sorted by id, reversed; keys', at)
            t.key('q')
            self.assertEqual(t.end(), 0)
            self.assertTrue(t.said.endswith(LEAVE))
            self.assertEqual(termios.tcgetattr(t.slave), t.before)

    def test_every_signal_gives_the_terminal_back(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT,
                       signal.SIGSEGV, signal.SIGABRT):
            with Terminal(self.d, ['top', '--watch', '60']) as t:
                t.until('sorted by mem')
                self.assertTrue(t.raw())
                if number == signal.SIGINT:
                    t.key('\x03')
                else:
                    t.process.send_signal(number)
                self.assertEqual(t.end(), -number)
                self.assertTrue(t.said.endswith(LEAVE), t.said[-100:])
                self.assertEqual(termios.tcgetattr(t.slave), t.before)

    def test_stopped_and_continued(self):
        with Terminal(self.d, ['top', '--watch', '60']) as t:
            at = t.until('sorted by mem')
            t.key('\x1a')
            _, status = os.waitpid(t.process.pid, os.WUNTRACED)
            self.assertTrue(os.WIFSTOPPED(status))
            at = t.until(re.escape(LEAVE), at)
            self.assertEqual(termios.tcgetattr(t.slave), t.before)
            t.process.send_signal(signal.SIGCONT)
            at = t.until(re.escape(ENTER), at)
            t.until('sorted by mem', at)
            self.assertTrue(t.raw())
            t.key('q')
            self.assertEqual(t.end(), 0)
            self.assertEqual(termios.tcgetattr(t.slave), t.before)


class Alone(unittest.TestCase):
    def test_a_daemon_that_goes_away(self):
        with daemon() as d:
            with Terminal(d, ['top', '--watch', '0.1']) as t:
                at = t.until('kmmctl top at .*: 0 sessions')
                with subprocess.Popen([KMMCTL, '--socket', d.socket, 'top', '-b', '--count',
                                       '1000000', '--watch', '0.1'], stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True) as batch:
                    batch.stdout.readline()
                    d.process.terminate()
                    d.process.wait()
                    at = t.until('q quits; else it is tried again', at)
                    batch.stdout.read()
                    self.assertEqual(batch.wait(PATIENCE), 3)
                with open(d.log, 'a', encoding='utf-8') as log:
                    d.process = subprocess.Popen(d.args, stderr=log, stdin=subprocess.DEVNULL)
                t.until(r'\d\d: 0 sessions, 0 parked', at)
                t.key('q')
                self.assertEqual(t.end(), 0)


if __name__ == '__main__':
    main()

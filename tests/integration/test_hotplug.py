#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kmmctl grow, offline and sections against a real daemon whose clients go on meanwhile.

What holds after every step: fsck is content; the sections' states add up to what the pool says that it
has; a section that is absent has no memory of the machine; and what peers hold is what they wrote.
Pages that move out of a section's way: test_compact.c.
"""
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import unittest

sys.dont_write_bytecode = True  # the source tree may be read-only

from kmmctl_case import MIB, Case
from kmmd_run import KMMCTL, Daemon
from kmmtest import main, wait_until
from peer_run import GFP_KERNEL, GFP_NOWAIT, NO_CACHE

SECTION = 4 * MIB
PAGES = SECTION // 4096
CONFIG = '[pool]\nsize = 64M\nmax_size = 96M\nbacking = %s\nhighmem = 16M\n'
SERVICE = bool(os.environ.get('KMM_SERVICE'))


class Sections(Case):
    BACKING = '4k'

    def start(self):
        return Daemon('--supervise', config=CONFIG % self.BACKING)

    def tearDown(self):
        self.sound()

    def sections(self):
        return self.d.json('sections')

    def state(self, section):
        return self.sections()[section]['state']

    def of(self, state, zone=None):
        return [s['section'] for s in self.sections()
                if s['state'] == state and zone in (None, s['zone'])]

    def pid(self):
        return self.d.json('health')['pid']

    def memory(self):
        """Bytes of each section's file, by the daemon's descriptors."""
        found = {}
        where = '/proc/%d/fd' % self.pid()
        for fd in os.listdir(where):
            path = os.path.join(where, fd)
            try:
                name = os.readlink(path)
            except FileNotFoundError:  # a connection's, which has ended
                continue
            if name.startswith('/memfd:kmm-s'):
                found[int(name.split()[0][len('/memfd:kmm-s'):])] = os.stat(path).st_blocks * 512
        return found

    def sound(self):
        done = self.d.run('fsck')
        self.assertEqual((done.returncode, done.stdout), (0, 'clean\n'))
        sections = self.sections()
        present = sum(s['state'] != 'absent' for s in sections)
        self.assertIn('pool: %d MiB in %d sections' % (present * SECTION // MIB, present),
                      self.d.ctl('health'))
        managed = sum(int(line.split()[1]) for line in self.d.ctl('zoneinfo').splitlines()
                      if line.split()[:1] == ['managed'])
        self.assertEqual(managed, PAGES * sum(s['state'] == 'online' for s in sections))
        if not SERVICE:
            for section, size in self.memory().items():
                absent = sections[section]['state'] == 'absent'
                self.assertEqual(size, 0 if absent else SECTION, 'section %d' % section)

    def says_no(self, pattern, *args):
        done = self.d.run(*args)
        self.assertEqual((done.returncode, done.stdout), (1, ''), done.stderr)
        self.assertRegex(done.stderr, pattern)

    def settle(self, *args):
        """What may be refused while something is on its way from one owner to the next."""
        wait_until(lambda: self.d.run(*args).returncode == 0, 'kmmctl %s' % ' '.join(args))


class Grow(Sections):
    def test_a_pool_has_room(self):
        s = self.sections()
        self.assertEqual(len(s), 96 // 4)
        self.assertEqual(len(self.of('absent')), 8)
        self.assertEqual({x['zone'] for x in s if x['state'] == 'absent'}, {'DMA32'})
        self.assertEqual(len(self.of('online', 'HighMem')), 4)
        settings = {x['section'] + '.' + x['key']: x for x in self.d.json('settings')}
        self.assertEqual(settings['pool.max_size']['value'], '96M')

    def test_it_comes_into_use(self):
        had = self.a.must('EXHAUST', GFP_NOWAIT, 5)
        got = self.d.json('grow', '10M')  # rounded up
        self.assertEqual((got['sections'], got['pages'], got['absent']), (3, 3 * PAGES, 5 * PAGES))
        more = self.b.must('EXHAUST', GFP_NOWAIT, 5)
        self.assertGreater(more, 3 * PAGES // 32 * 3 // 4)
        self.assertGreater(had, 0)
        self.assertEqual([x['epoch'] for x in self.sections() if x['state'] == 'online' and
                          x['used'] and x['epoch'] > 1], [2, 2, 2])
        self.b.must('RELEASE', more)

    def test_who_waits_gets_it(self):
        self.a.must('EXHAUST', GFP_NOWAIT, 0)
        self.b.must('TIMEOUT', 60000)
        got = []
        waiter = threading.Thread(target=lambda: got.append(self.b.do('ALLOC', GFP_KERNEL, 4)))
        waiter.start()
        wait_until(lambda: self.d.json('health') and any(
            s['parked'] for s in self.d.json('sessions')), 'a request waits')
        self.d.ctl('grow', '4M')
        waiter.join()
        self.assertGreaterEqual(got[0], 0)

    def test_all_or_nothing(self):
        self.says_no('room for 32 MiB more, in sections of 4 MiB', 'grow', '33M')
        self.assertEqual(len(self.of('absent')), 8)
        self.d.ctl('grow', '32M')
        self.says_no('all the memory that it has room for: .pool. max_size', 'grow', '1K')
        for wrong in ('0', '4X', 'much', '-1', '99999999999T'):
            self.assertEqual(self.d.run('grow', wrong).returncode, 2)
        self.assertEqual(self.d.run('grow').returncode, 2)

    @unittest.skipIf(SERVICE, 'limits a process that is not the test\'s')
    def test_no_memory_changes_nothing(self):
        """The limit on address space, set below what the daemon has, refuses every mapping; set in the midst
        of it, after some sections have come."""
        pid = self.pid()
        with open('/proc/%d/maps' % pid, encoding='ascii') as f:
            if re.search('lib[a-z]+san[.]so', f.read()):
                self.skipTest('sanitizers do not live with a limited address space')
        some = resource.prlimit(pid, resource.RLIMIT_AS)

        def limited(delay):
            def limit():
                time.sleep(delay)
                resource.prlimit(pid, resource.RLIMIT_AS, (MIB, some[1]))
            t = threading.Thread(target=limit)
            t.start()
            done = self.d.run('grow', '32M')
            t.join()
            resource.prlimit(pid, resource.RLIMIT_AS, some)
            self.sound()
            return done

        midst = False
        for attempt in range(200):
            done = limited(attempt % 40 * 0.0005)
            if done.returncode == 0:
                self.assertEqual(self.of('absent'), [])
                for section in self.of('online', 'DMA32')[-8:]:
                    self.settle('offline', str(section))
                continue
            # or there was no memory for the connection, which is closed then
            self.assertRegex(done.stderr, r'the machine has no memory for section \d+ \(\d of 8\), '
                             'somebody else took it: nothing was changed|cannot be looked up|the daemon is gone')
            self.assertEqual((self.pid(), len(self.of('absent'))), (pid, 8))
            midst = midst or re.search(r'\([2-8] of 8\)', done.stderr)
            if midst and attempt >= 40:
                break
        self.assertTrue(midst, 'it was refused after some sections had come')


class Offline(Sections):
    def test_free_memory_goes_and_comes(self):
        for section in (0, 5, 10):
            self.d.ctl('offline', str(section))
            self.assertEqual(self.state(section), 'absent')
            self.sound()
            self.says_no('section %d is out of service already' % section, 'offline', str(section))
        self.assertNotIn('00000000-', self.d.ctl('iomem'))
        self.d.ctl('grow', '12M')  # the lowest first
        self.assertEqual([self.state(s) for s in (0, 5, 10)], ['online'] * 3)
        self.assertIn('00000000-', self.d.ctl('iomem'))

    def test_contents_are_of_the_next_owner_alone(self):
        """The same file, mapped by the same process: what was written before is not there any more."""
        pfn = self.a.must('ALLOC', GFP_KERNEL, 5)
        section = pfn // PAGES
        self.a.must('FILL', pfn, 5, 7)
        self.assertEqual(self.a.must('CHECK', pfn, 5, 7), 1)
        self.a.must('FREE', pfn, 5)
        self.settle('offline', str(section))
        self.d.ctl('grow', '4M')
        for other in self.of('online'):  # so that its memory is what there is
            if other != section:
                self.settle('offline', str(other))
        held = []
        while pfn not in held:
            held.append(self.a.must('ALLOC', GFP_NOWAIT, 5))
        self.assertEqual(self.a.must('CHECK', pfn, 5, 7), 0)
        self.a.must('FILL', pfn, 5, 8)
        self.assertEqual(self.a.must('CHECK', pfn, 5, 8), 1)
        for p in held:
            self.a.must('FREE', p, 5)

    def test_what_is_held_stays_and_is_named(self):
        pfn = self.a.must('ALLOC', GFP_KERNEL, 3)
        section = pfn // PAGES
        self.a.must('FILL', pfn, 3, 1)
        self.says_no(r'8 of the 1024 pages of section %d are in use: 8 by session %d \(peer, process %d\); '
                     'it stays as it is' % (section, self.a.session, self.a.process.pid),
                     'offline', str(section))
        self.sound()
        self.assertEqual(self.a.must('CHECK', pfn, 3, 1), 1)
        self.a.must('FREE', pfn, 3)
        self.settle('offline', str(section))

    def test_objects_stay_and_are_named(self):
        place = self.a.must('OBJECT_ALLOC', 100, GFP_KERNEL, NO_CACHE)
        self.a.must('OBJECT_FILL', place, 100, 1)
        section = next(s['section'] for s in self.sections() if s['used'])
        self.says_no(r'pages of section %d are in use: \d+ by objects \(kmalloc-128; kmmctl leaks says whose\)'
                     % section, 'offline', str(section))
        self.assertEqual(self.a.must('OBJECT_CHECK', place, 100, 1), 1)

    def test_what_threads_cache_comes_back(self):
        self.a.must('CACHE', 0, 200)  # freed, cached by its thread
        self.a.must('OBJECT_CHURN', self.a.must('CACHE_CREATE', 256, 0, 0, 'churned'), 2000)
        used = [s['section'] for s in self.sections() if s['used'] and s['zone'] != 'HighMem']
        self.assertTrue(used)
        for section in used:
            self.settle('offline', str(section))

    def test_refusals(self):
        self.says_no('section 23 holds the pool.s own tables and must stay', 'offline', '23')
        self.says_no('there is no section 24; the pool has 0 to 23', 'offline', '24')
        for wrong in ('-1', 'x', '1.5'):
            self.assertEqual(self.d.run('offline', wrong).returncode, 2)
        self.assertEqual(self.d.run('offline').returncode, 2)

    def test_the_last_stays(self):
        self.a.must('CLOSE')
        self.b.must('CLOSE')
        for section in self.of('online')[1:]:
            self.settle('offline', str(section))
        self.says_no('section 0 is the last that has memory for anybody', 'offline', '0')
        self.d.ctl('grow', '64M')

    def test_a_section_by_its_number(self):
        high = self.of('online', 'HighMem')
        for section in high:
            got = self.d.json('offline', str(section))
        self.assertEqual(got['empty'], 'HighMem')
        self.assertEqual(self.d.json('offline', '5')['empty'], '')
        self.assertEqual(self.d.json('online', str(high[2]))['sections'], 1)
        self.assertEqual(self.of('online', 'HighMem'), [high[2]])
        self.says_no('section %d is none that has no memory' % high[2], 'online', str(high[2]))
        self.says_no('section 99 is none that has no memory', 'online', '99')

    def test_one_at_a_time(self):
        """Some of many at once are told so; whatever was done was done as a whole."""
        runs = [subprocess.Popen([KMMCTL, '--socket', self.d.socket, 'offline', str(s)],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                for s in range(8)]
        texts = [(r.communicate()[1], r.returncode) for r in runs]
        for section, (text, status) in enumerate(texts):
            self.assertEqual(self.state(section), 'online' if status else 'absent')
            if status:
                self.assertIn('sections are coming or going already', text)
        self.assertTrue(any(status == 0 for _, status in texts))


class Load(Sections):
    """Sections come and go under clients who allocate, write, check and free, and over the daemon's death."""

    def client(self, peer, stop, seed, wrong):
        rng = random.Random(seed)
        held = []
        while not stop.is_set() or held:
            if not stop.is_set() and len(held) < 60 and rng.random() < 0.6:
                order = rng.choice((0, 0, 0, 1, 3, 5))
                pfn = peer.do('ALLOC', GFP_NOWAIT, order)
                if pfn >= 0:
                    held.append((pfn, order, rng.randrange(1 << 30)))
                    peer.must('FILL', *held[-1])
            elif held:
                pfn, order, seed = held.pop(rng.randrange(len(held)))
                if peer.must('CHECK', pfn, order, seed) != 1:
                    wrong.append(pfn)
                peer.must('FREE', pfn, order)

    def load(self, rounds, each):
        stop, wrong = threading.Event(), []
        clients = [threading.Thread(target=self.client, args=(p, stop, i, wrong))
                   for i, p in enumerate((self.a, self.b))]
        for c in clients:
            c.start()
        try:
            for i in range(rounds):
                each(i)
        finally:
            stop.set()
            for c in clients:
                c.join()
        self.assertEqual(wrong, [])

    def test_under_load(self):
        rng, went = random.Random(1), [0]

        def each(_):
            if rng.random() < 0.5:
                done = self.d.run('offline', str(rng.randrange(18)))
                went[0] += done.returncode == 0
            else:
                done = self.d.run('grow', '4M')
            self.assertIn(done.returncode, (0, 1), done.stderr)
        self.load(120, each)
        self.assertGreater(went[0], 0)

    @unittest.skipIf(SERVICE, 'test_service_kills.py kills the service')
    def test_the_daemon_dies_meanwhile(self):
        rng = random.Random(2)

        def each(i):
            command = ('grow', '8M') if i % 2 else ('offline', str(rng.randrange(18)))
            pid = self.pid()
            run = subprocess.Popen([KMMCTL, '--socket', self.d.socket, *command],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.random() * 0.02)
            os.kill(pid, signal.SIGKILL)
            run.wait()
            wait_until(lambda: self.d.run('health').returncode == 0, 'it serves again')
            self.sound()
        self.load(40, each)

    def test_a_restart_keeps_it(self):
        self.d.ctl('offline', '2')
        self.d.ctl('grow', '12M')
        self.d.ctl('offline', '6')
        high = self.of('online', 'HighMem')[1]
        self.d.ctl('offline', str(high))
        before = self.sections()
        if SERVICE:
            return
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.d.run('health').returncode == 0 and self.pid() != pid, 'it serves again')
        self.assertEqual(self.sections(), before)
        self.d.ctl('grow', '8M')
        self.assertEqual((self.state(6), self.state(2)), ('online', 'online'))


class Huge(Sections):
    """The same on reserved huge pages, which go back to the machine's pool and come from there."""
    BACKING = 'hugetlb'

    @staticmethod
    def free():
        with open('/proc/meminfo', encoding='ascii') as f:
            return next(int(line.split()[1]) for line in f if line.startswith('HugePages_Free'))

    def test_huge_pages_go_and_come(self):
        pfn = self.a.must('ALLOC', GFP_KERNEL, 9)
        self.a.must('FILL', pfn, 9, 3)
        self.assertEqual(self.sections()[pfn // PAGES]['backing'], 'hugetlb-2M')
        empty = [s for s in self.of('online', 'DMA32') if s != pfn // PAGES][:3]
        for section in empty:
            before = self.free()
            self.settle('offline', str(section))
            self.assertEqual(self.free(), before + 2)
        before = self.free()
        self.d.ctl('grow', '24M')
        self.assertEqual(self.free(), before - 12)
        self.assertEqual(self.a.must('CHECK', pfn, 9, 3), 1)
        self.a.must('FREE', pfn, 9)


class Machine(unittest.TestCase):
    """A pool that has more room than the machine has memory."""

    def test_more_than_the_machine_has(self):
        pages = Huge.free() + 64
        config = '[pool]\nsize = 64M\nmax_size = %dM\nbacking = hugetlb\nsection_size = 32M\n'
        with Daemon('--supervise', config=config % (64 + -(-pages * 2 // 32) * 32)) as d:
            free = Huge.free()
            done = d.run('grow', '%dM' % (pages * 2))
            self.assertEqual((done.returncode, done.stdout), (1, ''))
            self.assertRegex(done.stderr, r'huge pages need \d+ pages of 2 MiB, %d are free' % free)
            self.assertEqual(Huge.free(), free)


if __name__ == '__main__':
    main()

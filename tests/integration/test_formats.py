#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kmmctl against a real daemon: the shape of every report, JSON, --watch, exit statuses; and
against a false daemon that refuses, lies and hangs up.

Sums tie the reports together: blocks by order make up the free frames, blocks by type make up the
blocks by order, meminfo, vmstat and iomem agree with zoneinfo. Shapes tie them to a Linux machine's
files (tests/data): with the values taken away, the lines are the same, in the same order.
"""
import json
import os
import pty
import re
import signal
import socket
import struct
import shutil
import subprocess
import sys
import threading

sys.dont_write_bytecode = True  # the source tree may be read-only

import linux_formats
from kmmd_run import Checks, Daemon, KMMCTL

REPORTS = ['zoneinfo', 'buddyinfo', 'pagetypeinfo', 'slabinfo', 'vmallocinfo', 'iomem', 'meminfo',
           'vmstat', 'sessions', 'leaks', 'names', 'health', 'methods', 'fsck', 'drop-caches']
REQUEST, REPLY, ITEM = 1, 2, 3
HELLO, ALLOC_PAGES, LIST_SESSIONS, FSCK = 1, 3, 35, 64
REFUSED = 7
NOBODY = 65534

# ---- the wire, as far as these tests need it ----


def frame(call, code, kind, body=b''):
    return struct.pack('<IIHBBHHQ', len(body), call, code, kind, 0, 0, 0, 0) + body


def number(field, value):
    out = bytes([field << 3])
    while value > 127:
        out += bytes([value & 0x7f | 0x80])
        value >>= 7
    return out + bytes([value])


def text(field, value):
    return bytes([field << 3 | 2, len(value)]) + value


def receive(s):
    """(call, code, kind, body), None at the end"""
    data = b''
    while len(data) < 24 or len(data) < 24 + struct.unpack_from('<I', data)[0]:
        more = s.recv(65536)
        if not more:
            return None
        data += more
    length, call, code, kind = struct.unpack_from('<IIHB', data)
    return call, code, kind, data[24:24 + length]


HOLDER = '''
import socket, struct, sys
sys.path.insert(0, %r)
from test_formats import frame, number, text, receive, REQUEST, HELLO, ALLOC_PAGES
s = socket.socket(socket.AF_UNIX)
s.connect(%r)
s.sendall(frame(1, HELLO, REQUEST, number(1, 1) + text(3, b"format-test")))
hello = receive(s)
s.sendall(frame(2, ALLOC_PAGES, REQUEST, number(1, 0xcc0) + number(2, 3)))
block = receive(s)
print(hello[1], block[1], flush=True)
sys.stdin.read()
'''


class Holder:
    """A process with a session and an order 3 block on offer."""

    def __init__(self, d):
        code = HOLDER % (os.path.dirname(os.path.abspath(__file__)), d.socket)
        self.process = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.answers = self.process.stdout.readline().split()

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()


# ---- reports of a real daemon ----


def check_zone_reports(c, d):
    zones = linux_formats.zoneinfo(d.ctl('zoneinfo'))
    buddy = linux_formats.buddyinfo(d.ctl('buddyinfo'))
    free, blocks = linux_formats.pagetypeinfo(d.ctl('pagetypeinfo'))
    populated = {(z['node'], z['name']): z for z in zones if z['populated']}

    c.same('zones of buddyinfo', list(buddy), list(populated))
    c.same('zones of pagetypeinfo', list(blocks), list(populated))
    c.same('rows of pagetypeinfo', list(free),
           [(*zone, kind) for zone in populated for kind in linux_formats.TYPES])
    for zone, z in populated.items():
        where = 'node %d, %s' % zone
        c.same(where + ': blocks make up the free frames',
               sum(n << order for order, n in enumerate(buddy[zone])), z['free'])
        c.same(where + ': types make up the blocks',
               [sum(free[(*zone, kind)][o] for kind in linux_formats.TYPES)
                for o in range(linux_formats.ORDERS)], buddy[zone])
        c.true(where + ': page blocks cover the zone',
               sum(blocks[zone]) * 512 >= z['managed'], blocks[zone])
    return zones


def saved(name):
    srcdir = os.environ.get('KMM_SRCDIR', '.')
    with open(os.path.join(srcdir, 'tests', 'data', name)) as f:
        return f.read()


def with_lines(labels, *more):
    """The labels with others behind: more is (behind which, [labels])."""
    labels = list(labels)
    for behind, what in more:
        at = labels.index(behind) + 1
        labels[at:at] = what
    return labels


HIGH_MEMORY = ('Mlocked', ['HighTotal', 'HighFree', 'LowTotal', 'LowFree'])
HIGH_EVENTS = [('pgalloc_normal', ['pgalloc_high']), ('allocstall_normal', ['allocstall_high']),
               ('pgskip_normal', ['pgskip_high'])]


def sum_of(zones, key, *names):
    return sum(z[key] for z in zones if not names or z['name'] in names)


def check_memory_reports(c, d, zones, pool_bytes):
    memory = linux_formats.meminfo(d.ctl('meminfo'))
    iomem = linux_formats.iomem(d.ctl('iomem'))
    slabs = linux_formats.slabinfo(d.ctl('slabinfo'))
    high = ('HighMem', 'Movable')

    c.same('labels of meminfo', list(memory),
           with_lines(linux_formats.meminfo(saved('meminfo')), HIGH_MEMORY))
    c.same('MemTotal', memory['MemTotal'], 4 * sum_of(zones, 'managed'))
    c.same('MemFree', memory['MemFree'], 4 * sum_of(zones, 'free'))
    c.same('HighTotal, HighFree', (memory['HighTotal'], memory['HighFree']),
           (4 * sum_of(zones, 'managed', *high), 4 * sum_of(zones, 'free', *high)))
    c.true('there is high memory', memory['HighTotal'])
    c.same('high and low', (memory['HighTotal'] + memory['LowTotal'],
                            memory['HighFree'] + memory['LowFree']),
           (memory['MemTotal'], memory['MemFree']))
    c.true('MemAvailable', 0 < memory['MemAvailable'] <= memory['MemFree'])
    maps = ['DirectMap4k', 'DirectMap2M', 'DirectMap1G']
    c.same('DirectMap', [memory[k] for k in maps],
           [pool_bytes // 1024 - 4 * sum_of(zones, 'present', *high), 0, 0])
    c.same('Slab', memory['Slab'], 4 * sum(x['num_slabs'] * x['pagesperslab'] for x in slabs))
    c.same('Slab is the sum of its parts', memory['Slab'],
           memory['SReclaimable'] + memory['SUnreclaim'])
    c.same('CommitLimit', memory['CommitLimit'], memory['MemTotal'])
    c.same('Committed_AS', memory['Committed_AS'], memory['Slab'])
    c.same('constants', (memory['VmallocTotal'], memory['Hugepagesize']),
           (((1 << 47) - 4096) // 1024, 2048))
    known = ['MemTotal', 'MemFree', 'MemAvailable', 'Slab', 'SReclaimable', 'SUnreclaim',
             'KReclaimable', 'CommitLimit', 'Committed_AS', 'VmallocTotal', 'Hugepagesize',
             *HIGH_MEMORY[1], *maps]
    c.same('what a pool does not have', {k: v for k, v in memory.items() if v and k not in known},
           {})
    c.true('iomem begins at 0', iomem and iomem[0][1] == 0)
    c.true('the second line of iomem is not indented', len(iomem) > 1 and iomem[1][0] == 0)
    c.same('iomem ends with the pool', max(end for _, _, end, _ in iomem), pool_bytes - 1)
    top = [(start, end) for depth, start, end, _ in iomem if depth == 0]
    c.same('iomem has no gap', [b[0] - a[1] for a, b in zip(top, top[1:])], [1] * (len(top) - 1))
    c.same('iomem: zones that are not in the direct map',
           [(start, end - start + 1) for depth, start, end, name in iomem
            if depth == 1 and name in high],
           [(4096 * z['start_pfn'], 4096 * z['spanned']) for z in zones
            if z['name'] in high and z['populated']])
    c.true('iomem: the memory map', any('mem_map' in name for _, _, _, name in iomem), iomem)


def check_vmstat(c, d, zones):
    stat = linux_formats.vmstat(d.ctl('vmstat'))
    nodes = [z['node_stats'] for z in zones if z['node_stats']]

    c.same('names of vmstat', list(stat), with_lines(linux_formats.vmstat(saved('vmstat')),
                                                     *HIGH_EVENTS))
    c.same('lines of vmstat', len(stat), 195)
    for key in zones[0]['stats']:
        c.same('vmstat: %s is the sum of the zones' % key, stat[key],
               sum(z['stats'][key] for z in zones if z['populated']))
    for key in nodes[0]:
        c.same('vmstat: %s is the sum of the nodes' % key, stat[key], sum(n[key] for n in nodes))
    c.same('JSON vmstat', list(d.json('vmstat')), list(stat))
    c.same('no areas yet', (d.ctl('vmallocinfo'), d.json('vmallocinfo')), ('', []))


def check_shapes(c):
    """Without high memory and with as many CPUs as the machine of the saved files has."""
    with Daemon('--pool-size', '64M', '--backing', '4k', '--reactors', '2',
                config='[pool]\nhighmem = 0\n') as d:
        for report in ('meminfo', 'vmstat'):
            c.same('%s: the same lines' % report, linux_formats.shapes(d.ctl(report)),
                   linux_formats.shapes(saved(report)))
        for report in ('zoneinfo', 'buddyinfo', 'pagetypeinfo'):
            c.same('%s: the same lines for a zone' % report,
                   linux_formats.zone_shapes(d.ctl(report)),
                   linux_formats.zone_shapes(saved(report)))
        c.same('slabinfo: the same lines', linux_formats.table_shapes(d.ctl('slabinfo')),
               linux_formats.table_shapes(saved('slabinfo')))

        def ranges(text):
            return {re.sub('[0-9a-f]{8,}', '#', line.split(' : ')[0])
                    for line in text.rstrip('\n').split('\n')}
        c.true('iomem: the same lines', ranges(d.ctl('iomem')) <= ranges(saved('iomem')))


def check_json(c, d):
    for report in REPORTS:
        got = d.ctl('--json', report)
        c.true('%s as JSON' % report, json.loads(got) is not None)
    zones = linux_formats.zoneinfo(d.ctl('zoneinfo'))
    got = d.json('zoneinfo')
    c.same('JSON zones', [(z['node'], z['zone'], z['managed'], z['min'], z['protection'])
                          for z in got],
           [(z['node'], z['name'], z['managed'], z['min'], z['protection']) for z in zones])
    c.same('JSON meminfo', list(d.json('meminfo')), list(linux_formats.meminfo(d.ctl('meminfo'))))
    c.same('JSON health: pid', d.json('health')['pid'], d.pid())
    c.same('JSON fsck', d.json('fsck'), {'findings': []})


def check_health(c, d):
    lines = d.ctl('health').split('\n')
    for word in ('status ', 'daemon ', 'BACKING ', 'ADVICE '):
        c.same('health: lines with ' + word, len([x for x in lines if x.startswith(word)]), 1)
    c.true('health: what backs the pool', 'in pages of 4K: 64M, of 2M: 0, of 1G: 0' in lines[3],
           lines)


def check_methods(c, d):
    names = [m['name'] for m in d.json('methods')]
    for name in ('kmm.v1.Allocator/Hello', 'kmm.v1.Allocator/AllocPages',
                 'kmm.v1.Inspector/ListZones', 'kmm.v1.Admin/Fsck', 'kmm.v1.Health/Check'):
        c.true('methods lists ' + name, name in names)
    c.true('a schema', re.search(r'\bgfp\b', d.ctl('methods', 'kmm.v1.Allocator/AllocPages')))
    c.same('an unknown method', d.run('methods', 'kmm.v1.Nothing/At').returncode, 1)


def check_sessions(c, d):
    before = sum(z['free'] for z in d.json('zoneinfo'))
    c.same('no session', d.json('sessions'), [])
    holder = Holder(d)
    c.same('a session and a block', holder.answers, ['0', '0'])
    sessions = d.json('sessions')
    c.same('one session', [s['name'] for s in sessions], ['format-test'])
    one = sessions[0]
    c.same('its process', (one['pid'], one['uid'], one['state']),
           (holder.process.pid, os.getuid(), 'live'))
    table = d.ctl('sessions').rstrip('\n').split('\n')
    c.same('table of one', len(table), 2)
    c.same('columns', table[0].split()[0] + table[1].split()[0], 'ID%d' % one['id'])
    c.true('columns are aligned', table[0].index('NAME') == table[1].index('format-test'), table)
    full = d.json('session', str(one['id']))
    c.same('what it was granted', (full['granted'], full['charged']), (8, 8))
    c.true('session in full', re.search(r'^granted +8 frames \(32K\)$',
                                        d.ctl('session', str(one['id'])), re.M))
    c.true('frames are taken', sum(z['free'] for z in d.json('zoneinfo')) <= before - 8)
    unknown = d.run('session', '4095')
    c.same('an unknown session', (unknown.returncode, unknown.stdout), (1, ''))
    c.true('why', unknown.stderr.startswith('kmmctl: '), unknown.stderr)

    c.same('kill', d.ctl('kill', str(one['id'])), 'session %d killed\n' % one['id'])
    c.same('it was killed', holder.process.wait(), -signal.SIGKILL)
    holder.end()
    while d.json('sessions'):
        pass
    d.ctl('drop-caches')
    c.same('its frames are free again', sum(z['free'] for z in d.json('zoneinfo')), before)
    c.same('fsck', d.ctl('fsck'), 'clean\n')


def read_until(fd, pattern):
    got = b''
    while not re.search(pattern, got, re.S):
        more = os.read(fd, 65536)
        if not more:
            break
        got += more
    return got.decode()


def check_watch(c, d):
    watch = subprocess.Popen([KMMCTL, '--socket', d.socket, '--watch', '0.1', 'buddyinfo'],
                             stdout=subprocess.PIPE)
    got = read_until(watch.stdout.fileno(), rb'---\n.*---\n')
    watch.kill()
    watch.wait()
    watch.stdout.close()
    for part in got.split('---\n')[:2]:
        c.true('a report each time', linux_formats.buddyinfo(part))
    c.true('no escapes in a pipe', '\033' not in got)

    ours, theirs = pty.openpty()
    watch = subprocess.Popen([KMMCTL, '--socket', d.socket, '--watch', '0.1', 'fsck'],
                             stdout=theirs)
    os.close(theirs)
    got = read_until(ours, rb'clean.*clean')
    watch.kill()
    watch.wait()
    os.close(ours)
    c.same('the screen is cleared each time', len(re.findall('\033\\[2J[^\n]*clean', got)), 2)

    watch = subprocess.Popen([KMMCTL, '--socket', d.socket, '--watch', '0.1', '--json', 'health'],
                             stdout=subprocess.PIPE, text=True)
    c.same('a line of JSON each time', [json.loads(watch.stdout.readline())['pid']
                                        for _ in range(2)], [d.pid()] * 2)
    watch.kill()
    watch.wait()
    watch.stdout.close()


def check_refusals(c, d):
    for args, status in [(['zoneinfo', '--domain', 'nowhere'], 1), (['kill', '4095'], 1),
                         (['slabinfo', '--domain', 'nowhere'], 1), (['shrink', 'nobody'], 1),
                         (['leaks', '--domain', 'nowhere'], 1)]:
        done = d.run(*args)
        c.same('%s: status' % args, (done.returncode, done.stdout), (status, ''))
        c.true('%s: a reason' % args, len(done.stderr) > len('kmmctl: \n'), done.stderr)
    # of the reports, one where nothing changes between the two
    c.same('the default domain by its name', d.ctl('iomem', '--domain', 'default'),
           d.ctl('iomem'))


def check_restart(c):
    """--watch outlives the daemon that it watches."""
    with Daemon('--pool-size', '64M', '--backing', '4k', '--reactors', '1', '--supervise') as d:
        first = d.json('health')['pid']
        c.true('the daemon is not its supervisor', first != d.process.pid)
        watch = subprocess.Popen([KMMCTL, '--socket', d.socket, '--watch', '0.1', '--json',
                                  'health'], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                 text=True)
        c.same('before', json.loads(watch.stdout.readline())['pid'], first)
        os.kill(first, signal.SIGKILL)
        for line in watch.stdout:
            second = json.loads(line)
            if second['pid'] != first:
                break
        c.same('the second start of the same pool', second['epoch'], 2)
        watch.kill()
        watch.wait()
        watch.stdout.close()
        c.same('fsck after the restart', d.ctl('fsck'), 'clean\n')
    c.same('the supervisor stopped cleanly', d.status, 0)


def check_strangers(c):
    """A user who is no admin sees no addresses and may not change anything."""
    if os.getuid() != 0:
        return

    def drop():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    d = Daemon('--pool-size', '64M', '--backing', '4k', '--reactors', '1',
               config='[daemon]\nsocket_mode = 0666\n')
    os.chmod(d.directory, 0o755)
    kmmctl = shutil.copy(KMMCTL, d.directory)  # where others may execute it, wherever the build is
    with d:
        def run(*args):
            return subprocess.run([kmmctl, '--socket', d.socket, *args], preexec_fn=drop,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        iomem = run('iomem')
        c.same('iomem of a stranger', iomem.returncode, 0)
        c.same('it has no addresses', {x[1:3] for x in linux_formats.iomem(iomem.stdout)}, {(0, 0)})
        for args in (['fsck'], ['drop-caches'], ['kill', '1'], ['shrink', 'kmalloc-64']):
            done = run(*args)
            c.same('%s of a stranger' % args[0], (done.returncode, done.stdout), (1, ''))
            c.true('why', done.stderr, done.stderr)


# ---- the command line ----


def kmmctl(*args, **env):
    return subprocess.run([KMMCTL, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env={**os.environ, **env})


def check_command_line(c):
    for args in ([], ['nonsense'], ['zoneinfo', '1'], ['session'], ['session', '0'],
                 ['session', '1', '2'], ['kill', 'x'], ['shrink'], ['shrink', ''],
                 ['shrink', 'x' * 64], ['slabinfo', 'kmalloc-8'], ['--watch', '0', 'zoneinfo'],
                 ['--watch', 'nan', 'zoneinfo'], ['--watch', '1', 'kill', '1'], ['--bogus'],
                 ['--domain', 'x' * 64, 'zoneinfo'], ['--domain', '', 'zoneinfo'], ['--socket']):
        done = kmmctl(*args)
        c.same('usage: %s' % args, (done.returncode, done.stdout), (2, ''))
        c.true('usage: %s: a reason' % args, done.stderr)
    c.true('--help', 'pagetypeinfo' in kmmctl('--help').stdout)
    c.true('--version', re.fullmatch(r'kmmctl \d+\.\d+\.\d+\n', kmmctl('--version').stdout))
    for args, env in ((['--socket', '/nonexistent/sock'], {}),
                      ([], {'KMM_ADDRESS': '/nonexistent/s'})):
        done = kmmctl(*args, 'health', **env)
        c.same('no daemon', (done.returncode, done.stdout), (3, ''))
        c.true('no daemon: where', '/nonexistent/s' in done.stderr, done.stderr)
    c.same('a path too long', kmmctl('--socket', '/' + 'x' * 120, 'health').returncode, 1)


# ---- a false daemon ----


class FalseDaemon:
    """Answers a connection's Hello and one call more, then hangs up. `script` is a function of
    (method, call) that gives the bytes to send, or None to hang up at once."""

    def __init__(self, directory, script):
        self.path = os.path.join(directory, 'false')
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.script = script
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        s, _ = self.listener.accept()
        with s:
            for _ in range(2):
                request = receive(s)
                answer = request and self.script(request[1], request[0])
                if not answer:
                    return
                s.sendall(answer)

    def run(self, *args):
        done = subprocess.run([KMMCTL, '--socket', self.path, *args], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.thread.join()
        self.listener.close()
        os.unlink(self.path)
        return done


def after_hello(answer):
    return lambda method, call: (frame(call, 0, REPLY) if method == HELLO else answer(call))


def check_false_daemon(c, directory):
    error = number(1, 13) + text(2, b'only for members of the group kmm')
    item = number(1, 7) + text(2, b'a\x1b[2Jb')
    cases = [
        ('refusal at hello', lambda m, call: frame(call, REFUSED, REPLY, error), 1, '',
         'only for members of the group kmm'),
        ('refusal later', after_hello(lambda call: frame(call, REFUSED, REPLY, error)), 1, '',
         'only for members of the group kmm'),
        ('refusal without a text', after_hello(lambda call: frame(call, REFUSED, REPLY)), 1, '',
         'PERMISSION_DENIED'),
        ('hang-up at hello', lambda m, call: None, 3, '', 'closed the connection'),
        ('hang-up later', after_hello(lambda call: None), 3, '', 'closed the connection'),
        ('hang-up within a stream', after_hello(
            lambda call: frame(call, 0, ITEM, item) + b'\0\0'), 3, '', 'closed the connection'),
        ('a header of noise', after_hello(lambda call: b'\xa5' * 24), 1, '', 'makes no sense'),
        ('a body too long', after_hello(
            lambda call: struct.pack('<IIHBBHHQ', 1 << 20, call, 0, REPLY, 0, 0, 0, 0)), 1, '',
         'makes no sense'),
        ('a body of noise', after_hello(lambda call: frame(call, 0, ITEM, b'\xff' * 9)), 1, '',
         'decode'),
        ('another call', after_hello(lambda call: frame(call + 1, 0, REPLY)), 1, '', 'call'),
        ('a request', after_hello(lambda call: frame(call, 0, REQUEST)), 1, '', 'kind 1'),
        ('a text too long', after_hello(
            lambda call: frame(call, 0, ITEM, number(1, 7) + text(2, b'x' * 100))), 1, '',
         'decode'),
        ('a name with an escape', after_hello(
            lambda call: frame(call, 0, ITEM, item) + frame(call, 0, REPLY)), 0, 'a?[2Jb', ''),
    ]
    for what, script, status, out, why in cases:
        done = FalseDaemon(directory, script).run('sessions')
        c.same('%s: status' % what, done.returncode, status)
        c.true('%s: output' % what, out in done.stdout if out else done.stdout == '', done.stdout)
        c.true('%s: reason' % what, why in done.stderr if why else done.stderr == '', done.stderr)

    finding = after_hello(lambda call: frame(call, 0, ITEM, text(1, b'frame 7 is free twice')) +
                          frame(call, 0, REPLY))
    done = FalseDaemon(directory, finding).run('fsck')
    c.same('fsck with a finding', (done.returncode, done.stdout),
           (1, 'frame 7 is free twice\n1 finding\n'))
    done = FalseDaemon(directory, finding).run('fsck', '--json')
    c.same('fsck with a finding, JSON', (done.returncode, json.loads(done.stdout)),
           (1, {'findings': ['frame 7 is free twice']}))
    row = (text(2, b'a\nb') + number(4, 64) + number(8, 40) + number(9, 64) + number(10, 3) +
           number(11, 64) + number(12, 1) + number(13, 1))
    caches = after_hello(lambda call: frame(call, 0, ITEM, row) + frame(call, 0, REPLY))
    done = FalseDaemon(directory, caches).run('slabinfo')
    c.same('slabinfo of a daemon that lies', (done.returncode, done.stdout.split('\n')[2:]),
           (0, ['a?b                    3     64     64   64    0 : tunables    0    0    0 '
                ': slabdata      1      1      0', '']))
    leak = number(1, 7) + text(2, b'a\x1b[2Jb') + number(7, 5) + number(8, 320)
    leaks = after_hello(lambda call: frame(call, 0, ITEM, leak) + frame(call, 0, REPLY))
    done = FalseDaemon(directory, leaks).run('leaks')
    c.true('leaks with an escape', '(page blocks)        5     320  a?[2Jb\n' in done.stdout,
           done.stdout)
    shrunk = after_hello(lambda call: frame(call, 0, REPLY, number(1, 3)))
    done = FalseDaemon(directory, shrunk).run('shrink', 'message')
    c.same('shrink', (done.returncode, done.stdout), (0, 'given back: 12K by message, 0 objects to its slabs\n'))
    done = FalseDaemon(directory, after_hello(lambda call: frame(call, 0, ITEM) +
                                              frame(call, 0, REPLY))).run('health')
    c.same('a stream for one answer', done.returncode, 1)


def main():
    c = Checks()

    check_command_line(c)
    with Daemon('--pool-size', '64M', '--backing', '4k', '--reactors', '2') as d:
        zones = check_zone_reports(c, d)
        check_memory_reports(c, d, zones, 64 << 20)
        check_vmstat(c, d, zones)
        check_json(c, d)
        check_health(c, d)
        check_methods(c, d)
        check_sessions(c, d)
        check_watch(c, d)
        check_refusals(c, d)
        check_false_daemon(c, d.directory)
    c.same('stopped cleanly', d.status, 0)
    with Daemon('--pool-size', '64M', '--backing', '4k', '--reactors', '1', '--nodes', '3') as d:
        check_zone_reports(c, d)
    check_shapes(c)
    check_restart(c)
    check_strangers(c)
    c.finish()


if __name__ == '__main__':
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Linux's own tools read a pool: free, vmstat -s, vmstat -m and slabtop -o (procps), unmodified, in a
mount name space of their own where /proc/meminfo, /proc/vmstat and /proc/slabinfo are kmmctl's. What
they print is compared with kmmctl's own numbers.

The pool stands still meanwhile: three processes hold messages of a pipeline that nobody reads.

Binding a file over one of /proc takes a mount name space: root has one; who is not root makes a user
name space for it, and where the system does not allow that the test says so and is skipped.
"""
import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True  # the source tree may be read-only

import linux_formats
from kmmd_run import Checks, Daemon
from test_slabinfo import CACHE, Pipeline

SKIPPED = 77
FILES = ['meminfo', 'vmstat', 'slabinfo']
UNSHARE = ['unshare', '--mount'] + ([] if os.getuid() == 0 else ['--map-root-user'])


def can_bind():
    done = subprocess.run([*UNSHARE, 'sh', '-c', 'mount --bind /proc/stat /proc/meminfo'],
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True)
    return done.returncode == 0, done.stderr


class Tools:
    """Snapshots of the reports, and tools that take them for /proc's."""

    def __init__(self, c, d):
        self.c, self.directory = c, d.directory
        for name in FILES:
            with open(os.path.join(self.directory, name), 'w') as f:
                f.write(d.ctl(name))

    def text(self, name):
        with open(os.path.join(self.directory, name)) as f:
            return f.read()

    def run(self, *args):
        """What the tool prints."""
        binds = ' && '.join('mount --bind "$0/%s" /proc/%s' % (name, name) for name in FILES)
        done = subprocess.run([*UNSHARE, 'sh', '-c', binds + ' && exec "$@"', self.directory,
                               *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True,
                              env={**os.environ, 'LC_ALL': 'C', 'TERM': 'dumb'})
        self.c.same(' '.join(args), (done.returncode, done.stderr), (0, ''))
        return done.stdout


def check_free(c, tools):
    m = linux_formats.meminfo(tools.text('meminfo'))
    rows = {line.split(':')[0]: line.split(':')[1].split()
            for line in tools.run('free', '--kibi', '--lohi', '--committed').split('\n')
            if ':' in line}
    used = m['MemTotal'] - m['MemAvailable']
    c.same('free: memory', [int(x) for x in rows['Mem']],
           [m['MemTotal'], used, m['MemFree'], m['Shmem'],
            m['Buffers'] + m['Cached'] + m['SReclaimable'], m['MemAvailable']])
    for row, name in (('Low', 'Low'), ('High', 'High')):
        total, free = m[name + 'Total'], m[name + 'Free']
        c.same('free: %s memory' % name, [int(x) for x in rows[row]], [total, total - free, free])
    c.same('free: no swap', [int(x) for x in rows['Swap']], [0, 0, 0])
    c.same('free: commitments', [int(x) for x in rows['Comm']],
           [m['CommitLimit'], m['Committed_AS'], m['CommitLimit'] - m['Committed_AS']])
    c.true('there is something to see', m['HighTotal'] and m['Committed_AS'] and used, m)


def check_vmstat_s(c, tools):
    m, v = linux_formats.meminfo(tools.text('meminfo')), linux_formats.vmstat(tools.text('vmstat'))
    got = {}
    for line in tools.run('vmstat', '-s').rstrip('\n').split('\n'):
        value, name = line.split(None, 1)
        got[name] = int(value)
    want = {'K total memory': m['MemTotal'], 'K used memory': m['MemTotal'] - m['MemAvailable'],
            'K active memory': m['Active'], 'K inactive memory': m['Inactive'],
            'K free memory': m['MemFree'], 'K buffer memory': m['Buffers'],
            'K swap cache': m['Cached'] + m['SReclaimable'], 'K total swap': 0, 'K used swap': 0,
            'K free swap': 0, 'K paged in': v['pgpgin'], 'K paged out': v['pgpgout'],
            'pages swapped in': v['pswpin'], 'pages swapped out': v['pswpout']}
    want = {name: value for name, value in want.items() if name in got}
    c.true('vmstat -s knows memory, paging and swap', len(want) >= 12, sorted(got))
    c.same('vmstat -s', {name: got[name] for name in want}, want)


def check_slabs(c, tools):
    caches = linux_formats.slabinfo(tools.text('slabinfo'))
    listed = {}
    for line in tools.run('vmstat', '-m').rstrip('\n').split('\n'):
        fields = line.split()
        if fields[0] != 'Cache':
            listed[fields[0]] = [int(x) for x in fields[1:]]
    c.same('vmstat -m: caches', listed,
           {x['name']: [x['active_objs'], x['num_objs'], x['objsize'], x['objperslab']]
            for x in caches})
    c.true('vmstat -m: the pipeline\'s is among them', listed[CACHE][0] > 0, listed)

    text = tools.run('slabtop', '-o', '-s', 'a')
    for what, active, total in (('Objects', 'active_objs', 'num_objs'),
                                ('Slabs', 'active_slabs', 'num_slabs')):
        got = re.search(r'Active / Total %s \(%% used\) *: (\d+) / (\d+)' % what, text)
        c.same('slabtop: %s' % what, got and (int(got.group(1)), int(got.group(2))),
               (sum(x[active] for x in caches), sum(x[total] for x in caches)))
    rows = {}
    for line in text.split('\n'):
        m = re.fullmatch(r' *(\d+) +(\d+) +\d+% +([\d.]+)K +(\d+) +(\d+) +(\d+)K (\S+) *', line)
        if m:
            rows[m.group(7)] = [int(m.group(i)) for i in (1, 2, 4, 5, 6)]
    c.same('slabtop: rows', rows,
           {x['name']: [x['num_objs'], x['active_objs'], x['num_slabs'], x['objperslab'],
                        x['num_slabs'] * x['pagesperslab'] * 4] for x in caches})


def main():
    c = Checks()

    for program in ('free', 'vmstat', 'slabtop'):
        if not shutil.which(program):
            c.true('%s is installed (package procps)' % program, False)
            c.finish()
    able, why = can_bind()
    if not able and os.getuid() != 0:
        print('skipped: without root, and no user name space to be had: ' + why.strip())
        sys.exit(SKIPPED)
    c.true('a file can be bound over one of /proc', able, why)
    with Daemon('--pool-size', '64M', '--backing', '4k', '--reactors', '2') as d:
        pipeline = Pipeline(d, 20000)
        pipeline.stand_still()
        d.ctl('drop-caches')
        tools = Tools(c, d)
        check_free(c, tools)
        check_vmstat_s(c, tools)
        check_slabs(c, tools)
        status, out, _ = pipeline.finish()
        c.same('the pipeline', (status, out.count(b'\n')), (0, 20000))
    c.same('stopped cleanly', d.status, 0)
    c.finish()


if __name__ == '__main__':
    main()

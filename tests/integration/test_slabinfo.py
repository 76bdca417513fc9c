#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kmmctl's reports of objects against a real daemon with a running pipeline of three processes.

The pipeline (contrib/examples) writes into a pipe that nobody reads, so that it stands still with
its rings full: then numbers can be compared. The reports must agree with each other: slabinfo with
the sum of leaks and with each session, meminfo and zoneinfo with slabinfo. And procps's slabtop,
unmodified, must read ours.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True  # the source tree may be read-only

import linux_formats
from kmmd_run import Checks, Daemon

BUILD = os.environ.get('KMM_BUILDDIR', '.')
SRC = os.environ.get('KMM_SRCDIR', '.')
CACHE = 'pipeline-message'
KMALLOC = [prefix + size for prefix in ('kmalloc-', 'kmalloc-rcl-', 'dma-kmalloc-')
           for size in '8 16 32 64 96 128 192 256 512 1k 2k 4k 8k'.split()]
PATIENCE = 300
RING = 256


def settle(condition, what):
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise AssertionError('waited in vain until %s' % what)
        time.sleep(0.05)


class Pipeline:
    """Runs over many lines, its output a pipe."""

    def __init__(self, d, lines):
        path = os.path.join(d.directory, 'csv')
        with open(path, 'w') as f:
            subprocess.run([os.path.join(SRC, 'contrib/examples/sales.sh'), str(lines)], stdout=f,
                           check=True)
        self.process = subprocess.Popen([os.path.join(BUILD, 'pipeline'), 'run', '--socket',
                                         d.socket, path], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.d = d

    def stand_still(self):
        """All three wait: the counts of the cache do not change any more."""
        last = []

        def same():
            nonlocal last
            now = [row for row in slabinfo(self.d) if row['name'] == CACHE]
            same = now and now == last and now[0]['active_objs'] >= 2 * RING
            last = now
            time.sleep(0.2)
            return same
        settle(same, 'the pipeline stands still')

    def finish(self):
        out, err = self.process.communicate()
        return self.process.returncode, out, err


def slabinfo(d):
    return linux_formats.slabinfo(d.ctl('slabinfo'))


def row_of(rows, name):
    return [row for row in rows if row['name'] == name][0]


def sessions_are_gone(d):
    return not d.json('sessions')


# ---- what slabinfo says ----


def check_samples(c):
    """The parser that reads ours reads a Linux machine's."""
    with open(os.path.join(SRC, 'tests', 'data', 'slabinfo')) as f:
        rows = linux_formats.slabinfo(f.read())
    c.true('the saved file has caches', len(rows) > 100)
    c.true('kmalloc is there by the same names',
           {'kmalloc-%s' % s for s in ('8', '64', '96', '1k', '8k')} <= {r['name'] for r in rows})


def check_idle(c, d):
    rows = slabinfo(d)
    c.same('caches of a new pool', sorted(r['name'] for r in rows), sorted(KMALLOC))
    c.same('nothing is in use', {r['active_objs'] for r in rows}, {0})
    c.same('rows and JSON', [{k: j[k] for k in linux_formats.SLABINFO_FIELDS}
                             for j in d.json('slabinfo')], rows)
    for r in rows:
        size = r['name'].split('-')[-1]
        size = int(size[:-1]) * 1024 if size.endswith('k') else int(size)
        c.same('%s: object size' % r['name'], r['objsize'], size)


def check_running(c, d):
    rows = slabinfo(d)
    row = row_of(rows, CACHE)
    more = row_of(d.json('slabinfo'), CACHE)
    c.same('the newest cache is the first', rows[0]['name'], CACHE)
    c.same('size', (row['objsize'], more['size'], more['users']), (256, 256, 3))
    c.true('tunables', row['limit'] > 0 and row['batchcount'] > 0 and row['sharedfactor'] >= 0, row)
    c.true('messages in both rings', row['active_objs'] >= 2 * RING, row)
    c.true('a bounded number of messages: rings, hands, threads\' magazines',
           row['active_objs'] <= 2 * RING + 3 + 3 * 3 * 512, row)

    # The threads stand: what they merely cache is given back for the list, and stays so.
    leaks = d.json('leaks')
    by_cache = sum(x['objects'] for x in leaks if x['cache'] == CACHE)
    row = row_of(slabinfo(d), CACHE)
    c.same('leaks add up to slabinfo', by_cache, row['active_objs'])
    c.true('nothing that is only cached', row['active_objs'] <= 2 * RING + 3, row)
    c.same('all sessions have answered', {x['flushed'] for x in leaks}, {True})
    c.same('bytes of leaks', {x['bytes'] for x in leaks if x['cache'] == CACHE},
           {x['objects'] * 256 for x in leaks if x['cache'] == CACHE})
    opened = [x['opened'] for x in leaks if x['session']]
    c.same('leaks: the oldest first', opened, sorted(opened))
    c.true('leaks name page blocks', any(not x['cache'] and x['objects'] for x in leaks), leaks)
    text = d.ctl('leaks').split('\n')
    c.same('leaks as a table', text[0].split(),
           ['SESSION', 'PID', 'STATE', 'AGE', 'CACHE', 'OBJECTS', 'MEMORY', 'NAME'])
    c.same('a line each', len(text) - 2, len(leaks))
    return row, leaks


def check_sessions(c, d, leaks):
    names = {s['name'] for s in d.json('sessions')}
    c.same('sessions', names, {'pipeline parse', 'pipeline transform', 'pipeline write'})
    for s in d.json('sessions'):
        full = d.json('session', str(s['id']))
        mine = [x for x in leaks if x['session'] == s['id'] and x['cache']]
        c.same('%s: objects' % s['name'], full['objects'], sum(x['objects'] for x in mine))
        c.same('%s: bytes' % s['name'], full['object_bytes'], sum(x['bytes'] for x in mine))
        c.same('%s: by cache' % s['name'],
               {x['name']: x['objects'] for x in full.get('cache', [])},
               {x['cache']: x['objects'] for x in mine})
        c.true('%s: has the cache open' % s['name'], full['caches'] >= 1)
        text = d.ctl('session', str(s['id']))
        for x in mine:
            c.true('%s: %s in the text' % (s['name'], x['cache']),
                   re.search(r'^of cache +%s: %d ' % (re.escape(x['cache']), x['objects']), text,
                             re.M), text)


def check_memory(c, d):
    pages = sum(r['num_slabs'] * r['pagesperslab'] for r in slabinfo(d))
    reclaimable = sum(r['num_slabs'] * r['pagesperslab'] for r in slabinfo(d)
                      if r['name'].startswith('kmalloc-rcl-'))
    memory = linux_formats.meminfo(d.ctl('meminfo'))
    stats = [z['node_stats'] for z in linux_formats.zoneinfo(d.ctl('zoneinfo')) if z['node_stats']]
    cached = sum(s['nr_kernel_misc_reclaimable'] for s in stats)
    c.same('meminfo: slabs', (memory['Slab'], memory['SReclaimable'], memory['SUnreclaim'],
                              memory['KReclaimable']),
           (4 * pages, 4 * reclaimable, 4 * (pages - reclaimable), 4 * (reclaimable + cached)))
    c.same('zoneinfo: slabs', [(s['nr_slab_reclaimable'], s['nr_slab_unreclaimable'])
                               for s in stats], [(reclaimable, pages - reclaimable)])
    c.same('JSON zoneinfo: slabs', [z['per_node_stats']['nr_slab_unreclaimable']
                                    for z in d.json('zoneinfo') if 'per_node_stats' in z],
           [pages - reclaimable])


def check_slabtop(c, d, row):
    """procps's slabtop, in a mount name space where /proc/slabinfo is ours."""
    path = os.path.join(d.directory, 'slabinfo')
    with open(path, 'w') as f:
        f.write(d.ctl('slabinfo'))
    own = [] if os.getuid() == 0 else ['--map-root-user']
    done = subprocess.run(['unshare', '--mount', *own, 'sh', '-c',
                           'mount --bind "$1" /proc/slabinfo && exec slabtop -o -s a', 'sh', path],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True)
    c.same('slabtop (needs unshare --mount, mount and procps)', (done.returncode, done.stderr),
           (0, ''))
    rows = slabinfo(d)
    total = re.search(r'Active / Total Objects \(% used\) *: (\d+) / (\d+)', done.stdout)
    c.same('slabtop: objects', total and (int(total.group(1)), int(total.group(2))),
           (sum(r['active_objs'] for r in rows), sum(r['num_objs'] for r in rows)))
    total = re.search(r'Active / Total Slabs \(% used\) *: (\d+) / (\d+)', done.stdout)
    c.same('slabtop: slabs', total and (int(total.group(1)), int(total.group(2))),
           (sum(r['active_slabs'] for r in rows), sum(r['num_slabs'] for r in rows)))
    line = re.search(r'^ *(\d+) +(\d+) +\d+% +([\d.]+)K +(\d+) +(\d+) +\d+K ' + CACHE + ' *$',
                     done.stdout, re.M)
    c.same('slabtop: the row', line and (int(line.group(1)), int(line.group(2)), line.group(3),
                                         int(line.group(4)), int(line.group(5))),
           (row['num_objs'], row['active_objs'], '0.25', row['num_slabs'], row['objperslab']))
    c.same('slabtop: sorted by what is active', done.stdout.split('\n')[7].split()[-1],
           max(rows, key=lambda r: r['active_objs'])['name'])


def check_after(c, d):
    settle(lambda: CACHE not in [r['name'] for r in slabinfo(d)],
           'the cache went with its last user')
    c.same('nothing is held', d.json('leaks'), [])
    c.same('nothing is in use', {r['active_objs'] for r in slabinfo(d)}, {0})
    before = sum(r['num_slabs'] for r in slabinfo(d))
    text = [d.ctl('shrink', name) for name in KMALLOC]
    c.true('shrink says what came back',
           re.fullmatch(r'given back: \S+ by kmalloc-8, \d+ objects to its slabs\n', text[0]), text[0])
    c.same('no slab is left', sum(r['num_slabs'] for r in slabinfo(d)), 0)
    c.true('there were some', before >= 0)
    c.same('shrink as JSON', d.json('shrink', 'kmalloc-8'),
           {'pages': 0, 'objects': 0, 'asked': 0, 'silent': 0})
    unknown = d.run('shrink', 'nobody')
    c.same('shrink of no cache', (unknown.returncode, unknown.stdout), (1, ''))
    c.true('why', unknown.stderr.startswith('kmmctl: '), unknown.stderr)
    c.same('fsck', d.ctl('fsck'), 'clean\n')


def check_kept(c, d):
    """A page with a name outlives its maker: a writer that waits for its sender has made one."""
    writer = subprocess.Popen([os.path.join(BUILD, 'pipeline'), 'write', '--socket', d.socket],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    settle(lambda: [s['names'] for s in d.json('sessions')] == [1], 'the ring has a name')
    c.same('names in the text', re.findall(r'^names +(\d+) ', d.ctl(
        'session', str(d.json('sessions')[0]['id'])), re.M), ['1'])
    session = d.json('sessions')[0]['id']
    names = d.json('names')
    c.same('the name', [(x['cache'], x['order'], x['bytes'], x['session'], x['uid'], x['owner'],
                         x['holders'], x['stale']) for x in names],
           [('', 0, 4096, session, os.getuid(), session, 2, False)])
    c.same('as text', d.ctl('names').split('\n')[1].split(),
           [names[0]['name'], 'block', 'of', 'order', '0', '4K', str(session), str(os.getuid()),
            str(session), '2'])
    writer.kill()
    writer.wait()
    settle(lambda: sessions_are_gone(d), 'the writer is gone')
    c.same('the name of one who is gone',
           [(x['name'], x['session'], x['owner'], x['holders']) for x in d.json('names')],
           [(names[0]['name'], 0, 0, 1)])
    kept = d.json('leaks')
    c.same('what a name keeps', [(x['session'], x['state'], x['cache'], x['objects'], x['bytes'])
                                 for x in kept], [(0, 'holders', '', 1, 4096)])
    c.same('as text', d.ctl('leaks').split('\n')[1].split(),
           ['-', '-', 'holders', '-', '(page', 'blocks)', '1', '4K', '-'])
    c.same('fsck with a kept page', d.ctl('fsck'), 'clean\n')


def check_restart(c):
    """Caches and counts survive the daemon."""
    with Daemon('--pool-size', '64M', '--backing', '4k', '--reactors', '2', '--supervise') as d:
        pipeline = Pipeline(d, 20000)
        pipeline.stand_still()
        before = row_of(slabinfo(d), CACHE)
        first = d.json('health')['pid']
        os.kill(first, 9)
        settle(lambda: d.run('health').returncode == 0 and d.json('health')['pid'] != first,
               'the daemon is back')
        after = row_of(slabinfo(d), CACHE)
        keys = ['name', 'objsize', 'objperslab', 'num_slabs', 'num_objs']
        c.same('the cache after a restart', [after[k] for k in keys], [before[k] for k in keys])
        c.same('its messages', after['active_objs'], before['active_objs'])
        status, out, err = pipeline.finish()
        c.same('the pipeline went on', status, 0)
        c.same('every line came through', out.count(b'\n'), 20000)
        c.same('fsck after the restart', d.ctl('fsck'), 'clean\n')


def main():
    c = Checks()

    check_samples(c)
    if not shutil.which('slabtop'):
        c.true('slabtop is installed (package procps)', False)
    with Daemon('--pool-size', '64M', '--backing', '4k', '--reactors', '2') as d:
        check_idle(c, d)
        pipeline = Pipeline(d, 20000)
        pipeline.stand_still()
        row, leaks = check_running(c, d)
        check_sessions(c, d, leaks)
        check_memory(c, d)
        check_slabtop(c, d, row)
        status, out, err = pipeline.finish()
        c.same('the pipeline', (status, out.count(b'\n')), (0, 20000))
        settle(lambda: sessions_are_gone(d), 'the sessions are gone')
        check_after(c, d)
        check_kept(c, d)
    c.same('stopped cleanly', d.status, 0)
    check_restart(c)
    c.finish()


if __name__ == '__main__':
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Watermarks, protections and per-CPU list sizes by Linux's rules, for pools of 64 MiB to 8 GiB, with
and without high memory.

Only the managed counts are taken from `kmmctl zoneinfo`; every number that follows from them is
computed anew here and compared:

    watermarks      min_free_kbytes = clamp(isqrt(16 * low memory in kB), 128, 262144), spread over
                    the zones by size; min of HighMem and Movable clamp(managed / 1024, 32, 128);
                    steps of max(share / 4, managed / 1000)
    protection      managed of the zones above, by ratio 256, 256, 32
    per-CPU lists   batch, high_min and high_max from managed, low watermark and number of CPUs
    threshold       of the statistics, from CPUs and managed

The same computation on the saved file of a Linux machine comes first: it shows that the rules here
are the kernel's (there the transparent huge pages' raise of min_free_kbytes applies, which a pool
does not have).
"""
import math
import os
import sys

sys.dont_write_bytecode = True  # the source tree may be read-only

import linux_formats
from kmmd_run import Checks, Daemon, memory_suffices

RATIO = {'DMA': 256, 'DMA32': 256, 'Normal': 32}
HIGH = ('HighMem', 'Movable', 'Device')
MIB = 1 << 20

# pool in MiB, reactors, nodes, MiB of HighMem (None: as it comes) and Movable asked for
POOLS = [(64, 2, 1, None, 0), (256, 3, 2, None, 0), (1024, 2, 1, None, 0), (4096, 2, 1, None, 0),
         (8192, 2, 1, None, 0),
         (64, 2, 1, 0, 0), (64, 1, 1, 8, 12), (256, 2, 1, 0, 128), (512, 4, 1, 64, 64)]


def clamp(x, low, high):
    return max(low, min(x, high))


def min_free_pages(zones):
    low_kb = 4 * sum(z['managed'] for z in zones if z['name'] not in HIGH)
    return clamp(math.isqrt(16 * low_kb), 128, 262144) // 4


def watermarks(zones, zone, min_pages):
    low = sum(z['managed'] for z in zones if z['name'] not in HIGH)
    share = min_pages * zone['managed'] // low
    least = share
    if zone['name'] == 'Device':
        least = 0
    elif zone['name'] in HIGH:
        least = clamp(zone['managed'] // 1024, 32, 128)
    step = max(share // 4, zone['managed'] * 10 // 10000)
    return [zone['boost'] + least + i * step for i in range(4)]


def protection(zones, zone):
    node = [z for z in zones if z['node'] == zone['node']]
    columns = len(zone['protection'])
    at, above, reserve = node.index(zone), 0, [0] * columns
    ratio = RATIO.get(zone['name'], 0)
    for j in range(at + 1, columns):
        above += node[j]['managed']
        reserve[j] = above // ratio if ratio and zone['managed'] else 0
    return reserve


def list_sizes(zone, cpus):
    batch = max(min(zone['managed'] >> 10, 256) // 4, 1)
    batch = max((1 << ((batch + batch // 2).bit_length() - 1)) - 1, 1)
    low = zone['low'] - zone['boost']
    return batch, max(low // cpus, 4 * batch), max(zone['managed'] // 8 // cpus, 4 * batch)


def threshold(zone, cpus):
    return min(125, 2 * cpus.bit_length() * (1 + (zone['managed'] >> 15).bit_length()))


def check_rules(checks, title, zones, cpus, min_pages):
    for z in zones:
        where = '%s, node %d, %s' % (title, z['node'], z['name'])
        checks.same(where + ': watermarks', [z[k] for k in ('min', 'low', 'high', 'promo')],
                    watermarks(zones, z, min_pages))
        checks.same(where + ': protection', z['protection'], protection(zones, z))
        checks.same(where + ': CPUs', [c['cpu'] for c in z['cpus']],
                    list(range(cpus if z['populated'] else 0)))
        for c in z['cpus']:
            checks.same('%s: lists of CPU %d' % (where, c['cpu']),
                        (c['batch'], c['high_min'], c['high_max']), list_sizes(z, cpus))
            checks.same('%s: threshold of CPU %d' % (where, c['cpu']), c['threshold'],
                        threshold(z, cpus))


def check_names(checks, title, zones, saved):
    """The same statistics in the same order, on every node that has memory."""
    for node in sorted({z['node'] for z in zones}):
        mine = [z for z in zones if z['node'] == node]
        checks.same('%s, node %d: zones' % (title, node), [z['name'] for z in mine],
                    linux_formats.ZONES)
        with_stats = [z['name'] for z in mine if z['node_stats'] is not None]
        checks.same('%s, node %d: per-node statistics once, first' % (title, node), with_stats,
                    [z['name'] for z in mine if z['populated']][:1])
    for z in zones:
        if z['node_stats'] is not None:
            checks.same('%s: names per node' % title, list(z['node_stats']),
                        list(saved[0]['node_stats']))
        if z['populated']:
            checks.same('%s: names per zone' % title, list(z['stats']), list(saved[0]['stats']))


def check_high(checks, title, zones, mib, highmem, movable):
    """HighMem and Movable have what was asked for, HighMem a sixteenth of the pool unasked."""
    def frames(name):
        return sum(z['managed'] for z in zones if z['name'] == name)
    checks.same(title + ': HighMem', frames('HighMem'),
                256 * (mib // 16 if highmem is None else highmem))
    checks.same(title + ': Movable', frames('Movable'), 256 * movable)
    for z in zones:
        if z['name'] in ('HighMem', 'Movable') and z['populated']:
            checks.same('%s, %s: all of it is managed' % (title, z['name']),
                        (z['managed'], z['spanned']), (z['present'], z['present']))


def check_sums(checks, title, zones, frames):
    for z in zones:
        where = '%s, node %d, %s' % (title, z['node'], z['name'])
        checks.true(where + ': managed <= present <= spanned',
                    z['managed'] <= z['present'] <= z['spanned'])
        checks.true(where + ': free <= managed', z['free'] <= z['managed'])
        if z['populated']:
            checks.same(where + ': nr_free_pages', z['stats']['nr_free_pages'], z['free'])
    managed = sum(z['managed'] for z in zones)
    checks.true('%s: most of the pool is managed' % title, 0.9 * frames < managed < frames,
                '(%d of %d)' % (managed, frames))
    dma = [z for z in zones if z['name'] == 'DMA' and z['populated']]
    checks.true('%s: DMA begins the pool' % title,
                dma and dma[0]['node'] == 0 and dma[0]['start_pfn'] == 0)
    checks.true('%s: DMA32 ends at 4 GiB' % title,
                all(z['start_pfn'] + z['spanned'] <= 4096 * MIB // 4096
                    for z in zones if z['name'] == 'DMA32' and z['populated']))
    above = [z for z in zones if z['name'] == 'Normal' and z['populated']]
    checks.same('%s: Normal is what lies above 4 GiB' % title, bool(above), frames > 4096 * 256)


def main():
    checks = Checks()
    data = os.path.join(os.environ.get('KMM_SRCDIR', '.'), 'tests', 'data', 'zoneinfo')
    saved = linux_formats.zoneinfo(open(data).read())

    check_rules(checks, 'saved file', saved, 2, 67584 // 4)
    for mib, reactors, nodes, highmem, movable in POOLS:
        title = '%d MiB' % mib
        if highmem is not None:
            title += ', %d high, %d movable' % (highmem, movable)
        if not memory_suffices(mib * MIB):
            checks.true('%s: the machine has free huge pages or memory for the pool' % title, False)
            continue
        settings = '[pool]\nmovable = %dM\n' % movable
        if highmem is not None:
            settings += 'highmem = %dM\n' % highmem
        with Daemon('--pool-size', '%dM' % mib, '--backing', 'auto', '--reactors', str(reactors),
                    '--nodes', str(nodes), config=settings) as d:
            zones = linux_formats.zoneinfo(d.ctl('zoneinfo'))
            print('%s, %d reactors, %d nodes' % (d.json('health')['backing'], reactors, nodes))
        checks.same(title + ': stopped cleanly', d.status, 0)
        checks.same(title + ': nodes', sorted({z['node'] for z in zones}), list(range(nodes)))
        check_names(checks, title, zones, saved)
        check_rules(checks, title, zones, reactors, min_free_pages(zones))
        check_high(checks, title, zones, mib, highmem, movable)
        check_sums(checks, title, zones, mib * 256)
    checks.finish()


if __name__ == '__main__':
    sys.exit(main())

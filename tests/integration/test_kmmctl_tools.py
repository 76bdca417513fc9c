#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kmmctl page and frag against a real daemon with known contents, and how page, map, frag and top
refuse.

A peer allocates what is then looked for: fields of a page by what was done to it, fragmentation by
formulas computed anew here.
"""
import os
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True  # the source tree may be read-only

from kmmctl_case import BLOCK, FRAMES, MIB, Case, daemon, letters
from kmmd_run import KMMCTL, Daemon
from kmmtest import main, wait_until
from peer_run import (GFP_DMA, GFP_HIGHMEM, GFP_KERNEL, GFP_MOVABLE, GFP_NOWAIT, NO_CACHE, Peer)


# ---- page ----

class Page(Case):
    def test_a_free_block(self):
        p = self.page(1030)
        self.assertEqual((p['state'], p['flags'], p['page_type']), ('free', ['buddy'], 'buddy'))
        self.assertEqual((p['head'], p['order']), (1024, 10))
        self.assertEqual((p['_refcount'], p['_mapcount'], p['mapping']), (0, 0, 'NULL'))
        self.assertEqual(p['lru'], 'free_area[10].free_list[Movable]')
        self.assertEqual((p['zone'], p['node'], p['pageblock'], p['pageblock_type']),
                         ('DMA', 0, 2, 'Movable'))
        self.assertEqual((p['section'], p['section_state'], p['backing'], p['direct']),
                         (1, 'online', '4k', True))
        self.assertNotIn('private', p)
        self.assertEqual(self.page(1024)['private'], 10)
        self.assertEqual(p['owner_word']['kind'], 'free')

    def test_blocks_heads_and_tails(self):
        for order in range(11):
            pfn = self.a.must('ALLOC', GFP_KERNEL, order)
            p = self.page(pfn)
            self.assertEqual((p['state'], p['order'], p['head'], p['page_of']),
                             ('block', order, pfn, pfn))
            self.assertEqual(p['flags'], ['head'] if order else [])
            self.assertEqual((p['_refcount'], p['_mapcount']), (1, 0))
            self.assertEqual(p['mapping'], 'session %d' % self.a.session)
            self.assertEqual(p['dma_addr'], pfn * 4096)
            self.assertEqual(p['charged'], self.a.session)
            self.assertEqual([(o['session'], o['pid'], o['uid'], o['name']) for o in p['owner']],
                             [(self.a.session, self.a.process.pid, os.getuid(), 'peer')])
            self.assertEqual((p['owner_word']['kind'], p['owner_word']['shared'],
                              p['owner_word']['kept']), ('held', False, False))
            self.assertEqual((p['type'], p['holders'], p['names']), ('Unmovable', 0, 0))
            if order:
                last = pfn + (1 << order) - 1
                t = self.page(last)
                self.assertEqual((t['flags'], t['index'], t['compound_head'], t['compound_order']),
                                 (['tail'], last - pfn, pfn, order))
                self.assertEqual(t['_refcount'], 0)
                self.assertEqual(t['owner'], p['owner'])
            self.a.must('FREE', pfn, order)

    def test_types_and_zones(self):
        p = self.page(self.a.must('ALLOC', GFP_KERNEL | GFP_MOVABLE, 4))
        self.assertEqual((p['type'], p['pageblock_type']), ('Movable', 'Movable'))
        p = self.page(self.a.must('ALLOC', GFP_KERNEL | GFP_DMA, 4))
        self.assertEqual((p['zone'], p['type']), ('DMA', 'Unmovable'))

    def test_given_back_blocks_are_cached_then_free(self):
        pfn = self.a.must('ALLOC', GFP_KERNEL, 0)
        self.a.must('FREE', pfn, 0)
        p = self.page(pfn)
        self.assertEqual((p['state'], p['owner_word']['kind'], p['flags']),
                         ('block', 'returned', ['reclaim']))
        self.assertEqual(p['owner'][0]['session'], self.a.session)
        self.a.must('FLUSH')
        self.assertEqual(self.d.run('drop-caches').returncode, 0)
        p = self.page(pfn)
        self.assertEqual((p['state'], p['flags']), ('free', ['buddy']))

    def found(self, make, cell, is_it):
        """A page of a cell that has some of what make() makes, as JSON and as text. What is cached may
        go at any time: then it is made again."""
        found = []

        def look():
            make()
            for c in self.d.json('map')['cells']:
                for pfn in range(c['pageblock'] * BLOCK, (c['pageblock'] + 1) * BLOCK, 3):
                    if not c.get(cell):
                        break
                    p = self.page(pfn)
                    if is_it(p):
                        found[:] = [p, self.d.ctl('page', str(pfn))]
                        return is_it(self.page(pfn))
            return False
        wait_until(look, 'there is such a page')
        return found

    def test_magazines(self):
        """What a thread frees beyond its own goes to the depot."""
        p, text = self.found(lambda: self.a.must('CACHE', 0, 512), 'cached',
                             lambda p: p['state'] == 'block' and
                             p['owner_word'].get('magazine_state') == 'in the depot')
        self.assertEqual((p['flags'], p['_refcount'], p['charged'], p['owner_word']['kind']),
                         (['reclaim'], 1, 0, 'in a magazine'))
        self.assertRegex(text, r'\nowner word +in a magazine \d+, in the depot, generation \d+\n')

    def test_per_cpu_lists(self):
        """Slabs that end leave their pages there."""
        cache = self.b.must('CACHE_CREATE', 192, 0, 0, text='short-lived')

        def make():
            self.b.must('OBJECT_HOARD', cache, GFP_NOWAIT, 3000)
            self.b.must('OBJECT_RELEASE', cache, 3000)
            self.assertEqual(self.d.run('shrink', 'short-lived').returncode, 0)

        p, text = self.found(make, 'per_cpu', lambda p: p['state'] == 'per-cpu')
        self.assertEqual((p['flags'], p['lru'], p['_refcount']), (['pcp'], 'per-CPU list', 0))
        self.assertNotIn('owner_word', p)
        self.assertIn('\nlru             per-CPU list\n', text)

    def test_handles_holders_and_names(self):
        pfn = self.a.must('ALLOC', GFP_KERNEL, 2)
        generation = self.page(pfn)['owner_word']['generation']
        handle = self.a.must('HANDLE', pfn)
        self.assertEqual(self.page(pfn)['owner_word']['shared'], True)
        self.assertEqual(self.b.must('GET_HANDLE', handle), pfn)
        self.a.must('PUBLISH', pfn * 4096, text='first & <second>')
        p = self.page(pfn)
        self.assertEqual((p['flags'], p['_refcount'], p['holders']), (['head', 'private'], 3, 2))
        self.assertEqual(sorted(h['session'] for h in p['holder']), [0, self.b.session])
        self.assertEqual((p['name'], p['names']), (['first & <second>'], 1))
        self.assertEqual((p['owner_word']['kept'], p['owner_word']['generation']), (True, generation))
        self.assertEqual(p['_refcount'], self.a.must('COUNT', pfn))
        # its owner gives it up: held by its holders alone
        self.a.must('FREE', pfn, 2)
        p = self.page(pfn)
        self.assertEqual((p['owner'], p['_refcount'], p['owner_word']['kind']), ([], 2, 'held'))
        self.assertIn('held by its holders alone, generation', self.d.ctl('page', str(pfn)))
        self.b.must('PUT', pfn)
        self.a.must('UNPUBLISH', text='first & <second>')
        self.assertNotEqual(self.page(pfn)['state'], 'block')

    def test_a_slab(self):
        cache = self.a.must('CACHE_CREATE', 192, 0, 0, text='dentry')
        places = [self.a.must('OBJECT_ALLOC', cache, GFP_KERNEL) for _ in range(30)]
        other = self.b.must('CACHE_OPEN', text='dentry')
        handle = self.a.must('THING_HANDLE', places[0])
        self.assertEqual(self.b.must('THING_ADOPT', handle), places[0])
        self.assertGreaterEqual(other, 0)
        self.a.must('PUBLISH', places[1], text='an object')
        # what this thread merely cached is given back
        self.assertEqual(self.d.run('drop-caches').returncode, 0)
        pages = {place // 4096 for place in places}
        out = held_by_b = 0
        for pfn in pages:
            p = self.page(pfn)
            self.assertEqual((p['state'], p['page_type'], p['mapping'], p['slab_cache']),
                             ('slab', 'slab', 'cache dentry', 'dentry'))
            self.assertIn('slab', p['flags'])
            self.assertEqual((p['size'], p['stride'], p['objects']), (192, 192, 21))
            self.assertEqual(p['objects_here'], 21)
            self.assertEqual(p['first_offset'], p['colour'])
            self.assertEqual(sum(p['owner_words'].values()) - p['owner_words'].get('free', 0),
                             p['inuse'])
            mine = [x for x in places if x // 4096 == pfn]
            self.assertEqual(sum(o['objects'] for o in p['owner']), p['owner_words']['held'])
            self.assertEqual(p['owner_words']['held'], len(mine))
            out += p['owner_words']['held']
            held_by_b += sum(o['objects'] for o in p['owner'] if o['session'] == self.b.session)
            self.assertEqual((p['holders'], p['name']),
                             (1, ['an object']) if places[1] // 4096 == pfn else (0, []))
        self.assertEqual((out, held_by_b), (30, 1))
        text = self.d.ctl('page', str(places[0] // 4096))
        self.assertIn('slab_cache      dentry: objects of 192 bytes, one every 192\n', text)
        self.a.must('UNPUBLISH', text='an object')

    def test_a_large_slab_page_by_page(self):
        # two frames a slab: objects lie across the border
        cache = self.a.must('CACHE_CREATE', 1500, 0, 0, text='large')
        place = self.a.must('OBJECT_ALLOC', cache, GFP_KERNEL)
        head = self.page(place // 4096)
        row = [c for c in self.d.json('slabinfo') if c['name'] == 'large'][0]
        self.assertEqual(1 << head['order'], row['pagesperslab'])
        self.assertGreater(head['order'], 0)
        seen = set()
        for pfn in range(head['head'], head['head'] + (1 << head['order'])):
            p = self.page(pfn)
            self.assertEqual('head' in p['flags'], pfn == head['head'])
            self.assertEqual('tail' in p['flags'], pfn != head['head'])
            at = (pfn - head['head']) * 4096
            first = range(p['first_object'], p['first_object'] + p['objects_here'])
            for i in range(p['objects']):
                start = p['colour'] + i * p['stride']
                self.assertEqual(i in first, start < at + 4096 and start + p['size'] > at)
            seen |= set(first)
        self.assertEqual(seen, set(range(head['objects'])))

    def test_high_memory(self):
        page = self.a.must('ALLOC', GFP_KERNEL | GFP_HIGHMEM, 0)
        self.assertGreaterEqual(page, 0)
        cells = [c for c in self.d.json('map')['cells'] if c.get('movable')]
        self.assertEqual(sum(c['movable'] for c in cells), 1)
        self.assertEqual(cells[0]['zone'], 'HighMem')
        start = cells[0]['pageblock'] * BLOCK
        frames = [f for f in range(start, start + BLOCK) if 'movable' in self.page(f)['flags']]
        self.assertEqual(len(frames), 1)
        alias = self.page(frames[0])
        self.assertEqual((alias['state'], alias['moves'], alias['direct'], alias['zone']),
                         ('block', True, False, 'HighMem'))
        self.assertGreaterEqual(alias['page_of'], FRAMES)
        it = self.page(alias['page_of'])
        self.assertEqual((it['frame'], it['page_of'], it['moves']),
                         (frames[0], alias['page_of'], True))
        self.assertEqual((it['owner'], it['_refcount']), (alias['owner'], 1))
        self.assertIn('%d (%#x), one that can move' % (it['page'], it['page']),
                      self.d.ctl('page', str(it['page'])))
        self.assertIn('the frame, at the moment, of page %d' % it['page'],
                      self.d.ctl('page', hex(frames[0])))
        # mapped it stays where it is
        self.assertEqual((it['_mapcount'], it['owner_word']['mapped']), (0, False))
        self.a.must('KMAP', page)
        it = self.page(alias['page_of'])
        self.assertEqual((it['flags'], it['_mapcount'], it['owner_word']['mapped']),
                         (['movable', 'unevictable'], 1, True))
        self.assertIn(', MAPPED\n', self.d.ctl('page', str(it['page'])))
        # its neighbour stands for no block
        other = it['page'] + 1 if it['page'] + 1 < FRAMES + 4 * MIB // 4096 else it['page'] - 1
        p = self.page(other)
        self.assertEqual((p['state'], p['flags'], p['owner']), ('unused', ['movable'], []))

    def test_metadata(self):
        p = self.page(FRAMES - 1)
        self.assertEqual((p['state'], p['flags'], p['section_state']),
                         ('metadata', ['reserved'], 'metadata'))
        self.assertNotIn('zone', p)
        self.assertNotIn('owner_word', p)

    def test_decimal_hexadecimal_and_refusals(self):
        self.assertEqual(self.d.ctl('page', '0x400'), self.d.ctl('page', '1024'))
        self.assertEqual(self.d.json('page', '0X3fF')['page'], 1023)
        high = self.d.json('page', str(FRAMES))  # 64 MiB have 4 MiB of high memory
        self.assertEqual(high['page'], FRAMES)
        self.refused(1, 'there is no page %d: the pool has frames 0 to %d' % (2 * FRAMES, FRAMES - 1),
                     'page', str(2 * FRAMES))
        self.refused(1, 'there is no page 4294967295', 'page', '4294967295')
        for text in ('x', '12x', '0x', '', '1 2', '4294967296', '0x100000000', '1.5', '+3'):
            self.refused(2, 'page: PFN is a number of 0 or more', 'page', text)
        for args in (['-1'], ['-12'], ['--', '-1']):
            self.refused(2, 'PFN is a number of 0 or more', 'page', *args)
        self.refused(2, 'page wants the number of a page', 'page')
        self.refused(2, 'page: too many arguments: 2', 'page', '1', '2')

    def test_every_page_of_the_pool_can_be_looked_at(self):
        for order in (0, 3, 9):
            self.a.must('ALLOC', GFP_KERNEL, order)
        states = {self.page(pfn)['state'] for pfn in range(0, FRAMES + 1024, 173)}
        self.assertLessEqual({'free', 'metadata', 'unused'}, states)


# ---- frag ----

def unusable(free, order):
    frames = sum(n << o for o, n in enumerate(free))
    good = sum(n << o for o, n in enumerate(free) if o >= order)
    return (frames - good) * 1000 // frames if frames else 1000


def extfrag(free, order):
    if sum(n for o, n in enumerate(free) if o >= order):
        return -1000
    frames, blocks = sum(n << o for o, n in enumerate(free)), sum(free)
    return 1000 - (1000 + frames * 1000 // (1 << order)) // blocks if blocks else 0


class Frag(Case):
    def fragment(self):
        """All of the pool in blocks of order 1 and 0, some of these given back."""
        self.a.must('EXHAUST', GFP_NOWAIT | GFP_HIGHMEM | GFP_MOVABLE, 4)
        self.b.must('EXHAUST', GFP_NOWAIT | GFP_HIGHMEM | GFP_MOVABLE, 0)
        self.b.must('RELEASE', 7)
        self.a.must('RELEASE', 5)

    def test_external(self):
        self.fragment()
        buddyinfo, report, text = self.steady(lambda: (
            self.d.json('buddyinfo'), self.d.json('frag'), self.d.ctl('frag')))
        rows = {(z['node'], z['zone']): z['free_blocks'] for z in buddyinfo}
        self.assertEqual({(z['node'], z['zone']) for z in report['zones']}, set(rows))
        seen = set()
        for z in report['zones']:
            free = rows[z['node'], z['zone']]
            self.assertEqual(z['free_blocks'], free)
            self.assertEqual([round(x * 1000) for x in z['unusable_index']],
                             [unusable(free, o) for o in range(11)])
            self.assertEqual([round(x * 1000) for x in z['extfrag_index']],
                             [extfrag(free, o) for o in range(11)])
            seen |= {extfrag(free, o) for o in range(11)}
        self.assertIn(-1000, seen)
        self.assertGreater(len(seen), 2, 'the pool is fragmented')
        for z in report['zones']:
            head = 'Node %d, zone %8s ' % (z['node'], z['zone'])
            lines = [line for line in text.split('\n') if line.startswith(head)]
            self.assertEqual(lines[0][len(head):],
                             ''.join('%6d ' % n for n in z['free_blocks']))
            self.assertEqual(lines[1][len(head):],
                             ''.join(' %.3f ' % x for x in z['unusable_index']))
            self.assertEqual(lines[2][len(head):],
                             ''.join(('%.3f ' if x < 0 else ' %.3f ') % x
                                     for x in z['extfrag_index']))

    def test_internal(self):
        caches = [self.a.must('CACHE_CREATE', size, 0, 0, text='of-%d' % size)
                  for size in (24, 100, 700, 3000)]
        for c in caches:
            self.a.must('OBJECT_HOARD', c, GFP_NOWAIT, 1000)
            self.a.must('OBJECT_RELEASE', c, 300)
        self.a.must('OBJECT_ALLOC', 50, GFP_KERNEL, NO_CACHE)
        self.assertEqual(self.d.run('drop-caches').returncode, 0)
        slabinfo, report, meminfo = self.steady(lambda: [
            self.d.json(r) for r in ('slabinfo', 'frag', 'meminfo')])
        slabs = {c['name']: c for c in slabinfo if c['num_slabs']}
        self.assertEqual({c['name'] for c in report['caches']}, set(slabs))
        self.assertIn('kmalloc-64', slabs)
        for c in report['caches']:
            s = slabs[c['name']]
            memory = s['num_slabs'] * s['pagesperslab'] * 4096
            self.assertEqual((c['size'], c['stride'], c['objects']),
                             (s['size'], s['objsize'], s['active_objs']))
            self.assertEqual(c['asked_bytes'], s['active_objs'] * s['size'])
            self.assertEqual(c['padding_bytes'], s['active_objs'] * (s['objsize'] - s['size']))
            self.assertEqual(c['unused_bytes'], (s['num_objs'] - s['active_objs']) * s['objsize'])
            self.assertEqual(c['asked_bytes'] + c['waste_bytes'], memory)
            self.assertGreaterEqual(c['words_bytes'], s['num_objs'] * 8)
        for key in ('objects', 'asked_bytes', 'padding_bytes', 'unused_bytes', 'ends_bytes',
                    'words_bytes', 'waste_bytes'):
            self.assertEqual(report['total'][key], sum(c[key] for c in report['caches']))
        self.assertEqual(report['total']['asked_bytes'] + report['total']['waste_bytes'],
                         meminfo['Slab'] * 1024)
        waste = [c['waste_bytes'] for c in report['caches']]
        self.assertEqual(waste, sorted(waste, reverse=True))

    def test_advice_that_helps(self):
        def commands():
            return [a['command'] for a in self.d.json('frag')['advice']]

        self.assertEqual(commands(), [])
        self.assertIn('Nothing is needed', self.d.ctl('frag'))
        cache = self.a.must('CACHE_CREATE', 1024, 0, 0, text='dentry')
        self.a.must('OBJECT_HOARD', cache, GFP_NOWAIT, 20000)
        self.a.must('OBJECT_RELEASE', cache, 20000)
        self.assertIn('kmmctl shrink dentry', commands())
        self.assertRegex(self.d.ctl('frag'), r'\nkmmctl shrink dentry: .* are places without an '
                                             r'object \(\d+ of \d+ in use\)\.\n')
        self.assertEqual(self.d.run('shrink', 'dentry').returncode, 0)
        self.assertEqual([c for c in commands() if 'shrink' in c], [])
        self.b.must('EXHAUST', GFP_NOWAIT | GFP_HIGHMEM | GFP_MOVABLE, 0)
        advice = self.d.json('frag')['advice']
        self.assertEqual(advice[-1]['command'], '')
        self.assertIn('memory is short', advice[-1]['why'])


# ---- refusals, other pools ----

class Alone(unittest.TestCase):
    """Without the two peers, or without a daemon."""

    def test_no_daemon(self):
        for args in (['page', '0'], ['map'], ['frag'], ['top'], ['map', '--svg', '-']):
            done = subprocess.run([KMMCTL, '--socket', '/nonexistent/sock', *args],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  check=False)
            self.assertEqual((done.returncode, done.stdout), (3, ''), args)
            self.assertTrue(done.stderr.startswith('kmmctl: '), done.stderr)

    def test_usage(self):
        for text, args in (
                ('--by wants fullness, zone, type or owner, not "x"', ['map', '--by', 'x']),
                ('--color wants auto, always or never, not "yes"', ['map', '--color', 'yes']),
                ('--sort wants id, pid, mem, ', ['top', '--sort', 'size']),
                ('--count wants a number of samples, not "0"', ['top', '--count', '0']),
                ('--count wants a number of samples, not "1.5"', ['top', '--count', '1.5']),
                ('--once and --count are two', ['top', '--once', '--count', '3']),
                ('--by is an option of map, not of top', ['top', '--by', 'zone']),
                ('--svg is an option of map, not of meminfo', ['meminfo', '--svg', 'x']),
                ('-b is an option of top, not of sessions', ['sessions', '-b']),
                ('--once is an option of top, not of map', ['map', '--once']),
                ('--sort is an option of top, not of page', ['page', '1', '--sort', 'id']),
                ('--svg and --json are two different outputs', ['--json', 'map', '--svg', 'x']),
                ("--svg wants a file's name", ['map', '--svg', '']),
                ('map takes no argument: x', ['map', 'x']),
                ('frag takes no argument: x', ['frag', 'x']),
                ('top takes no argument: x', ['top', 'x'])):
            done = subprocess.run([KMMCTL, '--socket', '/nonexistent/sock', *args],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  check=False)
            self.assertEqual((done.returncode, done.stdout), (2, ''), args)
            self.assertTrue(done.stderr.startswith('kmmctl: ' + text), done.stderr)

    def test_an_odd_pool(self):
        """Several nodes, larger sections, no high memory."""
        with daemon('--nodes', '2') as d:
            cells = d.json('map')['cells']
            self.assertEqual({c['node'] for c in cells if 'node' in c}, {0, 1})
            text = d.ctl('map')
            self.assertIn('Node 1, zone ', text)
            self.assertEqual(len(letters(text)), len(cells))
            self.assertEqual(d.ctl('map', '--by', 'type').count('Node 0, '), text.count('Node 0, '))

    def test_the_same_on_huge_pages(self):
        with Daemon('--pool-size', '64M', '--backing', 'hugetlb') as d, Peer(d) as a:
            pfn = a.must('ALLOC', GFP_KERNEL, 9)
            p = d.json('page', str(pfn))
            self.assertEqual((p['backing'], p['order'], p['owner'][0]['session']),
                             ('hugetlb-2M', 9, a.session))
            page = a.must('ALLOC', GFP_KERNEL | GFP_HIGHMEM, 0)
            self.assertGreaterEqual(page, 0)
            cells = [c for c in d.json('map')['cells'] if c.get('movable')]
            frame = cells[0]['pageblock'] * BLOCK
            self.assertEqual(d.json('page', str(frame))['backing'], '4k')


if __name__ == '__main__':
    main()

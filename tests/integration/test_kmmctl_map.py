#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kmmctl map: cells against the sums that other reports know, letters, colours on a terminal of one's
own (a pty), and the SVG through an XML parser.
"""
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

sys.dont_write_bytecode = True  # the source tree may be read-only

from kmmctl_case import BLOCK, FRAMES, MIB, POOL, Case, Terminal, letters
from kmmd_run import KMMCTL
from kmmtest import main, wait_until
from peer_run import GFP_KERNEL, GFP_MOVABLE, GFP_NOWAIT

SVG = '{http://www.w3.org/2000/svg}'


class Map(Case):
    def setUp(self):
        super().setUp()
        self.blocks = [(self.a.must('ALLOC', GFP_KERNEL, o), o) for o in (10, 10, 9, 4, 0)]
        self.movable = [(self.b.must('ALLOC', GFP_KERNEL | GFP_MOVABLE, o), o) for o in (9, 9, 8)]
        self.cache = self.b.must('CACHE_CREATE', 512, 0, 0, text='inode')
        self.b.must('OBJECT_HOARD', self.cache, GFP_NOWAIT, 3000)

    def test_cells_add_up(self):
        m, buddyinfo, zoneinfo, meminfo, types = self.steady(lambda: [
            self.d.json(r) for r in ('map', 'buddyinfo', 'zoneinfo', 'meminfo', 'pagetypeinfo')])
        cells = m['cells']
        self.assertEqual(m['pageblock_frames'], BLOCK)
        self.assertEqual([c['pageblock'] for c in cells], list(range(FRAMES // BLOCK)))
        self.assertEqual([c['address'] for c in cells],
                         list(range(0, POOL, BLOCK * 4096)))
        zones = [c for c in cells if c['state'] == 'zone']
        for c in zones:
            self.assertEqual(c['free'] + c['per_cpu'] + c['reserved'] + c['blocks'] + c['slab'],
                             BLOCK, c)
            self.assertLessEqual(c['cached'] + c['kept'], c['blocks'])
            self.assertEqual(c['largest_order'] >= 0, c['free'] > 0)
        for z in buddyinfo:
            mine = [c for c in zones if (c['node'], c['zone']) == (z['node'], z['zone'])]
            self.assertEqual(sum(c['free'] for c in mine),
                             sum(n << o for o, n in enumerate(z['free_blocks'])))
            self.assertEqual(max(c['largest_order'] for c in mine),
                             max([o for o, n in enumerate(z['free_blocks']) if n], default=-1))
        for z in zoneinfo:
            mine = [c for c in zones if (c['node'], c['zone']) == (z['node'], z['zone'])]
            self.assertEqual(len(mine) * BLOCK, z['spanned'])
            self.assertEqual(sum(c['per_cpu'] for c in mine),
                             sum(p['count'] for p in z.get('pagesets', [])))
        self.assertEqual(sum(c['slab'] for c in zones) * 4, meminfo['Slab'])
        types = types['zones']
        for name in ('Unmovable', 'Movable', 'Reclaimable'):
            self.assertEqual(sum(c['type'] == name for c in zones),
                             sum(z['pageblocks'][name] for z in types))
        self.assertEqual({c['state'] for c in cells}, {'zone', 'metadata'})

    def test_owners(self):
        m = self.d.json('map')
        for pfn, order in self.blocks + self.movable:
            if order < 9:
                continue
            mine = self.a if (pfn, order) in self.blocks else self.b
            for i in range(pfn // BLOCK, (pfn + (1 << order)) // BLOCK):
                c = m['cells'][i]
                self.assertEqual((c['owner'], c['owner_frames'], c['blocks']),
                                 (mine.session, BLOCK, BLOCK))
        of_slabs = [c for c in m['cells'] if c.get('slab', 0) > 256]
        self.assertTrue(of_slabs)
        for c in of_slabs:
            self.assertEqual(c['owner'], self.b.session)
        self.assertEqual([(s['id'], s['pid']) for s in m['sessions']],
                         [(p.session, p.process.pid) for p in (self.a, self.b)])

    def test_kept_and_cached(self):
        pfn = self.blocks[2][0]
        self.a.must('PUBLISH', pfn * 4096, text='kept')
        self.a.must('FREE', pfn, 9)
        c = self.d.json('map')['cells'][pfn // BLOCK]
        self.assertEqual((c['kept'], c['owner'], c['blocks']), (BLOCK, 0, BLOCK))
        self.a.must('UNPUBLISH', text='kept')
        pfn = self.movable[0][0]
        self.b.must('FREE', pfn, 9)
        c = self.d.json('map')['cells'][pfn // BLOCK]
        self.assertEqual((c['cached'], c['owner'], c['blocks']), (BLOCK, 0, BLOCK))
        self.assertEqual(self.page(pfn)['owner_word']['kind'], 'returned')

    def test_letters(self):
        views = ('fullness', 'zone', 'type', 'owner')
        cells, plain, texts = self.steady(lambda: (
            self.d.json('map')['cells'], self.d.ctl('map'),
            {by: self.d.ctl('map', '--by', by) for by in views}))

        def expected(by, c, owners):
            if c['state'] == 'metadata':
                return '='
            used = BLOCK - c['free'] - c['per_cpu']
            if by == 'zone':
                return {'DMA': 'D', 'DMA32': '3', 'Normal': 'N', 'HighMem': 'H'}[c['zone']]
            if by == 'type':
                return c['type'][0] if used else c['type'][0].lower()
            if by == 'owner':
                return owners.get(c['owner'], '-' if used else '.')
            return '.' if not used else '#' if used == BLOCK else str(max(1, used * 10 // BLOCK))

        sums = {p.session: sum(c['owner_frames'] for c in cells if c.get('owner') == p.session)
                for p in (self.a, self.b)}
        order = sorted(sums, key=lambda s: (-sums[s], s))
        owners = {s: 'ab'[i] for i, s in enumerate(order)}
        for by, text in texts.items():
            self.assertEqual(letters(text), ''.join(expected(by, c, owners) for c in cells), text)
            self.assertTrue(text.startswith('pool of 64M, a cell is 2M, by %s\n' % by))
            self.assertNotIn('\033', text)
            for zone in {c['zone'] for c in cells if 'zone' in c}:
                self.assertIn('\nNode 0, zone %s: ' % zone, text)
            self.assertIn('\nMetadata: ', text)
            self.assertIn('  = metadata\n', text)
        self.assertEqual(plain, texts['fullness'])

    def test_colour_by_option(self):
        plain, default, coloured = self.steady(lambda: (
            self.d.ctl('map', '--color', 'never'), self.d.ctl('map'),
            self.d.ctl('map', '--color', 'always')))
        self.assertEqual(plain, default)
        bare = re.sub(r'\033\[[0-9;]*m', '', coloured)
        self.assertEqual(letters(bare), letters(plain))
        self.assertEqual(coloured.count('\033[48;5;'), coloured.count('\033[0m'))
        self.assertGreaterEqual(coloured.count('\033[48;5;'), FRAMES // BLOCK)

    def test_colour_by_terminal(self):
        for environment, coloured in (({'TERM': 'xterm'}, True), ({'TERM': 'dumb'}, False),
                                      ({'TERM': 'xterm', 'NO_COLOR': '1'}, False),
                                      ({'TERM': 'xterm', 'NO_COLOR': ''}, True)):
            with Terminal(self.d, ['map'], environment) as t:
                out = t.to_the_end()
            self.assertEqual('\033[48;5;' in out, coloured, environment)
            self.assertEqual(t.status, 0)

    def test_small_terminals(self):
        with Terminal(self.d, ['map'], {'TERM': 'dumb'}, lines=14, columns=40) as t:
            out = t.to_the_end().replace('\r\n', '\n')
        self.assertIn('a cell is ', out)
        self.assertNotIn('a cell is 2M', out)
        self.assertLessEqual(max(len(line) for line in letters(out).splitlines()), 16)

    def check_svg(self, text, by):
        root = ElementTree.fromstring(text)
        self.assertEqual(root.tag, SVG + 'svg')
        _, _, width, height = (float(x) for x in root.get('viewBox').split())
        self.assertEqual(root.find(SVG + 'title').text, 'kmmd pool by %s' % by)
        groups = [g for g in root.findall(SVG + 'g') if g.get('class') == 'group']
        rects = [r for g in groups for r in g.findall(SVG + 'rect')]
        self.assertEqual(len(rects), FRAMES // BLOCK)
        self.assertEqual(len({(r.get('x'), r.get('y')) for r in rects}), len(rects))
        style = root.find(SVG + 'style').text
        dark = style.index('@media (prefers-color-scheme: dark)')
        for i, r in enumerate(rects):
            self.assertTrue(r.find(SVG + 'title').text.startswith(
                'pageblock %d at %#x: ' % (i, i * 2 * MIB) if i else 'pageblock 0 at 0: '))
            hue, level = r.get('class').split()[1:]
            rule = '.%s.%s{fill:#' % (hue, level)
            self.assertIn(rule, style[:dark])
            self.assertIn(rule, style[dark:])
        for e in root.iter():
            if e.get('x') is not None:
                self.assertLessEqual(float(e.get('x')) + float(e.get('width', 0)), width)
                self.assertLessEqual(float(e.get('y')) + float(e.get('height', 0)), height)
        legend = [g for g in root.findall(SVG + 'g') if g.get('class') == 'legend'][0]
        self.assertEqual(len(legend.findall(SVG + 'rect')), len(legend.findall(SVG + 'text')))
        self.assertIn('metadata', [t.text for t in legend.findall(SVG + 'text')])
        swatches = [r.get('class') for r in legend.findall(SVG + 'rect')]
        self.assertEqual(len(set(swatches)), len(swatches))
        self.assertNotIn('letter', text)
        headings = [g.find(SVG + 'text').text for g in groups]
        self.assertEqual(headings[-1].split(':')[0], 'Metadata')
        self.assertNotIn('href', text)  # nothing from elsewhere
        return rects

    def test_svg(self):
        path = os.path.join(self.d.directory, 'map.svg')
        for by in ('fullness', 'zone', 'type', 'owner'):
            def draw():
                self.assertEqual(self.d.ctl('map', '--by', by, '--svg', path), '')
                with open(path, encoding='utf-8') as f:
                    return f.read(), self.d.ctl('map', '--by', by, '--svg', '-')
            text, printed = self.steady(draw)
            rects = self.check_svg(text, by)
            self.assertEqual(printed, text)
        said = rects[self.blocks[0][0] // BLOCK].find(SVG + 'title').text
        self.assertIn('512 in blocks', said)
        self.assertIn('session %d peer has most: 512' % self.a.session, said)
        self.assertEqual(sorted(os.listdir(self.d.directory)), ['log', 'map.svg', 'sock'])

    def test_svg_that_cannot_be_written(self):
        self.refused(1, 'cannot write /nonexistent/x.svg: No such file or directory', 'map', '--svg',
                     '/nonexistent/x.svg')
        place = os.path.join(self.d.directory, 'directory')
        os.mkdir(place)
        self.refused(1, 'cannot write %s: ' % place, 'map', '--svg', place)
        os.rmdir(place)
        self.assertEqual(sorted(os.listdir(self.d.directory)), ['log', 'sock'])

    def test_watch(self):
        with subprocess.Popen([KMMCTL, '--socket', self.d.socket, '--watch', '0.1', 'map'],
                              stdout=subprocess.PIPE, text=True) as p:
            seen = ''
            while seen.count('pool of 64M') < 3:
                seen += p.stdout.readline()
            p.kill()
        self.assertGreaterEqual(seen.count('---\n'), 2)

    def test_watch_of_a_file_prints_nothing(self):
        path = os.path.join(self.d.directory, 'map.svg')
        with subprocess.Popen([KMMCTL, '--socket', self.d.socket, '--watch', '0.1', 'map', '--svg',
                               path], stdout=subprocess.PIPE, text=True) as p:
            wait_until(lambda: os.path.exists(path), 'a first picture')
            for _ in range(2):
                was = os.stat(path).st_ino, os.stat(path).st_mtime_ns
                wait_until(lambda: (os.stat(path).st_ino, os.stat(path).st_mtime_ns) != was,
                           'the next picture')
            p.terminate()
            self.assertEqual(p.stdout.read(), '')


if __name__ == '__main__':
    main()

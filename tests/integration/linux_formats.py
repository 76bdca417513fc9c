# SPDX-License-Identifier: MIT
"""Strict parsers of Linux's reports: every line must have the shape that the kernel gives it.

One parser reads the saved files of a machine (tests/data) and kmmctl's output, so that they can
only differ in values. A parser raises ValueError for the first line that is wrong.
"""
import re

ZONES = ['DMA', 'DMA32', 'Normal', 'HighMem', 'Movable', 'Device']
TYPES = ['Unmovable', 'Movable', 'Reclaimable', 'HighAtomic', 'Isolate']
ORDERS = 11

PAGES = ['boost', 'min', 'low', 'high', 'promo', 'spanned', 'present', 'managed', 'cma']
PCP = ['count', 'high', 'batch', 'high_min', 'high_max']


class Lines:
    def __init__(self, text):
        if not text.endswith('\n'):
            raise ValueError('the last line does not end')
        self.lines = text[:-1].split('\n')
        self.at = 0

    def more(self):
        return self.at < len(self.lines)

    def peek(self, pattern):
        return self.more() and re.fullmatch(pattern, self.lines[self.at])

    def take(self, pattern):
        if not self.more():
            raise ValueError('the text ends where %r should be' % pattern)
        m = re.fullmatch(pattern, self.lines[self.at])
        if not m:
            raise ValueError('line %d is %r, not %r' % (self.at + 1, self.lines[self.at], pattern))
        self.at += 1
        return m


def take_exact(lines, fmt, what):
    """A line that printf-like fmt % number gives; the number."""
    pattern = re.escape(fmt % 7777).replace('7777', r'(\d+)')
    try:
        m = lines.take(pattern)
    except ValueError as e:
        raise ValueError('%s: %s' % (what, e))
    return int(m.group(1))


def parse_stats(lines, names=None):
    """Lines of `      %-12s %lu`; names: which, in order (None: any)."""
    got = {}
    while lines.peek(r'      \w+ +\d+') and (names is None or len(got) < len(names)):
        m = lines.take(r'      (\w+) +(\d+)')
        name, value = m.group(1), int(m.group(2))
        if m.group(0) != '      %-12s %d' % (name, value):
            raise ValueError('padding of %r' % m.group(0))
        got[name] = value
    if names is not None and list(got) != names:
        raise ValueError('names are %r, not %r' % (list(got), names))
    return got


def parse_zone(lines):
    m = lines.take(r'Node (\d+), zone ( *\w+)')
    name = m.group(2).strip()
    if m.group(2) != '%8s' % name or name not in ZONES:
        raise ValueError('zone %r' % m.group(2))
    zone = {'node': int(m.group(1)), 'name': name, 'node_stats': None, 'cpus': []}
    if lines.peek('  per-node stats'):
        lines.take('  per-node stats')
        zone['node_stats'] = parse_stats(lines)
    zone['free'] = take_exact(lines, '  pages free     %d', name)
    for key in PAGES:
        zone[key] = take_exact(lines, '        %-8s %%d' % key, name)
    m = lines.take(r'        protection: \((\d+(?:, \d+)*)\)')
    zone['protection'] = [int(x) for x in m.group(1).split(', ')]
    zone['populated'] = zone['present'] > 0
    if not zone['populated']:
        return zone
    zone['stats'] = parse_stats(lines)
    lines.take('  pagesets')
    while lines.peek(r'    cpu: \d+'):
        cpu = {'cpu': take_exact(lines, '    cpu: %d', name)}
        for key in PCP:
            cpu[key] = take_exact(lines, '              %-9s %%d' % (key + ':'), name)
        cpu['threshold'] = take_exact(lines, '  vm stats threshold: %d', name)
        zone['cpus'].append(cpu)
    take_exact(lines, '  node_unreclaimable:  %d', name)
    zone['start_pfn'] = take_exact(lines, '  start_pfn:           %d', name)
    return zone


def zoneinfo(text):
    lines, zones = Lines(text), []
    while lines.more():
        zones.append(parse_zone(lines))
    return zones


def counts(text, width, n):
    """n numbers, each `%<width>lu ` (or `>100000 `); raises unless text is exactly that."""
    values = text.split()
    if len(values) != n:
        raise ValueError('%d numbers in %r, not %d' % (len(values), text, n))
    again = ''.join(('%s ' % v if v.startswith('>') else '%*d ' % (width, int(v))) for v in values)
    if again != text:
        raise ValueError('padding of %r' % text)
    return [int(v.lstrip('>')) for v in values]


def zone_heading(name):
    if '%8s' % name.strip() != name:
        raise ValueError('zone %r' % name)
    return name.strip()


def buddyinfo(text):
    """{(node, zone): [blocks by order]}"""
    lines, found = Lines(text), {}
    while lines.more():
        m = lines.take(r'Node (\d+), zone ( *\w+) (.*)')
        found[int(m.group(1)), zone_heading(m.group(2))] = counts(m.group(3), 6, ORDERS)
    return found


def pagetypeinfo(text):
    """({(node, zone, type): [blocks by order]}, {(node, zone): [page blocks by type]})"""
    lines, free, blocks = Lines(text), {}, {}
    while lines.more():
        lines.take('Page block order: 9')
        lines.take('Pages per block:  512')
        lines.take('')
        lines.take(re.escape('%-43s ' % 'Free pages count per migrate type at order' +
                             ''.join('%6d ' % o for o in range(ORDERS))))
        while lines.peek(r'Node .*, type .*'):
            m = lines.take(r'Node ( *\d+), zone ( *\w+), type ( *\w+) (.*)')
            kind = m.group(3).strip()
            if '%4d' % int(m.group(1)) != m.group(1) or '%12s' % kind != m.group(3):
                raise ValueError('padding of %r' % m.group(0))
            free[int(m.group(1)), zone_heading(m.group(2)), kind] = counts(m.group(4), 6, ORDERS)
        lines.take('')
        lines.take(re.escape('%-23s' % 'Number of blocks type ' +
                             ''.join('%12s ' % t for t in TYPES)))
        while lines.peek(r'Node .*'):
            m = lines.take(r'Node (\d+), zone ( *\w+) (.*)')
            blocks[int(m.group(1)), zone_heading(m.group(2))] = counts(m.group(3), 12, len(TYPES))
    return free, blocks


def meminfo(text):
    """{label: value}, in order"""
    lines, found = Lines(text), {}
    while lines.more():
        m = lines.take(r'([\w()]+): +(\d+)( kB)?')
        label, value, unit = m.group(1), int(m.group(2)), m.group(3) or ''
        if m.group(0) != '%-16s%8d%s' % (label + ':', value, unit):
            raise ValueError('padding of %r' % m.group(0))
        if bool(unit) == label.startswith('HugePages_'):
            raise ValueError('unit of %r' % m.group(0))
        found[label] = value
    return found


SLABINFO_HEADING = ['slabinfo - version: 2.1',
                    '# name            <active_objs> <num_objs> <objsize> <objperslab> '
                    '<pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata '
                    '<active_slabs> <num_slabs> <sharedavail>']
SLABINFO_ROW = '%-17s %6d %6d %6d %4d %4d : tunables %4d %4d %4d : slabdata %6d %6d %6d'
SLABINFO_FIELDS = ['name', 'active_objs', 'num_objs', 'objsize', 'objperslab', 'pagesperslab',
                   'limit', 'batchcount', 'sharedfactor', 'active_slabs', 'num_slabs',
                   'sharedavail']


def slabinfo(text):
    """[{field: value}], in order; the counts of each row agree with each other"""
    lines, found = Lines(text), []
    for heading in SLABINFO_HEADING:
        lines.take(re.escape(heading))
    while lines.more():
        m = lines.take(r'.+')
        fields = m.group(0).split()
        if len(fields) != 16 or [fields[i] for i in (6, 7, 11, 12)] != [':', 'tunables', ':',
                                                                        'slabdata']:
            raise ValueError('fields of %r' % m.group(0))
        values = [fields[0]] + [int(fields[i]) for i in (1, 2, 3, 4, 5, 8, 9, 10, 13, 14, 15)]
        if SLABINFO_ROW % tuple(values) != m.group(0):
            raise ValueError('padding of %r' % m.group(0))
        c = dict(zip(SLABINFO_FIELDS, values))
        if not (c['num_objs'] == c['num_slabs'] * c['objperslab'] and
                c['active_objs'] <= c['num_objs'] and c['active_slabs'] <= c['num_slabs'] and
                c['objsize'] * c['objperslab'] <= 4096 * c['pagesperslab'] and
                c['active_objs'] + c['sharedavail'] <= c['num_objs']):
            raise ValueError('counts of %r' % m.group(0))
        found.append(c)
    return found


def iomem(text):
    """[(depth, start, end, name)]; a range lies within its parent and behind its elder sibling"""
    lines, found, path = Lines(text), [], []
    while lines.more():
        m = lines.take(r'((?:  ){0,4})([0-9a-f]{8,})-([0-9a-f]{8,}) : (.+)')
        depth, start, end = len(m.group(1)) // 2, int(m.group(2), 16), int(m.group(3), 16)
        for x in (m.group(2), m.group(3)):
            if '%08x' % int(x, 16) != x:
                raise ValueError('digits of %r' % m.group(0))
        if depth > len(path):
            raise ValueError('indent of %r' % m.group(0))
        hidden = start == end == 0
        if not hidden:
            if start > end:
                raise ValueError('range of %r' % m.group(0))
            if depth and not (path[depth - 1][0] <= start and end <= path[depth - 1][1]):
                raise ValueError('%r lies outside of what it stands under' % m.group(0))
            if depth < len(path) and start <= path[depth][1]:
                raise ValueError('%r begins before the range above it ends' % m.group(0))
        path = path[:depth] + [(start, end)]
        found.append((depth, start, end, m.group(4)))
    return found


def vmstat(text):
    """{name: value}, in order; no name twice, `nr_unstable 0` is the last"""
    lines, found = Lines(text), {}
    while lines.more():
        m = lines.take(r'([a-z0-9_]+) (\d+)')
        if m.group(1) in found or str(int(m.group(2))) != m.group(2):
            raise ValueError('%r' % m.group(0))
        found[m.group(1)] = int(m.group(2))
    if list(found.items())[-1] != ('nr_unstable', 0):
        raise ValueError('the last line is not nr_unstable 0')
    return found


VMALLOCINFO_ROW = (r'0x([0-9a-f]{16})-0x([0-9a-f]{16}) ( *\d+)(?: (unpurged vm_area)|'
                   r' (\S+\+0x[0-9a-f]+/0x[0-9a-f]+)(?: pages=(\d+))?'
                   r'(?: phys=0x[0-9a-f]{16})?((?: (?:ioremap|sparse|vmalloc|vmap|user|'
                   r'dma-coherent|vpages))*)((?: N\d+=[1-9]\d*)*))')


def vmallocinfo(text):
    """[{start, end, size, caller, pages, flags, nodes}], in order; `unpurged` ones come last"""
    lines, found = Lines(text), []
    while lines.more():
        m = lines.take(VMALLOCINFO_ROW)
        size = int(m.group(3))
        if '%7d' % size != m.group(3) or size % 4096:
            raise ValueError('size of %r' % m.group(0))
        row = {'start': int(m.group(1), 16), 'end': int(m.group(2), 16), 'size': size,
               'unpurged': bool(m.group(4)), 'caller': m.group(5),
               'pages': m.group(6) and int(m.group(6)),
               'flags': (m.group(7) or '').split(),
               'nodes': {int(x[1:].split('=')[0]): int(x.split('=')[1])
                         for x in (m.group(8) or '').split()}}
        if row['pages'] and row['nodes'] and sum(row['nodes'].values()) != row['pages']:
            raise ValueError('nodes of %r' % m.group(0))
        if found and found[-1]['unpurged'] and not row['unpurged']:
            raise ValueError('%r comes behind a freed one' % m.group(0))
        found.append(row)
    if found and not found[0]['caller'] and not found[0]['unpurged']:
        raise ValueError('the first line has no caller')
    return found


# ---- shapes: what is left of a line when its values are taken away ----

def shape(line):
    """Numbers, hexadecimal ones too, with the padding before them become #."""
    line = re.sub(r' *\b0x[0-9a-f]+', ' #', line)
    return re.sub(r' *\b[0-9]+\b', ' #', line)


def shapes(text):
    return [shape(line) for line in text.rstrip('\n').split('\n')]


def table_shapes(text):
    """The shapes of a table's rows, each once: names and paddings at the beginning set apart."""
    return {shape(re.sub(r'^\S+ +', 'name ', line)) for line in text.rstrip('\n').split('\n')}


def zone_shapes(text):
    """{first words of a zone's lines: set of tuples of shapes}, for reports with a part a zone"""
    found, part = set(), []
    for line in text.rstrip('\n').split('\n') + ['Node ']:
        if line.startswith('Node ') and part:
            found.add(tuple(part))
            part = []
        part.append(shape(re.sub(r'zone +\w+', 'zone NAME', line)))
    return found

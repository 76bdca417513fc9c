# SPDX-License-Identifier: MIT
"""State that makes no sense is refused with a report and exit status 3, never served.

The test writes into the pool's metadata through the descriptors that the supervisor keeps, kills the
daemon, and looks what the next one says. What clients can write (owner words) is another matter: it
is reported and not believed, and the daemon serves on.
"""
import mmap
import os
import re
import signal
import struct
import unittest

from kmmtest import OK, Connection, Daemon, field, main, wait_until

GFP_KERNEL = 0xCC0
GFP_HIGHUSER_MOVABLE = 0x100CCA
SUPERBLOCK = struct.Struct("<QII16sQIIQQQQIIIIQQQQQQQQIIQQ")
FIELDS = ("magic version size uuid frames section_order nodes dma_end dma32_end highmem_start "
          "movable_start sessions holders magazines backing mm_address mm_size session_address "
          "holder_address checksum_before committed epoch created made_version lifeline checksum "
          "served").split()
RECORD_SIZE = 192


class Memory:
    """The memfds of a supervised pool, mapped."""

    def __init__(self, supervisor):
        self.maps = []
        self.sections = {}
        self.words = self.views = self.ledger = None
        for fd in os.listdir(f"/proc/{supervisor}/fd"):
            path = f"/proc/{supervisor}/fd/{fd}"
            try:
                name = os.readlink(path)
            except FileNotFoundError:  # a connection's, which has ended
                continue
            if not name.startswith("/memfd:"):
                continue
            name = name[len("/memfd:"):].removesuffix(" (deleted)")
            if "words" in name:
                self.words = self.map(path)
            elif "views" in name:
                self.views = self.map(path)
            elif "ledger" in name:
                self.ledger = self.map(path)
            else:
                self.sections[int(re.search(r"(\d+)$", name).group(1))] = self.map(path)
        self.section_size = len(self.sections[0])
        self.size = len(self.sections) * self.section_size
        last = self.sections[max(self.sections)]
        self.superblock_at = self.size - 4096
        values = SUPERBLOCK.unpack_from(last, self.section_size - 4096)
        self.superblock = dict(zip(FIELDS, values))
        first_metadata = self.superblock["holder_address"] // self.section_size * self.section_size
        self.high_start = min(self.superblock[name] for name in ("highmem_start", "movable_start"))
        self.high_frames = max(0, first_metadata // 4096 - self.high_start)

    def map(self, path):
        fd = os.open(path, os.O_RDWR)
        try:
            m = mmap.mmap(fd, os.fstat(fd).st_size)
        finally:
            os.close(fd)
        self.maps.append(m)
        return m

    def close(self):
        for m in self.maps:
            m.close()

    def read(self, address, size):
        s, at = divmod(address, self.section_size)
        return self.sections[s][at:at + size]

    def write(self, address, data):
        s, at = divmod(address, self.section_size)
        self.sections[s][at:at + len(data)] = data

    def write_field(self, name, value):
        """Into the superblock."""
        at, format_ = 0, SUPERBLOCK.format.lstrip("<")
        codes = re.findall(r"\d*\w", format_)
        for field_name, code in zip(FIELDS, codes):
            if field_name == name:
                self.write(self.superblock_at + at, struct.pack("<" + code, value))
                return
            at += struct.calcsize("<" + code)
        raise KeyError(name)

    def find_word(self, accepts):
        """Address of the one 64-bit word of mm's tables that the predicate accepts."""
        start, size = self.superblock["mm_address"], self.superblock["mm_size"]
        found = []
        for at in range(start, start + size, 4096):
            page = self.read(at, 4096)
            if any(page):
                found += [at + 8 * i for i, w in enumerate(struct.unpack("<512Q", page)) if accepts(w)]
        assert len(found) == 1, found
        return found[0]


class Corrupt(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon("--supervise", "--reactors", "2")
        self.addCleanup(self.end)
        self.memory = Memory(self.daemon.process.pid)
        self.client = Connection(self.daemon)
        self.session = self.client.hello().fields[3][0]
        r = self.client.do("ALLOCATOR_ALLOC_PAGES", field(1, GFP_KERNEL) + field(2, 5))
        self.assertEqual(r.code, OK)
        self.pfn = r.fields.get(1, [0])[0]

    def end(self):
        self.client.close()
        self.memory.close()
        if self.daemon.process.poll() is None:
            self.daemon.process.terminate()
        self.daemon.process.wait(60)
        self.daemon.dir.cleanup()

    def kill(self):
        old = self.daemon.pid()
        os.kill(old, signal.SIGKILL)
        return old

    def refused(self, *words):
        self.kill()
        self.assertEqual(self.daemon.process.wait(60), 3, self.daemon.said())
        said = self.daemon.said()
        for word in words:
            self.assertIn(word, said)

    def served(self):
        old = self.kill()
        wait_until(lambda: self.daemon.pid() not in (None, old), "the next daemon")
        self.daemon.wait_serving()

    def page_word(self):
        """Of the block that the client was offered: allocated, order 5, charged to it."""
        return self.memory.find_word(
            lambda w: w & 1 and w >> 1 & 15 == 5 and w >> 8 & 0xFFFFF == self.session and w >> 44 == 0)

    # ---- the test's own eyes ----

    def test_untouched_state_is_served(self):
        self.assertEqual(self.memory.superblock["magic"], 0x6B6D6D642D706F6F)
        self.assertEqual(self.memory.superblock["frames"] * 4096, self.memory.size)
        self.page_word()
        self.served()
        self.assertEqual(self.daemon.ctl("fsck")[0], 0)

    # ---- the superblock ----

    def test_magic(self):
        self.memory.write_field("magic", 0)
        self.refused("superblock", "m15")

    def test_version(self):
        self.memory.write_field("version", 77)
        self.refused("version 77")

    def test_each_number_in_the_superblock(self):
        """One after the other would need a pool each: one is refused, all are covered by the sum."""
        self.memory.write_field("frames", self.memory.superblock["frames"] * 2)
        self.refused("checksum")

    def test_checksum(self):
        self.memory.write_field("checksum", self.memory.superblock["checksum"] ^ 1)
        self.refused("checksum")

    def test_superblock_punched(self):
        self.memory.write(self.memory.superblock_at, bytes(4096))
        self.refused("superblock")

    # ---- frames and sections ----

    def test_frame_word_with_unknown_bits(self):
        at = self.page_word()
        word, = struct.unpack("<Q", self.memory.read(at, 8))
        self.memory.write(at, struct.pack("<Q", word | 1 << 60))
        self.refused("refused")

    def test_frame_word_of_an_impossible_order(self):
        at = self.page_word()
        word, = struct.unpack("<Q", self.memory.read(at, 8))
        self.memory.write(at, struct.pack("<Q", word | 15 << 1))
        self.refused("refused")

    def test_frame_word_inside_another_block(self):
        at = self.page_word()
        word, = struct.unpack("<Q", self.memory.read(at, 8))
        self.memory.write(at + 8, struct.pack("<Q", word & ~(15 << 1)))
        self.refused("refused")

    def test_frame_word_misaligned(self):
        """A head of order 5 one frame further."""
        at = self.page_word()
        word, = struct.unpack("<Q", self.memory.read(at, 8))
        self.memory.write(at, bytes(8) + struct.pack("<Q", word))
        self.refused("refused")

    # ---- sessions and control memory ----

    def test_session_record_in_no_state(self):
        at = self.memory.superblock["session_address"] + self.session * RECORD_SIZE
        word, = struct.unpack("<Q", self.memory.read(at, 8))
        self.assertEqual(word & 15, 1)
        self.memory.write(at, struct.pack("<Q", word | 15))
        self.refused(f"session {self.session}")

    def test_control_memory_of_another_pool(self):
        at = self.memory.views[:4096].find(self.memory.superblock["uuid"])
        self.assertGreater(at, 0)
        self.memory.views[at:at + 16] = bytes(16)
        self.refused("control memory")

    def test_control_memory_of_another_version(self):
        self.memory.views[0:4] = struct.pack("<I", 9)
        self.refused("control memory", "version 9")

    # ---- the map of the pages that move ----

    def high_at(self, index):
        """Where the ledger says which frame that page has: before the out bits, which end it."""
        out = self.memory.superblock["frames"] * 128 // 8
        return len(self.memory.ledger) - out - (4 * self.memory.high_frames + 4095) // 4096 * 4096 + \
            4 * index

    def high(self, index):
        return struct.unpack_from("<I", self.memory.ledger, self.high_at(index))[0]

    def set_high(self, index, frame):
        struct.pack_into("<I", self.memory.ledger, self.high_at(index), frame)

    def test_map_after_a_death_in_a_move(self):
        """Two pages have one frame: what a death between two stores leaves, and is repaired."""
        for i in (0, 1, self.memory.high_frames - 1):
            self.assertEqual(self.high(i), self.memory.high_start + i)
        self.set_high(5, self.memory.high_start + 7)
        self.served()
        self.assertEqual(sorted(self.high(i) - self.memory.high_start for i in range(10)),
                         list(range(10)))
        self.assertEqual(self.daemon.ctl("fsck")[0], 0)

    def test_map_with_a_frame_of_another_zone(self):
        self.set_high(5, self.memory.high_start - 1)
        self.refused("ledger's map was overwritten", f"page {self.memory.superblock['frames'] + 5}")

    def test_map_that_is_no_permutation(self):
        for i in (5, 6):
            self.set_high(i, self.memory.high_start + 7)
        self.refused("ledger's map was overwritten")

    # ---- what clients can write ----

    def scribble(self, pfn, kind, owner):
        generation = struct.unpack_from("<Q", self.memory.words, 8 * pfn)[0] >> 26
        struct.pack_into("<Q", self.memory.words, 8 * pfn, generation << 26 | kind << 20 | owner)

    def damaged(self):
        status, text = self.daemon.ctl("fsck")
        self.assertEqual(status, 1, text)
        self.assertNotEqual(text.strip(), "")
        with Connection(self.daemon) as c:  # and it serves
            self.assertEqual(c.hello().code, OK)
            self.assertEqual(c.do("ALLOCATOR_ALLOC_PAGES", field(1, GFP_KERNEL) + field(2, 3)).code, OK)
            self.assertEqual(c.do("ALLOCATOR_CLOSE").code, OK)

    def test_owner_word_of_a_session_of_nobody(self):
        self.scribble(self.pfn, 2, 4000)
        self.damaged()
        self.served()
        self.damaged()

    def test_owner_word_of_an_unknown_kind(self):
        self.scribble(self.pfn, 7, 0)
        self.damaged()
        self.served()
        self.damaged()

    def test_owner_words_of_the_high_zones(self):
        """Of a page that moves, of the frame that it has, and of a move that nobody makes."""
        frames, high = self.memory.superblock["frames"], self.memory.high_start
        reply = self.client.do("ALLOCATOR_ALLOC_PAGES", field(1, GFP_HIGHUSER_MOVABLE) + field(2, 0))
        page = reply.fields[1][0]
        self.assertGreaterEqual(page, frames)
        at = self.high(page - frames)
        for p, kind in ((at, 2), (frames, 6), (high + 5, 2)):
            self.scribble(p, kind, self.session)
        self.damaged()
        self.served()
        self.assertIn(f"page {at} is free but", self.daemon.said())
        self.assertEqual(self.daemon.ctl("fsck")[0], 0)

    def test_owner_word_of_a_free_frame(self):
        """Claimed by scribbling, never granted: the next start says so and puts it right."""
        self.scribble(self.pfn + 64, 2, self.session)
        self.damaged()
        self.served()
        self.assertIn(f"page {self.pfn + 64} is free but", self.daemon.said())
        self.assertEqual(self.daemon.ctl("fsck")[0], 0)


if __name__ == "__main__":
    main()

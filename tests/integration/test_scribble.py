# SPDX-License-Identifier: MIT
"""A client writes nonsense over everything that it may write: object words, slab bits, magazines,
session records. The daemon serves on, believes only what its private state bears out, and fsck says
what was found; what others have through the daemon's own memory stays as it is.

The words are written through the descriptor that the supervisor keeps: the memory that each member
of the domain maps. Peers (peer.c) are the clients that work meanwhile.
"""
import os
import random
import socket
import struct
import subprocess
import threading
import unittest

from kmmtest import OK, Connection, Daemon, field, main, wait_until
from test_corrupt import GFP_KERNEL, Memory

FREE, OFFERED, HELD, MAGAZINE, RETURNED, AREA = range(6)
EMPTY, DEPOT = 0, 1
SESSION_SIZE, MAGAZINE_SIZE = 320, 2112
OBJECT_WORDS_PER_FRAME = 128
NOBODY = 4000  # a session that there is not


def pages(size):
    return (size + 4095) // 4096 * 4096


class Shared(Memory):
    """Where things lie in the words and the views, as in shm/control.c."""

    def __init__(self, supervisor):
        super().__init__(supervisor)
        frames = self.frames = self.superblock["frames"]
        self.sessions = self.superblock["sessions"]
        self.magazines = self.superblock["magazines"]
        all_pages = self.all_pages = frames + self.high_frames
        self.session_at = pages(8 * all_pages)
        self.magazine_at = self.session_at + pages(SESSION_SIZE * self.sessions)
        self.object_at = self.magazine_at + pages(MAGAZINE_SIZE * self.magazines)
        self.object_words = frames * OBJECT_WORDS_PER_FRAME
        self.bits_at = self.object_at + pages(8 * self.object_words)
        self.bits_stride = pages(frames // 8)
        self.desc_at = 4096 + pages(all_pages >> self.superblock["section_order"])

    def word_index(self, granule):
        """Of the object at that granule (of 8 bytes), by what the daemon shows to all."""
        address = granule * 8
        desc, = struct.unpack_from("<Q", self.views, self.desc_at + 8 * (address >> 12))
        assert desc >> 5 & 3 == 2, hex(desc)  # PAGE_SLAB
        return (desc >> 32) + ((address & 4095) >> (desc & 31))

    def word(self, index):
        return struct.unpack_from("<Q", self.words, self.object_at + 8 * index)[0]

    def set_word(self, index, kind, owner, generation=None):
        if generation is None:
            generation = self.word(index) >> 26
        struct.pack_into("<Q", self.words, self.object_at + 8 * index,
                         generation << 26 | kind << 20 | owner)


class Peer:
    """tests/integration/peer, driven from here. A peer may die of what it reads: it is a victim."""
    COMMAND = struct.Struct("<QQQQ88s")
    CREATE, HOARD, RELEASE = 64, 73, 74

    def __init__(self, daemon):
        ours, theirs = socket.socketpair()
        ours.settimeout(300)
        program = os.path.join(os.environ.get("KMM_BUILDDIR", "."), "tests/integration/peer")

        def descriptors():
            os.dup2(theirs.fileno(), 3)
            os.set_inheritable(3, True)
        self.process = subprocess.Popen([program, daemon.socket], preexec_fn=descriptors,
                                        close_fds=False, stderr=subprocess.DEVNULL)
        theirs.close()
        self.socket = ours

    def do(self, op, a=0, b=0, c=0, text=""):
        """None: it is dead."""
        try:
            self.socket.sendall(self.COMMAND.pack(op, a, b, c, text.encode()))
            answer = self.socket.recv(8, socket.MSG_WAITALL)
        except OSError:
            return None
        return struct.unpack("<q", answer)[0] if len(answer) == 8 else None

    def end(self):
        self.socket.close()
        self.process.kill()
        self.process.wait()


def good(reply):
    """The fields of a reply that must be one."""
    assert reply.code == OK, reply.text
    return reply.fields


class Scribble(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon("--supervise", "--reactors", "2")
        self.addCleanup(self.end)
        self.memory = Shared(self.daemon.pid())
        self.client = Connection(self.daemon)
        self.session = self.client.hello().fields[3][0]
        self.cache, self.life = self.create(self.client, "scribbled", 128)
        self.granule = self.allocate()
        self.index = self.memory.word_index(self.granule)

    def end(self):
        self.client.close()
        self.memory.close()
        if self.daemon.process.poll() is None:
            self.daemon.process.terminate()
        self.daemon.process.wait(60)
        self.daemon.dir.cleanup()

    def create(self, client, name, size):
        fields = good(client.do("ALLOCATOR_CREATE_CACHE", field(1, name) + field(2, size)))
        return fields[1][0], fields[2][0]

    def allocate(self, client=None):
        fields = good((client or self.client).do("ALLOCATOR_ALLOC_OBJECT", field(1, self.cache) +
                                                 field(2, self.life) + field(3, GFP_KERNEL)))
        return fields.get(1, [0])[0]

    def claim(self, index):
        self.assertEqual(self.memory.word(index) & 0x7FFFFF, OFFERED << 20 | self.session)
        self.memory.set_word(index, HELD, self.session)

    def restart(self):
        old = self.daemon.pid()
        os.kill(old, 9)
        wait_until(lambda: self.daemon.pid() not in (None, old), "the next daemon")
        self.daemon.wait_serving()

    def serves(self, size=500):
        """A new client has a cache of its own and uses it."""
        name = f"after-{random.randrange(1 << 30)}"
        peer = Peer(self.daemon)
        try:
            self.assertEqual(peer.do(Peer.CREATE, size, 0, 0, name), 0)
            self.assertEqual(peer.do(Peer.HOARD, 0, GFP_KERNEL, 300), 300)
            self.assertEqual(peer.do(Peer.RELEASE, 0, 300), 0)
        finally:
            peer.end()

    def damaged(self):
        status, text = self.daemon.ctl("fsck")
        self.assertEqual(status, 1, text)
        self.assertNotEqual(text.strip(), "")
        return text

    def sound(self):
        status, text = self.daemon.ctl("fsck")
        self.assertEqual((status, text.strip()), (0, text.strip()), text)

    def free(self, granule, generation):
        return self.client.do("ALLOCATOR_FREE_OBJECT", field(1, granule) + field(2, generation))

    # ---- the test's own eyes ----

    def test_untouched_state_is_sound(self):
        self.claim(self.index)
        self.sound()
        self.restart()
        self.sound()
        self.assertEqual(self.memory.word(self.index) & 0x7FFFFF, HELD << 20 | self.session)

    # ---- one word ----

    def test_object_of_a_session_of_nobody(self):
        self.memory.set_word(self.index, HELD, NOBODY)
        self.damaged()
        self.serves()
        self.restart()
        self.damaged()
        self.serves()

    def test_object_of_an_unknown_kind(self):
        self.memory.set_word(self.index, 7, 0)
        self.damaged()
        self.serves()
        self.restart()
        self.damaged()
        self.serves()

    def test_object_in_a_magazine_of_nobody(self):
        self.memory.set_word(self.index, MAGAZINE, self.memory.magazines - 1)
        self.damaged()
        self.serves()
        self.restart()
        self.serves()
        self.sound()  # nobody can own it: it was freed

    def test_claim_of_a_free_object(self):
        """Its out bit was never set: reported, and put right at the next start."""
        self.claim(self.index)
        other = self.index ^ 1  # a neighbour in the slab
        self.assertEqual(self.memory.word(other) & 0x7FFFFF, 0)
        self.memory.set_word(other, HELD, self.session)
        self.damaged()
        self.serves()
        self.restart()
        self.sound()
        self.assertEqual(self.memory.word(other) >> 20 & 7, FREE)
        self.assertEqual(self.memory.word(self.index) & 0x7FFFFF, HELD << 20 | self.session)

    def test_frees_that_the_word_or_the_private_bit_contradicts(self):
        self.claim(self.index)
        generation = self.memory.word(self.index) >> 26
        self.free(self.granule, generation)  # HELD, not RETURNED: left
        self.assertEqual(self.memory.word(self.index) & 0x7FFFFF, HELD << 20 | self.session)
        for granule in (self.granule + 1, 0, 0xFFFFFFFF, self.memory.frames * 512 - 1,
                        self.memory.all_pages * 512 - 512):
            self.free(granule, generation)
        self.sound()
        self.memory.set_word(self.index, RETURNED, self.session)
        self.free(self.granule, generation + 1)  # another life: left
        self.assertEqual(self.memory.word(self.index) >> 20 & 7, RETURNED)
        self.free(self.granule, generation)
        self.assertEqual(self.memory.word(self.index) >> 20 & 7, FREE)
        # once more, the word lying: the private bit says that it is not out
        for _ in range(3):
            self.memory.set_word(self.index, RETURNED, self.session)
            self.free(self.granule, self.memory.word(self.index) >> 26)
        self.serves()
        # the object is served once
        granules = [self.allocate() for _ in range(60)]
        self.assertEqual(len(set(granules)), len(granules))

    def test_gives_of_what_was_never_had(self):
        """A magazine full of rounds that are beyond the pool, of blocks, of others, and doubled."""
        self.claim(self.index)
        with Connection(self.daemon) as other:
            other.hello()
            theirs = self.allocate(other)
            for kind in (self.cache | 0x80000000, 0, 0xFFFFFFFF, 0x80000000, 5):
                m = good(self.client.do("ALLOCATOR_EXCHANGE", field(5, 1)))[1][0] - 1
                at = self.memory.magazine_at + MAGAZINE_SIZE * m
                rounds = [theirs, theirs, 0, 0xFFFFFFFF, self.granule + 1, self.granule + 2]
                rounds += [random.randrange(1 << 32) for _ in range(512 - len(rounds))]
                struct.pack_into("<II512I", self.memory.words, at + 8, kind, 0, *rounds)
                header, = struct.unpack_from("<Q", self.memory.words, at)
                struct.pack_into("<Q", self.memory.words, at,
                                 (header >> 33) + 1 << 33 | 512 << 23 | DEPOT << 20)
                accepted = good(self.client.do("ALLOCATOR_EXCHANGE", field(4, m + 1))).get(3, [0])
                self.assertEqual(accepted[0], 0)
            self.assertEqual(self.memory.word(self.memory.word_index(theirs)) >> 20 & 7, OFFERED)
        self.assertEqual(self.memory.word(self.index) & 0x7FFFFF, HELD << 20 | self.session)
        self.serves()

    # ---- all of it, while others work ----

    def scribble(self, seed, stop):
        """Random nonsense over all parts that clients can write."""
        m, draw = self.memory, random.Random(seed)
        parts = [(m.object_at, 8 * 4096), (m.object_at, 8 * 512), (m.bits_at, m.bits_stride * 16),
                 (m.session_at, SESSION_SIZE * 16), (m.magazine_at, MAGAZINE_SIZE * 24),
                 (0, 8 * m.all_pages)]
        nonsense = [lambda: draw.getrandbits(64), lambda: 0, lambda: (1 << 64) - 1,
                    lambda: draw.getrandbits(30) << 26 | draw.randrange(8) << 20 |
                    draw.randrange(12)]
        while not stop.is_set():
            for _ in range(50):
                start, size = draw.choice(parts)
                struct.pack_into("<Q", m.words, start + 8 * draw.randrange(size // 8),
                                 draw.choice(nonsense)())
            stop.wait(0.001)

    def test_all_at_random_while_others_work(self):
        pid = self.daemon.pid()
        stop = threading.Event()
        thread = threading.Thread(target=self.scribble, args=(1, stop))
        thread.start()
        done = 0
        try:
            for number in range(25):
                peers = [Peer(self.daemon) for _ in range(2)]
                for i, peer in enumerate(peers):
                    peer.do(Peer.CREATE, 64 + 100 * i, 0, 0, f"work-{i}")
                for _ in range(6):
                    for peer in peers:
                        n = peer.do(Peer.HOARD, 0, 0x800, 200)  # may not wait
                        done += bool(n and n > 0)
                        peer.do(Peer.RELEASE, 0, 150)
                for peer in peers:
                    peer.end()
                self.assertEqual(self.daemon.ctl("health")[0], 0)
                if number % 5 == 0:
                    self.assertIn(self.daemon.ctl("fsck")[0], (0, 1))
                    self.assertEqual(self.daemon.ctl("slabinfo")[0], 0)
                    self.assertEqual(self.daemon.ctl("leaks")[0], 0)
        finally:
            stop.set()
            thread.join()
        self.assertGreater(done, 20)
        self.assertEqual(self.daemon.pid(), pid, self.daemon.said())  # never restarted
        self.damaged()
        # the daemon's own memory is as it must be: the next one takes it over
        self.restart()
        self.serves(24)
        self.assertEqual(self.daemon.ctl("slabinfo")[0], 0)

    def test_the_daemon_starts_on_nonsense(self):
        """Words of every kind where objects are out, nobody watching: the next start decides."""
        peer = Peer(self.daemon)
        self.assertEqual(peer.do(Peer.CREATE, 64, 0, 0, "left"), 0)
        self.assertEqual(peer.do(Peer.HOARD, 0, GFP_KERNEL, 2000), 2000)
        self.daemon.hold()
        old = self.daemon.kill()
        draw = random.Random(2)
        for index in range(4096):
            struct.pack_into("<Q", self.memory.words, self.memory.object_at + 8 * index,
                             draw.getrandbits(38) << 26 | draw.getrandbits(26))
        self.daemon.resume()
        wait_until(lambda: self.daemon.pid() not in (None, old), "the next daemon")
        self.daemon.wait_serving()
        self.serves()
        self.damaged()
        peer.end()
        self.serves()
        self.restart()
        self.serves()


if __name__ == "__main__":
    main()

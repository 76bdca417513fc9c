# SPDX-License-Identifier: MIT
"""The peer program (harness.h, peer.c) for tests written in Python: a client process that runs one
kmm_ function for each command and says what it returned.

Operations have the names that they have in harness.h and objects.h, without PEER_; flags of gfp those
of <kmm/kmm.h>, without KMM_.
"""
import os
import re
import socket
import struct
import subprocess

BUILD = os.environ.get('KMM_BUILDDIR', '.')
SRC = os.environ.get('KMM_SRCDIR', '.')
COMMAND = struct.Struct('<4Q88s')
PEER_FD = 3
NO_CACHE = 2 ** 64 - 1


def operations(header, enum):
    """Names to numbers of an enum of operations."""
    with open(os.path.join(SRC, 'tests', 'integration', header), encoding='utf-8') as f:
        body = re.search(r'enum %s \{(.*?)\n\};' % enum, f.read(), re.S).group(1)
    body = re.sub(r'/\*.*?\*/', '', body, flags=re.S)
    numbers, n = {}, 0
    for name, value in re.findall(r'PEER_(\w+)(?:\s*=\s*(\w+))?\s*,', body):
        if value:
            n = int(value) if value.isdigit() else OPERATION[value[len('PEER_'):]]
        numbers[name] = n
        n += 1
    return numbers


OPERATION = operations('harness.h', 'peer_op')
OPERATION.update(operations('objects.h', 'peer_object_op'))

GFP_HIGHMEM, GFP_DMA, GFP_MOVABLE, GFP_DMA32 = 2, 1, 8, 4
GFP_KERNEL = 0x400 | 0x800 | 0x40 | 0x80
GFP_NOWAIT = 0x800 | 0x2000


class Peer:
    """with Peer(daemon) as p: pfn = p.do('ALLOC', GFP_KERNEL, 3)

    The daemon says what socket to use and, where it is elsewhere, what command to start peers by."""

    def __init__(self, daemon, uid=None):
        ours, theirs = socket.socketpair()

        def set_up():
            if theirs.fileno() == PEER_FD:
                os.set_inheritable(PEER_FD, True)
            else:
                os.dup2(theirs.fileno(), PEER_FD)

        self.socket = ours
        # Descriptors beyond 3 carry close-on-exec already.
        self.process = subprocess.Popen(
            [*getattr(daemon, 'inside', []), os.path.join(BUILD, 'tests', 'integration', 'peer'), daemon.socket,
             *([] if uid is None else [str(uid)])],
            stdin=subprocess.DEVNULL, close_fds=False, preexec_fn=set_up)
        theirs.close()
        self.session = self.do('ID')

    def do(self, operation, a=0, b=0, c=0, text=''):
        """What it returned; it must be there to answer."""
        mask = 2 ** 64 - 1
        self.socket.sendall(COMMAND.pack(OPERATION[operation], a & mask, b & mask, c & mask,
                                         text.encode()))
        answer = self.socket.recv(8, socket.MSG_WAITALL)
        if len(answer) != 8:
            raise AssertionError('the peer ended at %s, status %s'
                                 % (operation, self.process.wait()))
        return struct.unpack('<q', answer)[0]

    def must(self, operation, *args, **named):
        """The same of what must succeed."""
        value = self.do(operation, *args, **named)
        if value < 0:
            raise AssertionError('%s%r: %s' % (operation, args, os.strerror(-value)))
        return value

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.process.wait()
        return False

"""Carries gloo's connections between a rank up to 2.0 and a later one: only the later one's begin with eight bytes.

A pair has two ends, one for each rank, made when that rank asks for the other's address. Gloo compares addresses to
know which side calls: the relay's end listens or calls as that rank expects. One thread serves all pairs.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import threading
from typing import Dict, List, Optional, Tuple

CHUNK = 1 << 18  # bytes on their way in each direction of a pair
PREAMBLE = 8
MOST = 4096  # pairs
_V4, _V6 = 8, 24  # bytes of an address in gloo's blob, by family
_PLACES = {socket.AF_INET: (4, _V4), socket.AF_INET6: (8, _V6)}


def family_of(blob: bytes) -> int:
    """The address family that gloo's blob says."""
    return int(struct.unpack_from("<H", blob)[0])


def order_of(blob: bytes) -> Tuple[bytes, int]:
    """What gloo compares of two addresses: the host's bytes, then the port as this machine reads its two bytes."""
    start, end = _PLACES[socket.AddressFamily(family_of(blob))]
    return blob[start:end], int(struct.unpack_from("<H", blob, 2)[0])


def place_of(blob: bytes) -> Tuple[str, int]:
    """Host and port of gloo's blob."""
    family = family_of(blob)
    start, end = _PLACES[socket.AddressFamily(family)]
    return socket.inet_ntop(family, blob[start:end]), int(struct.unpack_from(">H", blob, 2)[0])


def blob_of(family: int, host: str, port: int) -> bytes:
    """An address as gloo leaves it in the store: 128 bytes."""
    start, _ = _PLACES[socket.AddressFamily(family)]
    head = struct.pack("<H", family) + struct.pack(">H", port)
    return (head.ljust(start, b"\0") + socket.inet_pton(family, host)).ljust(128, b"\0")


class End:
    """The relay's end at one rank. drop: bytes of the rank that are not passed on; unsent: bytes for the rank."""

    def __init__(self, sock: socket.socket, drop: int, unsent: bytes) -> None:
        self.sock, self.drop, self.unsent = sock, drop, bytearray(unsent)
        self.listens = self.connected = self.finished = False
        self.other: Optional[End] = None
        self.pair: object = None
        self.events = 0

    def wanted(self) -> int:
        """What the selector is to wait for."""
        if self.listens:
            return selectors.EVENT_READ
        if not self.connected:
            return selectors.EVENT_WRITE
        reads = self.other is not None and not self.finished and len(self.other.unsent) < CHUNK
        return (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if self.unsent else 0)


class Relay:
    """All pairs of a bridge, and their thread, which starts with the first."""

    def __init__(self) -> None:
        self.pairs: Dict[object, List[Optional[Tuple[End, bytes]]]] = {}
        self.fresh: List[End] = []  # made since the thread last looked
        self.lock = threading.Lock()
        self.selector: selectors.BaseSelector
        self.wake_reader: socket.socket
        self.wake_writer: socket.socket
        self.thread: Optional[threading.Thread] = None
        self.stopped = False

    def address(self, pair: object, later: bool, own: Tuple[bytes, bytes], host: str) -> Optional[bytes]:
        """What the rank of one side takes for the other's address; None where it can't be had.

        own: the rank's own address for this peer, and that pair's id. host: where its client reached the bridge.
        """
        with contextlib.suppress(OSError, ValueError, KeyError, RuntimeError), self.lock:  # RuntimeError: no threads
            ends = self.pairs.get(pair) or [None, None]
            known = ends[later]
            if known is None and not self.stopped and (pair in self.pairs or len(self.pairs) < MOST):
                self._start()
                known = ends[later] = _end(later, *own, host)
                self.pairs[pair], known[0].pair = ends, pair
                self.fresh.append(known[0])
                if ends[0] is not None and ends[1] is not None:
                    ends[0][0].other, ends[1][0].other = ends[1][0], ends[0][0]
                self.wake_writer.send(b"x")
            return known[1] if known else None
        return None

    def close(self) -> None:
        """End every pair."""
        self.stopped = True
        if self.thread is None:
            return
        self.wake_writer.send(b"x")
        self.thread.join()
        for ends in self.pairs.values():
            for each in filter(None, ends):
                each[0].sock.close()
        self.selector.close()
        self.wake_reader.close()
        self.wake_writer.close()

    def _start(self) -> None:
        """Have the thread; RuntimeError, OSError where it can't be had, and nothing is left of the attempt."""
        if self.thread is not None:
            return
        with contextlib.ExitStack() as opened:
            self.selector = selectors.DefaultSelector()
            opened.callback(self.selector.close)
            self.wake_reader, self.wake_writer = socket.socketpair()
            opened.callback(self.wake_reader.close)
            opened.callback(self.wake_writer.close)
            self.selector.register(self.wake_reader, selectors.EVENT_READ)
            thread = threading.Thread(target=self._run, name="relay", daemon=True)
            thread.start()
            self.thread = thread
            opened.pop_all()

    def _run(self) -> None:
        while not self.stopped:
            for key, events in self.selector.select():
                if key.fileobj is self.wake_reader:
                    self.wake_reader.recv(1 << 12)
                    continue
                try:
                    if key.data.listens:
                        self._accept(key.data)
                    else:
                        _serve(key.data, events)
                    self._look_after(key.data)
                except (OSError, ValueError, KeyError):
                    self._end(key.data)
                    self._forget(key.data)
            with self.lock:
                fresh, self.fresh = self.fresh, []
            for end in fresh:
                self._look_after(end)

    def _accept(self, end: End) -> None:
        """The rank has called; nobody else is to come."""
        sock, _ = end.sock.accept()
        self.selector.unregister(end.sock)
        end.sock.close()
        end.sock, end.listens, end.connected, end.events = sock, False, True, 0
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _look_after(self, end: End) -> None:
        """Wait for what both ends of a pair need next; forget a pair that both ranks have left."""
        both = [each for each in (end, end.other) if each is not None]
        for each in both:
            self._watch(each)
        if len(both) == 2 and all(each.finished and not each.unsent for each in both):
            self._end(end)
            self._forget(end)

    def _forget(self, end: End) -> None:
        with self.lock:
            if end.other is not None:
                self.pairs.pop(end.pair, None)

    def _watch(self, end: End) -> None:
        fd = end.sock.fileno()
        wanted = end.wanted() if fd >= 0 else 0
        if wanted == end.events and fd >= 0:
            return
        with contextlib.suppress(KeyError, ValueError, OSError):
            self.selector.unregister(end.sock)
        end.events = wanted
        if wanted:
            self.selector.register(end.sock, wanted, end)

    def _end(self, end: End) -> None:
        """Both connections of a pair end together, as one would."""
        for each in filter(None, (end, end.other)):
            with contextlib.suppress(KeyError, ValueError, OSError):
                self.selector.unregister(each.sock)
            each.sock.close()
            each.events, each.finished = 0, True
            each.unsent.clear()


def _end(later: bool, own: bytes, number: bytes, host: str) -> Tuple[End, bytes]:
    """An end for one rank, and the address that it is told."""
    family = family_of(own)
    listening = socket.socket(family)
    try:
        listening.bind((host, 0))
        address = blob_of(family, host, listening.getsockname()[1])
        if order_of(own) > order_of(address):  # the rank calls
            listening.listen(1)
            listening.setblocking(False)
            end = End(listening, PREAMBLE if later else 0, b"")
            end.listens = True
            return end, address
    except (OSError, ValueError):
        listening.close()
        raise
    listening.close()
    calling = socket.socket(family)
    calling.setblocking(False)
    try:
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):  # the thread sees how it ends
            calling.connect(place_of(own))
    except OSError:
        calling.close()
        raise
    return End(calling, 0, number if later else b""), address


def _serve(end: End, events: int) -> None:
    """Take bytes from one rank, or pass bytes on."""
    if not end.connected:
        problem = end.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            raise OSError(problem, os.strerror(problem))
        end.connected = True
        end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if events & selectors.EVENT_WRITE and end.unsent:
        _send(end)
    if events & selectors.EVENT_READ and end.other is not None:
        _receive(end, end.other)


def _receive(end: End, other: End) -> None:
    with contextlib.suppress(BlockingIOError):
        data = end.sock.recv(CHUNK)
        if not data:
            end.finished = True
            if not other.unsent and other.connected:
                other.sock.shutdown(socket.SHUT_WR)
            return
        dropped = min(end.drop, len(data))
        end.drop -= dropped
        other.unsent += data[dropped:]
        if other.connected:
            _send(other)


def _send(end: End) -> None:
    with contextlib.suppress(BlockingIOError):
        del end.unsent[: end.sock.send(end.unsent)]
    if not end.unsent and end.other is not None and end.other.finished:
        end.sock.shutdown(socket.SHUT_WR)

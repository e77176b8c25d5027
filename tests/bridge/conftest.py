"""A bridge in a thread, and clients that send constructed bytes."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from torchskew.bridge.limits import Limits
from torchskew.bridge.server import Server, listen
from torchskew.bridge.status import Log

from tests.patience import PATIENCE

MAGIC = b"\x00\xce\xf7\x85\x3c"
NONCE = b"\x01\x02\x03\x04"


class Lines(Log):
    """A log that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def line(self, text: str) -> None:
        self.written.append(text)


def key(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def keys(*texts: bytes) -> bytes:
    return struct.pack("<Q", len(texts)) + b"".join(map(key, texts))


def i64(number: int) -> bytes:
    return struct.pack("<q", number)


class Peer:
    """A client of one era; operations by the number of 2.2, shifted for older ones."""

    def __init__(self, port: int, era: str) -> None:
        self.conn = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.shift = 0 if era in ("2.2", "2.5") else 1
        if era == "2.2":
            self.send(MAGIC)
        elif era == "2.5":
            assert self.asks(MAGIC + b"\x0d" + NONCE, 4) == NONCE
        if era != "2.5":
            self.ask(4, key(b"init/") + i64(0), 8)

    def send(self, data: bytes) -> None:
        self.conn.sendall(data)

    def receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.conn.recv(size - len(data))
            if not more:
                raise ConnectionResetError("closed")
            data += more
        return data

    def asks(self, data: bytes, size: int) -> bytes:
        self.send(data)
        return self.receive(size)

    def tell(self, number: int, body: bytes = b"") -> None:
        self.send(bytes([number - self.shift]) + body)

    def ask(self, number: int, body: bytes, size: int) -> bytes:
        self.tell(number, body)
        return self.receive(size)

    def get(self, name: bytes) -> bytes:
        (size,) = struct.unpack("<Q", self.ask(3, key(name), 8))
        return self.receive(size)

    def set(self, name: bytes, value: bytes) -> None:
        self.tell(1, key(name) + key(value))
        self.ask(5, keys(name), 1)  # what comes back shows that the value was taken

    def silent(self) -> bool:
        self.conn.settimeout(0.05)
        try:
            return not self.conn.recv(1) and False
        except TimeoutError:
            return True
        finally:
            self.conn.settimeout(5)


class Bridge:
    """A running bridge and its clients."""

    def __init__(self, limits: Limits) -> None:
        self.log = Lines()
        self.server = Server(listen("127.0.0.1", 0), self.log, limits)
        self.port = self.server.server.getsockname()[1]
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        self.peers: list[Peer] = []

    def peer(self, era: str) -> Peer:
        self.peers.append(Peer(self.port, era))
        return self.peers[-1]

    def raw(self, data: bytes) -> socket.socket:
        conn = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        conn.sendall(data)
        return conn

    def close(self) -> None:
        for each in self.peers:
            each.conn.close()
        self.server.stop()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    running = Bridge(Limits(key=1 << 10, value=1 << 16, keys=100, memory=1 << 20, connections=20))
    yield running
    running.close()
    assert running.server.store.size >= 0

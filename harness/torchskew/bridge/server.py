"""The server: one thread, one selector, connections that can't hold each other up."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from typing import Callable, Dict, Optional, Set

from torchskew.bridge.attempts import Attempts
from torchskew.bridge.connection import GRACE, Connection
from torchskew.bridge.limits import Limits
from torchskew.bridge.operations import report_change
from torchskew.bridge.reader import JunkError
from torchskew.bridge.state import Store
from torchskew.bridge.status import Log, page

ACCEPTED = 64  # connections accepted before the others are served again
PAUSE = 0.1  # seconds without accepting while the process has no file descriptor left


def listen(host: Optional[str], port: int) -> socket.socket:
    """A listening socket on a literal address, or on every address; OSError when it can't be had."""
    flags = socket.AI_PASSIVE | socket.AI_NUMERICHOST  # never a name look-up
    families = [(socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")]  # noqa: S104 - as TCPStore does
    if host is not None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
        families = [(found[0][0], host)]
    for family, address in families:
        try:
            return _listen(family, address, port)
        except OSError as problem:  # noqa: PERF203 - two rounds
            if family == families[-1][0] or problem.errno in (errno.EADDRINUSE, errno.EACCES):
                raise
    raise OSError(errno.EAFNOSUPPORT, "this machine has neither IPv6 nor IPv4")


def _listen(family: int, address: str, port: int) -> socket.socket:
    server = socket.socket(family)
    try:
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen(2048)
        server.setblocking(False)
    except OSError:
        server.close()
        raise
    return server


class Server:
    """Accepts, reads, answers; ends when `stop` is called, from a signal or another thread."""

    def __init__(self, server: socket.socket, log: Log, limits: Optional[Limits] = None) -> None:
        self.server, self.log = server, log
        self.limits = limits or Limits()
        self.store = Store(self.limits.memory)
        self.store.changed = lambda key, before, after: report_change(self.store, key, before, after)
        self.attempts = Attempts()
        self.connections: Dict[Connection, None] = {}
        self.to_flush: Set[Connection] = set()
        self.doubtful: Set[Connection] = set()
        self.selector = selectors.DefaultSelector()
        self.selector.register(server, selectors.EVENT_READ)
        self.accepts_again: Optional[float] = None
        self.stopped = False
        self.status_asked = False
        self.wake_reader, self.wake_writer = socket.socketpair()
        for end in (self.wake_reader, self.wake_writer):
            end.setblocking(False)
        self.selector.register(self.wake_reader, selectors.EVENT_READ)

    def stop(self) -> None:
        """End the loop soon."""
        self.stopped = True
        self._wake()

    def ask_status(self) -> None:
        """Write the status page soon."""
        self.status_asked = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self.wake_writer.send(b"x")

    def run(self) -> None:
        """Serve until stopped, then close everything."""
        try:
            while not self.stopped:
                self.step(self._patience())
        finally:
            self.close()

    def _patience(self) -> Optional[float]:
        if self.accepts_again is not None:
            return PAUSE
        return GRACE / 4 if self.doubtful else None

    def step(self, patience: Optional[float]) -> None:
        """Serve whoever is ready."""
        for key, events in self.selector.select(patience):
            if key.fileobj is self.server:
                self._accept()
            elif key.fileobj is self.wake_reader:
                with contextlib.suppress(OSError):
                    self.wake_reader.recv(4096)
            elif key.data in self.connections:
                self._serve(key.data, events)
        for connection in list(self.doubtful):
            self._guarded(connection, self._advance)
            self.to_flush.add(connection)
        while self.to_flush:
            self._flush(self.to_flush.pop())
        if self.accepts_again is not None and time.monotonic() >= self.accepts_again:
            self.accepts_again = None
            self.selector.register(self.server, selectors.EVENT_READ)
        if self.status_asked:
            self.status_asked = False
            self.log.line(page(self.store, self.connections))

    def _accept(self) -> None:
        for _ in range(ACCEPTED):
            try:
                conn, address = self.server.accept()
            except OSError as problem:
                if problem.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM) and not self._evict():
                    self.selector.unregister(self.server)
                    self.accepts_again = time.monotonic() + PAUSE
                return
            if len(self.connections) >= self.limits.connections and not self._evict():
                conn.close()
                self.log.junk(f"{address[0]}:{address[1]} refused: {self.limits.connections} connections are open")
                continue
            self._greet(conn, f"{address[0]}:{address[1]}")

    def _greet(self, conn: socket.socket, peer: str) -> None:
        conn.setblocking(False)
        with contextlib.suppress(OSError):  # a client that has gone already shows when it is read
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection = Connection(conn, peer, self.store, self.attempts)
        connection.limits = connection.reader.limits = self.limits
        connection.wants_write = self.to_flush.add
        connection.identified = lambda each: self.log.junk(f"{each.peer} speaks {each.era.value}")
        connection.page = lambda: page(self.store, self.connections)
        self.connections[connection] = None
        connection.events = selectors.EVENT_READ
        self.selector.register(conn, connection.events, connection)

    def _evict(self) -> bool:
        """Close the oldest connection that has never asked anything; whether there was one."""
        oldest = next((each for each in self.connections if not each.messages), None)
        if oldest is not None:
            self._drop(oldest, "made room: it never asked anything")
        return oldest is not None

    def _serve(self, connection: Connection, events: int) -> None:
        self._guarded(connection, self._read_and_send, events)

    def _read_and_send(self, connection: Connection, events: int) -> None:
        if events & selectors.EVENT_READ and not connection.receive():
            self._drop(connection)
        elif connection.unsent or events & selectors.EVENT_WRITE:
            self._send(connection)

    def _flush(self, connection: Connection) -> None:
        if connection in self.connections:
            self._guarded(connection, self._send)

    def _advance(self, connection: Connection, events: int) -> None:
        del events
        connection.advance()

    def _send(self, connection: Connection, events: int = 0) -> None:
        del events
        blocked = len(connection.unsent) > self.limits.unsent
        done = connection.flush()
        if blocked:
            connection.advance()  # what waited for the answers to be read
            done = connection.flush()
        if done and connection.ends:
            self._drop(connection)
            return
        connection.account()
        wanted = 0 if len(connection.unsent) > self.limits.unsent else selectors.EVENT_READ
        wanted |= 0 if done else selectors.EVENT_WRITE
        if connection.events != wanted:
            connection.events = wanted
            self.selector.modify(connection.conn, wanted, connection)

    def _guarded(self, connection: Connection, action: Callable[[Connection, int], None], events: int = 0) -> None:
        """One client's failure is that client's alone."""
        try:
            action(connection, events)
        except (JunkError, ValueError) as problem:
            self._drop(connection, f"closed: {problem}")
        except (OSError, MemoryError):
            self._drop(connection)
        if connection.doubtful is not None and connection in self.connections:
            self.doubtful.add(connection)
        elif self.doubtful:
            self.doubtful.discard(connection)

    def _drop(self, connection: Connection, why: str = "") -> None:
        if connection not in self.connections:
            return
        del self.connections[connection]
        self.to_flush.discard(connection)
        self.doubtful.discard(connection)
        with contextlib.suppress(KeyError, ValueError, OSError):
            self.selector.unregister(connection.conn)
        connection.close()
        if why:
            self.log.junk(f"{connection.peer} {why}")

    def close(self) -> None:
        """Close every connection and the port."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.flush()
            self._drop(connection)
        self.selector.close()
        self.store.older.relay.close()
        for each in (self.server, self.wake_reader, self.wake_writer):
            each.close()

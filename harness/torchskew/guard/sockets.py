"""Sockets between guards: bound, tuned, read to an exact size, and closed without a trace on the store's port."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import struct
import time
from typing import Any, Iterable, cast

from torchskew.guard.resolve import addresses
from torchskew.guard.roster import MOST_ROSTER, Roster, unpack_roster
from torchskew.guard.wire import GREETING, MAC, NONCE, PEEK, unframe

MID_SENTENCE = 5.0  # seconds for the rest of a message that has begun
HEAD_START = 0.15  # seconds that an address has before the next one of the same name is tried, or the same again


def reset(conn: socket.socket) -> None:
    """Close at once and leave no TIME_WAIT on the port that the store needs next."""
    with contextlib.suppress(OSError):
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def tune(conn: socket.socket) -> None:
    """Send small messages at once, and notice a peer whose machine vanished during a long wait."""
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10)):
        if hasattr(socket, name):
            conn.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)


def bind(port: int) -> socket.socket:
    """A socket on every address of the machine, IPv6 where it has that; not yet listening. OSError when taken."""
    for family, address in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):  # noqa: S104 - as TCPStore does
        try:
            server = socket.socket(family)
        except OSError:
            continue
        try:
            if family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((address, port))
        except OSError as problem:
            server.close()
            if problem.errno == errno.EADDRINUSE or family == socket.AF_INET:
                raise
        else:
            return server
    raise OSError(errno.EAFNOSUPPORT, "this machine has neither IPv6 nor IPv4")


def claim(port: int) -> socket.socket:
    """As bind(), and listening; OSError when taken.

    Two processes can bind one port as long as neither listens, so only who listens knows that the port is its own.
    """
    server = bind(port)
    try:
        server.listen(4096)
    except OSError:
        server.close()
        raise
    return server


def claim_first(ports: Iterable[int]) -> socket.socket:
    """A socket that listens on the first of these ports that is free; OSError where all are taken."""
    problem = OSError(errno.EADDRINUSE, "no port to try")
    for port in ports:
        try:
            return claim(port)
        except OSError as taken:  # noqa: PERF203 - a handful of ports
            problem = taken
    raise problem


def listens(port: int) -> bool:
    """Whether something on this machine listens on a port, without connecting to it."""
    try:
        bind(port).close()
    except OSError:
        return True
    return False


def receive(conn: socket.socket, size: int, until: float) -> bytes:
    """Exactly size bytes until a monotonic instant; OSError otherwise."""
    data = b""
    while len(data) < size:
        conn.settimeout(max(0.001, until - time.monotonic()))
        more = conn.recv(size - len(data))
        if not more:
            raise ConnectionResetError("closed")
        data += more
    return data


def read_greeting(conn: socket.socket, seconds: float) -> bytes:
    """The nonce of a guard that greets within these seconds; OSError when none does."""
    greeting = receive(conn, len(GREETING) + NONCE, time.monotonic() + seconds)
    if not greeting.startswith(GREETING):
        raise ConnectionResetError("no guard")
    return greeting[len(GREETING) :]


def receive_roster(conn: socket.socket, secret: bytes, nonces: bytes, until: float) -> Roster:
    """The roster out of the next frame; ValueError or OSError when it doesn't arrive whole and genuine.

    Its first byte may take until the deadline. Who has begun to speak is given a few seconds to finish.
    """
    head = receive(conn, 1, until)
    until = min(until, time.monotonic() + MID_SENTENCE)
    head += receive(conn, 3 + MAC, until)
    (size,) = struct.unpack("!I", head[:4])
    if size > MOST_ROSTER:
        raise ValueError("too long")
    body = unframe(secret, nonces, head + receive(conn, size, until), MOST_ROSTER)
    return unpack_roster(body or b"")


def deliver(frames: list[tuple[socket.socket, bytes]], until: float) -> None:
    """Send each connection its bytes, all at the same time; one that doesn't take them by then gets the rest never."""
    with contextlib.suppress(OSError), selectors.DefaultSelector() as selector:
        for conn, data in frames:  # each once, however late it is: nearly always that is all
            with contextlib.suppress(OSError, ValueError):
                conn.setblocking(False)
                rest = _unsent(conn, memoryview(data))
                if rest:
                    selector.register(conn, selectors.EVENT_WRITE, rest)
        while selector.get_map() and time.monotonic() < until:
            for key, _ in selector.select(max(0.001, until - time.monotonic())):
                _send_some(selector, key)


def _unsent(conn: socket.socket, data: memoryview) -> memoryview:
    """What a connection does not take at once; OSError where it is broken."""
    try:
        return data[conn.send(data) :]
    except BlockingIOError:
        return data


def _send_some(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    """As much as the connection takes; it is done with when all is sent, or it is broken."""
    conn, rest = cast("socket.socket", key.fileobj), memoryview(b"")
    with contextlib.suppress(OSError):
        rest = _unsent(conn, key.data)
    if rest:
        selector.modify(conn, selectors.EVENT_WRITE, rest)
    else:
        selector.unregister(conn)


def connect(host: str, port: int, seconds: float) -> socket.socket:
    """A connection to the first address of a name that takes one; OSError where none does within these seconds.

    The addresses are tried at the same time, each a little later than the one before it: one that leads nowhere
    delays the others by that little alone. While none answers each is tried once more: where the first packet of a
    connection is lost, the system would send the next a second later.
    """
    first = addresses(host, port)
    left, until, turn = first + first, time.monotonic() + seconds, 0.0
    problem: OSError | None = None
    with selectors.DefaultSelector() as selector:
        try:
            while selector.get_map() or len(left) > len(first):
                now = time.monotonic()
                if now >= until:
                    raise socket.timeout("timed out")
                if left and (now >= turn or not selector.get_map()):
                    problem, turn = _begin_to_connect(selector, left.pop(0)) or problem, now + HEAD_START
                for key, _ in selector.select(max(0.001, min(turn if left else until, until) - now)):
                    conn = cast("socket.socket", key.fileobj)
                    problem = _settled(selector, conn)
                    if problem is None:
                        conn.settimeout(seconds)
                        return conn
            raise problem or OSError("no address")
        finally:
            for key in list(selector.get_map().values()):
                cast("socket.socket", key.fileobj).close()


def _begin_to_connect(selector: selectors.BaseSelector, found: Any) -> OSError | None:
    """Start with one address of getaddrinfo(); the problem where it fails at once."""
    family, kind, number, _, address = found
    try:
        conn = socket.socket(family, kind, number)
    except OSError as problem:
        return problem
    conn.setblocking(False)
    code = conn.connect_ex(address)
    if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
        conn.close()
        return OSError(code, os.strerror(code))
    selector.register(conn, selectors.EVENT_WRITE)
    return None


def _settled(selector: selectors.BaseSelector, conn: socket.socket) -> OSError | None:
    """None where a connection is there; its problem where it failed, and then it is closed."""
    selector.unregister(conn)
    code = conn.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if not code:
        return None
    conn.close()
    return OSError(code, os.strerror(code))


def dial(host: str, port: int, opening: bytes, seconds: float) -> tuple[socket.socket, bytes]:
    """A connection that has sent its opening (HELLO or PEEK), and its nonce; OSError when nothing accepts it."""
    nonce = os.urandom(NONCE)
    conn = connect(host, port, seconds)
    try:
        tune(conn)
        conn.sendall(opening + nonce)
    except OSError:
        conn.close()
        raise
    return conn, nonce


def peek(host: str, port: int, patience: float) -> Roster:
    """What the guard on a port knows so far; OSError or ValueError when no guard answers."""
    conn, nonce = dial(host, port, PEEK, patience)
    with contextlib.closing(conn):
        nonces = nonce + read_greeting(conn, patience)
        return receive_roster(conn, b"", nonces, time.monotonic() + patience)

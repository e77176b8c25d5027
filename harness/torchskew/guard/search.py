"""Looks for guards on several ports at the same time, so that a port that drops packets delays no other."""

from __future__ import annotations

import os
import selectors
import socket
import time
from typing import Iterable, Iterator, NamedTuple, cast

from torchskew.guard.resolve import addresses
from torchskew.guard.sockets import tune
from torchskew.guard.wire import GREETING, HELLO, NONCE

_MOST_ADDRESSES = 3  # of one name


class Line(NamedTuple):
    """An open connection to a guard that has greeted, and the nonces of both sides."""

    conn: socket.socket
    nonces: bytes


class Call:
    """A connection to a port, and how far it got: opening is what is still to be sent, heard what came."""

    __slots__ = ("heard", "nonce", "opening")

    def __init__(self) -> None:
        """Nothing is sent yet."""
        self.nonce, self.heard = os.urandom(NONCE), b""
        self.opening = HELLO + self.nonce


def greetings(host: str, ports: Iterable[int], seconds: float) -> Iterator[Line]:
    """Guards on these ports of a host, as they greet within these seconds; OSError where the name has no address.

    A line that the caller takes is the caller's to close, everything else is closed here.
    """
    found = [(family, address) for family, _, _, _, address in addresses(host)][:_MOST_ADDRESSES]
    until = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        try:
            for port in ports:
                for family, address in found:
                    _begin(selector, family, (address[0], port, *address[2:]))
            while selector.get_map() and time.monotonic() < until:
                for key, _ in selector.select(max(0.001, until - time.monotonic())):
                    line = _advance(selector, key)
                    if line is not None:
                        yield line
        finally:
            for key in list(selector.get_map().values()):
                cast("socket.socket", key.fileobj).close()


def _begin(selector: selectors.BaseSelector, family: int, address: tuple[object, ...]) -> None:
    """Start to connect; a port that fails at once is passed over."""
    conn = None
    try:
        conn = socket.socket(family)
        conn.setblocking(False)
        conn.connect_ex(address)
        selector.register(conn, selectors.EVENT_WRITE, Call())
    except OSError:
        if conn is not None:
            conn.close()


def _advance(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> Line | None:
    """One step with one connection; the line when its guard has greeted."""
    conn, call = cast("socket.socket", key.fileobj), cast("Call", key.data)
    try:
        if call.opening:
            _open(selector, conn, call)
            return None
        more = conn.recv(len(GREETING) + NONCE - len(call.heard))
        call.heard += more
        if not more or not GREETING.startswith(call.heard[: len(GREETING)]):
            raise ConnectionResetError("no guard")
    except BlockingIOError:
        return None
    except OSError:
        selector.unregister(conn)
        conn.close()
        return None
    if len(call.heard) < len(GREETING) + NONCE:
        return None
    selector.unregister(conn)
    return Line(conn, call.nonce + call.heard[len(GREETING) :])


def _open(selector: selectors.BaseSelector, conn: socket.socket, call: Call) -> None:
    """The connection is there, or failed: send the opening."""
    problem = conn.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if problem:
        raise OSError(problem, os.strerror(problem))
    tune(conn)
    call.opening = call.opening[conn.send(call.opening) :]
    if not call.opening:
        selector.modify(conn, selectors.EVENT_READ, call)

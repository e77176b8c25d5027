"""After the roster: joiners are let go once rank 0's store listens, and their connections end."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time

from torchskew.guard.sockets import deliver, listens, reset
from torchskew.guard.wire import GO

_ENDED = threading.Event()  # the init of this process is over: whoever still waits for its store has waited enough
_USHERS: list[threading.Thread] = []


def usher(conns: list[socket.socket], port: int) -> None:
    """Let the joiners go from a thread, or at once where no thread can start."""
    _ENDED.clear()
    thread = threading.Thread(target=_await_store, args=(conns, port), name="torchskew-guard", daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError):
        part(conns, time.monotonic() + 0.05)
    else:
        _USHERS[:] = [thread]


def dismiss() -> None:
    """The init is over: end the usher, so that no thread of the guard outlives it."""
    _ENDED.set()
    for thread in _USHERS:
        thread.join(0.1)
    _USHERS.clear()


def _await_store(conns: list[socket.socket], port: int) -> None:
    """Until the store listens, or for two seconds."""
    until = time.monotonic() + 2.0
    while time.monotonic() < until and not _ENDED.is_set() and not listens(port):
        time.sleep(0.001)
    part(conns, time.monotonic() + 0.05)


def part(conns: list[socket.socket], until: float) -> None:
    """Let the joiners go and close first; those that don't in time are reset."""
    deliver([(conn, GO) for conn in conns], until)
    with contextlib.suppress(OSError), selectors.DefaultSelector() as selector:
        for conn in conns:
            with contextlib.suppress(OSError, ValueError):
                selector.register(conn, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < until:
            for key, _ in selector.select(max(0.001, until - time.monotonic())):
                selector.unregister(key.fileobj)
    for conn in conns:
        reset(conn)

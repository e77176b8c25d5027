"""After the roster: joiners are let go once rank 0's store listens, and late ranks are answered during the init."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from typing import Callable

from torchskew.guard.sockets import deliver, listens, reset
from torchskew.guard.wire import GO

_ENDED = threading.Event()  # the init of this process is over: whoever still waits for its store has waited enough
_COVERED = threading.Event()  # dismiss() will be called
_USHERS: list[threading.Thread] = []


def usher(conns: list[socket.socket], port: int) -> None:
    """Let the joiners go from a thread, or at once where no thread can start."""
    if not _started(lambda: _await_store(conns, port)):
        part(conns, time.monotonic() + 0.05)


def attend(answer: Callable[[float], None], close: Callable[[], None]) -> None:
    """Answer late ranks from a thread until the init is over, then close; at once where nothing would end the thread.

    answer: does so for these seconds at most.
    """
    if not _COVERED.is_set() or not _started(lambda: _answer_late(answer, close)):
        close()


def _started(work: Callable[[], None]) -> bool:
    """Whether a thread could start that does this."""
    _ENDED.clear()
    thread = threading.Thread(target=work, name="torchskew-guard", daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError):
        return False
    _USHERS[:] = [thread]
    return True


def expect() -> None:
    """An init begins that ends with dismiss()."""
    _COVERED.set()


def dismiss() -> None:
    """The init is over: end the usher, so that no thread of the guard outlives it."""
    _COVERED.clear()
    _ENDED.set()
    for thread in _USHERS:
        thread.join(0.1)
    _USHERS.clear()


def _answer_late(answer: Callable[[float], None], close: Callable[[], None]) -> None:
    """Until the init is over, or something is wrong with the answers: then a late rank finds nobody."""
    with contextlib.suppress(Exception):
        while not _ENDED.is_set():
            answer(0.05)
    close()


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

"""Interrupts: SIGTERM ends a run as Ctrl-C does, and neither is lost while Python runs a destructor."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_Handler: TypeAlias = "signal.Handlers | int | Callable[[int, FrameType | None], object] | None"

AGAIN_SECONDS = 0.02  # by then the main thread has left the destructor; where it has not, this comes round again


@contextmanager
def kept() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt in the block, and none is lost in a destructor or a generator that is closed.

    Python can't raise from there: it tells sys.unraisablehook and goes on. Source: sys.unraisablehook, Python's
    documentation; seen once when Ctrl-C met the end of a generator expression.
    """
    before = sys.unraisablehook

    def hook(args: UnraisableHookArgs) -> None:
        if not issubclass(args.exc_type, KeyboardInterrupt):
            before(args)
            return
        # A real signal, to the main thread: a flag of Python's alone would not end a sleep or a wait.
        again = threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    terminated = _terminable()
    try:
        yield
    finally:
        sys.unraisablehook = before
        if terminated is not None:
            signal.signal(signal.SIGTERM, terminated)


def _terminable() -> _Handler | None:
    """Let SIGTERM do what Ctrl-C does; what it did before. None where nothing was changed.

    Only the main thread may change a handler, and a handler that someone else has set is left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_DFL:
        return None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return before

"""Interrupts: Ctrl-C that comes while Python runs a destructor, which would drop it, is sent again."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

AGAIN_SECONDS = 0.02  # by then the main thread has left the destructor; where it has not, this comes round again


@contextmanager
def kept() -> Iterator[None]:
    """No KeyboardInterrupt is lost in a destructor, a generator that is closed or a callback of a weak reference.

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
    try:
        yield
    finally:
        sys.unraisablehook = before

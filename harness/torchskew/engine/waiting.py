"""Waits of the main thread that a Ctrl-C ends, whichever thread the kernel gave the signal to.

Python runs the handler in the main thread. One that waits without end is woken by the signal only where the kernel gave
it to that very thread, and not just before it began to wait. So these waits wake now and then.
"""

from __future__ import annotations

import queue
from collections.abc import Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from typing import TypeVar

SECONDS = 0.5

T = TypeVar("T")


def results(futures: Iterable[Future[T]]) -> list[T]:
    """What they come to, in their order; the first error is raised when its future has ended."""
    futures = list(futures)
    waiting = set(futures)
    while waiting:
        ended, waiting = wait(waiting, SECONDS, FIRST_EXCEPTION)
        for future in ended:
            future.result()
    return [future.result() for future in futures]


def taken(from_queue: queue.SimpleQueue[T]) -> T:
    """The next thing in a queue."""
    while True:
        try:
            return from_queue.get(timeout=SECONDS)
        except queue.Empty:
            continue

"""A Ctrl-C ends what the main thread waits for, whichever thread the kernel gave the signal to."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from torchskew.engine.waiting import results, taken

from tests.patience import PATIENCE


@pytest.mark.parametrize("way", ["results", "taken"])
@pytest.mark.parametrize("to_main", [True, False])
def test_a_wait_for_what_never_comes_ends_with_ctrl_c(way: str, to_main: bool) -> None:
    main, over, unanswered = threading.main_thread().ident, threading.Event(), []
    assert main is not None

    def interrupt() -> None:
        time.sleep(0.3)  # until the main thread waits
        signal.pthread_kill(main if to_main else threading.get_ident(), signal.SIGINT)
        if not over.wait(PATIENCE):
            unanswered.append(way)
            never.put("much too late")

    never: queue.SimpleQueue[str] = queue.SimpleQueue()
    waits: dict[str, Callable[[Any], Any]] = {
        "results": lambda future: results([future]),
        "taken": lambda _: taken(never),
    }
    with ThreadPoolExecutor(1) as pool:
        try:
            with pytest.raises(KeyboardInterrupt):
                waits[way](pool.submit(interrupt))
        finally:
            over.set()
    assert unanswered == []


def test_results_come_in_the_order_of_their_futures_and_an_error_at_once() -> None:
    over = threading.Event()

    def fail() -> int:
        raise ValueError("one of them")

    with ThreadPoolExecutor(2) as pool:
        assert results([pool.submit(int, "3"), pool.submit(int, "1")]) == [3, 1]
        try:
            with pytest.raises(ValueError, match="one of them"):
                results([pool.submit(over.wait, PATIENCE), pool.submit(fail)])
            assert not over.is_set()
        finally:
            over.set()

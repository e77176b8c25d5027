"""A clock on which only waiting takes time: what a rank waited for, whatever else the machine does meanwhile."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest


class WaitingClock(threading.local):
    """Seconds that the thread which asks has waited in vain: sleeps, and limits of time that ran out.

    A wait that something ended before its limit took no time on this clock. Each thread has a time of its own.
    """

    waited = 0.0

    def wait(self, seconds: float | None) -> None:
        """These seconds of waiting are over."""
        self.waited += seconds or 0.0


def put_in_place(clock: WaitingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Show this clock to everything that reads the monotonic clock, and let every way to wait move it on."""
    began, sleep = time.monotonic(), time.sleep
    monkeypatch.setattr(time, "monotonic", lambda: began + clock.waited)
    monkeypatch.setattr(time, "sleep", lambda seconds: (sleep(seconds), clock.wait(seconds)))
    for name in ("connect", "recv", "send", "sendall", "accept"):
        monkeypatch.setattr(socket.socket, name, _limited(clock, getattr(socket.socket, name)))
    monkeypatch.setattr(selectors.DefaultSelector, "select", _selecting(clock, selectors.DefaultSelector.select))
    monkeypatch.setattr(threading.Thread, "join", _joining(clock, threading.Thread.join))


def _limited(clock: WaitingClock, stock: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(stock)
    def method(conn: socket.socket, *args: Any) -> Any:
        try:
            return stock(conn, *args)
        except TimeoutError:
            clock.wait(conn.gettimeout())
            raise

    return method


def _selecting(clock: WaitingClock, stock: Callable[..., Any]) -> Callable[..., Any]:
    def select(selector: Any, timeout: float | None = None) -> Any:
        ready = stock(selector, timeout)
        if not ready:
            clock.wait(timeout)
        return ready

    return select


def _joining(clock: WaitingClock, stock: Callable[..., Any]) -> Callable[..., None]:
    def join(thread: threading.Thread, timeout: float | None = None) -> None:
        stock(thread, timeout)
        if thread.is_alive():
            clock.wait(timeout)

    return join

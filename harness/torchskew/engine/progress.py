"""Progress of long work: a live display on a terminal, plain lines elsewhere; every call is cheap and never raises."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol, TextIO

from torchskew.engine.run import Tally
from torchskew.model.sizes import readable

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

# A plain log wants a sign of life, not a flood.
PLAIN_EVERY = 5.0


class Watch(Protocol):
    """What the workflow tells: steps of versions, lines for the person, the tally of cells."""

    def step(self, version: str, text: str, done: int = 0, total: int = 0) -> None:
        """Version is at a step; done and total are bytes."""

    def say(self, text: str) -> None:
        """One line for the person."""

    def cells(self, tally: Tally) -> None:
        """The tally changed."""


class Silent:
    """Says nothing."""

    def step(self, version: str, text: str, done: int = 0, total: int = 0) -> None:
        """Say nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def cells(self, tally: Tally) -> None:
        """Say nothing."""


class Plain:
    """Lines for a log: each step of a version once, the tally now and then."""

    def __init__(self, out: TextIO) -> None:
        """Write to out, from any thread."""
        self._out = out
        self._lock = threading.Lock()
        self._last: dict[str, str] = {}
        self._last_line = 0.0

    def step(self, version: str, text: str, done: int = 0, total: int = 0) -> None:
        """Say a step when it is new for this version."""
        del done  # a plain log tells steps, not how far each is
        if self._last.get(version) != text:
            self._last[version] = text
            self.say(f"  {version}: {text}" + (f" ({readable(total)})" if total else ""))

    def say(self, text: str) -> None:
        """Write one line now; a reader that is gone is no reason to end a run."""
        with self._lock, suppress(OSError, ValueError):
            self._out.write(text + "\n")
            self._out.flush()

    def cells(self, tally: Tally) -> None:
        """Say the tally, at most once in five seconds."""
        now = time.monotonic()
        if now - self._last_line >= PLAIN_EVERY:
            self._last_line = now
            self.say(f"  {in_words(tally, now - tally.begun)}")


class Live:
    """Bars on a terminal: one per version that is being provisioned, one for the cells."""

    def __init__(self, bars: Bars) -> None:
        """Draw into bars, which the caller started."""
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def _task(self, name: str) -> TaskID:
        with self._lock:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=None)
            return self._tasks[name]

    def step(self, version: str, text: str, done: int = 0, total: int = 0) -> None:
        """Move the version's bar."""
        amount = f" {readable(done)} of {readable(total)}" if total else ""
        self._bars.update(
            self._task(version), description=f"{version}: {text}{amount}", completed=done, total=total or None
        )

    def say(self, text: str) -> None:
        """Print above the bars. The text is data, never markup, and a command in it stays on one line to be pasted."""
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def cells(self, tally: Tally) -> None:
        """Move the bar of the cells; the versions' bars are done by then."""
        for name in [name for name in self._tasks if name != "run"]:
            self._bars.remove_task(self._tasks.pop(name))
        text = in_words(tally, time.monotonic() - tally.begun)
        self._bars.update(self._task("run"), description=text, completed=tally.done, total=tally.planned)


def in_words(tally: Tally, elapsed: float) -> str:
    """elapsed: seconds since the first cell could start.

    `94/126 · 12 running, 9 waiting for a timeout of the code under test · about 14 s left`
    """
    parts = [f"{tally.done}/{tally.planned} cells"]
    doing = [f"{tally.running} running"] if tally.running else []
    doing += [f"{tally.waiting} waiting for a timeout of the code under test"] if tally.waiting else []
    parts += [", ".join(doing)] if doing else []
    left = seconds_left(tally, elapsed)
    parts += [f"about {left:.0f} s left"] if left is not None else []
    return " · ".join(parts)


def seconds_left(tally: Tally, elapsed: float) -> float | None:
    """What is left of these cells, at the pace of those that ran since the engine began; None too early to say.

    A cell that merely waits has done its work. What is predicted to wait longest starts first, so the run does not
    end before that long has passed.
    """
    worked = tally.done - tally.unrun + tally.waiting
    if worked <= 0 or tally.done >= tally.planned or elapsed <= 1:
        return None
    to_work = tally.planned - tally.done - tally.waiting
    return max(elapsed / worked * to_work, tally.longest - elapsed, 0.0)


@contextmanager
def watching(out: TextIO | None = None) -> Iterator[Watch]:
    """A live display when out (standard error by default) is a terminal, plain lines when it isn't."""
    out = out or sys.stderr
    if not out.isatty():
        yield Plain(out)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=out), transient=True) as bars:
        yield Live(bars)

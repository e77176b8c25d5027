"""Progress of long work: a live display on a terminal, plain lines elsewhere; every call is cheap and never raises."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol, TextIO

from torchskew.engine.run import Tally

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


def size(count: float) -> str:
    """Bytes as people read them: 812 kB, 2.3 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


class Plain:
    """Lines for a log: each step of a version once, the tally now and then."""

    def __init__(self, out: TextIO) -> None:
        """Write to out, from any thread."""
        self._out = out
        self._lock = threading.Lock()
        self._last: dict[str, str] = {}
        self._begun: float | None = None
        self._told = 0.0

    def step(self, version: str, text: str, done: int = 0, total: int = 0) -> None:
        """Say a step when it is new for this version."""
        del done  # a plain log tells steps, not how far each is
        if self._last.get(version) != text:
            self._last[version] = text
            self.say(f"  {version}: {text}" + (f" ({size(total)})" if total else ""))

    def say(self, text: str) -> None:
        """Write one line now; nobody reading any more is no reason to end a run."""
        with self._lock, suppress(OSError, ValueError):
            self._out.write(text + "\n")
            self._out.flush()

    def cells(self, tally: Tally) -> None:
        """Say the tally, at most once in five seconds."""
        now = time.monotonic()
        self._begun = self._begun or now
        if now - self._told >= PLAIN_EVERY:
            self._told = now
            self.say(f"  {told(tally, now - self._begun)}")


class Live:
    """Bars on a terminal: one per version that is being provisioned, one for the cells."""

    def __init__(self, bars: Bars) -> None:
        """Draw into bars, which somebody started."""
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._begun: float | None = None
        self._lock = threading.Lock()

    def _task(self, name: str) -> TaskID:
        with self._lock:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=None)
            return self._tasks[name]

    def step(self, version: str, text: str, done: int = 0, total: int = 0) -> None:
        """Move the version's bar."""
        amount = f" {size(done)} of {size(total)}" if total else ""
        self._bars.update(
            self._task(version), description=f"{version}: {text}{amount}", completed=done, total=total or None
        )

    def say(self, text: str) -> None:
        """Print above the bars; the text is data, never markup."""
        self._bars.console.print(text, markup=False, highlight=False)

    def cells(self, tally: Tally) -> None:
        """Move the bar of the cells; the versions' bars are done by then."""
        for name in [name for name in self._tasks if name != "run"]:
            self._bars.remove_task(self._tasks.pop(name))
        self._begun = self._begun or time.monotonic()
        text = told(tally, time.monotonic() - self._begun)
        self._bars.update(self._task("run"), description=text, completed=tally.done, total=tally.planned)


def told(tally: Tally, elapsed: float) -> str:
    """`94/126 · 12 running, 9 waiting for a timeout of the code under test · about 14 s left`."""
    parts = [f"{tally.done}/{tally.planned} cells"]
    doing = [f"{tally.running} running"] if tally.running else []
    doing += [f"{tally.waiting} waiting for a timeout of the code under test"] if tally.waiting else []
    parts += [", ".join(doing)] if doing else []
    if 0 < tally.done < tally.planned and elapsed > 1:
        parts.append(f"about {elapsed / tally.done * (tally.planned - tally.done):.0f} s left")
    return " · ".join(parts)


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

"""One trial of chaos and what it showed; the harness in this process, with what it printed."""

from __future__ import annotations

import contextlib
import io
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from torchskew.cli import main

STUCK_SECONDS = 30
MEMORY = 3 << 30  # bytes of addresses that a dry run may take
_TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What was done, and what is wrong with how the harness took it; empty: nothing."""

    done: str
    wrong: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A command's exit code and everything it printed."""

    code: int
    out: str
    err: str

    @property
    def broken(self) -> str:
        """How it showed a bug of the harness; empty: it did not."""
        if self.code == 3 or _TRACEBACK in self.err or _TRACEBACK in self.out:
            return f"a bug: exit code {self.code}, {(self.err.splitlines() or [''])[-1][:200]}"
        return ""


class StuckError(BaseException):
    """The harness did not come back; nothing in it catches this."""


@contextmanager
def patience() -> Iterator[None]:
    """StuckError out of the block where it never ends, MemoryError where it takes all memory."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise StuckError

    before = signal.signal(signal.SIGALRM, stop)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
    signal.alarm(STUCK_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


def ran(words: Sequence[str]) -> Said:
    """A command in this process; its exit code is -1 where an exception left it, and -2 where it never ended."""
    out, err = (_stream(errors) for errors in ("strict", "backslashreplace"))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _no_input(), patience():
            code = main(words)
    except StuckError:
        code = -2
    except BaseException as error:  # noqa: BLE001 - whatever leaves it is the finding
        code = -1
        err.write(f"\n{_TRACEBACK} of {type(error).__name__}: {error}\n")
    return Said(code=code, out=_text(out), err=_text(err))


@contextmanager
def _no_input() -> Iterator[None]:
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO())
    try:
        yield
    finally:
        sys.stdin = before


def _stream(errors: str) -> io.TextIOWrapper:
    """A stream as Python opens it in a UTF-8 locale: it refuses on standard output what UTF-8 can't say."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors, write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode("utf-8", "replace")

"""Reads the stacks that faulthandler wrote before a hanging rank was killed, and names where it waited; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

_HEADER = re.compile(r"(Current thread|Thread)\b.*most recent call first")
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.*)')
# Every rank runs in this function of inside/child.py.
_RANK_FUNCTION, _RANK_FILE = "live", "/inside/child.py"
# The harness's own frames around the code under test.
_MACHINERY = re.compile(r"<string>$|.*/torchskew/inside/(agent|child|program|rehearsal)\.py$")
# Frames of decorators, which say nothing about what was called.
_DECORATORS = frozenset({"wrapper", "inner", "_fn", "_call_impl", "_wrapped_call_impl"})
_SHOWN_FRAMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One call on a stack. line: None where the interpreter did not know it."""

    file: str
    line: int | None
    function: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadStack:
    """One thread's calls, the innermost first. current: the thread that wrote them; text: as written."""

    current: bool
    frames: tuple[Frame, ...]
    text: str

    @property
    def runs_the_rank(self) -> bool:
        """Whether the scenario runs in this thread."""
        return any(each.function == _RANK_FUNCTION and each.file.endswith(_RANK_FILE) for each in self.frames)


def read_stacks(text: str) -> tuple[ThreadStack, ...]:
    """The threads in what faulthandler wrote, in its order; other lines are no frames."""
    return tuple(_thread(lines) for lines in _sections(text.splitlines()))


def waiting_in(text: str) -> str:
    """Where the rank waited, outermost call first: `new_group -> _store_based_barrier -> wait`; empty if unknown."""
    thread = _rank_thread(read_stacks(text))
    if thread is None:
        return ""
    under_test = takewhile(lambda frame: not _MACHINERY.match(frame.file), thread.frames)
    # The innermost call is always named: a function of the user's own may be called like a decorator's.
    named = [each.function for at, each in enumerate(under_test) if at == 0 or each.function not in _DECORATORS]
    return " -> ".join(reversed(named[:_SHOWN_FRAMES]))


def rank_first(text: str) -> str:
    """The same stacks with the rank's own thread first, so that the head of the text is where the rank waited."""
    threads = read_stacks(text) if text else ()
    first = _rank_thread(threads)
    if first is None:
        return text
    return "\n\n".join(each.text for each in (first, *(other for other in threads if other is not first))) + "\n"


def under_test(text: str) -> str:
    """The same stacks, the rank's own thread first, without the harness's frames around the code under test."""
    kept = []
    for line in rank_first(text).splitlines():
        frame = _FRAME.fullmatch(line)
        if frame is None or not _MACHINERY.match(frame["file"]):
            kept.append(line)
    return "\n".join(kept)


def _rank_thread(threads: Sequence[ThreadStack]) -> ThreadStack | None:
    """The thread that runs the rank; where its outermost frames were cut off, the one that wrote the stacks."""
    ranked = sorted(threads, key=lambda each: (each.runs_the_rank, each.current), reverse=True)
    return next((each for each in ranked if each.frames), None)


def _sections(lines: Sequence[str]) -> Iterator[Sequence[str]]:
    starts = [number for number, line in enumerate(lines) if _HEADER.match(line)]
    for start, end in pairwise([*starts, len(lines)]):
        yield lines[start:end]


def _thread(lines: Sequence[str]) -> ThreadStack:
    matches = (_FRAME.fullmatch(line) for line in lines[1:])
    frames = tuple(
        Frame(
            file=match["file"],
            line=int(match["line"]) if match["line"].isdigit() else None,
            function=match["function"],
        )
        for match in matches
        if match
    )
    return ThreadStack(current=lines[0].startswith("Current"), frames=frames, text="\n".join(lines).strip())

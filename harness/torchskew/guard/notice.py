"""What the guard says without raising: one line on standard error, or a warning that points at the user's line."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings

# Frames of the guard, of torch and of the standard library's wrappers are not the user's line.
_OWN = (os.path.dirname(os.path.abspath(__file__)), os.sep + os.path.join("torch", "distributed") + os.sep)
_WRAPPERS = ("functools.py", "contextlib.py", "runpy.py", "torchskew_guard_start.py")


def say(rank: int, text: str, noun: str = "rank") -> None:
    """One line on standard error, in one write: the ranks of a host share it. Nothing where that is closed.

    rank: -1 where there is none.
    """
    who = ", %s %d" % (noun, rank) if rank >= 0 else ""
    line = "torchskew guard%s: %s\n" % (who, " ".join(text.split()))
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(line)
        sys.stderr.flush()


def warn(rank: int, text: str) -> None:
    """A warning at the line that called for the init; where warnings are errors, it is only said."""
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=_depth())
    except RuntimeWarning:
        say(rank, text)


def _depth() -> int:
    """How far up the user's line is, for warn()'s caller."""
    depth, frame = 1, sys._getframe(1)  # noqa: SLF001 - inspect.stack() reads every source file
    while frame.f_back is not None and _not_the_users(frame.f_code.co_filename):
        depth, frame = depth + 1, frame.f_back
    return depth


def _not_the_users(path: str) -> bool:
    """Whether a frame of this file is not the user's."""
    if os.path.basename(path) in _WRAPPERS:
        return True
    own = path == __file__ if os.path.basename(__file__) != "notice.py" else os.path.dirname(path) == _OWN[0]
    return own or _OWN[1] in path

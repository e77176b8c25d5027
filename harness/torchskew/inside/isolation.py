"""A process namespace of its own for a command, on Linux: whatever is forked in it ends with its first process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from typing import Any

_NEW_PROCESSES, _NEW_MOUNTS = 0x20000000, 0x00020000
_PRIVATE, _RECURSIVE = 1 << 18, 16384

_answers: list[bool] = []


def possible() -> bool:
    """Whether this process may have one; what an agent has found out, the ranks that it forks know."""
    if not _answers:
        _answers.append(_tried())
    return _answers[0]


def leave_processes() -> None:
    """The next child of this process is the first of a namespace of processes; OSError where that is not allowed."""
    _call("unshare", _NEW_PROCESSES)


def own_proc() -> None:
    """A /proc that shows the processes by the numbers that they know themselves by."""
    _call("unshare", _NEW_MOUNTS)
    _call("mount", b"none", b"/", None, ctypes.c_ulong(_RECURSIVE | _PRIVATE), None)
    _call("mount", b"proc", b"/proc", b"proc", ctypes.c_ulong(0), None)


def prctl(option: int, value: int) -> None:
    """Set an option of this process, where there are such."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _tried() -> bool:
    """Try it in a child: a process that has left its namespace half can't come back."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            leave_processes()
            inner = os.fork()
            if inner == 0:
                with contextlib.suppress(BaseException):
                    own_proc()
                    os._exit(0)
                os._exit(1)
            os._exit(min(1, os.waitpid(inner, 0)[1]))
        os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _call(name: str, *arguments: Any) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)

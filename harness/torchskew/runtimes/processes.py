"""Processes of this machine: whether they still run, when they began, who started them, what ends with us."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_STATE, _PARENT, _START = 0, 1, 19  # fields of /proc/PID/stat, counted from the command's closing bracket


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that runs. start: clock ticks since boot, which tell it from a later one with the same id."""

    pid: int
    parent: int
    start: str


def look_up(pid: int) -> Process | None:
    """The process; None when it has ended (a zombie has), or where the system has no /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    if not fields or fields[_STATE] in "ZX":
        return None
    return Process(pid=pid, parent=int(fields[_PARENT]), start=fields[_START])


def exists(pid: int) -> bool:
    """Whether some process has this id: for systems without /proc, where the id alone has to do."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def descendants(pid: int) -> tuple[int, ...]:
    """Everything that a process started, and that those started; empty where the system has no /proc."""
    running = [process for process in map(look_up, _ids()) if process is not None]
    family = {pid}
    while grown := {each.pid for each in running if each.parent in family} - family:
        family |= grown
    return tuple(family - {pid})


def tied(command: Sequence[str], name: str = "KILL") -> list[str]:
    """The command, which gets this signal when the thread that started it ends, however it does.

    Where util-linux is missing, the command as it is: then it outlives us if we are killed.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", name, *command] if setpriv else [*command]


def _ids() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]

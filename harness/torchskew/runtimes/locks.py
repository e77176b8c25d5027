"""Locks between processes and threads: files that the kernel unlocks when their holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def opened(path: Path) -> IO[bytes]:
    """The file of a lock, made when it isn't there; closing it unlocks it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b")


def share(lock: IO[bytes]) -> None:
    """Lock it together with others who share it; waits for one who has it alone."""
    fcntl.flock(lock, fcntl.LOCK_SH)


def try_alone(lock: IO[bytes]) -> bool:
    """Lock it alone if nobody else has it; never waits."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """One process and thread at a time; the others wait."""
    with opened(path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

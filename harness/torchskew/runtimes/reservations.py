"""Promises a disk's free space to what is being made, over every process and thread that shares a store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torchskew.model.sizes import readable
from torchskew.runtimes import locks

_DIGITS = 20
EMPTYING = "`torchskew clean --store` removes every environment and image that no run uses."


class NoSpaceError(Exception):
    """The disk can't hold what is asked. free: bytes free on the disk; promised: of these, to others."""

    def __init__(self, free: int, promised: int) -> None:
        super().__init__(f"{free} bytes are free, {promised} of them promised")
        self.free, self.promised = free, promised

    def figures(self, folder: Path) -> str:
        """How much is free on the disk of a folder, and how much of that is promised, for a person."""
        promised = f", of which versions being made now need {readable(self.promised)}" if self.promised else ""
        return f"{readable(self.free)} are free at {folder}{promised}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Space that is promised to us. bytes: all of it."""

    bytes: int
    _file: int

    def written(self, done: int) -> None:
        """So many of the bytes are on the disk: they are no longer free, so they need no promise."""
        _write(self._file, max(0, self.bytes - done))


class Reservations:
    """The promises on one disk. Each is a file in a folder, which its holder keeps locked."""

    def __init__(self, folder: Path, disk: Path | None = None) -> None:
        """Make nothing yet. disk: any folder on the disk, where it is not that of `folder`."""
        self._folder, self._disk = folder, disk or folder

    @contextmanager
    def reserved(self, name: str, wanted: int) -> Iterator[Reservation]:
        """So many bytes of the free space, until the block ends.

        Raises:
            NoSpaceError: what is free and not promised to others is less.
        """
        path = self._folder / "reserved" / name[:24]
        with locks.alone(self._folder / "locks" / "reserved"):
            promised = self._promised()
            free = shutil.disk_usage(self._disk).free
            if free - promised < wanted:
                raise NoSpaceError(free, promised)
            file = locks.opened(path)
            alone = locks.try_alone(file)
            assert alone, f"{path}: an environment is made by one at a time"
            _write(file.fileno(), wanted)
        try:
            yield Reservation(bytes=wanted, _file=file.fileno())
        finally:
            path.unlink(missing_ok=True)
            file.close()

    def _promised(self) -> int:
        """Bytes promised to those who still run; what others left is removed."""
        total = 0
        for path in (self._folder / "reserved").glob("*"):
            with locks.opened(path) as file:
                if locks.try_alone(file):
                    path.unlink(missing_ok=True)
                else:
                    total += int(os.pread(file.fileno(), _DIGITS, 0) or 0)
        return total


def _write(file: int, count: int) -> None:
    """Always as many digits, so that a reader never sees half of a number."""
    os.pwrite(file, f"{count:0{_DIGITS}}".encode(), 0)

"""Stores environments by content in the user's cache: complete ones only, each made by one process at a time."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from torchskew.runtimes import locks

_MARKER = "torchskew.json"
_POLL = 0.1  # seconds between checks on what another process makes
_FRESH = 24 * 3600.0  # seconds for which a requirement that pins no release keeps its answer


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEnvironment:
    """A complete environment. python: its interpreter; reports: its torch; size: bytes on disk."""

    identity: str
    python: str
    reports: str
    git_version: str | None
    python_version: str
    packages: tuple[str, ...]
    size: int


class Store:
    """Environments under one folder. Holds a shared lock on each that this process uses, until `release`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, IO[bytes]] = {}

    def place(self, identity: str) -> Path:
        """The folder of an environment, whether it exists or not."""
        return self.folder / "envs" / identity[:24]

    def answer(self, request: str, *, pinned: bool = True) -> str | None:
        """What `remember` kept for a request; an answer to one that pins no release grows old in a day."""
        path = self.folder / "requests" / request[:24]
        try:
            if not pinned and time.time() - path.stat().st_mtime > _FRESH:
                return None
            return path.read_text()
        except OSError:
            return None

    def remember(self, request: str, answer: str) -> None:
        """Note which environment, or which facts, answer a request."""
        path = self.folder / "requests" / request[:24]
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
        aside.write_text(answer)
        aside.replace(path)

    def take(self, identity: str) -> StoredEnvironment | None:
        """A whole environment, marked as in use until `release`; None when it is not there."""
        if not self.whole(identity):
            return None
        lock = self._lock(identity)
        locks.share(lock)
        made = self._read(self.place(identity))
        if made is None or self._held.setdefault(identity, lock) is not lock:
            lock.close()
        if made is not None:
            os.utime(self.place(identity) / _MARKER)
        return made

    @contextmanager
    def making(self, identity: str) -> Iterator[Path | None]:
        """An empty place that only we fill; None when another process has just made the environment.

        What did not get whole is removed at the end.
        """
        place = self.place(identity)
        with self._lock(identity) as lock:
            while not locks.try_alone(lock):
                if self.whole(identity):  # its maker uses it now, and holds its lock for long
                    yield None
                    return
                time.sleep(_POLL)
            if self.whole(identity):
                yield None
                return
            _removed(place)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                yield place
            finally:
                if not self.whole(identity):
                    _removed(place)

    def finish(self, made: StoredEnvironment) -> None:
        """Mark it as complete; the marker is written last."""
        place = self.place(made.identity)
        aside = place / f"{_MARKER}.new"
        aside.write_text(json.dumps(asdict(made)))
        aside.replace(place / _MARKER)

    def whole(self, identity: str) -> bool:
        """Whether it is there and complete."""
        return self._read(self.place(identity)) is not None

    def evict(self, keep_bytes: int) -> tuple[StoredEnvironment, ...]:
        """Remove environments, longest unused first, until the rest fits; never one in use. Those removed."""
        oldest_first = self._by_use()
        files = {place: _files(place) for _, place in oldest_first}
        gone = []
        for made, place in oldest_first:
            if _bytes(files.values()) <= keep_bytes:
                break
            if self._evicted(made.identity, place):
                del files[place]
                gone.append(made)
        return tuple(gone)

    def used(self) -> int:
        """Bytes that all whole environments take; a file that several share by hard link counts once."""
        return _bytes(_files(place) for _, place in self._by_use())

    def packages(self) -> frozenset[str]:
        """`name==version` of everything that some whole environment holds."""
        return frozenset(package for made, _ in self._by_use() for package in made.packages)

    def release(self) -> None:
        """Give up our share of every environment."""
        while self._held:
            self._held.popitem()[1].close()

    def _by_use(self) -> list[tuple[StoredEnvironment, Path]]:
        """Whole environments, longest unused first."""
        environments = []
        for place in (self.folder / "envs").glob("*"):
            environment = self._read(place)
            if environment is not None:
                environments.append(((place / _MARKER).stat().st_mtime, environment, place))
        return [(environment, place) for _, environment, place in sorted(environments, key=lambda each: each[0])]

    def _evicted(self, identity: str, place: Path) -> bool:
        with self._lock(identity) as lock:
            if not locks.try_alone(lock):
                return False
            (place / _MARKER).unlink()  # first, so that half of it never counts as whole
            _removed(place)
            return True

    def _lock(self, identity: str) -> IO[bytes]:
        return locks.opened(self.folder / "locks" / identity[:24])

    def _read(self, place: Path) -> StoredEnvironment | None:
        try:
            fields = json.loads((place / _MARKER).read_text())
            made = StoredEnvironment(**(fields | {"packages": tuple(fields["packages"])}))
        except (OSError, ValueError, TypeError, KeyError):
            return None  # absent, or written by another release of ours
        return made if Path(made.python).exists() else None


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for root, _, names in os.walk(folder):
        total += sum(os.lstat(os.path.join(root, name)).st_size for name in names)
    return total


def _files(folder: Path) -> Mapping[tuple[int, int], int]:
    """The files below a folder: bytes by device and inode, which tell hard links from copies."""
    sizes = {}
    for root, _, names in os.walk(folder):
        for name in names:
            stat = os.lstat(os.path.join(root, name))
            sizes[stat.st_dev, stat.st_ino] = stat.st_size
    return sizes


def _bytes(folders: Iterable[Mapping[tuple[int, int], int]]) -> int:
    """Bytes of several folders together."""
    every: dict[tuple[int, int], int] = {}
    for files in folders:
        every.update(files)
    return sum(every.values())


def _removed(place: Path) -> None:
    if place.exists():
        shutil.rmtree(place)

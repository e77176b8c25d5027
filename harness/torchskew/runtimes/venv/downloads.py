"""The downloads of this process: what they may take of the disk, and what is left of those that failed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torchskew.model.sizes import readable
from torchskew.runtimes.reservations import EMPTYING, NoSpaceError, Reservation, Reservations
from torchskew.runtimes.venv.resolve import Lock, download_sizes
from torchskew.runtimes.venv.room import UNPACKED
from torchskew.runtimes.venv.store import Store
from torchskew.runtimes.venv.uv import DISK_FULL, Uv, UvError

_CLEANING = 60.0  # seconds: uv waits for other processes that use its cache


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadSize:
    """Bytes to download: the most and the least they can be. exact: whether the size of every wheel is known.

    uv says how many packages are missing in its cache, not which.
    """

    most: int
    least: int
    exact: bool

    @property
    def on_disk(self) -> int:
        """What it takes at least: a version must not be refused that would fit."""
        return round(self.least * UNPACKED)

    def __str__(self) -> str:
        bound = "at most " if self.least < self.most else "" if self.exact else "at least "
        return f"{bound}{readable(self.most)}"

    def refused(self, folder: Path, error: NoSpaceError) -> str:
        """Why it does not begin, with the figures, and the fix."""
        need = f"{readable(self.least)} to download need about {readable(self.on_disk)} on disk"
        fix = f"Free some, or set XDG_CACHE_HOME to another disk; {EMPTYING}"
        return f"the disk is full: {need}, {error.figures(folder)}. {fix}"


def measured(lock: Lock, missing: int, bundle: str | None) -> DownloadSize:
    """The size of what is missing in uv's cache. bundle: file of certificates to trust, None for the system's."""
    sizes, exact = download_sizes(lock, bundle) if missing else ([], True)
    most, least = (sum(sorted(sizes, reverse=way)[:missing]) for way in (True, False))
    return DownloadSize(most=most, least=least, exact=exact)


class Downloads:
    """Lets a download begin when the disk can hold it; removes what failed ones left, when the last has ended."""

    def __init__(self, store: Store, uv: Uv) -> None:
        """Make nothing yet."""
        self._store, self._uv = store, uv
        self._reservations = Reservations(store.folder)
        self._guard = threading.Lock()
        self._running = 0
        self._failed = False
        self._useless: set[str] = set()

    @contextmanager
    def running(self, lock: Lock, wanted: int) -> Iterator[Reservation]:
        """The download of what a lock lists, for which the disk must have `wanted` bytes.

        Raises:
            NoSpaceError: less is free and not promised to others.
        """
        with self.tidied(lock.packages), self._reservations.reserved(lock.identity, wanted) as reservation:
            yield reservation

    @contextmanager
    def tidied(self, packages: Iterable[str]) -> Iterator[None]:
        """Work of uv on some packages: `name==version`, or the name alone where no version is known yet."""
        with self._guard:
            self._running += 1
        try:
            yield
        except UvError as error:
            with self._guard:
                self._failed = True
                # Wheels that did arrive help the next try, unless there is no room for a next try.
                self._useless |= set(packages) if error.about(DISK_FULL) else set()
            raise
        finally:
            self._end()

    def _end(self) -> None:
        with self._guard:
            self._running -= 1
            if self._running or not self._failed:
                return
            packages, self._useless, self._failed = self._useless, set(), False
        self._clean(packages)

    def _clean(self, packages: set[str]) -> None:
        """Wheels that no environment uses, and files that uv left half written."""
        if not self._uv.owns_cache:
            return
        names = sorted({package.partition("==")[0] for package in packages - self._store.packages()})
        try:
            if names:
                self._uv.call("cache", "clean", "--quiet", *names, limit=_CLEANING)
            self._uv.call("cache", "prune", "--quiet", limit=_CLEANING)
        except UvError:
            return  # another process uses the cache; why the download failed is what a person needs to read

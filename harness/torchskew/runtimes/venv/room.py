"""Disk space for environments: what they need, what is free, and which to remove when it runs short."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from packaging.requirements import InvalidRequirement

from torchskew.model.sizes import readable
from torchskew.model.versions import Source, SourceKind
from torchskew.runtimes.venv.resolve import Resolver, download_size, unpacked_size
from torchskew.runtimes.venv.store import Store
from torchskew.runtimes.venv.uv import Uv, UvError

UNPACKED = 1.75  # how much larger torch and its CUDA libraries are on disk than as wheels; measured on three


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of an environment. there: it exists, else the number is an estimate."""

    bytes: int
    there: bool


@dataclass(slots=True)
class Room:
    """The store's share of the disk. sizes: those of the versions about to be used."""

    store: Store
    uv: Uv
    resolver: Resolver
    sizes: Mapping[str, Size] = field(default_factory=dict)

    def holding(self, sizes: Mapping[str, Size]) -> Self:
        """The same, for these versions."""
        return type(self)(self.store, self.uv, self.resolver, sizes)

    def wanted(self) -> Mapping[str, int]:
        """Bytes of each version's environment; an estimate where it has not been made yet."""
        return {name: size.bytes for name, size in self.sizes.items()}

    def most(self, reserve: int) -> int:
        """The largest bound that leaves `reserve` bytes of the disk free."""
        self.store.folder.mkdir(parents=True, exist_ok=True)
        return self.store.used() + shutil.disk_usage(self.store.folder).free - reserve

    def make(self, bound: int) -> tuple[str, ...]:
        """Remove what nobody uses, longest unused first, until the rest and what is still to be made fit in `bound`."""
        coming = sum(size.bytes for size in self.sizes.values() if not size.there)
        return self.evict(max(0, bound - coming))

    def evict(self, keep_bytes: int) -> tuple[str, ...]:
        """Remove environments, longest unused first, until `keep_bytes` hold the rest; a line for each."""
        gone = self.store.evict(keep_bytes)
        names = sorted({package.partition("==")[0] for environment in gone for package in environment.packages})
        if names and self.uv.owns_cache:
            # The cache holds the same files by hard link: only without both is the space free. Cleaning by name leaves
            # what wheels of an index were unpacked to (12 GB of it once, uv 0.13.9), with nothing that points there.
            self.uv.call("cache", "clean", "--quiet", *names)
            self.uv.call("cache", "prune", "--quiet")
        return tuple(f"torch {environment.reports}, {readable(environment.size)}" for environment in gone)

    def estimate(self, source: Source) -> Size:
        """What an environment will take; 0 where provisioning is going to report what is wrong."""
        if source.kind is SourceKind.INTERPRETER:
            return Size(0, there=True)
        try:
            lock = self.resolver.resolve(source)
        except (UvError, InvalidRequirement):
            return Size(0, there=False)
        size, _ = download_size(lock, self.uv.environ().get("SSL_CERT_FILE"))
        return Size(round(size * UNPACKED) + unpacked_size(lock), there=False)

"""A declared version, where it comes from, and the environment that provisioning made of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class SourceKind(StrEnum):
    """Where a version comes from."""

    PIP = "pip"
    WHEEL = "wheel"
    INTERPRETER = "interpreter"
    SOURCE = "source"  # a tree of Python files without a build
    DEBIAN = "debian"
    IMAGE = "image"

    @property
    def installed(self) -> bool:
        """Whether torchskew installs it, with packages beside it; the others have what they have."""
        return self in (SourceKind.PIP, SourceKind.WHEEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One Debian suite. torch: upstream release; reports: what `torch.__version__` says; env: settings of each rank.

    download: megabytes that bootstrapping it with torch fetches. check_valid_until: False where the suite's index
    may have expired and is still correct.
    """

    name: str
    torch: str
    reports: str
    python: str
    numpy: str = ""
    download: int
    env: Mapping[str, str] = field(default_factory=dict)
    check_valid_until: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What ranks of a version get beyond their own files. Default: nothing.

    root: a folder of this machine that they read, at the same path; empty: none. network: they reach other machines.
    memory, processes: bytes and processes that all its ranks together may use; 0: the runtime's own limits. venv has
    the user's files and network anyway, and sets no such limits.
    """

    root: str = ""
    network: bool = False
    memory: int = 0
    processes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One way to get a version: the kind and its value (requirement, path, suite, reference).

    suite: the facts of the Debian suite that `value` names, where the declaration was read with the catalogue.
    until: no package that was uploaded later is taken (ISO 8601, UTC); None: any.
    """

    kind: SourceKind
    value: str
    python: str | None = None
    index: str | None = None
    requires: tuple[str, ...] = ()
    suite: Suite | None = None
    until: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A declared version: its label, its sources (each runtime takes the first it can use), its facts.

    torch: the release it is expected to be, for predictions ("2.6.0"), or None when only running tells.
    reports: what `torch.__version__` must say (public part compared), or None when anything goes.
    env: settings that every rank of this version needs.
    known_python, known_numpy: what its runtime or its environment has, where that is known; "" means as declared.
    """

    name: str
    sources: tuple[Source, ...]
    torch: str | None = None
    reports: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    grants: Grants = field(default_factory=Grants)
    known_python: str = ""
    known_numpy: str = ""

    @property
    def built(self) -> bool:
        """Whether there is a torch that can be imported: one of its sources is more than a tree of Python files."""
        return not self.sources or any(source.kind is not SourceKind.SOURCE for source in self.sources)

    @property
    def python(self) -> str:
        """The Python that it is known to run on, else the one that its source declares; "" where only running tells."""
        if self.known_python:
            return self.known_python
        source = self.sources[0] if self.sources else None
        declared = (source.suite.python if source.suite else source.python) if source else None
        return declared if declared and declared[0].isdecimal() else ""

    @property
    def numpy(self) -> str:
        """The NumPy that it is known to have, else the newest that its source may mean; "" where only running tells."""
        if self.known_numpy:
            return self.known_numpy
        source = self.sources[0] if self.sources else None
        if source is None or source.suite:
            return source.suite.numpy if source and source.suite else ""
        return next(filter(None, map(_numpy_of, source.requires)), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A provisioned version. identity: digest of its content (image id, or lock of the environment).

    handle: what the runtime needs to start it (an image id, a path of an interpreter). python, numpy: the releases in
    it; "" where the runtime doesn't know, and where there is no NumPy.
    """

    version: str
    runtime: str
    identity: str
    handle: str
    env: Mapping[str, str] = field(default_factory=dict)
    reports: str | None = None
    python: str = ""
    numpy: str = ""
    note: str = ""
    grants: Grants = field(default_factory=Grants)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentFailure:
    """A version that has no environment. reason: what, why and the fix, as the runtime said it."""

    version: str
    reason: str

    def __str__(self) -> str:
        return f"no environment for {self.version}: {self.reason}"


def _numpy_of(requirement: str) -> str:
    """The NumPy that a requirement means: what it pins, the last below its bound, else the first 2; "" for none.

    It is read without the package `packaging`, which loads what a pure step must not (tests/test_house.py).
    """
    wanted = re.fullmatch(r"numpy\s*([<>=!~].*)?", requirement.partition(";")[0].strip(), re.IGNORECASE)
    if not wanted:
        return ""
    if pinned := re.search(r"[=~]=\s*(\d+\.\d+(\.\d+)?)", wanted[1] or ""):
        return pinned[1]
    below = re.search(r"<\s*1\.(\d+)", wanted[1] or "")
    return (
        f"1.{int(below[1]) - 1}" if below else "1.26" if re.search(r"<\s*2(\.0)*\s*(,|$)", wanted[1] or "") else "2.0"
    )


def span(versions: Sequence[str]) -> str:
    """Releases in a row by the first and the last of them."""
    return versions[0] if len(versions) == 1 else f"{versions[0]}-{versions[-1]}"

"""The runtimes, one row each: every `--runtime`, every list in the declaration and every check reads them here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torchskew.model.versions import SourceKind, Version

AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeRow:
    """One runtime, described without importing it.

    implementation: `module:class`; sources: the kinds of source it can provide; purpose: what ranks run in.
    engine: what must answer before it can be used, and fix: what to do where that doesn't.
    essential: whether torchskew is of no use without it; own_network: whether each version has its own network.
    python: what a wheel runs on unless the version declares one, as X.Y; empty: only provisioning tells.
    """

    name: str
    implementation: str
    sources: tuple[SourceKind, ...]
    purpose: str
    engine: str
    fix: str
    essential: bool = False
    own_network: bool = False
    python: str = ""


# In order of preference: `auto` takes the first that answers and can provide every version.
RUNTIMES: dict[str, RuntimeRow] = {
    row.name: row
    for row in (
        RuntimeRow(
            name="docker",
            implementation="torchskew.runtimes.docker.runtime:DockerRuntime",
            sources=(SourceKind.IMAGE, SourceKind.DEBIAN, SourceKind.WHEEL, SourceKind.PIP),
            purpose="containers",
            engine="Docker engine",
            fix="Start an engine and see that `docker version` works for this user; `--runtime venv` needs none.",
            own_network=True,
            python="3.11",
        ),
        RuntimeRow(
            name="venv",
            implementation="torchskew.runtimes.venv.runtime:VenvRuntime",
            sources=(SourceKind.INTERPRETER, SourceKind.SOURCE, SourceKind.WHEEL, SourceKind.PIP),
            purpose="local processes",
            engine="uv",
            fix="Install it: pip install uv",
            essential=True,
        ),
    )
}


def choices() -> tuple[str, ...]:
    """What `--runtime` and the declaration accept."""
    return (AUTO, *RUNTIMES)


def listed() -> str:
    """Every runtime with its purpose, for a help text: `docker (containers), venv (local processes)`."""
    return ", ".join(f"{row.name} ({row.purpose})" for row in RUNTIMES.values())


def provides(row: RuntimeRow, version: Version) -> bool:
    """Whether the runtime can use one of the version's sources."""
    return any(source.kind in row.sources for source in version.sources)


def providers(version: Version) -> tuple[str, ...]:
    """Every runtime that can use one of the version's sources."""
    return tuple(row.name for row in RUNTIMES.values() if provides(row, version))


def sole_provider(versions: Sequence[Version]) -> str | None:
    """The runtime that one of these versions can't do without; None where no version is bound to one."""
    bound = (providers(version) for version in versions)
    return next((names[0] for names in bound if len(names) == 1), None)

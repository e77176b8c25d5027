"""A user's own command as the declaration asks for it: what runs, where, and within which limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

# A text goes through the shell, a list of words does not.
Command: TypeAlias = str | tuple[str, ...]

DEFAULT_TAG: Final = "default"
EXPLICIT_TAG: Final = "explicit"
# Tags that need no declaration. `explicit`: the check runs only where it is named.
TAGS: Final = (DEFAULT_TAG, "pre_install", "pre_release", EXPLICIT_TAG)
# What a command may ask for by {name}.
PLACEHOLDERS: Final = ("root", "version", "python", "out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One [checks.NAME]. timeout: seconds for pre_commands and command together; memory: bytes of all its processes.

    requires: packages besides those of the version. on_releases: specifier of the releases it runs on; on_versions:
    names of the declared versions it runs on; both empty: all. network: it needs more than the machine itself.
    stop_on_fail: where it fails, the checks after it do not run in that version. inputs: patterns of files below the
    root that its result depends on; without them no result is reused.
    """

    name: str
    command: Command
    requires: tuple[str, ...] = ()
    run_on: tuple[str, ...] = (DEFAULT_TAG,)
    on_releases: str = ""
    on_versions: tuple[str, ...] = ()
    timeout: float = 300.0
    memory: int = 2_000_000_000
    processes: int = 256
    network: bool = False
    pre_commands: tuple[Command, ...] = ()
    stop_on_fail: bool = False
    inputs: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

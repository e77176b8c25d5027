"""What a runtime promises the engine: provision versions, start warm agents, leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torchskew.model.versions import Environment, Version


class Progress(Protocol):
    """Where long operations report; every call is cheap and never raises."""

    def step(self, version: str, text: str, done: int = 0, total: int = 0) -> None:
        """Version is at a step; done and total are bytes (total 0: unknown)."""

    def say(self, text: str) -> None:
        """One line for the person, once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """One run's ownership: what labels carry, so that a sweep can tell the living from the dead.

    folder: a temporary folder of this run on the host, removed at its end.
    """

    run_id: str
    owner_pid: int
    host: str
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Folders of this machine that a started version sees under the same path, and can't write to.

    data: what its ranks read. code: what they import, for a runtime whose ranks don't see this machine's files.
    """

    data: tuple[str, ...] = ()
    code: tuple[str, ...] = ()


NO_FOLDERS = Folders()


class Channel(Protocol):
    """A started version: lines in, lines out. host: the address under which other ranks reach it.

    share: folder (inside the version) that every channel of the run sees. rank_env: settings each rank needs here.
    """

    host: str
    share: str
    rank_env: Mapping[str, str]

    def send(self, line: bytes) -> None:
        """Write one line; AgentError when the version is gone."""

    def lines(self) -> Iterator[bytes]:
        """Lines the version writes, until it ends. Called from one thread."""

    def errors(self) -> str:
        """The end of its standard error, at most 32 lines."""

    def look_inside(self, pid: int) -> str:
        """The command that shows where a process of this version is; pid: as the agent gave it."""

    def close(self) -> None:
        """TERM, then KILL on a monotonic deadline; idempotent; raises MachineError when something is left."""


class Room(Protocol):
    """The space that some versions need on a disk too small for all of them."""

    def wanted(self) -> Mapping[str, int]:
        """Bytes of each version's environment; an estimate where it has not been made yet."""

    def most(self, reserve: int) -> int:
        """The largest bound on all environments together that leaves `reserve` bytes of the disk free."""

    def make(self, bound: int) -> tuple[str, ...]:
        """Remove the environments unused for longest until the versions fit within `bound` bytes; a line for each."""


class Runtime(Protocol):
    """How a rank's version is provided. Constructed cheaply; nothing is contacted before a method is called."""

    name: str
    replicas: bool  # two ranks of one version get two agents (own address each)
    sees_files: bool  # ranks see this machine's files: `start` gets no folders, ranks protect their data themselves

    def answers(self) -> str | None:
        """None when the runtime can be used here, else the reason; takes at most a second, never raises."""

    def describe(self) -> str:
        """One line that names what answers and where, like `docker 27.1 at unix:///var/run/docker.sock`."""

    def provision(self, version: Version, progress: Progress) -> Environment:
        """Make the version's environment, or reuse it; ProvisionError says what failed, why, and the fix."""

    def open(self, scope: Scope) -> None:
        """Make what the run shares (a network, a folder)."""

    def start(self, environment: Environment, replica: int, folders: Folders = NO_FOLDERS) -> Channel:
        """Start the version with `agent_command` and return at once; the engine waits for `ready`.

        Raises:
            MachineError: the machine refuses, or can't show the version one of these folders.
        """

    def close(self) -> None:
        """Remove what `open` and `start` made; collects problems and raises them together."""

    def sweep(self) -> tuple[str, ...]:
        """Remove what dead owners of this host left; returns a line for each thing removed."""

    def clear(self) -> tuple[str, ...]:
        """Remove every provisioned environment that nothing uses; returns a line for each."""

    def room(self, versions: Sequence[Version]) -> Room | None:
        """The space for these versions, which count as in use from now on; None where nothing is evicted."""

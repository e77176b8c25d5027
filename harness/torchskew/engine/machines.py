"""Where a session's environments are and its cells run: what any place promises, and this machine as such a place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol

from torchskew.engine.agents import Agents, Place
from torchskew.engine.ports import Ports
from torchskew.engine.provision import provision_all
from torchskew.engine.run import Engine, Tally, default_jobs
from torchskew.errors import ConfigError, MachineError, ProvisionError
from torchskew.model.cells import Plan
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Placement
from torchskew.model.results import CellResult
from torchskew.model.versions import Environment, Version
from torchskew.planning.scenario import Scenario
from torchskew.runtimes import ownership
from torchskew.runtimes.base import Channel, Folders, Progress, Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Cells to run. run_id: names the folders that ranks share. versions, environments: by declared name.

    observe: called when the tally of these cells changes.
    """

    run_id: str
    plan: Plan
    scenarios: Mapping[str, Scenario]
    versions: Mapping[str, Version]
    environments: Mapping[str, Environment]
    observe: Callable[[Tally], None]


class Machines(Protocol):
    """Where a session's environments are and its cells run. Nothing is contacted before a method is called."""

    def describe(self) -> str:
        """One line that names what answers and where, like `docker 27.1 at unix:///var/run/docker.sock`."""

    def sweep(self) -> tuple[str, ...]:
        """Remove what dead owners left; a line for each thing removed."""

    def provision(self, versions: Sequence[Version], progress: Progress) -> Mapping[str, Environment | ProvisionError]:
        """Make or reuse the environment of each version; by name, or the error that says what, why and the fix."""

    def run(self, work: Work, known: Mapping[CellId, CellResult]) -> Iterator[CellResult]:
        """Each new result as it comes; MachineError when no cell can run any more, what was yielded is valid."""

    def start_ahead(self, run_id: str, names: Sequence[str], environments: Mapping[str, Environment]) -> None:
        """Start the agents of these versions before cells need them, where that saves time."""

    def import_ahead(self, modules: Sequence[str]) -> None:
        """From now on every agent has imported these modules before it forks a rank."""

    def release(self) -> None:
        """End every agent and rank, and remove what the run shared; the next `run` starts anew."""


class ThisMachine:
    """The machine that torchskew itself runs on. Every method may be called from any thread."""

    def __init__(self, runtime: Runtime, jobs: int | None = None) -> None:
        """jobs: cells that work at once; None: what suits the machine."""
        self._runtime, self._jobs = runtime, jobs or default_jobs()
        self._agents: Agents | None = None
        self._ports = Ports()
        self._opened = ExitStack()
        self._lock = threading.Lock()
        self._ahead: tuple[str, ...] = ()

    def describe(self) -> str:
        """What its runtime says."""
        return self._runtime.describe()

    def sweep(self) -> tuple[str, ...]:
        """Remove what killed runs of this machine left."""
        return self._runtime.sweep()

    def provision(self, versions: Sequence[Version], progress: Progress) -> Mapping[str, Environment | ProvisionError]:
        """Several versions side by side."""
        return provision_all(self._runtime, versions, progress)

    def run(self, work: Work, known: Mapping[CellId, CellResult]) -> Iterator[CellResult]:
        """Through warm agents, many cells at once.

        Raises:
            ConfigError: a cell wants its ranks on different machines.
        """
        if any(cell.placement is Placement.SPREAD for cell in work.plan.cells):
            raise ConfigError('placement "spread" needs more than one machine. Give --fleet, or leave it out.')
        agents = self.agents(work.run_id, work.environments)
        agents.forget_made()
        engine = Engine(
            plan=work.plan,
            scenarios=work.scenarios,
            versions=work.versions,
            agents=agents,
            jobs=self._jobs,
            observe=work.observe,
            ports=self._ports,
        )
        yield from engine.run(known)

    def start_ahead(self, run_id: str, names: Sequence[str], environments: Mapping[str, Environment]) -> None:
        """Start agents side by side, where all ranks of a version share one."""
        places = [Place(version=name, replica=0) for name in names]
        if self._runtime.sees_files:
            self.agents(run_id, environments).start(places)

    def import_ahead(self, modules: Sequence[str]) -> None:
        """A module that a version lacks is left out."""
        self._ahead = tuple(dict.fromkeys((*self._ahead, *modules)))
        if self._agents is not None:
            self._agents.import_ahead(self._ahead)

    def start(self, run_id: str, environments: Mapping[str, Environment], version: str, folders: Folders) -> Channel:
        """A version whose ranks reach other machines, for agents that another machine keeps; `release` ends it.

        Raises:
            MachineError: the runtime doesn't answer, or can't start it.
        """
        self.agents(run_id, environments)
        environment = environments[version]
        outward = replace(environment, grants=replace(environment.grants, network=True))
        return self._runtime.start(outward, 0, folders)

    def release(self) -> None:
        """Close the runtime and everything in it."""
        with self._lock:
            self._agents = None
            self._opened.close()

    def agents(self, run_id: str, environments: Mapping[str, Environment]) -> Agents:
        """The warm agents; the runtime is opened when they are first asked for.

        Raises:
            MachineError: the runtime doesn't answer, or the run's folder can't be made.
        """
        with self._lock:
            if self._agents is None:
                if problem := self._runtime.answers():
                    raise MachineError(f"{self._runtime.name}: {problem}")
                with ExitStack() as opening:
                    shared = opening.enter_context(ownership.opened(run_id))
                    opening.callback(self._runtime.close)
                    self._runtime.open(shared)
                    self._agents = Agents(self._runtime)
                    self._agents.import_ahead(self._ahead)
                    opening.callback(self._agents.close)
                    self._opened = opening.pop_all()
            self._agents.provide(environments)
            return self._agents

"""A lab: one runtime with warm agents that runs cells on demand, for as long as somebody keeps it open."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from torchskew.declaration.candidate import read_candidate
from torchskew.declaration.declare import for_runtime
from torchskew.declaration.fields import Problems
from torchskew.engine.agents import Agents
from torchskew.engine.ports import Ports
from torchskew.engine.provision import provision_all
from torchskew.engine.run import Engine, default_jobs, unknown
from torchskew.errors import ConfigError, MachineError, ProvisionError
from torchskew.judging.judge import public
from torchskew.model.cells import Cell, Plan
from torchskew.model.declared import Declaration
from torchskew.model.ids import CellId
from torchskew.model.results import CellResult
from torchskew.model.runtimes import AUTO
from torchskew.model.versions import Environment, Version
from torchskew.planning.plan import make_plan, plan_of
from torchskew.planning.scenario import Scenario
from torchskew.runtimes import ownership
from torchskew.runtimes import runtime as runtime_named
from torchskew.runtimes.base import Progress, Runtime
from torchskew.runtimes.choice import choose

RELEASE = re.compile(r"\d+\.\d+\.\d+")


def pick_runtime(asked: str, declaration: Declaration) -> Runtime:
    """A runtime by name; auto is the first that answers and can provide what is declared."""
    return runtime_named(asked) if asked != AUTO else choose(asked, declaration.by_runtime).runtime


class Lab:
    """Runs cells of any scenario; versions are made and agents started when a cell first needs them."""

    def __init__(self, declaration: Declaration, runtime: Runtime, run_id: str, progress: Progress) -> None:
        """Contact nothing yet."""
        self.declaration, self.runtime, self._run_id, self._progress = declaration, runtime, run_id, progress
        self.versions: dict[str, Version] = {}
        self.broken: dict[str, ProvisionError] = {}
        self._environments: dict[str, Environment] = {}
        self._agents: Agents | None = None
        self._ports = Ports()
        self._stack = ExitStack()
        self._lock = threading.Lock()

    def plan(self, scenarios: Mapping[str, Scenario], seed: int = 0) -> Plan:
        """The declared matrix for this runtime.

        Raises:
            ConfigError: a version that this runtime can't use, a pattern without a match.
        """
        spec = self.declaration.matrix[self.runtime.name]
        skews = () if isinstance(spec.pairs, str) else spec.pairs
        for name in dict.fromkeys([*spec.versions, *(name for skew in (*skews, *spec.worlds) for name in skew)]):
            self.version(name)
        return make_plan(spec, self.versions, scenarios, self.runtime.name, seed)

    def version(self, name: str) -> Version:
        """A declared version, a release by its number, or one like `interpreter:PATH`, as this runtime gets it."""
        known = self.versions.get(name)
        if known is not None:
            return known
        problems = Problems(self.declaration.path)
        made = for_runtime(self.declaration.versions.get(name) or _undeclared(name), self.runtime.name, problems)
        if problems.found:
            raise ConfigError(*problems.found)
        self.versions[name] = replace(made, name=name)
        return self.versions[name]

    def run(
        self, cells: Sequence[Cell], scenarios: Mapping[str, Scenario], known: Mapping[CellId, CellResult] | None = None
    ) -> Iterator[CellResult]:
        """Each new result as it comes; cells of a version that can't be made are UNKNOWN with the reason."""
        found = dict(known or {})
        self._provide(dict.fromkeys(name for cell in cells for name in cell.skew))
        for cell in cells:
            lost = next((name for name in cell.skew if name in self.broken), None)
            if lost is not None and cell.id not in found:
                found[cell.id] = unknown(cell, f"no environment for {lost}: {self.broken[lost]}")
                yield found[cell.id]
        engine = Engine(
            plan=plan_of(cells, self.runtime.name, 0),
            scenarios=scenarios,
            versions=self.versions,
            agents=self._open(),
            jobs=default_jobs(),
            observe=lambda _: None,
            ports=self._ports,
        )
        yield from engine.run(found)

    def close(self) -> None:
        """End every agent and rank, remove what the run shared; cells that still run are lost."""
        self._stack.close()

    def _provide(self, names: Mapping[str, None]) -> None:
        with self._lock:
            new = [name for name in names if name not in self._environments and name not in self.broken]
            made = provision_all(self.runtime, [self.version(name) for name in new], self._progress)
            for name, one in made.items():
                if isinstance(one, ProvisionError):
                    self.broken[name] = one
                    continue
                self._environments[name] = one
                told = self.versions[name].torch or (public(one.reports) if one.reports else None)
                self.versions[name] = replace(self.versions[name], torch=told)

    def _open(self) -> Agents:
        """The agents; the runtime is opened, after a sweep of what dead runs left, when first asked for."""
        with self._lock:
            if self._agents is None:
                if problem := self.runtime.answers():
                    raise MachineError(f"{self.runtime.name}: {problem}")
                self.runtime.sweep()
                shared = self._stack.enter_context(ownership.opened(self._run_id))
                self._stack.callback(self.runtime.close)
                self.runtime.open(shared)
                self._agents = Agents(self.runtime, self._environments)
                self._stack.callback(self._agents.close)
            return self._agents


def _undeclared(name: str) -> Version:
    """A version that is named without a declaration: `2.13.0`, `pip:torch==2.13.0`, `interpreter:/opt/t/bin/python`."""
    try:
        if RELEASE.fullmatch(name):
            return read_candidate(f"pip:torch=={name}")
        return read_candidate(name)
    except ConfigError as error:
        raise ConfigError(
            f"version {name!r} is neither declared nor a release nor like interpreter:PATH. {error}"
        ) from None

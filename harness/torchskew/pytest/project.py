"""A project under pytest: its declaration, and one session that stays warm from test to test."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from torchskew.declaration.candidate import KINDS, read_candidate
from torchskew.declaration.declare import for_runtime
from torchskew.declaration.fields import Problems
from torchskew.engine.session import Session
from torchskew.errors import ConfigError
from torchskew.model.cells import Cell, Plan
from torchskew.model.declared import Declaration
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Placement
from torchskew.model.results import CellResult
from torchskew.model.versions import Version
from torchskew.planning.plan import make_plan, plan_of, predicted
from torchskew.planning.scenario import Scenario

RELEASE = re.compile(r"\d+\.\d+\.\d+")


class Project:
    """Runs cells of any scenario; a version is provisioned and its agents are started when a cell first needs it.

    slow: seconds by module of torch that ranks imported for long; the session imports those ahead from then on.
    expected: versions that the selected tests ask for. The first run makes their environments and starts their agents
    side by side, because one after another leaves all processors but one idle.
    """

    def __init__(self, declaration: Declaration, session: Session, run_id: str) -> None:
        """Contact nothing yet."""
        self.declaration, self.session, self._run_id = declaration, session, run_id
        self._versions: dict[str, Version] = {}
        self.slow: dict[str, float] = {}
        self.expected: tuple[str, ...] = ()

    @property
    def runtime(self) -> str:
        """The name of the runtime that versions come from."""
        return self.session.runtime.name

    def plan(self, scenarios: Mapping[str, Scenario], seed: int = 0) -> Plan:
        """The declared matrix for this runtime.

        Raises:
            ConfigError: a version that this runtime can't use, a pattern without a match.
        """
        spec = replace(self.declaration.matrix[self.runtime], placement=(Placement.TOGETHER,))
        versions = {name: self.version(name) for name in spec.used}
        return make_plan(spec, versions, scenarios, self.runtime, seed)

    def version(self, name: str) -> Version:
        """A declared version, a release by its number, or one like `interpreter:PATH`, as this runtime gets it."""
        if name not in self._versions:
            problems = Problems(self.declaration.path)
            declared = self.declaration.versions.get(name) or _undeclared(name, tuple(self.declaration.versions))
            version = for_runtime(declared, self.runtime, problems)
            if problems.texts:
                raise ConfigError(*problems.texts)
            self._versions[name] = replace(version, name=name)
        return self._versions[name]

    def run(
        self, cells: Sequence[Cell], scenarios: Mapping[str, Scenario], known: Mapping[CellId, CellResult] | None = None
    ) -> Iterator[CellResult]:
        """Each new result as it comes; cells of a version without an environment are UNKNOWN with the reason."""
        names = dict.fromkeys(name for cell in cells for name in cell.skew)
        ahead, self.expected = tuple(self._usable(self.expected)), ()
        wanted = {version.name: version for version in (*map(self.version, names), *ahead)}
        made = self.session.provision(wanted.values())
        if ahead and not made.failure_of(tuple(names)):
            self.session.start_ahead(self._run_id, wanted)
        plan = predicted(plan_of(cells, self.runtime, 0), scenarios, made.versions)
        yield from self.session.run(self._run_id, plan, scenarios, known or {})

    def _usable(self, names: Sequence[str]) -> Iterator[Version]:
        """These versions, without those that the runtime can't use: the test that runs one of them says why."""
        for name in names:
            with suppress(ConfigError):
                yield self.version(name)

    def run_one(self, cell: Cell, scenario: Scenario, modules: Sequence[str]) -> CellResult:
        """One cell of a test's own code. modules: what is imported ahead of its ranks, once in each version.

        Modules of torch whose import took long in a rank are imported ahead for the next group, and noted in `slow`.
        """
        self.session.import_ahead([*self.declaration.ranks.warm, *modules])
        (result,) = self.run([cell], {scenario.name: scenario})
        new = {name: took for facts in result.ranks for name, took in facts.slow_imports.items()}
        self.slow.update(new)
        self.session.import_ahead(new)
        return result

    def close(self) -> None:
        """End every agent and rank, and remove what the run shared; cells that still run are lost."""
        self.session.release()


def _undeclared(name: str, declared: Sequence[str]) -> Version:
    """A version that is named without a declaration: `2.13.0`, `pip:torch==2.13.0`, `interpreter:/opt/t/bin/python`."""
    if RELEASE.fullmatch(name):
        return read_candidate(f"pip:torch=={name}")
    if name.partition(":")[0] in [kind.value for kind in KINDS] and ":" in name:
        return read_candidate(name)
    listed = f"Declared: {', '.join(declared)}." if declared else "No version is declared in torchskew.toml."
    forms = "A release like 2.13.0 and interpreter:/opt/venv/bin/python need no declaration."
    raise ConfigError(f"version {name!r} is neither declared nor a release. {listed} {forms}")

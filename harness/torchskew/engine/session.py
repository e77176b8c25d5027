"""One session: a runtime, the environments that were made, and where cells run, for whoever holds it open."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from torchskew.engine.machines import Machines, ThisMachine, Work
from torchskew.engine.progress import Watch
from torchskew.engine.run import unprovisioned
from torchskew.errors import ProvisionError
from torchskew.judging.judge import public
from torchskew.model.cells import Plan
from torchskew.model.ids import CellId
from torchskew.model.results import CellResult
from torchskew.model.versions import Environment, EnvironmentFailure, Version
from torchskew.planning.scenario import Scenario
from torchskew.runtimes.choice import Chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionedVersions:
    """What provisioning made, by declared name.

    versions: as the runtime got them, with the release that an environment reported where none was declared.
    failures: of the versions that have no environment.
    """

    versions: Mapping[str, Version] = field(default_factory=dict)
    environments: Mapping[str, Environment] = field(default_factory=dict)
    failures: Mapping[str, EnvironmentFailure] = field(default_factory=dict)

    def failure_of(self, skew: Sequence[str]) -> EnvironmentFailure | None:
        """Why a skew can't run here: the first of its versions without an environment."""
        return next((self.failures[name] for name in skew if name in self.failures), None)

    def notes(self, names: Iterable[str]) -> str:
        """What each of these versions that has an environment came from, on one line; empty where none has."""
        here = [self.environments[name] for name in dict.fromkeys(names) if name in self.environments]
        return " · ".join(
            f"{environment.version} {environment.note or environment.identity[:12]}" for environment in here
        )


class Session:
    """Environments are made and agents started when first needed; they stay until the block ends.

    elsewhere: whether that is on other machines, whose disks and settings this one does not see.
    Every method may be called from any thread.
    """

    def __init__(
        self, chosen: Chosen, watch: Watch, *, jobs: int | None = None, machines: Machines | None = None
    ) -> None:
        """Contact nothing yet.

        chosen: the runtime, and why it is that one. jobs: cells that work at once; None: what suits the machine.
        machines: where cells run, unless that is this machine.
        """
        self.runtime, self.why, self.watch = chosen.runtime, chosen.why, watch
        self._machines = machines or ThisMachine(chosen.runtime, jobs)
        self.elsewhere = machines is not None
        self._provisioned = ProvisionedVersions()
        self._lock = threading.Lock()
        self._swept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def provisioned(self) -> ProvisionedVersions:
        """Everything that was provisioned so far."""
        return self._provisioned

    def describe(self) -> str:
        """What answers and where, in one line."""
        return self._machines.describe()

    def sweep(self) -> None:
        """Remove what killed runs of this machine left behind, and nothing else; says each thing removed."""
        for line in self._machines.sweep():
            self.watch.say(f"swept      {line}")
        self._swept = True

    def provision(self, versions: Iterable[Version]) -> ProvisionedVersions:
        """Make or reuse each version's environment, once a session; a version that can't be made is in `failures`.

        versions: as the runtime gets them (declaration.for_runtime). Returns everything the session has made so far.
        """
        with self._lock:
            known = {*self._provisioned.environments, *self._provisioned.failures}
            wanted = [version for version in versions if version.name not in known]
            outcomes = self._machines.provision(wanted, self.watch) if wanted else {}
            self._provisioned = _with(self._provisioned, wanted, outcomes)
            return self._provisioned

    def run(
        self, run_id: str, plan: Plan, scenarios: Mapping[str, Scenario], known: Mapping[CellId, CellResult]
    ) -> Iterator[CellResult]:
        """Each new result as it comes; cells of a version without an environment are UNKNOWN with the reason.

        run_id: names the folder that the ranks share, from the first call until `release`. known: results that
        only unlock what needs them.

        Raises:
            MachineError: the machine can't go on (no port, no daemon); what was yielded is valid.
        """
        provisioned, results = self._provisioned, dict(known)
        for cell in plan.cells:
            if cell.id not in results and (failure := provisioned.failure_of(cell.provided)):
                results[cell.id] = unprovisioned(cell, failure)
                yield results[cell.id]
        if all(cell.id in results for cell in plan.cells):
            return
        self._sweep_once()
        work = Work(
            run_id=run_id,
            plan=plan,
            scenarios=scenarios,
            versions=provisioned.versions,
            environments=provisioned.environments,
            observe=self.watch.cells,
        )
        yield from self._machines.run(work, results)

    def start_ahead(self, run_id: str, names: Iterable[str]) -> None:
        """Start the agents of these versions side by side, where all ranks of a version share one; run_id: as `run`."""
        if wanted := tuple(name for name in names if name in self._provisioned.environments):
            self._sweep_once()
            self._machines.start_ahead(run_id, wanted, self._provisioned.environments)

    def import_ahead(self, modules: Iterable[str]) -> None:
        """From now on every agent has imported these modules before it forks a rank; one that it lacks is left out."""
        self._machines.import_ahead(tuple(modules))

    def release(self) -> None:
        """End every agent and rank and remove what the run shared; the next `run` starts anew."""
        self._machines.release()

    def _sweep_once(self) -> None:
        with self._lock:
            if not self._swept:
                self.sweep()


def _with(
    before: ProvisionedVersions, versions: Sequence[Version], outcomes: Mapping[str, Environment | ProvisionError]
) -> ProvisionedVersions:
    """What was made before and now. A release that nobody declared is known from now on."""
    grants = {version.name: version.grants for version in versions}
    environments = {
        name: replace(outcome, grants=grants[name])
        for name, outcome in outcomes.items()
        if isinstance(outcome, Environment)
    }
    failures = {
        name: EnvironmentFailure(version=name, reason=str(error))
        for name, error in outcomes.items()
        if isinstance(error, ProvisionError)
    }
    known = {version.name: _known(version, environments.get(version.name)) for version in versions}
    return ProvisionedVersions(
        versions={**before.versions, **known},
        environments={**before.environments, **environments},
        failures={**before.failures, **failures},
    )


def _known(version: Version, environment: Environment | None) -> Version:
    """The version, with what its environment has in it."""
    if environment is None:
        return version
    return replace(
        version,
        torch=version.torch or (public(environment.reports) if environment.reports else None),
        known_python=environment.python or version.known_python,
        known_numpy=environment.numpy or version.known_numpy,
    )

"""The results of one run as they come: each into the record at once, without its bulk in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from torchskew.engine.session import ProvisionedVersions
from torchskew.model.cells import Cell
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Placement
from torchskew.model.results import CellResult
from torchskew.model.runs import RunInfo
from torchskew.planning.scenario import Scenario
from torchskew.planning.schedule import blocked
from torchskew.record.cache import key
from torchskew.record.record import Record


class Ledger:
    """Results of one repetition of a run, by cell. Logs and payloads are in the record only: they would fill memory."""

    def __init__(
        self,
        record: Record,
        info: RunInfo,
        scenarios: Mapping[str, Scenario],
        *,
        repetition: int = 0,
        results: Iterable[CellResult] = (),
    ) -> None:
        """results: what a resumed run has already. repetition: its number, from 0."""
        self.record, self.info, self.scenarios = record, info, scenarios
        self._repetition = repetition
        self._results = {result.cell.id: result for result in results}

    @property
    def results(self) -> Mapping[CellId, CellResult]:
        """What is known so far."""
        return MappingProxyType(self._results)

    def next_repetition(self) -> Ledger:
        """A ledger for one more repetition of the same run; nothing of it is known yet."""
        return Ledger(self.record, self.info, self.scenarios, repetition=self._repetition + 1)

    def enter(self, result: CellResult, provisioned: ProvisionedVersions | None = None) -> None:
        """Write a result. provisioned: the environments that it ran in, where it really ran and may be reused."""
        if provisioned is not None and result.reusable:
            result = replace(result, key=self.key(result.cell, provisioned))
        kept = self.record.write(self.info.run_id, result, repeat=self._repetition)
        self._results[result.cell.id] = kept

    def note(self, environments: Mapping[str, str]) -> None:
        """Write which environment (identity by version) the run uses, for versions that it had not used before."""
        fresh = {name: identity for name, identity in environments.items() if name not in self.info.environments}
        self.record.provisioned(self.info.run_id, fresh)
        self.info = replace(self.info, environments={**self.info.environments, **fresh})

    def key(self, cell: Cell, provisioned: ProvisionedVersions) -> str:
        """Content key of a cell: equal keys, equal results."""
        return key(cell, self.scenarios[cell.scenario], provisioned.environments, self.info.seed)

    def recall(self, cells: Iterable[Cell], provisioned: ProvisionedVersions, reuse: Callable[[Cell], bool]) -> int:
        """Take over earlier results of cells of which nothing changed; their number. reuse: whether a cell's counts.

        Ranks on different nodes depend on the network between them, which no key names: such cells run again.
        """
        count = 0
        with self.record.recalling() as recalled:
            for cell in cells:
                if cell.id in self._results or provisioned.failure_of(cell.provided) or not reuse(cell):
                    continue
                if cell.placement is Placement.SPREAD:
                    continue
                cached = recalled(self.key(cell, provisioned), cell)
                if cached is not None:
                    self.enter(cached)
                    count += 1
        return count

    def block(self, cells: Iterable[Cell]) -> int:
        """Write the results of cells that known failures block; the number of those whose blocker was reused."""
        results = blocked(cells, self._results)
        for result in results:
            self.enter(result)
        return sum(result.cached for result in results)

"""Decides which cell starts next: always the one with the longest chain of cells after it. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache

from torchskew.model.cells import Cell
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.results import CellResult
from torchskew.planning.plan import predicted_seconds


class Schedule:
    """The cells without a result: those that may start, longest chain first, and those that wait for others.

    verdicts: of cells that already have a result. A cell may start when everything it needs has passed.
    """

    def __init__(self, cells: Iterable[Cell], verdicts: Mapping[CellId, Verdict]) -> None:
        self._verdicts = dict(verdicts)
        left = {cell.id: cell for cell in cells if cell.id not in verdicts}
        chains = chain_seconds(left.values())
        self._order = {cell_id: (-chains[cell_id], number) for number, cell_id in enumerate(left)}
        self._waiting = left
        self._dependents = _dependents(left.values())
        self._ready: list[tuple[tuple[float, int], CellId]] = []
        self._stuck: list[CellResult] = []
        for cell in list(left.values()):
            self._consider(cell)

    @property
    def ready(self) -> bool:
        """Whether a cell may start now."""
        return bool(self._ready)

    def pop(self) -> Cell:
        """The cell that starts next; IndexError when none may."""
        return self._waiting.pop(heapq.heappop(self._ready)[1])

    def done(self, cell_id: CellId, verdict: Verdict) -> None:
        """Record a verdict: the cells that need it may now start, or never will."""
        self._verdicts[cell_id] = verdict
        for cell in self._dependents.get(cell_id, ()):
            self._consider(cell)

    def blocked(self) -> Iterator[CellResult]:
        """Results of the cells that will never start; each is returned once."""
        while self._stuck:
            yield self._stuck.pop(0)

    def _consider(self, cell: Cell) -> None:
        if cell.id not in self._waiting:
            return
        verdicts = {need: self._verdicts[need] for need in cell.needs if need in self._verdicts}
        failed = next((need for need, verdict in verdicts.items() if verdict is not Verdict.PASS), None)
        if failed is not None:
            del self._waiting[cell.id]
            self._stuck.append(_blocked(cell, failed, verdicts[failed]))
            self.done(cell.id, Verdict.BLOCKED)
        elif len(verdicts) == len(set(cell.needs)):
            heapq.heappush(self._ready, (self._order[cell.id], cell.id))


def chain_seconds(cells: Iterable[Cell]) -> Mapping[CellId, float]:
    """The predicted seconds of each cell together with the slowest chain of cells that need it.

    A cell without a prediction may hang, so the seconds of a hang count for it.
    """
    by_id = {cell.id: cell for cell in cells}
    dependents = _dependents(by_id.values())

    @cache
    def chain(cell_id: CellId) -> float:
        after = max((chain(cell.id) for cell in dependents.get(cell_id, ())), default=0.0)
        return predicted_seconds(by_id[cell_id]) + after

    return {cell_id: chain(cell_id) for cell_id in by_id}


def blocked(cells: Iterable[Cell], known: Mapping[CellId, CellResult]) -> list[CellResult]:
    """Results of the cells that known results block, directly or through others; cached where the blocker is."""
    cached = {cell_id: result.cached for cell_id, result in known.items()}
    results = []
    for result in Schedule(cells, {cell_id: result.verdict for cell_id, result in known.items()}).blocked():
        cached[result.cell.id] = cached[result.blocked_by] if result.blocked_by else False
        results.append(replace(result, cached=cached[result.cell.id]))
    return results


def _dependents(cells: Iterable[Cell]) -> dict[CellId, list[Cell]]:
    dependents: dict[CellId, list[Cell]] = {}
    for cell in cells:
        for need in dict.fromkeys(cell.needs):
            dependents.setdefault(need, []).append(cell)
    return dependents


def _blocked(cell: Cell, need: CellId, verdict: Verdict) -> CellResult:
    ranks = tuple(Outcome.NOT_RUN for _ in cell.skew)
    reason = f"not run: {need} is {verdict}"
    return CellResult(cell=cell, verdict=Verdict.BLOCKED, outcomes=ranks, reason=reason, blocked_by=need)

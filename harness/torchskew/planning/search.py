"""Answers a plan of all pairs by bisection, one table at a time: which cells to run, and which results follow. Pure.

A table is one scenario under one condition, over all ordered pairs of releases. A table whose cells need those of
another waits until the other is known (run or inferred). Where that failed, its own cells are blocked and need not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torchskew.model.cells import Cell
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.results import CellResult
from torchskew.planning.bisection import Pair, Step, next_step
from torchskew.planning.schedule import blocked

ABSENT = ""  # the word of a pair that the plan does not hold


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTable:
    """The cells of one scenario under one condition and in one shape of world, by the positions of their releases."""

    name: str
    order: tuple[str, ...]
    cells: Mapping[Pair, Cell]

    def words(self, known: Mapping[CellId, CellResult]) -> dict[Pair, str]:
        """The known result of each pair, in a word; ABSENT for a pair without a cell."""
        positions = range(len(self.order))
        pairs = ((first, second) for first in positions for second in positions)
        seen = {pair: ABSENT for pair in pairs if pair not in self.cells}
        seen |= {pair: word(known[cell.id]) for pair, cell in self.cells.items() if cell.id in known}
        return seen

    def eras(self, step: Step) -> tuple[tuple[str, ...], ...]:
        """The eras of a step by the names of their releases."""
        return tuple(self.order[low : high + 1] for low, high in step.eras)


def word(result: CellResult) -> str:
    """Two results are the same when their words are."""
    return " ".join([result.verdict, *result.outcomes])


def tables(cells: Iterable[Cell], order: Sequence[str]) -> tuple[PairTable, ...]:
    """The tables of a plan, in its order. order: the versions, oldest first.

    Single ranks, and worlds with more than one odd rank or with three releases, are in no table: those always run.
    """
    position = {name: number for number, name in enumerate(order)}
    by_condition: dict[tuple[object, ...], dict[Pair, Cell]] = {}
    for cell in cells:
        for shape, first, second in _shapes(cell.skew):
            key = (cell.name, cell.conditions, cell.fault, len(cell.skew), shape)
            by_condition.setdefault(key, {})[position[first], position[second]] = cell
    mixed = [pairs for pairs in by_condition.values() if any(first != second for first, second in pairs)]
    return tuple(PairTable(name=pairs[min(pairs)].name, order=tuple(order), cells=pairs) for pairs in mixed)


def _shapes(skew: tuple[str, ...]) -> Iterator[tuple[int, str, str]]:
    """The odd rank, the release of the others, and its own; the same release on every rank fits every shape."""
    names = sorted(set(skew), key=lambda name: (-skew.count(name), skew.index(name)))
    if len(skew) == len("ab"):
        yield 1, skew[0], skew[1]
    elif len(names) == 1 and len(skew) > 1:
        yield from ((odd, names[0], names[0]) for odd in range(len(skew)))
    elif len(names) == len("ab") and skew.count(names[1]) == 1:
        yield skew.index(names[1]), names[0], names[1]


def wanted(
    cells: Sequence[Cell], pair_tables: Sequence[PairTable], known: Mapping[CellId, CellResult]
) -> tuple[Cell, ...]:
    """The cells to run next, in the plan's order; none when all others follow from known results."""
    asked = {cell.id for cell in cells} - {cell.id for table in pair_tables for cell in table.cells.values()}
    for table in _ready(pair_tables, known):
        asked |= {table.cells[pair].id for pair in next_step(len(table.order), table.words(known)).run}
    return tuple(cell for cell in cells if cell.id in asked and cell.id not in known)


def inferred(pair_tables: Sequence[PairTable], known: Mapping[CellId, CellResult]) -> Iterator[CellResult]:
    """The results that follow, for every table that has nothing left to run."""
    for table in _ready(pair_tables, known):
        step = next_step(len(table.order), table.words(known))
        if step.run:
            continue
        for pair, why in step.inferred.items():
            ran = [known[table.cells[corner].id] for corner in why]
            yield _follows(table.cells[pair], ran)


def _ready(pair_tables: Sequence[PairTable], known: Mapping[CellId, CellResult]) -> Iterator[PairTable]:
    """Tables whose needs are all known, and whose own results are not."""
    for table in pair_tables:
        unfinished = any(cell.id not in known for cell in table.cells.values())
        if unfinished and all(need in known for cell in table.cells.values() for need in cell.needs):
            yield table


def _follows(cell: Cell, ran: Sequence[CellResult]) -> CellResult:
    """A result that did not run: that of its corners, which the reason names."""
    first = ran[0]
    names = " ".join(",".join(result.cell.skew) for result in ran)
    gave = "all gave this result" if len(ran) > 1 else "gave this result"
    return CellResult(
        cell=cell,
        verdict=first.verdict,
        outcomes=first.outcomes if first.verdict is not Verdict.UNKNOWN else (Outcome.NOT_RUN,) * len(cell.skew),
        reason=f"not run, inferred: {names} of the same eras {gave}",
        inferred_from=tuple(result.cell.id for result in ran),
    )


def rounds(
    cells: Sequence[Cell],
    pair_tables: Sequence[PairTable],
    known: Mapping[CellId, CellResult],
    receive: Callable[[CellResult], None],
) -> Iterator[tuple[Cell, ...]]:
    """The cells of each round, until none is left. The caller adds their results to `known` before the next round.

    receive: gets each result that follows without running (blocked or inferred), and must add it to `known` too.
    """
    while True:
        follows = blocked(cells, known) or list(inferred(pair_tables, known))
        for result in follows:
            receive(result)
        if follows:
            continue
        asked = wanted(cells, pair_tables, known)
        if not asked:
            return
        yield asked

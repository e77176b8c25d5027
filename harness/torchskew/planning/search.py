"""Search: a plan of all pairs is answered by bisection, table by table; pure, it says what to run and what follows.

A table is one scenario under one condition over all ordered pairs of releases. Tables whose cells need another's wait
until that one is known, ran or inferred: where it failed, theirs are blocked and need not be run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torchskew.model.cells import Cell
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.results import CellResult
from torchskew.planning.bisection import Pair, Step, decide
from torchskew.planning.schedule import blocked

ABSENT = ""  # the word of a pair that the plan does not hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The cells of one scenario, variant, guard, fault and shape of world, by the places of their two releases."""

    name: str
    order: tuple[str, ...]
    cells: Mapping[Pair, Cell]

    def words(self, known: Mapping[CellId, CellResult]) -> dict[Pair, str]:
        """What is known of every pair, in a word; a pair without a cell says so."""
        places = range(len(self.order))
        seen = {(one, other): ABSENT for one in places for other in places if (one, other) not in self.cells}
        seen |= {pair: word(known[cell.id]) for pair, cell in self.cells.items() if cell.id in known}
        return seen

    def eras(self, step: Step) -> tuple[tuple[str, ...], ...]:
        """The eras of a step by the names of their releases."""
        return tuple(self.order[low : high + 1] for low, high in step.eras)


def word(result: CellResult) -> str:
    """All that makes one result the same as another."""
    return " ".join([result.verdict, *result.outcomes])


def tables(cells: Iterable[Cell], order: Sequence[str]) -> tuple[Table, ...]:
    """The tables of a plan, in its order. order: the versions, oldest first.

    Worlds of more than one odd rank, or of three releases, and single ranks are in none: those are always run.
    """
    place = {name: number for number, name in enumerate(order)}
    found: dict[tuple[object, ...], dict[Pair, Cell]] = {}
    for cell in cells:
        variant = cell.variant.name if cell.variant else ""
        for shape, first, second in _shapes(cell.skew):
            key = (cell.scenario, variant, cell.guard, cell.fault, len(cell.skew), shape)
            found.setdefault(key, {})[place[first], place[second]] = cell
    whole = {key: those for key, those in found.items() if any(one != other for one, other in those)}
    return tuple(Table(name=those[min(those)].name, order=tuple(order), cells=those) for those in whole.values())


def _shapes(skew: tuple[str, ...]) -> Iterator[tuple[int, str, str]]:
    """Where the odd rank is, the release of the others, and its own; one release everywhere fits every shape."""
    names = sorted(set(skew), key=lambda name: (-skew.count(name), skew.index(name)))
    if len(skew) == len("ab"):
        yield 1, skew[0], skew[1]
    elif len(names) == 1 and len(skew) > 1:
        yield from ((odd, names[0], names[0]) for odd in range(len(skew)))
    elif len(names) == len("ab") and skew.count(names[1]) == 1:
        yield skew.index(names[1]), names[0], names[1]


def wanted(cells: Sequence[Cell], those: Sequence[Table], known: Mapping[CellId, CellResult]) -> tuple[Cell, ...]:
    """The cells to run next, in the plan's order; none when the rest follows from what is known."""
    asked = {cell.id for cell in cells} - {cell.id for table in those for cell in table.cells.values()}
    for table in _ready(those, known):
        asked |= {table.cells[pair].id for pair in decide(len(table.order), table.words(known)).run}
    return tuple(cell for cell in cells if cell.id in asked and cell.id not in known)


def inferred(those: Sequence[Table], known: Mapping[CellId, CellResult]) -> Iterator[CellResult]:
    """The results that follow, of every table that has nothing left to run."""
    for table in _ready(those, known):
        step = decide(len(table.order), table.words(known))
        if step.run:
            continue
        for pair, why in step.inferred.items():
            ran = [known[table.cells[one].id] for one in why]
            yield _follows(table.cells[pair], ran)


def _ready(those: Sequence[Table], known: Mapping[CellId, CellResult]) -> Iterator[Table]:
    """Tables of which everything that they need is known, and not everything of their own."""
    for table in those:
        open_ = any(cell.id not in known for cell in table.cells.values())
        if open_ and all(need in known for cell in table.cells.values() for need in cell.needs):
            yield table


def _follows(cell: Cell, ran: Sequence[CellResult]) -> CellResult:
    """A result that was not run: what its corners came to, and which they are."""
    first = ran[0]
    names = " ".join(",".join(one.cell.skew) for one in ran)
    same = "came to the same" if len(ran) > 1 else "came to it"
    return CellResult(
        cell=cell,
        verdict=first.verdict,
        outcomes=first.outcomes if first.verdict is not Verdict.UNKNOWN else (Outcome.NOT_RUN,) * len(cell.skew),
        reason=f"not run, inferred: {names} of the same eras {same}",
        inferred_from=tuple(one.cell.id for one in ran),
    )


def rounds(
    cells: Sequence[Cell],
    those: Sequence[Table],
    known: Mapping[CellId, CellResult],
    keep: Callable[[CellResult], None],
) -> Iterator[tuple[Cell, ...]]:
    """The cells of each round, until none is left; the caller adds their results to `known` before the next.

    keep: takes what follows without running (blocked or inferred), and adds it to `known` as well.
    """
    while True:
        follows = blocked(cells, known) or list(inferred(those, known))
        for result in follows:
            keep(result)
        if follows:
            continue
        asked = wanted(cells, those, known)
        if not asked:
            return
        yield asked

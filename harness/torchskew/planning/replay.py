"""Replay: a recorded run of all pairs answered again by bisection, and what differs; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torchskew.model.ids import CellId
from torchskew.model.outcomes import Verdict
from torchskew.model.results import CellResult
from torchskew.model.runs import Run
from torchskew.planning.bisection import decide
from torchskew.planning.search import Table, rounds, tables, word

_MOST = 20  # differences that are listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a bisection over a recorded run came to. different: inferred result and the recorded one."""

    tables: tuple[Table, ...]
    known: dict[CellId, CellResult]
    rounds: int
    different: tuple[tuple[CellResult, CellResult], ...]


def replayed(run: Run, order: Sequence[str]) -> Replay:
    """Bisect with the record as the world: a cell that would run gives what it gave then."""
    recorded = {result.cell.id: result for result in run.results}
    cells = [cell for cell in run.plan.cells if cell.id in recorded]
    those = tables(cells, order)
    known: dict[CellId, CellResult] = {}
    count = 0
    for asked in rounds(cells, those, known, lambda result: known.update({result.cell.id: result})):
        known.update({cell.id: recorded[cell.id] for cell in asked})
        count += 1
    different = [(one, recorded[cell_id]) for cell_id, one in known.items() if word(one) != word(recorded[cell_id])]
    return Replay(tables=those, known=known, rounds=count, different=tuple(different))


def told(run: Run, replay: Replay) -> Iterator[str]:
    """The comparison, line by line."""
    follows = [one for one in replay.known.values() if one.inferred_from]
    stuck = [one for one in replay.known.values() if one.verdict is Verdict.BLOCKED and not one.inferred_from]
    total = len(replay.known)
    ran = total - len(follows) - len(stuck)
    yield f"boundary   run {run.info.run_id}: {total} cells of {len(replay.tables)} tables"
    yield f"bisection  {ran} to run in {replay.rounds} rounds, {len(stuck)} blocked by those, {len(follows)} inferred"
    met = [one for one in run.results if one.verdict is not Verdict.BLOCKED]
    yield f"full run   {len(met)} ran, {total - len(met)} blocked: bisection runs {ran / max(1, len(met)):.0%} of them"
    yield from _eras(replay)
    for one, seen in replay.different[:_MOST]:
        yield f"different  {one.cell.id}: {one.reason} ({word(one)}), the run saw {word(seen)}"
    count = len(replay.different)
    if count > _MOST:
        yield f"           … and {count - _MOST} more"
    verdicts = sum(one.verdict is not seen.verdict for one, seen in replay.different)
    differ = f"{count} of {len(follows)} inferred cells differ from the run, {verdicts} of them in the verdict"
    yield differ if count else "the same answer in every cell"


def _eras(replay: Replay) -> Iterator[str]:
    """How many eras each table has, and those of the tables with the most common number by name."""
    from torchskew.model.versions import span

    found: Counter[tuple[str, ...]] = Counter()
    names: dict[tuple[str, ...], list[str]] = {}
    for table in replay.tables:
        step = decide(len(table.order), table.words(replay.known) | {})
        eras = tuple(map(span, table.eras(step)))
        found[eras] += 1
        names.setdefault(eras, []).append(table.name)
    for eras, count in found.most_common():
        example = ", ".join(names[eras][:3]) + (f" and {count - 3} more" if count > 3 else "")
        yield f"eras       {' | '.join(eras)}   {example}"

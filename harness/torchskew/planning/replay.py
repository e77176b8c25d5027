"""Answers a recorded run of all pairs again by bisection, and reports what differs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torchskew.model.ids import CellId
from torchskew.model.outcomes import Verdict
from torchskew.model.results import CellResult
from torchskew.model.runs import Run
from torchskew.model.versions import span
from torchskew.planning.bisection import next_step
from torchskew.planning.search import PairTable, rounds, tables, word

_MOST = 20  # differences that are listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The answer of a bisection over a recorded run. different: each inferred result with the recorded one."""

    tables: tuple[PairTable, ...]
    known: dict[CellId, CellResult]
    rounds: int
    different: tuple[tuple[CellResult, CellResult], ...]


def replayed(run: Run, order: Sequence[str]) -> Replay:
    """Bisect over the record: a cell that would run has its recorded result."""
    recorded = {result.cell.id: result for result in run.results}
    cells = [cell for cell in run.plan.cells if cell.id in recorded]
    pair_tables = tables(cells, order)
    known: dict[CellId, CellResult] = {}
    count = 0
    for asked in rounds(cells, pair_tables, known, lambda result: known.update({result.cell.id: result})):
        known.update({cell.id: recorded[cell.id] for cell in asked})
        count += 1
    answers = [(result, recorded[cell_id]) for cell_id, result in known.items()]
    different = [(result, seen) for result, seen in answers if word(result) != word(seen)]
    return Replay(tables=pair_tables, known=known, rounds=count, different=tuple(different))


def comparison(run: Run, replay: Replay) -> Iterator[str]:
    """The bisection beside the run, line by line."""
    results = replay.known.values()
    follows = [result for result in results if result.inferred_from]
    stuck = [result for result in results if result.verdict is Verdict.BLOCKED and not result.inferred_from]
    total = len(replay.known)
    ran = total - len(follows) - len(stuck)
    yield f"boundary   run {run.info.run_id}: {total} cells of {len(replay.tables)} tables"
    yield f"bisection  {ran} to run in {replay.rounds} rounds, {len(stuck)} blocked by them, {len(follows)} inferred"
    whole = sum(result.verdict is not Verdict.BLOCKED for result in run.results)
    yield f"full run   {whole} ran, {total - whole} blocked: bisection runs {ran / max(1, whole):.0%} of them"
    yield from _eras(replay)
    for result, seen in replay.different[:_MOST]:
        yield f"different  {result.cell.id}: {result.reason} ({word(result)}), the run saw {word(seen)}"
    count = len(replay.different)
    if count > _MOST:
        yield f"           … and {count - _MOST} more"
    verdicts = sum(result.verdict is not seen.verdict for result, seen in replay.different)
    differ = f"{count} of {len(follows)} inferred cells differ from the run, {verdicts} of them in the verdict"
    yield differ if count else "the same answer in every cell"


def _eras(replay: Replay) -> Iterator[str]:
    """The eras of the tables, the most common division first, with the names of some tables that have it."""
    counts: Counter[tuple[str, ...]] = Counter()
    names: dict[tuple[str, ...], list[str]] = {}
    for table in replay.tables:
        step = next_step(len(table.order), table.words(replay.known))
        eras = tuple(map(span, table.eras(step)))
        counts[eras] += 1
        names.setdefault(eras, []).append(table.name)
    for eras, count in counts.most_common():
        example = ", ".join(names[eras][:3]) + (f" and {count - 3} more" if count > 3 else "")
        yield f"eras       {' | '.join(eras)}   {example}"

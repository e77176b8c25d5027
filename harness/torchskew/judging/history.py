"""The history of a cell over many runs: how often it fails, how long it takes, and where it began to fail; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from torchskew.judging.flakes import wilson
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Verdict
from torchskew.model.runs import Past

JUDGED = (Verdict.PASS, Verdict.FAIL)
DRIFT_NEEDS = 6  # passes, below which nothing is said about a drift


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Where a cell began to fail, and has failed since. before: the last pass. changed: the content had changed too.

    Content is what decides a result: scenario, harness, environments, settings.
    """

    before: Past
    first_bad: Past
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CellHistory:
    """What really ran of a cell, oldest first; reused results are not in it.

    failures, judged: of the newest content only, with the 95 % Wilson interval of their share. seconds: the median of
    its passes, of all results where none passed. drift: newest third over oldest third of the passes' medians; None
    where there are too few. turn: the regression that it is in, if it is in one.
    """

    cell_id: CellId
    entries: tuple[Past, ...]
    failures: int
    judged: int
    low: float
    high: float
    seconds: float
    drift: float | None
    turn: Turn | None

    @property
    def unstable(self) -> bool:
        """A pass and a failure of one content."""
        return 0 < self.failures < self.judged


def histories(pasts: Iterable[Past]) -> tuple[CellHistory, ...]:
    """The history of every cell that really ran, in the order of cells."""
    by_cell: dict[CellId, list[Past]] = {}
    for past in pasts:
        if not past.cached and past.verdict is not Verdict.BLOCKED:
            by_cell.setdefault(past.cell_id, []).append(past)
    return tuple(
        history_of(cell_id, sorted(entries, key=lambda past: (past.at, past.repeat)))
        for cell_id, entries in sorted(by_cell.items())
    )


def history_of(cell_id: CellId, entries: Sequence[Past]) -> CellHistory:
    """What these results say; oldest first, at least one."""
    judged = [past for past in entries if past.verdict in JUDGED]
    same = [past for past in judged if past.key == judged[-1].key]
    failures = sum(past.verdict is Verdict.FAIL for past in same)
    low, high = wilson(failures, len(same))
    passes = [past.seconds for past in judged if past.verdict is Verdict.PASS]
    return CellHistory(
        cell_id=cell_id,
        entries=tuple(entries),
        failures=failures,
        judged=len(same),
        low=low,
        high=high,
        seconds=median(passes or [past.seconds for past in entries]),
        drift=_drift(passes),
        turn=_turn(judged),
    )


def _drift(seconds: Sequence[float]) -> float | None:
    """How much longer the newest third of the passes took than the oldest third."""
    if len(seconds) < DRIFT_NEEDS:
        return None
    third = len(seconds) // 3
    oldest = median(seconds[:third])
    return median(seconds[-third:]) / oldest if oldest else None


def _turn(judged: Sequence[Past]) -> Turn | None:
    """The first of the failures at the end, where a pass came before them."""
    start = len(judged)
    while start and judged[start - 1].verdict is Verdict.FAIL:
        start -= 1
    if start in (0, len(judged)):
        return None
    before, first_bad = judged[start - 1], judged[start]
    return Turn(before=before, first_bad=first_bad, changed=before.key != first_bad.key)

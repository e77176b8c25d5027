"""Flakes: repetitions of a cell become one result that keeps every verdict; a rate over the history; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from torchskew.model.ids import CellId
from torchskew.model.outcomes import Verdict
from torchskew.model.results import CellResult
from torchskew.model.runs import Past

# 97.5 % of a normal distribution is below: a two-sided interval of 95 %.
Z = 1.959964
WORST = (Verdict.UNKNOWN, Verdict.FAIL, Verdict.UNSUPPORTED, Verdict.PASS, Verdict.BLOCKED)


def fold(repetitions: Sequence[Mapping[CellId, CellResult]]) -> dict[CellId, CellResult]:
    """One result per cell out of all repetitions; a cell that lacks one of them is left out, so it is missing.

    The worst repetition counts for the cell, with every verdict in `seen`: nothing is repeated into green.
    """
    if len(repetitions) == 1:
        return dict(repetitions[0])
    ids = [cell_id for cell_id in repetitions[0] if all(cell_id in each for each in repetitions)]
    return {cell_id: _fold([each[cell_id] for each in repetitions]) for cell_id in ids}


def _fold(results: Sequence[CellResult]) -> CellResult:
    # A blocked repetition says nothing about the cell; the one that blocked it is reported at that cell.
    ran = [result for result in results if result.verdict is not Verdict.BLOCKED] or list(results)
    worst = min(ran, key=lambda result: WORST.index(result.verdict))
    seen = tuple(result.verdict for result in ran)
    reason = worst.reason
    if len(set(seen)) > 1:
        counts = ", ".join(f"{seen.count(verdict)} {verdict}" for verdict in WORST if verdict in seen)
        reason = f"flaky: {counts} in {len(seen)} repetitions; one {worst.verdict}: {reason}"
    outcomes = tuple(result.outcomes for result in ran)
    return replace(worst, seen=seen, seen_outcomes=outcomes, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often a cell fails. low, high: the 95 % Wilson interval of the share of failures."""

    cell_id: CellId
    failures: int
    runs: int
    low: float
    high: float
    last_failure: str | None

    @property
    def share(self) -> float:
        """Failures among the runs."""
        return self.failures / self.runs


def wilson(failures: int, runs: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share: honest for small counts and for none at all."""
    if runs == 0:
        return 0.0, 1.0
    share, square = failures / runs, Z * Z
    middle = (share + square / (2 * runs)) / (1 + square / runs)
    half = Z / (1 + square / runs) * math.sqrt(share * (1 - share) / runs + square / (4 * runs * runs))
    return max(0.0, middle - half), min(1.0, middle + half)


def rates(histories: Iterable[Sequence[Past]]) -> tuple[Rate, ...]:
    """The cells whose history shows a pass and a failure of one and the same content, most often failing first.

    A history is newest first. Results that were reused say nothing new, and a result of another content key is
    another thing that was tested: only the newest key counts.
    """
    flaky = [rate for past in histories if (rate := _rate(past)) is not None]
    return tuple(sorted(flaky, key=lambda rate: (-rate.low, rate.cell_id)))


def _rate(past: Sequence[Past]) -> Rate | None:
    own = [entry for entry in past if not entry.cached and entry.verdict in (Verdict.PASS, Verdict.FAIL)]
    own = [entry for entry in own if entry.key == own[0].key]
    failed = [entry for entry in own if entry.verdict is Verdict.FAIL]
    if not 0 < len(failed) < len(own):
        return None
    low, high = wilson(len(failed), len(own))
    first = failed[0]
    return Rate(cell_id=first.cell_id, failures=len(failed), runs=len(own), low=low, high=high, last_failure=first.at)
